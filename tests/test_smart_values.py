"""What goes in comes back, or nothing does: types, compression, limits, corruption, signatures."""

from __future__ import annotations

import random

import pytest
import zstandard

from distcache.codec import pack
from distcache.errors import ValueTooLarge
from distcache.keys import Partition, key_id

PART = Partition("smart", 0)
ENTRY = PART.entry(key_id(b"a"))
KEY, OTHER = b"k" * 32, b"o" * 32
NOISE = random.Random(1).randbytes(5000)


@pytest.mark.parametrize(
    "value",
    ["", b"", "text", b"bytes", "é\0\ud800\U0001f600", "x" * 100_000, NOISE, NOISE.hex(), b"\0" * 70_000, bytes(1023)],
    ids=lambda value: f"{type(value).__name__}-{len(value)}",
)
@pytest.mark.parametrize("sign_keys", [(), (KEY,)], ids=["", "signed"])
def test_a_value_comes_back_as_it_went_in(smart, value, sign_keys):
    cache = smart(sign_keys=sign_keys)
    assert cache.put("a", value, "h")
    for got in (cache.get("a"), cache.get("a", "h"), cache.get_many(["a"])["a"]):
        assert got == value
        assert type(got) is type(value)
    size = len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)
    info = cache.inspect("a")
    assert info.size_bytes == size
    assert info.stored_bytes <= size + 40
    assert (info.stored_bytes < size / 10) == (size > 10_000)


@pytest.mark.parametrize("value", [None, 7, 1.5, ["x"], {"a": 1}, bytearray(b"x"), memoryview(b"x")])
def test_a_value_of_another_type_is_refused(smart, value):
    cache = smart()
    cache.put("a", "older", "h")
    with pytest.raises(TypeError, match="str or bytes"):
        cache.put("a", value, "h")
    assert cache.get("a") == "older"


def test_a_value_over_the_limit_is_refused_and_nothing_survives(smart):
    cache = smart(max_value_bytes=1000, versions=2)
    cache.put("a", "one", "h1")
    cache.put("a", "two", "h2")
    cache.put("b", "other", "h")
    with pytest.raises(ValueTooLarge, match="1,001 bytes and the limit is 1,000"):
        cache.put("a", "x" * 1001, "h3")
    assert cache.get("a") is None
    assert cache.get("a", "h1") is None
    assert cache.get("b") == "other"
    assert cache.put("a", "x" * 1000, "h3")


def test_the_limit_counts_bytes_not_characters(smart):
    cache = smart(max_value_bytes=10)
    with pytest.raises(ValueTooLarge):
        cache.put("a", "é" * 6, "h")
    assert cache.put("a", "é" * 5, "h")


def test_put_many_refuses_a_value_over_the_limit_before_anything_is_stored(smart):
    cache = smart(max_value_bytes=10)
    cache.put("a", "older", "h")
    cache.put("c", "older", "h")
    items = [{"key": key, "output": "x" * size, "content_hash": "h"} for key, size in (("c", 1), ("a", 11), ("b", 1))]
    with pytest.raises(ValueTooLarge):
        cache.put_many(items)
    assert cache.get_many("abc") == {"c": "older"}, "and the older value under its key does not survive it"


def test_a_value_over_the_caches_own_bound_is_refused_and_nothing_survives(smart):
    cache = smart(max_size_mb=0.001)
    cache.put("a", "older", "h")
    cache.put("b", "other", "h")
    with pytest.raises(ValueTooLarge, match="whole cache"):
        cache.put("a", "x" * 2000, "h")
    assert cache.get_many("ab") == {"b": "other"}
    assert cache.get_stats()["evictions"] == 0


# corruption: a miss, counted, told, and gone


def plant(backend, blob, entry=ENTRY):
    assert backend.client.hset(entry, "o", blob) == 0


def flip(blob):
    return blob[:-1] + bytes((blob[-1] ^ 1,))


BOMB = b"\x02" + zstandard.ZstdCompressor().compress(b"\0" * (80 * 1024 * 1024))

GARBAGE = {
    "nothing": lambda blob: b"",
    "noise": lambda blob: b"\xf7" + NOISE,
    "unknown flags": lambda blob: b"\x09" + blob[1:],
    "pickle": lambda blob: b"\x80\x04\x95" + NOISE,
    "truncated": lambda blob: blob[:-20],
    "trailing": lambda blob: blob + b"more",
    "no zstd": lambda blob: blob[:1] + NOISE,
    "no utf-8": lambda blob: b"\x01\xff\xfe",
    "a bomb": lambda blob: BOMB,
    "a frame that lies about its size": lambda blob: b"\x02" + b"\x28\xb5\x2f\xfd\x60\x00\x00" + NOISE[:50],
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_a_miss(smart, backend, name):
    cache = smart()
    cache.put("a", "x" * 5000, "h", ["d"], compile_time_ms=1000)
    cache.get("a")
    blob = backend.client.hget(ENTRY, "o")
    plant(backend, GARBAGE[name](blob))
    assert cache.get("a") is None
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["corrupt"], stats["entries"]) == (1, 1, 1, 0)
    assert stats["seconds_saved"] == 1
    events = [(event["type"], event["details"]) for event in cache.get_recent_events()]
    assert ("MISS", "corrupt entry") in events
    assert ("EVICT", "corrupt entry") in events
    assert cache.local_stats()["corrupt"] == 1
    assert cache.get("a") is None
    assert cache.get_stats()["corrupt"] == 1, "it is gone, and not corrupt again"
    cache.put("a", "y", "h")
    assert cache.get("a") == "y"


