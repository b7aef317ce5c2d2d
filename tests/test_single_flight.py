"""get_or_compute: one computes, the others wait; and what becomes of it when something fails."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis
from flights import ENTRY, LEASE, PART, Background, Counted, Fault, Holder, fail, has_waiters, let_lapse
from servers import wait_until

from distcache import AsyncSmartCache, SmartCache, acl
from distcache.errors import ConfigError, ServerError, Unavailable, ValueTooLarge, WaitsForItself
from distcache.executor import fake
from distcache.op import Block
from distcache.smart.flight_ops import FlightOps, Lease
from distcache.smart.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent


@pytest.fixture
def other(backend, tmp_path):
    """Another client of the same cache, always blocking, for other threads."""
    with SmartCache(tmp_path, url=backend.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


@pytest.fixture
def looks(monkeypatch) -> list[str]:
    """Every time that a caller looks whether it is its turn."""
    seen: list[str] = []
    look = SingleFlight.look

    def counted(self, call):
        seen.append(call.key)
        return look(self, call)

    monkeypatch.setattr(SingleFlight, "look", counted)
    return seen


@pytest.fixture
def holder(other) -> Iterator[Holder]:
    holder = Holder(other)
    yield holder
    holder.finish()


# one caller


def test_a_miss_computes_and_a_hit_does_not(smart, backend):
    cache, compute = smart(), Counted("é")
    assert cache.get_or_compute("key", compute) == "é"
    assert cache.get_or_compute("key", compute) == "é"
    assert cache.get("key") == "é"
    assert compute.calls == 1
    assert backend.client.exists(LEASE, PART.wakes) == 0, "nobody waited, so nobody was told"


def test_bytes_and_an_empty_output_are_outputs(smart):
    cache = smart()
    for value in (b"\0", b"", ""):
        compute = Counted(value)
        for _ in range(2):
            assert cache.get_or_compute(repr(value), compute) == value
        assert compute.calls == 1


def test_what_is_stored_is_what_put_would_store(smart):
    cache = smart()
    options = {"dependencies": ["dep"], "file_path": "a.c", "line_range": (1, 9), "ttl_seconds": 60}
    cache.get_or_compute("key", Counted("text"), "h", **options)
    info = cache.inspect("key")
    assert (info.content_hash, info.dependencies, info.file_path, info.line_range) == ("h", ("dep",), "a.c", (1, 9))
    assert info.size_bytes == 4
    assert info.compile_time_ms > 0
    assert info.expires_at - info.timestamp == 60_000
    assert cache.invalidate_by_dependency("dep") == ["key"]
    assert len(cache.get_history("key")) == 1


def test_another_content_hash_is_another_output(smart):
    cache = smart(versions=2)
    for content_hash in ("a", "b", "a", "b"):
        assert cache.get_or_compute("key", Counted(content_hash), content_hash) == content_hash
    assert cache.get_stats()["writes"] == 2


def test_a_computed_output_expires(smart, backend):
    cache, compute = smart(), Counted()
    cache.get_or_compute("key", compute, ttl_seconds=10)
    backend.let_pass(11)
    cache.get_or_compute("key", compute, ttl_seconds=10)
    assert compute.calls == 2


def test_several_partitions(smart):
    cache = smart(partitions=4)
    for number in range(20):
        assert cache.get_or_compute(f"k{number}", Counted(f"{number}")) == f"{number}"
    assert cache.get_stats()["entries"] == 20


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_round_trips(real, opener, tmp_path):
    # Calls of scripts are counted; with warm-up, a read's round trip now and then takes along what comes next.
    options = {"url": real.url, "timeout_s": 10.0, "enable_warmup": False}
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, **options)

    def trips(compute):
        before = real.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        cache.get_or_compute("key", compute)
        return real.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    cache.get_or_compute("first", Counted())  # agrees, and loads the scripts
    cache.get("first")
    assert trips(Counted()) == 3, "look, lease, store"
    assert trips(Counted()) == 1


def test_an_exception_is_the_callers_and_leaves_nothing_behind(smart, backend):
    cache = smart()
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail)
    assert backend.client.exists(LEASE) == 0
    assert cache.get_or_compute("key", Counted()) == "value"


@pytest.mark.parametrize("value", [None, 1, ["text"]])
def test_only_text_and_bytes_are_outputs(smart, backend, value):
    cache = smart()
    with pytest.raises(TypeError, match="str or bytes"):
        cache.get_or_compute("key", Counted(value), stale_if_error=60)
    assert backend.client.exists(LEASE) == 0
    assert not cache.has("key")


def test_what_is_too_large_is_returned_all_the_same(smart, backend):
    cache = smart(max_value_bytes=10)
    assert cache.get_or_compute("key", Counted("x" * 11)) == "x" * 11
    assert backend.client.exists(LEASE) == 0
    small = smart(max_size_mb=1, reconfigure=True)
    assert small.get_or_compute("key", Counted("x" * 2**21)) == "x" * 2**21
    assert backend.client.exists(LEASE) == 0
    with pytest.raises(ValueTooLarge):
        cache.put("key", "x" * 11, "")


def test_wrong_parameters(smart):
    cache = smart()
    for option in ("wait_s", "lease_s", "stale_if_error", "early_refresh"):
        for value in (-1, math.nan, math.inf, "1", True):
            with pytest.raises(ConfigError, match=option):
                cache.get_or_compute("key", Counted(), **{option: value})
    with pytest.raises(ConfigError, match="ttl_seconds"):
        cache.get_or_compute("key", Counted(), ttl_seconds=0)
    with pytest.raises(TypeError, match="no_such"):
        cache.get_or_compute("key", Counted(), no_such=1)
    with pytest.raises(TypeError, match="a key is a str"):
        cache.get_or_compute(b"key", Counted())


def test_what_cannot_be_stored_gives_the_lease_back(smart, backend):
    cache = smart()
    with pytest.raises(TypeError):
        cache.get_or_compute("key", Counted(), dependencies=[1])
    assert backend.client.exists(LEASE) == 0


def test_read_only_computes_for_itself(smart, backend):
    smart().put("there", "text", "")
    cache = smart(read_only=True)
    before = backend.keyspace().content()
    assert cache.get_or_compute("there", fail) == "text"
    assert cache.get_or_compute("key", Counted()) == "value"
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)
    assert backend.keyspace().content() == before


def test_a_corrupt_output_is_computed_anew(smart, backend):
    cache = smart()
    cache.put("key", "text", "")
    backend.client.hset(ENTRY, "o", b"\xff")
    assert cache.get_or_compute("key", Counted()) == "value"
    assert cache.get_or_compute("key", fail) == "value"


def test_a_flush_in_the_middle_of_a_compute(smart, backend):
    cache = smart()
    assert cache.get_or_compute("key", Counted("late", backend.client.flushall)) == "late"
    assert not cache.has("key"), "the lease was lost with everything else"
    assert cache.get_or_compute("key", Counted()) == "value"


# a compute that asks for itself


@pytest.mark.parametrize("twin", ["sync", "async"])
def test_a_compute_that_asks_for_its_own_key(backend, twin, tmp_path):
    if twin == "sync":
        with (
            SmartCache(tmp_path, url=backend.url, on_error="raise", timeout_s=10.0) as cache,
            pytest.raises(WaitsForItself),
        ):
            cache.get_or_compute("key", lambda: cache.get_or_compute("key", Counted()))
        return

    async def main():
        async with AsyncSmartCache(tmp_path, url=backend.url, on_error="raise", timeout_s=10.0) as cache:

            async def inner():
                return await asyncio.create_task(cache.get_or_compute("key", Counted()))

            with pytest.raises(WaitsForItself):
                await cache.get_or_compute("key", inner)

            async def another():
                return await cache.get_or_compute("another", Counted())

            assert await cache.get_or_compute("key", another) == "value"

    asyncio.run(main())


def test_a_compute_may_ask_for_others(other):
    def outer():
        return other.get_or_compute("inner", Counted()) + other.get_or_compute("key", Counted("hash"), "h")

    assert other.get_or_compute("key", outer) == "valuehash"
    assert other.get_or_compute("key", fail) == "valuehash"


def test_what_a_compute_left_behind_may_ask_later(backend, tmp_path):
    async def main():
        async with AsyncSmartCache(tmp_path, url=backend.url, on_error="raise", timeout_s=10.0) as cache:
            done, tasks = asyncio.Event(), []

            async def later():
                await done.wait()
                return await cache.get_or_compute("key", Counted("again"))

            async def compute():
                tasks.append(asyncio.create_task(later()))
                return "value"

            await cache.get_or_compute("key", compute)
            await cache.invalidate("key")
            done.set()
            assert await tasks[0] == "again"

    asyncio.run(main())


# two callers


def test_the_second_waits_for_the_first(smart, backend, holder, looks):
    cache, compute = smart(), Counted()
    release = Background(lambda: (wait_until(has_waiters(backend), "somebody waits"), holder.finish()))
    assert cache.get_or_compute("key", compute) == "held"
    release.result()
    assert compute.calls == 0
    if backend.is_real:
        assert len(looks) <= 4, "woken, and not asking again and again"


def test_an_exception_is_not_the_waiters(smart, backend, other):
    cache, compute = smart(), Counted()
    holder = Holder(other, fail)

    def release():
        wait_until(has_waiters(backend), "somebody waits")
        with pytest.raises(Fault):
            holder.finish()

    background = Background(release)
    assert cache.get_or_compute("key", compute) == "value"
    background.result()
    assert compute.calls == 1


def test_a_waiter_computes_when_its_patience_is_over(smart, backend, holder):
    cache = smart()
    assert cache.get_or_compute("key", Counted("mine"), wait_s=0) == "mine"
    assert cache.get_or_compute("key", Counted("mine"), wait_s=0.05) == "mine"
    assert not cache.has("key"), "the one who has the lease will store"
    assert holder.finish() == "held"
    assert cache.get("key") == "held"


def test_who_was_frozen_is_refused(smart, backend, other):
    cache, taken = smart(), Counted("new")

    def freeze():
        let_lapse(backend)
        assert other.get_or_compute("key", taken) == "new"

    assert cache.get_or_compute("key", Counted("old", freeze)) == "old"
    assert cache.get("key") == "new"
    assert taken.calls == 1
    assert cache.local_stats()["writes"] == 0


def test_who_was_frozen_does_not_store_while_another_computes(smart, backend, other):
    cache, holders = smart(), []

    def freeze():
        let_lapse(backend)
        holders.append(Holder(other))

    assert cache.get_or_compute("key", Counted("old", freeze)) == "old"
    assert not cache.has("key")
    assert holders[0].finish() == "held"
    assert cache.get("key") == "held"


def test_a_lease_that_ran_out_and_that_nobody_took_still_stores(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("late", lambda: let_lapse(backend)))
    assert cache.get("key") == "late"


def test_what_is_sent_twice_takes_effect_once(backend, other):
    ops = FlightOps(other._executor.drive(other._flows.open()))
    values = other._flows.put_values(b"key", "text", "", None, "", (0, 0), 1, None, "")
    take, put_other = ops.lease(b"key", b"", 60_000), ops.put(b"", Lease(b"x", b"1"), 0, values)
    lease = other._executor.run(take)
    assert other._executor.run(take) == lease
    assert not other._executor.run(put_other), "another owner, the same fence"
    assert not other._executor.run(ops.put(b"", Lease(lease.owner, b"0"), 0, values)), "an old fence"
    put = ops.put(b"", lease, 0, values)
    assert [other._executor.run(put) for _ in range(2)] == [True, True]
    assert not other._executor.run(ops.put(b"", lease, 0, values)), "and the lease is over"
    assert other.get_stats()["writes"] == 1


def test_fences_grow(smart, backend):
    cache, fences = smart(), []
    for _ in range(3):
        cache.get_or_compute("key", Counted(do=lambda: fences.append(int(backend.client.hget(LEASE, "n")))))
        cache.invalidate("key")
    assert fences == sorted(set(fences))


def test_a_heartbeat_keeps_the_lease(real, opener, other_real, tmp_path):
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=real.url, timeout_s=10.0)
    ends = set()

    def last():
        def renewed():
            ends.add(real.client.hget(LEASE, "x"))
            return len(ends) >= 4

        wait_until(renewed, "the lease was renewed three times")
        assert other_real.get_or_compute("key", Counted("other"), wait_s=0) == "other"

    assert cache.get_or_compute("key", Counted(do=last), lease_s=0.3) == "value"
    assert cache.get("key") == "value"


@pytest.fixture
def other_real(real, tmp_path):
    with SmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


def test_no_heartbeat_outlives_its_compute(real, other_real):
    ends = []
    other_real.get_or_compute("key", Counted(do=lambda: ends.append(real.client.hget(LEASE, "x"))), lease_s=0.05)
    pulse = other_real._pulse
    wait_until(lambda: pulse._thread is None, "the thread has ended")
    assert not pulse._held
    assert ends[0]


def test_a_lost_lease_is_renewed_no_more(real, other_real):
    pulse = other_real._pulse

    def lose():
        assert len(pulse._held) == 1
        real.client.delete(LEASE)
        wait_until(lambda: not pulse._held, "the heartbeat has noticed")

    assert other_real.get_or_compute("key", Counted(do=lose), lease_s=0.05) == "value"


def test_trouble_with_the_blocking_read(backend, other, tmp_path, monkeypatch):
    def refused(block):
        raise ServerError("no permission")

    with SmartCache(tmp_path, url=backend.url, timeout_s=10.0) as cache:
        monkeypatch.setattr(cache._executor, "block", refused)
        holder = Holder(other)
        release = Background(lambda: (wait_until(has_waiters(backend), "somebody waits"), holder.finish()))
        assert cache.get_or_compute("key", Counted()) == "held"
        release.result()


def test_the_rights_of_a_writer_are_enough(real, tmp_path):
    real.client.execute_command("ACL", "SETUSER", "w", "reset", "on", ">secret", *acl.rules("writer", "smart"))
    url = f"unix://w:secret@{real.server.path}"
    with SmartCache(tmp_path, url=url, on_error="raise", timeout_s=10.0) as cache:
        compute = Counted(do=lambda: wait_until(has_waiters(real), "somebody waits"))
        callers = [Background(lambda: cache.get_or_compute("key", compute)) for _ in range(2)]
        assert [caller.result() for caller in callers] == ["value"] * 2
        assert cache._executor.block(Block(("XREAD", "BLOCK", 1, "STREAMS", PART.wakes, "$"), 0.001)) is None
        with pytest.raises(Fault):
            cache.get_or_compute("another", fail, stale_if_error=1)


# threads and tasks of one process


def test_threads(real, other_real):
    compute = Counted(do=lambda: wait_until(has_waiters(real), "somebody waits"))
    callers = [Background(lambda: other_real.get_or_compute("key", compute)) for _ in range(30)]
    assert {caller.result() for caller in callers} == {"value"}
    assert compute.calls == 1
    assert len(other_real._executor._waiting) == 1, "one of them read for all"


@pytest.mark.parametrize("keys", [1, 10])
def test_tasks(real, tmp_path, keys):
    calls = []

    async def main():
        async with AsyncSmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as cache:

            async def compute():
                calls.append(1)
                await asyncio.to_thread(wait_until, lambda: len(real.client.keys(PART.leases + b"*")) == keys, "all")
                await asyncio.sleep(0.05)
                return b"value"

            asked = [cache.get_or_compute(f"k{number % keys}", compute) for number in range(100)]
            assert await asyncio.gather(*asked) == [b"value"] * 100
            names = [row["lib-name"] for row in real.client.client_list() if "lib-name" in row]
            assert names.count("distcache") in (0, 2), "one connection for all calls, one for all who wait"

    asyncio.run(main())
    assert len(calls) == keys


def test_a_cancelled_compute_gives_its_lease_back(real, tmp_path):
    async def main():
        async with AsyncSmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as cache:
            computing = asyncio.Event()

            async def endless():
                computing.set()
                await asyncio.Event().wait()

            task = asyncio.create_task(cache.get_or_compute("key", endless, stale_if_error=9))
            await computing.wait()
            waiter = asyncio.create_task(cache.get_or_compute("key", Counted()))
            await asyncio.to_thread(wait_until, has_waiters(real), "somebody waits")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await waiter == "value"

    asyncio.run(main())


def test_a_cancelled_waiter_lets_another_read(real, tmp_path, other_real):
    async def main():
        async with AsyncSmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as cache:
            holder = Holder(other_real)
            tasks = [asyncio.create_task(cache.get_or_compute("key", Counted())) for _ in range(3)]
            board = None
            while board is None or len(board._waiters) < 3:
                board = cache._notices._boards.get(asyncio.get_running_loop())
                await asyncio.sleep(0.005)
            tasks[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[0]
            assert await asyncio.to_thread(holder.finish) == "held"
            assert await asyncio.gather(*tasks[1:]) == ["held", "held"]
            assert board.reader is None

    asyncio.run(main())


# many processes


@pytest.fixture
def counters(real):
    with redis.Redis(unix_socket_path=real.server.path, db=1, decode_responses=True) as client:
        yield client


class Children:
    """Runs `flight_child.py`."""

    def __init__(self, real: Any, twin: str) -> None:
        self._real, self._twin = real, twin
        self._started: list[subprocess.Popen[str]] = []

    def __call__(self, count: int, **plan: Any) -> subprocess.Popen[str]:
        command = [sys.executable, Path(__file__).parent / "flight_child.py", self._real.url, self._twin, f"{count}"]
        plan = json.dumps({"lease_s": 10, "of": count, "value": "value", **plan})
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        child = subprocess.Popen(
            [*command, plan],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,
        )
        self._started.append(child)
        return child

    def close(self) -> None:
        for child in self._started:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
            child.wait(10)
            child.stdout.close()


@pytest.fixture
def children(real, twin):
    children = Children(real, twin)
    yield children
    children.close()


def output(child) -> list[str]:
    text, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    return text.split()


def test_fifty_processes_compute_once(real, children, counters):
    assert output(children(50, compute="all")) == ["value"] * 50
    assert counters.get("computed") == "1"
    assert real.client.exists(LEASE) == 0


def test_when_the_holder_is_killed_one_takes_over(real, children, counters):
    holder = children(1, compute="pause", lease_s=1)
    wait_until(lambda: counters.get("computed") == "1", "the first computes", 30)
    crowd = children(5, compute="quick")
    wait_until(has_waiters(real), "somebody waits", 30)
    os.killpg(holder.pid, signal.SIGKILL)
    assert output(crowd) == ["value"] * 5
    assert counters.get("computed") == "2"


def test_a_frozen_holder_is_refused_when_it_wakes(real, children, counters, other_real):
    holder = children(1, compute="go", lease_s=0.5, value="old")
    wait_until(lambda: counters.get("computed") == "1", "the first computes", 30)
    os.killpg(holder.pid, signal.SIGSTOP)
    compute = Counted("new")
    assert other_real.get_or_compute("key", compute) == "new"
    counters.set("go", 1)
    os.killpg(holder.pid, signal.SIGCONT)
    assert output(holder) == ["old"], "its own caller gets what it computed"
    assert other_real.get("key") == "new"
    assert compute.calls == 1


# a server that is away


def test_with_the_server_down_it_computes(opener, tmp_path):
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=f"unix://{tmp_path}/nobody")
    assert cache.get_or_compute("key", Counted()) == "value"
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)


def test_with_the_server_down_it_raises_if_it_is_to(running, opener, tmp_path):
    backend, compute = running("fakeredis"), Counted()
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=backend.url, on_error="raise")
    server = fake.server("tests")
    server.connected = False
    try:
        with pytest.raises(Unavailable):
            cache.get_or_compute("key", compute)
    finally:
        server.connected = True
    assert compute.calls == 0


def test_a_server_that_goes_away_during_the_compute(real, opener, tmp_path):
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=real.url, on_error="raise", timeout_s=0.3)
    try:
        assert cache.get_or_compute("key", Counted(do=real.server.kill)) == "value", "it is worth more than an error"
    finally:
        real.server.start()


def test_a_server_that_goes_away_during_the_wait(real, twin, opener, tmp_path, other_real):
    cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=real.url, timeout_s=0.3)
    other_real._executor.timeout_s = 0.3
    holder = Holder(other_real)

    def kill():
        wait_until(has_waiters(real), "somebody waits")
        real.server.kill()

    killer = Background(kill)
    try:
        assert cache.get_or_compute("key", Counted()) == "value"
        killer.result()
        assert holder.finish() == "held"
    finally:
        real.server.start()
