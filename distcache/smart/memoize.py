"""Functions whose results are kept: `@cache.memoize()`. Each call is a get_or_compute."""

from __future__ import annotations

import functools
import hashlib
import inspect
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from distcache.smart.cache import AsyncSmartCache, SmartCache
    from distcache.smart.single_flight import FlightOptions

P = ParamSpec("P")
R = TypeVar("R", bound="str | bytes")

LONGEST_KEY = 256
"""Arguments that make a longer key are represented by their SHA-256."""

_PLAIN = (str, bytes, bool, int, float, complex, type(None))


class CacheInfo(NamedTuple):
    """What this process saw of a function's results."""

    hits: int
    """Calls that were answered without calling the function here."""
    misses: int
    """Calls of the function itself."""


class Recipe:
    """How a function's calls become keys."""

    def __init__(
        self, function: Callable[..., Any], key: Callable[..., str] | None, version: str, options: FlightOptions
    ) -> None:
        if not callable(function):
            raise TypeError("memoize decorates a function; call it first: @cache.memoize()")
        if key is not None and not callable(key):
            raise TypeError(f"key is a function of the arguments that returns a str, not {type(key).__name__}")
        self.function = function
        self.version = version
        self.name = f"{function.__module__}.{function.__qualname__}"
        self.mark = f"memoize:{self.name}"
        """A dependency of all its results, by which they are cleared."""
        dependencies = (*(options.get("dependencies") or ()), self.mark)
        self.options: FlightOptions = {**options, "dependencies": dependencies}
        self._key = key
        self._signature = inspect.signature(function)

    def key(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of one call; the same however its arguments are passed."""
        if self._key is not None:
            return self._key(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        text = ", ".join(f"{name}={stable(value)}" for name, value in bound.arguments.items())
        if len(text) > LONGEST_KEY:
            text = "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self.name}({text})"


class Memoized(Generic[P, R]):
    """A function whose results are kept in a cache, for all who share it.

    cache_info(): hits and misses of this process. cache_clear(): forget all results of the function, for everyone.
    invalidate(*args): forget one. `__wrapped__`: the function itself.
    """

    def __init__(self, cache: SmartCache, recipe: Recipe) -> None:
        if inspect.iscoroutinefunction(recipe.function):
            raise TypeError(
                f"{recipe.name} is a coroutine function; decorate it with the memoize of an AsyncSmartCache"
            )
        self._cache = cache
        self._recipe = recipe
        self._calls = self._misses = 0
        functools.update_wrapper(self, recipe.function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, kept or made."""
        recipe = self._recipe

        def compute() -> Any:
            self._misses += 1
            return recipe.function(*args, **kwargs)

        self._calls += 1
        key = recipe.key(args, kwargs)
        return self._cache.get_or_compute(key, compute, recipe.version, **recipe.options)  # type: ignore[return-value] # what was put

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)  # type: ignore[arg-type] # as a method

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this process."""
        return CacheInfo(self._calls - self._misses, self._misses)

    def cache_clear(self) -> int:
        """Forget all results of this function, for everyone; how many."""
        return len(self._cache.invalidate_by_dependency(self._recipe.mark))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call, for everyone; whether there was one."""
        return self._cache.invalidate(self._recipe.key(args, kwargs))


class AsyncMemoized(Generic[P, R]):
    """See Memoized; the function may be a coroutine function or not, its calls are awaited, and so are the methods."""

    def __init__(self, cache: AsyncSmartCache, recipe: Recipe) -> None:
        self._cache = cache
        self._recipe = recipe
        self._calls = self._misses = 0
        functools.update_wrapper(self, recipe.function)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The result, kept or made."""
        recipe = self._recipe

        async def compute_async() -> Any:
            self._misses += 1
            return await recipe.function(*args, **kwargs)

        def compute() -> Any:
            self._misses += 1
            return recipe.function(*args, **kwargs)

        self._calls += 1
        key = recipe.key(args, kwargs)
        chosen: Callable[[], Any] = compute_async if inspect.iscoroutinefunction(recipe.function) else compute
        return await self._cache.get_or_compute(key, chosen, recipe.version, **recipe.options)  # type: ignore[return-value] # what was put

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else functools.partial(self, instance)  # type: ignore[arg-type] # as a method

    def cache_info(self) -> CacheInfo:
        """Hits and misses of this process."""
        return CacheInfo(self._calls - self._misses, self._misses)

    async def cache_clear(self) -> int:
        """Forget all results of this function, for everyone; how many."""
        return len(await self._cache.invalidate_by_dependency(self._recipe.mark))

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Forget the result of this call, for everyone; whether there was one."""
        return await self._cache.invalidate(self._recipe.key(args, kwargs))


def stable(value: Any) -> str:
    """A text that is the same in every process for the same value, and another for any other. TypeError if unsure."""
    kind = type(value)
    if kind in _PLAIN:
        return repr(value)
    if kind in (tuple, list):
        inner = "".join(f"{stable(item)}," for item in value)
        return f"({inner})" if kind is tuple else f"[{inner}]"
    if kind in (set, frozenset):
        return f"{kind.__name__}({','.join(sorted(map(stable, value)))})"
    if kind is dict:
        return "{" + ",".join(sorted(f"{stable(name)}:{stable(item)}" for name, item in value.items())) + "}"
    raise TypeError(
        f"an argument of type {kind.__name__} has no text that is the same in every process; "
        "give memoize a key function, or pass plain values"
    )
