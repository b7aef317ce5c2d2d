"""The in-process worker: set_compiler() and a background thread that keeps nothing alive."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest
from conftest import TIMEOUT_S
from servers import wait_until

from distcache import SmartCache

ROOT = Path(__file__).parent.parent


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "distcache-warmup"]


@pytest.fixture(autouse=True)
def _no_thread_stays():
    yield
    wait_until(lambda: not threads(), "the thread has ended")


@pytest.mark.parametrize("callback", [lambda content: f"<{content}>", lambda key, content: f"<{content}>"])
def test_what_is_queued_is_compiled_here(smart, callback):
    cache = smart()
    cache.set_compiler(callback)
    assert cache.warmup_unit("k", "source", "h") is True
    wait_until(lambda: cache.get("k", "h") is not None, "it is compiled", TIMEOUT_S)
    assert cache.get("k", "h") == "<source>"
    cache.stop_warmup()
    cache.stop_warmup()


def test_an_async_callback(smart):
    cache = smart()

    async def callback(key, content):
        return key + content

    cache.set_compiler(callback)
    cache.warmup_dependencies(["a", "b"], lambda key: (key.upper(), "h") if key == "a" else None)
    wait_until(lambda: cache.get("a") == "aA", "it is compiled", TIMEOUT_S)


def test_nothing_starts_when_it_is_disabled(smart):
    cache = smart(enable_warmup=False)
    cache.set_compiler(str.upper)
    assert threads() == []
    assert cache.warmup_unit("k", "source", "h")
    assert cache.queue_stats().urgent == 1


def test_stopping_ends_it_and_setting_starts_it_again(smart):
    cache = smart()
    cache.set_compiler(str.upper)
    assert len(threads()) == 1
    cache.stop_warmup()
    assert threads() == []
    cache.warmup_unit("k", "source", "h")
    cache.set_compiler(str.lower)
    wait_until(lambda: cache.get("k") == "source", "it is compiled", TIMEOUT_S)
    cache.set_compiler(None)
    assert threads() == []


def test_a_failing_callback_leaves_a_dead_letter(smart):
    cache = smart()

    def callback(_content):
        raise TypeError("no good")

    cache.set_compiler(callback)
    cache.warmup_unit("k", "source", "h")
    wait_until(lambda: cache.queue_stats().dead == 1, "it is given up", TIMEOUT_S)


def test_the_thread_does_not_keep_the_cache(backend, tmp_path):
    cache = SmartCache(tmp_path, url=backend.url, timeout_s=TIMEOUT_S)
    cache.set_compiler(str.upper)
    gone = weakref.ref(cache)
    cache._executor.close()
    del cache
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("what", ["idle", "busy"])
def test_the_interpreter_ends_without_a_word(real, tmp_path, what):
    program = f"""
import threading, time
from distcache import SmartCache
started = threading.Event()
def callback(content):
    started.set()
    time.sleep(600) if content == "busy" else None
    return content
cache = SmartCache({str(tmp_path)!r}, url={real.url!r}, timeout_s=10)
cache.set_compiler(callback)
cache.warmup_unit("k", {what!r}, "h")
assert started.wait(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    cache = SmartCache(tmp_path, url=real.url, timeout_s=TIMEOUT_S)
    assert cache.queue_stats().running == 0
    cache.close()
