"""Microseconds a call, and the ratio to redis-py's GET or SET of the same bytes, for every public operation.

python benchmarks/latency.py [--quick] [--tcp] [--json FILE]

On an embedded server, which writes what it holds to disk; --tcp: over loopback, on a server that does not.
"""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

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

Case = tuple[str, str, "Callable[[Any], Any]", int]


def smart_cases(serial: count[int]) -> list[Case]:
    """Operation, baseline, how to call it on a cache, items a call handles."""
    one = KEYS[7]

    def new() -> str:
        return f"new/{next(serial)}.py"

    return [
        ("get, hit", GET, lambda c: c.get(one), 1),
        ("get, hit, hash checked", GET, lambda c: c.get(one, "hash"), 1),
        ("get, miss", GET, lambda c: c.get("absent"), 1),
        ("get, other hash", GET, lambda c: c.get(one, "another"), 1),
        ("get_many(100), a key", GET, lambda c: c.get_many(KEYS[:100]), 100),
        ("has", GET, lambda c: c.has(one), 1),
        ("inspect", GET, lambda c: c.inspect(one), 1),
        ("get_history", GET, lambda c: c.get_history(one), 1),
        ("get_predicted_next", GET, lambda c: c.get_predicted_next(one), 1),
        ("put, replacing", SET, lambda c: c.put(one, OUTPUT, "hash"), 1),
        ("put, replacing, 10 dependencies", SET, lambda c: c.put(one, OUTPUT, "hash", KEYS[10:20]), 1),
        ("put, evicting", SET, lambda c: c.put(new(), OUTPUT, "hash"), 1),
        ("put_many(100), a key", SET, lambda c: c.put_many([_item(key) for key in KEYS[:100]]), 100),
        ("touch", SET, lambda c: c.touch(one), 1),
        ("invalidate, absent", SET, lambda c: c.invalidate("absent"), 1),
        ("invalidate_by_dependency, none", SET, lambda c: c.invalidate_by_dependency("absent"), 1),
        ("get_stats", GET, lambda c: c.get_stats(), 1),
        ("get_recent_events(100), an event", GET, lambda c: c.get_recent_events(100), 100),
        ("get_hot_entries, 1,000 entries", GET, lambda c: c.get_hot_entries(), 1),
        ("keys, 1,000 entries, a key", GET, _keys, 1000),
        ("get_or_compute, hit", GET, lambda c: c.get_or_compute(one, lambda: OUTPUT), 1),
        ("warmup_unit, cached already", SET, lambda c: c.warmup_unit(one, "source", "hash"), 1),
        ("queue_stats", GET, lambda c: c.queue_stats(), 1),
        ("workers", GET, lambda c: c.workers(), 1),
        ("cleanup_expired", GET, lambda c: c.cleanup_expired(), 1),
        ("flush", GET, lambda c: c.flush(), 1),
    ]


def content_cases(serial: count[int]) -> list[Case]:
    """The same for a ContentHashCache."""
    text, spaced, cut = TEXTS[7], f"Thought 7:  {SPACED}", TEXTS[7][:300]
    return [
        ("get, exact", READ_TEXT, lambda c: c.get(text), 1),
        ("get, normalized", READ_TEXT, lambda c: c.get(spaced), 1),
        ("get, miss", READ_TEXT, lambda c: c.get("absent"), 1),
        ("get_with_prefix_match, prefix", READ_TEXT, lambda c: c.get_with_prefix_match(cut), 1),
        ("lookup, exact", READ_TEXT, lambda c: c.lookup(text), 1),
        ("lookup, prefix", READ_TEXT, lambda c: c.lookup(cut, prefix=True), 1),
        ("get_many(100), a text", READ_TEXT, lambda c: c.get_many(TEXTS[:100]), 100),
        ("get_key", READ_TEXT, lambda c: c.get_key("tool-call-7"), 1),
        ("lookup_key", READ_TEXT, lambda c: c.lookup_key("tool-call-7"), 1),
        ("set, replacing", WRITE_TEXT, lambda c: c.set(text, SIGNATURE), 1),
        ("set, evicting", WRITE_TEXT, lambda c: c.set(f"{next(serial)} {TEXT}", SIGNATURE), 1),
        ("set_many(100), a text", WRITE_TEXT, lambda c: c.set_many([(t, SIGNATURE) for t in TEXTS[:100]]), 100),
        ("set_key", WRITE_TEXT, lambda c: c.set_key("tool-call-7", SIGNATURE), 1),
        ("cleanup_expired", READ_TEXT, lambda c: c.cleanup_expired(), 1),
        ("get_stats", READ_TEXT, lambda c: c.get_stats(), 1),
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
    """1,000 entries in each cache; as many as fit, so that a new one evicts."""
    client.set("baseline", OUTPUT)
    client.set("signature", SIGNATURE)
    with SmartCache(url=url, max_entries=1000, on_error="raise", timeout_s=5) as cache:
        cache.put_many([_item(key) for key in KEYS])
    with ContentHashCache(1000, url=url, on_error="raise", timeout_s=5) as texts:
        texts.set_many([(text, SIGNATURE) for text in TEXTS])
        texts.set_key("tool-call-7", SIGNATURE)


def sync_rows(url: str, rounds: int, calls: int) -> list[Row]:
    """Every operation of the blocking classes."""
    rows = []
    client = redis.Redis.from_url(url)
    for label, kind, cases in _caches(SmartCache, ContentHashCache):
        fill(url, client)
        with kind(url=url, on_error="raise", timeout_s=5) as cache:
            for name, base, call, per in cases:
                row = compare(
                    f"{label}.{name}",
                    lambda call=call: call(cache),  # type: ignore[misc] # bound now
                    _baselines(client)[base],
                    rounds=rounds,
                    calls=calls,
                    per=per,
                )
                rows.append(row)
    client.close()
    return rows


async def async_rows(url: str, rounds: int, calls: int) -> list[Row]:
    """Every operation of the asyncio classes, one caller."""
    rows = []
    client = redis.asyncio.Redis.from_url(url)
    for label, kind, cases in _caches(AsyncSmartCache, AsyncContentHashCache):
        async with kind(url=url, on_error="raise", timeout_s=5) as cache:
            for name, base, call, per in cases:
                row = await compare_async(
                    f"{label}.{name}",
                    lambda call=call: call(cache),  # type: ignore[misc] # bound now
                    _baselines(client)[base],
                    rounds=rounds,
                    calls=calls,
                    per=per,
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
