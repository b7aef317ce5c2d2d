"""The embedded server: one private Valkey or Redis a directory, shared by all processes of the machine that name it.

A process that attaches holds a lease, which is a kernel lock and so ends with the process, however it ends.
`keeper.py` starts the server and stops it when the last lease is gone; its first lines describe the locks.

A forked child inherits its parent's attachments together with the locked descriptors, so it is a user in its own
right: the kernel releases the lock when the last copy is closed, and a copy is closed by `detach()` or by the end of
its process. No copy is ever unlocked, since that would release the lease for the others too.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import logging
import os
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Self

from distcache.engine import keeper
from distcache.engine.locate import client_path, find_python, find_server, server_directory
from distcache.errors import EngineError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

START_S = 10.0  # for a server to answer
LOADING_S = 60.0  # for a server that says it is loading its data
PING_S = 0.5
PAUSE_S = (0.003, 0.05)
LINGER_S = 1.5
START_TRIES = 3
RETRY_S = (0.5, 30.0)  # after a failed start the next attempt waits this long, doubling up to the second

_log = logging.getLogger("distcache")
_registry: dict[tuple[int, int], _Lease] = {}
_guard = threading.RLock()  # over the registry, and over every moment when a descriptor that must not leak is open


class _State(enum.Enum):
    READY = enum.auto()
    LOADING = enum.auto()
    SILENT = enum.auto()  # it listens and does not answer
    ABSENT = enum.auto()
    STOPPING = enum.auto()  # its last user left, and it is too late to keep it


class EmbeddedServer:
    """One user's hold on the server of a directory; the server runs at least until `detach()`."""

    def __init__(self, lease: _Lease) -> None:
        self._lease: _Lease | None = lease
        self.directory = lease.server.parent
        self.socket_path = lease.socket_path

    @classmethod
    def attach(cls, directory: str | os.PathLike[str], *, linger_s: float = LINGER_S) -> Self:
        """Hold the directory's server, started if need be, and return when it answers.

        `linger_s` is how long the server outlives its last user; the user who starts it decides. Raises EngineError.
        """
        lease = _take(directory, linger_s)
        attached = cls(lease)
        try:
            lease.wait_until_ready()
        except BaseException:
            attached.detach()
            raise
        return attached

    def ensure_running(self, wait_s: float = START_S) -> bool:
        """Start the server again if it is gone; True when it answers, after at most `wait_s` seconds.

        For the moment when a connection failed: it costs a PING when the server runs, and after a failed start
        nothing for a while. Raises nothing; a failure to start is logged.
        """
        return self._lease is not None and self._lease.ensure(wait_s)

    def detach(self) -> None:
        """Let the server go; it stops when its last user has left. A second call does nothing."""
        with _guard:
            lease, self._lease = self._lease, None
            if lease is not None:
                lease.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()


def _take(directory: str | os.PathLike[str], linger_s: float) -> _Lease:
    """This process's lease on the directory: one, however many attachments share it."""
    with _guard:
        try:
            server = server_directory(directory)
            lease = _registry.get(_identity(server)) or _Lease(server, linger_s)
        except OSError as error:
            raise _unusable(directory, error) from error
        lease.users += 1
        return lease


def _identity(server: Path) -> tuple[int, int]:
    """What tells a directory from another one made later under the same name."""
    found = server.stat()
    return found.st_dev, found.st_ino


def _unusable(directory: str | os.PathLike[str], error: OSError) -> EngineError:
    return EngineError(f"cannot run the embedded server in {os.fspath(directory)!r}: {error.strerror or error}")


