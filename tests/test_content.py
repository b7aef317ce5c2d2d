"""ContentHashCache: what is found, by which step, and what is not."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import math

import packed
import pytest
from twins import Twin

from distcache import AsyncContentHashCache, ContentHashCache, base64_signature
from distcache.errors import ConfigError, ConfigMismatch, ValueTooLarge
from distcache.keys import Partition

GUIDE = "Let me think about this problem and find the best way to solve it, step by step."
LONG = " ".join(f"Step {number}: look at it again.\n" for number in range(400))
MEGABYTE_OF_TEXT = "".join(hashlib.sha256(str(number).encode()).hexdigest() + " " for number in range(16_400))
STATS = {
    *("exact_hits", "normalized_hits", "prefix_hits", "total_hits", "misses", "evictions", "expirations"),
    *("total_writes", "current_size", "max_size", "hit_rate"),
}


def parameters(function):
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
    ]


def scoped(cache, *parts):
    return Twin(cache.raw.scoped(*parts), cache._loop_of)


def use(cache):
    stats = cache.get_stats()
    return [stats[name] for name in ("exact_hits", "normalized_hits", "prefix_hits", "misses", "ambiguous")]


# the original


@pytest.mark.parametrize("cls", [ContentHashCache, AsyncContentHashCache])
def test_the_original_positional_parameters_and_defaults(cls):
    assert parameters(cls) == [("max_size", 10000), ("ttl_seconds", 3600), ("min_prefix_length", 100)]
    empty = inspect.Parameter.empty
    assert parameters(cls.set) == [("thinking_text", empty), ("signature", empty)]
    assert parameters(cls.get) == [("thinking_text", empty)]
    assert parameters(cls.get_with_prefix_match) == [("thinking_text", empty), ("min_prefix_len", None)]
    assert parameters(cls.normalize_text) == [("text", empty)]
    assert parameters(cls.compute_hash) == [("text", empty), ("normalize", False)]
    for name in ("cleanup_expired", "clear", "get_stats"):
        assert parameters(getattr(cls, name)) == []


def test_the_static_methods():
    assert ContentHashCache.normalize_text("  a \n\t b\u2003c ") == "a b c"
    assert ContentHashCache.compute_hash("a b") == hashlib.sha256(b"a b").hexdigest()
    assert ContentHashCache.compute_hash(" a\nb ", normalize=True) == hashlib.sha256(b"a b").hexdigest()
    assert len(ContentHashCache.compute_hash("\ud800")) == 64


def test_a_new_cache_has_the_original_statistics(content):
    stats = content().get_stats()
    assert set(stats) >= STATS
    assert stats["max_size"] == 10_000
    assert stats["hit_rate"] == 0.0
    assert isinstance(stats["hit_rate"], float)
    assert all(stats[name] == 0 for name in STATS - {"max_size"})


def test_the_example_of_the_guide(content):
    cache = content()
    assert cache.set(GUIDE, "sig") is True
    assert cache.get(GUIDE) == "sig"
    assert cache.get(f"\n{GUIDE.replace(' ', '   ')}\t") == "sig"
    assert cache.get_with_prefix_match("Let me think about this problem", min_prefix_len=20) == "sig"
    assert cache.get_with_prefix_match("Let me think about this problem") is None
    assert cache.get("Let me think about this problem") is None
    assert use(cache) == [1, 1, 1, 2, 0]
    stats = cache.get_stats()
    assert (stats["total_hits"], stats["hit_rate"], stats["total_writes"], stats["current_size"]) == (3, 0.6, 1, 1)


def test_fault_overwriting_a_text_left_the_old_signature_under_its_prefix(content):
    """The original left the old signature under the text's prefix."""
    cache = content()
    cache.set(LONG, "old")
    cache.set(LONG, "new")
    for length in (150, 512, 513, 5000):
        assert cache.get_with_prefix_match(LONG[:length]) == "new"
    assert cache.get(LONG + " ") == cache.get(LONG) == "new"
    assert cache.get_stats()["current_size"] == 1


@pytest.mark.parametrize("least", [1, 2, 19, 20, 99, 101, 5000])
def test_fault_min_prefix_len_worked_only_when_equal_to_the_constructors(content, least):
    """In the original, a minimum other than the constructor's found nothing."""
    cache = content()
    cache.set("word" * 2000, "sig")
    query = ("word" * 2000)[:least]
    assert cache.get_with_prefix_match(query, least) == "sig"
    assert cache.get_with_prefix_match(query[:-1] + " ", least) is None
    assert content(min_prefix_length=least).get_with_prefix_match(query) == "sig"


