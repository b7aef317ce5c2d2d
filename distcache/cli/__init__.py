"""The command line, `distcache`: caches looked at and changed from a shell. Needs the extra `cli`."""

from __future__ import annotations

import sys

USAGE = 2


def main() -> None:
    """Run the command line; one sentence and exit code 2 where its libraries are missing."""
    try:
        import click  # noqa: F401, PLC0415 - the extra may not be installed
        import rich  # noqa: F401, PLC0415 - the same
    except ImportError:
        sys.stderr.write("The command line needs click and rich: run pip install 'distcache[cli]'.\n")
        sys.exit(USAGE)
    from distcache.cli.app import app  # noqa: PLC0415 - imports them

    app(prog_name="distcache")


if __name__ == "__main__":
    main()
