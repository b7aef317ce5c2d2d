"""Uses of a near cache's copies, reported many at once: what so many gets would leave, the policies' models say."""

from __future__ import annotations

import random

import pytest
from conftest import smart_on
from replayed import PART, Wire, bounds_of, evictions, made, replay, state, usages, zipf
from servers import binaries

from distcache.config import POLICIES
from distcache.keys import key_id
from distcache.policies import MODELS

TIMES = [1, 2, 7, 5000]
CASES = [(policy, "entries", False) for policy in POLICIES] + [("windowed", "entries", True), ("cost", "bytes", False)]
"""Policy, what bounds the cache, and whether the entry is in the window."""


@pytest.fixture
def twin():
    """Both twins send the same script."""
    return "sync"


class Pair:
    """A cache that was used for a while, and its model, which is in the same state."""

    def __init__(self, real, smart, policy, bounded_by="entries"):
        self.policy, self.real = policy, real
        requests = made(zipf(random.Random(5)))[:600]
        entries, size = bounds_of(requests, bounded_by)
        options = {"events": ["EVICT"], "event_cap": 10**6, "history": 0, "policy": policy}
        smart(max_entries=entries, max_size_mb=size / 2**20, **options)
        self.model = MODELS[policy](entries, size)
        self.wire = Wire(real)
        calls, _hits, self.gone = replay(self.model, requests, random.Random(11))
        self.wire.send([self.wire.get(*call) if len(call) == 1 else self.wire.put(*call) for call in calls])
        assert len(self.gone) > 20
        self.check()

    def names(self, *, window=False):
        return sorted(one for one, entry in self.model.entries.items() if entry.window == window)

    def report(self, uses):
        """All at once to the server, one by one to the model."""
        op = self.wire.ops.touches(PART, uses)
        sha = self.real.client.script_load(op.script.text)
        assert self.real.client.evalsha(sha, len(op.script.keys), *op.values) == 1
        for one, times in uses:
            for _ in range(times):
                assert self.model.get(one)

    def check(self):
        """The same clocks, and of every entry the same count, F and score."""
        now, used = state(self.real), usages(self.real)
        scores = dict(self.real.client.zrange(PART.score, 0, -1, withscores=True))
        model, near = self.model, {"rel": 0, "abs": 1e-6}
        assert used.keys() == scores.keys() == model.entries.keys()
        assert {one: u.count for one, u in used.items()} == {one: entry.hits for one, entry in model.entries.items()}
        if hasattr(model, "life"):
            assert [float(now[name]) for name in "tr"] == pytest.approx([model.t, model.r], **near)
            assert float(now["rate"]) == model.learned
            assert {one: u.f for one, u in used.items()} == pytest.approx(
                {one: entry.f for one, entry in model.entries.items()}, **near
            )
            assert {one for one, u in used.items() if u.mark == "w"} == set(self.names(window=True))
        if self.policy == "gdsf":
            assert float(now["r"]) == model._floor
        if self.policy not in {"lru", "lru_freq"}:
            main = self.names()
            wanted = {one: model.entries[one].score for one in main}
            assert {one: scores[one] for one in main} == pytest.approx(wanted, **near)
            assert sorted(self.names(window=True), key=scores.get) == list(getattr(model, "_window", ()))


@pytest.fixture
def pair(opener, tmp_path):
    def make(real, policy, bounded_by="entries"):
        return Pair(real, smart_on(real, opener, tmp_path), policy, bounded_by)

    return make


def score_of(real, one):
    return real.client.zscore(PART.score, one)


@pytest.mark.parametrize("real", [max(binaries())], indirect=True)
@pytest.mark.parametrize("times", TIMES)
@pytest.mark.parametrize(("policy", "bounded_by", "window"), CASES)
def test_uses_at_once_leave_what_so_many_gets_leave(real, pair, policy, bounded_by, window, times):
    both = pair(real, policy, bounded_by)
    names = both.names(window=window)
    one, other = names[len(names) // 3], names[2 * len(names) // 3]
    place, hits = score_of(real, one), float(state(real)["hits"])
    for uses in ([(one, times)], [(other, 3), (one, times)], [(one, times), (other, times)]):
        both.report(uses)
        both.check()
        now = state(real)
        last, points = uses[-1][0], score_of(real, uses[-1][0])
        if policy == "lru":
            assert points == float(now["tick"])
            assert real.client.zrange(PART.score, -1, -1) == [last]
        if policy == "lru_freq":
            count = usages(real)[last].count
            assert points == pytest.approx(0.3 * count + 0.001 * float(now["tick"]) / 1e6, rel=0, abs=1e-6)
    assert (score_of(real, one) == place) is window, "in the window, the order of arrival stays"
    assert float(state(real)["hits"]) == hits + 4 * times + 3


@pytest.mark.parametrize("real", sorted(binaries()), indirect=True)
@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "lru_freq"])
def test_what_is_evicted_next_is_the_same(real, pair, policy):
    both = pair(real, policy)
    names = sorted(both.model.entries)
    both.report([(one, 1 + place % 4) for place, one in enumerate(names[::3])])
    before, gone = len(evictions(real)), []
    for number in range(60):
        gone += both.model.put(key_id(b"new %d" % number), 1000, 10)
    both.wire.send([both.wire.put(b"new %d" % number, 1000, 10) for number in range(60)])
    assert evictions(real)[before:] == gone
    assert len(gone) == 60


@pytest.mark.parametrize("real", [max(binaries())], indirect=True)
@pytest.mark.parametrize("policy", POLICIES)
def test_uses_of_what_is_gone_are_none(real, pair, policy):
    both = pair(real, policy)
    one = key_id(b"never there")
    op = both.wire.ops.touches(PART, [(one, 5000)])
    real.client.evalsha(real.client.script_load(op.script.text), len(op.script.keys), *op.values)
    both.check()


@pytest.mark.parametrize("real", [max(binaries())], indirect=True)
@pytest.mark.parametrize("bound", [10**6, 2**40, 2**50, 2**53])
@pytest.mark.parametrize("policy", ["adaptive", "cost", "windowed"])
def test_a_bound_that_is_none_makes_no_entry_immortal(real, opener, tmp_path, policy, bound):
    smart_on(real, opener, tmp_path)(max_entries=bound, policy=policy, history=0)
    wire, one = Wire(real), key_id(b"a")
    wire.send([wire.put(b"a", 10, 1)])
    op = wire.ops.touches(PART, [(one, 7)])
    real.client.evalsha(real.client.script_load(op.script.text), len(op.script.keys), *op.values)
    assert usages(real)[one].f == pytest.approx(3, abs=0.01), "log2 of 1 + 7, and the clock stands"
