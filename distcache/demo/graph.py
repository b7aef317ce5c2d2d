"""Who depends on whom, in plain Python: what the demo holds the cache's own invalidation against."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

MOST = 0.25
"""The share of the library that may depend on the module that changes, so that there is something left to hit."""


def reversed_edges(dependencies: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """Module -> the modules that import it."""
    importers: dict[str, set[str]] = defaultdict(set)
    for name, imported in dependencies.items():
        for other in imported:
            importers[other].add(name)
    return importers


def dependents(importers: Mapping[str, Collection[str]], name: str) -> set[str]:
    """All that imports a module, directly or through others; the module itself only if it is part of a cycle."""
    found: set[str] = set()
    pending = [name]
    while pending:
        new = set(importers.get(pending.pop(), ())) - found
        found |= new
        pending += new
    return found


def to_change(dependencies: Mapping[str, Collection[str]], most: float = MOST, besides: str = "") -> str:
    """A widely imported module (not `besides`): many import it and many more import those, but not nearly all."""
    importers = reversed_edges(dependencies)

    def worth(name: str) -> tuple[int, int, str]:
        direct, total = len(importers[name]), len(dependents(importers, name) - {name})
        if total > most * len(dependencies) or name.partition(".")[0] == "test":
            return -1, -total, name
        return direct * (total - direct), total, name

    return max(sorted(set(dependencies) - {besides}), key=worth)
