"""The build yard of the demo: CI machines that build the library, their sources, and the cache that they share."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distcache.demo import library
from distcache.demo.crew import Crew
from distcache.demo.machine import options
from distcache.smart.cache import SmartCache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distcache.demo.stage import Stage


@dataclass(frozen=True, slots=True)
class Build:
    """What one build by all machines gave."""

    title: str
    files: int
    """Looked up, by all machines together."""
    compiled: Counter[str]
    """Module -> how many machines compiled it."""
    imports: dict[str, list[str]]
    """Module -> the modules that it imports, of those that were compiled."""
    hits: int
    outputs: list[dict[str, str]]
    """For each machine: module -> digest of what it ended up with."""
    seconds: float
    seconds_saved: float
    """Compile time of the outputs that were found, as the cache counts it."""

    def differing(self, digests: dict[str, str]) -> int:
        """How many of the machines' outputs are not the expected ones."""
        return sum(machine.get(name) != digest for machine in self.outputs for name, digest in digests.items())


@dataclass(frozen=True, slots=True)
class Built:
    """What the first act leaves to those after it: a library that was built, and a warm cache."""

    modules: list[library.Module]
    imports: dict[str, list[str]]
    """Module -> the modules that it imports."""
    digests: dict[str, str]
    """Module -> digest of what it compiles to."""
    changed: str
    """The module that has changed already."""


@dataclass(slots=True)
class Yard:
    """The machines at work."""

    stage: Stage
    crew: Crew
    cache: SmartCache
    modules: list[library.Module]
    namespace: str
    builds: int = 0

    def without_cache(self) -> dict[str, str]:
        """Compile all once without the cache, each machine a share: module -> digest.

        What cannot be compiled is no part of any build from then on.
        """
        share = -(-len(self.modules) // len(self.crew.names))
        parts = self._run("without a cache", share, do="without")
        self.modules = [module for module in self.modules if any(module.name in part for part in parts)]
        return {name: digest for part in parts for name, digest in part.items()}

    def build(self, title: str) -> Build:
        """Let every machine build everything."""
        self.builds += 1
        saved, began = self._saved(), perf_counter()
        parts = self._run(title, len(self.modules), do="build", url=self.stage.url, namespace=self.namespace)
        return Build(
            title,
            len(self.modules) * len(parts),
            Counter(name for part in parts for name in part["imports"]),
            {name: imported for part in parts for name, imported in part["imports"].items()},
            sum(part["hits"] for part in parts),
            [part["digests"] for part in parts],
            perf_counter() - began,
            self._saved() - saved,
        )

    def change(self, name: str, line: str = "# A comment that changes nothing but the file.") -> str:
        """Append a line to a module, in the copy; the digest of what it compiles to now."""
        module = next(module for module in self.modules if module.name == name)
        path = self.stage.folder / "library" / module.path
        path.write_bytes(path.read_bytes() + f"\n{line}\n".encode())
        return library.digest(library.dump(library.compiled(module, path.read_bytes())))

    def _run(self, title: str, total: int, **job: Any) -> list[Any]:
        common = {**job, **self.sources()}
        spoil = self.stage.sabotage == "output" and self.builds == 1
        jobs = {
            number: {
                **common,
                "number": number,
                "of": len(self.crew.names),
                "seed": f"{title}, {number}",
                "spoil": spoil,
            }
            for number in range(len(self.crew.names))
        }
        with self.stage.progress(title, self.crew.names, total) as heard:
            return self.crew.run(jobs, heard)

    def sources(self) -> dict[str, str]:
        """Where a process finds what there is to build."""
        listed = self.stage.folder / "modules.json"
        listed.write_text(json.dumps([astuple(module) for module in self.modules]), encoding="ascii")
        return {"sources": str(self.stage.folder / "library"), "modules": str(listed)}

    def _saved(self) -> float:
        return float(self.cache.get_stats()["seconds_saved"])


@contextmanager
def opened(stage: Stage) -> Iterator[Yard]:
    """A yard with a fresh copy of the library and an empty cache."""
    modules = library.copy_library(stage.folder / "library", stage.limit)
    with _opened(stage, modules, [f"machine {number + 1}" for number in range(stage.machines)]) as yard:
        yield yard


@contextmanager
def opened_again(stage: Stage, built: Built) -> Iterator[Yard]:
    """The yard that was built before, with its cache, and one machine that has not seen either."""
    with _opened(stage, built.modules, [f"machine {stage.machines + 1}"]) as yard:
        yield yard


@contextmanager
def _opened(stage: Stage, modules: list[library.Module], names: list[str]) -> Iterator[Yard]:
    namespace = f"{stage.namespace}-build"
    with (
        Crew("distcache.demo.machine", names) as crew,
        SmartCache(enable_warmup=False, **options(stage.url, namespace)) as cache,
    ):
        yield Yard(stage, crew, cache, modules, namespace)
