"""Replaying traces: files, a cache's own events, the command, the recommendation, the benchmark."""

from __future__ import annotations

import gzip
import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from servers import binaries, start_server

from distcache import DistcacheError, SmartCache
from distcache.cli.app import app
from distcache.config import POLICIES
from distcache.keys import Partition, key_id
from distcache.policies import MODELS
from distcache.replay import Request, Trace, from_events, read_trace, recommend, replay

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "eviction.py"
LOOP = [Request(str(number % 100)) for number in range(3000)]
CHANCE = random.Random(1)
SCAN = [Request(str(number) if number % 4 else f"often{CHANCE.randrange(10)}") for number in range(3000)]


def written(tmp_path, text, name="trace"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["trace", "trace.gz"])
def test_a_file_plain_or_packed(tmp_path, name):
    trace = read_trace(written(tmp_path, "a\nb\n\na\n", name))
    assert trace == Trace([Request("a"), Request("b"), Request("a")], sized=False)


def test_a_file_with_sizes_and_costs(tmp_path):
    trace = read_trace(written(tmp_path, "a 10 2.5 1.0\nb 30 1 2\na 10 2.5 3\n"))
    assert trace.sized
    assert trace.requests[0] == Request("a", 10, 2.5, 1.0)
    assert (trace.entries(50), trace.bytes(50)) == (1, 20)


def test_a_line_that_is_no_request_is_named(tmp_path):
    with pytest.raises(DistcacheError, match="line 2 of trace is no request"):
        read_trace(written(tmp_path, "a 10 2.5 1.0\nb much 1 2\n"))


WRONG = {
    "a -5 1 0": "size_bytes=-5; take bytes from 0 to below 2^53",
    f"a {'9' * 400} 1 0": "size_bytes=99999999999999999999...; take",
    "a 5 -1 0": "cost_ms=-1; take milliseconds from 0 to below 10^15",
    "a 5 nan 0": "cost_ms=nan; take",
    "a 5 inf 0": "cost_ms=inf; take",
    "a 5 1 nan": "time_s=nan; take seconds, a finite number",
    "a 5 1 -inf": "time_s=-inf; take",
}


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line[:12])
def test_a_number_that_cannot_be_is_named(run, tmp_path, line):
    path = written(tmp_path, f"b 7 1 0\n\n{line}\nb 7 1 1\n{line}\n")
    for more in ((), ("--json",), ("--entries", 1)):
        printed = run(path, *more, code=1)
        assert printed.startswith(f"Error: line 3 of trace says {WRONG[line]}")
        assert printed.count("\n") == 1


