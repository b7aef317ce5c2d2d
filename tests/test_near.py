"""The near cache on real servers, through both twins: what is true stays, what changed goes, all uses are counted."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time

import pytest
from faults import fault_proxy
from servers import wait_until

from distcache import AsyncSmartCache, NearCache, SmartCache, acl
from distcache import near as near_module
from distcache.executor import tracking
from distcache.keys import Partition

# Python 3.12 warns of any fork beside threads; the near cache starts anew in the child.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def asked_often(monkeypatch) -> None:
    """`copied` waits for an answer on the tracking connection."""
    monkeypatch.setattr(tracking, "PING_S", 0.02)


@pytest.fixture
def near(real, opener, tmp_path):
    """Opens a cache with a near cache that is live, on a real server."""

    def make(**options):
        named = {"url": real.url, "timeout_s": 10.0, "on_error": "raise", "near": True, **options}
        cache = opener(SmartCache, AsyncSmartCache, tmp_path, **named)
        wait_until(lambda: is_live(cache), "the near cache is live")
        return cache

    return make


@pytest.fixture
def other(real, tmp_path):
    """Another client, without a near cache."""
    with SmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


def is_live(cache) -> bool:
    """Asking keeps an event loop turning, and starts the tracking."""
    cache.get("absent")
    return cache.raw._near.live


def near_hits(cache) -> int:
    return cache.local_stats()["near_hits"]


def is_near(cache, key: str, *, hash: str = "") -> bool:  # noqa: A002 - short
    before = near_hits(cache)
    return cache.get(key, hash) is not None and near_hits(cache) > before


def copied(cache, key: str) -> None:
    """Read until it is a copy, and all that was changed before has been reported."""
    asked_at = time.monotonic()

    def heard() -> bool:
        cache.has(key)  # keeps an event loop turning
        return cache.raw._near._fresh_until >= asked_at + near_module.LEASE_S

    wait_until(heard, "every report has come")
    wait_until(lambda: is_near(cache, key), "the key is copied")


def trackers(real) -> list:
    """The connections that get reports."""
    return [client for client in real.client.client_list() if "t" in client["flags"]]


# what stays


def test_a_second_read_is_answered_here(near, other):
    cache = near()
    other.put("k", "text", "h")
    other.put("b", b"bytes", "h")
    for key, output in [("k", "text"), ("b", b"bytes")]:
        copied(cache, key)
        assert cache.get(key) == output
        assert is_near(cache, key, hash="h")
        assert cache.get(key, "another") is None
    assert is_near(cache, "k")


def test_older_versions_are_copied_too(near, real, tmp_path):
    cache = near(versions=2)
    with SmartCache(tmp_path, url=real.url, timeout_s=10.0, on_error="raise") as writer:
        writer.put("k", "one", "h1")
        writer.put("k", "two", "h2")
        copied(cache, "k")
        wait_until(lambda: is_near(cache, "k", hash="h1"), "the older version is copied")
        assert cache.get("k", "h1") == "one"
        assert cache.get("k", "h2") == cache.get("k") == "two"
        writer.put("k", "three", "h3")
        wait_until(lambda: cache.get("k", "h1") is None, "the oldest version is gone")
        assert cache.get("k") == "three"
        assert cache.get("k", "h2") == "two"
        cache.invalidate("k")
        assert [cache.get("k", h) for h in ("", "h2", "h3")] == [None] * 3


def test_get_many_reads_here_and_there(near, other):
    cache = near()
    other.put_many([{"key": key, "output": key, "content_hash": "h"} for key in "abcd"])
    copied(cache, "a")
    copied(cache, "b")
    before = near_hits(cache)
    assert cache.get_many([*"abcd", "absent"]) == {key: key for key in "abcd"}
    assert near_hits(cache) == before + 2
    for key in "cd":
        copied(cache, key)
    with pytest.raises(TypeError):
        cache.get_many([5])


def test_several_partitions_are_tracked(near, other, real):
    cache = near(namespace="parts", partitions=4)
    with SmartCache(url=real.url, namespace="parts", timeout_s=10.0) as writer:
        for key in map(str, range(12)):
            writer.put(key, "old", "h")
            copied(cache, key)
        for key in map(str, range(12)):
            writer.put(key, "new", "h")
            wait_until(lambda key=key: cache.get(key) == "new", "the new value is seen")


# what goes

CHANGES = {
    "put": lambda other, _real: other.put("k", "new", "h"),
    "invalidate": lambda other, _real: other.invalidate("k"),
    "dependency": lambda other, _real: other.invalidate_by_dependency("header"),
    "clear": lambda other, _real: other.clear(),
    "flushall": lambda _other, real: real.client.flushall(),
    "eviction": lambda other, _real: [other.put(key, "x", "h") for key in "abcdef"],
    "deleted by hand": lambda _other, real: real.client.delete(*real.client.keys("*:e:*")),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_change_by_somebody_is_seen(change, near, other, real):
    real.checked = change != "deleted by hand"
    cache = near(max_entries=3, policy="lru", reconfigure=True)
    other.put("k", "old", "h", ["header"])
    copied(cache, "k")
    CHANGES[change](other, real)
    wanted = "new" if change == "put" else None
    wait_until(lambda: cache.get("k") == wanted, "the change is seen")


@pytest.mark.parametrize("change", ["put", "invalidate", "dependency", "clear"])
def test_ones_own_change_is_seen_at_once(change, near):
    cache = near()
    for _ in range(20):
        cache.put("k", "old", "h", ["header"])
        cache.get("k")
        cache.get("k")
        CHANGES[change](cache, None)
        assert cache.get("k") == ("new" if change == "put" else None)


def test_a_put_that_is_refused_takes_the_copy_along(near):
    cache = near(max_value_bytes=100)
    cache.put("k", "old", "h")
    copied(cache, "k")
    with pytest.raises(ValueError, match="bytes"):
        cache.put("k", "x" * 1000, "h")
    assert cache.get("k") is None


def test_a_copy_ends_with_the_entrys_deadline(near, other):
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


def test_with_sliding_expiry_the_server_sees_reads_in_time(near):
    cache = near(ttl_seconds=60, sliding=True)
    cache.put("k", "x", "h")
    copied(cache, "k")
    assert cache.raw._near._find("k").until - time.monotonic() <= 30


def test_what_another_operation_saw_is_not_older_than_the_copy(near, other, real):
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


# what is counted


def test_after_flush_the_server_has_counted_every_call(near, other):
    cache = near()
    for key in "abc":
        other.put(key, "x", "h", compile_time_ms=1000)
        copied(cache, key)
    for round_ in range(700):
        cache.get("abc"[round_ % 3])
    cache.get("gone")
    cache.flush()
    local, stats = cache.local_stats(), other.get_stats()
    assert local["near_hits"] >= 700
    assert stats["hits"] == local["hits"]
    assert stats["misses"] == local["misses"]
    assert stats["seconds_saved"] == pytest.approx(local["hits"])
    assert sum(row["access_count"] for row in other.get_hot_entries(3)) == local["hits"]
    assert other.get_predicted_next("a")[0] == "b"
    events = [event for event in other.get_recent_events(1000) if event["type"] == "HIT"]
    assert {event["key"] for event in events if event["details"].startswith("near cache, ")} == set("abc")
    assert len(events) < local["hits"] / 2


def test_a_use_here_is_recency_there(near, other):
    cache = near(max_entries=2, policy="lru", reconfigure=True)
    other.put("old", "x", "h")
    copied(cache, "old")
    other.put("new", "x", "h")
    assert is_near(cache, "old")
    cache.flush()
    other.put("newest", "x", "h")
    assert other.has("old")
    assert not other.has("new")


def test_uses_ride_along_with_the_next_call_and_are_sent_in_time_without_one(near, other, monkeypatch):
    monkeypatch.setattr(tracking, "REPORT_S", 0.05)
    cache = near()
    other.put("k", "x", "h")
    copied(cache, "k")

    def counted() -> bool:
        cache.has("k")  # keeps an event loop turning, and takes nothing along
        return other.get_stats()["hits"] == cache.local_stats()["hits"]

    wait_until(counted, "uses are sent without a call")
    cache.get("k")
    wait_until(lambda: (cache.get("absent"), counted())[1], "uses ride along")


def test_uses_that_did_not_arrive_are_sent_again_and_counted_once(real, opener, tmp_path):
    with fault_proxy(real.server.path) as proxy:
        cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=proxy.url, timeout_s=0.3, near=True)
        cache.put("k", "x", "h")
        wait_until(lambda: is_live(cache), "the near cache is live")
        copied(cache, "k")
        for _ in range(5):
            cache.get("k")
        proxy.swallow = True  # the server takes the uses, and its reply is lost
        cache.flush()
        assert cache.local_stats()["errors"] > 0
        proxy.swallow = False
        proxy.cut()
        wait_until(lambda: cache.get_stats()["hits"] == cache.local_stats()["hits"], "every use is counted once")


def test_a_reader_that_may_not_write_has_copies_and_counts_nothing(near, other):
    other.put("k", "x", "h")
    cache = near(read_only=True)
    copied(cache, "k")
    cache.flush()
    assert other.get_stats()["hits"] == 0
    other.put("k", "y", "h")
    wait_until(lambda: cache.get("k") == "y", "the change is seen")


# what breaks


def test_a_killed_connection_empties_and_comes_back(near, other, real):
    cache = near()
    other.put("k", "old", "h")
    for round_ in range(3):
        copied(cache, "k")
        [mine] = trackers(real)
        real.client.client_kill_filter(_id=mine["id"])
        other.put("k", str(round_), "h")
        wait_until(lambda round_=round_: cache.get("k") == str(round_), "nothing stale is left")
        wait_until(lambda: is_live(cache), "the near cache is live again")


def test_a_connection_that_only_looks_alive_is_not_believed(real, opener, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "PING_S", 0.05)
    monkeypatch.setattr(tracking, "LEASE_S", 0.3)
    monkeypatch.setattr(near_module, "LEASE_S", 0.3)
    with fault_proxy(real.server.path) as proxy, SmartCache(url=real.url, timeout_s=10.0) as other:
        cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=proxy.url, timeout_s=0.2, near=True)
        other.put("k", "old", "h")
        wait_until(lambda: is_live(cache), "the near cache is live")
        copied(cache, "k")
        proxy.swallow = True
        other.put("k", "new", "h")
        wait_until(lambda: cache.get("k") is None, "the copy is not believed any more")
        proxy.swallow = False
        wait_until(lambda: cache.get("k") == "new", "the server is asked")
        wait_until(lambda: is_live(cache), "the silent connection is replaced")


def test_closing_ends_the_tracking_and_a_later_read_starts_it(near, other, real):
    cache = near()
    other.put("k", "x", "h")
    copied(cache, "k")
    cache.close()
    assert not cache.raw._near.live
    wait_until(lambda: not trackers(real), "the connection is closed")
    wait_until(lambda: is_live(cache), "the near cache is live again")
    copied(cache, "k")


@FORKS
def test_a_child_process_starts_empty_on_a_connection_of_its_own(real, other):
    with SmartCache(url=real.url, timeout_s=10.0, on_error="raise", near=True) as cache:
        other.put("k", "x", "h")
        wait_until(lambda: cache._near.live and cache.get("k"), "the near cache is live")
        cache.get("k")
        child = os.fork()
        if child == 0:
            _child(cache, other, real)
        assert os.waitpid(child, 0)[1] == 0
        wait_until(lambda: cache.get("k") == "child", "the parent sees the change")
        cache.flush()
        assert cache._near.live


def _child(cache, other, real) -> None:
    try:
        assert cache._near._find("k") is None
        assert cache.get("k") == "x"
        wait_until(lambda: cache._near.live, "live in the child")
        wait_until(lambda: len(trackers(real)) == 2, "two connections")
        other.put("k", "child", "h")
        wait_until(lambda: cache.get("k") == "child", "the child sees the change")
        os._exit(0)
    finally:
        os._exit(1)


def test_fakeredis_has_no_reports_and_everything_works(fakebackend, opener, tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="distcache"):
        cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=fakebackend.url, on_error="raise", near=True)
        for output in ("x", "y"):
            cache.put("k", output, "h")
            assert [cache.get("k"), cache.get("k", "h"), cache.get("k", "g")] == [output, output, None]
        wait_until(lambda: caplog.records, "the log says so")
        cache.get("k")
    assert [record.message.startswith("the near cache is off") for record in caplog.records] == [True]
    assert near_hits(cache) == 0


@pytest.mark.parametrize("permitted", [True, False])
def test_a_server_that_does_not_permit_it_is_named_once(permitted, real, opener, tmp_path, caplog):
    user = f"near-{permitted}"
    real.client.execute_command("ACL", "SETUSER", user, "on", ">p", *acl.rules("writer", "smart", near=permitted))
    url = real.url.replace("unix://", f"unix://{user}:p@")
    with caplog.at_level(logging.WARNING, logger="distcache"):
        cache = opener(SmartCache, AsyncSmartCache, tmp_path, url=url, on_error="raise", near=NearCache(10))
        cache.put("k", "x", "h")
        if permitted:
            wait_until(lambda: is_live(cache), "the near cache is live")
            copied(cache, "k")
        else:
            wait_until(lambda: cache.get("k") and caplog.records, "the log says so")
            assert near_hits(cache) == 0
    assert ["NOPERM" in record.message for record in caplog.records] == [True] * (not permitted)


def test_a_cache_that_is_made_anew_is_tracked_anew(near, real):
    def made(partitions: int, output: str) -> None:
        with SmartCache(url=real.url, namespace="anew", partitions=partitions, timeout_s=10.0) as writer:
            writer.put("k", output, "h")

    made(1, "x")
    cache = near(namespace="anew")
    copied(cache, "k")
    real.client.flushall()
    made(3, "y")
    wait_until(lambda: cache.get("k") == "y", "the new cache is read")
    copied(cache, "k")
    made(3, "z")
    wait_until(lambda: cache.get("k") == "z", "the change is seen")


@pytest.mark.parametrize("number", [0, 1, 2])
def test_prefixes_do_not_overlap(number):
    assert not Partition("n", number * 10 + 1).entries.startswith(Partition("n", number).entries)


def test_threads_and_loops_leave_nothing_behind(real, tmp_path):
    before = threading.active_count()
    with SmartCache(tmp_path, url=real.url, near=True) as cache:
        wait_until(lambda: cache._near.live, "live")
    wait_until(lambda: threading.active_count() <= before, "the threads have ended")

    async def use() -> None:
        cache = AsyncSmartCache(tmp_path, url=real.url, near=True)
        while not cache._near.live:
            await cache.get("k")
        # never closed: the loop ends the task

    asyncio.run(use())
    wait_until(lambda: not trackers(real), "the connections are closed")
