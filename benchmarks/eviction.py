"""Eviction: the miss ratio of each policy on real traces, beside those of libcachesim's algorithms.

Ours are the models in distcache/policies.py, which tests/test_policies.py holds to the Lua request by request. Caches
are bounded to a share of a trace's unique keys, all objects of one size. A trace with sizes and costs is replayed a
second time, bounded in bytes, for the share of the avoidable seconds that each saves. What is furthest from the
specification's figures is printed last. libcachesim is optional: pip install 'distcache[bench-eviction]'.
"""

from __future__ import annotations

import argparse
import json
import platform
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

import distcache
from distcache.policies import MODELS
from distcache.replay import Request, Trace, read_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

ENTRY_SHARES = (1, 5, 10, 25)
BYTE_SHARES = (0.2, 0.5, 1)
PEERS = ("LRU", "LFU", "ARC", "S3FIFO", "Sieve", "WTinyLFU", "GDSF", "LIRS") if util.find_spec("libcachesim") else ()
QUICK_REQUESTS = 20_000
TRACES = Path(__file__).parents[2] / "shared" / "traces"
PUBLISHED = {
    ("cache2k_web12", "lru"): (0.603, 0.400, 0.315, 0.223),
    ("cache2k_web12", "adaptive"): (0.574, 0.357, 0.281, 0.211),
    ("cache2k_web12", "windowed"): (0.574, 0.348, 0.276, 0.205),
    ("cache2k_orm-busy", "lru"): (0.361, 0.175, 0.142, 0.090),
    ("cache2k_orm-busy", "adaptive"): (0.331, 0.167, 0.139, 0.085),
    ("cache2k_orm-busy", "windowed"): (0.328, 0.167, 0.136, 0.089),
    ("lirs_sprite", "lru"): (0.837, 0.344, 0.135, 0.068),
    ("lirs_sprite", "adaptive"): (0.785, 0.314, 0.131, 0.070),
    ("lirs_sprite", "windowed"): (0.770, 0.327, 0.147, 0.072),
    ("lirs_multi3", "lru"): (0.949, 0.734, 0.645, 0.555),
    ("lirs_multi3", "adaptive"): (0.787, 0.618, 0.554, 0.521),
    ("lirs_multi3", "windowed"): (0.771, 0.565, 0.533, 0.423),
    ("lirs_ps", "lru"): (0.927, 0.878, 0.837, 0.515),
    ("lirs_ps", "adaptive"): (0.927, 0.692, 0.501, 0.474),
    ("lirs_ps", "windowed"): (0.864, 0.628, 0.474, 0.391),
}
"""The specification's figures: miss ratios of whole traces at `ENTRY_SHARES`."""
PUBLISHED_SAVED = {
    ("ci_redis", "lru"): (0.200, 0.852, 0.972),
    ("ci_redis", "lru_freq"): (0.236, 0.868, 0.973),
    ("ci_redis", "gdsf"): (0.501, 0.845, 0.952),
    ("ci_redis", "adaptive"): (0.521, 0.867, 0.981),
    ("ci_redis", "cost"): (0.622, 0.909, 0.984),
}
"""The specification's figures: shares of the avoidable seconds saved, at `BYTE_SHARES`."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One policy, one trace, one size."""

    trace: str
    policy: str
    by: str
    """`entries` or `bytes`."""
    share: float
    """Percent of the unique keys, or of their bytes."""
    bound: int
    miss_ratio: float
    saved_share: float
    """Of the seconds that a cache without bounds would have saved."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """A cell beside the specification's figure."""

    cell: Cell
    ours: float
    published: float

    @property
    def by(self) -> float:
        """How far they are apart."""
        return abs(self.ours - self.published)


@dataclass(frozen=True, slots=True)
class Job:
    """All sizes of one trace under one policy."""

    path: Path
    policy: str
    by: str
    limit: int | None


@lru_cache(maxsize=1)
def load(path: Path, limit: int | None) -> Trace:
    """A trace with its keys numbered, which is what libcachesim takes."""
    whole = read_trace(path)
    numbers: dict[str, int] = {}
    rows = [one._replace(key=numbers.setdefault(one.key, len(numbers))) for one in whole.requests[:limit]]  # type: ignore[arg-type]
    return Trace(rows, whole.sized)


def run(job: Job) -> list[Cell]:
    """The cells of one job."""
    trace = load(job.path, job.limit)
    sized = job.by == "bytes"
    requests = trace.requests if sized else [Request(one.key) for one in trace.requests]
    cells = []
    for share in BYTE_SHARES if sized else ENTRY_SHARES:
        bound = trace.bytes(share) if sized else trace.entries(share)
        misses, saved = play(requests, player(job.policy, bound, sized=sized))
        name = job.path.name.removesuffix(".gz")
        cells.append(Cell(name, job.policy, job.by, share, bound, misses / len(requests), saved))
    return cells


def play(requests: Sequence[Request], ask: Callable[[Request], bool]) -> tuple[int, float]:
    """Misses, and the share of avoidable seconds saved."""
    misses = 0
    saved = 0.0
    for one in requests:
        if ask(one):
            saved += one.cost
        else:
            misses += 1
    avoidable = sum(one.cost for one in requests) - sum({one.key: one.cost for one in requests}.values())
    return misses, saved / avoidable if avoidable else 0.0


