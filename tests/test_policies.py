"""The policies in Lua and their models in Python are the same, request by request; and a live cache changes policy."""

from __future__ import annotations

import gzip
import random
from itertools import islice
from pathlib import Path

import packed
import pytest
from conftest import smart_on
from servers import binaries

from distcache.codec import pack
from distcache.config import POLICIES
from distcache.keys import Keyspace, key_id
from distcache.op import Row
from distcache.policies import MODELS
from distcache.shared import RESCORE
from distcache.smart.ops import GET, PUT, SmartOps

TRACES = Path(__file__).parents[2] / "shared" / "traces"
REQUESTS = 1500
SPACE = Keyspace("smart", 1)
PART = SPACE.partitions[0]
META = pack(((), "", (0, 0), ""))


def zipf(chance):
    weights = [1 / (rank + 1) for rank in range(400)]
    return chance.choices(range(400), weights, k=REQUESTS)


def scans(chance):
    """What is popular, and now and then a walk through keys that never come again."""
    keys, fresh = [], 1000
    while len(keys) < REQUESTS:
        keys += chance.choices(range(60), [1 / (rank + 1) for rank in range(60)], k=150)
        keys += range(fresh, fresh + 80)
        fresh += 80
    return keys[:REQUESTS]


def loops(chance):
    """A loop that is larger than the cache, then another."""
    return [number % 90 if number < REQUESTS / 2 else 200 + number % 45 for number in range(REQUESTS)]


def made(keys):
    """The same key has the same size and cost."""
    return [(b"%d" % key, 1000 + key * 7919 % 50_000, 1.0 + key * 104_729 % 3000) for key in keys]


def recorded(name):
    """The beginning of a real trace: key, or key, size, cost and time."""
    rows = []
    with gzip.open(TRACES / f"{name}.gz", "rt") as lines:
        for line in islice(lines, REQUESTS):
            key, size, cost = (*line.split(), "1", "1")[:3]
            rows.append((key.encode(), int(size), float(cost)))
    return rows


WORKLOADS = {shape.__name__: lambda shape=shape: made(shape(random.Random(5))) for shape in (zipf, scans, loops)}
if TRACES.is_dir():
    names = ("lirs_ps", "lirs_multi3", "cache2k_web12", "ci_redis")
    WORKLOADS |= {name: lambda name=name: recorded(name) for name in names}


class Wire:
    """Sends ops in bulk, as no client would: the model says beforehand which misses are to be answered by a put."""

    def __init__(self, backend):
        self.client = backend.client
        self.ops = SmartOps(SPACE)
        self._shas = {script: self.client.script_load(script.text) for script in (GET, PUT)}

    def get(self, key):
        return self.ops.get(key, b"")

    def put(self, key, size, cost):
        rest = {"meta": META, "record": b"", "dependencies": (), "ttl_ms": None}
        return self.ops.put(key, b"h", b"x", size=size, cost=cost, **rest)

    def send(self, ops):
        replies = []
        for start in range(0, len(ops), 500):
            pipe = self.client.pipeline(transaction=False)
            for op in ops[start : start + 500]:
                pipe.evalsha(self._shas[op.script], len(op.script.keys), *op.values)
            found = pipe.execute()
            replies += [reply[0] if type(op) is Row else reply for op, reply in zip(ops[start:], found, strict=False)]
        return replies


def evictions(backend):
    """Keys in the order of their eviction, from the events."""
    return [key_id(fields[b"EVICT"]) for _stamp, fields in backend.client.xrange(PART.events)]


def replay(model, requests, chance):
    """What the model says: the calls, which gets hit, which keys go."""
    calls, hits, gone = [], [], []
    for number, (key, size, cost) in enumerate(requests):
        now_s = number * 1e-6
        hit = model.get(key_id(key), now_s)
        calls.append((key,))
        hits.append(hit)
        # Mostly a put follows a miss and nothing else does; but a value may be replaced, and a miss stay unanswered.
        if chance.random() < (0.02 if hit else 0.98):
            gone += model.put(key_id(key), size, cost, now_s)
            calls.append((key, size, cost))
    return calls, hits, gone


