"""The blocking executor on real servers: what it sends, what it returns, what it raises."""

from __future__ import annotations

import os
import threading

import pytest
from faults import fault_proxy
from scripts import INCR, echo, executor_for, op, script_of
from servers import free_port

from distcache.errors import CorruptEntry, ServerError, StaleConfig, Unavailable
from distcache.op import Batch

# Python 3.12 warns of any fork beside threads; those of the proxies hold no lock that the child needs.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
pytestmark = pytest.mark.usefixtures("client")


# what is sent and what comes back


def test_run_returns_the_decoded_reply(executor):
    assert executor.run(op(script_of("return {ARGV[1], KEYS[1]}", keys=1), "k", "v")) == [b"v", b"k"]
    assert executor.run(op(script_of("return ARGV"), b"b", "é", 1, 1.5)) == [b"b", "é".encode(), b"1", b"1.5"]
    assert executor.run(op(script_of("return 7"), decode=lambda reply: reply + 1)) == 8
    assert executor.run(op(script_of("return false"))) is None


@pytest.mark.parametrize("size", [0, 1, 16_000, 70_000, 3_000_000])
def test_values_of_any_size_come_back(executor, size):
    for _ in range(3):
        assert executor.run(echo(b"x" * size)) == b"x" * size
    assert executor.run_batch(Batch([echo(b"y" * size)] * 3)) == [b"y" * size] * 3


def test_over_tcp(server):
    executor = executor_for(server.url)
    assert executor.run(echo("a")) == b"a"
    executor.close()


def test_scripts_are_loaded_with_their_first_line(server, executor):
    executor.run(echo("a"))
    with server.client() as client:
        assert client.script_exists(echo("a").script.sha.decode()) == [True]


def test_scripts_of_a_batch_are_loaded_together(executor):
    first, second = script_of("return 1 + 1"), script_of("return 2 + 2")
    assert executor.run_batch(Batch([op(first), op(second), op(first)])) == [2, 4, 2]
    assert executor.run_batch(Batch([])) == []


def test_a_flow_is_sent_results_and_thrown_errors(executor):
    def flow():
        one = yield from echo("1")
        two = yield from Batch([echo("2"), op(script_of("return redis.error_reply('NOPE')"))])
        try:
            yield from op(script_of("return redis.error_reply('STALECONFIG read again')"))
        except StaleConfig as error:
            return one, two[0], type(two[1]), str(error)

    one, two, failed, text = executor.drive(flow())
    assert (one, two, failed) == (b"1", b"2", ServerError)
    assert "config" in text


# scripts that are gone


def test_a_flushed_script_is_loaded_again_in_the_same_call(server, executor):
    assert executor.run(op(INCR, "n")) == 1
    with server.client() as client:
        client.script_flush()
    assert executor.run(op(INCR, "n")) == 2
    with server.client() as client:
        client.script_flush()
    assert executor.run_batch(Batch([op(INCR, "n"), echo("a")])) == [3, b"a"]


def test_only_the_failed_ops_of_a_batch_are_sent_again(server, executor):
    executor.run(op(INCR, "n"))
    unknown = script_of("return redis.call('INCR', KEYS[1]) + 0", keys=1, retryable=False)
    assert executor.run_batch(Batch([op(INCR, "n"), op(unknown, "m"), op(INCR, "n")])) == [2, 1, 3]


# errors


def test_a_refused_op_of_a_batch_hurts_nobody(executor):
    def corrupt(_reply):
        raise CorruptEntry("bad")

    bad = op(script_of("return redis.call('NOSUCH')"))
    lua = op(script_of("local t = nil\nreturn t.x"))
    results = executor.run_batch(Batch([echo("a"), bad, lua, op(echo("").script, "x", decode=corrupt), echo("b")]))
    assert results[0] == b"a"
    assert results[4] == b"b"
    assert [type(result) for result in results[1:4]] == [ServerError, ServerError, CorruptEntry]
    assert "line" in str(results[2])


