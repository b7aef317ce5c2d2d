"""What a SmartCache does, written once: each operation as a flow that a sync or an async driver runs."""

from __future__ import annotations

import fnmatch
import heapq
import re
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.codec import Codec, pack
from distcache.config import MEGABYTE, SharedConfig, ttl_ms
from distcache.errors import CorruptEntry, ValueTooLarge
from distcache.keys import Keyspace, key_id, raw, unraw
from distcache.op import Batch
from distcache.shared import SharedFlows, merge
from distcache.smart import files
from distcache.smart.learner import Learner
from distcache.smart.ops import SmartOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distcache.config import Request, Settings
    from distcache.keys import Partition
    from distcache.op import Flow, Op
    from distcache.smart.records import Dump, EntryInfo, Found, HistoryRecord

    Output = str | bytes

CHUNK = 500
"""Entries that one script call removes or looks at, so that none holds the server for long."""
TIDY_S = 1.0
"""How often a client that reads a cache with a time to live also removes what has expired."""
IMPORT_CHUNK = 100
FIRST = b"0"
"""The cursor that starts an iteration, and the one that ends it."""


class SmartFlows(SharedFlows[SmartOps]):
    """The operations of one SmartCache object."""

    def __init__(self, request: Request, settings: Settings, owner: Callable[[], int]) -> None:
        super().__init__(request, settings)
        self.codec = Codec(sign_keys=settings.sign_keys, max_value_bytes=settings.max_value_bytes)
        self.learner = Learner(owner)
        self.counts = dict.fromkeys(("hits", "misses", "writes", "corrupt"), 0)
        self._tidied_at = monotonic()
        self._tidy_next = 0

    def _make_ops(self, _config: SharedConfig, keyspace: Keyspace) -> SmartOps:
        return SmartOps(keyspace)

    # -- one key

    def get(self, key: str, content_hash: str = "") -> Flow[Output | None]:
        """The output of a key; with a hash, only if it was stored with that hash."""
        name, wanted = raw(checked(key)), raw(content_hash)
        self.learner.saw(name)
        found: Found | None = yield from self.agreed(lambda ops: self._read(ops, name, wanted))
        if found is not None:
            try:
                output = self.codec.decode(found.blob, *self._bound(name, found.content_hash))
            except CorruptEntry:
                yield from self._discard(name, found)
            else:
                self.counts["hits"] += 1
                return output
        self.counts["misses"] += 1
        return None

    def put(  # the original's parameters
        self,
        key: str,
        output: Output,
        content_hash: str,
        dependencies: Iterable[str] | None = None,
        file_path: str = "",
        line_range: tuple[int, int] = (0, 0),
        compile_time_ms: float = 0,
        *,
        ttl_seconds: float | None = None,
        past: str = "",
    ) -> Flow[bool]:
        """Store an output. A value over a limit is refused, and what the key held before goes too."""
        if self.settings.read_only:
            return False
        name = raw(checked(key))
        self.learner.saw(name)
        try:
            prepared = self._prepare(
                name, output, content_hash, dependencies, file_path, line_range, compile_time_ms, ttl_seconds, past
            )
        except ValueTooLarge:
            yield from self.agreed(lambda ops: iter(ops.invalidate(name, "replaced by a value over the limit")))
            raise
        yield from self.agreed(lambda ops: self._with_riders(ops, prepared(ops)))
        self.counts["writes"] += 1
        return True

    def invalidate(self, key: str) -> Flow[bool]:
        """Remove all versions of a key; whether there was any."""
        if self.settings.read_only:
            return False
        name = raw(checked(key))
        dropped = yield from self.agreed(lambda ops: iter(ops.invalidate(name)))
        return dropped > 0

    def has(self, key: str, content_hash: str = "") -> Flow[bool]:
        """Whether a get would hit; counts nothing."""
        name, wanted = raw(checked(key)), raw(content_hash)
        found = yield from self.agreed(lambda ops: iter(ops.peek(name, wanted, bare=True)))
        return found is not None

    def touch(self, key: str, ttl_seconds: float | None = None) -> Flow[bool]:
        """Count a use without reading, and start the time to live anew if one is given."""
        if self.settings.read_only:
            return False
        name, span = raw(checked(key)), ttl_ms(ttl_seconds)
        return (yield from self.agreed(lambda ops: iter(ops.touch(name, span))))

    def inspect(self, key: str) -> Flow[EntryInfo | None]:
        """All metadata of a key."""
        name = raw(checked(key))
        return (yield from self.agreed(lambda ops: iter(ops.inspect(name))))

    def get_history(self, key: str, count: int = 100) -> Flow[list[HistoryRecord]]:
        """Every compile of a key that is remembered, newest first."""
        name = raw(checked(key))
        if count < 1:
            return []
        return (yield from self.agreed(lambda ops: iter(ops.history(name, count))))

    def get_predicted_next(self, key: str, count: int = 5) -> Flow[list[str]]:
        """The keys that came after this one, likeliest first."""
        name = raw(checked(key))
        yield from self.flush()
        if count < 1:
            return []
        weights = yield from self.agreed(lambda ops: iter(ops.predict(name, count)))
        return [successor for successor, _weight in weights[:count]]

    # -- many keys in one round trip

    def get_many(self, keys: Iterable[str]) -> Flow[dict[str, Output]]:
        """The outputs of those keys that hit."""
        names = {raw(checked(key)): key for key in keys}
        for name in names:
            self.learner.saw(name)
        found = yield from self.agreed(lambda ops: self._read_many(ops, list(names)))
        outputs: dict[str, Output] = {}
        for name, one in zip(names, found, strict=True):
            if one is None:
                continue
            try:
                outputs[names[name]] = self.codec.decode(one.blob, *self._bound(name, one.content_hash))
            except CorruptEntry:
                yield from self._discard(name, one)
        self.counts["hits"] += len(outputs)
        self.counts["misses"] += len(names) - len(outputs)
        return outputs

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> Flow[int]:
        """Store several outputs, each a mapping with put's parameters; how many were stored.

        All are checked before the first is sent: one that is refused stores nothing at all.
        """
        if self.settings.read_only:
            return 0
        prepared = []
        for item in items:
            name = raw(checked(item["key"]))
            self.learner.saw(name)
            prepared.append(self._prepare_mapping(name, item))
        if not prepared:
            return 0
        results = yield from self.agreed(lambda ops: self._all(Batch([make(ops) for make in prepared])))
        self.counts["writes"] += len(results)
        return len(results)

    # -- the whole cache

    def invalidate_by_dependency(self, dep_key: str, transitive: bool = False) -> Flow[list[str]]:
        """Remove what depends on a key, one step away or through any chain; the keys removed."""
        if self.settings.read_only:
            return []
        name = raw(checked(dep_key))
        removed = yield from self.agreed(lambda ops: self._invalidate_closure(ops, key_id(name), transitive=transitive))
        return list(dict.fromkeys(map(unraw, removed)))

    def clear(self) -> Flow[int]:
        """Remove all entries and all that was learned; how many entries there were."""
        if self.settings.read_only:
            return 0
        self.learner.take()
        return (yield from self.agreed(lambda ops: self._until_done(ops, ops.clear)))

    def cleanup_expired(self) -> Flow[int]:
        """Remove all that has expired; how many entries that were."""
        if self.settings.read_only:
            return 0
        return (yield from self.agreed(lambda ops: self._until_done(ops, ops.tidy)))

    def flush(self) -> Flow[None]:
        """Send what was learned and not sent yet."""
        if not self.settings.read_only and (pairs := self.learner.take()):
            yield from self.agreed(lambda ops: self._all(Batch(_lessons(ops, pairs))))

    def scan(self) -> Flow[list[str]]:
        """Every key that is there, each once."""
        found: dict[bytes, None] = {}
        yield from self.agreed(
            lambda ops: self._each(ops, lambda p, c: ops.scan(p, c, CHUNK), found.update, dict.fromkeys)
        )
        return [unraw(name) for name in found]

    def dump(self) -> Flow[list[tuple[Dump, Output]]]:
        """Every entry whole, for saving; corrupt ones are left out."""
        rows: dict[tuple[bytes, bytes], Dump] = {}
        yield from self.agreed(
            lambda ops: self._each(
                ops, lambda p, c: ops.dump(p, c, 50), rows.update, lambda ds: {(d.key, d.content_hash): d for d in ds}
            )
        )
        decoded = []
        for row in rows.values():
            try:
                decoded.append((row, self.codec.decode(row.blob, *self._bound(row.key, row.content_hash))))
            except CorruptEntry:
                self.counts["corrupt"] += 1
        return decoded

    def patterns(self) -> Flow[dict[str, dict[str, Any]]]:
        """All that was learned, in the original's form."""
        yield from self.flush()
        rows: dict[str, dict[str, Any]] = {}

        def add(batch: Iterable[tuple[str, list[str], int]]) -> dict[str, dict[str, Any]]:
            return {key: {"sequence": successors, "frequency": seen} for key, successors, seen in batch}

        yield from self.agreed(lambda ops: self._each(ops, lambda p, c: ops.patterns(p, c, CHUNK), rows.update, add))
        return rows

    def get_recent_events(self, count: int = 100) -> Flow[list[dict[str, Any]]]:
        """The last events of the whole cache, oldest first."""
        if count < 1:
            return []
        parts = yield from self.agreed(lambda ops: self._all(Batch([ops.events(p, count) for p in ops.partitions])))
        rows = sorted((row for part in parts for row in reversed(part)), key=lambda row: row["timestamp"])
        return rows[-count:]

    def get_hot_entries(self, count: int = 10) -> Flow[list[dict[str, Any]]]:
        """The most used entries, most used first."""
        if count < 1:
            return []
        return (yield from self.agreed(lambda ops: self._hottest(ops, count)))

    def get_stats(self) -> Flow[dict[str, Any]]:
        """What the cache holds and what all its clients did."""
        yield from self.flush()
        parts = yield from self.agreed(lambda ops: self._all(Batch([ops.stats(p) for p in ops.partitions])))
        return summary(parts)

    def opened(self) -> Flow[None]:
        """Agree on the shared config now, so that a mismatch shows early."""
        yield from self.open()

    def saved(self) -> Flow[files.Saved]:
        """Everything that save() writes."""
        rows = yield from self.dump()
        return files.Saved(
            [files.entry(row, unraw(row.key), unraw(row.content_hash), output) for row, output in rows],
            (yield from self.patterns()),
            (yield from self.get_recent_events(files.EVENTS_SAVED)),
        )

    def imported(self, saved: files.Saved) -> Flow[int]:
        """Store saved entries, least valuable last so that they go first if not all fit, and what was learned."""
        items = sorted(map(files.put_parameters, saved.entries), key=lambda item: _past(item["past"]))
        stored = 0
        for start in range(0, len(items), IMPORT_CHUNK):
            stored += yield from self.put_many(items[start : start + IMPORT_CHUNK])
        self.learner.take()
        for key, pattern in saved.patterns.items():
            pairs = [(raw(str(key)), raw(str(successor))) for successor in reversed(pattern.get("sequence", ()))]
            if pairs:
                yield from self.agreed(lambda ops, pairs=pairs: self._all(Batch(_lessons(ops, pairs))))  # type: ignore[misc]
        return stored

    def no_stats(self) -> dict[str, Any]:
        """The statistics of a cache that cannot be reached."""
        return summary([self._request.proposal.to_fields()])

    # -- steps

    def _bound(self, name: bytes, content_hash: bytes) -> tuple[bytes, ...]:
        """What a signature ties an output to."""
        return raw(self.settings.namespace), name, content_hash

    def _read(self, ops: SmartOps, name: bytes, wanted: bytes) -> Flow[Found | None]:
        if self.settings.read_only:
            return (yield from ops.peek(name, wanted, bare=False))
        found: Found | None = yield from self._with_riders(ops, ops.get(name, wanted))
        return found

    def _read_many(self, ops: SmartOps, names: Sequence[bytes]) -> Flow[list[Found | None]]:
        if self.settings.read_only:
            return (yield from self._all(Batch([ops.peek(name, b"", bare=False) for name in names])))
        return (yield from self._all(Batch([ops.get(name, b"") for name in names])))

    def _with_riders(self, ops: SmartOps, op: Op[Any]) -> Flow[Any]:
        """Run an op, and in the same round trip what is due: lessons, and the removal of what has expired."""
        riders: list[Op[Any]] = []
        if self.learner.due:
            riders += _lessons(ops, self.learner.take())
        if self.config is not None and self.config.ttl_ms and monotonic() - self._tidied_at >= TIDY_S:
            self._tidied_at = monotonic()
            self._tidy_next = (self._tidy_next + 1) % len(ops.partitions)
            riders.append(ops.tidy(ops.partitions[self._tidy_next], 16))
        if not riders:
            return (yield from op)
        results = yield from Batch([op, *riders])  # what becomes of a rider is not this caller's concern
        return merge(results[:1])[0]

    def _prepare(  # the original's parameters
        self,
        name: bytes,
        output: Output,
        content_hash: str,
        dependencies: Iterable[str] | None,
        file_path: str,
        line_range: tuple[int, int],
        compile_time_ms: float,
        ttl_seconds: float | None,
        past: str,
    ) -> Callable[[SmartOps], Op[bool]]:
        """Everything about a put that needs no server: checked, encoded, packed."""
        names = tuple(dependencies or ())
        wanted, cost = raw(content_hash), checked_cost(compile_time_ms)
        blob, size = self.codec.encode(output, *self._bound(name, wanted))
        producer = self.settings.producer
        first, last = line_range
        meta = pack((names, str(file_path), (int(first), int(last)), producer))
        record = pack((content_hash, compile_time_ms, size, producer))
        links = [raw(checked(dependency)) for dependency in names]
        span = ttl_ms(ttl_seconds)
        return lambda ops: ops.put(
            name,
            wanted,
            blob,
            size=size,
            cost=cost,
            meta=meta,
            record=record,
            dependencies=links,
            ttl_ms=span,
            past=past,
        )

    def _prepare_mapping(self, name: bytes, item: Mapping[str, Any]) -> Callable[[SmartOps], Op[bool]]:
        unknown = set(item) - PUT_PARAMETERS
        if unknown:
            raise TypeError(f"put has no parameter {sorted(unknown)}; it takes {sorted(PUT_PARAMETERS)}")
        return self._prepare(
            name,
            item["output"],
            item["content_hash"],
            item.get("dependencies"),
            item.get("file_path", ""),
            item.get("line_range", (0, 0)),
            item.get("compile_time_ms", 0),
            item.get("ttl_seconds"),
            item.get("past", ""),
        )

    def _discard(self, name: bytes, found: Found) -> Flow[None]:
        """A corrupt output is a miss, is counted, and does not stay."""
        self.counts["corrupt"] += 1
        if not self.settings.read_only:
            yield from self.agreed(lambda ops: iter(ops.discard(name, found.content_hash, counted=True)))

    def _all(self, batch: Batch[Any]) -> Flow[list[Any]]:
        return merge((yield from batch))

    def _until_done(self, ops: SmartOps, make: Callable[[Partition, int], Op[tuple[int, bool]]]) -> Flow[int]:
        """Repeat a bounded step in every partition until each says that nothing is left."""
        total, pending = 0, list(ops.partitions)
        while pending:
            results = yield from self._all(Batch([make(part, CHUNK) for part in pending]))
            total += sum(removed for removed, _more in results)
            pending = [part for part, (_removed, more) in zip(pending, results, strict=True) if more]
        return total

    def _each(
        self,
        ops: SmartOps,
        make: Callable[[Partition, bytes], Op[tuple[bytes, Any]]],
        add: Callable[[Any], None],
        rows: Callable[[Any], Any],
    ) -> Flow[None]:
        """Walk all partitions with a cursor each, in common round trips."""
        cursors = dict.fromkeys(ops.partitions, FIRST)
        while cursors:
            steps = yield from self._all(Batch([make(part, cursor) for part, cursor in cursors.items()]))
            for part, (cursor, found) in zip(list(cursors), steps, strict=True):
                add(rows(found))
                cursors[part] = cursor
            cursors = {part: cursor for part, cursor in cursors.items() if cursor != FIRST}

    def _invalidate_closure(self, ops: SmartOps, root: bytes, *, transitive: bool) -> Flow[list[bytes]]:
        """In rounds: what one partition removes may have dependents in another."""
        removed: list[bytes] = []
        walked: set[bytes] = set()
        roots = [root]
        while roots:
            walked.update(roots)
            met: dict[bytes, None] = {}
            pending = list(ops.partitions)
            while pending:
                steps = yield from self._all(
                    Batch([ops.invalidate_dependents(part, roots, CHUNK, transitive=transitive) for part in pending])
                )
                for _more, ids, names in steps:
                    met.update(dict.fromkeys(ids))
                    removed += names
                pending = [part for part, (more, _ids, _names) in zip(pending, steps, strict=True) if more]
            roots = [one for one in met if one not in walked] if transitive and len(ops.partitions) > 1 else []
        return removed

    def _hottest(self, ops: SmartOps, count: int) -> Flow[list[dict[str, Any]]]:
        best: list[tuple[int, int, bytes, Any]] = []
        known: set[bytes] = set()
        for part in ops.partitions:
            cursor = FIRST
            while True:
                least = best[0][0] if len(best) >= count else 0
                cursor, found = yield from ops.hot(part, cursor, CHUNK, count, least)
                for usage, name, metadata in found:
                    if name not in known:
                        known.add(name)
                        heapq.heappush(best, (usage.access_count, usage.last_access_ms, name, metadata))
                        if len(best) > count:
                            known.discard(heapq.heappop(best)[2])
                if cursor == FIRST:
                    break
        return [
            {"key": unraw(name), "access_count": hits, "file": metadata.file_path, "lines": metadata.line_range}
            for hits, _last, name, metadata in sorted(best, key=lambda row: row[:3], reverse=True)
        ]


