"""Which key came after which, kept per task until there is enough of it to send."""

from __future__ import annotations

from collections import deque
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_serials = count()
_last: ContextVar[dict[int, tuple[int, bytes]]] = ContextVar("distcache_last_key")

BATCH = 32
"""Pairs that ride together with the next call."""
KEPT = 4096
"""Pairs kept while the server is away; the oldest are dropped."""


class Learner:
    """Collects pairs (key, next key) of one cache object.

    A sequence belongs to the task (or thread) that makes it: what another task asked for in between is no successor.
    A task inherits its parent's context, so the owner is remembered with the key, and an inherited one starts nothing.
    """

    def __init__(self, owner: Callable[[], int]) -> None:
        self._serial = next(_serials)
        self._owner = owner
        self._pairs: deque[tuple[bytes, bytes]] = deque(maxlen=KEPT)

    def saw(self, key: bytes) -> None:
        """The current task asked for this key, or put it."""
        owner = self._owner()
        lasts = _last.get({})
        before = lasts.get(self._serial)
        if before is not None and before[0] == owner:
            if before[1] == key:
                return
            self._pairs.append((before[1], key))
        _last.set({**lasts, self._serial: (owner, key)})

    @property
    def due(self) -> bool:
        """Whether there is enough to be worth sending along."""
        return len(self._pairs) >= BATCH

    def take(self) -> list[tuple[bytes, bytes]]:
        """All pairs so far; they are the caller's to send."""
        pairs = []
        while self._pairs:
            try:
                pairs.append(self._pairs.popleft())
            except IndexError:  # another thread took the last one
                break
        return pairs
