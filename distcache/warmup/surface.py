"""The part of SmartCache's two twins that is about warming up. One line a method, as there."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import TYPE_CHECKING, Any

from distcache.client import AsyncClient, SyncClient
from distcache.warmup.ahead import Ahead
from distcache.warmup.flows import QueueFlows
from distcache.warmup.local import LocalWorker
from distcache.warmup.records import QueueStats

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable

    from distcache.config import SmartOptions
    from distcache.smart.flows import SmartFlows
    from distcache.warmup.records import QueuedTask, WorkerInfo

    Output = str | bytes
    Source = tuple[Output, str] | None

NO_QUEUE = QueueStats(0, 0, 0, 0, 0, 0)


class _Compiles:
    """What both twins do in the same way."""

    enable_warmup: bool
    _local: LocalWorker

    def _prepare_warmup(self, flows: SmartFlows, cache_dir: str | os.PathLike[str], options: SmartOptions) -> None:
        self._queue = QueueFlows(flows)
        if self.enable_warmup and not flows.settings.read_only:
            refresh = flows.settings.refresh_ahead
            flows.ahead = Ahead(self._queue, flows.learner, refresh=refresh, guard=threading.Lock())
        self._local = LocalWorker(self, cache_dir, options)

    def set_compiler(
        self, callback: Callable[..., Any] | None, content_provider: Callable[[str], Any] | None = None
    ) -> None:
        """Compile what is queued in this process too, in a background thread; None ends that.

        callback: content -> output, or (key, content) -> output, told apart by its parameters; it may be async.
        content_provider: key -> (content, content_hash), or None for a key that has none; without it, this process
        leaves predicted tasks to other workers. Nothing starts with enable_warmup=False.
        """
        if callback is None:
            self._local.stop()
        elif self.enable_warmup:
            self._local.start(callback, content_provider)


class Warming(_Compiles, SyncClient):
    """The blocking half."""

    def warmup_unit(self, key: str, content: str | bytes, content_hash: str) -> bool:
        """Have a key compiled ahead of need; False when it is cached, waits or runs already."""
        return self._run(self._queue.add(key, content, content_hash), default=False)

    def warmup_dependencies(self, keys: Iterable[str], content_provider: Callable[[str], Source]) -> int:
        """Have keys compiled ahead of need, in their order; how many were queued.

        content_provider: key -> (content, content_hash), or None to leave a key out.
        """
        sources = ((key, content_provider(key)) for key in keys)
        tasks = [(key, *source) for key, source in sources if source is not None]
        return self._run(self._queue.add_many(tasks, "dependency"), 0)

    def invalidate_by_dependency(self, dep_key: str, transitive: bool = False, *, rewarm: bool = False) -> list[str]:
        """Remove what names dep_key as a dependency; transitive: and what depends on that, and so on. Keys removed.

        rewarm: have workers compile it anew, most valuable first (compile time x use); they need a content function.
        """
        return self._run(self._queue.invalidated(dep_key, transitive, rewarm=rewarm), [])

    def stop_warmup(self) -> None:
        """End the background thread of set_compiler(); what it has not finished, others will."""
        self._local.stop()

    def queue_stats(self) -> QueueStats:
        """What waits, runs and failed."""
        return self._run(self._queue.stats(), NO_QUEUE)

    def queue_tasks(self, which: str = "waiting", count: int = 100) -> list[QueuedTask]:
        """Tasks that are 'waiting' (or run), 'delayed' for their next try, or 'dead'."""
        return self._run(self._queue.listing(which, count), [])

    def queue_requeue(self, ids: Iterable[str] = ()) -> int:
        """Give dead letters another life, all if none are named; how many."""
        return self._run(self._queue.requeue(ids), 0)

    def queue_drop(self, ids: Iterable[str] = ()) -> int:
        """Drop dead letters, all if none are named; how many."""
        return self._run(self._queue.drop(ids), 0)

    def workers(self) -> list[WorkerInfo]:
        """The workers of the last day, the latest seen first."""
        return self._run(self._queue.workers(), [])

    def close(self) -> None:
        """End the background thread, flush, and let connections go. The object can be used again."""
        self._local.stop()
        super().close()


class AsyncWarming(_Compiles, AsyncClient):
    """The asyncio half."""

    async def warmup_unit(self, key: str, content: str | bytes, content_hash: str) -> bool:
        """See Warming.warmup_unit."""
        return await self._run(self._queue.add(key, content, content_hash), default=False)

    async def warmup_dependencies(
        self, keys: Iterable[str], content_provider: Callable[[str], Source | Awaitable[Source]]
    ) -> int:
        """See Warming.warmup_dependencies; the provider may be async."""
        tasks = []
        for key in keys:
            source = content_provider(key)
            found = await source if inspect.isawaitable(source) else source
            if found is not None:
                tasks.append((key, *found))
        return await self._run(self._queue.add_many(tasks, "dependency"), 0)

    async def invalidate_by_dependency(
        self, dep_key: str, transitive: bool = False, *, rewarm: bool = False
    ) -> list[str]:
        """See Warming.invalidate_by_dependency."""
        return await self._run(self._queue.invalidated(dep_key, transitive, rewarm=rewarm), [])

    async def stop_warmup(self) -> None:
        """See Warming.stop_warmup."""
        await asyncio.to_thread(self._local.stop)

    async def queue_stats(self) -> QueueStats:
        """See Warming.queue_stats."""
        return await self._run(self._queue.stats(), NO_QUEUE)

    async def queue_tasks(self, which: str = "waiting", count: int = 100) -> list[QueuedTask]:
        """See Warming.queue_tasks."""
        return await self._run(self._queue.listing(which, count), [])

    async def queue_requeue(self, ids: Iterable[str] = ()) -> int:
        """See Warming.queue_requeue."""
        return await self._run(self._queue.requeue(ids), 0)

    async def queue_drop(self, ids: Iterable[str] = ()) -> int:
        """See Warming.queue_drop."""
        return await self._run(self._queue.drop(ids), 0)

    async def workers(self) -> list[WorkerInfo]:
        """See Warming.workers."""
        return await self._run(self._queue.workers(), [])

    async def aclose(self) -> None:
        """See Warming.close."""
        await asyncio.to_thread(self._local.stop)
        await super().aclose()
