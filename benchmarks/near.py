"""What a hit of the near cache costs, beside cashews with client_side=True, redis-py's own cache, lru_cache and a dict.

python benchmarks/near.py [--quick] [--json FILE]      (pip install 'distcache[near,bench-peers]')

1,000 keys of 500 bytes are read in turn, all of them hits in this process; of the content cache, the signatures of
1,000 texts of 500 or 5,000 characters, each time in a string made anew, as in a request. Rounds of all candidates
alternate in one event loop; a ratio is the median of the rounds' ratios to cashews. A hit waits for nothing, so what is
measured is the processor time of the calling thread: other programs on the machine do not show. What distcache's hits
do besides (hash check, recency, counts, learning, reports to the server) is included.
"""

from __future__ import annotations

import asyncio
import functools
import gc
from contextlib import AsyncExitStack
from threading import Lock
from time import thread_time
from typing import TYPE_CHECKING, Any

import redis
from bench import Row, arguments, row_of, server, show, write_json
from cashews import Cache, register_backend
from cashews.backends.redis.client_side import BcastClientSide
from cashews.picklers import PicklerType
from redis.cache import CacheConfig

from distcache import AsyncContentHashCache, AsyncSmartCache, ContentHashCache, NearCache, SmartCache
from distcache.keys import Partition, key_id
from distcache.near import Copy, Near

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Candidate = tuple[Callable[..., Any], tuple[str, ...]]
    """What is called with a key, or a text, and what follows it."""

KEYS = [f"src/package/module_{number}.py" for number in range(1000)]
OUTPUT = "x" * 500
TEXTS = [f"{number}. {'thinking of it ' * 34}"[:500] for number in range(1000)]
LONG_TEXTS = [f"{number}. {'thinking of it ' * 340}"[:5000] for number in range(1000)]
HASH = "4f2a9c"
LONG = ", 5,000 characters"
BASE = "cashews, client_side=True"
PART = Partition("bench", 0)


async def hits(url: str, rounds: int, *, quick: bool) -> list[Row]:
    """Every candidate's hit."""
    async with AsyncExitStack() as stack:
        sync = {**_memory(), **_redis_py(url), **_distcache(url, stack), **_content(url, stack)}
        later = {**await _cashews(url), **await _distcache_async(url, stack), **await _content_async(url, stack)}
        times: dict[str, list[float]] = {name: [] for name in (*later, *sync)}
        for _ in range(rounds):
            for name, (awaited, rest) in later.items():
                times[name].append(await _round_async(awaited, rest, asked(name), 1 if quick else 10))
            for name, (call, rest) in sync.items():
                times[name].append(_round(call, rest, asked(name), 1 if quick else 10))
    base = times[BASE]
    return [row_of(name, BASE, list(zip(taken, base, strict=True))) for name, taken in times.items()]


def invalidations(rounds: int) -> list[Row]:
    """What a reported change costs with few and with many copies."""
    few, many = _filled(1000), _filled(100_000)
    pairs = [(_dropping(many), _dropping(few)) for _ in range(rounds)]
    return [row_of("an invalidated key, 100,000 copies", "1,000 copies", pairs)]


def _memory() -> dict[str, Candidate]:
    plain = dict.fromkeys(KEYS, OUTPUT)
    return {
        "dict.get": (plain.get, ()),
        "functools.lru_cache": (functools.lru_cache(10_000)(lambda _key: OUTPUT), ()),
    }


def _redis_py(url: str) -> dict[str, Candidate]:
    try:
        client = redis.Redis.from_url(url, protocol=3, cache_config=CacheConfig(max_size=10_000))
        for key in KEYS:
            client.set(key, OUTPUT)
            client.get(key)
    except (redis.RedisError, AttributeError) as error:  # it knows no unix sockets, and refuses Valkey and Redis < 7.4
        print(f"redis-py's own cache is left out, this server does not suit it: {error}")
        return {}
    return {"redis-py, client-side cache": (client.get, ())}


async def _cashews(url: str) -> dict[str, Candidate]:
    register_backend("unix", BcastClientSide, pass_uri=True, pickler=PicklerType.DEFAULT)
    cache = Cache()
    cache.setup(url)
    await cache.init()
    backend = BcastClientSide(url)
    await backend.init()
    for key in KEYS:
        for one in (cache, backend):
            await one.set(key, OUTPUT)
            assert await one.get(key) == OUTPUT  # noqa: S101 - what is timed must be a hit
    return {BASE: (cache.get, ()), "cashews, its backend alone": (backend.get, ())}


