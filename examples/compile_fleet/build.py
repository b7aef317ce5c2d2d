"""A build that compiles only what nobody has compiled yet, and says so; or: tell the cache that headers have changed.

FLEET_TREE=path/to/c/sources python build.py                 build
FLEET_TREE=path/to/c/sources python build.py --changed a.h   have the workers compile what depends on a.h
"""

from __future__ import annotations

import sys
from time import perf_counter

from fleet import compiled, content, sources

from distcache import SmartCache, Task


def build(cache: SmartCache) -> tuple[int, list[str]]:
    """Make every object file: (how many were found, the names of those compiled here)."""
    hits, made = 0, []
    for name in sources():
        source, digest = content(name) or (b"", "")
        if cache.get(name, digest) is not None:
            hits += 1
            continue
        began = perf_counter()
        result = compiled(source, Task(name, digest, source, "manual", 0, 0))
        took_ms = 1000 * (perf_counter() - began)
        cache.put(name, result.output, digest, result.dependencies, result.file_path, compile_time_ms=took_ms)
        made.append(name)
    return hits, made


def changed(cache: SmartCache, header: str) -> list[str]:
    """Have everything that includes a header compiled anew, by whatever workers there are, most valuable first."""
    return cache.invalidate_by_dependency(header, transitive=True, rewarm=True)


def main() -> None:
    """Build, or tell of changes."""
    with SmartCache(policy="cost") as cache:
        if sys.argv[1:2] == ["--changed"]:
            for header in sys.argv[2:]:
                print(f"{header}: queued {', '.join(sorted(changed(cache, header))) or 'nothing'}")
            return
        began = perf_counter()
        hits, made = build(cache)
        print(f"{hits} found, {len(made)} compiled in {perf_counter() - began:.2f} s: {', '.join(made) or '-'}")


if __name__ == "__main__":
    main()
