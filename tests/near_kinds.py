"""Both caches seen alike, for the tests of what their near caches have in common."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

import pytest
from servers import wait_until

from distcache import AsyncContentHashCache, AsyncSmartCache, ContentHashCache, SmartCache
from distcache import near as near_module
from distcache.errors import ValueTooLarge

TOO_LARGE = 10_000
"""Bytes, in caches that are opened with max_value_bytes=1000."""


class Smart:
    """A SmartCache: outputs under keys."""

    blocking, asynchronous = SmartCache, AsyncSmartCache
    namespace = "smart"
    bound = "max_entries"
    hits = "hits"

    def put(self, cache: Any, key: str, value: str) -> None:
        assert cache.put(key, value, "h", ["header"])

    def put_many(self, cache: Any, values: dict[str, str]) -> None:
        cache.put_many([{"key": key, "output": value, "content_hash": "h"} for key, value in values.items()])

    def remove(self, cache: Any, key: str) -> None:
        cache.invalidate(key)

    def put_version(self, cache: Any, key: str, version: str) -> None:
        cache.put(key, version, version)

    def get_otherwise(self, cache: Any, key: str, version: str) -> Any:
        """Goes to the server unless this is the version that is copied."""
        return cache.get(key, version)

    def name(self, key: str) -> Any:
        """What the near cache knows it by."""
        return key

    changes: ClassVar[dict[str, Any]] = {
        "put": lambda other, _real: other.put("k", "new", "h"),
        "put_many": lambda other, _real: other.put_many([{"key": "k", "output": "new", "content_hash": "h"}]),
        "invalidate": lambda other, _real: other.invalidate("k"),
        "dependency": lambda other, _real: other.invalidate_by_dependency("header"),
        "clear": lambda other, _real: other.clear(),
        "flushall": lambda _other, real: real.client.flushall(),
        "eviction": lambda other, _real: [other.put(key, "x", "h") for key in "abcdef"],
        "deleted by hand": lambda _other, real: real.client.delete(*real.client.keys("*:e:*")),
    }


class Content:
    """A ContentHashCache: signatures of texts."""

    blocking, asynchronous = ContentHashCache, AsyncContentHashCache
    namespace = "signatures"
    bound = "max_size"
    hits = "total_hits"

    def put(self, cache: Any, key: str, value: str) -> None:
        assert cache.set(key, value)

    def put_many(self, cache: Any, values: dict[str, str]) -> None:
        cache.set_many(values)

    def remove(self, cache: Any, key: str) -> None:
        """There is no way to remove one text, but a value that is too large takes it along."""
        with pytest.raises(ValueTooLarge):
            cache.set(key, "x" * TOO_LARGE)

    def put_version(self, cache: Any, key: str, version: str) -> None:
        cache.set(key, version)

    def get_otherwise(self, cache: Any, key: str, version: str) -> Any:
        """Finds the same entry by its normalized text."""
        return cache.get(f" {key} ")

    def name(self, key: str) -> Any:
        return (), key

    changes: ClassVar[dict[str, Any]] = {
        "set": lambda other, _real: other.set("k", "new"),
        "set_many": lambda other, _real: other.set_many({"k": "new"}),
        "clear": lambda other, _real: other.clear(),
        "flushall": lambda _other, real: real.client.flushall(),
        "eviction": lambda other, _real: [other.set(key, "x") for key in "abcdef"],
        "deleted by hand": lambda _other, real: real.client.delete(*real.client.keys("*:e:*")),
        "damaged": lambda other, real: (
            real.client.hset(real.client.keys("*:e:*")[0], "s", b"\xff damaged"),
            other.get("k"),
        ),
    }


KINDS = {"smart": Smart(), "content": Content()}
CHANGES = [(name, change) for name, kind in KINDS.items() for change in kind.changes]


def turn(cache: Any) -> None:
    """Let the event loop of an async twin turn; asks the cache nothing."""
    if hasattr(cache.raw, "aclose"):
        cache._loop_of.run(asyncio.sleep(0))
    else:
        time.sleep(0.0005)


def is_live(cache: Any) -> bool:
    """Asking keeps an event loop turning, and starts the tracking."""
    cache.get("absent")
    return cache.raw._near.live


def near_hits(cache: Any) -> int:
    return cache.local_stats()["near_hits"]


def is_near(cache: Any, key: str, *rest: str) -> bool:
    before = near_hits(cache)
    return cache.get(key, *rest) is not None and near_hits(cache) > before


def reported(cache: Any) -> None:
    """Wait until all that was changed before has been reported."""
    asked_at = time.monotonic()

    def heard() -> bool:
        turn(cache)
        return cache.raw._near._fresh_until >= asked_at + near_module.LEASE_S

    wait_until(heard, "every report has come")


def copied(cache: Any, key: str) -> None:
    """Read until it is a copy, and all that was changed before has been reported."""
    reported(cache)
    wait_until(lambda: is_near(cache, key), "the key is copied")


def trackers(real: Any) -> list:
    """The connections that get reports."""
    return [client for client in real.client.client_list() if "t" in client["flags"]]
