"""Commands that run workers and list them."""

from __future__ import annotations

import asyncio
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distcache.cli.show import as_json, moment, print_json, print_table
from distcache.cli.target import options
from distcache.errors import ConfigError
from distcache.warmup.warmer import Warmer
from distcache.warmup.worker import Worker

if TYPE_CHECKING:
    from distcache.cli.target import Target


@click.command()
@options()
@as_json
def workers(target: Target, json_: bool) -> None:
    """List the workers of the last day: what they run, have done, and when they were last seen."""
    with target.smart(look=True) as cache:
        found = cache.workers()
    if json_:
        print_json(found)
        return
    columns = ("name", "host", "alive", "running", "of", "done", "failed", "per second", "last seen")
    rows = [
        (w.name, w.host, w.alive, w.running, w.concurrency, w.done, w.failed, w.rate, moment(w.seen_ms)) for w in found
    ]
    print_table(columns, rows)


@click.command()
@click.argument("warmer", metavar="MODULE:ATTR")
@click.option("--url", metavar="URL", help="Server, in place of the Warmer's.")
@click.option("--namespace", metavar="NAME", help="Cache, in place of the Warmer's.")
@click.option("--concurrency", type=click.IntRange(min=1), default=4, show_default=True, help="Tasks at a time.")
@click.option("--name", default="", help="How it is listed.  [default: host and process]")
@click.option("--max-tasks", type=click.IntRange(min=1), help="Stop after so many tasks.")
@click.option("--drain", is_flag=True, help="Stop when nothing waits.")
@click.option("--lease", type=float, default=30.0, show_default=True, help="Seconds of silence until others take over.")
@click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds to finish after SIGTERM.")
@click.option("--attempts", type=click.IntRange(min=1), default=5, show_default=True, help="Tries before giving up.")
def worker(warmer: str, url: str | None, namespace: str | None, lease: float, grace: float, **kwargs: Any) -> None:
    """Compile what is queued, with the Warmer that MODULE:ATTR names.

    SIGTERM or Ctrl-C lets running tasks finish within the grace time; a second one hands them back at once.
    """
    chosen = {name: value for name, value in (("url", url), ("namespace", namespace)) if value is not None}
    process = Worker(_load(warmer), lease_s=lease, grace_s=grace, **kwargs, **chosen)  # type: ignore[arg-type]
    done = asyncio.run(_run(process))
    click.echo(f"Tasks completed: {done:,}", err=True)


async def _run(process: Worker) -> int:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
    click.echo(f"Worker {process.name} is ready.", err=True)
    return await process.run()


def _load(name: str) -> Warmer:
    """The Warmer; modules of the current directory are found too, as with `python -m`."""
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise click.UsageError(f"{name!r} names no Warmer; say MODULE:ATTR, such as build.warm:warmer")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise ConfigError(f"there is no module {module!r} here or in sys.path") from error
    except AttributeError as error:
        raise ConfigError(f"the module {module!r} has no {attribute!r}") from error
    if not isinstance(found, Warmer):
        raise ConfigError(f"{name!r} is a {type(found).__name__}; it has to be a distcache.Warmer")
    return found
