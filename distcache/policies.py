"""The eviction policies as plain Python: what lua/include/policy.lua, ghost.lua and window.lua do, without a server.

Made to replay traces (`distcache replay`, benchmarks/eviction.py) and to hold the Lua to its word: a test runs both
on the same requests. The arithmetic is therefore the same to the last bit, and so is the order of equal scores.

A score is static: written when its entry is accessed, never rescanned; the entry with the lowest is evicted, and of
equal ones the one whose key is smaller. Time is counted in requests: hits, misses, and puts that no miss came before.
C is the bound in entries; where only bytes bound the cache, the number of entries at the last eviction.

=========  ============================================================================================
adaptive   F + R: log2 of a decayed count, plus a recency clock whose speed is learned from what comes back
cost       F + R + log2(cost / size), on a clock of bytes where bytes bound the cache: for build outputs
windowed   a FIFO window in front of F: what leaves it must be worth more than the least of the main part
gdsf       L + count * cost / size, L the last victim's score (Cherkasova 1998)
lru        the number of the request
lru_freq   0.3 * hits + 0.001 * last access (s): the order of 0.3 * hits - 0.001 * idle seconds, made static
=========  ============================================================================================

F is the LRFU of Lee et al. (2001) in logarithms, and so never has to be aged: with a clock T that advances by
1 / (h * C) a request, a count that is halved every h * C requests has the log2 `F = T + log2(1 + 2**(F - T))` after
one more, on a scale that moves with T. The window, and the ghosts that size it, follow W-TinyLFU (Einziger et al.
2017) and ARC (Megiddo and Modha 2003).
"""

from __future__ import annotations

from collections import OrderedDict
from math import log
from typing import TYPE_CHECKING, Any

from distcache.policy_base import UNBOUNDED, Entry, Policy

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

__all__ = ["MODELS", "UNBOUNDED", "Adaptive", "Cost", "Entry", "Gdsf", "Lru", "LruFreq", "Policy", "Windowed"]

_LN2 = log(2)  # Lua 5.1 has no log2; dividing gives the same last bit


def _weight_of(times: int, passed: float) -> float:
    """Of so many accesses while T went on evenly by `passed`: they are a geometric series."""
    if times == 1 or passed <= 1e-8:  # noqa: PLR2004 - else 1 - 2^-passed would have too few digits
        return times
    step = passed / times
    lost: float = 1 - 2.0**-step if step > 1e-8 else step * _LN2  # noqa: PLR2004 - the same
    weight: float = (1 - 2.0**-passed) / lost
    return weight


class Lru(Policy):
    """`lru`: the number of the request."""

    name = "lru"
    _clock = 0

    def _score(self, entry: Entry) -> float:  # noqa: ARG002 - it is accessed now, and that is all
        self._clock += 1
        return self._clock


class LruFreq(Policy):
    """`lru_freq`: `0.3 * hits + 0.001 * last_access_s`."""

    name = "lru_freq"

    def _score(self, entry: Entry) -> float:
        return 0.3 * entry.hits + 0.001 * entry.last_s


class Gdsf(Policy):
    """`gdsf`: `L + count * cost / size`, L the score of the last victim. An unknown cost counts as 1 ms."""

    name = "gdsf"
    _floor = 0.0  # L

    def _score(self, entry: Entry) -> float:
        return self._floor + (entry.hits + 1) * max(entry.cost, 1) / max(entry.size, 1)

    def _remember(self, key: Hashable, entry: Entry) -> None:  # noqa: ARG002 - no ghosts here
        self._floor = entry.score


class Adaptive(Policy):
    """`adaptive`: `F + R`.

    R is a clock that advances by r/C a request, read at the access. r is learned from keys that are put again within C
    evictions of their own: were they used once, recency should have weighed more; were they used more often,
    frequency. With p1 the moving average (weight 1/C) of the share of victims used once, a return of the first kind
    makes `log2 r += 4/C * clamp((1-p1)/p1, 1, 20)`, one of the second `log2 r -= 4/C * clamp(p1/(1-p1), 1, 20)`: the
    rarer kind of victim counts for more. A key that returns goes on with its F; that it was there before is not
    forgotten.
    """

    name = "adaptive"
    life = 16
    """h: a count weighs half after h * C requests."""
    learned = 0.7
    """r at the start."""
    bounds = (0.2, 2.0)
    """Of r."""
    memory = 1.25
    """A generation of ghosts, in C. Two are kept, so the last 1.25 C to 2.5 C victims are known: 2 C on the whole."""

    def __init__(self, max_entries: int = UNBOUNDED, max_bytes: int = UNBOUNDED) -> None:
        super().__init__(max_entries, max_bytes)
        self.t = self.r = 0.0
        """The clocks T and R."""
        self.p1 = 0.5
        self.evictions = 0
        self._ghosts: dict[Any, tuple[float, bool, int]] = {}
        self._older: dict[Any, tuple[float, bool, int]] = {}

    def _tick(self, size: int, times: int = 1) -> None:  # noqa: ARG002 - each request counts the same
        self.requests += times
        self._advance(1 / self.capacity * times)

    def _advance(self, step: float) -> None:
        self.t += step / self.life
        self.r += self.learned * step

    def _use(self, entry: Entry, times: int) -> None:
        before = self.t
        super()._use(entry, times)
        self._count(entry, _weight_of(times, self.t - before))

    def _count(self, entry: Entry, weight: float = 1) -> None:
        entry.f = self.t + log(weight + 2.0 ** (entry.f - self.t)) / _LN2

    def _score(self, entry: Entry) -> float:
        return entry.f + self.r

    def _first_kind(self, entry: Entry) -> bool:
        """Whether the victim is of the kind whose share is p1."""
        return entry.hits == 0 and not entry.returned

    def _remember(self, key: Hashable, entry: Entry) -> None:
        first = self._first_kind(entry)
        self.evictions += 1
        self.p1 += (first - self.p1) / self.capacity
        self._ghosts[key] = (entry.f, first, self.evictions)
        if len(self._ghosts) >= self.memory * self.capacity:
            self._older, self._ghosts = self._ghosts, {}

    def _recall(self, key: Hashable, entry: Entry, old: Entry | None) -> None:
        ghost = None if old else self._ghosts.pop(key, None) or self._older.pop(key, None)
        entry.returned = old is not None or ghost is not None
        entry.f = old.f if old else ghost[0] if ghost else self.t - 2000
        if ghost and self.evictions - ghost[2] <= self.capacity:
            self._learn(self._weight(first=ghost[1]))

    def _weight(self, *, first: bool) -> float:
        once, more = max(self.p1, 1e-9), max(1 - self.p1, 1e-9)
        return max(1, min(20, more / once)) if first else -max(1, min(20, once / more))

    def _learn(self, weight: float) -> None:
        least, most = self.bounds
        self.learned = max(least, min(most, self.learned * 2.0 ** (weight * 4 / self.capacity)))


