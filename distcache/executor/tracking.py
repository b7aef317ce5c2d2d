"""The connection on which the server reports changes to a near cache: a daemon thread's, or a task's.

`Session` knows what is said on it and does no I/O; `Tracking` and `AsyncTracking` keep one session alive at a time.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import finalize

import hiredis
from redis.exceptions import RedisError

from distcache.executor.failures import passing
from distcache.executor.fork import tell
from distcache.executor.link import check_login
from distcache.executor.periodic import AsyncPeriodic, Periodic, cancel
from distcache.executor.retry import backoff_s
from distcache.executor.wire import MORE, Lost, Refused, new_reader, pack, unreachable
from distcache.near import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.executor.endpoint import Endpoint
    from distcache.near import Near

PING_S = 0.5
"""Time between two questions whether the server is still there."""
REPORT_S = 1.0
"""How often uses are sent to the server if no other call takes them along."""
CONNECT_S = 1.0
_SLOWEST = 6
_PROTOCOL = 3
_PING: bytes = pack((b"PING",))

_log = logging.getLogger("distcache")


class Session:
    """One connection from its greeting to its end. The reports go to `near`, which this object is the source of."""

    def __init__(self, near: Near[Any], endpoint: Endpoint) -> None:
        self._near = near
        self._prefixes = near.prefixes
        words = [word for prefix in self._prefixes for word in (b"PREFIX", prefix)]
        tracking = (b"CLIENT", b"TRACKING", b"ON", b"BCAST", *words)
        self._steps = [*endpoint.handshake(_PROTOCOL), (tracking, True)]
        self._answers: list[Any] = []
        self._reader = new_reader()
        self._asked_at: float | None = monotonic()
        self._last_at = self._asked_at
        self.confirmed = False

    @property
    def greeting(self) -> bytes:
        """What is sent first: the login, and the wish for reports."""
        return b"".join(pack(command) for command, _needed in self._steps)

    def feed(self, data: bytes) -> None:
        """Take in what was read; raises `Lost`, with `refused` when this server will never do it."""
        if not data:
            raise Lost("closed the connection", sent=True)
        try:
            self._reader.feed(data)
            while (item := self._reader.gets()) is not MORE:
                if isinstance(item, hiredis.PushNotification):
                    if item[0] == b"invalidate":
                        self._near.changed(self, item[1])
                else:
                    self._answered(item)
        except hiredis.ProtocolError as error:
            raise Lost("answered something that is not the Redis protocol", sent=True) from error

    def _answered(self, item: Any) -> None:
        if not self.confirmed:
            self._answers.append(item)
            check_login(self._answers[-1:], self._steps[len(self._answers) - 1 :][:1])
            if len(self._answers) < len(self._steps):
                return
            self._near.confirmed(self)
            self.confirmed = True
        if type(item) is Refused:
            raise Lost(f"does not answer a PING ({item.code})", sent=True)
        if self._asked_at is not None:
            self._near.heard(self, self._asked_at)
            self._asked_at = None

    def turn(self) -> bytes:
        """What is to be sent now, if anything; raises `Lost` when the server was silent for too long."""
        now = monotonic()
        if self._near.prefixes != self._prefixes:
            raise Lost("reports other keys than are wanted now", sent=True)
        if self._asked_at is None and now >= self._last_at + PING_S:
            self._asked_at = self._last_at = now
            return _PING
        if self._asked_at is not None and now >= self._asked_at + LEASE_S:
            raise Lost("stopped answering", sent=True, late=True)
        return b""

    @property
    def wait_s(self) -> float:
        """Until when nothing is to be sent."""
        return max(0.01, self._last_at + PING_S - monotonic()) if self._asked_at is None else PING_S

    def end(self) -> None:
        """It reports nothing any more."""
        self._near.lost(self)


class Tracking:
    """Keeps a session alive in a daemon thread, which keeps neither this object nor the program alive."""

    def __init__(self, near: Near[Any], endpoint: Endpoint) -> None:
        """Nothing is connected before `start`."""
        self._near = near
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._thread: _Thread | None = None
        self._finalizer: Any = None
        self._reports = Periodic()
        tell(self)

    def start(self, report: Callable[[], object]) -> None:
        """See to it that the thread runs, and that the bound method `report` is called now and then."""
        if self._thread is None and self._near.prefixes:
            with self._lock:
                if self._thread is None:
                    self._thread = thread = _Thread(self._near, self._endpoint)
                    self._finalizer = finalize(self, thread.leave)
                    self._reports.start(report, REPORT_S)
                    thread.start()

    def stop(self) -> None:
        """End the thread and empty the near cache; `start` starts anew."""
        with self._lock:
            if self._thread is None:
                return
            thread, self._thread = self._thread, None
            reports, self._reports = self._reports, Periodic()
            self._finalizer.detach()
        thread.leave()
        thread.silence()
        reports.end()

    def forked(self) -> None:
        """In a child process: the thread and its connection are the parent's."""
        self._near.forked()
        self._lock = threading.Lock()
        self._thread, self._reports = None, Periodic()
        if self._finalizer is not None:
            self._finalizer.detach()


