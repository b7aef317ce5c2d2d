"""SmartCache as the original class had it: names, parameters, defaults, results, statistics, events."""

from __future__ import annotations

import inspect
import math

import pytest
from conftest import BACKENDS

import distcache
from distcache import AsyncSmartCache, SmartCache
from distcache.errors import ConfigError

ODD_KEYS = [
    "",
    "}",
    "{",
    "{}",
    "a}b{c",
    "\0",
    "a\0b",
    "\ud800",
    "x\udfff",
    "\n",
    " ",
    "ключ",
    "\U0001f600",
    "*",
    "[a]",
    "\\",
]
STATS = {
    *("version", "entries", "total_size_mb", "max_entries", "max_size_mb", "hits", "misses", "hit_rate", "evictions"),
    *("warmups", "access_patterns"),
}


def parameters(function):
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self"
    ]


def details(cache, kind=None):
    return [event["details"] for event in cache.get_recent_events() if kind in (None, event["type"])]


@pytest.mark.parametrize("cls", [SmartCache, AsyncSmartCache])
def test_the_original_positional_parameters_and_defaults(cls):
    assert parameters(cls) == [
        ("cache_dir", ".distcache"),
        ("max_entries", 10000),
        ("max_size_mb", 500),
        ("enable_warmup", True),
    ]
    assert parameters(cls.get) == [("key", inspect.Parameter.empty), ("content_hash", "")]
    assert parameters(cls.put) == [
        *((name, inspect.Parameter.empty) for name in ("key", "output", "content_hash")),
        ("dependencies", None),
        ("file_path", ""),
        ("line_range", (0, 0)),
        ("compile_time_ms", 0),
    ]
    assert parameters(cls.get_recent_events) == [("count", 100)]
    assert parameters(cls.get_hot_entries) == [("count", 10)]
    assert parameters(cls.get_predicted_next) == [("key", inspect.Parameter.empty), ("count", 5)]
    for name in ("invalidate", "has"):
        assert parameters(getattr(cls, name))[0] == ("key", inspect.Parameter.empty)
    assert parameters(cls.invalidate_by_dependency)[0] == ("dep_key", inspect.Parameter.empty)
    for name in ("clear", "save", "get_stats"):
        assert parameters(getattr(cls, name)) == []
    assert parameters(distcache.get_smart_cache) == [("cache_dir", ".distcache")]
    assert parameters(distcache.create_smart_cache) == parameters(SmartCache)


def test_put_and_get(smart):
    cache = smart()
    assert cache.get("a") is None
    assert cache.put("a", "output", "h1") is True
    assert cache.get("a") == "output"
    assert cache.get("a", "h1") == "output"
    assert cache.get("a", "h2") is None
    assert cache.get("b") is None


def test_all_positional_parameters_of_put(smart):
    cache = smart()
    assert cache.put("a", "output", "h1", ["b", "c"], "src/a.py", (10, 20), 30) is True
    info = cache.inspect("a")
    assert (info.dependencies, info.file_path, info.line_range) == (("b", "c"), "src/a.py", (10, 20))
    assert (info.compile_time_ms, info.size_bytes, info.content_hash) == (30, 6, "h1")
    assert cache.invalidate_by_dependency("b") == ["a"]


def test_the_defaults_are_the_originals(smart):
    stats = smart().get_stats()
    assert (stats["max_entries"], stats["max_size_mb"], stats["version"]) == (10000, 500, "1.2")
    assert smart(namespace="other").cache_dir == smart().cache_dir


def test_a_put_replaces(smart):
    cache = smart()
    cache.put("a", "one", "h1", ["x"], "f", (1, 2), 5)
    cache.put("a", "second", "h2", ["y"])
    assert cache.get("a", "h1") is None
    assert cache.get("a", "h2") == "second"
    assert cache.inspect("a").file_path == ""
    assert cache.invalidate_by_dependency("x") == []
    assert cache.invalidate_by_dependency("y") == ["a"]
    assert cache.get_stats()["entries"] == 0


@pytest.mark.parametrize("output", ["", b""])
def test_an_empty_output_is_a_hit(smart, output):
    cache = smart()
    cache.put("a", output, "h")
    assert cache.get("a") == output
    assert type(cache.get("a", "h")) is type(output)
    assert cache.get_many(["a"]) == {"a": output}
    assert cache.has("a")
    assert cache.get_stats()["hits"] == 3
    assert cache.get_stats()["misses"] == 0


def test_has_counts_nothing(smart):
    cache = smart()
    cache.put("a", "x", "h")
    assert cache.has("a") is True
    assert cache.has("a", "h") is True
    assert cache.has("a", "other") is False
    assert cache.has("b") is False
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"]) == (0, 0)
    assert details(cache, "HIT") == details(cache, "MISS") == []
    assert cache.inspect("a").access_count == 0


