"""Gets a second with 1, 64 and 256 concurrent asyncio callers, beside redis.asyncio's GET of the same bytes.

python benchmarks/callers.py [--quick] [--json FILE] [--tcp]

Each caller awaits one get after the other, of 1,000 keys (or texts) in turn, all of them hits; an error ends the
benchmark. distcache has one connection for all. redis-py has a BlockingConnectionPool of 100, its default size: with
the plain pool that it makes by itself, it raises at the 101st caller. Rounds alternate; a ratio is the median of the
rounds' ratios. The client's processor time for each get is printed too: it is what a busy program pays, and other
programs on the machine hardly show in it.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
from dataclasses import dataclass
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import redis.asyncio
from bench import bare_server, described, options_of, transport, write_json
from rich.console import Console
from rich.table import Table

from distcache import AsyncContentHashCache, AsyncSmartCache

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Get = Callable[[str], Awaitable[Any]]

KEYS = [f"src/package/module_{number}.py" for number in range(1000)]
OUTPUT = "x" * 500
HASH = "4f2a9c0b1d3e5f67"
TEXT = "Let me think about this problem step by step, with its constraints in mind. " * 6
TEXTS = {key: f"Thought {number}: {TEXT}" for number, key in enumerate(KEYS)}
POOL = 100
BASE, SMART, CONTENT = "redis.asyncio GET", "AsyncSmartCache.get", "AsyncContentHashCache.get"
GOALS = {1: "time at most 1.2", 64: "throughput at least 2.5", 256: "no error"}


@dataclass(frozen=True, slots=True)
class Result:
    """One line: a number of callers, and who is asked."""

    callers: int
    name: str
    per_s: float
    """Gets a second: median of the rounds."""
    client_us: float
    """The client's processor time for each get, in microseconds: median of the rounds."""
    throughput: float
    """To the baseline's: median of the rounds' ratios."""
    time: float
    """The inverse: time a get, to the baseline's."""


async def measure(url: str, *, quick: bool) -> list[Result]:
    """Every number of callers."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(url, max_connections=POOL, timeout=None)
    client = redis.asyncio.Redis(connection_pool=pool)
    await client.mset(dict.fromkeys(KEYS, OUTPUT))
    async with (
        AsyncSmartCache(url=url, namespace="smart", on_error="raise", timeout_s=5) as smart,
        AsyncContentHashCache(url=url, namespace="content", on_error="raise", timeout_s=5) as content,
    ):
        await smart.put_many([{"key": key, "output": OUTPUT, "content_hash": HASH} for key in KEYS])
        await content.set_many([(text, OUTPUT) for text in TEXTS.values()])
        gets: dict[str, Get] = {
            BASE: client.get,
            SMART: lambda key: smart.get(key, HASH),
            CONTENT: lambda key: content.get(TEXTS[key]),
        }
        results = []
        for callers in GOALS:
            rounds, calls = (3, 512) if quick else (21, 2048 if callers > 1 else 500)
            results += await _compared(gets, callers, rounds, max(1, calls // callers))
    await client.aclose()
    await pool.disconnect()
    return results


async def _compared(gets: dict[str, Get], callers: int, rounds: int, each: int) -> list[Result]:
    walls: dict[str, list[float]] = {name: [] for name in gets}
    cpus: dict[str, list[float]] = {name: [] for name in gets}
    for number in range(rounds + 1):
        for name in random.sample(list(gets), len(gets)):
            gc.collect()
            wall, cpu = perf_counter(), process_time()
            await asyncio.gather(*(_caller(gets[name], at, each) for at in range(callers)))
            if number:  # the first round connects and warms up
                cpus[name].append((process_time() - cpu) / each / callers)
                walls[name].append((perf_counter() - wall) / each / callers)
    results = []
    for name, taken in walls.items():
        ratio = statistics.median(base / ours for base, ours in zip(walls[BASE], taken, strict=True))
        cpu_us = statistics.median(cpus[name]) * 1e6
        results.append(Result(callers, name, 1 / statistics.median(taken), cpu_us, ratio, 1 / ratio))
    return results


async def _caller(get: Get, at: int, count: int) -> None:
    for number in range(count):
        assert await get(KEYS[(at * 13 + number) % len(KEYS)]) is not None  # noqa: S101 - what is timed must be a hit


def show(results: list[Result], url: str) -> None:
    """Print the table, and on what it was measured."""
    table = Table(title=f"concurrent callers, {len(OUTPUT)}-byte values, over {transport(url)}")
    for column in ("callers", "operation", "gets/s", "client CPU, us", "throughput", "time", "goal"):
        table.add_column(column, justify="left" if column in {"operation", "goal"} else "right")
    for one in results:
        goal = "" if one.name == BASE else GOALS[one.callers]
        figures = (f"{one.per_s:,.0f}", f"{one.client_us:.1f}", f"{one.throughput:.2f}", f"{one.time:.2f}")
        table.add_row(str(one.callers), one.name, *figures, goal)
    console = Console(width=120)
    console.print(table)
    console.print(f"redis-py: BlockingConnectionPool, {POOL} connections; distcache: one connection")
    console.print(described(url))


def main() -> None:
    """Measure and print."""
    options = options_of(__doc__)
    options.add_argument("--tcp", action="store_true", help="over TCP on loopback in place of a unix socket")
    chosen = options.parse_args()
    with bare_server(tcp=chosen.tcp) as url:
        results = asyncio.run(measure(url, quick=chosen.quick))
        show(results, url)
    write_json(chosen.json, results)


if __name__ == "__main__":
    main()
