"""What workers are told to do: how to make an output, and where to find its source."""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from distcache.config import SmartOptions, check_options
from distcache.errors import ConfigError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

Pool = Literal["thread", "process"]
F = TypeVar("F", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Compiler:
    """A registered compiler, and how it is called."""

    call: Callable[..., Any]
    is_async: bool
    wants_task: bool
    """Whether it takes the task as its second parameter."""
    pool: Pool
    """Where a sync one runs."""


class Warmer:
    """Holds the functions of a warm-up worker, and says which cache it works for.

    ::

        warmer = Warmer(url="redis://cache:6379")

        @warmer.compiler
        def compile(source):            # or (source, task); or async
            return output               # or Compiled(output, dependencies=[...], file_path=...)

        @warmer.content
        def content(key):               # or async; where the source of a key is found
            return source, content_hash  # or None when the key is gone

    cache_dir, options: those of the SmartCache whose queue is worked on. A worker that has no content function skips
    predicted tasks, since these come without their source.
    """

    def __init__(self, cache_dir: str | os.PathLike[str] = ".distcache", **options: Unpack[SmartOptions]) -> None:
        check_options(options, SmartOptions)
        self.cache_dir = cache_dir
        self.options = options
        self._compiler: Compiler | None = None
        self.provider: Callable[[str], Any] | None = None

    @overload
    def compiler(self, function: F, /, *, pool: Pool = "thread") -> F: ...

    @overload
    def compiler(self, function: None = None, /, *, pool: Pool = "thread") -> Callable[[F], F]: ...

    def compiler(self, function: F | None = None, /, *, pool: Pool = "thread") -> F | Callable[[F], F]:
        """Register the compiler: `content -> output`, or `(content, task) -> output`.

        pool: where a sync function runs, 'thread' or 'process' (it must then be importable by name; should it crash,
        only its task fails). Async functions run in the worker's loop.
        """
        if pool not in ("thread", "process"):
            raise ConfigError(f"pool={pool!r} is unknown; take 'thread' or 'process'")

        def register(chosen: F) -> F:
            self._compiler = Compiler(chosen, is_async(chosen), positional(chosen) > 1, pool)
            return chosen

        return register if function is None else register(function)

    def content(self, function: F) -> F:
        """Register where sources are found: `key -> (content, content_hash)`, or None for a key that has none."""
        self.provider = function
        return function

    @property
    def chosen(self) -> Compiler:
        """The compiler; ConfigError when there is none."""
        if self._compiler is None:
            raise ConfigError("the Warmer has no compiler; register one with @warmer.compiler")
        return self._compiler


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await."""
    return asyncio.iscoroutinefunction(function) or asyncio.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - an object whose call is async


def positional(function: Callable[..., Any]) -> int:
    """How many positional parameters without a default a function takes; 1 where that cannot be known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in kinds and one.default is one.empty for one in parameters)