class _Thread(threading.Thread):
    def __init__(self, near: Near[Any], endpoint: Endpoint) -> None:
        super().__init__(name="distcache-near", daemon=True)
        self._near = near
        self._endpoint = endpoint
        self._ended = threading.Event()
        self._session: Session | None = None
        self._sock: Any = None

    def leave(self) -> None:
        """End it soon. Takes no lock: the garbage collector may call this anywhere."""
        self._ended.set()
        if sock := self._sock:
            with suppress(OSError):  # the thread itself closes it: until then its number is not another's
                sock.shutdown(socket.SHUT_RDWR)

    def silence(self) -> None:
        """From now on, nothing that it reported is believed."""
        if session := self._session:
            session.end()

    def run(self) -> None:
        """Connect, listen, and connect again."""
        failures = 0
        while not self._ended.is_set():
            self._session = session = Session(self._near, self._endpoint)
            try:
                self._listen(session)
            except Lost as lost:
                if hopeless(lost, self._endpoint):
                    return
                failures = 0 if session.confirmed else min(failures + 1, _SLOWEST)
            finally:
                session.end()
            self._ended.wait(backoff_s(failures))

    def _listen(self, session: Session) -> None:
        if self._endpoint.kind == "fakeredis":
            raise untracked()
        connection = self._endpoint.connection(monotonic() + CONNECT_S)
        try:
            connection.connect()
            self._sock = sock = connection._get_socket()  # noqa: SLF001 - redis-py has no public name for it
            sock.sendall(session.greeting)
            while not self._ended.is_set():
                sock.settimeout(session.wait_s)
                with suppress(TimeoutError):
                    session.feed(sock.recv(65536))
                if question := session.turn():
                    sock.sendall(question)
        except RedisError as error:
            raise unreachable(error) from error
        except OSError as error:
            raise Lost("closed the connection", sent=True) from error
        finally:
            self._sock = None
            connection.disconnect()


class AsyncTracking:
    """Keeps a session alive in a task of the loop that asked first; the copies are for all loops."""

    def __init__(self, near: Near[Any], endpoint: Endpoint) -> None:
        """Nothing is connected before `start`."""
        self._near = near
        self._endpoint = endpoint
        self._task: asyncio.Task[None] | None = None
        self._finalizer: Any = None
        self._reports = AsyncPeriodic()
        tell(self)

    async def start(self, report: Callable[[], Awaitable[object]]) -> None:
        """See to it that the task runs, and that the bound method `report` is awaited now and then."""
        if self._near.prefixes and not _serves(self._task):
            if self._finalizer is not None:
                self._finalizer()
            task = self._task = asyncio.create_task(_keep(self._near, self._endpoint), name="distcache-near")
            self._finalizer = finalize(self, cancel, task)
            await self._reports.start(report, REPORT_S)

    async def stop(self) -> None:
        """End the task and empty the near cache; `start` starts anew."""
        task, self._task = self._task, None
        if task is not None:
            self._finalizer()
        await self._reports.stop()
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])

    def forked(self) -> None:
        """In a child process: the task's loop is the parent's."""
        self._near.forked()
        self._task, self._reports = None, AsyncPeriodic()
        if self._finalizer is not None:
            self._finalizer.detach()


class _Protocol(asyncio.Protocol):
    """Passes what is read to the session at once; `lost` tells how it ended."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.transport: Any = None
        self.lost: asyncio.Future[Lost] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._session.greeting)

    def data_received(self, data: bytes) -> None:
        try:
            self._session.feed(data)
        except Lost as lost:
            self._end(lost)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._end(Lost("closed the connection", sent=True))

    def _end(self, lost: Lost) -> None:
        self._session.end()
        if not self.lost.done():
            self.lost.set_result(lost)


async def _keep(near: Near[Any], endpoint: Endpoint) -> None:
    failures = 0
    while True:
        session = Session(near, endpoint)
        try:
            lost = await _listen(session, endpoint)
        finally:
            session.end()
        if hopeless(lost, endpoint):
            return
        failures = 0 if session.confirmed else min(failures + 1, _SLOWEST)
        await asyncio.sleep(backoff_s(failures))


async def _listen(session: Session, endpoint: Endpoint) -> Lost:
    if endpoint.kind == "fakeredis":
        return untracked()
    protocol = _Protocol(session)
    try:
        async with asyncio.timeout(CONNECT_S):
            await endpoint.open(asyncio.get_running_loop(), lambda: protocol)
        while True:
            await asyncio.wait([protocol.lost], timeout=session.wait_s)
            if protocol.lost.done():
                return protocol.lost.result()
            if question := session.turn():
                protocol.transport.write(question)
    except TimeoutError:
        return Lost("cannot be reached (timed out)", sent=False)
    except OSError as error:
        return unreachable(error)
    except Lost as lost:
        return lost
    finally:
        if protocol.transport is not None:
            protocol.transport.abort()


def _serves(task: asyncio.Task[None] | None) -> bool:
    """Whether the task runs, or has ended for good, in a loop that still turns."""
    if task is None or task.cancelled() or task.get_loop().is_closed():
        return False
    loop = task.get_loop()
    return loop is asyncio.get_running_loop() or loop.is_running()


def untracked() -> Lost:
    """What fakeredis would say."""
    return Lost("cannot report changes", sent=False, refused=Refused("ERR unknown subcommand"))


def hopeless(lost: Lost, endpoint: Endpoint) -> bool:
    """Whether this server will never do it; then the log says so, once."""
    if lost.refused is None or passing(lost.refused):
        return False
    _log.warning(
        "the near cache is off: the server at %s reports no changes to this client (%s); Redis 7.0 or Valkey 8 is "
        "needed, and permission for HELLO, PING and CLIENT|TRACKING",
        endpoint.label,
        lost.refused.code,
    )
    return True