def test_invalidate(smart):
    cache = smart()
    cache.put("a", "x", "h")
    assert cache.invalidate("a") is True
    assert cache.invalidate("a") is False
    assert cache.get("a") is None
    assert details(cache, "EVICT") == ["manual invalidate"]
    assert cache.get_stats()["invalidations"] == 1


def test_clear(smart):
    cache = smart()
    for key in "abc":
        cache.put(key, key, "h", ["d"])
    cache.get("a")
    cache.get("b")
    assert cache.clear() == 3
    assert cache.clear() == 0
    assert [cache.get(key) for key in "abc"] == [None] * 3
    stats = cache.get_stats()
    assert (stats["entries"], stats["total_size_mb"], stats["hits"], stats["writes"]) == (0, 0, 2, 3)
    assert len(cache.get_history("a")) == 1


def test_clear_forgets_what_was_learned(smart):
    cache = smart()
    for key in "abab":
        cache.get(key)
    assert cache.get_predicted_next("a") == ["b"]
    cache.clear()
    assert cache.get_predicted_next("a") == []
    assert cache.get_stats()["access_patterns"] == 0


def test_stats_have_the_originals_keys(smart):
    cache = smart(max_entries=50, max_size_mb=2)
    cache.put("a", "x" * 1024, "h")
    cache.get("a")
    cache.get("a")
    cache.get("a")
    cache.get("b")
    stats = cache.get_stats()
    assert set(stats) >= STATS
    assert stats["version"] == "1.2"
    assert stats["entries"] == 1
    assert stats["total_size_mb"] == 1024 / 1024**2
    assert (stats["max_entries"], stats["max_size_mb"]) == (50, 2)
    assert (stats["hits"], stats["misses"], stats["hit_rate"]) == (3, 1, 0.75)
    assert (stats["evictions"], stats["warmups"]) == (0, 0)
    assert stats["access_patterns"] == 1


def test_the_statistics_of_a_new_cache(smart):
    stats = smart().get_stats()
    assert (stats["hits"], stats["misses"], stats["hit_rate"], stats["entries"]) == (0, 0, 0, 0)


def test_statistics_are_shared_and_local_ones_are_not(smart):
    one, two = smart(), smart()
    one.put("a", "x", "h", compile_time_ms=1500)
    two.get("a")
    two.get("b")
    one.get("a", "other")
    one.flush()
    two.flush()
    assert one.get_stats() == two.get_stats()
    stats = one.get_stats()
    assert (stats["hits"], stats["misses"], stats["writes"]) == (1, 2, 1)
    assert one.local_stats() == {"hits": 0, "misses": 1, "writes": 1, "corrupt": 0, "errors": 0}
    assert two.local_stats() == {"hits": 1, "misses": 1, "writes": 0, "corrupt": 0, "errors": 0}


def test_seconds_saved_is_the_compile_time_of_every_hit(smart):
    cache = smart()
    cache.put("a", "x", "h", compile_time_ms=1500)
    cache.put("b", "x", "h", compile_time_ms=0.25)
    for _ in range(3):
        cache.get("a")
    cache.get_many(["a", "b"])
    cache.has("a")
    cache.touch("a")
    assert cache.get_stats()["seconds_saved"] == pytest.approx(6.00025, abs=1e-12)


def test_events(smart):
    cache = smart(max_entries=2)
    before = cache.get_recent_events()
    assert before == []
    cache.put("a", "x" * 120, "h", compile_time_ms=30)
    cache.get("a")
    cache.get("a", "other")
    cache.get("b")
    cache.put("b", "y", "h")
    cache.put("c", "z", "h")
    cache.invalidate("c")
    events = cache.get_recent_events()
    assert all(set(event) == {"type", "key", "timestamp", "details"} for event in events)
    assert [(event["type"], event["key"], event["details"]) for event in events] == [
        ("WRITE", "a", "size=120, compile_time=30ms"),
        ("HIT", "a", ""),
        ("MISS", "a", "hash mismatch"),
        ("MISS", "b", "not found"),
        ("WRITE", "b", "size=1, compile_time=0ms"),
        ("EVICT", events[5]["key"], "LRU eviction"),
        ("WRITE", "c", "size=1, compile_time=0ms"),
        ("EVICT", "c", "manual invalidate"),
    ]
    stamps = [event["timestamp"] for event in events]
    assert stamps == sorted(stamps)
    assert all(type(stamp) is int for stamp in stamps)
    assert stamps[0] > 1_500_000_000_000
    assert cache.get_recent_events(2) == events[-2:]
    assert cache.get_recent_events(0) == []
    assert cache.get_recent_events(-1) == []


