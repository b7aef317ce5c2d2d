"""Busy polling: when a caller looks for its reply awake, when it gives up, and that nobody waits longer for it."""

from __future__ import annotations

import asyncio
import time

import pytest
from faults import fault_proxy
from scripts import echo

from distcache import SmartCache
from distcache.errors import ConfigError, Unavailable
from distcache.executor import AsyncExecutor, Endpoint, SyncExecutor
from distcache.executor import busy as module
from distcache.executor.busy import AWAY_S, LOCAL_US, BusyPoll
from distcache.op import Batch

LIMIT_S = 0.0005
PATIENT_US = 60_000_000


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test moves."""
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    return now


def test_it_looks_until_the_limit(clock):
    busy = BusyPoll(LIMIT_S)
    assert busy.begins()
    for _ in range(4):
        clock[0] += LIMIT_S / 5
        assert busy.goes_on()
    clock[0] += LIMIT_S / 4
    assert not busy.goes_on()


def test_on_a_busy_machine_it_sleeps(clock):
    busy = BusyPoll(10 * AWAY_S)
    assert busy.begins()
    for _ in range(4):
        clock[0] += 0.9 * AWAY_S
        assert busy.goes_on()
    clock[0] += 1.1 * AWAY_S
    assert not busy.goes_on()


def test_a_look_in_vain_costs_a_twentieth_of_the_time(clock):
    busy = BusyPoll(LIMIT_S)
    for took in (LIMIT_S, 0.003):
        assert busy.begins()
        clock[0] += took
        assert not busy.goes_on()
        clock[0] += 19 * took
        assert not busy.begins()
        clock[0] += 1.1 * took


def test_without_a_limit_it_never_looks():
    busy = BusyPoll(0.0)
    assert not any(busy.begins() for _ in range(100))


@pytest.fixture
def cores(monkeypatch):
    """Sets how many there are."""
    return lambda count: monkeypatch.setattr(module, "_cores", lambda: count)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("unix:///run/valkey.sock", True),
        ("redis://localhost:6379/0", True),
        ("redis://127.0.0.1", True),
        ("redis://127.8.0.1:7000", True),
        ("rediss://[::1]:6379", True),
        ("redis://10.0.0.7:6379", False),
        ("redis://cache.example.org", False),
        ("rediss://[2001:db8::1]:6379", False),
    ],
)
def test_only_a_server_on_this_machine_is_looked_for_unless_asked(url, local, cores):
    cores(2)
    assert Endpoint(url).busy_poll_s == (LOCAL_US / 1e6 if local else 0)
    assert Endpoint(url, busy_poll_us=70).busy_poll_s == 70 / 1e6
    assert Endpoint(url, busy_poll_us=0).busy_poll_s == 0


def test_with_one_core_the_server_could_not_run_meanwhile(cores):
    cores(1)
    assert Endpoint("unix:///run/valkey.sock").busy_poll_s == 0
    assert Endpoint("unix:///run/valkey.sock", busy_poll_us=70).busy_poll_s == 70 / 1e6


def test_an_endpoint_that_moves_is_asked_again(cores):
    cores(2)
    endpoint = Endpoint("redis://cache.example.org")
    endpoint.move_to("unix:///run/valkey.sock")
    assert endpoint.busy_poll_s == LOCAL_US / 1e6


@pytest.mark.parametrize("value", [-1, 0.5, "500", True, 1_000_001])
def test_what_is_no_number_of_microseconds_is_refused(tmp_path, value):
    with pytest.raises(ConfigError, match="busy_poll_us="):
        SmartCache(url=f"unix://{tmp_path}/nobody", busy_poll_us=value)


class Looks:
    """Counts the looks of all connections, and those that were in vain."""

    def __init__(self, monkeypatch) -> None:
        self.in_vain = self.begun = 0
        begins, goes_on = BusyPoll.begins, BusyPoll.goes_on

        def counted_begins(busy):
            begun = begins(busy)
            self.begun += begun
            return begun

        def counted_goes_on(busy):
            on = goes_on(busy)
            self.in_vain += not on
            return on

        monkeypatch.setattr(BusyPoll, "begins", counted_begins)
        monkeypatch.setattr(BusyPoll, "goes_on", counted_goes_on)


@pytest.fixture
def looks(monkeypatch):
    return Looks(monkeypatch)


@pytest.fixture
def patient(monkeypatch):
    """No reply of a healthy server is late for the looks, however busy the machine is."""
    monkeypatch.setattr(module, "AWAY_S", 60.0)
    return PATIENT_US


@pytest.mark.usefixtures("client")
class TestBlocking:
    def test_a_reply_that_comes_is_found_awake(self, server, looks, patient):
        executor = SyncExecutor(Endpoint(f"unix://{server.path}", busy_poll_us=patient), timeout_s=10.0)
        for number in range(20):
            assert executor.run(echo(f"{number}")) == f"{number}".encode()
        assert looks.begun >= 19  # the first call connects
        assert not looks.in_vain
        executor.close()

    def test_a_reply_behind_the_looks_is_slept_for(self, server, looks):
        with fault_proxy(server.path) as proxy:
            executor = SyncExecutor(Endpoint(proxy.url, busy_poll_us=LOCAL_US), timeout_s=10.0)
            executor.run(echo("connects"))
            proxy.delay_s = 0.05
            assert executor.run(echo("x")) == b"x"
            assert (looks.begun, looks.in_vain) == (1, 1)
            executor.close()

    @pytest.mark.parametrize("us", [LOCAL_US, PATIENT_US])
    def test_a_silent_server_is_waited_for_until_the_deadline(self, server, looks, patient, us):
        """Asleep; and no longer if the look may take longer."""
        with fault_proxy(server.path) as proxy:
            executor = SyncExecutor(Endpoint(proxy.url, busy_poll_us=us), timeout_s=0.2)
            executor.run(echo("connects"))
            proxy.deaf = True
            began = time.monotonic()
            with pytest.raises(Unavailable, match="did not answer in time"):
                executor.run(echo("x"))
            assert time.monotonic() - began < PATIENT_US / 1e6 / 4
            assert (looks.begun, looks.in_vain) == (1, 1)
            executor.close()

    def test_a_connection_that_is_cut_ends_the_look(self, server, looks, patient):
        with fault_proxy(server.path) as proxy:
            executor = SyncExecutor(Endpoint(proxy.url, busy_poll_us=patient), timeout_s=10.0)
            executor.run(echo("connects"))
            proxy.cut_after = 1
            assert executor.run(echo("x")) == b"x"
            assert looks.begun
            assert not looks.in_vain
            executor.close()


async def turned_until(condition) -> None:
    """Let the loop turn until it is so."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0)