def test_the_minimum_counts_characters_of_the_normalized_query_and_not_of_a_whole_text(content):
    cache = content(min_prefix_length=4)
    cache.set("日本語のテキスト", "sig")
    assert cache.get_with_prefix_match("日本語の") == "sig"
    assert cache.get_with_prefix_match("日本語      ") is None
    cache.set("ab", "short")
    assert cache.get_with_prefix_match("ab") == "short"
    assert cache.get_with_prefix_match(" ab") == "short"


def test_a_minimum_that_is_no_number_is_refused(content):
    cache = content()
    for wrong in (-1, 1.5, "20"):
        with pytest.raises(ConfigError, match="min_prefix_len"):
            cache.get_with_prefix_match("x", wrong)
    with pytest.raises(ConfigError, match="min_prefix_length"):
        content(min_prefix_length=-1)


def test_fault_hits_by_normalized_text_or_prefix_did_not_count_as_use(content):
    """In the original, only exact hits did."""
    for how in ("exact", "normalized", "prefix"):
        cache = content(max_size=2, min_prefix_length=1, namespace=how)
        cache.set("first text", "1")
        cache.set("second text", "2")
        query = {"exact": "first text", "normalized": " first  text", "prefix": "first"}[how]
        assert cache.lookup(query, prefix=True).level == how
        cache.set("third text", "3")
        assert cache.get("first text") == "1"
        assert cache.get("second text") is None
        assert cache.get_stats()["evictions"] == 1


def test_replacing_at_the_limit_evicts_nothing(content):
    cache = content(max_size=2)
    cache.set_many({"a": "1", "b": "2"})
    assert cache.set("a", "3")
    assert cache.get_many(["a", "b"]) == {"a": "3", "b": "2"}
    assert cache.get_stats()["evictions"] == 0


# expiry


def test_expired_entries_are_not_found_and_are_counted(content, backend):
    cache = content(ttl_seconds=60)
    cache.set_many({f"text {number}": "s" for number in range(3)})
    backend.let_pass(59)
    assert cache.get("text 1") == "s"
    backend.let_pass(2)
    assert cache.get_many([f"text {number}" for number in range(3)]) == {}
    assert cache.get_with_prefix_match("text", 1) is None
    stats = cache.get_stats()
    assert stats["expirations"] + cache.cleanup_expired() == 3
    assert cache.get_stats()["current_size"] == 0


def test_what_expired_is_counted_when_it_is_replaced(content, backend):
    cache = content(ttl_seconds=60, max_size_mb=0.001)
    for number in range(12):
        cache.set(f"text {number}", "s")
    backend.let_pass(61)
    cache.set("text 11", "new")
    assert cache.get("text 11") == "new"
    backend.let_pass(61)
    with pytest.raises(ValueTooLarge):
        cache.set("text 11", "s" * 2000)
    cache.cleanup_expired()
    stats = cache.get_stats()
    assert (stats["expirations"], stats["evictions"], stats["current_size"]) == (13, 0, 0)


def test_fault_expired_entries_hid_live_ones(content, backend):
    cache = content(ttl_seconds=60, min_prefix_length=5)
    for number in range(150):
        cache.set(f"The same beginning {number:03}, and more", "expired")
    backend.let_pass(61)
    cache.set("The same beginning 999", "live")
    assert cache.get_with_prefix_match("The same beginning") == "live"
    assert cache.cleanup_expired() == 0
    assert cache.get_stats()["expirations"] == 150


def test_a_read_only_client_passes_expired_entries_by(content, backend):
    cache = content(ttl_seconds=60, min_prefix_length=5)
    cache.set("The same beginning 1", "expired")
    backend.let_pass(61)
    reader = content(read_only=True, min_prefix_length=5)
    before = backend.keyspace().content()
    assert reader.get_with_prefix_match("The same beginning") is None
    assert backend.keyspace().content() == before
    cache.set("The same beginning 2", "live")
    assert reader.get_with_prefix_match("The same beginning") == "live"


def test_setting_starts_the_time_to_live_anew(content, backend):
    cache = content(ttl_seconds=60)
    cache.set("text", "1")
    backend.let_pass(40)
    cache.set("text", "2")
    backend.let_pass(40)
    assert cache.get("text") == "2"
    backend.let_pass(21)
    assert cache.get("text") is None


