"""One computes, the others wait: what a `get_or_compute` does, step by step, without doing any of it itself.

On a miss exactly one caller in the whole fleet gets the lease of the key and computes. A heartbeat renews the lease
while the compute is alive, so that it is short and a dead holder is soon found out. The others wait for word that it
ended, at most until the lease does, and look again: there is the output, or one of them gets the lease. Storing needs
the lease: who was frozen for so long that another took over returns what it computed to its own caller, and no further.
So does the one whose key, or something that it depends on, was invalidated meanwhile.

A flight is a generator, like a flow, but of larger steps: it yields what is to be done (`Ask`, `Wait`, `Compute`) and
is sent what came of it. `pilot` does it, in the blocking and in the asyncio way.
"""

from __future__ import annotations

import logging
import math
import random
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypedDict, TypeVar

from distcache.config import ttl_ms
from distcache.errors import ConfigError, ValueTooLarge, WaitsForItself
from distcache.keys import key_bytes, raw
from distcache.smart.flight_ops import FlightOps, Held, Lease, flight_id
from distcache.smart.records import Found

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from distcache.op import Flow
    from distcache.smart.flows import SmartFlows
    from distcache.smart.ops import SmartOps

    Output = str | bytes
    Flight = Generator["Ask[Any] | Wait | Compute", Any, Output]

T = TypeVar("T")

WAIT_S, LEASE_S = 60.0, 10.0
LOOK_S = 2.0
"""A wait is this long at most, then comes a look: word may be lost with its server."""
ALONE = Lease(b"", b"")
"""What a caller has that computes without asking anyone; nothing says what happened meanwhile, so it cannot store."""

_log = logging.getLogger("distcache")
_serials = count()
_computing: ContextVar[tuple[Computing, ...]] = ContextVar("distcache_computing", default=())


class FlightOptions(TypedDict, total=False):
    """The keyword-only parameters of get_or_compute; those that are about storing are those of put."""

    dependencies: Iterable[str] | None
    file_path: str
    line_range: tuple[int, int]
    ttl_seconds: float | None
    wait_s: float
    """How long to wait for another that computes; then this caller computes too. 60 by default."""
    lease_s: float
    """Another takes over when the one that computes has been dead or frozen for so long. 10 by default."""
    stale_if_error: float | None
    """Seconds after its time to live in which an output is returned should computing fail; none by default."""
    early_refresh: float
    """Above 0: recompute before the end of the time to live, by chance, the sooner the greater; 1 is usual."""


@dataclass(frozen=True, slots=True)
class Call:
    """One get_or_compute, checked."""

    key: str
    name: bytes
    wanted: bytes
    put: tuple[str, Iterable[str] | None, str, tuple[int, int]]
    """put's parameters between the output and the compile time."""
    ttl_seconds: float | None
    lease_ms: int
    wait_until: float
    grace_ms: int | None
    beta: float

    @property
    def content_hash(self) -> str:
        """As the caller gave it."""
        return self.put[0]

    @property
    def flight(self) -> bytes:
        """What is computed once."""
        return flight_id(self.name, self.wanted)


