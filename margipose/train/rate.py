"""The learning-rate range test: how the loss answers to rates that grow with every step."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from margipose.config import TrainConfig
from margipose.train.batches import batch_parts
from margipose.train.device import pick_device
from margipose.train.distributed import World
from margipose.train.engine import Engine, NotFinite
from margipose.train.sets import load_training_sets

__all__ = ["RangeTest", "lr_range_test", "smooth"]

SMOOTHING = 0.99
DIVERGED = 4.0
"""The test ends where the smoothed loss is so many times its minimum."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test found; arrays have one entry per step.

    Attributes:
        rates: the learning rates, ascending.
        losses: the loss of each step.
        smoothed: their moving average, see `smooth`.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest: beyond it, training is about to diverge."""
        return float(self.rates[np.argmin(self.smoothed)])

    @property
    def suggested(self) -> float:
        """The rate at which the smoothed loss falls fastest per decade, before its minimum.

        A peak for schedules that rise to it and fall again. Where the loss never falls, the lowest rate.
        """
        end = int(np.argmin(self.smoothed)) + 1
        if end < 3:
            return float(self.rates[0])
        slope = np.gradient(self.smoothed[:end], np.log10(self.rates[:end]))
        # The average has seen too little at first to be smooth.
        start = min(end // 10, end - 2)
        return float(self.rates[start + int(np.argmin(slope[start:]))])

    def to_json(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "suggested": self.suggested,
            "lowest": self.lowest,
            "rates": self.rates.tolist(),
            "losses": self.losses.tolist(),
            "smoothed": self.smoothed.tolist(),
        }


def smooth(losses: NDArray[np.floating] | list[float], keep: float = SMOOTHING) -> NDArray[np.float64]:
    """Exponential moving average, bias-corrected: each value is a weighted mean of those up to it."""
    average, out = 0.0, []
    for n, loss in enumerate(losses, 1):
        average = keep * average + (1 - keep) * float(loss)
        out.append(average / (1 - keep**n))
    return np.array(out)


def lr_range_test(
    config: TrainConfig,
    lowest: float = 0.1,
    highest: float = 100.0,
    steps: int = 1000,
    progress: bool = False,
) -> RangeTest:
    """Train from the start with rates from `lowest` to `highest`, each a constant factor above the last.

    It ends early where the smoothed loss exceeds four times its minimum, or is not finite. Nothing is
    written. The defaults suit SGD; adaptive optimisers want rates a thousand times smaller.

    Args:
        config: as for `fit`, with the same examples in the same parts of batches; its rate, schedule and
            lengths do not matter.
        progress: show a progress bar.

    Raises:
        ValueError: for data that are missing or do not fit, or rates and steps out of range.
    """
    if not 0 < lowest < highest < float("inf"):
        raise ValueError(f"learning rates: expected 0 < lowest < highest, got {lowest} and {highest}")
    if steps < 2:
        raise ValueError(f"steps: expected at least 2, got {steps}")
    device = pick_device(config.device)
    datasets = load_training_sets(config)
    engine = Engine(config, device)
    engine.train()
    loader = batch_parts(config, datasets, World(), device, 0, steps)
    rates, losses, least = np.geomspace(lowest, highest, steps), [], float("inf")
    bar = tqdm(loader, "range test", steps, unit="batch", disable=not progress, leave=False)
    with bar, contextlib.closing(loader):
        for rate, batch in zip(rates, bar):
            try:
                losses.append(engine.learn(batch.parts, float(rate)).item())
            except NotFinite:
                break
            now = smooth(losses)[-1]
            least = min(least, now)
            bar.set_postfix(lr=f"{rate:.3g}", loss=f"{now:.3f}")
            if now > DIVERGED * least:
                break
    if not losses:
        raise ValueError(f"the loss is not finite at a rate of {lowest} already: try a smaller lowest rate")
    return RangeTest(rates[: len(losses)], np.array(losses), smooth(losses))
