"""Commands that look at a cache and change nothing."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distcache.cli.show import as_json, moment, print_json, print_pairs, print_table, text
from distcache.cli.target import options

if TYPE_CHECKING:
    from distcache.cli.target import Target

how_many = click.IntRange(min=1)


@click.command()
@options(kinds=True)
@as_json
def stats(target: Target, json_: bool) -> None:
    """Show what the cache holds and what all its clients did."""
    with target.smart(look=True) if target.kind == "smart" else target.content(look=True) as cache:
        found = cache.get_stats()
    (print_json if json_ else print_pairs)(found)


@click.command()
@click.argument("glob", default="*")
@options()
@as_json
def keys(target: Target, glob: str, json_: bool) -> None:
    """List the keys that match GLOB, one a line; all of them without it."""
    with target.smart(look=True) as cache:
        found = sorted(cache.keys(glob))
    if json_:
        print_json(found)
        return
    for key in found:
        click.echo(text(key))


@click.command()
@click.argument("key")
@options()
@as_json
def inspect(target: Target, key: str, json_: bool) -> None:
    """Show all that is known of KEY but its output."""
    with target.smart(look=True) as cache:
        info = cache.inspect(key)
    if info is None:
        raise click.ClickException("nothing is stored under this key")
    if json_:
        print_json(info)
        return
    times = {"timestamp": moment(info.timestamp), "last_access": moment(info.last_access)}
    more = {"expires_at": moment(info.expires_at) or "never", "versions": [one.content_hash for one in info.versions]}
    print_pairs({**asdict(info), **times, **more})


@click.command()
@click.argument("key")
@click.option("--count", type=how_many, default=100, show_default=True, help="How many at most.")
@options()
@as_json
def history(target: Target, key: str, count: int, json_: bool) -> None:
    """List the compiles of KEY, newest first."""
    with target.smart(look=True) as cache:
        records = cache.get_history(key, count)
    if json_:
        print_json(records)
        return
    rows = [
        (moment(one.timestamp), one.content_hash[:16], one.compile_time_ms, one.size_bytes, one.held, one.producer)
        for one in records
    ]
    print_table(("when", "content hash", "compile ms", "bytes", "held", "producer"), rows)


@click.command()
@click.option("--count", type=how_many, default=20, show_default=True, help="How many at most.")
@options()
@as_json
def events(target: Target, count: int, json_: bool) -> None:
    """List what happened last, oldest first."""
    with target.smart(look=True) as cache:
        found = cache.get_recent_events(count)
    if json_:
        print_json(found)
        return
    rows = [(moment(one["timestamp"]), one["type"], one["key"], one["details"]) for one in found]
    print_table(("when", "event", "key", "details"), rows)


@click.command()
@click.option("--count", type=how_many, default=10, show_default=True, help="How many at most.")
@options()
@as_json
def hot(target: Target, count: int, json_: bool) -> None:
    """List the most used entries."""
    with target.smart(look=True) as cache:
        found = cache.get_hot_entries(count)
    if json_:
        print_json(found)
        return
    rows = [(one["access_count"], one["key"], one["file"], "{}-{}".format(*one["lines"])) for one in found]
    print_table(("hits", "key", "file", "lines"), rows)
