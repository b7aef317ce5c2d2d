"""What the workers of the fleet are told: gcc makes the outputs, `gcc -MM` says what they depend on.

    FLEET_TREE=path/to/c/sources distcache worker fleet:warmer      (in this directory; DISTCACHE_URL names the server)

Keys are names of C files in the tree; outputs are object files; dependencies are the files that one includes, near or
far. The content hash covers the file and all of these, so a build never takes an object of another state.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from distcache import Compiled, Task, Warmer

TREE = Path(os.environ.get("FLEET_TREE", ".")).resolve()
GCC = ("gcc", "-O1", "-w", "-I", ".")

warmer = Warmer(policy="cost")  # what took long to compile stays


def sources() -> list[str]:
    """The C files of the tree."""
    return sorted(path.name for path in TREE.glob("*.c"))


def headers(name: str) -> tuple[str, ...]:
    """What a C file of the tree includes, near or far."""
    rule = _gcc("-MM", name).decode()
    return tuple(sorted({word for word in rule.replace("\\\n", " ").split()[1:] if word != name}))


def content_hash(name: str) -> str:
    """A digest of a C file and all that it includes."""
    digest = hashlib.sha256()
    for one in (name, *headers(name)):
        data = (TREE / one).read_bytes()
        digest.update(f"{one} {len(data)} ".encode() + data)
    return digest.hexdigest()


@warmer.content
def content(name: str) -> tuple[bytes, str] | None:
    """The source of a key and its hash; None for a file that is gone."""
    path = TREE / name
    return (path.read_bytes(), content_hash(name)) if path.is_file() else None


@warmer.compiler
def compiled(_source: bytes, task: Task) -> Compiled:
    """The object file, with what it depends on."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.o"
        _gcc("-c", task.key, "-o", str(target))
        return Compiled(target.read_bytes(), headers(task.key), str(TREE / task.key))


def _gcc(*words: str) -> bytes:
    """Run gcc in the tree; its complaints are the error's message."""
    ended = subprocess.run([*GCC, *words], cwd=TREE, capture_output=True, check=False)  # noqa: S603 - what a build does
    if ended.returncode:
        raise RuntimeError(ended.stderr.decode("utf-8", "replace"))
    return ended.stdout
