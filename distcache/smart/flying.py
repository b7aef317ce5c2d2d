"""The part of SmartCache's two twins that computes what is missing. One line a method, as there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar, Unpack

from distcache.client import AsyncClient, SyncClient
from distcache.executor.notices import AsyncNotices, Notices
from distcache.executor.pulse import Pulse
from distcache.smart.memoize import AsyncMemoized, Memoized, Recipe
from distcache.smart.pilot import fly, fly_async
from distcache.smart.single_flight import FlightOptions, SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.smart.flows import SmartFlows

    Output = str | bytes

P = ParamSpec("P")
R = TypeVar("R", bound="str | bytes")


class Flying(SyncClient):
    """The blocking half."""

    def _prepare_flights(self, flows: SmartFlows) -> None:
        self._flights = SingleFlight(flows)
        self._notices = Notices(self._executor)
        self._pulse = Pulse()

    def get_or_compute(
        self, key: str, compute: Callable[[], Output], content_hash: str = "", **options: Unpack[FlightOptions]
    ) -> Output:
        """The output of a key; on a miss compute() makes it, called by one caller in the whole fleet.

        The others wait for it, and one of them takes over when that caller fails or dies. After wait_s, with the
        server down, or read_only, compute() is called without asking anyone; what it returns is then stored only if
        the one it waited for has died. What is invalidated meanwhile is returned, and not stored. An exception of
        compute() is its own caller's. A value too large to store is returned all the same. WaitsForItself when
        compute() asks for its own key. options: see `FlightOptions`.
        """
        flight = self._flights.fly(key, content_hash, options)
        return fly(flight, compute, self._run, self._notices, self._pulse)

    def memoize(
        self, key: Callable[..., str] | None = None, *, version: str = "", **options: Unpack[FlightOptions]
    ) -> Callable[[Callable[P, R]], Memoized[P, R]]:
        """Decorate a function whose str or bytes are to be kept: `@cache.memoize()`. See `Memoized`.

        key: makes the key out of the arguments; left out, it is made of the function's name and its arguments, which
        must then be plain values. version: to be changed with what the function does. options: see `FlightOptions`.
        """
        return lambda function: Memoized(self, Recipe(function, key, version, options))  # type: ignore[arg-type] # of which this is a part


class AsyncFlying(AsyncClient):
    """The asyncio half."""

    def _prepare_flights(self, flows: SmartFlows) -> None:
        self._flights = SingleFlight(flows)
        self._notices = AsyncNotices(self._executor)

    async def get_or_compute(
        self,
        key: str,
        compute: Callable[[], Output | Awaitable[Output]],
        content_hash: str = "",
        **options: Unpack[FlightOptions],
    ) -> Output:
        """See SmartCache.get_or_compute; compute is a coroutine function, or a function that is called in a thread."""
        flight = self._flights.fly(key, content_hash, options)
        return await fly_async(flight, compute, self._run, self._notices)

    def memoize(
        self, key: Callable[..., str] | None = None, *, version: str = "", **options: Unpack[FlightOptions]
    ) -> Callable[[Callable[P, Awaitable[R]] | Callable[P, R]], AsyncMemoized[P, R]]:
        """See SmartCache.memoize; the decorated function is to be awaited."""
        return lambda function: AsyncMemoized(self, Recipe(function, key, version, options))  # type: ignore[arg-type] # of which this is a part
