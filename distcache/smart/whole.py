"""What concerns a whole SmartCache: it fans out to all partitions, in bounded steps, and merges."""

from __future__ import annotations

import fnmatch
import heapq
import re
from typing import TYPE_CHECKING, Any

from distcache.codec import Codec
from distcache.config import MEGABYTE, SharedConfig
from distcache.errors import CorruptEntry
from distcache.keys import Keyspace, key_bytes, key_id, raw, unraw
from distcache.op import Batch
from distcache.shared import CHUNK, FIRST, SharedFlows, each, together
from distcache.smart import files, followed
from distcache.smart.learner import Learner
from distcache.smart.ops import SmartOps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distcache.config import Request, Settings
    from distcache.keys import Partition
    from distcache.op import Flow, Op
    from distcache.smart.followed import Followed
    from distcache.smart.records import Dump, Metadata
    from distcache.warmup.ahead import Ahead

    Output = str | bytes

LESSONS = followed.MOST
"""In one call."""
TAUGHT = 512
"""Steps that one round trip of a flush takes along."""


class WholeCache(SharedFlows[SmartOps]):
    """What one SmartCache object holds, and its operations that are not about single keys."""

    def __init__(self, request: Request, settings: Settings, owner: Callable[[], int]) -> None:
        super().__init__(request, settings)
        self.codec = Codec(sign_keys=settings.sign_keys, max_value_bytes=settings.max_value_bytes)
        self.learner = Learner(owner)
        self._namespace = raw(settings.namespace)
        self.ahead: Ahead | None = None
        """What queues ahead of need, where that is wanted."""
        self.counts = dict.fromkeys(("hits", "misses", "writes", "corrupt"), 0)

    def _make_ops(self, _config: SharedConfig, keyspace: Keyspace) -> SmartOps:
        return SmartOps(keyspace)

    def invalidate_by_dependency(self, dep_key: str, transitive: bool = False) -> Flow[dict[str, float]]:
        """Remove what depends on a key, one step away or through any chain; the keys removed, each with its worth."""
        if self.settings.read_only:
            return {}
        name = key_bytes(dep_key)
        removed = yield from self.agreed(lambda ops: self._invalidate_closure(ops, key_id(name), transitive=transitive))
        worth: dict[str, float] = {}
        for one, value in removed:
            key = unraw(one)
            worth[key] = max(value, worth.get(key, 0.0))
        return worth

    def clear(self) -> Flow[int]:
        """Remove all entries and all that was learned; how many entries there were."""
        if self.settings.read_only:
            return 0
        self.learner.take()
        return (yield from self.agreed(lambda ops: self._removing(ops, lambda part: ops.clear(part, CHUNK))))

    @property
    def _keeps(self) -> int:
        return -(-self.learner.waiting // TAUGHT)

    def _kept(self, ops: SmartOps) -> list[Op[Any]]:
        return lessons(ops, self.learner.take(TAUGHT))

    def scan(self) -> Flow[list[str]]:
        """Every key that is there, each once."""
        found: dict[bytes, None] = {}
        yield from self.agreed(
            lambda ops: each(ops.partitions, lambda p, c: ops.scan(p, c, CHUNK), found.update, dict.fromkeys)
        )
        return [unraw(name) for name in found]

    def dump(self) -> Flow[list[tuple[Dump, Output]]]:
        """Every entry whole, for saving; corrupt ones are left out."""
        rows: dict[tuple[bytes, bytes], Dump] = {}

        def by_version(found: Iterable[Dump]) -> dict[tuple[bytes, bytes], Dump]:
            return {(row.key, row.content_hash): row for row in found}

        yield from self.agreed(
            lambda ops: each(ops.partitions, lambda p, c: ops.dump(p, c, 50), rows.update, by_version)
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

        def add(batch: Iterable[tuple[str, Followed]]) -> dict[str, dict[str, Any]]:
            return {
                key: {"sequence": known.likeliest(len(known.nexts)), "frequency": known.observations}
                for key, known in batch
            }

        yield from self.agreed(
            lambda ops: each(ops.partitions, lambda p, c: ops.patterns(p, c, CHUNK), rows.update, add)
        )
        return rows

    def get_recent_events(self, count: int = 100) -> Flow[list[dict[str, Any]]]:
        """The last events of the whole cache, oldest first."""
        if count < 1:
            return []
        parts = yield from self.agreed(lambda ops: together(Batch([ops.events(p, count) for p in ops.partitions])))
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
        parts = yield from self.agreed(lambda ops: together(Batch([ops.stats(p) for p in ops.partitions])))
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

    def no_stats(self) -> dict[str, Any]:
        """The statistics of a cache that cannot be reached."""
        return summary([self._request.proposal.to_fields()])

    def _invalidate_closure(self, ops: SmartOps, root: bytes, *, transitive: bool) -> Flow[list[tuple[bytes, float]]]:
        """What one partition holds may have dependents in another, so chains are walked in rounds.

        All rounds are walked before anything is removed, and removed from the furthest back: a caller who is cut off
        in between has removed no link that the rest hangs on, and can start again. At last comes what was computed
        meanwhile from something that was still there.
        """
        yield from self._told(ops)
        rounds, walked = [[root]], {root}
        while transitive and len(ops.partitions) > 1:
            steps = yield from together(self._dependents(ops, ops.partitions, rounds[-1], 0, transitive=True))
            met = dict.fromkeys(one for _more, ids, _rows in steps for one in ids)
            if not (new := [one for one in met if one not in walked]):
                break
            walked.update(new)
            rounds.append(new)
        removed: list[tuple[bytes, float]] = []
        again = [list(walked)] if len(rounds) > 1 else []
        for roots in [*reversed(rounds), *again]:
            pending = list(ops.partitions)
            while pending:
                steps = yield from together(self._dependents(ops, pending, roots, CHUNK, transitive=transitive))
                removed += [row for _more, _ids, rows in steps for row in rows]
                pending = [part for part, (more, _ids, _rows) in zip(pending, steps, strict=True) if more]
        return removed

    @staticmethod
    def _dependents(
        ops: SmartOps, parts: Iterable[Partition], roots: list[bytes], limit: int, *, transitive: bool
    ) -> Batch[tuple[bool, list[bytes], list[tuple[bytes, float]]]]:
        calls = [ops.invalidate_dependents(part, roots, limit, transitive=transitive) for part in parts]
        return Batch(calls, patient=True)

    def _hottest(self, ops: SmartOps, count: int) -> Flow[list[dict[str, Any]]]:
        """Of a key with several versions, the most used one counts."""
        rows = count * (self.config.versions if self.config else 1)
        best: dict[bytes, tuple[tuple[int, int], Metadata]] = {}
        for part in ops.partitions:
            cursor = FIRST
            while True:
                least = min(worth for (worth, _last), _ in best.values()) if len(best) >= count else 0
                step = Batch([ops.hot(part, cursor, CHUNK, rows, least)], patient=True)
                ((cursor, found),) = yield from together(step)
                for usage, name, metadata in found:
                    worth = (usage.access_count, usage.last_access_ms)
                    if name not in best or best[name][0] < worth:
                        best[name] = worth, metadata
                best = dict(heapq.nlargest(count, best.items(), key=lambda row: row[1][0]))
                if cursor == FIRST:
                    break
        return [
            {"key": unraw(name), "access_count": hits, "file": metadata.file_path, "lines": metadata.line_range}
            for name, ((hits, _last), metadata) in best.items()
        ]

    def _bound(self, name: bytes, content_hash: bytes) -> tuple[bytes, ...]:
        """What a signature ties an output to."""
        return self._namespace, name, content_hash


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
        **usefulness(total),
    }


def usefulness(total: Callable[[str], int]) -> dict[str, Any]:
    """How good the predictions were.

    precision: of the outputs that predicted tasks made, the part that was used. recall: of what was asked for and
    would not have been there without a prediction, the part that was predicted, in time or too late.
    """
    warmed, used, late, misses = (total(name) for name in ("warmed", "warmed_used", "predicted_late", "misses"))
    return {
        "predicted": total("predicted"),
        "warmed": warmed,
        "warmed_used": used,
        "predicted_late": late,
        "precision": used / warmed if warmed else 0.0,
        "recall": (used + late) / (used + misses) if used + misses else 0.0,
    }


def matching(keys: Iterable[str], pattern: str) -> Iterable[str]:
    """The keys that match a glob, case and all."""
    fits = re.compile(fnmatch.translate(pattern)).match
    return (key for key in keys if fits(key))


def lessons(ops: SmartOps, steps: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> list[Op[Any]]:
    """Ops for each partition that is to learn something, none of which holds the server for long."""
    batches: list[tuple[Partition, list[bytes]]] = []
    begun: dict[Partition, tuple[int, list[bytes]]] = {}
    for key, observations in followed.observed(steps):
        part = ops.keyspace.of(key_id(key))
        count, rows = begun.get(part, (LESSONS, []))
        if count + len(observations) > LESSONS:
            count, rows = 0, []
            batches.append((part, rows))
        rows += followed.row(key, observations)
        begun[part] = count + len(observations), rows
    return [ops.learn(part, rows) for part, rows in batches]
