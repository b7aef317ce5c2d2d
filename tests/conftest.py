"""Every test of a cache runs on fakeredis and on each server found, through both twins; its keys are checked after it.

`backend` is a server that is empty at the start of the test. `smart(...)` opens a SmartCache on it, in the twin of
this run. When the test is over, whatever it left in the server must be in order (see `invariants.py`).
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import content_invariants  # noqa: F401 - adds its rules
import fakeredis
import invariants
import keyspace
import pytest
from hypothesis import HealthCheck, settings
from scripts import executor_for
from servers import Server, binaries, start_server
from twins import Loop, Twin

from distcache import AsyncContentHashCache, AsyncSmartCache, ContentHashCache, SmartCache
from distcache.executor import fake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import redis

    from distcache.executor import SyncExecutor

BACKENDS = ["fakeredis", *sorted(binaries())]
TIMEOUT_S = 10.0
"""Tests of what a cache does must not depend on how busy the machine is; those of deadlines say their own."""

settings.register_profile(
    "default",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
settings.load_profile("default")


def pytest_configure() -> None:
    """A shell that starts the tests in the background has SIGINT ignored, and programs inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="let state machines and many processes run for minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Both twins on one server; on the others one twin each, unless --long: what runs there is the same Lua."""
    if config.getoption("--long"):
        return
    kept, left_out = [], []
    for item in items:
        params = getattr(getattr(item, "callspec", None), "params", {})
        backend, twin = params.get("backend", BACKENDS[-1]), params.get("twin", "")
        extra = backend != BACKENDS[-1] and {"fakeredis": "async", "redis": "sync"}[backend] == twin
        (left_out if extra and _has_other(item) else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _has_other(item: pytest.Item) -> bool:
    """Whether the test runs on other backends and through the other twin as well."""
    fixed = [mark.args[0] for mark in item.iter_markers("parametrize")]
    return not any(name in ("backend", "twin") for name in fixed)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    found = binaries()
    missing = [name for name in ("valkey", "redis") if name not in found]
    line = f"caches tested on fakeredis {fakeredis.__version__}"
    line += "".join(f", {name} ({path})" for name, path in sorted(found.items()))
    if not terminalreporter.config.getoption("--long"):
        line += f"; both twins on {BACKENDS[-1]}, one on each of the others (all with --long)"
    terminalreporter.write_line(line + "".join(f"; {name} was not found" for name in missing))


class Backend:
    """A server to test on. url: how a cache reaches it. client: a plain client, to look inside."""

    def __init__(self, name: str, url: str, client: redis.Redis, server: Server | None) -> None:
        self.name = name
        self.url = url
        self.client = client
        self.server = server
        self.checked = True
        """Set to False by a test that leaves the keys in disorder on purpose."""

    @property
    def is_real(self) -> bool:
        return self.server is not None

    def keyspace(self) -> keyspace.Keyspace:
        return keyspace.read(self.client)

    def let_pass(self, seconds: float) -> None:
        keyspace.let_pass(self.client, round(seconds * 1000))

    def problems(self, **allowed: Any) -> list[str]:
        return invariants.problems(self.keyspace(), **allowed)

    def check(self) -> None:
        assert self.problems() == []


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], Backend]]:
    """Backends by name; each is started when it is first asked for, and ends with the session."""
    opened: list[AbstractContextManager[Server]] = []
    backends: dict[str, Backend] = {}

    def get(name: str) -> Backend:
        if name not in backends:
            if name == "fakeredis":
                client: Any = fakeredis.FakeRedis(server=fake.server("tests"))
                backends[name] = Backend(name, "fakeredis://tests", client, None)
            else:
                context = start_server(binaries()[name])
                server = context.__enter__()
                opened.append(context)
                backends[name] = Backend(name, server.url, server.client(), server)
        return backends[name]

    yield get
    for backend in backends.values():
        backend.client.close()
    for context in opened:
        context.__exit__(None, None, None)


