"""What is sent, sent again, or given up: one operation or batch as a generator that does no I/O.

It yields what it wants done (`Send`, `Pause`, `Revive`) and is sent what came of it; the sync and the async executor do
it, each in its own way. So the rules for retries exist once:

- Certainly not executed (the connection was never made, the server refused before it began): any script is sent again.
- Perhaps executed (the connection was lost before the reply): only scripts that are `retryable`.
- NOSCRIPT: the scripts are loaded and the calls repeated in one write, at once; only the calls that had failed.
- Pauses grow from 20 ms, with jitter, and never reach beyond the deadline.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from distcache.errors import DistcacheError
from distcache.executor.failures import executed, passing, refusal, unavailable
from distcache.executor.wire import MOST_ROWS, Answer, Command, Lost, Refused, call, items, load, packed_call
from distcache.op import Row

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from distcache.executor.breaker import Breaker
    from distcache.executor.endpoint import Endpoint
    from distcache.op import Op
    from distcache.script import Script

T = TypeVar("T")

_BASE_S, _CAP_S = 0.020, 0.320


@dataclass(frozen=True, slots=True)
class Send:
    """Send these commands. careful: one of them must not be sent twice, so prefer a connection known to be alive."""

    commands: list[Command]
    deadline: float
    careful: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait before the next try."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Revive:
    """Call the endpoint's `revive`; the answer is None, or the error it raised."""


Want = Send | Pause | Revive


class Server:
    """What an executor knows about its server.

    plain: it does not know the `#!lua` line; found out when the first script is loaded. (fakeredis would only notice
    when the script runs.)
    """

    __slots__ = ("endpoint", "plain", "timeout_s")

    def __init__(self, endpoint: Endpoint, timeout_s: float) -> None:
        self.endpoint = endpoint
        self.timeout_s = timeout_s
        self.plain = endpoint.kind == "fakeredis"


