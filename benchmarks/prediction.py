"""How many of the next keys of a trace were among the three predicted: the original's rule, a simple aged count, ours.

    python benchmarks/prediction.py TRACE ... [--quick] [--json FILE]

A trace has one request a line, its key first; it may be gzipped. A request for the same key again is no step. --quick
reads the first 20,000 requests of each. `Model` is distcache's predictor on plain dicts: the counts are those of
lua/learn.lua, the ranking is the library's own code.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
from collections import deque
from dataclasses import asdict, dataclass
from heapq import nlargest
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from distcache.smart import likely
from distcache.smart.learner import REACH

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = 3
KEPT, MOST = 32, 48
"""Of more than so many of a kind (the second), so many are kept (the first); as in lua/learn.lua."""
QUICK = 20_000


class Original:
    """The first three successors ever seen."""

    name = "original"

    def __init__(self) -> None:
        self._after: dict[str, list[str]] = {}

    def predict(self, key: str) -> list[str]:
        """The three likeliest keys after this one."""
        return self._after.get(key, [])

    def learn(self, key: str, successor: str) -> None:
        """One step of the trace."""
        known = self._after.setdefault(key, [])
        if len(known) < TOP and successor not in known:
            known.append(successor)


class Counts:
    """What one key was followed by: log2 of counts that halve every 16 observations."""

    __slots__ = ("clock", "next", "soon")

    def __init__(self) -> None:
        self.clock = 0.0
        self.next: dict[str, float] = {}
        self.soon: dict[str, float] = {}

    def add(self, scores: dict[str, float], key: str) -> None:
        """One more of this key, now."""
        before = scores.get(key)
        scores[key] = self.clock
        if before is not None:
            scores[key] += math.log(1 + 2 ** (before - self.clock)) / math.log(2)

    def trim(self) -> None:
        """Of each kind, the lightest of too many go."""
        for scores in (self.next, self.soon):
            if len(scores) > MOST:
                for light in sorted(scores, key=lambda one: (scores[one], one))[:-KEPT]:
                    del scores[light]

    def shares(self, *, soon: bool, most: int = MOST) -> dict[str, float]:
        """The part of each key in the counts; of the `most` largest."""
        scores = self.soon if soon else self.next
        total = likely.total(self.clock, soon=soon)
        best = nlargest(most, scores, key=lambda key: scores[key]) if len(scores) > most else scores
        return {key: 2.0 ** (scores[key] - self.clock) / total for key in best}


class Aged:
    """An aged count of next keys, and nothing else."""

    name = "aged count"

    def __init__(self) -> None:
        self.after: dict[str, Counts] = {}

    def predict(self, key: str) -> list[str]:
        """The three likeliest keys after this one."""
        counts = self.after.get(key)
        return nlargest(TOP, counts.next, key=lambda one: counts.next[one]) if counts else []

    def learn(self, key: str, successor: str) -> None:
        """One step of the trace."""
        counts = self.after.setdefault(key, Counts())
        counts.clock += 1 / likely.LIFE
        counts.add(counts.next, successor)
        counts.trim()


class Model(Aged):
    """distcache's."""

    name = "distcache"

    def __init__(self) -> None:
        super().__init__()
        self.recent: deque[str] = deque(maxlen=REACH)

    def predict(self, key: str) -> list[str]:
        """The three likeliest keys after the last ones."""
        recent = list(self.recent) or [key]
        after = [
            self.after[one].shares(soon=gap > 0, most=TOP + likely.SPARE) if one in self.after else {}
            for gap, one in enumerate(recent)
        ]
        return likely.ranked(likely.chances(recent, after), TOP)

    def learn(self, key: str, successor: str) -> None:
        """One step of the trace."""
        if not self.recent:
            self.recent.append(key)
        super().learn(key, successor)
        for other in list(self.recent)[1:]:
            counts = self.after[other]
            if other != successor:
                counts.add(counts.soon, successor)
                counts.trim()
        self.recent.appendleft(successor)


def keys(path: Path) -> Iterator[str]:
    """The first word of each line."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for line in lines:
            if words := line.split(maxsplit=1):
                yield words[0]


@dataclass(frozen=True, slots=True)
class Row:
    """One trace: each predictor's share of the next keys among its three."""

    trace: str
    steps: int
    original: float
    aged_count: float
    distcache: float


def measure(path: Path, requests: int | None = None) -> Row:
    """Run the predictors side by side through a trace, or through its first requests."""
    models = (Original(), Aged(), Model())
    right = [0] * len(models)
    steps, before = 0, None
    for key in islice(keys(path), requests):
        if before is not None and key != before:
            steps += 1
            for number, model in enumerate(models):
                right[number] += key in model.predict(before)
                model.learn(before, key)
        before = key
    original, aged, ours = (count / max(steps, 1) for count in right)
    return Row(path.name.removesuffix(".gz"), steps, original, aged, ours)


def main() -> None:
    """Print a line for each trace."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("traces", nargs="+", type=Path, metavar="TRACE")
    parser.add_argument("--quick", action="store_true", help=f"only the first {QUICK:,} requests of each trace")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there too")
    chosen = parser.parse_args()
    print(f"{'trace':24} {'steps':>9} {'original':>9} {'aged count':>11} {'distcache':>10}")
    rows = []
    for path in chosen.traces:
        row = measure(path, QUICK if chosen.quick else None)
        print(
            f"{row.trace:24} {row.steps:9,} {row.original:9.3f} {row.aged_count:11.3f} {row.distcache:10.3f}",
            flush=True,
        )
        rows.append(row)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows], indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
