"""What a cache is configured with: the config its clients share, and the settings each client has for itself."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass, field, fields
from os import getpid
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from distcache import keys
from distcache.codec import check_sign_keys
from distcache.errors import ConfigError, ConfigMismatch
from distcache.near import NearCache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

POLICIES = ("adaptive", "cost", "windowed", "gdsf", "lru", "lru_freq")
EVENT_KINDS = ("HIT", "MISS", "WRITE", "EVICT", "WARMUP", "PREDICT")
MEGABYTE = 1024 * 1024
MAX_PARTITIONS = 1024

OnError = Literal["miss", "raise"]
OnAmbiguous = Literal["miss", "newest"]


class Default(int):
    """A parameter's default, told apart from the same number given by the caller."""

    __slots__ = ()


class Options(TypedDict, total=False):
    """The keyword-only parameters of every cache."""

    url: str | None
    """redis://, rediss://, unix:// or embedded://DIR; left out: DISTCACHE_URL, else embedded."""
    namespace: str
    """Which cache; one server holds many. Letters, digits, '_', '.' and '-'."""
    on_error: OnError
    """With the server down: 'miss' (the default: reads find nothing, writes return False) or 'raise'."""
    timeout_s: float
    """Deadline of one operation, connecting and retries included; 0.25 by default."""
    busy_poll_us: int | None
    """How long a call looks for its reply before it sleeps; 0: not at all; by default 1,000 if the server is local."""
    read_only: bool
    """Send nothing that changes data; hits are then not counted either."""
    near: bool | NearCache
    """Keep copies of what was read in this process, for as long as they are true."""
    sign_keys: Sequence[bytes]
    """Keys that sign values: the first signs, all verify. Unsigned values are then misses."""
    max_value_bytes: int
    """A larger value is refused; 64 MiB by default."""
    policy: str | None
    """Shared. Which entry is evicted first: adaptive (the default), cost, windowed, gdsf, lru or lru_freq."""
    sliding: bool | None
    """Shared. A hit starts the time to live anew."""
    partitions: int | None
    """Shared, and fixed when the cache is made: in how many hash slots it lives."""
    reconfigure: bool | None
    """Change a cache that has another shared config; otherwise that is a ConfigMismatch. Default: embedded only."""


class SmartOptions(Options, total=False):
    """The keyword-only parameters of a SmartCache."""

    ttl_seconds: float | None
    """Shared. Time to live of an entry; math.inf, the default, for ever."""
    versions: int | None
    """Shared. How many content hashes of one key are kept; 1 by default."""
    producer: str
    """Who makes the outputs, for the history; host and process by default."""
    events: Iterable[str] | None
    """Shared. Which kinds of events are written; all by default."""
    event_cap: int | None
    """Shared. About how many events are kept; 10,000 by default."""
    history: int | None
    """Shared. How many records are kept for a key; 100 by default, 0 for none."""
    history_age_s: float | None
    """Shared. How long they are shown, and most of them kept; 30 days by default."""
    refresh_ahead: float
    """An entry that is read when less than this part of its time to live is left is queued; 0, the default: none."""


class ContentOptions(Options, total=False):
    """The keyword-only parameters of a ContentHashCache."""

    max_size_mb: float | None
    """Shared. Bound on the sum of texts and signatures, uncompressed; 500 by default."""
    ambiguous: OnAmbiguous
    """What a prefix of texts with different signatures is: 'miss' (the default), or the 'newest' of them."""
    validator: Callable[[str], bool] | None
    """What it does not accept as a signature is not stored; see `distcache.content.validators`."""


def check_options(options: Mapping[str, Any], known: type[Any]) -> None:
    """TypeError for an option that does not exist, as for any function."""
    if unknown := sorted(set(options) - set(known.__annotations__)):
        raise TypeError(f"unknown options {unknown}; there are {sorted(known.__annotations__)}")


