"""distcache: one shared, bounded cache for build outputs and LLM signatures, on Redis or Valkey."""

from distcache.errors import (
    CircuitOpen,
    ConfigError,
    ConfigMismatch,
    DistcacheError,
    EngineError,
    ServerError,
    Unavailable,
    ValueTooLarge,
)
from distcache.smart.cache import AsyncSmartCache, SmartCache, create_smart_cache, get_smart_cache
from distcache.smart.records import EntryInfo, HistoryRecord, Version

__version__ = "0.1.0"

__all__ = [
    "AsyncSmartCache",
    "CircuitOpen",
    "ConfigError",
    "ConfigMismatch",
    "DistcacheError",
    "EngineError",
    "EntryInfo",
    "HistoryRecord",
    "ServerError",
    "SmartCache",
    "Unavailable",
    "ValueTooLarge",
    "Version",
    "__version__",
    "create_smart_cache",
    "get_smart_cache",
]
