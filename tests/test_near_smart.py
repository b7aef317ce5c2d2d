"""What the near cache of a SmartCache does beyond what every one does: content hashes, versions, flights, events."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from near_kinds import copied, is_live, is_near, near_hits
from servers import wait_until

from distcache import AsyncSmartCache, SmartCache
from distcache.errors import ValueTooLarge
from distcache.executor import tracking


@pytest.fixture(autouse=True)
def asked_often(monkeypatch) -> None:
    """`copied` waits for an answer on the tracking connection."""
    monkeypatch.setattr(tracking, "PING_S", 0.02)


@pytest.fixture
def near(real, opener):
    """Opens a cache with a near cache that is live, on a real server."""

    def make(**options):
        named = {"url": real.url, "timeout_s": 10.0, "on_error": "raise", "near": True, **options}
        cache = opener(SmartCache, AsyncSmartCache, **named)
        wait_until(lambda: is_live(cache), "the near cache is live")
        return cache

    return make


@pytest.fixture
def other(real):
    """Another client, without a near cache."""
    with SmartCache(url=real.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


def test_a_copy_answers_for_its_hash_or_any(near, other):
    cache = near()
    other.put("k", "text", "h")
    other.put("b", b"bytes", "h")
    for key, output in [("k", "text"), ("b", b"bytes")]:
        copied(cache, key)
        assert cache.get(key) == output
        assert is_near(cache, key, "h")
        assert cache.get(key, "another") is None
    assert is_near(cache, "k")


def test_older_versions_are_copied_too(near, real):
    cache = near(versions=2)
    with SmartCache(url=real.url, timeout_s=10.0, on_error="raise") as writer:
        writer.put("k", "one", "h1")
        writer.put("k", "two", "h2")
        copied(cache, "k")
        wait_until(lambda: is_near(cache, "k", "h1"), "the older version is copied")
        assert cache.get("k", "h1") == "one"
        assert cache.get("k", "h2") == cache.get("k") == "two"
        writer.put("k", "three", "h3")
        wait_until(lambda: cache.get("k", "h1") is None, "the oldest version is gone")
        assert cache.get("k") == "three"
        assert cache.get("k", "h2") == "two"
        cache.invalidate("k")
        assert [cache.get("k", h) for h in ("", "h2", "h3")] == [None] * 3


def test_a_copy_ends_with_the_deadline_that_its_put_named(near, other):
    cache = near()
    other.put("k", "x", "h", ttl_seconds=0.5)
    began = time.monotonic()
    copied(cache, "k")
    wait_until(lambda: cache.get("k") is None, "it has expired")
    assert time.monotonic() - began < 5
    cache.put("k", "y", "h", ttl_seconds=60)
    copied(cache, "k")
    held = cache.raw._near._find("k")
    assert 0 < held.until - time.monotonic() <= 60


def test_what_another_operation_saw_is_not_older_than_the_copy(near, other):
    cache = near()
    other.put("k", "old", "h1")
    copied(cache, "k")
    cache.raw._near.changed = lambda *_: None  # reports are on their way for ever
    other.put("k", "new", "h2")
    assert cache.get("k") == "old"
    assert cache.has("k", "h2")
    assert cache.get("k") == "new"
    other.put("k", "newer", "h3")
    assert cache.inspect("k").content_hash == "h3"
    assert cache.get("k") == "newer"
    other.invalidate("k")
    assert not cache.has("k")
    assert cache.get("k") is None


def test_what_this_process_computes_is_not_older_than_its_copy(near, other):
    cache = near()
    other.put("k", "old", "h1")
    copied(cache, "k")
    assert cache.get_or_compute("k", lambda: "computed", "h1") == "old"
    assert cache.get_or_compute("k", lambda: "new", "h2") == "new"
    assert cache.get("k") == "new"
    wait_until(lambda: is_near(cache, "k"), "the new output is copied")
    before = near_hits(cache)
    assert cache.get_or_compute("k", lambda: "computed") == "new"
    assert near_hits(cache) == before + 1
    assert cache.get_or_compute("k", lambda: "computed", early_refresh=1.0) == "new"
    assert near_hits(cache) == before + 1


def test_what_the_server_learns_of_uses_here(near, other):
    """What it cost, how often it was used, what came next; in the events, those of one batch are one."""
    cache = near()
    for key in "abc":
        other.put(key, "x", "h", compile_time_ms=1000)
        copied(cache, key)
    for round_ in range(700):
        cache.get("abc"[round_ % 3])
    cache.flush()
    local, stats = cache.local_stats(), other.get_stats()
    assert stats["seconds_saved"] == pytest.approx(local["hits"])
    assert sum(row["access_count"] for row in other.get_hot_entries(3)) == local["hits"]
    assert other.get_predicted_next("a")[0] == "b"
    events = [event for event in other.get_recent_events(1000) if event["type"] == "HIT"]
    assert {event["key"] for event in events if event["details"].startswith("near cache, ")} == set("abc")
    assert len(events) < local["hits"] / 2


def test_what_is_computed_here_does_not_evict_what_was_just_used(near, twin, monkeypatch):
    def now() -> str:
        return cache.raw._near.get("old", "") and "computed"

    async def later() -> str:
        return now()

    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(max_entries=2, policy="lru", reconfigure=True)
    cache.put("old", "x", "h")
    cache.put("new", "x", "h")
    for number in range(5):
        copied(cache, "old")
        before = near_hits(cache)
        output = cache.get_or_compute(str(number), later if twin == "async" else now)
        assert (output, near_hits(cache)) == ("computed", before + 1)
        assert cache.get("old") == "x"


REMOVALS = {
    "invalidate": lambda cache: cache.invalidate("k"),
    "dependency": lambda cache: cache.invalidate_by_dependency("header"),
    "chain": lambda cache: cache.invalidate_by_dependency("header", transitive=True),
    "too large": lambda cache: cache.put("k", "x" * 2000, "h"),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.parametrize("removal", REMOVALS)
def test_uses_of_what_is_removed_here_have_saved_time(near, real, monkeypatch, removal):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(max_value_bytes=1000, partitions=3, namespace="parts")
    cache.put("k", "x", "h", ["header"], compile_time_ms=1000)
    copied(cache, "k")
    for _ in range(5):
        cache.get("k")
    with suppress(ValueTooLarge):
        REMOVALS[removal](cache)
    with SmartCache(url=real.url, namespace="parts", timeout_s=10.0, on_error="raise") as other:
        assert other.get_stats()["seconds_saved"] == pytest.approx(cache.local_stats()["hits"])
        assert "near cache" in str(other.get_recent_events())
        assert other.get("k") is None


def test_uses_here_make_a_dependent_worth_more(near, monkeypatch):
    """What was invalidated is made anew in the order of its worth."""
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near()
    cache.put("used", "x", "h", ["header"], compile_time_ms=1000)
    cache.put("dear", "x", "h", ["header"], compile_time_ms=100_000)
    copied(cache, "used")
    before = near_hits(cache)
    while near_hits(cache) < before + 200:
        cache.get("used")
    worth = cache._settle(cache.raw._run(cache.raw._flows.invalidate_by_dependency("header"), {}))
    assert worth["used"] > worth["dear"]


def test_uses_of_an_output_are_not_counted_for_the_one_that_replaces_it(near, monkeypatch):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near()
    cache.put("k", "old", "h1")
    copied(cache, "k")
    before = near_hits(cache)
    while near_hits(cache) < before + 100:
        cache.get("k")
    cache.put("k", "new", "h2")
    assert cache.inspect("k").access_count == 0
    assert cache.get_stats()["hits"] == cache.local_stats()["hits"]
