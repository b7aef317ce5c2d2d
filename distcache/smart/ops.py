"""Each operation of a SmartCache as an Op: which script, which keys and arguments, how to read the reply."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from distcache.keys import hash_id, key_id, unraw
from distcache.op import Op, Row
from distcache.script import Script
from distcache.shared import stats_of
from distcache.smart import followed, replies
from distcache.smart.followed import Followed
from distcache.smart.records import Dump, EntryInfo, event
from distcache.touches import Touches

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distcache.keys import Keyspace, Partition
    from distcache.smart.records import Found, HistoryRecord, Metadata, Usage

GET = Script("smart_get", retryable=True)
PEEK = Script("smart_peek", retryable=True, writes=False)
PUT = Script("smart_put", retryable=True)
INVALIDATE = Script("smart_invalidate", retryable=True)
INVALIDATE_DEPENDENTS = Script("smart_invalidate_dependents")
TIDY = Script("smart_tidy", retryable=True)
CLEAR = Script("smart_clear")
DISCARD = Script("smart_discard")
TOUCH = Script("smart_touch", retryable=True)
INSPECT = Script("smart_inspect", retryable=True, writes=False)
SCAN = Script("smart_scan", retryable=True, writes=False)
HOT = Script("smart_hot", retryable=True, writes=False)
DUMP = Script("smart_dump", retryable=True, writes=False)
HISTORY = Script("history", retryable=True, writes=False)
LEARN = Script("learn")
PREDICT = Script("predict", retryable=True, writes=False)
PATTERNS = Script("patterns", retryable=True, writes=False)
EVENTS = Script("events", retryable=True, writes=False)

NO_HASH = b""


class SmartOps:
    """The operations of one cache, under the partitioning that its clients agreed on.

    Keys and content hashes are bytes here (`keys.raw`), outputs are encoded.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self._get = [GET.starting(part, 4) for part in keyspace.partitions]
        """What is the same in all gets of a partition: a get is called so often that it is bound and packed once."""

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Where whole-cache operations fan out to."""
        return self.keyspace.partitions

    def get(self, key: bytes, wanted: bytes) -> Op[Found | None]:
        """Find an output and count the access; None when it is absent, expired, or has another content hash."""
        one = key_id(key)
        part = self.keyspace.of(one)
        return Row(self._get[part.number], (one, key, wanted, hash_id(wanted) if wanted else NO_HASH), replies.found)

    def peek(self, key: bytes, wanted: bytes, *, bare: bool) -> Op[Found | None]:
        """Find an output and leave no trace; `bare`: only whether it is there, without the output."""
        one = key_id(key)
        part = self.keyspace.of(one)
        values = PEEK.bind(
            part,
            id=one,
            key=key,
            wanted=wanted,
            wanted_id=hash_id(wanted) if wanted else NO_HASH,
            bare="1" if bare else "",
        )
        return Op(PEEK, values, replies.found)

    def put(  # an output has this many properties
        self,
        key: bytes,
        content_hash: bytes,
        output: bytes,
        *,
        size: int,
        cost: float,
        meta: bytes,
        dependencies: Iterable[bytes],
        ttl_ms: int | None,
        past: str = "",
    ) -> Op[bool]:
        """Store an output; takes effect once, however often it is sent. ValueTooLarge when it can never fit."""
        part, values = self.new(
            key,
            content_hash,
            output,
            size=size,
            cost=cost,
            meta=meta,
            dependencies=dependencies,
            ttl_ms=ttl_ms,
            past=past,
        )
        return Op(PUT, PUT.bind(part, **values), replies.stored)

    def new(  # the same
        self,
        key: bytes,
        content_hash: bytes,
        output: bytes,
        *,
        size: int,
        cost: float,
        meta: bytes,
        dependencies: Iterable[bytes],
        ttl_ms: int | None,
        past: str = "",
    ) -> tuple[Partition, dict[str, Any]]:
        """What lua/include/smart_new.lua wants, for every script that stores an output, and where it does."""
        one = key_id(key)
        return self.keyspace.of(one), {
            "request": os.urandom(12),
            "id": one,
            "key": key,
            "hash": content_hash,
            "hash_id": hash_id(content_hash),
            "output": output,
            "size": size,
            "cost": cost,
            "meta": meta,
            "links": _links(one, dependencies),
            "ttl_ms": "" if ttl_ms is None else ttl_ms,
            "imported": past,
        }

    def invalidate(self, key: bytes, details: str = "manual invalidate") -> Op[int]:
        """Remove all versions of a key; returns how many there were."""
        one = key_id(key)
        part = self.keyspace.of(one)
        return Op(INVALIDATE, INVALIDATE.bind(part, id=one, details=details), int)

    def invalidate_dependents(
        self, part: Partition, ids: Iterable[bytes], limit: int, *, transitive: bool
    ) -> Op[tuple[bool, list[bytes], list[tuple[bytes, float]]]]:
        """Remove what depends on the ids in one partition: (more to do, ids met on the way, keys with their worth).

        A limit of 0 removes nothing and gives all ids that are met.
        """
        values = INVALIDATE_DEPENDENTS.bind(part, transitive="1" if transitive else "", limit=limit, roots=ids)
        return Op(INVALIDATE_DEPENDENTS, values, replies.removed)

    def tidy(self, part: Partition, limit: int) -> Op[tuple[int, bool]]:
        """Remove what expired and what is over the bounds: (how many had expired, more to do)."""
        return Op(TIDY, TIDY.bind(part, limit=limit), replies.count_and_more)

    def clear(self, part: Partition, limit: int) -> Op[tuple[int, bool]]:
        """Remove entries and what was learned: (how many entries, more to do)."""
        return Op(CLEAR, CLEAR.bind(part, limit=limit), replies.count_and_more)

    def discard(self, key: bytes, content_hash: bytes, *, counted: bool) -> Op[int]:
        """Report an output that could not be decoded; it is removed if it is still there."""
        one = key_id(key)
        part = self.keyspace.of(one)
        values = DISCARD.bind(part, id=one, key=key, hash_id=hash_id(content_hash), counted="1" if counted else "")
        return Op(DISCARD, values, int)

    def touch(self, key: bytes, ttl_ms: int | None) -> Op[bool]:
        """Count a use without reading; optionally a new time to live. False when the key is not there."""
        one = key_id(key)
        part = self.keyspace.of(one)
        values = TOUCH.bind(part, id=one, key=key, ttl_ms="" if ttl_ms is None else ttl_ms)
        return Op(TOUCH, values, bool)

    def inspect(self, key: bytes) -> Op[EntryInfo | None]:
        """All metadata of a key."""
        one = key_id(key)
        part = self.keyspace.of(one)
        values = INSPECT.bind(part, versions=part.versions + one, id=one, key=key)
        return Op(INSPECT, values, lambda rows: EntryInfo.decode(unraw(key), rows))

    def history(self, key: bytes, count: int) -> Op[list[HistoryRecord]]:
        """The records of a key's compiles, newest first."""
        one = key_id(key)
        part = self.keyspace.of(one)
        values = HISTORY.bind(part, records=part.records + one, versions=part.versions + one, id=one, count=count)
        return Op(HISTORY, values, replies.records)

    def scan(self, part: Partition, cursor: bytes, count: int) -> Op[tuple[bytes, list[bytes]]]:
        """One step through the keys: (next cursor, keys)."""
        values = SCAN.bind(part, cursor=cursor, count=count)
        return Op(SCAN, values, lambda reply: (reply[0], reply[1:]))

    def hot(
        self, part: Partition, cursor: bytes, step: int, count: int, least: int
    ) -> Op[tuple[bytes, list[tuple[Usage, bytes, Metadata]]]]:
        """One step through the use of all entries: (next cursor, those with at least `least` hits)."""
        values = HOT.bind(part, cursor=cursor, step=step, count=count, least=least)
        return Op(HOT, values, replies.hot)

    def dump(self, part: Partition, cursor: bytes, count: int) -> Op[tuple[bytes, list[Dump]]]:
        """One step through whole entries: (next cursor, entries)."""
        values = DUMP.bind(part, cursor=cursor, count=count)
        return Op(DUMP, values, lambda reply: (reply[0], [Dump.decode(row) for row in reply[1:]]))

    def touches(self, part: Partition, uses: Iterable[tuple[bytes, int]]) -> Touches:
        """Record reads that near caches answered: (entry id, how often), all of the partition, the last used last."""
        return Touches(part, uses)

    def learn(self, part: Partition, rows: Iterable[bytes]) -> Op[int]:
        """Record which keys came after which; all the first keys belong to the partition.

        rows: the parts of each `followed.row`, one after the other.
        """
        values = LEARN.bind(part, rows=rows)
        return Op(LEARN, values, int)

    def predict(self, key: bytes, count: int, *, soon: bool = False) -> Op[list[tuple[str, float]]]:
        """The keys that came next (or soon after), likeliest first, each with its share of the aged count."""
        one = key_id(key)
        part = self.keyspace.of(one)
        kind = followed.SOON if soon else followed.NEXT
        values = PREDICT.bind(part, after=part.after + one, kind=kind, count=count)
        return Op(PREDICT, values, lambda fields: Followed.decode(fields).shares(count, soon=soon))

    def patterns(self, part: Partition, cursor: bytes, count: int) -> Op[tuple[bytes, list[tuple[str, Followed]]]]:
        """One step through what was learned: (next cursor, keys with what came after each)."""
        values = PATTERNS.bind(part, cursor=cursor, count=count)
        return Op(PATTERNS, values, replies.patterns)

    def events(self, part: Partition, count: int) -> Op[list[dict[str, Any]]]:
        """The newest events of one partition, newest first."""
        values = EVENTS.bind(part, count=count)
        return Op(EVENTS, values, lambda rows: [event(row) for row in rows])

    def stats(self, part: Partition) -> Op[dict[str, str]]:
        """What one partition holds and has counted."""
        return stats_of(part)


def _links(one: bytes, dependencies: Iterable[bytes]) -> bytes:
    """Ids of the dependencies, each once; what depends on itself depends on nothing by that."""
    ids = dict.fromkeys(map(key_id, dependencies))
    ids.pop(one, None)
    return b"".join(ids)