def test_a_fixed_time_to_live_is_not_prolonged_by_use_and_a_sliding_one_is(content, backend):
    for sliding in (False, True):
        cache = content(ttl_seconds=60, sliding=sliding, namespace=f"sliding-{sliding}")
        cache.set("text", "s")
        for _ in range(4):
            backend.let_pass(20)
            cache.get(" text")
        assert (cache.get("text") == "s") is sliding


def test_no_time_to_live(content, backend):
    cache = content(ttl_seconds=math.inf)
    cache.set("text", "s")
    backend.let_pass(1e6)
    assert cache.get("text") == "s"


def test_what_the_server_expired_by_itself_leaves_nothing_behind(content, backend):
    """Nobody used the cache for so long that the safety net took the entries: the index is cleaned all the same."""
    cache = content(ttl_seconds=60)
    cache.set_many({LONG: "1", "another": "2"})
    backend.let_pass(1000)
    assert cache.cleanup_expired() == 2
    assert not backend.keyspace().content().keys() & {b"{dc1:signatures:0}:prefixes", b"{dc1:signatures:0}:indexed"}


def test_entries_that_the_server_evicted_do_not_hide_others(content, backend):
    cache = content(min_prefix_length=3)
    cache.set_many({"the one": "1", "the other": "2"})
    for key in backend.client.keys("*:e:*"):
        backend.client.delete(key)
    assert cache.get("the one") is None
    cache.set("the third", "3")
    assert cache.get_with_prefix_match("the") == "3"
    assert cache.get_stats()["current_size"] == 1


# prefixes


@pytest.mark.parametrize("partitions", [1, 3])
def test_a_text_is_found_by_a_prefix_of_any_length(content, partitions):
    cache = content(min_prefix_length=1, partitions=partitions)
    cache.set(LONG, "sig")
    for length in [1, 2, 50, *range(508, 520), *range(1020, 1030), 2047, 2048, 2049, 4097, 9000, len(LONG) - 3]:
        assert cache.get_with_prefix_match(LONG[:length]) == "sig", length
        assert cache.get_with_prefix_match(LONG[: length - 1] + "§") is None, length


@pytest.mark.parametrize("partitions", [1, 3])
def test_texts_with_different_signatures_make_their_prefix_ambiguous(content, partitions):
    cache = content(min_prefix_length=4, partitions=partitions)
    cache.set("The cat sat", "cat")
    cache.set("The cow sat", "cow")
    assert cache.get_with_prefix_match("The c") is None
    assert cache.get_with_prefix_match("The ca") == "cat"
    assert use(cache) == [0, 0, 1, 1, 1]
    assert cache.local_stats()["ambiguous"] == 1
    newest = content(min_prefix_length=4, ambiguous="newest")
    assert newest.get_with_prefix_match("The c") == "cow"
    cache.set("The cat sat", "cat 2")
    assert newest.get_with_prefix_match("The c") == "cat 2"
    assert newest.lookup("The", prefix=True) is None
    cache.set("The cow sat", "cat 2")
    assert cache.get_with_prefix_match("The c") == "cat 2"


def test_ambiguous_has_two_values(content):
    with pytest.raises(ConfigError, match="ambiguous"):
        content(ambiguous="oldest")


def test_a_whole_text_is_found_though_others_begin_with_it(content):
    cache = content(min_prefix_length=1)
    cache.set_many({"one": "1", "one two": "2", "one two three": "3"})
    assert [cache.get_with_prefix_match(text) for text in (" one", "one  two", "one t")] == ["1", "2", None]


def test_of_texts_that_differ_in_white_space_only_the_newest_is_found(content):
    cache = content()
    cache.set("a b", "1")
    cache.set("a  b", "2")
    cache.set("a   b", "3")
    assert [cache.get(text) for text in ("a b", "a  b", "a   b", "a\nb")] == ["1", "2", "3", "3"]
    cache.set("a b", "4")
    assert cache.get("a\nb") == "4"


def test_many_texts_that_begin_alike(content):
    """More than are looked at: neither is the one signature known to be the only one, nor the newest to be that."""
    cache = content(min_prefix_length=1, ttl_seconds=math.inf)
    newest = content(min_prefix_length=1, ambiguous="newest")
    cache.set_many({f"same {number}": "s" for number in range(999)})
    cache.set("same as before", "s")
    assert [one.get_with_prefix_match("same") for one in (cache, newest)] == ["s", "s"]
    cache.set("same again", "another")
    assert [one.get_with_prefix_match("same") for one in (cache, newest)] == [None, None]
    assert cache.get_stats()["ambiguous"] == 2


