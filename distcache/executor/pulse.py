"""Renews what is held, from one daemon thread that starts with the first and ends when nothing was held for a while.

One thread for all: starting one takes longer than many a compute that a lease is taken for.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING

from distcache.errors import DistcacheError
from distcache.executor.fork import tell

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S = 1.0
"""How long the thread outlives what it was started for."""


class Beat:
    """One thing that is held. renew: returns False when it is lost, and is not called again then."""

    __slots__ = ("due", "every_s", "renew")

    def __init__(self, renew: Callable[[], bool], every_s: float) -> None:
        self.renew = renew
        self.every_s = every_s
        self.due = monotonic() + every_s


class Pulse:
    """Everything that one client holds."""

    def __init__(self) -> None:
        self.forked()
        tell(self)

    def forked(self) -> None:
        """In a child process: the thread is not there, and a lock may have been held."""
        self._changed = threading.Condition()
        self._held: set[Beat] = set()
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def hold(self, renew: Callable[[], bool], every_s: float) -> Beat:
        """Call renew every so often, until `drop`."""
        beat = Beat(renew, every_s)
        with self._changed:
            self._held.add(beat)
            if self._thread is None:
                self._start()
            elif beat.due < self._wakes_at:
                self._changed.notify()
        return beat

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="distcache-pulse", daemon=True)
        with suppress(RuntimeError):  # no more threads, or the interpreter ends: then it is held as long as it is
            thread.start()
            self._thread = thread

    def drop(self, beat: Beat) -> None:
        """Renew it no more; a renewal that is under way is not waited for."""
        with self._changed:
            self._held.discard(beat)

    def _run(self) -> None:
        while due := self._wait():
            for beat in due:
                with suppress(DistcacheError):  # at the next turn, perhaps
                    if not beat.renew():
                        self.drop(beat)
                beat.due = monotonic() + beat.every_s

    def _wait(self) -> list[Beat]:
        """What is due next; nothing when nothing is held any more."""
        with self._changed:
            idle = False
            while True:
                now = monotonic()
                if due := [beat for beat in self._held if beat.due <= now]:
                    return due
                if idle and not self._held:
                    self._thread = None
                    return []
                self._wakes_at = min((beat.due for beat in self._held), default=now + IDLE_S)
                idle = not self._changed.wait(self._wakes_at - now)
