"""distcache beside redis-py, cashews, aiocache, dogpile.cache and django-redis: get, set, near hit, bulk, 64 callers.

python benchmarks/peers.py [--quick] [--json FILE] [--tcp]      (pip install 'distcache[near,bench-peers]')

1,000 keys of 500-byte values are asked for in turn, so that every get is a hit. distcache does all that it does by
default: it checks the content hash, counts the use, moves the entry's priority, keeps statistics, writes an event and
learns which key follows which. The others read or write a value, as they are out of the box. A cell is microseconds a
call (a key, where 100 are read at once), and the ratio to the column's baseline, median of the rounds' ratios. The
rounds of all libraries alternate, in an order that changes. A near hit waits for nothing, so there it is the processor
time of the calling thread. What is not installed is left out.
"""

from __future__ import annotations

import asyncio
import gc
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
from bench import Row, bare_server, described, options_of, row_of, transport, write_json
from redis.cache import CacheConfig
from rich.console import Console
from rich.table import Table

from distcache import AsyncSmartCache, SmartCache

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS = [f"src/package/module_{number}.py" for number in range(1000)]
OUTPUT = "def f(x):\n    return x + 1  # 500 bytes of output\n" * 11
OUTPUT = OUTPUT[:500]
HASH = "4f2a9c0b1d3e5f67"
BULK, CALLERS = 100, 64

SYNC, ASYNC = "redis-py", "redis-py, asyncio"
GET, SET, NEAR, MANY, ASYNC_64 = "get", "set", "near hit", f"{BULK} at once, a key", f"{CALLERS} callers"
BASELINES = {GET: SYNC, SET: SYNC, NEAR: "cashews", MANY: SYNC, ASYNC_64: ASYNC}
"""What each column's ratios are to."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A library that is set up: what it calls with a key (or, in the bulk column, with a list of them)."""

    name: str
    calls: dict[str, Callable[[Any], Any]]
    later: bool = False
    """Its calls are to be awaited."""
    remarks: list[str] = field(default_factory=list)


async def distcache(url: str, stack: AsyncExitStack) -> Peer:
    """SmartCache, and another with a near cache."""
    cache = stack.enter_context(SmartCache(url=url, on_error="raise", timeout_s=5))
    near = stack.enter_context(SmartCache(url=url, namespace="near", near=True, on_error="raise", timeout_s=5))
    for one in (cache, near):
        one.put_many([{"key": key, "output": OUTPUT, "content_hash": HASH} for key in KEYS])
    while near.local_stats()["near_hits"] < len(KEYS):
        near.get_many(KEYS)
    calls: dict[str, Callable[[Any], Any]] = {
        GET: lambda key: cache.get(key, HASH),
        SET: lambda key: cache.put(key, OUTPUT, HASH),
        NEAR: lambda key: near.get(key, HASH),
        MANY: cache.get_many,
    }
    return Peer("distcache", calls)


async def distcache_async(url: str, stack: AsyncExitStack) -> Peer:
    """AsyncSmartCache, the same."""
    cache = await stack.enter_async_context(AsyncSmartCache(url=url, on_error="raise", timeout_s=5))
    near = await stack.enter_async_context(
        AsyncSmartCache(url=url, namespace="near", near=True, on_error="raise", timeout_s=5)
    )
    while near.local_stats()["near_hits"] < len(KEYS):
        await near.get(KEYS[0])
        await near.get_many(KEYS)
    calls: dict[str, Callable[[Any], Any]] = {
        GET: lambda key: cache.get(key, HASH),
        SET: lambda key: cache.put(key, OUTPUT, HASH),
        NEAR: lambda key: near.get(key, HASH),
        MANY: cache.get_many,
    }
    return Peer("distcache, asyncio", calls, later=True)


async def redis_py(url: str, stack: AsyncExitStack) -> Peer:
    """Bare commands; the client-side cache where the server suits it."""
    client = redis.Redis.from_url(url)
    stack.callback(client.close)
    client.mset(dict.fromkeys(KEYS, OUTPUT))
    calls = {GET: client.get, SET: lambda key: client.set(key, OUTPUT), MANY: client.mget}
    if url.startswith("unix"):
        return Peer(SYNC, calls, remarks=["redis-py's client-side cache is not there: it takes no unix socket; --tcp"])
    try:
        near = redis.Redis.from_url(url, protocol=3, cache_config=CacheConfig(max_size=10_000))
        for key in KEYS:
            near.get(key)
    except redis.RedisError as error:  # it knows no Valkey and no Redis before 7.4
        return Peer(SYNC, calls, remarks=[f"redis-py's client-side cache is not there: {_first_line(error)}"])
    stack.callback(near.close)
    return Peer(SYNC, {**calls, NEAR: near.get})