def bounds_of(requests, bounded_by):
    sizes = {key: size for key, size, _cost in requests}
    if bounded_by == "entries":
        return max(2, len(sizes) // 10), 2**40
    return 2**30, sum(sizes.values()) // 10


@pytest.fixture
def twin():
    """Both twins send the same scripts."""
    return "sync"


# One server for most of it: they do the same.
*OTHERS, ONE = sorted(binaries())
CASES = [(ONE, workload, "entries") for workload in WORKLOADS]
CASES += [(ONE, workload, "bytes") for workload in ("zipf", "ci_redis") if workload in WORKLOADS]
CASES += [(other, "scans", "entries") for other in OTHERS]


@pytest.mark.parametrize(("real", "workload", "bounded_by"), CASES, indirect=["real"])
@pytest.mark.parametrize("policy", POLICIES)
def test_lua_and_model_agree(real, opener, tmp_path, policy, workload, bounded_by):
    requests = WORKLOADS[workload]()
    entries, size = bounds_of(requests, bounded_by)
    options = {"policy": policy, "events": ["EVICT"], "event_cap": 10**6, "history": 0}
    smart_on(real, opener, tmp_path)(max_entries=entries, max_size_mb=size / 2**20, **options)
    model = MODELS[policy](entries, size)
    calls, hits, gone = replay(model, requests, random.Random(11))
    wire = Wire(real)
    replies = wire.send([wire.get(*call) if len(call) == 1 else wire.put(*call) for call in calls])
    assert [reply is not None for call, reply in zip(calls, replies, strict=True) if len(call) == 1] == hits
    assert evictions(real) == gone
    assert len(gone) > 50
    held = dict(real.client.zrange(PART.score, 0, -1, withscores=True))
    assert held.keys() == model.entries.keys()
    if isinstance(model, MODELS["adaptive"]):
        now = state(real)
        wanted = {"t": model.t, "r": model.r, "rate": model.learned, "p1": model.p1}
        assert {name: float(now[name]) for name in wanted} == wanted
        scores = {key: (-1.0 if entry.window else entry.score) for key, entry in model.entries.items()}
        assert {key: max(points, -1.0) if policy == "windowed" else points for key, points in held.items()} == scores


def test_each_policy_has_its_model():
    assert set(MODELS) == set(POLICIES)


def usages(backend):
    return packed.usages(backend.client.hgetall(PART.usage))


def state(backend):
    agreed = {name.decode(): value.decode() for name, value in backend.client.hgetall(PART.state).items()}
    return agreed | packed.parse_state(backend.client.hget(PART.usage, packed.STATE))


def filled(backend, smart, policy):
    """A cache of 700 entries, the last of them used more than once."""
    cache = smart(max_entries=700, policy=policy, events=["EVICT"], history=0)
    wire = Wire(backend)
    wire.send([wire.put(b"%d" % number, 1000, 10) for number in range(700)])
    wire.send([wire.get(b"%d" % number) for number in range(600, 700) for _ in range(3)])
    return cache, wire


SCORES = {
    "lru": lambda u, _state: u.last * 1000,
    "lru_freq": lambda u, _state: 0.3 * u.count + 0.001 * u.last / 1000,
    "gdsf": lambda u, state: float(state["r"]) + (u.count + 1) * u.cost / u.size,
    "windowed": lambda u, _state: u.f,
}


CHANGES = [(ONE, before, after) for before in POLICIES for after in POLICIES if before != after]


@pytest.mark.parametrize(("real", "before", "after"), CHANGES, indirect=["real"])
def test_every_entry_is_scored_anew(real, opener, tmp_path, before, after):
    smart = smart_on(real, opener, tmp_path)
    _cache, wire = filled(real, smart, before)
    smart(max_entries=700, policy=after, reconfigure=True)
    now = state(real)
    assert (now["policy"], now["scored"]) == (after, after)
    scores, used = dict(real.client.zrange(PART.score, 0, -1, withscores=True)), usages(real)
    if after in SCORES:
        assert scores == pytest.approx({one: SCORES[after](u, now) for one, u in used.items()}, rel=1e-12)
    wire.send([wire.put(b"new %d" % number, 1000, 10) for number in range(100)])
    popular = {key_id(b"%d" % number) for number in range(600, 700)}
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