def matching(keys: Iterable[str], pattern: str) -> Iterable[str]:
    """The keys that match a glob, case and all."""
    fits = re.compile(fnmatch.translate(pattern)).match
    return (key for key in keys if fits(key))


PUT_PARAMETERS = frozenset(
    [
        "key",
        "output",
        "content_hash",
        "dependencies",
        "file_path",
        "line_range",
        "compile_time_ms",
        "ttl_seconds",
        "past",
    ]
)


def summary(parts: list[dict[str, str]]) -> dict[str, Any]:
    """The statistics of a cache out of those of its partitions; the original's keys, and more."""
    config = SharedConfig.from_fields(parts[0])

    def total(name: str) -> int:
        return round(sum(float(part.get(name, 0)) for part in parts))

    hits, misses = total("hits"), total("misses")
    return {
        "version": "1.2",
        "entries": total("entries"),
        "total_size_mb": total("bytes") / MEGABYTE,
        "max_entries": config.max_entries,
        "max_size_mb": config.max_bytes / MEGABYTE,
        "hits": hits,
        "misses": misses,
        "hit_rate": hits / (hits + misses) if hits + misses else 0.0,
        "evictions": total("evictions"),
        "warmups": total("warmups"),
        "access_patterns": total("learned"),
        "writes": total("writes"),
        "expirations": total("expirations"),
        "invalidations": total("invalidations"),
        "corrupt": total("corrupt"),
        "seconds_saved": sum(float(part.get("saved_ms", 0)) for part in parts) / 1000,
        "policy": config.policy,
        "partitions": config.partitions,
    }