def test_one_look_up_does_not_bury_all_the_dead(content, backend):
    cache = content(min_prefix_length=1, ttl_seconds=math.inf)
    cache.set_many({f"same {number}": "s" for number in range(500)})
    part = Partition("signatures", 0)
    used = packed.usages(backend.client.hgetall(part.usage))
    dead = {one: dataclasses.replace(use, deadline=1, ttl=1) for one, use in used.items()}
    backend.client.hset(part.usage, mapping={one: use.packed() for one, use in dead.items()})
    backend.client.zadd(part.deadline, dict.fromkeys(dead, 1))
    for left in (300, 100):
        assert cache.get_with_prefix_match("same") is None
        assert cache.get_stats()["current_size"] == left
    cache.set("same again", "new")
    assert cache.get_with_prefix_match("same") == "new"


def test_texts_that_are_no_prefix_in_bytes_are_not_found(content):
    cache = content(min_prefix_length=1)
    cache.set("é", "1")
    assert cache.get_with_prefix_match("è") is None
    assert cache.get_with_prefix_match("\xc3") is None
    cache.set("abc", "2")
    assert [cache.get_with_prefix_match(text) for text in ("abd", "abcd", "b", "ab\0", "abc\0", "ABC")] == [None] * 6


# odd texts


@pytest.mark.parametrize("partitions", [1, 2])
def test_odd_texts_have_a_defined_result(content, partitions):
    cache = content(min_prefix_length=1, partitions=partitions)
    odd = [
        "\0",
        "\0\0",
        "a\0b",
        "\ud800",
        "a\udfffb",
        "\x01",
        "\xff",
        "}{",
        "x" * 512,
        "x" * 513,
        "\0" * 1024,
        "é" * 700,
    ]
    assert cache.set_many({text: f"s{at}" for at, text in enumerate(odd)}) == len(odd)
    for at, text in enumerate(odd):
        match = cache.lookup(text)
        assert (match.signature, match.text, match.level) == (f"s{at}", text, "exact")
        assert cache.lookup(f" {text}\n").level == "normalized"
    assert cache.get_with_prefix_match("a\0") == "s2"
    assert cache.get_with_prefix_match("a\udfff") == "s4"
    assert cache.get_with_prefix_match("é" * 600) == "s11"
    assert cache.get_with_prefix_match("\0" * 600) == "s10"


def test_empty_text_and_white_space_are_found_by_themselves_only(content):
    cache = content(min_prefix_length=0)
    cache.set_many({"": "empty", " \n": "white", "text": "text"})
    assert [cache.get(text) for text in ("", " \n", " ", "\n")] == ["empty", "white", None, None]
    assert cache.get_with_prefix_match("", 0) == "empty"
    assert cache.get_with_prefix_match("  ", 0) is None
    assert cache.lookup(" \n").text == " \n"
    assert cache.clear() == 3


def test_an_empty_signature_is_a_hit(content):
    cache = content()
    assert cache.set("text", "") is True
    assert cache.get("text") == ""
    assert cache.get_many(["text"]) == {"text": ""}


def test_a_text_of_a_megabyte(content):
    cache = content()
    assert len(MEGABYTE_OF_TEXT) > 1024 * 1024
    assert cache.set(MEGABYTE_OF_TEXT, "sig")
    assert cache.get(MEGABYTE_OF_TEXT.replace(" ", "\n")) == "sig"
    for length in (200, 100_000, 524_288, 524_289, 1_000_000):
        assert cache.get_with_prefix_match(MEGABYTE_OF_TEXT[:length]) == "sig"
    assert cache.lookup(MEGABYTE_OF_TEXT).text == MEGABYTE_OF_TEXT
    assert cache.clear() == 1


@pytest.mark.parametrize("wrong", [None, b"text", 1, ["text"]])
def test_what_is_no_text_is_refused(content, wrong):
    cache = content()
    for call in (
        lambda: cache.set(wrong, "s"),
        lambda: cache.set("text", wrong),
        lambda: cache.get(wrong),
        lambda: cache.get_with_prefix_match(wrong),
        lambda: cache.lookup(wrong),
        lambda: cache.get_key(wrong),
        lambda: cache.set_key(wrong, "s"),
        lambda: cache.set_key("k", "s", wrong),
        lambda: cache.get_many([wrong] if wrong != ["text"] else [1]),
        lambda: cache.set_many([("text", wrong)]),
        lambda: cache.normalize_text(wrong),
        lambda: cache.compute_hash(wrong),
        lambda: cache.scoped(wrong),
    ):
        with pytest.raises(TypeError, match="is a str, not"):
            call()
    assert cache.get_stats()["current_size"] == 0


