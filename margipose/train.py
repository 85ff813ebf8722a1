"""Training: a frozen configuration in, a checkpoint out.

`fit(config, log)` knows nothing of command lines or experiment trackers; `log(name, value, step)` is called
with every number worth keeping. A run lives in one directory:

    train_config.json    what was asked for
    metrics.jsonl        every logged number, a line each; rewritten after every epoch
    state.pt             to continue after an interruption, replaced after every epoch
    model.safetensors    the result
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

import margipose
from margipose import checkpoint
from margipose.augment import RANGES_2D, RANGES_3D
from margipose.config import TrainConfig
from margipose.data import PoseDataset, Records, Sample, load_records
from margipose.data.sampling import MixedDataset, ShuffledDraws
from margipose.data.loading import batches
from margipose.evaluate import Evaluation, evaluate, get_protocol
from margipose.files import replacing
from margipose.losses import marginal_loss
from margipose.model import build_model
from margipose.schedule import learning_rate
from margipose.spec import to_mapping

__all__ = ["FitResult", "fit", "pick_device"]

Log = Callable[[str, float, int], None]


@dataclass(frozen=True)
class FitResult:
    """Where the trained network was written, and how it scored on `eval_set` (None without one)."""

    checkpoint: Path
    evaluation: Evaluation | None


def pick_device(name: str) -> torch.device:
    """A device by name; `"auto"` is a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from None
    return device


def _load(config: TrainConfig, name: str, universal: bool) -> Records:
    """Records of "<data set>/<split>"."""
    which, split = name.split("/")
    root = config.data_roots.get(which) or Path(config.data_dir) / which
    return load_records(which, root, split, universal=universal)


def _load_training(config: TrainConfig, name: str) -> PoseDataset:
    records = _load(config, name, config.input.universal_scale)
    ranges = RANGES_3D if records.has_depth else RANGES_2D
    return PoseDataset(records, config.input, ranges if config.augment else None, config.seed)


def _optimiser(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    common = {"lr": config.lr, "weight_decay": config.weight_decay}
    parameters = model.parameters()
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **common)
    if config.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=config.momentum, **common)
    return torch.optim.AdamW(parameters, betas=(config.momentum, 0.999), **common)


def _set_rate(optimiser: torch.optim.Optimizer, lr: float, momentum: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = lr
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def _commit() -> str:
    """The code's commit, for the checkpoint's provenance; empty outside a git checkout."""
    where = Path(margipose.__file__).parent
    try:
        out = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=where, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.stdout.strip()


def _provenance(config: TrainConfig) -> dict[str, Any]:
    return {
        "config": to_mapping(config),
        "margipose": margipose.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
    }


def _prepare_run(config: TrainConfig) -> Path:
    """Make the run's directory, and refuse one that holds a different run."""
    run_dir = Path(config.run_dir)
    path = run_dir / "train_config.json"
    # Where a run goes on, and with how many workers, does not change its result.
    ours = {k: v for k, v in to_mapping(config).items() if k not in ("run_dir", "workers", "device")}
    if path.exists():
        try:
            theirs = json.loads(path.read_text())
            if not isinstance(theirs, dict):
                raise ValueError("not a mapping")
        except ValueError as error:
            raise ValueError(f"{path}: not the settings of a run; remove {run_dir} to start again") from error
        different = sorted(k for k in {*ours, *theirs} if ours.get(k) != theirs.get(k))
        if different:
            raise ValueError(
                f"{run_dir}: holds a run with other settings ({', '.join(different)}); "
                "choose another run_dir or remove it"
            )
    else:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(ours, indent=2) + "\n")
    return run_dir


@dataclass
class _Progress:
    """What a run has behind it: whole epochs, and (name, value, step) of everything logged."""

    epoch: int = 0
    history: list[tuple[str, float, int]] = field(default_factory=list)

    def write(self, path: Path) -> None:
        lines = (json.dumps({"name": n, "value": v, "step": s}) for n, v, s in self.history)
        with replacing(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))


def _save_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer, done: _Progress) -> None:
    state = {
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
        "epoch": done.epoch,
        "history": done.history,
    }
    with replacing(path) as temporary:
        torch.save(state, temporary)


