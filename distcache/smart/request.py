"""What the parameters of a SmartCache ask of the shared config."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distcache import config
from distcache.config import Default

if TYPE_CHECKING:
    from distcache.client import Engine
    from distcache.config import SmartOptions

MAX_ENTRIES = Default(10_000)
MAX_SIZE_MB = Default(500)


def smart_request(engine: Engine, max_entries: int, max_size_mb: float, options: SmartOptions) -> config.Request:
    """What these parameters ask of the shared config."""
    entries, size = config.whole("max_entries", max_entries, 1), config.megabytes(max_size_mb)
    given = {
        "max_entries": None if isinstance(max_entries, Default) else entries,
        "max_bytes": None if isinstance(max_size_mb, Default) else size,
        "policy": options.get("policy"),
        "ttl_ms": config.ttl_ms(options.get("ttl_seconds")),
        "sliding": options.get("sliding"),
        "versions": options.get("versions"),
        "partitions": options.get("partitions"),
        "events": config.event_kinds(options.get("events")),
        "event_cap": options.get("event_cap"),
        "history": options.get("history"),
        "history_age_ms": config.ttl_ms(options.get("history_age_s")),
    }
    reconfigure = options.get("reconfigure")
    proposal = {"kind": "smart", "max_entries": entries, "max_bytes": size}
    return config.request(proposal, given, reconfigure=engine.embedded if reconfigure is None else reconfigure)
