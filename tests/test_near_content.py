"""What the near cache of a ContentHashCache does beyond what every near cache does: which look-ups it answers."""

from __future__ import annotations

import gc

import pytest
from near_kinds import copied, is_live, is_near, near_hits, reported, turn
from servers import wait_until
from twins import Twin

from distcache import AsyncContentHashCache, ContentHashCache, NearCache
from distcache.errors import ConfigError
from distcache.executor import tracking

TEXT = "Let me think about this problem and find the best way to solve it, step by step."


@pytest.fixture(autouse=True)
def asked_often(monkeypatch) -> None:
    """`copied` waits for an answer on the tracking connection."""
    monkeypatch.setattr(tracking, "PING_S", 0.02)


@pytest.fixture
def near(real, opener):
    """Opens a cache with a near cache that is live, on a real server."""

    def make(**options):
        named = {
            "url": real.url,
            "timeout_s": 10.0,
            "on_error": "raise",
            "near": True,
            "min_prefix_length": 5,
            **options,
        }
        cache = opener(ContentHashCache, AsyncContentHashCache, **named)
        wait_until(lambda: is_live(cache), "the near cache is live")
        return cache

    return make


@pytest.fixture
def other(real):
    """Another client, without a near cache."""
    with ContentHashCache(url=real.url, timeout_s=10.0, on_error="raise", min_prefix_length=5) as cache:
        yield cache


def view(cache, *parts):
    return Twin(cache.raw.scoped(*parts), cache._loop_of)


def answered_here(cache, call) -> bool:
    before = near_hits(cache)
    return call() is not None and near_hits(cache) > before


# what is copied


def test_exact_hits_of_every_kind_of_look_up_are_copied(near, other):
    cache = near()
    other.set(TEXT, "sig")
    reported(cache)
    assert cache.lookup(TEXT).level == "exact"
    assert is_near(cache, TEXT), "what lookup() found is copied"
    assert answered_here(cache, lambda: cache.get_with_prefix_match(TEXT))
    assert answered_here(cache, lambda: cache.get_with_prefix_match(TEXT, 20))
    assert answered_here(cache, lambda: cache.get_many([TEXT]))
    assert not answered_here(cache, lambda: cache.lookup(TEXT)), "its age is known to the server only"
    assert not answered_here(cache, lambda: cache.lookup(TEXT, prefix=True))
    with pytest.raises(ConfigError, match="min_prefix_len"):
        cache.get_with_prefix_match(TEXT, -1)


def test_explicit_keys_are_copied_and_are_no_texts(near, other):
    cache = near()
    other.set_key("call 1", "of the key", TEXT)
    reported(cache)
    wait_until(lambda: answered_here(cache, lambda: cache.get_key("call 1")), "the key is copied")
    assert cache.get("call 1") is None
    other.set("call 1", "of the text")
    copied(cache, "call 1")
    assert (cache.get_key("call 1"), cache.get("call 1")) == ("of the key", "of the text")
    other.set_key("call 1", "new")
    wait_until(lambda: cache.get_key("call 1") == "new", "the change is seen")
    assert cache.lookup_key("call 1").signature == "new"
    cache.set_key("call 1", "newer")
    assert cache.get_key("call 1") == "newer"


def test_other_white_space_and_prefixes_are_asked_for_each_time(near, other):
    """What they find may change with an entry that has another name: a newer, a longer, an exact one."""
    cache = near()
    queries = [f" {TEXT}", TEXT.replace(" ", "  "), TEXT[:30], TEXT[:-1]]
    other.set(TEXT, "sig")
    reported(cache)
    for _ in range(3):
        for query in queries:
            assert not answered_here(cache, lambda query=query: cache.get_with_prefix_match(query))
            assert cache.get_with_prefix_match(query) == "sig"
    copied(cache, TEXT)
    for query in queries:
        other.set(query, query)
        assert cache.get_with_prefix_match(query) == query, "the exact entry, at once: nothing was copied"


def test_a_newer_entry_with_other_white_space_is_seen(near, other):
    cache = near()
    other.set(TEXT, "old")
    copied(cache, TEXT)
    assert cache.get(f" {TEXT}") == "old"
    other.set(f"{TEXT} ", "new")
    assert cache.get(f" {TEXT}") == "new"
    assert cache.get(TEXT) == "old", "its own entry has not changed"
    assert is_near(cache, TEXT)


def test_what_an_inexact_look_up_saw_is_not_older_than_the_copy(near, other):
    cache = near()
    other.set(TEXT, "old")
    copied(cache, TEXT)
    cache.raw._near.changed = lambda *_: None  # reports are on their way for ever
    for number, query in enumerate((f" {TEXT}", TEXT[:30])):
        signature = f"new {number}"
        other.set(TEXT, signature)
        assert cache.get(TEXT) != signature
        assert cache.get_with_prefix_match(query) == signature
        assert cache.get(TEXT) == signature
    assert is_near(cache, TEXT)
    other.clear()
    assert cache.lookup(TEXT) is None
    assert cache.get(TEXT) is None


