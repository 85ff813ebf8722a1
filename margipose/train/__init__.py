"""Training: a frozen configuration in, a checkpoint out.

`fit(config, log)` knows nothing of command lines or experiment trackers; `log(name, value, step)` is called
with every number worth keeping. A run lives in one directory (see `run_dir`), and goes on where it was
interrupted, at the very batch, as if nothing had happened.

device    where to compute, and in which precision
engine    network, optimiser, averaged weights: one step
run_dir   files of a run
loop      epochs, evaluation, interruptions: `fit`
rate      the learning-rate range test
"""

from margipose.train.device import pick_device
from margipose.train.loop import FitResult, Interrupted, fit
from margipose.train.rate import RangeTest, lr_range_test

__all__ = ["FitResult", "Interrupted", "RangeTest", "fit", "lr_range_test", "pick_device"]
