"""Look-ups that share a call, when callers leave, are late, or the connection goes: nobody else's result suffers."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from faults import fault_proxy

from distcache import AsyncContentHashCache, AsyncSmartCache
from distcache.content.text import place
from distcache.errors import ServerError, Unavailable
from distcache.executor.wire import MOST_ROWS
from distcache.keys import Partition, key_id, scope_id

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("client")]
MANY = MOST_ROWS + 8
"""A call that is full, and goes out at once, and one that goes at the end of the turn."""


class Smart:
    total = "hits"

    def open(self, url, **options):
        # Nobody asks now and then what could be warmed: the calls are counted.
        return AsyncSmartCache(url=url, enable_warmup=False, on_error="raise", **{"timeout_s": 10, **options})

    async def fill(self, cache):
        await cache.put_many([{"key": f"k{n}", "output": f"value {n}", "content_hash": f"h{n}"} for n in range(MANY)])

    async def get(self, cache, number):
        return await cache.get(f"k{number}", f"h{number}")

    def entry(self, number):
        return Partition("smart", 0).entry(key_id(b"k%d" % number))

    damage = ("o", b"\xff is no output")


class Content:
    total = "total_hits"

    def open(self, url, **options):
        return AsyncContentHashCache(url=url, on_error="raise", **{"timeout_s": 10, **options})

    async def fill(self, cache):
        await cache.set_many([(f"thought {n}", f"value {n}") for n in range(MANY)])

    async def get(self, cache, number):
        return await cache.get(f"thought {number}")

    def entry(self, number):
        return Partition("signatures", 0).entry(place(scope_id(()), f"thought {number}").id)

    damage = ("s", b"\xff is no signature")


@pytest.fixture(params=[Smart, Content])
def kind(request):
    return request.param()


@contextlib.asynccontextmanager
async def behind_a_proxy(kind, server, **options):
    """A filled cache, connected through a proxy, and that."""
    with fault_proxy(server.path) as proxy:
        async with kind.open(proxy.url, **options) as cache:
            await kind.fill(cache)
            assert await kind.get(cache, 0) == "value 0"  # the server knows the script
            link_of(cache)._alone = False  # as after several at once: the first of the next ones waits for the others
            assert proxy.accepted == 1
            yield cache, proxy


@contextlib.contextmanager
def held_up(client):
    """The server answers no script until the block ends."""
    client.client_pause(60_000, all=False)
    try:
        yield
    finally:
        client.client_unpause()


def calls_of(client):
    return client.info("commandstats")["cmdstat_evalsha"]["calls"]


async def until(condition, description):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, description
        await asyncio.sleep(0.005)


def link_of(cache):
    [link] = cache._executor._lane()._links
    return link


def asked(kind, cache, numbers=range(MANY)):
    return [asyncio.create_task(kind.get(cache, number)) for number in numbers]


async def all_values(tasks, gone=()):
    """Those who are still there have their own values."""
    found = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
    for number, value in enumerate(found):
        if number in gone:
            assert isinstance(value, asyncio.CancelledError), number
        else:
            assert value == f"value {number}"


async def nothing_is_left(kind, cache):
    """The line is empty, and the next caller gets what it asks for."""
    link = link_of(cache)
    assert (link.in_flight, link._bytes, len(link._waiting), link._unsent, link._growing) == (0, 0, 0, [], {})
    assert await kind.get(cache, 5) == "value 5"


# callers that leave


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("sent", [False, True])
async def test_every_third_caller_is_cancelled(kind, server, client, first, sent):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        before, said = calls_of(client), len(proxy.requests)
        with held_up(client):
            tasks = asked(kind, cache)
            await asyncio.sleep(0)  # they have asked; the call that is not full is not sent
            assert len(link_of(cache)._unsent) == 1
            if sent:
                await until(lambda: not link_of(cache)._unsent and len(proxy.requests) > said, "both calls are sent")
            for task in tasks[first::3]:
                task.cancel()
            await asyncio.sleep(0)
        await all_values(tasks, range(first, MANY, 3))
        await until(lambda: not link_of(cache).in_flight, "the replies to those who have left are read")
        assert calls_of(client) - before == 2
        assert proxy.accepted == 1
        await nothing_is_left(kind, cache)
        assert (await cache.get_stats())[kind.total] == MANY + 2, "a row whose caller has left is a use nevertheless"


async def test_all_sharers_of_a_call_are_cancelled(kind, server, client):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        with held_up(client):
            gone = asked(kind, cache, range(8))
            await asyncio.sleep(0)
            await until(lambda: not link_of(cache)._unsent, "the call is sent")
            others = asked(kind, cache)
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
        await all_values(others)
        assert all(
            isinstance(one, asyncio.CancelledError) for one in await asyncio.gather(*gone, return_exceptions=True)
        )
        assert proxy.accepted == 1
        await nothing_is_left(kind, cache)


# a connection that goes


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_cut_connection_while_rows_share_calls(kind, server, client, cancelled):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        before = calls_of(client)
        proxy.swallow = True
        tasks = asked(kind, cache)
        await until(lambda: calls_of(client) == before + 2, "all were executed")
        gone = range(0, MANY, 3) if cancelled else ()
        for number in gone:
            tasks[number].cancel()
        await asyncio.sleep(0)
        proxy.swallow = False
        proxy.cut()
        await all_values(tasks, gone)
        assert proxy.accepted == 2
        await nothing_is_left(kind, cache)


@pytest.mark.parametrize("passed", [1, 300, 900])
async def test_a_connection_is_cut_within_the_replies(kind, server, passed):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        proxy.cut_after = passed
        await all_values(asked(kind, cache))
        assert proxy.cut_after is None
        assert proxy.accepted == 2
        await nothing_is_left(kind, cache)


async def test_rows_that_were_not_sent_when_the_connection_went_count_once(kind, server, client):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        tasks = asked(kind, cache, range(8))
        await asyncio.sleep(0)
        assert len(link_of(cache)._growing) == 1
        link_of(cache).drop("is gone")
        await all_values(tasks)
        assert proxy.accepted == 2
        await nothing_is_left(kind, cache)
        assert (await cache.get_stats())[kind.total] == 8 + 2


async def test_a_server_that_stops_answering_is_left_by_all(kind, server, client):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        link = link_of(cache)
        cache._executor.timeout_s = link._patience_s = 0.2
        proxy.swallow = True
        found = await asyncio.gather(*asked(kind, cache), return_exceptions=True)
        assert all(isinstance(one, Unavailable) for one in found)
        await until(lambda: not link.usable, "the connection was dropped")
        assert (link.in_flight, link._bytes, len(link._waiting)) == (0, 0, 0)
        proxy.swallow = False
        cache._executor.timeout_s = 10
        await until(cache._executor.breaker.admit, "a probe is due")
        cache._executor.breaker.succeeded()
        await all_values(asked(kind, cache))


# a caller that is late


@pytest.mark.parametrize("late", [0, 5, MOST_ROWS, MANY - 1])
async def test_one_sharer_is_late(kind, server, client, late):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        executor = cache._executor

        async def hurry(timeout_s):
            executor.timeout_s = timeout_s

        before = calls_of(client)
        with held_up(client):
            tasks = asked(kind, cache, range(late))
            hurried = asyncio.create_task(hurry(0.05))  # tasks begin in the order in which they were made
            tasks += asked(kind, cache, [late])
            patient = asyncio.create_task(hurry(10))
            tasks += asked(kind, cache, range(late + 1, MANY))
            await asyncio.gather(hurried, patient)
            with pytest.raises(Unavailable, match="in time"):
                await tasks[late]
            assert not any(task.done() for number, task in enumerate(tasks) if number != late)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        found.pop(late)
        assert found == [f"value {number}" for number in range(MANY) if number != late]
        assert calls_of(client) - before == 2
        assert proxy.accepted == 1
        await nothing_is_left(kind, cache)


# a row that is damaged


@pytest.mark.parametrize("bad", [0, 5, MOST_ROWS - 1, MANY - 1])
async def test_one_row_is_damaged(kind, server, client, bad):
    async with behind_a_proxy(kind, server) as (cache, _proxy):
        client.hset(kind.entry(bad), *kind.damage)
        found = await asyncio.gather(*asked(kind, cache))
        assert found.pop(bad) is None
        assert found == [f"value {number}" for number in range(MANY) if number != bad]
        assert cache.local_stats()["corrupt"] == 1
        assert await kind.get(cache, bad) is None
        assert (await cache.get_stats())["corrupt"] == 1


@pytest.mark.parametrize("bad", [0, 5, MOST_ROWS - 1, MANY - 1])
async def test_one_row_is_refused_while_callers_leave(kind, server, client, bad):
    async with behind_a_proxy(kind, server) as (cache, proxy):
        client.set(kind.entry(bad), "no hash")
        with held_up(client):
            tasks = asked(kind, cache)
            await asyncio.sleep(0)
            gone = [number for number in range(1, MANY, 3) if number != bad]
            for number in gone:
                tasks[number].cancel()
            await asyncio.sleep(0)
        with pytest.raises(ServerError):
            await tasks[bad]
        for number, task in enumerate(tasks):
            if number not in (*gone, bad):
                assert await task == f"value {number}"
        assert proxy.accepted == 1