class Attempts:
    """The tries of some ops that share their requests, until each has its result or the deadline has come."""

    def __init__(
        self,
        ops: Sequence[Op[Any]],
        server: Server,
        deadline: float,
        *,
        once: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`once`: fail at the first trouble that would need a pause, as a probe of a dead server should."""
        self.results: list[Any] = [None] * len(ops)
        self._ops = ops
        self._server = server
        self._deadline = deadline
        self._once = once
        self._clock = clock
        self._todo = list(range(len(ops)))
        self._calls: list[list[int]] | None = None  # which ops each call was for; None: one each
        self._missing: list[Script] = []
        self._trouble: Lost | Refused | None = None
        self._answered = self._gave_up = False

    def run(self, answer: Answer | None = None) -> Generator[Want, Any, list[Any]]:
        """Results in the order of the ops: a value or a DistcacheError. `answer`: of a first try already made."""
        pauses = 0
        revived = self._server.endpoint.revive is None
        while True:
            if answer is None:
                answer = yield self._send()
            self._settle(answer)
            if not self._todo:
                return self.results
            if isinstance(answer, Lost) and answer.final:
                return self._give_up()
            if isinstance(answer, Lost) and not answer.sent and not answer.late and not revived:
                revived = True
                began = self._clock()
                if error := (yield Revive()):
                    return self._give_up(error)
                self._deadline += self._clock() - began
            elif self._trouble is not None:
                pause = backoff_s(pauses)
                pauses += 1
                if self._once or self._clock() + pause >= self._deadline:
                    return self._give_up()
                yield Pause(pause)
            answer = None

    def report(self, breaker: Breaker) -> None:
        """Tell whether the server is alive; a lost connection alone says neither."""
        if self._answered:
            breaker.succeeded()
        elif self._gave_up:
            breaker.failed()

    def _send(self) -> Send:
        plain = self._server.plain
        pack = call if self._server.endpoint.kind == "fakeredis" else packed_call
        commands: list[Command] = [load(script, plain=plain) for script in self._missing]
        self._calls = joined(self._ops, self._todo)
        self._todo = [at for calls in self._calls for at in calls]
        commands += [pack([self._ops[at] for at in calls], plain=plain) for calls in self._calls]
        careful = not all(self._ops[at].script.retryable for at in self._todo)
        return Send(commands, self._deadline, careful)

    def _settle(self, answer: Answer) -> None:
        """Take what was answered; leave in `_todo` what is to be sent again."""
        # What a server said says more than that time ran out while it was asked again.
        told = isinstance(answer, Lost) and answer.late and isinstance(self._trouble, Refused)
        if not told:
            self._trouble = answer if isinstance(answer, Lost) else None
        if isinstance(answer, Lost) and answer.refused and not passing(answer.refused):
            self._finish_all(answer.refused, "the login")
            return
        replies = list(answer.replies if isinstance(answer, Lost) else answer)
        loads, replies = replies[: len(self._missing)], self._own(replies[len(self._missing) :])
        was, self._missing = self._missing, []
        refused = dict(zip(was, loads, strict=False))
        todo, self._todo = self._todo, []
        for place, at in enumerate(todo):
            if place < len(replies):
                self._take(at, replies[place], refused)
            elif isinstance(answer, Lost):
                self._lose(at, answer)

    def _own(self, replies: list[Any]) -> list[Any]:
        """The replies of the ops, out of those of the calls."""
        if self._calls is None:
            return replies
        own: list[Any] = []
        for reply, calls in zip(replies, self._calls, strict=False):
            own += items(reply, len(calls)) if type(self._ops[calls[0]]) is Row else [reply]
        return own

    def _take(self, at: int, reply: Any, loads: dict[Script, Any]) -> None:
        op = self._ops[at]
        self._answered |= not (type(reply) is Refused and passing(reply))
        if type(reply) is not Refused:
            self.results[at] = decode(op, reply)
        elif reply.code == "NOSCRIPT":
            self._load(at, reply, loads.get(op.script))
        elif passing(reply) and (op.script.retryable or not executed(reply)):
            self._trouble = reply
            self._todo.append(at)
        elif passing(reply):
            self.results[at] = unavailable(reply, _name(op), self._server.endpoint.label, self._server.timeout_s)
        else:
            self.results[at] = refusal(reply, _name(op), self._server.endpoint.label)

    def _load(self, at: int, reply: Refused, loaded: Any) -> None:
        """Have the script loaded before the next try; `loaded` is what the server said if this try did so already."""
        op = self._ops[at]
        if type(loaded) is Refused and not passing(loaded):
            if self._server.plain or loaded.code != "ERR" or "unknown" in loaded.text:
                self.results[at] = refusal(loaded, _name(op), self._server.endpoint.label)
                return
            self._server.plain = True
        elif loaded is not None:  # loaded and gone again, or not taken just now: in the middle of a flush or failover
            self._trouble = loaded if type(loaded) is Refused else reply
        if op.script not in self._missing:
            self._missing.append(op.script)
        self._todo.append(at)

    def _lose(self, at: int, lost: Lost) -> None:
        op = self._ops[at]
        if lost.sent and not op.script.retryable:
            self._gave_up |= lost.late
            self.results[at] = unavailable(lost, _name(op), self._server.endpoint.label, self._server.timeout_s)
        else:
            self._todo.append(at)

    def _finish_all(self, refused: Refused, what: str) -> None:
        self._answered = True
        for at in self._todo:
            self.results[at] = refusal(refused, what, self._server.endpoint.label)
        self._todo = []

    def _give_up(self, error: DistcacheError | None = None) -> list[Any]:
        self._gave_up = True
        trouble = self._trouble or Lost("did not answer in time", sent=True)
        for at in self._todo:
            what = _name(self._ops[at])
            self.results[at] = error or unavailable(trouble, what, self._server.endpoint.label, self._server.timeout_s)
        return self.results


def joined(ops: Sequence[Op[Any]], todo: Sequence[int]) -> list[list[int]]:
    """What becomes one call: rows that begin alike, with nothing but rows between them; all else is a call each."""
    calls: list[list[int]] = []
    growing: dict[int, list[int]] = {}
    for at in todo:
        op = ops[at]
        if type(op) is not Row:
            growing.clear()
            calls.append([at])
            continue
        rows = growing.get(id(op.start))
        if rows is None or len(rows) == MOST_ROWS:
            rows = growing[id(op.start)] = []
            calls.append(rows)
        rows.append(at)
    return calls


def decode(op: Op[Any], reply: Any) -> Any:
    """The op's result, or the error of ours that its decoder raised."""
    try:
        return op.decode(reply)
    except DistcacheError as error:
        return error


def first(results: list[T | DistcacheError]) -> T:
    """The result of the only op; its error is raised."""
    if isinstance(results[0], DistcacheError):
        raise results[0]
    return results[0]


def backoff_s(tries: int) -> float:
    """20 ms x 2^tries, at most 320 ms, of which a random half is left out so that callers do not return in step."""
    return float(min(_BASE_S * 2**tries, _CAP_S) * (0.5 + random.random() / 2))  # noqa: S311 - jitter


def _name(op: Op[Any]) -> str:
    return f"script {op.script.name}"
