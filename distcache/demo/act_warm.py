"""The third act: a worker compiles what a change reached before anyone asks; the next build is all hits."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distcache.demo import graph, library, yard
from distcache.demo.act_build import difference
from distcache.demo.crew import Crew

if TYPE_CHECKING:
    from distcache.demo.stage import Stage
    from distcache.demo.yard import Build, Built, Yard

MOST = 0.15
"""The share of the library that is warmed at most, so that one worker is done in seconds."""
LINE = "changed_by_the_demo = True"
"""What is appended to the module: its output is another then."""
COLUMNS = ("who", "asked for", "compiled", "found", "seconds")


def play(stage: Stage) -> str:
    """Play the act; the sentence says what was seen."""
    assert stage.built is not None  # noqa: S101 - the first act has been played
    with yard.opened_again(stage, stage.built) as opened, Crew("distcache.demo.worker", ["worker"]) as crew:
        return _play(stage, stage.built, opened, crew)


def _play(stage: Stage, built: Built, yard: Yard, crew: Crew) -> str:
    name = graph.to_change(built.imports, MOST, besides=built.changed)
    importers = graph.reversed_edges(built.imports)
    expected = {name} | graph.dependents(importers, name)
    stage.say(
        f"\n[bold]3. A worker warms what a change reaches[/]: {name} changes, the worker compiles, and only then a new "
        "machine builds"
    )
    yard.change(name, LINE)
    removed = _invalidate(yard, name)
    queued, warmups = yard.cache.queue_stats().urgent, yard.cache.get_stats()["warmups"]
    warmed, seconds = _warm(stage, yard, crew, len(expected))
    left, warmups = yard.cache.queue_stats(), yard.cache.get_stats()["warmups"] - warmups
    build = yard.build("the next build")
    digests = {**built.digests, **_from_scratch(yard, expected)}
    wrong = build.differing(digests)

    compiled = warmed["compiled"]
    worker = ("worker", f"{queued:,}", f"{len(compiled):,}", "", f"{seconds:.1f}")
    stage.table(COLUMNS, [worker, _row(yard.crew.names[0], build)])
    what = f"{name} (imported by {len(importers[name])})"
    stage.check(
        removed == expected and queued == len(expected),
        f"invalidating {what} removed {len(removed)} outputs and queued {queued}; the import graph says {len(expected)}"
        + difference(removed, expected),
    )
    exact = sorted(compiled) == sorted(expected) and warmups == len(expected)
    stage.check(
        exact and left.urgent + left.delayed + left.dead == 0,
        f"the worker compiled exactly those, each once; the cache counted {warmups:,} warm-ups"
        if exact
        else f"the worker compiled {len(compiled)}, {warmed['failed']} failed, and not exactly those"
        + difference(set(compiled), expected),
    )
    stage.check(
        build.hits == build.files,
        f"the next build: {build.compiled.total()} compiled, all {build.hits:,} found"
        if build.hits == build.files
        else f"the next build compiled {build.compiled.total()}, and found {build.hits:,} of {build.files:,}",
    )
    right = build.files - wrong
    stage.check(wrong == 0, f"{right:,} of {build.files:,} outputs equal what was compiled without a cache")
    rest = build.compiled.total()
    return f"when {name} changed, a worker compiled {len(compiled)}, and the next build had to compile {rest}"


def _invalidate(yard: Yard, name: str) -> set[str]:
    """Tell the cache that a module changed, and have all that this reaches made anew; what was removed."""
    gone = {name} if yard.cache.invalidate(name) else set()
    gone.update(yard.cache.invalidate_by_dependency(name, transitive=True, rewarm=True))
    module = next(module for module in yard.modules if module.name == name)
    source = (yard.stage.folder / "library" / module.path).read_bytes()
    yard.cache.warmup_unit(name, source, library.content_hash(source))
    return gone


def _warm(stage: Stage, yard: Yard, crew: Crew, total: int) -> tuple[dict[str, Any], float]:
    """Let the worker empty the queue: what it did, and the seconds."""
    if stage.sabotage == "idle":
        return {"compiled": [], "failed": 0}, 0.0
    began = perf_counter()
    job = {"do": "warm", "url": stage.url, "namespace": yard.namespace, "spoil": stage.sabotage == "warmed"}
    with stage.progress("warming", crew.names, total) as heard:
        (warmed,) = crew.run({0: {**job, **yard.sources()}}, heard)
    return warmed, perf_counter() - began


def _from_scratch(yard: Yard, names: set[str]) -> dict[str, str]:
    """What these modules compile to without a cache."""
    return replace(yard, modules=[module for module in yard.modules if module.name in names]).without_cache()


def _row(name: str, build: Build) -> tuple[str, ...]:
    figures = (build.files, build.compiled.total(), build.hits)
    return (name, *(f"{figure:,}" for figure in figures), f"{build.seconds:.1f}")
