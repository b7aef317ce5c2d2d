"""The near cache: copies of what was read, kept in this process for as long as they are certainly true. Pure.

How a copy stays true
---------------------
The server reports every change of an entry on a connection of its own (the *source*), a moment after the change. The
reads whose copies are kept run on other connections, so a report and a reply may overtake each other. Four rules:

1. *A reply may only become a copy if nothing was reported of its key since the read was sent.* Reads under way are
   *flights*. A report ends the flights of its key. If the read was executed before the change, its report either comes
   before the reply (the flight has ended: no copy) or after it (the copy is dropped). If it was executed after the
   change, it saw the new value, and a late report drops a copy that was true, which costs one read.
2. *After any read, the near cache holds what that read saw, or nothing of that key.* Two reads of a key may be executed
   in one order and answered in the other. So the first answer ends the flights of its key for all others, and an answer
   whose flight has ended drops a copy that differs from it. Else who was given the new value could be given the old.
3. *A copy is handed out only while the source is known to live.* Every half second the source is asked for a sign of
   life; its answer comes behind all reports of what happened before the question. When there was none for `LEASE_S`,
   nothing is handed out, whether or not the connection has noticed that it is dead, or the process that it was stopped.
4. *What is known of the time before a source is nothing.* A source that is lost or new empties the cache and ends all
   flights: no report came in between, nor for a read that was sent before the source was confirmed.

What this process writes ends flights and drops copies when its reply is there, without waiting for the report. An
entry's deadline, and `ttl_s`, are counted from when the read was sent, on this process's own clock.

Reading a copy takes no lock: a look-up is atomic, and a copy that was dropped a moment later is one whose report came a
moment later. All else happens under one lock, and costs the same however much is cached.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from distcache.errors import ConfigError
from distcache.use_log import UseLog

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

T = TypeVar("T", bound="str | bytes")

LEASE_S = 2.0
"""For how long after a question its answer is believed: the bound on staleness when a connection dies unnoticed."""
ID_BYTES = 16
_NEVER = -math.inf
_OVERHEAD_BYTES = 400


@dataclass(frozen=True, slots=True)
class NearCache:
    """How much a near cache holds, and for how long."""

    max_entries: int = 10_000
    """Copies at most; the least recently used goes first."""
    max_bytes: int = 64 * 1024 * 1024
    """Memory that they take at most."""
    ttl_s: float = 60.0
    """Age of a copy at most, in seconds, though nothing was reported of it."""

    def __post_init__(self) -> None:
        for name, value in (("max_entries", self.max_entries), ("max_bytes", self.max_bytes)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"NearCache({name}={value!r}) is no bound; take a whole number above 0")
        if isinstance(self.ttl_s, bool) or not isinstance(self.ttl_s, (int, float)) or not self.ttl_s > 0:
            raise ConfigError(f"NearCache(ttl_s={self.ttl_s!r}) is no age; take a number of seconds above 0")

    @classmethod
    def of(cls, near: object) -> NearCache | None:
        """What a cache's option `near` means; ConfigError when it means nothing, or its library is not installed."""
        if not isinstance(near, (bool, cls)):
            raise ConfigError(f"near={near!r} is unknown; take True, False or NearCache(...)")
        if near is False:
            return None
        _store_class()
        return cls() if near is True else near


class Copy(Generic[T]):
    """One output that was read.

    key: what it is found by. id: the entry's. name: the key as bytes, which is learned from. use: what its uses are
    reported under: the id, behind what decides the partition where that is not the id itself.
    """

    __slots__ = ("content_hash", "id", "key", "name", "output", "size", "until", "use")

    def __init__(
        self,
        key: Hashable,
        name: bytes,
        one: bytes,
        output: T,
        content_hash: str = "",
        older: bytes = b"",
        *,
        home: bytes = b"",
        key_bytes: int = 0,
    ) -> None:
        """`older`: the id of its hash, if it is not the key's latest version.

        `home`: what decides the partition, if it is not the id. `key_bytes`: the key's size, where name is not the key.
        """
        self.key: Hashable = (key, content_hash) if older else key
        self.name = name
        self.id = one + older
        self.use = home + self.id
        self.output = output
        self.content_hash = content_hash
        self.until = _NEVER
        self.size = sys.getsizeof(output) + len(name) + key_bytes + len(content_hash) + _OVERHEAD_BYTES


