"""What the acts of the demo share: where they play, what they show while they work, and the checks they make."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from distcache.demo.yard import Built

    Heard = Callable[[int, Mapping[str, int]], None]

LINE_S = 5.0
"""Where there is no terminal, a line at least so often says how far the work is."""
PLAIN_WIDTH = 110


def make_console() -> Console:
    """A console that writes what any terminal or file can take."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console


@dataclass(slots=True)
class Stage:
    """One run of the demo."""

    url: str
    """The server."""
    namespace: str
    """What the names of the demo's caches begin with."""
    folder: Path
    """For the acts' files; gone after the run."""
    machines: int = 4
    limit: int | None = None
    """How many modules of the library to take; None for all."""
    sabotage: str = ""
    """Which check to make fail: 'output', 'chain', 'signature', 'warmed', 'idle' or none."""
    built: Built | None = None
    """What the first act leaves to the others."""
    console: Console = field(default_factory=make_console)
    failed: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, soft_wrap=True)

    def check(self, right: bool, text: str) -> None:
        """Show whether something that must be so is so; the demo fails if one is not."""
        self.console.print("[green]ok[/]     " if right else "[bold red]FAILED[/] ", text, sep="", soft_wrap=True)
        if not right:
            self.failed.append(text)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table whose first column is text and whose others are figures."""
        table = Table()
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    @contextmanager
    def progress(self, title: str, names: Sequence[str], total: int) -> Iterator[Heard]:
        """Show how far each of the named processes is with `total` steps; what is yielded hears it from them."""
        if self.console.is_terminal:
            with _bars(self.console, title, names, total) as heard:
                yield heard
        else:
            yield _lines(self.console, title, len(names), total)


@contextmanager
def _bars(console: Console, title: str, names: Sequence[str], total: int) -> Iterator[Heard]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[said]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = [bars.add_task(f"{title}: {name}", total=total, said="") for name in names]

        def heard(number: int, message: Mapping[str, int]) -> None:
            said = ", ".join(f"{count:,} {what}" for what, count in message.items() if what != "done")
            bars.update(tasks[number], completed=message["done"], said=said)

        yield heard


def _lines(console: Console, title: str, names: int, total: int) -> Heard:
    done = [0] * names
    said_at = monotonic()

    def heard(number: int, message: Mapping[str, int]) -> None:
        nonlocal said_at
        done[number] = message["done"]
        if monotonic() - said_at >= LINE_S:
            said_at = monotonic()
            console.print(f"{title}: {100 * sum(done) // (names * total)} % ...", soft_wrap=True)

    return heard