class Cost(Adaptive):
    """`cost`: `F + R + log2(cost_ms / size)`. An unknown cost counts as 1 ms.

    Where bytes bound the cache, its clock counts them: a request advances it by size / max_bytes. A miss tells its size
    when it is answered, so the put advances the clock.
    """

    name = "cost"
    learned = 1.0
    bounds = (0.5, 2.0)

    @property
    def _by_bytes(self) -> bool:
        return self.capacity < self.max_entries

    def _tick(self, size: int, times: int = 1) -> None:
        self.requests += times
        self._advance((size / self.max_bytes if self._by_bytes else 1 / self.capacity) * times)

    def _tick_put(self, size: int) -> None:
        answers = self._unanswered > 0
        super()._tick_put(size)
        if answers and self._by_bytes:
            self._advance(size / self.max_bytes)

    def _score(self, entry: Entry) -> float:
        return super()._score(entry) + (log(max(entry.cost, 1)) - log(max(entry.size, 1))) / _LN2


class Windowed(Adaptive):
    """`windowed`: a FIFO window, and a main part ordered by F with h = 8.

    What leaves the window takes the place of the least of the main part if its F is higher by 1 (twice the decayed
    count), else it is evicted itself; while there is room it just moves over. A remembered key that passes that test
    skips the window. The window is a share of C, first 10 %, at least one entry and at most 80 %: a key that returns
    within C evictions makes it wider by `1/C * clamp((1-p1)/p1, 1, 20)` if it was evicted from the window, else
    narrower by `1/C * clamp(p1/(1-p1), 1, 20)`; p1 is the share of victims from the window.
    """

    name = "windowed"
    life = 8
    learned = 0.1
    """The window's share of C at the start."""
    memory = 2.0
    margin = 1.0
    _haste = 32  # how many entries may move to the main part during one put

    def __init__(self, max_entries: int = UNBOUNDED, max_bytes: int = UNBOUNDED) -> None:
        super().__init__(max_entries, max_bytes)
        self._window: OrderedDict[Any, None] = OrderedDict()

    def _recall(self, key: Hashable, entry: Entry, old: Entry | None) -> None:
        super()._recall(key, entry, old)
        entry.window = old is None or old.window

    def _first_kind(self, entry: Entry) -> bool:
        return entry.window

    def _learn(self, weight: float) -> None:
        self.learned = max(1 / self.capacity, min(0.8, self.learned + weight / self.capacity))

    def _score(self, entry: Entry) -> float:
        return entry.f

    def _place(self, key: Hashable, entry: Entry, score: float) -> None:
        if not entry.window:
            super()._place(key, entry, score)
        elif key not in self._window:
            self._window[key] = None

    def _over(self, incoming: Entry) -> bool:
        width = max(1, int(self.learned * self.capacity + 1e-6))
        return bool(self._window) and len(self._window) + incoming.window > width

    def _passes(self, entry: Entry) -> bool:
        least = self._least()
        return least is None or entry.f > self.entries[least].score + self.margin

    def _move(self, key: Hashable) -> None:
        """From the window to the main part."""
        entry = self.entries[key]
        del self._window[key]
        entry.window = False
        super()._place(key, entry, entry.f)

    def _victim(self, incoming: Entry) -> Any:
        while self._over(incoming):
            oldest, least = next(iter(self._window)), self._least()
            if not self._passes(self.entries[oldest]):
                return oldest
            self._move(oldest)
            if least is not None:
                return least
        least = self._least()
        return next(iter(self._window)) if least is None else least

    def _evict(self, incoming: Entry) -> list[Any]:
        if incoming.returned and incoming.window:
            incoming.window = not self._passes(incoming)
        evicted = super()._evict(incoming)
        for _ in range(self._haste):
            if not self._over(incoming):
                break
            self._move(next(iter(self._window)))
        return evicted

    def _remove(self, key: Hashable) -> Entry | None:
        self._window.pop(key, None)
        return super()._remove(key)


MODELS: Mapping[str, type[Policy]] = {model.name: model for model in (Adaptive, Cost, Windowed, Gdsf, Lru, LruFreq)}
"""By the name under which a cache is configured with them."""