def _emptied(backend: Backend) -> Iterator[Backend]:
    backend.client.flushall()
    backend.checked = True
    yield backend
    if backend.checked:
        backend.check()


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest, running: Callable[[str], Backend]) -> Iterator[Backend]:
    """Each server in turn, empty."""
    yield from _emptied(running(request.param))


@pytest.fixture(params=sorted(binaries()))
def real(request: pytest.FixtureRequest, running: Callable[[str], Backend]) -> Iterator[Backend]:
    """Each real server in turn, empty: for what fakeredis does not have."""
    yield from _emptied(running(request.param))


@pytest.fixture(scope="module", params=sorted(binaries()))
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Each real server in turn, of this module alone: it may be frozen, restarted, cut off."""
    with start_server(binaries()[request.param], tcp=True) as started:
        yield started


@pytest.fixture
def client(server: Server) -> Iterator[redis.Redis]:
    """A plain client of that server, which is empty."""
    with server.client() as looking:
        looking.flushall()
        yield looking


@pytest.fixture
def executor(server: Server) -> Iterator[SyncExecutor]:
    """A blocking executor on that server."""
    executor = executor_for(f"unix://{server.path}", 1.0)
    yield executor
    executor.close()


@pytest.fixture
def fakebackend(running: Callable[[str], Backend]) -> Iterator[Backend]:
    """fakeredis alone: for pure logic that needs many calls."""
    yield from _emptied(running("fakeredis"))


@pytest.fixture(params=["sync", "async"])
def twin(request: pytest.FixtureRequest) -> str:
    """Which twin this run is about."""
    return str(request.param)


@pytest.fixture
def loop() -> Iterator[Loop]:
    """The event loop of the async twin."""
    loop = Loop()
    yield loop
    loop.close()


class Opener:
    """Opens caches of one twin, and closes them at the end of the test."""

    def __init__(self, twin: str, loop: Loop) -> None:
        self.twin = twin
        self.loop = loop
        self._open: list[Twin] = []

    def __call__(self, blocking: type, asynchronous: type, *args: Any, **options: Any) -> Any:
        """A cache that has agreed on its config, seen as the blocking class."""
        raw = (blocking if self.twin == "sync" else asynchronous)(*args, **options)
        cache = Twin(raw, self.loop)
        self._open.append(cache)
        return cache.__enter__()

    def close(self) -> None:
        while self._open:
            self._open.pop().close()


@pytest.fixture
def opener(twin: str, loop: Loop) -> Iterator[Opener]:
    opener = Opener(twin, loop)
    yield opener
    opener.close()


@pytest.fixture
def smart(backend: Backend, opener: Opener, tmp_path: Any) -> Callable[..., Any]:
    """Opens a SmartCache on the backend: smart(max_entries=3, policy="lru")."""
    return smart_on(backend, opener, tmp_path)


@pytest.fixture
def content(backend: Backend, opener: Opener) -> Callable[..., Any]:
    """Opens a ContentHashCache on the backend: content(max_size=3, ambiguous="newest")."""
    return content_on(backend, opener)


def content_on(backend: Backend, opener: Opener) -> Callable[..., Any]:
    """The same, for any backend."""

    def make(*args: Any, **options: Any) -> Any:
        named = {"url": backend.url, "timeout_s": TIMEOUT_S, "on_error": "raise", **options}
        return opener(ContentHashCache, AsyncContentHashCache, *args, **named)

    return make


def smart_on(backend: Backend, opener: Opener, directory: Any) -> Callable[..., Any]:
    """The same, for any backend."""

    def make(cache_dir: Any = directory, *args: Any, **options: Any) -> Any:
        named = {"url": backend.url, "timeout_s": TIMEOUT_S, "on_error": "raise", **options}
        return opener(SmartCache, AsyncSmartCache, cache_dir, *args, **named)

    return make
