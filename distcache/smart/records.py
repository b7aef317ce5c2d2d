"""What a SmartCache gives back: plain records, and how each is read from a reply."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import TYPE_CHECKING, Any

from distcache.codec import pack, unpack
from distcache.errors import CorruptEntry
from distcache.keys import raw, unraw

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE_BYTES = 47
_COST = Struct("<d")


@dataclass(slots=True)  # not frozen: that would make each of them four times as slow to make
class Found:
    """A stored output, still encoded, and the content hash it was stored with."""

    blob: bytes
    content_hash: bytes
    left_ms: int | None = None
    """Until it expires; None for never, and where it was not asked for."""
    cost_ms: float = 0
    """What it took to make, if it expires."""
    older: bool = False
    """It is not the key's latest version."""
    ttl_ms: int = 0
    """Its whole time to live, if it expires."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of an entry's use; `lua/include/usage.lua` is the other side."""

    access_count: int
    """Hits."""
    last_access_ms: int
    size_bytes: int
    """Of the output, uncompressed."""
    compile_time_ms: float
    expires_ms: int
    """0 for never."""

    @classmethod
    def decode(cls, text: bytes) -> Usage:
        """From the stored record; one that is none of ours says that it has long expired."""
        if len(text) != _USAGE_BYTES:
            return cls(0, 0, 0, 0.0, 1)
        count, last, size, expires = (int.from_bytes(text[at : at + 6], "little") for at in (0, 6, 12, 26))
        (cost,) = _COST.unpack_from(text, 18)
        return cls(count, last, size, cost, expires)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a put says about an output, beside what the scripts must know."""

    dependencies: tuple[str, ...] = ()
    file_path: str = ""
    line_range: tuple[int, int] = (0, 0)
    producer: str = ""

    @staticmethod
    def encode(dependencies: tuple[str, ...], file_path: str, line_range: tuple[int, int], producer: str) -> bytes:
        """The producer with its length before it, which lua/include/record.lua reads, and the rest as msgpack."""
        name = raw(producer)
        return b"%d %b%b" % (len(name), name, pack((dependencies, file_path, line_range)))

    @classmethod
    def decode(cls, packed: bytes) -> Metadata:
        """Of what is not what put packed, nothing is known."""
        try:
            length, rest = packed.split(b" ", 1)
            end = int(length)
            dependencies, file_path, (first, last) = unpack(rest[end:])
            return cls(tuple(dependencies), file_path, (first, last), unraw(rest[:end]))
        except (CorruptEntry, TypeError, ValueError):
            return cls()


@dataclass(frozen=True, slots=True)
class Version:
    """One content hash of a key whose output is held."""

    content_hash: str
    timestamp: int
    """When it was put, ms since 1970."""
    access_count: int
    size_bytes: int
    stored_bytes: int
    """What it takes in the server, compressed."""


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """All that is known of a key's latest entry but its output."""

    key: str
    content_hash: str
    timestamp: int
    """When it was put, ms since 1970."""
    access_count: int
    """Hits so far."""
    last_access: int
    """ms since 1970."""
    dependencies: tuple[str, ...]
    file_path: str
    line_range: tuple[int, int]
    compile_time_ms: float
    size_bytes: int
    """Of the output, uncompressed."""
    stored_bytes: int
    """What it takes in the server, compressed."""
    producer: str
    """Who made it."""
    expires_at: int | None
    """ms since 1970; None for never."""
    versions: tuple[Version, ...]
    """All versions held, the latest first."""

    @classmethod
    def decode(cls, key: str, rows: Sequence[Sequence[Any]]) -> EntryInfo | None:
        """From the rows of lua/smart_inspect.lua; None when there are none."""
        if not rows:
            return None
        used, content_hash, written, packed, stored = rows[0]
        usage, metadata = Usage.decode(used), Metadata.decode(packed)
        return cls(
            key=key,
            content_hash=unraw(content_hash),
            timestamp=number(written),
            access_count=usage.access_count,
            last_access=usage.last_access_ms,
            dependencies=metadata.dependencies,
            file_path=metadata.file_path,
            line_range=metadata.line_range,
            compile_time_ms=usage.compile_time_ms,
            size_bytes=usage.size_bytes,
            stored_bytes=stored,
            producer=metadata.producer,
            expires_at=usage.expires_ms or None,
            versions=tuple(_version(row) for row in rows),
        )


@dataclass(frozen=True, slots=True)
class HistoryRecord:
    """One compile of a key."""

    content_hash: str
    timestamp: int
    """ms since 1970."""
    compile_time_ms: float
    size_bytes: int
    producer: str
    """Who compiled: host and process, unless set otherwise."""
    held: bool
    """Whether this very output is still in the cache."""

    @classmethod
    def decode(cls, row: Sequence[Any]) -> HistoryRecord | None:
        """From a row of lua/history.lua; None when it is not what put packed."""
        record, held = row
        try:
            _tick, written, cost, size, length, rest = record.split(b" ", 5)
            end = int(length)
            content_hash, producer = unraw(rest[:end]), unraw(rest[end:])
            return cls(content_hash, number(written), float(cost), int(size), producer, bool(held))
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, slots=True)
class Dump:
    """A whole entry, as read for saving to files."""

    key: bytes
    content_hash: bytes
    timestamp: int
    usage: Usage
    metadata: Metadata
    blob: bytes

    @classmethod
    def decode(cls, row: Sequence[bytes]) -> Dump:
        """From a row of lua/smart_dump.lua."""
        used, key, content_hash, written, packed, blob = row
        return cls(key, content_hash, number(written), Usage.decode(used), Metadata.decode(packed), blob)


def event(row: Sequence[Any]) -> dict[str, Any]:
    """One event in the original's form, from an entry of the stream."""
    stamp, (kind, key, *details) = row
    return {
        "type": kind.decode(),
        "key": unraw(key),
        "timestamp": int(stamp.split(b"-")[0]),
        "details": unraw(details[1]) if details else "",
    }


def number(text: bytes) -> int:
    """An integer that Lua may have written as a float."""
    return int(text) if text.isdigit() else int(float(text))


def _version(row: Sequence[Any]) -> Version:
    used, content_hash, written, _metadata, stored = row
    usage = Usage.decode(used)
    return Version(unraw(content_hash), number(written), usage.access_count, usage.size_bytes, stored)


def checked_cost(compile_time_ms: float) -> float:
    """The compile time, or ValueError: a cost that is negative or no number would spoil the order of eviction."""
    if isinstance(compile_time_ms, bool) or not isinstance(compile_time_ms, (int, float)):
        raise TypeError(f"compile_time_ms is a number, not {type(compile_time_ms).__name__}")
    if not 0 <= compile_time_ms < 1e15:  # noqa: PLR2004 - 30,000 years, and false for NaN
        raise ValueError(f"compile_time_ms={compile_time_ms!r} is no duration; take milliseconds, 0 if unknown")
    return compile_time_ms
