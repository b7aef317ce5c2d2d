"""A connection to fakeredis: a server inside this process, for tests that need none on the machine."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

import fakeredis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

from distcache.executor.wire import Answer, Command, Lost, Refused, call, own_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distcache.executor.endpoint import Endpoint
    from distcache.op import Op


@cache
def server(_name: str) -> fakeredis.FakeServer:
    """The one server of that name in this process; its `connected` can be set to False, to test a dead one."""
    return fakeredis.FakeServer(version=(7,))


class FakeLink:
    """Answers like `link.Link`, but never late."""

    usable, full, in_flight = True, False, 0

    def __init__(self, endpoint: Endpoint, _deadline: float, _patience_s: float) -> None:
        name = endpoint.label.partition("://")[2]
        self._client = fakeredis.FakeRedis(server=server(name), retry=Retry(NoBackoff(), 0))

    def call(self, op: Op[Any], _deadline: float, *, plain: bool) -> Any:
        """One script and its reply; raises `Lost` when the server is set to be unreachable."""
        return self._ask(call((op,), plain=plain))

    def _ask(self, command: Command) -> Any:
        try:
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except RedisConnectionError as error:
            raise Lost("cannot be reached", sent=False) from error
        except RedisError as error:
            code = getattr(error, "status_code", None)
            return Refused(f"{code} {error}" if code else str(error))

    def exchange(self, commands: Sequence[Command], _deadline: float) -> list[Any]:
        """Several commands, and all their replies."""
        return [self._ask(command) for command in commands]

    def submit(self, commands: list[Command], _began: float, deadline: float) -> asyncio.Future[Answer]:
        """The same for asyncio: the future is done already."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        try:
            future.set_result(self.exchange(commands, deadline))
        except Lost as lost:
            future.set_result(lost)
        return future

    def enqueue(self, op: Op[Any], began: float, deadline: float, *, plain: bool) -> asyncio.Future[Answer]:
        """The same, of one script."""
        future = self.submit([call((op,), plain=plain)], began, deadline)
        answer = future.result()
        if type(answer) is list:
            answer[:] = [own_item(op, answer[0])]
        return future

    def stale(self) -> bool:
        """Never: there is no connection that could be closed."""
        return False

    def drop(self, _reason: str) -> None:
        """The same for asyncio."""
        self.close()

    def close(self) -> None:
        """Give the client back; the server stays."""
        self._client.close()
