"""Each operation of a ContentHashCache as an Op: which script, which keys and arguments, how to read the reply."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from distcache.content.records import Ambiguous, Found
from distcache.errors import ValueTooLarge
from distcache.keys import HOME_BYTES
from distcache.op import Op, Row
from distcache.script import Script
from distcache.shared import stats_of
from distcache.touches import Touches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distcache.content.records import Answer
    from distcache.content.text import Place, Query
    from distcache.keys import Keyspace, Partition
    from distcache.script import Start

GET = Script("content_get", retryable=True)
PEEK = Script("content_peek", retryable=True, writes=False)
USE = Script("content_use", retryable=True)
SET = Script("content_set", retryable=True)
DROP = Script("content_drop", retryable=True)
DISCARD = Script("content_discard")
TIDY = Script("content_tidy", retryable=True)
CLEAR = Script("content_clear")
LIFE = Script("content_life", retryable=True, writes=False)

EXACT, WHOLE, CHAIN, PREFIX = "e", "en", "enp", "p"
"""Steps of a look-up: by id; and by normalized text; and by prefix; by prefix only."""

NO_TEXT, INEXACT, ALL = "none", "inexact", "all"
"""Which hits bring the original text along."""

NOTHING = b""


class ContentOps:
    """The operations of one cache, under the partitioning that its clients agreed on."""

    def __init__(self, keyspace: Keyspace, ambiguous: str) -> None:
        """`ambiguous`: what a prefix of texts with different signatures is, `miss` or `newest`."""
        self.keyspace = keyspace
        self.ambiguous = ambiguous
        self._gets: dict[tuple[int, str, str, bool], Start] = {}
        self._decoders = [partial(_found, partition.number) for partition in keyspace.partitions]

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Where whole-cache operations fan out to."""
        return self.keyspace.partitions

    def home(self, query: Query) -> Partition:
        """Where the query's text is stored, and what is counted about it."""
        return self.keyspace.of(query.check)

    def get(self, query: Query, levels: str, text: str, *, final: bool = True) -> Op[Answer]:
        """Look up in the query's own partition and count the use; `final`: nothing found is a miss."""
        part = self.home(query)
        kind = (part.number, levels, text, final)
        start = self._gets.get(kind) or self._gets.setdefault(kind, self._starting(part, levels, text, final=final))
        return Row(start, (query.id, query.check, query.stem), self._decoders[part.number])

    def _starting(self, part: Partition, levels: str, text: str, *, final: bool) -> Start:
        """What all look-ups of one kind have in common."""
        return GET.starting(part, 3, levels=levels, ambiguous=self.ambiguous, text=text, final="1" if final else "")

    def peek(self, query: Query, levels: str, text: str, part: Partition | None = None) -> Op[Answer]:
        """Look up in one partition, the query's own if none is named, and leave no trace."""
        part = part or self.home(query)
        values = PEEK.bind(
            part, id=query.id, check=query.check, stem=query.stem, levels=levels, ambiguous=self.ambiguous, text=text
        )
        return Op(PEEK, values, self._decoders[part.number])

    def use(self, part: Partition, answer: Answer) -> Op[bool]:
        """Count how a look-up in several partitions ended; False when the entry is gone by now."""
        values = USE.bind(
            part,
            id=answer.id if isinstance(answer, Found) else NOTHING,
            level=answer.level if isinstance(answer, Found) else "ambiguous" if answer else "absent",
        )
        return Op(USE, values, bool)

    def life(self, part: Partition, ids: Iterable[bytes]) -> Op[list[int]]:
        """For how long entries of a partition will live: ms each, less than 0 for one that has no deadline."""
        return Op(LIFE, LIFE.bind(part, ids=list(ids)), list)

    def touches(self, part: Partition, uses: Iterable[tuple[bytes, int]]) -> Touches:
        """Record reads that near caches answered: (home and id, how often), the last used last."""
        return Touches(part, ((use[HOME_BYTES:], times) for use, times in uses))

    def set(self, place: Place, signature: bytes, digest: bytes, text: bytes, size: int) -> Op[bool]:
        """Store a signature; takes effect once, however often it is sent. ValueTooLarge when it can never fit."""
        part = self.keyspace.of(place.check)
        values = SET.bind(
            part,
            request=os.urandom(12),
            id=place.id,
            check=place.check,
            index=place.index,
            signature=signature,
            digest=digest,
            text=text,
            size=size,
        )
        return Op(SET, values, _stored)

    def drop(self, place: Place) -> Op[bool]:
        """Remove what is stored there."""
        part = self.keyspace.of(place.check)
        return Op(DROP, DROP.bind(part, id=place.id), bool)

    def discard(self, found: Found) -> Op[bool]:
        """Report an entry that could not be decoded: the hit is taken back, and it is removed if it is still there."""
        values = DISCARD.bind(self.partitions[found.part], id=found.id, seen=found.written, level=found.level)
        return Op(DISCARD, values, bool)

    def tidy(self, part: Partition, limit: int) -> Op[tuple[int, bool]]:
        """Remove what expired and what is over the bounds: (how many had expired, more to do)."""
        return Op(TIDY, TIDY.bind(part, limit=limit), _count_and_more)

    def clear(self, part: Partition, limit: int, scope: bytes = NOTHING) -> Op[tuple[int, bool]]:
        """Remove the entries of one scope, or all: (how many, more to do)."""
        return Op(CLEAR, CLEAR.bind(part, scope=scope, limit=limit), _count_and_more)

    def stats(self, part: Partition) -> Op[dict[str, str]]:
        """What one partition holds and has counted."""
        return stats_of(part)


def _found(part: int, reply: Any) -> Answer:
    if reply is None:
        return None
    return Ambiguous() if reply[0] == b"ambiguous" else Found.decode(part, reply)


def _stored(reply: int) -> bool:
    if reply < 0:
        raise ValueTooLarge(
            "text and signature are larger than the whole cache may be; raise max_size_mb or store a smaller text"
        )
    return True


def _count_and_more(reply: list[int]) -> tuple[int, bool]:
    return reply[0], bool(reply[1])
