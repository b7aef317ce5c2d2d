"""benchmarks/queue.py: it runs, and it does not stand in the way of Python's own module of that name."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "queue.py"


def test_it_runs(tmp_path):
    rows = tmp_path / "rows.json"
    words = [sys.executable, str(SCRIPT), "--quick", "--only", "distcache", "--json", str(rows)]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "no-op tasks" in ended.stdout
    found = json.loads(rows.read_text())
    assert [(row["name"], row["workers"]) for row in found] == [("distcache", 1), ("distcache", 4)]
    assert all(row["tasks_per_s"] > 0 and row["ms"] > 0 for row in found)


def test_scripts_beside_it_find_pythons_own_queue(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import queue, asyncio, concurrent.futures; queue.SimpleQueue().put(1); print(queue.__file__)\n")
    (tmp_path / "queue.py").write_text(SCRIPT.read_text())
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout.strip() != str(tmp_path / "queue.py")
    assert ended.stdout.strip().endswith("queue.py")
