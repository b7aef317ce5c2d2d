"""Waits for word in streams: of all who wait at the same time, one reads for all, on one connection.

A notice is a stream entry with one field, whose value is a name. Who waits for a name knows up to which id nothing was
said of it (`seen`). The one who reads starts from what was read last; so whoever joins while it reads, and has seen
at least that, misses nothing, and whoever has seen less is sent back to look for himself. When the reader's own wait
is over, another one reads on.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from distcache.errors import ServerError, Unavailable
from distcache.executor.fork import tell
from distcache.op import Block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distcache.executor.aio import AsyncExecutor
    from distcache.executor.sync import SyncExecutor

COUNT = 1000
PAUSE_S = 0.1
"""After a read that failed: whoever waits then looks, and must not do so without a pause."""

Id = tuple[int, int]


@dataclass(eq=False, slots=True)
class Waiter:
    """One who waits. stir: called when something has changed for it."""

    stream: bytes
    name: bytes
    seen: Id
    streams: tuple[bytes, ...]
    stir: Callable[[], None]
    told: bool = field(default=False)


class Board:
    """Who waits, who of them reads, and what was read. Does not wait itself."""

    def __init__(self) -> None:
        self.reader: Waiter | None = None
        self._waiters: dict[Waiter, None] = {}
        self._read: dict[bytes, Id] = {}

    def join(self, waiter: Waiter) -> bool:
        """Wait; False when there may have been word already."""
        if not self._waiters:
            self._read = dict.fromkeys(waiter.streams, waiter.seen)
        if waiter.seen < self._read.setdefault(waiter.stream, waiter.seen):
            return False
        self._waiters[waiter] = None
        if self.reader is None:
            self.reader = waiter
        return True

    def leave(self, waiter: Waiter) -> None:
        """Wait no more; if it was the reader, another one is."""
        self._waiters.pop(waiter, None)
        if self.reader is waiter:
            self.reader = next(iter(self._waiters), None)
            if self.reader is not None:
                self.reader.stir()

    def question(self, wait_s: float) -> Block:
        """What the reader is to ask."""
        block_ms = max(1, int(wait_s * 1000))
        ids = [f"{ms}-{seq}" for ms, seq in self._read.values()]
        return Block(("XREAD", "COUNT", COUNT, "BLOCK", block_ms, "STREAMS", *self._read, *ids), block_ms / 1000)

    def tell(self, reply: Iterable[Any] | None) -> None:
        """What was read: stir those whom it concerns."""
        for stream, rows in reply or ():
            names = {fields[1] for _, fields in rows}
            self._read[stream] = parse_id(rows[-1][0])
            for waiter in self._waiters:
                if waiter.stream == stream and waiter.name in names:
                    waiter.told = True
                    waiter.stir()


def parse_id(text: bytes) -> Id:
    """A stream's id as two numbers, which compare as ids do."""
    ms, _, seq = text.partition(b"-")
    return int(ms), int(seq)


class Notices:
    """For threads."""

    def __init__(self, executor: SyncExecutor) -> None:
        self._executor = executor
        self.forked()
        tell(self)

    def forked(self) -> None:
        """In a child process nobody waits yet, and a lock may have been held."""
        self._board, self._lock = Board(), threading.Lock()

    def wait(self, stream: bytes, seen: bytes, name: bytes, streams: tuple[bytes, ...], wait_s: float) -> None:
        """Return when there is word of `name`, when the time is over, or for no reason."""
        event = threading.Event()
        waiter = Waiter(stream, name, parse_id(seen), streams, event.set)
        board, deadline = self._board, monotonic() + wait_s
        with self._lock:
            if not board.join(waiter):
                return
        try:
            while not waiter.told and (left_s := deadline - monotonic()) > 0:
                if board.reader is not waiter:
                    event.wait(left_s)
                    event.clear()
                elif not self._read(board, left_s):
                    return
        finally:
            with self._lock:
                board.leave(waiter)

    def _read(self, board: Board, wait_s: float) -> bool:
        with self._lock:
            question = board.question(wait_s)
        try:
            reply = self._executor.block(question)
        except (Unavailable, ServerError):
            time.sleep(min(wait_s, PAUSE_S))
            return False
        with self._lock:
            board.tell(reply)
        return bool(reply)


class AsyncNotices:
    """For tasks; each event loop has a reader of its own."""

    def __init__(self, executor: AsyncExecutor) -> None:
        self._executor = executor
        self._boards: WeakKeyDictionary[asyncio.AbstractEventLoop, Board] = WeakKeyDictionary()

    async def wait(self, stream: bytes, seen: bytes, name: bytes, streams: tuple[bytes, ...], wait_s: float) -> None:
        """See Notices.wait."""
        event = asyncio.Event()
        waiter = Waiter(stream, name, parse_id(seen), streams, event.set)
        board = self._boards.setdefault(asyncio.get_running_loop(), Board())
        deadline = monotonic() + wait_s
        if not board.join(waiter):
            return
        try:
            while not waiter.told and (left_s := deadline - monotonic()) > 0:
                if board.reader is not waiter:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(left_s):
                            await event.wait()
                    event.clear()
                elif not await self._read(board, left_s):
                    return
        finally:
            board.leave(waiter)

    async def _read(self, board: Board, wait_s: float) -> bool:
        try:
            reply = await self._executor.block(board.question(wait_s))
        except (Unavailable, ServerError):
            await asyncio.sleep(min(wait_s, PAUSE_S))
            return False
        board.tell(reply)
        return bool(reply)
