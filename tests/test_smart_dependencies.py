"""Invalidation by dependency: direct, through chains and cycles, past entries that are gone, across partitions."""

from __future__ import annotations

import itertools

import pytest

from distcache.errors import ServerError, ValueTooLarge
from distcache.keys import Keyspace, Partition, key_id
from distcache.smart import whole

PART = Partition("smart", 0)


@pytest.fixture(params=[1, 3], ids=["P1", "P3"])
def cache(smart, request):
    return smart(partitions=request.param)


def put(cache, **dependencies):
    for key, names in dependencies.items():
        cache.put(key, key, "h", list(names))


def left(cache):
    return "".join(sorted(cache.keys()))


def test_direct_dependents_go_and_no_others(cache):
    put(cache, a="b", c="b", d="a", e="", b="x")
    assert sorted(cache.invalidate_by_dependency("b")) == ["a", "c"]
    assert left(cache) == "bde"
    assert cache.invalidate_by_dependency("b") == []
    assert cache.invalidate_by_dependency("nobody") == []
    assert cache.get_stats()["invalidations"] == 2


def test_a_chain_is_followed_when_asked(cache):
    put(cache, a="b", b="c", c="d", d="", z="")
    assert sorted(cache.invalidate_by_dependency("d", transitive=True)) == ["a", "b", "c"]
    assert left(cache) == "dz"


def test_transitive_is_positional_too(cache):
    put(cache, a="b", b="c")
    assert sorted(cache.invalidate_by_dependency("c", True)) == ["a", "b"]


def test_a_diamond(cache):
    put(cache, a="bc", b="d", c="d")
    assert sorted(cache.invalidate_by_dependency("d", transitive=True)) == ["a", "b", "c"]


def test_cycles_end(cache):
    put(cache, a="b", b="c", c="a", x="x")
    assert sorted(cache.invalidate_by_dependency("a", transitive=True)) == ["a", "b", "c"]
    assert left(cache) == "x"
    assert cache.invalidate_by_dependency("x", transitive=True) == []
    put(cache, a="b", b="a")
    assert sorted(cache.invalidate_by_dependency("a")) == ["b"]
    assert left(cache) == "ax"


def test_a_dependency_need_not_be_there(cache):
    put(cache, a=["header.h"])
    assert cache.invalidate_by_dependency("header.h", transitive=True) == ["a"]


@pytest.mark.parametrize("how", ["invalidate", "replace", "expire", "evict"])
def test_a_chain_reaches_past_an_entry_that_is_gone(smart, backend, how):
    cache = smart(max_entries=3 if how == "evict" else 100, policy="lru")
    put(cache, b="c")
    if how == "expire":
        cache.put("b", "b", "h", ["c"], ttl_seconds=10)
    put(cache, a="b")
    if how == "invalidate":
        cache.invalidate("b")
    elif how == "replace":
        cache.put("b", "b", "h2", ["c", "e"])
    elif how == "expire":
        backend.let_pass(11)
        cache.cleanup_expired()
    else:
        put(cache, y="", z="")
        assert left(cache) == "ayz"
    assert "a" in cache.invalidate_by_dependency("c", transitive=True)
    assert "a" not in left(cache)
    backend.check()


def test_a_chain_reaches_past_the_entry_that_this_very_put_evicts(smart, backend):
    cache = smart(max_entries=2, policy="lru")
    put(cache, b="c", x="")
    put(cache, a="b")
    assert left(cache) == "ax"
    backend.check()
    assert cache.invalidate_by_dependency("c", transitive=True) == ["a"]


def test_a_chain_reaches_past_the_entry_that_this_very_put_finds_expired(smart, backend):
    cache = smart()
    cache.put("b", "b", "h", ["c"], ttl_seconds=10)
    backend.let_pass(11)
    put(cache, a="b")
    assert cache.invalidate_by_dependency("c", transitive=True) == ["a"]


