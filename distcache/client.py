"""What the classes that a program holds have in common: where their server is, and what they do when it fails."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote, unquote

from distcache.engine.embedded import EmbeddedServer
from distcache.errors import ConfigError, DistcacheError, NoSuchCache, ServerError, Unavailable
from distcache.executor import AsyncExecutor, Endpoint, SyncExecutor

if TYPE_CHECKING:
    from types import TracebackType

    from distcache.config import OnError
    from distcache.op import Flow

T = TypeVar("T")

BURST_S = 60.0
"""Failures closer together than this belong to one burst, and one line of the log."""

_log = logging.getLogger("distcache")
_open: weakref.WeakSet[SyncClient] = weakref.WeakSet()


class Engine:
    """The server behind a URL; an embedded one is attached when it is first needed, and let go by `close`."""

    def __init__(self, url: str | None, directory: Path, *, busy_poll_us: int | None = None) -> None:
        """`directory` is where the embedded server keeps its data when no URL says otherwise."""
        url = url or os.environ.get("DISTCACHE_URL") or f"embedded://{quote(str(directory))}"
        self._server: EmbeddedServer | None = None
        self._lock = threading.Lock()
        self.embedded = url.startswith("embedded://")
        if not self.embedded:
            self.endpoint = Endpoint(url, busy_poll_us=busy_poll_us)
            return
        self._directory = embedded_directory(url)
        # Nobody listens there: the first connection fails at once, and `revive` finds out where the server is.
        address = f"unix://{quote(str(self._directory / 'not-started'))}"
        self.endpoint = Endpoint(address, revive=self.start, busy_poll_us=busy_poll_us)

    def start(self) -> None:
        """Attach to the embedded server, or make sure that it still runs. EngineError when it cannot be started."""
        if not self.embedded:
            return
        with self._lock:
            if self._server is None:
                self._server = EmbeddedServer.attach(self._directory)
                self.endpoint.move_to(f"unix://{quote(str(self._server.socket_path))}")
            else:
                self._server.ensure_running()

    def close(self) -> None:
        """Let an embedded server go; it stops when its last user has left."""
        with self._lock:
            if self._server is not None:
                self._server.detach()
                self._server = None


def embedded_directory(url: str) -> Path:
    """The directory that an embedded:// URL names; `~` is the user's home."""
    path = unquote(url.removeprefix("embedded://"))
    if not path:
        raise ConfigError("an embedded:// URL needs a directory, such as embedded:///var/cache/distcache")
    return Path(path).expanduser().absolute()


def user_cache_directory() -> Path:
    """Where programs of this user keep caches, by the convention of the platform."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "distcache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "distcache"


class Failures:
    """Decides what a failed call becomes: an error, or a miss that is counted and logged once a burst."""

    def __init__(self, on_error: OnError) -> None:
        self.raises = on_error == "raise"
        self.count = 0
        self._last = float("-inf")

    def absorb(self, error: DistcacheError) -> None:
        """Count it, and log it if it is the first in a while."""
        now = monotonic()
        self.count += 1
        if now - self._last > BURST_S:
            _log.warning("cache unavailable, reads miss and writes are dropped: %s", error)
        self._last = now


class SyncClient:
    """The base of the blocking classes: runs flows, is a context manager."""

    def __init__(self, engine: Engine, *, on_error: OnError, timeout_s: float) -> None:
        self._engine = engine
        self._failures = Failures(on_error)
        self._executor = SyncExecutor(engine.endpoint, timeout_s=timeout_s)
        engine.start()
        _open.add(self)

    def _run(self, flow: Flow[T], default: T, *, lenient: bool = False) -> T:
        """The flow's result, or `default` when the server fails and failures are misses, as always if `lenient`."""
        try:
            return self._executor.drive(flow)
        except NoSuchCache:
            return default
        except (Unavailable, ServerError) as error:
            if self._failures.raises and not lenient:
                raise
            self._failures.absorb(error)
            return default

    def _agree(self, flow: Flow[None]) -> None:
        """The flow that agrees on the shared config; when that fails, there is no object that could be closed."""
        try:
            self._run(flow, None)
        except BaseException:
            self._executor.close()
            self._engine.close()
            raise

    def flush(self) -> None:
        """Send what is kept back to ride along with a later call."""

    def close(self) -> None:
        """Flush, and let connections and an embedded server go. The object can be used again, and then reconnects."""
        try:
            self.flush()
        finally:
            self._executor.close()
            self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The base of the asyncio classes. Nothing is connected before the first call."""

    def __init__(self, engine: Engine, *, on_error: OnError, timeout_s: float) -> None:
        self._engine = engine
        self._failures = Failures(on_error)
        self._executor = AsyncExecutor(engine.endpoint, timeout_s=timeout_s)

    async def _run(self, flow: Flow[T], default: T, *, lenient: bool = False) -> T:
        """The flow's result, or `default` when the server fails and failures are misses, as always if `lenient`."""
        try:
            return await self._executor.drive(flow)
        except NoSuchCache:
            return default
        except (Unavailable, ServerError) as error:
            if self._failures.raises and not lenient:
                raise
            self._failures.absorb(error)
            return default

    async def flush(self) -> None:
        """Send what is kept back to ride along with a later call."""

    async def aclose(self) -> None:
        """Flush, and let connections and an embedded server go. The object can be used again, and then reconnects."""
        try:
            await self.flush()
        finally:
            await self._executor.aclose()
            self._engine.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


@atexit.register
def _flush_all() -> None:
    """What was learned by a program that never closes its cache is not lost."""
    for client in list(_open):
        with suppress(DistcacheError):
            client.flush()