async def redis_asyncio(url: str, stack: AsyncExitStack) -> Peer:
    """The same with asyncio, which has no client-side cache."""
    client = redis.asyncio.Redis.from_url(url)
    stack.push_async_callback(client.aclose)
    return Peer(ASYNC, {GET: client.get, SET: lambda key: client.set(key, OUTPUT), MANY: client.mget}, later=True)


async def cashews(url: str, stack: AsyncExitStack) -> Peer:
    """Cashews, and another with client_side=True."""
    from cashews import Cache, register_backend  # noqa: PLC0415 - may be missing
    from cashews.backends.redis import Redis  # noqa: PLC0415
    from cashews.backends.redis.client_side import BcastClientSide  # noqa: PLC0415
    from cashews.picklers import PicklerType  # noqa: PLC0415

    # It knows redis:// only, but hands the URL to redis-py.
    register_backend("unix", Redis, pass_uri=True, pickler=PicklerType.DEFAULT)
    cache = await _cashews(Cache(), url, stack, db=1)  # its keys are bare, as redis-py's are
    register_backend("unix", BcastClientSide, pass_uri=True, pickler=PicklerType.DEFAULT)
    near = await _cashews(Cache(), url, stack, db=2, **{} if url.startswith("unix") else {"client_side": True})
    for key in KEYS:
        for one in (cache, near):
            await one.set(key, OUTPUT)
            assert await one.get(key) == OUTPUT  # noqa: S101 - what is timed must be a hit
    calls = {
        GET: cache.get,
        SET: lambda key: cache.set(key, OUTPUT),
        NEAR: near.get,
        MANY: lambda keys: cache.get_many(*keys),
    }
    return Peer("cashews", calls, later=True)


async def _cashews(cache: Any, url: str, stack: AsyncExitStack, **options: Any) -> Any:
    cache.setup(url, **options)
    await cache.init()
    stack.push_async_callback(cache.close)
    return cache


async def aiocache(url: str, stack: AsyncExitStack) -> Peer:
    """Aiocache with its default serializer, JSON."""
    from aiocache import RedisCache  # noqa: PLC0415 - may be missing

    cache = RedisCache(namespace="aiocache")
    # It knows hosts and ports only.
    await cache.client.aclose()
    cache.client = redis.asyncio.Redis.from_url(url)
    stack.push_async_callback(cache.client.aclose)
    for key in KEYS:
        await cache.set(key, OUTPUT)
    calls = {GET: cache.get, SET: lambda key: cache.set(key, OUTPUT), MANY: cache.multi_get}
    return Peer("aiocache", calls, later=True)


async def dogpile(url: str, stack: AsyncExitStack) -> Peer:
    """A dogpile.cache region on its Redis backend."""
    from dogpile.cache import make_region  # noqa: PLC0415 - may be missing

    region = make_region(key_mangler=lambda key: f"dogpile:{key}")
    region.configure("dogpile.cache.redis", arguments={"url": url})
    stack.callback(region.backend.writer_client.close)
    region.set_multi(dict.fromkeys(KEYS, OUTPUT))
    calls = {GET: region.get, SET: lambda key: region.set(key, OUTPUT), MANY: region.get_multi}
    return Peer("dogpile.cache", calls)


async def django_redis(url: str, stack: AsyncExitStack) -> Peer:
    """Django's cache with django-redis behind it."""
    from django.conf import settings  # noqa: PLC0415 - may be missing
    from django.core.cache import caches  # noqa: PLC0415

    address = f"{url}?db=0" if url.startswith("unix") else f"{url}/0"
    settings.configure(CACHES={"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": address}})
    cache = caches["default"]
    stack.callback(cache.close)
    cache.set_many(dict.fromkeys(KEYS, OUTPUT))
    return Peer("django-redis", {GET: cache.get, SET: lambda key: cache.set(key, OUTPUT), MANY: cache.get_many})


PEERS = [distcache, distcache_async, redis_py, redis_asyncio, cashews, aiocache, dogpile, django_redis]


async def peers(url: str, stack: AsyncExitStack) -> tuple[list[Peer], list[str]]:
    """Those that are installed and work here, each holding what it will be asked for; and why others are not there."""
    found, remarks = [], []
    for make in PEERS:
        try:
            peer = await make(url, stack)
        except ImportError as error:
            remarks.append(f"{make.__name__} is not there: {_first_line(error)}")
            continue
        found.append(peer)
        remarks += peer.remarks
    return found, remarks


