"""The compile fleet of examples/: gcc on a real C tree, and workers that recompile a header's dependents."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from servers import wait_until

from distcache import SmartCache

ROOT = Path(__file__).parent.parent
FLEET = ROOT / "examples" / "compile_fleet"
PATIENCE_S = 120.0
HEADER = "sds.h"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """The C sources of hiredis, out of its Python package's source."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("sdist")
    words = ["-m", "pip", "download", "-q", "--no-binary", "hiredis", "--no-deps", "hiredis", "-d", folder]
    # README's environment has no pip of its own.
    pythons = [sys.executable, f"{sys.base_prefix}/bin/python3"]
    if all(subprocess.run([one, *words], capture_output=True, check=False).returncode for one in pythons):
        pytest.skip("pip cannot download the source package of hiredis here")
    with tarfile.open(next(folder.glob("hiredis-*.tar.gz"))) as archive:
        known = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # not before Python 3.11.4
        archive.extractall(folder, **known)  # noqa: S202 - a package that is installed for the tests anyway
    return next(folder.glob("hiredis-*/vendor/hiredis"))


@pytest.fixture
def tree(sdist, tmp_path):
    copy = tmp_path / "tree"
    shutil.copytree(sdist, copy)
    for name in ("ssl.c", "test.c"):  # needs OpenSSL; is a program
        (copy / name).unlink()
    return copy


@pytest.fixture
def fleet(real, tree):
    """Runs the example's programs on the tree: fleet("build.py", "--changed", "a.h")."""
    env = {**os.environ, "DISTCACHE_URL": real.url, "FLEET_TREE": str(tree), "PYTHONPATH": str(ROOT)}
    workers = []

    def run(*words):
        command = [sys.executable, *words]
        return subprocess.run(command, cwd=FLEET, env=env, capture_output=True, text=True, check=True).stdout

    def worker():
        command = [sys.executable, "-m", "distcache", "worker", "fleet:warmer", "--concurrency", "2"]
        workers.append(subprocess.Popen(command, cwd=FLEET, env=env, stderr=subprocess.DEVNULL))

    run.worker = worker
    yield run
    for process in workers:
        process.terminate()
    for process in workers:
        assert process.wait(30) == 0


def including(tree, header):
    """What includes a header, asked of the compiler alone."""
    found = set()
    for path in tree.glob("*.c"):
        rule = subprocess.run(
            ["gcc", "-MM", "-I", ".", path.name], cwd=tree, capture_output=True, text=True, check=True
        )
        if header in rule.stdout.split():
            found.add(path.name)
    return found


def test_workers_recompile_exactly_the_dependents_of_a_header(fleet, tree, real, tmp_path):
    files = {path.name for path in tree.glob("*.c")}
    dependents = including(tree, HEADER)
    assert 0 < len(dependents) < len(files)
    assert f"0 found, {len(files)} compiled" in fleet("build.py")
    assert f"{len(files)} found, 0 compiled" in fleet("build.py")

    with SmartCache(tmp_path, url=real.url, timeout_s=10, enable_warmup=False) as cache:
        before = {name: cache.inspect(name).content_hash for name in files}
        fleet.worker()
        fleet.worker()
        wait_until(lambda: len(cache.workers()) == 2, "two workers are there", PATIENCE_S)
        with (tree / HEADER).open("a") as header:
            header.write("\n/* touched */\n")
        queued = fleet("build.py", "--changed", HEADER)
        assert set(queued.split("queued ")[1].strip().split(", ")) == dependents
        wait_until(lambda: all(map(cache.has, dependents)), "the dependents are compiled", PATIENCE_S)
        wait_until(lambda: not cache.queue_stats().urgent, "the queue is empty", PATIENCE_S)
        after = {name: cache.inspect(name).content_hash for name in files}
        assert {name for name in files if before[name] != after[name]} == dependents
        assert cache.get_stats()["warmups"] == len(dependents)
        assert cache.queue_stats().dead == 0
    assert f"{len(files)} found, 0 compiled" in fleet("build.py")
