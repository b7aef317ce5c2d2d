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
from distcache.demo.machine import TIMEOUT_S
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
        share = -(-len(self.modules) // self.stage.machines)
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

    def change(self, name: str) -> str:
        """Append a comment to a module, in the copy; the digest of what it compiles to now."""
        module = next(module for module in self.modules if module.name == name)
        path = self.stage.folder / "library" / module.path
        path.write_bytes(path.read_bytes() + b"\n# A comment that changes nothing but the file.\n")
        return library.digest(library.dump(library.compiled(module, path.read_bytes())))

    def _run(self, title: str, total: int, **job: Any) -> list[Any]:
        listed = self.stage.folder / "modules.json"
        listed.write_text(json.dumps([astuple(module) for module in self.modules]), encoding="ascii")
        common = {**job, "sources": str(self.stage.folder / "library"), "modules": str(listed)}
        spoil = self.stage.sabotage == "output" and self.builds == 1
        jobs = {
            number: {
                **common,
                "number": number,
                "of": self.stage.machines,
                "seed": f"{title}, {number}",
                "spoil": spoil,
            }
            for number in range(self.stage.machines)
        }
        with self.stage.progress(title, self.crew.names, total) as heard:
            return self.crew.run(jobs, heard)

    def _saved(self) -> float:
        return float(self.cache.get_stats()["seconds_saved"])


@contextmanager
def opened(stage: Stage) -> Iterator[Yard]:
    """A yard with a fresh copy of the library and an empty cache."""
    namespace = f"{stage.namespace}-build"
    modules = library.copy_library(stage.folder / "library", stage.limit)
    names = [f"machine {number + 1}" for number in range(stage.machines)]
    with (
        Crew("distcache.demo.machine", names) as crew,
        SmartCache(
            url=stage.url, namespace=namespace, enable_warmup=False, on_error="raise", timeout_s=TIMEOUT_S
        ) as cache,
    ):
        yield Yard(stage, crew, cache, modules, namespace)
