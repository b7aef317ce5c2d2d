"""The only code that blocks or awaits, and the only place that imports redis-py: it sends ops and returns results."""

from distcache.executor.aio import AsyncExecutor
from distcache.executor.endpoint import Endpoint
from distcache.executor.sync import SyncExecutor

__all__ = ["AsyncExecutor", "Endpoint", "SyncExecutor"]