# sizes


def test_too_large_a_value_is_refused_and_the_older_one_goes(content):
    cache = content(max_value_bytes=100)
    cache.set("x" * 90, "small")
    for call in (cache.set, lambda *pair: cache.set_many([("other", "s"), pair])):
        with pytest.raises(ValueTooLarge, match="101 bytes"):
            call("x" * 90, "large sig..")
        assert cache.get_stats()["current_size"] == 0
    assert cache.set("x" * 90, "just right")


def test_a_value_above_the_bound_of_the_cache_is_refused_and_evicts_nothing(content):
    """In the original of the other cache, it emptied the cache."""
    cache = content(max_size_mb=0.001)
    cache.set_many({"x" * 500: "1", "y": "2"})
    with pytest.raises(ValueTooLarge, match="max_size_mb"):
        cache.set("x" * 500, "s" * 600)
    assert cache.get("x" * 500) is None
    assert cache.get("y") == "2"
    assert cache.get_stats()["evictions"] == 0


def test_the_bound_on_bytes_holds(content):
    cache = content(max_size_mb=0.001)
    for number in range(20):
        cache.set(f"{number:02}" + "x" * 198, "s" * 50)
    stats = cache.get_stats()
    assert stats["total_size_mb"] * 1024 * 1024 == 1000
    assert (stats["current_size"], stats["evictions"]) == (4, 16)
    assert cache.get("19" + "x" * 198) == "s" * 50


@pytest.mark.parametrize("policy", ["adaptive", "lru", "lru_freq"])
def test_every_policy_keeps_the_bounds(content, policy):
    cache = content(max_size=5, policy=policy, min_prefix_length=1)
    for number in range(40):
        cache.set(f"text {number % 13}", f"s{number}")
        cache.get(f" text {number % 7}")
    assert cache.get_stats()["current_size"] == 5


def test_lowered_bounds_are_trimmed_by_use(content):
    cache = content(max_size=50, ttl_seconds=math.inf)
    cache.set_many({f"text {number}": "s" for number in range(50)})
    lowered = content(max_size=5, reconfigure=True)
    lowered.cleanup_expired()
    assert lowered.get_stats()["current_size"] == 5
    assert cache.get("text 49") == "s"


# more than the original


def test_lookup_gives_the_original_text_and_how_it_was_found(content, backend):
    cache = content(min_prefix_length=5)
    text = "Some  text\nwith white\tspace"
    cache.set(text, "sig")
    cache.set("plain text", "plain")
    exact, normalized, prefix = (
        cache.lookup(query, prefix=True) for query in (text, "Some text with white space", "Some text w")
    )
    assert [match.level for match in (exact, normalized, prefix)] == ["exact", "normalized", "prefix"]
    assert {match.text for match in (exact, normalized, prefix)} == {text}
    assert {match.signature for match in (exact, normalized, prefix)} == {"sig"}
    assert 0 <= prefix.age_s < 60
    assert cache.lookup("Some text w") is None
    assert cache.lookup("plain", prefix=True).text == "plain text"
    for key in backend.client.keys("*:e:*"):
        backend.client.hincrby(key, "w", -100_000_000)
    assert 100 <= cache.lookup(text).age_s < 160


@pytest.mark.parametrize("partitions", [1, 3])
def test_scopes_see_only_their_own(content, partitions):
    cache = content(min_prefix_length=3, partitions=partitions)
    team, other = scoped(cache, "team-a", "model-a"), scoped(cache, "team-am", "odel-a")
    cache.set("some text", "everybody")
    team.set("some text", "team")
    assert scoped(team).get("some text") == "team"
    for query in ("some text", " some  text", "some"):
        assert cache.get_with_prefix_match(query) == "everybody"
        assert team.get_with_prefix_match(query) == "team"
        assert other.get_with_prefix_match(query) is None
    other.set_key("k", "1")
    assert team.get_key("k") is None
    assert scoped(scoped(cache, "team-a"), "model-a").get("some text") == "team"
    assert team.get_stats()["current_size"] == 3


