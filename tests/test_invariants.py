"""The check of the keys finds every disorder that is planted; without this, its silence would mean nothing."""

from __future__ import annotations

from dataclasses import replace

import packed
import pytest
from invariants import TOLD, WEIGHT

from distcache.keys import Partition, hash_id, key_id
from distcache.smart.records import Metadata

PART = Partition("smart", 0)
A, B, C = (key_id(name) for name in (b"a", b"b", b"c"))
OLD = A + hash_id(b"h1")


@pytest.fixture
def client(smart, backend):
    """A cache with a bit of everything: versions, deadlines, edges, a relic, history, lessons, ghosts."""
    backend.checked = False
    cache = smart(max_entries=4, max_size_mb=1, versions=2)
    for number in range(8):
        cache.put(f"was {number}", "1", "h")
        cache.invalidate(f"was {number}")
    cache.put("c", "1", "h", ["d"])
    cache.put("b", "22", "h", ["c"], ttl_seconds=100)
    cache.put("a", "333", "h0", ["b"])
    cache.put("a", "333", "h1", ["b"])
    cache.put("a", "4444", "h2", ["b"])
    cache.invalidate("c")
    for key in ("x", "y", "z"):
        cache.put(key, "5", "h")
        cache.get("a")
        cache.get("b")
        cache.get("a", "h1")
    cache.flush()
    return backend.client


def usage_of(client, one, **changes):
    client.hset(PART.usage, one, replace(packed.Usage.parse(client.hget(PART.usage, one)), **changes).packed())


def state_of(client, **changes):
    live = packed.parse_state(client.hget(PART.usage, packed.STATE))
    client.hset(PART.usage, packed.STATE, packed.format_state(live | {k: str(v) for k, v in changes.items()}))
    client.hset(PART.state, mapping=changes)


def members(part_set, client):
    return sorted(client.smembers(part_set))


