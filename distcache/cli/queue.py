"""Commands about the warm-up queue: what waits, what failed, and what becomes of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from distcache.cli.show import as_json, moment, print_json, print_pairs, print_table
from distcache.cli.target import options

if TYPE_CHECKING:
    from distcache.cli.target import Target

how_many = click.option("--count", type=click.IntRange(min=1), default=100, show_default=True, help="How many at most.")


@click.group()
def queue() -> None:
    """Look at the warm-up queue, and deal with what failed."""


@queue.command()
@options()
@as_json
def stats(target: Target, json_: bool) -> None:
    """Show how many tasks wait, run, and failed."""
    with target.smart(look=True) as cache:
        found = cache.queue_stats()
    (print_json if json_ else print_pairs)({**asdict(found), "waiting": found.waiting})


@queue.command("list")
@click.option("--delayed", is_flag=True, help="Those that failed and wait for their next try.")
@how_many
@options()
@as_json
def list_(target: Target, delayed: bool, count: int, json_: bool) -> None:
    """List the tasks that wait or run."""
    with target.smart(look=True) as cache:
        found = cache.queue_tasks("delayed" if delayed else "waiting", count)
    if json_:
        print_json(found)
        return
    columns = ("id", "state", "key", "reason", "failed tries", "queued", "worker")
    rows = [(t.id, t.where, t.key, t.reason, t.attempt, moment(t.enqueued_ms), t.worker) for t in found]
    print_table(columns, rows)


@queue.command()
@click.option("--traceback", is_flag=True, help="Print the whole traceback of each.")
@how_many
@options()
@as_json
def dead(target: Target, traceback: bool, count: int, json_: bool) -> None:
    """List the tasks that were given up, the newest first."""
    with target.smart(look=True) as cache:
        found = cache.queue_tasks("dead", count)
    if json_:
        print_json(found)
        return
    if not traceback:
        columns = ("id", "key", "reason", "tries", "given up", "error")
        print_table(columns, [(t.id, t.key, t.reason, t.attempt, moment(t.died_ms), t.error) for t in found])
        return
    for task in found:
        print_pairs({"id": task.id, "key": task.key, "error": task.error})
        click.echo(f"{task.traceback}\n")


@queue.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All dead letters.")
@options()
@as_json
def requeue(target: Target, ids: tuple[str, ...], all_: bool, json_: bool) -> None:
    """Give the dead letters IDS another life."""
    _one_way(ids, all_)
    with target.smart() as cache:
        count = cache.queue_requeue(ids)
    print_json({"requeued": count}) if json_ else click.echo(f"Tasks queued again: {count:,}")


@queue.command()
@click.argument("ids", nargs=-1)
@click.option("--all", "all_", is_flag=True, help="All dead letters.")
@options()
@as_json
def drop(target: Target, ids: tuple[str, ...], all_: bool, json_: bool) -> None:
    """Drop the dead letters IDS."""
    _one_way(ids, all_)
    with target.smart() as cache:
        count = cache.queue_drop(ids)
    print_json({"dropped": count}) if json_ else click.echo(f"Dead letters dropped: {count:,}")


def _one_way(ids: tuple[str, ...], all_: bool) -> None:
    if bool(ids) == all_:
        raise click.UsageError("name the tasks by their ids (`distcache queue dead` lists them), or say --all")
