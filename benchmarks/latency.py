"""Microseconds a call, and the ratio to redis-py's GET or SET of the same bytes, for every public operation.

python benchmarks/latency.py [--quick] [--tcp] [--json FILE]

On an embedded server, which writes what it holds to disk; --tcp: over loopback, on a server that does not. What is
called a hit is one, before and after each round of calls.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

import redis
import redis.asyncio
from bench import Row, bare_server, compare, compare_async, options_of, server, show, transport, write_json

from distcache import AsyncContentHashCache, AsyncSmartCache, ContentHashCache, SmartCache

if TYPE_CHECKING:
    from collections.abc import Callable

OUTPUT = "def f(x):\n    return x + 1  # 500 bytes of output\n" * 10
OUTPUT = OUTPUT[:500]
SIGNATURE = "EqQBCkYIARgCKkA" * 33
TEXT = "Let me think about this problem step by step, with its constraints in mind. " * 12
SPACED = TEXT.replace(" ", "  ")
KEYS = [f"src/package/module_{i}.py" for i in range(1000)]
TEXTS = [f"Thought {i}: {TEXT}" for i in range(1000)]
GET, SET, READ_TEXT, WRITE_TEXT = "GET", "SET", "GET (signature)", "SET (signature)"


class Case(NamedTuple):
    """One operation: its name, its baseline, and how to call it on a cache.

    right: whether a result is what the name says; it is asked of calls between those that are timed. per: items that a
    call handles.
    """

    name: str
    baseline: str
    call: Callable[[Any], Any]
    right: Callable[[Any], bool]
    per: int = 1


def anything(_found: Any) -> bool:
    """Whatever it is."""
    return True


def some(found: Any) -> bool:
    """A hit."""
    return found is not None


def nothing(found: Any) -> bool:
    """A miss."""
    return found is None


def is_(wanted: Any) -> Callable[[Any], bool]:
    """Just this."""
    return lambda found: bool(found == wanted)


def all_of(count: int) -> Callable[[Any], bool]:
    """So many."""
    return lambda found: len(found) == count


def smart_cases(serial: count[int]) -> list[Case]:
    """Every operation of a SmartCache."""
    one = KEYS[7]

    def new() -> str:
        return f"new/{next(serial)}.py"

    return [
        Case("get, hit", GET, lambda c: c.get(one), is_(OUTPUT)),
        Case("get, hit, hash checked", GET, lambda c: c.get(one, "hash"), is_(OUTPUT)),
        Case("get, miss", GET, lambda c: c.get("absent"), nothing),
        Case("get, other hash", GET, lambda c: c.get(one, "another"), nothing),
        Case("get_many(100), a key", GET, lambda c: c.get_many(KEYS[:100]), all_of(100), 100),
        Case("has", GET, lambda c: c.has(one), is_(True)),
        Case("inspect", GET, lambda c: c.inspect(one), some),
        Case("get_history", GET, lambda c: c.get_history(one), bool),
        Case("get_predicted_next", GET, lambda c: c.get_predicted_next(one), anything),
        Case("put, replacing", SET, lambda c: c.put(one, OUTPUT, "hash"), is_(True)),
        Case("put, replacing, 10 dependencies", SET, lambda c: c.put(one, OUTPUT, "hash", KEYS[10:20]), is_(True)),
        Case("put, evicting", SET, lambda c: c.put(new(), OUTPUT, "hash"), is_(True)),
        Case("put_many(100), a key", SET, lambda c: c.put_many([_item(key) for key in KEYS[:100]]), is_(100), 100),
        Case("touch", SET, lambda c: c.touch(one), is_(True)),
        Case("invalidate, absent", SET, lambda c: c.invalidate("absent"), is_(False)),
        Case("invalidate_by_dependency, none", SET, lambda c: c.invalidate_by_dependency("absent"), is_([])),
        Case("get_stats", GET, lambda c: c.get_stats(), anything),
        Case("get_recent_events(100), an event", GET, lambda c: c.get_recent_events(100), all_of(100), 100),
        Case("get_hot_entries, 1,000 entries", GET, lambda c: c.get_hot_entries(), bool),
        Case("keys, 1,000 entries, a key", GET, _keys, all_of(1000), 1000),
        Case("get_or_compute, hit", GET, lambda c: c.get_or_compute(one, lambda: "computed"), is_(OUTPUT)),
        Case("warmup_unit, cached already", SET, lambda c: c.warmup_unit(one, "source", "hash"), is_(False)),
        Case("queue_stats", GET, lambda c: c.queue_stats(), anything),
        Case("workers", GET, lambda c: c.workers(), anything),
        Case("cleanup_expired", GET, lambda c: c.cleanup_expired(), anything),
        Case("flush", GET, lambda c: c.flush(), anything),
    ]


def content_cases(serial: count[int]) -> list[Case]:
    """The same for a ContentHashCache."""
    text, spaced, cut = TEXTS[7], f"Thought 7:  {SPACED}", TEXTS[7][:300]
    return [
        Case("get, exact", READ_TEXT, lambda c: c.get(text), is_(SIGNATURE)),
        Case("get, normalized", READ_TEXT, lambda c: c.get(spaced), is_(SIGNATURE)),
        Case("get, miss", READ_TEXT, lambda c: c.get("absent"), nothing),
        Case("get_with_prefix_match, prefix", READ_TEXT, lambda c: c.get_with_prefix_match(cut), is_(SIGNATURE)),
        Case("lookup, exact", READ_TEXT, lambda c: c.lookup(text), some),
        Case("lookup, prefix", READ_TEXT, lambda c: c.lookup(cut, prefix=True), some),
        Case("get_many(100), a text", READ_TEXT, lambda c: c.get_many(TEXTS[:100]), all_of(100), 100),
        Case("get_key", READ_TEXT, lambda c: c.get_key("tool-call-7"), is_(SIGNATURE)),
        Case("lookup_key", READ_TEXT, lambda c: c.lookup_key("tool-call-7"), some),
        Case("set, replacing", WRITE_TEXT, lambda c: c.set(text, SIGNATURE), is_(True)),
        Case("set, evicting", WRITE_TEXT, lambda c: c.set(f"{next(serial)} {TEXT}", SIGNATURE), is_(True)),
        Case(
            "set_many(100), a text",
            WRITE_TEXT,
            lambda c: c.set_many([(t, SIGNATURE) for t in TEXTS[:100]]),
            is_(100),
            100,
        ),
        Case("set_key", WRITE_TEXT, lambda c: c.set_key("tool-call-7", SIGNATURE), is_(True)),
        Case("cleanup_expired", READ_TEXT, lambda c: c.cleanup_expired(), anything),
        Case("get_stats", READ_TEXT, lambda c: c.get_stats(), anything),
    ]


def _keys(cache: Any) -> Any:
    """All keys; an async iterator is awaited to its end."""
    found = cache.keys()
    return _drained(found) if hasattr(found, "__aiter__") else list(found)


async def _drained(found: Any) -> list[str]:
    return [key async for key in found]


def _item(key: str) -> dict[str, Any]:
    return {"key": key, "output": OUTPUT, "content_hash": "hash"}


def _baselines(client: Any) -> dict[str, tuple[str, Callable[[], Any]]]:
    return {
        GET: (GET, lambda: client.get("baseline")),
        SET: (SET, lambda: client.set("baseline", OUTPUT)),
        READ_TEXT: (READ_TEXT, lambda: client.get("signature")),
        WRITE_TEXT: (WRITE_TEXT, lambda: client.set("signature", SIGNATURE)),
    }


def fill(url: str, client: redis.Redis) -> None:
    """1,000 entries in each cache and nothing else; as many as fit, so that a new one evicts."""
    client.flushdb()
    client.set("baseline", OUTPUT)
    client.set("signature", SIGNATURE)
    with SmartCache(url=url, max_entries=1000, on_error="raise", timeout_s=5) as cache:
        cache.put_many([_item(key) for key in KEYS])
    with ContentHashCache(1001, url=url, on_error="raise", timeout_s=5) as texts:
        texts.set_many([(text, SIGNATURE) for text in TEXTS])
        texts.set_key("tool-call-7", SIGNATURE)


def sync_rows(url: str, rounds: int, calls: int) -> list[Row]:
    """Every operation of the blocking classes."""
    rows = []
    client = redis.Redis.from_url(url)
    for label, kind, cases in _caches(SmartCache, ContentHashCache):
        fill(url, client)
        with kind(url=url, on_error="raise", timeout_s=5) as cache:
            for name, base, call, right, per in cases:
                row = compare(
                    f"{label}.{name}",
                    lambda call=call: call(cache),  # type: ignore[misc] # bound now
                    _baselines(client)[base],
                    rounds=rounds,
                    calls=calls,
                    per=per,
                    right=right,
                )
                rows.append(row)
    client.close()
    return rows


async def async_rows(url: str, rounds: int, calls: int) -> list[Row]:
    """Every operation of the asyncio classes, one caller."""
    rows = []
    client = redis.asyncio.Redis.from_url(url)
    for label, kind, cases in _caches(AsyncSmartCache, AsyncContentHashCache):
        with redis.Redis.from_url(url) as filler:
            fill(url, filler)
        async with kind(url=url, on_error="raise", timeout_s=5) as cache:
            for name, base, call, right, per in cases:
                row = await compare_async(
                    f"{label}.{name}",
                    lambda call=call: call(cache),  # type: ignore[misc] # bound now
                    _baselines(client)[base],
                    rounds=rounds,
                    calls=calls,
                    per=per,
                    right=right,
                )
                rows.append(row)
    await client.aclose()
    return rows


def _caches(smart: Any, content: Any) -> list[tuple[str, Any, list[Case]]]:
    serial = count()
    return [
        (smart.__name__, smart, smart_cases(serial)),
        (content.__name__, content, content_cases(serial)),
    ]


def main() -> None:
    """Run both halves and print a table for each."""
    options = options_of(__doc__)
    options.add_argument("--tcp", action="store_true", help="over TCP on loopback in place of a unix socket")
    chosen = options.parse_args()
    rounds, calls = (3, 20) if chosen.quick else (15, 200)
    with bare_server(tcp=True) if chosen.tcp else server() as url:
        rows = sync_rows(url, rounds, calls)
        show(f"blocking, one caller, over {transport(url)}", rows, url)
        rows_async = asyncio.run(async_rows(url, rounds, calls))
        show(f"asyncio, one caller, against redis.asyncio, over {transport(url)}", rows_async, url)
    write_json(chosen.json, rows + rows_async)


if __name__ == "__main__":
    main()
