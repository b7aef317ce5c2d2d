"""What a server holds, read at one moment; and time that passes by shifting every stored time into the past."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import packed

if TYPE_CHECKING:
    import redis

_READ = """
local time = redis.call('TIME')
local reply = {time[1] * 1000 + math.floor(time[2] / 1000)}
local read = {
  string = function(key) return redis.call('GET', key) end,
  hash = function(key) return redis.call('HGETALL', key) end,
  zset = function(key) return redis.call('ZRANGE', key, 0, -1, 'WITHSCORES') end,
  set = function(key) return redis.call('SMEMBERS', key) end,
  list = function(key) return redis.call('LRANGE', key, 0, -1) end,
  stream = function(key) return redis.call('XRANGE', key, '-', '+') end,
}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if read[kind] then reply[#reply + 1] = {key, kind, redis.call('PTTL', key), read[kind](key)} end
end
return reply
"""

TAG = re.compile(rb"(\{dc1:[^{}]+\}:)(.*)", re.DOTALL)


@dataclass(frozen=True)
class Stored:
    """One key: kind is Redis' TYPE, ttl_ms is -1 for a key that stays."""

    kind: str
    ttl_ms: int
    value: Any


@dataclass
class Keyspace:
    """Every key of a server. now_ms: the server's time of the reading."""

    now_ms: int
    keys: dict[bytes, Stored]

    def tags(self) -> dict[bytes, dict[bytes, Stored]]:
        """The keys of each hash tag by what follows it; keys without a tag of ours under b''."""
        found: dict[bytes, dict[bytes, Stored]] = {}
        for key, stored in self.keys.items():
            match = TAG.fullmatch(key)
            tag, rest = match.groups() if match else (b"", key)
            found.setdefault(tag, {})[rest] = stored
        return found

    def content(self) -> dict[bytes, tuple[str, Any]]:
        """What is stored, without what passes by itself: remaining times to live."""
        return {key: (stored.kind, stored.value) for key, stored in self.keys.items()}


def read(client: redis.Redis) -> Keyspace:
    """All keys, in one script: nothing changes meanwhile."""
    now, *rows = client.eval(_READ, 0)
    return Keyspace(now, {key: Stored(kind.decode(), ttl, _value(kind, value)) for key, kind, ttl, value in rows})


def _value(kind: bytes, value: Any) -> Any:
    if kind == b"hash":
        return dict(zip(value[::2], value[1::2], strict=True))
    if kind == b"zset":
        return {member: float(points) for member, points in zip(value[::2], value[1::2], strict=True)}
    if kind == b"set":
        return frozenset(value)
    if kind == b"stream":
        return [(stamp, dict(zip(row[::2], row[1::2], strict=True))) for stamp, row in value]
    return value


def let_pass(client: redis.Redis, ms: int) -> None:
    """Shift all times of SmartCaches into the past, as if they had been written `ms` earlier."""
    keyspace = read(client)
    pipe = client.pipeline(transaction=False)
    for tag, keys in keyspace.tags().items():
        policy = keys[b"state"].value.get(b"policy") if b"state" in keys else None
        for rest, stored in keys.items():
            _shift(pipe, tag + rest, rest, stored, ms, policy)
    pipe.execute()


def _shift(pipe: Any, key: bytes, rest: bytes, stored: Stored, ms: int, policy: bytes | None) -> None:
    if rest == b"deadline":
        pipe.zadd(key, {member: points - ms for member, points in stored.value.items()})
    elif rest == b"usage":
        pipe.hset(key, mapping={one: _earlier(text, ms) for one, text in stored.value.items()})
    elif rest == b"score" and policy == b"lru_freq":
        pipe.zadd(key, {member: points - ms / 1e6 for member, points in stored.value.items()})
    elif rest.startswith(b"e:") and b"t" in stored.value:
        pipe.hset(key, b"t", int(float(stored.value[b"t"])) - ms)
    elif rest.startswith(b"f:"):
        pipe.hset(key, b"x", int(stored.value[b"x"]) - ms)
    elif rest.startswith(b"h:"):
        pipe.delete(key)
        pipe.rpush(key, *(_record(record, ms) for record in stored.value))
    elif rest in (b"retired", b"retired_old"):
        pipe.hset(key, mapping={one: _record(record, ms) for one, record in stored.value.items()})
    if stored.ttl_ms >= 0:
        pipe.pexpire(key, max(stored.ttl_ms - ms, 0))


def _earlier(text: bytes, ms: int) -> bytes:
    if len(text) != packed.USAGE_BYTES:  # the state
        return text
    use = packed.Usage.parse(text)
    return replace(use, last=use.last - ms, deadline=use.deadline and use.deadline - ms).packed()


def _record(record: bytes, ms: int) -> bytes:
    tick, written, rest = record.split(b" ", 2)
    return b"%b %d %b" % (tick, int(float(written)) - ms, rest)
