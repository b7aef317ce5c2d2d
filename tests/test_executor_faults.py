"""The blocking executor behind a proxy that delays, drips, swallows and cuts."""

from __future__ import annotations

import signal
import threading
import time

import pytest
from faults import fault_proxy
from scripts import INCR, INCR_RETRYABLE, echo, executor_for, op
from servers import wait_until

from distcache.errors import Unavailable
from distcache.executor import Endpoint, SyncExecutor
from distcache.op import Batch

pytestmark = pytest.mark.usefixtures("client")


# deadlines


def took(call) -> float:
    began = time.monotonic()
    with pytest.raises(Unavailable):
        call()
    return time.monotonic() - began


@pytest.mark.parametrize("fault", [{"drip_s": 0.1}, {"swallow": True}, {"deaf": True}, {"delay_s": 1.0}])
@pytest.mark.parametrize("connected", [True, False])
def test_the_deadline_is_total(server, fault, connected):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.3)
        if connected:
            executor.run(echo("x" * 20))
        vars(proxy).update(fault)
        assert took(lambda: executor.run(echo("x" * 20))) < 0.6
        [result] = executor.run_batch(Batch([echo("x" * 20)]), timeout_s=0.1)
        assert isinstance(result, Unavailable)
        vars(proxy).update(drip_s=0.0, swallow=False, deaf=False, delay_s=0.0)
        assert executor.run(echo("y"), timeout_s=2.0) == b"y"
        executor.close()


def test_a_late_reply_is_never_anothers(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.15)
        executor.run(echo("warm"))
        for number in range(3):
            proxy.delay_s = 0.3
            took(lambda text=f"late {number}": executor.run(echo(text)))
            proxy.delay_s = 0.0
            assert executor.run(echo(f"now {number}")) == f"now {number}".encode()
        executor.close()


def test_a_shorter_or_longer_timeout_holds_for_one_call(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.3)
        executor.run(echo("a"))
        proxy.delay_s = 0.5
        assert took(lambda: executor.run(echo("a"), timeout_s=0.1)) < 0.3
        assert executor.run(echo("a"), timeout_s=3.0) == b"a"
        assert took(lambda: executor.run(echo("a"))) < 0.6
        executor.close()


def test_a_signal_handler_that_raises_drops_the_connection(server):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 5.0)
        executor.run(echo("a"))
        proxy.delay_s = 0.2
        main = threading.main_thread().ident
        threading.Timer(0.05, lambda: signal.pthread_kill(main, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            executor.run(echo("interrupted"))
        assert not executor._idle
        assert executor.run(echo("b")) == b"b"
        executor.close()


# once or twice


@pytest.mark.parametrize("fault", [{"delay_s": 0.4}, {"swallow": True}])
def test_what_must_not_be_sent_twice_is_sent_once(server, client, fault):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 0.2)
        executor.run(op(INCR, "n"))
        vars(proxy).update(fault)
        took(lambda: executor.run(op(INCR, "n")))
        assert int(client.get("n")) == 2
        executor.close()


def test_a_connection_lost_before_the_reply(server, client):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 1.0)
        executor.run_batch(Batch([op(INCR, "once"), op(INCR_RETRYABLE, "again"), echo("")]))
        for script, key in ((INCR, "once"), (INCR_RETRYABLE, "again")):
            executor.run(echo("connected"))
            timer = threading.Timer(0.1, lambda: (vars(proxy).update(swallow=False), proxy.cut()))
            proxy.swallow = True
            timer.start()
            if script is INCR:
                with pytest.raises(Unavailable, match="closed the connection"):
                    executor.run(op(script, key))
            else:
                assert executor.run(op(script, key)) == 3
            timer.join()
        assert (int(client.get("once")), int(client.get("again"))) == (2, 3)
        executor.close()


def test_a_connection_lost_in_the_middle_of_a_batch(server, client):
    with fault_proxy(server.path) as proxy:
        executor = executor_for(proxy.url, 1.0)
        executor.run_batch(Batch([op(INCR, "n"), echo("")]))
        proxy.cut_after = len(b":2\r\n:3\r\n:")
        results = executor.run_batch(Batch([op(INCR, "n") for _ in range(6)]))
        assert results[:2] == [2, 3]
        assert all(isinstance(result, Unavailable) for result in results[2:])
        proxy.cut_after = 1
        results = executor.run_batch(Batch([op(INCR_RETRYABLE, "m"), op(INCR_RETRYABLE, "m")]))
        assert results[0] < results[1]
        wait_until(lambda: int(client.get("n") or 0) == 7, "all of the first batch were executed")
        executor.close()


# revive


def test_revive_is_called_before_the_retry_and_may_move_the_address(server, tmp_path):
    calls = []

    def revive() -> None:
        calls.append(1)
        time.sleep(0.4)  # longer than the timeout: starting a server does not count
        endpoint.move_to(f"unix://{server.path}")

    endpoint = Endpoint(f"unix://{tmp_path}/nobody", revive=revive)
    executor = SyncExecutor(endpoint, timeout_s=0.25)
    assert executor.run(op(INCR, "n")) == 1
    assert executor.run(op(INCR, "n")) == 2
    assert calls == [1]
    executor.close()