class Computing:
    """A compute that runs; whoever it calls can see that in the context."""

    __slots__ = ("cache", "flight", "running")

    def __init__(self, cache: int, flight: bytes) -> None:
        self.cache = cache
        self.flight = flight
        self.running = True


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """Run a flow. If the server fails the answer is `default`, or an error where those are wanted and not `lenient`."""

    flow: Flow[T]
    default: T
    lenient: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait until a flight has ended, or so long, or for no reason."""

    held: Held
    flight: bytes
    wait_s: float


@dataclass(frozen=True, slots=True)
class Compute:
    """Call the user's function, and `renew` every so often while it runs, until that says no.

    The answer is its output and how long it took (ms); its exception is thrown.
    """

    renew: Callable[[], Flow[bool]] | None
    every_s: float


class SingleFlight:
    """The flights of one cache object."""

    def __init__(self, smart: SmartFlows) -> None:
        self.smart = smart
        self._serial = next(_serials)
        self.rand: Callable[[], float] = random.random

    def fly(self, key: str, content_hash: str = "", options: FlightOptions | None = None) -> Flight:
        """The output of a key, from the cache, from another that computes it, or computed here."""
        call = _call(key, content_hash, options or {})
        self._check_nesting(call)
        output, lease = yield Ask(self.begin(call), (None, ALONE))
        while isinstance(lease, Held):
            left_s = call.wait_until - monotonic()
            if left_s <= 0:
                lease = Lease(b"", lease.fence)
            else:
                yield Wait(lease, call.flight, min(left_s, LOOK_S, (lease.left_ms + 1) / 1000))
                output, lease = yield Ask(self.look(call), (None, ALONE))
        if lease is None:
            return output  # type: ignore[no-any-return] # by the flows' types
        return (yield from self._compute(call, lease, output))

    # -- phases

    def begin(self, call: Call) -> Flow[tuple[Output | None, Lease | Held | None]]:
        """An output; or a lease; or who has it. Both a good output and a lease: it is to be refreshed early."""
        output, found = yield from self.smart.find(call.name, call.wanted)
        if output is not None:
            early = call.beta > 0 and not self.smart.settings.read_only and self._is_due(call, found)
            return output, ((yield from self._lease_early(call)) if early else None)
        if self.smart.settings.read_only:
            return None, ALONE
        return (yield from self.look(call))

    def look(self, call: Call) -> Flow[tuple[Output | None, Lease | Held | None]]:
        """After a miss or a wait: an output; or a lease; or who has it."""
        for _ in range(2):
            got = yield from self._agreed(lambda ops: iter(ops.lease(call.name, call.wanted, call.lease_ms)))
            if not isinstance(got, Found):
                return None, got
            output = yield from self.smart.decoded(call.name, got)
            if output is not None:
                return output, None
        return None, ALONE

    def renew(self, call: Call, lease: Lease) -> Flow[bool]:
        """The compute is alive; whether the lease still is this caller's."""
        return (yield from self._agreed(lambda ops: iter(ops.renew(call.name, call.wanted, lease, call.lease_ms))))

    def finish(self, call: Call, lease: Lease, output: Output, took_ms: float) -> Flow[bool]:
        """Store what was computed, and give the lease back; whether it was stored."""
        if self.smart.settings.read_only:
            return False
        try:
            values = self.smart.put_values(call.name, output, *call.put, took_ms, call.ttl_seconds, "")
            stored = yield from self.smart.agreed(
                lambda ops: self.smart.changing(ops, FlightOps(ops).put(call.wanted, lease, call.grace_ms or 0, values))
            )
        except ValueTooLarge:  # its own caller gets it all the same
            yield from self.abandon(call, lease, stale=False)
            return False
        finally:
            self.smart.changed(call.name)
        self.smart.counts["writes"] += stored
        return stored

    def abandon(self, call: Call, lease: Lease, *, stale: bool) -> Flow[Output | None]:
        """Give the lease back unused; an output that has expired but may stand in, if that is asked for."""
        stale_ms = call.grace_ms if stale else None
        if self.smart.settings.read_only:
            return None
        found = yield from self._agreed(lambda ops: iter(ops.release(call.name, call.wanted, lease, stale_ms)))
        return None if found is None else (yield from self.smart.decoded(call.name, found, counted=False))

    # -- steps

    def _compute(self, call: Call, lease: Lease, good: Output | None) -> Flight:
        """`good`: an output that is there and is only to be refreshed."""
        renew = None if not lease.owner else lambda: self.renew(call, lease)
        mark = self._mark(call)
        try:
            output, took_ms = yield Compute(renew, call.lease_ms / 3000)
        except GeneratorExit:
            raise
        except Exception as error:
            stale = yield Ask(self.abandon(call, lease, stale=good is None), None, lenient=True)
            stand_in = stale if good is None else good
            if stand_in is None:
                raise
            _log.warning("computing failed with %s, and an older output stands in", type(error).__name__)
            return stand_in
        except BaseException:  # cancelled, or interrupted
            yield Ask(self.abandon(call, lease, stale=False), None, lenient=True)
            raise
        finally:
            mark.running = False
        try:
            yield Ask(self.finish(call, lease, output, took_ms), default=False, lenient=True)
        except GeneratorExit:
            raise
        except BaseException:  # it cannot be stored: no text, say
            yield Ask(self.abandon(call, lease, stale=False), None, lenient=True)
            raise
        return output  # type: ignore[no-any-return] # finish has checked it

    def _lease_early(self, call: Call) -> Flow[Lease | None]:
        got = yield from self._agreed(lambda ops: iter(ops.lease(call.name, call.wanted, call.lease_ms, early=True)))
        return got if isinstance(got, Lease) else None

    def _is_due(self, call: Call, found: Found | None) -> bool:
        """Whether to recompute already: `now - delta * beta * ln(rand) >= expiry`, so that hardly ever two do at once.

        Vattani, Chierichetti, Lowenstein: Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
        """
        if found is None or found.left_ms is None:
            return False
        return -found.cost_ms * call.beta * math.log(1 - self.rand()) >= found.left_ms

    def _check_nesting(self, call: Call) -> None:
        for mark in _computing.get():
            if mark.running and (mark.cache, mark.flight) == (self._serial, call.flight):
                raise WaitsForItself("a compute asked the cache for the very key that it computes; it would never end")

    def _mark(self, call: Call) -> Computing:
        """Whoever is called from now on, in this context or one made from it, sees what is being computed."""
        mark = Computing(self._serial, call.flight)
        _computing.set((*(one for one in _computing.get() if one.running), mark))
        return mark

    def _agreed(self, make: Callable[[FlightOps], Flow[T]]) -> Flow[T]:
        def run(ops: SmartOps) -> Flow[T]:
            return make(FlightOps(ops))

        return (yield from self.smart.agreed(run))


def _call(key: str, content_hash: str, options: FlightOptions) -> Call:
    if unknown := sorted(set(options) - set(FlightOptions.__annotations__)):
        raise TypeError(f"unknown options {unknown}; there are {sorted(FlightOptions.__annotations__)}")
    ttl_seconds, grace_s = options.get("ttl_seconds"), options.get("stale_if_error")
    ttl_ms(ttl_seconds)
    return Call(
        key=key,
        name=key_bytes(key),
        wanted=raw(content_hash),
        put=(
            content_hash,
            options.get("dependencies"),
            options.get("file_path", ""),
            options.get("line_range", (0, 0)),
        ),
        ttl_seconds=ttl_seconds,
        lease_ms=max(1, round(1000 * _seconds("lease_s", options.get("lease_s", LEASE_S), least=0.01))),
        wait_until=monotonic() + _seconds("wait_s", options.get("wait_s", WAIT_S)),
        grace_ms=None if grace_s is None else round(1000 * _seconds("stale_if_error", grace_s)),
        beta=_seconds("early_refresh", options.get("early_refresh", 0.0)),
    )


def _seconds(name: str, value: float, least: float = 0.0) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e9:  # noqa: PLR2004 - 30 years
        raise ConfigError(f"{name}={value!r} cannot be used; take a number from {least:g} on")
    return value
