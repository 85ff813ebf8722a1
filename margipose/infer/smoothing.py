"""Steadier poses in videos: the One-Euro filter.

Source: Casiez, Roussel and Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems" (CHI 2012), equations 1 to 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["JointSmoother", "OneEuro", "Smoothing"]


class OneEuro:
    """A low-pass filter whose cutoff grows with speed: still things do not tremble, fast ones do not lag.

    Args:
        min_cutoff_hz: cutoff frequency at rest: lower for less trembling.
        beta: how many Hz the cutoff grows per unit of speed: higher for less lag.
        derivative_cutoff_hz: of the speed itself.
    """

    def __init__(self, min_cutoff_hz: float, beta: float, derivative_cutoff_hz: float = 1.0) -> None:
        self._min_cutoff, self._beta, self._derivative_cutoff = min_cutoff_hz, beta, derivative_cutoff_hz
        self._value: NDArray[np.float64] | None = None
        self._speed: NDArray[np.float64] | None = None
        self._time = 0.0

    def __call__(self, values: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        """The next values, filtered; vectors along the last axis share one cutoff.

        Args:
            values: `... x D`; of the same shape each time.
            time_s: when they were observed; values that are not later than the last are not filtered in.
        """
        if self._value is None or self._speed is None:
            self._value, self._speed, self._time = values, np.zeros_like(values), time_s
            return values
        passed = time_s - self._time
        if passed <= 0:
            return self._value
        speed = (values - self._value) / passed
        self._speed = self._speed + _weight(self._derivative_cutoff, passed) * (speed - self._speed)
        cutoff = self._min_cutoff + self._beta * np.linalg.norm(self._speed, axis=-1, keepdims=True)
        self._value = self._value + _weight(cutoff, passed) * (values - self._value)
        self._time = time_s
        return self._value


def _weight(cutoff_hz, passed_s: float):  # noqa: ANN001  (a number or an array)
    """Of the new value in exponential smoothing at that cutoff."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff_hz * passed_s))


@dataclass(frozen=True)
class Smoothing:
    """How joints are smoothed, in camera space.

    Attributes:
        min_cutoff_hz, beta: of joints relative to the pelvis; `beta` in Hz per mm/s.
        root_min_cutoff_hz, root_beta: of the pelvis, whose distance trembles more.
    """

    min_cutoff_hz: float = 1.5
    beta: float = 0.005
    root_min_cutoff_hz: float = 0.7
    root_beta: float = 0.002

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            enough = value > 0 if "cutoff" in name else value >= 0
            if not enough or not math.isfinite(value):
                raise ValueError(f"smoothing: {name}: expected a positive number, got {value:g}")

    def __str__(self) -> str:
        return f"One-Euro, {self.min_cutoff_hz:g} Hz at rest, {self.beta:g} Hz per mm/s"


class JointSmoother:
    """Smooths one person's joints through time.

    Args:
        smoothing: how.
        root: index of the root joint.
    """

    def __init__(self, smoothing: Smoothing, root: int) -> None:
        self._root = root
        self._relative = OneEuro(smoothing.min_cutoff_hz, smoothing.beta)
        self._position = OneEuro(smoothing.root_min_cutoff_hz, smoothing.root_beta)

    def __call__(self, joints_cam_mm: NDArray[np.float64], time_s: float) -> NDArray[np.float64]:
        """The next joints (J x 3, camera space, mm), smoothed."""
        root = joints_cam_mm[self._root : self._root + 1]
        return self._relative(joints_cam_mm - root, time_s) + self._position(root, time_s)
