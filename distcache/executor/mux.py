"""One asyncio connection that many callers share: one write and one read carry whatever is asked at the same time.

Bytes are gathered and written once per turn of the loop (at once for a caller who is alone, as the last one was).
Replies are handed out first in, first out. A caller who has gone (cancelled, or past its deadline) keeps its place in
that line, so its late reply reaches nobody. One timer per connection watches all deadlines.

When the caller at the head is past its deadline, the question is whether only its request is slow or the connection is
dead. It is dead when no byte has come for `patience_s`, or no whole reply for as long again (a server, or a thing
between, that drips). Then it is dropped, and the callers behind may try again on another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import chain
from os import sched_yield
from time import monotonic
from typing import TYPE_CHECKING, Any

import hiredis

from distcache.executor.busy import BusyPoll
from distcache.executor.link import check_login
from distcache.executor.wire import (
    MORE,
    MOST_ROWS,
    Answer,
    Command,
    Lost,
    Refused,
    items,
    new_reader,
    pack,
    packed_call,
    packed_row,
    packed_rows,
    unreachable,
)
from distcache.op import Row

if TYPE_CHECKING:
    from distcache.executor.endpoint import Endpoint
    from distcache.op import Op
    from distcache.script import Start

_MAX_COMMANDS = 4096
_MAX_BYTES = 16 * 1024 * 1024
_NEVER = float("inf")
# Of more callers there is nearly always one whose reply wakes the loop for the others, too.
_FEW = 4


class _Waiter:
    """A request in the line: `count` replies from now, `future` gets them all, or the `Lost` that stands for them.

    sharers: of the first of several that share a call, all of them; its reply has an item for each.
    """

    __slots__ = ("began", "count", "deadline", "future", "replies", "sharers", "size")

    def __init__(self, future: asyncio.Future[Answer], count: int, size: int, began: float, deadline: float) -> None:
        self.future = future
        self.count = count
        self.size = size
        self.began = began
        self.deadline = deadline
        self.replies: list[Any] = []
        self.sharers: list[_Waiter] | None = None


class _Growing:
    """A call that is not sent yet, to which rows may be added, and who waits for them."""

    __slots__ = ("plain", "rows", "start", "waiters")

    def __init__(self, start: Start, *, plain: bool) -> None:
        self.start = start
        self.plain = plain
        self.rows: list[bytes] = []
        self.waiters: list[_Waiter] = []

    def packed(self) -> bytes:
        return packed_rows(self.start, self.rows, plain=self.plain)


class Mux(asyncio.Protocol):
    """A connection of one loop. `usable`: logged in, and neither lost nor retired."""

    def __init__(self, loop: asyncio.AbstractEventLoop, patience_s: float, busy_poll_s: float) -> None:
        self.usable = False
        self.in_flight = 0
        self._retired = False
        self._loop = loop
        self._patience_s = patience_s
        self._transport: Any = None
        self._busy = BusyPoll(busy_poll_s)
        self._awake = False
        self._alone = False
        self._short = False  # few wait, and each for one reply: several take longer than a look
        self._reader = new_reader()
        self._waiting: deque[_Waiter] = deque()
        self._unsent: list[bytes | _Growing] = []  # of the last so many in the line
        self._growing: dict[int, _Growing] = {}  # of the unsent, by what rows begin with
        self._bytes = 0
        self._last_read = 0.0
        self._alarm_at = _NEVER
        self._alarm: asyncio.TimerHandle | None = None
        self._blocked: deque[asyncio.Future[None]] = deque()
        self._closed: asyncio.Future[None] = loop.create_future()

    # what callers do

    @property
    def full(self) -> bool:
        """Whether one more caller has to wait, so that memory stays bounded."""
        return self.in_flight >= _MAX_COMMANDS or self._bytes >= _MAX_BYTES or bool(self._blocked)

    def enqueue(self, op: Op[Any], began: float, deadline: float, *, plain: bool) -> asyncio.Future[Answer]:
        """Queue one script; the future never holds an exception. Rows of one turn of the loop share a call."""
        if type(op) is Row:
            future = self._join(op, began, deadline, plain=plain)
        else:
            future = self._queue(packed_call((op,), plain=plain), 1, began, deadline)
        if self._alone and self.in_flight == 1:
            self._flush()
        return future

    def _join(self, op: Row[Any], began: float, deadline: float, *, plain: bool) -> asyncio.Future[Answer]:
        """Add a row to the call that grows, or begin one."""
        row, growing = packed_row(op), self._growing.get(id(op.start))
        waiter = self._wait(1, len(row), began, deadline)
        if growing is None:
            growing = self._growing[id(op.start)] = _Growing(op.start, plain=plain)
            self._put_off(growing, waiter)
            waiter.sharers = growing.waiters
        growing.rows.append(row)
        growing.waiters.append(waiter)
        if len(growing.rows) == MOST_ROWS:  # the server can begin
            self._flush()
        return waiter.future

    def submit(self, commands: list[Command], began: float, deadline: float) -> asyncio.Future[Answer]:
        """Queue commands that are answered together.

        They are sent at the end of the loop's turn, also those of a lone caller: it may show that the connection is
        closed, and what was sent cannot always be sent again.
        """
        return self._queue(b"".join(map(pack, commands)), len(commands), began, deadline)

    def _queue(self, packed: bytes, count: int, began: float, deadline: float) -> asyncio.Future[Answer]:
        waiter = self._wait(count, len(packed), began, deadline)
        self._put_off(packed, waiter)
        self._growing.clear()
        return waiter.future

    def _put_off(self, packed: bytes | _Growing, waiter: _Waiter) -> None:
        """To be sent at the end of this turn of the loop."""
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(packed)
        self._waiting.append(waiter)

    def _wait(self, count: int, size: int, began: float, deadline: float) -> _Waiter:
        waiter = _Waiter(self._loop.create_future(), count, size, began, deadline)
        self.in_flight += count
        self._bytes += size
        if deadline < self._alarm_at:
            self._set_alarm(deadline)
        return waiter

    async def room(self, deadline: float) -> None:
        """Wait in line until there is room; raises `Lost` at the deadline."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._blocked.append(future)
        try:
            async with asyncio.timeout(deadline - monotonic()):
                await future
        except TimeoutError:
            raise Lost("is too slow for so many requests", sent=False, late=True) from None
        except asyncio.CancelledError:  # perhaps just let in: the place is another's
            self._admit()
            raise

    def retire(self) -> None:
        """Take no new request, and close when the last reply is there."""
        self.usable, self._retired = False, True
        if not self._waiting:
            self.drop("closed the connection")

    def drop(self, reason: str) -> None:
        """Close at once; whoever still waits learns that the connection is lost."""
        self.usable = False
        unsent, self._unsent = len(self._unsent), []
        self._growing.clear()
        waiting, self._waiting = self._waiting, deque()
        for place, first in enumerate(waiting):
            for waiter in first.sharers or (first,):
                if not waiter.future.done():
                    sent = place < len(waiting) - unsent
                    waiter.future.set_result(Lost(reason, sent=sent, replies=waiter.replies))
        self.in_flight = self._bytes = 0
        if self._alarm is not None:
            self._alarm.cancel()
        self._admit()
        if self._transport is not None:
            self._transport.abort()

    async def leave(self) -> None:
        """Close, and return when the server knows: it executes nothing of this connection's any more.

        A server that is silent for `patience_s` is not waited for any longer.
        """
        self.usable, self._unsent = False, []
        self._growing.clear()
        try:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            else:  # TLS, which says goodbye by itself
                self._transport.close()
            await asyncio.wait([self._closed], timeout=self._patience_s)
        finally:
            self.drop("closed the connection")

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio.Protocol: connected, TLS included."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio.Protocol: closed, by whichever side."""
        if not self._closed.done():
            self._closed.set_result(None)
        self.drop("closed the connection")

    def data_received(self, data: bytes) -> None:
        """asyncio.Protocol: hand out what is complete."""
        self._last_read = monotonic()
        gets, moved = self._reader.gets, False
        try:
            self._reader.feed(data)
            while (reply := gets()) is not MORE:
                waiter = self._waiting[0]
                if type(reply) is Refused and reply.moved:
                    moved = True
                if waiter.sharers is None:
                    waiter.replies.append(reply)
                else:
                    for one, item in zip(waiter.sharers, items(reply, len(waiter.sharers)), strict=True):
                        one.replies.append(item)
                if len(waiter.replies) == waiter.count:
                    self._finish(waiter)
        except (hiredis.ProtocolError, IndexError):
            self.drop("answered something that is not the Redis protocol")
            return
        if moved or self._retired:
            self.retire()
        if self._blocked:
            self._admit()

    def _finish(self, waiter: _Waiter) -> None:
        self._waiting.popleft()
        for one in waiter.sharers or (waiter,):
            self.in_flight -= one.count
            self._bytes -= one.size
            if not one.future.done():
                one.future.set_result(one.replies)

    def _flush(self) -> None:
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._growing.clear()
            if not self._waiting:  # answered before it was asked: the connection is refused
                return
            self._alone = self.in_flight == self._waiting[0].count
            self._short = self.in_flight <= _FEW and all(waiter.count == 1 for waiter in self._waiting)
            packed = [one.packed() if isinstance(one, _Growing) else one for one in unsent]
            self._transport.write(packed[0] if len(packed) == 1 else b"".join(packed))
            if self._short and self._busy.begins() and not self._awake:
                self._awake = True
                self._loop.call_soon(self._stay_awake)

    def _stay_awake(self) -> None:
        """Keep the loop turning while few callers wait: a loop that has something to do does not sleep."""
        self._awake = self._short and bool(self._waiting) and self._busy.goes_on()
        if self._awake:
            sched_yield()
            self._loop.call_soon(self._stay_awake)

    def _admit(self) -> None:
        """Let those in who wait for room, as many as there is room for; all of them when the connection is gone."""
        room = len(self._blocked)
        if self.usable:
            room = _MAX_COMMANDS - self.in_flight if self._bytes < _MAX_BYTES else 0
        while self._blocked and (room > 0 or self._blocked[0].done()):
            future = self._blocked.popleft()
            if not future.done():
                future.set_result(None)
                room -= 1

    # deadlines

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_later(at - monotonic(), self._ring)

    def _ring(self) -> None:
        """Some deadline has come: fail those who are late, and judge the connection by the head of the line."""
        now = monotonic()
        self._alarm, self._alarm_at = None, _NEVER
        following = _NEVER
        for waiter in chain.from_iterable(first.sharers or (first,) for first in self._waiting):
            if waiter.future.done():
                continue
            if waiter.deadline <= now:
                waiter.future.set_result(Lost("did not answer in time", sent=True, late=True, replies=waiter.replies))
            else:
                following = min(following, waiter.deadline)
        if self._waiting:
            head = self._waiting[0]
            dead_at = min(max(head.began, self._last_read), head.deadline) + self._patience_s
            dead_at = max(dead_at, head.deadline)
            if dead_at <= now:
                self.drop("stopped answering")
                return
            following = min(following, dead_at)
        if following < _NEVER:
            self._set_alarm(following)


async def connect(endpoint: Endpoint, deadline: float, patience_s: float, busy_poll_s: float) -> Mux:
    """A connection that is logged in; raises `Lost`."""
    loop = asyncio.get_running_loop()
    mux = Mux(loop, patience_s, busy_poll_s)
    try:
        async with asyncio.timeout(deadline - monotonic()):
            await endpoint.open(loop, lambda: mux)
        await _log_in(mux, endpoint, deadline)
    except TimeoutError as error:
        raise Lost("cannot be reached (timed out)", sent=False) from error
    except OSError as error:
        raise unreachable(error) from error
    finally:
        if not mux.usable:
            mux.drop("closed the connection")
    return mux


async def _log_in(mux: Mux, endpoint: Endpoint, deadline: float) -> None:
    steps = endpoint.handshake()
    answer = await mux.submit([command for command, _ in steps], monotonic(), deadline)
    check_login(list(answer.replies) if isinstance(answer, Lost) else answer, steps)
    if isinstance(answer, Lost):
        answer.sent = False
        raise answer
    mux.usable = True
