"""The asyncio executor: shared connections, cancelled callers, deadlines, several loops."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest
from faults import fault_proxy
from scripts import INCR, INCR_RETRYABLE, echo, op, script_of
from servers import binaries, has_tls, start_server

from distcache.errors import CircuitOpen, CorruptEntry, EngineError, ServerError, StaleConfig, Unavailable
from distcache.executor import AsyncExecutor, Endpoint
from distcache.executor import mux as mux_module
from distcache.op import Batch, Block

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("client")]


def executor_for(url: str, timeout_s: float = 0.25, **options: int) -> AsyncExecutor:
    return AsyncExecutor(Endpoint(url), timeout_s=timeout_s, **options)


async def until(condition, description: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, description
        await asyncio.sleep(0.005)


# what is sent and what comes back


async def test_run_batch_and_drive(server):
    executor = executor_for(server.url, 2.0)

    def flow():
        one = yield from echo("1")
        two = yield from Batch([echo("2"), op(script_of("return redis.error_reply('NOPE')"))])
        try:
            yield from op(script_of("return redis.error_reply('STALECONFIG read again')"))
        except StaleConfig:
            return one, two[0], type(two[1])

    assert await executor.drive(flow()) == (b"1", b"2", ServerError)
    assert await executor.run(echo("x" * 3_000_000)) == b"x" * 3_000_000
    assert await executor.run_batch(Batch([])) == []
    with pytest.raises(ServerError):
        await executor.run(op(script_of("return redis.call('NOSUCH')")))

    def corrupt(_reply):
        raise CorruptEntry("bad")

    with pytest.raises(CorruptEntry):
        await executor.run(op(echo("").script, "x", decode=corrupt))
    await executor.aclose()
    assert await executor.run(echo("after close")) == b"after close"
    await executor.aclose()


@pytest.mark.parametrize("connections", [1, 3])
async def test_256_concurrent_callers_share_few_connections(server, connections):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 10.0, connections=connections)
        for _ in range(3):
            texts = [f"{number}".encode() for number in range(256)]
            assert await asyncio.gather(*[executor.run(echo(text)) for text in texts]) == texts
        assert proxy.accepted <= connections
        counts = await asyncio.gather(*[executor.run(op(INCR, "n")) for _ in range(256)])
        assert sorted(counts) == list(range(1, 257))
        await executor.aclose()


async def test_more_callers_than_fit_wait_in_line(server, monkeypatch):
    monkeypatch.setattr(mux_module, "_MAX_COMMANDS", 8)
    executor = executor_for(server.url, 10.0)
    await executor.run(echo("connect"))
    [link] = executor._lane()._links
    tasks = [asyncio.create_task(executor.run(echo(f"{number}"))) for number in range(500)]
    most = 0
    while not all(task.done() for task in tasks):
        most = max(most, link.in_flight)
        for task in tasks[7::50]:
            task.cancel()
        await asyncio.sleep(0)
    assert most <= 16
    replies = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(reply == b"%d" % at for at, reply in enumerate(replies) if at % 50 != 7)
    assert (link.in_flight, link._bytes, len(link._blocked)) == (0, 0, 0)
    await executor.aclose()


async def test_flushed_scripts_are_loaded_again(server):
    executor = executor_for(server.url, 2.0)
    assert await executor.run(op(INCR, "n")) == 1
    for expected in (2, 4, 6):
        with server.client() as client:
            client.script_flush()
        both = await asyncio.gather(executor.run(op(INCR, "n")), executor.run(op(INCR, "n")))
        assert sorted(both) == [expected, expected + 1]
    with server.client() as client:
        client.script_flush()
    assert await executor.run_batch(Batch([op(INCR, "n"), echo("a")])) == [8, b"a"]
    await executor.aclose()


# callers that leave


async def test_cancelled_callers_hurt_nobody(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 5.0)
        await executor.run(echo("connect"))
        proxy.delay_s = 0.1
        tasks = [asyncio.create_task(executor.run(echo(f"{number}"))) for number in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.sleep(0.02)
        for task in tasks[1::3]:
            task.cancel()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert replies[2::3] == [b"%d" % number for number in range(2, 60, 3)]
        assert all(isinstance(reply, asyncio.CancelledError) for at, reply in enumerate(replies) if at % 3 != 2)
        proxy.delay_s = 0.0
        assert await executor.run(echo("next")) == b"next"
        assert proxy.accepted == 1
        await executor.aclose()


async def test_the_first_caller_may_be_cancelled_while_connecting(server):
    executor = executor_for(server.url, 5.0)
    first, second = (asyncio.create_task(executor.run(echo(text))) for text in ("1", "2"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == b"2"
    await executor.aclose()


async def test_a_server_that_takes_no_more_clients_is_named_and_nothing_else_is_said(server):
    """It answers before it was asked."""
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: said.append(context))
    executor = executor_for(server.url, 0.3)
    with server.client() as client:
        before = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 1)
        try:
            for _ in range(10):
                with pytest.raises(Unavailable):
                    await executor.run(echo("x"))
        finally:
            client.config_set("maxclients", before)
    await executor.aclose()
    assert not said


async def test_a_cancelled_wait_takes_nothing_more(server):
    """What is queued after it goes to others, though the server reads the wait, its end and the new entry at once."""
    executor = executor_for(server.url, 5.0)
    add = op(script_of("return redis.call('XADD', KEYS[1], '*', 'f', 1)", keys=1), "stream")

    def read(block_ms: int) -> Block:
        command = ("XREADGROUP", "GROUP", "workers", "me", "COUNT", 1, "BLOCK", block_ms, "STREAMS", "stream", ">")
        return Block(command, block_ms / 1000)

    await executor.run(add)  # now the server knows the script
    with server.client() as client:
        client.xgroup_create("stream", "workers", "$")
        await executor.block(read(1))  # now both are connected
        link = executor._lane()._waiting
        os.kill(server.pid, signal.SIGSTOP)
        await asyncio.to_thread(
            os.waitid, os.P_PID, server.pid, os.WSTOPPED
        )  # so all that is sent is read at once, later
        waiting = asyncio.create_task(executor.block(read(60_000)))
        await until(lambda: link.in_flight and not link._unsent, "it is sent")
        asyncio.get_running_loop().call_later(0.2, os.kill, server.pid, signal.SIGCONT)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await executor.run(add)
        assert client.xpending("stream", "workers")["pending"] == 0
    await executor.aclose()


# deadlines


async def took(awaitable) -> float:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await awaitable
    return time.monotonic() - began


@pytest.mark.parametrize("fault", [{"drip_s": 0.1}, {"swallow": True}, {"deaf": True}, {"delay_s": 1.0}])
@pytest.mark.parametrize("connected", [True, False])
async def test_the_deadline_is_total(server, fault, connected):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.3)
        if connected:
            await executor.run(echo("x" * 20))
        vars(proxy).update(fault)
        assert await took(executor.run(echo("x" * 20))) < 0.6
        [result] = await executor.run_batch(Batch([echo("x" * 20)]), timeout_s=0.1)
        assert isinstance(result, Unavailable)
        vars(proxy).update(drip_s=0.0, swallow=False, deaf=False, delay_s=0.0)
        assert await executor.run(echo("y"), timeout_s=3.0) == b"y"
        await executor.aclose()


async def test_a_late_reply_is_never_anothers(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.3)
        await executor.run(echo("warm"))
        for number in range(3):
            proxy.delay_s = 0.2
            assert await took(executor.run(echo(f"late {number}"), timeout_s=0.1)) < 0.2
            proxy.delay_s = 0.0
            assert await executor.run(echo(f"now {number}"), timeout_s=3.0) == f"now {number}".encode()
        await executor.aclose()


async def test_one_late_caller_does_not_cost_the_others_their_connection(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 2.0)
        await executor.run(echo("warm"))
        proxy.delay_s = 0.3
        others = [asyncio.create_task(executor.run(echo(f"{number}"))) for number in range(5)]
        assert await took(executor.run(echo("hurried"), timeout_s=0.05)) < 0.25
        assert await asyncio.gather(*others) == [b"%d" % number for number in range(5)]
        assert proxy.accepted == 1
        await executor.aclose()


async def test_a_dead_connection_is_dropped_and_those_behind_try_again(server, client):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.4)
        await executor.run_batch(Batch([op(INCR, "once"), op(INCR_RETRYABLE, "again")]))
        proxy.swallow = True
        head = asyncio.create_task(executor.run(echo("head")))
        await asyncio.sleep(0.25)
        once = asyncio.create_task(executor.run(op(INCR, "once")))
        again = asyncio.create_task(executor.run(op(INCR_RETRYABLE, "again")))
        await asyncio.sleep(0.05)
        proxy.swallow = False
        with pytest.raises(Unavailable):
            await head
        assert await again == 3
        with pytest.raises(Unavailable, match="stopped answering"):
            await once
        assert (int(client.get("once")), proxy.accepted) == (2, 2)
        await executor.aclose()


async def test_a_cut_connection_costs_only_what_must_not_be_repeated(server, client):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 3.0)
        await executor.run_batch(Batch([op(INCR, "once"), op(INCR_RETRYABLE, "again")]))
        proxy.swallow = True
        tasks = [asyncio.create_task(executor.run(op(script, "n"))) for script in (INCR, INCR_RETRYABLE) * 10]
        seen = len(proxy.requests)
        await until(lambda: int(client.get("n") or 0) == 20, f"all were executed ({seen} bytes of requests before)")
        proxy.swallow = False
        proxy.cut()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(replies[1::2]) == list(range(21, 31))
        assert all(isinstance(reply, Unavailable) for reply in replies[::2])
        assert int(client.get("n")) == 30
        assert executor.breaker.closed
        await executor.aclose()


async def test_a_dead_server_costs_one_probe_per_interval(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.1)
        await executor.run(echo("a"))
        proxy.deaf = True
        for _ in range(3):
            await took(executor.run(echo("a")))
        before, began = proxy.accepted, time.monotonic()
        while time.monotonic() - began < 1.3:
            results = await asyncio.gather(*[executor.run(echo("a")) for _ in range(50)], return_exceptions=True)
            assert sum(not isinstance(result, CircuitOpen) for result in results) <= 1
            await asyncio.sleep(0)
        assert proxy.accepted - before <= 1
        proxy.deaf = False
        proxy.cut()
        await asyncio.sleep(1.0)  # the interval
        assert await executor.run(echo("a")) == b"a"
        await executor.aclose()


# servers that go and come


async def test_a_restarted_server_is_found_again():
    with start_server(binaries()["redis"], tcp=True) as own:
        executor = executor_for(own.url, 2.0)
        assert await executor.run(echo("a")) == b"a"
        own.restart()
        assert await executor.run(echo("b")) == b"b"
        own.restart()
        assert await executor.run(op(INCR, "n")) == 1
        own.restart()
        assert await asyncio.gather(*[executor.run(echo("c")) for _ in range(50)]) == [b"c"] * 50
        await executor.aclose()


async def test_a_replica_is_left_for_a_new_connection(server):
    executor = executor_for(server.url, 3.0)
    await executor.run(op(INCR, "n"))
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        threading.Timer(0.1, lambda: client.execute_command("REPLICAOF", "NO", "ONE")).start()
        assert await executor.run(op(INCR, "n")) == 2
        assert len(client.client_list()) <= 3
    await executor.aclose()


async def test_a_wrong_password_is_tried_once(server):
    with server.client() as client:
        client.acl_log_reset()
        executor = executor_for(server.url.replace("redis://", "redis://nobody:secret@"), 2.0)
        with pytest.raises(ServerError, match="password") as info:
            await executor.run(echo("a"))
        assert "secret" not in f"{info.value} {info.value.__cause__}"
        assert [entry["count"] for entry in client.acl_log()] == [1]
        await executor.aclose()


async def test_revive_is_called_once_for_all(server, tmp_path):
    calls = []

    def revive() -> None:
        calls.append(1)
        time.sleep(0.4)
        endpoint.move_to(f"unix://{server.path}")

    endpoint = Endpoint(f"unix://{tmp_path}/nobody", revive=revive)
    executor = AsyncExecutor(endpoint, timeout_s=0.25)
    assert sorted(await asyncio.gather(*[executor.run(op(INCR, "n")) for _ in range(20)])) == list(range(1, 21))
    assert calls == [1]
    await executor.aclose()


async def test_what_revive_raises_is_the_error(tmp_path):
    def revive() -> None:
        raise EngineError("no server found")

    executor = AsyncExecutor(Endpoint(f"unix://{tmp_path}/nobody", revive=revive))
    with pytest.raises(EngineError, match="no server found"):
        await executor.run(echo("a"))
    await executor.aclose()


@pytest.mark.parametrize("name", sorted(binaries()))
async def test_tls(name):
    if not has_tls(name):
        pytest.skip("there is no TLS: this server is built without, or openssl is not there")
    with start_server(binaries()[name], tls=True) as own:
        executor = executor_for(own.url, 3.0)
        assert await executor.run(echo("x" * 100_000)) == b"x" * 100_000
        assert await asyncio.gather(*[executor.run(echo("c")) for _ in range(50)]) == [b"c"] * 50
        unknown = executor_for(own.url.partition("?")[0], 3.0)
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await unknown.run(echo("a"))
        await executor.aclose()
        await unknown.aclose()


async def test_fakeredis_needs_no_server(tmp_path):
    executor = executor_for(f"fakeredis://{tmp_path}")
    assert await executor.run(op(INCR, "n")) == 1
    assert await asyncio.gather(*[executor.run(op(INCR_RETRYABLE, "n")) for _ in range(3)]) == [2, 3, 4]
    await executor.aclose()
