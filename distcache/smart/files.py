"""The three JSON files of the original in-process class: written by save(), read by import.

    smart_cache_v1.2.json   {"version": "1.2", "entries": [{key, content_hash, output, timestamp, ...}]}
    access_patterns.json    {key: {"sequence": [keys], "frequency": n}}
    cache_events.json       the last 1000 events

An output that is bytes is written in base64, marked by "output_encoding".
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcache.errors import DistcacheError
from distcache.smart.records import checked_cost

if TYPE_CHECKING:
    from distcache.smart.records import Dump

ENTRIES, PATTERNS, EVENTS = "smart_cache_v1.2.json", "access_patterns.json", "cache_events.json"
EVENTS_SAVED = 1000
SECONDS_BELOW = 10**11
"""A time stamp smaller than this is in seconds: as milliseconds it would be before 1973."""


class FilesError(DistcacheError, ValueError):
    """A file to import cannot be read."""


@dataclass(slots=True)
class Saved:
    """The contents of the three files."""

    entries: list[dict[str, Any]] = field(default_factory=list)
    patterns: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)


def entry(row: Dump, key: str, content_hash: str, output: str | bytes) -> dict[str, Any]:
    """One entry in the original's form."""
    encoded = {"output": output} if isinstance(output, str) else _from_bytes(output)
    return {
        "key": key,
        "content_hash": content_hash,
        **encoded,
        "timestamp": row.timestamp,
        "access_count": row.usage.access_count,
        "last_access": row.usage.last_access_ms,
        "dependencies": list(row.metadata.dependencies),
        "file_path": row.metadata.file_path,
        "line_range": list(row.metadata.line_range),
        "compile_time_ms": row.usage.compile_time_ms,
        "size_bytes": row.usage.size_bytes,
    }


def put_parameters(saved: dict[str, Any]) -> dict[str, Any]:
    """What put_many wants, out of one saved entry; FilesError when it is none."""
    try:
        output = saved["output"]
        if saved.get("output_encoding") == "base64":
            output = base64.b64decode(output, validate=True)
        count, last = _bounded(saved.get("access_count", 0)), _ms(saved.get("last_access", 0))
        first, final = saved.get("line_range") or (0, 0)
        return {
            "key": _of(str, saved["key"]),
            "output": _of((str, bytes), output),
            "content_hash": _of(str, saved["content_hash"]),
            "dependencies": _texts(saved.get("dependencies") or []),
            "file_path": _of(str, saved.get("file_path") or ""),
            "line_range": (int(first), int(final)),
            "compile_time_ms": checked_cost(saved.get("compile_time_ms") or 0),
            "past": f"{count} {last} {_ms(saved.get('timestamp', 0))}",
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FilesError(f"{ENTRIES} holds an entry that is none: {type(error).__name__}") from error


def write(directory: Path, saved: Saved) -> bool:
    """Write the three files; each appears whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    _write(directory / ENTRIES, {"version": "1.2", "entries": saved.entries})
    _write(directory / PATTERNS, saved.patterns)
    _write(directory / EVENTS, saved.events[-EVENTS_SAVED:])
    return True


def read(directory: Path) -> Saved:
    """Read what is there of the files; FilesError when there is none, or one that is not what it should be."""
    if not (directory / ENTRIES).is_file():
        raise FilesError(f"there is no {ENTRIES} in {str(directory)!r}; name the cache_dir of the original class")
    entries = _read(directory / ENTRIES, {})
    patterns = _read(directory / PATTERNS, {})
    try:
        rows: list[dict[str, Any]] = _of(list, _of(dict, entries).get("entries"))
        for pattern in _of(dict, patterns).values():
            _texts(_of(dict, pattern).get("sequence", []))
    except TypeError as error:
        message = f"{ENTRIES} or {PATTERNS} has another shape than version 1.2; nothing was imported"
        raise FilesError(message) from error
    return Saved(rows, patterns)


def _write(path: Path, content: Any) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(content, file)  # ASCII escapes: a lone surrogate survives
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read(path: Path, default: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default
    except (OSError, ValueError, RecursionError) as error:
        raise FilesError(f"{path.name} cannot be read as JSON in UTF-8; nothing was imported") from error


def _from_bytes(output: bytes) -> dict[str, str]:
    return {"output": base64.b64encode(output).decode(), "output_encoding": "base64"}


def _ms(stamp: float) -> int:
    """Milliseconds, whichever of seconds and milliseconds was written."""
    return _bounded(stamp * 1000 if stamp < SECONDS_BELOW else stamp)


def _bounded(number: float) -> int:
    """A whole number that every part of the cache can count with."""
    return min(max(int(number), 0), 10**15)


def _of(kind: Any, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(type(value).__name__)
    return value


def _texts(values: Any) -> list[str]:
    return [_of(str, value) for value in _of(list, values)]
