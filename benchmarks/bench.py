"""What the benchmarks share: a private server, rounds that alternate with a baseline, a table, a JSON file.

Two things are compared in one run, round by round, and the figure is the median of the rounds' ratios: a machine that
is slow for a second is slow for both.
"""

from __future__ import annotations

import argparse
import json
import platform
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import redis
from rich.console import Console
from rich.table import Table

from distcache import __version__
from distcache.engine.embedded import EmbeddedServer
from distcache.engine.locate import find_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence


ROUND_S = 0.05

Baseline = tuple[str, "Callable[[], Any]"]
AsyncBaseline = tuple[str, "Callable[[], Awaitable[Any]]"]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table."""

    name: str
    us: float
    """Microseconds a call: median of the rounds."""
    ratio: float
    """To the baseline: median of the rounds' ratios."""
    baseline: str


def arguments(description: str) -> argparse.Namespace:
    """The options that every benchmark has."""
    return options_of(description).parse_args()


def options_of(description: str) -> argparse.ArgumentParser:
    """The same, for a benchmark that has more of them."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: to see that it runs, not for figures")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    return parser


@contextmanager
def server() -> Iterator[str]:
    """A private embedded server; its unix:// URL."""
    with tempfile.TemporaryDirectory(prefix="distcache-bench-") as folder, EmbeddedServer.attach(folder) as attached:
        yield f"unix://{attached.socket_path}"


@contextmanager
def bare_server(settings: Mapping[str, str] | None = None, *, tcp: bool = False) -> Iterator[str]:
    """A private server that writes nothing to disk, on a unix socket or on loopback; its URL.

    `settings`: of the server, by the names of its configuration file. DISTCACHE_SERVER names its program, as for the
    embedded server.
    """
    with tempfile.TemporaryDirectory(prefix="distcache-bench-") as folder:
        port, path = _free_port() if tcp else 0, f"{folder}/s"
        command = [find_server(), "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path]
        command += ["--save", "", "--appendonly", "no", "--logfile", f"{folder}/log"]
        command += [word for name, value in (settings or {}).items() for word in (f"--{name}", value)]
        process = subprocess.Popen(command)
        try:
            url = f"redis://127.0.0.1:{port}" if tcp else f"unix://{path}"
            _wait_for(url)
            yield url
        finally:
            process.terminate()
            process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _wait_for(url: str) -> None:
    client, deadline = redis.Redis.from_url(url), time.monotonic() + 10
    while True:
        try:
            client.ping()
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            client.close()
            return


def compare(
    name: str,
    call: Callable[[], Any],
    baseline: tuple[str, Callable[[], Any]],
    *,
    rounds: int,
    calls: int,
    per: int = 1,
    right: Callable[[Any], bool],
) -> Row:
    """Alternate rounds of `call` and of the baseline; `per`: how many items one call handles.

    `right`: whether a result of `call` is what is to be timed; asked before and after each round.
    """
    pairs = []
    few = _few(_round(call, 1), calls, per)
    _check(name, right, call())
    for _ in range(rounds):
        base, ours = _round(baseline[1], calls), _round(call, few) / per
        pairs.append((ours, base))
        _check(name, right, call())
    return row_of(name, baseline[0], pairs)


async def compare_async(
    name: str,
    call: Callable[[], Awaitable[Any]],
    baseline: AsyncBaseline,
    *,
    rounds: int,
    calls: int,
    per: int = 1,
    right: Callable[[Any], bool],
) -> Row:
    """The same with awaited calls, one after the other."""
    pairs = []
    few = _few(await _round_async(call, 1), calls, per)
    _check(name, right, await call())
    for _ in range(rounds):
        base, ours = await _round_async(baseline[1], calls), await _round_async(call, few) / per
        pairs.append((ours, base))
        _check(name, right, await call())
    return row_of(name, baseline[0], pairs)


def show(title: str, rows: list[Row], url: str) -> None:
    """Print a table, and on what it was measured."""
    table = Table(title=title)
    for column, side in (("operation", "left"), ("us a call", "right"), ("ratio", "right"), ("to", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type] # a literal
    for row in rows:
        table.add_row(row.name, f"{row.us:.1f}" if row.us >= 10 else f"{row.us:.2f}", f"{row.ratio:.2f}", row.baseline)
    console = Console()
    console.print(table)
    console.print(described(url))


def described(url: str) -> str:
    """The versions that a figure depends on."""
    info = redis.Redis.from_url(url).info("server")
    name = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    return f"distcache {__version__}, Python {platform.python_version()}, redis-py {redis.__version__}, {name}"


def transport(url: str) -> str:
    """How a private server is reached, in words."""
    return "a unix socket" if url.startswith("unix") else "TCP on loopback"


def write_json(path: Path | None, rows: Sequence[Any]) -> None:
    """The rows, which are dataclasses, for a machine to read."""
    if path is not None:
        path.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")


def row_of(name: str, baseline: str, pairs: list[tuple[float, float]]) -> Row:
    """Out of the seconds a call of each round: (ours, the baseline's)."""
    ratio = statistics.median(ours / base for ours, base in pairs)
    return Row(name, statistics.median(ours for ours, _ in pairs) * 1e6, ratio, baseline)


def _check(name: str, right: Callable[[Any], bool], found: Any) -> None:
    if not right(found):
        raise AssertionError(f"{name} is something else: it returned {str(found)[:200]}")


def _few(seconds: float, calls: int, per: int) -> int:
    """How often to make a call in a round: a slow one not so often that the rounds take minutes."""
    return max(1, min(calls // per, int(ROUND_S / seconds)))


def _round(call: Callable[[], Any], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls


async def _round_async(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    start = perf_counter()
    for _ in range(calls):
        await call()
    return (perf_counter() - start) / calls