@dataclass(frozen=True, slots=True)
class SharedConfig:
    """The part of the configuration that belongs to the cache, stored in it and the same for all its clients."""

    kind: str
    """`smart` or `content`; a namespace holds one of them."""
    partitions: int = 1
    """In how many hash slots the cache lives; fixed when it is made."""
    max_entries: int = 10_000
    """Bound on entries, divided among the partitions."""
    max_bytes: int = 500 * MEGABYTE
    """Bound on the sum of the values' sizes, uncompressed, divided among the partitions."""
    policy: str = "adaptive"
    """Which entry is evicted first."""
    ttl_ms: int = 0
    """Time to live of an entry; 0 for ever."""
    sliding: bool = False
    """Whether a hit starts the time to live anew."""
    versions: int = 1
    """How many content hashes of one key are kept."""
    events: tuple[str, ...] = EVENT_KINDS
    """Which kinds of events are written."""
    event_cap: int = 10_000
    """About how many events are kept."""
    history: int = 100
    """How many records of compiles are kept for a key; 0 for none."""
    history_age_ms: int = 30 * 24 * 3_600_000
    """How long they are shown, and most of them kept."""
    layout: int = keys.LAYOUT
    """Version of the data layout."""

    def bounds(self, partition: int) -> tuple[int, int]:
        """This partition's share of max_entries and max_bytes; the shares add up to the whole."""
        return _share(self.max_entries, partition, self.partitions), _share(self.max_bytes, partition, self.partitions)

    def to_fields(self) -> dict[str, str]:
        """As stored."""
        return {item.name: _to_text(getattr(self, item.name)) for item in fields(self)}

    @classmethod
    def from_fields(cls, stored: Mapping[str, str]) -> SharedConfig:
        """What `to_fields` made."""
        return cls(**{item.name: _from_text(item.type, stored[item.name]) for item in fields(cls)})


@dataclass(frozen=True, slots=True)
class Request:
    """The shared config that a client asks for: a proposal for a new cache, and what it insists on in any case."""

    proposal: SharedConfig
    given: frozenset[str]
    """Names of the fields that the caller named; the others are adopted from the cache."""
    reconfigure: bool = False
    """Change a cache that has another config, instead of refusing."""

    def mismatch(self, stored: Mapping[str, str]) -> ConfigMismatch:
        """The error that prints both configs where they differ, and the remedy."""
        asked = self.proposal.to_fields()
        names = [name for name in asked if (name in self.given or name in FIXED) and asked[name] != stored.get(name)]
        differences = ", ".join(f"{name} is {stored.get(name)} and was asked to be {asked[name]}" for name in names)
        remedy = (
            "give the cache another namespace"
            if any(name in FIXED for name in names)
            else "leave the parameter out to adopt the cache's own, or pass reconfigure=True to change it for everyone"
        )
        return ConfigMismatch(f"the cache exists with another configuration: {differences}; {remedy}")


FIXED = ("kind", "layout", "partitions")
"""Fields that cannot change while the cache exists."""


def request(proposal: Mapping[str, Any], given: Mapping[str, Any], *, reconfigure: bool) -> Request:
    """A validated request: `given` are the fields that the caller named, None standing for 'not named'."""
    named = {name: value for name, value in given.items() if value is not None}
    config = SharedConfig(**{**proposal, **named})
    _check(config)
    return Request(config, frozenset(named), reconfigure)


def ttl_ms(ttl_seconds: float | None) -> int | None:
    """Seconds as whole milliseconds; math.inf is 0, for ever. ConfigError for what is no time span."""
    if ttl_seconds is None:
        return None
    if not isinstance(ttl_seconds, (int, float)) or not ttl_seconds > 0:
        raise ConfigError(f"ttl_seconds={ttl_seconds!r} is no time to live; take a number above 0, math.inf for ever")
    return 0 if math.isinf(ttl_seconds) else max(1, min(round(ttl_seconds * 1000), 10**14))


def megabytes(max_size_mb: float) -> int:
    """A bound in bytes, or ConfigError."""
    if isinstance(max_size_mb, bool) or not isinstance(max_size_mb, (int, float)) or not 0 < max_size_mb < 2**33:
        raise ConfigError(f"max_size_mb={max_size_mb!r} is no size; take a number of megabytes above 0")
    return max(1, int(max_size_mb * MEGABYTE))


