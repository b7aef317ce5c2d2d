"""The first act: CI machines build the standard library with one SmartCache, before and after a module changes."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from distcache.demo import graph, yard
from distcache.demo.yard import Built

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.demo.stage import Stage
    from distcache.demo.yard import Build, Yard

COLUMNS = ("build", "files", "compiled", "hits", "seconds", "compile seconds saved")


def play(stage: Stage) -> str:
    """Play the act; the sentence says what was seen."""
    with yard.opened(stage) as opened:
        return _play(stage, opened)


def _play(stage: Stage, yard: Yard) -> str:
    machines, before = stage.machines, len(yard.modules)
    stage.say(
        f"\n[bold]1. {machines} CI machines build the standard library of Python {platform.python_version()}[/], "
        f"{before:,} modules, with one SmartCache"
    )
    digests = yard.without_cache()
    failing = before - len(digests)
    stage.say(
        f"Compiled once without a cache, to compare with: {len(digests):,} modules"
        + (f"; {failing} others are there to fail." if failing else ".")
    )

    builds = [yard.build("cold"), yard.build("warm")]
    wrong = sum(build.differing(digests) for build in builds)

    name = graph.to_change(builds[0].imports)
    importers = graph.reversed_edges(builds[0].imports)
    expected = {name} | graph.dependents(importers, name)
    digests[name] = yard.change(name)
    removed = _invalidate(stage, yard, name)
    builds.append(yard.build(f"after {name} changed"))
    wrong += builds[-1].differing(digests)

    stage.table(COLUMNS, [_row(build) for build in builds])
    _check(stage, builds, wrong)
    _check_change(stage, builds[-1], removed, expected, f"{name} (imported by {len(importers[name])})")
    stage.built = Built(yard.modules, builds[0].imports, digests, name)
    return (
        f"{machines} machines needed {builds[0].files:,} outputs and compiled {builds[0].compiled.total():,}; "
        f"when {name} changed, {len(builds[-1].compiled)} of {len(digests):,} were compiled again"
    )


def _invalidate(stage: Stage, yard: Yard, name: str) -> set[str]:
    """Tell the cache that a module changed; the modules whose outputs it removed."""
    gone = {name} if yard.cache.invalidate(name) else set()
    return gone.union(yard.cache.invalidate_by_dependency(name, transitive=stage.sabotage != "chain"))


def _row(build: Build) -> Sequence[str]:
    return (
        build.title,
        f"{build.files:,}",
        f"{build.compiled.total():,}",
        f"{build.hits:,}",
        f"{build.seconds:.1f}",
        f"{build.seconds_saved:.1f}",
    )


def _check(stage: Stage, builds: Sequence[Build], wrong: int) -> None:
    cold, warm, _changed = builds
    outputs = sum(build.files for build in builds)
    stage.check(wrong == 0, f"{outputs - wrong:,} of {outputs:,} outputs equal what was compiled without a cache")
    stage.check(
        len(cold.compiled) * stage.machines == cold.files,
        f"cold: each module was compiled, {_twice(cold)}, and found {cold.hits:,} times",
    )
    stage.check(warm.hits == warm.files, f"warm: {warm.compiled.total()} compiled, all {warm.hits:,} found")


def _check_change(stage: Stage, build: Build, removed: set[str], expected: set[str], what: str) -> None:
    compiled = set(build.compiled)
    stage.check(
        removed == expected,
        f"invalidating {what} removed {len(removed)} outputs; the import graph says {len(expected)}"
        + difference(removed, expected),
    )
    stage.check(
        compiled == expected,
        f"the next build compiled exactly those, {_twice(build)}"
        if compiled == expected
        else f"the next build compiled {len(compiled)} and not exactly those" + difference(compiled, expected),
    )


def _twice(build: Build) -> str:
    more = build.compiled.total() - len(build.compiled)
    return f"{more} more than once because machines met at it" if more else "none more than once"


def difference(got: set[str], expected: set[str]) -> str:
    """What is in one of two sets only, for the sentence of a check."""
    few = sorted(got ^ expected)[:3]
    return f" (different: {', '.join(few)} ...)" if few else ""
