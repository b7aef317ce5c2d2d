"""The group of all commands, each in a module that is imported when the command is named."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

import distcache
from distcache.errors import DistcacheError

COMMANDS = {
    "acl": "acl:acl",
    "clear": "change:clear",
    "demo": "demo:demo",
    "events": "look:events",
    "history": "look:history",
    "hot": "look:hot",
    "import": "files:import_",
    "inspect": "look:inspect",
    "invalidate": "change:invalidate",
    "invalidate-dependents": "change:invalidate_dependents",
    "keys": "look:keys",
    "queue": "queue:queue",
    "replay": "replay:replay",
    "save": "files:save",
    "stats": "look:stats",
    "worker": "workers:worker",
    "workers": "workers:workers",
}
"""Command -> module of this package and the name of the click command in it. A new command is one line here."""


class Lazy(click.Group):
    """Imports the module of a command when it is needed, and turns the library's errors into a sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - the same
        """One command, imported."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(f"distcache.cli.{module}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - what the table promises
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run what was named. A DistcacheError is one sentence on stderr, and exit code 1."""
        try:
            return super().invoke(ctx)
        except DistcacheError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(distcache.__version__, package_name="distcache", message="distcache %(version)s")
def app() -> None:
    """One shared cache for build outputs and signatures, on Redis or Valkey."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")  # a key may hold what the terminal cannot write
