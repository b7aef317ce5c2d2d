"""The asyncio executor: ops awaited at the same time share one write and one read on few connections."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from distcache.errors import DistcacheError
from distcache.executor.breaker import Breaker
from distcache.executor.budget import Budget
from distcache.executor.failures import circuit_open, refusal, unavailable
from distcache.executor.fork import tell
from distcache.executor.lane import Lane
from distcache.executor.retry import Attempts, Pause, Send, Server, first
from distcache.executor.wire import Answer, Lost, Refused
from distcache.op import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.executor.endpoint import Endpoint
    from distcache.executor.retry import Want
    from distcache.op import Block, Flow, Op

T = TypeVar("T")


class AsyncExecutor:
    """Runs ops, batches and flows on one endpoint; the asyncio twin of `SyncExecutor`.

    It may be used from several event loops: each has connections of its own, which end with the loop.
    `connections`: how many a loop opens at most; one is enough unless values are large.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 0.25, connections: int = 1) -> None:
        """Nothing is connected before the first call."""
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.connections = connections
        self.breaker = Breaker()
        self._server = Server(endpoint, timeout_s)
        self._lanes: dict[asyncio.AbstractEventLoop, Lane] = {}
        tell(self)

    async def run(self, op: Op[T], timeout_s: float | None = None) -> T:
        """The op's result; raises errors of `distcache.errors` only (and what the op's decoder raises)."""
        lane = self._lanes.get(asyncio.get_running_loop())
        link = lane.ready() if lane else None
        if link is None or timeout_s is not None or not self.breaker.closed or not op.script.retryable:
            return first(await self._admitted((op,), timeout_s))
        now = monotonic()
        deadline = now + self.timeout_s
        answer = await link.enqueue(op, now, deadline, plain=self._server.plain)
        if type(answer) is not list or type(answer[0]) is Refused:
            return first(await self._settle((op,), deadline, answer))
        if self.breaker.failures:
            self.breaker.succeeded()
        return op.decode(answer[0])

    async def run_batch(self, batch: Batch[T], timeout_s: float | None = None) -> list[T | DistcacheError]:
        """All ops in one write and one read; each result stands at its op's place: a value, or that op's error."""
        if not batch.ops:
            return []
        return await self._admitted(batch.ops, timeout_s)

    async def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end: each step it yields is run, and the result sent (or the error thrown) into it."""
        started, budget, left = monotonic(), None, None
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Batch):
                        result: Any = await self.run_batch(step, left)
                    else:
                        result = await self.run(step, left)
                except DistcacheError as error:
                    following = flow.throw(error)
                else:
                    following = flow.send(result)  # most flows end here, after one step
                if budget is None:
                    budget = Budget(self.timeout_s, started)
                left = budget.after(step, following)
                step = following
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return] # the flow's own T
        finally:
            flow.close()

    async def block(self, block: Block) -> Any:
        """The reply to a command that waits on the server; raises Unavailable or ServerError. Sent once.

        One at a time in a loop, on a connection that nobody else uses. When it is cancelled, that connection ends,
        and as far as the server goes too when CancelledError arrives: it hands out nothing more there.
        """
        answer = await self._lane().block(block)
        if isinstance(answer, Lost):
            raise unavailable(answer, "a blocking read", self.endpoint.label, self.timeout_s)
        if type(answer[0]) is Refused:
            raise refusal(answer[0], "a blocking read", self.endpoint.label)
        return answer[0]

    async def aclose(self) -> None:
        """Close this loop's connections; the executor can be used again, and then connects anew."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane:
            await lane.aclose()

    def forked(self) -> None:
        """In a child process: a loop runs there that is new, and a lock may have been held."""
        self.breaker = Breaker()

    async def _admitted(self, ops: Sequence[Op[T]], timeout_s: float | None) -> list[T | DistcacheError]:
        """The results of ops that nobody has tried yet, unless the breaker is open."""
        deadline = monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        probe = not self.breaker.closed
        if probe and not self.breaker.admit():
            return [circuit_open(self.endpoint.label)] * len(ops)
        return await self._settle(ops, deadline, once=probe)

    async def _settle(
        self, ops: Sequence[Op[T]], deadline: float, answer: Answer | None = None, *, once: bool = False
    ) -> list[T | DistcacheError]:
        """Do what the attempts want until there are results; tell the breaker."""
        attempts = Attempts(ops, self._server, deadline, once=once)
        wants = attempts.run(answer)
        try:
            want = next(wants)
            while True:
                want = wants.send(await self._do(want))
        except StopIteration as done:
            attempts.report(self.breaker)
            results: list[Any] = done.value
            return results

    async def _do(self, want: Want) -> Answer | DistcacheError | None:
        if isinstance(want, Send):
            return await self._lane().exchange(want)
        if isinstance(want, Pause):
            await asyncio.sleep(want.seconds)
            return None
        return await self._lane().revive()

    def _lane(self) -> Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            for other in [other for other in self._lanes if other.is_closed()]:
                del self._lanes[other]
            lane = self._lanes[loop] = Lane(self.endpoint, self.timeout_s, self.connections)
        return lane
