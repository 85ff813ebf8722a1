"""Train a network as a Sacred experiment.

    python experiments/train.py with margipose_model h36m data_dir=/data
    python experiments/train.py with lite_model mpi3d adamw batch_size=16 lr=5e-4
    python experiments/train.py with runs/sacred/3/config.json          # the same run again
    python experiments/train.py print_config with lite_model mpi3d      # what would be done
    python experiments/train.py -s postgresql+psycopg://USER@HOST/DATABASE with ...   # to a database as well
    python experiments/train.py -m HOST:PORT:DATABASE with ...          # to a MongoDB as well
    torchrun --nproc-per-node 4 experiments/train.py with margipose_model h36m

Named configurations and keys are those of `margipose.config`. Runs are recorded in runs/sacred/<number>,
which is also the run's directory unless `run_dir` says otherwise; give `run_dir` to continue a run that was
interrupted. `margipose train` does the same without Sacred. docs/training.md says more.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sacred import SETTINGS, Experiment
from sacred.observers import FileStorageObserver
from sacred.run import Run
from sacred.utils import SacredError, apply_backspaces_and_linefeeds

from margipose.config import NAMED_CONFIGS, TrainConfig, combine, read_config
from margipose.evaluate import format_table
from margipose.spec import closest, to_mapping
from margipose.train import FitResult, fit
from margipose.train.distributed import World, joined

SETTINGS.CAPTURE_MODE = "sys"  # capturing file descriptors hangs with data-loading processes
SETTINGS.DISCOVER_SOURCES = "sys"
SETTINGS.DISCOVER_DEPENDENCIES = "sys"
SETTINGS.CONFIG.READ_ONLY_CONFIG = False  # its containers are no plain dicts and lists

RECORDS = Path("runs/sacred")

_WORDS = {"true": True, "false": False, "null": None}
"""JSON's, as `margipose train` takes them; Sacred knows Python's only."""


class UsageError(SacredError):
    """A mistake of the user's, reported in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(f"margipose: error: {message}", print_traceback=False)


class Records(FileStorageObserver):
    """Records with numbers of their own.

    A database beside them gives a run its number there, which may be taken here.
    """

    def started_event(self, *args: Any, _id: Any = None, **kwargs: Any) -> Any:
        number = super().started_event(*args, _id=None, **kwargs)
        return number if _id is None else _id


class TrainExperiment(Experiment):
    """An experiment that refuses what is misspelt before anything starts.

    Attributes:
        world: the processes that train together; this one alone observes.
        shared: whether the others have been told what to train.
    """

    world = World()
    shared = False

    def run(
        self,
        command_name: str | None = None,
        config_updates: dict[str, Any] | None = None,
        named_configs: Sequence[str] = (),
        **options: Any,
    ) -> Run:
        for name in named_configs:
            _check_name(name)
        return super().run(command_name, _json_words(config_updates or {}), named_configs, **options)


def _check_name(name: str) -> None:
    if name in NAMED_CONFIGS:
        return
    if not name.endswith(".json"):
        if Path(name).suffix:  # Sacred would unpickle some of these
            raise UsageError(f"{name}: expected the name of a configuration, or a .json file")
        raise UsageError(f"no configuration is called {name!r}{closest(name, NAMED_CONFIGS)}")
    try:
        read_config(Path(name))
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _json_words(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_words(v) for key, v in value.items()}
    return _WORDS.get(value, value) if isinstance(value, str) else value


experiment = TrainExperiment("margipose", interactive=False)
experiment.captured_out_filter = apply_backspaces_and_linefeeds  # of progress bars
experiment.add_config({**to_mapping(TrainConfig()), "run_dir": ""})
for _name, _config in NAMED_CONFIGS.items():
    experiment.add_named_config(_name, _config)


def _configured(settings: Mapping[str, Any], run_dir: str) -> TrainConfig:
    """The configuration, with a directory where it names none.

    Raises:
        UsageError: for unknown keys and values that do not fit.
    """
    try:
        return combine([], {**settings, "run_dir": settings.get("run_dir") or run_dir})
    except ValueError as error:
        raise UsageError(str(error)) from error


@experiment.config_hook
def check(config: dict, command_name: str, logger: Any) -> dict:
    """Refuse what does not fit before there is a run to be recorded; Sacred lets much of it pass."""
    _configured(config, TrainConfig().run_dir)
    return {}


@experiment.main
def main(_config: dict, _run: Run) -> float | None:
    """Train, and return the evaluation's first metric, such as the mean per-joint error in mm."""
    places = [o.dir for o in _run.observers if isinstance(o, FileStorageObserver)]
    config = _configured(_config, str(places[0] if places else TrainConfig().run_dir))
    _run.info.update(run_dir=config.run_dir, latest={})

    def log(name: str, value: float, step: int) -> None:
        if "/" in name:  # by the clock; TensorBoard has these
            return
        _run.log_scalar(name, float(value), step)
        _run.info["latest"][name] = float(value)  # SQL databases get no scalars

    try:
        result = _train_with_others(experiment, config, log)
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error
    _keep(_run, result)
    print(f"weights: {result.checkpoint}")
    if result.evaluation is None:
        return None
    print(format_table(result.evaluation.rows()))
    first = result.evaluation.protocol.metrics[0].name
    return result.evaluation.overall().values[first]


def _train_with_others(experiment: TrainExperiment, config: TrainConfig, log: Any) -> FitResult:
    experiment.shared = True
    experiment.world.from_main(lambda: config)
    return fit(config, log, progress=True)


def _keep(run: Run, result: FitResult) -> None:
    """Small files that every observer is to have, databases too."""
    folder = result.checkpoint.parent
    run.add_artifact(folder / "metrics.jsonl", "metrics.jsonl")
    pictures = sorted((folder / "pictures").glob("*.jpg"))
    for path, name in ((folder / "curve.png", "curve.png"), *((p, "examples.jpg") for p in pictures[-1:])):
        if path.exists():
            run.add_artifact(path, name)


def _follow(world: World) -> None:
    """What the other processes do: they train with the main one, which alone knows of Sacred."""
    config = world.from_main(lambda: None)
    if config is not None:
        fit(config)


def _lead(world: World) -> int:
    """Run the command line, in the main process; returns the exit code."""
    experiment.world = world
    experiment.observers.append(Records(RECORDS))
    try:
        experiment.run_commandline()
    except SystemExit as stop:
        # Sacred ends with 1 whatever happened; a mistake of the user's is told from a fault by its kind.
        mistake = isinstance(stop.__context__, SacredError)
        return 2 if stop.code and mistake else stop.code
    except KeyboardInterrupt:
        run = experiment.current_run
        where = run.info.get("run_dir") if run else None
        print(f"margipose: interrupted{_how_to_go_on(where)}", file=sys.stderr)
        return 130
    finally:
        if not experiment.shared:
            world.from_main(lambda: None)
    return 0


def _how_to_go_on(run_dir: str | None) -> str:
    settings = Path(run_dir or "") / "train_config.json"
    if run_dir is None or not settings.exists():
        return ""
    return f"; it goes on with: python {Path(sys.argv[0])} with {settings}"


if __name__ == "__main__":
    with joined() as _world:
        if _world.main:
            sys.exit(_lead(_world))
        _follow(_world)
