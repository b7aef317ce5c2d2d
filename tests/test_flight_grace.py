"""get_or_compute when an output expires: one that stands in for a failed compute, and one that is refreshed early."""

from __future__ import annotations

import math

import pytest
from flights import ENTRY, LEASE, Counted, Fault, fail

from distcache import SmartCache


@pytest.fixture
def other(backend, tmp_path):
    """Another client of the same cache, always blocking."""
    with SmartCache(tmp_path, url=backend.url, timeout_s=10.0, on_error="raise") as cache:
        yield cache


# an older output that stands in


def test_an_expired_output_stands_in_for_a_failed_compute(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(11)
    assert cache.get("key") is None, "it has expired for everyone else"
    assert not cache.has("key")
    assert cache.cleanup_expired() == 0, "and still is there"
    assert cache.get_or_compute("key", fail, stale_if_error=60) == "old"
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail)
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=0.5)
    assert backend.client.exists(LEASE) == 0


def test_the_grace_ends(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(71)
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)
    assert cache.cleanup_expired() == 1
    assert cache.get_stats()["total_size_mb"] == 0


def test_a_newer_output_takes_the_place_of_a_stale_one(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(11)
    assert cache.get_or_compute("key", Counted("new"), ttl_seconds=10) == "new"
    backend.let_pass(11)
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)


def test_what_is_invalidated_does_not_stand_in(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(11)
    assert cache.invalidate("key")
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)


@pytest.mark.parametrize("sliding", [False, True])
def test_a_grace_does_not_lengthen_a_life(smart, backend, sliding):
    cache = smart(sliding=sliding)
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(6)
    assert [cache.get("key") for _ in range(3)] == ["old"] * 3
    backend.let_pass(6)
    assert (cache.get("key") == "old") == sliding
    backend.let_pass(11)
    assert cache.get("key") is None
    assert cache.get_or_compute("key", fail, stale_if_error=60) == "old"


def test_a_touch_keeps_the_grace(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    cache.touch("key", ttl_seconds=100)
    backend.let_pass(99)
    assert cache.get("key") == "old"
    backend.let_pass(2)
    assert cache.get("key") is None
    assert cache.get_or_compute("key", fail, stale_if_error=60) == "old"


def test_an_output_that_stays_needs_no_grace(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), stale_if_error=60)
    assert backend.client.hexists(ENTRY, "g") == 0
    assert cache.get_or_compute("key", fail, stale_if_error=60) == "old"


def test_a_corrupt_output_does_not_stand_in(smart, backend):
    cache = smart()
    cache.get_or_compute("key", Counted("old"), ttl_seconds=10, stale_if_error=60)
    backend.let_pass(11)
    backend.client.hset(ENTRY, "o", b"\xff")
    with pytest.raises(Fault):
        cache.get_or_compute("key", fail, stale_if_error=60)


# early refresh


@pytest.fixture
def soon(smart, backend):
    """A cache whose entry took a second to make and has nine left to live, and what chance says (as -ln)."""
    cache = smart()
    cache.put("key", "old", "", compile_time_ms=1000, ttl_seconds=100)
    backend.let_pass(91)

    def chance(seconds: float) -> None:
        cache.raw._flights.rand = lambda: 1 - math.exp(-seconds)

    cache.chance = chance
    return cache


def test_a_refresh_comes_early_by_chance(soon):
    soon.chance(8)
    assert soon.get_or_compute("key", fail, early_refresh=1) == "old"
    soon.chance(10)
    assert soon.get_or_compute("key", Counted("new"), ttl_seconds=100, early_refresh=1) == "new"
    assert soon.get("key") == "new"


def test_beta_makes_it_sooner(soon):
    soon.chance(6)
    assert soon.get_or_compute("key", Counted("new"), early_refresh=1) == "old"
    assert soon.get_or_compute("key", Counted("new"), early_refresh=2) == "new"


def test_it_is_off_by_default_and_where_nothing_expires(soon):
    soon.chance(30)
    assert soon.get_or_compute("key", fail) == "old"
    soon.put("stays", "old", "", compile_time_ms=1000)
    assert soon.get_or_compute("stays", Counted("new"), early_refresh=1) == "old"


def test_while_one_refreshes_the_others_get_the_output_that_is_there(soon, other):
    soon.chance(30)
    other._flights.rand = lambda: 1 - math.exp(-30)
    compute = Counted("new", lambda: seen.append(other.get_or_compute("key", fail, early_refresh=1)))
    seen: list[str] = []
    assert soon.get_or_compute("key", compute, early_refresh=1) == "new"
    assert seen == ["old"]


def test_a_refresh_that_fails_is_not_the_callers_concern(soon, backend, caplog):
    soon.chance(30)
    assert soon.get_or_compute("key", fail, early_refresh=1) == "old"
    assert backend.client.exists(LEASE) == 0
    assert "Fault" in caplog.text
    assert soon.get("key") == "old"


def test_read_only_refreshes_nothing(soon, smart):
    cache = smart(read_only=True)
    cache.raw._flights.rand = lambda: 1 - math.exp(-30)
    assert cache.get_or_compute("key", fail, early_refresh=1) == "old"
