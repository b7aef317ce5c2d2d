"""A build tool in one file: pages that include others are put together, and only what changed is made again.

python examples/build_tool.py
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from time import perf_counter

from distcache import SmartCache

PAGES = {
    "header.txt": "The team's pages\n",
    "news.txt": "{header.txt}Nothing new.\n",
    "about.txt": "{header.txt}We cache.\n",
    "plain.txt": "No header here.\n",
}
INCLUDE = re.compile(r"\{(.+?)\}")


def made(folder: Path, name: str) -> str:
    """A page with all that it includes: the slow work that the cache saves."""
    return INCLUDE.sub(lambda found: made(folder, found[1]), (folder / name).read_text())


def build(folder: Path, cache: SmartCache) -> None:
    """Make all pages, as far as they are not in the cache."""
    fresh = []
    for name in PAGES:
        source = (folder / name).read_text()
        content_hash = hashlib.sha256(source.encode()).hexdigest()
        if cache.get(name, content_hash) is None:
            began = perf_counter()
            output = made(folder, name)
            took_ms = (perf_counter() - began) * 1000
            # What the page includes: when one of those changes, this output is no longer right.
            cache.put(name, output, content_hash, INCLUDE.findall(source), file_path=name, compile_time_ms=took_ms)
            fresh.append(name)
    print("made:", ", ".join(fresh) or "nothing, all were in the cache")


def main() -> None:
    """Build twice, change a page that others include, and build again."""
    with tempfile.TemporaryDirectory() as place, SmartCache(Path(place, "cache"), policy="cost") as cache:
        folder = Path(place)
        for name, text in PAGES.items():
            (folder / name).write_text(text)
        build(folder, cache)
        build(folder, cache)

        (folder / "header.txt").write_text("The new team's pages\n")
        print("changed: header.txt, on which depend:", cache.invalidate_by_dependency("header.txt", transitive=True))
        build(folder, cache)
        print(cache.get("news.txt"))


if __name__ == "__main__":
    main()
