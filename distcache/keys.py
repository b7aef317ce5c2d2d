"""Every key name of the data layout, and the ids that stand in them. `docs/data-model.md` describes each."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property, lru_cache

from distcache.errors import ConfigError

LAYOUT = 1
"""Version of the data layout; part of every key (`dc1`)."""

KEY_ID_BYTES = 16
HASH_ID_BYTES = 8
SCOPE_ID_BYTES = 8
HOME_BYTES = 4
"""Of an id, what decides the partition."""

REMEMBERED = 4096
"""Ids that are kept in this process, the last ones asked for: a dictionary is faster than a digest."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class Partition:
    """The key names of one partition; all share one hash tag, so one script may touch any of them.

    No text of a user stands inside the braces (`}` or an empty key would break the slotting), nor in any key name:
    entries are named by digests of fixed length.
    """

    def __init__(self, namespace: str, number: int, count: int = 1) -> None:  # noqa: PLR0915 - one statement a name
        """count: how many partitions the cache has."""
        self.number = number
        self.partitions = str(count)
        """How many there are, as the scripts want to know it to tell whether their client does."""
        self.tag = f"{{dc{LAYOUT}:{namespace}:{number}}}:".encode()
        name = self.tag.__add__

        self.state = name(b"state")
        """hash: the shared config, and the counters that change rarely."""
        self.entries = name(b"e:")
        """prefix; hash per entry: what is stored, immutable between writes."""
        self.score = name(b"score")
        """zset: entry id -> eviction priority; its members are the entries that count."""
        self.usage = name(b"usage")
        """hash: entry id -> use count, last use, size, cost, frequency, deadline; `*` -> what scripts change."""
        self.deadline = name(b"deadline")
        """zset: entry id -> time of expiry (ms), for entries that expire."""
        self.ghost = name(b"ghost")
        """hash: ids evicted of late -> what the policy remembers of them."""
        self.ghost_old = name(b"ghost_old")
        """hash: the generation of ghosts before."""
        self.events = name(b"events")
        """stream: what happened, capped by length."""
        self.requests = name(b"q:")
        """prefix; string per request id: a write that took effect, so that a repeat does not."""

        # SmartCache
        self.edges = name(b"edges")
        """hash: entry id -> ids of its dependencies, 16 bytes each."""
        self.dependents = name(b"r:")
        """prefix; set per dependency: ids of the entries that name it."""
        self.relics = name(b"relics")
        """zset: ids of removed entries whose edges are kept, because others depend on them -> when removed."""
        self.versions = name(b"v:")
        """prefix; list per key: hash ids of its older versions, newest first."""
        self.records = name(b"h:")
        """prefix; list per key: the records of its compiles, but for the latest while that is held, newest first."""
        self.histories = name(b"histories")
        """zset: key id -> last write; bounds the number of these lists."""
        self.retired = name(b"retired")
        """hash: ids of keys that have gone, and have no list -> the only record of them but for the entry."""
        self.retired_old = name(b"retired_old")
        """hash: the generation of such records before."""
        self.after = name(b"a:")
        """prefix; hash per key: the keys that came next, or two to four places after -> aged count (log2)."""
        self.learned = name(b"learned")
        """zset: key id and key -> about when it was last observed; bounds the number of these hashes."""

        # the warm-up queue
        self.queue = name(b"queue")
        """stream: tasks that were asked for, and those of changed dependencies."""
        self.queue_low = name(b"queue_low")
        """stream: predicted tasks and refreshes; read when `queue` has nothing."""
        self.tasks = name(b"t:")
        """prefix; hash per task: key, content hash, content, reason, tries, which stream entry stands for it."""
        self.delayed = name(b"delayed")
        """zset: task -> when its next try is due (ms)."""
        self.dead = name(b"dead")
        """zset: task -> when it was given up (ms); the newest 1000."""
        self.predicted = name(b"predicted")
        """zset: key id -> when it was predicted (ms); the newest 10,000, to tell how many misses had been."""
        self.workers = name(b"workers")
        """zset, in partition 0: worker -> when it was last seen (ms)."""
        self.worker_records = name(b"w:")
        """prefix; hash per worker: host, process, what it runs and has done."""

        # single flight
        self.leases = name(b"f:")
        """prefix; hash per key, or content hash of one, that is being computed: owner, fence, until when."""
        self.wakes = name(b"wakes")
        """stream: which flights have ended while others waited for them; the newest 1000."""

        self.voided = name(b"voided")
        """zset: key id -> the fence at which it was last invalidated, or named as changed; the newest 10,000."""

        # ContentHashCache
        self.prefixes = name(b"prefixes")
        """zset, all scores 0: stretches of normalized text with the entry they belong to, searched by range."""
        self.indexed = name(b"indexed")
        """hash: entry id -> what its members in `prefixes` are made of (scope id, digests, normalized text)."""

    def entry(self, entry_id: bytes) -> bytes:
        """The hash of one entry."""
        return self.entries + entry_id


class Keyspace:
    """The partitions of one cache, and which of them a key belongs to."""

    def __init__(self, namespace: str, partitions: int) -> None:
        self.namespace = namespace
        self.count = partitions
        self.partitions = tuple(Partition(namespace, number, partitions) for number in range(partitions))

    def of(self, key_id: bytes) -> Partition:
        """The partition of a key (or text), by its id."""
        if self.count == 1:
            return self.partitions[0]
        return self.partitions[int.from_bytes(key_id[:HOME_BYTES], "big") % self.count]

    @cached_property
    def pattern(self) -> bytes:
        """Glob that matches every key of this cache, for ACL rules and SCAN."""
        return f"{{dc{LAYOUT}:{self.namespace}:*".encode()


def check_namespace(namespace: str) -> str:
    """The namespace itself, or ConfigError when it cannot stand in a key name."""
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise ConfigError(f"namespace {namespace!r} cannot be used; take 1 to 64 letters, digits, '_', '.' or '-'")
    return namespace


def raw(text: str) -> bytes:
    """A user's text as bytes. Lone surrogates survive the way there and back."""
    return text.encode("utf-8", "surrogatepass")


def key_bytes(key: str) -> bytes:
    """A user's key as bytes; TypeError when it is no text."""
    if not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    return key.encode("utf-8", "surrogatepass")


def unraw(data: bytes) -> str:
    """The text that `raw` encoded; bytes that never were one are shown, not refused."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("utf-8", "backslashreplace")


@lru_cache(REMEMBERED)
def key_id(key: bytes) -> bytes:
    """16 bytes that stand for a key: BLAKE2b. The key itself is stored in the entry and compared."""
    return hashlib.blake2b(key, digest_size=KEY_ID_BYTES).digest()


@lru_cache(REMEMBERED)
def hash_id(content_hash: bytes) -> bytes:
    """8 bytes that stand for a content hash among the versions of one key; the hash itself is compared."""
    return hashlib.blake2b(content_hash, digest_size=HASH_ID_BYTES).digest()


@lru_cache(REMEMBERED)
def scope_id(scope: tuple[str, ...]) -> bytes:
    """8 bytes that stand for a scope; parts are length-prefixed, so ('ab', 'c') is not ('a', 'bc')."""
    parts = b"".join(b"%d:%b" % (len(part), part) for part in map(raw, scope))
    return hashlib.blake2b(parts, digest_size=SCOPE_ID_BYTES, person=b"scope").digest()
