"""What is done with the warm-up queue, written once: each operation as a flow that a sync or an async driver runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar

from distcache.errors import ConfigError
from distcache.keys import key_bytes, raw, unraw
from distcache.op import Batch
from distcache.shared import bulk, together
from distcache.warmup.ops import START, QueueOps
from distcache.warmup.records import QueueStats, Slip, Task

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from distcache.op import Block, Flow, Op
    from distcache.smart.flows import SmartFlows
    from distcache.smart.ops import SmartOps
    from distcache.warmup.records import Compiled, QueuedTask, Reason, Taken, WorkerInfo

    Output = str | bytes
    Which = Literal["both", "high"]

T = TypeVar("T")

SWEEP_STEPS = 20
"""Steps of one sweep; the next one goes on where it ended."""


class QueueFlows:
    """The queue of one cache, for those who fill it, empty it and look at it."""

    def __init__(self, smart: SmartFlows) -> None:
        self.smart = smart
        self._queue: QueueOps | None = None

    def agreed(self, make: Callable[[QueueOps], Flow[T]]) -> Flow[T]:
        """Run the flow that `make` makes of the ops, under the cache's shared config."""
        return self.smart.agreed(lambda ops: make(self.ops(ops)))

    def ops(self, smart: SmartOps) -> QueueOps:
        """The queue's operations, under the same partitioning as the cache's."""
        if self._queue is None or self._queue.smart is not smart:
            self._queue = QueueOps(smart)
        return self._queue

    # -- filling it

    def add(self, key: str, content: Output | None, content_hash: str = "", reason: Reason = "manual") -> Flow[bool]:
        """Queue one task; False when it is cached, queued or running already."""
        if self.smart.settings.read_only:
            return False
        name, wanted, blob = self._encoded(key, content, content_hash)
        queued = yield from self.agreed(lambda ops: iter(ops.add(name, wanted, blob, reason)))
        return queued == 1

    def add_many(self, tasks: Iterable[tuple[str, Output | None, str]], reason: Reason) -> Flow[int]:
        """Queue several (key, content, content hash) in one round trip and in their order; how many were queued."""
        if self.smart.settings.read_only:
            return 0
        rows = [self._encoded(*task) for task in tasks]
        if not rows:
            return 0
        results = yield from self.agreed(
            lambda ops: bulk([ops.add(name, wanted, blob, reason) for name, wanted, blob in rows])
        )
        return sum(result == 1 for result in results)

    def invalidated(self, dep_key: str, transitive: bool, *, rewarm: bool) -> Flow[list[str]]:
        """Remove what depends on a key; `rewarm`: queue it, the most valuable first. The keys removed."""
        removed = yield from self.smart.invalidate_by_dependency(dep_key, transitive)
        if rewarm and removed:  # where the sources are, the workers know
            names = [raw(key) for key in sorted(removed, key=lambda key: -removed[key])]
            yield from self.agreed(lambda ops: bulk([ops.add(name, b"", b"", "dependency") for name in names]))
        return list(removed)

    def _encoded(self, key: str, content: Output | None, content_hash: str) -> tuple[bytes, bytes, bytes]:
        name, wanted = key_bytes(key), raw(content_hash)
        blob = b"" if content is None else self.smart.codec.encode(content, *self._bound(name, wanted))[0]
        return name, wanted, blob

    def _bound(self, name: bytes, wanted: bytes) -> tuple[bytes, ...]:
        """What a signature ties a source to; more parts than an output's, so that none passes for the other."""
        return raw(self.smart.settings.namespace), name, wanted, b"source"

    # -- working on it

    def take(
        self, consumer: str, room: int, held: Sequence[Slip] = (), which: Which = "both"
    ) -> Flow[tuple[int | None, list[Taken]]]:
        """Tasks for a worker, urgent ones first: (ms until the next delayed one is due, or None; the tasks).

        held: what it was handed already. which: 'high' leaves predicted tasks and refreshes to others.
        """
        return self.agreed(lambda ops: self._take(ops, consumer, room, held, which))

    def _take(
        self, ops: QueueOps, consumer: str, room: int, held: Sequence[Slip], which: Which
    ) -> Flow[tuple[int | None, list[Taken]]]:
        if len(ops.partitions) == 1:
            return (yield from ops.take(ops.partitions[0], consumer, room, which, held))
        due: list[int] = []
        taken: list[Taken] = []
        for stream in ("high",) if which == "high" else ("high", "low"):
            for part in ops.partitions:
                mine = [slip for slip in held if slip.partition is part] if stream == "high" else []
                if room > len(taken) or mine:
                    next_ms, found = yield from ops.take(part, consumer, max(0, room - len(taken)), stream, mine)
                    taken += found
                    due += [] if next_ms is None else [next_ms]
        return (min(due) if due else None), taken

    def waiting(self, consumer: str, block_ms: int, which: Which = "both") -> Flow[Block]:
        """The read that waits for a task of any partition."""
        return self.agreed(lambda ops: _just(ops.wait(consumer, block_ms, which)))

    def slips(self, reply: Any) -> list[Slip]:
        """What such a read has brought."""
        if not reply or self._queue is None:
            return []
        rows = list(reply.items()) if isinstance(reply, dict) else reply
        where = {part.queue: (part, False) for part in self._queue.partitions}
        where |= {part.queue_low: (part, True) for part in self._queue.partitions}
        return [
            Slip(*where[bytes(stream)], entry, fields[1])
            for stream, entries in rows
            for entry, fields in entries
            if fields
        ]

    def task(self, taken: Taken) -> Task:
        """A task as compilers see it; CorruptEntry when its source cannot be decoded."""
        content = None
        if taken.blob:
            content = self.smart.codec.decode(taken.blob, *self._bound(taken.key, taken.content_hash))
        return Task(
            unraw(taken.key), unraw(taken.content_hash), content, taken.reason, taken.attempt, taken.enqueued_ms
        )

    def completed(
        self, taken: Taken, consumer: str, content_hash: str, compiled: Compiled, took_ms: float
    ) -> Callable[[], Flow[bool]]:
        """Store what a task made; False when the worker has lost it meanwhile. May be run again after a failure.

        Raises what put() raises for an output that cannot be stored.
        """
        values = self.smart.put_values(
            taken.key,
            compiled.output,
            content_hash,
            compiled.dependencies,
            compiled.file_path,
            compiled.line_range,
            took_ms,
            compiled.ttl_seconds,
            "",
        )
        built: dict[QueueOps, Op[bool]] = {}

        def op(ops: QueueOps) -> Op[bool]:
            if ops not in built:  # the same request id, however often it is sent
                built[ops] = ops.complete(taken, consumer, values)
            return built[ops]

        return lambda: self.agreed(lambda ops: iter(op(ops)))

    def failed(
        self, taken: Taken, consumer: str, delay_ms: int | None, problem: str, traceback: str
    ) -> Callable[[], Flow[bool]]:
        """Record a failed try."""
        return lambda: self.agreed(lambda ops: iter(ops.fail(taken.slip, consumer, delay_ms, problem, traceback)))

    def skipped(self, taken: Taken, consumer: str) -> Callable[[], Flow[bool]]:
        """Take a task off the queue that needs no work."""
        return lambda: self.agreed(lambda ops: iter(ops.skip(taken, consumer)))

    def alone(self, taken: Taken, consumer: str) -> Flow[bool]:
        """Say that a suspect is about to run with nothing beside it."""
        return self.agreed(lambda ops: iter(ops.alone(taken.slip, consumer)))

    def renew(self, consumer: str, held: Sequence[Slip]) -> Flow[set[bytes]]:
        """Start the leases of what a worker holds anew; the entries that it has lost."""
        return self.agreed(lambda ops: self._renew(ops, consumer, held))

    def _renew(self, ops: QueueOps, consumer: str, held: Sequence[Slip]) -> Flow[set[bytes]]:
        of: dict[int, list[Slip]] = {}
        for slip in held:
            of.setdefault(slip.partition.number, []).append(slip)
        batch = Batch([ops.renew(ops.partitions[number], consumer, slips) for number, slips in of.items()])
        lost = yield from together(batch)
        return {entry for entries in lost for entry in entries}

    def sweep(self, consumer: str, lease_ms: int, cursors: dict[int, tuple[bytes, bytes]]) -> Flow[int]:
        """Give tasks of silent workers back, in bounded steps; `cursors` is where to go on the next time."""
        return self.agreed(lambda ops: self._sweep(ops, consumer, lease_ms, cursors))

    def _sweep(self, ops: QueueOps, consumer: str, lease_ms: int, cursors: dict[int, tuple[bytes, bytes]]) -> Flow[int]:
        total = 0
        for part in ops.partitions:
            for _ in range(SWEEP_STEPS):
                at = cursors.get(part.number, (START, START))
                cursors[part.number], returned = yield from ops.sweep(part, consumer, lease_ms, at)
                total += returned
                if cursors[part.number] == (START, START):
                    break
        return total

    def handback(self, consumer: str) -> Flow[int]:
        """Give back all that a worker holds."""
        return self.agreed(lambda ops: self._handback(ops, consumer))

    def _handback(self, ops: QueueOps, consumer: str) -> Flow[int]:
        total = 0
        for part in ops.partitions:
            more = True
            while more:
                returned, more = yield from ops.handback(part, consumer)
                total += returned
        return total

    def beat(self, consumer: str, alive_ms: int, fields: dict[str, Any]) -> Flow[None]:
        """Say that a worker is alive; what others left behind long ago is cleared away."""
        gone = yield from self.agreed(lambda ops: iter(ops.beat(consumer, alive_ms, fields)))
        for one in gone:
            yield from self.handback(one.decode())

    # -- looking at it

    def stats(self) -> Flow[QueueStats]:
        """What waits, runs and failed, in all partitions."""
        parts = yield from self.agreed(lambda ops: together(Batch([ops.stats(part) for part in ops.partitions])))
        return QueueStats.total(parts)

    def listing(self, which: str = "waiting", count: int = 100) -> Flow[list[QueuedTask]]:
        """Tasks that are `waiting` (or run), `delayed` or `dead`."""
        if which not in ("waiting", "delayed", "dead"):
            raise ConfigError(f"which={which!r} is unknown; take waiting, delayed or dead")
        parts = yield from self.agreed(
            lambda ops: together(Batch([ops.listing(part, which, count) for part in ops.partitions]))
        )
        return [task for part in parts for task in part][:count]

    def requeue(self, ids: Iterable[str] = ()) -> Flow[int]:
        """Give dead letters another life, all if none are named; how many."""
        return self._dead(ids, lambda ops, part, named: ops.requeue(part, named))

    def drop(self, ids: Iterable[str] = ()) -> Flow[int]:
        """Drop dead letters, all if none are named; how many."""
        return self._dead(ids, lambda ops, part, named: ops.drop(part, named))

    def _dead(self, ids: Iterable[str], make: Callable[[QueueOps, Any, list[bytes]], Op[int]]) -> Flow[int]:
        named = [_task_id(one) for one in ids]
        counts = yield from self.agreed(
            lambda ops: together(Batch([make(ops, part, named) for part in ops.partitions]))
        )
        return sum(counts)

    def workers(self) -> Flow[list[WorkerInfo]]:
        """The workers of the last day, the latest seen first."""
        return self.agreed(lambda ops: iter(ops.workers()))


def _just(value: T) -> Flow[T]:
    """A flow without steps."""
    yield from ()
    return value


def _task_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no id of a task; `distcache queue dead` lists them") from None
