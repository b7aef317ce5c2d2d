"""Agreeing on the shared config, and running operations under it; the base of both caches' flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from distcache.config import FIXED, Request, Settings, SharedConfig
from distcache.errors import NoSuchCache, ServerError, StaleConfig, Unavailable
from distcache.keys import Keyspace, Partition
from distcache.op import Batch, Op, all_or_raise
from distcache.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from distcache.op import Flow

T = TypeVar("T")

CHUNK = 500
"""Entries that one script call removes or looks at, or one batch asks for, so that none holds the server for long."""


class CacheOps(Protocol):
    """What the ops of both kinds of cache have in common."""

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """Where whole-cache operations fan out to."""

    def tidy(self, part: Partition, limit: int) -> Op[tuple[int, bool]]:
        """Remove what expired and what is over the bounds."""


O = TypeVar("O", bound=CacheOps)  # noqa: E741 - the ops of one kind of cache

BOUNDS = frozenset(("max_entries", "max_bytes"))

OPEN = Script("open", retryable=True)
CONFIG = Script("config", retryable=True, writes=False)
RESCORE = Script("rescore", retryable=True)
STATS = Script("stats", retryable=True, writes=False)


class SharedFlows(Generic[O]):
    """Holds the ops under the agreed config; agrees again when a script says that it is another now."""

    counts: dict[str, int]

    def __init__(self, request: Request, settings: Settings) -> None:
        self.settings = settings
        self._request = request
        self._ops: O | None = None
        self.config: SharedConfig | None = None
        self._unscored = False

    def _make_ops(self, config: SharedConfig, keyspace: Keyspace) -> O:
        raise NotImplementedError

    def counted(self) -> dict[str, int]:
        """What this object did."""
        return self.counts

    def agreed(self, make: Callable[[O], Flow[T]]) -> Flow[T]:
        """Run the flow that `make` makes of the ops, and again when the shared config changed meanwhile."""
        for _ in range(3):
            ops = self._ops
            if ops is None:
                ops = yield from self.open()
            try:
                return (yield from make(ops))
            except StaleConfig:
                self._ops = None
        raise Unavailable("the cache's shared config changes faster than it can be read; repeat the call")

    def cleanup_expired(self) -> Flow[int]:
        """Remove all that has expired; how many entries that were."""
        if self.settings.read_only:
            return 0
        return (yield from self.agreed(lambda ops: self._removing(ops, lambda part: ops.tidy(part, CHUNK))))

    # -- what is kept back to ride along with a later call

    @property
    def _keeps(self) -> int:
        """In how many round trips `flush` sends what there is now: each is short for the server."""
        return 0

    def _kept(self, _ops: O) -> list[Op[Any]]:
        """What the next of them takes; to send it is the caller's."""
        return []

    def _riders(self, _ops: O) -> list[Op[Any]]:
        """What is to ride along with a call now."""
        return []

    def _before_a_change(self, _ops: O) -> Sequence[Op[Any]]:
        """What the server should know before it replaces, evicts or removes an entry."""
        return ()

    def flush(self) -> Flow[None]:
        """Send what is kept back; raises what went wrong."""
        if self._keeps and not self.settings.read_only:
            yield from self.agreed(self._flush)

    def _flush(self, ops: O) -> Flow[None]:
        for _ in range(self._keeps):  # what comes meanwhile is for the next time
            if kept := self._kept(ops):
                merge((yield from self._carried(kept, patient=True)))

    def changing(self, ops: O, op: Op[T]) -> Flow[T]:
        """Run an op that replaces or removes an entry; ahead of it, in the same round trip, what is to be known."""
        before = self._before_a_change(ops)
        if not before:
            return (yield from op)
        results = yield from self._carried([*before, op])
        changed: T = merge(results[-1:])[0]
        return changed

    def _changing_all(self, ops: O, changes: Sequence[Op[T]]) -> Flow[list[T]]:
        """The same for any number of ops, as with `bulk`."""
        before = self._before_a_change(ops)
        if not before:
            return (yield from bulk(changes))
        results = yield from self._carried([*before, *changes[:CHUNK]], patient=len(changes) > CHUNK)
        return merge(results[len(before) :]) + (yield from bulk(changes[CHUNK:]))

    def _removing(self, ops: O, make: Callable[[Partition], Op[tuple[int, bool]]]) -> Flow[int]:
        """Repeat in every partition a bounded step that removes entries; how many that were."""
        yield from self._told(ops)
        return (yield from until_done(ops.partitions, make))

    def _told(self, _ops: O) -> Flow[None]:
        """Send ahead what the server should know before a change of many steps."""
        yield from ()

    def _carried(self, sent: Sequence[Op[Any]], *, patient: bool = False) -> Flow[list[Any]]:
        """The results of a batch with riders in it; however it ends, `_rode` hears how they fared."""
        results: list[Any] = []
        try:
            results = yield from Batch(sent, patient=patient)
        finally:
            self._rode(sent, results)
        return results

    def _reads(self, ops: Sequence[Op[T]]) -> Flow[list[T | None]]:
        """What `bulk` returns; but where errors are misses, a look-up that fails by itself is None, as on its own."""
        results: list[T | None] = []
        for start in range(0, len(ops), CHUNK):
            some = yield from Batch(ops[start : start + CHUNK], patient=len(ops) > CHUNK)
            alone = self.settings.on_error == "miss" and not all(isinstance(one, ServerError) for one in some)
            results += merge([None if alone and isinstance(one, ServerError) else one for one in some])
        return results

    def _rode(self, sent: Sequence[Op[Any]], results: Sequence[Any]) -> None:
        """What becomes of a rider is not the caller's concern. No results: nobody knows."""

    def open(self) -> Flow[O]:
        """Agree on the config with every partition; ConfigMismatch when the cache is another than asked for."""
        request = self._request
        if self.settings.read_only:
            reading = Op(CONFIG, (Partition(self.settings.namespace, 0).state,), list)
            stored = _texts((yield from together(Batch([reading], patient=True)))[0])
            if "layout" not in stored:
                raise NoSuchCache("nobody has made this cache yet, and a read-only client may not")
            config = SharedConfig.from_fields(stored)
            self._insist(config)
        else:
            config = yield from self._agree(request.proposal)
        self.config = config
        ops = self._make_ops(config, Keyspace(self.settings.namespace, config.partitions))
        if request.reconfigure and not self.settings.read_only and request.given & BOUNDS:
            # Lowered bounds hold at once, not only after the next write.
            yield from until_done(ops.partitions, lambda part: ops.tidy(part, CHUNK))
        if self._unscored:
            # The first partition last: it tells the next client whether this one came to the end.
            yield from until_done(ops.partitions[1:], self._rescore)
            yield from until_done(ops.partitions[:1], self._rescore)
        self._ops = ops
        return ops

    def _agree(self, proposal: SharedConfig) -> Flow[SharedConfig]:
        """The first partition decides; then the others, and the shares of the bounds, follow it."""
        namespace = self.settings.namespace
        opening = self._open_one(Partition(namespace, 0), proposal, follow=False)
        first = (yield from together(Batch([opening], patient=True)))[0]
        config = SharedConfig.from_fields(first)
        self._unscored = first["scored"] != config.policy
        stale = [
            p for p in Keyspace(namespace, config.partitions).partitions if p.number or not _settled(first, config)
        ]
        if stale:
            yield from together(Batch([self._open_one(p, config, follow=True) for p in stale], patient=True))
        return config

    def _open_one(self, partition: Partition, config: SharedConfig, *, follow: bool) -> Op[dict[str, str]]:
        """`follow`: take everything over from `config`, instead of proposing it."""
        rows: list[Any] = []
        for name, value in config.to_fields().items():
            rows += (name, value, self._firmness(name, follow=follow))
        entries, size = config.bounds(partition.number)
        share = "share" if follow else "default"
        rows += ("bound_entries", entries, share, "bound_bytes", size, share, "scored", config.policy, "default")
        values = OPEN.bind(partition, reconfigure="1" if follow or self._request.reconfigure else "", fields=rows)
        return Op(OPEN, values, self._decode_open)

    def _rescore(self, part: Partition) -> Op[tuple[int, bool]]:
        """Score some entries as the policy wants that the cache has now: (how many, more to do)."""
        return Op(RESCORE, RESCORE.bind(part, limit=CHUNK), lambda reply: (reply[0], bool(reply[1])))

    def _firmness(self, name: str, *, follow: bool) -> str:
        """How much a field is insisted on, in the words of lua/open.lua."""
        if name in ("kind", "layout"):
            return "fixed"
        if follow:
            return "given"
        if name not in self._request.given:
            return "default"
        return "fixed" if name in FIXED else "given"

    def _decode_open(self, reply: list[bytes]) -> dict[str, str]:
        stored = _texts(reply[1:])
        if reply[0] == b"mismatch":
            raise self._request.mismatch(stored)
        return stored

    def _insist(self, config: SharedConfig) -> None:
        """What _decode_open checks, for a client that may not ask the server to check it."""
        stored, asked = config.to_fields(), self._request.proposal.to_fields()
        if any(stored[name] != asked[name] for name in (*self._request.given, "kind", "layout")):
            raise self._request.mismatch(stored)


