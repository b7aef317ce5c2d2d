"""Commands that read and write the three JSON files of the original in-process class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from distcache.cli.show import as_json, print_json
from distcache.cli.target import options

if TYPE_CHECKING:
    from distcache.cli.target import Target

folder = click.Path(file_okay=False, path_type=Path)


@click.command("import")
@click.argument("place", metavar="DIR", type=folder)
@options()
@as_json
def import_(target: Target, place: Path, json_: bool) -> None:
    """Store what `save`, or the original class, wrote into DIR. The cache is created if there is none."""
    with target.smart(create=True) as cache:
        count = cache.import_files(place)
    if json_:
        print_json({"imported": count})
    else:
        click.echo(f"Entries imported into {target}: {count:,}")


@click.command()
@click.argument("place", metavar="DIR", type=folder)
@options()
@as_json
def save(target: Target, place: Path, json_: bool) -> None:
    """Write all entries, what was learned and the last events into DIR, as the original class did."""
    with target.smart(look=True) as cache:
        cache.cache_dir = place
        try:
            cache.save()
        except OSError as error:
            raise click.ClickException(f"cannot write into {str(place)!r}: {error.strerror}") from None
        count = cache.get_stats()["entries"]
    if json_:
        print_json({"saved": count})
    else:
        click.echo(f"Entries saved in {str(place)!r}: {count:,}")
