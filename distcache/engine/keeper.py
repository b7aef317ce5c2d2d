"""The process that starts one embedded server, waits until nobody uses it any more, and stops it.

`embedded.py` runs this file by its path (`python -I -S keeper.py`): it needs the standard library only, so it is up
in some 20 ms. The working directory is the server's directory; every name below is relative to it, so even a
directory that was moved or deleted meanwhile is never confused with its successor.

Who is alive is known from three `flock`ed files and never from process ids, since the kernel releases a lock however
its holder ended:

- `lease.lock`: each user holds it shared. The keeper waits for it exclusively: granted means that nobody is left.
  It gives it back for the linger (short commands in a row share one server), takes it again, and keeps it while the
  server stops. A user who arrives then waits for its shared lock, and so never meets a server about to vanish.
- `keeper.lock`: held by the keeper. A user who can take it starts a keeper and hands the locked descriptor over, so
  there is one keeper however many users arrive together, and a starter that dies half-way blocks nobody.
- `server.lock`: inherited by the server process itself. Free means that no server runs on the data. Taken, and the
  keeper new, means that an earlier keeper was killed: the server is adopted as it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time

LEASE, KEEPER, SERVER = "lease.lock", "keeper.lock", "server.lock"
SOCKET, LOG, DATA = "socket", "server.log", "appendonlydir"
LOG_LIMIT_BYTES = 4 * 1024 * 1024
STOP_S = 5.0  # then it is killed, which loses nothing that it wrote; only what it did not is lost

# A hash of few fields is one allocation, though it holds a value (docs/decisions/0020-listpacks.md). The number of
# fields keeps the large hashes, which are searched, tables.
LISTPACKS = {"hash-max-listpack-entries": "16", "hash-max-listpack-value": "4096"}

OPTIONS = {
    "port": "0",
    "unixsocket": SOCKET,
    "unixsocketperm": "700",
    "daemonize": "no",
    "databases": "1",
    "maxmemory": "0",  # the bound is the cache's config, kept by its scripts
    "maxmemory-policy": "noeviction",
    "save": "",
    "appendonly": "yes",
    "appenddirname": DATA,
    "appendfsync": "everysec",
    "aof-load-truncated": "yes",
    "aof-use-rdb-preamble": "yes",
    "auto-aof-rewrite-percentage": "100",
    "auto-aof-rewrite-min-size": "32mb",
    "enable-debug-command": "no",
    "enable-module-command": "no",
    "enable-protected-configs": "no",
    **LISTPACKS,
}

# What Redis 7 and Valkey 9 log (lower case) when they refuse the data: damaged, incomplete, or of a newer format.
UNREADABLE = (
    "bad file format reading the append only file",
    "internal error in rdb reading",
    "aof manifest",
    "unable to obtain the aof file",
    "wrong signature trying to load",
    "can't handle rdb format",
    "bug report start",  # it crashed while loading
)
READY = "ready to accept connections"
# The same failures with one of these are the machine's, not the data's.
MACHINE = ("no space left", "permission denied", "cannot allocate memory", "too many open files", "input/output error")


def try_lock(fd: int, mode: int) -> bool:
    """Take the lock on an open file if that is possible at once."""
    try:
        fcntl.flock(fd, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_lock(path: str) -> int:
    """Open a lock file, created on first use; never inherited by programs that are run."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if fd > 2:  # noqa: PLR2004 - the standard streams, which a daemon may have closed and a new program would replace
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


