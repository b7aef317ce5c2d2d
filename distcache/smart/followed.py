"""What came after a key: the rows that teach it to `lua/learn.lua`, and what is read back. Does no I/O."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from heapq import nlargest
from math import isfinite
from struct import Struct
from typing import TYPE_CHECKING

from distcache.keys import key_id, unraw
from distcache.smart import likely

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST = 255
"""Observations in one row; a byte says which of its fields is meant."""

_NEXT, _SOON, _CLOCK = b"n", b"s", b""
_TOLD = Struct("<dBB")
_WEIGHT = Struct("<d")


def observed(steps: Iterable[tuple[bytes, tuple[bytes, ...]]]) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each key with what came after it, `MOST` observations at a time. A key teaches nothing about itself.

    steps: each a key and those before it, the latest first. An observation is the name of a field: `n` or `s` (next, or
    soon after), and the key that came.
    """
    after: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for key, before in steps:
        observation = _NEXT + key
        for other in before:
            if other != key:
                after[other].append(observation)
            observation = _SOON + key
    for key, observations in after.items():
        for start in range(0, len(observations), MOST):
            yield key, observations[start : start + MOST]


def row(key: bytes, observations: Sequence[bytes]) -> tuple[bytes, ...]:
    """As lua/learn.lua takes it: id, key, which fields were observed in which order, the fields, next keys first."""
    fields = sorted(set(observations))
    place_of = {name: place for place, name in enumerate(fields, 1)}
    nexts = bisect_left(fields, _SOON)
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
        for name, value in zip(fields[::2], fields[1::2], strict=True):
            if name == _CLOCK:
                found.clock = _TOLD.unpack(value)[0] if len(value) == _TOLD.size else 0.0
            elif len(value) == _WEIGHT.size and isfinite(weight := _WEIGHT.unpack(value)[0]):
                (found.nexts if name[:1] == _NEXT else found.soons)[unraw(name[1:])] = weight
        return found

    def likeliest(self, count: int, *, soon: bool = False) -> list[str]:
        """The keys that came next (or soon after), likeliest first."""
        weights = self.soons if soon else self.nexts
        return nlargest(count, weights, key=lambda key: (weights[key], key))

    def shares(self, count: int, *, soon: bool = False) -> list[tuple[str, float]]:
        """These, each with its share of the aged count."""
        weights = self.soons if soon else self.nexts
        total = likely.total(self.clock, soon=soon)
        return [(key, 2.0 ** (weights[key] - self.clock) / total) for key in self.likeliest(count, soon=soon)]

    @property
    def observations(self) -> int:
        """How often a next key was observed."""
        return round(self.clock * likely.LIFE)
