"""What keeps a worker's tasks its own, and finds those that silent workers hold: the heartbeat and the sweep."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.errors import ServerError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from distcache.executor import AsyncExecutor
    from distcache.warmup.flows import QueueFlows
    from distcache.warmup.records import Slip

BEAT_S = 10.0
"""At least so often a worker says that it is there, however long its lease."""
RATE_S = 60.0
"""The span over which a worker's rate is measured."""


class Heart:
    """Beats for one worker.

    held: the tasks that are alive; only their leases are renewed. lost: called with the entries that turn out to be
    another's. counts: what the worker tells of itself.
    """

    def __init__(
        self,
        executor: AsyncExecutor,
        queue: QueueFlows,
        *,
        name: str,
        lease_s: float,
        held: Callable[[], list[Slip]],
        lost: Callable[[set[bytes]], None],
        counts: Callable[[], dict[str, int]],
    ) -> None:
        self.id = os.urandom(8).hex()
        """Names this worker, and no other that ever was, as a consumer of the queue."""
        self.trouble_at = float("-inf")
        """When the server was last found to be away."""
        self._executor = executor
        self._queue = queue
        self._name = name
        self._lease_s = lease_s
        self._held, self._lost, self._counts = held, lost, counts
        self._cursors: dict[int, tuple[bytes, bytes]] = {}
        self._recent: deque[tuple[float, int]] = deque(maxlen=1000)

    async def beat(self) -> None:
        """For ever: leases of living tasks begin anew, and others see that this worker is there."""
        while True:
            with suppress(Unavailable, ServerError):
                if lost := await self._executor.drive(self._queue.renew(self.id, self._held())):
                    self._lost(lost)
                await self._executor.drive(self._queue.beat(self.id, round(3000 * self._interval_s), self._record()))
            await asyncio.sleep(self._interval_s)

    async def sweep(self) -> None:
        """For ever: look after others' tasks, at a quarter of the lease, jittered so that not all look at once."""
        while True:
            await asyncio.sleep(self._lease_s / 4 * (0.5 + random.random()))  # noqa: S311 - jitter
            # After an outage, in which nobody could renew, everyone has a lease's time to do so.
            if monotonic() - self.trouble_at > self._lease_s:
                with suppress(Unavailable, ServerError):
                    flow = self._queue.sweep(self.id, round(self._lease_s * 1000), self._cursors)
                    await self._executor.drive(flow)

    async def stop(self) -> None:
        """Give back what is held, and say goodbye. Raises what the server does."""
        await self._executor.drive(self._queue.handback(self.id))
        await self._executor.drive(self._queue.beat(self.id, 0, {}))

    @property
    def _interval_s(self) -> float:
        return min(self._lease_s / 3, BEAT_S)

    def _record(self) -> dict[str, Any]:
        counts, now = self._counts(), monotonic()
        self._recent.append((now, counts["done"]))
        while now - self._recent[0][0] > RATE_S:
            self._recent.popleft()
        since, before = self._recent[0]
        rate = (counts["done"] - before) / max(now - since, 1.0)
        host, pid = socket.gethostname(), os.getpid()
        return {"name": self._name, "host": host, "pid": pid, "rate": f"{rate:.3f}", **counts}
