"""Texts, digests, and the index: pure, against the obvious way to say it."""

from __future__ import annotations

import hashlib

import pytest
from content_invariants import members
from hypothesis import example, given
from hypothesis import strategies as st

from distcache.content import text as texts
from distcache.content.validators import base64_signature
from distcache.errors import ConfigError
from distcache.keys import raw, scope_id

SCOPE = scope_id(())
PIECES = st.sampled_from(
    ["a", "b", "ab", " ", "\n\t", "\0", "\x01", "é", "日", "\U0001f600", "\ud800", "\u2003", "x" * 255]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(st.characters(exclude_categories=()), max_size=8))


def finds(stem, text):
    """Whether one range of the index leads from a stem to a text, as lua/include/content_search.lua searches."""
    upper = stem[:-1] + bytes((stem[-1] + 1,))
    packed = texts.index(SCOPE, raw(texts.normalize(text)))
    return [m for m in members(packed, b"I" * 16) if stem <= m < upper and len(m) - 17 >= len(stem)]


@given(TEXTS)
def test_normalizing_strips_and_makes_one_space_of_each_run_of_white_space(text):
    normal = texts.normalize(text)
    assert normal == " ".join(text.split())
    assert texts.normalize(normal) == normal


@pytest.mark.parametrize("beside", ["", "\xa0", "é", "日"])
def test_every_white_space_of_unicode_is_white_space(beside):
    for code in range(0x11_0000):
        if (one := chr(code)).isspace():
            assert texts.normalize(f"{one}a{one}b{one}{one}{beside}c{one}") == " ".join(f"a b {beside}c".split())


@given(TEXTS, st.integers(0, 40))
def test_a_text_cut_short_anywhere_is_a_prefix_when_normalized(text, cut):
    assert raw(texts.normalize(text)).startswith(raw(texts.normalize(text[:cut])))


@given(TEXTS, TEXTS)
@example("x" * 512, "x" * 513)
@example("x" * 513, "x" * 512)
@example("é" * 256, "é" * 257)
@example("x" * 511 + "é", "x" * 511 + "è")
def test_a_range_leads_to_exactly_the_texts_that_begin_with_the_query(one, other):
    for query, text in ((one, other), (one, one + other), (one + other, one)):
        stem = texts.query(SCOPE, query).stem
        begins = bool(texts.normalize(query)) and texts.normalize(text).startswith(texts.normalize(query))
        assert bool(stem and finds(stem, text)) == begins


@pytest.mark.parametrize("length", [1, 511, 512, 513, 1023, 1024, 1025, 2048, 2049, 5000, 70_000])
def test_every_length_of_query_finds_its_text_by_one_member(length):
    text = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(1200))
    assert len(finds(texts.query(SCOPE, text[:length]).stem, text)) == 1
    assert not finds(texts.query(SCOPE, text[: length - 1] + "é").stem, text)


@given(st.integers(1, 1 << 40))
@example(512)
@example(513)
@example(1024)
@example(1025)
def test_the_last_stretch_of_a_text_is_the_one_that_its_last_byte_is_in(length):
    level = texts.last_level(length)
    assert (texts.start_of(level) if level else 0) < length <= texts.start_of(level + 1)


@given(TEXTS)
def test_a_text_is_stored_where_it_is_looked_for(text):
    query, place = texts.query(SCOPE, text), texts.place(SCOPE, text)
    assert query.id == place.id == texts.text_id(SCOPE, text)
    assert query.check == place.check == texts.sha256(texts.normalize(text))
    assert place.text_bytes == len(raw(text))
    assert place.remainder == (None if text == texts.normalize(text) else text)


@given(st.binary(max_size=40))
def test_the_bytes_of_an_id_never_pass_for_text(tail):
    """A member ends in NUL and an id: were they read as text, 'a' would begin with 'a NUL ...'."""
    assert not finds(SCOPE + b"\0a\0" + b"I" * min(16, len(tail) + 1), "a")


@given(TEXTS, TEXTS)
def test_ids_tell_scopes_texts_and_keys_apart(one, other):
    ids = {
        texts.query(scope_id(scope), text).id
        for scope in ((), (one,), (one, other), (other, one, ""))
        for text in (one, other)
    }
    distinct = {(scope, text) for scope in ((), (one,), (one, other), (other, one, "")) for text in (one, other)}
    assert len(ids) == len(distinct)
    assert texts.key_query(SCOPE, one).id != texts.query(SCOPE, one).id


def test_a_query_fits_an_entry_only_if_its_text_is_what_the_id_says():
    query = texts.query(SCOPE, "a b")
    assert query.fits(texts.place(SCOPE, "a  b c").id, "a  b c")
    assert not query.fits(texts.place(SCOPE, "a  b c").id, "a b c")
    assert not query.fits(texts.place(SCOPE, "b").id, "b")


@pytest.mark.parametrize(
    ("signature", "accepted"),
    [
        *(("EqQB", True), ("+/+/", True), ("-_-_", True), ("ab==", True), ("abc=", True)),
        *(("", False), ("abc", False), ("ab=c", False), ("+/-_", False), ("a===", False), ("====", False)),
        *(("ab c", False), ("abcd\n", False), ("äbcd", False), ("abcdabcdabcd", False)),
    ],
)
def test_the_base64_validator(signature, accepted):
    assert base64_signature(max_length=8)(signature) is accepted


def test_limits_of_the_base64_validator_are_checked():
    assert base64_signature(min_length=0)("")
    with pytest.raises(ConfigError, match="max_length"):
        base64_signature(min_length=8, max_length=4)
