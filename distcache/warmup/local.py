"""The in-process worker: consumes the cache's queue from a daemon thread of the program that uses the cache."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distcache.warmup.warmer import Warmer, is_async, positional
from distcache.warmup.worker import Worker

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from distcache.config import SmartOptions
    from distcache.warmup.records import Task

STOP_S = 2.0
"""How long stopping waits for the thread; it is a daemon, and what it holds goes to others when its lease ends."""


class LocalWorker:
    """At most one worker thread for one cache object. It knows nothing of that object, and so never keeps it alive."""

    def __init__(self, cache: object, cache_dir: str | os.PathLike[str], options: SmartOptions) -> None:
        self._cache_dir = cache_dir
        self._options = options
        self._running: _Thread | None = None
        self._lock = threading.Lock()
        weakref.finalize(cache, self.stop)  # with the object, or at exit

    def start(self, callback: Callable[..., Any], content_provider: Callable[[str], Any] | None) -> None:
        """Compile with this function from now on."""
        warmer = Warmer(self._cache_dir, **self._options)
        warmer.compiler(adapted(callback))
        if content_provider is not None:
            warmer.content(content_provider)
        self.stop()
        with self._lock:
            self._running = _Thread(Worker(warmer, concurrency=1, grace_s=STOP_S / 2))

    def stop(self) -> None:
        """End the thread; what it has not finished goes back to the queue."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            running.stop()


class _Thread:
    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._serve, name="distcache-warmup", daemon=True)
        self._ready = threading.Event()
        self._thread.start()

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready.set()
        await self._worker.run()

    def stop(self) -> None:
        if self._ready.wait(STOP_S) and self._loop is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._worker.stop)
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_S)


def adapted(callback: Callable[..., Any]) -> Callable[..., Any]:
    """A compiler out of what set_compiler() takes: a function of (content), or of (key, content)."""
    if positional(callback) < 2:  # noqa: PLR2004 - the key and the content
        return callback
    if is_async(callback):

        async def compile_async(content: Any, task: Task) -> Any:
            return await callback(task.key, content)

        return compile_async
    return lambda content, task: callback(task.key, content)
