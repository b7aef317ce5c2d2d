"""A CI machine of the demo: a process of its own that builds the library with the shared cache."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any

from distcache.demo import library
from distcache.demo.child import serve
from distcache.demo.library import Module
from distcache.smart.cache import SmartCache

if TYPE_CHECKING:
    from distcache.config import SmartOptions
    from distcache.demo.child import Job, Progress


def options(url: str, namespace: str) -> SmartOptions:
    """How all processes open the cache.

    The policy is the one for build outputs. No failure is taken for a miss, and there is time enough: the processors
    are busy compiling.
    """
    return {"url": url, "namespace": namespace, "policy": "cost", "on_error": "raise", "timeout_s": 10.0}


def without(job: Job, progress: Progress) -> dict[str, str]:
    """Compile a share of the modules without a cache: name -> digest; what cannot be compiled is left out.

    This is what the outputs that come out of the cache are compared with.
    """
    modules, _names = modules_of(job)
    found: dict[str, str] = {}
    for done, module in enumerate(modules[job["number"] :: job["of"]], 1):
        with suppress(*library.UNCOMPILABLE):
            found[module.name] = library.digest(library.dump(library.compiled(module, source_of(job, module))))
        progress(done)
    return found


class Builder:
    """One build of all modules, in the machine's own order."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.modules, self.names = modules_of(job)
        random.Random(job["seed"]).shuffle(self.modules)  # noqa: S311 - an order, not a secret
        self.spoil = bool(job["spoil"])
        self.imports: dict[str, list[str]] = {}
        self.hits = 0
        self.digests: dict[str, str] = {}

    def run(self, progress: Progress) -> dict[str, Any]:
        """Take what another machine, or an earlier build, has stored; compile and store what nobody has."""
        with SmartCache(enable_warmup=False, **options(self.job["url"], self.job["namespace"])) as cache:
            for done, module in enumerate(self.modules, 1):
                self.digests[module.name] = library.digest(self._output(cache, module))
                progress(done, compiled=len(self.imports), hits=self.hits)
        return {"imports": self.imports, "hits": self.hits, "digests": self.digests}

    def _output(self, cache: SmartCache, module: Module) -> bytes:
        source = source_of(self.job, module)
        content_hash = library.content_hash(source)
        output = cache.get(module.name, content_hash)
        if isinstance(output, bytes):
            self.hits += 1
            return output
        return self._compile(cache, module, source, content_hash)

    def _compile(self, cache: SmartCache, module: Module, source: bytes, content_hash: str) -> bytes:
        began = process_time()
        code = library.compiled(module, source)
        output = library.dump(code)
        took_ms = (process_time() - began) * 1000
        self.imports[module.name] = library.imports(module, code, self.names)
        cache.put(
            module.name,
            self._spoilt(output),
            content_hash,
            dependencies=self.imports[module.name],
            file_path=module.path,
            line_range=(1, source.count(b"\n")),
            compile_time_ms=took_ms,
        )
        return output

    def _spoilt(self, output: bytes) -> bytes:
        """The output; a wrong one for once if the demo is to show that it would notice."""
        if not self.spoil:
            return output
        self.spoil = False
        return wrong()


def wrong() -> bytes:
    """An output that is none of the library's."""
    return library.dump(compile("", "wrong", "exec"))


def build(job: Job, progress: Progress) -> dict[str, Any]:
    """Build everything with the cache."""
    return Builder(job).run(progress)


def modules_of(job: Job) -> tuple[list[Module], frozenset[str]]:
    """What there is to build, and the names."""
    rows = json.loads(Path(job["modules"]).read_text(encoding="ascii"))
    return [Module(*row) for row in rows], frozenset(name for name, _path in rows)


def source_of(job: Job, module: Module) -> bytes:
    """What stands in a module's file now."""
    return Path(job["sources"], module.path).read_bytes()


def main() -> None:
    """Work for the act."""
    serve({"without": without, "build": build})
