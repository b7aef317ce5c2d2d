"""A put that goes the usual way leaves behind what the general way leaves, key by key."""

from __future__ import annotations

import random
import zlib
from itertools import islice

import keyspace
import pytest
from conftest import content_on, smart_on
from servers import binaries

from distcache.content import ops as content_ops
from distcache.content import text as texts
from distcache.content.ops import ContentOps
from distcache.keys import Keyspace, raw, scope_id
from distcache.smart import ops as smart_ops
from distcache.smart.ops import SmartOps
from distcache.smart.records import Metadata

REQUESTS, CAP = 400, 50
NAMES = ("usual", "general")
BEGIN, END = "\nrepeat  -- the usual ", "\nuntil true\n"
CLOCK, FELL = "clock", "fell through"
"""Keys that the scripts of this test read and write."""
*_, ONE = sorted(binaries())


@pytest.fixture
def twin():
    """Both twins send the same scripts."""
    return "sync"


def changed(script, way):
    """The source on a clock of its own, which counts what goes the general way; all do where `way` is general."""
    source = script.source
    assert source.count("redis.call('TIME')") == 1
    source = source.replace("redis.call('TIME')", f"redis.call('LRANGE', '{CLOCK}', 0, 1)")
    if script in (smart_ops.PUT, content_ops.SET):
        assert source.count(BEGIN) == source.count(END) == 1, "the script has changed; change the test"
        source = source.replace(END, f"{END}redis.call('HINCRBY', '{FELL}', '{way}', 1)\n")
        if way == "general":
            source = source.replace(BEGIN, BEGIN.replace("repeat", "repeat do break end"))
    return "#!lua\n" + source


class Both:
    """Sends each request to two caches that differ in their names only, at the same time by their clock."""

    def __init__(self, backend, *scripts):
        self.client = backend.client
        self.shas = {
            (script, name): self.client.script_load(changed(script, name)) for script in scripts for name in NAMES
        }
        seconds, us = self.client.time()
        self.now_us = seconds * 1_000_000 + us - 60_000_000

    def send(self, op):
        self.client.delete(CLOCK)
        self.client.rpush(CLOCK, *divmod(self.now_us, 1_000_000))
        keys = len(op.script.keys)
        tags = [b"{dc1:%b:" % name.encode() for name in NAMES]
        calls = [[key.replace(tags[0], tag) for key in op.values[:keys]] for tag in tags]
        replies = [
            self.client.evalsha(self.shas[op.script, name], keys, *call, *op.values[keys:])
            for name, call in zip(NAMES, calls, strict=True)
        ]
        assert replies[0] == replies[1]

    def predicted(self, chance):
        """One of the entries has been made because it was predicted, or is in its grace at the end of its life."""
        one = chance.choice(self.client.zrange(b"{dc1:usual:0}:score", 0, -1))
        field = chance.choice("pg")
        for name in NAMES:
            self.client.hset(b"{dc1:%b:0}:e:%b" % (name.encode(), one), mapping={field: 100})

    def compare(self):
        """Every key of both; the time to live of a key is that of the server's clock, so it may differ a little."""
        usual, general = (self.keys(name) for name in NAMES)
        assert usual.keys() == general.keys()
        for rest, stored in usual.items():
            assert plain(stored) == plain(general[rest]), rest
            assert abs(stored.ttl_ms - general[rest].ttl_ms) < 2000, rest

    def keys(self, name):
        return keyspace.read(self.client).tags()[b"{dc1:%b:0}:" % name.encode()]

    def end(self, least):
        """The usual way was the usual one; what only the test has is gone."""
        fell = {name.decode(): int(number) for name, number in self.client.hgetall(FELL).items()}
        assert fell.get("usual", 0) < (1 - least) * fell["general"], fell
        self.client.delete(CLOCK, FELL)


def plain(stored):
    """Of a stream the newest events without their names, which the server makes of its own clock: they have different
    lengths, and it trims whole pieces of memory."""
    return [fields for _stamp, fields in stored.value[-CAP:]] if stored.kind == "stream" else stored.value


def some(chance, most=90):
    """A number, mostly a low one."""
    return min(int(chance.paretovariate(0.4)), most)


