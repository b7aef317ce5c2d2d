"""What texts are to the cache: normalizing, digests, ids, and where a text stands in the index. Pure.

The index is one sorted set, searched by range. A normalized text is cut into stretches that double: its first 512
bytes, the next 512, the next 1024, and so on; each stretch stands in the set literally, behind a digest of all bytes
before it (`lua/include/content_members.lua` builds these members). A query of n bytes therefore needs one range only:
the digest of the stretches that it fills, then its rest literally, so any length is found exactly.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from distcache.keys import KEY_ID_BYTES, raw

STRETCH = 512
"""Bytes of the first stretch."""
BY_ID_ONLY = b"\xff"
"""In place of a number of digests: the entry is found by its id, and by no text."""


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text or key is stored."""

    id: bytes
    check: bytes
    index: bytes
    """What `indexed` holds: scope id, number of digests, digests, normalized text."""
    remainder: str | None
    """What is to be stored beside `index` so that the original text can be told; None for nothing."""


def normalize(text: str) -> str:
    """The text with each run of Unicode white space as one space, and none at the ends."""
    text = text.strip()
    if text.isprintable() and "  " not in text:
        return text  # of all white space, only the space itself is printable; this is twice as fast
    return " ".join(text.split())


def sha256(text: str) -> bytes:
    """Of the text in UTF-8; lone surrogates count as three bytes."""
    return hashlib.sha256(raw(text)).digest()


def text_id(scope: bytes, text: str) -> bytes:
    """16 bytes that stand for this very text in a scope (an id, `keys.scope_id`)."""
    return _id(scope, text, b"text")


def query(scope: bytes, text: str) -> Query:
    """Look for a text."""
    normal = normalize(text)
    return Query(text_id(scope, text), sha256(normal), stem(scope, raw(normal)), scope, normal)


def place(scope: bytes, text: str) -> Place:
    """Store under a text."""
    normal = normalize(text)
    return Place(text_id(scope, text), sha256(normal), index(scope, raw(normal)), None if text == normal else text)


def key_query(scope: bytes, key: str) -> Query:
    """Look for an explicit key."""
    return Query(_id(scope, key, b"key"), sha256(key))


def key_place(scope: bytes, key: str, text: str) -> Place:
    """Store under an explicit key; the text comes along, and no look-up by text finds it."""
    return Place(_id(scope, key, b"key"), sha256(key), scope + BY_ID_ONLY, text)


def index(scope: bytes, normal: bytes) -> bytes:
    """What the members of a normalized text are made of. White space alone is found by its id only."""
    if not normal:
        return scope + BY_ID_ONLY
    running, digests, done = _digest(), b"", 0
    for start in starts(len(normal)):
        running.update(normal[done:start])
        digests, done = digests + running.digest(), start
    return scope + bytes((len(digests) // KEY_ID_BYTES,)) + digests + normal


def stem(scope: bytes, normal: bytes) -> bytes:
    """How a member begins whose text begins with this one; empty for white space alone."""
    if not normal:
        return b""
    cuts = starts(len(normal))
    if not cuts:
        return scope + b"\0" + normal
    return scope + bytes((len(cuts),)) + _digest(normal[: cuts[-1]]).digest() + normal[cuts[-1] :]


def starts(length: int) -> list[int]:
    """Where the stretches of a text of so many bytes begin, but the first: 512, 1024, 2048, ..."""
    cuts, start = [], STRETCH
    while start < length:
        cuts.append(start)
        start *= 2
    return cuts


def _id(scope: bytes, text: str, kind: bytes) -> bytes:
    running = hashlib.blake2b(scope, digest_size=KEY_ID_BYTES, person=kind)
    running.update(raw(text))
    return running.digest()


def _digest(data: bytes = b"") -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=KEY_ID_BYTES)
