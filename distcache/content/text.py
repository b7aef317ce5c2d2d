"""What texts are to the cache: normalizing, digests, ids, and where a text stands in the index. Pure.

The index is one sorted set, searched by range. A normalized text is cut into stretches that double: its first 512
bytes, the next 512, the next 1024, and so on; each stretch stands in the set literally, behind a digest of all bytes
before it (`lua/include/content_members.lua` builds these members). A query of n bytes therefore needs one range only:
the digest of the stretches that it fills, then its rest literally, so any length is found exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from distcache.keys import KEY_ID_BYTES, REMEMBERED, raw

STRETCH = 512
"""Bytes of the first stretch."""
BY_ID_ONLY = b"\xff"
"""In place of a number of digests: the entry is found by its id, and by no text."""

_ASCII_SPACES = "\t\n\v\f\r\x1c\x1d\x1e\x1f"
"""All white space of ASCII but the space itself."""


@dataclass(slots=True)  # not frozen: that would make each of them four times as slow to make
class Query:
    """What a look-up asks for."""

    id: bytes
    """The entry's id, if the very text or key is stored."""
    check: bytes
    """SHA-256 of the normalized text, or of the key: compared with the entry's, and decides the partition."""
    stem: bytes = b""
    """How the index members of all texts begin that begin with this one; empty for what is found by its id only."""
    scope: bytes | None = None
    """The scope's id; None for a key, which says nothing about the text stored with it."""
    normal: str = ""
    """The normalized text."""

    def fits(self, entry_id: bytes, text: str) -> bool:
        """Whether an entry's original text is what its id says and begins with this one, but for white space."""
        if self.scope is None:
            return entry_id == self.id
        return text_id(self.scope, text) == entry_id and normalize(text).startswith(self.normal)


@dataclass(slots=True)  # not frozen, as Query
class Place:
    """Where a text or key is stored."""

    id: bytes
    check: bytes
    index: bytes
    """What `indexed` holds: scope id, number of digests, digests, normalized text."""
    text_bytes: int
    """Of the original text."""
    remainder: str | None
    """What is to be stored beside `index` so that the original text can be told; None for nothing."""


def normalize(text: str) -> str:
    """The text with each run of Unicode white space as one space, and none at the ends."""
    text = text.strip()
    if text.isascii():  # most are, and to look for one character is many times as fast as to look at each
        for space in _ASCII_SPACES:
            if space in text:
                text = text.replace(space, " ")
    elif not text.isprintable():  # of all white space, only the space itself is printable
        return " ".join(text.split())
    while "  " in text:
        text = text.replace("  ", " ")
    return text


def sha256(text: str) -> bytes:
    """Of the text in UTF-8; lone surrogates count as three bytes."""
    return hashlib.sha256(raw(text)).digest()


def text_id(scope: bytes, text: str) -> bytes:
    """16 bytes that stand for this very text in a scope (an id, `keys.scope_id`)."""
    return _id(scope, b"text", raw(text))


def query(scope: bytes, text: str) -> Query:
    """Look for a text."""
    normal = normalize(text)
    data = raw(normal)
    given = data if text == normal else raw(text)
    return Query(_id(scope, b"text", given), hashlib.sha256(data).digest(), stem(scope, data), scope, normal)


def place(scope: bytes, text: str) -> Place:
    """Store under a text."""
    normal = normalize(text)
    data = raw(normal)
    given, remainder = (data, None) if text == normal else (raw(text), text)
    check = hashlib.sha256(data).digest()
    return Place(_id(scope, b"text", given), check, index(scope, data), len(given), remainder)


def key_query(scope: bytes, key: str) -> Query:
    """Look for an explicit key."""
    data = raw(key)
    return Query(_id(scope, b"key", data), hashlib.sha256(data).digest())


def key_place(scope: bytes, key: str, text: str) -> Place:
    """Store under an explicit key; the text comes along, and no look-up by text finds it."""
    data = raw(key)
    return Place(_id(scope, b"key", data), hashlib.sha256(data).digest(), scope + BY_ID_ONLY, len(raw(text)), text)


def index(scope: bytes, normal: bytes) -> bytes:
    """What the members of a normalized text are made of. White space alone is found by its id only."""
    if not normal:
        return scope + BY_ID_ONLY
    running, digests, done = _digest(), b"", 0
    levels = last_level(len(normal))
    for level in range(1, levels + 1):
        start = start_of(level)
        running.update(normal[done:start])
        digests, done = digests + running.digest(), start
    return scope + bytes((levels,)) + digests + normal


def stem(scope: bytes, normal: bytes) -> bytes:
    """How a member begins whose text begins with this one; empty for white space alone."""
    if not normal:
        return b""
    level = last_level(len(normal))
    if not level:
        return scope + b"\0" + normal
    start = start_of(level)
    return scope + bytes((level,)) + _digest(normal[:start]).digest() + normal[start:]


def last_level(length: int) -> int:
    """The level of the last stretch of a text of so many bytes, more than none; that of the first is 0."""
    return ((length - 1) // STRETCH).bit_length()


def start_of(level: int) -> int:
    """Where the stretch of a level begins, from 1: 512, 1024, 2048, ..."""
    return STRETCH << level - 1


def _id(scope: bytes, kind: bytes, data: bytes) -> bytes:
    running = _beginning(scope, kind).copy()
    running.update(data)
    return running.digest()


@lru_cache(REMEMBERED)
def _beginning(scope: bytes, kind: bytes) -> hashlib.blake2b:
    """What the digests of all ids of a scope begin with. It is copied, which takes less than to make it."""
    return hashlib.blake2b(scope, digest_size=KEY_ID_BYTES, person=kind)


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=KEY_ID_BYTES)