def checked(key: str) -> str:
    """The key, or TypeError."""
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    return key


def checked_cost(compile_time_ms: float) -> float:
    """The compile time, or ValueError: a cost that is negative or no number would spoil the order of eviction."""
    if isinstance(compile_time_ms, bool) or not isinstance(compile_time_ms, (int, float)):
        raise TypeError(f"compile_time_ms is a number, not {type(compile_time_ms).__name__}")
    if not 0 <= compile_time_ms < 1e15:  # noqa: PLR2004 - 30,000 years, and false for NaN
        raise ValueError(f"compile_time_ms={compile_time_ms!r} is no duration; take milliseconds, 0 if unknown")
    return compile_time_ms


def _past(past: str) -> tuple[int, int]:
    """How recently, then how often, an imported entry was used."""
    count, last, _written = past.split()
    return int(last), int(count)


def _lessons(ops: SmartOps, pairs: Iterable[tuple[bytes, bytes]]) -> list[Op[Any]]:
    """One op for each partition that is to learn something."""
    of: dict[Partition, list[tuple[bytes, bytes]]] = {}
    for key, successor in pairs:
        of.setdefault(ops.keyspace.of(key_id(key)), []).append((key, successor))
    return [ops.learn(part, sequence) for part, sequence in of.items()]