def _settled(stored: dict[str, str], config: SharedConfig) -> bool:
    entries, size = config.bounds(0)
    return (stored["bound_entries"], stored["bound_bytes"]) == (str(entries), str(size))


def _texts(reply: Sequence[bytes]) -> dict[str, str]:
    """A flat reply of fields and values."""
    texts = [item.decode("utf-8", "replace") for item in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def stats_of(part: Partition) -> Op[dict[str, str]]:
    """What one partition holds and has counted."""
    return Op(STATS, STATS.bind(part), _stats)


def _stats(reply: list[Any]) -> dict[str, str]:
    entries, learned, relics, *pairs = reply
    return {**_texts(pairs), "entries": str(entries), "learned": str(learned), "relics": str(relics)}


def merge(results: list[Any]) -> list[Any]:
    """The values of a fan-out, in the partitions' order; the first error is raised."""
    return list(all_or_raise(results))


FIRST = b"0"
"""The cursor that starts an iteration, and the one that ends it."""


def together(batch: Batch[T]) -> Flow[list[T]]:
    """The results of a batch; the first error among them is raised."""
    return merge((yield from batch))


def bulk(ops: Sequence[Op[T]]) -> Flow[list[T]]:
    """The results of any number of ops: one round trip for each CHUNK, and a deadline each if there are several."""
    results: list[T] = []
    for start in range(0, len(ops), CHUNK):
        results += yield from together(Batch(ops[start : start + CHUNK], patient=len(ops) > CHUNK))
    return results


def until_done(parts: Iterable[Partition], make: Callable[[Partition], Op[tuple[int, bool]]]) -> Flow[int]:
    """Repeat a bounded step in every partition until each says that nothing is left; the sum of what they count."""
    total, pending = 0, list(parts)
    while pending:
        results = yield from together(Batch([make(part) for part in pending], patient=True))
        total += sum(count for count, _more in results)
        pending = [part for part, (_count, more) in zip(pending, results, strict=True) if more]
    return total


def each(
    parts: Iterable[Partition],
    make: Callable[[Partition, bytes], Op[tuple[bytes, Any]]],
    add: Callable[[Any], None],
    rows: Callable[[Any], Any],
) -> Flow[None]:
    """Walk all partitions with a cursor each, in common round trips; `add(rows(found))` takes what each step finds."""
    cursors = dict.fromkeys(parts, FIRST)
    while cursors:
        steps = yield from together(Batch([make(part, at) for part, at in cursors.items()], patient=True))
        for part, (cursor, found) in zip(list(cursors), steps, strict=True):
            add(rows(found))
            cursors[part] = cursor
        cursors = {part: cursor for part, cursor in cursors.items() if cursor != FIRST}
