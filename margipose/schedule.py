"""Learning-rate schedules: functions of the step, counted from 1 to the number of steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["SCHEDULES", "constant", "learning_rate", "one_cycle", "steps"]

SCHEDULES = ("1cycle", "constant", "steps")


def one_cycle(step: int, total: int, lr: float, momentum: float) -> tuple[float, float]:
    """(learning rate, momentum) of the MargiPose paper's 1cycle schedule at one step.

    The learning rate runs linearly through lr/10 at step 1, lr at 0.45 of the steps, lr/10 at 0.9, and
    lr/10⁴ at the last; momentum dips to 0.85 (if it is larger) where the rate is highest.
    """
    knots = [1, 0.45 * total, 0.9 * total, total]
    rate = np.interp(step, knots, [0.1 * lr, lr, 0.1 * lr, 1e-4 * lr])
    return float(rate), float(np.interp(step, knots, [momentum, min(momentum, 0.85), momentum, momentum]))


def steps(step: int, total: int, lr: float, at: Sequence[float] = (80 / 150, 140 / 150)) -> float:
    """Learning rate divided by 10 after each of the given fractions of the steps."""
    return lr * 0.1 ** sum(step > round(fraction * total) for fraction in at)


def constant(step: int, total: int, lr: float) -> float:
    """The same learning rate throughout."""
    return lr


def learning_rate(schedule: str, step: int, total: int, lr: float, momentum: float) -> tuple[float, float]:
    """(learning rate, momentum) of a schedule by name.

    Raises:
        ValueError: for an unknown name.
    """
    if schedule == "1cycle":
        return one_cycle(step, total, lr, momentum)
    if schedule == "steps":
        return steps(step, total, lr), momentum
    if schedule == "constant":
        return constant(step, total, lr), momentum
    raise ValueError(f"unknown schedule {schedule!r}; valid: {', '.join(SCHEDULES)}")