class Keeper:
    """One server, from its start to its end."""

    def __init__(self, binary: str, linger_s: float) -> None:
        self.binary = binary
        self.linger_s = linger_s
        self.child: int | None = None
        self.log_start = 0
        self.stopping = False

    def run(self) -> None:
        """Keep the server until it ends; data it cannot read is set aside, once."""
        self.child = self._start()
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        threading.Thread(target=self._stop_when_unused, daemon=True).start()
        if self._wait_for_end() and not self.stopping and self._data_is_unreadable():
            set_data_aside()
            self.child = self._start()
            self._wait_for_end()

    def _start(self) -> int | None:
        """Start the server and return its process id, or None when one runs already."""
        lock = open_lock(SERVER)
        try:
            if not try_lock(lock, fcntl.LOCK_EX):
                return None
            if os.fstat(1).st_size > LOG_LIMIT_BYTES:
                os.ftruncate(1, 0)
            self.log_start = os.fstat(1).st_size
            os.set_inheritable(lock, True)  # noqa: FBT003 - takes no keyword
            options = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
            return os.posix_spawn(self.binary, [self.binary, *options], os.environ)
        except OSError as error:
            sys.exit(f"cannot run {self.binary}: {error.strerror}")
        finally:
            os.close(lock)

    def _wait_for_end(self) -> int:
        """Wait until no server runs on the data, and return what its wait status says (0 for an adopted one)."""
        lock = open_lock(SERVER)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1]) if self.child else 0

    def _data_is_unreadable(self) -> bool:
        with open(LOG, encoding="utf-8", errors="replace") as log:  # noqa: PTH123 - pathlib would double the start time
            log.seek(self.log_start)
            text = log.read().lower()
        return any(words in text for words in UNREADABLE) and not any(words in text for words in (READY, *MACHINE))

    def _stop_when_unused(self) -> None:
        lease = open_lock(LEASE)
        while True:
            fcntl.flock(lease, fcntl.LOCK_EX)
            if self._linger(lease):
                break
        deadline = time.monotonic() + STOP_S
        while time.monotonic() < deadline:
            self._stop()
            time.sleep(0.5)  # the process ends, and this thread with it, as soon as the server has ended
        if pid := self.child or server_pid():
            os.kill(pid, signal.SIGKILL)

    def _linger(self, lease: int) -> bool:
        """Let users come for a while; True when none came and the lease is held again.

        Each user sets the file's time, so one who came and went meanwhile starts the linger anew. The time is only
        compared with itself: a clock that is set back must not keep the server.
        """
        seen_ns = None
        while seen_ns != (seen_ns := os.fstat(lease).st_mtime_ns):
            fcntl.flock(lease, fcntl.LOCK_UN)
            time.sleep(self.linger_s)
            if not try_lock(lease, fcntl.LOCK_EX):
                return False
        return True

    def _stop(self) -> None:
        """Ask the server to end; it writes and syncs its log first."""
        self.stopping = True
        # The command takes effect at once, a signal at the server's next tick (0.1 s); newcomers are waiting.
        if ask(SOCKET, b"SHUTDOWN", 0.5) is None and self.child:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child, signal.SIGTERM)


def set_data_aside() -> None:
    """Rename data that no server can read; of earlier such data nothing is kept."""
    import shutil  # noqa: PLC0415 - needed once in a lifetime, and slow to load

    for old in aside("."):
        shutil.rmtree(old, ignore_errors=True)
    os.rename(DATA, f"{DATA}.corrupt-{time.strftime('%Y%m%d-%H%M%S')}")  # noqa: PTH104 - as for open above


def aside(directory: str) -> list[str]:
    """The names of data that was set aside."""
    return [name for name in os.listdir(directory) if name.startswith(f"{DATA}.corrupt-")]  # noqa: PTH208 - as above


def ask(path: str, command: bytes, timeout_s: float) -> bytes | None:
    """Send one command without arguments; the first line of the reply, b"" for silence, None when nobody listens."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(path)
        except (TimeoutError, BlockingIOError):
            return b""
        except OSError:
            return None
        try:
            connection.sendall(command + b"\r\n")
            return connection.recv(256).partition(b"\r\n")[0]
        except OSError:
            return b""


def server_pid() -> int:
    """The process that listens, as the kernel knows it (a hung server would not tell); 0 where it does not say."""
    if not hasattr(socket, "SO_PEERCRED"):
        return 0
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(0)
        if connection.connect_ex(SOCKET):
            return 0
        return int.from_bytes(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 4), sys.byteorder)


def main(lock: str, linger_s: str, binary: str) -> None:
    """Take over the keeper's lock, leave the starter's process tree, and keep the server."""
    os.set_inheritable(int(lock), False)  # noqa: FBT003 - takes no keyword
    if os.fork():
        os._exit(0)  # the starter has waited for this process only, so nobody has a zombie later
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    Keeper(binary, float(linger_s)).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
