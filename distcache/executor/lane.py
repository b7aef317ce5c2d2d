"""The connections that one event loop has to one endpoint."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError
from distcache.executor.mux import connect
from distcache.executor.wire import Answer, Lost

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from distcache.executor.endpoint import Endpoint
    from distcache.executor.retry import Send
    from distcache.op import Block

_FAKE_WAIT_S = 0.02


class Lane:
    """Opens connections when they are needed, shares them out, and closes them with the loop."""

    def __init__(self, endpoint: Endpoint, patience_s: float, size: int) -> None:
        self._endpoint = endpoint
        self._patience_s = patience_s
        self._size = size
        self._links: list[Any] = []
        self._waiting: Any = None
        self._opening: asyncio.Task[Lost | None] | None = None
        self._reviving: asyncio.Task[DistcacheError | None] | None = None
        self._guard: AsyncGenerator[None, None] | None = None

    def ready(self) -> Any:
        """The least loaded connection if it takes a request at once, else None."""
        links = self._links
        if not links or len(links) < self._size:
            return None
        link = links[0] if len(links) == 1 else min(links, key=_load)
        return link if link.usable and not link.full else None

    async def exchange(self, send: Send) -> Answer:
        """Send commands on a connection of this loop."""
        try:
            link = await self._take(send)
        except Lost as lost:
            return lost
        answer: Answer = await link.submit(send.commands, monotonic(), send.deadline)
        return answer

    async def _take(self, send: Send) -> Any:
        while True:
            self._links = [link for link in self._links if link.usable]
            if not self._links:
                await self._open(send.deadline)
                continue
            if len(self._links) < self._size:
                self._start_opening()
            link = min(self._links, key=_load)
            if link.full:
                await link.room(send.deadline)
            elif send.careful and not link.in_flight:
                await asyncio.sleep(0)  # two turns of the loop: if the server has closed it, we know then
                await asyncio.sleep(0)
            if link.usable:
                return link

    async def _open(self, deadline: float) -> None:
        """Wait for a connection that all who need one wait for together; raises `Lost`."""
        task = self._start_opening()
        await asyncio.wait([task], timeout=deadline - monotonic())
        if not task.done():
            raise Lost("cannot be reached (timed out)", sent=False, late=True)
        if task.cancelled():
            raise Lost("cannot be reached (the loop ends)", sent=False, late=True)
        if lost := task.result():
            raise Lost(lost.reason, sent=False, late=lost.late, refused=lost.refused, final=lost.final) from lost

    def _start_opening(self) -> asyncio.Task[Lost | None]:
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._add_link())
        return self._opening

    async def _add_link(self) -> Lost | None:
        if self._guard is None:
            self._guard = self._until_the_loop_ends()
            await anext(self._guard)
        try:
            link = await self._connect(self._endpoint.busy_poll_s)
        except Lost as lost:
            return lost
        self._links.append(link)
        return None

    async def _connect(self, busy_poll_s: float) -> Any:
        deadline = monotonic() + self._patience_s
        if self._endpoint.kind != "fakeredis":
            return await connect(self._endpoint, deadline, self._patience_s, busy_poll_s)
        from distcache.executor.fake import FakeLink  # noqa: PLC0415 - fakeredis is installed for tests only

        return FakeLink(self._endpoint, deadline, self._patience_s)

    async def block(self, block: Block) -> Answer:
        """Send one command that waits on the server, on a connection of its own."""
        if self._endpoint.kind == "fakeredis":  # does not wait, and so would be asked without a pause
            await asyncio.sleep(min(block.wait_s, _FAKE_WAIT_S))
            return [None]
        await self._watch()
        link, self._waiting = self._waiting, None
        try:
            if link is None or not link.usable:
                link = await self._connect(0.0)
            now = monotonic()
            answer: Answer = await link.submit([block.command], now, now + block.wait_s + self._patience_s)
        except Lost as lost:
            return lost
        except asyncio.CancelledError:
            if link is not None:  # what the server would still hand out on it nobody would get
                await link.leave()
            raise
        if isinstance(answer, Lost):  # it may still come, and must not be read as the next one's
            link.drop("closed the connection")
        else:
            self._waiting = link
        return answer

    async def revive(self) -> DistcacheError | None:
        """Call the endpoint's `revive` in a thread, once for all who want it now."""
        if self._reviving is None or self._reviving.done():
            self._reviving = asyncio.get_running_loop().create_task(_in_thread(self._endpoint.revive))
        return await asyncio.shield(self._reviving)

    async def _watch(self) -> None:
        if self._guard is None:
            self._guard = self._until_the_loop_ends()
            await anext(self._guard)

    async def _until_the_loop_ends(self) -> AsyncGenerator[None, None]:
        """asyncio.run ends the async generators of its loop; this one takes the connections along, silently."""
        try:
            yield
        finally:
            for link in self._links:
                link.drop("closed the connection")
            self._links = []
            if self._waiting is not None:
                self._waiting.drop("closed the connection")
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        if self._guard is not None:
            await self._guard.aclose()


async def _in_thread(revive: Callable[[], None] | None) -> DistcacheError | None:
    try:
        if revive is not None:
            await asyncio.to_thread(revive)
    except DistcacheError as error:
        return error
    return None


def _load(link: Any) -> int:
    return int(link.in_flight)