def _load_state(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> _Progress:
    if not path.exists():
        return _Progress()
    try:
        # To the CPU: the optimiser's step counts must stay there, its other tensors follow the weights.
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        return _Progress(int(state["epoch"]), [tuple(entry) for entry in state["history"]])
    except Exception as error:  # whatever the unpickler trips over
        raise ValueError(f"{path}: not the state of this run; remove it to start again") from error


def fit(config: TrainConfig, log: Log | None = None, progress: bool = False) -> FitResult:
    """Train as configured, going on where an interrupted run in the same directory stopped.

    Args:
        log: receives `loss` (mean over an epoch), `lr` (its last) and, at the end, `eval_<metric>`;
            steps are counted from 1.
        progress: show a progress bar.

    Raises:
        ValueError: for data that is missing or does not fit, a directory with a different run in it, or a
            loss that is not finite.
    """
    if not config.train_sets:
        raise ValueError("TrainConfig.train_sets: nothing to train on; give for example 'mpi3d/train'")
    device = pick_device(config.device)
    datasets = [_load_training(config, name) for name in config.train_sets]
    evaluated = None
    if config.eval_set:
        protocol = get_protocol(config.eval_set.split("/")[0])
        evaluated = PoseDataset(_load(config, config.eval_set, protocol.universal), config.input)
    torch.manual_seed(config.seed)
    model = build_model(config.model, config.pretrained).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = _optimiser(config, model)
    run_dir = _prepare_run(config)
    state_path, metrics_path = run_dir / "state.pt", run_dir / "metrics.jsonl"
    done = _load_state(state_path, model, optimiser)

    def record(values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            done.history.append((name, value, step))
            if log is not None:
                log(name, value, step)

    while done.epoch < config.epochs:
        loss = _train_epoch(config, model, optimiser, datasets, device, done.epoch, progress)
        done.epoch += 1
        rate = optimiser.param_groups[0]["lr"]
        record({"loss": loss, "lr": rate}, done.epoch * config.steps_per_epoch)
        _save_state(state_path, model, optimiser, done)
        done.write(metrics_path)
    model.eval()
    path = run_dir / "model.safetensors"
    provenance = _provenance(config)
    # Before the evaluation, so that nothing that is wrong with its data costs the training.
    checkpoint.save(path, model, config.input, provenance)
    result = None
    if evaluated is not None:
        result = evaluate(
            model, evaluated, protocol, workers=config.workers, device=device, progress=progress
        )
        values = result.overall().values
        record({f"eval_{k}": v for k, v in values.items()}, config.epochs * config.steps_per_epoch)
        checkpoint.save(path, model, config.input, {**provenance, "metrics": {config.eval_set: values}})
    done.write(metrics_path)
    return FitResult(path, result)


def _train_epoch(
    config: TrainConfig,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    datasets: list[PoseDataset],
    device: torch.device,
    epoch: int,
    progress: bool,
) -> float:
    """One pass of `examples_per_epoch` examples; returns its mean loss."""
    model.train()
    # Whatever is random in the network is the same for an epoch, also after an interruption.
    torch.manual_seed(config.seed + epoch)
    per_epoch, total = config.steps_per_epoch, config.epochs * config.steps_per_epoch
    count = per_epoch * config.batch_size
    draws = ShuffledDraws(
        [len(d) for d in datasets], count, config.seed, config.shares or None, start=epoch * count
    )
    loader = batches(MixedDataset(datasets), config.batch_size, config.workers, device, draws)
    summed = torch.zeros((), device=device)
    title = f"epoch {epoch + 1}/{config.epochs}"
    bar = tqdm(loader, title, per_epoch, unit="batch", disable=not progress, leave=False)
    with bar, contextlib.closing(loader):
        for i, batch in enumerate(bar):
            step = epoch * per_epoch + i + 1
            rate = learning_rate(config.schedule, step, total, config.lr, config.momentum)
            _set_rate(optimiser, *rate)
            loss = _step(config, model, optimiser, batch, device)
            summed += loss
            if i % 20 == 0 or i == per_epoch - 1:
                mean = (summed / (i + 1)).item()
                bar.set_postfix(loss=f"{mean:.3f}")
                if not math.isfinite(mean):
                    raise ValueError(
                        f"the loss is not finite by step {step}: try a smaller lr or clip_norm=1"
                    )
    return (summed / per_epoch).item()


def _step(
    config: TrainConfig,
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    batch: Sample,
    device: torch.device,
) -> torch.Tensor:
    images = batch.image.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
    target, valid, has_depth = (
        x.to(device, non_blocking=True) for x in (batch.target_norm, batch.valid, batch.depth_valid)
    )
    pixelwise = None if config.pixelwise_loss == "none" else config.pixelwise_loss
    loss = marginal_loss(model(images).stages, target, has_depth, valid, config.sigma, pixelwise)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if config.clip_norm > 0:
        nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimiser.step()
    return loss.detach()
