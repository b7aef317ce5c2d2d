"""distcache: one shared, bounded cache for build outputs and LLM signatures, on Redis or Valkey."""

from distcache.content.cache import AsyncContentHashCache, ContentHashCache
from distcache.content.records import Match
from distcache.content.validators import base64_signature
from distcache.errors import (
    CircuitOpen,
    ConfigError,
    ConfigMismatch,
    DistcacheError,
    EngineError,
    ServerError,
    Unavailable,
    ValueTooLarge,
    WaitsForItself,
)
from distcache.near import NearCache
from distcache.smart.cache import AsyncSmartCache, SmartCache, create_smart_cache, get_smart_cache
from distcache.smart.records import EntryInfo, HistoryRecord, Version
from distcache.warmup.records import Compiled, QueuedTask, QueueStats, Task, WorkerInfo
from distcache.warmup.warmer import Warmer
from distcache.warmup.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AsyncContentHashCache",
    "AsyncSmartCache",
    "CircuitOpen",
    "Compiled",
    "ConfigError",
    "ConfigMismatch",
    "ContentHashCache",
    "DistcacheError",
    "EngineError",
    "EntryInfo",
    "HistoryRecord",
    "Match",
    "NearCache",
    "QueueStats",
    "QueuedTask",
    "ServerError",
    "SmartCache",
    "Task",
    "Unavailable",
    "ValueTooLarge",
    "Version",
    "WaitsForItself",
    "Warmer",
    "Worker",
    "WorkerInfo",
    "__version__",
    "base64_signature",
    "create_smart_cache",
    "get_smart_cache",
]
