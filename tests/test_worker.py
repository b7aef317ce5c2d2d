"""Worker processes: killed, frozen, stopped, cut off from the server; nothing is lost and nothing is stored twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from servers import binaries, start_server, wait_until

from distcache import SmartCache
from distcache.keys import Partition

if TYPE_CHECKING:
    import redis

HERE = Path(__file__).parent
PART = Partition("smart", 0)
PATIENCE_S = 60.0


class Fleet:
    """Worker processes on one server, and a cache to look through."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder
        self.gate, self.log = folder / "gate", folder / "log"
        self.cache = SmartCache(folder, url=url, timeout_s=10.0, on_error="raise", enable_warmup=False)
        self.processes: list[subprocess.Popen[bytes]] = []

    def worker(self, *options: str, attr: str = "warmer", lease_s: float = 1.0, pace_s: float = 0.0):
        env = {**os.environ, "DISTCACHE_URL": self.url, "FLEET_LOG": str(self.log), "FLEET_GATE": str(self.gate)}
        env |= {"FLEET_PACE_S": str(pace_s), "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
        command = [sys.executable, "-m", "distcache", "worker", f"warmers:{attr}", "--lease", str(lease_s), *options]
        with (self.folder / "stderr").open("ab") as errors:
            process = subprocess.Popen(command, cwd=self.folder, env=env, stderr=errors)
        self.processes.append(process)
        return process

    def listed(self) -> set[int]:
        return {info.pid for info in self.cache.workers()}

    def runs(self, key: str | None = None) -> list[str]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if key is None or line.split()[0] == key]

    def wait_idle(self) -> None:
        def idle():
            stats = self.cache.queue_stats()
            return not (stats.urgent or stats.predicted or stats.delayed)

        wait_until(idle, "the queue is empty", PATIENCE_S)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(10)
        self.cache.close()


@pytest.fixture
def fleet(real, tmp_path):
    fleet = Fleet(real.url, tmp_path)
    yield fleet
    fleet.close()


def left_behind(client: redis.Redis) -> list[bytes]:
    """Tasks, and pending entries, that are still in the server."""
    found = [key for key in client.keys("*") if b"}:t:" in key]
    for stream in (PART.queue, PART.queue_low):
        if client.exists(stream) and client.xinfo_groups(stream):
            found += [one["message_id"] for one in client.xpending_range(stream, "workers", "-", "+", 10)]
            found += [entry for entry, _ in client.xrange(stream)]
    return found


def test_killed_workers_lose_nothing_and_store_once(fleet, real):
    for number in range(500):
        assert fleet.cache.warmup_unit(f"k{number}", f"source {number}", "h")
    crew = [fleet.worker(pace_s=0.01) for _ in range(4)]
    for done in (60, 160, 260, 360):
        wait_until(lambda done=done: fleet.cache.get_stats()["warmups"] >= done, f"{done} are done", PATIENCE_S)
        victim = crew.pop(0)
        victim.kill()
        crew.append(fleet.worker(pace_s=0.01))
    fleet.wait_idle()
    assert fleet.cache.get_many([f"k{number}" for number in range(500)]) == {
        f"k{number}": f"SOURCE {number}" for number in range(500)
    }
    stats = fleet.cache.get_stats()
    assert (stats["writes"], stats["warmups"]) == (500, 500)
    assert fleet.cache.queue_stats().dead == 0
    assert left_behind(real.client) == []


