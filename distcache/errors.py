"""Every error that distcache raises: one root, few leaves, a sentence each."""

from __future__ import annotations


class DistcacheError(Exception):
    """The root of all errors of this library."""


class ConfigError(DistcacheError, ValueError):
    """A parameter has a value that cannot work."""


class ConfigMismatch(ConfigError):  # noqa: N818 - the design's name, read at every call site
    """The cache exists with another configuration than this client asks for."""


class ValueTooLarge(DistcacheError, ValueError):  # noqa: N818 - says what is wrong with the value, as ConfigMismatch does
    """A value is larger than the cache accepts; nothing was stored."""


class EngineError(DistcacheError):
    """No embedded server could be found or started."""


class ServerError(DistcacheError):
    """The server answered, and refused: out of memory, no permission, no Lua."""


class Unavailable(DistcacheError):  # noqa: N818 - a state of the server, named as HTTP names it
    """The server could not be reached, or did not answer within the deadline."""


class CircuitOpen(Unavailable):
    """The server failed a moment ago; this call was not sent, so that it costs nothing."""


class CorruptEntry(DistcacheError):  # noqa: N818 - what was found, not what went wrong in a call
    """Stored bytes cannot be decoded or carry no valid signature; callers see a miss."""


class NoSuchCache(DistcacheError):  # noqa: N818 - internal: a client that may not make the cache sees misses
    """A read-only client asks for a cache that nobody has made yet."""


class StaleConfig(DistcacheError):  # noqa: N818 - internal: the client reads the shared config again and repeats the call
    """The cache's shared config changed, or was flushed, since this client read it."""


class WaitsForItself(DistcacheError, RuntimeError):  # noqa: N818 - what the caller does, in the words of its message
    """A compute asked the cache for the very key that it computes."""
