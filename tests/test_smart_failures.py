"""With the server down, slow, full or not for us: misses or errors as asked, and a reader that sends no write."""

from __future__ import annotations

import logging

import pytest
from conftest import TIMEOUT_S, smart_on
from servers import binaries, start_server, wait_until

from distcache import CircuitOpen, ServerError, SmartCache, Unavailable
from distcache.errors import ValueTooLarge
from distcache.executor import Endpoint, SyncExecutor, fake
from distcache.keys import Keyspace, Partition
from distcache.smart.ops import SmartOps
from distcache.smart.records import Metadata

CALLS = {
    "get": (lambda cache: cache.get("a"), None),
    "get_many": (lambda cache: cache.get_many(["a", "b"]), {}),
    "put": (lambda cache: cache.put("a", "x", "h"), False),
    "put_many": (lambda cache: cache.put_many([{"key": "a", "output": "x", "content_hash": "h"}]), 0),
    "invalidate": (lambda cache: cache.invalidate("a"), False),
    "invalidate_by_dependency": (lambda cache: cache.invalidate_by_dependency("a"), []),
    "transitive": (lambda cache: cache.invalidate_by_dependency("a", transitive=True), []),
    "has": (lambda cache: cache.has("a"), False),
    "touch": (lambda cache: cache.touch("a"), False),
    "keys": (lambda cache: cache.keys(), []),
    "inspect": (lambda cache: cache.inspect("a"), None),
    "get_history": (lambda cache: cache.get_history("a"), []),
    "clear": (lambda cache: cache.clear(), 0),
    "cleanup_expired": (lambda cache: cache.cleanup_expired(), 0),
    "save": (lambda cache: cache.save(), False),
    "get_recent_events": (lambda cache: cache.get_recent_events(), []),
    "get_hot_entries": (lambda cache: cache.get_hot_entries(), []),
    "get_predicted_next": (lambda cache: cache.get_predicted_next("a"), []),
}


@pytest.fixture
def server_down(fakebackend):
    """A server that cannot be reached from now on."""

    def down():
        fake.server("tests").connected = False

    yield down
    fake.server("tests").connected = True


@pytest.fixture
def make(fakebackend, opener, tmp_path):
    """fakeredis is never late, so a short deadline only shortens the waiting for a server that is down."""
    opened = smart_on(fakebackend, opener, tmp_path)
    return lambda **options: opened(**{"timeout_s": 0.05, **options})


@pytest.mark.parametrize("name", CALLS)
def test_with_the_server_down_a_call_misses(make, server_down, name):
    call, default = CALLS[name]
    cache = make(on_error="miss")
    cache.put("a", "x", "h")
    server_down()
    assert call(cache) == default
    assert cache.local_stats()["errors"] >= 1
    fake.server("tests").connected = True


@pytest.mark.parametrize("name", CALLS)
def test_with_the_server_down_a_call_raises_if_asked(make, server_down, name):
    cache = make(on_error="raise")
    server_down()
    with pytest.raises(Unavailable, match="cannot be reached"):
        CALLS[name][0](cache)
    fake.server("tests").connected = True


def test_statistics_without_a_server_have_the_same_keys(make, server_down):
    cache = make(on_error="miss", max_entries=50)
    there = cache.get_stats()
    server_down()
    assert cache.get_stats().keys() == there.keys()
    assert cache.get_stats()["max_entries"] == 50
    fake.server("tests").connected = True


def test_a_cache_can_be_made_while_the_server_is_down(make, server_down):
    server_down()
    cache = make(on_error="miss", max_entries=7)
    assert cache.get("a") is None
    assert cache.put("a", "x", "h") is False
    fake.server("tests").connected = True
    wait_until(lambda: cache.put("a", "x", "h"), "the cache is used when it is there")
    assert cache.get("a") == "x"
    assert cache.get_stats()["max_entries"] == 7


def test_with_the_server_down_an_error_of_the_caller_is_still_one(make, server_down):
    cache = make(on_error="miss")
    server_down()
    with pytest.raises(TypeError):
        cache.put("a", 7, "h")
    with pytest.raises(TypeError):
        cache.get(7)
    fake.server("tests").connected = True


def test_failures_are_logged_once_a_burst_and_show_no_keys(make, server_down, caplog):
    cache = make(on_error="miss")
    server_down()
    with caplog.at_level(logging.WARNING, "distcache"):
        for number in range(20):
            cache.get(f"secret {number}")
            cache.put(f"secret {number}", "secret output", "secret hash")
    assert len([record for record in caplog.records if record.name == "distcache"]) == 1
    assert "secret" not in caplog.text
    assert cache.local_stats()["errors"] == 40
    fake.server("tests").connected = True


def test_a_dead_server_costs_one_probe_a_second(make, server_down):
    cache = make(on_error="raise")
    server_down()
    for _ in range(3):
        with pytest.raises(Unavailable):
            cache.get("a")
    with pytest.raises(CircuitOpen):
        cache.get("a")
    fake.server("tests").connected = True


@pytest.mark.parametrize("name", sorted(binaries()))
def test_a_restarted_empty_server_is_used_at_once(name, opener, tmp_path):
    with start_server(binaries()[name]) as server:

        class Place:
            url = server.url

        cache = smart_on(Place, opener, tmp_path)()
        cache.put("a", "x", "h")
        server.restart()
        assert cache.get("a") is None
        assert cache.put("a", "y", "h") is True
        assert cache.get("a") == "y"
        opener.close()


