"""Train a network as a Sacred experiment.

    python experiments/train.py with margipose_model h36m data_dir=/data
    python experiments/train.py with lite_model mpi3d adamw batch_size=16 lr=5e-4
    python experiments/train.py with runs/sacred/3/config.json          # the same run again
    python experiments/train.py print_config with lite_model mpi3d      # what would be done
    python experiments/train.py -m HOST:PORT:DATABASE with ...          # to a MongoDB as well

Named configurations and keys are those of `margipose.config`. Runs are recorded in runs/sacred/<number>,
which is also the run's directory unless `run_dir` says otherwise; give `run_dir` to continue a run that was
interrupted. `margipose train` does the same without Sacred.
"""

import dataclasses
import sys
from pathlib import Path

from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver
from sacred.run import Run
from sacred.utils import SacredError

from margipose.config import NAMED_CONFIGS, TrainConfig
from margipose.spec import from_mapping, to_mapping
from margipose.train import fit

SETTINGS.CAPTURE_MODE = "sys"  # capturing file descriptors hangs with data-loading processes
SETTINGS.DISCOVER_SOURCES = "sys"
SETTINGS.DISCOVER_DEPENDENCIES = "sys"
SETTINGS.CONFIG.READ_ONLY_CONFIG = False  # its containers are no plain dicts and lists

RECORDS = Path("runs/sacred")


class UsageError(SacredError):
    """A mistake of the user's, reported in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(f"margipose: error: {message}", print_traceback=False)


experiment = Experiment("margipose", interactive=False)
experiment.add_config({**to_mapping(TrainConfig()), "run_dir": ""})
for _name, _config in NAMED_CONFIGS.items():
    experiment.add_named_config(_name, _config)


@experiment.main
def main(_config: dict, _run: Run) -> float | None:
    """Train, and return the mean per-joint error (mm) on the evaluation set."""
    try:
        config = from_mapping(TrainConfig, _config)
        if not config.run_dir:
            places = [o.dir for o in _run.observers if isinstance(o, FileStorageObserver)]
            config = dataclasses.replace(config, run_dir=str(places[0] if places else TrainConfig().run_dir))
        result = fit(
            config, lambda name, value, step: _run.log_scalar(name, float(value), step), progress=True
        )
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error
    print(f"weights: {result.checkpoint}")
    if result.evaluation is None:
        return None
    return result.evaluation.overall().values["mpjpe"]


if __name__ == "__main__":
    experiment.observers.append(FileStorageObserver(RECORDS))
    try:
        experiment.run_commandline()
    except SystemExit as stop:
        # Sacred ends with 1 whatever happened; a mistake of the user's is told from a fault by its kind.
        mistake = isinstance(stop.__context__, SacredError)
        sys.exit(2 if stop.code and mistake else stop.code)
