"""The circuit breaker: makes a dead server cost one probe per interval instead of one timeout per call."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Breaker:
    """Opens after `limit` failed operations in a row, lets one probe through per interval, closes on success.

    Any answer of the server is a success, even a refusal. A healthy call reads `closed` and, when it ends, `failures`;
    both are plain attributes, so it takes no lock.
    """

    __slots__ = ("_clock", "_interval_s", "_limit", "_lock", "_next_probe", "closed", "failures")

    def __init__(self, *, limit: int = 3, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        self.closed = True
        self.failures = 0
        self._limit = limit
        self._interval_s = interval_s
        self._clock = clock
        self._next_probe = 0.0
        self._lock = threading.Lock()

    def admit(self) -> bool:
        """Whether this call may be sent."""
        if self.closed:
            return True
        with self._lock:
            now = self._clock()
            if self.closed or now >= self._next_probe:
                self._next_probe = now + self._interval_s
                return True
            return False

    def succeeded(self) -> None:
        """The server answered."""
        if self.failures:
            with self._lock:
                self.failures = 0
                self.closed = True

    def failed(self) -> None:
        """An operation ended without an answer."""
        with self._lock:
            self.failures += 1
            if self.closed and self.failures >= self._limit:
                self.closed = False
                self._next_probe = self._clock() + self._interval_s
