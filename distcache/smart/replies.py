"""The replies of a SmartCache's scripts, and how they are read, where that takes more than an expression."""

from __future__ import annotations

from typing import Any

from distcache.errors import ValueTooLarge
from distcache.keys import unraw
from distcache.smart.followed import Followed
from distcache.smart.records import Found, HistoryRecord, Metadata, Usage


def found(reply: Any) -> Found | None:
    """What lua/include/smart_reply.lua makes of a look-up."""
    if reply is None:
        return None
    if len(reply) == 2:  # noqa: PLR2004 - as lua/include/smart_reply.lua says
        return Found(*reply)
    blob, content_hash, left_ms, cost_us, older, ttl_ms = reply
    return Found(blob, content_hash, left_ms if left_ms >= 0 else None, cost_us / 1000, bool(older), ttl_ms)


def stored(reply: int) -> bool:
    """What a script that stores an output answers."""
    if reply < 0:
        raise ValueTooLarge("the value is larger than the whole cache may be; raise max_size_mb or store a smaller one")
    return True


def removed(reply: list[Any]) -> tuple[bool, list[bytes], list[tuple[bytes, float]]]:
    """What a step through the dependents answers: (more to do, ids met on the way, keys with their worth)."""
    more, met, *rows = reply
    worths = map(float, rows[1::2])
    ids = [met[at : at + 16] for at in range(0, len(met), 16)]
    return bool(more), ids, list(zip(rows[::2], worths, strict=True))


def count_and_more(reply: list[int]) -> tuple[int, bool]:
    """How many were dealt with, and whether there is more to do."""
    return reply[0], bool(reply[1])


def records(rows: list[Any]) -> list[HistoryRecord]:
    """The records that can be read; a damaged one is left out."""
    return [record for record in map(HistoryRecord.decode, rows) if record is not None]


def hot(reply: list[Any]) -> tuple[bytes, list[tuple[Usage, bytes, Metadata]]]:
    """One step through the use of all entries: (next cursor, uses with their keys and metadata)."""
    return reply[0], [(Usage.decode(used), key, Metadata.decode(packed)) for used, key, packed in reply[1:]]


def patterns(reply: list[Any]) -> tuple[bytes, list[tuple[str, Followed]]]:
    """One step through what was learned: (next cursor, keys with what came after each)."""
    names, known = reply[1::2], map(Followed.decode, reply[2::2])
    return reply[0], [(unraw(name[16:]), one) for name, one in zip(names, known, strict=True)]