@pytest.mark.usefixtures("client")
@pytest.mark.asyncio
class TestAsyncio:
    async def test_a_reply_that_comes_is_found_awake_while_the_loop_turns(self, server, looks, patient):
        executor = AsyncExecutor(Endpoint(f"unix://{server.path}", busy_poll_us=patient), timeout_s=10.0)
        turns = 0

        async def turning():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        await executor.run(echo("connects"))
        other = asyncio.create_task(turning())
        for number in range(20):
            before = turns
            assert await executor.run(echo(f"{number}")) == f"{number}".encode()
            assert turns > before
        other.cancel()
        assert looks.begun >= 19
        assert not looks.in_vain
        await executor.aclose()

    async def test_the_loop_sleeps_when_nobody_waits_any_more(self, server, looks, patient):
        executor = AsyncExecutor(Endpoint(f"unix://{server.path}", busy_poll_us=patient), timeout_s=10.0)
        await executor.run(echo("connects"))
        await executor.run(echo("looks"))
        await asyncio.sleep(0)
        assert looks.begun
        turns = 0
        loop = asyncio.get_running_loop()
        select = loop._selector.select

        def counted(timeout=None):
            nonlocal turns
            turns += 1
            return select(timeout)

        loop._selector.select = counted
        await asyncio.sleep(0.05)
        loop._selector.select = select
        assert turns < 10
        await executor.aclose()

    @pytest.mark.parametrize("fault", [{"delay_s": 0.05}, {"deaf": True}])
    async def test_a_late_reply_is_slept_for(self, server, looks, fault):
        with fault_proxy(server.path) as proxy:
            executor = AsyncExecutor(Endpoint(proxy.url, busy_poll_us=LOCAL_US), timeout_s=0.4)
            await executor.run(echo("connects"))
            [link] = executor._lane()._links
            link._busy._rests_until = looks.begun = looks.in_vain = 0  # the login may have been looked for in vain
            vars(proxy).update(fault)
            call = executor.run(echo("x"))
            if "deaf" in fault:
                with pytest.raises(Unavailable):
                    await call
            else:
                assert await call == b"x"
            assert looks.in_vain == 1
            await executor.aclose()

    async def test_many_callers_need_no_looks(self, server, looks, patient):
        executor = AsyncExecutor(Endpoint(f"unix://{server.path}", busy_poll_us=patient), timeout_s=10.0)
        await executor.run(echo("connects"))
        [link] = executor._lane()._links
        link._alone = False  # else the first of them does not wait for the others, and looks
        begun = looks.begun
        replies = await asyncio.gather(*(executor.run(echo(f"{number}")) for number in range(64)))
        assert replies == [f"{number}".encode() for number in range(64)]
        assert looks.begun == begun
        await executor.aclose()

    async def test_a_request_of_several_commands_is_slept_for(self, server, looks, patient):
        """It takes longer than a look; a look that is under way ends, and is not in vain."""
        executor = AsyncExecutor(Endpoint(f"unix://{server.path}", busy_poll_us=patient), timeout_s=10.0)
        await executor.run(echo("connects"))
        [link] = executor._lane()._links
        begun = looks.begun
        assert await executor.run_batch(Batch([echo("a"), echo("b")])) == [b"a", b"b"]
        assert looks.begun == begun
        assert await executor.run(echo("looks")) == b"looks"
        assert looks.begun == begun + 1
        await executor.run_batch(Batch([echo("c"), echo("d")]))
        await turned_until(lambda: not link._awake)
        assert not looks.in_vain
        await executor.aclose()

    async def test_a_cut_connection_and_a_cancelled_caller_leave_nothing_turning(self, server, looks, patient):
        with fault_proxy(server.path) as proxy:
            executor = AsyncExecutor(Endpoint(proxy.url, busy_poll_us=patient), timeout_s=10.0)
            await executor.run(echo("connects"))
            proxy.deaf = True
            task = asyncio.create_task(executor.run(echo("x")))
            begun = looks.begun
            await turned_until(lambda: looks.begun > begun)
            task.cancel()
            [link] = executor._lane()._links
            assert link._awake
            proxy.cut()
            await turned_until(lambda: not link._awake)
            proxy.deaf = False
            assert await executor.run(echo("y")) == b"y"
            await executor.aclose()
