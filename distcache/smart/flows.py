"""What a SmartCache does, written once: each operation as a flow that a sync or an async driver runs."""

from __future__ import annotations

from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.config import ttl_ms
from distcache.errors import CorruptEntry, ServerError, Unavailable, ValueTooLarge
from distcache.keys import key_bytes, raw
from distcache.op import Batch
from distcache.shared import merge, together
from distcache.smart import files, likely
from distcache.smart.learner import BATCH
from distcache.smart.records import Metadata, checked_cost
from distcache.smart.whole import WholeCache, lessons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distcache.config import Request, Settings
    from distcache.near import Near
    from distcache.op import Flow, Op
    from distcache.smart.ops import SmartOps
    from distcache.smart.records import EntryInfo, Found, HistoryRecord

    Output = str | bytes

TIDY_S = 1.0
"""How often a client that reads a cache with a time to live also removes what has expired."""
IMPORT_CHUNK = 100


class SmartFlows(WholeCache):
    """The operations of one SmartCache object."""

    near: Near[Output] | None = None
    """Answers before any of this is asked; see `nearby`."""

    def __init__(self, request: Request, settings: Settings, owner: Callable[[], int]) -> None:
        super().__init__(request, settings, owner)
        self._tidied_at = monotonic()
        self._tidy_next = 0

    # -- one key

    def get(self, key: str, content_hash: str = "") -> Flow[Output | None]:
        """The output of a key; with a hash, only if it was stored with that hash."""
        output, _found = yield from self.find(key_bytes(key), raw(content_hash))
        return output

    def find(self, name: bytes, wanted: bytes) -> Flow[tuple[Output | None, Found | None]]:
        """The same, with what else is known of it."""
        self.learner.saw(name)
        found: Found | None = yield from self.agreed(lambda ops: self._read(ops, name, wanted))
        if found is not None and self.ahead is not None and self.ahead.is_old(found):
            yield from self.agreed(lambda ops: self._refresh(ops, name, found))
        output = None if found is None else (yield from self.decoded(name, found))
        self.counts["misses" if output is None else "hits"] += 1
        return output, found

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
        name = key_bytes(key)
        self.learner.saw(name)
        try:
            prepared = self._prepare(
                name, output, content_hash, dependencies, file_path, line_range, compile_time_ms, ttl_seconds, past
            )
        except ValueTooLarge:
            yield from self._refused(name)
            raise
        yield from self.agreed(lambda ops: self._with_riders(ops, prepared(ops), self._before_a_change(ops)))
        self.counts["writes"] += 1
        return True

    def invalidate(self, key: str) -> Flow[bool]:
        """Remove all versions of a key; whether there was any."""
        if self.settings.read_only:
            return False
        name = key_bytes(key)
        dropped = yield from self.agreed(lambda ops: self.changing(ops, ops.invalidate(name)))
        return dropped > 0

    def has(self, key: str, content_hash: str = "") -> Flow[bool]:
        """Whether a get would hit; counts nothing."""
        name, wanted = key_bytes(key), raw(content_hash)
        found = yield from self.agreed(lambda ops: iter(ops.peek(name, wanted, bare=True)))
        return found is not None

    def touch(self, key: str, ttl_seconds: float | None = None) -> Flow[bool]:
        """Count a use without reading, and start the time to live anew if one is given."""
        if self.settings.read_only:
            return False
        name, span = key_bytes(key), ttl_ms(ttl_seconds)
        return (yield from self.agreed(lambda ops: iter(ops.touch(name, span))))

    def inspect(self, key: str) -> Flow[EntryInfo | None]:
        """All metadata of a key."""
        name = key_bytes(key)
        return (yield from self.agreed(lambda ops: iter(ops.inspect(name))))

    def get_history(self, key: str, count: int = 100) -> Flow[list[HistoryRecord]]:
        """Every compile of a key that is remembered, newest first."""
        name = key_bytes(key)
        if count < 1:
            return []
        return (yield from self.agreed(lambda ops: iter(ops.history(name, count))))

    def get_predicted_next(self, key: str, count: int = 5) -> Flow[list[str]]:
        """The keys that came after this one, likeliest first."""
        name = key_bytes(key)
        yield from self.flush()
        if count < 1:
            return []
        shares = yield from self.agreed(lambda ops: iter(ops.predict(name, count + likely.SPARE)))
        return likely.ranked(dict(shares), count)

    # -- many keys in one round trip

    def get_many(self, keys: Iterable[str]) -> Flow[dict[str, Output]]:
        """The outputs of those keys that hit."""
        names = {key_bytes(key): key for key in keys}
        for name in names:
            self.learner.saw(name)
        found = yield from self.agreed(lambda ops: self._read_many(ops, list(names)))
        outputs: dict[str, Output] = {}
        for name, one in zip(names, found, strict=True):
            output = None if one is None else (yield from self.decoded(name, one))
            if output is not None:
                outputs[names[name]] = output
        self.counts["hits"] += len(outputs)
        self.counts["misses"] += len(names) - len(outputs)
        return outputs

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> Flow[int]:
        """Store several outputs, each a mapping with put's parameters; how many were stored.

        All are checked before the first is sent, and one over `max_value_bytes` stores nothing at all; one that is
        larger than the whole cache may be is found out by the server, which stores the others. As with put, what a
        key held before a value over the limit goes.
        """
        if self.settings.read_only:
            return 0
        items = list(items)
        for item in items:
            self.learner.saw(key_bytes(item["key"]))
        return (yield from self._put_many(items))

    def _put_many(self, items: Iterable[Mapping[str, Any]]) -> Flow[int]:
        prepared = []
        for item in items:
            name = key_bytes(item["key"])
            try:
                prepared.append(self._prepare_mapping(name, item))
            except ValueTooLarge:
                yield from self._refused(name)
                raise
        if not prepared:
            return 0
        results = yield from self.agreed(lambda ops: self._changing_all(ops, [make(ops) for make in prepared]))
        self.counts["writes"] += len(results)
        return len(results)

    # -- the whole cache

    def imported(self, saved: files.Saved) -> Flow[int]:
        """Store saved entries, the most recently used last so that they stay if not all fit, and what was learned.

        An entry that the cache could never hold is left out.
        """
        items = sorted(map(files.put_parameters, saved.entries), key=lambda item: _past(item["past"]))
        if self.settings.read_only:
            return 0
        stored = 0
        for start in range(0, len(items), IMPORT_CHUNK):
            stored += yield from self._import(items[start : start + IMPORT_CHUNK])
        for key, pattern in saved.patterns.items():
            steps = [(raw(str(successor)), (raw(str(key)),)) for successor in reversed(pattern.get("sequence", ()))]
            if steps:
                yield from self.agreed(lambda ops, steps=steps: together(Batch(lessons(ops, steps))))  # type: ignore[misc]
        return stored

    # -- steps

    def _import(self, items: Iterable[Mapping[str, Any]]) -> Flow[int]:
        prepared = []
        for item in items:
            with suppress(ValueTooLarge):
                prepared.append(self._prepare_mapping(key_bytes(item["key"]), item))

        def put(ops: SmartOps) -> Flow[int]:
            yield from self._told(ops)
            results = yield from Batch([make(ops) for make in prepared], patient=True)
            return len(merge([result for result in results if not isinstance(result, ValueTooLarge)]))

        stored: int = yield from self.agreed(put)
        self.counts["writes"] += stored
        return stored

    def _read(self, ops: SmartOps, name: bytes, wanted: bytes) -> Flow[Found | None]:
        if self.settings.read_only:
            return (yield from ops.peek(name, wanted, bare=False))
        found: Found | None = yield from self._with_riders(ops, ops.get(name, wanted))
        return found

    def _read_many(self, ops: SmartOps, names: Sequence[bytes]) -> Flow[list[Found | None]]:
        if self.settings.read_only:
            return (yield from self._reads([ops.peek(name, b"", bare=False) for name in names]))
        return (yield from self._reads([ops.get(name, b"") for name in names]))

    def _with_riders(self, ops: SmartOps, op: Op[Any], before: Sequence[Op[Any]] = ()) -> Flow[Any]:
        """Run an op, and in the same round trip what is due: lessons, and the removal of what has expired.

        `before`: riders that are to arrive ahead of it.
        """
        recent = () if self.ahead is None else self.ahead.recent()
        asked = self.ahead.questions(ops, recent) if self.ahead is not None and recent else []
        riders = self._riders(ops)
        if not riders and not asked and not before:
            return (yield op)
        at = len(before)
        results = yield from self._carried([*before, op, *asked, *riders])
        if self.ahead is not None and (tasks := self.ahead.tasks(ops, recent, results[at + 1 :][: len(asked)])):
            yield from Batch(tasks)
        return merge(results[at : at + 1])[0]

    def _refresh(self, ops: SmartOps, name: bytes, found: Found) -> Flow[None]:
        """Have an entry made anew that will expire soon; whether that works is not the reader's concern."""
        if self.ahead is not None and (tasks := self.ahead.refreshes(ops, name, found)):
            yield from Batch(tasks)

    def _riders(self, ops: SmartOps) -> list[Op[Any]]:
        riders: list[Op[Any]] = []
        if self.learner.due:
            riders += lessons(ops, self.learner.take(BATCH))
        if self.config is not None and self.config.ttl_ms and monotonic() - self._tidied_at >= TIDY_S:
            self._tidied_at = monotonic()
            self._tidy_next = (self._tidy_next + 1) % len(ops.partitions)
            riders.append(ops.tidy(ops.partitions[self._tidy_next], 16))
        return riders

    def _prepare(self, *parameters: Any) -> Callable[[SmartOps], Op[bool]]:
        values = self.put_values(*parameters)
        return lambda ops: ops.put(**values)

    def put_values(  # the original's parameters
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
    ) -> dict[str, Any]:
        """Everything about a put that needs no server: checked, encoded, packed."""
        names = tuple(dependencies or ())
        wanted, cost = raw(content_hash), checked_cost(compile_time_ms)
        blob, size = self.codec.encode(output, *self._bound(name, wanted))
        first, last = line_range
        meta = Metadata.encode(names, str(file_path), (int(first), int(last)), self.settings.producer)
        links = [key_bytes(dependency) for dependency in names]
        span = ttl_ms(ttl_seconds)
        return {
            "key": name,
            "content_hash": wanted,
            "output": blob,
            "size": size,
            "cost": cost,
            "meta": meta,
            "dependencies": links,
            "ttl_ms": span,
            "past": past,
        }

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

    def _refused(self, name: bytes) -> Flow[None]:
        """An older output does not survive a newer one over the limit."""
        with suppress(Unavailable, ServerError):  # the caller's error is the value, whatever state the server is in
            why = "replaced by a value over the limit"
            yield from self.agreed(lambda ops: self.changing(ops, ops.invalidate(name, why)))

    def changed(self, name: bytes) -> None:
        """Another than these operations has changed a key, or tried to."""

    def decoded(self, name: bytes, found: Found, *, counted: bool = True) -> Flow[Output | None]:
        """The output itself. A corrupt one is a miss and does not stay. `counted`: its reading was counted as a hit."""
        try:
            return self.codec.decode(found.blob, *self._bound(name, found.content_hash))
        except CorruptEntry:
            self.counts["corrupt"] += 1
            if not self.settings.read_only:
                yield from self.agreed(
                    lambda ops: self.changing(ops, ops.discard(name, found.content_hash, counted=counted))
                )
        return None


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


def _past(past: str) -> tuple[int, int]:
    """How recently, then how often, an imported entry was used."""
    count, last, _written = past.split()
    return int(last), int(count)
