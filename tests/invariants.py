"""What must be true of the keys of every cache, whatever happened to it (DESIGN section 3).

Each rule is a function that yields sentences about what is wrong, of one partition of one cache.
"""

from __future__ import annotations

import itertools
import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from struct import Struct
from typing import TYPE_CHECKING, Any

import packed

from distcache.config import EVENT_KINDS, SharedConfig
from distcache.keys import hash_id, key_id, raw
from distcache.smart.likely import LIFE, SOON_SHARE
from distcache.smart.records import HistoryRecord, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyspace import Keyspace, Stored

ID, OLDER = 16, 24
TOLD, WEIGHT = Struct("<dBB"), Struct("<d")
"""The fields of what came after a key: the clock with how many there are of each kind, and one key's weight."""
LATE_MS = 1000
"""How much later than its entry's deadline a key's own time to live may lie within one reading."""

PERMANENT = ("state", "score", "usage", "deadline", "ghost", "ghost_old", "events", "edges", "relics", "histories")
PERMANENT += ("retired", "learned", "prefixes", "indexed", "queue", "queue_low", "delayed", "dead", "workers")
PERMANENT_PREFIXES = ("e:", "r:", "v:", "t:")
TEMPORARY_PREFIXES = ("q:", "h:", "a:", "w:", "f:")
TYPES = {
    **dict.fromkeys(("state", "usage", "ghost", "ghost_old", "edges", "indexed", "e:", "a:", "t:", "w:", "f:"), "hash"),
    **dict.fromkeys(("retired", "retired_old"), "hash"),
    **dict.fromkeys(("score", "deadline", "relics", "histories", "learned", "prefixes"), "zset"),
    **dict.fromkeys(("delayed", "dead", "workers", "predicted", "voided"), "zset"),
    **dict.fromkeys(("events", "queue", "queue_low", "wakes"), "stream"),
    "q:": "string",
    "r:": "set",
    "v:": "list",
    "h:": "list",
}
STREAM_NODE = 100
"""XADD MAXLEN ~ trims whole nodes of this many events."""
UNTRIMMED = 256
"""Reads in a row of which none trims; one in 16 does, so that more of them would be one case in ten millions. All else
that is written there trims."""
READS = (b"HIT", b"MISS")
FOLLOWERS = 48
"""Of one kind, after one key."""
VOIDED = 10_001
"""Marks of invalidations, and one for those that went."""
RATES = {"adaptive": (0.2, 2), "cost": (0.5, 2), "windowed": (0, 1)}
"""What a policy may learn."""
PATIENCE = 64
"""Misses that a later put may answer."""
GHOSTS = {"adaptive": 1.25, "cost": 1.25, "windowed": 2}
"""Keys that one generation of ghosts may hold, in entries."""


@dataclass
class Partition:
    """The keys of one partition, sorted by what they are."""

    tag: bytes
    now_ms: int
    keys: dict[bytes, Stored]
    lowered: bool = False
    """Bounds, caps or versions were lowered: what is not an entry's place is trimmed to them as it is written."""
    damaged: bool = False
    """Keys were removed or changed behind the cache's back."""
    state: dict[str, str] = field(init=False)
    live: dict[str, str] = field(init=False)
    """What of it the scripts read and change."""
    _sorted: dict[str, dict[bytes, Stored]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        stored = self.keys.get(b"state")
        self.state = {name.decode(): value.decode() for name, value in stored.value.items()} if stored else {}
        live = self.one("usage", {}).get(packed.STATE)
        self.live = packed.parse_state(live) if live else {}
        self.state = self.live | self.state

    def one(self, name: str, default: Any) -> Any:
        stored = self.keys.get(name.encode())
        return stored.value if stored else default

    def many(self, prefix: str) -> dict[bytes, Stored]:
        start = prefix.encode()
        if prefix not in self._sorted:
            self._sorted[prefix] = self._with_prefix(start)
        return self._sorted[prefix]

    def _with_prefix(self, start: bytes) -> dict[bytes, Stored]:
        return {rest[len(start) :]: stored for rest, stored in self.keys.items() if rest.startswith(start)}

    def number(self, name: str) -> float:
        return float(self.state.get(name, 0))

    @cached_property
    def score(self) -> dict[bytes, float]:
        return self.one("score", {})

    @cached_property
    def usage(self) -> dict[bytes, packed.Usage]:
        return packed.usages(self.one("usage", {}))

    @cached_property
    def deadline(self) -> dict[bytes, float]:
        return self.one("deadline", {})

    @cached_property
    def edges(self) -> dict[bytes, list[bytes]]:
        return {one: split(ids) for one, ids in self.one("edges", {}).items()}


def split(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID] for at in range(0, len(ids), ID)]


