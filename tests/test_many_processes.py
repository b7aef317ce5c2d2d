"""Eight processes do everything at once to one cache, while this one looks: bounds and keys are in order at any moment.

Every value tells its key, its hash and its length, so that a value that came back under another name is noticed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import packed
from servers import binaries

PROCESSES = 8
SHORT_S, LONG_S = 2.0, 60.0
LEAST = 150
"""Operations of each process, however slow the machine is."""
KEYS = [f"key {number}" for number in range(60)]
CONFIGS = {
    "adaptive": {"max_entries": 24, "max_size_mb": 0.02},
    "lru, versions, partitions, expiry": {
        "max_entries": 30,
        "max_size_mb": 0.05,
        "policy": "lru",
        "versions": 3,
        "partitions": 3,
        "ttl_seconds": 0.3,
        "sliding": True,
        "history": 5,
        "event_cap": 200,
    },
}


def output_of(key: str, content_hash: str, size: int, *, as_bytes: bool) -> str | bytes:
    text = json.dumps([key, content_hash, size]).ljust(size, ".")
    return text.encode() if as_bytes else text


def problem(key: str, content_hash: str, output: str | bytes | None) -> str | None:
    """What is wrong with an output that a get of that key (and hash) returned."""
    if output is None:
        return None
    text = output.decode() if isinstance(output, bytes) else output
    stored_key, stored_hash, size = json.loads(text.rstrip("."))
    if stored_key != key or (content_hash and stored_hash != content_hash) or len(text) != size:
        return f"{key!r} {content_hash!r} returned {text[:80]!r} of {len(text)}"
    return None


class Client:
    """One process: random operations until the time is over."""

    def __init__(self, url: str, options: dict[str, Any], seed: int) -> None:
        from distcache import SmartCache  # noqa: PLC0415 - this module is also the program of the processes

        self.chance = random.Random(seed)
        self.cache = SmartCache(url=url, timeout_s=30, on_error="raise", **options)
        self.done = dict.fromkeys(("hits", "misses", "writes"), 0)
        self.problems: list[str] = []

    def run(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        actions = [self.put, self.put, self.put, self.get, self.get, self.get, self.many, self.remove, self.look]
        number = 0
        while time.monotonic() < end or number < LEAST:
            self.chance.choice(actions)()
            number += 1
        self.cache.close()
        counts = self.cache.local_stats()
        return {"problems": self.problems, "counts": counts}

    def names(self, count: int) -> list[str]:
        return self.chance.sample(KEYS, count)

    def item(self, key: str) -> dict[str, Any]:
        content_hash = f"h{self.chance.randrange(4)}"
        size = self.chance.choice([100, 300, 2000])
        return {
            "key": key,
            "output": output_of(key, content_hash, size, as_bytes=self.chance.random() < 0.5),
            "content_hash": content_hash,
            "dependencies": self.names(self.chance.randrange(4)),
            "compile_time_ms": self.chance.randrange(100),
        }

    def check(self, key: str, content_hash: str, output: str | bytes | None) -> None:
        wrong = problem(key, content_hash, output)
        if wrong:
            self.problems.append(wrong)

    def put(self) -> None:
        assert self.cache.put(**self.item(self.names(1)[0]))

    def get(self) -> None:
        key, content_hash = self.names(1)[0], self.chance.choice(["", "h0", "h1"])
        self.check(key, content_hash, self.cache.get(key, content_hash))

    def many(self) -> None:
        if self.chance.random() < 0.5:
            self.cache.put_many([self.item(key) for key in self.names(5)])
        else:
            for key, output in self.cache.get_many(self.names(8)).items():
                self.check(key, "", output)

    def remove(self) -> None:
        action = self.chance.randrange(12)
        key = self.names(1)[0]
        if action == 0:
            self.cache.clear()
        elif action <= 3:
            self.cache.invalidate(key)
        elif action <= 6:
            self.cache.invalidate_by_dependency(key, transitive=self.chance.random() < 0.5)
        elif action <= 8:
            self.cache.touch(key)
        else:
            self.cache.cleanup_expired()

    def look(self) -> None:
        key = self.names(1)[0]
        info = self.cache.inspect(key)
        if info and info.key != key:
            self.problems.append(f"{key!r} inspected as {info.key!r}")
        if any(record.size_bytes not in (100, 300, 2000) for record in self.cache.get_history(key)):
            self.problems.append(f"{key!r} has a wrong record")
        self.cache.get_predicted_next(key)
        self.cache.has(key)


def start(url: str, options: dict[str, Any], seconds: float, seed: int) -> subprocess.Popen[str]:
    request = json.dumps([url, options, seconds, seed])
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(
        [sys.executable, "-W", "error", __file__, request], env=env, stdout=subprocess.PIPE, text=True
    )


def pytest_generate_tests(metafunc):
    """Each config on one server; with --long, on every server."""
    servers = sorted(binaries())
    pairs = list(zip(CONFIGS, itertools.cycle(servers), strict=False))
    if metafunc.config.getoption("--long"):
        pairs = list(itertools.product(CONFIGS, servers))
    metafunc.parametrize(("config", "name"), pairs)


def test_many_processes_on_one_cache(running, request, config, name):
    real = running(name)
    real.client.flushall()
    seconds = LONG_S if request.config.getoption("--long") else SHORT_S
    processes = [start(real.url, CONFIGS[config], seconds, seed) for seed in range(PROCESSES)]
    looks = 0
    try:
        while any(process.poll() is None for process in processes):
            assert real.problems() == []
            looks += 1
        results = [json.loads(process.communicate()[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            process.stdout.close()
    assert [process.returncode for process in processes] == [0] * PROCESSES
    assert [wrong for result in results for wrong in result["problems"]] == []
    assert looks > 3
    state = [packed.parse_state(keys[b"usage"].value[packed.STATE]) for keys in real.keyspace().tags().values()]
    for kind in ("hits", "misses", "writes"):
        counted = sum(float(one[kind]) for one in state)
        assert counted == sum(result["counts"][kind] for result in results), kind
        assert counted > 100
    assert sum(float(one["evictions"]) for one in state) > 10
    assert all(result["counts"]["errors"] == result["counts"]["corrupt"] == 0 for result in results)


if __name__ == "__main__":
    url, options, seconds, seed = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(Client(url, options, seed).run(seconds)))
