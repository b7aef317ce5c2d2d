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
