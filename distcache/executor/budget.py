"""How long a flow's next step may take, so that the steps together keep one deadline."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from distcache.op import Batch

if TYPE_CHECKING:
    from distcache.op import Step


class Budget:
    """The deadline of a flow. A patient step has one of its own, and the steps behind it start anew."""

    __slots__ = ("_started", "_timeout_s")

    def __init__(self, timeout_s: float, started: float) -> None:
        self._timeout_s = timeout_s
        self._started = started

    def after(self, done: Step, following: Step) -> float | None:
        """Seconds for the following step; None for the executor's own timeout, which is what the first step gets."""
        now = monotonic()
        if _patient(done):
            self._started = now
        left = self._timeout_s - (now - self._started)
        return None if _patient(following) else max(left, 0.0)


def _patient(step: Step) -> bool:
    return type(step) is Batch and step.patient
