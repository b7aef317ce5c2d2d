"""Decides what to queue ahead of need: likely next keys, and entries that will expire soon. Does no I/O.

A read carries a question along at most 20 times a second: what came after the last keys? What is likely and has not
been asked for lately is queued, within a budget. So the usual read costs one look at the clock.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError
from distcache.keys import raw, unraw
from distcache.smart import likely

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from distcache.op import Op
    from distcache.smart.learner import Learner
    from distcache.smart.ops import SmartOps
    from distcache.smart.records import Found
    from distcache.warmup.flows import QueueFlows

ASK_EVERY_S = 0.05
LIKELY = 0.3
"""The least chance of a key that is worth a task."""
TASKS_PER_S = 20.0
"""What one client queues at most; as much at once."""
FORGET_S = 10.0
"""A key that was looked at is not looked at again for so long."""
REMEMBERED = 4096
MOST = 8
"""Likeliest keys looked at, of each of the last ones."""


class Ahead:
    """The foresight of one cache object.

    refresh: the part of the time to live below which an entry is made anew. guard: held for moments while the budget
    is counted; a lock where several threads share the object.
    """

    def __init__(
        self,
        queue: QueueFlows,
        learner: Learner,
        *,
        refresh: float,
        guard: AbstractContextManager[Any],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._queue = queue
        self._learner = learner
        self._refresh = refresh
        self._clock = clock
        self._next = float("-inf")
        self._budget, self._counted = TASKS_PER_S, clock()
        self._seen: OrderedDict[tuple[bytes, bytes], float] = OrderedDict()
        self._guard = guard

    def recent(self) -> tuple[bytes, ...]:
        """The keys to ask about along with a read: none, most of the time."""
        now = self._clock()
        if now < self._next:
            return ()
        self._next = now + ASK_EVERY_S
        return self._learner.recent()

    def questions(self, ops: SmartOps, recent: tuple[bytes, ...]) -> list[Op[Any]]:
        """What came next after the latest of these keys, and soon after the others."""
        return [ops.predict(key, MOST, soon=gap > 0) for gap, key in enumerate(recent)]

    def tasks(self, ops: SmartOps, recent: tuple[bytes, ...], answers: Sequence[Any]) -> list[Op[Any]]:
        """What to queue, given the answers."""
        if not answers or any(isinstance(answer, DistcacheError) for answer in answers):
            return []
        shares = [dict(answer) for answer in answers]
        for key, share in self._learner.unsent_shares(recent[0]).items():
            name = unraw(key)
            shares[0][name] = max(share, shares[0].get(name, 0.0))
        names = [unraw(key) for key in recent]
        chances = likely.chances(names, shares)
        queue = self._queue.ops(ops)
        return [
            queue.add(raw(key), b"", b"", "predicted", details=b"predicted from " + recent[0])
            for key in sorted(chances, key=lambda key: -chances[key])
            if chances[key] >= LIKELY and self._worth_it(raw(key), b"")
        ]

    def is_old(self, found: Found) -> bool:
        """Whether an entry that was read will expire soon."""
        return found.left_ms is not None and found.left_ms < self._refresh * found.ttl_ms

    def refreshes(self, ops: SmartOps, name: bytes, found: Found) -> list[Op[Any]]:
        """What to queue for such an entry."""
        if not self._worth_it(name, found.content_hash):
            return []
        return [self._queue.ops(ops).add(name, found.content_hash, b"", "refresh")]

    def _worth_it(self, name: bytes, content_hash: bytes) -> bool:
        """Whether it was not looked at just now, and the budget allows it."""
        with self._guard:
            return self._admit(name, content_hash, self._clock())

    def _admit(self, name: bytes, content_hash: bytes, now: float) -> bool:
        while self._seen and (len(self._seen) > REMEMBERED or now - next(iter(self._seen.values())) > FORGET_S):
            self._seen.popitem(last=False)
        self._budget = min(TASKS_PER_S, self._budget + (now - self._counted) * TASKS_PER_S)
        self._counted = now
        if (name, content_hash) in self._seen or self._budget < 1:
            return False
        self._seen[name, content_hash] = now
        self._budget -= 1
        return True
