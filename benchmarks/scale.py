"""What a put with eviction, a hit, a set with eviction and both look-ups cost in a small cache and in a very large one.

python benchmarks/scale.py [--quick] [--json FILE] [--entries N]

A cache of 1,000 entries and one of N (1,000,000) lie in one server, both full. Rounds alternate between them. Printed
are the time that a caller waits and the time that the server spends in scripts (INFO commandstats), which is hardly
disturbed by other programs. Keys and texts are picked at random, so the large cache also shows what the processor's own
caches no longer hold. The first entries are stored by the caches themselves; to fill the large one, a script copies one
of them under other keys, as often as need be: a million puts would take many minutes.
"""

from __future__ import annotations

import random
import statistics
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import redis
from bench import bare_server, described, options_of, write_json
from rich.console import Console
from rich.progress import track
from rich.table import Table

from distcache import ContentHashCache, SmartCache
from distcache.content.text import place
from distcache.keys import Partition, key_id, scope_id
from distcache.script import expand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SMALL, LARGE, QUICK = 1000, 1_000_000, 20_000
GOAL = 1.3
OUTPUT, HASH, SIGNATURE = "x" * 32, "4f2a9c0b1d3e5f67", "EqQBCkYIARgCKkA" * 3
THOUGHT = (
    "Let me think about this problem step by step, with its constraints in mind, and begin with the first of them."
)
BATCH = 500


@dataclass(frozen=True, slots=True)
class Result:
    """One operation: microseconds in the small and the large cache, and the median of the rounds' ratios."""

    name: str
    entries: int
    """In the large one."""
    small_us: float
    large_us: float
    ratio: float
    server_small_us: float
    """The part that the server spends in scripts."""
    server_large_us: float
    server_ratio: float


def key(number: int) -> str:
    """Of an entry."""
    return f"src/package/module_{number}.py"


def text(number: int) -> str:
    """Of a signature; its first words tell it from all others."""
    return f"Thought {number}. {THOUGHT}"


def smart(url: str, entries: int) -> SmartCache:
    """A full cache of outputs."""
    name = f"smart-{entries}"
    cache = SmartCache(url=url, namespace=name, max_entries=entries, on_error="raise", timeout_s=30)
    cache.put_many([{"key": key(one), "output": OUTPUT, "content_hash": HASH} for one in range(SMALL)])

    def copies(numbers: range) -> list[bytes]:
        names = [key(one).encode() for one in numbers]
        return [item for name in names for item in (key_id(name), name, b"", b"")]

    _copy(url, Partition(name, 0), key_id(key(0).encode()), "k", entries, copies)
    return cache


def content(url: str, entries: int) -> ContentHashCache:
    """A full cache of signatures."""
    name = f"content-{entries}"
    cache = ContentHashCache(entries, url=url, namespace=name, on_error="raise", timeout_s=30)
    cache.set_many([(text(one), SIGNATURE) for one in range(SMALL)])
    scope = scope_id(())

    def copies(numbers: range) -> list[bytes]:
        places = [place(scope, text(one)) for one in numbers]
        # A text of less than 512 bytes has one member.
        members = [scope + b"\0" + one.index[len(scope) + 1 :] + b"\0" + one.id for one in places]
        rows = zip(places, members, strict=True)
        return [item for one, member in rows for item in (one.id, one.check, one.index, member)]

    _copy(url, Partition(name, 0), place(scope, text(0)).id, "v", entries, copies)
    return cache


COPY = expand("""--@include write_state
local entries, usage, score, deadline, indexed, prefixes = unpack(KEYS)
local one, field = ARGV[1], ARGV[2]
local fields, used = redis.call('HGETALL', entries .. one), redis.call('HGET', usage, one)
local priority, expires = redis.call('ZSCORE', score, one), redis.call('ZSCORE', deadline, one)
local ttl, at = redis.call('PTTL', entries .. one), nil
for i = 1, #fields, 2 do if fields[i] == field then at = i + 1 end end
for i = 3, #ARGV, 4 do
  local id = ARGV[i]
  fields[at] = ARGV[i + 1]
  redis.call('HSET', entries .. id, unpack(fields))
  redis.call('HSET', usage, id, used)
  redis.call('ZADD', score, priority, id)
  if ttl > 0 then redis.call('PEXPIRE', entries .. id, ttl) end
  if expires then redis.call('ZADD', deadline, expires, id) end
  if ARGV[i + 2] ~= '' then
    redis.call('HSET', indexed, id, ARGV[i + 2])
    redis.call('ZADD', prefixes, 0, ARGV[i + 3])
  end
end
local s = read_state(usage, '1')
s.bytes = s.bytes + (#ARGV - 2) / 4 * parse_usage(used).size
write_state(usage, s)
""")
"""Copies an entry: of each copy its id, what the named field holds, and of a text its index and its member."""


def _copy(
    url: str, part: Partition, one: bytes, field: str, entries: int, copies: Callable[[range], list[bytes]]
) -> None:
    client = redis.Redis.from_url(url)
    keys = [part.entries, part.usage, part.score, part.deadline, part.indexed, part.prefixes]
    script = client.register_script(COPY)
    for start in track(range(SMALL, entries, BATCH), f"{entries:,} entries", disable=entries == SMALL):
        numbers = range(start, min(start + BATCH, entries))
        script(keys, [one, field, *copies(numbers)])
    _settle(client, part, entries)
    client.close()


