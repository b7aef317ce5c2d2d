"""The demo: it shows what is so, it notices what is not, and it leaves nothing behind."""

from __future__ import annotations

import ast
import marshal
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from servers import binaries, start_server, wait_until

import distcache
from distcache import DistcacheError
from distcache.demo import graph, library, proxy, worker
from distcache.demo.act_proxies import prose
from distcache.demo.crew import Crew
from distcache.demo.run import _sent_again, _signals_as_exit

LIMIT = "60"
"""Modules: enough for chains of dependents."""


@pytest.fixture
def start(tmp_path):
    """Start the demo with a temporary directory, a home and a working directory of its own."""
    here = tmp_path / "tmp"
    here.mkdir()

    def begin(*words, **environment):
        command = [sys.executable, "-m", "distcache", "demo", "--limit", LIMIT, "--machines", "2", *words]
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH", "PYTHONPATH"}}
        return subprocess.Popen(
            command,
            cwd="/",
            env={**kept, "TMPDIR": str(here), "XDG_RUNTIME_DIR": str(here), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    yield begin
    assert left(here) == []


def left(here):
    """What a demo left behind: files, and processes that have the directory in their command line or work in it."""
    links = here / f"distcache-{os.geteuid()}"  # the engine's own place for short ways to deep directories
    found = [str(path) for path in here.rglob("*") if path != links]
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words, folder = (place / "cmdline").read_bytes(), str((place / "cwd").readlink())
        except OSError:
            continue
        if str(here).encode() in words or folder.startswith(str(here)):
            found.append(words.decode(errors="replace"))
    return found


def finish(process):
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed.decode()


def test_it_shows_both_caches_and_a_worker(start):
    code, printed = finish(start(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0"))
    assert code == 0, printed
    assert printed.isascii()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if "|" in line]
    table = {row[0]: row[1:] for row in rows}
    assert table["cold"][0] == table["warm"][0] == table["warm"][2] == "120"
    assert 60 <= int(table["cold"][1]) < 120
    assert table["warm"][1] == "0"
    assert int(table["proxy 1"][0]) * 3 == int(table["proxy 2"][1].replace(",", ""))
    assert 0 < int(table["worker"][0]) == int(table["worker"][1])
    assert table["machine 3"][:3] == ["60", "0", "60"]
    assert len(re.findall(r"^ok     ", printed, re.MULTILINE)) == 12
    assert re.match(r"All as it should be in \d+ s: .*\.$", printed.splitlines()[-1])


@pytest.mark.parametrize(
    ("sabotage", "failing"),
    [
        ("output", 2 * ["outputs equal what was compiled without a cache"]),
        ("chain", ["invalidating ", "the next build compiled "]),
        ("signature", ["look-ups gave the signature of another text"]),
        ("warmed", ["59 of 60 outputs equal what was compiled without a cache"]),
        ("idle", ["the worker compiled 0", "the next build compiled "]),
    ],
)
def test_its_checks_can_fail(start, sabotage, failing):
    code, printed = finish(start(DISTCACHE_DEMO_SABOTAGE=sabotage))
    assert code == 1, printed
    failed = [line for line in printed.splitlines() if line.startswith("FAILED")]
    assert len(failed) == len(failing)
    assert all(words in line for words, line in zip(failing, failed, strict=True))
    assert f"Failed checks: {len(failing)}, the first" in printed.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_leaves_nothing_when_it_is_stopped(start, tmp_path, number):
    process = start()
    wait_until(lambda: list((tmp_path / "tmp").glob("*/modules.json")), "the machines work", 30)
    process.send_signal(number)
    code, printed = finish(process)
    assert code != 0, printed
    assert "Traceback" not in printed


class Finalized:
    """Gets a signal when it is finalized."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)]
)
def test_a_signal_that_comes_while_something_is_finalized_is_not_lost(number, error, capfd):
    """Python prints such an exception and goes on; under load the demo did so once in twenty times."""
    dropped = [Finalized(number)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(error), _signals_as_exit():
            wait_until(dropped.clear, "the signal comes again")
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in capfd.readouterr().err


def test_other_errors_of_finalizers_are_shown():
    shown = []
    hook = _sent_again(shown.append)
    hook(SimpleNamespace(exc_value=ValueError()))
    hook(SimpleNamespace(exc_value=SystemExit("text")))
    assert len(shown) == 2


def test_a_server_that_is_given_is_left_as_it_was(start):
    with start_server(binaries()["valkey"]) as server, server.client() as client:
        client.set("mine", "1")
        code, printed = finish(start("--url", server.url))
        assert code == 0, printed
        assert client.keys() == [b"mine"]


def test_a_directory_that_is_to_be_kept(start, tmp_path):
    kept = tmp_path / "kept"
    code, printed = finish(start("--keep", str(kept)))
    assert code == 0, printed
    command = printed.splitlines()[-1].split("distcache ", 1)[1].split()
    done = subprocess.run([sys.executable, "-m", "distcache", *command], capture_output=True, text=True, check=True)
    assert "entries          60" in done.stdout
    code, printed = finish(start("--keep", str(kept)))
    assert (code, "is not empty" in printed) == (1, True)


def test_a_terminal_shows_progress(tmp_path):
    mine, its = pty.openpty()
    command = [sys.executable, "-m", "distcache", "demo", "--limit", LIMIT, "--machines", "2"]
    process = subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env={**os.environ, "TERM": "xterm", "TMPDIR": str(tmp_path)}
    )
    os.close(its)
    shown = b""
    while True:
        try:
            read = os.read(mine, 65536)
        except OSError:
            break
        if not read:
            break
        shown += read
    os.close(mine)
    assert process.wait(60) == 0
    for words in (
        b"cold: machine 1",
        b"cold: machine 2",
        b"looking up: proxy 3",
        b"warming: worker",
        b"All as it should be",
    ):
        assert words in shown


def test_the_worker_of_the_demo_is_told_of_the_library_only(tmp_path):
    library.copy_library(tmp_path, 20)
    listed = tmp_path / "modules.json"
    listed.write_text('[["__future__", "__future__.py"]]')
    job = {"modules": str(listed), "sources": str(tmp_path), "spoil": False}
    warming = worker.Warming(job, lambda _: None)
    source, content_hash = warming.content("__future__")
    assert (source, content_hash) == ((tmp_path / "__future__.py").read_bytes(), library.content_hash(source))
    assert warming.content("no_such_module") is None


def test_a_process_that_dies_is_named():
    with (
        Crew("distcache.demo.machine", ["machine 1"]) as crew,
        pytest.raises(DistcacheError, match="machine 1 stopped"),
    ):
        crew.run({0: {"do": "nonsense"}}, lambda *_: None)


HALF = """
import os, sys
def main():
    sys.stdin.readline()
    os.write(1, b'{"done": 1}\\n{"result": [1, ')
    os._exit(3)
"""


def test_a_process_that_dies_in_the_middle_of_a_message_is_named(tmp_path, monkeypatch):
    """What is left in the pipe is no message, and the one who listens goes on."""
    (tmp_path / "half.py").write_text(HALF)
    monkeypatch.setattr(distcache, "__file__", str(tmp_path / "distcache" / "__init__.py"))
    heard = []
    with (
        Crew("half", ["machine 1"]) as crew,
        pytest.raises(DistcacheError, match="machine 1 stopped working: it ended with code 3"),
    ):
        crew.run({0: {}}, lambda *said: heard.append(said))
    assert heard == [(0, {"done": 1})]


# -- the library as something to build


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """The first modules of the library: (module, source, code) each."""
    root = tmp_path_factory.mktemp("library")
    found = []
    for module in library.copy_library(root, 400):
        source = (root / module.path).read_bytes()
        with warnings.catch_warnings(action="ignore"):
            found.append((module, source, library.compiled(module, source)))
    return found


def statements(body):
    """The import statements that run when a module is loaded."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Constant) and not node.test.value:
            yield from statements(node.orelse)
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, ()))
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                yield from statements(part.body)


def imported(module, source, names):
    """What `library.imports` finds in the bytecode, found in the source."""
    found = set()
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse(source)
    for node in statements(tree.body):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
            continue
        package = module.package.split(".")
        base = ".".join([*package[: len(package) - node.level + 1], node.module or ""]).strip(".")
        base = base if node.level else node.module
        found.update({base, *(f"{base}.{name.name}" for name in node.names)})
    return sorted((found & names) - {module.name})


def test_imports_are_those_of_the_source(modules):
    names = {module.name for module, _, _ in modules}
    for module, source, code in modules:
        assert library.imports(module, code, names) == imported(module, source, names), module.name


def test_a_build_output_is_code_that_runs(modules):
    code = next(code for module, _, code in modules if module.name == "bisect")
    space = {"__name__": "bisect"}
    exec(marshal.loads(library.dump(code)), space)  # noqa: S102, S302 - our own output
    assert space["bisect_left"]([1, 3], 2) == 1


def test_outputs_are_the_same_in_every_process(tmp_path):
    program = (
        "import sys, sysconfig; from pathlib import Path; from distcache.demo import library;"
        "ms = [library.Module(n, n + '.py') for n in ('argparse', 'enum', 'typing', 'ast')];"
        "r = Path(sysconfig.get_path('stdlib'));"
        "print([library.digest(library.dump(library.compiled(m, (r / m.path).read_bytes()))) for m in ms])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(printed) == 1


def test_a_fingerprint_tells_code_apart():
    module = library.Module("m", "m.py")
    texts = [
        b"x = 1",
        b"x = 2",
        b"y = 1",
        b"def f(): return 1",
        b"def f(): return 2",
        b"x in {'a', 'b'}",
        b"x = 1.0",
        b"\nx = 1",
    ]
    prints = [library.fingerprint(library.compiled(module, text)) for text in texts]
    assert len(set(prints)) == len(texts)
    assert prints == [library.fingerprint(library.compiled(module, text)) for text in texts]
    through = [marshal.loads(marshal.dumps(library.compiled(module, text))) for text in texts]  # noqa: S302 - ours
    assert prints == [library.fingerprint(code) for code in through]


def test_the_real_library_is_only_read(tmp_path):
    found = library.copy_library(tmp_path, 50)
    assert len(found) == 50
    source = Path(sysconfig.get_path("stdlib"), found[0].path)
    assert (tmp_path / found[0].path).read_bytes() == source.read_bytes()
    assert not (tmp_path / found[0].path).samefile(source)


def test_dependents_follow_chains_and_cycles():
    importers = graph.reversed_edges({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": []})
    assert graph.dependents(importers, "a") == {"a", "b", "c", "d"}
    assert graph.dependents(importers, "d") == set()


def test_what_changes_is_imported_by_many_and_not_by_all():
    chain = {f"m{number}": [f"m{number - 1}"] for number in range(1, 20)}
    few = {f"x{number}": ["hub"] for number in range(3)} | {"y": ["x1"], "z": ["y"]}
    assert graph.to_change({"m0": [], "hub": [], **chain, **few}) == "hub"
    assert graph.to_change({"m0": [], "hub": [], **chain, **few}, 0.15, besides="hub") == "m16"


# -- the texts of the proxies


def test_texts_begin_differently_and_keep_their_beginning(tmp_path):
    texts = prose(tmp_path / "library", 60)
    normal = [" ".join(text.split()) for text in texts]
    assert len(texts) > 50
    assert len({text[: proxy.SHORTEST] for text in normal}) == len(texts)
    for text, plain in zip(texts, normal, strict=True):
        assert proxy.reflowed(text, 40) != text
        assert " ".join(proxy.reflowed(text, 40).split()) == plain
        cut = " ".join(proxy.shortened(text, 0.3).split())
        assert proxy.SHORTEST <= len(cut) < len(plain)
        assert plain.startswith(cut)
