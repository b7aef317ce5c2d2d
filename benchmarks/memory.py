"""What the server's memory holds for one entry beyond its value, in both caches, and which key holds it.

python benchmarks/memory.py [--quick] [--server-defaults] [--json FILE]

20,000 entries are stored in a server of their own; used_memory before and after, divided by their number, less the
value, is what an entry costs. The breakdown is MEMORY USAGE of each key; the rest is the table of all keys and what the
allocator rounds up. Not counted are marks of requests, which are gone after a minute, and the event stream, whose
length is bounded: they are printed below the sum. The server keeps hashes of few fields in one piece, as the embedded
one does; with --server-defaults as it does by itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import redis
from bench import bare_server, described, options_of, write_json
from rich.console import Console
from rich.table import Table

from distcache import ContentHashCache, SmartCache
from distcache.engine.keeper import LISTPACKS
from distcache.smart import learner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

GOAL = 400
VALUE = ("def f(x):\n    return x + 1  # 500 bytes of output\n" * 11)[:500]
HASH = "{:016x}".format
TEXT = "Let me think about this problem step by step, with its constraints in mind. " * 6
TEXT = TEXT[:400]
BATCH = 500
TURNS, APART = 8, 100_000
"""A full cache has had so many times as many keys as it holds; and what lies between the numbers of two turns."""
SAMPLED = 200
"""Keys of one kind whose size is looked at; they are alike."""
TEXT_KEYS = ("prefixes", "indexed")
"""What holds texts for the look-up by prefix."""


@dataclass(frozen=True, slots=True)
class Result:
    """One kind of entry: bytes each."""

    name: str
    beyond: float
    """All but the value (and, where a text was stored, but the text and its index)."""
    parts: dict[str, float]
    """By kind of key, MEMORY USAGE; the value is taken off its entry."""
    left_out: dict[str, float]
    """What the entry costs and `beyond` does not count."""


@dataclass(frozen=True, slots=True)
class Case:
    """How some entries are stored; value and text: their bytes each."""

    name: str
    make: Callable[[str, int], Any]
    store: Callable[[Any, range], Any]
    text_bytes: int = 0
    kinds: tuple[str, ...] = ()
    """Of keys that must have come into being."""


def _outputs(cache: Any, numbers: range) -> None:
    cache.put_many([{"key": key(one), "output": VALUE, "content_hash": HASH(one * 7919)} for one in numbers])


def _twice(cache: Any, numbers: range) -> None:
    _outputs(cache, numbers)
    _outputs(cache, numbers)


def _others_before(cache: Any, numbers: range) -> None:
    for turn in range(TURNS):
        _outputs(cache, range(numbers.start + turn * APART, numbers.stop + turn * APART))


def _asked_for(cache: Any, numbers: range) -> None:
    for one in numbers:
        cache.put(key(one), VALUE, HASH(one * 7919))


def _keyed(cache: Any, numbers: range) -> None:
    for one in numbers:
        cache.set_key(key(one), VALUE)


def _texts(cache: Any, numbers: range) -> None:
    cache.set_many([(text(one), VALUE) for one in numbers])


def _smart(url: str, count: int, **options: Any) -> SmartCache:
    return SmartCache(url=url, max_entries=count, on_error="raise", timeout_s=30, **options)


def _learning(url: str, count: int) -> SmartCache:
    """Learns from every step, though they come faster than in a program that does something with the outputs."""
    with patch.object(learner, "BURST", count + 1):
        return _smart(url, count)


def _content(url: str, count: int, **options: Any) -> ContentHashCache:
    return ContentHashCache(count, url=url, on_error="raise", timeout_s=30, **options)


def key(number: int) -> str:
    """28 bytes."""
    return f"src/package/module_{number:06}.py"


def text(number: int) -> str:
    """400 bytes, different from the first word on."""
    return f"{number:06} {TEXT}"[:399] + "."


CASES = [
    Case("SmartCache, no dependencies", _smart, _outputs),
    Case("the same, compiled twice", _smart, _twice, kinds=("h:", "histories")),
    Case("once, in a full cache that has had 8 x as many", _smart, _others_before, kinds=("ghost", "retired")),
    Case(
        "compiled once, keys put one after the other: learned from",
        _learning,
        _asked_for,
        kinds=("a:", "learned"),
    ),
    Case("ContentHashCache.set_key, no text", _content, _keyed),
    Case("ContentHashCache.set_key, ttl_seconds=inf", lambda u, n: _content(u, n, ttl_seconds=float("inf")), _keyed),
    Case("ContentHashCache.set, beyond text and index", _content, _texts, text_bytes=400),
    Case("the same, ttl_seconds=inf", lambda u, n: _content(u, n, ttl_seconds=float("inf")), _texts, text_bytes=400),
]


def measure(url: str, count: int) -> list[Result]:
    """Every case, each in an empty server."""
    server = redis.Redis.from_url(url)
    results = [_measured(server, url, case, count) for case in CASES]
    server.close()
    return results


def _measured(server: redis.Redis, url: str, case: Case, count: int) -> Result:
    server.flushall()
    with case.make(url, count) as cache:
        case.store(cache, range(count, count + 1))  # so that the scripts are there
        cache.clear()  # all but the state, and the history of one
        before = _used(server)
        for start in range(0, count, BATCH):
            case.store(cache, range(start, min(start + BATCH, count)))
        marks = _drop(server, b"*}:q:*") / count
        used = (_used(server) - before) / count
        parts = {name: size / count for name, size in _by_kind(server).items()}
        assert all(parts.get(kind) for kind in case.kinds), f"{case.name}: {parts}"  # noqa: S101 - else it measures nothing
        events = parts.pop("events", 0.0)
    parts["entry"] = parts.pop("e:") - len(VALUE)
    rest = used - sum(parts.values()) - events - len(VALUE)
    left_out = {"request mark, for 60 s": marks, "events, 10,000 at most": events}
    if case.text_bytes:
        left_out |= {f"{name}, of {case.text_bytes} bytes": parts.pop(name) for name in TEXT_KEYS}
    parts["key table, rounding"] = rest
    return Result(case.name, sum(parts.values()), parts, left_out)


def _drop(server: redis.Redis, pattern: bytes) -> int:
    """Delete keys; the memory that this frees."""
    before = _used(server)
    names = server.scan_iter(pattern, count=1000)
    while some := list(islice(names, 1000)):
        server.delete(*some)
    return before - _used(server)


def _used(server: redis.Redis) -> int:
    """The memory in use, without that of connections, when it has come to rest: tables grow step by step."""
    last = -1
    while (now := _now(server)) != last:
        last = now
        time.sleep(0.3)
    return now


def _now(server: redis.Redis) -> int:
    info: dict[str, Any] = server.info("memory")
    used: int = info["used_memory"] - info["mem_clients_normal"]
    return used // 1024 * 1024


def _by_kind(server: redis.Redis) -> dict[str, float]:
    """Bytes in the keys of each kind: of `e:` and its like the mean of some, times their number."""
    names: dict[str, list[bytes]] = defaultdict(list)
    for name in server.scan_iter(count=1000):
        names[_kind(name)].append(name)
    return {kind: _size(server, some) for kind, some in names.items()}


def _size(server: redis.Redis, names: list[bytes]) -> float:
    pipe = server.pipeline(transaction=False)
    sampled = names[:: max(1, len(names) // SAMPLED)]
    for name in sampled:
        pipe.memory_usage(name, samples=0)
    return sum(pipe.execute()) / len(sampled) * len(names)


def _kind(name: bytes) -> str:
    """`e:` of `{dc1:default:0}:e:...`."""
    rest = name.split(b"}:", 1)[1]
    return rest[:2].decode() if rest[1:2] == b":" else rest.decode()


def _rows(results: list[Result], field: str) -> Iterator[tuple[str, list[str]]]:
    kinds = dict.fromkeys(kind for one in results for kind in getattr(one, field))
    for kind in kinds:
        figures = [getattr(one, field).get(kind) for one in results]
        if any(figure is not None and figure >= 0.5 for figure in figures):
            yield kind, ["" if figure is None else f"{figure:.0f}" for figure in figures]


def show(results: list[Result], count: int, url: str) -> None:
    """Print the table, and on what it was measured."""
    table = Table(title=f"bytes an entry beyond its value of {len(VALUE)} bytes, {count:,} entries; goal: below {GOAL}")
    table.add_column("")
    for one in results:
        table.add_column(one.name, justify="right", overflow="fold")
    for kind, figures in _rows(results, "parts"):
        table.add_row(kind, *figures)
    table.add_section()
    table.add_row("sum", *(f"{one.beyond:.0f}" for one in results), style="bold")
    table.add_section()
    for kind, figures in _rows(results, "left_out"):
        table.add_row(f"not counted: {kind}", *figures)
    console = Console(width=140)
    console.print(table)
    console.print(f"Counted with it: the key of {len(key(0))} bytes and the content hash of {len(HASH(0))}.")
    console.print(described(url))


def main() -> None:
    """Store, measure and print."""
    options = options_of(__doc__)
    options.add_argument("--server-defaults", action="store_true", help="leave the server's settings for hashes alone")
    chosen = options.parse_args()
    count = 4000 if chosen.quick else 20_000
    with bare_server({} if chosen.server_defaults else LISTPACKS) as url:
        results = measure(url, count)
        show(results, count, url)
    write_json(chosen.json, results)


if __name__ == "__main__":
    main()