def _settle(client: redis.Redis, part: Partition, entries: int) -> None:
    """Let the server finish its tables: one that has grown is moved a little with each look-up.

    A cache that has been full for a while has that behind it; else all that is measured would pay for the filling.
    """
    for _ in range(0, entries, BATCH):
        for hashed in (part.usage, part.indexed):
            client.hmget(hashed, ["*"] * BATCH)
        for ranked in (part.score, part.deadline, part.prefixes):
            client.zmscore(ranked, ["*"] * BATCH)


OPERATIONS: list[tuple[Any, list[tuple[str, bool, Any]]]] = [
    (
        smart,
        [
            ("SmartCache.get, hit", False, lambda c, one: c.get(key(one), HASH) == OUTPUT),
            ("SmartCache.put, evicting", True, lambda c, one: c.put(key(one), OUTPUT, HASH)),
        ],
    ),
    (
        content,
        [
            ("ContentHashCache.get, exact", False, lambda c, one: c.get(text(one)) == SIGNATURE),
            (
                "ContentHashCache.get_with_prefix_match",
                False,
                lambda c, one: c.get_with_prefix_match(text(one)[:-12]) == SIGNATURE,
            ),
            ("ContentHashCache.set, evicting", True, lambda c, one: c.set(text(one), SIGNATURE)),
        ],
    ),
]
"""How a cache is filled; and of each operation its name, whether it makes new entries, and the call."""


def measure(url: str, fill: Any, operations: list[Any], entries: int, rounds: int, calls: int) -> list[Result]:
    """Every operation of one kind of cache."""
    server = redis.Redis.from_url(url)
    caches = {SMALL: fill(url, SMALL), entries: fill(url, entries)}
    results = [
        _compared(server, caches, entries, name, _numbers(caches, new=new), call, rounds, calls)
        for name, new, call in operations
    ]
    for cache in caches.values():
        cache.close()
    server.close()
    return results


def _numbers(caches: dict[int, Any], *, new: bool) -> dict[int, Iterator[int]]:
    return {entries: _new(entries) if new else _present(entries) for entries in caches}


def _new(entries: int) -> Iterator[int]:
    number = entries
    while True:
        yield number
        number += 1


def _present(entries: int) -> Iterator[int]:
    chance = random.Random(1)  # noqa: S311 - the same in every run
    while True:
        yield chance.randrange(entries)


def _compared(
    server: redis.Redis,
    caches: dict[int, Any],
    entries: int,
    name: str,
    numbers: dict[int, Iterator[int]],
    call: Any,
    rounds: int,
    calls: int,
) -> Result:
    waited: dict[int, list[float]] = {size: [] for size in caches}
    spent: dict[int, list[float]] = {size: [] for size in caches}
    for number in range(rounds + 1):
        for size in random.sample(list(caches), 2):
            given = [next(numbers[size]) for _ in range(calls)]
            before, start = _script_us(server), perf_counter()
            done = [call(caches[size], one) for one in given]
            seconds = perf_counter() - start
            assert all(done), f"{name} with {size} entries failed {done.count(False)} times"  # noqa: S101 - timed are successes
            if number:  # the first round warms up
                waited[size].append(seconds / calls * 1e6)
                spent[size].append((_script_us(server) - before) / calls)
    figures = []
    for taken in (waited, spent):
        ratio = statistics.median(large / small for large, small in zip(taken[entries], taken[SMALL], strict=True))
        figures += [statistics.median(taken[SMALL]), statistics.median(taken[entries]), ratio]
    return Result(name, entries, *figures)


def _script_us(server: redis.Redis) -> int:
    """Microseconds that the server has spent in scripts so far."""
    stats: dict[str, Any] = server.info("commandstats")
    return sum(stats[name]["usec"] for name in ("cmdstat_evalsha", "cmdstat_fcall") if name in stats)


def show(results: list[Result], url: str) -> None:
    """Print the table, and on what it was measured."""
    entries = results[0].entries
    table = Table(title=f"us a call with {SMALL:,} and with {entries:,} entries; goal: a ratio of at most {GOAL}")
    for column in ("operation", f"{SMALL:,}", f"{entries:,}", "ratio", "server", "server", "ratio"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for one in results:
        waited = (f"{one.small_us:.1f}", f"{one.large_us:.1f}", f"{one.ratio:.2f}")
        spent = (f"{one.server_small_us:.1f}", f"{one.server_large_us:.1f}", f"{one.server_ratio:.2f}")
        table.add_row(one.name, *waited, *spent)
    console = Console(width=120)
    console.print(table)
    console.print(described(url))


def main() -> None:
    """Fill, measure and print."""
    options = options_of(__doc__)
    options.add_argument("--entries", type=int, metavar="N", help=f"of the large cache; {LARGE:,}")
    chosen = options.parse_args()
    entries = chosen.entries or (QUICK if chosen.quick else LARGE)
    rounds, calls = (5, 50) if chosen.quick else (31, 200)
    results = []
    for fill, operations in OPERATIONS:
        with bare_server() as url:
            found = measure(url, fill, operations, entries, rounds, calls)
            show(found, url)
        results += found
    write_json(chosen.json, results)


if __name__ == "__main__":
    main()
