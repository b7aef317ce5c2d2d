"""The predictor on plain dicts (benchmarks/prediction.py) and the one in Lua count the same and say the same."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from distcache.errors import ServerError
from distcache.keys import Partition, key_id
from distcache.smart import followed, likely
from distcache.smart.followed import Followed

PART = Partition("smart", 0)
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "prediction.py"


@pytest.fixture(scope="module")
def prediction():
    spec = importlib.util.spec_from_file_location("prediction", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # a dataclass looks its module up
        patch.setitem(sys.modules, "prediction", module)
        spec.loader.exec_module(module)
    return module


def stored(client, key):
    fields = client.hgetall(PART.after + key_id(key.encode()))
    return Followed.decode([part for item in fields.items() for part in item])


def same(found, known):
    assert found.clock == pytest.approx(known.clock, abs=1e-9)
    assert found.nexts == pytest.approx(known.next, rel=1e-9)
    assert found.soons == pytest.approx(known.soon, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_lua_counts_as_the_model_does(smart, backend, prediction, seed):
    cache, model, rng = smart(), prediction.Model(), random.Random(seed)
    names = "abcdefgh" if seed else [f"k{number}" for number in range(60)]
    walk = rng.choices(names, k=300)
    before = None
    for key in walk:
        cache.get(key)
        if before is not None and key != before:
            model.learn(before, key)
        before = key
    cache.flush()
    for key, known in model.after.items():
        same(stored(backend.client, key), known)


def test_more_than_are_kept(smart, backend, prediction):
    cache, model = smart(), prediction.Model()
    before, sizes = None, set()
    for number in range(80):
        for key in ("a", f"b{number}", f"c{number}"):
            cache.get(key)
            if before:
                model.learn(before, key)
            before = key
            cache.flush()  # a row with one observation of each first key: too many go when the model says
        found = stored(backend.client, "a")
        same(found, model.after["a"])
        sizes |= {len(found.nexts), len(found.soons)}
    assert max(sizes) == prediction.MOST
    assert len(found.nexts) < prediction.MOST


def test_what_is_damaged_weighs_nothing_and_goes_first(smart, backend):
    cache = smart()
    name = PART.after + key_id(b"a")
    for number in range(3):
        for key in ("a", f"b{number}"):
            cache.get(key)
    cache.flush()
    backend.client.hset(name, mapping={"nshort": "x", "nnone": struct.pack("<d", math.nan), "nb0": b"\xff" * 8})
    assert cache.get_predicted_next("a") == ["b2", "b1"]
    for number in (0, *range(100, 160)):
        for key in ("a", f"b{number}"):
            cache.get(key)
    cache.flush()
    assert {b"nshort", b"nnone"}.isdisjoint(backend.client.hgetall(name))
    assert len(cache.get_predicted_next("a", 100)) == len(stored(backend.client, "a").nexts)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((b"", value) for value in (b"", b"x", b"\xff" * 10, struct.pack("<dBB", math.inf, 1, 1))),
        *((b"nb", value) for value in (b"", b"x", b"\xff" * 8, *map(struct.Struct("<d").pack, (5e3, -5e3, math.inf)))),
        (b"odd", bytes(8)),
    ],
)
def test_a_damaged_field_is_no_concern_of_others(smart, backend, field, value):
    backend.checked = False
    cache = smart(on_error="raise")
    for key in "abac" * 2:
        cache.get(key)
    cache.flush()
    name = PART.after + key_id(b"a")
    backend.client.hset(name, field, value)
    assert set(cache.get_predicted_next("a")) <= {"b", "c"}
    assert cache.save()
    for key in "abac" * 2 + "yz":
        cache.get(key)
    cache.flush()
    assert set(cache.get_predicted_next("a")) == {"b", "c"}
    assert cache.get_predicted_next("y") == ["z"]
    found = stored(backend.client, "a")
    assert 0 < found.clock < 2
    assert sum(share for _, share in found.shares(9)) < 1


def test_shares_are_parts_of_one_though_lessons_were_lost():
    known = followed.Followed(clock=0.0, soons={"a": 3.0, "b": 2.0})
    assert sum(share for _, share in known.shares(9, soon=True)) < 1


@pytest.mark.parametrize("key", ["b", "c"])
def test_where_another_program_has_put_something_nothing_is_half_learned(smart, backend, key):
    cache = smart(on_error="raise")
    damaged = PART.after + key_id(key.encode())
    backend.client.set(damaged, "no hash")
    for one in "abcd" * 3:
        cache.get(one)
    with pytest.raises(ServerError):
        cache.flush()
    assert backend.client.keys(b"*:a:*") == [damaged]
    assert not backend.client.exists(PART.learned)
    backend.client.delete(damaged)


def test_a_row_names_next_keys_first():
    """Also the key that has no letter, whose field is the shortest of its kind."""
    observations = [b"sb", b"n", b"s", b"na", b"n"]
    one, key, places, *fields = followed.row(b"key", observations)
    assert (one, key) == (key_id(b"key"), b"key")
    assert fields == [b"n", b"na", b"s", b"sb"]
    assert tuple(places) == (2, 4, 4, 1, 3, 2, 1)


def test_observations_come_in_rows_that_a_byte_can_count():
    steps = [(b"%d" % number, (b"a", b"b")) for number in range(followed.MOST + 1)]
    rows = list(followed.observed(steps))
    assert [(key, len(some)) for key, some in rows] == [(b"a", 255), (b"a", 1), (b"b", 255), (b"b", 1)]
    assert rows[3] == (b"b", [b"s255"])


def test_the_rule_of_the_original_is_beaten(prediction, tmp_path):
    """Where successors take turns, where they change, and where two sequences are interleaved."""
    turns = [key for number in range(400) for key in ("a", "wxyz"[number % 4])]
    changing = [key for number in range(400) for key in ("a", f"b{number // 40}")]
    rng = random.Random(1)
    streams = [iter([f"{name}{number}" for _ in range(40) for number in range(20)]) for name in "pq"]
    interleaved = [next(rng.choice(streams)) for _ in range(700)]
    for name, walk in (("turns", turns), ("changing", changing), ("interleaved", interleaved)):
        path = tmp_path / name
        path.write_text("\n".join(walk))
        row = prediction.measure(path)
        assert (row.trace, row.steps) == (name, sum(one != other for one, other in pairwise(walk)))
        assert row.distcache > row.original, name
        assert row.distcache >= row.aged_count, name


def test_the_benchmark_runs(tmp_path):
    (tmp_path / "trace").write_text("a 1 2\nb 1 2\n" * 20_000)
    (tmp_path / "short").write_text("a\nb\n")
    results = tmp_path / "results.json"
    command = [sys.executable, BENCHMARK, tmp_path / "trace", tmp_path / "short", "--quick", "--json", results]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert [line.split()[0] for line in printed.splitlines()] == ["trace", "trace", "short"]
    rows = json.loads(results.read_text())
    assert [(row["trace"], row["steps"]) for row in rows] == [("trace", 19_999), ("short", 1)]
    assert rows[0]["distcache"] == pytest.approx(1, abs=0.001)


def test_chances_leave_out_what_is_over():
    found = likely.chances(["c", "b", "a"], [{"d": 0.5, "c": 0.9}, {"c": 0.9, "d": 0.1}, {"b": 0.4, "e": 0.2}])
    assert found == pytest.approx({"d": 0.5 + 0.8 * 0.1, "e": 0.7 * 0.2})


def test_ranks():
    assert likely.ranked({"a": 0.2, "b": 0.5, "c": 0.3}, 2) == ["b", "c"]
    assert likely.ranked({"a": 0.4, "b": 0.3, "c": 0.25, "d": 0.22, "e": 0.1}, 3) == ["a", "b", "d"]
    assert likely.ranked({}, 3) == []