def test_a_dependency_is_told_in_the_event(smart):
    cache = smart()
    cache.put("a", "x", "h", ["d"])
    cache.invalidate_by_dependency("d")
    assert details(cache, "EVICT") == ["dependency invalidate"]


def test_only_the_chosen_kinds_of_events_are_written(smart):
    cache = smart(events=["EVICT", "WRITE"])
    cache.put("a", "x", "h")
    cache.get("a")
    cache.get("b")
    cache.invalidate("a")
    assert [event["type"] for event in cache.get_recent_events()] == ["WRITE", "EVICT"]
    silent = smart(namespace="silent", events=[])
    silent.put("a", "x", "h")
    assert silent.get_recent_events() == []


def test_events_are_capped(smart, backend):
    cache = smart(event_cap=20)
    for number in range(400):
        cache.get(f"missing {number}")
    events = cache.get_recent_events(10_000)
    assert 20 <= len(events) <= 120
    assert events[-1]["key"] == "missing 399"


def test_hot_entries(smart):
    cache = smart()
    for place, key in enumerate("abcd"):
        cache.put(key, key, "h", file_path=f"src/{key}.py", line_range=(place, place + 1))
        for _ in range(3 * place):
            cache.get(key)
    assert cache.get_hot_entries(2) == [
        {"key": "d", "access_count": 9, "file": "src/d.py", "lines": (3, 4)},
        {"key": "c", "access_count": 6, "file": "src/c.py", "lines": (2, 3)},
    ]
    assert [row["key"] for row in cache.get_hot_entries()] == ["d", "c", "b", "a"]
    assert cache.get_hot_entries(0) == []


def test_keys(smart):
    cache = smart()
    for key in ("a.py", "b.py", "dir/c.py", "a.txt", "", "A.PY"):
        cache.put(key, "x", "h")
    assert sorted(cache.keys()) == sorted(["a.py", "b.py", "dir/c.py", "a.txt", "", "A.PY"])
    assert sorted(cache.keys("*.py")) == ["a.py", "b.py", "dir/c.py"]
    assert sorted(cache.keys("[ab].py")) == ["a.py", "b.py"]
    assert cache.keys("?.txt") == ["a.txt"]
    assert cache.keys("nothing") == []
    assert cache.keys("") == [""]


@pytest.mark.parametrize("backend", BACKENDS[-1:], indirect=True)
def test_keys_of_a_large_cache_come_once_each(smart):
    cache = smart(events=[], history=0)
    names = {f"key {number}" for number in range(600)}
    cache.put_many({"key": name, "output": "x", "content_hash": "h"} for name in names)
    listed = cache.keys()
    assert len(listed) == 600
    assert set(listed) == names


def test_inspect(smart, backend):
    cache = smart(producer="ci-7")
    assert cache.inspect("a") is None
    cache.put("a", "x" * 5000, "h1", ["b"], "src/a.py", (1, 9), 12.5)
    cache.get("a")
    before = cache.get_stats()
    info = cache.inspect("a")
    assert cache.get_stats() == before
    assert (info.key, info.content_hash, info.access_count, info.size_bytes) == ("a", "h1", 1, 5000)
    assert (info.dependencies, info.file_path, info.line_range) == (("b",), "src/a.py", (1, 9))
    assert (info.compile_time_ms, info.producer, info.expires_at) == (12.5, "ci-7", None)
    assert 0 < info.stored_bytes < 200
    assert 0 <= backend.keyspace().now_ms - info.timestamp < 60_000
    assert info.timestamp <= info.last_access
    assert [version.content_hash for version in info.versions] == ["h1"]
    assert (info.versions[0].size_bytes, info.versions[0].stored_bytes) == (5000, info.stored_bytes)


def test_get_many(smart):
    cache = smart()
    cache.put("a", "1", "h")
    cache.put("b", b"2", "h")
    assert cache.get_many(["a", "b", "c", "a"]) == {"a": "1", "b": b"2"}
    assert cache.get_many([]) == {}
    assert cache.get_many(iter(["a"])) == {"a": "1"}
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"]) == (3, 1)
    assert cache.local_stats()["hits"] == 3


def test_put_many(smart):
    cache = smart()
    items = [
        {"key": "a", "output": "1", "content_hash": "h", "dependencies": ["d"], "file_path": "f", "line_range": (1, 2)},
        {"key": "b", "output": b"2", "content_hash": "h", "compile_time_ms": 1000, "ttl_seconds": 60},
    ]
    assert cache.put_many(items) == 2
    assert cache.put_many([]) == 0
    assert cache.get_many(["a", "b"]) == {"a": "1", "b": b"2"}
    assert cache.inspect("a").line_range == (1, 2)
    assert cache.inspect("b").expires_at is not None
    assert cache.invalidate_by_dependency("d") == ["a"]
    with pytest.raises(TypeError, match="no parameter"):
        cache.put_many([{"key": "c", "output": "1", "content_hash": "h", "wrong": 1}])
    with pytest.raises(KeyError):
        cache.put_many([{"key": "c", "output": "1"}])


