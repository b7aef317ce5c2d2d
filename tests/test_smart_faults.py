"""The known faults of the original class, which this one does not have; each by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers import binaries

from distcache.errors import ValueTooLarge


def test_fault_putting_over_an_existing_key_at_the_limit_evicted_another(smart):
    cache = smart(max_entries=2)
    for key in "abab":
        cache.put(key, key, "h")
    cache.put("a", "new", "h2")
    assert cache.get_many("ab") == {"a": "new", "b": "b"}
    assert cache.get_stats()["evictions"] == 0


def test_fault_an_oversize_value_emptied_the_cache(smart):
    cache = smart(max_size_mb=0.01)
    for key in "abc":
        cache.put(key, "x" * 1000, "h")
    with pytest.raises(ValueTooLarge):
        cache.put("d", "x" * 20_000, "h")
    assert sorted(cache.keys()) == ["a", "b", "c"]


def test_fault_the_empty_key_could_never_be_evicted(smart):
    cache = smart(max_entries=2, policy="lru")
    for key in ("", "a", "b"):
        cache.put(key, "x", "h")
    assert sorted(cache.keys()) == ["a", "b"]


def test_fault_an_empty_output_looked_like_a_miss(smart):
    cache = smart()
    cache.put("a", "", "h")
    assert cache.get("a") == ""
    assert cache.get_stats()["hits"] == 1


def test_fault_invalidation_followed_only_direct_dependencies(smart):
    cache = smart()
    cache.put("a", "x", "h", ["b"])
    cache.put("b", "x", "h", ["c"])
    assert sorted(cache.invalidate_by_dependency("c", transitive=True)) == ["a", "b"]


def test_fault_one_global_last_key_mixed_clients(smart):
    one, two = smart(), smart()
    one.get("a")
    two.get("x")
    one.get("b")
    two.get("y")
    one.flush()
    two.flush()
    assert one.get_predicted_next("a") == ["b"]
    assert one.get_predicted_next("x") == ["y"]
    assert one.get_predicted_next("b") == []


def test_fault_predictions_were_the_first_three_successors_ever_seen(smart):
    cache = smart()
    for key in "bcd" + "e" * 4 + "f" * 3:
        cache.get("a")
        cache.get(key)
    assert cache.get_predicted_next("a")[:2] == ["f", "e"] or cache.get_predicted_next("a")[:2] == ["e", "f"]


def test_fault_a_corrupt_file_does_not_lose_the_cache(smart, tmp_path):
    """The files are for exchange only: what they hold or do not hold changes nothing that was stored."""
    cache = smart(tmp_path)
    cache.put("a", "x", "h")
    tmp_path.joinpath("smart_cache_v1.2.json").write_text("{")
    assert smart(tmp_path).get("a") == "x"


PROGRAM = """
import os, sys
from distcache import SmartCache
cache = SmartCache(sys.argv[1], url=sys.argv[2], timeout_s=10)
cache.put("kept", "x", "h")
cache.get("other")
cache.get("kept")
if sys.argv[3] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("twin", ["sync"], indirect=True)
@pytest.mark.parametrize("backend", sorted(binaries()), indirect=True)
@pytest.mark.parametrize("end", ["normal", "killed"])
def test_fault_nothing_was_saved_unless_the_interpreter_collected_the_object(smart, backend, tmp_path, end):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path), backend.url, end], cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == (-9 if end == "killed" else 0)
    cache = smart()
    assert cache.get("kept") == "x"
    assert cache.get_predicted_next("kept") == (["other"] if end == "normal" else [])
    assert json.dumps(cache.get_stats())
