"""The files of a training run.

train_config.json         what was asked for; `margipose train --config` does it again
environment.json          commit, uncommitted changes, versions, machine; a list, one entry per start
metrics.jsonl             every logged number, a line each
state.pt                  to go on after an interruption, replaced as a whole
checkpoints/step_<n>.safetensors   the last networks that were kept
best.safetensors          the one that scored best, where the run evaluates as it goes
model.safetensors         the result
bad_batch.json            the examples of a batch whose loss was not finite
left_out.json             examples and steps that were left out, where there are any
.lock                     held by the training that is at work

Beside them lies what people look at; see `watching`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import margipose
from margipose.config import TrainConfig
from margipose.files import locked, replacing, sweep, to_disk
from margipose.spec import from_mapping, to_mapping
from margipose.weights import label

__all__ = ["Progress", "RunDir", "damaged", "held", "provenance", "read_history"]

# Where a run goes on, how fast, and how often it is written down does not change its result.
_FREE = ("run_dir", "workers", "device", "checkpoint_minutes", "keep_checkpoints", "compile", "data_dir")
_FREE += ("data_roots", "backgrounds", "cloth", "objects", "log_every", "tensorboard", "pictures")

# Processes that prepare samples notice within 5 s that the run which started them was killed.
_PATIENCE_S = 15.0

_PACKAGES = ("torch", "timm", "numpy", "opencv-python-headless", "pillow", "h5py", "scipy", "numba", "sacred")


@dataclass
class Progress:
    """What a run has behind it.

    Attributes:
        step: steps done.
        epochs: epochs that are closed: done, evaluated and logged.
        summed: sum of the losses of this epoch's steps so far.
        counted: number of them; less than the steps where some were left out.
        history: (name, value, step) of everything logged.
        best, since_best: best value of the metric so far, and evaluations since then.
        bad_samples: what was wrong with examples that were replaced by others.
        bad_losses: steps that were left out because their loss was not finite.
        finished: whether training ended, early or not.
    """

    step: int = 0
    epochs: int = 0
    summed: float = 0.0
    counted: int = 0
    history: list[tuple[str, float, int]] = field(default_factory=list)
    best: float | None = None
    since_best: int = 0
    bad_samples: list[str] = field(default_factory=list)
    bad_losses: list[int] = field(default_factory=list)
    finished: bool = False

    @property
    def left_out(self) -> dict[str, int]:
        """How many examples (each time that they were drawn) and steps; empty for none."""
        found = {"samples": len(self.bad_samples), "steps": len(self.bad_losses)}
        return found if any(found.values()) else {}


class RunDir:
    """A run's directory.

    Attributes:
        path: the folder.
        state: file of the run's state.
        left_out: file of what was left out.
    """

    def __init__(self, config: TrainConfig, processes: int = 1) -> None:
        """Make the directory, or take up the run in it.

        Args:
            processes: how many train together, for the record.

        Raises:
            ValueError: if it holds a run with other settings, or a file of it is damaged.
        """
        self.path = Path(config.run_dir)
        self.state, self.left_out = self.path / "state.pt", self.path / "left_out.json"
        self._keep = config.keep_checkpoints
        settings, ours = self.path / "train_config.json", to_mapping(config)
        if not settings.exists() or self._compare(settings, ours) != ours:
            _write_json(settings, ours)
        for folder in (self.path, self.path / "checkpoints", self.path / "pictures"):
            sweep(folder)  # a killed run would else cost the room of a state each time
        self._note_environment(processes)

    def _compare(self, path: Path, ours: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of the run in the directory, which must be ours but for those that are free."""
        found = _read_json(path, dict, f"not the settings of a run; remove {self.path} to start again")
        # Keys that came later than the run had no effect on it.
        try:
            theirs = to_mapping(from_mapping(TrainConfig, found))
        except ValueError:  # keys or values of another version
            theirs = {**to_mapping(TrainConfig()), **found}
        different = sorted(k for k in {*ours, *theirs} if k not in _FREE and ours.get(k) != theirs.get(k))
        if different:
            raise ValueError(
                f"{self.path}: holds a run with other settings ({', '.join(different)}); "
                "choose another run_dir or remove it"
            )
        return found

    def _note_environment(self, processes: int) -> None:
        path = self.path / "environment.json"
        entries = _read_json(path, list, "not a list of environments; remove it") if path.exists() else []
        now = {**environment(), "processes": processes}
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path}: not a list of environments; remove it")
        if not entries or {**entries[-1], "started": ""} != {**now, "started": ""}:
            _write_json(path, [*entries, now])

    def load(self) -> tuple[Progress, dict[str, Any] | None]:
        """How far the run has come, and the state of its engine; None for a new run.

        Raises:
            ValueError: naming the file, if it is not a run's state.
            OSError: if it cannot be read.
        """
        if not self.state.exists():
            return Progress(), None
        try:
            # To the CPU: the optimiser's step counts must stay there, its other tensors follow the weights.
            found = torch.load(self.state, map_location="cpu", weights_only=True)
            done = Progress(**found["progress"])
            done.history = [(str(name), float(value), int(step)) for name, value, step in done.history]
            return done, found["engine"]
        except (OSError, MemoryError):  # which say nothing about the file, and must not cost it
            raise
        except Exception as error:  # whatever the unpickler trips over
            raise damaged(self.state) from error

    def save(self, done: Progress, engine: Mapping[str, Any]) -> None:
        """Write down how far the run has come; what was written before stays until this is complete."""
        with replacing(self.state) as temporary:
            try:
                torch.save({"progress": vars(done), "engine": dict(engine)}, temporary)
            except RuntimeError as error:  # what it says of a full disk
                reason = str(error).strip().splitlines()[0]
                raise OSError(f"{self.state}: cannot be written; is the disk full? ({reason})") from error
            to_disk(temporary)
        with replacing(self.path / "metrics.jsonl") as temporary:
            lines = (json.dumps({"name": n, "value": v, "step": s}) for n, v, s in done.history)
            temporary.write_text("".join(f"{line}\n" for line in lines))

        if done.left_out:
            _write_json(self.left_out, {"samples": done.bad_samples, "steps": done.bad_losses})

    def warn_of_what_is_missing(self, done: Progress) -> None:
        """Say it where a run has learned from less than it was asked to."""
        if found := done.left_out:
            warnings.warn(
                f"{found['samples']} examples and {found['steps']} steps were left out: see {self.left_out}",
                stacklevel=2,
            )

    def forget_old_checkpoints(self) -> None:
        """Remove all but the last networks."""
        kept = sorted((self.path / "checkpoints").glob("step_*.safetensors"))
        for path in kept[: max(0, len(kept) - self._keep)]:
            path.unlink()

    def note_bad_batch(self, step: int, images: Sequence[str], draws: Sequence[int]) -> Path:
        """Write down what a batch whose loss is not finite consisted of."""
        path = self.path / "bad_batch.json"
        _write_json(path, {"step": step, "images": list(images), "rows": list(draws)})
        return path


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a run's directory, made if need be, against a second training.

    Raises:
        OSError: if another one is at work there, or it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock", _PATIENCE_S):
        yield