class Flight:
    """The reads of one key that are under way, as long as one of them may become a copy."""

    __slots__ = ("readers", "sent_at")

    def __init__(self) -> None:
        self.readers = 0
        self.sent_at = monotonic()


class Near(Generic[T]):
    """The copies of one cache object. Thread-safe; `get` takes no lock."""

    def __init__(
        self, bounds: NearCache, saw: Callable[[bytes], bool], lock: Callable[[], Any], *, counts: bool
    ) -> None:
        """`lock`: makes one. `saw` and `counts` are the log's."""
        self.bounds = bounds
        self._new_lock = lock
        self.prefixes: tuple[bytes, ...] = ()
        """Of the keys whose changes must be reported."""
        self.asked_at = _NEVER
        """When `get` was last called."""
        self.log = UseLog(saw, lock, counts=counts)
        """Of the copies that were handed out."""
        self._log_use = self.log.add
        self._reset()

    def _reset(self) -> None:
        self._lock = self._new_lock()
        self._copies = _store_class()(0)
        self._find = self._copies.get
        self._by_id: dict[bytes, Copy[T]] = {}
        self._older: dict[bytes, set[bytes]] = {}
        self._bytes = 0
        self._flights: dict[bytes, Flight] = {}
        self._source: object = None
        self._fresh_until = _NEVER

    # -- reading

    def get(self, key: Hashable, content_hash: str) -> T | None:
        """The output, if a copy of it is certainly true; counts the use."""
        copy = self._find(key)
        if copy is None or (content_hash and copy.content_hash != content_hash):
            copy = self._find((key, content_hash)) if self._older else None
            if copy is None:
                self.asked_at = monotonic()
                return None
        now = self.asked_at = monotonic()
        if now >= copy.until or now >= self._fresh_until:
            return None
        self._log_use(copy)
        output: T = copy.output
        return output

    def begin(self, one: bytes) -> Flight:
        """A read of this key id is about to be sent."""
        with self._lock:
            flight = self._flights.get(one)
            if flight is None:
                flight = self._flights[one] = Flight()
            flight.readers += 1
            return flight

    def abandon(self, one: bytes, flight: Flight) -> None:
        """The read failed; nothing was seen."""
        with self._lock:
            flight.readers -= 1
            if not flight.readers and self._flights.get(one) is flight:
                del self._flights[one]

    def complete(self, one: bytes, flight: Flight, copy: Copy[T], life_s: float = math.inf) -> None:
        """The read saw this output, which expires in `life_s`: it becomes a copy, or drops one that differs."""
        copy.until = flight.sent_at + min(life_s, self.bounds.ttl_s)
        with self._lock:
            current = self._flights.pop(one, None)
            if current is flight and self._source is not None and copy.size <= self.bounds.max_bytes:
                self._drop(copy.id)
                self._add(copy)
            else:
                held = self._by_id.get(copy.id)
                if held and (held.output != copy.output or held.content_hash != copy.content_hash):
                    self._drop(copy.id)
            self._drop_others(one, copy)

    def _drop_others(self, one: bytes, copy: Copy[T]) -> None:
        """Of the key's other versions, those that may be older than what was read (rule 2)."""
        if copy.id != one:  # what was the latest may be older still
            self._drop(one)
        else:
            for older in tuple(self._older.get(one, ())):
                if self._by_id[older].content_hash == copy.content_hash:  # it was put again
                    self._drop(older)

    def saw(self, one: bytes, wanted: str, found: str | None) -> None:
        """An operation on the key, asking for a hash or any (''), met an entry with this hash, or none."""
        with self._lock:
            self._flights.pop(one, None)
            held = self._by_id.get(one)
            if found is None and (not wanted or one in self._older or (held and held.content_hash == wanted)):
                self._forget(one)
            elif found is not None and held and held.content_hash != found:
                self._drop(one)

    def met(self, one: bytes, output: T) -> None:
        """A read for something else met this entry."""
        with self._lock:
            self._flights.pop(one, None)
            held = self._by_id.get(one)
            if held and held.output != output:
                self._drop(one)

    def forget(self, one: bytes) -> None:
        """This process changed the key, or saw that it is gone."""
        with self._lock:
            self._forget(one)

    def empty(self) -> None:
        """This process changed what it cannot name."""
        with self._lock:
            self._clear()

    # -- what the source says

    def confirmed(self, source: object) -> None:
        """From now on, this source reports every change."""
        with self._lock:
            self._clear()
            self._source = source

    def heard(self, source: object, asked_at: float) -> None:
        """Everything that happened before it was asked has been reported."""
        if self._source is source:
            self._fresh_until = asked_at + LEASE_S

    def lost(self, source: object) -> None:
        """This source reports nothing any more."""
        with self._lock:
            if self._source is source:
                self._fall_silent()

    def changed(self, source: object, names: Iterable[bytes] | None) -> None:
        """These entries changed, by the names of their keys; None: all of them."""
        if self._source is not source:
            return
        with self._lock:
            if names is None:
                self._clear()
                return
            for name in names:
                one = name.partition(b"}:e:")[2]
                self._flights.pop(one[:ID_BYTES], None)
                self._drop(one)

    def watch(self, prefixes: tuple[bytes, ...]) -> None:
        """Changes of keys with these prefixes are wanted; a source that reports others is of no use any more."""
        with self._lock:
            if prefixes != self.prefixes:
                self.prefixes = prefixes
                self._fall_silent()

    @property
    def listening(self) -> bool:
        """Whether there is a source: else nothing becomes a copy."""
        return self._source is not None

    @property
    def live(self) -> bool:
        """Whether there is a source, and it was heard of lately."""
        return monotonic() < self._fresh_until

    def forked(self) -> None:
        """In a child process: the source is the parent's, and a lock may be held."""
        self.log.forked()
        self._reset()

    # -- under the lock

    def _add(self, copy: Copy[T]) -> None:
        self._copies.insert(copy.key, copy)
        self._by_id[copy.id] = copy
        self._bytes += copy.size
        if len(copy.id) > ID_BYTES:
            self._older.setdefault(copy.id[:ID_BYTES], set()).add(copy.id)
        while len(self._copies) > self.bounds.max_entries or self._bytes > self.bounds.max_bytes:
            self._left(self._copies.popitem()[1])

    def _drop(self, entry_id: bytes) -> None:
        copy = self._by_id.get(entry_id)
        if copy is not None:
            self._copies.pop(copy.key, None)
            self._left(copy)

    def _left(self, copy: Copy[T]) -> None:
        del self._by_id[copy.id]
        self._bytes -= copy.size
        if len(copy.id) > ID_BYTES:
            one = copy.id[:ID_BYTES]
            self._older[one].discard(copy.id)
            if not self._older[one]:
                del self._older[one]

    def _forget(self, one: bytes) -> None:
        self._flights.pop(one, None)
        self._drop(one)
        for older in tuple(self._older.get(one, ())):
            self._drop(older)

    def _clear(self) -> None:
        self._flights.clear()
        self._copies.clear()
        self._by_id.clear()
        self._older.clear()
        self._bytes = 0

    def _fall_silent(self) -> None:
        self._source, self._fresh_until = None, _NEVER
        self._clear()


def _store_class() -> Any:
    try:
        from cachebox import LRUCache  # noqa: PLC0415 - an extra: imported by those who want it
    except ImportError as error:
        raise ConfigError("a near cache needs cachebox; pip install 'distcache[near]', or leave near out") from error
    return LRUCache
