"""Calls a method now and then, in a thread or a task that keeps alive neither the program nor the method's object."""

from __future__ import annotations

import asyncio
import math
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from weakref import WeakMethod, finalize

from distcache.errors import ConfigError, DistcacheError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Periodic:
    """One daemon thread at a time. A call that fails with an error of distcache is made again at the next turn."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, method: Callable[[], object], interval_s: float) -> None:
        """Call a bound method every `interval_s`, in place of what was started before."""
        wait_s = checked_interval(interval_s)
        self.stop()
        stop = self._stop = threading.Event()
        finalize(method.__self__, stop.set)  # type: ignore[attr-defined] # a bound method's object
        work = (WeakMethod(method), stop, wait_s)
        self._thread = threading.Thread(target=_repeat, args=work, name="distcache-periodic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; a call that is running is not waited for."""
        self._stop.set()

    def end(self) -> None:
        """End it, and wait until it has ended."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()


class AsyncPeriodic:
    """One task at a time, on the loop that started it."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def start(self, method: Callable[[], Awaitable[object]], interval_s: float) -> None:
        """Await a bound method every `interval_s`, in place of what was started before."""
        work = _repeat_async(WeakMethod(method), checked_interval(interval_s))
        before, self._task = self._task, asyncio.create_task(work, name="distcache-periodic")
        await _end(before)

    async def stop(self) -> None:
        """End it, and wait until it has ended; a task of another loop ends at the next turn of that."""
        before, self._task = self._task, None
        await _end(before)


async def _end(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        cancel(task)
        if task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])


def cancel(task: asyncio.Task[None]) -> None:
    """Cancel a task of whichever loop, from whichever thread."""
    with suppress(RuntimeError):  # its loop is closed, and so is all that the task had
        task.get_loop().call_soon_threadsafe(task.cancel)


def checked_interval(interval_s: float) -> float:
    """The interval, or ConfigError."""
    if isinstance(interval_s, bool) or not isinstance(interval_s, (int, float)) or not 0 < interval_s < math.inf:
        raise ConfigError(f"interval_s={interval_s!r} is no interval; take a number of seconds above 0")
    return min(interval_s, threading.TIMEOUT_MAX)


def _repeat(method: WeakMethod[Any], stop: threading.Event, wait_s: float) -> None:
    while not stop.wait(wait_s):
        call = method()
        if call is None:
            return
        with suppress(DistcacheError):
            call()
        del call


async def _repeat_async(method: WeakMethod[Any], wait_s: float) -> None:
    while True:
        await asyncio.sleep(wait_s)
        call = method()
        if call is None:
            return
        with suppress(DistcacheError):
            await call()
        del call
