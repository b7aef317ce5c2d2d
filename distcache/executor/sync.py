"""The blocking executor: thread-safe, fork-safe, one connection per thread that is in a call."""

from __future__ import annotations

import threading
import time
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from distcache.errors import DistcacheError
from distcache.executor.breaker import Breaker
from distcache.executor.budget import Budget
from distcache.executor.failures import circuit_open, refusal, unavailable
from distcache.executor.fork import tell
from distcache.executor.link import Link
from distcache.executor.retry import Attempts, Pause, Send, Server, first
from distcache.executor.wire import Answer, Lost, Refused, any_moved, own_item
from distcache.op import Batch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.executor.endpoint import Endpoint
    from distcache.executor.retry import Want
    from distcache.op import Block, Flow, Op

T = TypeVar("T")

FAKE_WAIT_S = 0.02


class SyncExecutor:
    """Runs ops, batches and flows on one endpoint.

    `timeout_s` bounds every call in total: connecting, sending, waiting and all retries. Only the look-up of a host
    name is the operating system's and not bounded.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float = 0.25) -> None:
        """Nothing is connected before the first call."""
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.breaker = Breaker()
        self._server = Server(endpoint, timeout_s)
        self._idle: deque[Any] = deque()  # last in, first out: the connections in use stay few and warm
        self._waiting: deque[Any] = deque()  # for what blocks
        self._reviving = threading.Lock()
        tell(self)

    def run(self, op: Op[T], timeout_s: float | None = None) -> T:
        """The op's result; raises errors of `distcache.errors` only (and what the op's decoder raises)."""
        if timeout_s is not None or not self.breaker.closed:
            return self._one(op, timeout_s)
        deadline = monotonic() + self.timeout_s
        try:
            link = self._idle.pop()
        except IndexError:
            return self._one(op, None)
        if not op.script.retryable and link.stale():
            link.close()
            return self._one(op, None)
        try:
            reply = own_item(op, link.call(op, deadline, plain=self._server.plain))
        except Lost as lost:
            self._drop_idle(lost)
            return first(self._settle((op,), deadline, lost))
        except BaseException:  # interrupted: a late reply must not be read as another op's
            link.close()
            raise
        if type(reply) is Refused:
            self._give_back(link, [reply])
            return first(self._settle((op,), deadline, [reply]))
        self._idle.append(link)
        if self.breaker.failures:
            self.breaker.succeeded()
        return op.decode(reply)

    def run_batch(self, batch: Batch[T], timeout_s: float | None = None) -> list[T | DistcacheError]:
        """All ops in one write and one read; each result stands at its op's place: a value, or that op's error."""
        if not batch.ops:
            return []
        return self._admitted(batch.ops, timeout_s)

    def drive(self, flow: Flow[T]) -> T:
        """Run a flow to its end: each step it yields is run, and the result sent (or the error thrown) into it."""
        started, budget, left = monotonic(), None, None
        try:
            step = next(flow)
            while True:
                try:
                    if isinstance(step, Batch):
                        result: Any = self.run_batch(step, left)
                    else:
                        result = self.run(step, left)
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

    def block(self, block: Block) -> Any:
        """The reply to a command that waits on the server; raises Unavailable or ServerError. Sent once.

        On a connection that nobody else uses meanwhile.
        """
        if self.endpoint.kind == "fakeredis":  # does not wait, and so would be asked without a pause
            time.sleep(min(block.wait_s, FAKE_WAIT_S))
            return None
        try:
            reply = self._blocked(block)
        except Lost as lost:
            raise unavailable(lost, "a blocking read", self.endpoint.label, self.timeout_s) from lost
        if type(reply) is Refused:
            raise refusal(reply, "a blocking read", self.endpoint.label)
        return reply

    def _blocked(self, block: Block) -> Any:
        try:
            link = self._waiting.pop()
        except IndexError:
            link = self._connect(monotonic() + self.timeout_s)
        try:
            (reply,) = link.exchange([block.command], monotonic() + block.wait_s + self.timeout_s)
        except BaseException:  # a late reply must not be read as another's
            link.close()
            raise
        self._waiting.append(link)
        return reply

    def close(self) -> None:
        """Close the idle connections; the executor can be used again, and then connects anew."""
        self._drop_idle()
        while self._waiting:
            self._waiting.pop().close()

    def _one(self, op: Op[T], timeout_s: float | None) -> T:
        return first(self._admitted((op,), timeout_s))

    def _admitted(self, ops: Sequence[Op[T]], timeout_s: float | None) -> list[T | DistcacheError]:
        """The results of ops that nobody has tried yet, unless the breaker is open."""
        deadline = monotonic() + (self.timeout_s if timeout_s is None else timeout_s)
        probe = not self.breaker.closed
        if probe and not self.breaker.admit():
            return [circuit_open(self.endpoint.label)] * len(ops)
        return self._settle(ops, deadline, once=probe)

    def _settle(
        self, ops: Sequence[Op[T]], deadline: float, answer: Answer | None = None, *, once: bool = False
    ) -> list[T | DistcacheError]:
        """Do what the attempts want until there are results; tell the breaker."""
        attempts = Attempts(ops, self._server, deadline, once=once)
        wants = attempts.run(answer)
        try:
            want = next(wants)
            while True:
                want = wants.send(self._do(want))
        except StopIteration as done:
            attempts.report(self.breaker)
            results: list[Any] = done.value
            return results

    def _do(self, want: Want) -> Answer | DistcacheError | None:
        if isinstance(want, Send):
            return self._exchange(want)
        if isinstance(want, Pause):
            time.sleep(want.seconds)
            return None
        return self._revive()

    def _exchange(self, send: Send) -> Answer:
        link = None
        try:
            link = self._take(send)
            replies: list[Any] = link.exchange(send.commands, send.deadline)
        except Lost as lost:
            self._drop_idle(lost)
            return lost
        except BaseException:
            if link is not None:
                link.close()
            raise
        self._give_back(link, replies)
        return replies

    def _take(self, send: Send) -> Any:
        while self._idle:
            try:
                link = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if not (send.careful and link.stale()):
                return link
            link.close()
        return self._connect(send.deadline)

    def _connect(self, deadline: float) -> Any:
        if self.endpoint.kind != "fakeredis":
            return Link(self.endpoint, deadline, self.timeout_s)
        from distcache.executor.fake import FakeLink  # noqa: PLC0415 - fakeredis is installed for tests only

        return FakeLink(self.endpoint, deadline, self.timeout_s)

    def _give_back(self, link: Any, replies: list[Any]) -> None:
        if any_moved(replies):
            link.close()
        else:
            self._idle.append(link)

    def _drop_idle(self, lost: Lost | None = None) -> None:
        """Close the idle connections; a server that closed one has probably closed all."""
        while self._idle and not (lost and lost.late):
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _revive(self) -> DistcacheError | None:
        revive = self.endpoint.revive
        try:
            if revive is not None:
                with self._reviving:
                    revive()
        except DistcacheError as error:
            return error
        return None

    def forked(self) -> None:
        """In a child process: the connections belong to the parent, and so does a lock that was held."""
        inherited = [*self._idle, *self._waiting]
        self._idle, self._waiting = deque(), deque()
        self._reviving = threading.Lock()
        self.breaker = Breaker()
        for link in inherited:
            link.close()
