"""The part of SmartCache's two twins that asks a near cache before it computes; `get` does so in its first lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from distcache.nearside import AsyncTracked, Tracked
from distcache.smart.flying import AsyncFlying, Flying

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.near import Near
    from distcache.smart.single_flight import FlightOptions

    Output = str | bytes


class Nearside(Tracked, Flying):
    """The blocking half."""

    _near: Near[Output] | None

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


class AsyncNearside(AsyncTracked, AsyncFlying):
    """The asyncio half."""

    _near: Near[Output] | None

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
