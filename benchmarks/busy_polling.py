"""What looking for a reply awake costs and brings: gets of several processes at once, with it and without it.

python benchmarks/busy_polling.py [--quick] [--json FILE]

Each process calls SmartCache.get (a hit, hash checked) or redis-py's GET again and again; once on an idle machine,
once beside one program for each core that never sleeps. Printed are the gets a second of all processes, the time that
one call takes (median, and 99 of 100) and the processor time of the callers for each. Rounds alternate; figures are
medians.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter, process_time
from typing import TYPE_CHECKING, Any

import redis
from bench import arguments, bare_server, described, write_json
from rich.console import Console
from rich.table import Table

from distcache import SmartCache
from distcache.executor.busy import LOCAL_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY, OUTPUT, HASH = "src.package.module", "x" * 500, "4f2a9c0b1d3e5f67"
AWAKE, ASLEEP, BASE = f"busy_poll_us={LOCAL_US}", "busy_poll_us=0", "redis-py GET"
PROCESSES = (1, 2, 4, 8)
_spawn = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Result:
    """One line: who calls, in so many processes, and what else the machine does."""

    processes: int
    load: str
    name: str
    per_s: float
    """Gets a second, of all processes."""
    median_us: float
    slow_us: float
    """99 of 100 calls take no longer."""
    cpu_us: float
    """Of the callers, for each call."""


def caller(url: str, name: str, rounds: Any, replies: Any) -> None:
    """One process: calls for so many seconds, each time it is told to."""
    get = _get(url, name)
    replies.put(None)
    while seconds := rounds.get():
        taken, cpu, until = [], process_time(), monotonic() + seconds
        while monotonic() < until:
            began = perf_counter()
            found = get()
            taken.append(perf_counter() - began)
            assert found is not None  # noqa: S101 - what is timed must be a hit
        replies.put((taken, process_time() - cpu))


def _get(url: str, name: str) -> Callable[[], Any]:
    if name == BASE:
        client = redis.Redis.from_url(url)
        return lambda: client.get(KEY)
    polls = LOCAL_US if name == AWAKE else 0
    cache = SmartCache(url=url, namespace="smart", on_error="raise", timeout_s=30, busy_poll_us=polls)
    return lambda: cache.get(KEY, HASH)


def never_sleeps() -> None:
    """A program that would take all of a core."""
    while True:
        pass


@contextmanager
def running(target: Callable[..., None], *words: Any) -> Iterator[None]:
    """A process, until the end of the block."""
    process = _spawn.Process(target=target, args=words, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.terminate()
        process.join()


def measure(url: str, *, quick: bool) -> list[Result]:
    """Every number of processes, on an idle and on a busy machine."""
    redis.Redis.from_url(url).set(KEY, OUTPUT)
    with SmartCache(url=url, namespace="smart", on_error="raise") as cache:
        cache.put(KEY, OUTPUT, HASH)
    results = []
    for processes in (1, 2) if quick else PROCESSES:
        for load in (0, os.cpu_count() or 1):
            results += _compared(url, processes, load, *((1, 0.1) if quick else (9, 0.4)))
    return results


def _compared(url: str, processes: int, load: int, rounds: int, seconds: float) -> list[Result]:
    names = (BASE, AWAKE, ASLEEP)
    queues = {name: ([_spawn.Queue() for _ in range(processes)], _spawn.Queue()) for name in names}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in names}
    with ExitStack() as stack:
        for name, (told, replies) in queues.items():
            for one in told:
                stack.enter_context(running(caller, url, name, one, replies))
            for _ in told:
                replies.get()
        for _ in range(load):
            stack.enter_context(running(never_sleeps))
        for _ in range(rounds):
            for name, (told, replies) in queues.items():
                for one in told:
                    one.put(seconds)
                got = [replies.get() for _ in told]
                taken = sorted(one for calls, _ in got for one in calls)
                cpu = sum(cpu for _, cpu in got) / len(taken)
                found[name].append((len(taken) / seconds, taken[len(taken) // 2], taken[len(taken) * 99 // 100], cpu))
    results = []
    for name, figures in found.items():
        per_s, median, slow, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        beside = f"{load} busy programs" if load else "idle"
        results.append(Result(processes, beside, name, per_s, median * 1e6, slow * 1e6, cpu * 1e6))
    return results


def show(results: list[Result], url: str) -> None:
    """Print the table, and on what it was measured."""
    table = Table(title=f"gets of several processes, {os.cpu_count()} cores, over a unix socket")
    for column in ("processes", "machine", "", "gets/s", "median, us", "99 %, us", "CPU a call, us"):
        table.add_column(column, justify="left" if column in {"machine", ""} else "right")
    for one in results:
        figures = (one.per_s, one.median_us, one.slow_us, one.cpu_us)
        table.add_row(str(one.processes), one.load, one.name, *(f"{figure:,.0f}" for figure in figures))
    console = Console(width=120)
    console.print(table)
    console.print(described(url))


def main() -> None:
    """Measure and print."""
    chosen = arguments(__doc__)
    with bare_server() as url:
        results = measure(url, quick=chosen.quick)
        show(results, url)
    write_json(chosen.json, results)


if __name__ == "__main__":
    main()
