"""The warm-up queue: what is queued, in which order it is handed out, and how a task leaves it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from conftest import TIMEOUT_S

from distcache import AsyncSmartCache, Compiled, Warmer, Worker


@pytest.fixture
def cache(smart):
    return smart()


@pytest.fixture
def drain(backend, loop):
    """Runs a worker until nothing waits: drain(compile, provider)."""

    def run(compiler, provider=None, **options):
        warmer = Warmer(url=backend.url, timeout_s=TIMEOUT_S)
        warmer.compiler(compiler)
        if provider:
            warmer.content(provider)
        named = {"drain": True, "backoff_s": 0.001, "concurrency": 1, **options}

        async def main():
            return await Worker(warmer, **named).run()

        return loop.run(main())

    return run


async def upper(content):
    return content.upper()


def test_a_task_becomes_an_output(cache, drain):
    assert cache.warmup_unit("k", "source", "h") is True
    assert drain(upper) == 1
    assert cache.get("k", "h") == "SOURCE"
    stats = cache.queue_stats()
    assert (stats.urgent, stats.running, stats.delayed, stats.dead) == (0, 0, 0, 0)
    assert cache.get_stats()["warmups"] == 1


def test_an_event_tells_of_it(cache, drain):
    cache.warmup_unit("k", "source", "h")
    drain(upper)
    (event,) = [row for row in cache.get_recent_events() if row["type"] == "WARMUP"]
    assert event["key"] == "k"
    assert event["details"].startswith("manual warmup, time=")


def test_what_waits_is_not_queued_again(cache, drain):
    assert cache.warmup_unit("k", "source", "h")
    assert not cache.warmup_unit("k", "source", "h")
    assert cache.warmup_unit("k", "other", "h2")
    assert cache.queue_stats().urgent == 2
    assert drain(upper) == 2


def test_what_is_cached_is_not_queued(cache, drain):
    cache.put("k", "done", "h")
    assert not cache.warmup_unit("k", "source", "h")
    assert cache.warmup_unit("k", "newer", "h2")
    assert drain(upper) == 1
    assert cache.get("k") == "NEWER"


def test_what_runs_is_not_queued(cache, backend, drain):
    seen = []

    cache.warmup_unit("k", "source", "h")

    async def asks(content):
        async with AsyncSmartCache(url=backend.url, timeout_s=TIMEOUT_S) as client:
            seen.append(await client.warmup_unit("k", "source", "h"))
        return content

    drain(asks)
    assert seen == [False]


def test_bytes_stay_bytes_and_large_sources_come_whole(cache, drain):
    cache.warmup_unit("b", b"\x00\xff", "h")
    cache.warmup_unit("big", "x" * 300_000, "h")
    kinds = {}

    async def compiler(content, task):
        kinds[task.key] = (type(content), len(content))
        return content

    drain(compiler)
    assert kinds == {"b": (bytes, 2), "big": (str, 300_000)}
    assert cache.get("b") == b"\x00\xff"


def test_a_compiler_may_say_more_than_the_output(cache, drain):
    cache.warmup_unit("k", "source", "h")

    async def compiler(content, task):
        return Compiled(content + task.reason, dependencies=("lib.h",), file_path="k.c", line_range=(1, 9))

    drain(compiler)
    info = cache.inspect("k")
    assert (info.dependencies, info.file_path, info.line_range) == (("lib.h",), "k.c", (1, 9))
    assert cache.invalidate_by_dependency("lib.h") == ["k"]


def test_sync_compilers_run_in_threads(cache, drain):
    cache.warmup_unit("k", "source", "h")
    names = []

    def compiler(content):
        names.append(threading.current_thread().daemon)
        return content

    drain(compiler)
    assert names == [True]


def test_sources_come_from_the_provider(cache, drain):
    sources = {"a": ("source a", "h1"), "b": None}
    assert cache.warmup_dependencies(["a", "b"], lambda key: sources[key]) == 1
    assert drain(upper) == 1
    assert cache.get("a", "h1") == "SOURCE A"


def test_urgent_tasks_go_first(cache, backend, drain, loop):
    order = []

    async def compiler(content, task):
        order.append(task.reason)
        return content

    add(cache, "p", reason="predicted")
    add(cache, "r", reason="refresh")
    cache.warmup_unit("m", "source", "h")
    drain(compiler, lambda key: (key, "h"))
    assert order == ["manual", "predicted", "refresh"]


def add(cache, key, content=None, content_hash="", reason="manual"):
    """Queue through the flow, for the reasons that callers do not choose."""
    return cache._run(cache._queue.add(key, content, content_hash, reason), default=False)


def test_a_predicted_task_that_is_asked_for_moves_up(cache, drain):
    order = []

    async def compiler(content, task):
        order.append((task.key, task.reason))
        return content

    add(cache, "p1", reason="predicted")
    add(cache, "p2", reason="predicted")
    assert not add(cache, "p2", "source", reason="manual")
    drain(compiler, lambda key: (key, "h"))
    assert order == [("p2", "manual"), ("p1", "predicted")]


def test_a_worker_without_sources_leaves_predicted_tasks(cache, drain):
    add(cache, "p", reason="predicted")
    cache.warmup_unit("m", "source", "h")
    assert drain(upper) == 1
    assert cache.queue_stats().predicted == 1
    assert drain(upper, lambda key: (key, "h")) == 1


def test_a_key_without_source_is_skipped(cache, drain):
    add(cache, "gone", reason="predicted")
    assert drain(upper, lambda _key: None) == 0
    assert cache.queue_stats().predicted == 0


def test_what_the_provider_says_is_cached_is_not_compiled(cache, drain):
    add(cache, "p", reason="dependency")
    cache.put("p", "there", "h")
    assert drain(upper, lambda _key: ("source", "h")) == 0
    assert cache.get("p") == "there"


# failures


def test_a_failed_task_is_tried_again(cache, drain):
    cache.warmup_unit("k", "source", "h")
    attempts = []

    async def compiler(content, task):
        attempts.append(task.attempt)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return content

    assert drain(compiler) == 1
    assert attempts == [0, 1, 2]


def test_fault_warm_up_failures_vanished(cache, drain):
    cache.warmup_unit("k", "source", "h")

    async def compiler(_content):
        raise ValueError("never " + "x" * 1000)

    assert drain(compiler, attempts=2) == 0
    (letter,) = cache.queue_tasks("dead")
    assert (letter.key, letter.content_hash, letter.reason, letter.attempt) == ("k", "h", "manual", 2)
    assert letter.error.startswith("ValueError: never xxx")
    assert len(letter.error) <= 500
    assert "in compiler" in letter.traceback
    assert cache.queue_requeue([letter.id]) == 1
    assert drain(upper) == 1
    assert cache.queue_tasks("dead") == []


def test_dead_letters_are_dropped(cache, drain):
    for key in ("a", "b"):
        cache.warmup_unit(key, "source", "h")

    async def compiler(_content):
        raise ValueError

    drain(compiler, attempts=1)
    letters = cache.queue_tasks("dead")
    assert {letter.key for letter in letters} == {"a", "b"}
    assert cache.queue_drop([letters[0].id]) == 1
    assert cache.queue_drop() == 1
    assert cache.queue_stats().dead == 0


def test_asking_again_revives_a_dead_letter_and_a_prediction_does_not(cache, drain):
    async def compiler(_content):
        raise ValueError

    add(cache, "k", "source")
    drain(compiler, attempts=1)
    assert not add(cache, "k", reason="predicted")
    assert cache.queue_stats().dead == 1
    assert add(cache, "k", "source")
    assert cache.queue_stats().dead == 0
    assert drain(upper) == 1


def test_an_output_that_cannot_be_stored_is_given_up_at_once(cache, drain):
    cache.warmup_unit("k", "source", "h")

    async def compiler(_content):
        return 7

    drain(compiler)
    (letter,) = cache.queue_tasks("dead")
    assert letter.error.startswith("TypeError")


def test_an_output_over_the_bound_is_given_up_at_once(smart, drain):
    cache = smart(max_size_mb=0.001)
    cache.warmup_unit("k", "source", "h")

    async def compiler(_content):
        return "x" * 5000

    drain(compiler)
    (letter,) = cache.queue_tasks("dead")
    assert letter.error.startswith("ValueTooLarge")


def test_predicted_tasks_are_refused_when_the_queue_is_long(cache):
    cache.warmup_unit("a", "source", "h")
    cache.warmup_unit("b", "source", "h")
    add_op = cache._queue.agreed
    refused = cache._run(add_op(lambda ops: iter(ops.add(b"p", b"", b"", "predicted", bound=2))), 0)
    taken = cache._run(add_op(lambda ops: iter(ops.add(b"p", b"", b"", "predicted", bound=3))), 0)
    assert (refused, taken) == (-2, 1)
    assert cache.warmup_unit("c", "source", "h")


def test_several_partitions(smart, drain):
    cache = smart(partitions=4)
    for number in range(20):
        cache.warmup_unit(f"k{number}", "source", "h")
    assert drain(upper, concurrency=3) == 20
    assert all(cache.get(f"k{number}") == "SOURCE" for number in range(20))


def test_no_more_run_at_the_same_time_than_asked_for(cache, drain):
    running, most = 0, 0

    async def compiler(content):
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(10):  # turns of the loop, in which others could start
            await asyncio.sleep(0)
        running -= 1
        return content

    for number in range(40):
        cache.warmup_unit(f"k{number}", "source", "h")
    assert drain(compiler, concurrency=3) == 40
    assert most == 3


def test_max_tasks(cache, drain):
    for number in range(5):
        cache.warmup_unit(f"k{number}", "source", "h")
    assert drain(upper, drain=False, max_tasks=3) == 3
    assert cache.queue_stats().urgent == 2


def test_signed_sources(smart, drain, backend):
    keys = (b"k" * 32,)
    cache = smart(sign_keys=keys)
    cache.warmup_unit("k", "source", "h")
    drain(upper)  # a worker without the keys trusts what it reads, and its output is refused by those who have them
    assert cache.get("k") is None
    cache.warmup_unit("k2", "source", "h")
    (task,) = [key for key in backend.client.keys("*") if b"}:t:" in key]
    backend.client.hset(task, "c", b"\x01planted")
    drain(upper, sign_keys=keys)
    (letter,) = cache.queue_tasks("dead")
    assert letter.error.startswith("CorruptEntry")


def test_workers_are_listed_while_they_run(cache, backend, loop):
    cache.warmup_unit("k", "source", "h")
    seen = []

    async def compiler(content):
        flow = worker._queue.workers()
        while not seen:
            seen.extend(await worker._executor.drive(flow))
            flow = worker._queue.workers()
            await asyncio.sleep(0)
        return content

    async def main():
        await worker.run()

    warmer = Warmer(url=backend.url)
    warmer.compiler(compiler)
    worker = Worker(warmer, name="one", drain=True, timeout_s=TIMEOUT_S)
    loop.run(main())
    assert [(info.name, info.alive) for info in seen] == [("one", True)]
    assert cache.workers() == []