def whole(name: str, value: Any, least: int, most: int = 2**53) -> int:
    """The value as an int in range, or ConfigError."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not least <= value <= most
        or value != int(value)
    ):
        raise ConfigError(f"{name}={value!r} is out of range; take a whole number from {least} to {most}")
    return int(value)


def event_kinds(kinds: Iterable[str] | None) -> tuple[str, ...] | None:
    """The kinds in their canonical order; ConfigError for an unknown one."""
    if kinds is None:
        return None
    named = set(kinds)
    if unknown := named - set(EVENT_KINDS):
        raise ConfigError(f"events={sorted(unknown)} are unknown; choose among {', '.join(EVENT_KINDS)}")
    return tuple(kind for kind in EVENT_KINDS if kind in named)


@dataclass(frozen=True, slots=True)
class Settings:
    """What one client decides for itself."""

    namespace: str
    """Which cache; one server holds many."""
    on_error: OnError = "miss"
    """With the server down: `miss` (reads find nothing, writes return False) or `raise`."""
    timeout_s: float = 0.25
    """Deadline of one operation, connecting and retries included."""
    busy_poll_us: int | None = None
    """How long a call looks for its reply before it sleeps; None for what suits the server's address."""
    read_only: bool = False
    """Send nothing that changes data; hits are then not counted either."""
    near: NearCache | None = None
    """Keep copies of what was read in this process."""
    sign_keys: tuple[bytes, ...] = ()
    """Keys that sign values: the first signs, all verify. Unsigned values are then misses."""
    max_value_bytes: int = 64 * MEGABYTE
    """Larger values are refused."""
    refresh_ahead: float = 0.0
    """An entry that is read when less than this part of its time to live is left is queued for a worker."""
    producer: str = field(default_factory=lambda: f"{socket.gethostname()}:{getpid()}")
    """Who made an output, for the history."""

    @classmethod
    def of(cls, options: Mapping[str, Any], namespace: str) -> Settings:
        """The settings among a cache's options; `namespace` is the default one."""
        chosen = {item.name: options[item.name] for item in fields(cls) if item.name in options}
        checked = {
            "near": NearCache.of(options.get("near", False)),
            "sign_keys": check_sign_keys(options.get("sign_keys", ())),
        }
        return cls(**{"namespace": namespace, **chosen, **checked})

    def __post_init__(self) -> None:
        keys.check_namespace(self.namespace)
        whole("max_value_bytes", self.max_value_bytes, 1, 512 * MEGABYTE - MEGABYTE)
        if not isinstance(self.refresh_ahead, (int, float)) or not 0 <= self.refresh_ahead < 1:
            raise ConfigError(f"refresh_ahead={self.refresh_ahead!r} is no part of a time to live; take 0 up to 1")
        if self.busy_poll_us is not None:
            whole("busy_poll_us", self.busy_poll_us, 0, 1_000_000)
        if self.on_error not in ("miss", "raise"):
            raise ConfigError(f"on_error={self.on_error!r} is unknown; take 'miss' or 'raise'")
        if not isinstance(self.timeout_s, (int, float)) or not 0 < self.timeout_s < math.inf:
            raise ConfigError(f"timeout_s={self.timeout_s!r} is no deadline; take a number of seconds above 0")


def _check(config: SharedConfig) -> None:
    whole("partitions", config.partitions, 1, MAX_PARTITIONS)
    whole("max_entries", config.max_entries, 1)
    whole("max_size in bytes", config.max_bytes, 1)
    whole("versions", config.versions, 1, 1000)
    whole("event_cap", config.event_cap, 1)
    whole("history", config.history, 0, 100_000)
    whole("history_age_s in milliseconds", config.history_age_ms, 1)
    if config.policy not in POLICIES:
        raise ConfigError(f"policy={config.policy!r} is unknown; choose among {', '.join(POLICIES)}")
    if config.max_entries < config.partitions or config.max_bytes < config.partitions:
        raise ConfigError(
            f"the bounds ({config.max_entries} entries, {config.max_bytes} bytes) cannot be divided among "
            f"{config.partitions} partitions; raise them or take fewer partitions"
        )


def _share(whole_bound: int, partition: int, partitions: int) -> int:
    return whole_bound // partitions + (1 if partition < whole_bound % partitions else 0)


def _to_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(int(value)) if isinstance(value, (bool, int)) else str(value)


def _from_text(kind: Any, text: str) -> Any:
    if kind == "str":
        return text
    if str(kind).startswith("tuple"):
        return tuple(text.split(",")) if text else ()
    return bool(int(text)) if kind == "bool" else int(float(text))
