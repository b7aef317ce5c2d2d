"""Functions whose results are kept."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from flights import Fault

from distcache import AsyncSmartCache, SmartCache
from distcache.errors import ConfigError
from distcache.smart.memoize import LONGEST_KEY, Recipe, stable


class Remembered:
    """A memoized function seen as a blocking one; `calls` counts those of the function itself."""

    def __init__(self, cache, function, **options):
        self.calls = []
        self.function = cache.raw.memoize(**options)(self._counted(function))
        self._settle = cache._settle

    def _counted(self, function):
        def counted(*args, **kwargs):
            self.calls.append((args, kwargs))
            return function(*args, **kwargs)

        counted.__signature__ = inspect.signature(function)
        counted.__qualname__ = function.__qualname__
        return counted

    def __call__(self, *args, **kwargs):
        return self._settle(self.function(*args, **kwargs))

    def __getattr__(self, name):
        return lambda *args, **kwargs: self._settle(getattr(self.function, name)(*args, **kwargs))


def joined(a, b=2, *rest, sep="-", **more):
    return sep.join(map(str, (a, b, *rest, *more.items())))


@pytest.fixture
def cache(smart):
    return smart()


def test_the_second_call_is_a_hit(cache):
    call = Remembered(cache, joined)
    assert [call(1), call(1), call(1, 3)] == ["1-2", "1-2", "1-3"]
    assert len(call.calls) == 2
    assert call.cache_info() == (1, 2)
    assert call.cache_info().hits == 1


def test_however_arguments_are_passed(cache):
    call = Remembered(cache, joined)
    assert len({call(1), call(a=1), call(1, 2), call(b=2, a=1), call(1, sep="-")}) == 1
    assert len(call.calls) == 1
    assert len({call(1, 2, 3), call(1, 2, x=3), call("1"), call(1.0), call(True)}) == 5
    assert len(call.calls) == 6, "and what looks the same as text is another call"


def test_other_processes_share_it(cache, smart):
    assert Remembered(cache, joined)(1) == "1-2"
    other = Remembered(smart(), joined)
    assert other(1) == "1-2"
    assert other.calls == []


def test_two_functions_are_two(cache):
    def another(a):
        return f"another {a}"

    assert Remembered(cache, joined)(1) == "1-2"
    assert Remembered(cache, another)(1) == "another 1"


def test_a_new_version_is_computed_anew(cache):
    assert Remembered(cache, lambda: "old", version="1")() == "old"
    assert Remembered(cache, lambda: "new", version="1")() == "old"
    assert Remembered(cache, lambda: "new", version="2")() == "new"


def test_invalidate_forgets_one(cache):
    call = Remembered(cache, joined)
    call(1)
    call(2)
    assert call.invalidate(a=1) is True
    assert call.invalidate(1) is False
    call(1)
    call(2)
    assert len(call.calls) == 3


def test_cache_clear_forgets_all_of_this_function(cache):
    def another(a):
        return f"another {a}"

    call, kept = Remembered(cache, joined, dependencies=["dep"]), Remembered(cache, another)
    for number in range(3):
        call(number)
        kept(number)
    assert call.cache_clear() == 3
    kept(0)
    assert len(kept.calls) == 3
    call(0)
    assert len(call.calls) == 4
    assert len(cache.invalidate_by_dependency("dep")) == 1, "its own dependencies hold too"


def test_options_are_those_of_get_or_compute(cache, backend):
    call = Remembered(cache, joined, ttl_seconds=10)
    call(1)
    backend.let_pass(11)
    call(1)
    assert len(call.calls) == 2
    with pytest.raises(ConfigError, match="wait_s"):
        Remembered(cache, joined, wait_s=-1)(1)
    with pytest.raises(TypeError, match="no_such"):
        Remembered(cache, joined, no_such=1)(1)


def test_an_exception_is_not_kept(cache):
    def failing():
        raise Fault

    call = Remembered(cache, failing)
    for _ in range(2):
        with pytest.raises(Fault):
            call()
    assert len(call.calls) == 2


def test_only_text_and_bytes_can_be_kept(cache):
    with pytest.raises(TypeError, match="str or bytes"):
        Remembered(cache, lambda: 1)()


def test_arguments_that_are_no_plain_values(cache):
    call = Remembered(cache, lambda path: "x")
    with pytest.raises(TypeError, match=r"type object .* key function"):
        call(object())
    assert call.calls == []
    by_key = Remembered(cache, lambda path: "x", key=lambda path: f"length {len(path)}")
    assert by_key({1, 2}) == by_key([object(), object()])
    assert len(by_key.calls) == 1
    assert cache.has("length 2")


def test_a_key_function_that_returns_no_text(cache):
    with pytest.raises(TypeError, match="a key is a str"):
        Remembered(cache, lambda: "x", key=lambda: 1)()


def test_wrong_use(cache):
    with pytest.raises(TypeError, match="memoize"):
        cache.raw.memoize()("text")
    with pytest.raises(TypeError, match="key is a function"):
        cache.raw.memoize("text")(joined)


def test_a_coroutine_function_needs_the_asyncio_twin(backend, tmp_path):
    async def later():
        return "x"

    with SmartCache(tmp_path, url=backend.url) as cache, pytest.raises(TypeError, match="AsyncSmartCache"):
        cache.memoize()(later)


def test_it_looks_like_the_function(smart, backend, tmp_path):
    with SmartCache(tmp_path, url=backend.url) as cache:

        class Compiler:
            def __repr__(self):
                return "compiler"

            @cache.memoize(key=lambda self, source: f"{self} {source}")
            def compile(self, source: str) -> str:
                """Compile it."""
                return source.upper()

        assert Compiler.compile.__doc__ == "Compile it."
        assert Compiler.compile.__wrapped__(None, "b") == "B"
        assert Compiler().compile("a") == Compiler().compile("a") == "A"
        assert Compiler.compile.cache_info() == (1, 1)
        assert cache.has("compiler a")


def test_coroutine_functions(backend, tmp_path):
    async def main():
        async with AsyncSmartCache(tmp_path, url=backend.url, timeout_s=10.0, on_error="raise") as cache:

            class Compiler:
                @cache.memoize(key=lambda self, source: source)
                async def compile(self, source: str) -> str:
                    await asyncio.sleep(0)
                    return source.upper()

            asked = [Compiler().compile("a") for _ in range(20)]
            assert await asyncio.gather(*asked) == ["A"] * 20
            assert Compiler.compile.cache_info() == (19, 1)
            assert await Compiler.compile.invalidate(None, "a")
            assert await Compiler.compile.cache_clear() == 0

    asyncio.run(main())


def test_a_text_for_every_value():
    values = [
        1,
        True,
        1.0,
        "1",
        b"1",
        None,
        (1,),
        (1, 1),
        ((1,), 1),
        [1],
        [1, 1],
        {1},
        {1: 1},
        {"1": 1},
        frozenset({1}),
    ]
    values += ["a,b", ("a", "b"), ("a,b",), -0.0, 0.0, float("nan"), "\ud800", "", (), [], {}, set()]
    assert len({stable(value) for value in values}) == len(values)
    assert stable({"b": 1, "a": {3, 1, 2}}) == stable({"a": {2, 3, 1}, "b": 1})


@pytest.mark.parametrize("value", [object(), [object()], {"a": object()}, type("Text", (str,), {})("x"), lambda: 1])
def test_no_text_for_what_may_differ_elsewhere(value):
    with pytest.raises(TypeError, match="key function"):
        stable(value)


def test_long_arguments_do_not_make_long_keys():
    recipe = Recipe(joined, None, "", {})
    long = [recipe.key(("x" * size,), {}) for size in (LONGEST_KEY, LONGEST_KEY + 1)]
    assert all(len(key) < 200 for key in long)
    assert len(set(long)) == 2
    assert recipe.key(("x" * 100,), {}).count("x") > 100 - 1
