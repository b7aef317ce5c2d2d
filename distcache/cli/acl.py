"""The command that prints the ACL rules of a reader, a writer, a worker."""

from __future__ import annotations

import click

from distcache.acl import ROLES, rules
from distcache.cli.show import as_json, print_json


@click.command()
@click.argument("role", type=click.Choice(ROLES))
@click.option("--namespace", metavar="NAME", default="smart", show_default=True, help="Which cache.")
@click.option("--user", metavar="NAME", help="Name of the user.  [default: distcache-ROLE]")
@click.option("--near", is_flag=True, help="With what a near cache needs.")
@as_json
def acl(role: str, namespace: str, user: str | None, near: bool, json_: bool) -> None:
    """Print the command that makes a user who can do what ROLE does with one cache, and nothing else.

    A reader is a client with read_only=True, a writer any other. Put a password in place of PASSWORD.
    """
    name, words = user or f"distcache-{role}", rules(role, namespace, near=near)
    if json_:
        print_json({"user": name, "rules": words})
    else:
        click.echo(f"ACL SETUSER {name} on >PASSWORD {' '.join(words)}")
