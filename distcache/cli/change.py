"""Commands that remove entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from distcache.cli.show import as_json, print_json, text
from distcache.cli.target import options

if TYPE_CHECKING:
    from distcache.cli.target import Target


@click.command()
@click.argument("key")
@options()
@as_json
def invalidate(target: Target, key: str, json_: bool) -> None:
    """Remove KEY, all its versions."""
    with target.smart() as cache:
        removed = cache.invalidate(key)
    if json_:
        print_json({"removed": [key] if removed else []})
    else:
        click.echo("Removed." if removed else "Nothing was stored under this key.")


@click.command()
@click.argument("key")
@click.option("--transitive", is_flag=True, help="Also what depends on those, and so on.")
@options()
@as_json
def invalidate_dependents(target: Target, key: str, transitive: bool, json_: bool) -> None:
    """Remove what depends on KEY, and list the keys removed; KEY itself stays."""
    with target.smart() as cache:
        removed = cache.invalidate_by_dependency(key, transitive)
    if json_:
        print_json({"removed": removed})
        return
    for name in removed:
        click.echo(text(name))
    click.echo(f"Entries removed: {len(removed):,}", err=True)


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@options(kinds=True)
@as_json
def clear(target: Target, yes: bool, json_: bool) -> None:
    """Remove all entries, for everyone who uses the cache."""
    with target.smart() if target.kind == "smart" else target.content() as cache:
        if not yes:
            click.confirm(f"Remove all entries of the cache {target}?", abort=True, err=True)
        removed = cache.clear()
    if json_:
        print_json({"removed": removed})
    else:
        click.echo(f"Entries removed: {removed:,}")
