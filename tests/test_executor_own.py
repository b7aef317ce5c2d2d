"""The blocking executor and servers that are restarted, dead, behind TLS or a password, or not there at all."""

from __future__ import annotations

import os
import time

import pytest
import redis
from faults import fault_proxy
from scripts import INCR, echo, executor_for, op, script_of
from servers import binaries, has_tls, start_server, wait_until

from distcache.errors import CircuitOpen, ConfigError, EngineError, ServerError, StaleConfig, Unavailable
from distcache.executor import Endpoint, SyncExecutor
from distcache.op import Batch

# Python 3.12 warns of any fork beside threads; those of the proxies hold no lock that the child needs.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.mark.parametrize("name", sorted(binaries()))
def test_a_restarted_server_is_found_again(name):
    with start_server(binaries()[name], tcp=True) as own:
        for url in (own.url, f"unix://{own.path}"):
            executor = executor_for(url, 1.0)
            assert executor.run(echo("a")) == b"a"
            own.restart()
            assert executor.run(echo("b")) == b"b"
            own.restart()
            assert executor.run(op(INCR, "n")) == 1  # not retryable: its connection is known to be closed
            own.restart()
            assert executor.run_batch(Batch([op(INCR, "n"), echo("c")])) == [1, b"c"]
            executor.close()


def test_a_server_that_wants_a_password_says_so():
    with start_server(binaries()["redis"], args=["--requirepass", "secret"]) as own:
        bare, right = executor_for(own.url), executor_for(f"unix://:secret@{own.path}?db=3&client_name=me")
        with pytest.raises(ServerError, match="put user and password into the URL"):
            bare.run(echo("a"))
        assert right.run(op(INCR, "n")) == 1
        with redis.Redis(unix_socket_path=own.path, password="secret", db=3) as client:  # noqa: S106 - of this test
            assert client.get("n") == b"1"
            assert "me" in [listed["name"] for listed in client.client_list()]
        bare.close()
        right.close()


def test_a_server_without_lua_is_named():
    args = ["--rename-command", "EVALSHA", "", "--rename-command", "SCRIPT", ""]
    with start_server(binaries()["redis"], args=args) as own:
        executor = executor_for(own.url)
        with pytest.raises(ServerError, match="Lua") as info:
            executor.run(echo("secret"))
        assert "secret" not in f"{info.value} {info.value.__cause__}"
        executor.close()


# the breaker


def test_a_dead_server_costs_one_probe_per_interval():
    with start_server(binaries()["redis"]) as own, fault_proxy(own.path) as proxy:
        executor = executor_for(proxy.url, 0.1)
        executor.run(echo("a"))
        proxy.deaf = True
        for _ in range(3):
            with pytest.raises(Unavailable):
                executor.run(echo("a"))
        before, began, calls = proxy.accepted, time.monotonic(), 0
        while time.monotonic() - began < 2.3:
            with pytest.raises(Unavailable):
                executor.run(echo("a"))
            calls += 1
        assert proxy.accepted - before <= 2
        assert calls > 1000
        with pytest.raises(CircuitOpen):
            executor.run(echo("a"))
        [result] = executor.run_batch(Batch([echo("a")]))
        assert isinstance(result, CircuitOpen)
        proxy.deaf = False
        proxy.cut()

        def answered() -> bool:
            [result] = executor.run_batch(Batch([echo("a")]))
            return result == b"a"

        wait_until(answered, "the next probe closes the breaker")
        assert executor.run(echo("a")) == b"a"
        executor.close()


def test_what_revive_raises_is_the_error(tmp_path):
    def revive() -> None:
        raise EngineError("no server found")

    executor = SyncExecutor(Endpoint(f"unix://{tmp_path}/nobody", revive=revive))
    for _ in range(3):
        with pytest.raises(EngineError, match="no server found"):
            executor.run(echo("a"))
    with pytest.raises(CircuitOpen):
        executor.run(echo("a"))


@FORKS
@pytest.mark.parametrize("name", sorted(binaries()))
def test_tls(name):
    if not has_tls(name):
        pytest.skip("there is no TLS: this server is built without, or openssl is not there")
    with start_server(binaries()[name], tls=True) as own:
        executor = executor_for(own.url, 3.0)
        assert executor.run(echo("a")) == b"a"
        assert executor.run(echo("x" * 100_000)) == b"x" * 100_000
        child = os.fork()
        if child == 0:
            os._exit(0 if executor.run(echo("child")) == b"child" else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert executor.run(echo("b")) == b"b"
        unknown = executor_for(own.url.partition("?")[0], 3.0)
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            unknown.run(echo("a"))
        executor.close()
        unknown.close()


def test_fakeredis_needs_no_server(tmp_path):
    one, same, other = (executor_for(f"fakeredis://{name}") for name in (tmp_path, tmp_path, tmp_path / "b"))
    assert one.run(op(INCR, "n")) == 1
    assert same.run(op(INCR, "n")) == 2
    assert other.run(op(INCR, "n")) == 1
    [refused, fine] = one.run_batch(Batch([op(script_of("return redis.error_reply('NOPE x')")), echo("a")]))
    assert isinstance(refused, ServerError)
    assert fine == b"a"
    with pytest.raises(StaleConfig):
        one.run(op(script_of("return redis.error_reply('STALECONFIG x')")))


def test_a_config_error_names_no_password():
    with pytest.raises(ConfigError, match="unknown or wrong option") as info:
        Endpoint("redis://:secret@host?no_such_option=1")
    assert "secret" not in str(info.value)
