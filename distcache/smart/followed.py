"""What came after a key: the rows that teach it to `lua/learn.lua`, and what is read back. Does no I/O."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from heapq import nlargest
from struct import Struct
from typing import TYPE_CHECKING

from distcache.keys import key_id, unraw
from distcache.smart import likely

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST = 255
"""Observations in one row; a byte says which of its fields is meant."""

NEXT, SOON, _CLOCK = b"n", b"s", b""
_TOLD = Struct("<dBB")
_WEIGHT = Struct("<d")
_HEAVIEST, _ENDLESS = 8, 2.0**40
"""As in lua/include/followed.lua: log2 of more than counts add up to, and a time that never comes."""


def observed(steps: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each key with what came after it, `MOST` observations at a time. A key teaches nothing about itself.

    steps: each a key and those before it, the latest first. An observation is the name of a field: `n` or `s` (next, or
    soon after), and the key that came.
    """
    after: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for key, before in steps:
        observation = NEXT + key
        for other in before:
            if other != key:
                after[other].append(observation)
            observation = SOON + key
    for key, observations in after.items():
        for start in range(0, len(observations), MOST):
            yield key, observations[start : start + MOST]


def row(key: bytes, observations: Sequence[bytes]) -> tuple[bytes, ...]:
    """As lua/learn.lua takes it: id, key, which fields were observed in which order, the fields, next keys first."""
    fields = sorted(set(observations))
    place_of = {name: place for place, name in enumerate(fields, 1)}
    nexts = bisect_left(fields, SOON)
    return key_id(key), key, bytes((nexts, len(fields), *map(place_of.__getitem__, observations))), *fields


@dataclass(slots=True)
class Followed:
    """What is known to have come after a key: log2 of counts that halve every `likely.LIFE` observations."""

    clock: float = 0.0
    """Observations of a next key so far, in lives."""
    nexts: dict[str, float] = dataclasses.field(default_factory=dict)
    soons: dict[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def decode(cls, fields: Sequence[bytes]) -> Followed:
        """From the names and values of the hash; of a value that is none of ours nothing is known."""
        found = cls()
        of_kind = {NEXT: found.nexts, SOON: found.soons}
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            weights = of_kind.get(name[:1])
            if name == _CLOCK and len(value) == _TOLD.size:
                found.clock, _, _ = _TOLD.unpack(value)
            elif weights is not None and len(value) == _WEIGHT.size:
                (weights[unraw(name[1:])],) = _WEIGHT.unpack(value)
        return found._plausible()

    def _plausible(self) -> Followed:
        """Without what cannot be: no number, or more than can have been counted."""
        if not 0 <= self.clock < _ENDLESS:
            self.clock = 0.0
        for weights in (self.nexts, self.soons):
            for key in [key for key, weight in weights.items() if not -_ENDLESS < weight < self.clock + _HEAVIEST]:
                del weights[key]
        return self

    def likeliest(self, count: int, *, soon: bool = False) -> list[str]:
        """The keys that came next (or soon after), likeliest first."""
        weights = self.soons if soon else self.nexts
        return nlargest(count, weights, key=lambda key: (weights[key], key))

    def shares(self, count: int, *, soon: bool = False) -> list[tuple[str, float]]:
        """These, each with its share of the aged count."""
        weights = self.soons if soon else self.nexts
        counts = [(key, 2.0 ** (weights[key] - self.clock)) for key in self.likeliest(count, soon=soon)]
        # Where lessons were lost, more may have been counted than the clock says.
        total = max(likely.total(self.clock, soon=soon), sum(number for _, number in counts) + likely.PRIOR)
        return [(key, number / total) for key, number in counts]

    @property
    def observations(self) -> int:
        """How often a next key was observed."""
        return round(self.clock * likely.LIFE)
