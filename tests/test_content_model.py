"""ContentHashCache against a plain dictionary: any calls in any order, while time passes, have the results it has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Opener, content_on
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twins import Twin

from distcache.errors import ValueTooLarge
from distcache.keys import raw

TTL_S = 1000
MOST, MOST_BYTES = 6, 5000
MEGABYTE = 1024 * 1024

LONG = "L" * 511
TEXTS = [
    *(
        "",
        " \n",
        "a",
        "a b",
        "a  b",
        "\ta b ",
        "a b c",
        "a bc",
        "ab",
        "é",
        "éa",
        "a\0b",
        "a\0",
        "\0",
        "\ud800",
        "\ud800a",
    ),
    *(LONG, LONG + "a", LONG + "ab", LONG + " b", LONG + "é", LONG * 2 + "ab", LONG * 2 + "abc", LONG * 2 + "a c"),
    "x" * 4990,
]
CUTS = [0, 1, 2, 3, 511, 512, 513, 1023, 1024, 1025]


def _text(number: int) -> str:
    """A name for hypothesis to print, in place of all texts."""
    return TEXTS[number]


texts = st.integers(0, len(TEXTS) - 1).map(_text)
queries = st.one_of(
    texts,
    st.builds(lambda text, cut: text[:cut], texts, st.sampled_from(CUTS)),
    st.builds(lambda text: f" {text.replace(' ', '   ')}\n", texts),
)
signatures = st.sampled_from(["", "s1", "s2", "s3" * 20])
scopes = st.sampled_from([(), ("one",), ("one", "two")])
keys = st.sampled_from(["", "k", "a b"])
modes = st.sampled_from(["miss", "newest"])
minima = st.sampled_from([0, 1, 2, 3, 512, 513, 1024])


@dataclass
class Entry:
    signature: str
    text: str
    normal: str
    size: int
    due: float
    written: int
    used: int


class Model:
    """What the cache is, without a server: a dictionary, and a walk through all of it for every question."""

    def __init__(self, *, sliding: bool, bounded: bool) -> None:
        self.sliding = sliding
        self.bounded = bounded
        self.entries: dict[tuple[Any, ...], Entry] = {}
        self.now = 0.0
        self.tick = 0
        self.counts = dict.fromkeys(
            (
                *("exact_hits", "normalized_hits", "prefix_hits", "misses", "ambiguous"),
                *("evictions", "expirations", "total_writes"),
            ),
            0,
        )

    def expire(self) -> None:
        due = [name for name, entry in self.entries.items() if entry.due <= self.now]
        for name in due:
            del self.entries[name]
        self.counts["expirations"] += len(due)

    def set(self, name: tuple[Any, ...], text: str, signature: str) -> bool:
        """Whether it fits at all."""
        self.expire()
        self.tick += 1
        size = len(raw(text)) + len(raw(signature))
        self.entries.pop(name, None)
        if self.bounded and size > MOST_BYTES:
            return False
        while self.bounded and (
            len(self.entries) >= MOST or sum(entry.size for entry in self.entries.values()) + size > MOST_BYTES
        ):
            del self.entries[min(self.entries, key=lambda one: self.entries[one].used)]
            self.counts["evictions"] += 1
        normal = " ".join(text.split()) if name[1] == "text" else ""
        self.entries[name] = Entry(signature, text, normal, size, self.now + TTL_S, self.tick, self.tick)
        self.counts["total_writes"] += 1
        return True

    def find(self, name: tuple[Any, ...], mode: str, least: int | None) -> tuple[str, Entry | None]:
        """The level, or how it failed; and the entry. `least`: the minimum of a search by prefix, None for none."""
        scope, kind, text = name
        live = {one: entry for one, entry in self.entries.items() if entry.due > self.now}
        if name in live:
            return "exact", live[name]
        normal = " ".join(text.split())
        if kind == "key" or not normal:
            return "absent", None
        mine = [entry for one, entry in live.items() if one[:2] == (scope, "text")]
        if equal := [entry for entry in mine if entry.normal == normal]:
            return "normalized", max(equal, key=lambda entry: entry.written)
        longer = [entry for entry in mine if entry.normal.startswith(normal)]
        if least is None or len(normal) < least or not longer:
            return "absent", None
        if mode == "miss" and len({entry.signature for entry in longer}) > 1:
            return "ambiguous", None
        return "prefix", max(longer, key=lambda entry: entry.written)

    def use(self, level: str, entry: Entry | None) -> None:
        self.tick += 1
        if entry is None:
            self.counts["misses"] += 1
            self.counts["ambiguous"] += level == "ambiguous"
            return
        self.counts[f"{level}_hits"] += 1
        entry.used = self.tick
        if self.sliding:
            entry.due = self.now + TTL_S

    def get(self, name: tuple[Any, ...], mode: str = "miss", least: int | None = None) -> str | None:
        level, entry = self.find(name, mode, least)
        self.use(level, entry)
        return entry.signature if entry else None


class Machine(RuleBasedStateMachine):
    """Set by `check` below: how the caches are opened, and on what."""

    options: dict[str, Any]
    opener: Opener
    backend: Any

    @initialize()
    def open(self) -> None:
        self.backend.client.flushall()
        make = content_on(self.backend, self.opener)
        bounded = self.options["partitions"] == 1
        sizes = {"max_size": MOST, "max_size_mb": MOST_BYTES / MEGABYTE} if bounded else {}
        shared = {**sizes, **self.options, "ttl_seconds": TTL_S}
        self.caches = {mode: make(ambiguous=mode, min_prefix_length=2, **shared) for mode in ("miss", "newest")}
        self.cache = self.caches["miss"]
        self.reader = make(read_only=True, min_prefix_length=2)
        self.model = Model(sliding=self.options["sliding"], bounded=bounded)

    def teardown(self) -> None:
        self.opener.close()

    def view(self, scope: tuple[str, ...], mode: str = "miss") -> Any:
        cache = self.caches[mode]
        return Twin(cache.raw.scoped(*scope), cache._loop_of)

    @rule(scope=scopes, text=texts, signature=signatures)
    def set(self, scope, text, signature):
        if self.model.set((scope, "text", text), text, signature):
            assert self.view(scope).set(text, signature) is True
        else:
            with pytest.raises(ValueTooLarge):
                self.view(scope).set(text, signature)

    @rule(scope=scopes, key=keys, text=texts, signature=signatures)
    def set_key(self, scope, key, text, signature):
        if self.model.set((scope, "key", key), text, signature):
            assert self.view(scope).set_key(key, signature, text) is True
        else:
            with pytest.raises(ValueTooLarge):
                self.view(scope).set_key(key, signature, text)

    @rule(scope=scopes, items=st.dictionaries(texts.filter(lambda text: len(text) < 4000), signatures, max_size=3))
    def set_many(self, scope, items):
        assert self.view(scope).set_many(items) == len(items)
        for text, signature in items.items():
            self.model.set((scope, "text", text), text, signature)

    @rule(scope=scopes, text=queries)
    def get(self, scope, text):
        assert self.view(scope).get(text) == self.model.get((scope, "text", text))

    @rule(scope=scopes, text=queries, least=minima, mode=modes)
    def get_with_prefix_match(self, scope, text, least, mode):
        found = self.view(scope, mode).get_with_prefix_match(text, least)
        assert found == self.model.get((scope, "text", text), mode, least)

    @rule(scope=scopes, text=queries, prefix=st.booleans())
    def lookup(self, scope, text, prefix):
        match = self.view(scope).lookup(text, prefix)
        level, entry = self.model.find((scope, "text", text), "miss", 2 if prefix else None)
        self.model.use(level, entry)
        expected = entry and (entry.signature, entry.text, level)
        assert (match and (match.signature, match.text, match.level)) == expected

    @rule(scope=scopes, key=keys)
    def get_key(self, scope, key):
        assert self.view(scope).get_key(key) == self.model.get((scope, "key", key))

    @rule(scope=scopes, key=keys)
    def lookup_key(self, scope, key):
        match = self.view(scope).lookup_key(key)
        level, entry = self.model.find((scope, "key", key), "miss", None)
        self.model.use(level, entry)
        assert (match and (match.signature, match.text)) == (entry and (entry.signature, entry.text))

    @rule(scope=scopes, wanted=st.lists(queries, max_size=4, unique=True))
    def get_many(self, scope, wanted):
        found = {text: self.model.get((scope, "text", text)) for text in wanted}
        expected = {text: signature for text, signature in found.items() if signature is not None}
        assert self.view(scope).get_many(wanted) == expected

    @rule(text=queries)
    def read_only(self, text):
        before = self.backend.keyspace().content()
        _level, entry = self.model.find(((), "text", text), "miss", 2)
        assert self.reader.get_with_prefix_match(text) == (entry.signature if entry else None)
        assert self.reader.set(text, "s") is False
        assert self.backend.keyspace().content() == before

    @rule(seconds=st.sampled_from([300, 650, 1100]))
    def time_passes(self, seconds):
        self.model.now += seconds
        self.backend.let_pass(seconds)

    @rule()
    def cleanup_expired(self):
        self.model.expire()
        gone = self.cache.get_stats()["expirations"]  # removed on the way, as the cache was used
        assert self.cache.cleanup_expired() == self.model.counts["expirations"] - gone

    @rule(scope=scopes)
    def clear(self, scope):
        self.model.expire()
        self.cache.cleanup_expired()
        mine = [name for name in self.model.entries if not scope or name[0] == scope]
        for name in mine:
            del self.model.entries[name]
        assert self.view(scope).clear() == len(mine)

    @rule()
    def statistics(self):
        self.model.expire()
        self.cache.cleanup_expired()
        stats = self.cache.get_stats()
        assert {name: stats[name] for name in self.model.counts} == self.model.counts
        assert stats["current_size"] == len(self.model.entries)

    @invariant()
    def in_order(self):
        assert self.backend.problems() == []


def check(backend: Any, twin: str, loop: Any, *, long: bool, **options: Any) -> None:
    class Run(Machine):
        pass

    Run.backend, Run.options, Run.opener = backend, options, Opener(twin, loop)
    examples = 300 if long else 12
    chosen = settings(max_examples=examples, stateful_step_count=40, derandomize=not long, database=None, deadline=None)
    run_state_machine_as_test(Run, settings=chosen)


@pytest.mark.parametrize("sliding", [False, True])
@pytest.mark.parametrize("partitions", [1, 3])
def test_any_calls_have_the_results_of_a_dictionary(backend, twin, loop, request, sliding, partitions):
    long = request.config.getoption("--long")
    check(backend, twin, loop, long=long, sliding=sliding, partitions=partitions)
