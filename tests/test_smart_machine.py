"""Any sequence of operations on a SmartCache does what the model in plain Python does, and leaves the same behind."""

from __future__ import annotations

import math

import pytest
from conftest import TIMEOUT_S, Backend
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from smart_model import Model, packed

from distcache import SmartCache, ValueTooLarge
from distcache.config import MEGABYTE, SharedConfig
from distcache.keys import Keyspace, key_id, raw
from distcache.keys import Partition as Names

KEYS = st.sampled_from(["", "b", "c", "d", "e", "}", "\ud800"])
HASHES = st.sampled_from(["h1", "h2", "h3"])
DEPENDENCIES = st.lists(KEYS, max_size=3)
SIZES = st.integers(0, 6)
TTLS = st.sampled_from([0, 0, 0, 1_000_000, 2_000_000])
SECOND = 1000
HISTORY = 4


class Machine(RuleBasedStateMachine):
    """Replays every call on the model. Times are far longer than the run takes, and pass by let_pass()."""

    backend: Backend

    def __init__(self) -> None:
        super().__init__()
        self.backend.client.flushall()
        self.number = 0
        self.cache: SmartCache | None = None

    @initialize(
        partitions=st.sampled_from([1, 1, 3]),
        versions=st.sampled_from([1, 2, 3]),
        sliding=st.booleans(),
        share=st.integers(2, 5),
    )
    def begin(self, partitions: int, versions: int, sliding: bool, share: int) -> None:
        self.model = Model(partitions=partitions, versions=versions, sliding=sliding, history=HISTORY)
        self.options = {"partitions": partitions, "versions": versions, "sliding": sliding}
        self.open(share)

    def open(self, share: int) -> None:
        """A client that names these bounds: `share` entries in each partition, and some bytes more."""
        count = self.model.count
        entries, size = share * count, (share * 3 + 2) * count
        self.close()
        self.cache = SmartCache(
            ".distcache",
            entries,
            size / MEGABYTE,
            url=self.backend.url,
            timeout_s=TIMEOUT_S,
            on_error="raise",
            policy="lru",
            history=HISTORY,
            reconfigure=True,
            **self.options,
        )
        config = SharedConfig("smart", partitions=count, max_entries=entries, max_bytes=size)
        self.model.set_bounds([config.bounds(number) for number in range(count)])

    def close(self) -> None:
        if self.cache is not None:
            self.cache._flows.learner.take()
            self.cache.close()

    teardown = close

    def value(self, size: int) -> str:
        self.number += 1
        return chr(33 + self.number % 90) * size

    # writes

    @rule(key=KEYS, content_hash=HASHES, names=DEPENDENCIES, size=SIZES, cost=st.integers(0, 9), ttl=TTLS)
    def put(self, key, content_hash, names, size, cost, ttl):
        value = self.value(size)
        span = ttl / SECOND or math.inf
        assert self.cache.put(key, value, content_hash, names, compile_time_ms=cost, ttl_seconds=span)
        assert self.model.put(key, content_hash, value, names, cost, ttl)

    @rule(key=KEYS, content_hash=HASHES)
    def put_too_large(self, key, content_hash):
        value = "x" * 50
        with pytest.raises(ValueTooLarge):
            self.cache.put(key, value, content_hash)
        assert not self.model.put(key, content_hash, value, [], 0, 0)

    @rule(items=st.lists(st.tuples(KEYS, HASHES, DEPENDENCIES, SIZES, TTLS), max_size=4))
    def put_many(self, items):
        rows = [(key, content_hash, self.value(size), names, ttl) for key, content_hash, names, size, ttl in items]
        stored = self.cache.put_many(
            {
                "key": key,
                "output": value,
                "content_hash": content_hash,
                "dependencies": names,
                "ttl_seconds": ttl / SECOND or math.inf,
            }
            for key, content_hash, value, names, ttl in rows
        )
        assert stored == len(rows)
        for key, content_hash, value, names, ttl in rows:
            assert self.model.put(key, content_hash, value, names, 0, ttl)

    @rule(key=KEYS)
    def invalidate(self, key):
        assert self.cache.invalidate(key) == self.model.invalidate(key)

    @rule(key=KEYS, transitive=st.booleans())
    def invalidate_by_dependency(self, key, transitive):
        removed = self.cache.invalidate_by_dependency(key, transitive)
        assert len(set(removed)) == len(removed)
        assert set(removed) == self.model.invalidate_by_dependency(key, transitive=transitive)

    @rule(key=KEYS, ttl=st.sampled_from([None, 0, 1_000_000, 3_000_000]))
    def touch(self, key, ttl):
        span = None if ttl is None else ttl / SECOND or math.inf
        assert self.cache.touch(key, span) == self.model.touch(key, ttl)

    @rule()
    def cleanup(self):
        assert self.cache.cleanup_expired() == self.model.cleanup()

    @rule(often=st.integers(0, 9))
    def clear(self, often):
        if often == 0:
            assert self.cache.clear() == self.model.clear()

    @rule(often=st.integers(0, 9))
    def flush_all(self, often):
        if often == 0:
            self.backend.client.flushall()
            self.model.flush_all()
            assert self.cache.get("b") is None
            self.model.get("b")

    @rule(share=st.integers(2, 5))
    def reconfigure(self, share):
        self.open(share)
        self.model.cleanup()

    @rule(seconds=st.sampled_from([400, 900, 1300]))
    def let_pass(self, seconds):
        self.backend.let_pass(seconds)
        self.model.now += seconds * SECOND

    @rule(data=st.data())
    def corrupt(self, data):
        live = self.model.live()
        if live:
            name, entry = data.draw(st.sampled_from(live))
            entry.corrupt = True
            part = self.names(entry.key)
            self.backend.client.hset(part.entry(packed(name)), "o", b"\xff")

    # reads

    @rule(key=KEYS, content_hash=st.one_of(st.just(""), HASHES))
    def get(self, key, content_hash):
        assert self.cache.get(key, content_hash) == self.model.get(key, content_hash)

    @rule(keys=st.lists(KEYS, max_size=5, unique=True))
    def get_many(self, keys):
        wanted = {key: self.model.get(key) for key in keys}
        got = self.cache.get_many(keys)
        assert got == {key: value for key, value in wanted.items() if value is not None}

    @rule(key=KEYS, content_hash=st.one_of(st.just(""), HASHES))
    def look(self, key, content_hash):
        assert self.cache.has(key, content_hash) == (self.model.find(key, content_hash) is not None)
        info = self.cache.inspect(key)
        seen = (
            [(version.content_hash, version.access_count, version.size_bytes) for version in info.versions]
            if info
            else []
        )
        assert seen == self.model.versions_of(key)
        history = [(record.content_hash, record.held) for record in self.cache.get_history(key)]
        assert history == self.model.history_of(key)

    @rule(count=st.integers(1, 8))
    def look_at_all(self, count):
        keys = list(self.cache.keys())
        assert len(set(keys)) == len(keys)
        assert set(keys) == self.model.keys()
        most: dict[str, int] = {}
        for _name, entry in self.model.live():
            most[entry.key] = max(most.get(entry.key, 0), entry.count)
        hot = self.cache.get_hot_entries(count)
        assert [row["access_count"] for row in hot] == sorted(most.values(), reverse=True)[:count]
        assert all(most[row["key"]] == row["access_count"] for row in hot)

    # what is left behind

    @invariant()
    def the_same_is_there(self):
        if self.cache is None:
            return
        assert self.backend.problems(lowered=True) == []
        tags = self.backend.keyspace().tags()
        for number, part in enumerate(self.model.parts):
            keys = tags.get(Names("smart", number).tag, {})
            assert set(stored(keys, b"score")) == {packed(name) for name in part.entries}
            edges = {one: set(split(text)) for one, text in stored(keys, b"edges").items()}
            note(f"partition {number}: {part}")
            assert edges == {packed(n): {key_id(raw(key)) for key in names} for n, names in part.edges.items()}
            assert set(stored(keys, b"relics")) == {packed(name) for name in part.relics}

    @invariant()
    def the_statistics_agree(self):
        if self.cache is None:
            return
        self.cache._flows.learner.take()
        stats = self.cache.get_stats()
        assert {name: stats[name] for name in Model.COUNTERS} == self.model.stats
        assert stats["entries"] == sum(len(part.entries) for part in self.model.parts)
        assert round(stats["total_size_mb"] * MEGABYTE) == sum(part.bytes for part in self.model.parts)
        assert stats["seconds_saved"] == pytest.approx(self.model.saved_ms / 1000)

    def names(self, key: str) -> Names:
        return Keyspace("smart", self.model.count).of(key_id(raw(key)))


def stored(keys, name):
    return keys[name].value if name in keys else {}


def split(text):
    return [text[at : at + 16] for at in range(0, len(text), 16)]


def run(backend: Backend, examples: int, steps: int, *, chance: bool) -> None:
    class OnBackend(Machine):
        pass

    OnBackend.backend = backend
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=not chance,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(OnBackend, settings=chosen)


def test_a_smart_cache_is_its_model(fakebackend, request):
    long = request.config.getoption("--long")
    run(fakebackend, 2000 if long else 20, 50 if long else 30, chance=long)


def test_a_smart_cache_on_a_real_server_is_its_model(real, request):
    long = request.config.getoption("--long")
    run(real, 1000 if long else 25, 50 if long else 30, chance=long)