def test_put_many_stores_nothing_if_one_is_refused(smart):
    cache = smart()
    good = {"key": "a", "output": "1", "content_hash": "h"}
    with pytest.raises(TypeError):
        cache.put_many([good, {"key": "b", "output": 7, "content_hash": "h"}])
    assert cache.keys() == []


@pytest.mark.parametrize("key", [*ODD_KEYS, "x" * 1_000_000], ids=[*map(ascii, ODD_KEYS), "1 MB"])
def test_odd_keys(smart, key):
    cache = smart()
    assert cache.put(key, "output", key, [key, "d" + key], key, (0, 1), 1) is True
    assert cache.get(key) == "output"
    assert cache.get(key, key) == "output"
    assert cache.get_many([key]) == {key: "output"}
    assert cache.has(key)
    assert cache.keys() == [key]
    assert cache.touch(key)
    assert cache.inspect(key).key == key
    assert cache.inspect(key).dependencies == (key, "d" + key)
    assert cache.inspect(key).content_hash == key
    assert cache.get_hot_entries()[0]["key"] == key
    assert cache.get_history(key)[0].content_hash == key
    assert {event["key"] for event in cache.get_recent_events()} == {key}
    assert cache.invalidate_by_dependency(key) == []
    assert cache.invalidate_by_dependency("d" + key, transitive=True) == [key]
    cache.get(key + "1")
    cache.get(key)
    cache.get(key + "2")
    assert cache.get_predicted_next(key) == [key + "2", key + "1"]
    cache.put(key, "output", "h")
    assert cache.invalidate(key)


@pytest.mark.parametrize("key", [b"bytes", None, 7, ("a",)])
def test_a_key_that_is_no_text_is_refused(smart, key):
    cache = smart()
    for call in (cache.get, cache.has, cache.invalidate, cache.touch, cache.inspect, cache.get_history):
        with pytest.raises(TypeError, match="a key is a str"):
            call(key)
    for call in (cache.get_predicted_next, cache.invalidate_by_dependency):
        with pytest.raises(TypeError, match="a key is a str"):
            call(key)
    with pytest.raises(TypeError, match="a key is a str"):
        cache.put(key, "x", "h")
    with pytest.raises(TypeError, match="a key is a str"):
        cache.put("a", "x", "h", [key])
    assert cache.keys() == []


@pytest.mark.parametrize("cost", [-1, math.nan, math.inf, 1e16])
def test_a_compile_time_that_is_none_is_refused(smart, cost):
    cache = smart()
    with pytest.raises(ValueError, match="no duration"):
        cache.put("a", "x", "h", compile_time_ms=cost)
    with pytest.raises(TypeError, match="is a number"):
        cache.put("a", "x", "h", compile_time_ms="30")
    assert cache.keys() == []


@pytest.mark.parametrize(
    "options",
    [
        {"max_entries": 0},
        {"max_entries": 1.5},
        {"max_size_mb": 0},
        {"max_size_mb": math.nan},
        {"policy": "random"},
        {"ttl_seconds": 0},
        {"ttl_seconds": math.nan},
        {"versions": 0},
        {"partitions": 0},
        {"partitions": 5000},
        {"partitions": 20, "max_entries": 10},
        {"events": ["HIT", "PARTY"]},
        {"event_cap": 0},
        {"history": -1},
        {"namespace": "a}b"},
        {"namespace": ""},
        {"on_error": "ignore"},
        {"timeout_s": 0},
        {"sign_keys": (b"short",)},
        {"sign_keys": b"a single key that is long enough"},
        {"max_value_bytes": 0},
    ],
    ids=str,
)
def test_a_parameter_that_cannot_work_is_refused(smart, options):
    with pytest.raises(ConfigError):
        smart(**options)


def test_an_unknown_option_is_refused(smart):
    with pytest.raises(TypeError, match="polcy"):
        smart(polcy="lru")


def test_two_namespaces_are_two_caches(smart):
    one, two = smart(namespace="one"), smart(namespace="two")
    one.put("a", "1", "h", ["d"])
    assert two.get("a") is None
    two.put("a", "2", "h", ["d"])
    assert one.get("a") == "1"
    assert two.invalidate_by_dependency("d") == ["a"]
    assert one.clear() == 1


def test_a_cache_is_a_context_manager_and_can_be_used_again(smart):
    cache = smart()
    with cache as same:
        assert same.raw is cache.raw
        same.put("a", "1", "h")
    cache.close()
    cache.close()
    assert cache.get("a") == "1"
