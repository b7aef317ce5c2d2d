"""The processes of an act, seen from the parent: started, given jobs, listened to, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import distcache
from distcache.errors import DistcacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

END_S = 5.0

# The package is found again even where the parent found it by its working directory; nothing else is, from there.
_START = "import sys; sys.path.append({place!r}); from {module} import main; main()"


class Crew:
    """Some processes that run one module's main(), each with a line of JSON a job (see `child.py`)."""

    def __init__(self, module: str, names: Sequence[str]) -> None:
        self.names = names
        self._heard: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
        self._errors = [tempfile.TemporaryFile() for _ in names]  # noqa: SIM115 - closed by __exit__
        place = str(Path(distcache.__file__).parent.parent)
        command = [sys.executable, "-P", "-W", "ignore", "-c", _START.format(place=place, module=module)]
        self._processes = [_start(command, errors) for errors in self._errors]
        self._listeners = [
            threading.Thread(target=self._listen, args=(number, process.stdout), daemon=True)
            for number, process in enumerate(self._processes)
        ]
        for listener in self._listeners:
            listener.start()

    def run(self, jobs: Mapping[int, Mapping[str, Any]], heard: Callable[[int, Mapping[str, int]], None]) -> list[Any]:
        """Give processes, by their numbers, a job each; their results in that order. `heard` gets what they say."""
        for number, job in jobs.items():
            stdin = self._processes[number].stdin
            assert stdin is not None  # noqa: S101 - it is a pipe
            with contextlib.suppress(BrokenPipeError):  # it is dead, and what it said last is on its way
                stdin.write(json.dumps(job).encode() + b"\n")
                stdin.flush()
        results: dict[int, Any] = {}
        while len(results) < len(jobs):
            number, message = self._heard.get()
            if message is None or "error" in message:
                raise DistcacheError(f"{self.names[number]} stopped working: {self._why(number, message)}")
            if "result" in message:
                results[number] = message["result"]
            else:
                heard(number, message)
        return [results[number] for number in jobs]

    def _listen(self, number: int, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                if line.endswith(b"\n"):  # or it died, or was killed, in the middle of a message
                    self._heard.put((number, json.loads(line)))
        self._heard.put((number, None))

    def _why(self, number: int, message: dict[str, Any] | None) -> str:
        if message is not None:
            return str(message["error"])
        code = self._processes[number].wait()
        self._errors[number].seek(0)
        lines = self._errors[number].read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with code {code}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            if error is not None:
                process.kill()  # in the middle of a job; otherwise it waits for one, and ends when none can come
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        for process, errors in zip(self._processes, self._errors, strict=True):
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            errors.close()
        for listener in self._listeners:
            listener.join()


def _start(command: list[str], errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        process_group=0,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )
