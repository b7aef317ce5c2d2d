"""Tells executors that they are in a forked child now, where the parent's connections and locks are not theirs."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forkable(Protocol):
    """What has to be told."""

    def forked(self) -> None:
        """Called in the child, before anything else runs there."""


_told: weakref.WeakSet[Forkable] = weakref.WeakSet()


def tell(executor: Forkable) -> None:
    """Tell it after every fork, as long as it lives."""
    _told.add(executor)


def _after_fork() -> None:
    for executor in list(_told):
        executor.forked()


os.register_at_fork(after_in_child=_after_fork)