def test_clearing_a_scope_leaves_the_others(content):
    cache = content()
    view = scoped(cache, "one")
    for each in (cache, view, scoped(cache, "two")):
        each.set_many({"text": "1", LONG: "2", "": "3"})
        each.set_key("key", "4")
    assert view.clear() == 4
    assert view.clear() == 0
    assert view.get("text") is None
    assert cache.get("text") == "1"
    assert cache.clear() == 8
    assert cache.get_stats()["current_size"] == 0
    assert cache.get_stats()["total_writes"] == 12


def test_clearing_in_many_steps(content):
    cache = content(partitions=2, ttl_seconds=math.inf)
    pairs = {f"text {number}": "s" for number in range(1203)}
    view = scoped(cache, "scope")
    cache.set_many(pairs)
    view.set_many(pairs)
    assert view.clear() == 1203
    assert cache.clear() == 1203


def test_explicit_keys(content):
    cache = content(max_size=2)
    assert cache.set_key("toolu_1", "sig", text="the text  of it")
    assert cache.get_key("toolu_1") == "sig"
    assert cache.get_key("toolu_1 ") is None
    match = cache.lookup_key("toolu_1")
    assert (match.signature, match.text, match.level) == ("sig", "the text  of it", "exact")
    assert cache.get("the text of it") is None
    assert cache.get("toolu_1") is None
    cache.set("toolu_1", "of the text")
    assert cache.get_key("toolu_1") == "sig"
    cache.set_key("toolu_1", "new")
    assert cache.lookup_key("toolu_1").text == ""
    cache.set_key("", "empty key")
    assert cache.get_key("") == "empty key"
    assert cache.get_stats()["current_size"] == 2


@pytest.mark.parametrize("partitions", [1, 3])
def test_many_at_once(content, partitions):
    cache = content(partitions=partitions)
    assert cache.set_many({"a": "1", "b  b": "2"}) == 2
    assert cache.set_many([("c", "3"), ("c", "4")]) == 1
    assert cache.get_many(["a", " a", "b b", "c", "d"]) == {"a": "1", " a": "1", "b b": "2", "c": "4"}
    assert cache.get_many([]) == {}
    assert cache.set_many({}) == 0
    assert use(cache) == [2, 2, 0, 1, 0]


def test_a_validator_rejects(content):
    cache = content(validator=base64_signature(min_length=4))
    assert cache.set("text", "not base64!") is False
    assert cache.set_key("key", "abc") is False
    assert cache.set_many({"a": "EqQB", "b": "?"}) == 1
    assert cache.get_many(["text", "a", "b"]) == {"a": "EqQB"}
    assert cache.local_stats()["rejected"] == 3


def test_a_rejected_signature_leaves_the_older_one(content):
    cache = content(validator=bool)
    cache.set("text", "sig")
    assert cache.set("text", "") is False
    assert cache.get("text") == "sig"


def test_clients_share_everything_but_their_own_settings(content):
    first = content(max_size=7, ttl_seconds=50)
    first.set(GUIDE, "sig")
    second = content(min_prefix_length=10)
    assert second.get_with_prefix_match("Let me think") == "sig"
    assert second.get_stats()["max_size"] == 7
    with pytest.raises(ConfigMismatch, match="max_entries is 7"):
        content(max_size=8)
    with pytest.raises(ConfigMismatch, match="ttl_ms"):
        content(ttl_seconds=3600)


def test_a_parameter_that_is_left_out_or_none_is_adopted(content):
    content(ttl_seconds=50, max_size=7)
    for options in ({}, {"ttl_seconds": None, "max_size_mb": None, "policy": None, "sliding": None}):
        assert content(**options).get_stats()["max_size"] == 7


@pytest.mark.parametrize(
    "options",
    [
        {"ttl_seconds": 0},
        {"ttl_seconds": "1"},
        {"max_size": 0},
        {"max_size": None},
        {"max_size_mb": 0},
        {"policy": "x"},
    ],
)
def test_parameters_that_cannot_work_are_refused(content, options):
    with pytest.raises(ConfigError):
        content(**options)


def test_unknown_options_are_refused():
    for cls in (ContentHashCache, AsyncContentHashCache):
        with pytest.raises(TypeError, match="unknown options"):
            cls(url="fakeredis://none", max_entries=3)


def test_the_twins_have_the_same_methods():
    def public(cls):
        return {name for name in dir(cls) if not name.startswith("_")}

    assert public(ContentHashCache) - {"close"} == public(AsyncContentHashCache) - {"aclose"}
    for name in public(ContentHashCache) - {"close"}:
        assert inspect.signature(getattr(ContentHashCache, name)) == inspect.signature(
            getattr(AsyncContentHashCache, name)
        )
