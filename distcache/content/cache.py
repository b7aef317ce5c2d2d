"""ContentHashCache and its asyncio twin: what a program holds. One line a method; what they do stands in `flows`."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, Self, Unpack

from distcache import config
from distcache.client import Engine, user_cache_directory
from distcache.config import ContentOptions, Default, Settings
from distcache.content import text as content_text
from distcache.content.flows import checked
from distcache.content.nearby import flows_for, key_name, text_name
from distcache.executor.periodic import AsyncPeriodic, Periodic
from distcache.nearside import AsyncTracked, Tracked

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from distcache.content.flows import ContentFlows
    from distcache.content.nearby import Name
    from distcache.content.records import Match
    from distcache.near import Near

MAX_SIZE = Default(10_000)
TTL_SECONDS = Default(3600)
MAX_SIZE_MB = 500


def _request(engine: Engine, max_size: int, ttl_seconds: float | None, options: ContentOptions) -> config.Request:
    """What these parameters ask of the shared config."""
    named = None if isinstance(ttl_seconds, Default) else config.ttl_ms(ttl_seconds)
    entries, ttl = config.whole("max_size", max_size, 1), config.ttl_ms(TTL_SECONDS) if named is None else named
    size = options.get("max_size_mb")
    given = {
        "max_entries": None if isinstance(max_size, Default) else entries,
        "max_bytes": None if size is None else config.megabytes(size),
        "ttl_ms": named,
        "policy": options.get("policy"),
        "sliding": options.get("sliding"),
        "partitions": options.get("partitions"),
    }
    proposal = {
        "kind": "content",
        "max_entries": entries,
        "max_bytes": config.megabytes(MAX_SIZE_MB),
        "ttl_ms": ttl,
        "policy": "lru",
        "events": (),
        "history": 0,
    }
    reconfigure = options.get("reconfigure")
    return config.request(proposal, given, reconfigure=engine.embedded if reconfigure is None else reconfigure)


def _flows(
    engine: Engine, settings: Settings, max_size: int, ttl_seconds: float | None, least: int, options: ContentOptions
) -> ContentFlows:
    return flows_for(
        _request(engine, max_size, ttl_seconds, options),
        settings,
        threading.Lock,
        min_prefix_length=config.whole("min_prefix_length", least, 0),
        ambiguous=options.get("ambiguous", "miss"),
        validator=options.get("validator"),
    )


def _engine(options: ContentOptions) -> tuple[Engine, Settings]:
    config.check_options(options, ContentOptions)
    settings = Settings.of(options, "signatures")
    return Engine(options.get("url"), user_cache_directory(), busy_poll_us=settings.busy_poll_us), settings


class _Common:
    """What both twins do without a server."""

    _near: Near[str] | None
    _scope: tuple[str, ...] = ()
    _whole: Self | None = None
    """What a scoped view was made of; None for the cache itself."""

    def scoped(self, *parts: str) -> Self:
        """A view that sees and stores only entries of this scope (owner, model family, tenant), within the same bounds.

        It shares connections, counters and closing with the whole cache.
        """
        view = copy.copy(self)
        view._scope = (*self._scope, *(checked(part, "a part of a scope") for part in parts))  # noqa: SLF001 - its own class
        view._whole = self._whole or self  # noqa: SLF001 - the same
        return view

    def _here(self, name: Name) -> str | None:
        """The signature, if the near cache can tell it; what is no text is refused later."""
        try:
            return self._near.get(name, "") if self._near is not None else None
        except TypeError:  # it cannot be hashed
            return None

    @staticmethod
    def normalize_text(text: str) -> str:
        """The text with each run of white space as one space, and none at the ends."""
        return content_text.normalize(checked(text))

    @staticmethod
    def compute_hash(text: str, normalize: bool = False) -> str:
        """SHA-256 of the text, or of the normalized text, in hexadecimal digits."""
        return content_text.sha256(content_text.normalize(checked(text)) if normalize else checked(text)).hex()


class ContentHashCache(_Common, Tracked):
    """A shared cache of signatures, found by their text: as it was, with other white space, or cut short.

    max_size: bound on entries. ttl_seconds: time to live; math.inf for ever. Both belong to the cache; left out, an
    existing cache keeps its own. min_prefix_length: how many characters (normalized) a query must have to be looked
    for as a prefix. options: see `distcache.config.ContentOptions`.

    Text that is empty or all white space can be stored, and only the very same text finds it. Several texts that
    differ in white space only each keep their signature; a query that equals none of them gets the one written last.

    Raises ConfigError for a parameter that cannot work, ConfigMismatch when the cache exists with another
    configuration, EngineError when no embedded server can be started. With the server down, reads find nothing and
    writes return False, unless on_error="raise".
    """

    def __init__(
        self,
        max_size: int = MAX_SIZE,
        ttl_seconds: float | None = TTL_SECONDS,
        min_prefix_length: int = 100,
        **options: Unpack[ContentOptions],
    ) -> None:
        engine, settings = _engine(options)
        self._flows = _flows(engine, settings, max_size, ttl_seconds, min_prefix_length, options)
        self._cleanup = Periodic()
        self._near = self._flows.near
        self._prepare_tracking(self._near, engine.endpoint)
        super().__init__(engine, on_error=settings.on_error, timeout_s=settings.timeout_s)
        self._agree(self._flows.opened())
        self._track()

    def set(self, thinking_text: str, signature: str) -> bool:
        """Store the signature of a text, in place of one it had; its time to live starts anew. Whether it was stored.

        False when the validator rejects the signature. Raises ValueTooLarge above max_value_bytes or the cache's own
        bound; an older signature of the text does not survive that.
        """
        return self._run(self._flows.set(self._scope, thinking_text, signature), default=False)

    def get(self, thinking_text: str) -> str | None:
        """The signature of a text, whatever its white space, or None."""
        if self._near is not None:
            try:  # _here(text_name(...)) without the calls, which would take longer than the look-up
                signature = self._near.get((self._scope, thinking_text), "")
            except TypeError:
                signature = None
            if signature is not None:
                return signature
            self._track()
        return self._run(self._flows.get(self._scope, thinking_text), None)

    def get_with_prefix_match(self, thinking_text: str, min_prefix_len: int | None = None) -> str | None:
        """As get(); else the signature of a text that begins with this one, whatever the white space.

        min_prefix_len: how many characters (normalized) the query must have for that, in place of the constructor's
        min_prefix_length. Texts that begin with the query but have different signatures make it ambiguous: None, unless
        ambiguous="newest".
        """
        if self._near is not None:
            if min_prefix_len is not None:
                config.whole("min_prefix_len", min_prefix_len, 0)
            signature = self._here(text_name(self._scope, thinking_text))
            if signature is not None:
                return signature
            self._track()
        return self._run(self._flows.get_with_prefix_match(self._scope, thinking_text, min_prefix_len), None)

    def lookup(self, thinking_text: str, prefix: bool = False) -> Match | None:
        """As get(), or get_with_prefix_match(), with the original text, how it was found, and its age."""
        return self._run(self._flows.lookup(self._scope, thinking_text, prefix), None)

    def set_key(self, key: str, signature: str, text: str = "") -> bool:
        """Store a signature under an explicit key (a tool-call id, a session); no look-up by text finds it."""
        return self._run(self._flows.set_key(self._scope, key, signature, text), default=False)

    def get_key(self, key: str) -> str | None:
        """The signature under an explicit key, or None."""
        if self._near is not None:
            signature = self._here(key_name(self._scope, key))
            if signature is not None:
                return signature
            self._track()
        return self._run(self._flows.get_key(self._scope, key), None)

    def lookup_key(self, key: str) -> Match | None:
        """As get_key(), with the text that came along."""
        return self._run(self._flows.lookup_key(self._scope, key), None)

    def get_many(self, texts: Iterable[str]) -> dict[str, str]:
        """The signatures of those texts that get() would find, in one round trip."""
        self._track()
        return self._run(self._flows.get_many(self._scope, texts), {})

    def set_many(self, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> int:
        """Store several signatures, text -> signature, in one round trip; how many were stored."""
        return self._run(self._flows.set_many(self._scope, items), 0)

    def clear(self) -> int:
        """Remove all entries, those of all scopes; of a scoped view, its own only. How many. Counters stay."""
        return self._run(self._flows.clear(self._scope), 0)

    def cleanup_expired(self) -> int:
        """Remove all that has expired now, which use of the cache does a few at a time; how many entries."""
        return self._run(self._flows.cleanup_expired(), 0)

    def start_cleanup(self, interval_s: float) -> None:
        """Call cleanup_expired() every interval_s, in a thread that keeps neither this object nor the program alive."""
        self._cleanup.start((self._whole or self).cleanup_expired, interval_s)

    def stop_cleanup(self) -> None:
        """End what start_cleanup() started."""
        self._cleanup.stop()

    def get_stats(self) -> dict[str, Any]:
        """What the cache holds, and what all its clients did."""
        return self._run(self._flows.get_stats(), self._flows.no_stats())

    def local_stats(self) -> dict[str, int]:
        """What this object did: hits, misses, ambiguous, writes, rejected, corrupt, errors.

        With a near cache, near_hits too, which are among the hits.
        """
        return {**self._flows.counted(), "errors": self._failures.count}

    def flush(self) -> None:
        """Send the uses of a near cache's copies that were not sent yet."""
        self._run(self._flows.flush(), None)

    def _report(self) -> Callable[[], object]:
        return (self._whole or self).flush

    def close(self) -> None:
        """Stop the cleanup, and let connections and an embedded server go. A later call connects anew."""
        self.stop_cleanup()
        super().close()


