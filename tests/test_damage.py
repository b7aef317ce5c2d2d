"""What another program has damaged is a miss of its own: it fails no other look-up, and no write for good."""

from __future__ import annotations

import dataclasses
import math

import pytest
from conftest import smart_on
from packed import Usage

from distcache import AsyncContentHashCache, ContentHashCache
from distcache.content import text as texts
from distcache.errors import ServerError
from distcache.keys import Partition, key_id, scope_id

SMART, CONTENT = Partition("smart", 0), Partition("signatures", 0)
KEYS = [f"k{number}" for number in range(12)]
BAD = KEYS[3]
POLICIES = ["lru", "adaptive", "windowed", "gdsf", "cost"]


def filled(smart, **options):
    cache = smart(**options)
    cache.put_many([{"key": key, "output": key, "content_hash": "h", "compile_time_ms": 10} for key in KEYS])
    return cache


def filled_texts(content, **options):
    cache = content(**options)
    cache.set_many({key: f"signature of {key}" for key in KEYS})
    return cache


def text_id(text):
    return texts.query(scope_id(()), text).id


def other_type(client, part, one):
    client.delete(part.entry(one))
    client.set(part.entry(one), "no hash")


def no_number(client, part, one):
    used = Usage.parse(client.hget(part.usage, one))
    client.hset(part.usage, one, dataclasses.replace(used, f=math.nan, cost=math.inf).packed())


def no_tick(client, part, one):
    client.hdel(part.entry(one), "w")


def no_history(client, part, one):
    client.set(part.records + one, "no list")


def no_metadata(client, part, one):
    client.hset(part.entry(one), "m", "none of ours")


@pytest.fixture
def backend(real):
    """A real server; the damage is found by these tests, not by the check after each."""
    real.checked = False
    yield real
    real.client.flushall()


@pytest.fixture
def smart(backend, opener, tmp_path):
    return smart_on(backend, opener, tmp_path)


@pytest.fixture
def content(backend, opener):
    return lambda **options: opener(ContentHashCache, AsyncContentHashCache, url=backend.url, timeout_s=10, **options)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("damage", [other_type, no_number])
def test_the_other_outputs_of_a_bulk_are_found(smart, backend, damage, policy):
    cache = filled(smart, policy=policy, on_error="miss")
    damage(backend.client, SMART, key_id(BAD.encode()))
    for _ in range(2):
        assert cache.get_many(KEYS) == {key: key for key in KEYS if key != BAD}
    assert cache.get_stats()["hits"] == 2 * (len(KEYS) - 1)


@pytest.mark.parametrize("policy", ["lru", "adaptive", "windowed"])
@pytest.mark.parametrize("damage", [other_type, no_number, no_tick])
def test_the_other_signatures_of_a_bulk_are_found(content, backend, damage, policy):
    cache = filled_texts(content, policy=policy, on_error="miss")
    damage(backend.client, CONTENT, text_id(BAD))
    for _ in range(2):
        assert cache.get_many(KEYS) == {key: f"signature of {key}" for key in KEYS if key != BAD}


def test_an_error_is_raised_where_errors_are_not_misses(smart, backend):
    cache = filled(smart, on_error="raise")
    other_type(backend.client, SMART, key_id(BAD.encode()))
    with pytest.raises(ServerError):
        cache.get_many(KEYS)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("damage", [other_type, no_number, no_history, no_metadata])
def test_it_is_stored_anew(smart, backend, damage, policy):
    cache = filled(smart, policy=policy, on_error="raise")
    damage(backend.client, SMART, key_id(BAD.encode()))
    assert cache.put(BAD, "new", "h")
    assert cache.get(BAD) == "new"
    damage(backend.client, SMART, key_id(BAD.encode()))
    cache.invalidate(BAD)
    assert cache.get(BAD) is None
    assert cache.get_many(KEYS) == {key: key for key in KEYS if key != BAD}


@pytest.mark.parametrize("damage", [other_type, no_number, no_tick])
def test_a_signature_is_stored_anew(content, backend, damage):
    cache = filled_texts(content, on_error="raise")
    damage(backend.client, CONTENT, text_id(BAD))
    assert cache.set(BAD, "new")
    assert cache.get(BAD) == "new"


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("damage", [other_type, no_number, no_history, no_metadata])
def test_it_is_evicted(smart, backend, damage, policy):
    cache = filled(smart, policy=policy, on_error="raise", max_entries=len(KEYS))
    for key in KEYS:
        damage(backend.client, SMART, key_id(key.encode()))
    for number in range(3 * len(KEYS)):
        assert cache.put(f"new {number}", "x", "h")
    assert cache.get_stats()["entries"] == len(KEYS)
    assert cache.get(f"new {3 * len(KEYS) - 1}") == "x"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_history_in_whose_place_is_something_else_begins_anew(smart, backend, replaced):
    cache = smart(on_error="raise")
    cache.put("a", "x", "h1")
    cache.invalidate("a")
    no_history(backend.client, SMART, key_id(b"a"))
    assert [record.content_hash for record in cache.get_history("a")] == ["h1"]
    cache.put("a", "x", "h2")
    if replaced:
        cache.put("a", "x", "h3")
    cache.invalidate("a")
    assert [record.content_hash for record in cache.get_history("a")] == ["h3", "h2", "h1"][not replaced :]
    backend.check()


@pytest.mark.parametrize("index", [b"", b"short"])
def test_a_signature_without_its_place_in_the_index_is_evicted(content, backend, index):
    cache = filled_texts(content, on_error="raise", max_size=len(KEYS))
    for key in KEYS:
        backend.client.hset(CONTENT.indexed, text_id(key), index)
    for number in range(len(KEYS) // 2):
        assert cache.set(f"new {number}", "x")
    assert cache.clear() == len(KEYS)