def depends_on(key):
    """Half of the keys have dependencies: few, which some share, and of which some are in the cache."""
    number = zlib.crc32(key)
    return [f"k{number % 13}", f"d{number % 5}", f"d{number % 7}"][: number % 8 // 2]


def puts(chance, ops, ttl_ms):
    """Puts, mostly of what is not there or is the same again; gets; now and then what is out of the ordinary."""
    for _ in range(REQUESTS):
        key = b"k%d" % some(chance)
        kind = chance.random()
        if kind < 0.3:
            yield ops.get(key, b"h" if kind < 0.05 else b"")
            continue
        if kind > 0.97:
            yield None
            continue
        size = chance.randrange(100, 9000) if kind > 0.9 else chance.randrange(1000, 1100)
        links = depends_on(key) if kind < 0.87 else [f"k{some(chance, 20)}" for _ in range(chance.randrange(3))]
        op = ops.put(
            key,
            chance.choice([b"h", b"other"]),
            b"x" * 20,
            size=size,
            cost=chance.choice([0, 1, 7.25, 1e4 / 3]),
            meta=Metadata.encode(tuple(links), chance.choice(["", "ci:7"]), (0, 0), ""),
            dependencies=map(raw, links),
            ttl_ms=chance.choice(ttl_ms),
            past="3 1600000000000 1600000000000" if kind > 0.96 else "",
        )
        yield op
        if 0.8 < kind < 0.9:
            yield op  # it was sent again, because its reply was lost


def sets(chance, ops):
    """The same of texts and keys."""
    scope = scope_id(())
    for _ in range(REQUESTS):
        number = some(chance)
        text = f"thought {number} " + "of that " * (number % 5 * 80)
        kind = chance.random()
        if kind < 0.3:
            yield ops.get(texts.query(scope, text), "en", "none")
            continue
        place = texts.place(scope, text)
        if kind > 0.8:
            place = texts.key_place(scope, f"key {number}", text)
        op = ops.set(place, b"s" * 9, b"d" * 16, b"", chance.randrange(100, 9000 if kind > 0.95 else 200))
        yield op
        if kind < 0.35:
            yield op


def run(both, requests, chance):
    for number, op in enumerate(requests):
        both.now_us += chance.choice([0, chance.randrange(200_000)])
        if op is None:
            both.predicted(chance)
        else:
            both.send(op)
        if number % 25 == 0:
            both.compare()
    both.compare()


BOUNDS = {"entries": (12, {}), "bytes": (1000, {"max_size_mb": 20_000 / 2**20})}
CASES = [("adaptive", "entries"), ("cost", "entries"), ("cost", "bytes"), ("lru", "bytes")]
REAL = pytest.mark.parametrize("real", [ONE], indirect=True)
TTL = pytest.mark.parametrize(("ttl_s", "least"), [(None, 0.4), (1, 0.2)])
"""Where entries expire, a put often finds one that has; the usual way leaves that to the general one."""


@REAL
@TTL
@pytest.mark.parametrize(("policy", "bounded_by"), CASES)
def test_an_output(real, opener, tmp_path, policy, bounded_by, ttl_s, least):
    most, options = BOUNDS[bounded_by]
    options = options | {"policy": policy, "history": 3, "event_cap": CAP, "ttl_seconds": ttl_s, "versions": 2}
    for name in NAMES:
        smart_on(real, opener, tmp_path)(max_entries=most, namespace=name, **options)
    both, chance = Both(real, smart_ops.PUT, smart_ops.GET), random.Random(7)
    own_ms = [None, None, 0, 500, 3000] if ttl_s else [None]
    requests = puts(chance, SmartOps(Keyspace(NAMES[0], 1)), own_ms)
    run(both, islice(requests, 100), chance)
    for name in NAMES:  # older versions stay until their key is put
        smart_on(real, opener, tmp_path)(namespace=name, versions=1, reconfigure=True)
    run(both, requests, chance)
    both.end(least)
    real.checked = False
    assert real.problems(lowered=True) == []


@REAL
@TTL
@pytest.mark.parametrize(("policy", "bounded_by"), CASES)
def test_a_signature(real, opener, policy, bounded_by, ttl_s, least):
    most, options = BOUNDS[bounded_by]
    for name in NAMES:
        content_on(real, opener)(most, policy=policy, namespace=name, ttl_seconds=ttl_s, **options)
    both, chance = Both(real, content_ops.SET, content_ops.GET), random.Random(7)
    run(both, sets(chance, ContentOps(Keyspace(NAMES[0], 1), "miss")), chance)
    both.end(least)


def test_a_relic_that_comes_back_without_dependencies(smart):
    cache = smart(max_entries=4, policy="lru")
    for key, dependencies in {"a": ["z"], "c": [], "b": ["a"], "d": [], "e": []}.items():
        cache.put(key, "x", "h", dependencies)
    assert cache.get("a") is None
    cache.put("a", "x", "h")  # c makes room, which has no edges
    assert cache.get("c") is None
    assert cache.get("a") == "x"
