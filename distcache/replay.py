"""Replays requests through the models of the eviction policies: what each would have missed, and what that costs."""

from __future__ import annotations

import gzip
import re
import zlib
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

from distcache.errors import DistcacheError
from distcache.policies import MODELS, UNBOUNDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

_WRITTEN = re.compile(r"size=(\d{1,15}), compile_time=(\d{1,15}(?:\.\d+)?)ms")
_TOGETHER = re.compile(r"near cache, ([1-9]\d{0,14}) times")
_KEY_ONLY, _WHOLE = 1, 4
_MOST_MS = 1e15  # 30,000 years, as a cache takes them
_SHOWN = 20  # of a number's digits
CLOSE = 0.005
"""Policies that differ by less are equally good; the simpler one is recommended."""
PREFERENCE = ("adaptive", "lru", "gdsf", "cost", "windowed", "lru_freq")
"""Among equally good ones: the default first, then by what they cost the server."""


class Request(NamedTuple):
    """Somebody wants what stands under a key; after a miss it is made and put."""

    key: str
    size: int = 1
    """Bytes."""
    cost: float = 1.0
    """Milliseconds to make it."""
    time_s: float | None = None
    times: int = 1
    """So many requests in a row, with no other between them."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests, and whether sizes and costs are known."""

    requests: Sequence[Request]
    sized: bool

    def entries(self, percent: float) -> int:
        """That share of the unique keys."""
        return max(1, int(len({request.key for request in self.requests}) * percent / 100))

    def bytes(self, percent: float) -> int:
        """That share of the bytes of all outputs."""
        return max(1, int(sum({request.key: request.size for request in self.requests}.values()) * percent / 100))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy makes of a trace under one bound."""

    policy: str
    bound: str
    requests: int
    misses: int
    missed_bytes: int
    saved_s: float
    """Seconds of making that hits saved."""
    avoidable_s: float
    """Seconds that a cache without bounds would have saved."""

    @property
    def miss_ratio(self) -> float:
        """Misses per request."""
        return self.misses / max(1, self.requests)

    @property
    def saved_share(self) -> float:
        """Of what could be saved at all."""
        return self.saved_s / self.avoidable_s if self.avoidable_s else 0.0


def read_trace(path: Path) -> Trace:
    """A file of one request a line: `key`, or `key size_bytes cost_ms time_s`; plain or gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    rows = [(number, fields) for number, line in _lines(path, packed=packed) if (fields := line.split())]
    requests = [_request(path, number, fields) for number, fields in rows]
    return Trace(requests, sized=any(len(fields) == _WHOLE for _number, fields in rows))


