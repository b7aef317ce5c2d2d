"""What is queued ahead of need: predicted keys, invalidated ones, and those that will expire soon."""

from __future__ import annotations

import asyncio

import pytest
from conftest import TIMEOUT_S

from distcache import ConfigError, Warmer, Worker
from distcache.warmup import ahead


@pytest.fixture
def cache(smart):
    return smart()


@pytest.fixture
def work(backend, loop):
    """Runs a worker until nothing waits, with a source for every key; the keys it compiled."""

    def run():
        order = []
        warmer = Warmer(url=backend.url, timeout_s=TIMEOUT_S)

        @warmer.compiler
        async def compiler(content, task):
            order.append((task.key, task.reason))
            return content

        @warmer.content
        def content(key):
            return f"source of {key}", "h"

        async def main():
            await Worker(warmer, drain=True, concurrency=1).run()

        loop.run(main())
        return order

    return run


def events(cache, kind):
    return [(row["key"], row["details"]) for row in cache.get_recent_events() if row["type"] == kind]


def ask_again(cache):
    """Let the next read carry a question, and forget what was looked at."""
    foresight = cache._flows.ahead
    foresight._next = float("-inf")
    foresight._seen.clear()


def test_fault_predictions_were_only_logged_never_warmed(cache, work):
    for key in "abab":
        cache.put(key, f"output of {key}", "h")
    cache.invalidate("b")
    ask_again(cache)
    cache.get("a")
    assert events(cache, "PREDICT") == [("b", "predicted from a")]
    assert work() == [("b", "predicted")]
    (event,) = events(cache, "WARMUP")
    assert event[0] == "b"
    assert event[1].startswith("predictive warmup, time=")
    assert cache.get("b") == "source of b"
    stats = cache.get_stats()
    assert (stats["predicted"], stats["warmed"], stats["warmed_used"]) == (1, 1, 1)
    assert stats["precision"] == 1.0
    cache.get("b")
    assert cache.get_stats()["warmed_used"] == 1


def test_a_prediction_from_any_key_is_told(cache):
    odd = "x\udfff"
    for key in (odd, "b", odd, "b"):
        cache.put(key, "output", "h")
    cache.invalidate("b")
    ask_again(cache)
    cache.get(odd)
    assert events(cache, "PREDICT") == [("b", f"predicted from {odd}")]


def test_what_the_server_has_learned_predicts_for_other_clients(smart, work):
    one, two = smart(), smart()
    for key in "abcabc":
        one.get(key)
    one.flush()
    two.get("b")
    assert ("c", "predicted from b") in events(one, "PREDICT")


def test_what_is_cached_or_unlikely_is_not_queued(cache):
    for key in ("a", *[word for number in range(10) for word in (f"b{number}", "a")]):
        cache.put(key, "x", "h")
    cache.invalidate("b3")
    ask_again(cache)
    cache.get("a")
    assert cache.queue_stats().predicted == 0


def test_a_miss_that_had_been_predicted_is_counted(cache):
    for key in "ababa":
        cache.put(key, "x", "h")
    cache.invalidate("b")
    ask_again(cache)
    cache.get("a")
    before = cache.get_stats()["misses"]
    assert cache.get("b") is None
    stats = cache.get_stats()
    assert stats["misses"] == before + 1
    assert stats["predicted_late"] == 1
    assert stats["recall"] == 1 / stats["misses"]


def test_reads_ask_now_and_then_only(cache):
    foresight, now = cache._flows.ahead, [1000.0]
    foresight._clock = lambda: now[0]
    foresight._next = float("-inf")
    foresight._learner._owner = lambda: 0
    foresight._learner.saw(b"x")
    assert foresight.recent() == (b"x",)
    assert foresight.recent() == ()
    now[0] += ahead.ASK_EVERY_S
    assert foresight.recent() == (b"x",)


