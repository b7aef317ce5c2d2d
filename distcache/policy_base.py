"""What the models of the eviction policies have in common: entries, bounds, time, and a heap of scores."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

UNBOUNDED = 2**53
_PATIENCE = 64  # misses that may be answered by a put later


@dataclass(slots=True)
class Entry:
    """What a policy knows of an entry."""

    size: int
    """Bytes."""
    cost: float
    """Milliseconds to make it."""
    hits: int = 0
    """Since it was put."""
    last_s: float = 0.0
    """Time of the last access."""
    f: float = 0.0
    """F: log2 of the decayed count, on the scale of T."""
    returned: bool = False
    """Replaced a value of its key, or was put again after an eviction that is remembered: not its first use."""
    window: bool = False
    """In the window of `windowed`."""
    score: float = 0.0


class Policy:
    """A cache that holds no values: says of every request whether it hits, and of every put what must go."""

    name = ""

    def __init__(self, max_entries: int = UNBOUNDED, max_bytes: int = UNBOUNDED) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.capacity = max_entries
        """C."""
        self.entries: dict[Any, Entry] = {}
        self.bytes = 0
        self.requests = 0
        self._unanswered = 0  # misses that no put followed yet
        self._heap: list[tuple[float, Any]] = []  # (score, key), old ones among them

    def request(self, key: Hashable, size: int = 1, cost: float = 1.0, now_s: float | None = None) -> bool:
        """A get, and after a miss the put: whether it was a hit."""
        if self.get(key, now_s):
            return True
        self.put(key, size, cost, now_s)
        return False

    def get(self, key: Hashable, now_s: float | None = None, times: int = 1) -> bool:
        """Look a key up and count the access, or so many in a row.

        `now_s` is the time, one second a request if left out.
        """
        entry = self.entries.get(key)
        if entry is None:
            self._tick(0, times)
            self._unanswered = min(self._unanswered + times, _PATIENCE)
            return False
        self._use(entry, times)
        entry.last_s = self.requests if now_s is None else now_s
        self._place(key, entry, self._score(entry))
        return True

    def put(self, key: Hashable, size: int = 1, cost: float = 1.0, now_s: float | None = None) -> list[Any]:
        """Store a key; returns the keys evicted for it, in order. What can never fit only removes the old value."""
        old = self._remove(key)
        if size > self.max_bytes:
            return []
        self._tick_put(size)
        entry = Entry(size, cost, last_s=self.requests if now_s is None else now_s)
        self._recall(key, entry, old)
        self._count(entry)
        evicted = self._evict(entry)
        self.entries[key] = entry
        self.bytes += size
        self._place(key, entry, self._score(entry))
        return evicted

    def _tick(self, size: int, times: int = 1) -> None:  # noqa: ARG002 - the clock of bytes reads it
        """Time goes on by one request, or so many of one key; `size` is 0 where it is not known yet."""
        self.requests += times

    def _tick_put(self, size: int) -> None:
        """A put that answers a miss is the same request."""
        if self._unanswered:
            self._unanswered -= 1
        else:
            self._tick(size)

    def _use(self, entry: Entry, times: int) -> None:
        """The entry is accessed, so many times in a row."""
        self._tick(entry.size, times)
        entry.hits += times

    def _count(self, entry: Entry) -> None:
        """The entry is accessed now."""

    def _score(self, entry: Entry) -> float:
        """The score of an entry that was just accessed."""
        raise NotImplementedError

    def _recall(self, key: Hashable, entry: Entry, old: Entry | None) -> None:
        """What is known of the key from before goes into its new entry."""

    def _remember(self, key: Hashable, entry: Entry) -> None:
        """The entry is being evicted."""

    def _place(self, key: Hashable, entry: Entry, score: float) -> None:
        """Put the entry where its score belongs."""
        entry.score = score
        heappush(self._heap, (score, key))
        if len(self._heap) > 4 * len(self.entries) + 64:
            self._heap = [(entry.score, key) for key, entry in self.entries.items() if not entry.window]
            heapify(self._heap)

    def _least(self) -> Any:
        """The key with the lowest score, None if there is none."""
        while self._heap:
            score, key = self._heap[0]
            entry = self.entries.get(key)
            if entry is not None and entry.score == score and not entry.window:
                return key
            heappop(self._heap)
        return None

    def _victim(self, _incoming: Entry) -> Any:
        """The key to evict next."""
        return self._least()

    def _evict(self, incoming: Entry) -> list[Any]:
        evicted = []
        while self.entries:
            crowded = len(self.entries) >= self.max_entries
            if not crowded and self.bytes + incoming.size <= self.max_bytes:
                break
            self.capacity = self.max_entries if crowded else len(self.entries)
            key = self._victim(incoming)
            self._remember(key, self.entries[key])
            self._remove(key)
            evicted.append(key)
        return evicted

    def _remove(self, key: Hashable) -> Entry | None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry.size
        return entry