def _lines(path: Path, *, packed: bool) -> Iterator[tuple[int, str]]:
    """A file's lines with their numbers."""
    number = 0
    with (gzip.open if packed else open)(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
        try:
            for number, line in enumerate(file, 1):
                yield number, _text(path, number, line)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DistcacheError(
                f"{path.name} cannot be unpacked after line {number} ({error}); pack it again"
            ) from error


def _text(path: Path, number: int, line: str) -> str:
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = f"0x{ord(line[error.start]) - 0xDC00:02x}"
        raise DistcacheError(
            f"line {number} of {path.name} holds the byte {byte}, which is not UTF-8; write it as UTF-8"
        ) from None
    return line


def _request(path: Path, number: int, fields: list[str]) -> Request:
    if len(fields) == _KEY_ONLY:
        return Request(fields[0])
    try:
        key, size, cost, time_s = fields
        request = Request(key, int(size), float(cost), float(time_s))
    except ValueError:
        wanted = "'key' or 'key size_bytes cost_ms time_s'"
        raise DistcacheError(f"line {number} of {path.name} is no request; a line is {wanted}") from None
    if wrong := _wrong(request, fields):
        raise DistcacheError(f"line {number} of {path.name} says {wrong}")
    return request


def _wrong(request: Request, fields: list[str]) -> str:
    """What is no size, no cost or no time, and what would be; empty if all is well. NaN is in no range."""
    _key, size, cost, time_s = (field if len(field) <= _SHOWN else f"{field[:_SHOWN]}..." for field in fields)
    if not 0 <= request.size < UNBOUNDED:
        return f"size_bytes={size}; take bytes from 0 to below 2^53"
    if not 0 <= request.cost < _MOST_MS:
        return f"cost_ms={cost}; take milliseconds from 0 to below 10^15"
    if request.time_s is not None and not isfinite(request.time_s):
        return f"time_s={time_s}; take seconds, a finite number"
    return ""


def from_events(events: Iterable[Mapping[str, Any]]) -> Trace:
    """The requests behind a cache's events, oldest first: hits, misses, and writes that answer no miss.

    A miss is answered by the next write of its key, whatever became of the key in between: a write tells first what it
    made room for. Hits that a near cache reported together are as many requests.
    What a write says of an output holds for all requests of its key. One whose write the stream has lost has the mean
    size and cost of the others.
    """
    wanted: list[tuple[str, float, int]] = []
    known: dict[str, tuple[int, float]] = {}
    missed: set[str] = set()
    for event in events:
        key, now_s = event["key"], event["timestamp"] / 1000
        written = _WRITTEN.search(event["details"]) if event["type"] == "WRITE" else None
        if written:
            known[key] = (int(written[1]), float(written[2]))
        if event["type"] in ("HIT", "MISS") or (event["type"] == "WRITE" and key not in missed):
            wanted.append((key, now_s, _times(event)))
        if event["type"] == "MISS":
            missed.add(key)
        elif event["type"] == "WRITE":
            missed.discard(key)
    many = max(1, len(known))
    mean = (round(sum(size for size, _ in known.values()) / many) or 1, sum(cost for _, cost in known.values()) / many)
    requests = [Request(key, *known.get(key, mean), now_s, times) for key, now_s, times in wanted]
    return Trace(requests, sized=bool(known))


def _times(event: Mapping[str, Any]) -> int:
    together = _TOGETHER.fullmatch(event["details"]) if event["type"] == "HIT" else None
    return int(together[1]) if together else 1


def replay(trace: Trace, policy: str, *, max_entries: int = UNBOUNDED, max_bytes: int = UNBOUNDED) -> Outcome:
    """Run a trace through a policy's model."""
    model = MODELS[policy](max_entries, max_bytes)
    requests = misses = missed_bytes = 0
    saved = avoidable = 0.0
    seen: set[str] = set()
    for key, size, cost, time_s, times in trace.requests:
        hits = int(model.request(key, size, cost, time_s))
        if times > 1 and model.get(key, time_s, times - 1):
            hits += times - 1
        avoidable += cost * (times if key in seen else times - 1)
        seen.add(key)
        saved += cost * hits
        requests += times
        misses += times - hits
        missed_bytes += size * (times - hits)
    bounds = (f"{max_entries:,} entries", max_entries), (f"{max_bytes / 1e6:,.1f} MB", max_bytes)
    bound = ", ".join(text for text, number in bounds if number != UNBOUNDED)
    return Outcome(policy, bound, requests, misses, missed_bytes, saved / 1000, avoidable / 1000)


def means(outcomes: Iterable[Outcome], *, sized: bool) -> dict[str, float]:
    """Of each policy over all bounds: the share of avoidable seconds not saved, or the miss ratio; lower is better."""
    losses: dict[str, list[float]] = {}
    for one in outcomes:
        losses.setdefault(one.policy, []).append(1 - one.saved_share if sized else one.miss_ratio)
    return {policy: sum(values) / len(values) for policy, values in losses.items()}


def recommend(outcomes: Iterable[Outcome], *, sized: bool) -> str:
    """The policy that loses least; among those as good, the simplest."""
    mean = means(outcomes, sized=sized)
    least = min(mean.values())
    return next(policy for policy in PREFERENCE if policy in mean and mean[policy] <= least + CLOSE)
