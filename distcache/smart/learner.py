"""Which key came after which, kept per task until there is enough of it to send."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from distcache.smart.likely import PRIOR

if TYPE_CHECKING:
    from collections.abc import Callable

_serials = count()
_NOTHING: tuple[int, tuple[bytes, ...], int] = (-1, (), 0)
_last: ContextVar[_Sequences] = ContextVar("distcache_last_keys")

BATCH = 32
"""Steps from key to key that ride together: with the next `get` or `put`, once there are so many."""
KEPT = 4096
"""Steps kept while no call takes them along: the server is away, or all are bulk calls. The oldest are dropped."""
BURST, A_SECOND, PAUSE = 1024, 512, 64
"""So many steps are learned from, however fast they come, and beyond them so many a second, so many at a time: to learn
from a step costs the server half of what a hit does, and keys that are asked for faster are there already."""
SHOWN = 256
"""Steps of a near cache that are learned from, of those between two reports."""
REACH = 4
"""A key has come soon after another if at most so many steps lie between them."""


class _Sequences:
    """The last keys that one task asked for.

    of: by the learner's number, the stretch; the keys, the latest first; and how many of them the next one is a
    successor of, which those before a step that could not be afforded are not.
    """

    __slots__ = ("of", "owner")

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.of: dict[int, tuple[int, tuple[bytes, ...], int]] = {}


class Learner:
    """Collects the steps from key to key that are made through one cache object.

    A sequence belongs to the task (or thread) that makes it: what another task asked for in between is no successor.
    A task inherits its parent's context, so the owner is remembered with the key, and an inherited one starts nothing.

    A near cache answers faster than is worth learning from. When it has shown `SHOWN` steps, all sequences break off
    until the steps are taken, but for a rest that is not due: a sample of whole stretches, so that what is learned of
    each is true.
    """

    def __init__(self, owner: Callable[[], int]) -> None:
        self._serial = next(_serials)
        self._owner = owner
        self._steps: deque[tuple[bytes, tuple[bytes, ...]]] = deque(maxlen=KEPT)
        self._shown = 0
        self._stretch = 0
        self._affordable = BURST
        self._since = monotonic()

    def saw(self, key: bytes) -> None:
        """The current task asked for this key, or put it."""
        if self._shown >= SHOWN:
            return
        sequences, owner = _last.get(None), self._owner()
        if sequences is None or sequences.owner != owner:
            sequences = _Sequences(owner)
            _last.set(sequences)
        stretch, recent, known = sequences.of.get(self._serial, _NOTHING)
        if stretch != self._stretch:
            recent, known = (), 0
        elif recent[0] == key:
            return
        elif self._affordable > 0 or self._afford():
            self._affordable -= 1
            self._steps.append((key, recent[:known]))
        else:
            known = 0
        sequences.of[self._serial] = self._stretch, (key, *recent[: REACH - 1]), min(known + 1, REACH)

    def _afford(self) -> bool:
        """What time has brought since the last time that this was asked."""
        now = monotonic()
        gained = int((now - self._since) * A_SECOND)
        if gained < PAUSE:
            return False
        self._affordable, self._since = min(gained, BURST), now
        return True

    def saw_near(self, key: bytes) -> bool:
        """The same, for a key that the near cache answered; whether it is to go on telling."""
        self.saw(key)
        self._shown += 1
        return self._shown < SHOWN

    def recent(self) -> tuple[bytes, ...]:
        """The last keys of the current task, the latest first."""
        if self._shown >= SHOWN:
            return ()
        sequences = _last.get(None)
        if sequences is None or sequences.owner != self._owner():
            return ()
        stretch, recent, _known = sequences.of.get(self._serial, _NOTHING)
        return recent if stretch == self._stretch else ()

    @property
    def waiting(self) -> int:
        """How many steps there are to send."""
        return len(self._steps)

    def unsent_shares(self, key: bytes) -> dict[bytes, float]:
        """What came next after a key, among the steps that the server does not know yet, each with its share."""
        counts: dict[bytes, int] = {}
        for after, before in self._steps.copy():
            if before[:1] == (key,):
                counts[after] = counts.get(after, 0) + 1
        total = sum(counts.values()) + PRIOR
        return {after: count / total for after, count in counts.items()}

    @property
    def due(self) -> bool:
        """Whether there is enough to be worth sending along."""
        return len(self._steps) >= BATCH

    def take(self, most: int = KEPT) -> list[tuple[bytes, tuple[bytes, ...]]]:
        """The oldest steps, each a key and those before it, the latest first; they are the caller's to send."""
        steps: list[tuple[bytes, tuple[bytes, ...]]] = []
        with suppress(IndexError):  # another thread may take the last one
            while self._steps and len(steps) < most:
                steps.append(self._steps.popleft())
        if not self.due:
            if self._shown >= SHOWN:
                self._stretch += 1
            self._shown = 0
        return steps

    def forked(self) -> None:
        """In a child process: the steps are the parent's to send, and what comes next is no successor of theirs."""
        self._steps.clear()
        self._stretch += 1
        self._shown = 0