def test_a_chain_reaches_past_several_that_are_gone(cache, backend):
    put(cache, a="b", b="c", c="d", d="e")
    for key in "bcd":
        cache.invalidate(key)
        backend.check()
    assert cache.invalidate_by_dependency("e", transitive=True) == ["a"]


def test_relics_go_when_nothing_needs_them(smart, backend):
    cache = smart()
    put(cache, a="b", b="c", c="d")
    cache.invalidate("b")
    cache.invalidate("c")
    assert relics(backend) == 2
    cache.invalidate("a")
    assert relics(backend) == 0
    assert not [key for key in backend.keyspace().keys if key.endswith(b":edges") or b":r:" in key]


def test_a_key_that_comes_back_is_no_relic(smart, backend):
    cache = smart()
    put(cache, a="b", b="c")
    cache.invalidate("b")
    put(cache, b="x")
    assert relics(backend) == 0
    assert cache.invalidate_by_dependency("c", transitive=True) == []
    assert sorted(cache.invalidate_by_dependency("x", transitive=True)) == ["a", "b"]


def test_forgotten_relics_take_along_what_depends_on_them(smart, backend):
    """Without its edges nothing could find it; rather a miss than a wrong output."""
    cache = smart(max_entries=4, policy="lru")
    for number in range(8):
        put(cache, **{"a" + str(number): ["b" + str(number)]})
    cache = smart(namespace="two", max_entries=3, policy="lru", partitions=1)
    put(cache, t="rstu")
    for key in "rsuv":
        put(cache, **{key: "z"})
        cache.get("t")
        cache.invalidate(key)
        backend.check()
    cache.put("w", "w", "h", ["v"])
    assert relics(backend, namespace="two") <= 3


def too_large(cache, backend, key):
    with pytest.raises(ValueTooLarge):
        cache.put(key, "x" * 2**21, "h")


def corrupt(cache, backend, key):
    if cache.has(key):
        backend.client.hset(PART.entry(key_id(key.encode())), "o", b"\xff none of ours")
    assert cache.get(key) is None


def expired(cache, backend, key):
    cache.touch(key, 10)
    backend.let_pass(11)
    cache.cleanup_expired()


LEAVE = {
    "invalidated": lambda cache, backend, key: cache.invalidate(key),
    "what a change reached": lambda cache, backend, key: cache.invalidate_by_dependency(f"before {key}"),
    "larger than the cache": too_large,
    "corrupt": corrupt,
    "expired": expired,
}


@pytest.mark.parametrize("how", LEAVE)
def test_no_more_relics_than_entries_however_they_came(smart, backend, how):
    """A chain that grows at one end, of which one link after the other goes."""
    cache, counts = smart(max_entries=4, max_size_mb=1), []
    for number in range(12):
        cache.put(f"k{number}", "x", "h", [f"before k{number}", f"k{number - 1}"])
        if number:
            LEAVE[how](cache, backend, f"k{number - 1}")
        counts.append(relics(backend))
        backend.check()
    assert counts == [0, 1, 2, 3, 4, 0] * 2, "the fifth is one too many, and what depends on the first are all others"


def relics(backend, namespace="smart"):
    for tag, keys in backend.keyspace().tags().items():
        if f":{namespace}:".encode() in tag and b"relics" in keys:
            return len(keys[b"relics"].value)
    return 0


def test_dependencies_are_each_counted_once(cache):
    cache.put("a", "a", "h", ["b", "b", "a", "c"])
    assert cache.inspect("a").dependencies == ("b", "b", "a", "c")
    assert cache.invalidate_by_dependency("a") == []
    assert cache.invalidate_by_dependency("b") == ["a"]


def test_dependencies_may_be_any_iterable(cache):
    cache.put("a", "a", "h", (name for name in "bc"))
    cache.put("d", "d", "h", {"b": 1})
    assert sorted(cache.invalidate_by_dependency("b")) == ["a", "d"]


