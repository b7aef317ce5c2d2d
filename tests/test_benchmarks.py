"""The scripts in benchmarks/ run, every row is there, and no figure is empty or zero."""

from __future__ import annotations

import ast
import gzip
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from servers import binaries

FOLDER = Path(__file__).parents[1] / "benchmarks"
TWINS = ("", "Async")
CALLERS = ["redis.asyncio GET", "AsyncSmartCache.get", "AsyncContentHashCache.get"] * 3
SCALE = {"SmartCache.get, hit", "SmartCache.put, evicting", "ContentHashCache.get, exact"}
SCALE |= {"ContentHashCache.get_with_prefix_match", "ContentHashCache.set, evicting"}
NEAR = {"cashews, client_side=True", "dict.get", "functools.lru_cache", "an invalidated key, 100,000 copies"}
NEAR |= {f"{twin}SmartCache.get{rest}" for twin in TWINS for rest in ("", ", hash checked")}
NEAR |= {f"{twin}ContentHashCache.get{rest}" for twin in TWINS for rest in ("", ", 5,000 characters")}
PEERS = {f"{name}{twin}: get" for name in ("distcache", "redis-py") for twin in ("", ", asyncio")}
PEERS |= {f"{name}: {what}" for name in ("distcache", "redis-py") for what in ("set", "100 at once, a key")}
PEERS |= {f"{name}, asyncio: 64 callers" for name in ("distcache", "redis-py")}
PEERS |= {"distcache: near hit", "distcache, asyncio: near hit"}
MEMORY = {
    "SmartCache, no dependencies": {"entry", "score", "usage"},
    "the same, compiled twice": {"entry", "score", "usage", "h:", "histories"},
    "once, in a full cache that has had 8 x as many": {"entry", "ghost", "ghost_old", "retired", "retired_old"},
    "compiled once, keys put one after the other: learned from": {"a:", "learned", "entry"},
    "ContentHashCache.set_key, no text": {"entry", "score", "usage", "deadline", "prefixes", "indexed"},
    "ContentHashCache.set_key, ttl_seconds=inf": {"entry", "score", "usage", "prefixes", "indexed"},
    "ContentHashCache.set, beyond text and index": {"entry", "score", "usage", "deadline"},
    "the same, ttl_seconds=inf": {"entry", "score", "usage"},
}


def run(tmp_path, script, *words, timeout_s=300):
    """The rows that a script writes, each a dict."""
    path = tmp_path / f"{script}.json"
    command = [sys.executable, str(FOLDER / f"{script}.py"), *map(str, words), "--quick", "--json", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip()
    return json.loads(path.read_text())


def figures_are_there(rows):
    for row in rows:
        figures = {name: value for name, value in row.items() if isinstance(value, int | float)}
        assert figures
        assert all(value > 0 for value in figures.values()), row


def cases_of(script):
    """What the script's own list of operations names."""
    tree = ast.parse((FOLDER / f"{script}.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Case"]
    return [call.args[0].value for call in calls]


def latency(tmp_path):
    rows = run(tmp_path, "latency")
    names = cases_of("latency")
    assert len(names) > 40
    wanted = []
    for twin in TWINS:
        smart = names.index("get, exact")
        wanted += [f"{twin}SmartCache.{name}" for name in names[:smart]]
        wanted += [f"{twin}ContentHashCache.{name}" for name in names[smart:]]
    assert [row["name"] for row in rows] == wanted
    figures_are_there(rows)


def callers(tmp_path):
    rows = run(tmp_path, "callers")
    assert [row["name"] for row in rows] == CALLERS
    assert [row["callers"] for row in rows[::3]] == [1, 64, 256]
    figures_are_there(rows)


def scale(tmp_path):
    rows = run(tmp_path, "scale")
    assert {row["name"] for row in rows} == SCALE
    figures_are_there(rows)


def near(tmp_path):
    if not find_spec("cashews"):
        pytest.skip("needs cashews")
    rows = run(tmp_path, "near")
    assert {row["name"] for row in rows} >= NEAR
    figures_are_there(rows)


def peers(tmp_path):
    rows = run(tmp_path, "peers")
    assert {row["name"] for row in rows} >= PEERS
    figures_are_there(rows)


def memory(tmp_path):
    rows = run(tmp_path, "memory")
    assert {row["name"] for row in rows} == MEMORY.keys() == set(cases_of("memory"))
    figures_are_there(rows)
    for row in rows:
        kinds = MEMORY[row["name"]]
        assert {kind for kind in kinds if row["parts"].get(kind, 0) > 0} == kinds, row
        assert row["left_out"]["request mark, for 60 s"] > 0


def trace(tmp_path):
    """Of 2,500 keys: some of libcachesim's algorithms end the process where 1 % of them are fewer than 10."""
    path = tmp_path / "traces" / "trace"
    path.parent.mkdir()
    path.write_text("".join(f"{number * number % 5003} 1000 5 {number}\n" for number in range(9000)))
    return path


def eviction(tmp_path):
    path = trace(tmp_path)
    packed = path.with_suffix(".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    rows = run(tmp_path, "eviction", "--traces", path.parent)
    ours = {"adaptive", "cost", "windowed", "gdsf", "lru", "lru_freq"}
    assert {(row["policy"], row["by"]) for row in rows} >= {(name, by) for name in ours for by in ("entries", "bytes")}
    assert all(0 < row["miss_ratio"] <= 1 and row["bound"] > 0 for row in rows)


def prediction(tmp_path):
    [row] = run(tmp_path, "prediction", trace(tmp_path))
    figures_are_there([row])


def queue(tmp_path):
    rows = run(tmp_path, "queue", "--only", "distcache")
    assert [(row["name"], row["workers"]) for row in rows] == [("distcache", 1), ("distcache", 4)]
    figures_are_there(rows)


def busy_polling(tmp_path):
    rows = run(tmp_path, "busy_polling")
    assert len(rows) == 12
    assert {row["name"] for row in rows} == {"redis-py GET", "busy_poll_us=1000", "busy_poll_us=0"}
    figures_are_there(rows)


ALL = (latency, scale, callers, near, peers, memory, eviction, prediction, queue, busy_polling)
SCRIPTS = {one.__name__: one for one in ALL}
QUICK = {"latency", "scale"}
"""In seconds; eviction, prediction and queue have tests of their own besides."""


def test_every_script_is_run():
    with_main = {path.stem for path in FOLDER.glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert with_main == SCRIPTS.keys()


@pytest.mark.skipif(not binaries(), reason="no server was found")
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs_and_no_figure_is_missing(tmp_path, script, request):
    if script not in QUICK and not request.config.getoption("--long"):
        pytest.skip("takes longer; --long")
    SCRIPTS[script](tmp_path)