def problems(keyspace: Keyspace, *, lowered: bool = False, damaged: bool = False) -> list[str]:
    """Everything that is wrong with the keys of a server, as sentences; none means that all is well."""
    found = []
    for tag, keys in keyspace.tags().items():
        if not tag:
            found += [f"{rest!r} is no key of a cache" for rest in keys]
            continue
        part = Partition(tag, keyspace.now_ms, keys, lowered, damaged)
        rules = [*COMMON, *KINDS.get(part.state.get("kind", ""), ())]
        for rule in rules:
            try:
                found += [f"{tag.decode()} {rule.__name__}: {what}" for what in rule(part)]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                found.append(f"{tag.decode()} {rule.__name__}: unreadable, {error!r}")
    return found


# any cache


def known_keys(part: Partition) -> Iterator[str]:
    """Every key is one that keys.py names, of its type, and lives for ever only if it is one of those that may."""
    for rest, stored in part.keys.items():
        name, colon, _ = rest.partition(b":")
        name = (name + colon).decode("latin-1")
        if name not in TYPES:
            yield f"unknown key {rest!r}"
        elif stored.kind != TYPES[name]:
            yield f"{rest!r} is a {stored.kind}"
        elif stored.ttl_ms < 0 and name not in PERMANENT + PERMANENT_PREFIXES:
            yield f"{rest!r} has no time to live and is not declared permanent"
        elif stored.ttl_ms >= 0 and name in PERMANENT:
            yield f"{rest!r} is permanent and has a time to live"


def whole_state(part: Partition) -> Iterator[str]:
    """The config can be read, the clocks are numbers, the counters are whole and not negative."""
    if b"state" not in part.keys:
        if any(name in part.keys for name in (b"score", b"usage")):
            yield "there are entries and no state"
        return
    config = SharedConfig.from_fields(part.state)
    number = int(part.tag.rsplit(b":", 2)[1].rstrip(b"}"))
    if (int(part.number("bound_entries")), int(part.number("bound_bytes"))) != config.bounds(number):
        yield f"the bounds are not partition {number}'s share of the whole"
    for name in ("hits", "misses", "writes", "evictions", "expirations", "invalidations", "corrupt", "bytes", "tick"):
        if part.number(name) < 0 or part.number(name) != int(part.number(name)):
            yield f"{name} is {part.state[name]}"
    for name in ("t", "r", "saved_ms", "p1", "rate"):
        if not math.isfinite(part.number(name)) or part.number(name) < 0:
            yield f"{name} is {part.state[name]}"
    least, most = RATES.get(part.state["policy"], (0, 0))
    rate_fits = least <= part.number("rate") <= most or part.state["scored"] != part.state["policy"]
    if not rate_fits or part.number("p1") > 1 or not 0 <= part.number("asked") <= PATIENCE:
        yield f"a clock of the policy is out of its range: {part.state}"
    if part.number("capacity") < 1:
        yield f"capacity is {part.state['capacity']}"


def one_config(part: Partition) -> Iterator[str]:
    """What the scripts read of the config is what was agreed on."""
    agreed = part.one("state", {})
    for name in part.live.keys() & {name.decode() for name in agreed}:
        if part.live[name] != agreed[name.encode()].decode():
            yield f"{name} is agreed to be {agreed[name.encode()]!r}, and the scripts read {part.live[name]!r}"


def requests(part: Partition) -> Iterator[str]:
    """The mark of a request is gone after a minute."""
    for request, stored in part.many("q:").items():
        if not 0 <= stored.ttl_ms <= 60_000:
            yield f"the mark of request {request!r} stays for {stored.ttl_ms} ms"


def stream(part: Partition) -> Iterator[str]:
    """Events are bounded and of the kinds that the cache writes."""
    events = part.one("events", [])
    cap = part.number("event_cap")
    newest = itertools.takewhile(lambda row: any(kind in row[1] for kind in READS), reversed(events))
    untrimmed = sum(1 for _ in itertools.islice(newest, UNTRIMMED))
    if len(events) > cap + STREAM_NODE + untrimmed and not part.lowered:
        yield f"there are {len(events)} events for a cap of {cap}"
    for _stamp, fields in events:
        kind = next(iter(fields)).decode()
        if kind not in EVENT_KINDS or not set(fields) <= {kind.encode(), b"d"}:
            yield f"an event is {fields}"


