"""Which keys are likely next, given what came after the last ones: pure arithmetic.

After each key, two kinds of counts are kept, both halving every 16 observations of that key: of the keys that came
*next*, and of those that came *soon after*, two to four places later. The chance of a key is the sum of its shares in
the counts of the last four keys. So a sequence that others are interleaved with is followed too, and a key that has
never been a successor of the very last one can be predicted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LIFE = 16
"""Observations after which a pair weighs half; as in lua/learn.lua."""
GAP_WEIGHT = (1.0, 0.8, 0.7, 0.6)
"""How much the counts of the last key, the one before it, ... say about the next one."""
SOON_SHARE = 3
"""A step of a sequence adds one to the counts of next keys, and so many to those of keys soon after."""
PRIOR = 0.5
"""Observations of other keys that are assumed, so that one alone makes nothing certain."""
ALIKE = 0.5
"""Keys of at least this part of the best one's chance are counted as alike."""
SPARE = 8
"""How many more than wanted are needed to see those that are alike."""


def total(clock: float, *, soon: bool = False) -> float:
    """What the counts of a key add up to, after clock * LIFE observations, with the prior."""
    ageing: float = 2.0 ** (-1 / LIFE)
    counted = float((1 - 2.0**-clock) / (1 - ageing))
    return (SOON_SHARE if soon else 1) * counted + PRIOR


def chances(recent: Sequence[str], after: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The chance of each key to come next.

    recent: the last keys, the latest first. after: for each, the shares of the keys that came next after it (for the
    latest), or soon after it (for the others). A key that came since is over.
    """
    found: dict[str, float] = {}
    since: set[str] = set()
    for key, shares, weight in zip(recent, after, GAP_WEIGHT, strict=False):
        since.add(key)
        for other, share in shares.items():
            if other not in since:
                found[other] = found.get(other, 0.0) + weight * share
    return found


def ranked(found: Mapping[str, float], count: int) -> list[str]:
    """The likeliest keys. Of several that are alike, the last place goes to the one that was longest ago.

    Where a key's successors take turns, the next is the one that was longest ago; by count alone it would be last.
    """
    order = sorted(found, key=lambda key: found[key], reverse=True)
    best = order[:count]
    if count >= len(GAP_WEIGHT) - 1 and len(order) > count:
        alike = [key for key in order[count:] if found[key] >= ALIKE * found[order[0]]]
        best[-1:] = alike[-1:] or best[-1:]
    return best
