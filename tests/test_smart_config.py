"""The config that all clients of a cache share: agreed once, adopted, changed on purpose; and several partitions."""

from __future__ import annotations

import threading

import pytest
from conftest import TIMEOUT_S

from distcache import ConfigMismatch, SmartCache
from distcache.config import SharedConfig
from distcache.keys import LAYOUT, Keyspace, key_id, raw

SHARED = {
    "max_entries": (20, 30),
    "max_size_mb": (2, 3),
    "policy": ("lru", "lru_freq"),
    "ttl_seconds": (100, 200),
    "sliding": (True, False),
    "versions": (2, 3),
    "events": (["HIT"], ["MISS"]),
    "event_cap": (500, 600),
    "history": (5, 6),
    "history_age_s": (1000, 2000),
}


def stored(backend, partition=0, namespace="smart"):
    fields = backend.client.hgetall(Keyspace(namespace, 64).partitions[partition].state)
    return {name.decode(): value.decode() for name, value in fields.items()}


def test_the_first_client_decides_and_the_others_adopt(smart):
    smart(max_entries=7, policy="lru", versions=2)
    stats = smart().get_stats()
    assert (stats["max_entries"], stats["policy"]) == (7, "lru")
    cache = smart()
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    assert cache.get("a", "h1") == "1"


@pytest.mark.parametrize("name", SHARED)
def test_asking_for_something_else_is_a_mismatch(smart, backend, name):
    first, second = SHARED[name]
    smart(**{name: first})
    smart(**{name: first})
    before = stored(backend)
    with pytest.raises(ConfigMismatch, match=r"is .* and was asked to be .* reconfigure=True"):
        smart(**{name: second})
    assert stored(backend) == before


def test_the_mismatch_prints_both_and_only_what_differs(smart):
    smart(max_entries=20, policy="lru")
    with pytest.raises(ConfigMismatch) as raised:
        smart(max_entries=30, policy="lru")
    assert "max_entries is 20 and was asked to be 30" in str(raised.value)
    assert "policy" not in str(raised.value)


def test_a_default_given_by_name_is_insisted_on(smart):
    smart(max_entries=20)
    with pytest.raises(ConfigMismatch, match="asked to be 10000"):
        smart(max_entries=10_000)


@pytest.mark.parametrize("name", SHARED)
def test_reconfiguring_changes_it_for_everyone(smart, backend, name):
    first, second = SHARED[name]
    old = smart(**{name: first})
    old.put("a", "x", "h")
    smart(**{name: second}, reconfigure=True)
    smart(**{name: second})
    assert old.get("a") == "x"
    with pytest.raises(ConfigMismatch):
        smart(**{name: first})
    backend.check()


def test_reconfiguring_leaves_alone_what_is_not_named(smart):
    smart(max_entries=20, policy="lru")
    smart(max_entries=30, reconfigure=True)
    stats = smart().get_stats()
    assert (stats["max_entries"], stats["policy"]) == (30, "lru")


def test_the_number_of_partitions_and_the_kind_cannot_change(smart, backend):
    smart(partitions=2)
    for reconfigure in (False, True):
        with pytest.raises(ConfigMismatch, match="another namespace"):
            smart(partitions=3, reconfigure=reconfigure)
    assert smart().get_stats()["partitions"] == 2
    backend.client.hset(Keyspace("other", 1).partitions[0].state, mapping=SharedConfig("content").to_fields())
    with pytest.raises(ConfigMismatch, match="kind is content"):
        smart(namespace="other", reconfigure=True)
    backend.client.flushall()


def test_another_layout_is_refused(smart, backend):
    smart()
    backend.client.hset(Keyspace("smart", 1).partitions[0].state, "layout", LAYOUT + 1)
    with pytest.raises(ConfigMismatch, match="layout"):
        smart()
    backend.client.flushall()


@pytest.mark.parametrize("partitions", [1, 3])
def test_lower_bounds_hold_at_once(smart, backend, partitions):
    cache = smart(max_entries=30, max_size_mb=3, policy="lru", partitions=partitions)
    for number in range(20):
        cache.put(f"k{number}", "x" * 100_000, "h")
    backend.checked = False
    smart(max_entries=6, reconfigure=True)
    assert backend.problems(lowered=True) == []
    assert cache.get_stats()["entries"] <= 6
    if partitions == 1:
        assert sorted(cache.keys()) == [f"k{number}" for number in range(14, 20)]
    smart(max_size_mb=0.2 * partitions, reconfigure=True)
    assert backend.problems(lowered=True) == []
    assert cache.get_stats()["total_size_mb"] <= 0.2 * partitions
    cache.put("new", "x", "h")
    assert cache.get("new") == "x"


def test_higher_bounds_hold_at_once(smart):
    cache = smart(max_entries=2)
    smart(max_entries=4, reconfigure=True)
    for number in range(5):
        cache.put(f"k{number}", "x", "h")
    assert cache.get_stats()["entries"] == 4


