"""Training: a frozen configuration in, a checkpoint out.

`fit(config, log)` knows nothing of command lines or experiment trackers; `log(name, value, step)` is called
with every number worth keeping. A run lives in one directory (see `run_dir`), and goes on where it was
interrupted, at the very batch, as if nothing had happened.

device         where to compute, and in which precision
sets           the data sets that a configuration names
timing         where the time goes
batch_norm     normalisation over the examples of several processes
distributed    several processes that train one network
batches        what each process computes of each batch
engine         network, optimiser, averaged weights: one step
run_dir        files of a run
stopping       signals
board          TensorBoard's files
pictures       what the network makes of some examples
watching       what people look at: these two, and learning curves
loop           epochs, evaluation, interruptions: `fit`
rate           the learning-rate range test
"""

from margipose.train.device import pick_device
from margipose.train.loop import FitResult, Snapshot, fit
from margipose.train.rate import RangeTest, lr_range_test
from margipose.train.run_dir import read_history
from margipose.train.stopping import Interrupted
from margipose.train.watching import shown_names

__all__ = [
    "FitResult",
    "Interrupted",
    "RangeTest",
    "Snapshot",
    "fit",
    "lr_range_test",
    "pick_device",
    "read_history",
    "shown_names",
]