# SmartCache


def queue(part: Partition) -> Iterator[str]:
    """A task is in one place: a stream entry that it names, `delayed`, or `dead`."""
    tasks, delayed, dead = part.many("t:"), part.one("delayed", {}), part.one("dead", {})
    places: dict[bytes, list[bytes]] = {}
    for name in ("queue", "queue_low"):
        for entry, fields in part.one(name, []):
            places.setdefault(fields[b"t"], []).append(entry)
    for one, stored in tasks.items():
        entry = stored.value[b"e"]
        where = (one in delayed) + (one in dead) + (entry in places.get(one, ()))
        if where != 1:
            yield f"the task {one.hex()} is in {where} places"
        if one[:ID] != key_id(stored.value[b"k"]) or one[ID:] != hash_id(stored.value[b"h"]):
            yield f"the task {one.hex()} is about another key or hash"
    for one in dead.keys() - tasks.keys():
        yield f"the dead letter {one.hex()} says nothing"


def entries(part: Partition) -> Iterator[str]:
    """Members of score and usage are the same, each has its entry or a deadline in the past; no entry is on its own."""
    score, usage, deadline, stored = part.score, part.usage, part.deadline, part.many("e:")
    for one in score.keys() ^ usage.keys():
        yield f"{one.hex()} is only in {'score' if one in score else 'usage'}"
    if not part.damaged:
        for one in score.keys() - stored.keys():
            if deadline.get(one, math.inf) > part.now_ms:
                yield f"{one.hex()} is in score, has no entry and has not expired"
        for one in deadline.keys() - score.keys():
            yield f"{one.hex()} is in deadline only"
    for one in stored.keys() - score.keys():
        yield f"the entry {one.hex()} is in no index"
    for one, points in score.items():
        if not math.isfinite(points):
            yield f"{one.hex()} has the score {points}"


def identity(part: Partition) -> Iterator[str]:
    """An entry stands under the digest of its key (and, an older version, of its hash), in its key's partition."""
    number = int(part.tag.rsplit(b":", 2)[1].rstrip(b"}"))
    count = int(part.number("partitions"))
    for one, stored in part.many("e:").items():
        entry = stored.value
        if set(entry) - {b"p", b"g"} != {b"k", b"h", b"i", b"o", b"m", b"t", b"w"}:
            yield f"the entry {one.hex()} has the fields {sorted(entry)}"
            continue
        if key_id(entry[b"k"]) != one[:ID] or hash_id(entry[b"h"]) != entry[b"i"]:
            yield f"the entry {one.hex()} has another key or hash"
        if len(one) not in (ID, OLDER) or (len(one) == OLDER and one[ID:] != entry[b"i"]):
            yield f"the older version {one.hex()} has another hash"
        if int.from_bytes(one[:4], "big") % count != number:
            yield f"the entry {one.hex()} belongs to another partition"
        if float(entry[b"w"]) > part.number("tick"):
            yield f"the entry {one.hex()} was written in the future"


def deadlines(part: Partition) -> Iterator[str]:
    """An entry's deadline is the same in both places, and its key lives longer than it."""
    deadline, stored = part.deadline, part.many("e:")
    for one, use in part.usage.items():
        if deadline.get(one, 0) != use.deadline:
            yield f"{one.hex()} has the deadline {use.deadline} and in the index {deadline.get(one, 0)}"
        if (use.deadline > 0) != (use.ttl > 0):
            yield f"{one.hex()} has the deadline {use.deadline} and the time to live {use.ttl}"
        if one not in stored:
            continue
        left = stored[one].ttl_ms
        if use.deadline == 0 and left >= 0:
            yield f"the entry {one.hex()} stays, and its key has a time to live of {left} ms"
        if use.deadline > 0 and left < use.deadline - part.now_ms:
            yield f"the key of {one.hex()} goes {use.deadline - part.now_ms - left} ms before its deadline"


def bounds(part: Partition) -> Iterator[str]:
    """Sizes add up, and the bounds hold."""
    total = sum(use.size for use in part.usage.values())
    if total != part.number("bytes"):
        yield f"the sizes add up to {total} and the state says {part.number('bytes')}"
    if len(part.score) > part.number("bound_entries"):
        yield f"{len(part.score)} entries where {part.number('bound_entries')} are allowed"
    if total > part.number("bound_bytes"):
        yield f"{total} bytes where {part.number('bound_bytes')} are allowed"


