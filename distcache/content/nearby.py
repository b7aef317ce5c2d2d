"""A ContentHashCache with a near cache: which of its answers become copies, and what drops one.

Only exact hits are copied, under the very text (or explicit key) that was asked for. An exact answer changes only when
its own entry does, and of that the server tells. What a text finds by its normalized form or as a prefix may change
with an entry whose name is not known here: another text with the same words, a longer one, a newer one. No report could
be told to concern it; so the server is asked each time. See docs/decisions/0015-near-cache.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from distcache.content import ops as steps
from distcache.content import text as texts
from distcache.content.flows import ContentFlows, checked
from distcache.content.records import Found
from distcache.content.text import Query
from distcache.keys import HOME_BYTES, scope_id
from distcache.near import Copy, Near
from distcache.shared import bulk
from distcache.touches import NearbyFlows, Uses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from distcache.config import Request, Settings
    from distcache.content.flows import Opened, Scope
    from distcache.content.ops import ContentOps
    from distcache.content.records import Answer
    from distcache.content.text import Place
    from distcache.keys import Partition
    from distcache.near import Flight, NearCache
    from distcache.op import Flow, Op

T = TypeVar("T")

Name = tuple[Any, ...]
"""What a near cache knows a text or an explicit key by: its scope and itself, not a digest, which takes longer."""


def text_name(scope: Scope, text: str) -> Name:
    """The name of a text."""
    return scope, text


def key_name(scope: Scope, key: str) -> Name:
    """The name of an explicit key, which is none of a text."""
    return scope, key, "key"


class Asking:
    """One look-up. name: what its answer is known by here; name_bytes: how large that is."""

    __slots__ = ("flight", "life_ms", "name", "name_bytes")

    def __init__(self, name: Name, asked: str) -> None:
        """`asked`: the text, or the key."""
        self.name = name
        self.name_bytes = sys.getsizeof(asked)
        self.flight: Flight | None = None
        """The read, once it has landed."""
        self.life_ms = 0
        """For how long the entry will live, less than 0 for ever; 0 if nobody asked."""


@dataclass(slots=True)
class NearQuery(Query):
    """What a look-up asks for."""

    asking: Asking = field(kw_only=True)

    @classmethod
    def of(cls, query: Query, name: Name, asked: str) -> NearQuery:
        """The same query, of the text or key `asked`."""
        words = (query.id, query.check, query.stem, query.scope, query.normal)
        return cls(*words, asking=Asking(name, asked))


def _asking(query: Query) -> Asking:
    assert isinstance(query, NearQuery)  # noqa: S101 - only such are made here
    return query.asking


class NearContentFlows(NearbyFlows["ContentOps"], ContentFlows):
    """The operations of one ContentHashCache object that has a near cache."""

    near: Near[str]

    def __init__(
        self, request: Request, settings: Settings, bounds: NearCache, lock: Callable[[], Any], **named: Any
    ) -> None:
        super().__init__(request, settings, **named)
        self.near = Near(bounds, lambda _name: False, lock, counts=not settings.read_only)
        self._uses = Uses(self.near.log)

    # -- looking up

    def _text_query(self, scope: Scope, text: str) -> NearQuery:
        return NearQuery.of(super()._text_query(scope, text), text_name(scope, text), text)

    def _key_query(self, scope: Scope, key: str) -> NearQuery:
        return NearQuery.of(super()._key_query(scope, key), key_name(scope, key), key)

    def get_many(self, scope: Scope, queries: Iterable[str]) -> Flow[dict[str, str]]:
        """The signatures of those texts that hit, here or there."""
        wanted = list(dict.fromkeys(map(checked, queries)))
        found = {text: self.near.get(text_name(scope, text), "") for text in wanted}
        rest = [text for text in wanted if found[text] is None]
        if rest:
            found.update((yield from super().get_many(scope, rest)))
        return {text: signature for text, signature in found.items() if signature is not None}

    def _ask_one(self, ops: ContentOps, query: Query, levels: str, text: str, *, final: bool = True) -> Flow[Answer]:
        wanted: list[Op[Any]] = [self._look(ops, query, levels, text, final=final)]
        if self.near.listening:
            wanted.append(ops.life(ops.home(query), [query.id]))
        results: list[Any] = yield from self._flying([query], self._with_riders(ops, *wanted))
        answer: Answer = results[0]
        self._landed(query, answer, results[1][0] if len(results) > 1 else 0)
        return answer

    def _ask_all(self, ops: ContentOps, queries: list[Query]) -> Flow[list[Answer]]:
        of: dict[Partition, list[Query]] = {}
        for query in queries if self.near.listening else ():
            of.setdefault(ops.home(query), []).append(query)
        looks: list[Op[Any]] = [self._look(ops, query, steps.WHOLE, self._proof) for query in queries]
        lives = [ops.life(part, [query.id for query in asked]) for part, asked in of.items()]
        results = yield from self._flying(queries, bulk([*looks, *lives]))
        answers = results[: len(looks)]
        left: dict[bytes, int] = {}
        for asked, lives_ms in zip(of.values(), results[len(looks) :], strict=True):
            left.update(zip((query.id for query in asked), lives_ms, strict=True))
        for query, answer in zip(queries, answers, strict=True):
            self._landed(query, answer, left.get(query.id, 0))
        return answers

    def _flying(self, queries: list[Query], flow: Flow[T]) -> Flow[T]:
        """Run a flow that looks them up. If it fails, nothing was seen."""
        flights = [self.near.begin(query.id) for query in queries]
        try:
            result = yield from flow
        except BaseException:
            for query, flight in zip(queries, flights, strict=True):
                self.near.abandon(query.id, flight)
            raise
        for query, flight in zip(queries, flights, strict=True):
            _asking(query).flight = flight
        return result

    def _landed(self, query: Query, answer: Answer, life_ms: int) -> None:
        _asking(query).life_ms = life_ms
        if not isinstance(answer, Found) or answer.id != query.id:
            self.near.forget(query.id)

    def _judged(self, query: Query, answer: Answer) -> Opened | None:
        opened = super()._judged(query, answer)
        if opened is not None:
            signature, _text, found = opened
            if found.id == query.id:
                self._complete(query, signature)
            else:
                self.near.met(found.id, signature)
        return opened

    def _complete(self, query: Query, signature: str) -> None:
        asking = _asking(query)
        home, size = query.check[:HOME_BYTES], asking.name_bytes
        copy = Copy(asking.name, b"", query.id, signature, home=home, key_bytes=size)
        assert asking.flight is not None  # noqa: S101 - it has landed
        self.near.complete(query.id, asking.flight, copy, self._life_s(self._left_ms(asking.life_ms)))

    def _left_ms(self, life_ms: int) -> int | None:
        """An entry without a deadline in a cache that has them is one whose deadline was lost: it is not kept here."""
        assert self.config is not None  # noqa: S101 - it has been read from
        if life_ms >= 0:
            return life_ms
        return 0 if self.config.ttl_ms else None

    def _discard(self, found: Found) -> Flow[None]:
        self.near.forget(found.id)
        yield from super()._discard(found)

    # -- changing: whatever came of it, what was copied before is not handed out after

    def _set(self, place: Place, signature: str) -> Flow[bool]:
        try:
            return (yield from super()._set(place, signature))
        finally:
            self.near.forget(place.id)

    def set_many(self, scope: Scope, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> Flow[int]:
        """Store several signatures; how many were stored."""
        pairs = dict(items)
        try:
            return (yield from super().set_many(scope, pairs))
        finally:
            for text in pairs:
                if isinstance(text, str):  # else it was refused
                    self.near.forget(texts.text_id(scope_id(scope), text))

    def clear(self, scope: Scope) -> Flow[int]:
        """Remove the entries of a scope; which those are is known to the server only."""
        try:
            return (yield from super().clear(scope))
        finally:
            self.near.empty()


def flows_for(request: Request, settings: Settings, lock: Callable[[], Any], **named: Any) -> ContentFlows:
    """The operations of a ContentHashCache, with a near cache if its settings name one; `lock` makes a lock."""
    if settings.near is None:
        return ContentFlows(request, settings, **named)
    return NearContentFlows(request, settings, settings.near, lock, **named)
