"""The part of both caches' twins that keeps a near cache true; their `get` asks it in its first lines."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.client import AsyncClient, SyncClient
from distcache.executor.tracking import AsyncTracking, Tracking

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.executor.endpoint import Endpoint
    from distcache.near import Near

BREATH_S = 0.001
"""How long a task may be answered by its near cache before the event loop gets a turn."""


class Tracked(SyncClient):
    """The blocking half."""

    _tracking: Tracking | None

    def _prepare_tracking(self, near: Near[Any] | None, endpoint: Endpoint) -> None:
        self._tracking = Tracking(near, endpoint) if near else None

    def _report(self) -> Callable[[], object]:
        """What is called now and then to send the uses of copies: a bound method, of what lives as long as they do."""
        return self.flush

    def _track(self) -> None:
        """See to it that changes are reported: at the start, after close(), in a child process."""
        if self._tracking is not None:
            self._tracking.start(self._report())

    def close(self) -> None:
        """Flush, and let connections and an embedded server go. The object can be used again, and then reconnects."""
        try:
            if self._tracking is not None:
                self._tracking.stop()  # first: later, a report would connect again and revive an embedded server
        finally:
            super().close()


class AsyncTracked(AsyncClient):
    """The asyncio half."""

    _tracking: AsyncTracking | None
    _breathe_at: float

    def _prepare_tracking(self, near: Near[Any] | None, endpoint: Endpoint) -> None:
        self._tracking = AsyncTracking(near, endpoint) if near else None
        self._breathe_at = -math.inf

    def _report(self) -> Callable[[], Awaitable[object]]:
        """See Tracked."""
        return self.flush

    async def _breathe(self) -> None:
        """See to it that changes are reported, and give the event loop a turn.

        An answer of the near cache awaits nothing: who asks in a loop would keep the reports from being read.
        """
        self._breathe_at = monotonic() + BREATH_S
        if self._tracking is not None:
            await self._tracking.start(self._report())
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        """See Tracked.close."""
        try:
            if self._tracking is not None:
                await self._tracking.stop()
                self._breathe_at = -math.inf
        finally:
            await super().aclose()
