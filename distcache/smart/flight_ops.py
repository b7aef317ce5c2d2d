"""Each operation of a single flight as an Op: taking a key's lease, renewing it, storing under it, giving it back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distcache.keys import hash_id, key_id
from distcache.op import Op
from distcache.script import Script
from distcache.smart.ops import NO_HASH
from distcache.smart.records import Found
from distcache.smart.replies import stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distcache.keys import Partition
    from distcache.smart.ops import SmartOps

LEASE = Script("flight_lease", retryable=True)
RENEW = Script("flight_renew", retryable=True)
PUT_LEASED = Script("flight_put", retryable=True)
RELEASE = Script("flight_release", retryable=True)

REFUSED = -2


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to compute a key."""

    owner: bytes
    """Names the caller; empty for one who computes without a lease."""
    fence: bytes
    """A number that grows with every lease of the partition; without one, that of the lease waited for in vain."""


@dataclass(frozen=True, slots=True)
class Held:
    """Another has the lease."""

    stream: bytes
    """Where it will be told that it has ended."""
    seen: bytes
    """The last that was told there so far."""
    left_ms: int
    """How long the lease still holds."""
    streams: tuple[bytes, ...]
    """All such streams of the cache, `stream` among them."""
    fence: bytes = b""
    """The number of that lease."""


class FlightOps:
    """Keys and content hashes are bytes here, as in SmartOps. An empty owner is a caller without a lease."""

    def __init__(self, smart: SmartOps) -> None:
        self._smart = smart
        self._streams = tuple(part.wakes for part in smart.partitions)

    def lease(self, key: bytes, wanted: bytes, lease_ms: int, *, early: bool = False) -> Op[Found | Lease | Held]:
        """After a miss: the output if it came meanwhile, else the lease, else who has it."""
        part, owner = self._part(key), os.urandom(12)
        values = LEASE.bind(
            part,
            **self._lookup(key, wanted),
            lease=part.leases + flight_id(key, wanted),
            owner=owner,
            lease_ms=lease_ms,
            early="1" if early else "",
        )

        def decode(reply: list[Any]) -> Found | Lease | Held:
            if reply[0] == b"value":
                return Found(reply[1], reply[2])
            if reply[0] == b"lease":
                return Lease(owner, reply[1])
            return Held(part.wakes, reply[2], reply[1], self._streams, reply[3])

        return Op(LEASE, values, decode)

    def renew(self, key: bytes, wanted: bytes, lease: Lease, lease_ms: int) -> Op[bool]:
        """The lease holds for as long again; False when it is lost."""
        part = self._part(key)
        values = RENEW.bind(
            part, lease=part.leases + flight_id(key, wanted), owner=lease.owner, fence=lease.fence, lease_ms=lease_ms
        )
        return Op(RENEW, values, bool)

    def put(self, wanted: bytes, lease: Lease, grace_ms: int, values: Mapping[str, Any]) -> Op[bool]:
        """Store what was computed and give the lease back; False when it was refused.

        `values`: the parameters of SmartOps.put. ValueTooLarge when the cache can never hold it.
        """
        part, new = self._smart.new(**values)
        flight = flight_id(values["key"], wanted)
        bound = PUT_LEASED.bind(
            part,
            **new,
            lease=part.leases + flight,
            flight=flight,
            owner=lease.owner,
            fence=lease.fence,
            grace_ms=grace_ms,
        )
        return Op(PUT_LEASED, bound, lambda reply: reply != REFUSED and stored(reply))

    def release(self, key: bytes, wanted: bytes, lease: Lease, stale_ms: int | None) -> Op[Found | None]:
        """Give the lease back; an output that expired at most stale_ms ago, if there is one."""
        part = self._part(key)
        flight = flight_id(key, wanted)
        values = RELEASE.bind(
            part,
            **self._lookup(key, wanted),
            lease=part.leases + flight,
            flight=flight,
            owner=lease.owner,
            fence=lease.fence,
            stale_ms="" if stale_ms is None else stale_ms,
        )
        return Op(RELEASE, values, lambda reply: reply and Found(reply[0], reply[1]))

    def _part(self, key: bytes) -> Partition:
        return self._smart.keyspace.of(key_id(key))

    def _lookup(self, key: bytes, wanted: bytes) -> dict[str, Any]:
        return {"id": key_id(key), "key": key, "wanted": wanted, "wanted_id": hash_id(wanted) if wanted else NO_HASH}


def flight_id(key: bytes, wanted: bytes) -> bytes:
    """What is computed once: a key, or one content hash of it."""
    return key_id(key) + (hash_id(wanted) if wanted else NO_HASH)
