"""Look-ups that are sent together are one call of the script: each still has its own result, and counts for itself."""

from __future__ import annotations

import asyncio

import pytest

from distcache import AsyncContentHashCache, AsyncSmartCache
from distcache.errors import ServerError
from distcache.executor import mux
from distcache.executor.wire import MOST_ROWS
from distcache.keys import Partition, key_id

pytestmark = pytest.mark.usefixtures("client")
SMART, CONTENT = Partition("smart", 0), Partition("signatures", 0)
MANY = 3 * MOST_ROWS + 5


def calls_of(client):
    return client.info("commandstats")["cmdstat_evalsha"]["calls"]


async def smart_cache(server, **options):
    cache = AsyncSmartCache(url=server.url, on_error="raise", timeout_s=10, **options)
    await cache.put_many([{"key": f"k{n}", "output": f"value {n}", "content_hash": f"h{n}"} for n in range(MANY)])
    return cache


@pytest.mark.asyncio
@pytest.mark.parametrize("partitions", [1, 3])
async def test_many_gets_at_once_are_few_calls_and_each_is_counted(server, client, partitions):
    cache = await smart_cache(server, partitions=partitions)
    async with cache:
        await cache.get_many([f"k{n}" for n in range(6)])  # the server knows the script
        before = calls_of(client)
        asked = [(f"k{n}", f"h{n}") for n in range(MANY)] + [("k1", "other"), ("absent", ""), ("k2", "h2"), ("k2", "")]
        found = await asyncio.gather(*(cache.get(key, wanted) for key, wanted in asked))
        assert found == [*(f"value {n}" for n in range(MANY)), None, None, "value 2", "value 2"]
        assert calls_of(client) - before < MANY / 4
        stats = await cache.get_stats()
        assert (stats["hits"], stats["misses"]) == (MANY + 2 + 6, 2)
        assert (await cache.inspect("k2")).access_count == 4
        hits = [event for event in await cache.get_recent_events(1000) if event["type"] == "HIT"]
        assert sorted(event["key"] for event in hits) == sorted([f"k{n}" for n in [*range(MANY), 2, 2, *range(6)]])


@pytest.mark.asyncio
async def test_a_bulk_is_few_calls(server, client):
    async with await smart_cache(server) as cache:
        before = calls_of(client)
        found = await cache.get_many([f"k{n}" for n in range(MANY)] + ["absent"])
        assert found == {f"k{n}": f"value {n}" for n in range(MANY)}
        assert calls_of(client) - before < 10


@pytest.mark.asyncio
async def test_a_damaged_entry_is_an_error_of_its_own_row(server, client):
    async with await smart_cache(server) as cache:
        client.set(SMART.entry(key_id(b"k3")), "no hash")
        found = await asyncio.gather(*(cache.get(f"k{n}") for n in range(6)), return_exceptions=True)
        assert isinstance(found.pop(3), ServerError)
        assert found == [f"value {n}" for n in (0, 1, 2, 4, 5)]
        assert (await cache.get_stats())["hits"] == 5


@pytest.mark.asyncio
async def test_texts_at_once(server, client):
    async with AsyncContentHashCache(url=server.url, on_error="raise", timeout_s=10) as cache:
        texts = [f"Thought {n}: let me think about this." for n in range(MANY)]
        await cache.set_many([(text, f"signature {n}") for n, text in enumerate(texts)])
        await cache.get("absent")  # the server knows the script
        before = calls_of(client)
        asked = [*texts, "Thought  7:  let me think about this.", "absent", texts[7]]
        found = await asyncio.gather(*(cache.get(text) for text in asked))
        assert found == [*(f"signature {n}" for n in range(MANY)), "signature 7", None, "signature 7"]
        assert calls_of(client) - before < MANY / 4
        stats = await cache.get_stats()
        assert (stats["exact_hits"], stats["normalized_hits"], stats["misses"]) == (MANY + 1, 1, 2)


@pytest.mark.asyncio
async def test_the_dead_that_several_rows_meet_are_buried_once(server, client):
    async with AsyncContentHashCache(url=server.url, on_error="raise", timeout_s=10, ttl_seconds=0.05) as cache:
        await cache.set("one text", "signature")
        await asyncio.sleep(0.1)
        assert await asyncio.gather(*(cache.get("one text") for _ in range(5))) == [None] * 5
        stats = await cache.get_stats()
        assert (stats["expirations"], stats["misses"], stats["current_size"]) == (1, 5, 0)
        assert client.hlen(CONTENT.usage) == 1, "nothing but the state"


@pytest.mark.asyncio
async def test_who_asks_alone_again_waits_for_nobody(server, monkeypatch):
    """The bytes go out before the loop turns; of several at once, all wait for the end of the turn and share a call."""
    sent = []
    packed = mux._Growing.packed
    monkeypatch.setattr(mux._Growing, "packed", lambda call: sent.append(len(call.rows)) or packed(call))
    async with AsyncSmartCache(url=server.url, on_error="raise", timeout_s=10, enable_warmup=False) as cache:
        await cache.put_many([{"key": f"k{n}", "output": f"value {n}", "content_hash": ""} for n in range(8)])
        await cache.get("k0")
        sent.clear()
        task = asyncio.create_task(cache.get("k1"))
        await asyncio.sleep(0)  # it has asked, and the loop's turn has not ended
        assert sent == [1]
        assert await task == "value 1"

        values = [f"value {n}" for n in range(8)]
        tasks = [asyncio.create_task(cache.get(f"k{n}")) for n in range(8)]
        await asyncio.sleep(0)
        assert sent == [1, 1], "the first is alone, as the one before was"
        assert await asyncio.gather(*tasks) == values
        assert sent == [1, 1, 7]

        tasks = [asyncio.create_task(cache.get(f"k{n}")) for n in range(8)]
        await asyncio.sleep(0)
        assert sent == [1, 1, 7], "those before were not alone"
        assert await asyncio.gather(*tasks) == values
        assert sent == [1, 1, 7, 8]
