"""The policies in Lua and their models in Python are the same, request by request; and a live cache changes policy."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import packed
import pytest
from conftest import smart_on
from replayed import PART, RECORDED, SHAPES, Wire, bounds_of, evictions, replay, requests_of, state, usages
from servers import binaries

from distcache.config import POLICIES
from distcache.keys import Keyspace, key_id
from distcache.policies import MODELS
from distcache.shared import RESCORE

MOST, MOST_LONG = 500, 10_000
"""Requests of a real trace."""


@pytest.fixture
def twin():
    """Both twins send the same scripts."""
    return "sync"


# One server for most of it: they do the same.
*OTHERS, ONE = sorted(binaries())
CASES = [(ONE, workload, "entries", 1) for workload in (*SHAPES, *RECORDED)]
CASES += [(ONE, workload, "bytes", 1) for workload in ("zipf", "ci_redis")]
CASES += [(other, "scans", "entries", 1) for other in OTHERS]
# Most gets that are alone in their call go another way than the others.
CASES += [(ONE, workload, "entries", 8) for workload in SHAPES] + [(ONE, "zipf", "bytes", 8)]


@pytest.mark.parametrize(("real", "workload", "bounded_by", "rows"), CASES, indirect=["real"])
@pytest.mark.parametrize("policy", POLICIES)
def test_lua_and_model_agree(real, opener, tmp_path, policy, workload, bounded_by, rows, request):
    requests = requests_of(workload, MOST_LONG if request.config.getoption("--long") else MOST)
    entries, size = bounds_of(requests, bounded_by)
    options = {"policy": policy, "events": ["EVICT"], "event_cap": 10**6, "history": 0}
    smart_on(real, opener, tmp_path)(max_entries=entries, max_size_mb=size / 2**20, **options)
    model = MODELS[policy](entries, size)
    calls, hits, gone = replay(model, requests, random.Random(11))
    wire = Wire(real)
    replies = wire.send([wire.get(*call) if len(call) == 1 else wire.put(*call) for call in calls], rows)
    assert [reply is not None for call, reply in zip(calls, replies, strict=True) if len(call) == 1] == hits
    assert evictions(real) == gone
    assert len(gone) > 50
    held = dict(real.client.zrange(PART.score, 0, -1, withscores=True))
    assert held.keys() == model.entries.keys()
    assert {one: u.count for one, u in usages(real).items()} == {
        one: entry.hits for one, entry in model.entries.items()
    }
    if policy == "lru":
        assert sorted(held, key=held.get) == sorted(held, key=lambda one: model.entries[one].score)
    if policy == "gdsf":
        assert float(state(real)["r"]) == model._floor > 0
        assert held == {one: entry.score for one, entry in model.entries.items()}
    if isinstance(model, MODELS["adaptive"]):
        now = state(real)
        wanted = {"t": model.t, "r": model.r, "rate": model.learned, "p1": model.p1}
        assert {name: float(now[name]) for name in wanted} == wanted
        scores = {key: (-1.0 if entry.window else entry.score) for key, entry in model.entries.items()}
        assert {key: max(points, -1.0) if policy == "windowed" else points for key, points in held.items()} == scores


def test_each_policy_has_its_model():
    assert set(MODELS) == set(POLICIES)


def filled(backend, smart, policy):
    """A cache of 700 entries, the last of them used more than once."""
    cache = smart(max_entries=700, policy=policy, events=["EVICT"], history=0)
    wire = Wire(backend)
    wire.send([wire.put(b"%d" % number, 1000, 10) for number in range(700)])
    wire.send([wire.get(b"%d" % number) for number in range(600, 700) for _ in range(3)])
    return cache, wire


SCORES = {
    "lru": lambda u, _state, _recency: u.last * 1000,
    "lru_freq": lambda u, _state, _recency: 0.3 * u.count + 0.001 * u.last / 1000,
    "gdsf": lambda u, state, _recency: float(state["r"]) + (u.count + 1) * u.cost / u.size,
    "windowed": lambda u, _state, _recency: u.f,
    "adaptive": lambda u, _state, recency: u.f + recency,
    "cost": lambda u, _state, recency: u.f + recency + math.log2(u.cost / u.size),
}
"""Of an entry that is scored anew, by what is known of its use; `recency` takes the place of R."""


def aged(backend):
    """The popular were used in the last ten seconds, others before, and the next victim a quarter of an hour ago."""
    least = backend.client.zrange(PART.score, 0, 0)[0]
    popular, now_ms = {key_id(b"%d" % number) for number in range(600, 700)}, now_of(backend)
    ages = random.Random(3)
    used = {}
    for one, u in usages(backend).items():
        age = 900_000 if one == least else ages.randrange(10_000) if one in popular else ages.randrange(20_000, 800_000)
        used[one] = replace(u, last=now_ms - age)
    backend.client.hset(PART.usage, mapping={one: u.packed() for one, u in used.items()})
    return used, least


def now_of(backend):
    seconds, us = backend.client.time()
    return seconds * 1000 + us // 1000


CHANGES = [(ONE, before, after) for before in POLICIES for after in POLICIES if before != after]


@pytest.mark.parametrize(("real", "before", "after"), CHANGES, indirect=["real"])
def test_every_entry_is_scored_anew(real, opener, tmp_path, before, after):
    smart = smart_on(real, opener, tmp_path)
    _cache, wire = filled(real, smart, before)
    (counted, least), began_ms = aged(real), now_of(real)
    smart(max_entries=700, policy=after, reconfigure=True)
    now, ended_ms = state(real), now_of(real)
    assert (now["policy"], now["scored"]) == (after, after)
    scores, used = dict(real.client.zrange(PART.score, 0, -1, withscores=True)), usages(real)
    span_ms = float(now["span_ms"])
    assert 900_000 <= span_ms <= ended_ms - (began_ms - 900_000 - 10_000), "since the last use of the least"
    assert float(now["rate"]) == getattr(MODELS[after], "learned", 0)
    for one, u in used.items():
        keeps = hasattr(MODELS[before], "life")
        f = counted[one].f if keeps else float(now["t"]) + math.log2(1 + u.count)
        assert u == replace(counted[one], mark="-", f=pytest.approx(f, abs=1e-9))
        # The clock stood somewhere between: the older, the further behind R.
        behind = [float(now["rate"]) * min(1, (ms - u.last) / span_ms) for ms in (ended_ms, began_ms)]
        low, high = (SCORES[after](u, now, float(now["r"]) - one) for one in behind)
        assert low - 1e-6 - abs(low) * 1e-12 <= scores[one] <= high + 1e-6 + abs(high) * 1e-12, (low, scores[one], high)
    assert scores.keys() == used.keys()
    wire.send([wire.put(b"new %d" % number, 1000, 10) for number in range(100)])
    popular = {key_id(b"%d" % number) for number in range(600, 700)} - {least}
    assert len(evictions(real)) == 100
    assert popular.isdisjoint(evictions(real)), "what was used stays"


def test_the_next_client_ends_what_another_has_begun(real, opener, tmp_path):
    smart = smart_on(real, opener, tmp_path)
    _cache, wire = filled(real, smart, "lru")
    real.client.hset(PART.state, "policy", "adaptive")
    live = packed.parse_state(real.client.hget(PART.usage, packed.STATE)) | {"policy": "adaptive"}
    real.client.hset(PART.usage, packed.STATE, packed.format_state(live))
    slots = (PART.state, PART.score, PART.usage, PART.ghost, PART.ghost_old, "1", 50)
    looked_at, more = real.client.evalsha(real.client.script_load(RESCORE.text), 5, *slots)
    assert 50 <= looked_at < 400
    assert more == 1
    assert state(real)["scored"] == "lru"
    wire.send([wire.get(b"5"), wire.put(b"between", 10, 1)])
    real.check()
    smart()
    assert state(real)["scored"] == "adaptive"
    assert max(points for _one, points in real.client.zrange(PART.score, 0, -1, withscores=True)) < 100


def test_all_partitions_are_scored_anew(real, opener, tmp_path):
    smart = smart_on(real, opener, tmp_path)
    cache = smart(max_entries=100, partitions=3, policy="lru")
    for number in range(30):
        cache.put(f"k{number}", "x", "h")
    smart(policy="windowed", reconfigure=True)
    for part in Keyspace("smart", 3).partitions:
        assert real.client.hget(part.state, "scored") == b"windowed"
        assert all(points < 100 for _one, points in real.client.zrange(part.score, 0, -1, withscores=True))
