"""SmartCache and its asyncio twin: what a program holds. One line a method; what they do stands in `flows`."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, Unpack

from distcache import config
from distcache.client import Engine
from distcache.config import Settings, SmartOptions
from distcache.executor.fork import tell
from distcache.smart import files
from distcache.smart.nearby import flows_for
from distcache.smart.nearside import AsyncNearside, Nearside
from distcache.smart.request import MAX_ENTRIES, MAX_SIZE_MB, smart_request
from distcache.smart.whole import matching
from distcache.warmup.surface import AsyncWarming, Warming

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from distcache.smart.records import EntryInfo, HistoryRecord


class SmartCache(Nearside, Warming):
    """A shared cache of build outputs, found by key and content hash and invalidated by dependency.

    cache_dir: where the embedded server keeps its data, and where save() writes. max_entries, max_size_mb: bounds
    that belong to the cache; left out, an existing cache keeps its own. enable_warmup: compile ahead of need in this
    process, once set_compiler() was called. options: see `distcache.config.SmartOptions`.

    Raises ConfigError for a parameter that cannot work, ConfigMismatch when the cache exists with another
    configuration, EngineError when no embedded server can be started. With the server down, reads miss and writes
    return False, unless on_error="raise".
    """

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] = ".distcache",
        max_entries: int = MAX_ENTRIES,
        max_size_mb: float = MAX_SIZE_MB,
        enable_warmup: bool = True,
        **options: Unpack[SmartOptions],
    ) -> None:
        config.check_options(options, SmartOptions)
        self.cache_dir = Path(cache_dir)
        self.enable_warmup = enable_warmup
        settings = Settings.of(options, "smart")
        engine = Engine(options.get("url"), self.cache_dir, busy_poll_us=settings.busy_poll_us)
        request = smart_request(engine, max_entries, max_size_mb, options)
        self._flows = flows_for(request, settings, threading.get_ident, threading.Lock)
        self._near = self._flows.near
        tell(self._flows.learner)
        self._prepare_tracking(self._near, engine.endpoint)
        super().__init__(engine, on_error=settings.on_error, timeout_s=settings.timeout_s)
        self._prepare_warmup(self._flows, self.cache_dir, options)
        self._prepare_flights(self._flows)
        self._agree(self._flows.opened())
        self._track()

    def get(self, key: str, content_hash: str = "") -> str | bytes | None:
        """The output stored under key, or None; with a content hash, only an output stored with that hash."""
        if self._near is not None:
            output = self._near.get(key, content_hash)
            if output is not None:
                return output
            self._track()
        return self._run(self._flows.get(key, content_hash), None)

    def put(
        self,
        key: str,
        output: str | bytes,
        content_hash: str,
        dependencies: Iterable[str] | None = None,
        file_path: str = "",
        line_range: tuple[int, int] = (0, 0),
        compile_time_ms: float = 0,
        *,
        ttl_seconds: float | None = None,
    ) -> bool:
        """Store an output; it comes back as the type it went in. Whether it was stored.

        dependencies: keys whose invalidation reaches this one. ttl_seconds: time to live of this entry, in place of
        the cache's own. Raises ValueTooLarge above max_value_bytes or the cache's own bound; an older output of the
        key does not survive that.
        """
        flow = self._flows.put(
            key, output, content_hash, dependencies, file_path, line_range, compile_time_ms, ttl_seconds=ttl_seconds
        )
        return self._run(flow, default=False)

    def get_many(self, keys: Iterable[str]) -> dict[str, str | bytes]:
        """The outputs of those keys that hit, in one round trip."""
        self._track()
        return self._run(self._flows.get_many(keys), {})

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> int:
        """Store several outputs in one round trip, each a mapping with put()'s parameters; how many were stored."""
        return self._run(self._flows.put_many(items), 0)

    def invalidate(self, key: str) -> bool:
        """Remove a key, all its versions; whether there was any."""
        return self._run(self._flows.invalidate(key), default=False)

    def has(self, key: str, content_hash: str = "") -> bool:
        """Whether a get would find it. Counts nothing."""
        return self._run(self._flows.has(key, content_hash), default=False)

    def touch(self, key: str, ttl_seconds: float | None = None) -> bool:
        """Count a use without reading; ttl_seconds: a new time to live from now. Whether the key was there."""
        return self._run(self._flows.touch(key, ttl_seconds), default=False)

    def keys(self, pattern: str = "*") -> Iterator[str]:
        """The keys that are there and match a glob, in no order."""
        return iter(matching(self._run(self._flows.scan(), []), pattern))

    def inspect(self, key: str) -> EntryInfo | None:
        """All metadata of a key and its versions; counts nothing."""
        return self._run(self._flows.inspect(key), None)

    def get_history(self, key: str, count: int = 100) -> list[HistoryRecord]:
        """The compiles of a key that are remembered, newest first."""
        return self._run(self._flows.get_history(key, count), [])

    def clear(self) -> int:
        """Remove all entries and all that was learned; counters, events and history stay. How many entries."""
        return self._run(self._flows.clear(), 0)

    def cleanup_expired(self) -> int:
        """Remove all that has expired now; how many entries. Use of the cache does so a few at a time."""
        return self._run(self._flows.cleanup_expired(), 0)

    def save(self) -> bool:
        """Write the original's three JSON files into cache_dir. The cache itself needs no saving."""
        saved = self._run(self._flows.saved(), None)
        return saved is not None and files.write(self.cache_dir, saved)

    def import_files(self, directory: str | os.PathLike[str]) -> int:
        """Store what save(), or the original class, wrote into a directory; how many entries."""
        return self._run(self._flows.imported(files.read(Path(directory))), 0)

    def get_recent_events(self, count: int = 100) -> list[dict[str, Any]]:
        """The last events of all clients, oldest first: {'type', 'key', 'timestamp' (ms), 'details'}."""
        return self._run(self._flows.get_recent_events(count), [])

    def get_stats(self) -> dict[str, Any]:
        """What the cache holds, and what all its clients did."""
        return self._run(self._flows.get_stats(), self._flows.no_stats())

    def local_stats(self) -> dict[str, int]:
        """What this object did: hits, misses, writes, corrupt, errors."""
        return {**self._flows.counted(), "errors": self._failures.count}

    def get_hot_entries(self, count: int = 10) -> list[dict[str, Any]]:
        """The most used entries: [{'key', 'access_count', 'file', 'lines'}]."""
        return self._run(self._flows.get_hot_entries(count), [])

    def get_predicted_next(self, key: str, count: int = 5) -> list[str]:
        """The keys that came after this one, likeliest first."""
        return self._run(self._flows.get_predicted_next(key, count), [])

    def flush(self) -> None:
        """Send what was learned and not sent yet."""
        self._run(self._flows.flush(), None)