def test_decode_errors_pass(executor):
    def broken(_reply):
        raise CorruptEntry("bad")

    for _ in range(2):
        with pytest.raises(CorruptEntry):
            executor.run(op(echo("").script, "x", decode=broken))
    assert executor.breaker.failures == 0


def test_messages_do_not_hold_user_text(server, executor):
    script = script_of("return redis.call('LPUSH', KEYS[1], ARGV[1])", keys=1)
    with server.client() as client:
        client.set("secret-key", "secret-old")
    with pytest.raises(ServerError, match="namespace") as info:
        executor.run(op(script, "secret-key", "secret-value"))
    assert "secret" not in f"{info.value} {info.value.__cause__}"


def test_out_of_memory_is_refused_and_named(server, executor):
    write = script_of("redis.call('DEL', KEYS[1])\nreturn redis.call('SET', KEYS[1], ARGV[1])", keys=1)
    executor.run(op(write, "k", "old"))
    with server.client() as client:
        client.config_set("maxmemory", "1")
        try:
            with pytest.raises(ServerError, match="maxmemory"):
                executor.run(op(write, "k", "new"))
            assert client.get("k") == b"old"
        finally:
            client.config_set("maxmemory", "0")


def test_missing_permission_and_wrong_password_are_clear_and_tried_once(server):
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pass word", "+get", "~*")
        url = server.url.replace("redis://", "redis://reader:pass%20word@")
        executor = executor_for(url, 2.0)
        with pytest.raises(ServerError, match="acl"):
            executor.run(echo("a"))
        executor.close()
        client.acl_log_reset()
        executor = executor_for(url.replace("pass%20word", "secret"), 2.0)
        with pytest.raises(ServerError, match="password") as info:
            executor.run(echo("a"))
        assert "secret" not in f"{info.value} {info.value.__cause__}"
        assert [entry["count"] for entry in client.acl_log()] == [1]
        executor.close()
        client.execute_command("ACL", "DELUSER", "reader")


def test_a_read_only_replica_costs_its_connection(server, executor):
    executor.run(op(INCR, "n"))
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
        try:
            with pytest.raises(Unavailable, match="READONLY"):
                executor.run(op(INCR, "n"), timeout_s=0.1)
            assert not executor._idle
            threading.Timer(0.1, lambda: client.execute_command("REPLICAOF", "NO", "ONE")).start()
            assert executor.run(op(INCR, "n"), timeout_s=2.0) == 2
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


def test_a_busy_server_is_waited_for(server, executor):
    executor.run(op(INCR, "n"))
    with server.client() as client:
        client.config_set("busy-reply-threshold", 20)
        spin = script_of("local a, b = redis.call('TIME'), 0 while b < tonumber(ARGV[1]) do b = b + 1 end return b")
        executor.run(op(spin, 1))
        spinning = threading.Thread(target=lambda: executor.run(op(spin, 10**7), timeout_s=10))
        spinning.start()
        assert executor.run(op(INCR, "n"), timeout_s=10) == 2
        spinning.join()


def test_refusals_are_signs_of_life(executor):
    for _ in range(10):
        with pytest.raises(ServerError):
            executor.run(op(script_of("return redis.call('NOSUCH')")))
    assert executor.breaker.closed


# threads, processes, TLS


def test_threads_share_few_connections(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 20.0)
        wrong = []

        def work(number: int) -> None:
            for turn in range(50):
                text = f"{number} {turn}".encode()
                if executor.run(echo(text)) != text:
                    wrong.append(text)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert proxy.accepted <= 16
        executor.close()


@pytest.mark.parametrize("times", [1, 3])
@FORKS
def test_a_child_process_has_connections_of_its_own(client, executor, times):
    executor.run(echo("a"))
    for _ in range(times):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                empty = not executor._idle
                status = 0 if empty and executor.run(echo("child")) == b"child" else 2
            finally:
                os._exit(status)
        assert executor.run(echo("parent")) == b"parent"
        assert os.waitpid(child, 0)[1] == 0
        assert len(executor._idle) == 1  # the parent's connection is still the same one
        assert len(client.client_list()) == 2
        assert executor.run(echo("again")) == b"again"
