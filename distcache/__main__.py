"""`python -m distcache`: the command line, where no script of that name is on PATH."""

from distcache.cli import main

main()
