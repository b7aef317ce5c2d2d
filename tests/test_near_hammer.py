"""Writers, readers with near caches, and a connection that is cut again and again: nobody sees an older version."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import count
from random import Random
from typing import TYPE_CHECKING

import pytest
from faults import fault_proxy
from near_kinds import KINDS
from servers import wait_until

from distcache import NearCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WRITERS = READERS = 4
KEYS = [f"{writer}/{number}" for writer in range(WRITERS) for number in range(3)]


class Hammer:
    """Writers put rising versions under keys of their own, straight to the server; readers come through the proxy.

    A version is the output, and its hash where there are hashes: so a reader may also ask for one that is not the
    latest. Where several versions are kept, it may be told that one, though it knows of a newer.
    """

    def __init__(self, kind, real, proxy, seconds: float, versions: int) -> None:
        self.kind = kind
        self.real = real
        self.proxy = proxy
        self.versions = versions
        self.options = {"versions": versions} if versions > 1 else {}
        self.until = time.monotonic() + seconds
        self.written = dict.fromkeys(KEYS, 0)
        self.before = dict.fromkeys(KEYS, 0)
        self.wrong: list[str] = []
        self.caches: list = []
        self.cuts = 0

    @property
    def on(self) -> bool:
        left = self.until - time.monotonic()
        idle = any(cache._near.log.hits <= 100 for cache in self.caches)  # on a busy machine that takes longer
        return not self.wrong and (left > 0 or (idle and left > -20))

    def write(self, number: int) -> None:
        random, mine = Random(number), [key for key in KEYS if key.startswith(f"{number}/")]
        options = {"url": self.real.url, "timeout_s": 10.0, "on_error": "raise", "max_value_bytes": 1000}
        options |= self.options
        with self.kind.blocking(**options) as cache:
            for version in count(1):
                if not self.on:
                    break
                key = random.choice(mine)
                self.kind.put_version(cache, key, str(version))
                self.before[key], self.written[key] = self.written[key], version
                if random.random() < 0.1:
                    self.kind.remove(cache, random.choice(mine))
                time.sleep(random.random() * 0.004)
            for key in mine:
                self.kind.put_version(cache, key, str(version))
                self.written[key] = version

    def look(self, number: int) -> Iterator[Callable]:
        """What one reader does, as calls on its cache; it is sent their results."""
        random, seen = Random(100 + number), dict.fromkeys(KEYS, 0)
        while self.on:
            key = random.choice(KEYS)
            choice, wanted = random.random(), None
            if choice < 0.85:
                output = yield lambda cache, key=key: cache.get(key)
            elif choice < 0.95:
                of = self.written if self.versions == 1 or random.random() < 0.5 else self.before
                wanted = str(of[key])
                output = yield lambda cache, key=key, wanted=wanted: self.kind.get_otherwise(cache, key, wanted)
            else:
                found = yield lambda cache, key=key: cache.get_many([key, random.choice(KEYS)])
                output = found.get(key)
            if output is None:
                continue
            if wanted and self.versions > 1:
                if output != wanted:
                    self.wrong.append(f"reader {number} saw version {output} of {key} and had asked for {wanted}")
                seen[key] = max(seen[key], int(output))
                continue
            if int(output) < seen[key]:
                self.wrong.append(f"reader {number} saw version {output} of {key} after {seen[key]}")
            seen[key] = int(output)

    def cut(self) -> None:
        random = Random(7)
        while self.on:
            time.sleep(0.02 + random.random() * 0.1)
            if random.random() < 0.5:
                self.proxy.cut()
            elif random.random() < 0.5:
                self.proxy.cut_after = random.randrange(1, 2000)
            else:
                for client in self.real.client.client_list():
                    if "t" in client["flags"]:
                        self.real.client.client_kill_filter(_id=client["id"])
            self.cuts += 1

    def read(self, number: int, cache) -> None:
        steps = self.look(number)
        step = next(steps, None)
        while step is not None:
            step = _send(steps, step(cache))
        wait_until(lambda: not self.busy(), "the writers are done")
        for key in KEYS:
            wait_until(lambda key=key: cache.get(key) == str(self.written[key]), "the last version is seen")

    def busy(self) -> bool:
        return any(thread.name.startswith("writer") and thread.is_alive() for thread in threading.enumerate())

    async def read_async(self, number: int, cache) -> None:
        steps = self.look(number)
        step = next(steps, None)
        while step is not None:
            step = _send(steps, await step(cache))
        while self.busy():
            await cache.get(KEYS[0])
        for key in KEYS:
            async with asyncio.timeout(10):
                while await cache.get(key) != str(self.written[key]):
                    pass

    def readers(self, twin: str, url: str) -> list[threading.Thread]:
        """Two near caches, two readers each. In the end, each reader must come to see the last versions."""
        options = {"url": url, "timeout_s": 2.0, "near": NearCache(max_entries=8), **self.options}
        if twin == "async":
            return [threading.Thread(target=lambda: asyncio.run(self._all_async(options)), name="readers")]
        self.caches = caches = [self.kind.blocking(**options), self.kind.blocking(**options)]
        numbers = range(READERS)
        return [
            threading.Thread(target=self.read, args=(number, caches[number % 2]), name="reader") for number in numbers
        ]

    async def _all_async(self, options: dict) -> None:
        self.caches = caches = [self.kind.asynchronous(**options), self.kind.asynchronous(**options)]
        await asyncio.gather(*(self.read_async(number, caches[number % 2]) for number in range(READERS)))
        for cache in caches:
            await cache.aclose()


def _send(steps: Iterator[Callable], result: object) -> Callable | None:
    try:
        return steps.send(result)
    except StopIteration:
        return None


@pytest.mark.parametrize(("kind", "versions"), [*((kind, 1) for kind in sorted(KINDS)), ("smart", 2)])
def test_no_reader_sees_an_older_version(kind, versions, real, twin, request):
    seconds = 60 if request.config.getoption("--long") else 3 if versions == 1 else 2
    with fault_proxy(real.server.path) as proxy:
        hammer = Hammer(KINDS[kind], real, proxy, seconds, versions)
        writers = [threading.Thread(target=hammer.write, args=(n,), name="writer") for n in range(WRITERS)]
        threads = [*writers, *hammer.readers(twin, proxy.url), threading.Thread(target=hammer.cut, name="cutter")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(seconds + 60)
        assert not any(thread.is_alive() for thread in threads)
        assert hammer.wrong == []
        for cache in hammer.caches:
            assert cache._near.log.hits > 100
            if twin == "sync":
                cache.close()
        assert hammer.cuts > 5
