"""How benchmarks/queue.py measures: worker processes of each peer in turn, tasks counted, results awaited."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import mmap
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import queue_peers
import redis
from bench import described, options_of
from rich.console import Console
from rich.progress import track
from rich.table import Table

from distcache.engine.locate import find_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from queue_peers import Peer

CREWS = (1, 4)
OURS = "distcache"
PATIENCE_S = 60.0
SLOT = 8
FIRST_TASKS = 16
"""Queued again and again until every worker has run one."""
SLOW_LATENCIES = 10
"""Of a peer that takes longer than SLOW_MS."""
SLOW_MS = 100.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int = 3
    tasks: int = 2000
    latencies: int = 200


QUICK = Plan(rounds=1, tasks=200, latencies=20)


@dataclass(frozen=True, slots=True)
class Row:
    """One queue with so many workers: medians of the rounds."""

    name: str
    version: str
    workers: int
    tasks_per_s: float
    ms: float
    """From enqueue to stored."""
    ahead_tasks: float
    """distcache's tasks a second by this one's."""
    ahead_ms: float
    """This one's milliseconds by distcache's."""


class Counters:
    """A number for each worker process, in a file that all have mapped."""

    def __init__(self, path: Path, size: int) -> None:
        if not path.exists():
            path.write_bytes(bytes(SLOT * size))
        self._size = size
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), SLOT * size)

    def counter(self, slot: int) -> Callable[[], None]:
        """A function that adds one to this process's number."""
        memory, at, done = self._memory, slot * SLOT, 0

        def add() -> None:
            nonlocal done
            done += 1
            memory[at : at + SLOT] = done.to_bytes(SLOT, "little")

        return add

    def each(self) -> list[int]:
        """How many tasks each worker has run."""
        return [int.from_bytes(self._memory[at * SLOT : (at + 1) * SLOT], "little") for at in range(self._size)]


class Crew:
    """Worker processes of one peer."""

    def __init__(self, name: str, size: int, url: str, path: Path, words: Sequence[str]) -> None:
        self.counters = Counters(path, size)
        script = str(Path(__file__).with_name("queue.py"))
        work = [sys.executable, script, *words, "--work", name, "--url", url, "--counters", str(path), str(size)]
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes = [subprocess.Popen([*work, str(slot)], **quiet) for slot in range(size)]

    def have_run(self, tasks: int) -> bool:
        """Whether they have run so many, all together."""
        return sum(self.counters.each()) >= tasks

    def send(self, number: signal.Signals) -> None:
        """A signal to each."""
        for process in self._processes:
            process.send_signal(number)

    def end(self) -> None:
        """Kill them."""
        for process in self._processes:
            process.kill()
            process.wait()


async def measure(name: str, size: int, url: str, plan: Plan, words: Sequence[str]) -> tuple[float, float]:
    """(tasks a second, median milliseconds from enqueue to stored) of one round."""
    peer = queue_peers.PEERS[name](url)
    peer.raw.flushall()
    await peer.open()
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew(name, size, url, Path(folder) / "counters", words)
        try:
            await _until_all_work(peer, crew)
            ms = await _latency(peer, plan.latencies)
            return await _throughput(peer, crew, plan.tasks), ms
        finally:
            crew.end()
            await peer.close()


