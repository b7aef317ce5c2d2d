"""The command that shows both caches at work."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command()
@click.option(
    "--machines", type=click.IntRange(1, 64), default=4, show_default=True, help="CI machines of the first act."
)
@click.option("--limit", type=click.IntRange(min=20), help="Modules to build, the first by name.  [default: all]")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Work in this directory and keep it.")
@click.option("--url", metavar="URL", help="A server to use instead of an embedded one; left as it was found.")
def demo(machines: int, limit: int | None, keep: Path | None, url: str | None) -> None:
    """Show both caches at work between processes, and check what they do.

    CI machines build the standard library of this Python, proxies share signatures, and a worker compiles ahead of need
    what a change reached, on a server that is started for it. Nothing is left behind, unless --keep names a directory.
    The exit code is 1 if a check failed.
    """
    from distcache.demo.run import run  # noqa: PLC0415 - slow to import, and only needed here

    sabotage = os.environ.get("DISTCACHE_DEMO_SABOTAGE", "")
    sys.exit(0 if run(url=url, keep=keep, machines=machines, limit=limit, sabotage=sabotage) else 1)
