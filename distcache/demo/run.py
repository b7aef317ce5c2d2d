"""One run of the demo: a server of its own, the acts one after the other, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shlex import quote as quoted
from time import monotonic, perf_counter, sleep
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

from distcache.demo import act_build, act_proxies, act_warm
from distcache.demo.stage import Stage
from distcache.engine import keeper
from distcache.engine.embedded import EmbeddedServer
from distcache.errors import ConfigError, ServerError
from distcache.executor import Endpoint
from distcache.executor.link import Link
from distcache.executor.wire import Refused
from distcache.keys import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACTS = (act_build.play, act_proxies.play, act_warm.play)
LINGER_S = 0.2
STOP_S = 10.0
AGAIN_S = 0.05


def run(*, url: str | None, keep: Path | None, machines: int, limit: int | None, sabotage: str = "") -> bool:
    """Play all acts; whether every check was right.

    url: a server to use in place of an embedded one; what the demo stored there is removed. keep: a directory for the
    embedded server and the files of the acts, which then stays.
    """
    began = perf_counter()
    with ExitStack() as stack:
        stack.enter_context(_signals_as_exit())
        folder = stack.enter_context(_folder(keep))
        namespace = f"demo-{uuid4().hex[:12]}" if url else "demo"
        url = stack.enter_context(_borrowed(url, namespace) if url else _embedded(folder / "cache"))
        stage = Stage(url, namespace, folder, machines, limit, sabotage)
        seen = [act(stage) for act in ACTS]
        _close(stage, seen, perf_counter() - began)
        if keep and stage.url.startswith("embedded"):
            stage.say(
                f"To look inside: distcache stats --dir {quoted(str(folder / 'cache'))} --namespace {namespace}-build"
            )
    return not stage.failed


def _close(stage: Stage, seen: list[str], seconds: float) -> None:
    """The last sentence."""
    if stage.failed:
        stage.say(f"\n[bold red]Failed checks: {len(stage.failed)}[/], the first: {stage.failed[0]}.")
    else:
        stage.say(f"\n[bold green]All as it should be[/] in {seconds:.0f} s: {'; '.join(seen)}.")


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The directory that is asked for, or one that is gone afterwards."""
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise ConfigError(f"{str(keep)!r} is not empty; name a new directory, so that nothing in it is overwritten")
        yield keep.absolute()
        return
    folder = Path(tempfile.mkdtemp(prefix="distcache-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _embedded(directory: Path) -> Iterator[str]:
    """The embedded server of a directory, ended when the demo is."""
    with ExitStack() as stack:
        stack.callback(_wait_for_end, directory / "server")
        server = stack.enter_context(EmbeddedServer.attach(directory, linger_s=LINGER_S))
        if (short := Path(server.socket_path).parent).is_symlink():  # to a directory with a long path
            stack.callback(short.unlink, missing_ok=True)
        yield f"embedded://{quote(str(directory))}"


def _wait_for_end(server: Path) -> None:
    """Return when the server has ended: its files are about to be removed."""
    until = monotonic() + STOP_S
    while _runs(server) and monotonic() < until:
        sleep(0.02)


def _runs(server: Path) -> bool:
    """Whether the server or its keeper is still there: they hold their locks as long as they are."""
    return server.is_dir() and any(_locked(str(server / name)) for name in (keeper.SERVER, keeper.KEEPER))


def _locked(path: str) -> bool:
    descriptor = keeper.open_lock(path)
    try:
        return not keeper.try_lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


@contextmanager
def _borrowed(url: str, namespace: str) -> Iterator[str]:
    """Somebody's server, from which the keys of the demo are removed afterwards."""
    try:
        yield url
    finally:
        _erase(url, f"{{dc{LAYOUT}:{namespace}-*")


def _erase(url: str, pattern: str) -> None:
    """Remove all keys of a pattern, by plain commands: the caches themselves never forget what they counted."""
    deadline = monotonic() + STOP_S
    link = Link(Endpoint(url), deadline, STOP_S)
    try:
        cursor = b""
        while cursor != b"0":
            (reply,) = link.exchange([(b"SCAN", cursor or b"0", b"MATCH", pattern, b"COUNT", 1000)], deadline)
            if isinstance(reply, Refused):
                raise ServerError(f"the keys of the demo, {pattern!r}, cannot be removed: {reply.text}")
            cursor, names = reply
            if names:
                link.exchange([(b"UNLINK", *names)], deadline)
    finally:
        link.close()


@contextmanager
def _signals_as_exit() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, stop the demo as Ctrl-C does, so that it cleans up."""

    def leave(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    hook, sys.unraisablehook = sys.unraisablehook, _sent_again(sys.unraisablehook)
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)


def _sent_again(otherwise: Callable[[sys.UnraisableHookArgs], Any]) -> Callable[[sys.UnraisableHookArgs], Any]:
    """A hook that sends a signal again which came while Python ran a finalizer, where no exception gets out."""

    def hook(swallowed: sys.UnraisableHookArgs) -> None:
        if isinstance(swallowed.exc_value, KeyboardInterrupt):
            number = int(signal.SIGINT)
        elif isinstance(swallowed.exc_value, SystemExit) and isinstance(swallowed.exc_value.code, int):
            number = swallowed.exc_value.code - 128
        else:
            otherwise(swallowed)
            return
        threading.Timer(AGAIN_S, os.kill, (os.getpid(), number)).start()

    return hook
