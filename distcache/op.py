"""An operation as data, and flows of several: what is to be sent is decided here, who waits for it is not.

A **flow** is a generator that yields steps (an `Op`, or a `Batch` of them) and is sent their results. A sync or an
async driver runs it; the flow itself neither blocks nor awaits, so it is written once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from distcache.errors import DistcacheError
    from distcache.script import Script, Start

T = TypeVar("T")


class Op(Generic[T]):
    """One call of one script.

    script: what runs. values: its bound keys and arguments, in order. decode: makes the result out of the reply.
    Whether it may be sent twice is the script's to say (`script.retryable`).
    """

    __slots__ = ("decode", "script", "values")

    def __init__(self, script: Script, values: tuple[Any, ...], decode: Callable[[Any], T]) -> None:
        self.script = script
        self.values = values
        self.decode = decode

    def __iter__(self) -> Generator[Step, Any, T]:
        """`result = yield from op` inside a flow, with the op's own type."""
        result: T = yield self
        return result


class Row(Op[T]):
    """One row of a call that may have several: those that are sent together and begin alike become one call.

    row: its words, all bytes. decode: makes the result out of the row's item of the reply.
    """

    __slots__ = ("row", "start")

    def __init__(self, start: Start, row: tuple[bytes, ...], decode: Callable[[Any], T]) -> None:
        self.script = start.script
        self.start = start
        self.row = row
        self.decode = decode

    @property
    def values(self) -> tuple[Any, ...]:  # type: ignore[override] # made when it is asked for, which is seldom
        """As of any call."""
        return (*self.start.values, *self.row)


class Batch(Generic[T]):
    """Ops that share one round trip. Each result stands at its op's place: a value, or the error of that op alone.

    patient: one step of many, such as clearing a large cache; it has a deadline of its own, not a part of the flow's.
    """

    __slots__ = ("ops", "patient")

    def __init__(self, ops: Sequence[Op[T]], *, patient: bool = False) -> None:
        self.ops = ops
        self.patient = patient

    def __iter__(self) -> Generator[Step, Any, list[T | DistcacheError]]:
        """`results = yield from batch` inside a flow."""
        results: list[T | DistcacheError] = yield self
        return results


class Block:
    """One command that waits on the server, on a connection of its own; no step of a flow, but a call of its own.

    command: its words; it only waits, or what it hands out is found again if the reply is lost. wait_s: how long the
    server may wait before it answers nothing.
    """

    __slots__ = ("command", "wait_s")

    def __init__(self, command: tuple[Any, ...], wait_s: float) -> None:
        self.command = command
        self.wait_s = wait_s


Step = Op[Any] | Batch[Any]

if TYPE_CHECKING:
    Flow = Generator[Step, Any, T]


def all_or_raise(results: list[T | DistcacheError]) -> Iterator[T]:
    """The values of a batch; the first error among them is raised."""
    for result in results:
        if isinstance(result, Exception):
            raise result
        yield result
