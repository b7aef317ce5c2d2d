"""The uses of a near cache's copies, on their way to the server: batches that count once, however often sent."""

from __future__ import annotations

import math
import os
from collections import deque
from contextlib import suppress
from itertools import zip_longest
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from distcache.errors import DistcacheError, StaleConfig, Unavailable
from distcache.op import Op
from distcache.script import Script
from distcache.shared import CacheOps, SharedFlows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from distcache.config import SharedConfig
    from distcache.keys import Keyspace, Partition
    from distcache.near import Near
    from distcache.op import Flow
    from distcache.use_log import UseLog

TOUCHES = Script("near_touches", retryable=True)

CHUNK = 256
"""Entries whose uses one script call takes."""
RIDING = 2 * CHUNK
"""Entries whose uses a call takes along: more would cost it its deadline. The rest is reported on its own."""
REPORTED = 4 * CHUNK
"""Entries whose uses one round trip of a report takes."""
WAIT_S = 0.1
"""How long uses wait, so that those of many calls ride together."""
UNSENT = 64
"""Batches of uses that are kept while the server is away; the oldest are dropped."""
RESENT_S = 50.0
"""For how long a batch may be sent again: the server knows a request for a minute."""


class Touches(Op[bool]):
    """Uses of copies. made_at: on this process's clock; the server knows a repeat for a minute."""

    __slots__ = ("made_at",)

    def __init__(self, part: Partition, uses: Iterable[tuple[bytes, int]]) -> None:
        """`uses`: (entry id, how often), all of the partition, the last used last."""
        values = TOUCHES.bind(part, request=os.urandom(12), touched=[item for use in uses for item in use])
        super().__init__(TOUCHES, values, bool)
        self.made_at = monotonic()


class TouchOps(CacheOps, Protocol):
    """What the ops of a cache that may have a near cache have in common."""

    keyspace: Keyspace

    def touches(self, part: Partition, uses: Iterable[tuple[bytes, int]]) -> Touches:
        """Record reads that near caches answered: (`Copy.use`, how often), all of the partition, the last used last."""


O = TypeVar("O", bound=TouchOps)  # noqa: E741 - the ops of one kind of cache


class Uses:
    """What one near cache has to report, and what may not have arrived."""

    def __init__(self, log: UseLog) -> None:
        self._log = log
        self._unsent: deque[Touches] = deque(maxlen=UNSENT)
        self._sent_at = monotonic()

    @property
    def some(self) -> bool:
        """Whether there is anything to send."""
        return bool(self._log.due or self._unsent)

    def forget(self) -> None:
        """With another config, the entries that were used are no more."""
        self._unsent.clear()

    def take(self, ops: TouchOps, most: int, *, latest: bool = False) -> list[Touches]:
        """Uses of about so many entries that the server does not know of, the oldest or the `latest`.

        They are ops that take effect once, however often they are sent.
        """
        self._sent_at = monotonic()
        touches: list[Touches] = []
        with suppress(IndexError):  # another thread may take the last one
            while self._unsent and len(touches) < most // CHUNK:
                if (op := self._unsent.popleft()).made_at > self._sent_at - RESENT_S:
                    touches.append(op)
        of: dict[Partition, list[tuple[bytes, int]]] = {}
        for use in self._log.take(most - CHUNK * len(touches), latest=latest):
            of.setdefault(ops.keyspace.of(use[0]), []).append(use)
        for part, rows in of.items():
            touches += [ops.touches(part, rows[at : at + CHUNK]) for at in range(0, len(rows), CHUNK)]
        return touches

    @property
    def reports(self) -> int:
        """In how many round trips all that waits now is reported."""
        return -(-(self._log.waiting + CHUNK * len(self._unsent)) // REPORTED)

    def riders(self, ops: TouchOps) -> list[Touches]:
        """What is to ride with the next call, if the last went long enough ago."""
        return self.take(ops, RIDING) if self.some and monotonic() - self._sent_at >= WAIT_S else []

    def ahead(self, ops: TouchOps) -> list[Touches]:
        """What is to arrive ahead of a call that may evict: what was used last."""
        return self.take(ops, RIDING, latest=True) if self.some else []

    def rode(self, sent: Sequence[Op[Any]], results: Sequence[Any]) -> None:
        """Keep the uses that may not have arrived. With another config, the entries that were used are no more."""
        for op, result in zip_longest(sent, results):
            arrived = result is not None and not isinstance(result, DistcacheError)
            if isinstance(op, Touches) and not arrived and not isinstance(result, StaleConfig):
                self._unsent.append(op)


class NearbyFlows(SharedFlows[O]):
    """What the flows of both kinds of cache do about their near cache; stands ahead of the flows proper."""

    near: Near[Any]
    _uses: Uses

    def _make_ops(self, config: SharedConfig, keyspace: Keyspace) -> O:
        self.near.watch(tuple(part.entries for part in keyspace.partitions))
        self._uses.forget()
        return super()._make_ops(config, keyspace)

    def counted(self) -> dict[str, int]:
        """What this object did; near_hits are among the hits."""
        near_hits = self.near.log.hits
        return {**self.counts, "hits": self.counts["hits"] + near_hits, "near_hits": near_hits}

    def _life_s(self, left_ms: int | None) -> float:
        """For how long a copy is true of an entry that lives so long; None: for ever.

        With sliding expiry, the second half of a life is for reads that the server sees in time.
        """
        assert self.config is not None  # noqa: S101 - it has been read from
        return math.inf if left_ms is None else left_ms / (2000 if self.config.sliding else 1000)

    @property
    def _keeps(self) -> int:
        return max(self._uses.reports, super()._keeps)

    def _kept(self, ops: O) -> list[Op[Any]]:
        return [*self._uses.take(ops, REPORTED), *super()._kept(ops)]

    def _riders(self, ops: O) -> list[Op[Any]]:
        return [*self._uses.riders(ops), *super()._riders(ops)]  # they may extend a life that the others end

    def _before_a_change(self, ops: O) -> Sequence[Op[Any]]:
        """Else it would evict what was just used here; what is replaced or removed would not get its uses."""
        return self._uses.ahead(ops)

    def _told(self, ops: O) -> Flow[None]:
        for _ in range(self._uses.reports):
            results = yield from self._carried(self._uses.take(ops, REPORTED), patient=True)
            if any(isinstance(one, Unavailable) for one in results):
                return  # the change itself will say so

    def _rode(self, sent: Sequence[Op[Any]], results: Sequence[Any]) -> None:
        self._uses.rode(sent, results)