def test_many_dependents_go_in_steps(smart, monkeypatch):
    monkeypatch.setattr(whole, "CHUNK", 7)
    cache = smart(events=[], history=0)
    cache.put_many(
        {"key": f"k{number}", "output": "x", "content_hash": "h", "dependencies": [f"k{number // 3}"]}
        for number in range(1, 61)
    )
    removed = cache.invalidate_by_dependency("k0", transitive=True)
    assert sorted(removed) == sorted(f"k{number}" for number in range(1, 61))
    assert cache.keys() == []


def test_all_versions_of_a_dependent_go(smart):
    cache = smart(versions=3)
    cache.put("a", "1", "h1", ["x"])
    cache.put("a", "2", "h2", ["y"])
    cache.put("a", "3", "h3", ["x"])
    assert cache.invalidate_by_dependency("x") == ["a"]
    assert cache.get("a", "h1") is None
    assert cache.get("a", "h3") is None
    assert cache.get("a", "h2") == "2"


def test_a_chain_crosses_partitions(smart, backend):
    cache = smart(partitions=8)
    chain = [f"k{number}" for number in range(30)]
    for key, dependency in itertools.pairwise(chain):
        cache.put(key, key, "h", [dependency])
    partitions = {tag for tag, keys in backend.keyspace().tags().items() if b"edges" in keys}
    assert len(partitions) > 4
    cache.invalidate("k10")
    removed = cache.invalidate_by_dependency("k29", transitive=True)
    assert sorted(removed) == sorted(set(chain[:29]) - {"k10"})
    assert cache.keys() == []


def test_a_chain_reaches_past_an_entry_that_was_evicted_from_another_partition(smart):
    keyspace = Keyspace("smart", 2)
    here, there = (
        [name for name in map(str, range(50)) if keyspace.of(key_id(name.encode())).number == number]
        for number in range(2)
    )
    cache = smart(partitions=2, max_entries=4, policy="lru")
    put(cache, **{there[0]: ["c"]})
    put(cache, **{here[0]: [there[0]]})
    put(cache, **dict.fromkeys(there[1:3], ()))
    assert not cache.has(there[0])
    assert cache.invalidate_by_dependency("c", transitive=True) == [here[0]]


def test_a_put_mends_what_the_server_dropped(smart, backend):
    """Of a set that is gone, because the server ran out of memory, nothing could be found."""
    backend.checked = False
    cache = smart()
    put(cache, a=["b", "c"])
    backend.client.delete(PART.dependents + key_id(b"b"))
    put(cache, a=["b", "c"])
    assert backend.problems() == []
    assert cache.invalidate_by_dependency("b") == ["a"]


def test_a_put_that_fails_on_the_way_leaves_nothing_without_its_edges(smart, backend):
    """The one that was to make room for it stays an entry, and is found by its dependency."""
    backend.checked = False
    cache = smart(max_entries=2, policy="lru", on_error="raise")
    put(cache, v=["d"], x=["e"])
    backend.client.set(PART.dependents + key_id(b"broken"), "no set")
    with pytest.raises(ServerError):
        put(cache, y=["broken"])
    backend.client.delete(PART.dependents + key_id(b"broken"))
    assert cache.invalidate_by_dependency("d") == ["v"]
    assert not cache.has("v")


class CutError(Exception):
    """The client is gone in the middle of its work."""


@pytest.mark.parametrize("removals", [1, 2, 3])
def test_a_caller_who_is_cut_off_can_start_again(cache, monkeypatch, removals):
    chain = [f"k{number}" for number in range(12)]
    for below, key in itertools.pairwise(chain):
        cache.put(key, key, "h", [below])
    real, done = whole.WholeCache._dependents, [0]

    def cut(ops, parts, roots, limit, *, transitive):
        done[0] += limit > 0
        if done[0] > removals:
            raise CutError
        return real(ops, parts, roots, limit, transitive=transitive)

    monkeypatch.setattr(whole.WholeCache, "_dependents", staticmethod(cut))
    try:
        cache.invalidate_by_dependency(chain[0], transitive=True)
    except CutError:
        monkeypatch.setattr(whole.WholeCache, "_dependents", staticmethod(real))
        cache.invalidate_by_dependency(chain[0], transitive=True)
    assert list(cache.keys()) == []