def graph(part: Partition) -> Iterator[str]:
    """Edges are mutual, and belong to an entry or to a relic."""
    edges, dependents = part.edges, {one: stored.value for one, stored in part.many("r:").items()}
    for one, others in edges.items():
        if not others or len(set(others)) != len(others) or any(len(other) != ID for other in others):
            yield f"the edges of {one.hex()} are not a list of ids, each once"
        for other in others:
            if other == one[:ID]:
                yield f"{one.hex()} depends on itself"
            if one not in dependents.get(other, ()):
                yield f"{one.hex()} depends on {other.hex()}, which does not know"
    for other, members in dependents.items():
        for one in members:
            if other not in edges.get(one, ()):
                yield f"{other.hex()} has the dependent {one.hex()}, which does not know"


def relics(part: Partition) -> Iterator[str]:
    """What has edges and is no entry is a relic, that something depends on; there are as many as entries at most."""
    edges, score, kept = part.edges, part.score, part.one("relics", {})
    for one in edges.keys() - score.keys() - kept.keys():
        yield f"{one.hex()} has edges and is neither an entry nor a relic"
    for one in kept:
        if one in score or len(one) != ID:
            yield f"the relic {one.hex()} is an entry"
        if one not in edges:
            yield f"the relic {one.hex()} has no edges"
        if part.number("partitions") == 1 and one not in part.many("r:"):
            yield f"nothing depends on the relic {one.hex()}"
    if len(kept) > part.number("bound_entries") and not part.lowered:
        yield f"there are {len(kept)} relics"


def dependencies(part: Partition) -> Iterator[str]:
    """The edges of an entry are the dependencies that were put with it."""
    edges = part.edges
    for one, stored in part.many("e:").items():
        if part.damaged:
            return
        names = Metadata.decode(stored.value[b"m"]).dependencies
        wanted = {key_id(raw(name)) for name in names} - {one[:ID]}
        if wanted != set(edges.get(one, ())):
            yield f"{one.hex()} was put with other dependencies than its edges"


def versions(part: Partition) -> Iterator[str]:
    """The lists of older versions and the entries of older versions are the same."""
    listed = []
    for one, stored in part.many("v:").items():
        listed += [one + older for older in stored.value]
        if len(stored.value) > part.number("versions") - 1 and not part.lowered:
            yield f"{one.hex()} has {len(stored.value)} older versions"
    if len(set(listed)) != len(listed):
        yield "an older version is listed twice"
    for one in set(listed) ^ {one for one in part.score if len(one) == OLDER}:
        yield f"the older version {one.hex()} is {'listed and no entry' if one in listed else 'an entry not listed'}"


def histories(part: Partition) -> Iterator[str]:
    """Histories are listed, bounded in number and length, and pass."""
    known, cap = part.one("histories", {}), part.number("history")
    for one, stored in part.many("h:").items():
        if one not in known:
            yield f"the history of {one.hex()} is not listed"
        yield from lasting(part, f"the history of {one.hex()}", stored)
        if len(stored.value) > cap and not part.lowered:
            yield f"the history of {one.hex()} has {len(stored.value)} records"
    if len(known) > 4 * part.number("bound_entries") and not part.lowered:
        yield f"there are {len(known)} histories"


def retired(part: Partition) -> Iterator[str]:
    """The records of keys that were compiled once are bounded in number, and the older generation passes."""
    for name in ("retired", "retired_old"):
        records = part.one(name, {})
        if len(records) > 2 * part.number("bound_entries") and not part.lowered:
            yield f"{name} has {len(records)} records"
        if any(len(one) != ID for one in records):
            yield f"{name} has a record of no key"
        if records.keys() & part.many("h:").keys():
            yield f"{name} has a record of a key that has a list"
    if part.one("retired", {}).keys() & part.one("retired_old", {}).keys():
        yield "a key has two retired records"
    if (stored := part.keys.get(b"retired_old")) is not None:
        yield from lasting(part, "retired_old", stored)


def lasting(part: Partition, name: str, stored: Stored) -> Iterator[str]:
    """What is kept of compiles for so long."""
    if not 0 <= stored.ttl_ms <= part.number("history_age_ms") and not part.lowered:
        yield f"{name} stays for {stored.ttl_ms} ms"


