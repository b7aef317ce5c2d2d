"""README and what stands beside it: commands that are run as written, examples that run, links that lead somewhere."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distcache import SmartCache

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_ci_runs_the_first_two_commands_of_readme():
    listed = subprocess.run([ROOT / ".ci" / "run", "--list"], capture_output=True, text=True, check=True).stdout
    assert listed == "".join(blocks("sh")[:2])
    first, second = listed.splitlines()
    assert first.endswith(" && .venv/bin/distcache demo")
    assert second == ".venv/bin/python -m pytest"


def test_the_opening_has_three_sentences():
    opening = README.split("\n\n")[1]
    assert len(re.findall(r"[.](?:\s|$)", opening)) == 3


def test_python_of_readme_can_be_parsed():
    found = blocks("python")
    assert len(found) == 3
    for block in found:
        ast.parse(block)


def test_what_readme_computes_ahead_of_need(tmp_path):
    block = blocks("python")[1]
    made = []

    def make(text):
        made.append(text)
        return text.upper()

    with SmartCache(tmp_path, policy="cost") as cache:
        cache.put("app.page", "page", "h", dependencies=["app.config"])
        names = {"cache": cache, "compile_it": make, "render": make, "source": "text", "content_hash": "h"}
        exec(block, names)  # noqa: S102 - our own text
        assert (names["output"], names["rendered"]("page"), names["rendered"]("page")) == ("TEXT", "PAGE", "PAGE")
        assert made == ["text", "page"]
        assert {task.key for task in cache.queue_tasks()} == {"app.view", "app.main", "app.page"}
        assert not cache.has("app.main")


def test_commands_of_readme_exist():
    from distcache.cli.app import COMMANDS  # noqa: PLC0415 - needs the extra

    named = re.findall(r"^distcache (\S+)", blocks("sh")[2], re.MULTILINE)
    assert len(named) == 6
    assert set(named) <= set(COMMANDS)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("build_tool.py", ["made: nothing", "made: header.txt, news.txt, about.txt", "The new team's pages"]),
        ("proxy.py", ["cut short:             c2ln", "somebody else's:       None", "found by prefix: 205"]),
    ],
)
def test_examples_run(name, words, tmp_path):
    command = [sys.executable, "-W", "error", ROOT / "examples" / name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stderr == ""
    for part in words:
        assert part in done.stdout
