"""The uses of a near cache's copies, on their way to the server: how often each, and the last used last. Pure."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT = 1 << 16
"""Entries whose uses are kept while they cannot be reported; the longest unused are forgotten."""
_LOGGED = 4096
_USE = attrgetter("use")


class Used(Protocol):
    """What is handed out. name: the key, which is learned from. use: what its uses are reported under."""

    name: bytes
    use: bytes


class UseLog:
    """What was handed out and not reported yet. Thread-safe; `add` takes no lock but for once in `_LOGGED` uses."""

    def __init__(self, saw: Callable[[bytes], bool], lock: Callable[[], Any], *, counts: bool) -> None:
        """`saw`: is told which key was asked for, and says whether it will hear more before the next `take`.

        `lock`: makes one. `counts`: uses are reported.
        """
        self._saw = saw
        self._new_lock = lock
        self._counts = counts
        self._reset()

    def _reset(self) -> None:
        self._log: deque[Used] = deque()
        self._learning = self._counts
        self._digesting = self._new_lock()
        self._uses: dict[bytes, int] = {}
        self._hits = 0

    def add(self, copy: Used) -> None:
        """This copy is handed out."""
        log = self._log
        log.append(copy)
        if self._learning and not self._saw(copy.name):
            self._learning = False
        if len(log) >= _LOGGED:
            self._digest()

    @property
    def hits(self) -> int:
        """How many reads were answered by copies."""
        return self._hits + len(self._log)

    @property
    def due(self) -> bool:
        """Whether there is a use to report."""
        return bool(self._log or self._uses)

    @property
    def waiting(self) -> int:
        """How many entries have uses to report."""
        self._digest(wait=True)
        return len(self._uses)

    def take(self, most: int = KEPT, *, latest: bool = False) -> list[tuple[bytes, int]]:
        """Uses of at most so many entries: (what they are reported under, how often), the last used last.

        The oldest, or the `latest`; what stays is summed up with what comes.
        """
        self._digest(wait=True)
        with self._digesting:
            names = reversed(self._uses) if latest else iter(self._uses)
            taken = list(islice(names, most))
            if latest:
                taken.reverse()
            uses = [(name, self._uses.pop(name)) for name in taken]
        self._learning = self._counts
        return uses

    def forked(self) -> None:
        """In a child process: the uses are the parent's to report, and the lock may be held."""
        self._reset()

    def _digest(self, *, wait: bool = False) -> None:
        """Sum the log up; another thread that is at it does so for all."""
        if not self._digesting.acquire(blocking=wait):
            return
        try:
            pop = self._log.popleft
            uses = [pop() for _ in range(len(self._log))]
            self._hits += len(uses)
            if self._counts:
                self._sum(uses)
        finally:
            self._digesting.release()

    def _sum(self, uses: list[Used]) -> None:
        times = Counter(map(_USE, reversed(uses)))  # the last used first
        for use in reversed(times):
            self._uses[use] = self._uses.pop(use, 0) + times[use]
        while len(self._uses) > KEPT:
            del self._uses[next(iter(self._uses))]
