"""Processes that ask for one key: `python flight_child.py URL TWIN COUNT JSON`, JSON being what to compute and how.

All are forks of one process, held back until all are there. Each prints what it got; counters are kept in database 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from typing import Any

import redis
from servers import wait_until

from distcache import AsyncSmartCache, SmartCache


class Part:
    """What one of the processes does."""

    def __init__(self, url: str, twin: str, number: int, plan: dict[str, Any]) -> None:
        self.url, self.twin, self.number, self.plan = url, twin, number, plan
        self.counters = redis.Redis(unix_socket_path=url.removeprefix("unix://"), db=1)

    def compute(self) -> str:
        self.counters.incr("computed")
        if self.plan["compute"] == "pause":
            signal.pause()
        if self.plan["compute"] == "go":
            wait_until(lambda: self.counters.get("go"), "told to go on", 60)
        if self.plan["compute"] == "all":
            wait_until(lambda: int(self.counters.get("arrived")) == self.plan["of"], "all have arrived", 60)
        return f"{self.plan['value']}"

    def ask(self) -> str | bytes:
        options = {"url": self.url, "timeout_s": 20.0, "on_error": "raise"}
        self.counters.incr("arrived")
        if self.twin == "sync":
            with SmartCache("unused", **options) as cache:
                return cache.get_or_compute("key", self.compute, lease_s=self.plan["lease_s"])
        return asyncio.run(self.ask_async(options))

    async def ask_async(self, options: dict[str, Any]) -> str | bytes:
        async with AsyncSmartCache("unused", **options) as cache:
            return await cache.get_or_compute("key", self.compute, lease_s=self.plan["lease_s"])


def main(url: str, twin: str, count: str, plan: str) -> None:
    ready, start = os.pipe()
    children = []
    for number in range(int(count)):
        child = os.fork()
        if not child:
            os.close(start)
            os.read(ready, 1)
            try:
                os.write(1, f"{Part(url, twin, number, json.loads(plan)).ask()}\n".encode())
            except BaseException:  # noqa: BLE001 - shown, and the end of it
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        children.append(child)
    os.close(start)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    main(*sys.argv[1:])
