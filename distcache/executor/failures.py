"""What an error reply means: whether the request may be sent again, and which of our errors it becomes.

Messages never carry keys, values, arguments or passwords: they name the script, the server's error code and a remedy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from distcache.errors import CircuitOpen, DistcacheError, ServerError, StaleConfig, Unavailable

if TYPE_CHECKING:
    from distcache.executor.wire import Lost, Refused

# The server is there and will soon be able to: a failover, a restart, or a slow script of somebody else.
_PASSING = {"LOADING", "BUSY", "READONLY", "MASTERDOWN", "NOREPLICAS", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"}
_TOO_MANY = "ERR max number of clients"
_LINE = re.compile(r"user_script:(\d+)")

_REMEDIES = {
    "OOM": "is out of memory; raise its maxmemory, or lower the cache's bounds",
    "NOPERM": "does not permit it to this user; `distcache acl` prints the rules that are needed",
    "NOAUTH": "wants a password; put user and password into the URL",
    "WRONGPASS": "does not accept this user and password; check the URL",
    "MISCONF": "cannot save to its disk and takes no writes; see its log",
    "WRONGTYPE": "holds a key of another kind under this name; give the cache a namespace of its own",
    "CROSSSLOT": "is a cluster node and the keys lie in several slots; use one server for now",
    "MOVED": "is a node of a cluster, which is not supported yet; use one server for now",
    "ASK": "is a node of a cluster, which is not supported yet; use one server for now",
    "NOPROTO": "does not speak this protocol version; Redis 7 or Valkey 8 is needed",
}


def passing(refused: Refused) -> bool:
    """Whether the same request may succeed a little later."""
    return refused.code in _PASSING or refused.text.startswith(_TOO_MANY)


def executed(refused: Refused) -> bool:
    """Whether the refused request may have taken effect."""
    return refused.started or refused.code == "UNBLOCKED"


def refusal(refused: Refused, what: str, where: str) -> DistcacheError:
    """Our error for a reply that will not get better by waiting; `what` was refused, by the server at `where`."""
    if refused.code == "STALECONFIG":
        error: DistcacheError = StaleConfig("the cache's shared config changed; read it again and repeat the call")
    else:
        error = ServerError(f"{what} was refused: the server at {where} {_remedy(refused)}")
    error.__cause__ = refused
    return error


def _remedy(refused: Refused) -> str:
    text = refused.text.lower()
    if refused.code in _REMEDIES:
        return _REMEDIES[refused.code]
    if "unknown command" in text or "unknown subcommand" in text or ("lua" in text and "module" in text):
        return "has no Lua scripts (EVALSHA); load its Lua module, or use Redis 7.0+ or Valkey 8+"
    if "password" in text:
        return "does not accept this password; check user and password in the URL"
    if "db index" in text:
        return "has no such database; check the number in the URL"
    if "compil" in text:
        return "cannot compile it; Redis 7.0+ or Valkey 8+ is needed"
    line = _LINE.search(refused.text)
    return f"answered {refused.code}" + (f" at line {line[1]}" if line else "") + "; its text is this error's cause"


def unavailable(trouble: Lost | Refused, what: str, where: str, timeout_s: float) -> Unavailable:
    """Our error for a request that found no answer in time."""
    remedy = f"check that the server runs and is reachable, or raise timeout_s ({timeout_s:g} s)"
    state = getattr(trouble, "reason", None) or f"is not ready ({getattr(trouble, 'code', '')})"
    error = Unavailable(f"{what} failed: the server at {where} {state}; {remedy}")
    error.__cause__ = trouble
    return error


def circuit_open(where: str) -> CircuitOpen:
    """Our error for a call that was not sent."""
    return CircuitOpen(f"the server at {where} failed a moment ago; this call was not sent, one call per second is")
