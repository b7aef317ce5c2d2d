"""The original's three JSON files: written by save(), read by import_files()."""

from __future__ import annotations

import base64
import json

import pytest
from conftest import BACKENDS

from distcache.smart.files import FilesError

ENTRIES, PATTERNS, EVENTS = "smart_cache_v1.2.json", "access_patterns.json", "cache_events.json"

ORIGINAL = {
    "version": "1.2",
    "entries": [
        {
            "key": "src/mod.py::f",
            "content_hash": "abc",
            "output": "def f(): 'é\U0001f600'",
            "timestamp": 1_700_000_000_000,
            "access_count": 7,
            "last_access": 1_700_000_500_000,
            "dependencies": ["src/base.py::g"],
            "file_path": "src/mod.py",
            "line_range": [10, 20],
            "compile_time_ms": 125,
            "size_bytes": 19,
        },
        {
            "key": "src/base.py::g",
            "content_hash": "def",
            "output": "",
            "timestamp": 1_700_000_000.25,
            "access_count": 0,
            "last_access": 1_700_000_000.75,
            "dependencies": [],
            "file_path": "",
            "line_range": [0, 0],
            "compile_time_ms": 0.5,
            "size_bytes": 0,
        },
    ],
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "original"
    path.mkdir()
    path.joinpath(ENTRIES).write_text(json.dumps(ORIGINAL, ensure_ascii=False), encoding="utf-8")
    patterns = {"src/mod.py::f": {"sequence": ["b", "c"], "frequency": 9}, "b": {"sequence": ["c"], "frequency": 1}}
    path.joinpath(PATTERNS).write_text(json.dumps(patterns), encoding="utf-8")
    path.joinpath(EVENTS).write_text("[]", encoding="utf-8")
    return path


def load(path, name):
    return json.loads(path.joinpath(name).read_text(encoding="utf-8"))


def test_the_originals_files_are_imported(smart, folder):
    cache = smart()
    assert cache.import_files(folder) == 2
    assert cache.get_predicted_next("src/mod.py::f") == ["b", "c"]
    assert cache.get_predicted_next("b") == ["c"]
    assert cache.get("src/mod.py::f", "abc") == "def f(): 'é\U0001f600'"
    assert cache.get_many(["src/base.py::g"]) == {"src/base.py::g": ""}
    info = cache.inspect("src/mod.py::f")
    assert (info.timestamp, info.access_count) == (1_700_000_000_000, 8)
    assert (info.dependencies, info.file_path, info.line_range) == (("src/base.py::g",), "src/mod.py", (10, 20))
    assert info.compile_time_ms == 125
    base = cache.inspect("src/base.py::g")
    assert base.timestamp == 1_700_000_000_250, "seconds are understood too"
    assert cache.invalidate_by_dependency("src/base.py::g") == ["src/mod.py::f"]


def test_an_imported_entry_keeps_its_use(smart, folder):
    cache = smart()
    cache.import_files(str(folder))
    info = cache.inspect("src/mod.py::f")
    assert (info.access_count, info.last_access) == (7, 1_700_000_500_000)


def test_of_too_many_the_least_valuable_are_left_out(smart, tmp_path):
    rows = [
        {**ORIGINAL["entries"][0], "key": f"k{number}", "last_access": 1_700_000_000_000 + number % 10 * 1000}
        for number in range(10)
    ]
    tmp_path.joinpath(ENTRIES).write_text(json.dumps({"version": "1.2", "entries": rows}))
    for policy in ("lru", "lru_freq", "adaptive"):
        cache = smart(namespace=policy, max_entries=4, policy=policy)
        cache.import_files(tmp_path)
        assert sorted(cache.keys()) == ["k6", "k7", "k8", "k9"], policy


def test_what_can_never_fit_is_left_out(smart, folder):
    big = {"key": "big", "output": "x" * 3000, "content_hash": "h"}
    saved = json.loads((folder / ENTRIES).read_text(encoding="utf-8"))
    (folder / ENTRIES).write_text(json.dumps({**saved, "entries": [big, *saved["entries"]]}), encoding="utf-8")
    for limits in ({"max_size_mb": 2000 / 2**20}, {"max_value_bytes": 2000}):
        cache = smart(namespace=f"{next(iter(limits))}", **limits)
        assert cache.import_files(folder) == 2
        assert not cache.has("big")


def test_an_import_teaches_nothing_of_its_own_and_keeps_what_was_learned(smart, folder):
    cache = smart()
    cache.get("x")
    cache.get("y")
    cache.import_files(folder)
    cache.get("z")
    assert cache.get_predicted_next("x") == ["y"]
    assert cache.get_predicted_next("src/base.py::g") == []
    assert cache.get_predicted_next("src/mod.py::f") == ["b", "c"]


def test_save_writes_the_originals_form(smart, tmp_path):
    cache = smart(tmp_path / "new" / "dir")
    cache.put("a", "text é", "h1", ["b"], "a.py", (1, 2), 30)
    cache.get("a")
    cache.get("b")
    assert cache.save() is True
    saved = load(tmp_path / "new" / "dir", ENTRIES)
    assert saved["version"] == "1.2"
    (entry,) = saved["entries"]
    assert set(entry) == set(ORIGINAL["entries"][0])
    assert (entry["key"], entry["content_hash"], entry["output"]) == ("a", "h1", "text é")
    assert (entry["dependencies"], entry["file_path"], entry["line_range"]) == (["b"], "a.py", [1, 2])
    assert (entry["compile_time_ms"], entry["access_count"], entry["size_bytes"]) == (30, 1, 7)
    info = cache.inspect("a")
    assert (entry["timestamp"], entry["last_access"]) == (info.timestamp, info.last_access)
    assert load(tmp_path / "new" / "dir", PATTERNS) == {"a": {"sequence": ["b"], "frequency": 1}}
    events = load(tmp_path / "new" / "dir", EVENTS)
    assert events == cache.get_recent_events(1000)
    assert [event["type"] for event in events] == ["WRITE", "HIT", "MISS"]
    assert sorted(path.name for path in (tmp_path / "new" / "dir").iterdir()) == sorted([ENTRIES, PATTERNS, EVENTS])


VALUES = {
    "text": "plain",
    "": "",
    "bytes": bytes(range(256)),
    "no bytes": b"",
    "surrogate \ud800": "\udfff output \ud800",
    "nul \0": "a\0b",
    "}{": "é\U0001f600",
    "large": "x" * 50_000,
}


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_is_saved_comes_back(smart, tmp_path, partitions):
    one = smart(tmp_path / "one", partitions=partitions, versions=2)
    for key, value in VALUES.items():
        one.put(key, value, key, [key, "dep"], key.replace("\0", ""), (3, 4), 1.5)
    one.put("text", "second", "h2")
    for key in [*VALUES, *VALUES]:
        one.get(key)
    assert one.save()
    two = smart(tmp_path / "two", namespace="two", versions=2)
    assert two.import_files(tmp_path / "one") == len(VALUES) + 1
    for key, value in VALUES.items():
        assert two.get(key, key) == value
        assert type(two.get(key, key)) is type(value)
    assert two.get("text") == "second"
    assert two.get_predicted_next("bytes") == one.get_predicted_next("bytes") == ["no bytes"]
    assert sorted(two.invalidate_by_dependency("dep")) == sorted(VALUES)


def test_saving_again_replaces_whole_files(smart, tmp_path):
    cache = smart(tmp_path)
    cache.put("a", "x" * 1000, "h")
    cache.save()
    cache.clear()
    cache.save()
    assert load(tmp_path, ENTRIES)["entries"] == []


def test_what_cannot_be_written_leaves_the_old_file(smart, tmp_path, monkeypatch):
    cache = smart(tmp_path)
    cache.put("a", "x", "h")
    cache.save()
    before = tmp_path.joinpath(ENTRIES).read_text()
    cache.put("b", "y", "h")

    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr("distcache.smart.files.json.dump", fail)
    with pytest.raises(OSError, match="disk full"):
        cache.save()
    assert tmp_path.joinpath(ENTRIES).read_text() == before
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("backend", BACKENDS[-1:], indirect=True)
def test_saved_events_are_the_last_thousand(smart, tmp_path):
    cache = smart(tmp_path)
    for _ in range(11):
        cache.get_many(str(number) for number in range(100))
    cache.save()
    assert len(load(tmp_path, EVENTS)) == 1000


GOOD = ORIGINAL["entries"][0]
WRONG = {
    "no json": "{",
    "not utf-8": b"\xff\xfe",
    "a list": [],
    "no entries": {"version": "1.2"},
    "entries that are none": {"version": "1.2", "entries": [7]},
    "no key": {"entries": [{**GOOD, "key": None}]},
    "a key that is a number": {"entries": [{**GOOD, "key": 7}]},
    "no output": {"entries": [{name: value for name, value in GOOD.items() if name != "output"}]},
    "an output that is a number": {"entries": [{**GOOD, "output": 7}]},
    "no hash": {"entries": [{**GOOD, "content_hash": None}]},
    "dependencies that are numbers": {"entries": [{**GOOD, "dependencies": [1]}]},
    "dependencies that are none": {"entries": [{**GOOD, "dependencies": 5}]},
    "lines that are none": {"entries": [{**GOOD, "line_range": [1]}]},
    "lines of text": {"entries": [{**GOOD, "line_range": ["x", "y"]}]},
    "an endless count": {"entries": [{**GOOD, "access_count": float("inf")}]},
    "an endless time": {"entries": [{**GOOD, "timestamp": float("inf")}]},
    "a time that is none": {"entries": [{**GOOD, "last_access": "yesterday"}]},
    "a cost that is none": {"entries": [{**GOOD, "compile_time_ms": -5}]},
    "wrong base64": {"entries": [{**GOOD, "output": "%%%", "output_encoding": "base64"}]},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_wrong_is_refused_and_nothing_is_stored(smart, tmp_path, name):
    content = WRONG[name]
    if isinstance(content, dict) and "entries" in content:
        content = {"version": "1.2", "entries": [{**GOOD, "key": "good"}, *content["entries"]]}
    data = content if isinstance(content, bytes) else json.dumps(content) if not isinstance(content, str) else content
    tmp_path.joinpath(ENTRIES).write_bytes(data if isinstance(data, bytes) else data.encode())
    cache = smart()
    with pytest.raises(FilesError):
        cache.import_files(tmp_path)
    assert cache.keys() == []


@pytest.mark.parametrize("patterns", ["[", [], {"a": 7}, {"a": {"sequence": 5}}, {"a": {"sequence": [1]}}, {"a": []}])
def test_patterns_that_are_wrong_are_refused_and_nothing_is_stored(smart, folder, patterns):
    folder.joinpath(PATTERNS).write_text(patterns if isinstance(patterns, str) else json.dumps(patterns))
    cache = smart()
    with pytest.raises(FilesError):
        cache.import_files(folder)
    assert cache.keys() == []


def test_a_directory_without_files_is_an_error(smart, tmp_path):
    with pytest.raises(FilesError, match="there is no"):
        smart().import_files(tmp_path / "nowhere")


def test_numbers_out_of_any_range_are_brought_into_it(smart, tmp_path):
    row = {**GOOD, "access_count": 10**30, "timestamp": 10**40, "last_access": -5}
    tmp_path.joinpath(ENTRIES).write_text(json.dumps({"entries": [row]}))
    cache = smart()
    assert cache.import_files(tmp_path) == 1
    assert cache.get(row["key"]) == row["output"]
    cache.put("other", "x", "h")
    assert cache.inspect(row["key"]).access_count > 0


def test_optional_fields_may_be_left_out(smart, tmp_path):
    row = {"key": "a", "content_hash": "h", "output": base64.b64encode(b"\xff").decode(), "output_encoding": "base64"}
    tmp_path.joinpath(ENTRIES).write_text(json.dumps({"entries": [row]}))
    cache = smart()
    assert cache.import_files(tmp_path) == 1
    assert cache.get("a") == b"\xff"
