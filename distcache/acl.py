"""The ACL rules that a client needs, read out of the scripts that it sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from distcache import shared, touches
from distcache.content import ops as content
from distcache.keys import Keyspace, check_namespace
from distcache.script import Script
from distcache.smart import flight_ops as flights
from distcache.smart import ops as smart
from distcache.warmup import ops as warmup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SENDS = ("evalsha", "script|load")
"""What a client sends itself; everything else it does is done by a script, with this user's rights."""
NEAR = ("hello", "ping", "client|tracking")
"""What a client with a near cache also sends."""
_OF_NEAR = (content.LIFE, touches.TOUCHES)
"""Scripts that no other client sends."""
WAITS = ("xread",)
"""What a client also sends that computes what is missing, or waits for another that does."""

_MODULES: dict[str, tuple[ModuleType, ...]] = {
    "reader": (shared, touches, smart, flights, content, warmup),
    "writer": (shared, touches, smart, flights, content, warmup),
    "worker": (shared, touches, smart, flights, content, warmup),
}
_CALL = re.compile(r"redis\.p?call\(\s*'(\w+)'(?:,\s*'(\w+)')?")
_CONTAINERS = {"xgroup", "xinfo", "object"}
"""Commands whose rights are given by subcommand."""

ROLES = tuple(_MODULES)
"""reader: a client with read_only=True. writer: any other client. worker: a process of `distcache worker`."""


def rules(role: str, namespace: str, *, near: bool = False) -> list[str]:
    """The words that follow the name and password in ACL SETUSER. ConfigError for a namespace that cannot be one."""
    pattern = Keyspace(check_namespace(namespace), 1).pattern.decode()
    commands = {command for script in _scripts(role, near=near) for command in _commands(script)}
    commands.update(() if role == "reader" else WAITS)
    commands.update(NEAR if near else ())
    words = (*SENDS, *sorted(commands))
    return ["resetkeys", "resetchannels", f"~{pattern}", "-@all", *(f"+{command}" for command in words)]


def _scripts(role: str, *, near: bool) -> Iterator[Script]:
    """The scripts that this role sends; a client that is read-only sends none that writes."""
    scripts = (value for module in _MODULES[role] for value in vars(module).values() if isinstance(value, Script))
    for script in scripts:
        if not (role == "reader" and script.writes) and (near or script not in _OF_NEAR):
            yield script


def _commands(script: Script) -> Iterator[str]:
    """The commands that a script may call."""
    for command, second in _CALL.findall(script.source):
        name = command.lower()
        yield f"{name}|{second.lower()}" if name in _CONTAINERS else name