PLANTED = {
    # common
    "an unknown key": (lambda c: c.set(PART.tag + b"other", "x"), "unknown key"),
    "a key of nobody": (lambda c: c.set("foreign", "x"), "is no key of a cache"),
    "a key of another type": (lambda c: c.delete(PART.ghost_old) or c.set(PART.ghost_old, "x"), "is a string"),
    "a key that should pass": (lambda c: c.persist(PART.records + A), "not declared permanent"),
    "a permanent key that passes": (lambda c: c.expire(PART.score, 100), "is permanent and has a time to live"),
    "no state": (lambda c: c.delete(PART.state), "no state"),
    "another share": (lambda c: state_of(c, bound_entries=5), "share of the whole"),
    "a config that is none": (lambda c: c.hset(PART.state, "ttl_ms", "soon"), "unreadable"),
    "a negative counter": (lambda c: state_of(c, misses=-1), "misses is -1"),
    "half a hit": (lambda c: state_of(c, hits=1.5), "hits is 1.5"),
    "a clock that is no number": (lambda c: state_of(c, t="nan"), "t is nan"),
    "a rate out of range": (lambda c: state_of(c, rate=3), "out of its range"),
    "a capacity of none": (lambda c: state_of(c, capacity=0), "capacity is 0"),
    "a mark that stays": (lambda c: c.set(PART.requests + b"1", 1, ex=1000), "the mark of request"),
    "an event of another kind": (lambda c: c.xadd(PART.events, {"PARTY": "a"}), "an event is"),
    "an event that says more": (lambda c: c.xadd(PART.events, {"HIT": "a", "x": "y"}), "an event is"),
    "too many events": (lambda c: state_of(c, event_cap=1) or many_events(c), "events for a cap"),
    "too many reads": (lambda c: state_of(c, event_cap=1) or many_reads(c), "events for a cap"),
    # entries
    "a score without usage": (lambda c: c.hdel(PART.usage, A), "is only in score"),
    "usage without a score": (lambda c: c.zrem(PART.score, A), "is only in usage"),
    "an index without its entry": (lambda c: c.delete(PART.entry(A)), "has no entry and has not expired"),
    "a deadline of nobody": (lambda c: c.zadd(PART.deadline, {C: 2**42}), "is in deadline only"),
    "an entry without an index": (lambda c: c.copy(PART.entry(A), PART.entry(C)), "is in no index"),
    "an endless score": (lambda c: c.zadd(PART.score, {A: "inf"}), "has the score inf"),
    "another key": (lambda c: c.hset(PART.entry(A), "k", "b"), "another key or hash"),
    "another hash": (lambda c: c.hset(PART.entry(A), "h", "h9"), "another key or hash"),
    "a field too many": (lambda c: c.hset(PART.entry(A), "hits", 1), "has the fields"),
    "another older version": (
        lambda c: c.hset(PART.entry(OLD), mapping={"h": "x", "i": hash_id(b"x")}),
        "older version",
    ),
    "an entry of tomorrow": (lambda c: c.hset(PART.entry(A), "w", 2**52), "written in the future"),
    "another deadline": (lambda c: c.zincrby(PART.deadline, 7, B), "and in the index"),
    "a time to live without a deadline": (lambda c: usage_of(c, A, ttl=5), "and the time to live 5"),
    "a key that goes too early": (lambda c: c.pexpire(PART.entry(B), 5000), "before its deadline"),
    "a key that should stay": (lambda c: c.pexpire(PART.entry(A), 500_000), "stays, and its key has"),
    "sizes that do not add up": (lambda c: state_of(c, bytes=1), "the sizes add up to"),
    "too many entries": (lambda c: state_of(c, bound_entries=1, max_entries=1), "are allowed"),
    "too many bytes": (lambda c: state_of(c, bound_bytes=2, max_bytes=2), "bytes where 2"),
    # the graph
    "an edge that the other end does not know": (lambda c: c.srem(PART.dependents + B, A), "which does not know"),
    "a dependent that does not know": (lambda c: c.sadd(PART.dependents + C, OLD), "has the dependent"),
    "edges of nobody": (
        lambda c: c.hset(PART.edges, key_id(b"n"), B) and c.sadd(PART.dependents + B, key_id(b"n")),
        "neither an entry nor a relic",
    ),
    "an edge to itself": (
        lambda c: c.hset(PART.edges, A, A + B) and c.sadd(PART.dependents + A, A),
        "depends on itself",
    ),
    "an edge twice": (lambda c: c.hset(PART.edges, A, B + B), "each once"),
    "a relic that is an entry": (lambda c: c.zadd(PART.relics, {A: 1}), "is an entry"),
    "a relic without edges": (lambda c: c.zadd(PART.relics, {key_id(b"d"): 1}), "has no edges"),
    "a relic that nobody needs": (
        lambda c: (
            c.zadd(PART.relics, {key_id(b"n"): 1})
            and c.hset(PART.edges, key_id(b"n"), B)
            and c.sadd(PART.dependents + B, key_id(b"n"))
        ),
        "nothing depends on the relic",
    ),
    "too many relics": (lambda c: c.zadd(PART.relics, {bytes([n]) * 16: 1 for n in range(9)}), "relics"),
    "other dependencies": (
        lambda c: c.hset(PART.entry(A), "m", Metadata.encode(("z",), "", (0, 0), "")),
        "other dependencies",
    ),
    # versions, histories, lessons, ghosts
    "a version not listed": (lambda c: c.delete(PART.versions + A), "an entry not listed"),
    "a version of nobody": (lambda c: c.rpush(PART.versions + B, b"12345678"), "listed and no entry"),
    "a version twice": (lambda c: c.rpush(PART.versions + A, OLD[16:]), "listed twice"),
    "too many versions": (lambda c: c.rpush(PART.versions + A, b"12345678"), "older versions"),
    "a history not listed": (lambda c: c.zrem(PART.histories, A), "is not listed"),
    "a history that stays": (lambda c: c.pexpire(PART.records + A, 10**11), "stays for"),
    "a long history": (lambda c: state_of(c, history=1), "has 2 records"),
    "a history out of order": (lambda c: c.lmove(PART.records + A, PART.records + A, "LEFT", "RIGHT"), "out of order"),
    "a record that is none": (lambda c: c.rpush(PART.records + A, "1 1 x"), "cannot be read"),
    "a record of an entry that is there": (
        lambda c: c.lpush(PART.records + A, c.hget(PART.entry(A), "w") + b" 1 0 1 1 h"),
        "out of order",
    ),
    "a retired record of what is there": (
        lambda c: c.hset(PART.retired_old, B, c.hget(PART.entry(B), "w") + b" 1 0 1 1 h"),
        "out of order",
    ),
    "a retired record that is none": (lambda c: c.hset(PART.retired, C, "x"), "cannot be read"),
    "a retired record and a list": (lambda c: c.hset(PART.retired, A, "1 1 0 1 1 h"), "that has a list"),
    "a retired record of nobody": (lambda c: c.hset(PART.retired, "a", "1 1 0 1 1 h"), "of no key"),
    "too many retired records": (
        lambda c: c.hset(PART.retired, mapping={key_id(b"%d" % n): "1 1 0 1 1 h" for n in range(9)}),
        "retired has",
    ),
    "retired records that stay": (lambda c: c.persist(PART.retired_old), "not declared permanent"),
    "retired records that stay long": (lambda c: c.pexpire(PART.retired_old, 10**11), "stays for"),
    "too many histories": (lambda c: c.zadd(PART.histories, {bytes([n]): 1 for n in range(30)}), "histories"),
    "lessons not listed": (lambda c: c.delete(PART.learned), "are not listed"),
    "lessons that are gone": (lambda c: c.delete(PART.after + A), "listed and not there"),
    "lessons about another key": (lambda c: c.zadd(PART.learned, {A + b"z": 1}), "about another key"),
    "lessons that stay": (lambda c: c.persist(PART.after + A), "to live"),
    "lessons without a clock": (lambda c: c.hdel(PART.after + A, ""), "no clock"),
    "a lesson too heavy": (lambda c: c.hset(PART.after + A, "nb", WEIGHT.pack(100)), "weighs more"),
    "lessons not counted": (lambda c: c.hset(PART.after + A, "nobody", WEIGHT.pack(0)), "counted as"),
    "too many successors": (
        lambda c: c.hset(PART.after + A, mapping={"": TOLD.pack(1, 50, 0)} | {f"nk{n}": bytes(8) for n in range(50)}),
        "counted as",
    ),
    "too many lessons": (
        lambda c: c.zadd(PART.learned, {key_id(b"%d" % n) + b"%d" % n: 1 for n in range(30)}),
        "lessons",
    ),
    "too many ghosts": (lambda c: c.hset(PART.ghost, mapping={f"g{n}": "1 0 1" for n in range(9)}), "remembers"),
    "a ghost that is there": (lambda c: c.hset(PART.ghost, A, "1 0 1"), "which is there"),
    "a ghost that is none": (lambda c: c.hset(PART.ghost_old, "g", "boo"), "boo"),
}


