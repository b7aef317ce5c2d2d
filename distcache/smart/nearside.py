"""The part of SmartCache's two twins that keeps a near cache true, and asks it; `get` does so in its first lines."""

from __future__ import annotations

import asyncio
import math
from time import monotonic
from typing import TYPE_CHECKING, Unpack

from distcache.executor.tracking import AsyncTracking, Tracking
from distcache.smart.flying import AsyncFlying, Flying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.executor.endpoint import Endpoint
    from distcache.near import Near
    from distcache.smart.single_flight import FlightOptions

    Output = str | bytes

BREATH_S = 0.001
"""How long a task may be answered by its near cache before the event loop gets a turn."""


class Nearside(Flying):
    """The blocking half."""

    _near: Near | None
    _tracking: Tracking | None

    def _prepare_near(self, near: Near | None, endpoint: Endpoint) -> None:
        self._near = near
        self._tracking = Tracking(near, endpoint) if near else None

    def _track(self) -> None:
        """See to it that changes are reported: at the start, after close(), in a child process."""
        if self._tracking is not None:
            self._tracking.start(self.flush)

    def get_or_compute(
        self, key: str, compute: Callable[[], Output], content_hash: str = "", **options: Unpack[FlightOptions]
    ) -> Output:
        """The output of a key; on a miss compute() makes it, called by one caller in the whole fleet. See `Flying`.

        With early_refresh the server is asked each time: it knows how much life is left.
        """
        if self._near is not None and not options.get("early_refresh"):
            output = self._near.get(key, content_hash)
            if output is not None:
                return output
            self._track()
        return super().get_or_compute(key, compute, content_hash, **options)

    def close(self) -> None:
        """Flush, and let connections and an embedded server go. The object can be used again, and then reconnects."""
        super().close()
        if self._tracking is not None:
            self._tracking.stop()


class AsyncNearside(AsyncFlying):
    """The asyncio half."""

    _near: Near | None
    _tracking: AsyncTracking | None
    _breathe_at: float

    def _prepare_near(self, near: Near | None, endpoint: Endpoint) -> None:
        self._near = near
        self._tracking = AsyncTracking(near, endpoint) if near else None
        self._breathe_at = -math.inf

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Output | Awaitable[Output]],
        content_hash: str = "",
        **options: Unpack[FlightOptions],
    ) -> Output:
        """See Nearside.get_or_compute."""
        if self._near is not None and not options.get("early_refresh"):
            output = self._near.get(key, content_hash)
            if self._near.asked_at >= self._breathe_at:
                await self._breathe()
            if output is not None:
                return output
        return await super().get_or_compute(key, compute, content_hash, **options)

    async def _breathe(self) -> None:
        """See to it that changes are reported, and give the event loop a turn.

        An answer of the near cache awaits nothing: who asks in a loop would keep the reports from being read.
        """
        self._breathe_at = monotonic() + BREATH_S
        if self._tracking is not None:
            await self._tracking.start(self.flush)
        await asyncio.sleep(0)

    async def aclose(self) -> None:
        """See SmartCache.close."""
        await super().aclose()
        if self._tracking is not None:
            await self._tracking.stop()
            self._breathe_at = -math.inf
