"""The worker of the demo: a process of its own that compiles ahead of need what a change reached."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from distcache.demo import library
from distcache.demo.child import serve
from distcache.demo.machine import modules_of, options, source_of, wrong
from distcache.warmup.records import Compiled
from distcache.warmup.warmer import Warmer
from distcache.warmup.worker import Worker

if TYPE_CHECKING:
    from distcache.demo.child import Job, Progress
    from distcache.warmup.records import Task


class Warming:
    """The functions of a Warmer, for the library."""

    def __init__(self, job: Job, progress: Progress) -> None:
        self.job = job
        self.progress = progress
        modules, self.names = modules_of(job)
        self.modules = {module.name: module for module in modules}
        self.spoil = bool(job["spoil"])
        self.compiled: list[str] = []

    def content(self, name: str) -> tuple[bytes, str] | None:
        """The source of a module as it is now, and its content hash."""
        module = self.modules.get(name)
        if module is None:
            return None
        source = source_of(self.job, module)
        return source, library.content_hash(source)

    def compile(self, source: bytes, task: Task) -> Compiled:
        """The output of a module, with what it depends on; a wrong one for once if the demo is to notice it."""
        module = self.modules[task.key]
        code = library.compiled(module, source)
        output, self.spoil = wrong() if self.spoil else library.dump(code), False
        self.compiled.append(task.key)
        self.progress(len(self.compiled))
        imports = tuple(library.imports(module, code, self.names))
        return Compiled(output, imports, file_path=module.path, line_range=(1, source.count(b"\n")))


def warm(job: Job, progress: Progress) -> dict[str, Any]:
    """Work until the queue is empty: the modules compiled, in their order, and how many tasks failed."""
    warming = Warming(job, progress)
    warmer = Warmer(**options(job["url"], job["namespace"]))
    warmer.content(warming.content)
    warmer.compiler(warming.compile)
    worker = Worker(warmer, name="the demo's worker", concurrency=1, drain=True, attempts=1)
    asyncio.run(worker.run())
    return {"compiled": warming.compiled, "failed": worker.failed}


def main() -> None:
    """Work for the act."""
    serve({"warm": warm})
