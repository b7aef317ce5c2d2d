"""Which key came after which, kept per task until there is enough of it to send."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_serials = count()
_last: ContextVar[dict[int, tuple[int, tuple[bytes, ...]]]] = ContextVar("distcache_last_keys")

BATCH = 32
"""Steps from key to key that ride together with the next call."""
KEPT = 4096
"""Steps kept while the server is away; the oldest are dropped."""
REACH = 4
"""A key has come soon after another if at most so many steps lie between them."""


class Lesson(NamedTuple):
    """One key came after another: next, or soon after."""

    key: bytes
    successor: bytes
    is_next: bool = True


class Learner:
    """Collects the steps from key to key that are made through one cache object.

    A sequence belongs to the task (or thread) that makes it: what another task asked for in between is no successor.
    A task inherits its parent's context, so the owner is remembered with the key, and an inherited one starts nothing.
    """

    def __init__(self, owner: Callable[[], int]) -> None:
        self._serial = next(_serials)
        self._owner = owner
        self._steps: deque[tuple[bytes, tuple[bytes, ...]]] = deque(maxlen=KEPT)

    def saw(self, key: bytes) -> None:
        """The current task asked for this key, or put it."""
        owner = self._owner()
        lasts = _last.get({})
        before = lasts.get(self._serial)
        recent: tuple[bytes, ...] = ()
        if before is not None and before[0] == owner:
            recent = before[1]
            if recent[0] == key:
                return
            self._steps.append((key, recent))
        _last.set({**lasts, self._serial: (owner, (key, *recent[: REACH - 1]))})

    def recent(self) -> tuple[bytes, ...]:
        """The last keys of the current task, the latest first."""
        owner, keys = _last.get({}).get(self._serial, (None, ()))
        return keys if owner == self._owner() else ()

    @property
    def due(self) -> bool:
        """Whether there is enough to be worth sending along."""
        return len(self._steps) >= BATCH

    def take(self) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """All steps so far, each a key and those before it, the latest first; they are the caller's to send."""
        steps = []
        while self._steps:
            try:
                steps.append(self._steps.popleft())
            except IndexError:  # another thread took the last one
                break
        return steps


def lessons_of(steps: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> Iterator[Lesson]:
    """What the steps teach. A key teaches nothing about itself."""
    for key, before in steps:
        for gap, other in enumerate(before):
            if other != key:
                yield Lesson(other, key, gap == 0)
