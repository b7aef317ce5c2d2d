"""The second act: proxies share the signatures of texts; one stores, the others find them in any form."""

from __future__ import annotations

import ast
import json
import warnings
from typing import TYPE_CHECKING, Any

from distcache.content.cache import ContentHashCache
from distcache.demo import library
from distcache.demo.crew import Crew
from distcache.demo.proxy import SHORTEST, TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from distcache.demo.stage import Stage

NAMES = ("proxy 1", "proxy 2", "proxy 3")
TEXTS = 500
LONG = 3 * SHORTEST
"""Characters (normalized) of the shortest text taken."""
LEVELS = ("exact", "normalized", "prefix")
COLUMNS = ("proxy", "stored", "looked up", *LEVELS, "missed", "wrong", "ms per look-up")


def play(stage: Stage) -> str:
    """Play the act; the sentence says what was seen."""
    texts = prose(stage.folder / "library", stage.limit)
    stage.say(
        f"\n[bold]2. {len(NAMES)} proxies share the signatures of {len(texts):,} texts[/] (docstrings) with one "
        "ContentHashCache: one stores, the others look up"
    )
    with Crew("distcache.demo.proxy", NAMES) as crew:
        stored, found, counted = _work(stage, crew, texts)
    first = (NAMES[0], f"{stored:,}", *[""] * (len(COLUMNS) - 2))
    stage.table(COLUMNS, [first, *(_row(name, part) for name, part in zip(NAMES[1:], found, strict=True))])
    _check(stage, len(texts), found, counted)
    right = sum(part[level] for part in found for level in LEVELS)
    return f"{len(found)} proxies found {right:,} of {3 * len(found) * len(texts):,} signatures that another had stored"


def prose(folder: Path, limit: int | None) -> list[str]:
    """Long docstrings of the library, no two of which begin alike: a beginning that two share would name neither."""
    if not folder.exists():
        library.copy_library(folder, limit)
    texts: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        for text in _docstrings(path.read_bytes()):
            normal = " ".join(text.split())
            if len(normal) >= LONG:
                texts.setdefault(normal[:SHORTEST], text)
        if len(texts) >= TEXTS:
            break
    return list(texts.values())[:TEXTS]


def _docstrings(source: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except library.UNCOMPILABLE:
        return
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield ast.get_docstring(node, clean=False) or ""


def _work(stage: Stage, crew: Crew, texts: list[str]) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """The first proxy stores, then the others look up: how many stored, what each found, what the cache counted."""
    listed = stage.folder / "texts.json"
    listed.write_text(json.dumps(texts), encoding="ascii")
    namespace = f"{stage.namespace}-signatures"
    job = {"url": stage.url, "namespace": namespace, "texts": str(listed)}
    with stage.progress("storing", NAMES[:1], len(texts)) as heard:
        (stored,) = crew.run({0: {**job, "do": "store", "spoil": stage.sabotage == "signature"}}, heard)
    with stage.progress("looking up", NAMES, 3 * len(texts)) as heard:
        found = crew.run({number: {**job, "do": "find", "seed": number} for number in range(1, len(NAMES))}, heard)
    with ContentHashCache(url=stage.url, namespace=namespace, on_error="raise", timeout_s=TIMEOUT_S) as cache:
        return stored["stored"], found, cache.get_stats()


def _row(name: str, part: dict[str, Any]) -> Sequence[str]:
    return (
        name,
        "",
        f"{part['lookups']:,}",
        *(f"{part[what]:,}" for what in (*LEVELS, "missed", "wrong")),
        f"{part['ms']:.2f}",
    )


def _check(stage: Stage, texts: int, found: list[dict[str, Any]], counted: dict[str, Any]) -> None:
    wrong, missed = (sum(part[what] for part in found) for what in ("wrong", "missed"))
    stage.check(wrong == 0, f"{wrong} look-ups gave the signature of another text")
    stage.check(missed == 0, f"{missed} look-ups found nothing")
    hits = [counted[f"{level}_hits"] for level in LEVELS]
    stage.check(
        hits == [texts * len(found)] * len(LEVELS),
        "the cache counted "
        + ", ".join(f"{count:,} {level}" for count, level in zip(hits, LEVELS, strict=True))
        + " hits",
    )
