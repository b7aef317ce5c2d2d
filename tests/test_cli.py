"""The command line, as a person and as a program sees it; and the ACL rules it prints, on real servers."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
import redis
from click.testing import CliRunner
from servers import binaries, start_server

from distcache import ContentHashCache, DistcacheError, ServerError, SmartCache, Warmer, Worker, acl
from distcache.cli.app import COMMANDS, app

NOT_FOUND, USAGE = 1, 2


@pytest.fixture(scope="module")
def server():
    """A server for the commands that do not start one."""
    with start_server(next(iter(binaries().values()))) as running:
        yield running


@pytest.fixture
def run(server, monkeypatch, tmp_path):
    """Run a command on an empty server; its output, after its exit code was as expected."""
    monkeypatch.setenv("DISTCACHE_URL", server.url)
    monkeypatch.chdir(tmp_path)
    with server.client() as client:
        client.flushall()

    def call(*words, code=0, answer=None):
        result = CliRunner().invoke(app, words, input=answer, catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    return call


@pytest.fixture
def filled(server, run):
    """A small cache: b depends on a, and c on b."""
    with SmartCache("unused", url=server.url, on_error="raise", timeout_s=10) as cache:
        cache.put("a", "old", "h0", compile_time_ms=10)
        cache.put("a", "x" * 100, "h1", ["base"], file_path="a.c", line_range=(1, 20), compile_time_ms=12.5)
        cache.put("b", b"y", "h2", ["a"])
        cache.put("c\x1b[31m", b"z", "h3", ["b"])
        cache.get("a")
    return run


def test_every_command_explains_itself(run):
    listed = run("--help")
    for name in COMMANDS:
        assert name in listed
        assert "Usage:" in run(name, "--help")


def test_stats(filled):
    found = json.loads(filled("stats", "--json"))
    assert (found["entries"], found["hits"], found["seconds_saved"]) == (3, 1, 0.0125)
    assert "entries          3" in filled("stats")


def test_keys_are_one_a_line_and_never_move_the_cursor(filled):
    assert filled("keys").splitlines() == ["a", "b", r"c\x1b[31m"]
    assert filled("keys", "[ab]").split() == ["a", "b"]
    assert json.loads(filled("keys", "--json")) == ["a", "b", "c\x1b[31m"]


def test_inspect(filled):
    found = json.loads(filled("inspect", "a", "--json"))
    assert (found["content_hash"], found["dependencies"], found["line_range"]) == ("h1", ["base"], [1, 20])
    shown = filled("inspect", "a")
    assert "compile_time_ms  12.5" in shown
    assert "expires_at       never" in shown
    assert filled("inspect", "nothing", code=NOT_FOUND) == "Error: nothing is stored under this key\n"


def test_history(filled):
    found = json.loads(filled("history", "a", "--json"))
    assert [(one["content_hash"], one["held"]) for one in found] == [("h1", True), ("h0", False)]
    assert len(json.loads(filled("history", "a", "--count", "1", "--json"))) == 1
    assert "12.5" in filled("history", "a")


def test_events(filled):
    found = json.loads(filled("events", "--json"))
    assert [one["type"] for one in found] == ["WRITE"] * 4 + ["HIT"]
    assert "size=100, compile_time=12ms" in filled("events", "--count", "4")
    assert "\x1b" not in filled("events")


def test_hot(filled):
    assert json.loads(filled("hot", "--count", "1", "--json"))[0]["key"] == "a"
    assert "a.c" in filled("hot")


def test_invalidate(filled):
    assert json.loads(filled("invalidate", "a", "--json")) == {"removed": ["a"]}
    assert filled("invalidate", "a") == "Nothing was stored under this key.\n"
    assert "a" not in filled("keys").split()


def test_invalidate_dependents(filled):
    assert filled("invalidate-dependents", "a").split() == ["b"]
    removed = json.loads(filled("invalidate-dependents", "base", "--transitive", "--json"))["removed"]
    assert sorted(removed) == ["a", "c\x1b[31m"]
    assert filled("keys") == ""


def test_clear_asks(filled):
    filled("clear", code=1, answer="n\n")
    assert len(filled("keys").split()) == 3
    filled("clear", answer="y\n")
    assert filled("keys") == ""
    assert json.loads(filled("clear", "--yes", "--json")) == {"removed": 0}


def test_save_and_import(filled, tmp_path):
    filled("save", "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "smart_cache_v1.2.json",
        "access_patterns.json",
        "cache_events.json",
    }
    filled("clear", "--yes")
    assert "3" in filled("import", "out")
    assert json.loads(filled("inspect", "a", "--json"))["dependencies"] == ["base"]
    assert json.loads(filled("import", "out", "--namespace", "another", "--json")) == {"imported": 3}
    assert "no smart_cache_v1.2.json" in filled("import", "nowhere", code=1)
    (tmp_path / "file").write_text("")
    assert "cannot write into" in filled("save", "file/below", code=1)


def test_a_cache_of_signatures(run, server):
    with ContentHashCache(url=server.url, on_error="raise", timeout_s=10) as cache:
        cache.set("some text", "c2lnbmF0dXJl")
    assert json.loads(run("stats", "--cache", "content", "--json"))["current_size"] == 1
    assert "holds signatures" in run("keys", "--namespace", "signatures", code=1)
    assert "Entries removed: 1" in run("clear", "--cache", "content", "--yes")


def test_looking_at_a_cache_creates_none(run, server, tmp_path):
    for words in (["stats"], ["keys"], ["invalidate", "a"], ["clear", "--yes"], ["save", "out"]):
        assert run(*words, code=1).startswith("Error: there is no cache 'smart' on that server")
        assert run(*words, "--dir", "nowhere", code=1).startswith("Error: there is no cache in ")
    with server.client() as client:
        assert client.dbsize() == 0
    assert list(tmp_path.iterdir()) == []


def test_errors_are_one_sentence(run, server):
    assert run("stats", "--namespace", "a b", code=1).count("\n") == 1
    assert "use redis://" in run("stats", "--url", "http://host", code=1)
    assert "unix:///nowhere" in run("stats", "--url", "unix:///nowhere", code=1)
    assert "give one of them" in run("stats", "--url", server.url, "--dir", "here", code=USAGE)
    run("nothing", code=USAGE)
    run("hot", "--count", "0", code=USAGE)


def test_an_embedded_cache_by_its_directory(run, tmp_path):
    with SmartCache(tmp_path / "my cache", url=f"embedded://{tmp_path}/my%20cache") as cache:
        cache.put("a", "x", "h")
        assert run("keys", "--dir", "my cache") == "a\n"


def test_a_missing_library_is_named(tmp_path):
    (tmp_path / "rich.py").write_text("raise ImportError")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from distcache.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (USAGE, "")
    assert done.stderr == "The command line needs click and rich: run pip install 'distcache[cli]'.\n"


def test_as_a_program(server, tmp_path):
    command = [sys.executable, "-m", "distcache", "stats", "--url", server.url, "--namespace", "none"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: there is no cache 'none' on that server; name another with --namespace\n"


# -- the rules that `acl` prints


@pytest.fixture(scope="module", params=sorted(binaries()))
def guarded(request):
    """A server, to make users on."""
    with start_server(binaries()[request.param]) as running:
        yield running


def login(server, role, namespace, rules=None):
    """The URL of a user with exactly the rules of the role."""
    with server.client() as client:
        words = acl.rules(role, namespace) if rules is None else rules
        client.execute_command("ACL", "SETUSER", role, "reset", "on", ">secret", *words)
    return f"unix://{role}:secret@{server.path}"


def write(url):
    """All that a writer does to both caches."""
    text = "a text that is long enough to be found by its beginning, " * 3
    for versions in (1, 2):
        with SmartCache(
            "unused", max_entries=4, url=url, on_error="raise", versions=versions, ttl_seconds=60, reconfigure=True
        ) as cache:
            for number in range(8):
                assert cache.put(f"k{number}", "v" * 100, f"h{number}{versions}", [f"k{number - 1}"])
                cache.put(f"k{number}", "w", "h", [f"k{number - 1}"])
            assert cache.get("k7") == "w"
            cache.touch("k7", 10)
            cache.put_many([{"key": "m", "output": "o", "content_hash": "h"}])
            cache.get_many(["m", "k7"])
            cache.flush()
            cache.cleanup_expired()
            assert cache.invalidate("m")
            cache.invalidate_by_dependency("k6", transitive=True)
    with ContentHashCache(4, url=url, namespace="smart-c", on_error="raise", sliding=True) as cache:
        for number in range(8):
            assert cache.set(f"{number} {text}", "c2ln")
        assert cache.get_with_prefix_match(f"7 {text}"[:120]) == "c2ln"
        cache.set_key("k", "c2ln", "t")
        cache.cleanup_expired()
        cache.clear()
        cache.set(text, "c2ln")
    with SmartCache("unused", url=url, on_error="raise", timeout_s=10) as cache:
        cache.clear()
        cache.put("a", "x", "h", ["b"])
        assert cache.get("a") == "x"
        assert cache.warmup_unit("w", "source", "h")
    work(url)
    with SmartCache("unused", url=url, on_error="raise", timeout_s=10) as cache:
        assert cache.get("w") == "SOURCE"
        cache.invalidate("w")
        assert cache.warmup_unit("w", "source", "h")


def work(url):
    """All that a worker does."""
    warmer = Warmer(url=url)
    warmer.compiler(str.upper)
    asyncio.run(Worker(warmer, drain=True, lease_s=0.1).run())


def read(url):
    """All that a reader does."""
    with SmartCache("unused", url=url, read_only=True, on_error="raise", timeout_s=10) as cache:
        assert cache.get("a", "h") == "x"
        assert cache.get_many(["a", "b"]) == {"a": "x"}
        assert cache.has("a")
        assert cache.get("nothing") is None
        assert list(cache.keys()) == ["a"]
        assert cache.inspect("a").dependencies == ("b",)
        assert len(cache.get_history("a")) == 1
        assert cache.get_recent_events()
        assert cache.get_stats()["entries"] == 1
        assert cache.get_hot_entries()[0]["key"] == "a"
        assert isinstance(cache.get_predicted_next("a"), list)
        assert cache.queue_stats().urgent == 1
        assert [task.key for task in cache.queue_tasks() if task.reason == "manual"] == ["w"]
        assert cache.queue_tasks("delayed") == cache.queue_tasks("dead") == []
        assert cache.workers() == []
        assert not cache.put("a", "y", "h")
    with ContentHashCache(url=url, namespace="smart-c", read_only=True, on_error="raise", timeout_s=10) as cache:
        assert cache.get("a text that is long enough to be found by its beginning, " * 3) == "c2ln"
        assert cache.get_with_prefix_match("a text that is long", min_prefix_len=10) == "c2ln"
        assert cache.get_stats()["current_size"] == 1


def both(role):
    """Rules for the two caches of these tests."""
    return [*acl.rules(role, "smart"), *(word for word in acl.rules(role, "smart-c") if word.startswith("~"))]


def test_the_rules_are_enough(guarded):
    with guarded.client() as client:
        client.flushall()
        client.script_flush()
    write(login(guarded, "writer", "smart", both("writer")))
    with guarded.client() as client:
        client.script_flush()
    read(login(guarded, "reader", "smart", both("reader")))


@pytest.mark.parametrize("role", acl.ROLES)
def test_the_rules_permit_nothing_else(guarded, role):
    url = login(guarded, role, "smart")
    with guarded.client() as client:
        client.set("other", "1")
        client.set("{dc1:smarter:0}:state", "1")
        with SmartCache("unused", url=guarded.url, on_error="raise", timeout_s=10) as cache:
            cache.put("a", "x", "h")
    with redis.Redis.from_url(url) as client:
        for command in (
            ["GET", "other"],
            ["GET", "{dc1:smart:0}:state"],
            ["HGETALL", "{dc1:smarter:0}:state"],
            ["HGETALL", "other"],
            ["EVAL", "return redis.call('GET', 'other')", "0"],
            *(["FLUSHALL"], ["KEYS", "*"], ["SCAN", "0"], ["CONFIG", "GET", "*"], ["ACL", "LIST"], ["SCRIPT", "FLUSH"]),
            ["PUBLISH", "channel", "1"],
        ):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)
        script = client.script_load("return redis.call('HGETALL', 'other')")
        with pytest.raises(redis.exceptions.ResponseError, match=r"permission|can't access"):
            client.evalsha(script, 0)
    with pytest.raises(DistcacheError), SmartCache("unused", url=url, namespace="smarter", on_error="raise") as cache:
        cache.get("a")


def test_a_reader_cannot_write(guarded):
    with guarded.client() as client, SmartCache("unused", url=guarded.url, on_error="raise", timeout_s=10) as cache:
        client.flushall()
        cache.put("a", "x", "h")
        before = client.hgetall("{dc1:smart:0}:state"), client.dbsize()
        url = login(guarded, "reader", "smart")
        with pytest.raises(ServerError), SmartCache("unused", url=url, on_error="raise") as other:
            other.put("a", "y", "h")
        with redis.Redis.from_url(url) as reader:
            for command in (["HSET", "{dc1:smart:0}:state", "a", "b"], ["DEL", "{dc1:smart:0}:state"]):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    reader.execute_command(*command)
        assert (client.hgetall("{dc1:smart:0}:state"), client.dbsize()) == before


def test_every_rule_of_a_reader_is_needed(guarded):
    with guarded.client() as client:
        client.flushall()
    write(guarded.url)
    rules = both("reader")
    for rule in [rule for rule in rules if rule.startswith("+")]:
        with guarded.client() as client:
            client.script_flush()
        with pytest.raises(ServerError):
            read(login(guarded, "reader", "smart", [one for one in rules if one != rule]))


def test_rights_that_are_older_than_the_scripts_lose_no_history(server):
    rules = [word for word in acl.rules("writer", "smart") if word != "+lpushx"]
    with SmartCache(url=login(server, "writer", "smart", rules), on_error="raise") as cache:
        for number in range(4):
            cache.put("a", "x", f"h{number}")
        cache.invalidate("a")
        assert [record.content_hash for record in cache.get_history("a")] == ["h3", "h2", "h1", "h0"]


def test_acl_prints_one_command(run):
    printed = run("acl", "reader", "--user", "me").split()
    assert printed[:6] == ["ACL", "SETUSER", "me", "on", ">PASSWORD", "resetkeys"]
    assert printed[5:] == acl.rules("reader", "smart")
    assert json.loads(run("acl", "writer", "--json")) == {
        "user": "distcache-writer",
        "rules": acl.rules("writer", "smart"),
    }
    assert "cannot be used" in run("acl", "reader", "--namespace", "*", code=1)


# the warm-up queue


def test_queue_and_workers(run, server):
    with SmartCache("unused", url=server.url, on_error="raise", timeout_s=10) as cache:
        cache.warmup_unit("a", "source", "h")
        cache.warmup_unit("b", "source", "h")
    assert json.loads(run("queue", "stats", "--json"))["waiting"] == 2
    assert {task["key"] for task in json.loads(run("queue", "list", "--json"))} == {"a", "b"}
    assert "manual" in run("queue", "list")

    def fails(_content):
        raise ValueError("no good")

    warmer = Warmer(url=server.url)
    warmer.compiler(fails)
    asyncio.run(Worker(warmer, drain=True, attempts=1).run())
    assert "ValueError: no good" in run("queue", "dead")
    assert "in fails" in run("queue", "dead", "--traceback")
    first, second = json.loads(run("queue", "dead", "--json"))
    assert "Dead letters dropped: 1" in run("queue", "drop", first["id"])
    assert "Tasks queued again: 1" in run("queue", "requeue", second["id"])
    assert json.loads(run("queue", "requeue", "--all", "--json")) == {"requeued": 0}
    assert "--all" in run("queue", "drop", code=USAGE)
    assert "no id of a task" in run("queue", "drop", "zz", code=NOT_FOUND)
    assert json.loads(run("workers", "--json")) == []
    assert "last seen" in run("workers")
