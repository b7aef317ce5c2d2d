"""The worker: takes tasks off a cache's queue, has them compiled, and stores what comes of it.

It holds a lease on each task it has. A heartbeat renews the leases while their tasks are alive; a sweep gives tasks of
silent workers back to the queue. Every outcome is recorded by a script that first checks that the worker still holds
the task: one that was frozen, and whose task went to another, is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import socket
import traceback
from collections import deque
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack

from distcache.client import AsyncClient, Engine
from distcache.config import Settings, SmartOptions, check_options, whole
from distcache.errors import ConfigError, CorruptEntry, DistcacheError, ServerError, Unavailable, ValueTooLarge
from distcache.smart.flows import SmartFlows
from distcache.smart.request import MAX_ENTRIES, MAX_SIZE_MB, smart_request
from distcache.warmup.flows import QueueFlows
from distcache.warmup.heart import Heart
from distcache.warmup.pools import Processes, Threads
from distcache.warmup.records import Compiled
from distcache.warmup.warmer import is_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from distcache.op import Flow
    from distcache.warmup.records import Slip, Taken, Task
    from distcache.warmup.warmer import Warmer

T = TypeVar("T")

BLOCK_S = 2.0
"""A blocking read waits so long at most: some servers and proxies end connections that are silent."""
SUSPECT_CRASHES = 2
"""A task with which so many workers fell silent runs alone from then on."""
MAX_PROBLEM, MAX_TRACEBACK = 500, 8000
MAX_BACKOFF_S = 300.0

_log = logging.getLogger("distcache")


class Worker(AsyncClient):
    """Works on one cache's queue until it is stopped.

    concurrency: tasks that run at the same time; as many again may be on their way into the cache. name: as
    `distcache workers` shows it. max_tasks: stop after so many. drain: stop when nothing waits. lease_s: a task goes to
    another worker when this one has been silent for so long. grace_s: how long running tasks may go on after stop().
    attempts: tries before a task is given up, the pause between them starting at backoff_s and doubling. options: those
    of the SmartCache, in place of the Warmer's.
    """

    def __init__(
        self,
        warmer: Warmer,
        *,
        concurrency: int = 4,
        name: str = "",
        max_tasks: int | None = None,
        drain: bool = False,
        lease_s: float = 30.0,
        grace_s: float = 10.0,
        attempts: int = 5,
        backoff_s: float = 1.0,
        **options: Unpack[SmartOptions],
    ) -> None:
        check_options(options, SmartOptions)
        chosen: SmartOptions = {**warmer.options, **options}
        chosen.setdefault("timeout_s", 5.0)
        settings = Settings.of(chosen, "smart")
        engine = Engine(chosen.get("url"), Path(warmer.cache_dir), busy_poll_us=settings.busy_poll_us)
        request = smart_request(engine, MAX_ENTRIES, MAX_SIZE_MB, chosen)
        super().__init__(engine, on_error="raise", timeout_s=settings.timeout_s)
        self._queue = QueueFlows(SmartFlows(request, settings, lambda: 0))
        self._compiler = warmer.chosen
        self._provider = warmer.provider
        # Predicted tasks come without their source; who cannot find it leaves them to others.
        self._which: Literal["both", "high"] = "both" if warmer.provider else "high"
        self.concurrency = whole("concurrency", concurrency, 1, 10_000)
        self.max_tasks = None if max_tasks is None else whole("max_tasks", max_tasks, 1)
        self.drain = drain
        self.lease_s, self.grace_s = _positive("lease_s", lease_s), max(0.0, grace_s)
        self.attempts, self.backoff_s = whole("attempts", attempts, 1), _positive("backoff_s", backoff_s)
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.done = self.failed = self._started = 0
        self._running: dict[Slip, asyncio.Task[None]] = {}
        self._storing = 0
        self._reading: asyncio.Task[list[Slip]] | None = None
        self._suspects: deque[Taken] = deque()
        self._heart = Heart(
            self._executor,
            self._queue,
            name=self.name,
            lease_s=self.lease_s,
            held=self._held,
            lost=self._lost,
            counts=self._counts,
        )
        self.id = self._heart.id
        self._stops = 0
        self._stopping = asyncio.Event()
        self._stopping_now = asyncio.Event()
        self._freed = asyncio.Event()
        self._threads = Threads(self.concurrency + 1)
        self._processes = Processes(self._compiler.call, self._threads)

    async def run(self) -> int:
        """Work until stopped (or, with `drain` or `max_tasks`, until that is done); how many tasks were completed."""
        keepers = [asyncio.create_task(self._heart.beat()), asyncio.create_task(self._heart.sweep())]
        try:
            await self._feed()
            await self._finish()
        finally:
            for keeper in keepers:
                keeper.cancel()
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*keepers, *self._running.values(), return_exceptions=True)
            await self._leave()
        return self.done

    def stop(self) -> None:
        """Take no more; what runs may finish within the grace time. Called again: hand all back at once."""
        self._stops += 1
        self._stopping.set()
        self._freed.set()
        if self._reading is not None:
            self._reading.cancel()
        if self._stops > 1:
            self._stopping_now.set()

    # -- taking tasks

    async def _feed(self) -> None:
        held: list[Slip] = []
        while not self._stopping.is_set():
            room = self._room()
            if self._suspects:
                await (self._wait_for(self._freed) if self._running else self._run_alone(self._suspects.popleft()))
            elif room < 1:
                if not self._running:
                    return  # max_tasks
                await self._wait_for(self._freed)
            else:
                try:
                    due_ms, found = await self._run_flow(self._queue.take(self.id, room, held, self._which))
                    held = []
                    for taken in found:
                        self._accept(taken)
                    if self._drained(due_ms, found):
                        return
                    # Fewer than asked for: nothing else waits, and asking once more would tell nothing new.
                    if (not found if self.drain else len(found) < room) and self._room() > 0 and not self._suspects:
                        held = await self._idle(due_ms)
                except (Unavailable, ServerError) as error:
                    await self._recover(error)

    def _room(self) -> int:
        # The next task is fetched while the last ones are being stored: both go in one write.
        room = self.concurrency - max(len(self._running) - self._storing, len(self._running) - self.concurrency)
        return room if self.max_tasks is None else min(room, self.max_tasks - self._started)

    def _drained(self, due_ms: int | None, found: list[Taken]) -> bool:
        return self.drain and due_ms is None and not found and not self._running

    async def _idle(self, due_ms: int | None) -> list[Slip]:
        """Wait for work: what the server hands out meanwhile. Returns early when there is reason to look again."""
        wait_s = BLOCK_S if due_ms is None else min(BLOCK_S, due_ms / 1000)
        if self.drain or wait_s < 0.001:  # noqa: PLR2004 - BLOCK 0 would wait for ever
            await self._wait_for(self._freed, wait_s) if self._running else await asyncio.sleep(wait_s)
            return []
        if self._stopping.is_set():
            return []
        self._reading = asyncio.create_task(self._read(wait_s))
        try:
            await asyncio.wait([self._reading])
            return [] if self._reading.cancelled() else self._reading.result()
        finally:
            reading, self._reading = self._reading, None
            if reading.cancel():  # it was this loop that was cancelled
                await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, wait_s: float) -> list[Slip]:
        block = await self._run_flow(self._queue.waiting(self.id, max(1, int(wait_s * 1000)), self._which))
        return self._queue.slips(await self._executor.block(block))

    async def _recover(self, error: DistcacheError) -> None:
        """The server is away, or lost the group: a pause, and on. The group is made again by the next take."""
        now = monotonic()
        if now - self._heart.trouble_at > self.lease_s:
            _log.warning("worker %s goes on when the server does: %s", self.id[:8], error)
        self._heart.trouble_at = now
        await self._wait_for(self._stopping, 0.1 + random.random() * 0.4)  # noqa: S311 - jitter

    def _accept(self, taken: Taken) -> None:
        self._started += 1
        if taken.crashes >= SUSPECT_CRASHES:
            self._suspects.append(taken)
        else:
            self._start(taken)

    def _start(self, taken: Taken) -> asyncio.Task[None]:
        task = asyncio.create_task(self._work(taken))
        self._running[taken.slip] = task
        task.add_done_callback(lambda _: self._ended(taken.slip))
        return task

    def _ended(self, slip: Slip) -> None:
        self._running.pop(slip, None)
        self._freed.set()

    async def _run_alone(self, taken: Taken) -> None:
        """A suspect: should the process die now, that task has killed it and no other is blamed."""
        if await self._insist(lambda: self._queue.alone(taken, self.id)):
            self._start(taken)
            while self._running and not self._stopping.is_set():
                await self._wait_for(self._freed)

    # -- working on one

    async def _work(self, taken: Taken) -> None:
        loop = asyncio.get_running_loop()
        try:
            task = self._queue.task(taken)
            found = await self._source(taken, task)
            if found is None:
                await self._insist(self._queue.skipped(taken, self.id))
                return
            content, content_hash = found
            began = loop.time()
            compiled = await self._compile(task, content)
            took_ms = (loop.time() - began) * 1000
            outcome = self._queue.completed(taken, self.id, content_hash, compiled, took_ms)
            if await self._stored(outcome):
                self.done += 1
        except (Unavailable, asyncio.CancelledError):  # stopping: it is handed back, or its lease ends
            return
        except Exception as error:  # noqa: BLE001 - whatever a compiler raises
            await self._failed(taken, error)

    async def _stored(self, outcome: Callable[[], Flow[bool]]) -> bool:
        """Record it; meanwhile another task may run in its place."""
        self._storing += 1
        self._freed.set()
        try:
            return await self._insist(outcome)
        finally:
            self._storing -= 1

    async def _source(self, taken: Taken, task: Task) -> tuple[Any, str] | None:
        """The source and its hash; None when there is nothing to do."""
        if task.content is not None:
            return task.content, task.content_hash
        if self._provider is None:
            raise ConfigError("the task has no source and this worker no content function; add one: @warmer.content")
        found = await self._call(self._provider, task.key)
        if found is None:
            return None
        content, content_hash = found
        if taken.reason != "refresh" and await self._run_flow(self._queue.smart.has(task.key, content_hash)):
            return None
        return content, content_hash

    async def _compile(self, task: Task, content: Any) -> Compiled:
        compiler = self._compiler
        args = (content, task) if compiler.wants_task else (content,)
        if compiler.is_async:
            made = await compiler.call(*args)
        elif compiler.pool == "process":
            made = await self._processes.run(*args)
        else:
            made = await self._threads.run(compiler.call, *args)
        return made if isinstance(made, Compiled) else Compiled(made)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        return await (function(*args) if is_async(function) else self._threads.run(function, *args))

    async def _failed(self, taken: Taken, error: Exception) -> None:
        """Another try after a pause, unless it was the last or none can help."""
        self.failed += 1
        final = taken.attempt + 1 >= self.attempts or isinstance(error, ValueTooLarge | CorruptEntry | TypeError)
        pause_s = min(self.backoff_s * 2**taken.attempt, MAX_BACKOFF_S) * (0.5 + random.random() / 2)  # noqa: S311 - jitter
        _log.info(
            "task %s failed with %s, try %d of %d",
            *(taken.slip.task[:4].hex(), type(error).__name__, taken.attempt + 1, self.attempts),
        )
        problem = f"{type(error).__name__}: {error}"[:MAX_PROBLEM]
        text = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
        delay_ms = None if final else round(pause_s * 1000)
        with suppress(Unavailable, ServerError, asyncio.CancelledError):
            await self._insist(self._queue.failed(taken, self.id, delay_ms, problem, text))

    async def _insist(self, make: Callable[[], Flow[T]]) -> T:
        """Repeat until the server has answered: what was computed is worth more than a pause. Ends with stop()."""
        while True:
            try:
                return await self._run_flow(make())
            except Unavailable as error:
                if self._stopping_now.is_set():
                    raise
                await self._recover(error)

    # -- leases

    def _held(self) -> list[Slip]:
        return [*self._running, *(taken.slip for taken in self._suspects)]

    def _lost(self, entries: set[bytes]) -> None:
        """Others have these tasks now: what this worker would make of them would be refused."""
        for slip, task in list(self._running.items()):
            if slip.entry in entries:
                task.cancel()
        self._suspects = deque(taken for taken in self._suspects if taken.slip.entry not in entries)

    def _counts(self) -> dict[str, int]:
        return {
            "concurrency": self.concurrency,
            "running": len(self._running) - self._storing,
            "done": self.done,
            "failed": self.failed,
        }

    # -- stopping

    async def _finish(self) -> None:
        """Let running tasks end within the grace time."""
        if self._running:
            now = asyncio.create_task(self._stopping_now.wait())
            ended = asyncio.gather(*self._running.values(), return_exceptions=True)
            grace_s = self.grace_s if self._stopping.is_set() else None
            waits: list[asyncio.Future[Any]] = [now, ended]
            await asyncio.wait(waits, timeout=grace_s, return_when=asyncio.FIRST_COMPLETED)
            now.cancel()
            if not ended.done():
                ended.cancel()
            await asyncio.gather(now, ended, return_exceptions=True)

    async def _leave(self) -> None:
        with suppress(DistcacheError):
            await self._heart.stop()
        self._processes.close()
        self._threads.close()
        await self.aclose()

    # -- waiting

    async def _run_flow(self, flow: Flow[T]) -> T:
        return await self._executor.drive(flow)

    async def _wait_for(self, event: asyncio.Event, timeout_s: float | None = None) -> None:
        """Wait for an event, for stop(), or for the time to pass; clears the event if it is about a free place."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()
        if event is self._freed:
            event.clear()


def _positive(name: str, value: float) -> float:
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ConfigError(f"{name}={value!r} is no time span; take a number of seconds above 0")
    return float(value)
