"""Busy polling: how long a caller looks for its reply awake, before it sleeps until the kernel wakes it.

To wake a process takes longer than a script does. So a caller whose server is on the same machine, and answers soon,
looks again and again for a while; between two looks it lets others run (sched_yield), the server first of all.
"""

from __future__ import annotations

import os
from time import monotonic

LOCAL_US = 1000
"""How long by default, for a server on this machine; for others not at all, no network is faster for being watched."""
AWAY_S = 0.001
"""Who lets others run and is away for longer is on a busy machine, where to sleep is better for all."""
REST = 20
"""After a look in vain, calls sleep for so many times what it took: no more than a twentieth is ever lost."""


def limit_s(asked_us: int | None, *, local: bool) -> float:
    """How long to look: what was asked for; else LOCAL_US if the server is local and need not wait for our core."""
    if asked_us is None:
        asked_us = LOCAL_US if local and _cores() > 1 else 0
    return asked_us / 1_000_000


def _cores() -> int:
    """How many this process may use; macOS does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class BusyPoll:
    """Decides for one connection, which one caller at a time waits on."""

    __slots__ = ("_began", "_last", "_limit_s", "_rests_until")

    def __init__(self, limit_s: float) -> None:
        """limit_s: how long to look at most; 0 for not at all."""
        self._limit_s = limit_s
        self._began = self._last = 0.0
        self._rests_until = 0.0 if limit_s > 0 else float("inf")

    def begins(self) -> bool:
        """A request was sent: whether to look for its reply."""
        self._began = self._last = now = monotonic()
        return now >= self._rests_until

    def goes_on(self) -> bool:
        """Others have run since the last look: whether it pays to look again, if the reply is not there."""
        now = monotonic()
        if now - self._began < self._limit_s and now - self._last < AWAY_S:
            self._last = now
            return True
        self._rests_until = now + REST * (now - self._began)
        return False
