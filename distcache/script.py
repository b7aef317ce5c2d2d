"""Lua scripts: their source, their named slots, and how a call is bound to them.

The contract of a script is its own preamble, which is executable Lua::

    local entry = KEYS[1]            -- hash: the entry
    local size = tonumber(ARGV[1])   -- int: bytes of the output
    local deps, deps_at = ARGV, 2    -- list: ids of the dependencies

Python binds these names and never a number, so a missing, extra or misspelt slot fails before anything is sent. Most
keys have the name that `keys.Partition` gives them, and are taken from there.
The last form is the one variadic slot a script may have; it takes all arguments from its number on.
"""

from __future__ import annotations

import hashlib
import operator
import re
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from distcache.keys import Partition

_HERE = Path(__file__).parent
_FOLDER = _HERE / "lua" if (_HERE / "lua").is_dir() else _HERE.parent / "lua"

_SLOT = re.compile(r"^local (\w+)\s*= (?:tonumber\()?(KEYS|ARGV)\[(\d+)\]\)?\s+-- \S")
_TAIL = re.compile(r"^local (\w+), \1_at\s*= ARGV, (\d+)\s+-- \S")
_INCLUDE = re.compile(r"^( *)--@include (\w+)$", re.MULTILINE)
_PLAIN = "plain/struct.lua"


class Script:
    """One file of `lua/`, with its includes pulled in and its slots known by name."""

    def __init__(self, name: str, *, retryable: bool = False, writes: bool = True) -> None:
        """Load `lua/<name>.lua`.

        `retryable`: sending it twice does no harm, because it only reads, writes the same again, or checks a request
        id. `writes`: it may change data; a read-only client never sends such a script.
        """
        self.name = name
        self.retryable = retryable
        self.writes = writes
        self.source = expand((_FOLDER / f"{name}.lua").read_text(encoding="utf-8"))
        self.keys, self.args, self.tail = slots(self.source, name)

    @cached_property
    def text(self) -> str:
        """What a server is given: the source below the line that makes it refuse to run out of memory half-way."""
        return "#!lua\n" + self.source

    @cached_property
    def sha(self) -> bytes:
        """SHA-1 of `text`, as EVALSHA wants it."""
        return _sha1(self.text)

    @cached_property
    def plain(self) -> str:
        """The same for a server that does not know that line, and may lack a library."""
        return _prelude() + self.source

    @cached_property
    def plain_sha(self) -> bytes:
        """SHA-1 of `plain`."""
        return _sha1(self.plain)

    @cached_property
    def _slots(self) -> frozenset[str]:
        return frozenset(self.keys + self.args)

    @cached_property
    def _pick(self) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
        """All fixed slots out of a mapping, in the order in which they are sent."""
        names = self.keys + self.args
        if len(names) == 1:
            return lambda values: (values[names[0]],)
        return operator.itemgetter(*names)

    def bind(self, part: Partition, /, **values: Any) -> tuple[Any, ...]:
        """The keys and arguments of one call, in order: a slot that is not given is what the partition calls so."""
        rest: Iterable[Any] = values.pop(self.tail, ()) if self.tail else ()
        try:
            bound = self._pick({**vars(part), **values})
        except KeyError:
            bound = ()
        if not bound or not self._slots.issuperset(values):
            raise TypeError(self._wrong(part, values))
        return (*bound, *rest) if rest else bound

    def starting(self, part: Partition, width: int, **values: Any) -> Start:
        """What all calls begin with that differ in the rows of their tail only, each of so many words."""
        return Start(self, self.bind(part, **values), width)

    def _wrong(self, part: Partition, values: Mapping[str, Any]) -> str:
        missing, extra = sorted(self._slots - {*vars(part), *values}), sorted(set(values) - self._slots)
        return f"script {self.name}: missing slots {missing}, unknown slots {extra}; its Lua file lists them"


class Start:
    """The beginning that many calls of one script have in common: bound once, and packed once.

    width: words in a row. A call has any number of rows, and its reply an item for each.
    """

    __slots__ = ("heads", "script", "values", "width")

    def __init__(self, script: Script, values: tuple[Any, ...], width: int) -> None:
        self.script = script
        self.values = values
        self.width = width
        self.heads: dict[bool, bytes] = {}
        """What is sent of it, as `executor.wire` packs it."""


def expand(source: str) -> str:
    """Replace each `--@include name` by that file's text; an include may name others, each comes in once.

    One that is indented stands in a block, and is known in that block only: elsewhere it comes in again.
    """
    return _expanded(source, set())


def _expanded(source: str, seen: set[str]) -> str:
    def pull(match: re.Match[str]) -> str:
        indent, name = match.groups()
        if name in seen:
            return ""
        known = seen.copy() if indent else seen
        known.add(name)
        return _expanded((_FOLDER / "include" / f"{name}.lua").read_text(encoding="utf-8").rstrip(), known)

    return _INCLUDE.sub(pull, source)


def slots(source: str, name: str = "script") -> tuple[tuple[str, ...], tuple[str, ...], str | None]:
    """The names of KEYS, of ARGV and of the variadic tail, as the preamble declares them."""
    found: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    tail = None
    for line in source.splitlines():
        if slot := _SLOT.match(line):
            found[slot[2]].append(slot[1])
            if int(slot[3]) != len(found[slot[2]]):
                raise ValueError(f"lua/{name}.lua: slot {slot[1]!r} is numbered {slot[3]}; number the slots in order")
        elif rest := _TAIL.match(line):
            tail = rest[1]
            if int(rest[2]) != len(found["ARGV"]) + 1:
                raise ValueError(f"lua/{name}.lua: the tail {tail!r} starts at {rest[2]}; start it after the last slot")
    return tuple(found["KEYS"]), tuple(found["ARGV"]), tail


@cache
def _prelude() -> str:
    return (_FOLDER / _PLAIN).read_text(encoding="utf-8")


def folder() -> Path:
    """Where the Lua files are: inside the installed package, or beside it in a checkout."""
    return _FOLDER


def _sha1(text: str) -> bytes:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()