class _Lease:
    """What a process knows of one directory's server.

    `busy` is held while a thread waits for the server, `_guard` for moments only.
    """

    def __init__(self, server: Path, linger_s: float) -> None:
        self.server = server
        self.linger_s = linger_s
        self.users = 0
        self.busy = threading.Lock()
        self.starts = 0  # since the server last answered
        self.failures = 0
        self.not_before = 0.0
        self._open()

    def _open(self) -> None:
        self.socket_path = client_path(self.server)
        self.key = _identity(self.server)
        self.fd = keeper.open_lock(str(self.server / keeper.LEASE))
        self.locked = False
        _registry.setdefault(self.key, self)

    def _close(self) -> None:
        os.close(self.fd)
        if _registry.get(self.key) is self:
            del _registry[self.key]

    def release(self) -> None:
        """Count one user less; the last one gives a server whose keeper was killed a new one, and closes the lease."""
        self.users -= 1
        if self.users == 0:
            with contextlib.suppress(EngineError, OSError):
                if self._state(PING_S) is not _State.ABSENT:
                    self._start_keeper(adopt=True)
            self._close()

    def _follow(self) -> None:
        """Hold the directory that has the name now, if the one we held was deleted."""
        with _guard:
            server = server_directory(self.server.parent)
            if _identity(server) != self.key:
                self._close()
                self._open()
            client_path(server)

    def wait_until_ready(self) -> None:
        """Return when the server answers; raises EngineError."""
        with self.busy:
            try:
                ready = self._bring_up(START_S, LOADING_S)
            except OSError as error:
                raise _unusable(self.server, error) from error
        if not ready:
            raise EngineError(f"the embedded server in {str(self.server)!r} does not answer: {self._last_words()}")

    def ensure(self, wait_s: float) -> bool:
        """Bring the server up within the time, unless that failed a moment ago."""
        if not self.busy.acquire(timeout=wait_s):
            return False
        try:
            return time.monotonic() >= self.not_before and self._bring_up(wait_s, wait_s)
        except (EngineError, OSError) as error:
            self.not_before = time.monotonic() + min(RETRY_S[0] * 2**self.failures, RETRY_S[1])
            self.failures += 1
            self.starts = START_TRIES - 1
            _log.warning("%s", error)
            return False
        finally:
            self.busy.release()

    def _bring_up(self, wait_s: float, loading_s: float) -> bool:
        """Wait until the server answers, and start it whenever neither it nor its keeper is there."""
        began = time.monotonic()
        aside = None
        limit_s = wait_s
        self._follow()
        while True:
            waited_s = time.monotonic() - began
            state = self._state(max(0.01, min(PING_S, limit_s - waited_s))) if self._lock() else _State.STOPPING
            if state is _State.READY:
                self._settle(aside)
                return True
            if state is _State.ABSENT:
                aside = self._set_aside() if aside is None else aside
                self._start_keeper()
            elif state in (_State.LOADING, _State.STOPPING):
                limit_s = loading_s
            if waited_s > limit_s:
                return False
            time.sleep(min(PAUSE_S[0] + waited_s / 10, PAUSE_S[1]))

    def _lock(self) -> bool:
        """Hold the lease, which is not possible for a moment while a server whose last user left is stopping."""
        if not self.locked and keeper.try_lock(self.fd, fcntl.LOCK_SH):
            self.locked = True
            os.utime(self.fd)  # the linger starts anew
        return self.locked

    def _state(self, timeout_s: float) -> _State:
        reply = keeper.ask(self.socket_path, b"PING", timeout_s)
        if reply is None:
            return _State.ABSENT
        if not reply:
            return _State.SILENT
        return _State.LOADING if reply.startswith(b"-LOADING") else _State.READY

    def _settle(self, aside: set[str] | None) -> None:
        """The server answers: give it a keeper should its own be dead, and say so if it lost its data."""
        self.starts = self.failures = 0
        self._start_keeper(adopt=True)
        if aside is not None and (new := self._set_aside() - aside):
            _log.warning(
                "the embedded server could not read its data and started empty; the data is kept as %s in %r",
                min(new),
                str(self.server),
            )

    def _set_aside(self) -> set[str]:
        return set(keeper.aside(str(self.server)))

    def _start_keeper(self, *, adopt: bool = False) -> None:
        """Start a keeper if there is none; `adopt` says that a server runs, so that this is no try to start one."""
        with _guard:
            lock = keeper.open_lock(str(self.server / keeper.KEEPER))
            try:
                if not keeper.try_lock(lock, fcntl.LOCK_EX):
                    return
                if not adopt and self.starts >= START_TRIES:
                    raise EngineError(
                        f"the embedded server in {str(self.server)!r} does not start: {self._last_words()}"
                    )
                self.starts += not adopt
                self._spawn(lock)
            finally:
                os.close(lock)

    def _spawn(self, lock: int) -> None:
        """Run the keeper, in a session of its own and with none of our streams, and hand it the lock."""
        program = [find_python(), "-I", "-S", keeper.__file__, str(lock), str(self.linger_s), find_server()]
        try:
            with (self.server / keeper.LOG).open("ab") as log:
                subprocess.run(  # noqa: S603 - our own program; it forks, and this first process ends at once
                    program,
                    cwd=self.server,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(lock,),
                    start_new_session=True,
                    check=False,
                )
        except OSError as error:
            raise EngineError(f"cannot start the embedded server in {str(self.server)!r}: {error.strerror}") from error

    def _last_words(self) -> str:
        """The end of the server's log, in one line."""
        with contextlib.suppress(OSError), (self.server / keeper.LOG).open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
            lines = log.read().decode(errors="replace").splitlines()
            return " | ".join(line.strip() for line in lines[-5:]) or "its log is empty"
        return "it has no log"


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held a lock that nobody here would ever release."""
    for lease in _registry.values():
        lease.busy = threading.Lock()
    _guard.release()


os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_after_fork_in_child)
