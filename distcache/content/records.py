"""What a ContentHashCache gives back: plain records, and how each is read from a reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distcache.config import MEGABYTE, SharedConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

Level = Literal["exact", "normalized", "prefix"]


@dataclass(frozen=True, slots=True)
class Match:
    """What a look-up found."""

    signature: str
    text: str
    """The original text, as it was stored: the signature belongs to it, not to the query."""
    level: Level
    """How the query matched it: `exact`, `normalized` (but for white space), `prefix`."""
    age_s: float
    """Since it was stored, in seconds."""


@dataclass(slots=True)  # not frozen: that would make each of them four times as slow to make
class Found:
    """An entry that a script found, still encoded."""

    part: int
    """Number of its partition."""
    level: Level
    id: bytes
    blob: bytes
    """The encoded signature."""
    written: bytes
    """Tick of the write."""
    digest: bytes
    """Of the plain signature."""
    age_s: float = 0.0
    """Known if texts were sent."""
    text: bytes | None = None
    """The encoded original text; empty where it is the normalized one, None if it was not sent."""
    normal: bytes = b""
    """The normalized text, if it stands for the original."""

    @property
    def tick(self) -> int:
        """When it was written, on the partition's clock (about microseconds since 1970)."""
        return int(float(self.written))

    @classmethod
    def decode(cls, part: int, reply: Sequence[Any]) -> Found:
        """From lua/include/content_reply.lua."""
        level, one, blob, written, digest, *more = reply
        found = cls(part, level.decode(), one, blob or b"", written, digest)
        if more:
            age_ms, text, normal = more
            found.age_s, found.text, found.normal = age_ms / 1000, text or b"", normal or b""
        return found


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """The texts that begin with the query carry different signatures."""


Answer = Found | Ambiguous | None
"""How a look-up ended."""


def summary(parts: list[dict[str, str]]) -> dict[str, Any]:
    """The statistics of a cache out of those of its partitions; the original's keys, and more."""
    config = SharedConfig.from_fields(parts[0])

    def total(name: str) -> int:
        return round(sum(float(part.get(name, 0)) for part in parts))

    hits, misses = total("hits"), total("misses")
    inexact = {level: total(level) for level in ("normalized_hits", "prefix_hits")}
    return {
        "exact_hits": hits - sum(inexact.values()),
        **inexact,
        "total_hits": hits,
        "misses": misses,
        "evictions": total("evictions"),
        "expirations": total("expirations"),
        "total_writes": total("writes"),
        "current_size": total("entries"),
        "max_size": config.max_entries,
        "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
        "ambiguous": total("ambiguous"),
        "corrupt": total("corrupt"),
        "total_size_mb": total("bytes") / MEGABYTE,
        "max_size_mb": config.max_bytes / MEGABYTE,
        "policy": config.policy,
        "partitions": config.partitions,
    }
