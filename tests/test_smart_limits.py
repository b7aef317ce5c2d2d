"""Bounds in entries and bytes, and which entry goes first under each policy."""

from __future__ import annotations

import random

import pytest

from distcache import shared
from distcache.errors import ValueTooLarge
from distcache.keys import Partition

PART = Partition("smart", 0)
MB = 1024 * 1024


def put(cache, *keys, size=1, **parameters):
    for key in keys:
        cache.put(key, "x" * size, "h", **parameters)


def evicted(cache):
    return [event["key"] for event in cache.get_recent_events(10_000) if event["type"] == "EVICT"]


def reasons(cache):
    return [event["details"] for event in cache.get_recent_events(10_000) if event["type"] == "EVICT"]


# bounds


def test_the_bound_in_entries_holds(smart, backend):
    cache = smart(max_entries=3, policy="lru")
    for number in range(8):
        put(cache, f"k{number}")
        assert cache.get_stats()["entries"] == min(number + 1, 3)
    assert sorted(cache.keys()) == ["k5", "k6", "k7"]
    assert cache.get_stats()["evictions"] == 5
    assert reasons(cache) == ["LRU eviction"] * 5


def test_the_bound_in_bytes_holds(smart):
    cache = smart(max_size_mb=1, policy="lru")
    put(cache, "a", "b", "c", "d", size=MB // 4)
    assert cache.get_stats()["total_size_mb"] == 1
    put(cache, "e", size=1)
    assert sorted(cache.keys()) == ["b", "c", "d", "e"]
    put(cache, "f", size=MB // 2)
    assert sorted(cache.keys()) == ["d", "e", "f"]
    assert cache.get_stats()["total_size_mb"] == (MB * 3 // 4 + 1) / MB
    assert reasons(cache) == ["LRU eviction (size limit)"] * 3


def not_yet(*_args):
    """In place of the tidying after the bounds were lowered."""
    yield from ()
    return 0


@pytest.mark.parametrize("policy", ["lru", "adaptive", "windowed"])
def test_lowered_bounds_are_not_paid_by_one_put(smart, backend, monkeypatch, policy):
    before = smart(max_entries=1000, policy=policy)
    before.put_many([{"key": f"k{number}", "output": "x", "content_hash": "h"} for number in range(400)])
    monkeypatch.setattr(shared, "until_done", not_yet)
    backend.checked = False
    lowered = smart(max_entries=10, reconfigure=True)
    held = 400
    for key in ("new", "newer", "newer"):
        put(lowered, key)
        left = lowered.get_stats()["entries"]
        assert held - 64 <= left <= held - 63
        held = left
    assert [one for one in backend.problems(lowered=True) if "bounds:" not in one] == []
    monkeypatch.undo()
    smart(max_entries=10, reconfigure=True).get("new")
    assert lowered.get_stats()["entries"] == 10
    assert backend.problems(lowered=True) == []


def test_a_cache_over_its_lowered_bound_in_bytes_does_not_grow(smart, backend, monkeypatch):
    before = smart(max_size_mb=4, policy="lru")
    before.put_many([{"key": f"k{number}", "output": "x" * 100, "content_hash": "h"} for number in range(1000)])
    before.put("large", "x" * (2 * MB), "h")
    monkeypatch.setattr(shared, "until_done", not_yet)
    backend.checked = False
    lowered = smart(max_size_mb=1, reconfigure=True)
    for number in range(3):
        held = lowered.get_stats()["total_size_mb"]
        put(lowered, f"new{number}", size=MB // 2)
        assert lowered.get_stats()["total_size_mb"] <= max(held, 1)
    assert backend.problems(lowered=True) == []


def test_an_entry_of_exactly_the_bound_fits(smart):
    cache = smart(max_size_mb=1)
    put(cache, "small")
    put(cache, "a", size=MB)
    assert cache.keys() == ["a"]
    with pytest.raises(ValueTooLarge):
        put(cache, "b", size=MB + 1)
    assert cache.keys() == ["a"], "what is refused costs nobody else anything"


def test_sizes_are_those_of_the_outputs_not_of_what_is_stored(smart):
    cache = smart()
    cache.put("a", "x" * 100_000, "h")
    cache.put("b", "é" * 10, "h")
    assert cache.get_stats()["total_size_mb"] == 100_020 / MB
    assert cache.inspect("a").stored_bytes < 1000


def test_one_entry_is_a_cache_too(smart):
    cache = smart(max_entries=1)
    put(cache, "a", "b", "a", "a")
    assert cache.keys() == ["a"]
    assert evicted(cache) == ["a", "b"]


@pytest.mark.parametrize("policy", ["adaptive", "lru", "lru_freq"])
def test_replacing_at_the_limit_evicts_nothing(smart, policy):
    cache = smart(max_entries=3, max_size_mb=1, policy=policy)
    put(cache, "a", "b", "c", size=300_000)
    for size in (300_000, 1, 400_000):
        for key in "cab":
            put(cache, key, size=size if key == "a" else 300_000)
    assert sorted(cache.keys()) == ["a", "b", "c"]
    assert evicted(cache) == []
    put(cache, "a", size=500_000)
    assert evicted(cache) == ["c"], "only what must go for the new size goes"


@pytest.mark.parametrize("policy", ["adaptive", "lru", "lru_freq"])
def test_a_use_keeps_an_entry(smart, policy):
    cache = smart(max_entries=3, policy=policy)
    put(cache, "a", "b", "c")
    cache.get("a")
    cache.get_many(["b"])
    put(cache, "d")
    assert evicted(cache) == ["c"]
    assert sorted(cache.keys()) == ["a", "b", "d"]


def test_a_touch_counts_as_use(smart):
    cache = smart(max_entries=2, policy="lru")
    put(cache, "a", "b")
    assert cache.touch("a") is True
    assert cache.touch("missing") is False
    put(cache, "c")
    assert sorted(cache.keys()) == ["a", "c"]
    assert cache.inspect("a").access_count == 1
    assert cache.get_stats()["hits"] == 0


def test_has_and_inspect_and_a_mismatch_are_no_use(smart):
    cache = smart(max_entries=2, policy="lru")
    put(cache, "a", "b")
    cache.has("a")
    cache.inspect("a")
    cache.get("a", "other hash")
    cache.keys()
    put(cache, "c")
    assert sorted(cache.keys()) == ["b", "c"]


# policies


def test_lru_is_the_order_of_use(smart):
    """Against a list in the order of use."""
    cache = smart(max_entries=5, policy="lru", events=["EVICT"], history=0)
    chance, order, gone = random.Random(1), [], []
    for _ in range(150):
        key = f"k{chance.randrange(9)}"
        if chance.random() < 0.5:
            if cache.get(key) is None:
                continue
        else:
            put(cache, key)
            if key not in order and len(order) == 5:
                gone.append(order.pop(0))
        order = [*(one for one in order if one != key), key]
    assert evicted(cache) == gone


@pytest.mark.parametrize("seed", [1])
def test_lru_freq_is_the_original_order(smart, backend, seed):
    """Against the original's scan: the minimum of 0.3 * count - 0.001 * idle seconds, over all entries, goes."""
    cache = smart(max_entries=5, policy="lru_freq", events=["EVICT"], history=0)
    chance, gone = random.Random(seed), []
    for _ in range(180):
        key = f"k{chance.randrange(10)}"
        if chance.random() < 0.2:
            backend.let_pass(chance.choice([1, 20, 400, 2000]))
        if chance.random() < 0.5:
            cache.get(key)
            continue
        held = {name: cache.inspect(name) for name in sorted(cache.keys())}
        if key not in held and len(held) == 5:
            now = backend.keyspace().now_ms
            worth = {n: 0.3 * e.access_count - 0.001 * (now - e.last_access) / 1000 for n, e in held.items()}
            least = sorted(worth.values())
            if least[1] - least[0] < 1e-4:
                continue  # closer together than the times that this test reads are exact
            gone.append(min(worth, key=worth.__getitem__))
        put(cache, key)
    assert len(gone) > 10
    assert evicted(cache) == gone


def test_lru_freq_weighs_a_hit_like_300_seconds(smart, backend):
    for seconds, first in ((250, "b"), (350, "a")):
        cache = smart(namespace=f"n{seconds}", max_entries=2, policy="lru_freq")
        put(cache, "a")
        cache.get("a")
        backend.let_pass(seconds)
        put(cache, "b")
        put(cache, "c")
        assert evicted(cache) == [first]


def test_adaptive_resists_a_scan(smart):
    """What was used often stays when many keys come by that are used once; LRU would have lost it."""
    kept = {}
    for policy in ("adaptive", "lru"):
        cache = smart(namespace=policy, max_entries=10, policy=policy, events=[], history=0)
        put(cache, "a", "b", "c")
        for _ in range(20):
            cache.get_many(["a", "b", "c"])
        for number in range(12):
            put(cache, f"scan {number}")
        kept[policy] = {"a", "b", "c"} & set(cache.keys())
    assert kept == {"adaptive": {"a", "b", "c"}, "lru": set()}


def test_a_policy_holds_where_only_bytes_bound(smart, backend):
    cache = smart(max_size_mb=1, policy="adaptive", history=0)
    chance = random.Random(3)
    for _ in range(60):
        key = f"k{chance.randrange(12)}"
        if cache.get(key) is None:
            put(cache, key, size=chance.choice([1, 100_000, 300_000]))
        backend.check()
    assert cache.get_stats()["evictions"] > 10
