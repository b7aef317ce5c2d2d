"""The history of compiles, and what is learned from the order of requests."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import socket
import threading
from dataclasses import replace

import pytest
from conftest import TIMEOUT_S

from distcache import SmartCache
from distcache.errors import ValueTooLarge
from distcache.keys import Partition, key_id
from distcache.smart.followed import Followed
from distcache.smart.learner import BATCH, KEPT

PART = Partition("smart", 0)
A = key_id(b"a")


def hashes(records):
    return [record.content_hash for record in records]


def test_more_is_learned_at_once_than_a_call_takes(smart):
    cache = smart(max_entries=2000)
    cache.put_many([{"key": f"k{number % 1500}", "output": "x", "content_hash": "h"} for number in range(3000)])
    cache.flush()
    assert cache.get_predicted_next("k7")[0] == "k8"


def test_history_lists_every_compile(smart, backend):
    cache = smart(producer="ci-1")
    other = smart(producer="ci-2")
    cache.put("a", "1" * 10, "h1", compile_time_ms=5)
    other.put("a", "2" * 20, "h2", compile_time_ms=7.5)
    cache.put("a", "3" * 30, "h3")
    records = other.get_history("a")
    assert [(r.content_hash, r.compile_time_ms, r.size_bytes, r.producer, r.held) for r in records] == [
        ("h3", 0, 30, "ci-1", True),
        ("h2", 7.5, 20, "ci-2", False),
        ("h1", 5, 10, "ci-1", False),
    ]
    stamps = [record.timestamp for record in records]
    assert stamps == sorted(stamps, reverse=True)
    assert 0 <= backend.keyspace().now_ms - stamps[-1] < 60_000
    assert cache.get_history("a", 2) == records[:2]
    assert cache.get_history("a", 0) == []
    assert cache.get_history("a", -3) == []
    assert cache.get_history("b") == []


def test_the_producer_is_host_and_process_unless_set(smart):
    cache = smart()
    cache.put("a", "1", "h1")
    assert cache.get_history("a")[0].producer == f"{socket.gethostname()}:{os.getpid()}"


def test_held_is_about_this_very_output(smart):
    cache = smart(versions=2)
    cache.put("a", "1", "h")
    cache.put("a", "1", "h")
    assert [record.held for record in cache.get_history("a")] == [True, False]
    cache.put("a", "2", "h2")
    assert [record.held for record in cache.get_history("a")] == [True, True, False]
    cache.put("a", "3", "h3")
    assert [record.held for record in cache.get_history("a")] == [True, True, False, False]
    cache.invalidate("a")
    assert [record.held for record in cache.get_history("a")] == [False] * 4


def test_history_outlives_the_entry(smart):
    cache = smart(max_entries=1)
    cache.put("a", "1", "h")
    cache.put("b", "1", "h")
    assert hashes(cache.get_history("a")) == ["h"]
    cache.clear()
    assert hashes(cache.get_history("a")) == ["h"]


def test_the_one_compile_of_an_entry_is_recorded_in_the_entry_alone(smart, backend):
    cache = smart()
    cache.put("a", "1", "h")
    assert hashes(cache.get_history("a")) == ["h"]
    assert not backend.client.exists(PART.histories, PART.records + key_id(b"a"))


def expire(cache, backend):
    backend.let_pass(60)
    cache.cleanup_expired()


def too_large(cache, backend):
    with pytest.raises(ValueTooLarge):
        cache.put("a", "x" * 2**21, "h")


GONE = {
    "invalidated": lambda cache, backend: cache.invalidate("a"),
    "invalidated by a dependency": lambda cache, backend: cache.invalidate_by_dependency("d"),
    "expired": expire,
    "evicted": lambda cache, backend: [cache.put(f"k{number}", "x", "h") for number in range(3)],
    "cleared": lambda cache, backend: cache.clear(),
    "found corrupt": lambda cache, backend: (
        backend.client.hset(PART.entry(key_id(b"a")), "o", b"\xff none of ours"),
        cache.get("a"),
    ),
    "larger than the cache": too_large,
}


@pytest.mark.parametrize("how", GONE)
def test_the_record_stays_when_the_entry_goes(smart, backend, how):
    cache = smart(max_entries=3, max_size_mb=1, producer="cï 1", policy="lru")
    cache.put("a", "12", "h", ["d"], compile_time_ms=1e-7, ttl_seconds=50)
    (before,) = cache.get_history("a")
    if how != "expired":
        backend.let_pass(1)
    GONE[how](cache, backend)
    assert not cache.has("a")
    (record,) = cache.get_history("a")
    passed_ms = 60_000 if how == "expired" else 1000
    assert record == replace(before, held=False, timestamp=before.timestamp - passed_ms)
    assert (record.content_hash, record.compile_time_ms, record.size_bytes, record.producer) == ("h", 1e-7, 2, "cï 1")


def test_a_record_of_strange_names(smart):
    cache = smart(producer="7 \ud800 \0 7")
    for content_hash in ("", "3 \ud800", "\0 h"):
        cache.put("a", "1", content_hash)
        cache.invalidate("a")
    assert [(record.content_hash, record.producer) for record in cache.get_history("a")] == [
        ("\0 h", "7 \ud800 \0 7"),
        ("3 \ud800", "7 \ud800 \0 7"),
        ("", "7 \ud800 \0 7"),
    ]


def test_history_is_capped(smart):
    cache = smart(history=3)
    for number in range(6):
        cache.put("a", "x", f"h{number}")
    assert hashes(cache.get_history("a")) == ["h5", "h4", "h3"]


def test_a_list_that_begins_is_capped_too(smart, backend):
    cache = smart(history=1)
    for content_hash in ("h1", "h2"):
        cache.put("a", "x", content_hash)
        cache.invalidate("a")
    assert backend.client.llen(PART.records + A) == 1
    assert hashes(cache.get_history("a")) == ["h2"]


def test_history_can_be_off(smart, backend):
    cache = smart(history=0)
    cache.put("a", "x", "h1")
    cache.put("a", "x", "h2")
    cache.invalidate("a")
    assert cache.get_history("a") == []
    assert not backend.client.exists(PART.histories, PART.retired, PART.records + A)


def test_old_records_are_not_shown(smart, backend):
    cache = smart(history_age_s=100)
    cache.put("a", "x", "h1")
    backend.let_pass(60)
    cache.put("a", "x", "h2")
    assert hashes(cache.get_history("a")) == ["h2", "h1"]
    backend.let_pass(60)
    assert hashes(cache.get_history("a")) == ["h2"]
    backend.let_pass(60)
    assert cache.get_history("a") == []


def test_an_old_record_of_a_key_that_has_gone_is_not_shown(smart, backend):
    cache = smart(history_age_s=100)
    cache.put("a", "x", "h1")
    cache.invalidate("a")
    backend.let_pass(60)
    assert hashes(cache.get_history("a")) == ["h1"]
    backend.let_pass(60)
    assert cache.get_history("a") == []


def test_a_list_lives_as_long_as_its_latest_record(smart, backend):
    cache = smart(history_age_s=100)
    cache.put("a", "x", "h1")
    cache.put("a", "x", "h2")
    backend.let_pass(60)
    cache.put("a", "x", "h3")
    assert 90_000 < backend.client.pttl(PART.records + A) <= 100_000


def test_the_number_of_histories_is_bounded(smart, backend):
    cache = smart(max_entries=2)
    for number in range(12):
        cache.put(f"k{number}", "x", "h1")
        cache.put(f"k{number}", "x", "h2")
    assert backend.client.zcard(PART.histories) == 8
    assert [hashes(cache.get_history(f"k{number}")) for number in range(12)] == [[]] * 4 + [["h2", "h1"]] * 8


def test_the_list_that_was_added_to_last_stays(smart):
    cache = smart(max_entries=2)
    for number in range(8):
        cache.put(f"k{number}", "x", "h1")
        cache.put(f"k{number}", "x", "h2")
    cache.put("k0", "x", "h3")
    cache.put("k9", "x", "h1")
    cache.put("k9", "x", "h2")
    assert hashes(cache.get_history("k0")) == ["h3", "h2", "h1"]
    assert cache.get_history("k1") == []


def test_lists_over_a_lowered_bound_go_little_by_little(smart, backend):
    cache = smart(max_entries=60)
    for number in range(200):
        for content_hash in ("h1", "h2"):
            cache.put(f"k{number}", "x", content_hash)
    assert backend.client.zcard(PART.histories) == 200
    cache = smart(max_entries=10, reconfigure=True)
    cache.cleanup_expired()
    cache.put_many([{"key": f"new {number}", "output": "x", "content_hash": "h"} for number in range(90)])
    assert backend.client.zcard(PART.histories) == 40
    assert len([key for key in backend.keyspace().tags()[PART.tag] if key.startswith(b"h:")]) == 40


def test_a_key_that_goes_again_in_the_next_generation_has_a_list(smart, backend):
    cache = smart(max_entries=1)
    for key, content_hash in (("a", "h1"), ("b", "h1"), ("a", "h2")):
        cache.put(key, "x", content_hash)
        cache.invalidate(key)
    assert backend.client.llen(PART.records + A) == 2
    assert not any(backend.client.hexists(name, A) for name in (PART.retired, PART.retired_old))
    assert hashes(cache.get_history("a")) == ["h2", "h1"]


def test_what_is_no_record_is_not_shown(smart, backend):
    cache = smart()
    cache.put("a", "x", "h1")
    backend.client.hset(PART.retired, A, "1 1e400 0 1 1 h")
    backend.client.set(PART.retired_old, "no hash")
    assert hashes(cache.get_history("a")) == ["h1"]
    backend.client.delete(PART.retired, PART.retired_old)


def test_the_number_of_retired_records_is_bounded(smart, backend):
    """Two generations, each of twice the entries."""
    cache = smart(max_entries=2, history_age_s=100)
    for number in range(12):
        cache.put(f"k{number}", "x", "h")
    assert not backend.client.exists(PART.histories)
    assert [backend.client.hlen(name) for name in (PART.retired_old, PART.retired)] == [4, 2]
    assert 0 < backend.client.pttl(PART.retired_old) <= 100_000
    assert [hashes(cache.get_history(f"k{number}")) for number in range(12)] == [[]] * 4 + [["h"]] * 8


@pytest.mark.parametrize("policy", ["adaptive", "windowed", "lru"])
def test_every_compile_is_listed_wherever_its_record_is(smart, backend, policy):
    """As many keys as are remembered for certain, put, evicted and invalidated in any order."""
    cache, chance, made, seen = smart(max_entries=4, policy=policy), random.Random(7), {}, set()
    names = (PART.retired, PART.retired_old, PART.histories)
    for number in range(250):
        seen.update(name for name in names if backend.client.exists(name))
        key, what = f"k{chance.randrange(12)}", chance.random()
        if number < 12:  # each of them once, which goes
            key, what = f"k{number}", 0.0
        if what < 0.8:
            cache.put(key, "x", f"h{number}")
            made[key] = [f"h{number}", *made.get(key, ())]
        elif what < 0.97:
            cache.invalidate(key)
        else:
            cache.clear()
        assert hashes(cache.get_history(key)) == made.get(key, [])
    assert {key: hashes(cache.get_history(key)) for key in made} == made
    assert seen == set(names)


# learning


def walk(cache, keys):
    for key in keys:
        cache.get(key)


def test_what_came_next_is_predicted(smart):
    cache = smart()
    walk(cache, "abcabcabc")
    assert cache.get_predicted_next("a") == ["b"]
    assert cache.get_predicted_next("b") == ["c"]
    assert cache.get_predicted_next("c") == ["a"]
    assert cache.get_predicted_next("z") == []
    assert cache.get_stats()["access_patterns"] == 3


def test_the_likeliest_comes_first_not_the_first_ever_seen(smart):
    cache = smart()
    walk(cache, "ax" + "ay" * 2 + "az" * 5)
    assert cache.get_predicted_next("a") == ["z", "y", "x"]
    assert cache.get_predicted_next("a", 1) == ["z"]
    assert cache.get_predicted_next("a", 0) == []
    assert cache.get_predicted_next("a", -1) == []


def test_counts_age(smart):
    """A count halves in 16 observations: 40 old ones weigh less than 20 new ones, and more than 2."""
    cache = smart()
    walk(cache, "ab" * 40)
    walk(cache, "ac" * 2)
    assert cache.get_predicted_next("a") == ["b", "c"]
    walk(cache, "ac" * 18)
    assert cache.get_predicted_next("a") == ["c", "b"]


def test_weights_are_counts_that_halve_every_16_observations(smart, backend):
    cache = smart()
    sequence = "bbcbdccbbbcd" * 4
    for key in sequence:
        walk(cache, "a" + key)
    cache.flush()
    weights = dict.fromkeys(sequence, 0.0)
    for key in sequence:
        weights = {one: weight / 2 ** (1 / 16) for one, weight in weights.items()}
        weights[key] += 1
    fields = backend.client.hgetall(PART.after + key_id(b"a"))
    known = Followed.decode([part for item in fields.items() for part in item])
    counts = {key: 2 ** (weight - known.clock) for key, weight in known.nexts.items()}
    assert counts == pytest.approx(weights, rel=1e-9)


def test_puts_are_part_of_the_sequence_and_repeats_are_not(smart):
    cache = smart()
    cache.get("a")
    cache.put("a", "x", "h")
    cache.get("a")
    cache.put("b", "x", "h")
    cache.get_many(["c", "d"])
    cache.has("x")
    cache.inspect("y")
    cache.get("e")
    assert [cache.get_predicted_next(key) for key in "abcde"] == [["b"], ["c"], ["d"], ["e"], []]


def test_other_clients_teach_nothing_across(smart):
    """Two clients of one cache, asking in turns, each in an order of its own."""
    one, two = smart(), smart()
    for left, right in zip("abcabc", "xyzxyz", strict=True):
        one.get(left)
        two.get(right)
    one.flush()
    two.flush()
    assert {key: one.get_predicted_next(key) for key in "abcxyz"} == {
        "a": ["b"],
        "b": ["c"],
        "c": ["a"],
        "x": ["y"],
        "y": ["z"],
        "z": ["x"],
    }


CHAINS = [[f"{letter}{number}" for number in range(6)] for letter in "pqrs"]


def predictions(cache):
    return {key: cache.get_predicted_next(key) for chain in CHAINS for key in chain}


EXPECTED = {
    **{key: [following] for chain in CHAINS for key, following in itertools.pairwise(chain)},
    **{chain[-1]: [] for chain in CHAINS},
}


@pytest.mark.parametrize("twin", ["sync"], indirect=True)
def test_threads_teach_nothing_across(smart):
    cache = smart()
    turn = threading.Barrier(len(CHAINS))

    def work(chain):
        for key in chain:
            turn.wait(10)
            cache.get(key)

    threads = [threading.Thread(target=work, args=(chain,)) for chain in CHAINS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert predictions(cache) == EXPECTED


@pytest.mark.parametrize("twin", ["async"], indirect=True)
def test_tasks_teach_nothing_across(smart):
    """Tasks that run in turns; each has inherited the context of the one that made it, which had asked before."""
    cache = smart()

    async def work(chain):
        for key in chain:
            await cache.raw.get(key)
            await asyncio.sleep(0)

    async def parent():
        await cache.raw.get("before")
        await asyncio.gather(*map(work, CHAINS))

    cache._settle(parent())
    assert predictions(cache) == EXPECTED
    assert cache.get_predicted_next("before") == []


def test_lessons_ride_along_in_batches(smart, backend):
    cache = smart()
    for number in range(BATCH):
        cache.get(f"k{number}")
    assert not backend.client.exists(PART.learned)
    cache.get("last")
    cache.get("one more")
    assert backend.client.zcard(PART.learned) >= BATCH


def test_one_read_does_not_carry_all_that_bulk_reads_left(smart):
    cache = smart()
    cache.get_many([f"k{number}" for number in range(KEPT)])
    flows = cache.raw._flows
    assert len(flows._riders(flows._ops)) == 1
    cache.flush()
    assert flows.learner.waiting == 0


def test_closing_sends_the_rest(smart, backend):
    cache = smart()
    walk(cache, "ab")
    assert not backend.client.exists(PART.learned)
    cache.close()
    assert smart().get_predicted_next("a") == ["b"]


def test_what_cannot_be_sent_is_bounded(backend, tmp_path):
    cache = SmartCache(tmp_path, url=backend.url, timeout_s=TIMEOUT_S)
    cache._flows.learner._affordable = 2 * KEPT
    for number in range(2 * KEPT):
        cache._flows.learner.saw(b"%d" % number)
    assert len(cache._flows.learner.take()) == KEPT
    cache.close()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_process_does_not_teach_what_its_parent_saw(real, tmp_path):
    with SmartCache(tmp_path, url=real.url, timeout_s=TIMEOUT_S) as cache:
        for key in "abc":
            cache.get(key)
        child = os.fork()
        if child == 0:
            try:
                cache.get("d")
                cache.flush()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        assert not real.client.exists(PART.learned)
        assert cache.get_predicted_next("a") == ["b"]
        assert cache.get_predicted_next("c") == []


def test_successors_are_bounded_and_the_lightest_go(smart, backend):
    cache = smart()
    walk(cache, ["a", "often"] * 5)
    for number in range(100):
        walk(cache, ["a", f"k{number}"])
        cache.flush()
    found = cache.get_predicted_next("a", 200)
    assert 32 <= len(found) <= 48
    assert "k99" in found
    assert "k0" not in found


def test_what_was_learned_has_a_time_to_live_that_starts_anew(smart, backend):
    cache = smart()
    name = PART.after + key_id(b"a")
    walk(cache, "abc")
    cache.flush()
    month_ms = 30 * 24 * 3600 * 1000
    assert month_ms - 60_000 < backend.client.pttl(name) <= month_ms
    backend.client.pexpire(name, 60_000)
    for _ in range(3):  # at the latest with the fourth observation
        walk(cache, "abc")
        cache.flush()
    assert month_ms - 60_000 < backend.client.pttl(name) <= month_ms


def test_the_number_of_lessons_is_bounded(smart, backend):
    cache = smart(max_entries=2)
    walk(cache, [f"k{number}" for number in range(30)])
    cache.flush()
    assert backend.client.zcard(PART.learned) == 8
    assert cache.get_predicted_next("k0") == []
    assert cache.get_predicted_next("k28") == ["k29"]


def test_lessons_in_many_partitions(smart):
    cache = smart(partitions=5)
    walk(cache, "abcdefgh" * 2)
    assert [cache.get_predicted_next(key) for key in "abcdefgh"] == [[key] for key in "bcdefgha"]
    assert cache.get_stats()["access_patterns"] == 8
