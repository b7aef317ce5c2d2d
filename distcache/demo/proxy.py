"""A proxy of the demo: an asyncio process that keeps the signatures of texts in the shared cache."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import re
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from distcache.content.cache import AsyncContentHashCache
from distcache.demo.child import serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distcache.demo.child import Job, Progress

TIMEOUT_S = 10.0
CALLERS = 8
"""Look-ups that a proxy has under way at the same time."""
SHORTEST = 100
"""Characters of the shortest text that is looked for when cut short; the cache's own default."""


def signature(text: str) -> str:
    """What a model would have signed the text with: nobody can guess it, and everyone here can check it."""
    return base64.b64encode(hashlib.sha512(text.encode()).digest()).decode()


def reflowed(text: str, width: int) -> str:
    """The text as an editor might give it back: other line ends, other indentation, tabs."""
    words = text.split()
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > width:
            lines.append(line)
            line = "\t" if width % 2 else "    "
        line += word + " "
    return "\r\n".join([*lines, line])


def shortened(text: str, part: float) -> str:
    """The beginning of a text, cut anywhere, but no shorter than what is looked for."""
    words = re.compile(r"\s*\S")
    least = 0
    while len(" ".join(text[:least].split())) < SHORTEST:
        found = words.match(text, least)
        least = found.end() if found else len(text)
    return text[: max(least, int(len(text) * part))]


async def _store(job: Job, progress: Progress) -> dict[str, Any]:
    texts, done = _texts(job), 0
    spoil = texts[0] if job.get("spoil") else None

    async with _cache(job) as cache:

        async def one(text: str) -> None:
            nonlocal done
            await cache.set(text, signature(text if text != spoil else "another text"))
            done += 1
            progress(done)

        await _each(texts, one)
    return {"stored": done}


async def _find(job: Job, progress: Progress) -> dict[str, Any]:
    """Look every text up three times, each time in another form."""
    texts, rng = _texts(job), random.Random(job["seed"])  # noqa: S311 - for shapes, not for secrets
    rng.shuffle(texts)
    found = {"lookups": 0, "exact": 0, "normalized": 0, "prefix": 0, "missed": 0, "wrong": 0}
    seconds = 0.0

    async with _cache(job) as cache:

        async def ask(form: str, text: str, query: Awaitable[str | None]) -> None:
            nonlocal seconds
            began = perf_counter()
            got = await query
            seconds += perf_counter() - began
            found["lookups"] += 1
            found["missed" if got is None else form if got == signature(text) else "wrong"] += 1
            progress(found["lookups"], found=found["lookups"] - found["missed"] - found["wrong"])

        async def one(text: str) -> None:
            await ask("exact", text, cache.get(text))
            await ask("normalized", text, cache.get(reflowed(text, rng.randint(30, 110))))
            await ask("prefix", text, cache.get_with_prefix_match(shortened(text, rng.uniform(0.3, 0.9))))

        await _each(texts, one)
    return {**found, "ms": 1000 * seconds / max(1, found["lookups"])}


async def _each(texts: list[str], one: Callable[[str], Awaitable[None]]) -> None:
    """Take the texts one after the other, several callers at a time."""
    waiting = iter(texts)

    async def caller() -> None:
        for text in waiting:
            await one(text)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def _cache(job: Job) -> AsyncContentHashCache:
    return AsyncContentHashCache(
        min_prefix_length=SHORTEST,
        url=job["url"],
        namespace=job["namespace"],
        on_error="raise",
        timeout_s=TIMEOUT_S,
    )


def _texts(job: Job) -> list[str]:
    return list(json.loads(Path(job["texts"]).read_text(encoding="ascii")))


def store(job: Job, progress: Progress) -> dict[str, Any]:
    """Store the signatures of all texts."""
    return asyncio.run(_store(job, progress))


def find(job: Job, progress: Progress) -> dict[str, Any]:
    """Find what another proxy has stored."""
    return asyncio.run(_find(job, progress))


def main() -> None:
    """Work for the act."""
    serve({"store": store, "find": find})