class AsyncSmartCache(AsyncNearside, AsyncWarming):
    """SmartCache for asyncio: the same parameters, the same methods to await. Connects at the first call."""

    def __init__(
        self,
        cache_dir: str | os.PathLike[str] = ".distcache",
        max_entries: int = MAX_ENTRIES,
        max_size_mb: float = MAX_SIZE_MB,
        enable_warmup: bool = True,
        **options: Unpack[SmartOptions],
    ) -> None:
        config.check_options(options, SmartOptions)
        self.cache_dir = Path(cache_dir)
        self.enable_warmup = enable_warmup
        settings = Settings.of(options, "smart")
        engine = Engine(options.get("url"), self.cache_dir, busy_poll_us=settings.busy_poll_us)
        request = smart_request(engine, max_entries, max_size_mb, options)
        self._flows = flows_for(request, settings, _task, threading.Lock)
        self._near = self._flows.near
        tell(self._flows.learner)
        self._prepare_tracking(self._near, engine.endpoint)
        super().__init__(engine, on_error=settings.on_error, timeout_s=settings.timeout_s)
        self._prepare_warmup(self._flows, self.cache_dir, options)
        self._prepare_flights(self._flows)

    async def __aenter__(self) -> Self:
        """Agree on the shared config."""
        await self._run(self._flows.opened(), None)
        return self

    async def get(self, key: str, content_hash: str = "") -> str | bytes | None:
        """See SmartCache.get."""
        if self._near is not None:
            output = self._near.get(key, content_hash)
            if self._near.asked_at >= self._breathe_at:
                await self._breathe()
            if output is not None:
                return output
        return await self._run(self._flows.get(key, content_hash), None)

    async def put(
        self,
        key: str,
        output: str | bytes,
        content_hash: str,
        dependencies: Iterable[str] | None = None,
        file_path: str = "",
        line_range: tuple[int, int] = (0, 0),
        compile_time_ms: float = 0,
        *,
        ttl_seconds: float | None = None,
    ) -> bool:
        """See SmartCache.put."""
        flow = self._flows.put(
            key, output, content_hash, dependencies, file_path, line_range, compile_time_ms, ttl_seconds=ttl_seconds
        )
        return await self._run(flow, default=False)

    async def get_many(self, keys: Iterable[str]) -> dict[str, str | bytes]:
        """See SmartCache.get_many."""
        if self._near is not None:
            await self._breathe()
        return await self._run(self._flows.get_many(keys), {})

    async def put_many(self, items: Iterable[Mapping[str, Any]]) -> int:
        """See SmartCache.put_many."""
        return await self._run(self._flows.put_many(items), 0)

    async def invalidate(self, key: str) -> bool:
        """See SmartCache.invalidate."""
        return await self._run(self._flows.invalidate(key), default=False)

    async def has(self, key: str, content_hash: str = "") -> bool:
        """See SmartCache.has."""
        return await self._run(self._flows.has(key, content_hash), default=False)

    async def touch(self, key: str, ttl_seconds: float | None = None) -> bool:
        """See SmartCache.touch."""
        return await self._run(self._flows.touch(key, ttl_seconds), default=False)

    async def keys(self, pattern: str = "*") -> AsyncIterator[str]:
        """See SmartCache.keys."""
        for key in matching(await self._run(self._flows.scan(), []), pattern):
            yield key

    async def inspect(self, key: str) -> EntryInfo | None:
        """See SmartCache.inspect."""
        return await self._run(self._flows.inspect(key), None)

    async def get_history(self, key: str, count: int = 100) -> list[HistoryRecord]:
        """See SmartCache.get_history."""
        return await self._run(self._flows.get_history(key, count), [])

    async def clear(self) -> int:
        """See SmartCache.clear."""
        return await self._run(self._flows.clear(), 0)

    async def cleanup_expired(self) -> int:
        """See SmartCache.cleanup_expired."""
        return await self._run(self._flows.cleanup_expired(), 0)

    async def save(self) -> bool:
        """See SmartCache.save."""
        saved = await self._run(self._flows.saved(), None)
        return saved is not None and files.write(self.cache_dir, saved)

    async def import_files(self, directory: str | os.PathLike[str]) -> int:
        """See SmartCache.import_files."""
        return await self._run(self._flows.imported(files.read(Path(directory))), 0)

    async def get_recent_events(self, count: int = 100) -> list[dict[str, Any]]:
        """See SmartCache.get_recent_events."""
        return await self._run(self._flows.get_recent_events(count), [])

    async def get_stats(self) -> dict[str, Any]:
        """See SmartCache.get_stats."""
        return await self._run(self._flows.get_stats(), self._flows.no_stats())

    def local_stats(self) -> dict[str, int]:
        """See SmartCache.local_stats."""
        return {**self._flows.counted(), "errors": self._failures.count}

    async def get_hot_entries(self, count: int = 10) -> list[dict[str, Any]]:
        """See SmartCache.get_hot_entries."""
        return await self._run(self._flows.get_hot_entries(count), [])

    async def get_predicted_next(self, key: str, count: int = 5) -> list[str]:
        """See SmartCache.get_predicted_next."""
        return await self._run(self._flows.get_predicted_next(key, count), [])

    async def flush(self) -> None:
        """See SmartCache.flush."""
        await self._run(self._flows.flush(), None)


def _task() -> int:
    """Who is asking: the running task."""
    return id(asyncio.current_task())


_caches: dict[str, SmartCache] = {}
_guard = threading.Lock()


def get_smart_cache(cache_dir: str | os.PathLike[str] = ".distcache") -> SmartCache:
    """This process's cache of that directory, made at the first call."""
    place = str(Path(cache_dir).absolute())
    with _guard:
        if place not in _caches:
            _caches[place] = SmartCache(cache_dir)
        return _caches[place]


def create_smart_cache(
    cache_dir: str | os.PathLike[str] = ".distcache",
    max_entries: int = MAX_ENTRIES,
    max_size_mb: float = MAX_SIZE_MB,
    enable_warmup: bool = True,
) -> SmartCache:
    """A new cache object; with the same directory, it shares the cache of the others."""
    return SmartCache(cache_dir, max_entries, max_size_mb, enable_warmup)