def compiles(part: Partition) -> Iterator[str]:
    """The records of a key, from whichever place, can be read and are in order: from the entry to the oldest."""
    found: dict[bytes, list[float]] = {}
    for one, stored in part.many("e:").items():
        if len(one) == ID:
            found[one] = [float(stored.value[b"w"])]
    records = [(one, record) for one, stored in part.many("h:").items() for record in stored.value]
    records += [*part.one("retired", {}).items(), *part.one("retired_old", {}).items()]
    for one, record in records:
        if HistoryRecord.decode((record, 0)) is None:
            yield f"the history of {one.hex()} has a record that cannot be read"
            return
        found.setdefault(one, []).append(float(record.split(b" ")[0]))
    for one, ticks in found.items():
        if ticks != sorted(set(ticks), reverse=True):
            yield f"the history of {one.hex()} is out of order"


def lessons(part: Partition) -> Iterator[str]:
    """What came after a key is listed, bounded in number and size, and passes."""
    learned, there = part.one("learned", {}), part.many("a:")
    listed = {one[:ID] for one in learned}
    for one in learned:
        if key_id(one[ID:]) != one[:ID]:
            yield f"a lesson of {one.hex()} is about another key"
        if one[:ID] not in there:
            yield f"the lessons of {one[:ID].hex()} are listed and not there"
    for one, stored in there.items():
        if one not in listed:
            yield f"the lessons of {one.hex()} are not listed"
        if stored.ttl_ms < 0:
            yield f"the lessons of {one.hex()} have {stored.ttl_ms} ms to live"
        yield from followed(one.hex(), stored.value)
    if len(learned) > 4 * part.number("bound_entries") and not part.lowered:
        yield f"there are {len(learned)} lessons"


def followed(name: str, fields: dict[bytes, bytes]) -> Iterator[str]:
    """Of each kind no more than may be, and as many as the clock's field says; none weighs more than can be counted."""
    if len(fields.get(b"", b"")) != TOLD.size:
        yield f"the lessons of {name} have no clock"
        return
    clock, *counts = TOLD.unpack(fields[b""])
    for kind, count, most in zip((b"n", b"s"), counts, (1, SOON_SHARE), strict=True):
        weights = [WEIGHT.unpack(value)[0] for field, value in fields.items() if field[:1] == kind]
        if len(weights) != count or count > FOLLOWERS:
            yield f"{len(weights)} keys of kind {kind.decode()} came after {name}, counted as {count}"
        if any(weight > clock + math.log2(most * (2 * LIFE + 1)) for weight in weights):
            yield f"a follower of {name} weighs more than can be counted"


def ghosts(part: Partition) -> Iterator[str]:
    """What is remembered of evicted keys is bounded, and not about keys that are there."""
    for name in ("ghost", "ghost_old"):
        remembered = part.one(name, {})
        most = GHOSTS.get(part.state["policy"], 0) * part.number("bound_entries")
        if len(remembered) > math.ceil(most) and not part.lowered:
            yield f"{name} remembers {len(remembered)} keys"
        for one in remembered.keys() & part.score.keys():
            if len(one) == ID:
                yield f"{name} remembers {one.hex()}, which is there"
        for text in remembered.values():
            if not re.fullmatch(rb"\S+ \d+ \d+", text):
                yield f"{name} has {text!r}"


def flights(part: Partition) -> Iterator[str]:
    """A lease has an owner, a fence that was handed out, and an end."""
    for one, stored in part.many("f:").items():
        lease = stored.value
        if set(lease) - {b"w"} != {b"o", b"n", b"x"} or len(one) not in (ID, OLDER):
            yield f"the lease {one.hex()} has the fields {sorted(lease)}"
        elif not 0 < int(lease[b"n"]) <= part.number("fence"):
            yield f"the lease {one.hex()} has the fence {lease[b'n']!r}"
        elif int(lease[b"x"]) > part.now_ms + stored.ttl_ms:
            yield f"the lease {one.hex()} goes before its end"


def voids(part: Partition) -> Iterator[str]:
    """A mark names a key, or all, and a fence that was handed out; there are so many at most."""
    marks = part.one("voided", {})
    if len(marks) > VOIDED:
        yield f"{len(marks)} keys are marked as invalidated"
    for one, fence in marks.items():
        if len(one) not in (0, ID) or not 0 < fence <= part.number("fence"):
            yield f"{one.hex()} is marked as invalidated at {fence}"


Rule = "Callable[[Partition], Iterator[str]]"
COMMON = (known_keys, whole_state, one_config, requests, stream)
SMART = (
    *(queue, entries, identity, deadlines, bounds, graph, relics, dependencies, versions),
    *(histories, retired, compiles, lessons, ghosts),
)
SMART += (flights, voids)
KINDS: dict[str, tuple[Any, ...]] = {"smart": SMART}
"""What else holds for a kind of cache; a test module may add its own."""