def test_scopes_are_told_apart(near, other):
    cache = near()
    scopes = [(), ("a",), ("a", "b"), ("ab",), ("",)]
    for scope in scopes:
        other.scoped(*scope).set(TEXT, f"of {scope}")
    reported(cache)
    for scope in scopes:
        one = view(cache, *scope)
        wait_until(lambda one=one: is_near(one, TEXT), "the text is copied")
        assert one.get(TEXT) == f"of {scope}"
    view(cache, "a").set(TEXT, "new")
    assert view(cache, "a").get(TEXT) == "new"
    assert view(cache, "ab").get(TEXT) == "of ('ab',)"
    view(cache, "ab").clear()
    assert view(cache, "ab").get(TEXT) is None
    assert cache.get(TEXT) == "of ()"
    other.scoped("a", "b").clear()
    wait_until(lambda: view(cache, "a", "b").get(TEXT) is None, "the change is seen")
    cache.flush()
    assert other.get_stats()["exact_hits"] == cache.local_stats()["hits"]


def test_with_signed_values_only_what_was_verified_is_copied(near, real):
    cache = near(sign_keys=[b"k" * 32], namespace="signed")
    with ContentHashCache(url=real.url, namespace="signed", timeout_s=10.0, on_error="raise") as forger:
        cache.set(TEXT, "sig")
        copied(cache, TEXT)
        forger.set(TEXT, "forged")
        wait_until(lambda: cache.get(TEXT) is None, "it is a miss")
        assert cache.local_stats()["corrupt"] == 1
        assert forger.get(TEXT) is None, "it is gone"


def test_the_text_counts_as_memory(near, other):
    cache = near(near=NearCache(max_bytes=20_000))
    other.set_many({f"{number} " + "x" * 3000: "s" for number in range(20)})
    for number in range(20):
        text = f"{number} " + "x" * 3000
        reported(cache)
        wait_until(lambda text=text: is_near(cache, text), "the text is copied")
    held = cache.raw._near
    assert 3 <= len(held._by_id) <= 6
    assert held._bytes <= 20_000


def test_what_is_no_text_is_refused(near):
    cache = near()
    for wrong in (5, None, ["text"]):
        for call in (cache.get, cache.get_with_prefix_match, cache.get_key, lambda one: cache.get_many([one])):
            with pytest.raises(TypeError, match="is a str, not"):
                call(wrong)


# what is counted


def test_every_tier_of_hits_is_true_after_flush(near, other):
    cache = near(partitions=3, namespace="tiers")
    with ContentHashCache(url=cache.raw._engine.endpoint.label, namespace="tiers", timeout_s=10.0) as writer:
        texts = [f"{number}. {TEXT}" for number in range(30)]
        writer.set_many(dict.fromkeys(texts, "sig"))
        writer.set_key("key", "sig")
        calls = {"exact": 0, "normalized": 0, "prefix": 0}
        for _ in range(20):
            for text in texts:
                assert cache.get(text) == "sig"
                calls["exact"] += 1
            assert (
                cache.get(f" {texts[0]}") == cache.get_with_prefix_match(texts[1][:-5]) == cache.get_key("key") == "sig"
            )
            assert cache.get("absent") is None
            for tier in calls:
                calls[tier] += 1
        cache.flush()
        stats = writer.get_stats()
        local = cache.local_stats()
        assert local["near_hits"] > 300
        assert {tier: stats[f"{tier}_hits"] for tier in calls} == calls
        assert (stats["total_hits"], stats["misses"]) == (local["hits"], local["misses"])


def test_a_view_outlives_the_name_of_its_whole(real):
    """It is the whole that reports the uses, also those of the views."""
    with ContentHashCache(url=real.url, timeout_s=10.0) as other:
        cache = ContentHashCache(url=real.url, timeout_s=10.0, near=True).scoped("a")
        gc.collect()
        cache.set(TEXT, "sig")
        wait_until(lambda: cache.get(TEXT) and cache.local_stats()["near_hits"] > 20, "the near cache is live")
        wait_until(lambda: other.get_stats()["total_hits"] == cache.local_stats()["hits"], "uses are reported")
        cache.close()


def test_uses_of_an_entry_that_is_gone_are_counted(near, other):
    cache = near()
    other.set(TEXT, "sig")
    copied(cache, TEXT)
    cache.get(TEXT)
    other.clear()
    turn(cache)
    cache.flush()
    assert other.get_stats()["exact_hits"] == cache.local_stats()["hits"]
