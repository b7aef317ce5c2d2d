"""Drives a flight: runs its flows, waits, and calls the user's function, in the blocking and in the asyncio way."""

from __future__ import annotations

import asyncio
import inspect
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distcache.executor.periodic import AsyncPeriodic
from distcache.smart.single_flight import Ask, Compute, Wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.executor.notices import AsyncNotices, Notices
    from distcache.executor.pulse import Pulse
    from distcache.op import Flow
    from distcache.smart.single_flight import Flight

    Output = str | bytes
    Run = Callable[..., Any]
    """Runs a flow, as SyncClient._run does."""
    AsyncRun = Callable[..., Awaitable[Any]]


class Heart:
    """Renews a lease in a task of its own, until it is lost or stopped."""

    def __init__(self, run: AsyncRun, renew: Callable[[], Flow[bool]]) -> None:
        self._run = run
        self._renew = renew
        self._periodic = AsyncPeriodic()
        self._lost = False

    async def start(self, every_s: float) -> None:
        """Beat from now on, for the first time after the interval."""
        await self._periodic.start(self.beat, every_s)

    async def beat(self) -> None:
        """Renew once. A server that does not answer may at the next beat."""
        if not self._lost:
            self._lost = not await self._run(self._renew(), default=True, lenient=True)

    async def stop(self) -> None:
        """Beat no more."""
        await self._periodic.stop()


def fly(flight: Flight, compute: Callable[[], Any], run: Run, notices: Notices, pulse: Pulse) -> Output:
    """The flight's output. run: the client's own, which turns failures into defaults."""
    try:
        step = next(flight)
        while True:
            try:
                if isinstance(step, Ask):
                    result = run(step.flow, step.default, lenient=step.lenient)
                elif isinstance(step, Wait):
                    held = step.held
                    result = None
                    notices.wait(held.stream, held.seen, step.flight, held.streams, step.wait_s)
                else:
                    result = _computed(step, compute, run, pulse)
            except BaseException as error:  # noqa: BLE001 - the flight decides
                step = flight.throw(error)
            else:
                step = flight.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # the flight's own
    finally:
        flight.close()


def _computed(step: Compute, compute: Callable[[], Any], run: Run, pulse: Pulse) -> tuple[Any, float]:
    renew, beat = step.renew, None
    if renew is not None:
        beat = pulse.hold(lambda: run(renew(), default=True, lenient=True), step.every_s)
    began = perf_counter()
    try:
        return compute(), (perf_counter() - began) * 1000
    finally:
        if beat is not None:
            pulse.drop(beat)


async def fly_async(flight: Flight, compute: Callable[[], Any], run: AsyncRun, notices: AsyncNotices) -> Output:
    """The flight's output; `compute` is a coroutine function, or a function that is called in a thread."""
    try:
        step = next(flight)
        while True:
            try:
                if isinstance(step, Ask):
                    result = await run(step.flow, step.default, lenient=step.lenient)
                elif isinstance(step, Wait):
                    held = step.held
                    result = None
                    await notices.wait(held.stream, held.seen, step.flight, held.streams, step.wait_s)
                else:
                    result = await _computed_async(step, compute, run)
            except BaseException as error:  # noqa: BLE001 - the flight decides
                step = flight.throw(error)
            else:
                step = flight.send(result)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return] # the flight's own
    finally:
        flight.close()


async def _computed_async(step: Compute, compute: Callable[[], Any], run: AsyncRun) -> tuple[Any, float]:
    heart = None
    if step.renew is not None:
        heart = Heart(run, step.renew)
        await heart.start(step.every_s)
    began = perf_counter()
    try:
        return await _called(compute), (perf_counter() - began) * 1000
    finally:
        if heart is not None:
            await heart.stop()


async def _called(compute: Callable[[], Any]) -> Any:
    if inspect.iscoroutinefunction(compute):
        return await compute()
    result: Any | Awaitable[Any] = await asyncio.to_thread(compute)
    return await result if inspect.isawaitable(result) else result
