"""Requests, a server that is fed with them in bulk, and what a model says of the same ones."""

from __future__ import annotations

import gzip
import random
from itertools import islice
from pathlib import Path

import packed
import pytest

from distcache.keys import Keyspace, key_id
from distcache.op import Row
from distcache.smart.ops import GET, PUT, SmartOps
from distcache.smart.records import Metadata

TRACES = Path(__file__).parents[2] / "shared" / "traces"
REQUESTS = 1500
SPACE = Keyspace("smart", 1)
PART = SPACE.partitions[0]
META = Metadata.encode((), "", (0, 0), "")


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


def recorded(name, most):
    """The beginning of a real trace: key, or key, size, cost and time."""
    path = TRACES / f"{name}.gz"
    if not path.exists():
        pytest.skip(f"the trace {name} is not in {TRACES}")
    rows = []
    with gzip.open(path, "rt") as lines:
        for line in islice(lines, most):
            key, size, cost = (*line.split(), "1", "1")[:3]
            rows.append((key.encode(), int(size), float(cost)))
    return rows


SHAPES = {shape.__name__: shape for shape in (zipf, scans, loops)}
RECORDED = ("cache2k_orm-busy", "cache2k_web12", "ci_redis")
RECORDED += ("lirs_2_pools", "lirs_multi1", "lirs_multi3", "lirs_ps", "lirs_sprite")


def requests_of(workload, most=REQUESTS):
    """(key, size, cost) of each; of a real trace the first so many. Without the real traces, the test is skipped."""
    if workload in SHAPES:
        return made(SHAPES[workload](random.Random(5)))
    return recorded(workload, most)


class Wire:
    """Sends ops in bulk, as no client would: the model says beforehand which misses are to be answered by a put."""

    def __init__(self, backend):
        self.client = backend.client
        self.ops = SmartOps(SPACE)
        self._shas = {script: self.client.script_load(script.text) for script in (GET, PUT)}

    def get(self, key):
        return self.ops.get(key, b"")

    def put(self, key, size, cost):
        rest = {"meta": META, "dependencies": (), "ttl_ms": None}
        return self.ops.put(key, b"h", b"x", size=size, cost=cost, **rest)

    def send(self, ops, rows=1):
        """The replies; so many gets in succession share a call."""
        calls = []
        for op in ops:
            if calls and type(op) is type(calls[-1][0]) is Row and len(calls[-1]) < rows:
                calls[-1].append(op)
            else:
                calls.append([op])
        replies = []
        for start in range(0, len(calls), 500):
            pipe = self.client.pipeline(transaction=False)
            some = calls[start : start + 500]
            for op, *more in some:
                words = [word for other in more for word in other.row]
                pipe.evalsha(self._shas[op.script], len(op.script.keys), *op.values, *words)
            for (op, *_), reply in zip(some, pipe.execute(), strict=True):
                replies += reply if type(op) is Row else [reply]
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


def usages(backend):
    return packed.usages(backend.client.hgetall(PART.usage))


def state(backend):
    agreed = {name.decode(): value.decode() for name, value in backend.client.hgetall(PART.state).items()}
    return agreed | packed.parse_state(backend.client.hget(PART.usage, packed.STATE))