def damaged(state: Path) -> ValueError:
    """The error of a file with a state that does not fit."""
    return ValueError(f"{state}: not the state of this run; remove it to start again")


def _write_json(path: Path, value: object) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n")


def _read_json(path: Path, kind: type, otherwise: str) -> Any:
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {otherwise}") from error
    if not isinstance(found, kind):
        raise ValueError(f"{path}: {otherwise}")
    return found


def _git(*words: str) -> str:
    """What git says about the code; empty where it does not know this file."""
    here = Path(__file__)
    found = ""
    for command in (["ls-files", "--error-unmatch", here.name], words):
        try:
            found = subprocess.run(
                ["git", *command], cwd=here.parent, capture_output=True, text=True, timeout=10, check=True
            ).stdout
        except (OSError, subprocess.SubprocessError):
            return ""
    return found.strip()


def environment() -> dict[str, Any]:
    """Code, versions and machine, for the record."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = ""
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "margipose": margipose.__version__,
        "commit": _git("rev-parse", "HEAD"),
        "changed": _git("status", "--porcelain").splitlines(),
        "python": platform.python_version(),
        "packages": versions,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def read_history(folder: Path) -> list[tuple[str, float, int]]:
    """(name, value, step) of everything that the run in a folder has recorded.

    Raises:
        ValueError: if there is no run, or its `metrics.jsonl` is damaged.
    """
    path = Path(folder) / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{folder}: no run has recorded anything there (no {path.name})")
    history = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        try:
            entry = json.loads(line)
            history.append((str(entry["name"]), float(entry["value"]), int(entry["step"])))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not a recorded number") from error
    return history


def provenance(config: TrainConfig) -> dict[str, Any]:
    """What a checkpoint tells about its making."""
    about = {
        "config": to_mapping(config),
        "margipose": margipose.__version__,
        "commit": _git("describe", "--always", "--dirty"),
        "torch": torch.__version__,
    }
    if config.start_from:
        about["started_from"] = label(config.start_from)
    return about
