"""ContentHashCache when things break, or somebody tampers: misses that are counted, never a wrong signature."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from packed import STATE, Usage
from servers import wait_until
from twins import Twin

from distcache import AsyncContentHashCache, ContentHashCache, SmartCache
from distcache.content import text as texts
from distcache.errors import ConfigError, ConfigMismatch, ServerError, Unavailable, ValueTooLarge
from distcache.keys import scope_id

NOWHERE = "unix:///nowhere/at/all"
PRIVATE = "a very private thought"
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
ROOT = scope_id(())


def entry(text):
    return b"{dc1:signatures:0}:e:" + texts.query(ROOT, text).id


# the server is gone


@pytest.mark.parametrize("cls", [ContentHashCache, AsyncContentHashCache])
def test_without_a_server_reads_miss_and_writes_are_dropped(cls, loop, caplog):
    with Twin(cls(url=NOWHERE, timeout_s=0.05), loop) as cache:
        assert cache.get(PRIVATE) is None
        assert cache.get_with_prefix_match(PRIVATE, 1) is None
        assert cache.lookup(PRIVATE) is None
        assert cache.get_key(PRIVATE) is None
        assert cache.lookup_key(PRIVATE) is None
        assert cache.set(PRIVATE, PRIVATE) is False
        assert cache.set_key(PRIVATE, PRIVATE) is False
        assert cache.get_many([PRIVATE]) == {}
        assert cache.set_many({PRIVATE: PRIVATE}) == 0
        assert cache.clear() == 0
        assert cache.cleanup_expired() == 0
        assert cache.get_stats()["max_size"] == 10_000
        assert cache.local_stats()["errors"] >= 12
    assert [record.name for record in caplog.records] == ["distcache"]
    assert PRIVATE not in caplog.text


@pytest.mark.parametrize("cls", [ContentHashCache, AsyncContentHashCache])
def test_errors_can_be_raised_instead(cls, loop):
    with pytest.raises(Unavailable) as error, Twin(cls(url=NOWHERE, timeout_s=0.05, on_error="raise"), loop) as cache:
        cache.get(PRIVATE)
    assert PRIVATE not in str(error.value)


def test_a_server_that_was_emptied_is_a_cache_that_is_empty(content, backend):
    cache = content(max_size=5, partitions=2)
    cache.set("text", "s")
    backend.client.flushall()
    assert cache.get("text") is None
    assert cache.set("text", "s") is True
    assert cache.get_with_prefix_match("te", 1) == "s"
    assert cache.get_stats()["max_size"] == 5


def test_a_set_that_is_sent_twice_takes_effect_once(content):
    cache = content()
    flows = cache.raw._flows
    cache.set("text", "1")
    again = flows._prepare(texts.place(ROOT, "text"), "2", b"2")(flows._ops)
    cache._settle(cache.raw._executor.run(again))
    cache.set("text", "3")
    cache._settle(cache.raw._executor.run(again))
    assert cache.get("text") == "3"
    assert cache.get_stats()["total_writes"] == 3


def test_a_set_that_is_refused_twice_says_so_twice(content):
    cache = content(max_size_mb=0.001)
    flows = cache.raw._flows
    refused = flows._prepare(texts.place(ROOT, "text"), "s" * 2000, b"s" * 2000)(flows._ops)
    for _ in range(2):
        with pytest.raises(ValueTooLarge):
            cache._settle(cache.raw._executor.run(refused))


def test_a_namespace_holds_one_kind_of_cache(content, backend, tmp_path):
    content(namespace="mine")
    with pytest.raises(ConfigMismatch, match="kind is content"):
        SmartCache(tmp_path, url=backend.url, namespace="mine", on_error="raise", timeout_s=10)


# what is stored is not what was stored


@pytest.mark.parametrize("how", ["exact", "normalized", "prefix"])
def test_what_cannot_be_decoded_is_a_miss_and_goes(content, backend, how):
    cache = content(min_prefix_length=1)
    cache.set("some text", "sig")
    backend.client.hset(entry("some text"), "s", b"\xff nonsense")
    query = {"exact": "some text", "normalized": " some  text", "prefix": "some"}[how]
    assert cache.get_with_prefix_match(query) is None
    stats = cache.get_stats()
    assert (stats["corrupt"], stats["misses"], stats["total_hits"], stats["current_size"]) == (1, 1, 0, 0)
    assert cache.local_stats()["corrupt"] == 1
    assert cache.set("some text", "new")
    assert cache.get_with_prefix_match(query) == "new"


def test_a_read_only_client_misses_what_cannot_be_decoded(content, backend):
    cache, reader = content(), content(read_only=True)
    cache.set("some text", "sig")
    backend.client.hset(entry("some text"), "s", b"")
    assert reader.get("some text") is None
    assert reader.local_stats()["corrupt"] == 1
    assert cache.get_stats()["current_size"] == 1


def test_fault_no_text_was_ever_verified(content, backend):
    cache = content()
    cache.set("some text", "sig")
    backend.client.hset(entry("some text"), "o", b"\x01another text")
    assert cache.lookup("some text") is None
    assert cache.get_stats()["corrupt"] == 1


def test_an_entry_under_the_id_of_another_text_is_no_hit(content, backend):
    cache = content()
    cache.set("some text", "sig")
    backend.client.hset(entry("some text"), "v", b"x" * 32)
    assert cache.get("some text") is None
    backend.checked = False


def test_signed_values_are_found_by_every_step(content):
    cache = content(sign_keys=(KEY,), min_prefix_length=1)
    cache.set("some  text", "sig")
    cache.set_key("k", "of the key", "its text")
    for query, level in (("some  text", "exact"), ("some text", "normalized"), ("some", "prefix")):
        assert cache.get_with_prefix_match(query) == "sig"
        assert cache.lookup(query, prefix=True).level == level
    assert cache.get_key("k") == "of the key"
    assert cache.lookup_key("k").text == "its text"
    assert content(sign_keys=(OTHER_KEY, KEY)).get("some  text") == "sig"


def test_unsigned_and_wrongly_signed_values_are_misses(content):
    plain, signed, other = content(), content(sign_keys=(KEY,)), content(sign_keys=(OTHER_KEY,))
    plain.set("some text", "sig")
    assert signed.get("some text") is None
    signed.set("some text", "sig")
    assert other.get("some text") is None
    signed.set("some text", "sig")
    assert plain.get("some text") == "sig"


def test_a_signature_moved_to_another_text_is_a_miss(content, backend):
    cache = content(sign_keys=(KEY,))
    cache.set_many({"one": "1", "two": "2"})
    backend.client.hset(entry("one"), "s", backend.client.hget(entry("two"), "s"))
    assert cache.get("one") is None
    assert cache.get("two") == "2"


@pytest.mark.parametrize("how", ["normalized", "prefix"])
def test_an_index_that_leads_to_another_text_is_a_miss(content, backend, how):
    """Who can write to the server can change the index; with signed values, the text that comes along shows it."""
    cache = content(sign_keys=(KEY,), min_prefix_length=1)
    cache.set("good text", "good")
    query = texts.query(ROOT, "evil query")
    member = query.stem + (b"\0" if how == "normalized" else b" and more\0") + texts.query(ROOT, "good text").id
    backend.client.zadd("{dc1:signatures:0}:prefixes", {member: 0})
    backend.client.hset(entry("good text"), "v", query.check)
    assert cache.get_with_prefix_match("evil query") is None
    assert cache.get_stats()["corrupt"] == 1
    backend.checked = False


# clients that only read


def test_a_read_only_client_changes_nothing(content, backend):
    cache, reader = content(min_prefix_length=1), content(read_only=True, min_prefix_length=1)
    cache.set("some text", "sig")
    before = backend.keyspace().content()
    assert reader.get("some text") == "sig"
    assert reader.get_with_prefix_match("some") == "sig"
    assert reader.lookup(" some text").text == "some text"
    assert reader.get_many(["some text", "other"]) == {"some text": "sig"}
    assert reader.get_stats()["current_size"] == 1
    assert reader.set("some text", "s") is False
    assert reader.set_key("k", "s") is False
    assert reader.set_many({"a": "b"}) == 0
    assert reader.clear() == 0
    assert reader.cleanup_expired() == 0
    assert backend.keyspace().content() == before


def test_a_read_only_client_of_several_partitions(content, backend):
    cache = content(min_prefix_length=1, partitions=4)
    reader = content(read_only=True, min_prefix_length=1)
    cache.set_many({"some text": "1", "other text": "2"})
    before = backend.keyspace().content()
    assert [reader.get_with_prefix_match(text) for text in ("some", "o", "x")] == ["1", "2", None]
    assert backend.keyspace().content() == before


# many at once


def test_threads_share_a_cache(backend):
    with ContentHashCache(url=backend.url, timeout_s=10, on_error="raise", min_prefix_length=1, max_size=50) as cache:

        def work(number):
            for step in range(30):
                text = f"thread {number}, step {step}, and on"
                cache.set(text, text[::-1])
                for query in (text, f" {text}", text[:-3]):
                    assert cache.get_with_prefix_match(query) in (text[::-1], None)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
        assert cache.get_stats()["current_size"] == 50


def test_tasks_share_a_cache(backend):
    async def main():
        async with AsyncContentHashCache(url=backend.url, timeout_s=10, on_error="raise", min_prefix_length=1) as cache:

            async def work(number):
                text = f"task {number}, and on"
                assert await cache.set(text, str(number))
                assert await cache.scoped("team").get(text) is None
                return await cache.get_with_prefix_match(text[:-3])

            found = await asyncio.gather(*(work(number) for number in range(200)))
            assert found == [str(number) for number in range(200)]

    asyncio.run(main())


# the cleanup now and then


def cleaners():
    return [thread for thread in threading.enumerate() if thread.name == "distcache-periodic"]


def test_the_background_cleanup_removes_what_expired(content, backend):
    cache = content(ttl_seconds=60)
    cache.set_many({"a": "1", "b": "2"})
    backend.let_pass(61)
    cache.start_cleanup(0.01)
    if cache._loop_of and isinstance(cache.raw, AsyncContentHashCache):
        cache._settle(asyncio.sleep(0.2))
    wait_until(lambda: cache.get_stats()["expirations"] == 2, "both are gone")
    cache.stop_cleanup()
    assert cache.get_stats()["current_size"] == 0


def test_the_cleanup_goes_on_after_a_failure_and_ends_when_stopped(backend, monkeypatch):
    with ContentHashCache(url=backend.url, timeout_s=10) as cache:
        calls = []

        def fail(_self):
            calls.append(1)
            raise Unavailable("not now")

        monkeypatch.setattr(ContentHashCache, "cleanup_expired", fail)
        cache.start_cleanup(0.01)
        wait_until(lambda: len(calls) >= 3, "it is called again and again")
        cache.start_cleanup(1000)
        wait_until(lambda: len(cleaners()) == 1, "the first one ended")
        cache.stop_cleanup()
        wait_until(lambda: not cleaners(), "the thread ended")


def test_the_cleanup_keeps_no_cache_alive(backend):
    cache = ContentHashCache(url=backend.url, timeout_s=10)
    view = cache.scoped("team")
    view.start_cleanup(1000)
    executor = cache._executor
    del cache
    gc.collect()
    assert len(cleaners()) == 1
    del view
    gc.collect()
    wait_until(lambda: not cleaners(), "the thread ended with the cache")
    executor.close()


def test_the_cleanup_of_the_async_twin_ends_with_it(backend):
    async def main():
        cache = AsyncContentHashCache(url=backend.url, timeout_s=10)
        await cache.start_cleanup(0.01)
        await cache.start_cleanup(0.01)
        tasks = [task for task in asyncio.all_tasks() if task.get_name() == "distcache-periodic"]
        assert len(tasks) == 1
        await cache.aclose()
        assert tasks[0].cancelled()
        other = AsyncContentHashCache(url=backend.url, timeout_s=10)
        await other.start_cleanup(0.01)
        task = other._cleanup._task
        del other
        await asyncio.wait([task], timeout=5)
        assert task.done()

    asyncio.run(main())


def test_a_program_ends_while_the_cleanup_runs(real):
    code = (
        "from distcache import ContentHashCache\n"
        f"cache = ContentHashCache(url={real.url!r}, timeout_s=10)\n"
        "cache.start_cleanup(1000)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=30)


@pytest.mark.parametrize("interval", [0, -1, "1", None, True, float("inf"), float("nan")])
def test_an_interval_that_is_none_is_refused(content, interval):
    with pytest.raises(ConfigError, match="interval_s"):
        content().start_cleanup(interval)


# where it is


def test_without_a_url_the_environment_decides(backend, monkeypatch):
    monkeypatch.setenv("DISTCACHE_URL", backend.url)
    with ContentHashCache(timeout_s=10, on_error="raise") as cache:
        assert cache.set("text", "sig")
    with ContentHashCache(url=backend.url, timeout_s=10, on_error="raise") as cache:
        assert cache.get("text") == "sig"


def test_without_anything_it_is_embedded_in_the_users_cache_directory(tmp_path, monkeypatch):
    monkeypatch.delenv("DISTCACHE_URL", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    for _ in range(2):
        with ContentHashCache(timeout_s=10, on_error="raise", max_size=7) as cache:
            cache.set("text", "sig")
            assert cache.get("text") == "sig"
    with ContentHashCache(timeout_s=10, max_size=8) as cache:
        assert cache.get_stats()["max_size"] == 8
    assert [path.name for path in tmp_path.rglob("distcache") if path.is_dir()] == ["distcache"]


def test_a_refusal_of_the_server_is_an_error_without_the_text(real):
    with ContentHashCache(url=real.url, timeout_s=10, on_error="raise") as cache:
        real.client.set("{dc1:signatures:0}:prefixes", "no sorted set")
        with pytest.raises(ServerError) as error:
            cache.set(PRIVATE, PRIVATE)
        assert PRIVATE not in str(error.value)
    real.client.flushall()


@pytest.mark.parametrize("first", [0, 1])
def test_a_search_that_fails_half_way_forgets_nothing_of_what_it_did(content, backend, first):
    cache = content(on_error="raise", timeout_s=10)
    spaced = sorted(["a b c", "a  b  c"], key=entry)  # as a search meets them
    for text in spaced:
        cache.set(text, "signature")
    backend.client.delete(entry(spaced[first]))
    backend.client.set(entry(spaced[1 - first]), "no hash")
    with pytest.raises(ServerError):
        cache.get("a   b   c")
    used = [record for name, record in backend.client.hgetall("{dc1:signatures:0}:usage").items() if name != STATE]
    assert cache.get_stats()["total_size_mb"] == sum(Usage.parse(record).size for record in used) / 2**20
    backend.client.flushall()