@pytest.mark.parametrize("name", sorted(binaries()))
def test_a_server_that_is_killed_loses_nothing(name, tmp_path):
    persistent = ["--appendonly", "yes", "--appendfsync", "always"]
    with start_server(binaries()[name], args=persistent) as server:
        fleet = Fleet(server.url, tmp_path)
        try:
            for number in range(500):
                fleet.cache.warmup_unit(f"k{number}", f"source {number}", "h")
            for _ in range(4):
                fleet.worker(pace_s=0.01)
            for done in (100, 300):
                wait_until(lambda done=done: fleet.cache.get_stats()["warmups"] >= done, f"{done} done", PATIENCE_S)
                server.restart()
                wait_until(lambda: fleet.cache.has("k0") in (True, False), "the server is back")
            fleet.wait_idle()
            assert len(fleet.cache.get_many([f"k{number}" for number in range(500)])) == 500
            assert fleet.cache.get_stats()["writes"] == 500
            with server.client() as client:
                assert left_behind(client) == []
        finally:
            fleet.close()


def test_a_frozen_worker_is_refused(fleet):
    fleet.cache.warmup_unit("wait", "source", "h")
    first = fleet.worker(lease_s=0.5)
    wait_until(lambda: fleet.runs("wait"), "it runs")
    first.send_signal(signal.SIGSTOP)
    second = fleet.worker(lease_s=0.5)
    wait_until(lambda: len(fleet.runs("wait")) == 2, "another worker runs it", PATIENCE_S)
    fleet.gate.touch()
    fleet.wait_idle()
    first.send_signal(signal.SIGCONT)
    wait_until(lambda: any(info.pid == first.pid and info.alive for info in fleet.cache.workers()), "it beats again")
    first.terminate()
    assert first.wait(30) == 0
    assert fleet.cache.get("wait") == f"source {second.pid}"
    assert fleet.cache.get_stats()["writes"] == 1


def test_a_task_longer_than_its_lease_runs_once(fleet):
    fleet.cache.warmup_unit("wait", "source", "h")
    crew = [fleet.worker(lease_s=0.6) for _ in range(2)]
    wait_until(lambda: fleet.runs("wait") and len(fleet.listed()) == 2, "it runs, and another looks on", PATIENCE_S)
    seen: dict[int, set[int]] = {process.pid: set() for process in crew}

    def beaten():
        for info in fleet.cache.workers():
            seen[info.pid].add(info.seen_ms)
        return all(len(beats) > 12 for beats in seen.values())  # four leases

    wait_until(beaten, "four leases have passed", PATIENCE_S)
    fleet.gate.touch()
    fleet.wait_idle()
    assert len(fleet.runs("wait")) == 1


def test_innocents_beside_a_poison_task_live(fleet):
    fleet.cache.warmup_unit("poison", "source", "h")
    for number in range(20):
        fleet.cache.warmup_unit(f"k{number}", "source", "h")
    crew: list[subprocess.Popen[bytes]] = []

    def over():
        for process in [one for one in crew if one.poll() is not None]:
            crew.remove(process)
        while len(crew) < 2:  # what a supervisor does
            crew.append(fleet.worker("--concurrency", "4", lease_s=0.4, pace_s=0.05))
        stats = fleet.cache.queue_stats()
        return stats.dead == 1 and stats.urgent == 0

    wait_until(over, "the poison is found, the others are done", 2 * PATIENCE_S)
    (letter,) = fleet.cache.queue_tasks("dead")
    assert letter.key == "poison"
    assert "died each time" in letter.error
    assert all(fleet.cache.has(f"k{number}") for number in range(20))


def test_a_crash_in_a_process_pool_fails_its_own_task(fleet):
    for key in ("a", "poison", "b", "bad", "c"):
        fleet.cache.warmup_unit(key, "source", "h")
    worker = fleet.worker("--drain", "--attempts", "1", "--concurrency", "2", attr="in_processes")
    assert worker.wait(PATIENCE_S) == 0
    assert set(fleet.cache.get_many(["a", "b", "c"])) == {"a", "b", "c"}
    errors = {letter.key: letter.error for letter in fleet.cache.queue_tasks("dead")}
    assert errors == {
        "poison": "CompilerDied: the compiler's process ended with code 7",
        "bad": "ValueError: no good",
    }


