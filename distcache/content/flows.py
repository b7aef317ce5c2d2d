"""What a ContentHashCache does, written once: each operation as a flow that a sync or an async driver runs."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.codec import Codec
from distcache.config import whole
from distcache.content import ops as steps
from distcache.content import text as texts
from distcache.content.ops import ContentOps
from distcache.content.records import Ambiguous, Found, Match, summary
from distcache.errors import ConfigError, CorruptEntry, ServerError, Unavailable, ValueTooLarge
from distcache.keys import KEY_ID_BYTES, Keyspace, raw, scope_id, unraw
from distcache.op import Batch
from distcache.shared import CHUNK, SharedFlows, merge, together

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from distcache.config import OnAmbiguous, Request, Settings, SharedConfig
    from distcache.content.records import Answer
    from distcache.content.text import Place, Query
    from distcache.near import Near
    from distcache.op import Flow, Op

Scope = tuple[str, ...]
Opened = tuple[str, str, "Found"]
"""The signature, the original text if it was sent, and what both were decoded from."""
Wanted = tuple["Place", str, bytes]
"""Where to store, the signature, and the same as bytes."""

TIDY_S = 1.0
"""How often a client that uses a cache also removes what has expired."""


class ContentFlows(SharedFlows[ContentOps]):
    """The operations of one ContentHashCache object and of its scoped views."""

    near: Near[str] | None = None
    """Answers before any of this is asked; see `nearby`."""

    def __init__(
        self,
        request: Request,
        settings: Settings,
        *,
        min_prefix_length: int,
        ambiguous: OnAmbiguous = "miss",
        validator: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(request, settings)
        if ambiguous not in ("miss", "newest"):
            raise ConfigError(f"ambiguous={ambiguous!r} is unknown; take 'miss' or 'newest'")
        self.codec = Codec(sign_keys=settings.sign_keys, max_value_bytes=settings.max_value_bytes)
        self.min_prefix_length = min_prefix_length
        self.counts = dict.fromkeys(("hits", "misses", "ambiguous", "writes", "rejected", "corrupt"), 0)
        self._ambiguous = ambiguous
        # With signed values the index is not trusted: the text comes along and shows that it matches.
        self._proof = steps.INEXACT if settings.sign_keys else steps.NO_TEXT
        self._namespace = raw(settings.namespace)
        self._validator = validator
        self._tidied_at = monotonic()
        self._tidy_next = 0

    def _make_ops(self, _config: SharedConfig, keyspace: Keyspace) -> ContentOps:
        return ContentOps(keyspace, self._ambiguous)

    # -- one text or key

    def set(self, scope: Scope, text: str, signature: str) -> Flow[bool]:
        """Store the signature of a text."""
        return self._set(texts.place(scope_id(scope), checked(text)), signature)

    def set_key(self, scope: Scope, key: str, signature: str, text: str = "") -> Flow[bool]:
        """Store a signature under an explicit key; the text comes along."""
        return self._set(texts.key_place(scope_id(scope), checked(key, "a key"), checked(text)), signature)

    def get(self, scope: Scope, text: str) -> Flow[str | None]:
        """The signature of a text, but for white space."""
        return signature_of((yield from self._find(self._text_query(scope, text), steps.WHOLE, self._proof)))

    def get_with_prefix_match(self, scope: Scope, text: str, min_prefix_len: int | None = None) -> Flow[str | None]:
        """The signature of a text that equals the query, or begins with it."""
        query = self._text_query(scope, text)
        return signature_of((yield from self._find(query, self._chain(query, min_prefix_len), self._proof)))

    def get_key(self, scope: Scope, key: str) -> Flow[str | None]:
        """The signature under an explicit key."""
        return signature_of((yield from self._find(self._key_query(scope, key), steps.EXACT, steps.NO_TEXT)))

    def lookup(self, scope: Scope, text: str, prefix: bool = False) -> Flow[Match | None]:
        """The signature of a text, with the original text and how it was found."""
        query = self._text_query(scope, text)
        return self._match(query, self._chain(query, None) if prefix else steps.WHOLE)

    def lookup_key(self, scope: Scope, key: str) -> Flow[Match | None]:
        """The signature under an explicit key, with the text that came along."""
        return self._match(self._key_query(scope, key), steps.EXACT)

    # -- many in one round trip

    def get_many(self, scope: Scope, queries: Iterable[str]) -> Flow[dict[str, str]]:
        """The signatures of those texts that hit."""
        asked = {text: self._text_query(scope, text) for text in queries}
        if not asked:
            return {}
        answers = yield from self.agreed(lambda ops: self._ask_all(ops, list(asked.values())))
        found = {}
        for (text, query), answer in zip(asked.items(), answers, strict=True):
            if opened := self._judged(query, answer):
                found[text] = opened[0]
            elif isinstance(answer, Found):
                yield from self._discard(answer)
        return found

    def set_many(self, scope: Scope, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> Flow[int]:
        """Store several signatures; how many were stored.

        All are checked before the first is sent, and one over `max_value_bytes` stores nothing at all; one that is
        larger than the whole cache may be is found out by the server, which stores the others.
        """
        pairs = dict(items)
        for text, signature in pairs.items():
            checked(text)
            checked(signature, "a signature")
        if self.settings.read_only:
            return 0
        wanted = [
            (texts.place(scope_id(scope), text), signature, raw(signature))
            for text, signature in pairs.items()
            if self._accepts(signature)
        ]
        yield from self._refuse_too_large(wanted)
        prepared = [self._prepare(*item) for item in wanted]
        results = yield from self.agreed(lambda ops: self._changing_all(ops, [make(ops) for make in prepared]))
        self.counts["writes"] += len(results)
        return len(results)

    # -- the whole cache

    def clear(self, scope: Scope) -> Flow[int]:
        """Remove the entries of a scope, the empty one standing for all scopes; how many there were."""
        if self.settings.read_only:
            return 0
        one = scope_id(scope) if scope else steps.NOTHING
        return (yield from self.agreed(lambda ops: self._removing(ops, lambda part: ops.clear(part, CHUNK, one))))

    def get_stats(self) -> Flow[dict[str, Any]]:
        """What the cache holds and what all its clients did."""
        yield from self.flush()
        parts = yield from self.agreed(lambda ops: together(Batch([ops.stats(part) for part in ops.partitions])))
        return summary(parts)

    def no_stats(self) -> dict[str, Any]:
        """The statistics of a cache that cannot be reached."""
        return summary([self._request.proposal.to_fields()])

    def opened(self) -> Flow[None]:
        """Agree on the shared config now, so that a mismatch shows early."""
        yield from self.open()

    # -- storing

    def _set(self, place: Place, signature: str) -> Flow[bool]:
        checked(signature, "a signature")
        if self.settings.read_only or not self._accepts(signature):
            return False
        wanted = (place, signature, raw(signature))
        yield from self._refuse_too_large([wanted])
        prepared = self._prepare(*wanted)
        yield from self.agreed(lambda ops: self._with_riders(ops, prepared(ops), before=self._before_a_change(ops)))
        self.counts["writes"] += 1
        return True

    def _accepts(self, signature: str) -> bool:
        accepted = self._validator is None or bool(self._validator(signature))
        self.counts["rejected"] += not accepted
        return accepted

    def _refuse_too_large(self, items: list[Wanted]) -> Flow[None]:
        """What was stored there before does not survive: it would pass for what was refused."""
        most = self.settings.max_value_bytes
        sizes = [(place.text_bytes + len(data), place) for place, _signature, data in items]
        if refused := [(size, place) for size, place in sizes if size > most]:
            with suppress(Unavailable, ServerError):  # the caller's error is the value, whatever state the server is in
                yield from self.agreed(
                    lambda ops: self._changing_all(ops, [ops.drop(place) for _size, place in refused])
                )
            raise ValueTooLarge(
                f"text and signature have {max(size for size, _place in refused):,} bytes and the limit is {most:,}; "
                "store a shorter text or raise max_value_bytes"
            )

    def _prepare(self, place: Place, signature: str, data: bytes) -> Callable[[ContentOps], Op[bool]]:
        """Everything about a set that needs no server."""
        blob = self._encoded(signature, place.id, b"signature")
        stored = b"" if place.remainder is None else self._encoded(place.remainder, place.id, b"text")
        digest = hashlib.blake2b(data, digest_size=KEY_ID_BYTES).digest()
        return lambda ops: ops.set(place, blob, digest, stored, place.text_bytes + len(data))

    def _encoded(self, text: str, one: bytes, what: bytes) -> bytes:
        """A MAC ties it to the id, which stands for scope and text, or scope and key."""
        return self.codec.encode(text, self._namespace, one, what)[0]

    def _decoded(self, blob: bytes, one: bytes, what: bytes) -> str:
        text = self.codec.decode(blob, self._namespace, one, what)
        if not isinstance(text, str):
            raise CorruptEntry("the stored signature or text is not a text")
        return text

    # -- looking up

    def _chain(self, query: Query, min_prefix_len: int | None) -> str:
        """Which steps are taken: the minimum is a rule on the query, in characters, and on the step by prefix only."""
        least = self.min_prefix_length if min_prefix_len is None else whole("min_prefix_len", min_prefix_len, 0)
        return steps.CHAIN if query.normal and len(query.normal) >= least else steps.WHOLE

    def _text_query(self, scope: Scope, text: str) -> Query:
        return texts.query(scope_id(scope), checked(text))

    def _key_query(self, scope: Scope, key: str) -> Query:
        return texts.key_query(scope_id(scope), checked(key, "a key"))

    def _match(self, query: Query, levels: str) -> Flow[Match | None]:
        opened = yield from self._find(query, levels, steps.ALL)
        if opened is None:
            return None
        signature, text, found = opened
        return Match(signature, text, found.level, found.age_s)

    def _find(self, query: Query, levels: str, text: str) -> Flow[Opened | None]:
        answer: Answer = yield from self.agreed(lambda ops: self._ask(ops, query, levels, text))
        opened = self._judged(query, answer)
        if opened is None and isinstance(answer, Found):
            yield from self._discard(answer)
        return opened

    def _ask(self, ops: ContentOps, query: Query, levels: str, text: str) -> Flow[Answer]:
        """One script where one partition holds all; else a text that begins with the query may be in any."""
        if levels != steps.CHAIN or len(ops.partitions) == 1:
            return self._ask_one(ops, query, levels, text)
        return self._ask_each(ops, query, text)

    def _ask_each(self, ops: ContentOps, query: Query, text: str) -> Flow[Answer]:
        """The whole chain: first the partition that may hold the query itself, then all of them for what is longer."""
        answer: Answer = yield from self._ask_one(ops, query, steps.WHOLE, text, final=False)
        if answer is not None:
            return answer
        probes = Batch([ops.peek(query, steps.PREFIX, text, part) for part in ops.partitions])
        chosen = self._chosen((yield from together(probes)))
        if not self.settings.read_only:
            yield from ops.use(ops.partitions[chosen.part] if isinstance(chosen, Found) else ops.home(query), chosen)
        return chosen

    def _ask_one(self, ops: ContentOps, query: Query, levels: str, text: str, *, final: bool = True) -> Flow[Answer]:
        answers: list[Answer] = yield from self._with_riders(ops, self._look(ops, query, levels, text, final=final))
        return answers[0]

    def _look(self, ops: ContentOps, query: Query, levels: str, text: str, *, final: bool = True) -> Op[Answer]:
        if self.settings.read_only:
            return ops.peek(query, levels, text)
        return ops.get(query, levels, text, final=final)

    def _ask_all(self, ops: ContentOps, queries: list[Query]) -> Flow[list[Answer]]:
        return (yield from self._reads([self._look(ops, query, steps.WHOLE, self._proof) for query in queries]))

    def _chosen(self, answers: list[Answer]) -> Answer:
        """What lua/include/content_search.lua decides in one partition, for the best of each."""
        found = [answer for answer in answers if isinstance(answer, Found)]
        differ = len(found) < sum(answer is not None for answer in answers) or len({one.digest for one in found}) > 1
        if differ and self._ambiguous == "miss":
            return Ambiguous()
        return max(found, key=lambda one: one.tick, default=None)

    def _judged(self, query: Query, answer: Answer) -> Opened | None:
        """Decode and count; what cannot be decoded or does not fit the query is a miss, and to be discarded."""
        if isinstance(answer, Found):
            try:
                opened = self._opened(query, answer)
            except CorruptEntry:
                self.counts["corrupt"] += 1
            else:
                self.counts["hits"] += 1
                return opened
        self.counts["misses"] += 1
        self.counts["ambiguous"] += isinstance(answer, Ambiguous)
        return None

    def _opened(self, query: Query, found: Found) -> Opened:
        signature = self._decoded(found.blob, found.id, b"signature")
        if found.text is None:
            return signature, "", found
        text = self._decoded(found.text, found.id, b"text") if found.text else unraw(found.normal)
        if not query.fits(found.id, text):
            raise CorruptEntry("the stored text does not fit its id")
        return signature, text, found

    def _discard(self, found: Found) -> Flow[None]:
        if not self.settings.read_only:
            yield from self.agreed(lambda ops: self.changing(ops, ops.discard(found)))

    # -- steps

    def _with_riders(self, ops: ContentOps, *wanted: Op[Any], before: Sequence[Op[Any]] = ()) -> Flow[list[Any]]:
        """The results of some ops; in the same round trip, ahead of them, `before`, and after them what is due."""
        riders = self._riders(ops)
        if not riders and not before and len(wanted) == 1:
            return [(yield wanted[0])]
        at = len(before)
        results = yield from self._carried([*before, *wanted, *riders])
        return merge(results[at : at + len(wanted)])

    def _riders(self, ops: ContentOps) -> list[Op[Any]]:
        """Now and then, the removal of what has expired."""
        if self.settings.read_only or self.config is None or not self.config.ttl_ms:
            return []
        if monotonic() - self._tidied_at < TIDY_S:
            return []
        self._tidied_at = monotonic()
        self._tidy_next = (self._tidy_next + 1) % len(ops.partitions)
        return [ops.tidy(ops.partitions[self._tidy_next], 16)]


def signature_of(opened: Opened | None) -> str | None:
    """What the original's methods return of what was found."""
    return opened[0] if opened else None


def checked(text: str, what: str = "a text") -> str:
    """The text, or TypeError."""
    if not isinstance(text, str):
        raise TypeError(f"{what} is a str, not {type(text).__name__}")
    return text
