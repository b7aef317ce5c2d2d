"""What is invalidated while it is being computed: whoever asked for it gets it, and nobody else ever does."""

from __future__ import annotations

import asyncio

import pytest
from conftest import TIMEOUT_S
from flights import LEASE, PART, Background, Counted, Holder, fail, has_waiters, let_lapse
from servers import wait_until

from distcache import Compiled, SmartCache, Warmer, Worker
from distcache.keys import key_id

CHANGES = {
    "its key": lambda cache: cache.invalidate("key"),
    "what it depends on": lambda cache: cache.invalidate_by_dependency("near"),
    "what that depends on": lambda cache: cache.invalidate_by_dependency("far", transitive=True),
    "everything": lambda cache: cache.clear(),
}
"""By `far` the key is reached through `near`, which is in the cache; the key itself is not."""


@pytest.fixture(params=CHANGES)
def change(request):
    return CHANGES[request.param]


@pytest.fixture
def another(backend, tmp_path):
    """Opens another client of the same cache, always blocking, for other threads."""
    opened = []

    def open_one():
        opened.append(SmartCache(tmp_path, url=backend.url, timeout_s=TIMEOUT_S, on_error="raise"))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


@pytest.fixture
def drain(backend, loop):
    """Runs a worker until nothing waits: drain(compiler, provider)."""

    def run(compiler, provider=None):
        warmer = Warmer(url=backend.url, timeout_s=TIMEOUT_S)
        warmer.compiler(compiler)
        if provider:
            warmer.content(provider)

        async def main():
            return await Worker(warmer, drain=True, concurrency=1).run()

        return loop.run(main())

    return run


def linked(cache):
    cache.put("near", "text", "", dependencies=["far"])
    return cache


# flights


@pytest.mark.parametrize("partitions", [1, 4])
@pytest.mark.parametrize("content_hash", ["", "h"])
def test_what_was_computed_from_old_inputs_is_not_stored(smart, another, change, partitions, content_hash):
    cache = linked(smart(partitions=partitions))
    other = another()
    old, new = Counted("old", lambda: change(other)), Counted("new")
    assert cache.get_or_compute("key", old, content_hash, dependencies=["near"]) == "old", "its own caller's it is"
    assert not cache.has("key")
    assert cache.get_or_compute("key", new, content_hash, dependencies=["near"]) == "new"
    assert cache.get_or_compute("key", fail, content_hash) == "new"
    assert (old.calls, new.calls) == (1, 1)
    assert cache.get_stats()["writes"] == 2


@pytest.mark.parametrize("partitions", [1, 4])
def test_what_has_nothing_to_do_with_it_does_not_matter(smart, another, partitions):
    cache = linked(smart(partitions=partitions))
    other = another()

    def change():
        other.invalidate("another")
        other.invalidate_by_dependency("another", transitive=True)
        other.invalidate_by_dependency("far")

    cache.get_or_compute("key", Counted(do=change), dependencies=["elsewhere"])
    assert cache.has("key")


def test_a_refresh_of_an_output_that_is_invalidated_meanwhile(smart, another):
    cache = smart()
    other = another()
    cache.put("key", "good", "", ttl_seconds=1000, compile_time_ms=1e9)
    refresh = Counted("old", lambda: other.invalidate("key"))
    assert cache.get_or_compute("key", refresh, early_refresh=1e6, ttl_seconds=1000) == "old"
    assert not cache.has("key")


def test_who_waits_gets_it_computed_anew(smart, backend, another):
    cache, other = smart(), another()
    holder = Holder(other)
    waiter = Background(lambda: another().get_or_compute("key", Counted("new")))
    wait_until(has_waiters(backend), "somebody waits")
    cache.invalidate("key")
    assert waiter.result() == "new", "without waiting for the one who began before"
    assert holder.finish() == "held"
    assert cache.get("key") == "new"


def test_who_waits_is_told_when_the_old_one_ends(smart, backend, another):
    cache = smart()
    holder = Holder(another())
    waiter = Background(lambda: another().get_or_compute("key", Counted("new"), dependencies=["dep"]))
    wait_until(has_waiters(backend), "somebody waits")
    cache.invalidate("key")
    assert holder.finish() == "held"
    assert waiter.result() == "new"
    assert cache.get("key") == "new"
    assert backend.client.exists(LEASE) == 0


