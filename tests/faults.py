"""A proxy in front of a server that can delay, drip, swallow and cut, to show what a client does then."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class FaultProxy:
    """Listens on `url` and passes bytes to and from the unix socket `target`.

    Faults can be changed at any time and hold from the next bytes on:
    delay_s: wait before passing on replies. drip_s: pass on replies byte by byte, this far apart.
    swallow: drop replies (a black hole). deaf: drop requests too. cut_after: close a connection once so many
    more bytes of replies have passed; this happens once. accepted: connections so far. requests: the bytes of
    requests passed on so far.
    """

    def __init__(self, target: str, folder: Path, *, tcp: bool = False) -> None:
        self.delay_s = 0.0
        self.drip_s = 0.0
        self.swallow = False
        self.deaf = False
        self.cut_after: int | None = None
        self.accepted = 0
        self.requests = b""
        self._target = target
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        if tcp:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            path = str(folder / "p")
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(path)
            self._listener.listen(512)
            self.url = f"unix://{path}"
        self._spawn(self._accept)

    def _spawn(self, target, *args) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            self._pairs.append((client, server))
            self._spawn(self._requests, client, server)
            self._spawn(self._replies, client, server)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if not self.deaf:
                    self.requests += data
                    server.sendall(data)
        _close(client, server)

    def _replies(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if self.swallow or self.deaf:
                    continue
                if self.delay_s:
                    time.sleep(self.delay_s)
                cut_after = self.cut_after
                self._pass_on(client, data[:cut_after])
                if cut_after is not None:
                    self.cut_after = cut_after - len(data)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        break
        _close(client, server)

    def _pass_on(self, client: socket.socket, data: bytes) -> None:
        if not self.drip_s:
            client.sendall(data)
            return
        for at in range(len(data)):
            client.sendall(data[at : at + 1])
            time.sleep(self.drip_s)

    def cut(self) -> None:
        """Close all connections that are open now."""
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            _close(client, server)

    def close(self) -> None:
        """Accept nothing more, and cut what is open."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


def _close(*socks: socket.socket) -> None:
    """End both halves; closing alone would not wake a thread that reads."""
    for sock in socks:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


@contextlib.contextmanager
def fault_proxy(target: str, *, tcp: bool = False) -> Iterator[FaultProxy]:
    """A proxy in front of the unix socket `target`."""
    with tempfile.TemporaryDirectory(prefix="dcp-") as folder:
        proxy = FaultProxy(target, Path(folder), tcp=tcp)
        try:
            yield proxy
        finally:
            proxy.close()
