"""What a worker is told: how outputs are made, and where the source of a key is found.

distcache worker warmer:warmer      (in this directory; DISTCACHE_URL names the server)

Keys are names of Python modules; outputs are their code.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
from pathlib import Path

from distcache import Warmer

warmer = Warmer(policy="cost")  # as the build opens its cache: what took long to make stays


@warmer.compiler
def compiled(source: str) -> bytes:
    """The output for a source."""
    return marshal.dumps(compile(source, "<module>", "exec"))


@warmer.content
def content(key: str) -> tuple[str, str] | None:
    """The source of a module and its hash; None if there is no such module."""
    found = importlib.util.find_spec(key)
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        return None
    source = Path(found.origin).read_text(encoding="utf-8")
    return source, hashlib.sha256(source.encode()).hexdigest()
