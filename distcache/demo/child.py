"""What a process of the demo does between its jobs: read one as a line of JSON, do it, answer with lines of JSON."""

from __future__ import annotations

import json
import os
import signal
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Job = Mapping[str, Any]
    Say = Callable[..., None]

INTERVAL_S = 0.1


class Progress:
    """Tells the parent how far a job is, now and then."""

    def __init__(self) -> None:
        self._next = 0.0

    def __call__(self, done: int, **counts: int) -> None:
        """So much is done; counts are shown beside it."""
        if monotonic() >= self._next:
            self._next = monotonic() + INTERVAL_S
            _say({"done": done, **counts})


def serve(jobs: Mapping[str, Callable[[Job, Progress], Any]]) -> None:
    """Do the jobs that come until there are no more; the parent's end is the end of this process too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent decides
    try:
        for line in sys.stdin:
            job = json.loads(line)
            _say({"result": jobs[job["do"]](job, Progress())})
    except DistcacheError as error:
        _say({"error": str(error)})
    except BrokenPipeError:
        os._exit(1)


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
