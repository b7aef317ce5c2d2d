"""What commands print: tables, names with values, and JSON for programs."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

PLAIN_WIDTH = 1000
"""Where there is no terminal, lines are not broken: other programs read them."""

as_json = click.option("--json", "json_", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """One JSON document, in ASCII."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; numbers stand at the right."""
    lines = [list(row) for row in rows]
    table = Table()
    for number, column in enumerate(columns):
        figures = bool(lines) and all(isinstance(line[number], (int, float)) for line in lines)
        table.add_column(column, justify="right" if figures else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(text(value)) for value in line))
    _console().print(table)


def print_pairs(pairs: Mapping[str, Any]) -> None:
    """Names with their values, one a line."""
    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        click.echo(f"{name:<{width}}  {text(value)}".rstrip())


def text(value: Any) -> str:
    """A value as people read it; what would move the cursor of a terminal is shown escaped."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".") if abs(value) >= 1 else f"{value:.3g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(map(text, value))
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(value))


def moment(ms: float | None) -> str:
    """A time stamp in local time."""
    return datetime.fromtimestamp(ms / 1000).astimezone().isoformat(" ", "seconds") if ms else ""


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return list(value)


def _console() -> Console:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    return console