async def column(name: str, peers: list[Peer], rounds: int, calls: int) -> list[Row]:
    """The rows of one column: all libraries that can do it, alternating."""
    able = [peer for peer in peers if name in peer.calls]
    times: dict[str, list[float]] = {peer.name: [] for peer in able}
    gc.collect()
    for number in range(rounds + 1):
        for peer in random.sample(able, len(able)):
            seconds = await _round(name, peer, calls, number)
            if number:  # the first one warms up
                times[peer.name].append(seconds)
    base = BASELINES[name] if BASELINES[name] in times else able[0].name
    return [
        row_of(f"{peer}: {name}", base, list(zip(taken, times[base], strict=True))) for peer, taken in times.items()
    ]


async def _round(name: str, peer: Peer, calls: int, number: int) -> float:
    """Seconds for each key."""
    call = peer.calls[name]
    if name == MANY:
        start_at = (number * BULK) % len(KEYS)
        batches = [KEYS[start_at : start_at + BULK]] * max(1, calls // BULK)
        return await _timed(call, batches, perf_counter, later=peer.later) / BULK
    keys = list(islice(cycle(KEYS), (number * calls) % len(KEYS), (number * calls) % len(KEYS) + calls))
    if name == NEAR:
        return await _timed(call, KEYS * 5, thread_time, later=peer.later)
    return await _timed(call, keys, perf_counter, later=peer.later)


async def _timed(call: Callable[[Any], Any], given: list[Any], clock: Callable[[], float], *, later: bool) -> float:
    start = clock()
    if later:
        for one in given:
            await call(one)
    else:
        for one in given:
            call(one)
    return (clock() - start) / len(given)


async def together(peers: list[Peer], rounds: int, calls: int) -> list[Row]:
    """The column of concurrent callers: throughput, as microseconds of the clock for each get."""
    able = [peer for peer in peers if peer.later]
    times: dict[str, list[float]] = {peer.name: [] for peer in able}
    each = max(1, calls // CALLERS)
    for number in range(rounds + 1):
        for peer in random.sample(able, len(able)):
            start = perf_counter()
            await asyncio.gather(*(_caller(peer, at, each) for at in range(CALLERS)))
            if number:
                times[peer.name].append((perf_counter() - start) / each / CALLERS)
    base = times[ASYNC]
    return [row_of(f"{name}: {ASYNC_64}", ASYNC, list(zip(taken, base, strict=True))) for name, taken in times.items()]


async def _caller(peer: Peer, at: int, count: int) -> None:
    get = peer.calls[GET]
    for number in range(count):
        found = await get(KEYS[(at * 13 + number) % len(KEYS)])
        assert found is not None, f"{peer.name} missed"  # noqa: S101 - what is timed must be a hit


async def measure(url: str, *, quick: bool) -> tuple[list[Row], list[str]]:
    """All rows, and what is to be said about them."""
    rounds, calls = (3, 100) if quick else (21, 300)
    async with AsyncExitStack() as stack:
        found, remarks = await peers(url, stack)
        rows = []
        for name in (GET, SET, MANY, NEAR):
            rows += await column(name, found, rounds, calls)
        return rows + await together(found, rounds, calls * 10), remarks


def show(rows: list[Row], remarks: list[str], url: str) -> None:
    """One table: a line for each library."""
    cells: dict[str, dict[str, str]] = {}
    baselines = {}
    for row in rows:
        name, what = row.name.split(": ")
        baselines[what] = row.baseline
        cells.setdefault(name, {})[what] = f"{row.us:.1f}  {row.ratio:.2f}"
    table = Table(title=f"us a call, and the ratio; {len(OUTPUT)}-byte values, over {transport(url)}")
    table.add_column("", no_wrap=True)
    for what in BASELINES:
        table.add_column(f"{what}\nto {baselines[what]}", justify="right")
    for name, found in cells.items():
        table.add_row(name, *(found.get(what, "") for what in BASELINES))
    console = Console(width=120)
    console.print(table)
    for remark in remarks:
        console.print(remark)
    console.print(described(url))


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


def main() -> None:
    """Measure and print."""
    options = options_of(__doc__)
    options.add_argument("--tcp", action="store_true", help="over TCP on loopback in place of a unix socket")
    chosen = options.parse_args()
    with bare_server(tcp=chosen.tcp) as url:
        rows, remarks = asyncio.run(measure(url, quick=chosen.quick))
        show(rows, remarks, url)
    write_json(chosen.json, rows)


if __name__ == "__main__":
    main()