def test_a_server_out_of_memory_refuses_and_nothing_is_half_written(smart, real):
    cache = smart()
    cache.put("a", "x", "h", ["d"])
    real.client.config_set("maxmemory", "1")
    before = real.keyspace().content()
    try:
        with pytest.raises(ServerError, match="out of memory"):
            cache.put("b", "y" * 100, "h", ["d"])
        assert real.keyspace().content() == before
    finally:
        real.client.config_set("maxmemory", "0")
    assert cache.put("b", "y", "h")


@pytest.fixture
def smart(real, opener, tmp_path):
    return smart_on(real, opener, tmp_path)


# readers


WRITES = (
    "hset",
    "set",
    "del",
    "unlink",
    "zadd",
    "xadd",
    "sadd",
    "srem",
    "zrem",
    "lpush",
    "expire",
    "pexpire",
    "rename",
)


def calls_of(backend):
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in backend.client.info("commandstats").items()}


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("name", CALLS)
def test_a_reader_sends_no_write(smart, real, name, partitions):
    writer = smart(partitions=partitions)
    for key in "abc":
        writer.put(key, "x", "h", ["d"])
        writer.get(key)
    writer.flush()
    reader = smart(read_only=True)
    before = real.keyspace().content()
    real.client.config_resetstat()
    CALLS[name][0](reader)
    reader.get("a")
    reader.get("missing")
    reader.close()
    calls = calls_of(real)
    assert not [command for command in calls if command in WRITES]
    assert "hmget" in calls, "the reader did read"
    assert real.keyspace().content() == before


def test_a_reader_sees_everything_and_changes_nothing(smart, tmp_path):
    writer, reader = smart(), smart(read_only=True)
    writer.put("a", "x", "h", ["d"], "a.py", (1, 2), 1000)
    writer.put("b", b"y", "h")
    writer.get("a")
    writer.get("b")
    writer.flush()
    assert reader.get("a") == "x"
    assert reader.get("a", "h") == "x"
    assert reader.get("a", "other") is None
    assert reader.get_many(["a", "b", "c"]) == {"a": "x", "b": b"y"}
    assert reader.has("a")
    assert sorted(reader.keys()) == ["a", "b"]
    assert reader.inspect("a").file_path == "a.py"
    assert len(reader.get_history("a")) == 1
    assert reader.get_predicted_next("a") == ["b"]
    assert {row["key"] for row in reader.get_hot_entries()} == {"a", "b"}
    assert reader.get_recent_events() == writer.get_recent_events()
    assert reader.get_stats() == writer.get_stats()
    assert reader.save() is True
    for refused, default in (
        (reader.put("a", "z", "h"), False),
        (reader.put_many([{"key": "a", "output": "z", "content_hash": "h"}]), 0),
        (reader.invalidate("a"), False),
        (reader.invalidate_by_dependency("d"), []),
        (reader.touch("a"), False),
        (reader.clear(), 0),
        (reader.cleanup_expired(), 0),
    ):
        assert refused == default
    assert writer.get("a") == "x"
    assert reader.local_stats()["hits"] == 4


@pytest.mark.parametrize("name", CALLS)
def test_a_reader_of_a_cache_that_is_not_there_misses(smart, real, name):
    reader = smart(read_only=True)
    call, default = CALLS[name]
    got = call(reader)
    assert got == default
    assert reader.get_stats()["entries"] == 0
    assert reader.local_stats()["errors"] == 0
    assert real.keyspace().keys == {}


def test_a_reader_finds_a_cache_that_is_made_later(smart):
    reader = smart(read_only=True)
    assert reader.get("a") is None
    smart(partitions=4).put("a", "x", "h")
    assert reader.get("a") == "x"


def test_a_reader_drops_no_corrupt_entry(smart, real):
    smart().put("a", "x", "h")
    entry = next(iter(real.client.scan_iter("*:e:*")))
    real.client.hset(entry, "o", b"\xff")
    reader = smart(read_only=True)
    assert reader.get("a") is None
    assert reader.get_many(["a"]) == {}
    assert reader.local_stats()["corrupt"] == 2
    assert real.client.exists(entry)


# sent twice


def test_a_put_that_is_sent_twice_takes_effect_once(backend):
    cache = SmartCache(url=backend.url, timeout_s=TIMEOUT_S)
    executor = SyncExecutor(Endpoint(backend.url), timeout_s=TIMEOUT_S)
    ops = SmartOps(Keyspace("smart", 1))
    meta = Metadata.encode((), "", (0, 0), "")
    put = ops.put(b"a", b"h", b"\x01x", size=1, cost=5.0, meta=meta, dependencies=[], ttl_ms=None)
    assert [executor.run(put), executor.run(put)] == [True, True]
    assert cache.get_stats()["writes"] == 1
    assert len(cache.get_history("a")) == 1
    cache.invalidate("a")
    assert executor.run(put) is True
    assert cache.get("a") is None, "a late repeat brings nothing back"
    executor.close()
    cache.close()


def test_a_refused_put_that_is_sent_twice_is_refused_twice(backend):
    cache = SmartCache(url=backend.url, max_size_mb=0.001, timeout_s=TIMEOUT_S)
    executor = SyncExecutor(Endpoint(backend.url), timeout_s=TIMEOUT_S)
    big = SmartOps(Keyspace("smart", 1)).put(
        b"a", b"h", b"\x01x", size=5000, cost=0.0, meta=b"\x90", dependencies=[], ttl_ms=None
    )
    for _ in range(2):
        with pytest.raises(ValueTooLarge):
            executor.run(big)
    assert not backend.client.exists(Partition("smart", 0).score)
    executor.close()
    cache.close()