def test_the_budget_holds(cache):
    foresight, now = cache._flows.ahead, [1000.0]
    foresight._clock = lambda: now[0]
    foresight._counted, foresight._budget = now[0], ahead.TASKS_PER_S
    assert sum(foresight._worth_it(b"%d" % number, b"") for number in range(100)) == ahead.TASKS_PER_S
    now[0] += 1.0
    assert sum(foresight._worth_it(b"%d" % number, b"") for number in range(100)) == 0 + ahead.TASKS_PER_S
    now[0] += 1.0
    assert not foresight._worth_it(b"0", b"")
    now[0] += ahead.FORGET_S
    assert foresight._worth_it(b"0", b"")


@pytest.mark.parametrize("options", [{"enable_warmup": False}, {"read_only": True}])
def test_nothing_is_predicted_where_it_is_not_wanted(smart, options):
    with_it = smart()
    for key in "abab":
        with_it.put(key, "x", "h")
    with_it.invalidate("b")
    with_it.flush()
    smart(**options).get("a")
    assert with_it.queue_stats().predicted == 0


def test_what_was_invalidated_is_queued_most_valuable_first(cache, work):
    for key, cost, uses in (("cheap", 1, 5), ("dear", 100, 0), ("used", 60, 3), ("free", 0, 9)):
        cache.put(key, "x", "h", ["lib"], compile_time_ms=cost)
        for _ in range(uses):
            cache.get(key)
    assert sorted(cache.invalidate_by_dependency("lib", rewarm=True)) == ["cheap", "dear", "free", "used"]
    tasks = [task.key for task in cache.queue_tasks() if task.reason == "dependency"]
    assert tasks == ["used", "dear", "cheap", "free"]
    assert [key for key, reason in work() if reason == "dependency"] == tasks
    assert cache.get("dear") == "source of dear"


def test_chains_are_queued_too(cache):
    cache.put("b", "x", "h", ["c"])
    cache.put("a", "x", "h", ["b"])
    assert sorted(cache.invalidate_by_dependency("c", True, rewarm=True)) == ["a", "b"]
    assert {task.key for task in cache.queue_tasks()} == {"a", "b"}


def test_without_rewarm_nothing_is_queued(cache):
    cache.put("b", "x", "h", ["c"])
    cache.invalidate_by_dependency("c")
    assert cache.queue_stats().urgent == 0


def test_an_entry_near_its_end_is_made_anew(smart, backend, work):
    cache = smart(ttl_seconds=100, refresh_ahead=0.2)
    cache.put("k", "old", "h")
    cache.get("k")
    assert cache.queue_stats().predicted == 0
    backend.let_pass(90)
    assert cache.get("k") == "old"
    assert cache.get("k") == "old"
    (task,) = cache.queue_tasks()
    assert (task.key, task.reason, task.content_hash) == ("k", "refresh", "h")
    assert work() == [("k", "refresh")]
    assert cache.get("k") == "source of k"
    backend.let_pass(50)
    assert cache.get("k") == "source of k"


def test_it_is_off_by_default_and_checked(smart, backend):
    cache = smart(ttl_seconds=100)
    cache.put("k", "old", "h")
    backend.let_pass(99)
    cache.get("k")
    assert cache.queue_stats().predicted == 0
    with pytest.raises(ConfigError, match="refresh_ahead"):
        smart(refresh_ahead=1.5)


def test_predicted_tasks_that_nobody_takes_make_room(cache, backend):
    def predict(key, bound):
        return cache._run(cache._queue.agreed(lambda ops: iter(ops.add(key, b"", b"", "predicted", bound=bound))), 0)

    assert predict(b"a", 1) == 1
    assert predict(b"b", 1) == -2
    (task,) = [key for key in backend.client.keys("*") if b"}:t:" in key]
    assert 0 < backend.client.pttl(task) <= 600_000
    backend.client.delete(task)  # as when its time is over
    assert predict(b"b", 1) == 1


def test_concurrent_reads_are_not_disturbed(smart, twin):
    if twin == "sync":
        return
    cache = smart()

    async def main():
        await asyncio.gather(*(cache.raw.put(f"k{number}", "x", "h") for number in range(50)))
        return await asyncio.gather(*(cache.raw.get(f"k{number}") for number in range(50)))

    assert set(cache._settle(main())) == {"x"}
