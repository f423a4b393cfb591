"""Schedules: numbers of a run file that change during a training phase.

A schedule is a pure function of the step: nothing needs to be stored in a checkpoint, and optimizers keep their state.
"""

import dataclasses
import math
from typing import Literal

from hepgan.errors import RunError

Shape = Literal["cosine", "linear", "constant"]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """A number that changes with the step of a phase.

    >>> Schedule(1.0, 0.0, schedule="linear", steps=100).at(25, steps=1000)
    0.75

    Attributes:
        from_: Initial value, ``from`` in a run file.
        to: Final value; by default the initial one.
        schedule: Shape of the way between them: ``cosine``, ``linear``, or ``constant``, which is a jump at its end.
        steps: Number of steps from the initial to the final value, after the warm-up; 0 stands for the rest of the phase.
        warmup: Steps at the start of the phase in which the value rises linearly from 0 to the initial one.
    """

    from_: float
    to: float | None = None
    schedule: Shape = "cosine"
    steps: int = 0
    warmup: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.warmup) < 0:
            raise RunError(
                f"a schedule has steps = {self.steps} and warmup = {self.warmup}; both should be 0 or more"
            )
        if self.schedule == "constant" and self.to is not None and not self.steps:
            raise RunError(
                "a schedule = 'constant' that covers the whole phase does not reach 'to'; set steps, the step of the jump, or remove"
                " 'to'"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """Initial and final value."""
        return self.from_, self.from_ if self.to is None else self.to

    def at(self, step: int, steps: int) -> float:
        """Returns the value at ``step`` of a phase of ``steps`` steps."""
        first, last = self.ends
        if step < self.warmup:
            return first * (step + 1) / (self.warmup + 1)
        progress = min((step - self.warmup) / max(self.steps or steps - self.warmup, 1), 1.0)
        match self.schedule:
            case "cosine":
                rest = (1 + math.cos(math.pi * progress)) / 2
            case "linear":
                rest = 1 - progress
            case "constant":
                rest = float(progress < 1)
        return last + (first - last) * rest


Number = float | Schedule
"""A number of a run file that may change during a phase."""


def ends(number: Number) -> tuple[float, float]:
    """Returns the initial and the final value of ``number``."""
    return number.ends if isinstance(number, Schedule) else (number, number)


def value_at(number: Number, step: int, steps: int) -> float:
    """Returns the value of ``number`` at ``step`` of a phase of ``steps`` steps."""
    return number.at(step, steps) if isinstance(number, Schedule) else number
