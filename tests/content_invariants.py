"""What must be true of the keys of every ContentHashCache, beside what is true of any cache."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import invariants

from distcache.content import text as texts
from distcache.keys import SCOPE_ID_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from invariants import Partition

ID = invariants.ID
STRETCH = 512


def members(index: bytes, one: bytes) -> list[bytes]:
    """What lua/include/content_members.lua makes, said in another way."""
    scope, levels, rest = index[:SCOPE_ID_BYTES], index[SCOPE_ID_BYTES], index[SCOPE_ID_BYTES + 1 :]
    if levels == 255:
        return [scope + b"\xff\0" + one]
    digests, normal = rest[: ID * levels], rest[ID * levels :]
    bounds = [0, *(STRETCH << level for level in range(levels)), len(normal)]
    found = []
    for level in range(levels + 1):
        digest = digests[ID * (level - 1) : ID * level] if level else b""
        ending = b"\0" if level == levels else b"\1"
        found.append(scope + bytes((level,)) + digest + normal[bounds[level] : bounds[level + 1]] + ending + one)
    return found


def index(part: Partition) -> Iterator[str]:
    """The index holds exactly the members of the entries: none is missing, none is left over, all scores are 0."""
    indexed, prefixes = part.one("indexed", {}), part.one("prefixes", {})
    for one in indexed.keys() ^ part.score.keys():
        yield f"{one.hex()} is only in {'indexed' if one in indexed else 'score'}"
    wanted = [member for one, packed in indexed.items() for member in members(packed, one)]
    if len(set(wanted)) != len(wanted):
        yield "two entries have the same member"
    for member in prefixes.keys() ^ set(wanted):
        yield f"a member of {member[-ID:].hex()} is {'left over' if member in prefixes else 'missing'}"
    if any(prefixes.values()):
        yield "a member has a score"
    for one, packed in indexed.items():
        scope, levels = packed[:SCOPE_ID_BYTES], packed[SCOPE_ID_BYTES]
        if levels != 255 and texts.index(scope, packed[SCOPE_ID_BYTES + 1 + ID * levels :]) != packed:
            yield f"the digests of {one.hex()} are wrong"


def identity(part: Partition) -> Iterator[str]:
    """An entry is in its text's partition, holds the digest of its normalized text, and was written in the past."""
    number = int(part.tag.rsplit(b":", 2)[1].rstrip(b"}"))
    indexed = part.one("indexed", {})
    for one, stored in part.many("e:").items():
        entry = stored.value
        if set(entry) != {b"s", b"d", b"o", b"v", b"w"} or len(one) != ID:
            yield f"the entry {one.hex()} has the fields {sorted(entry)}"
            continue
        packed = indexed.get(one, b"")
        levels = packed[SCOPE_ID_BYTES] if packed else 255
        if levels != 255 and hashlib.sha256(packed[SCOPE_ID_BYTES + 1 + ID * levels :]).digest() != entry[b"v"]:
            yield f"the entry {one.hex()} has another text than the index"
        if int.from_bytes(entry[b"v"][:4], "big") % int(part.number("partitions")) != number:
            yield f"the entry {one.hex()} belongs to another partition"
        if float(entry[b"w"]) > part.number("tick"):
            yield f"the entry {one.hex()} was written in the future"


def hits(part: Partition) -> Iterator[str]:
    """What is no inexact hit is an exact one; an ambiguous query is a miss."""
    kinds = [part.number(f"{level}_hits") for level in ("normalized", "prefix")]
    if sum(kinds) > part.number("hits") or min(kinds) < 0:
        yield f"there are {part.number('hits')} hits, and of the inexact kinds {kinds}"
    if part.number("ambiguous") > part.number("misses"):
        yield "more ambiguous queries than misses"


def nothing_else(part: Partition) -> Iterator[str]:
    """Only the keys that a ContentHashCache uses."""
    known = {b"state", b"score", b"usage", b"deadline", b"ghost", b"ghost_old", b"prefixes", b"indexed"}
    for rest in part.keys:
        if rest not in known and not rest.startswith((b"e:", b"q:")):
            yield f"{rest!r} is no key of a ContentHashCache"


invariants.KINDS["content"] = (
    *(invariants.entries, invariants.deadlines, invariants.bounds, invariants.ghosts),
    *(index, identity, hits, nothing_else),
)
