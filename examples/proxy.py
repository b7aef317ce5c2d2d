"""Two instances of a proxy: one saw a model think and sign its thoughts, the other must send both back.

python examples/proxy.py
"""

from __future__ import annotations

import asyncio
import tempfile

from distcache import AsyncContentHashCache

THOUGHT = """The user wants the build to be faster. Most of its time goes into compiling
the same files again on every machine, so the first thing to look at is whether
the outputs could be shared between the machines."""
SIGNATURE = "c2lnbmVkIGJ5IHRoZSBtb2RlbA=="


async def main() -> None:
    """One instance stores; the other finds, whatever the editor between them has done to the text."""
    with tempfile.TemporaryDirectory() as place:
        url = f"embedded://{place}"  # in production redis://..., the same for all instances
        async with AsyncContentHashCache(url=url) as one, AsyncContentHashCache(url=url) as other:
            await one.scoped("team-a", "some-model").set(THOUGHT, SIGNATURE)

            cache = other.scoped("team-a", "some-model")
            print("as it was:            ", await cache.get(THOUGHT))
            print("other white space:    ", await cache.get(THOUGHT.replace("\n", "\r\n    ")))
            print("cut short:            ", await cache.get_with_prefix_match(THOUGHT[:120]))
            print("somebody else's:      ", await other.scoped("team-b", "some-model").get(THOUGHT))

            match = await cache.lookup(THOUGHT[:120], prefix=True)
            if match is not None:  # the signature belongs to the whole text, so that is what to send back
                print(f"to send back, found by {match.level}: {len(match.text)} characters")


if __name__ == "__main__":
    asyncio.run(main())