class AsyncContentHashCache(_Common, AsyncTracked):
    """ContentHashCache for asyncio: the same parameters, the same methods to await. Connects at the first call."""

    def __init__(
        self,
        max_size: int = MAX_SIZE,
        ttl_seconds: float | None = TTL_SECONDS,
        min_prefix_length: int = 100,
        **options: Unpack[ContentOptions],
    ) -> None:
        engine, settings = _engine(options)
        self._flows = _flows(engine, settings, max_size, ttl_seconds, min_prefix_length, options)
        self._cleanup = AsyncPeriodic()
        self._near = self._flows.near
        self._prepare_tracking(self._near, engine.endpoint)
        super().__init__(engine, on_error=settings.on_error, timeout_s=settings.timeout_s)

    async def __aenter__(self) -> Self:
        """Agree on the shared config."""
        await self._run(self._flows.opened(), None)
        return self

    async def set(self, thinking_text: str, signature: str) -> bool:
        """See ContentHashCache.set."""
        return await self._run(self._flows.set(self._scope, thinking_text, signature), default=False)

    async def get(self, thinking_text: str) -> str | None:
        """See ContentHashCache.get."""
        if self._near is not None:
            try:
                signature = self._near.get((self._scope, thinking_text), "")
            except TypeError:
                signature = None
            if self._near.asked_at >= self._breathe_at:
                await self._breathe()
            if signature is not None:
                return signature
        return await self._run(self._flows.get(self._scope, thinking_text), None)

    async def get_with_prefix_match(self, thinking_text: str, min_prefix_len: int | None = None) -> str | None:
        """See ContentHashCache.get_with_prefix_match."""
        if self._near is not None:
            if min_prefix_len is not None:
                config.whole("min_prefix_len", min_prefix_len, 0)
            signature = self._here(text_name(self._scope, thinking_text))
            if self._near.asked_at >= self._breathe_at:
                await self._breathe()
            if signature is not None:
                return signature
        return await self._run(self._flows.get_with_prefix_match(self._scope, thinking_text, min_prefix_len), None)

    async def lookup(self, thinking_text: str, prefix: bool = False) -> Match | None:
        """See ContentHashCache.lookup."""
        return await self._run(self._flows.lookup(self._scope, thinking_text, prefix), None)

    async def set_key(self, key: str, signature: str, text: str = "") -> bool:
        """See ContentHashCache.set_key."""
        return await self._run(self._flows.set_key(self._scope, key, signature, text), default=False)

    async def get_key(self, key: str) -> str | None:
        """See ContentHashCache.get_key."""
        if self._near is not None:
            signature = self._here(key_name(self._scope, key))
            if self._near.asked_at >= self._breathe_at:
                await self._breathe()
            if signature is not None:
                return signature
        return await self._run(self._flows.get_key(self._scope, key), None)

    async def lookup_key(self, key: str) -> Match | None:
        """See ContentHashCache.lookup_key."""
        return await self._run(self._flows.lookup_key(self._scope, key), None)

    async def get_many(self, texts: Iterable[str]) -> dict[str, str]:
        """See ContentHashCache.get_many."""
        if self._near is not None:
            await self._breathe()
        return await self._run(self._flows.get_many(self._scope, texts), {})

    async def set_many(self, items: Mapping[str, str] | Iterable[tuple[str, str]]) -> int:
        """See ContentHashCache.set_many."""
        return await self._run(self._flows.set_many(self._scope, items), 0)

    async def clear(self) -> int:
        """See ContentHashCache.clear."""
        return await self._run(self._flows.clear(self._scope), 0)

    async def cleanup_expired(self) -> int:
        """See ContentHashCache.cleanup_expired."""
        return await self._run(self._flows.cleanup_expired(), 0)

    async def start_cleanup(self, interval_s: float) -> None:
        """See ContentHashCache.start_cleanup; here in a task of the running loop."""
        await self._cleanup.start((self._whole or self).cleanup_expired, interval_s)

    async def stop_cleanup(self) -> None:
        """See ContentHashCache.stop_cleanup."""
        await self._cleanup.stop()

    async def get_stats(self) -> dict[str, Any]:
        """See ContentHashCache.get_stats."""
        return await self._run(self._flows.get_stats(), self._flows.no_stats())

    def local_stats(self) -> dict[str, int]:
        """See ContentHashCache.local_stats."""
        return {**self._flows.counted(), "errors": self._failures.count}

    async def flush(self) -> None:
        """See ContentHashCache.flush."""
        await self._run(self._flows.flush(), None)

    def _report(self) -> Callable[[], Awaitable[object]]:
        return (self._whole or self).flush

    async def aclose(self) -> None:
        """See ContentHashCache.close."""
        await self.stop_cleanup()
        await super().aclose()
