"""Several content hashes of one key, and entries that expire."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from conftest import BACKENDS

from distcache.errors import ConfigError, ValueTooLarge


@pytest.fixture
def cache(smart):
    return smart(versions=3)


def test_one_version_is_the_default(smart):
    cache = smart()
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    assert cache.get("a", "h1") is None
    assert [version.content_hash for version in cache.inspect("a").versions] == ["h2"]


def test_versions_are_found_by_hash_and_the_latest_without(cache):
    for number in range(1, 6):
        cache.put("a", str(number), f"h{number}")
    assert cache.get("a") == "5"
    assert [cache.get("a", f"h{number}") for number in range(1, 6)] == [None, None, "3", "4", "5"]
    assert cache.has("a", "h3")
    assert not cache.has("a", "h2")
    stats = cache.get_stats()
    assert (stats["entries"], stats["hits"], stats["misses"]) == (3, 4, 2)
    assert [version.content_hash for version in cache.inspect("a").versions] == ["h5", "h4", "h3"]
    assert cache.keys() == ["a"]
    assert [event["details"] for event in cache.get_recent_events() if event["type"] == "EVICT"] == [
        "older version"
    ] * 2


def test_an_older_hash_put_again_is_the_latest(cache):
    for content_hash in ("h1", "h2", "h3", "h1", "h1"):
        cache.put("a", content_hash, content_hash)
    assert cache.get("a") == "h1"
    assert [version.content_hash for version in cache.inspect("a").versions] == ["h1", "h3", "h2"]
    assert cache.get_stats()["entries"] == 3


def test_each_version_counts_its_own_use(cache):
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    for _ in range(3):
        cache.get("a", "h1")
    cache.get("a")
    assert [(v.content_hash, v.access_count) for v in cache.inspect("a").versions] == [("h2", 1), ("h1", 3)]
    assert [(row["key"], row["access_count"]) for row in cache.get_hot_entries()] == [("a", 3)]


@pytest.mark.parametrize("twin", ["sync"], indirect=True)
@pytest.mark.parametrize("backend", BACKENDS[-1:], indirect=True)
def test_the_hottest_of_many_are_found_in_steps(smart):
    """More entries than one step looks at, of each key several versions: the most used version counts."""
    cache = smart(versions=3, events=[], history=0)
    hashes = ["h0", "h1", "h2"]
    for content_hash in hashes:
        cache.put_many({"key": f"k{n}", "output": "x", "content_hash": content_hash} for n in range(400))
    expected = {}
    for number in range(0, 400, 10):
        for place, content_hash in enumerate(hashes):
            for _ in range((number // 10 + place * 7) % 11):
                cache.get(f"k{number}", content_hash)
        expected[f"k{number}"] = max((number // 10 + place * 7) % 11 for place in range(3))
    for count in (1, 10, 35):
        hot = cache.get_hot_entries(count)
        assert [row["access_count"] for row in hot] == sorted(expected.values(), reverse=True)[:count]
        assert all(row["access_count"] == expected[row["key"]] for row in hot)
        assert len({row["key"] for row in hot}) == count


def test_versions_of_one_key_do_not_push_others_out_of_the_hottest(cache):
    for number, content_hash in enumerate(("h1", "h2", "h3")):
        cache.put("a", content_hash, content_hash)
        for _ in range(5 - number):
            cache.get("a")
    cache.put("b", "x", "h")
    cache.get("b")
    assert [(row["key"], row["access_count"]) for row in cache.get_hot_entries(2)] == [("a", 5), ("b", 1)]


def test_each_version_is_an_entry_to_the_policy(smart):
    cache = smart(versions=2, max_entries=3, policy="lru")
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    cache.put("b", "b", "h")
    cache.get("a", "h1")
    cache.put("c", "c", "h")
    assert cache.get("a", "h2") is None
    assert cache.get("a", "h1") == "1"


def test_an_older_version_is_found_when_the_latest_is_gone(smart):
    cache = smart(versions=2, max_entries=2, policy="lru")
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    cache.get("a", "h1")
    cache.put("b", "b", "h")
    assert cache.get("a", "h2") is None
    assert cache.has("a", "h1")
    assert cache.get("a", "h1") == "1"
    assert cache.get("a") is None, "the latest is gone, and another one is not the latest"
    assert cache.keys("a") == ["a"]
    cache.put("a", "3", "h3")
    assert cache.get("a", "h1") == "1"
    assert cache.invalidate("a")
    assert cache.get("a", "h1") is None


def test_an_older_version_is_found_when_the_latest_has_expired(smart, backend):
    cache = smart(versions=2)
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2", ttl_seconds=10)
    backend.let_pass(11)
    assert cache.get("a", "h1") == "1"
    assert cache.get("a", "h2") is None
    assert cache.cleanup_expired() == 1
    assert cache.get("a", "h1") == "1"


def test_the_same_output_for_two_hashes(cache):
    cache.put("a", "same", "h1", ["x"])
    cache.put("a", "same", "h2", ["y"])
    assert cache.get("a", "h1") == cache.get("a", "h2") == "same"


def test_invalidate_removes_all_versions(cache):
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    assert cache.invalidate("a") is True
    assert cache.get("a", "h1") is None
    assert cache.get_stats()["invalidations"] == 2
    assert cache.invalidate("a") is False


def test_clear_removes_all_versions(cache):
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    assert cache.clear() == 2


def test_fewer_versions_from_now_on(smart):
    cache = smart(versions=3)
    for number in range(3):
        cache.put("a", str(number), f"h{number}")
    cache = smart(versions=1, reconfigure=True)
    cache.put("a", "3", "h3")
    assert [version.content_hash for version in cache.inspect("a").versions] == ["h3"]


def test_versions_with_deadlines_and_dependencies(cache, backend):
    cache.put("a", "1", "h1", ["x"], ttl_seconds=10)
    cache.put("a", "2", "h2", ["x"])
    cache.put("b", "b", "h", ["a"])
    backend.let_pass(11)
    assert cache.get("a", "h1") is None
    assert cache.cleanup_expired() == 1
    assert sorted(cache.invalidate_by_dependency("x", transitive=True)) == ["a", "b"]


# time to live


@pytest.fixture(params=["cache", "put"])
def expiring(smart, request):
    """A cache whose entry `a` lives for ten seconds, by the cache's config or by the put's."""
    cache = smart(ttl_seconds=10) if request.param == "cache" else smart()
    cache.put("a", "x", "h", **({} if request.param == "cache" else {"ttl_seconds": 10}))
    return cache


def test_an_entry_expires(expiring, backend):
    backend.let_pass(9)
    assert expiring.get("a") == "x"
    backend.let_pass(1)
    assert expiring.get("a") is None
    assert not expiring.has("a")
    assert expiring.get_many(["a"]) == {}
    assert expiring.keys() == []
    assert expiring.inspect("a") is None
    assert not expiring.touch("a")
    assert expiring.get_hot_entries() == []
    assert expiring.get_recent_events()[-1]["details"] == "expired"


def test_cleanup_counts_what_it_removed(expiring, backend):
    assert expiring.cleanup_expired() == 0
    expiring.put("forever", "y", "h", ttl_seconds=math.inf)
    expiring.put("b", "y", "h", ttl_seconds=5)
    backend.let_pass(11)
    assert expiring.cleanup_expired() == 2
    assert expiring.cleanup_expired() == 0
    assert expiring.keys() == ["forever"]
    stats = expiring.get_stats()
    assert (stats["entries"], stats["expirations"], stats["evictions"]) == (1, 2, 0)


@pytest.mark.parametrize("source", ["h", "other"])
@pytest.mark.parametrize("versions", [1, 2])
def test_what_expired_is_counted_and_told_when_it_is_replaced(smart, backend, versions, source):
    cache = smart(ttl_seconds=10, versions=versions)
    cache.put("a", "x", "h")
    backend.let_pass(11)
    cache.put("a", "y", source)
    assert (cache.get("a"), cache.get("a", "h")) == ("y", "y" if source == "h" else None)
    assert [(event["type"], event["details"]) for event in cache.get_recent_events(10)[1:3]] == [
        ("EVICT", "expired"),
        ("WRITE", "size=1, compile_time=0ms"),
    ]
    assert (cache.get_stats()["expirations"], cache.cleanup_expired()) == (1, 0)


@pytest.mark.parametrize("size", [1, 2000])
def test_it_is_counted_however_much_has_expired(smart, backend, size):
    cache = smart(ttl_seconds=10, max_size_mb=0.001)
    for number in range(12):
        cache.put(f"key {number}", "x", "h")
    backend.let_pass(11)
    with suppress(ValueTooLarge):
        cache.put("key 11", "y" * size, "h")
    cache.cleanup_expired()
    stats = cache.get_stats()
    assert (stats["expirations"], stats["evictions"], stats["entries"]) == (12, 0, 1 if size == 1 else 0)


def test_what_expired_takes_no_older_version_s_place(smart, backend):
    cache = smart(versions=2)
    for number in range(8):
        cache.put(f"key {number}", "x", "h", ttl_seconds=5)
    cache.put("a", "older", "h1")
    cache.put("a", "expired", "h2", ttl_seconds=10)
    backend.let_pass(11)
    cache.put("a", "new", "h3")
    assert (cache.get("a"), cache.get("a", "h2"), cache.get("a", "h1")) == ("new", None, "older")


def test_expired_entries_go_before_live_ones(smart, backend):
    cache = smart(max_entries=2, policy="lru")
    cache.put("a", "x", "h")
    cache.put("b", "x", "h", ttl_seconds=10)
    backend.let_pass(11)
    cache.put("c", "x", "h")
    assert sorted(cache.keys()) == ["a", "c"]
    assert cache.get_stats()["evictions"] == 0


def test_reads_reap_what_has_expired(smart, backend, monkeypatch):
    monkeypatch.setattr("distcache.smart.flows.TIDY_S", 0)
    cache = smart(ttl_seconds=10)
    for number in range(5):
        cache.put(f"k{number}", "x", "h")
    backend.let_pass(11)
    for _ in range(3):
        cache.get("other")
    assert cache.get_stats()["entries"] == 0


def test_a_hit_does_not_prolong_a_fixed_deadline(expiring, backend):
    before = expiring.inspect("a").expires_at
    expiring.get("a")
    assert expiring.touch("a")
    assert expiring.inspect("a").expires_at == before


def test_a_hit_prolongs_a_sliding_deadline(smart, backend):
    cache = smart(ttl_seconds=10, sliding=True)
    cache.put("a", "x", "h")
    cache.put("b", "x", "h", ttl_seconds=100)
    cache.put("c", "x", "h", ttl_seconds=math.inf)
    for _ in range(30):
        backend.let_pass(9)
        assert cache.get("a") == "x"
    assert cache.get("b") is None
    assert cache.get("c") == "x"
    backend.let_pass(9)
    assert cache.touch("a")
    backend.let_pass(9)
    assert cache.has("a")
    backend.let_pass(9)
    assert cache.get("a") is None, "has() is no use"


def test_touch_gives_a_new_deadline(expiring, backend):
    assert expiring.touch("a", 100)
    backend.let_pass(50)
    assert expiring.get("a") == "x"
    assert expiring.touch("a", ttl_seconds=math.inf)
    assert expiring.inspect("a").expires_at is None
    backend.let_pass(1000)
    assert expiring.get("a") == "x"
    assert expiring.touch("a", 1)
    backend.let_pass(1)
    assert expiring.get("a") is None


def test_a_put_replaces_the_deadline(expiring, backend):
    expiring.put("a", "y", "h", ttl_seconds=50)
    backend.let_pass(20)
    assert expiring.get("a") == "y"
    expiring.put("a", "z", "h", ttl_seconds=math.inf)
    backend.let_pass(100)
    assert expiring.get("a") == "z"


def test_the_servers_own_expiry_is_a_safety_net(smart, backend):
    """Nobody reaped it: the key goes by itself, and the accounting stays exact."""
    cache = smart()
    cache.put("a", "x" * 100, "h", ["d"], ttl_seconds=10)
    cache.put("b", "y", "h")
    backend.let_pass(1000)
    assert not [key for key in backend.client.keys("*:e:*") if len(backend.client.keys("*:e:*")) > 1]
    assert cache.cleanup_expired() == 1
    assert cache.get_stats()["total_size_mb"] == 1 / 1024**2
    assert cache.invalidate_by_dependency("d") == []


def test_a_tiny_time_to_live(smart, backend):
    cache = smart()
    cache.put("a", "x", "h", ttl_seconds=1e-9)
    backend.let_pass(0.001)
    assert cache.get("a") is None
    cache.put("b", "x", "h", ttl_seconds=1e15)
    assert cache.get("b") == "x"


@pytest.mark.parametrize("ttl", [0, -1, math.nan, "10"])
def test_a_time_to_live_that_is_none_is_refused(smart, ttl):
    cache = smart()
    with pytest.raises(ConfigError, match="no time to live"):
        cache.put("a", "x", "h", ttl_seconds=ttl)
    with pytest.raises(ConfigError, match="no time to live"):
        cache.touch("a", ttl)
    assert cache.keys() == []
