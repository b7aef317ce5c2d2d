"""Each operation of the warm-up queue as an Op: which script, which keys and arguments, how to read the reply."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from distcache.errors import ValueTooLarge
from distcache.keys import hash_id, key_id
from distcache.op import Block, Op
from distcache.script import Script
from distcache.warmup.records import QueuedTask, Taken, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from distcache.keys import Partition
    from distcache.smart.ops import SmartOps
    from distcache.warmup.records import Reason, Slip

ADD = Script("queue_add", retryable=True)
TAKE = Script("queue_take", retryable=True)
COMPLETE = Script("queue_complete", retryable=True)
FAIL = Script("queue_fail", retryable=True)
SKIP = Script("queue_skip", retryable=True)
RENEW = Script("queue_renew", retryable=True)
ALONE = Script("queue_alone", retryable=True)
HANDBACK = Script("queue_handback", retryable=True)
SWEEP = Script("queue_sweep", retryable=True)
QUEUE_STATS = Script("queue_stats", retryable=True, writes=False)
LIST = Script("queue_list", retryable=True, writes=False)
REQUEUE = Script("queue_requeue")
DROP = Script("queue_drop")
BEAT = Script("worker_beat", retryable=True)
WORKERS = Script("worker_list", retryable=True, writes=False)

QUEUE_BOUND = 1000
"""With so many tasks in a partition's queue, predicted ones are refused."""
START = b"0-0"
"""The cursor that starts a sweep, and the one that ends it."""