@pytest.mark.parametrize("before", ["adaptive", "lru", "lru_freq"])
@pytest.mark.parametrize("after", ["adaptive", "lru", "lru_freq"])
def test_another_policy_does_not_leave_old_entries_for_ever(smart, before, after):
    """Scores of two policies cannot be compared, so the old ones are made anew."""
    cache = smart(max_entries=4, policy=before)
    for number in range(4):
        cache.put(f"old{number}", "x", "h")
    smart(policy=after, reconfigure=True)
    for number in range(4):
        cache.put(f"new{number}", "x", "h")
        assert cache.has(f"new{number}"), "the entry just written is not the first to go"
    assert sorted(cache.keys()) == [f"new{number}" for number in range(4)]


@pytest.mark.parametrize("twin", ["sync"], indirect=True)
def test_many_first_clients_agree(backend, smart, tmp_path):
    """Twelve threads make the same cache, each with another bound: one wins, the others are told."""
    results, ready = [], threading.Barrier(12)

    def work(number):
        ready.wait(10)
        try:
            cache = SmartCache(
                tmp_path, 100 + number, url=backend.url, partitions=4, timeout_s=TIMEOUT_S, on_error="raise"
            )
            results.append(cache.get_stats()["max_entries"])
            cache.close()
        except ConfigMismatch:
            results.append(None)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 12
    assert [one for one in results if one is not None] == [smart().get_stats()["max_entries"]]


# flushed behind the client's back


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_flush_behind_the_clients_back_is_repaired(smart, backend, partitions):
    cache = smart(max_entries=9, partitions=partitions)
    cache.put("a", "x", "h")
    calls = [
        lambda: cache.get("a") is None,
        lambda: cache.put("a", "y", "h"),
        lambda: cache.has("a") is False,
        lambda: cache.get_many(["a", "b"]) == {},
        lambda: cache.put_many([{"key": "b", "output": "y", "content_hash": "h"}]) == 1,
        lambda: cache.invalidate("a") is False,
        lambda: cache.invalidate_by_dependency("a") == [],
        lambda: cache.touch("a") is False,
        lambda: cache.inspect("a") is None,
        lambda: cache.get_history("a") == [],
        lambda: cache.keys() == [],
        lambda: cache.clear() == 0,
        lambda: cache.cleanup_expired() == 0,
        lambda: cache.get_stats()["entries"] == 0,
        lambda: cache.get_hot_entries() == [],
        lambda: cache.get_predicted_next("a") == [],
        lambda: isinstance(cache.get_recent_events(), list),
        lambda: cache.flush() is None,
    ]
    for call in calls:
        backend.client.flushall()
        backend.client.script_flush()
        assert call()
        assert cache.get_stats()["max_entries"] == 9, "the config that the client knew is the cache's again"
        backend.check()


def test_a_cache_made_anew_with_other_partitions_is_found(smart, backend):
    old = smart(partitions=2)
    old.put("a", "x", "h")
    adopter = smart()
    assert adopter.get("a") == "x"
    backend.client.flushall()
    smart(partitions=5).put("a", "y", "h")
    assert adopter.get("a") == "y"
    with pytest.raises(ConfigMismatch, match="partitions is 5 and was asked to be 2"):
        old.get("a")


# partitions


def test_keys_spread_over_partitions_and_bounds_add_up(smart, backend):
    cache = smart(max_entries=50, max_size_mb=1, partitions=7)
    bounds = [(int(s["bound_entries"]), int(s["bound_bytes"])) for s in (stored(backend, n) for n in range(7))]
    assert tuple(map(sum, zip(*bounds, strict=True))) == (50, 1024 * 1024)
    for number in range(40):
        cache.put(f"k{number}", "x", "h")
    keyspace = Keyspace("smart", 7)
    for number in range(40):
        part = keyspace.of(key_id(raw(f"k{number}")))
        in_place = backend.client.exists(part.entry(key_id(raw(f"k{number}"))))
        assert in_place == cache.has(f"k{number}")


def test_whole_cache_operations_fan_out(smart, backend):
    cache = smart(partitions=6, max_entries=600)
    names = [f"k{number}" for number in range(60)]
    assert cache.put_many({"key": n, "output": n, "content_hash": "h", "dependencies": ["d"]} for n in names) == 60
    assert cache.get_many(names) == {name: name for name in names}
    assert sorted(cache.keys()) == sorted(names)
    for name in names[:5]:
        cache.get(name)
    assert {row["key"] for row in cache.get_hot_entries(5)} == set(names[:5])
    assert {row["access_count"] for row in cache.get_hot_entries(5)} == {2}
    stats = cache.get_stats()
    assert (stats["entries"], stats["hits"], stats["writes"], stats["partitions"]) == (60, 65, 60, 6)
    events = cache.get_recent_events(10)
    assert len(events) == 10
    assert [event["timestamp"] for event in events] == sorted(event["timestamp"] for event in events)
    assert cache.get_recent_events(1)[0]["timestamp"] == events[-1]["timestamp"]
    assert sorted(cache.invalidate_by_dependency("d")) == sorted(names)
    cache.put_many({"key": n, "output": n, "content_hash": "h", "ttl_seconds": 5} for n in names)
    backend.let_pass(6)
    assert cache.cleanup_expired() == 60
    cache.put_many({"key": n, "output": n, "content_hash": "h"} for n in names)
    assert cache.clear() == 60
    assert cache.get_stats()["entries"] == 0
