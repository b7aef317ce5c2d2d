"""The near caches on real servers, of both kinds and through both twins: what is true stays, what changed goes, all
uses are counted. What is of one kind only: test_near_smart.py, test_near_content.py."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import threading
import time

import pytest
from faults import fault_proxy
from near_kinds import CHANGES, KINDS, copied, is_live, is_near, near_hits, trackers, turn
from servers import wait_until

from distcache import NearCache, acl
from distcache import near as near_module
from distcache.errors import Unavailable, ValueTooLarge
from distcache.executor import Endpoint, tracking
from distcache.keys import Partition
from distcache.near import Near

# Python 3.12 warns of any fork beside threads; the near cache starts anew in the child.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def asked_often(monkeypatch) -> None:
    """`copied` waits for an answer on the tracking connection."""
    monkeypatch.setattr(tracking, "PING_S", 0.02)


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    """Which cache this run is about."""
    return KINDS[request.param]


@pytest.fixture
def near(real, opener, kind):
    """Opens a cache with a near cache that is live, on a real server."""

    def make(**options):
        named = {"url": real.url, "timeout_s": 10.0, "on_error": "raise", "near": True, **options}
        cache = opener(kind.blocking, kind.asynchronous, **named)
        wait_until(lambda: is_live(cache), "the near cache is live")
        return cache

    return make


@pytest.fixture
def other(real, kind):
    """Another client, without a near cache."""
    with kind.blocking(url=real.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


# what stays


def test_a_second_read_is_answered_here(near, other, kind):
    cache = near()
    for key, value in [("k", "text"), ("b", ""), ("\ud800", "lone surrogate")]:
        kind.put(other, key, value)
        copied(cache, key)
        assert cache.get(key) == value
    assert is_near(cache, "k")
    assert cache.get("K") is None


def test_get_many_reads_here_and_there(near, other, kind):
    cache = near()
    kind.put_many(other, {key: key for key in "abcd"})
    copied(cache, "a")
    copied(cache, "b")
    before = near_hits(cache)
    assert cache.get_many([*"abcd", "absent"]) == {key: key for key in "abcd"}
    assert near_hits(cache) == before + 2
    for key in "cd":
        copied(cache, key)
    with pytest.raises(TypeError):
        cache.get_many([5])


def test_get_many_alone_keeps_the_near_cache_going(real, opener, kind, other):
    """It starts the tracking, and lets an event loop read the reports."""
    cache = opener(kind.blocking, kind.asynchronous, url=real.url, timeout_s=10.0, on_error="raise", near=True)
    kind.put(other, "k", "old")
    wait_until(lambda: cache.get_many(["k"]) and near_hits(cache), "the key is copied")
    kind.put(other, "k", "new")
    wait_until(lambda: cache.get_many(["k"]) == {"k": "new"}, "the change is seen", near_module.LEASE_S / 2)


def test_several_partitions_are_tracked(near, kind, real):
    cache = near(namespace="parts", partitions=4)
    with kind.blocking(url=real.url, namespace="parts", timeout_s=10.0) as writer:
        keys = [str(number) for number in range(12)]
        kind.put_many(writer, dict.fromkeys(keys, "old"))
        for key in keys:
            copied(cache, key)
        for key in keys:
            kind.put(writer, key, "new")
            wait_until(lambda key=key: cache.get(key) == "new", "the new value is seen")
        wait_until(lambda: cache.get_many(keys) and near_hits(cache) >= 24, "all are copied again")
        cache.flush()
        assert writer.get_stats()[kind.hits] == cache.local_stats()["hits"]


# what goes


@pytest.mark.parametrize(
    ("kind", "change"), [(KINDS[name], change) for name, change in CHANGES], ids=map("-".join, CHANGES)
)
def test_a_change_by_somebody_is_seen(kind, change, near, other, real):
    real.checked = change != "deleted by hand"
    cache = near(**{kind.bound: 3}, policy="lru", reconfigure=True)
    kind.put(other, "k", "old")
    copied(cache, "k")
    kind.changes[change](other, real)
    wanted = "new" if change.startswith(("put", "set")) else None
    wait_until(lambda: cache.get("k") == wanted, "the change is seen")


OWN = [("smart", change) for change in ("put", "put_many", "invalidate", "dependency", "clear")]
OWN += [("content", change) for change in ("set", "set_many", "clear")]


@pytest.mark.parametrize(("kind", "change"), [(KINDS[name], change) for name, change in OWN], ids=map("-".join, OWN))
def test_ones_own_change_is_seen_at_once(kind, change, near):
    cache = near()
    cache.raw._near.changed = lambda *_: None  # reports are on their way for ever
    for _ in range(20):
        kind.put(cache, "k", "old")
        cache.get("k")
        cache.get("k")
        kind.changes[change](cache, None)
        assert cache.get("k") == ("new" if change.startswith(("put", "set")) else None)


def test_a_value_that_is_refused_takes_the_copy_along(near, kind):
    cache = near(max_value_bytes=100)
    for put in (lambda: kind.put(cache, "k", "x" * 1000), lambda: kind.put_many(cache, {"k": "x" * 1000})):
        kind.put(cache, "k", "old")
        copied(cache, "k")
        with pytest.raises(ValueTooLarge):
            put()
        assert cache.get("k") is None


def test_a_copy_ends_with_the_entrys_deadline(near, other, kind):
    """Nobody removes it, so nothing is reported."""
    cache = near(ttl_seconds=2, reconfigure=True)
    kind.put(other, "k", "x")
    began = time.monotonic()
    wait_until(lambda: is_near(cache, "k"), "the key is copied")
    assert 0 < cache.raw._near._find(kind.name("k")).until - began <= 2.01
    wait_until(lambda: cache.get("k") is None, "it has expired")


def test_a_deadline_is_the_entrys_and_not_that_of_the_config(near, real, kind, other):
    """Another client may have changed the shared time to live since this one read it."""
    cache = near(ttl_seconds=600, reconfigure=True)
    with kind.blocking(url=real.url, ttl_seconds=20, reconfigure=True, timeout_s=10.0) as changed:
        kind.put(changed, "k", "x")
        copied(cache, "k")
        assert 0 < cache.raw._near._find(kind.name("k")).until - time.monotonic() <= 20


def test_with_sliding_expiry_the_server_sees_reads_in_time(near, kind, other, real):
    cache = near(ttl_seconds=1.5, sliding=True, reconfigure=True)
    kind.put(cache, "k", "x")
    copied(cache, "k")
    assert cache.raw._near._find(kind.name("k")).until - time.monotonic() <= 0.75
    began, before = time.monotonic(), near_hits(cache)
    while time.monotonic() - began < 3.2:
        assert cache.get("k") == "x", "it is used all the time"
    assert near_hits(cache) > before


# what is counted


def test_after_flush_the_server_has_counted_every_call(near, other, kind):
    cache = near()
    for key in "abc":
        kind.put(other, key, "x")
        copied(cache, key)
    for round_ in range(700):
        cache.get("abc"[round_ % 3])
    cache.get_many("abc")
    cache.get("gone")
    cache.flush()
    local, stats = cache.local_stats(), other.get_stats()
    assert local["near_hits"] >= 700
    assert stats[kind.hits] == local["hits"]
    assert stats["misses"] == local["misses"]


def test_the_own_statistics_know_of_the_last_use(near, other, kind):
    cache = near()
    kind.put(other, "k", "x")
    copied(cache, "k")
    for _ in range(3):
        cache.get("k")
        assert cache.get_stats()[kind.hits] == cache.local_stats()["hits"]


def test_a_use_here_is_recency_there(near, other, kind):
    cache = near(**{kind.bound: 2}, policy="lru", reconfigure=True)
    kind.put(other, "old", "x")
    copied(cache, "old")
    kind.put(other, "new", "x")
    assert is_near(cache, "old")
    cache.flush()
    kind.put(other, "newest", "x")
    assert other.get("old") == "x"
    assert other.get("new") is None


@pytest.mark.parametrize("many", [False, True])
def test_a_put_of_ones_own_does_not_evict_what_was_just_used_here(near, kind, monkeypatch, many):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(**{kind.bound: 2}, policy="lru", reconfigure=True)
    kind.put(cache, "old", "x")
    kind.put(cache, "new", "x")
    for number in range(5):
        copied(cache, "old")
        assert cache.get("old") == "x"
        if many:
            kind.put_many(cache, {str(number): "x"})
        else:
            kind.put(cache, str(number), "x")
        assert cache.get("old") == "x"


def test_uses_arrive_before_what_is_over_the_bounds_or_expired_is_removed(near, kind, monkeypatch):
    """They may extend its life."""
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(ttl_seconds=600, sliding=True, reconfigure=True)
    kind.put(cache, "k", "x")
    copied(cache, "k")
    cache.get("k")
    flows = cache.raw._flows
    flows._tidied_at = flows._uses._sent_at = -math.inf
    first, second = flows._riders(flows._ops)
    assert (first.script.name, second.script.name.partition("_")[2]) == ("near_touches", "tidy")
    flows._uses.rode([first], [])
    cache.cleanup_expired()
    assert not flows._uses.some


@pytest.mark.parametrize("whole", [False, True])
def test_uses_of_what_one_removes_oneself_arrive_before(near, other, kind, monkeypatch, whole):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(max_value_bytes=1000)
    kind.put(cache, "k", "x")
    copied(cache, "k")
    for _ in range(5):
        cache.get("k")
    if whole:
        cache.clear()
    else:
        kind.remove(cache, "k")
    assert other.get_stats()[kind.hits] == cache.local_stats()["hits"]


def test_a_write_takes_along_no_more_uses_than_its_deadline_allows(near, other, kind, real, monkeypatch):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache, keys = near(), [str(number) for number in range(3000)]
    kind.put_many(other, dict.fromkeys(keys, "x"))
    wait_until(lambda: cache.get_many(keys) and near_hits(cache) >= 2000, "most are copied")
    cache.flush()
    before = near_hits(cache)
    wait_until(lambda: [cache.get(key) for key in keys] and near_hits(cache) > before + 4000, "many uses")
    real.client.config_resetstat()
    kind.put(cache, "new", "x")
    assert real.client.info("commandstats")["cmdstat_evalsha"]["calls"] <= 4
    cache.flush()
    assert other.get_stats()[kind.hits] == cache.local_stats()["hits"]


def test_a_use_is_recency_in_the_entrys_own_partition(near, kind, monkeypatch):
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near(**{kind.bound: 64}, policy="lru", partitions=4, namespace="parts")
    used = ["a", "b", "c", "d"]
    kind.put_many(cache, dict.fromkeys(used, "x"))
    for key in used:
        copied(cache, key)
    for number in range(150):
        for key in used:
            assert cache.get(key) == "x"
        kind.put(cache, str(number), "x")
    assert near_hits(cache) > 300
    assert cache.get_stats()["evictions"] > 50


def test_uses_ride_along_with_the_next_call_and_are_sent_in_time_without_one(near, other, kind, monkeypatch):
    monkeypatch.setattr(tracking, "REPORT_S", 0.05)
    cache = near()
    kind.put(other, "k", "x")
    copied(cache, "k")

    def counted() -> bool:
        turn(cache)
        return other.get_stats()[kind.hits] == cache.local_stats()["hits"]

    wait_until(counted, "uses are sent without a call")
    cache.get("k")
    wait_until(lambda: (cache.get("absent"), counted())[1], "uses ride along")


@pytest.mark.parametrize("fault", ["swallow", "deaf"])
def test_uses_that_may_not_have_arrived_are_sent_again_and_counted_once(fault, real, opener, kind):
    """The reply is lost, or the request is."""
    with fault_proxy(real.server.path) as proxy:
        cache = opener(kind.blocking, kind.asynchronous, url=proxy.url, timeout_s=0.3, near=True)
        kind.put(cache, "k", "x")
        wait_until(lambda: is_live(cache), "the near cache is live")
        copied(cache, "k")
        for _ in range(5):
            cache.get("k")
        setattr(proxy, fault, True)
        cache.flush()
        assert cache.local_stats()["errors"] > 0
        setattr(proxy, fault, False)
        proxy.cut()
        wait_until(lambda: cache.get_stats()[kind.hits] == cache.local_stats()["hits"], "every use is counted once")


def test_a_reader_that_may_not_write_has_copies_and_counts_nothing(near, other, kind):
    kind.put(other, "k", "x")
    cache = near(read_only=True)
    copied(cache, "k")
    cache.flush()
    assert other.get_stats()[kind.hits] == 0
    kind.put(other, "k", "y")
    wait_until(lambda: cache.get("k") == "y", "the change is seen")
    copied(cache, "k")
    assert cache.get_many(["k"]) == {"k": "y"}


# what breaks


def test_a_killed_connection_empties_and_comes_back(near, other, real, kind):
    cache = near()
    kind.put(other, "k", "old")
    for round_ in range(3):
        copied(cache, "k")
        [mine] = trackers(real)
        real.client.client_kill_filter(_id=mine["id"])
        kind.put(other, "k", str(round_))
        wait_until(lambda round_=round_: cache.get("k") == str(round_), "nothing stale is left")
        wait_until(lambda: is_live(cache), "the near cache is live again")


def test_a_connection_that_only_looks_alive_is_not_believed(real, opener, kind, other, monkeypatch):
    monkeypatch.setattr(tracking, "PING_S", 0.05)
    monkeypatch.setattr(tracking, "LEASE_S", 0.3)
    monkeypatch.setattr(near_module, "LEASE_S", 0.3)
    with fault_proxy(real.server.path) as proxy:
        cache = opener(kind.blocking, kind.asynchronous, url=proxy.url, timeout_s=0.2, near=True)
        kind.put(other, "k", "old")
        wait_until(lambda: is_live(cache), "the near cache is live")
        copied(cache, "k")
        proxy.swallow = True
        kind.put(other, "k", "new")
        wait_until(lambda: cache.get("k") is None, "the copy is not believed any more")
        proxy.swallow = False
        wait_until(lambda: cache.get("k") == "new", "the server is asked")
        wait_until(lambda: is_live(cache), "the silent connection is replaced")


def test_closing_ends_the_tracking_and_a_later_read_starts_it(near, other, real, kind):
    cache = near()
    kind.put(other, "k", "x")
    copied(cache, "k")
    cache.close()
    assert not cache.raw._near.live
    wait_until(lambda: not trackers(real), "the connection is closed")
    wait_until(lambda: is_live(cache), "the near cache is live again")
    copied(cache, "k")


def test_closing_ends_the_tracking_before_connections_and_server_go(near, other, kind, monkeypatch):
    """And what was used until then is told nevertheless."""
    monkeypatch.setattr(tracking, "REPORT_S", 1000.0)
    cache = near()
    kind.put(other, "k", "x")
    copied(cache, "k")
    live = []
    monkeypatch.setattr(cache.raw._engine, "close", lambda: live.append(cache.raw._near.live))
    cache.close()
    assert live == [False]
    assert other.get_stats()[kind.hits] == cache.local_stats()["hits"]


def test_closing_ends_the_tracking_though_the_uses_cannot_be_sent(near, real, monkeypatch):
    def fail():
        raise Unavailable("not now")
        yield

    cache = near()
    with monkeypatch.context() as patched:
        patched.setattr(cache.raw._flows, "flush", fail)
        with pytest.raises(Unavailable):
            cache.close()
    wait_until(lambda: not trackers(real), "the connection is closed")


def test_closing_waits_for_a_report_that_is_being_sent(real, kind, monkeypatch):
    """Else it would connect again when the server has been let go."""

    def slowly():
        if threading.current_thread().name == "distcache-periodic":
            began.set()
            wait_until(closing.is_set, "the cache is being closed")
            time.sleep(0.02)  # so long the rest of close() would not take
            told.append("report")
        return
        yield

    began, closing, told = threading.Event(), threading.Event(), []
    monkeypatch.setattr(tracking, "REPORT_S", 0.01)
    with kind.blocking(url=real.url, timeout_s=10.0, near=True) as cache:
        monkeypatch.setattr(cache._flows, "flush", slowly)
        wait_until(began.is_set, "a report is being sent")
        monkeypatch.setattr(cache._near, "lost", lambda _source: closing.set())
        monkeypatch.setattr(cache._engine, "close", lambda: told.append("closed"))
    assert told == ["report", "closed"]


def test_a_start_during_a_stop_is_whole(tmp_path):
    """What stop() ends is what it found, and not what another thread has just started."""

    class Reporter:
        def report(self) -> None:
            pass

    class Starting:
        """A lock; as soon as stop() has let go of it, the tracking is started again."""

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_error: object) -> None:
            tracked._lock = threading.Lock()
            tracked.start(reporter.report)

    near, reporter = Near(NearCache(), lambda _name: False, threading.Lock, counts=True), Reporter()
    near.watch((b"prefix",))
    tracked = tracking.Tracking(near, Endpoint(f"unix://{tmp_path}/nobody"))
    tracked.start(reporter.report)
    first, tracked._lock = tracked._thread, Starting()
    tracked.stop()
    first.join()
    assert tracked._thread.is_alive()
    assert tracked._finalizer.alive
    assert not tracked._reports._stop.is_set()
    tracked.stop()
    assert tracked._thread is None


@FORKS
def test_a_child_process_starts_empty_on_a_connection_of_its_own(real, other, kind):
    with kind.blocking(url=real.url, timeout_s=10.0, on_error="raise", near=True) as cache:
        kind.put(other, "k", "x")
        wait_until(lambda: cache._near.live and cache.get("k"), "the near cache is live")
        cache.get("k")
        child = os.fork()
        if child == 0:
            _child(cache, other, real, kind)
        assert os.waitpid(child, 0)[1] == 0
        wait_until(lambda: cache.get("k") == "child", "the parent sees the change")
        cache.flush()
        assert cache._near.live


def _child(cache, other, real, kind) -> None:
    try:
        assert cache._near._find(kind.name("k")) is None
        assert cache.get("k") == "x"
        wait_until(lambda: cache._near.live, "live in the child")
        wait_until(lambda: len(trackers(real)) == 2, "two connections")
        kind.put(other, "k", "child")
        wait_until(lambda: cache.get("k") == "child", "the child sees the change")
        os._exit(0)
    finally:
        os._exit(1)


def test_fakeredis_has_no_reports_and_everything_works(fakebackend, opener, kind, caplog):
    with caplog.at_level(logging.WARNING, logger="distcache"):
        cache = opener(kind.blocking, kind.asynchronous, url=fakebackend.url, on_error="raise", near=True)
        for output in ("x", "y"):
            kind.put(cache, "k", output)
            assert [cache.get("k"), cache.get("k"), cache.get("K")] == [output, output, None]
        wait_until(lambda: caplog.records, "the log says so")
        cache.get("k")
    assert [record.message.startswith("the near cache is off") for record in caplog.records] == [True]
    assert near_hits(cache) == 0


@pytest.mark.parametrize("permitted", [True, False])
def test_a_server_that_does_not_permit_it_is_named_once(permitted, real, opener, kind, caplog):
    user = f"near-{permitted}"
    real.client.execute_command(
        "ACL", "SETUSER", user, "on", ">p", *acl.rules("writer", kind.namespace, near=permitted)
    )
    url = real.url.replace("unix://", f"unix://{user}:p@")
    with caplog.at_level(logging.WARNING, logger="distcache"):
        cache = opener(kind.blocking, kind.asynchronous, url=url, on_error="raise", near=NearCache(10))
        kind.put(cache, "k", "x")
        if permitted:
            wait_until(lambda: is_live(cache), "the near cache is live")
            copied(cache, "k")
        else:
            wait_until(lambda: cache.get("k") and caplog.records, "the log says so")
            assert near_hits(cache) == 0
    assert ["NOPERM" in record.message for record in caplog.records] == [True] * (not permitted)


def test_a_cache_that_is_made_anew_is_tracked_anew(near, real, kind):
    def made(partitions: int, output: str) -> None:
        with kind.blocking(url=real.url, namespace="anew", partitions=partitions, timeout_s=10.0) as writer:
            kind.put(writer, "k", output)

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


def test_loops_that_take_turns_leave_no_task_behind(real, kind):
    async def use() -> None:
        await cache.get_many(["k"])

    async def tasks() -> set[str]:
        await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks()} & {"distcache-near", "distcache-periodic"}

    cache = kind.asynchronous(url=real.url, timeout_s=10.0, near=True)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for _ in range(5):
            one.run(use())
            other.run(use())
        other.run(cache.aclose())
        for loop in (one, other):
            wait_until(lambda loop=loop: not loop.run(tasks()), "its tasks have ended")


def test_threads_and_loops_leave_nothing_behind(real, kind):
    before = threading.active_count()
    with kind.blocking(url=real.url, near=True) as cache:
        wait_until(lambda: cache._near.live, "live")
    wait_until(lambda: threading.active_count() <= before, "the threads have ended")

    async def use() -> None:
        cache = kind.asynchronous(url=real.url, near=True)
        while not cache._near.live:
            await cache.get("k")
        # never closed: the loop ends the task

    asyncio.run(use())
    wait_until(lambda: not trackers(real), "the connections are closed")
