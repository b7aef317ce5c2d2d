"""A SmartCache with a near cache: what its operations tell it, and how the uses of its copies reach the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from distcache.keys import hash_id, key_bytes, key_id, raw, unraw
from distcache.near import Copy, Flight, Near
from distcache.smart.flows import SmartFlows
from distcache.smart.records import Found
from distcache.touches import NearbyFlows, Uses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distcache.config import Request, Settings
    from distcache.near import NearCache
    from distcache.op import Flow
    from distcache.smart.ops import SmartOps
    from distcache.smart.records import Dump, EntryInfo

    Output = str | bytes

T = TypeVar("T")


@dataclass(slots=True)
class NearFound(Found):
    """What a read found."""

    flight: Flight | None = None
    """The read, while it may become a copy."""


class NearFlows(NearbyFlows["SmartOps"], SmartFlows):
    """The operations of one SmartCache object that has a near cache."""

    near: Near[Output]

    def __init__(
        self, request: Request, settings: Settings, owner: Callable[[], int], bounds: NearCache, lock: Callable[[], Any]
    ) -> None:
        super().__init__(request, settings, owner)
        self.near = Near(bounds, self.learner.saw_near, lock, counts=not settings.read_only)
        self._uses = Uses(self.near.log)

    # -- reading

    def _read(self, ops: SmartOps, name: bytes, wanted: bytes) -> Flow[Found | None]:
        one = key_id(name)
        flight = self.near.begin(one)
        try:
            found = yield from super()._read(ops, name, wanted)
        except BaseException:
            self.near.abandon(one, flight)
            raise
        return self._landed(one, unraw(wanted), flight, found)

    def get_many(self, keys: Iterable[str]) -> Flow[dict[str, Output]]:
        """The outputs of those keys that hit, here or there."""
        wanted = list(dict.fromkeys(keys))
        outputs = {key: self.near.get(key, "") for key in wanted}
        rest = [key for key in wanted if outputs[key] is None]
        if rest:
            outputs.update((yield from super().get_many(rest)))
        return {key: output for key, output in outputs.items() if output is not None}

    def _read_many(self, ops: SmartOps, names: Sequence[bytes]) -> Flow[list[Found | None]]:
        flights = {one: self.near.begin(one) for one in map(key_id, names)}
        try:
            found = yield from super()._read_many(ops, names)
        except BaseException:
            for one, flight in flights.items():
                self.near.abandon(one, flight)
            raise
        return [self._landed(one, "", flight, each) for (one, flight), each in zip(flights.items(), found, strict=True)]

    def _landed(self, one: bytes, wanted: str, flight: Flight, found: Found | None) -> Found | None:
        if found is None:
            self.near.saw(one, wanted, None)
            return None
        read = (found.blob, found.content_hash, found.left_ms, found.cost_ms, found.older, found.ttl_ms)
        return NearFound(*read, flight)

    def decoded(self, name: bytes, found: Found, *, counted: bool = True) -> Flow[Output | None]:
        """The output itself, which becomes a copy if this came of a read."""
        one = key_id(name)
        output: Output | None = yield from super().decoded(name, found, counted=counted)
        if output is None:
            self.near.forget(one)
        else:
            older = hash_id(found.content_hash) if found.older else b""
            copy = Copy(unraw(name), name, one, output, unraw(found.content_hash), older)
            flight = found.flight if isinstance(found, NearFound) else None
            self.near.complete(one, flight or Flight(), copy, self._life_s(found.left_ms))
        return output

    def has(self, key: str, content_hash: str = "") -> Flow[bool]:
        """Whether a get would hit; counts nothing."""
        name, wanted = key_bytes(key), raw(content_hash)
        found = yield from self.agreed(lambda ops: iter(ops.peek(name, wanted, bare=True)))
        if found is None or not found.older:
            self.near.saw(key_id(name), content_hash, unraw(found.content_hash) if found else None)
        return found is not None

    def inspect(self, key: str) -> Flow[EntryInfo | None]:
        """All metadata of a key."""
        yield from self.flush()
        info = yield from super().inspect(key)
        self.near.saw(key_id(key_bytes(key)), "", info.content_hash if info else None)
        return info

    # -- changing: whatever came of it, what was copied before is not handed out after

    def put(self, key: str, *parameters: Any, **named: Any) -> Flow[bool]:
        """Store an output."""
        return (yield from self._changing([key], super().put(key, *parameters, **named)))

    def put_many(self, items: Iterable[Mapping[str, Any]]) -> Flow[int]:
        """Store several outputs."""
        listed = list(items)
        return (yield from self._changing([item["key"] for item in listed], super().put_many(listed)))

    def invalidate(self, key: str) -> Flow[bool]:
        """Remove all versions of a key."""
        return (yield from self._changing([key], super().invalidate(key)))

    def touch(self, key: str, ttl_seconds: float | None = None) -> Flow[bool]:
        """Count a use without reading, and start the time to live anew if one is given."""
        return (yield from self._changing([key], super().touch(key, ttl_seconds)))

    def invalidate_by_dependency(self, dep_key: str, transitive: bool = False) -> Flow[dict[str, float]]:
        """Remove what depends on a key."""
        try:
            removed = yield from super().invalidate_by_dependency(dep_key, transitive)
        except BaseException:
            self.near.empty()
            raise
        self._forget(removed)
        return removed

    def clear(self) -> Flow[int]:
        """Remove all entries and all that was learned."""
        try:
            return (yield from super().clear())
        finally:
            self.near.empty()

    def _changing(self, keys: Iterable[str], flow: Flow[T]) -> Flow[T]:
        try:
            return (yield from flow)
        finally:
            self._forget(keys)

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            if isinstance(key, str):  # else it was refused
                self.near.forget(key_id(raw(key)))

    def changed(self, name: bytes) -> None:
        """Another than these operations has changed a key, or tried to."""
        self.near.forget(key_id(name))

    # -- what is asked of the server takes the uses of copies into account

    def dump(self) -> Flow[list[tuple[Dump, Output]]]:
        """Every entry whole, for saving."""
        yield from self.flush()
        return (yield from super().dump())

    def get_hot_entries(self, count: int = 10) -> Flow[list[dict[str, Any]]]:
        """The most used entries, most used first."""
        yield from self.flush()
        return (yield from super().get_hot_entries(count))

    def get_recent_events(self, count: int = 100) -> Flow[list[dict[str, Any]]]:
        """The last events of the whole cache, oldest first."""
        yield from self.flush()
        return (yield from super().get_recent_events(count))


def flows_for(request: Request, settings: Settings, owner: Callable[[], int], lock: Callable[[], Any]) -> SmartFlows:
    """The operations of a SmartCache, with a near cache if its settings name one; `lock` makes a lock."""
    if settings.near is None:
        return SmartFlows(request, settings, owner)
    return NearFlows(request, settings, owner, settings.near, lock)
