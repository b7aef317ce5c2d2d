"""Where sync compilers run: daemon threads, or a process each. Neither keeps the interpreter alive."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection


class CompilerDied(DistcacheError):  # noqa: N818 - what happened, as a dead letter tells it
    """The process in which a compiler ran ended without an answer."""


class Threads:
    """Runs functions in daemon threads, which concurrent.futures does not have: it joins its own at exit."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle = 0
        self._started = 0
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()

    async def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """The function's result, or its exception. A cancelled call runs on, and its result reaches nobody."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            try:
                result, error = function(*args), None
            except BaseException as raised:  # noqa: BLE001 - whatever it is, it is the caller's
                result, error = None, raised
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(_settle, future, result, error)

        self._submit(work)
        return await future

    def _submit(self, work: Callable[[], None]) -> None:
        with self._lock:
            if not self._idle and self._started < self._size:
                self._started += 1
                threading.Thread(target=self._serve, name="distcache-compiler", daemon=True).start()
            elif self._idle:
                self._idle -= 1
        self._work.put(work)

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            work()
            del work
            with self._lock:
                self._idle += 1

    def close(self) -> None:
        """Let the threads end when their work does."""
        for _ in range(self._started):
            self._work.put(None)


class Processes:
    """Runs one function in child processes, one call at a time in each; a child that dies fails its own call only."""

    def __init__(self, function: Callable[..., Any], threads: Threads) -> None:
        self._function = function
        self._threads = threads
        self._idle: list[_Child] = []
        self._all: set[_Child] = set()

    async def run(self, *args: Any) -> Any:
        """The function's result, or its exception; CompilerDied when the child does. Cancelling it kills the child."""
        child = self._idle.pop() if self._idle else await self._threads.run(_Child, self._function)
        self._all.add(child)
        try:
            result = await self._threads.run(child.call, args)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | CompilerDied):
                self._all.discard(child)
                child.kill()
            else:
                self._idle.append(child)
            raise
        self._idle.append(child)
        return result

    def close(self) -> None:
        """End all children."""
        for child in self._all:
            child.kill()
        self._all.clear()
        self._idle.clear()


class _Child:
    """One process that waits for calls."""

    def __init__(self, function: Callable[..., Any]) -> None:
        context = multiprocessing.get_context("spawn")  # threads run here: a fork could inherit a lock that is held
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, args: tuple[Any, ...]) -> Any:
        try:
            self._ours.send(args)
            ok, value = self._ours.recv()
        except (EOFError, OSError) as error:
            self._process.join(1)
            raise CompilerDied(f"the compiler's process ended with code {self._process.exitcode}") from error
        if ok:
            return value
        raise value

    def kill(self) -> None:
        self._process.kill()
        self._ours.close()


def _serve(pipe: Connection, function: Callable[..., Any]) -> None:
    while True:
        try:
            args = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            answer = (True, function(*args))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
            answer = (False, error)
        try:
            pipe.send(answer)
        except (TypeError, AttributeError, ValueError, OSError) as error:  # an exception that cannot be pickled
            pipe.send((False, RuntimeError(f"{type(answer[1]).__name__} cannot be sent to the worker: {error}")))


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