def test_garbage_among_many(smart, backend):
    cache = smart()
    cache.put("a", "x", "h")
    cache.put("b", "y", "h")
    plant(backend, b"\xff")
    assert cache.get_many(["a", "b"]) == {"b": "y"}
    stats = cache.get_stats()
    assert (stats["hits"], stats["misses"], stats["corrupt"]) == (1, 1, 1)


def test_a_corrupt_version_goes_alone(smart, backend):
    cache = smart(versions=2)
    cache.put("a", "1", "h1")
    cache.put("a", "2", "h2")
    older = next(key for key in backend.client.scan_iter("*:e:*") if len(key) == len(ENTRY) + 8)
    plant(backend, b"\xff", older)
    assert cache.get("a", "h1") is None
    assert cache.get("a", "h2") == "2"
    assert not cache.has("a", "h1")
    assert cache.get_stats()["entries"] == 1


@pytest.mark.parametrize(
    "packed", [b"", b"\xc1", pack(7), pack(["a"]), pack((("d",), "f", (1,), "p")), b"\xd4\x01\x02"]
)
def test_corrupt_metadata_is_no_exception(smart, backend, tmp_path, packed):
    backend.checked = False
    cache = smart(tmp_path / "saved")
    cache.put("a", "x", "h")
    cache.put("b", "y", "h", file_path="b.py")
    backend.client.hset(ENTRY, "m", packed)
    assert cache.inspect("a").file_path == ""
    assert {row["key"]: row["file"] for row in cache.get_hot_entries()} == {"a": "", "b": "b.py"}
    assert cache.save() is True
    assert cache.get("a") == "x"
    assert sorted(cache.keys()) == ["a", "b"]


@pytest.mark.parametrize("record", [b"1", b"1 1 \xc1", b"x y " + pack(("h", 1, 1, "p")), b"1 1 " + pack((1,))])
def test_a_corrupt_record_of_history_is_left_out(smart, backend, record):
    backend.checked = False
    cache = smart()
    cache.put("a", "x", "h")
    backend.client.lpush(PART.records + key_id(b"a"), record)
    assert [one.content_hash for one in cache.get_history("a")] == ["h"]


def test_corrupt_usage_does_not_stop_the_cache(smart, backend):
    """Nothing that somebody wrote there makes a put or a get fail for good."""
    backend.checked = False
    cache = smart(max_entries=2, policy="lru")
    cache.put("a", "x", "h")
    cache.put("b", "y", "h")
    backend.client.hset(PART.usage, key_id(b"a"), "nonsense")
    assert cache.get("a") is None
    assert cache.get_hot_entries() is not None
    assert cache.keys() is not None
    for key in "cde":
        assert cache.put(key, "z", "h")
        assert cache.get(key) == "z"


# signatures


def test_a_signed_value_is_bound_to_key_hash_and_cache(smart, backend):
    cache = smart(sign_keys=(KEY,))
    other = smart(namespace="other", sign_keys=(KEY,))
    for key in "abc":
        cache.put(key, f"output of {key}", "h")
    cache.put("d", "output of d", "h2")
    other.put("a", "output of other", "h")
    blobs = {key: backend.client.hget(PART.entry(key_id(key.encode())), "o") for key in "abcd"}
    foreign = backend.client.hget(Partition("other", 0).entry(key_id(b"a")), "o")
    plant(backend, blobs["b"])
    assert cache.get("a") is None
    for blob, target in ((foreign, "b"), (blobs["d"], "c")):
        plant(backend, blob, PART.entry(key_id(target.encode())))
        assert cache.get(target) is None
    assert cache.get("d") == "output of d"
    assert cache.get_stats()["corrupt"] == 3


def test_another_content_hash_does_not_fit_the_signature(smart, backend):
    backend.checked = False
    cache = smart(sign_keys=(KEY,))
    cache.put("a", "x", "h1")
    backend.client.hset(ENTRY, "h", "h2")
    assert cache.get("a", "h2") is None
    assert cache.get("a") is None


@pytest.mark.parametrize(
    "change", [flip, lambda blob: bytes((blob[0] ^ 1,)) + blob[1:], lambda b: b[:1] + flip(b[1:33]) + b[33:]]
)
def test_a_changed_byte_does_not_fit_the_signature(smart, backend, change):
    cache = smart(sign_keys=(KEY,))
    cache.put("a", "x", "h")
    plant(backend, change(backend.client.hget(ENTRY, "o")))
    assert cache.get("a") is None
    assert cache.get_stats()["corrupt"] == 1


def test_an_unsigned_value_is_a_miss_for_a_client_with_keys(smart):
    plain, signed = smart(), smart(sign_keys=(KEY,))
    plain.put("a", "x", "h")
    assert signed.get("a") is None
    assert signed.get_stats()["corrupt"] == 1


def test_keys_are_rotated(smart):
    old, both, new = smart(sign_keys=(KEY,)), smart(sign_keys=(OTHER, KEY)), smart(sign_keys=[OTHER])
    old.put("a", "1", "h")
    assert both.get("a") == "1"
    both.put("b", "2", "h")
    assert new.get("b") == "2"
    assert old.get("b") is None
    both.put("b", "2", "h")
    assert new.get("a") is None


def test_a_client_without_keys_reads_signed_values(smart):
    smart(sign_keys=(KEY,)).put("a", "x", "h")
    assert smart().get("a") == "x"
