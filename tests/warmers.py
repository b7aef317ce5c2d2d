"""Warmers for the worker processes of tests; the environment says what they work on.

FLEET_LOG: each run appends its key and process to this file. FLEET_GATE: tasks named 'wait...' run until it exists.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from distcache import Warmer

warmer = Warmer()
in_processes = Warmer()
LOG, GATE = Path(os.environ.get("FLEET_LOG", os.devnull)), Path(os.environ.get("FLEET_GATE", os.devnull))


def note(key: str) -> None:
    with LOG.open("a") as log:
        log.write(f"{key} {os.getpid()}\n")


async def gate() -> None:
    while not os.path.exists(GATE):  # noqa: ASYNC110, ASYNC240, PTH110 - another process makes it
        await asyncio.sleep(0.01)


@warmer.compiler
async def compile_source(content, task):
    note(task.key)
    if task.key.startswith("poison"):
        os.kill(os.getpid(), signal.SIGKILL)
    if task.key.startswith("wait"):
        await gate()
    await asyncio.sleep(float(os.environ.get("FLEET_PACE_S", "0")))
    return f"{content} {os.getpid()}" if task.key.startswith("wait") else content.upper()


@warmer.content
def content(key):
    return f"source of {key}", "h"


@in_processes.compiler(pool="process")
def compile_in_a_process(content, task):
    note(task.key)
    if task.key.startswith("poison"):
        os._exit(7)
    if task.key.startswith("bad"):
        raise ValueError("no good")
    return content.upper()
