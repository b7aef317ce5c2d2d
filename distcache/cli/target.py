"""Which cache a command is about: the options that say it, and how it is opened."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

import click

from distcache.client import Engine, user_cache_directory
from distcache.config import SharedConfig
from distcache.content.cache import ContentHashCache
from distcache.errors import ConfigError
from distcache.executor import SyncExecutor
from distcache.keys import Partition, check_namespace
from distcache.op import Op
from distcache.shared import CONFIG
from distcache.smart.cache import SmartCache

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

TIMEOUT_S = 10.0
"""A person waits longer for an answer than a build does."""
KINDS = {"smart": "build outputs (SmartCache)", "content": "signatures (ContentHashCache)"}
NAMESPACES = {"smart": "smart", "content": "signatures"}


@dataclass(frozen=True, slots=True)
class Target:
    """The cache that is meant."""

    url: str | None
    directory: Path | None
    kind: str
    namespace: str

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of both caches."""
        url = self.url or f"embedded://{quote(str(self._place()))}"
        return {"url": url, "namespace": self.namespace, "on_error": "raise", "timeout_s": TIMEOUT_S}

    def _place(self) -> Path:
        """Where the embedded server keeps its data."""
        usual = Path(".distcache") if self.kind == "smart" else user_cache_directory()
        return (self.directory or usual).absolute()

    def __str__(self) -> str:
        return (
            f"{self.namespace!r} in {str(self._place())!r}"
            if self.url is None
            else f"{self.namespace!r} on that server"
        )

    def require(self) -> None:
        """Raise ConfigError unless the cache exists and is of this kind: looking at a cache must not create one."""
        if self.url is None and not (self._place() / "server").is_dir():
            raise ConfigError(
                f"there is no cache in {str(self._place())!r}; name its directory with --dir or its server with --url"
            )
        engine = Engine(self.options["url"], Path())
        executor = SyncExecutor(engine.endpoint, timeout_s=TIMEOUT_S)
        try:
            engine.start()
            stored = executor.drive(iter(Op(CONFIG, (Partition(self.namespace, 0).state,), _texts)))
        finally:
            executor.close()
            engine.close()
        self._check(stored)

    def _check(self, stored: dict[str, str]) -> None:
        if "layout" not in stored:
            raise ConfigError(f"there is no cache {self}; name another with --namespace")
        kind = SharedConfig.from_fields(stored).kind
        if kind != self.kind:
            raise ConfigError(f"the cache {self} holds {KINDS[kind]}; say --cache {kind} where the command has it")

    def smart(self, *, look: bool = False, create: bool = False) -> SmartCache:
        """The cache of build outputs. look: change nothing. create: it may be new."""
        if self.kind != "smart":
            raise ConfigError(f"this command is for {KINDS['smart']}")
        if not create:
            self.require()
        return SmartCache(self._place(), enable_warmup=False, read_only=look, reconfigure=False, **self.options)

    def content(self, *, look: bool = False) -> ContentHashCache:
        """The cache of signatures. look: change nothing."""
        self.require()
        return ContentHashCache(read_only=look, reconfigure=False, **self.options)


def _texts(reply: list[bytes]) -> dict[str, str]:
    texts = [item.decode("utf-8", "replace") for item in reply]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def options(*, kinds: bool = False) -> Callable[[Callable[Concatenate[Target, P], R]], Callable[P, R]]:
    """Give a command the options that name a cache, and the Target as its first argument. kinds: either kind."""

    def decorate(command: Callable[Concatenate[Target, P], R]) -> Callable[P, R]:
        @click.option("--url", envvar="DISTCACHE_URL", metavar="URL", help="Server, such as redis://host:6379.")
        @click.option(
            "--dir",
            "directory",
            type=click.Path(file_okay=False, path_type=Path),
            help="Directory of the embedded server, where there is no URL.  [default: .distcache]",
        )
        @click.option("--namespace", metavar="NAME", help="Which of the server's caches.  [default: smart]")
        @functools.wraps(command)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            kind = str(kwargs.pop("cache", "smart"))
            namespace = kwargs.pop("namespace") or NAMESPACES[kind]
            url, directory = kwargs.pop("url"), kwargs.pop("directory")
            return command(_target(url, directory, kind, namespace), *args, **kwargs)

        if not kinds:
            return call
        choice = click.Choice(sorted(KINDS))
        return click.option("--cache", type=choice, default="smart", show_default=True, help="Which kind of cache.")(
            call
        )

    return decorate


def _target(url: Any, directory: Any, kind: str, namespace: Any) -> Target:
    """`--dir` names a place, so it wins over a URL of the environment."""
    source = click.get_current_context().get_parameter_source("url")
    if directory is not None and url and source is not None and source.name == "ENVIRONMENT":
        url = None
    if directory is not None and url:
        raise click.UsageError("--url and --dir name two places; give one of them")
    return Target(url, directory, kind, check_namespace(namespace))