def test_who_comes_later_does_not_wait(smart, another):
    cache = smart()
    holder = Holder(another())
    cache.invalidate("key")
    assert cache.get_or_compute("key", Counted("new"), wait_s=0) == "new"
    assert cache.get("key") == "new"
    assert holder.finish() == "held"
    assert cache.get("key") == "new"


@pytest.mark.parametrize("invalidated", [False, True])
def test_without_a_lease_it_is_stored_only_in_place_of_one_who_died(smart, backend, another, invalidated):
    cache, other = smart(), another()
    holder = Holder(other)

    def die():
        let_lapse(backend)
        if invalidated:
            other.invalidate("key")

    assert cache.get_or_compute("key", Counted("mine", die), wait_s=0) == "mine"
    assert cache.get("key") == (None if invalidated else "mine")
    assert holder.finish() == "held"
    assert cache.get("key") == (None if invalidated else "mine")


def test_without_word_of_what_happened_it_is_not_stored(smart, another):
    cache = smart()
    holder = Holder(another())
    assert cache.get_or_compute("key", Counted("mine", holder.finish), wait_s=0) == "mine"
    assert cache.get("key") == "held"
    cache.invalidate("key")
    holder = Holder(another())
    ended = Counted("mine", lambda: (cache_of_holder.invalidate("key"), holder.finish()))
    cache_of_holder = another()
    assert cache.get_or_compute("key", ended, wait_s=0) == "mine"
    assert not cache.has("key")


def test_marks_that_went_count_for_all(smart, backend, another):
    cache, other = smart(), another()

    def many():
        backend.client.zadd(PART.voided, {key_id(b"%d" % number): 1 for number in range(10_000)})
        other.invalidate("another")
        assert backend.client.zscore(PART.voided, b"") == 1

    assert cache.get_or_compute("key", Counted("old", many)) == "old"
    assert not cache.has("key")
    assert cache.get_or_compute("key", Counted("new")) == "new"
    assert cache.has("key")


def test_where_nothing_was_computed_nothing_is_marked(smart, backend):
    cache = linked(smart())
    cache.invalidate("near")
    cache.invalidate_by_dependency("far", transitive=True)
    cache.clear()
    assert not backend.client.exists(PART.voided)


def test_a_function_that_is_forgotten_while_it_runs(another):
    results, forget = ["new", "old"], []

    def compute():
        for each in forget:
            each()
        forget.clear()
        return results.pop()

    remembered = another().memoize()(compute)
    forget.append(another().memoize()(compute).cache_clear)
    assert [remembered() for _ in range(3)] == ["old", "new", "new"]


# tasks


@pytest.mark.parametrize("partitions", [1, 4])
def test_a_task_is_done_again(smart, another, drain, change, partitions):
    cache = linked(smart(partitions=partitions))
    other, inputs = another(), ["old"]

    async def compiler(_source):
        made = inputs[-1]
        if made == "old":
            inputs.append("new")
            await asyncio.to_thread(change, other)
        return Compiled(made, dependencies=("near",))

    cache.warmup_unit("key", "source", "h")
    assert drain(compiler) == 1
    assert cache.get("key", "h") == "new"
    assert cache.get_stats()["warmups"] == 1
    assert cache.queue_stats().urgent == 0


def test_who_asks_for_it_again_while_it_runs_is_heard(smart, another, drain):
    """The key runs already, so it is not queued; but what runs began before the change."""
    cache, inputs = smart(), ["old"]
    other = another()
    cache.put("key", "first", "h", dependencies=["dep"])
    cache.invalidate_by_dependency("dep", rewarm=True)

    async def compiler(source):
        if len(inputs) == 1:
            inputs.append("new")
            await asyncio.to_thread(other.invalidate_by_dependency, "dep", rewarm=True)
        return Compiled(source, dependencies=("dep",))

    assert drain(compiler, lambda _key: (inputs[-1], inputs[-1])) == 1
    assert cache.get("key", "new") == "new"


def test_what_needed_no_work_may_need_it_now(smart, another, drain):
    cache, asked = smart(), []
    other = another()
    cache.put("key", "first", "h", dependencies=["dep"])
    cache.invalidate_by_dependency("dep", rewarm=True)

    def content(key):
        asked.append(key)
        if len(asked) > 1:
            return "source", "h"
        other.invalidate(key)
        return None

    async def compiler(source):
        return source

    assert drain(compiler, content) == 1
    assert asked == ["key", "key"]
    assert cache.get("key", "h") == "source"
