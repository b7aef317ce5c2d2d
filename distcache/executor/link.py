"""One blocking connection: redis-py opens the socket, hiredis packs and parses, and the deadline is total."""

from __future__ import annotations

import select
from os import sched_yield
from time import monotonic
from typing import TYPE_CHECKING, Any

import hiredis
from redis.exceptions import RedisError

from distcache.executor.busy import BusyPoll
from distcache.executor.wire import MORE, Command, Lost, Refused, new_reader, pack, packed_call, unreachable

if TYPE_CHECKING:
    from distcache.executor.endpoint import Endpoint
    from distcache.op import Op

_BUFFER_BYTES = 65536
# A request of this size fits into an idle socket's buffer, so that sending it cannot wait.
_SMALL_BYTES = 16384


class Link:
    """A connection that is logged in. Used by one thread at a time; after a `Lost` it is closed for good.

    The socket's own timeout is `patience_s`, the executor's default, whenever nobody uses the link. So the usual call
    sets none.
    """

    __slots__ = ("_buffer", "_busy", "_connection", "_patience_s", "_poller", "_reader", "_sock")

    def __init__(self, endpoint: Endpoint, deadline: float, patience_s: float) -> None:
        """Connect and log in, or raise `Lost`."""
        self._patience_s = patience_s
        self._reader = new_reader()
        self._buffer = bytearray(_BUFFER_BYTES)
        self._poller = select.poll()
        self._busy = BusyPoll(min(endpoint.busy_poll_s, patience_s))
        self._connection = endpoint.connection(deadline)
        try:
            self._connection.connect()
            self._sock = self._connection._get_socket()  # noqa: SLF001 - redis-py has no public name for it
            self._poller.register(self._sock, select.POLLIN)
            self._log_in(endpoint, deadline)
        except RedisError as error:
            self.close()
            raise unreachable(error) from error
        except BaseException:
            self.close()
            raise

    def _log_in(self, endpoint: Endpoint, deadline: float) -> None:
        steps = endpoint.handshake()
        try:
            replies = self.exchange([command for command, _ in steps], deadline)
        except Lost as lost:
            lost.sent = False  # the login, but none of the caller's commands
            replies = list(lost.replies)
            check_login(replies, steps)
            raise
        check_login(replies, steps)

    def call(self, op: Op[Any], deadline: float, *, plain: bool) -> Any:
        """One script and its reply: the hot path. Raises `Lost`."""
        packed = packed_call((op,), plain=plain)
        if len(packed) > _SMALL_BYTES:
            return self.exchange([packed], deadline)[0]
        reader = self._reader
        sent = False
        try:
            self._sock.sendall(packed)
            sent = True
            if self._busy.begins() and not self._comes_soon():
                return self._finish(1, [], -1, deadline)[0]
            size = self._sock.recv_into(self._buffer)
            reader.feed(self._buffer, 0, size)
            reply = reader.gets()
        except (OSError, hiredis.ProtocolError) as error:
            raise self._lost(error, [], sent=sent) from error
        if reply is not MORE:
            return reply
        return self._finish(1, [], size, deadline)[0]

    def _comes_soon(self) -> bool:
        """Look for the reply, awake; False when it is time to sleep until it comes."""
        poll, busy = self._poller.poll, self._busy
        while True:
            sched_yield()
            found = poll(0)
            if not busy.goes_on() or found:
                return bool(found)

    def exchange(self, commands: list[Command], deadline: float) -> list[Any]:
        """Several commands in one write, and all their replies. Raises `Lost`, with the replies that came."""
        packed = b"".join(map(pack, commands))
        sent = False
        try:
            self._wait_at_most(deadline)
            sent = len(commands) > 1
            self._sock.sendall(packed)
        except OSError as error:  # the last command is not complete, but those before it may be
            raise self._lost(error, [], sent=sent) from error
        return self._finish(len(commands), [], -1, deadline)

    def _finish(self, count: int, replies: list[Any], size: int, deadline: float) -> list[Any]:
        """Read until `count` replies are there; `size` bytes were read just now, 0 meaning the end."""
        reader, buffer = self._reader, self._buffer
        try:
            while True:
                while (reply := reader.gets()) is not MORE:
                    replies.append(reply)
                if len(replies) >= count:
                    break
                if size == 0:
                    raise ConnectionResetError
                self._wait_at_most(deadline)
                size = self._sock.recv_into(buffer)
                reader.feed(buffer, 0, size)
            self._sock.settimeout(self._patience_s)
        except (OSError, hiredis.ProtocolError) as error:
            raise self._lost(error, replies, sent=True) from error
        return replies

    def _wait_at_most(self, deadline: float) -> None:
        left = deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _lost(self, error: Exception, replies: list[Any], *, sent: bool) -> Lost:
        self.close()
        if isinstance(error, TimeoutError):
            return Lost("did not answer in time", sent=sent, late=True, replies=replies)
        return Lost("closed the connection", sent=sent, replies=replies)

    def stale(self) -> bool:
        """Whether the server has closed this idle connection, as far as this machine knows already."""
        return bool(self._poller.poll(0))

    def close(self) -> None:
        """Close the socket; in a forked child only the child's copy, without a word to the server."""
        self._connection.disconnect()


def check_login(replies: list[Any], steps: list[tuple[Command, bool]]) -> None:
    """Raise `Lost` with the first refusal that matters."""
    for reply, (_, needed) in zip(replies, steps, strict=False):
        if type(reply) is Refused and (
            needed or reply.code not in {"ERR", "NOPERM", "NOAUTH"} or "max number" in reply.text
        ):
            raise Lost(f"refused the connection ({reply.code})", sent=False, refused=reply)