def player(policy: str, bound: int, *, sized: bool) -> Callable[[Request], bool]:
    """A cache to ask whether a request hits."""
    if policy in MODELS:
        model = MODELS[policy](max_bytes=bound) if sized else MODELS[policy](max_entries=bound)
        return lambda one: model.request(one.key, one.size, one.cost, one.time_s)
    import libcachesim  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - optional

    more = {}
    if policy == "WTinyLFU":
        more["window_size"] = max(0.01, 1.01 / bound)  # its default is no window at all in a small cache, and no hit
    cache = getattr(libcachesim, policy)(cache_size=bound, hashpower=max(10, min(20, bound.bit_length() + 1)), **more)
    request = libcachesim.Request(obj_size=1, valid=True, op=libcachesim.ReqOp.OP_GET)

    def ask(one: Request) -> bool:
        request.obj_id, request.obj_size = one.key, one.size
        request.clock_time += 1
        return bool(cache.get(request))

    return ask


def jobs(folder: Path, *, quick: bool) -> Iterable[Job]:
    """Long traces first, so that the end is not waiting for one."""
    limit = QUICK_REQUESTS if quick else None
    for path in sorted(folder.glob("*.gz"), key=lambda one: -one.stat().st_size):
        for by in ("entries", "bytes") if load(path, limit).sized else ("entries",):
            for policy in (*MODELS, *PEERS):
                yield Job(path, policy, by, limit)


def deviations(cells: list[Cell]) -> list[Deviation]:
    """Every cell for which there is a published figure, the one that is furthest from it first."""
    found = []
    for cell in cells:
        sized = cell.by == "bytes"
        figures = (PUBLISHED_SAVED if sized else PUBLISHED).get((cell.trace, cell.policy))
        if figures:
            place = (BYTE_SHARES if sized else ENTRY_SHARES).index(cell.share)
            found.append(Deviation(cell, cell.saved_share if sized else cell.miss_ratio, figures[place]))
    return sorted(found, key=lambda one: -one.by)


def show_deviations(found: list[Deviation]) -> None:
    """The largest of each policy."""
    table = Table("policy", "of", "ours", "published", "apart", title="Furthest from the specification's figures")
    for policy in dict.fromkeys(one.cell.policy for one in found):
        one = next(one for one in found if one.cell.policy == policy)
        what = "saved" if one.cell.by == "bytes" else "missed"
        place = f"{one.cell.trace}, {one.cell.share:g} % of {one.cell.by}, {what}"
        table.add_row(policy, place, f"{one.ours:.3f}", f"{one.published:.3f}", f"{one.by:.3f}")
    Console(width=120).print(table)


def show(cells: list[Cell]) -> None:
    """The mean, the miss ratio of each trace, the seconds saved."""
    console = Console(width=120)
    console.print(_means([one for one in cells if one.by == "entries"]))
    for trace in dict.fromkeys(one.trace for one in cells):
        here = [one for one in cells if one.trace == trace]
        ratios = [one for one in here if one.by == "entries"]
        console.print(_table(f"{trace}: miss ratio, % of unique keys", ratios, lambda one: f"{one.miss_ratio:.3f}"))
        if saved := [one for one in here if one.by == "bytes"]:
            title = f"{trace}: % of avoidable seconds saved, % of unique bytes"
            console.print(_table(title, saved, lambda one: f"{100 * one.saved_share:.1f}"))
    console.print(f"{len(PEERS)} algorithms of libcachesim; {described()}")


def _means(cells: list[Cell]) -> Table:
    traces = len({one.trace for one in cells})
    table = Table("policy", "mean miss ratio", title=f"Mean of {traces} traces and {len(ENTRY_SHARES)} sizes")
    rows = {name: fmean(one.miss_ratio for one in cells if one.policy == name) for name in (*MODELS, *PEERS)}
    for name, mean in sorted(rows.items(), key=lambda row: row[1]):
        table.add_row(_name(name), f"{mean:.4f}")
    return table


def _table(title: str, cells: list[Cell], text: Callable[[Cell], str]) -> Table:
    table = Table("policy", *(f"{share:g} %" for share in dict.fromkeys(one.share for one in cells)), title=title)
    for name in (*MODELS, *PEERS):
        table.add_row(_name(name), *(text(one) for one in cells if one.policy == name))
    return table


def _name(policy: str) -> str:
    return policy if policy in MODELS else f"libcachesim {policy}"


def described() -> str:
    """The versions that a figure depends on."""
    peers = f", libcachesim {metadata.version('libcachesim')}" if PEERS else "; pip install libcachesim to see its own"
    return f"distcache {distcache.__version__}, Python {platform.python_version()}{peers}"


def main() -> None:
    """Run everything on two cores, and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK_REQUESTS:,} requests of each trace")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the cells there too")
    parser.add_argument("--traces", type=Path, metavar="DIR", default=TRACES, help="a folder of *.gz traces")
    chosen = parser.parse_args()
    todo = list(jobs(chosen.traces, quick=chosen.quick))
    if not todo:
        parser.error(f"there is no *.gz in {chosen.traces}")
    with ProcessPoolExecutor(2) as pool:  # not a Pool, which waits for ever when libcachesim ends the process
        cells = [cell for some in pool.map(run, todo) for cell in some]
    show(cells)
    if not chosen.quick and (found := deviations(cells)):
        show_deviations(found)
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(one) for one in cells], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
