"""Drives either twin of a class with the same test body: coroutines are awaited, iterators become lists."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self


class Loop:
    """A private event loop with one task that awaits whatever is given to it.

    One task, because a cache learns from the order of calls within a task.
    """

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._loop = self._runner.get_loop()
        self._work: asyncio.Queue[tuple[Any, asyncio.Future[Any]]] = asyncio.Queue()
        self._task = self._loop.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            awaitable, future = await self._work.get()
            try:
                future.set_result(await awaitable)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the caller's
                future.set_exception(error)

    def run(self, awaitable: Any) -> Any:
        """The result, or the exception, of an awaitable."""
        future = self._loop.create_future()
        self._work.put_nowait((awaitable, future))
        return self._loop.run_until_complete(future)

    def close(self) -> None:
        self._task.cancel()
        self._runner.close()


class Twin:
    """A cache of either kind that looks like the blocking one. `raw`: the object itself."""

    def __init__(self, raw: Any, loop: Loop) -> None:
        self.raw = raw
        self._loop_of = loop

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.raw, name)
        if not callable(attribute):
            return attribute
        return lambda *args, **named: self._settle(attribute(*args, **named))

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("raw", "_loop_of"):
            object.__setattr__(self, name, value)
        else:
            setattr(self.raw, name, value)

    def _settle(self, result: Any) -> Any:
        if inspect.isawaitable(result):
            return self._loop_of.run(result)
        if isinstance(result, AsyncIterator):
            return self._loop_of.run(_collect(result))
        if isinstance(result, Iterator):
            return list(result)
        return result

    def __enter__(self) -> Self:
        self._settle(self.raw.__aenter__() if hasattr(self.raw, "__aenter__") else self.raw.__enter__())
        return self

    def __exit__(self, *error: object) -> None:
        how = self.raw.__aexit__ if hasattr(self.raw, "__aexit__") else self.raw.__exit__
        self._settle(how(*error))

    def close(self) -> None:
        self._settle(self.raw.aclose() if hasattr(self.raw, "aclose") else self.raw.close())


async def _collect(iterator: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in iterator]