def _distcache(url: str, stack: AsyncExitStack) -> dict[str, Candidate]:
    cache = stack.enter_context(SmartCache(url=url, near=True, on_error="raise", timeout_s=5))
    cache.put_many([{"key": key, "output": OUTPUT, "content_hash": HASH} for key in KEYS])
    while cache.local_stats()["near_hits"] < len(KEYS):
        cache.get_many(KEYS)
    return {"SmartCache.get, hash checked": (cache.get, (HASH,)), "SmartCache.get": (cache.get, ())}


async def _distcache_async(url: str, stack: AsyncExitStack) -> dict[str, Candidate]:
    cache = await stack.enter_async_context(AsyncSmartCache(url=url, near=True, on_error="raise", timeout_s=5))
    while cache.local_stats()["near_hits"] < len(KEYS):
        await cache.get(KEYS[0])
        await cache.get_many(KEYS)
    return {"AsyncSmartCache.get, hash checked": (cache.get, (HASH,)), "AsyncSmartCache.get": (cache.get, ())}


def _content(url: str, stack: AsyncExitStack) -> dict[str, Candidate]:
    near = NearCache(max_entries=10_000, max_bytes=2**30)
    cache = stack.enter_context(ContentHashCache(url=url, near=near, on_error="raise", timeout_s=5))
    cache.set_many(dict.fromkeys([*TEXTS, *LONG_TEXTS], OUTPUT))
    while cache.local_stats()["near_hits"] < 2 * len(TEXTS):
        cache.get_many([*TEXTS, *LONG_TEXTS])
    return {
        "ContentHashCache.get": (cache.get, ()),
        f"ContentHashCache.get{LONG}": (cache.get, ()),
        "ContentHashCache.get_with_prefix_match": (cache.get_with_prefix_match, ()),
    }


async def _content_async(url: str, stack: AsyncExitStack) -> dict[str, Candidate]:
    near = NearCache(max_entries=10_000, max_bytes=2**30)
    cache = AsyncContentHashCache(url=url, near=near, on_error="raise", timeout_s=5)
    await stack.enter_async_context(cache)
    while cache.local_stats()["near_hits"] < 2 * len(TEXTS):
        await cache.get_many([*TEXTS, *LONG_TEXTS])
    return {"AsyncContentHashCache.get": (cache.get, ()), f"AsyncContentHashCache.get{LONG}": (cache.get, ())}


def asked(name: str) -> list[str]:
    """What a candidate is asked for."""
    if "ContentHashCache" not in name:
        return KEYS
    return LONG_TEXTS if name.endswith(LONG) else TEXTS


def _anew(keys: list[str]) -> list[str]:
    """The same texts in new strings, whose hash is not known yet."""
    return [key.encode().decode() for key in keys]


def _round(call: Callable[..., Any], rest: tuple[str, ...], keys: list[str], times: int) -> float:
    gc.collect()
    taken = 0.0
    for _ in range(times):
        now = keys if keys is KEYS else _anew(keys)
        start = thread_time()
        for key in now:
            call(key, *rest)
        taken += thread_time() - start
    return taken / times / len(keys)


async def _round_async(
    call: Callable[..., Awaitable[Any]], rest: tuple[str, ...], keys: list[str], times: int
) -> float:
    gc.collect()
    await asyncio.sleep(0.02)  # the reports of the other candidates' hits, which waited for a turn, are theirs
    taken = 0.0
    for _ in range(times):
        now = keys if keys is KEYS else _anew(keys)
        start = thread_time()
        for key in now:
            await call(key, *rest)
        taken += thread_time() - start
    return taken / times / len(keys)


def _filled(count: int) -> tuple[Near, object, list[str]]:
    near, source = Near(NearCache(count, 2**40), lambda _name: False, Lock, counts=False), object()
    near.confirmed(source)
    keys = [f"{number}.py" for number in range(count)]
    for key in keys:
        _fill(near, key)
    return near, source, keys


def _fill(near: Near, key: str) -> None:
    one = key_id(key.encode())
    near.complete(one, near.begin(one), Copy(key, key.encode(), one, OUTPUT, HASH))


def _dropping(filled: tuple[Near, object, list[str]]) -> float:
    near, source, keys = filled
    reports = [[PART.entry(key_id(key.encode()))] for key in keys[:1000]]
    start = thread_time()
    for names in reports:
        near.changed(source, names)
    taken = (thread_time() - start) / len(reports)
    for key in keys[:1000]:
        _fill(near, key)
    return taken


def main() -> None:
    """Run and print both tables."""
    options = arguments(__doc__)
    rounds = 5 if options.quick else 31
    with server() as url:
        rows = asyncio.run(hits(url, rounds, quick=options.quick))
        show("near hits", rows, url)
        dropped = invalidations(rounds)
        show("invalidation", dropped, url)
    write_json(options.json, rows + dropped)


if __name__ == "__main__":
    main()
