"""The task queues that benchmarks/queue.py compares: how each enqueues, works, and where it stores a result.

Options are a queue's own defaults but for the number of tasks at a time, which is the same for all that have one, and
for what a comment gives a reason for.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
from typing import TYPE_CHECKING, Any

import redis

from distcache import AsyncSmartCache, Warmer, Worker
from distcache.keys import Partition, key_id

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    Run = Callable[[Coroutine[Any, Any, Any]], Any]

CONCURRENCY = 16
PAYLOAD = "source; " * 14
RESULT_S = 3600
"""How long results are kept, where a peer would drop them while they are being looked for."""


def count() -> None:
    """Replaced in a worker process."""


def counting(counter: Callable[[], None]) -> None:
    """Count the tasks of this process with it."""
    globals()["count"] = counter


class Peer:
    """One queue. `url`: the server, over TCP."""

    package = ""
    """As it is installed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.raw = redis.Redis.from_url(url)

    @classmethod
    def installed(cls) -> bool:
        """Whether it can be measured."""
        try:
            return bool(cls.version())
        except importlib.metadata.PackageNotFoundError:
            return False

    @classmethod
    def version(cls) -> str:
        """Of the package that is installed."""
        return importlib.metadata.version(cls.package)

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Disconnect."""

    async def enqueue(self, number: int) -> Any:
        """Queue one task; what `stored` wants to know."""
        raise NotImplementedError

    def stored(self, jobs: Sequence[Any]) -> bool:
        """Whether the results of all are in the server."""
        replies = [bool(self.raw.exists(jobs[0]))] if len(jobs) == 1 else self._asked("EXISTS", jobs)
        return all(replies)

    def _asked(self, command: str, jobs: Sequence[Any], *rest: str) -> list[Any]:
        """One command for each, in one round trip."""
        pipe = self.raw.pipeline(transaction=False)
        for job in jobs:
            pipe.execute_command(command, job, *rest)
        return pipe.execute()

    def work(self, run: Run) -> None:
        """Be a worker, until killed. `run`: asyncio.run, or another loop's."""
        raise NotImplementedError


class Distcache(Peer):
    """This library: a task is compiled and its output put into the cache."""

    package = "distcache"

    async def open(self) -> None:
        """A cache without prediction: only its queue is used here. Large enough that nothing is evicted."""
        options: dict[str, Any] = {"enable_warmup": False, "max_entries": 100_000}
        self.cache = AsyncSmartCache(url=self.url, timeout_s=30, on_error="raise", **options)
        await self.cache.__aenter__()

    async def close(self) -> None:
        """The cache's connection."""
        await self.cache.aclose()

    async def enqueue(self, number: int) -> Any:
        """A key that nobody has asked for yet; its entry."""
        await self.cache.warmup_unit(f"k{number}", PAYLOAD, "h")
        return Partition("smart", 0).entry(key_id(b"k%d" % number))

    def work(self, run: Run) -> None:
        """distcache.Worker."""
        warmer = Warmer(url=self.url)

        @warmer.compiler
        async def noop(content: str) -> str:
            count()
            return content

        run(Worker(warmer, concurrency=CONCURRENCY).run())


class Arq(Peer):
    """arq."""

    package = "arq"

    async def open(self) -> None:
        """A pool."""
        from arq import create_pool
        from arq.connections import RedisSettings

        self.pool = await create_pool(RedisSettings.from_dsn(self.url))

    async def close(self) -> None:
        """Its connections."""
        await self.pool.aclose()

    async def enqueue(self, number: int) -> Any:
        """The key of the job's result."""
        job = await self.pool.enqueue_job("noop", PAYLOAD, _job_id=f"j{number}")
        return f"arq:result:{job.job_id}"

    def work(self, run: Run) -> None:
        """arq.Worker."""
        from arq.connections import RedisSettings
        from arq.worker import Worker, func

        async def noop(_ctx: Any, content: str) -> str:
            count()
            return content

        async def main() -> None:
            # It asks twice a second, for at most 100 jobs; so it is told to ask a hundred times.
            polling = {"poll_delay": 0.01, "queue_read_limit": 200}
            settings = RedisSettings.from_dsn(self.url)
            functions = [func(noop, name="noop")]
            await Worker(
                functions, redis_settings=settings, max_jobs=CONCURRENCY, handle_signals=False, **polling
            ).async_run()

        run(main())


