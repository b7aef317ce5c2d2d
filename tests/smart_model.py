"""A SmartCache in plain Python: what each operation returns and leaves behind, under the policy `lru`.

Entries are named by (key,) while they are the latest version of a key and by (key, hash) when they are older ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from distcache.keys import hash_id, key_id, raw

if TYPE_CHECKING:
    from collections.abc import Iterable

Name = tuple[str, ...]


def packed(name: Name) -> bytes:
    """The id under which the server knows an entry."""
    return b"".join([key_id(raw(name[0])), *(hash_id(raw(one)) for one in name[1:])])


@dataclass
class Entry:
    key: str
    hash: str
    value: str
    size: int
    cost: float
    written: int
    used: int
    ttl: int = 0
    deadline: int = 0
    count: int = 0
    gone: int = 0
    """When the server drops the key by itself, 0 for never."""
    corrupt: bool = False


@dataclass
class Part:
    """One partition."""

    bound_entries: int
    bound_bytes: int
    entries: dict[Name, Entry] = field(default_factory=dict)
    older: dict[str, list[str]] = field(default_factory=dict)
    edges: dict[Name, set[str]] = field(default_factory=dict)
    relics: dict[Name, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(entry.size for entry in self.entries.values())

    def dependents(self, key: str) -> set[Name]:
        return {name for name, names in self.edges.items() if key in names}


class Model:
    """What a SmartCache with these settings would do. `now`: milliseconds, moved by let_pass()."""

    COUNTERS = ("hits", "misses", "writes", "evictions", "expirations", "invalidations", "corrupt")

    def __init__(self, *, partitions: int, versions: int, sliding: bool, history: int) -> None:
        self.count, self.versions, self.sliding, self.cap = partitions, versions, sliding, history
        self.parts: list[Part] = []
        self.now = 0
        self.flush_all()

    def flush_all(self) -> None:
        self.tick = 0
        self.stats = dict.fromkeys(self.COUNTERS, 0)
        self.saved_ms = 0.0
        self.history: dict[str, list[tuple[str, int]]] = {}
        self.parts = [Part(part.bound_entries, part.bound_bytes) for part in self.parts]

    def set_bounds(self, bounds: list[tuple[int, int]]) -> None:
        if not self.parts:
            self.parts = [Part(*bound) for bound in bounds]
        for part, bound in zip(self.parts, bounds, strict=True):
            part.bound_entries, part.bound_bytes = bound

    def of(self, key: str) -> Part:
        return self.parts[int.from_bytes(key_id(raw(key))[:4], "big") % self.count]

    # the graph

    def unlink(self, part: Part, name: Name) -> None:
        pending = [name]
        while pending:
            one = pending.pop()
            part.relics.pop(one, None)
            pending += self.orphans(part, part.edges.pop(one, set()))

    def orphans(self, part: Part, released: Iterable[str]) -> list[Name]:
        """Relics that nothing names any more; with several partitions nobody knows."""
        if self.count > 1:
            return []
        return [(key,) for key in released if (key,) in part.relics and not part.dependents(key)]

    def relink(self, part: Part, name: Name, names: set[str]) -> None:
        before = part.edges.pop(name, set())
        part.relics.pop(name, None)
        if names:
            part.edges[name] = names
        for orphan in self.orphans(part, before - names):
            self.unlink(part, orphan)

    def leave(self, part: Part, name: Name) -> None:
        if name not in part.edges:
            return
        if len(name) == 1 and (self.count > 1 or part.dependents(name[0])):
            part.relics[name] = self.tick
        else:
            self.unlink(part, name)

    def direct(self, part: Part, keys: Iterable[str]) -> list[Name]:
        return list(dict.fromkeys(name for key in keys for name in sorted(part.dependents(key))))

    def closure(self, part: Part, keys: Iterable[str]) -> list[Name]:
        found = self.direct(part, keys)
        for name in found:
            found += [one for one in self.direct(part, [name[0]]) if one not in found]
        return found

    # entries

    def remove(self, part: Part, name: Name) -> Entry | None:
        if len(name) > 1 and name[1] in part.older.get(name[0], ()):
            part.older[name[0]].remove(name[1])
        entry = part.entries.pop(name, None)
        if entry and len(name) == 1:
            self.record(entry)
        return entry

    def record(self, entry: Entry) -> None:
        """The latest version is none any more. One that the server has dropped by itself leaves no record."""
        if not 0 < entry.gone <= self.now:
            self.history[entry.key] = [(entry.hash, entry.written), *self.history.get(entry.key, [])][: self.cap]

    def drop(self, part: Part, name: Name) -> Entry | None:
        entry = self.remove(part, name)
        self.leave(part, name)
        return entry

    def drop_key(self, part: Part, key: str) -> int:
        names = [(key, older) for older in part.older.get(key, ())]
        names += [(key,)] if (key,) in part.entries else []
        for name in names:
            self.drop(part, name)
        return len(names)

    def reap(self, part: Part, limit: int, spared: Name | None = None) -> int:
        due = [name for name, entry in part.entries.items() if 0 < entry.deadline <= self.now]
        due = sorted(due, key=lambda name: (part.entries[name].deadline, packed(name)))[:limit]
        for name in due:
            if name != spared:
                self.drop(part, name)
                self.stats["expirations"] += 1
        return len(due)

    def evict(self, part: Part, more_entries: int, more_bytes: int) -> None:
        while part.entries and (
            len(part.entries) + more_entries > part.bound_entries or part.bytes + more_bytes > part.bound_bytes
        ):
            self.drop(part, min(part.entries, key=lambda name: part.entries[name].used))
            self.stats["evictions"] += 1

    def forget_relics(self, part: Part) -> None:
        while len(part.relics) > part.bound_entries:
            oldest = min(part.relics, key=lambda name: (part.relics[name], packed(name)))
            for name in reversed(self.closure(part, [oldest[0]])):
                if name in part.entries:
                    self.drop(part, name)
                    self.stats["evictions"] += 1
            self.unlink(part, oldest)

    def find(self, key: str, content_hash: str) -> Name | None:
        part, name = self.of(key), (key,)
        if content_hash and (name not in part.entries or part.entries[name].hash != content_hash):
            name = (key, content_hash)
        entry = part.entries.get(name)
        if entry is None or 0 < entry.deadline <= self.now:
            return None
        return name

    def use(self, entry: Entry) -> None:
        entry.count += 1
        entry.used = self.tick
        if self.sliding and entry.ttl:
            entry.deadline = self.now + entry.ttl
            if entry.gone - self.now < entry.ttl + 60_000:
                self.net(entry)

    def net(self, entry: Entry) -> None:
        """The key's own time to live: a safety net, later than the deadline."""
        entry.gone = self.now + 2 * entry.ttl + 120_000 if entry.ttl else 0

    # operations

    def put(self, key: str, content_hash: str, value: str, names: list[str], cost: float, ttl: int) -> bool:
        """False when the value is over the bound of its partition."""
        part, latest, self.tick = self.of(key), (key,), self.tick + 1
        before = part.entries.get(latest)
        expired = before is not None and 0 < before.deadline <= self.now
        if len(value) > part.bound_bytes:
            self.reap(part, 8, spared=latest)
            if expired:
                self.stats["expirations"] += 1
                self.drop(part, latest)
            self.drop_key(part, key)
            self.forget_relics(part)
            return False
        if before and not expired and before.hash != content_hash and self.versions > 1:
            self.demote(part, latest, before)
        elif before:
            self.stats["expirations"] += expired
            self.remove(part, latest)
        self.relink(part, latest, set(names) - {key})
        self.reap(part, 8)
        same = part.entries.get((key, content_hash))
        if same and not 0 < same.gone <= self.now:
            self.drop(part, (key, content_hash))
        while len(part.older.get(key, ())) > self.versions - 1:
            self.drop(part, (key, part.older[key][-1]))
        self.evict(part, 1, len(value))
        deadline = self.now + ttl if ttl else 0
        entry = Entry(key, content_hash, value, len(value), cost, self.tick, self.tick, ttl, deadline)
        self.net(entry)
        part.entries[latest] = entry
        self.forget_relics(part)
        self.stats["writes"] += 1
        return True

    def demote(self, part: Part, latest: Name, entry: Entry) -> None:
        older = (entry.key, entry.hash)
        self.record(entry)
        part.entries[older] = part.entries.pop(latest)
        part.older.setdefault(entry.key, []).insert(0, entry.hash)
        names = part.edges.get(latest)
        if names:
            part.edges[older] = names
            self.unlink(part, latest)

    def get(self, key: str, content_hash: str = "") -> str | None:
        part, name, self.tick = self.of(key), self.find(key, content_hash), self.tick + 1
        if name is None:
            self.stats["misses"] += 1
            return None
        entry = part.entries[name]
        self.use(entry)
        if entry.corrupt:
            self.drop(part, name)
            self.forget_relics(part)
            self.stats["corrupt"] += 1
            self.stats["misses"] += 1
            return None
        self.stats["hits"] += 1
        self.saved_ms += entry.cost
        return entry.value

    def touch(self, key: str, ttl: int | None) -> bool:
        name, self.tick = self.find(key, ""), self.tick + 1
        if name is None:
            return False
        entry = self.of(key).entries[name]
        if ttl is not None:
            entry.ttl = ttl
            entry.deadline = self.now + ttl if ttl else 0
            self.net(entry)
        self.use(entry)
        return True

    def invalidate(self, key: str) -> bool:
        self.tick += 1
        dropped = self.drop_key(self.of(key), key)
        self.forget_relics(self.of(key))
        self.stats["invalidations"] += dropped
        return dropped > 0

    def invalidate_by_dependency(self, key: str, *, transitive: bool) -> set[str]:
        """The keys removed, but for those that the server had dropped by itself."""
        removed, walked, roots = [], set(), [key]
        while roots:
            walked.update(roots)
            met: list[str] = []
            self.tick += 1
            for part in self.parts:
                found = self.closure(part, roots) if transitive else self.direct(part, roots)
                met += [name[0] for name in found]
                for name in reversed(found):
                    if name in part.entries:
                        if not 0 < part.entries[name].gone <= self.now:
                            removed.append(name[0])
                        self.drop(part, name)
                        self.stats["invalidations"] += 1
                if transitive:
                    for name in found:
                        self.unlink(part, name)
                self.forget_relics(part)
            roots = [one for one in dict.fromkeys(met) if one not in walked] if transitive and self.count > 1 else []
        return set(removed)

    def cleanup(self) -> int:
        self.tick += 1
        total = 0
        for part in self.parts:
            total += self.reap(part, 1000)
            self.evict(part, 0, 0)
            self.forget_relics(part)
        return total

    def clear(self) -> int:
        total = 0
        for part in self.parts:
            total += len(part.entries)
            for name in list(part.entries):
                self.remove(part, name)
            part.older.clear()
            part.edges.clear()
            part.relics.clear()
        return total

    # what can be seen

    def live(self) -> list[tuple[Name, Entry]]:
        return [
            (name, entry)
            for part in self.parts
            for name, entry in part.entries.items()
            if not 0 < entry.deadline <= self.now
        ]

    def keys(self) -> set[str]:
        return {entry.key for _name, entry in self.live()}

    def versions_of(self, key: str) -> list[tuple[str, int, int]]:
        """Hash, uses and size of the live versions, the latest first."""
        live = dict(self.live())
        names: list[Name] = [(key,), *((key, older) for older in self.of(key).older.get(key, ()))]
        return [(live[name].hash, live[name].count, live[name].size) for name in names if name in live]

    def history_of(self, key: str) -> list[tuple[str, bool]]:
        entries = self.of(key).entries.values()
        held = {entry.written for entry in entries if entry.key == key and not 0 < entry.gone <= self.now}
        latest = self.of(key).entries.get((key,))
        first = [(latest.hash, latest.written)] if latest and latest.written in held else []
        found = [*first, *self.history.get(key, [])][: self.cap]
        return [(content_hash, tick in held) for content_hash, tick in found]