def test_sigterm_finishes_what_runs_and_leaves_the_rest(fleet):
    for key in ("wait1", "wait2", "k3", "k4"):
        fleet.cache.warmup_unit(key, "source", "h")
    worker = fleet.worker("--concurrency", "2", "--grace", "60", lease_s=30)
    wait_until(lambda: len(fleet.runs()) == 2, "two run", PATIENCE_S)
    worker.terminate()
    fleet.gate.touch()
    assert worker.wait(PATIENCE_S) == 0
    stats = fleet.cache.queue_stats()
    assert (stats.urgent, stats.running) == (2, 0)
    assert fleet.cache.has("wait1")
    assert fleet.cache.has("wait2")
    assert fleet.cache.workers() == []


@pytest.mark.parametrize("how", ["grace", "second signal"])
def test_what_cannot_finish_is_handed_back(fleet, how):
    fleet.cache.warmup_unit("wait", "source", "h")
    worker = fleet.worker("--grace", "0.2" if how == "grace" else "1000", lease_s=1000)
    wait_until(lambda: fleet.runs("wait"), "it runs", PATIENCE_S)
    worker.terminate()
    if how == "second signal":
        worker.send_signal(signal.SIGINT)  # another one, since two equal ones may arrive as one
    assert worker.wait(PATIENCE_S) == 0
    stats = fleet.cache.queue_stats()
    assert (stats.urgent, stats.running) == (1, 0)
    fleet.gate.touch()
    assert fleet.worker("--drain").wait(PATIENCE_S) == 0
    assert fleet.cache.has("wait")


def test_a_lost_group_and_a_lost_stream_are_made_again(fleet, real):
    fleet.worker()
    wait_until(fleet.listed, "it is there", PATIENCE_S)
    for number, lose in enumerate(
        (
            lambda: real.client.xgroup_destroy(PART.queue, "workers"),
            lambda: real.client.delete(PART.queue, PART.queue_low),
            real.client.flushall,
        )
    ):
        lose()
        fleet.cache.warmup_unit(f"k{number}", "source", "h")
        wait_until(lambda number=number: fleet.cache.has(f"k{number}"), "it is compiled", PATIENCE_S)


def test_a_long_pending_list_is_swept_in_bounded_steps(fleet, real):
    fleet.cache.warmup_unit("k", "source", "h")
    (task,) = [key.split(b"}:t:")[1] for key in real.client.keys("*") if b"}:t:" in key]
    pipe = real.client.pipeline(transaction=False)
    pipe.delete(PART.queue)
    for number in range(1, 100_001):
        pipe.xadd(PART.queue, {"t": task}, id=f"1-{number}")
    pipe.xgroup_create(PART.queue, "workers", "0")
    pipe.xreadgroup("workers", "gone", {PART.queue: ">"}, count=100_000)
    pipe.hset(PART.tasks + task, "e", "1-100000")
    pipe.execute()
    assert real.client.xpending(PART.queue, "workers")["pending"] == 100_000
    cursors, steps, returned = (b"0-0", b"0-0"), 0, 0
    while steps == 0 or cursors != (b"0-0", b"0-0"):
        before = real.client.xlen(PART.queue)
        cursors, count = fleet.cache._run(_sweep_step(fleet.cache._queue, cursors), None)
        assert before - real.client.xlen(PART.queue) <= 100
        steps, returned = steps + 1, returned + count
    assert returned == 1  # the others were void
    assert fleet.worker("--drain").wait(PATIENCE_S) == 0
    assert fleet.cache.has("k")


def _sweep_step(queue, cursors):
    return queue.agreed(lambda ops: iter(ops.sweep(ops.partitions[0], "sweeper", 0, cursors)))


def test_a_wrong_name_is_a_sentence(tmp_path):
    for name, words in (("warmers", "MODULE:ATTR"), ("nothing_here:x", "no module"), ("warmers:x", "has no 'x'")):
        env = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}"}
        command = [sys.executable, "-m", "distcache", "worker", name]
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert ended.returncode != 0
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