class Saq(Peer):
    """saq."""

    package = "saq"

    async def open(self) -> None:
        """A queue."""
        from saq import Queue

        self.queue = Queue.from_url(self.url)
        await self.queue.connect()

    async def close(self) -> None:
        """Its connections."""
        await self.queue.disconnect()

    async def enqueue(self, number: int) -> Any:
        """The job's key in Redis."""
        return (await self.queue.enqueue("noop", content=PAYLOAD, key=f"j{number}")).id

    def stored(self, jobs: Sequence[Any]) -> bool:
        """Each job says that it is complete."""
        values = [self.raw.get(jobs[0])] if len(jobs) == 1 else self._asked("GET", jobs)
        return all(value is not None and json.loads(value).get("status") == "complete" for value in values)

    def work(self, run: Run) -> None:
        """saq.Worker."""
        from saq import Queue, Worker

        async def noop(_ctx: Any, *, content: str) -> str:
            count()
            return content

        async def main() -> None:
            queue = Queue.from_url(self.url)
            await queue.connect()
            await Worker(queue, [("noop", noop)], concurrency=CONCURRENCY).start()

        run(main())


class Streaq(Peer):
    """streaq."""

    package = "streaq"

    def _worker(self) -> Any:
        from streaq import Worker

        worker: Any = Worker(redis_url=self.url, concurrency=CONCURRENCY)

        @worker.task(name="noop", ttl=RESULT_S)
        async def noop(content: str) -> str:
            count()
            return content

        self.noop = noop
        return worker

    async def open(self) -> None:
        """A worker that only enqueues."""
        self.queue = self._worker()
        await self.queue.__aenter__()

    async def close(self) -> None:
        """Its connections."""
        await self.queue.__aexit__(None, None, None)

    async def enqueue(self, number: int) -> Any:  # noqa: ARG002 - it makes ids of its own
        """The key of the task's result."""
        return f"streaq:default:task:results:{(await self.noop.enqueue(PAYLOAD)).id}"

    def work(self, run: Run) -> None:
        """streaq.Worker."""
        run(self._worker().run_async())


def rq_noop(content: str) -> str:
    """What rq finds by its name."""
    count()
    return content


class Rq(Peer):
    """rq, in its SimpleWorker, which does not fork for every job."""

    package = "rq"

    async def open(self) -> None:
        """A queue."""
        from rq import Queue

        self.queue = Queue(connection=self.raw)

    async def enqueue(self, number: int) -> Any:  # noqa: ARG002 - it makes ids of its own
        """The job's key in Redis."""
        return f"rq:job:{self.queue.enqueue('queue_peers.rq_noop', PAYLOAD, result_ttl=RESULT_S).id}"

    def stored(self, jobs: Sequence[Any]) -> bool:
        """Each job says that it is finished."""
        return all(status == b"finished" for status in self._asked("HGET", jobs, "status"))

    def work(self, run: Run) -> None:  # noqa: ARG002 - it blocks
        """rq.SimpleWorker."""
        from rq import SimpleWorker

        logging.disable(logging.INFO)
        SimpleWorker(["default"], connection=self.raw).work(logging_level="WARNING")


class Taskiq(Peer):
    """taskiq with taskiq-redis: a stream whose messages are acknowledged, results in Redis."""

    package = "taskiq-redis"

    def _broker(self) -> Any:
        from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

        results: Any = RedisAsyncResultBackend(self.url, result_ex_time=RESULT_S)
        broker: Any = RedisStreamBroker(self.url).with_result_backend(results)

        @broker.task(task_name="noop")
        async def noop(content: str) -> str:
            count()
            return content

        self.noop = noop
        return broker

    async def open(self) -> None:
        """A broker."""
        self.broker = self._broker()
        await self.broker.startup()

    async def close(self) -> None:
        """Its connections."""
        await self.broker.shutdown()

    async def enqueue(self, number: int) -> Any:  # noqa: ARG002 - it makes ids of its own
        """The task's id, which is the key of its result."""
        return (await self.noop.kiq(PAYLOAD)).task_id

    def work(self, run: Run) -> None:
        """The receiver of taskiq, which its command line runs."""
        from taskiq.api import run_receiver_task

        broker = self._broker()
        broker.is_worker_process = True

        async def main() -> None:
            await broker.startup()
            # By default it takes a message only when it can run it at once.
            await run_receiver_task(broker, max_async_tasks=CONCURRENCY, max_prefetch=CONCURRENCY)

        run(main())


PEERS: dict[str, type[Peer]] = {
    "distcache": Distcache,
    "arq": Arq,
    "saq": Saq,
    "streaq": Streaq,
    "rq": Rq,
    "taskiq-redis": Taskiq,
}
