"""One AsyncExecutor in several event loops, none of which it closes: no error and no warning may follow."""

from __future__ import annotations

import asyncio
import gc
import os
import threading

import pytest
from scripts import echo
from servers import binaries, has_tls, start_server

from distcache.executor import AsyncExecutor, Endpoint

# Python 3.12 warns of any fork beside threads; those of the proxies hold no lock that the child needs.
FORKS = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def server():
    with start_server(binaries()["redis"], tls=has_tls("redis")) as running:
        yield running


async def use(executor: AsyncExecutor, text: str) -> bytes:
    await asyncio.gather(*[executor.run(echo(text)) for _ in range(10)])
    return await executor.run(echo(text))


@pytest.fixture(params=["unix", "url"])
def executor(request, server):
    yield AsyncExecutor(Endpoint(server.url if request.param == "url" else f"unix://{server.path}"), timeout_s=5.0)
    gc.collect()


def test_one_after_another(server, executor):
    for number in range(4):
        assert asyncio.run(use(executor, f"{number}")) == b"%d" % number
        gc.collect()
    assert len(executor._lanes) == 1
    with server.client() as client:
        assert len(client.client_list()) == 1


def test_in_several_threads_at_once(executor):
    replies = {}

    def work(number: int) -> None:
        replies[number] = asyncio.run(use(executor, f"{number}"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == {number: b"%d" % number for number in range(6)}


def test_a_loop_that_ends_in_the_middle_of_calls(executor):
    async def leave() -> None:
        await executor.run(echo("connect"))
        for _ in range(10):
            task = asyncio.create_task(executor.run(echo("unfinished")))
            tasks.add(task)
        await asyncio.sleep(0)

    async def leave_while_connecting() -> None:
        tasks.add(asyncio.create_task(executor.run(echo("unfinished"))))
        await asyncio.sleep(0)

    tasks: set[asyncio.Task[bytes]] = set()
    for _ in range(3):
        asyncio.run(leave())
        asyncio.run(leave_while_connecting())
        gc.collect()
    assert asyncio.run(use(executor, "next")) == b"next"


@FORKS
def test_a_child_process_has_a_loop_of_its_own(executor):
    asyncio.run(use(executor, "parent"))
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if asyncio.run(use(executor, "child")) == b"child" else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert asyncio.run(use(executor, "parent")) == b"parent"
