"""The packed records in the hash `usage` in Python: the other side of lua/include/usage.lua and state.lua."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from distcache.script import folder

STATE = b"*"
"""The name under which the partition's state stands there."""

_INCLUDES = folder() / "include"


def _names(include: str) -> list[str]:
    """What a script unpacks, in order."""
    source = (_INCLUDES / f"{include}.lua").read_text(encoding="utf-8")
    listed = re.search(r"((?:[\w.]+,\s+)+[\w.]+) = struct\.unpack\((?:HOT|COLD)", source)[1]
    return [name.strip().removeprefix("s.") for name in listed.split(",")]


*_HOT, _, _, _, _ = _names("hot_state")
_COLD = _names("state")
TEXTS = ("partitions", "policy", "events")
_HEAD, _TAIL = struct.Struct(f"<{len(_HOT)}d"), struct.Struct(f"<{len(_COLD)}d")
USAGE_BYTES = 47


def parse_state(packed: bytes) -> dict[str, str]:
    """Names and values, as `get_stats` is told them."""
    numbers = dict(zip(_HOT, _HEAD.unpack_from(packed), strict=True))
    texts, at = {}, _HEAD.size
    for name in TEXTS:
        length = packed[at]
        texts[name] = packed[at + 1 : at + 1 + length].decode()
        at += 1 + length
    numbers |= zip(_COLD, _TAIL.unpack(packed[at:]), strict=True)
    return {name: f"{value:.17g}" for name, value in numbers.items()} | texts


def format_state(fields: dict[str, str]) -> bytes:
    """The opposite."""
    texts = [fields[name].encode() for name in TEXTS]
    head = _HEAD.pack(*(float(fields[name]) for name in _HOT))
    tail = _TAIL.pack(*(float(fields[name]) for name in _COLD))
    return head + b"".join(bytes([len(text)]) + text for text in texts) + tail


@dataclass(frozen=True)
class Usage:
    count: int
    last: int
    size: int
    cost: float
    deadline: int
    ttl: int
    f: float
    mark: str

    @classmethod
    def parse(cls, text: bytes) -> Usage:
        at = {"count": 0, "last": 6, "size": 12, "deadline": 26, "ttl": 32}
        whole = {name: int.from_bytes(text[start : start + 6], "little") for name, start in at.items()}
        (cost,), (f,) = struct.unpack_from("<d", text, 18), struct.unpack_from("<d", text, 38)
        assert len(text) == USAGE_BYTES, text
        return cls(**whole, cost=cost, f=f, mark=text[46:].decode())

    def packed(self) -> bytes:
        def six(number: int) -> bytes:
            return number.to_bytes(6, "little")

        head = six(self.count) + six(self.last) + six(self.size) + struct.pack("<d", self.cost)
        return head + six(self.deadline) + six(self.ttl) + struct.pack("<d", self.f) + self.mark.encode()


def usages(stored: dict[bytes, bytes]) -> dict[bytes, Usage]:
    """Those of the entries, out of the whole hash."""
    return {one: Usage.parse(text) for one, text in stored.items() if one != STATE}