PACKED = gzip.compress("".join(f"{one.key}\n" for one in SCAN).encode())
DAMAGED = {
    "no text": (b"a\nb\n\xff\xfe\n", "line 3 of file holds the byte 0xff, which is not UTF-8; write it as UTF-8"),
    "packed no text": (gzip.compress(b"a\n\x80"), "line 2 of file holds the byte 0x80"),
    "bad header": (
        b"\x1f\x8b\x00garbage",
        "file cannot be unpacked after line 0 (Unknown compression method); pack it again",
    ),
    "cut off": (PACKED[:-20], "file cannot be unpacked after line "),
    "bad middle": (PACKED[:500] + bytes(50) + PACKED[550:], "file cannot be unpacked after line "),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_file_is_named(run, tmp_path, what):
    data, said = DAMAGED[what]
    (tmp_path / "file").write_bytes(data)
    printed = run(tmp_path / "file", code=1)
    assert printed.startswith(f"Error: {said}")
    assert printed.count("\n") == 1


@pytest.mark.parametrize("bound", [("--mb", "nan"), ("--mb", "1e400"), ("--mb", "-1"), ("--entries", "9" * 400)])
def test_a_bound_that_cannot_be_is_named(run, tmp_path, bound):
    option, value = bound
    printed = run(written(tmp_path, "a 5 1 0\na 5 1 1\n"), *bound, code=2)
    assert f"Invalid value for '{option}': {value.replace('1e400', 'inf')}" in printed
    assert "in the range" in printed


def test_what_is_saved_and_what_could_be():
    trace = Trace([Request("a", 10, 2000), Request("b", 10, 1000), Request("a", 10, 2000)], sized=True)
    everything, nothing = (replay(trace, "lru", max_entries=bound) for bound in (2, 1))
    assert (everything.misses, everything.saved_s, everything.avoidable_s, everything.saved_share) == (2, 2, 2, 1)
    assert (nothing.misses, nothing.missed_bytes, nothing.miss_ratio, nothing.saved_s) == (3, 30, 1, 0)


def test_a_put_may_evict_several_or_be_refused():
    model = MODELS["lru"](max_bytes=100)
    assert [model.put(key, size) for key, size in (("a", 40), ("b", 40), ("c", 90))] == [[], [], ["a", "b"]]
    assert model.put("c", 101) == []
    assert (model.entries, model.bytes) == ({}, 0)


@pytest.mark.parametrize("policy", POLICIES)
def test_bounds_hold(policy):
    model = MODELS[policy](max_entries=7, max_bytes=300)
    for number in range(500):
        model.request(number * 7919 % 23, 10 + number * 7919 % 23 * 5, number % 5)
        assert len(model.entries) <= 7
        assert model.bytes == sum(entry.size for entry in model.entries.values()) <= 300


def test_a_loop_is_for_windowed_and_what_is_used_often_stays_in_a_scan():
    loop = [replay(Trace(LOOP, sized=False), policy, max_entries=80) for policy in ("lru", "windowed")]
    assert (loop[0].miss_ratio, loop[1].miss_ratio < 0.5) == (1, True)
    scan = {policy: replay(Trace(SCAN, sized=False), policy, max_entries=20).miss_ratio for policy in POLICIES}
    assert scan["lru"] > 0.9
    assert max(scan["windowed"], scan["adaptive"]) < 0.77, "0.753 is the least possible"


def test_recommended_is_what_loses_least_and_the_default_among_equals():
    trace = Trace(LOOP, sized=False)
    assert recommend([replay(trace, policy, max_entries=80) for policy in POLICIES], sized=False) == "windowed"
    assert recommend([replay(trace, policy, max_entries=100) for policy in POLICIES], sized=False) == "adaptive"


def event(kind, key, details=""):
    return {"type": kind, "key": key, "timestamp": 1000, "details": details}


def test_events_become_requests():
    events = [event("HIT", "lost"), event("MISS", "a"), event("WRITE", "a", "size=10, compile_time=5ms")]
    events += [event("HIT", "a"), event("EVICT", "a"), event("WRITE", "b", "size=30, compile_time=15ms")]
    trace = from_events(events)
    assert trace.sized
    assert trace.requests == [
        Request("lost", 20, 10, 1),
        Request("a", 10, 5, 1),
        Request("a", 10, 5, 1),
        Request("b", 30, 15, 1),
    ]


@pytest.mark.parametrize("details", ["compile_time=1.2.3ms", "compile_time=.ms", f"compile_time={'9' * 400}ms"])
def test_a_write_that_nobody_can_read_says_nothing_of_its_output(details):
    events = [event("WRITE", "a", f"size=10, {details}"), event("WRITE", "b", f"size={'9' * 400}, compile_time=1ms")]
    events += [event("WRITE", "c", "size=10, compile_time=5ms"), event("HIT", "a")]
    assert from_events(events).requests == [Request(key, 10, 5, 1) for key in "abca"]


@pytest.mark.parametrize("between", [("EVICT", "older version"), ("EVICT", "replaced"), ("HIT", ""), ("PREDICT", "")])
def test_a_write_answers_the_miss_before_it_whatever_stands_between(between):
    events = [event("MISS", "a"), event(between[0], "a", between[1]), event("WRITE", "a", "size=10, compile_time=5ms")]
    requests = from_events(events).requests
    assert len(requests) == (2 if between[0] == "HIT" else 1)
    assert len(from_events([*events, event("WRITE", "a", "size=10, compile_time=5ms")]).requests) == len(requests) + 1


def test_hits_of_a_near_cache_are_as_many_requests():
    events = [event("WRITE", "a", "size=10, compile_time=5ms"), event("HIT", "a", "near cache, 12 times")]
    trace = from_events(events)
    assert trace.requests == [Request("a", 10, 5, 1), Request("a", 10, 5, 1, 12)]
    found = replay(trace, "lru", max_entries=1)
    assert (found.requests, found.misses, found.saved_share) == (13, 1, 1)
    assert (found.saved_s, found.avoidable_s) == (pytest.approx(0.06), pytest.approx(0.06))


@pytest.mark.parametrize("number", ["0", "-3", "many", "9" * 400])
def test_a_number_of_hits_that_cannot_be_counts_as_one(number):
    trace = from_events([event("HIT", "a", f"near cache, {number} times")])
    assert trace.requests == [Request("a", 1, 0, 1)]


def test_as_many_hits_as_can_be_told_take_no_time():
    trace = from_events([event("HIT", key, f"near cache, {'9' * 15} times") for key in "ab" * 10])
    for policy in POLICIES:
        found = replay(trace, policy, max_entries=1)
        assert (found.requests, found.misses) == (20 * (10**15 - 1), 20)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bound", [{"max_entries": 20}, {"max_bytes": 900}])
def test_hits_in_a_row_are_worth_the_same_together(policy, bound):
    chance = random.Random(7)
    rows = [
        Request(str(chance.randrange(40)), 10 + chance.randrange(90), chance.randrange(50), number, 1 + number % 5)
        for number in range(2000)
    ]
    apart = [one._replace(times=1) for one in rows for _ in range(one.times)]
    together, single = (replay(Trace(each, sized=True), policy, **bound) for each in (rows, apart))
    assert together.requests == single.requests == len(apart)
    assert together.misses == single.misses
    assert together.saved_s == pytest.approx(single.saved_s)
    assert together.avoidable_s == pytest.approx(single.avoidable_s)


@pytest.mark.parametrize("policy", ["adaptive", "cost", "gdsf"])
@pytest.mark.parametrize("bound", [{"max_entries": 10}, {"max_size_mb": 0.1}], ids=["entries", "bytes"])
def test_hits_in_a_row_are_worth_what_the_server_makes_of_them(tmp_path, policy, bound):
    chance = random.Random(3)
    model = MODELS[policy](bound.get("max_entries", 10_000), int(bound.get("max_size_mb", 500) * 2**20))
    with start_server(max(binaries().values())) as server:
        with SmartCache(tmp_path, url=server.url, policy=policy, near=True, on_error="raise", **bound) as cache:
            for key in "abcabcdaef" * 2:
                size, cost = chance.randrange(1, 9000), chance.randrange(100)
                cache.put(key, "x" * size, "h", compile_time_ms=cost)
                model.put(key_id(key.encode()), size, cost)
                told = len(cache.get_recent_events())
                for _ in range(chance.randrange(2, 200)):
                    cache.get(key)
                for one in from_events(cache.get_recent_events()[told:]).requests:
                    assert model.get(key_id(one.key.encode()), times=one.times)
        with server.client() as client:
            held = dict(client.zrange(Partition("smart", 0).score, 0, -1, withscores=True))
    assert held == {key: entry.score for key, entry in model.entries.items()}


def test_what_can_never_fit_misses_every_time():
    found = replay(Trace([Request("a", 10, 5, 1, 12)], sized=True), "cost", max_bytes=5)
    assert (found.requests, found.misses, found.missed_bytes, found.saved_s) == (12, 12, 120, 0)


@pytest.fixture
def run(monkeypatch, tmp_path):
    def call(*words, code=0):
        result = CliRunner().invoke(app, ["replay", *map(str, words)], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    monkeypatch.chdir(tmp_path)
    return call


def test_the_command(run, tmp_path):
    path = written(tmp_path, "".join(f"{one.key}\n" for one in LOOP))
    found = json.loads(run(path, "--entries", 80, "--json"))
    assert found["recommended"] == "windowed"
    assert [row["policy"] for row in found["outcomes"]] == list(POLICIES)
    assert {row["bound"] for row in found["outcomes"]} == {"80 entries"}
    printed = run(path, "--policy", "lru", "--policy", "adaptive")
    assert "3,000 requests. Recommended: policy='adaptive'" in printed
    assert "gdsf" not in printed
    assert "name a trace" in run(code=2)
    assert "no request to replay" in run(written(tmp_path, "\n"), code=1)


def test_the_command_with_seconds(run, tmp_path):
    path = written(tmp_path, "".join(f"{number % 5} 100 {number % 5 + 1} {number}\n" for number in range(100)))
    printed = run(path, "--mb", 0.0004)
    assert "of the avoidable seconds are lost" in printed
    assert "seconds saved" in printed


def test_the_command_with_the_events_of_a_cache(run, tmp_path):
    with start_server(max(binaries().values())) as server:
        with SmartCache(tmp_path, url=server.url, max_entries=2, on_error="raise") as cache:
            for key in "abacada":
                if cache.get(key) is None:
                    cache.put(key, "output", "h", compile_time_ms=100)
        found = json.loads(run("--events", "--url", server.url, "--policy", "lru", "--json"))
    row = found["outcomes"][0]
    assert (row["requests"], row["misses"], row["saved_s"]) == (7, 4, pytest.approx(0.3))
    assert row["bound"].startswith("2 entries")


def test_requests_of_a_near_cache_and_of_versions_are_all_counted(run, tmp_path):
    with start_server(max(binaries().values())) as server:
        with SmartCache(tmp_path, url=server.url, near=True, versions=2, on_error="raise") as cache:
            for number in range(50):
                assert cache.get("a", f"h{number}") is None
                cache.put("a", "output", f"h{number}", compile_time_ms=100)
            asked = 50
            while cache.local_stats()["near_hits"] < 1000:
                assert cache.get("a", "h49") == "output"
                asked += 1
        words = ("--events", "--url", server.url, "--policy", "lru")
        assert json.loads(run(*words, "--json"))["outcomes"][0]["requests"] == asked
        assert f"{asked:,} requests." in run(*words)


def test_the_benchmark_runs(tmp_path):
    written(tmp_path, "".join(f"{one.key}\n" for one in SCAN), "scan.gz")
    results = tmp_path / "results.json"
    command = [sys.executable, str(BENCHMARK), "--quick", "--traces", str(tmp_path), "--json", str(results)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert {cell["policy"] for cell in json.loads(results.read_text())} >= set(POLICIES)
    assert "Mean of 1 traces" in done.stdout


@pytest.fixture(scope="module")
def eviction():
    spec = importlib.util.spec_from_file_location("eviction", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:  # a dataclass looks its module up
        patch.setitem(sys.modules, "eviction", module)
        spec.loader.exec_module(module)
    return module


TRACES = ("lirs_ps", "lirs_multi3", "cache2k_web12", "lirs_sprite", "ci_redis", "cache2k_orm-busy")


@pytest.mark.parametrize("name", TRACES)
def test_the_policies_reach_the_specifications_figures(eviction, name, request):
    if name != "lirs_ps" and not request.config.getoption("--long"):
        pytest.skip("takes longer; --long")
    path = eviction.TRACES / f"{name}.gz"
    if not path.exists():
        pytest.skip(f"the trace {name} is not in {eviction.TRACES}")
    by, published = ("bytes", eviction.PUBLISHED_SAVED) if name == "ci_redis" else ("entries", eviction.PUBLISHED)
    policies = [policy for trace, policy in published if trace == name and policy in ("adaptive", "windowed", "cost")]
    cells = [cell for policy in policies for cell in eviction.run(eviction.Job(path, policy, by, None))]
    apart = eviction.deviations(cells)
    assert len(apart) == len(cells) == len(policies) * (3 if by == "bytes" else 4)
    assert apart[0].by < 0.01, apart[0]


def test_every_published_figure_is_of_a_cell(eviction):
    for published, shares in (
        (eviction.PUBLISHED, eviction.ENTRY_SHARES),
        (eviction.PUBLISHED_SAVED, eviction.BYTE_SHARES),
    ):
        assert {len(figures) for figures in published.values()} == {len(shares)}
        assert {policy for _trace, policy in published} <= set(POLICIES)
    near, far = (eviction.Cell("lirs_ps", "lru", "entries", 25, 9, miss_ratio, 0.0) for miss_ratio in (0.516, 0.505))
    other = eviction.Cell("another", "lru", "entries", 25, 9, 0.1, 0.0)
    assert [(one.cell, round(one.by, 6)) for one in eviction.deviations([near, other, far])] == [
        (far, 0.01),
        (near, 0.001),
    ]
