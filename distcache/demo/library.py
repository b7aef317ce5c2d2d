"""The standard library as something to build: its modules, what compiling one gives, and which modules it imports."""

from __future__ import annotations

import dis
import hashlib
import marshal
import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

UNCOMPILABLE = (SyntaxError, ValueError, RecursionError)
"""What compile() raises for the files that are there to be wrong."""

# Version 2 writes the same bytes in every process; later versions also write which objects were shared by chance.
# From 3.14 code may hold constant slices, which only version 5 can write.
_SLICES = sys.version_info >= (3, 14)
_MARSHAL = marshal.version if _SLICES else 2
_BUILD = f"{sys.version} optimize=0 marshal={_MARSHAL}\n".encode()
_IMPORT = dis.opmap["IMPORT_NAME"]
_FOREIGN = {"site-packages", "dist-packages", "__pycache__"}
_FUNCTION = 1  # CO_OPTIMIZED in co_flags


@dataclass(frozen=True, slots=True)
class Module:
    """One source file of the library."""

    name: str
    """As it is imported."""
    path: str
    """Below the library's directory, with slashes."""

    @property
    def package(self) -> str:
        """What its relative imports are relative to."""
        return self.name if self.path.endswith("__init__.py") else self.name.rpartition(".")[0]


def copy_library(to: Path, limit: int | None = None) -> list[Module]:
    """Copy the library's sources, or the first `limit` by name, and list them. The real ones are only ever read."""
    source = Path(sysconfig.get_path("stdlib"))
    modules = sorted(_modules(source), key=lambda module: module.name)[:limit]
    if not modules:
        raise DistcacheError(f"there are no sources of the standard library in {str(source)!r} for the demo to build")
    for folder in sorted({Path(module.path).parent for module in modules}):
        (to / folder).mkdir(parents=True, exist_ok=True)
    for module in modules:
        (to / module.path).write_bytes((source / module.path).read_bytes())
    return modules


def _modules(root: Path) -> Iterator[Module]:
    seen = set()
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _FOREIGN)
        parents = Path(folder).relative_to(root).parts
        for file in sorted(files, key=lambda file: (file != "__init__.py", file)):
            stem = file.removesuffix(".py")
            name = ".".join(parents if stem == "__init__" else (*parents, stem))
            if stem != file and name not in seen:  # a name is there once, whatever lies about
                seen.add(name)
                yield Module(name, "/".join((*parents, file)))


def content_hash(source: bytes) -> str:
    """SHA-256 of all that decides what compiling gives: the interpreter, its settings, the source."""
    return hashlib.sha256(_BUILD + source).hexdigest()


def compiled(module: Module, source: bytes) -> CodeType:
    """The code of a module, the same on every machine: the file is named by its place in the library."""
    return compile(source, module.path, "exec", dont_inherit=True, optimize=0)


def dump(code: CodeType) -> bytes:
    """A build output."""
    return marshal.dumps(code, _MARSHAL)


def digest(output: bytes) -> str:
    """What stands for an output when it is compared: of its bytes, or of the code where the bytes may differ."""
    return hashlib.sha256(fingerprint(marshal.loads(output)) if _SLICES else output).hexdigest()  # noqa: S302 - our own


def fingerprint(code: CodeType) -> bytes:
    """All that code consists of, in an order of its own."""
    fields = sorted(name for name in dir(code) if name.startswith("co_") and name not in {"co_consts", "co_lnotab"})
    plain = [repr(value) for name in fields if not callable(value := getattr(code, name))]
    return b"\0".join([*map(str.encode, plain), *map(_constant, code.co_consts)])


def _constant(value: Any) -> bytes:
    if isinstance(value, CodeType):
        return fingerprint(value)
    if isinstance(value, (tuple, frozenset)):
        parts = list(map(_constant, value))
        return b"(%b)" % b",".join(sorted(parts) if isinstance(value, frozenset) else parts)
    return repr(value).encode("utf-8", "surrogatepass")


def imports(module: Module, code: CodeType, library: Collection[str]) -> list[str]:
    """The modules of the library that loading this one imports, by its bytecode; what functions import comes later."""
    found: set[str] = set()
    for base, names in _import_statements(module, code):
        found.add(base)
        found.update(f"{base}.{name}" for name in names)
    return sorted((found & set(library)) - {module.name})


def _import_statements(module: Module, code: CodeType) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What each import statement names: a module, and names in it."""
    steps = [step for step in _until_last_import(code) if step.opname != "EXTENDED_ARG"]
    for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
        if step.opcode == _IMPORT:
            yield _absolute(module, level.argval, step.argval), names.argval or ()
    for inner in code.co_consts:
        if isinstance(inner, CodeType) and not inner.co_flags & _FUNCTION:  # the body of a class
            yield from _import_statements(module, inner)


def _until_last_import(code: CodeType) -> Iterator[dis.Instruction]:
    """The instructions up to the last import, which mostly stands near the top: decoding is slow."""
    last = code.co_code[::2].rfind(_IMPORT)
    if last < 0:
        return iter(())
    return dis.get_instructions(
        code.replace(co_code=code.co_code[: 2 * last + 2], co_linetable=b"", co_exceptiontable=b"")
    )


def _absolute(module: Module, level: int, name: str) -> str:
    if not level:
        return name
    parents = module.package.split(".")
    base = parents[: len(parents) - level + 1]
    return ".".join([*base, name] if name else base)
