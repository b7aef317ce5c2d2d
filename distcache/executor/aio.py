"""The asyncio executor."""


class AsyncExecutor:
    """Follows."""
