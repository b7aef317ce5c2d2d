"""What tests of single flight compute, and callers in the background."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from distcache.keys import Partition, key_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from distcache import SmartCache

PART = Partition("smart", 0)
ENTRY = PART.entry(key_id(b"key"))
LEASE = PART.leases + key_id(b"key")


class Fault(Exception):  # noqa: N818 - as the library names its own
    """What a compute of these tests raises."""


class Counted:
    """A compute that counts its calls. do: called each time, before it returns the value."""

    def __init__(self, value: Any = "value", do: Callable[[], object] = lambda: None) -> None:
        self.value = value
        self.do = do
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        self.do()
        return self.value


def fail():
    raise Fault


def let_lapse(backend):
    """The lease has run out, as if its holder had been frozen."""
    assert backend.client.hset(LEASE, "x", 1) == 0


class Background:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result, self._error = self._call(), None
        except Exception as error:  # noqa: BLE001 - the caller's
            self._result, self._error = None, error

    def result(self) -> Any:
        self._thread.join(30)
        assert not self._thread.is_alive()
        if self._error is not None:
            raise self._error
        return self._result


class Holder:
    """Computes the key in the background until it is let go."""

    def __init__(self, cache: SmartCache, end: Callable[[], Any] = lambda: "held", **options: Any) -> None:
        self._go, computing = threading.Event(), threading.Event()

        def compute() -> Any:
            computing.set()
            assert self._go.wait(30)
            return end()

        self._work = Background(lambda: cache.get_or_compute("key", compute, **options))
        assert computing.wait(30)

    def finish(self) -> Any:
        self._go.set()
        return self._work.result()


def has_waiters(backend) -> Callable[[], bool]:
    return lambda: backend.client.hexists(LEASE, "w")
