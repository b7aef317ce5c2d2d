"""What the queue is made of, as plain records, and how each is read from a reply."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from distcache.keys import unraw
from distcache.smart.records import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.keys import Partition

Reason = Literal["manual", "dependency", "predicted", "refresh"]
Where = Literal["waiting", "running", "delayed", "dead"]


@dataclass(frozen=True, slots=True)
class Task:
    """One output to be made; what a compiler may take as its second parameter."""

    key: str
    content_hash: str
    """Of the source; empty when only the content provider knows it."""
    content: str | bytes | None
    """The source; None when the content provider is to be asked."""
    reason: Reason
    """Asked for (manual), invalidated (dependency), likely to be asked for (predicted), about to expire (refresh)."""
    attempt: int
    """Tries before this one that failed."""
    enqueued_ms: int
    """When it was queued, ms since 1970."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What a compiler may return when there is more to say than the output."""

    output: str | bytes
    dependencies: tuple[str, ...] = ()
    file_path: str = ""
    line_range: tuple[int, int] = (0, 0)
    ttl_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Slip:
    """Names a task in the queue: which stream of which partition, and the entry that stands for it there."""

    partition: Partition
    low: bool
    entry: bytes
    task: bytes


@dataclass(frozen=True, slots=True)
class Taken:
    """A task that a worker was given, still encoded."""

    slip: Slip
    key: bytes
    content_hash: bytes
    blob: bytes
    """The source, encoded; empty when there is none."""
    reason: Reason
    attempt: int
    enqueued_ms: int
    crashes: int
    """How often a worker fell silent with it since its last recorded failure."""
    fence: int = 0
    """The number of the moment when it was taken; what is invalidated later is not stored."""

    @classmethod
    def decode(cls, partition: Partition, row: Sequence[Any]) -> Taken:
        """From a row of lua/queue_take.lua."""
        low, entry, task, key, content_hash, blob, reason, attempt, queued, crashes, fence = row
        slip = Slip(partition, bool(low), entry, task)
        return cls(
            slip, key, content_hash, blob, reason.decode(), int(attempt), number(queued), int(crashes), int(fence)
        )


@dataclass(frozen=True, slots=True)
class QueuedTask:
    """One task as `distcache queue` shows it."""

    id: str
    """Hexadecimal; names it for requeue and drop."""
    where: Where
    key: str
    content_hash: str
    reason: Reason
    attempt: int
    enqueued_ms: int
    error: str
    """What went wrong the last time, in a line."""
    traceback: str
    died_ms: int
    """When it was given up, ms since 1970; 0 if it was not."""
    worker: str
    """Who runs it."""

    @classmethod
    def decode(cls, row: Sequence[bytes]) -> QueuedTask:
        """From a row of lua/queue_list.lua."""
        task, where, key, content_hash, reason, attempt, queued, problem, traceback, died, worker = row
        return cls(
            task.hex(),
            where.decode(),  # type: ignore[arg-type]
            unraw(key),
            unraw(content_hash),
            reason.decode(),  # type: ignore[arg-type]
            int(attempt),
            number(queued),
            unraw(problem),
            unraw(traceback),
            number(died),
            unraw(worker),
        )


@dataclass(frozen=True, slots=True)
class QueueStats:
    """What waits, runs and failed."""

    urgent: int
    """Manual and dependency tasks, those that run included."""
    predicted: int
    """Predicted tasks and refreshes, those that run included."""
    running: int
    delayed: int
    """Tasks that failed and wait for their next try."""
    dead: int
    oldest_ms: int
    """Age of the oldest task in the queue."""

    @property
    def waiting(self) -> int:
        """Tasks that no worker has yet."""
        return max(0, self.urgent + self.predicted - self.running)

    @classmethod
    def total(cls, parts: Sequence[Sequence[Any]]) -> QueueStats:
        """Of the replies of lua/queue_stats.lua, one a partition."""
        rows = [[int(value) for value in row] for row in parts]
        urgent, predicted, running, delayed, dead = (sum(row[at] for row in rows) for at in range(5))
        return cls(urgent, predicted, running, delayed, dead, max(row[5] for row in rows))


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """One worker as `distcache workers` shows it."""

    name: str
    host: str
    pid: int
    concurrency: int
    running: int
    done: int
    failed: int
    rate: float
    """Tasks a second over the last minute."""
    started_ms: int
    seen_ms: int
    """When it last said that it is alive, ms since 1970, by the server's clock."""
    alive: bool
    """Whether that is recent."""

    @classmethod
    def decode(cls, now_ms: int, row: Sequence[bytes]) -> WorkerInfo:
        """From a row of lua/worker_list.lua."""
        f = dict(zip((name.decode() for name in row[1::2]), row[2::2], strict=True))
        seen = number(f.get("seen", b"0"))
        return cls(
            name=unraw(f.get("name", b"")),
            host=unraw(f.get("host", b"")),
            pid=int(f.get("pid", 0)),
            concurrency=int(f.get("concurrency", 0)),
            running=int(f.get("running", 0)),
            done=int(f.get("done", 0)),
            failed=int(f.get("failed", 0)),
            rate=float(f.get("rate", 0)),
            started_ms=number(f.get("started", b"0")),
            seen_ms=seen,
            alive=now_ms - seen <= number(f.get("alive_ms", b"0")),
        )