class QueueOps:
    """The operations of one cache's queue. Keys, content hashes and sources are bytes here, as in SmartOps."""

    def __init__(self, smart: SmartOps) -> None:
        self.smart = smart
        self.partitions = smart.partitions

    def add(
        self,
        key: bytes,
        content_hash: bytes,
        blob: bytes,
        reason: Reason,
        *,
        details: bytes = b"",
        bound: int = QUEUE_BOUND,
    ) -> Op[int]:
        """Queue a task, once. 1 queued, 0 waits or runs already, -1 cached, -2 refused."""
        one = key_id(key)
        part = self.smart.keyspace.of(one)
        values = ADD.bind(
            part,
            request=os.urandom(12),
            id=one,
            key=key,
            hash=content_hash,
            hash_id=hash_id(content_hash),
            content=blob,
            reason=reason,
            details=details,
            bound=bound,
        )
        return Op(ADD, values, int)

    def take(
        self, part: Partition, consumer: str, count: int, which: str = "both", held: Sequence[Slip] = ()
    ) -> Op[tuple[int | None, list[Taken]]]:
        """Tasks for a worker, those it holds already first: (ms until the next delayed one, or None, the tasks)."""
        rows = [item for slip in held for item in (int(slip.low), slip.entry, slip.task)]
        values = TAKE.bind(part, consumer=consumer, count=count, which=which, held=rows)

        def decode(reply: list[Any]) -> tuple[int | None, list[Taken]]:
            return (None if reply[0] < 0 else reply[0]), [Taken.decode(part, row) for row in reply[1:]]

        return Op(TAKE, values, decode)

    def wait(self, consumer: str, block_ms: int, which: str) -> Block:
        """Wait on the server for one task of any partition; it then belongs to this worker."""
        streams = [part.queue for part in self.partitions]
        if which == "both":
            streams += [part.queue_low for part in self.partitions]
        command = ("XREADGROUP", "GROUP", "workers", consumer, "COUNT", 1, "BLOCK", block_ms, "STREAMS", *streams)
        return Block((*command, *[">"] * len(streams)), block_ms / 1000)

    def complete(self, taken: Taken, consumer: str, values: Mapping[str, Any]) -> Op[bool]:
        """Store what a task made, and take it off the queue.

        False when the worker has lost it meanwhile, and when its key was invalidated: then it is queued again.

        `values`: the parameters of SmartOps.put. ValueTooLarge when the cache can never hold it; the task then stays.
        """
        slip = taken.slip
        part, new = self.smart.new(**values)
        bound = COMPLETE.bind(
            part,
            **new,
            stream=part.queue_low if slip.low else part.queue,
            entry=slip.entry,
            task=slip.task,
            consumer=consumer,
            reason=taken.reason,
            fence=taken.fence,
        )
        return Op(COMPLETE, bound, _completed)

    def fail(self, slip: Slip, consumer: str, delay_ms: int | None, problem: str, traceback: str) -> Op[bool]:
        """Record a failed try: again after a while, or given up (None). False when the worker has lost it meanwhile."""
        values = FAIL.bind(
            slip.partition,
            **_named(slip),
            consumer=consumer,
            delay_ms="" if delay_ms is None else delay_ms,
            problem=problem,
            traceback=traceback,
        )
        return Op(FAIL, values, bool)

    def skip(self, taken: Taken, consumer: str) -> Op[bool]:
        """Take a task off the queue that needs no work; if its key was invalidated meanwhile, it is queued again."""
        slip = taken.slip
        values = SKIP.bind(slip.partition, **_named(slip), consumer=consumer, fence=taken.fence)
        return Op(SKIP, values, bool)

    def alone(self, slip: Slip, consumer: str) -> Op[bool]:
        """Say that a suspect is about to run with nothing beside it."""
        return Op(ALONE, ALONE.bind(slip.partition, **_named(slip), consumer=consumer), bool)

    def renew(self, part: Partition, consumer: str, held: Iterable[Slip]) -> Op[list[bytes]]:
        """Start the leases of running tasks anew; the entries that were lost."""
        rows = [item for slip in held for item in (int(slip.low), slip.entry)]
        return Op(RENEW, RENEW.bind(part, consumer=consumer, held=rows), list)

    def handback(self, part: Partition, consumer: str, limit: int = 500) -> Op[tuple[int, bool]]:
        """Give everything a worker holds back to the queue: (how many, whether more are left)."""
        values = HANDBACK.bind(part, consumer=consumer, limit=limit)
        return Op(HANDBACK, values, lambda reply: (reply[0], bool(reply[1])))

    def sweep(
        self, part: Partition, consumer: str, lease_ms: int, cursors: tuple[bytes, bytes], limit: int = 100
    ) -> Op[tuple[tuple[bytes, bytes], int]]:
        """One step through what is pending, for tasks whose worker fell silent: (next cursors, how many went back)."""
        values = SWEEP.bind(
            part, consumer=consumer, lease_ms=lease_ms, limit=limit, high_cursor=cursors[0], low_cursor=cursors[1]
        )
        return Op(SWEEP, values, lambda reply: ((reply[0], reply[1]), reply[2]))

    def stats(self, part: Partition) -> Op[list[Any]]:
        """What one partition's queue holds."""
        return Op(QUEUE_STATS, QUEUE_STATS.bind(part), list)

    def listing(self, part: Partition, which: str, count: int) -> Op[list[QueuedTask]]:
        """Tasks that are `waiting` (or run), `delayed` or `dead`."""
        values = LIST.bind(part, which=which, count=count)
        return Op(LIST, values, lambda rows: [QueuedTask.decode(row) for row in rows])

    def requeue(self, part: Partition, named: Sequence[bytes], limit: int = 1000) -> Op[int]:
        """Give dead letters another life; all if none are named."""
        return Op(REQUEUE, REQUEUE.bind(part, limit=limit, named=named), int)

    def drop(self, part: Partition, named: Sequence[bytes], limit: int = 1000) -> Op[int]:
        """Drop dead letters; all if none are named."""
        return Op(DROP, DROP.bind(part, limit=limit, named=named), int)

    def beat(self, worker: str, alive_ms: int, fields: Mapping[str, Any]) -> Op[list[bytes]]:
        """Say that a worker is alive (0: that it leaves); the names of those long gone."""
        rows = [item for pair in fields.items() for item in pair]
        values = BEAT.bind(self.partitions[0], worker=worker, alive_ms=alive_ms, fields=rows)
        return Op(BEAT, values, lambda reply: reply)

    def workers(self) -> Op[list[WorkerInfo]]:
        """The workers of the last day."""
        values = WORKERS.bind(self.partitions[0])
        return Op(WORKERS, values, lambda reply: [WorkerInfo.decode(int(reply[0]), row) for row in reply[1:]])


def _named(slip: Slip) -> dict[str, Any]:
    return {"is_low": int(slip.low), "entry": slip.entry, "task": slip.task}


def _completed(reply: int) -> bool:
    if reply == -1:
        raise ValueTooLarge("the output is larger than the whole cache may be; raise max_size_mb or make a smaller one")
    return reply >= 0
