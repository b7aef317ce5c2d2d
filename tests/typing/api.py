"""The public interface as a typed program uses it. Checked by mypy --strict, never run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import distcache
from distcache import (
    AsyncContentHashCache,
    AsyncSmartCache,
    CircuitOpen,
    Compiled,
    ConfigError,
    ConfigMismatch,
    ContentHashCache,
    DistcacheError,
    EngineError,
    EntryInfo,
    HistoryRecord,
    Match,
    NearCache,
    QueuedTask,
    QueueStats,
    ServerError,
    SmartCache,
    Task,
    Unavailable,
    ValueTooLarge,
    Version,
    WaitsForItself,
    Warmer,
    Worker,
    WorkerInfo,
    base64_signature,
    create_smart_cache,
    get_smart_cache,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

assert_type(distcache.__version__, str)

ERRORS: list[type[DistcacheError]] = [
    *(CircuitOpen, ConfigError, ConfigMismatch, EngineError, ServerError, Unavailable, ValueTooLarge, WaitsForItself)
]


def smart() -> None:
    cache = SmartCache(".distcache", 1000, 100, True)
    cache = SmartCache(
        Path("somewhere"),
        max_entries=1000,
        max_size_mb=0.5,
        enable_warmup=False,
        url="redis://localhost",
        namespace="builds",
        on_error="raise",
        timeout_s=0.5,
        read_only=True,
        near=NearCache(max_entries=100, max_bytes=1_000_000, ttl_s=60),
        sign_keys=(b"k" * 32,),
        max_value_bytes=1000,
        policy="lru",
        ttl_seconds=math.inf,
        sliding=True,
        versions=2,
        partitions=4,
        reconfigure=True,
        producer="ci",
        events=["HIT"],
        event_cap=10,
        history=5,
        history_age_s=60,
    )
    SmartCache(on_error="ignore")  # type: ignore[arg-type]
    SmartCache(polcy="lru")  # type: ignore[call-arg]
    with cache as same:
        assert_type(same, SmartCache)
    assert_type(cache.get("a"), str | bytes | None)
    assert_type(cache.get("a", "h"), str | bytes | None)
    assert_type(cache.put("a", "x", "h", ["b"], "a.py", (1, 2), 30, ttl_seconds=5), bool)
    assert_type(cache.put("a", b"x", "h"), bool)
    cache.put("a", 7, "h")  # type: ignore[arg-type]
    assert_type(cache.get_many(["a"]), dict[str, str | bytes])
    assert_type(cache.put_many([{"key": "a", "output": "x", "content_hash": "h"}]), int)
    assert_type(cache.invalidate("a"), bool)
    assert_type(cache.invalidate_by_dependency("a", True), list[str])
    assert_type(cache.has("a"), bool)
    assert_type(cache.touch("a", 5), bool)
    names: Iterator[str] = cache.keys("*.py")
    assert_type(next(names), str)
    assert_type(cache.inspect("a"), EntryInfo | None)
    assert_type(cache.get_history("a", 5), list[HistoryRecord])
    assert_type(cache.clear(), int)
    assert_type(cache.cleanup_expired(), int)
    assert_type(cache.save(), bool)
    assert_type(cache.import_files("somewhere"), int)
    assert_type(cache.get_recent_events(5), list[dict[str, Any]])
    assert_type(cache.get_stats(), dict[str, Any])
    assert_type(cache.local_stats(), dict[str, int])
    assert_type(cache.get_hot_entries(5), list[dict[str, Any]])
    assert_type(cache.get_predicted_next("a", 5), list[str])
    assert_type(cache.get_or_compute("a", lambda: "x", "h"), str | bytes)
    cache.flush()
    cache.close()
    assert_type(get_smart_cache("somewhere"), SmartCache)
    assert_type(create_smart_cache(".distcache", 10, 5, False), SmartCache)


def warm(cache: SmartCache) -> None:
    cache.set_compiler(lambda content: content)
    assert_type(cache.warmup_unit("a", "source", "h"), bool)
    assert_type(cache.warmup_dependencies(["a"], lambda key: (key, "h")), int)
    assert_type(cache.queue_stats(), QueueStats)
    assert_type(cache.queue_tasks("dead", 5), list[QueuedTask])
    assert_type(cache.queue_requeue(["1"]), int)
    assert_type(cache.queue_drop(), int)
    assert_type(cache.workers(), list[WorkerInfo])
    cache.stop_warmup()

    @cache.memoize(version="2")
    def render(name: str, size: int = 1) -> str:
        return name * size

    assert_type(render("a", size=2), str)
    render(7)  # type: ignore[arg-type]


def work() -> None:
    warmer = Warmer()

    @warmer.compiler
    def compile_it(source: str, task: Task) -> Compiled:
        return Compiled(source, dependencies=(task.key,))

    assert_type(Worker, type[Worker])


def records(info: EntryInfo, record: HistoryRecord, version: Version, match: Match) -> None:
    assert_type(info.versions, tuple[Version, ...])
    assert_type(info.line_range, tuple[int, int])
    assert_type(info.expires_at, int | None)
    assert_type(record.held, bool)
    assert_type(version.stored_bytes, int)
    assert_type(match.signature, str)


async def smart_async() -> None:
    async with AsyncSmartCache(".distcache", 1000, 100, True, url="redis://localhost") as cache:
        assert_type(cache, AsyncSmartCache)
        assert_type(await cache.get("a", "h"), str | bytes | None)
        assert_type(await cache.put("a", "x", "h", ttl_seconds=5), bool)
        assert_type(await cache.get_many(["a"]), dict[str, str | bytes])
        names: AsyncIterator[str] = cache.keys()
        assert_type(await anext(names), str)
        assert_type(await cache.inspect("a"), EntryInfo | None)
        assert_type(await cache.get_or_compute("a", made), str | bytes)
        assert_type(cache.local_stats(), dict[str, int])
        cache.put("a", "x", "h")  # type: ignore[unused-coroutine]
    await cache.aclose()


async def made() -> str:
    return "x"


def content() -> None:
    cache = ContentHashCache(1000, 3600, 100)
    with ContentHashCache(max_size=5, ambiguous="newest", validator=base64_signature(), max_size_mb=5) as same:
        assert_type(same, ContentHashCache)
    assert_type(cache.set("text", "signature"), bool)
    assert_type(cache.get("text"), str | None)
    assert_type(cache.get_with_prefix_match("text", 5), str | None)
    assert_type(cache.lookup("text", prefix=True), Match | None)
    assert_type(cache.lookup_key("key"), Match | None)
    assert_type(cache.set_key("key", "signature", "text"), bool)
    assert_type(cache.get_key("key"), str | None)
    assert_type(cache.get_many(["text"]), dict[str, str])
    assert_type(cache.set_many({"text": "signature"}), int)
    assert_type(cache.scoped("team", "model"), ContentHashCache)
    assert_type(ContentHashCache.normalize_text(" a "), str)
    assert_type(ContentHashCache.compute_hash("a", True), str)
    assert_type(cache.cleanup_expired(), int)
    assert_type(cache.clear(), int)
    assert_type(cache.get_stats(), dict[str, Any])
    assert_type(cache.local_stats(), dict[str, int])
    cache.start_cleanup(5)
    cache.stop_cleanup()
    cache.flush()
    cache.close()


async def content_async() -> None:
    async with AsyncContentHashCache(1000, 3600, 100) as cache:
        assert_type(await cache.set("text", "signature"), bool)
        assert_type(await cache.get("text"), str | None)
        assert_type(await cache.scoped("team").lookup("text"), Match | None)
        await cache.start_cleanup(5)
    await cache.aclose()