async def _until_all_work(peer: Peer, crew: Crew) -> None:
    deadline = time.monotonic() + PATIENCE_S
    for first in itertools.count(step=FIRST_TASKS):
        if all(crew.counters.each()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all workers had run a task after {PATIENCE_S:.0f} s")
        for number in range(first, first + FIRST_TASKS):
            await peer.enqueue(number)
        with contextlib.suppress(TimeoutError):
            _wait_for(lambda sent=first + FIRST_TASKS: crew.have_run(sent), "the first tasks have run", patience_s=5)


async def _latency(peer: Peer, times: int) -> float:
    taken: list[float] = []
    while len(taken) < times and not (len(taken) >= SLOW_LATENCIES and statistics.median(taken) > SLOW_MS):
        began = time.perf_counter()
        job = await peer.enqueue(100_000 + len(taken))
        _wait_for(lambda job=job: peer.stored([job]), "a task is stored", pause_s=0.0001)
        taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


async def _throughput(peer: Peer, crew: Crew, tasks: int) -> float:
    crew.send(signal.SIGSTOP)
    wanted = sum(crew.counters.each()) + tasks
    jobs = [await peer.enqueue(200_000 + number) for number in range(tasks)]
    began = time.perf_counter()
    crew.send(signal.SIGCONT)
    _wait_for(lambda: crew.have_run(wanted), "all tasks have run")
    _wait_for(lambda: peer.stored(jobs), "all results are stored")
    return tasks / (time.perf_counter() - began)


def _wait_for(
    condition: Callable[[], bool], what: str, *, pause_s: float = 0.002, patience_s: float = PATIENCE_S
) -> None:
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {patience_s:.0f} s in vain until {what}")
        time.sleep(pause_s)


@contextlib.contextmanager
def tcp_server() -> Iterator[str]:
    """A private server on a free port, since not every peer speaks over a unix socket; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="distcache-bench-") as folder:
        words = [find_server(), "--port", str(port), "--save", "", "--appendonly", "no", "--dir", folder]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            raw = redis.Redis(port=port)
            _wait_for(lambda: _answers(raw), "the server answers", pause_s=0.01)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _answers(raw: redis.Redis) -> bool:
    try:
        return bool(raw.ping())
    except redis.ConnectionError:
        return False


Measured = dict[tuple[str, int], list[tuple[float, float] | None]]
"""By queue and number of workers: (tasks a second, milliseconds) of each round; None for one that failed."""


def rounds_of(names: Sequence[str], plan: Plan, url: str, words: Sequence[str]) -> Measured:
    """What each peer did in each round, with each number of workers."""
    measured: Measured = {(name, size): [] for size in CREWS for name in names}
    console = Console(stderr=True)
    turns = [(name, size) for _ in range(plan.rounds) for size in CREWS for name in names]
    for name, size in track(turns, "measuring", console=console, transient=True):
        try:
            measured[name, size].append(_loop(words, measure(name, size, url, plan, words)))
        except TimeoutError as error:
            console.print(f"{name}, {size} workers: {error}", highlight=False)
            measured[name, size].append(None)
    return measured


def _loop(words: Sequence[str], main: Any) -> Any:
    if "--uvloop" not in words:
        return asyncio.run(main)
    import uvloop

    return uvloop.run(main)


def rows_of(measured: Measured) -> list[Row]:
    """Medians, and the medians of the rounds' ratios; nothing for who never came to an end."""
    rows = []
    for (name, size), rounds in measured.items():
        pairs = [(ours, theirs) for ours, theirs in zip(measured[OURS, size], rounds, strict=True) if ours and theirs]
        if pairs:
            rates, ms = [theirs[0] for _, theirs in pairs], [theirs[1] for _, theirs in pairs]
            ahead_tasks = statistics.median(ours[0] / theirs[0] for ours, theirs in pairs)
            ahead_ms = statistics.median(theirs[1] / ours[1] for ours, theirs in pairs)
            figures = (statistics.median(rates), statistics.median(ms), ahead_tasks, ahead_ms)
            rows.append(Row(name, queue_peers.PEERS[name].version(), size, *figures))
    return rows


def show(rows: list[Row], missing: Sequence[str], url: str, plan: Plan, *, uvloop: bool) -> None:
    """Print a table, and on what it was measured."""
    loop = "uvloop" if uvloop else "asyncio's loop"
    names = [row.name for row in rows if row.workers == CREWS[0]]
    table = Table(title=f"{plan.tasks:,} no-op tasks a round, {plan.rounds} rounds, {loop}")
    for column in ("queue", "workers", "tasks/s", "ahead", "ms", "ahead"):
        table.add_column(column, justify="left" if column == "queue" else "right")
    for row in rows:
        figures = (f"{row.tasks_per_s:,.0f}", f"{row.ahead_tasks:.2f}", f"{row.ms:.2f}", f"{row.ahead_ms:.2f}")
        table.add_row(row.name, str(row.workers), *figures, end_section=row.name == names[-1])
    console = Console()
    console.print(table)
    versions = {row.name: row.version for row in rows if row.name != OURS}
    console.print(", ".join(f"{name} {version}" for name, version in versions.items()), highlight=False)
    for name in missing:
        console.print(f"{name} is left out: it is not installed", highlight=False)
    console.print(f"{described(url)}, {os.cpu_count()} cores")


def main(description: str) -> None:
    """Print the table, or be a worker of one peer."""
    parser = options_of(description)
    parser.add_argument("--only", nargs="+", default=(), choices=queue_peers.PEERS, help="these peers, and distcache")
    parser.add_argument("--uvloop", action="store_true", help="uvloop for all that run in asyncio")
    for hidden in ("--work", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--counters", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    words = ["--uvloop"] if asked.uvloop else []
    if asked.work:
        path, size, slot = asked.counters
        queue_peers.counting(Counters(Path(path), int(size)).counter(int(slot)))
        queue_peers.PEERS[asked.work](asked.url).work(lambda coroutine: _loop(words, coroutine))
        return
    chosen = [name for name in queue_peers.PEERS if name == OURS or not asked.only or name in asked.only]
    missing = [name for name in chosen if not queue_peers.PEERS[name].installed()]
    plan = QUICK if asked.quick else Plan()
    with tcp_server() as url:
        measured = rounds_of([name for name in chosen if name not in missing], plan, url, words)
        rows = rows_of(measured)
        show(rows, missing, url, plan, uvloop=asked.uvloop)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")