def many_events(client):
    for _ in range(150):
        client.xadd(PART.events, {"WRITE": "a", "d": ""})


def many_reads(client):
    for _ in range(400):
        client.xadd(PART.events, {"HIT": "a"})


def test_a_cache_in_order_has_no_problems(client, backend):
    assert backend.problems() == []
    keys = backend.keyspace().tags()[PART.tag]
    assert {rest.partition(b":")[0] for rest in keys} >= {
        *(b"state", b"e", b"score", b"usage", b"deadline", b"ghost", b"events", b"q", b"edges", b"r", b"relics"),
        *(b"v", b"h", b"histories", b"retired", b"retired_old", b"a", b"learned"),
    }, "whatever could be in disorder is there"


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("twin", ["sync"], indirect=True)
@pytest.mark.parametrize("backend", ["fakeredis"], indirect=True)
def test_a_planted_disorder_is_found(client, backend, name):
    plant, words = PLANTED[name]
    plant(client)
    assert any(words in problem for problem in backend.problems()), backend.problems()


def test_times_shift_without_a_trace(client, backend):
    before = backend.keyspace()
    backend.let_pass(50)
    assert backend.problems() == []
    backend.let_pass(60)
    assert backend.problems() == []
    after = backend.keyspace()
    assert before.keys.keys() - after.keys.keys() <= {key for key in before.keys if b":q:" in key[len(PART.tag) - 1 :]}
    shifted = after.tags()[PART.tag][b"deadline"].value
    assert shifted == {one: points - 110_000 for one, points in before.tags()[PART.tag][b"deadline"].value.items()}
    assert all(points <= after.now_ms for points in shifted.values())


def test_the_reading_is_complete(client, backend):
    """Whatever the server holds is read, with its type and its time to live."""
    keyspace = backend.keyspace()
    assert set(keyspace.keys) == set(client.scan_iter("*"))
    for key, stored in keyspace.keys.items():
        assert stored.kind == client.type(key).decode()
        assert (stored.ttl_ms < 0) == (client.pttl(key) < 0)
