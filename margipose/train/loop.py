"""The course of a training: epochs, evaluations, and interruptions that leave no trace in the result."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from margipose import checkpoint
from margipose.augment import RANGES_2D, RANGES_3D
from margipose.composite import Textures
from margipose.config import TrainConfig
from margipose.data import PoseDataset, Records, Sample, load_records
from margipose.data.loading import batches
from margipose.data.sampling import ForgivingDataset, MixedDataset, ShuffledDraws
from margipose.evaluate import Evaluation, Protocol, evaluate, get_protocol
from margipose.textures import PicturePool
from margipose.train.device import pick_device
from margipose.train.engine import Engine, NotFinite
from margipose.train.run_dir import RunDir, provenance

__all__ = ["FitResult", "Interrupted", "fit", "load_training_sets"]

Log = Callable[[str, float, int], None]


@dataclass(frozen=True)
class FitResult:
    """Where the trained network was written, and how it scored on `eval_set` (None without one)."""

    checkpoint: Path
    evaluation: Evaluation | None


class Interrupted(KeyboardInterrupt):
    """A signal ended the training after a step; the same configuration goes on from there."""


def fit(config: TrainConfig, log: Log | None = None, progress: bool = False) -> FitResult:
    """Train as configured, going on where an interrupted run in the same directory stopped.

    A run that was interrupted between two steps by SIGINT or SIGTERM, or that died and goes on from what it
    wrote last, ends with the same weights as one that was not (on a CPU with as many threads: bit for bit).

    Args:
        log: receives `loss` (mean over an epoch), `lr` (its last) and `eval_<metric>`; steps are counted
            from 1.
        progress: show a progress bar.

    Raises:
        ValueError: for data that is missing or does not fit, a directory with a different run in it, or a
            loss that is not finite.
        OSError: if the directory cannot be written to. What was written before stays.
        Interrupted: after SIGINT or SIGTERM.
    """
    device = pick_device(config.device)
    datasets = load_training_sets(config)
    run = _Run(config, device, datasets, log, progress)
    with _signals() as interrupted:
        while not run.finished:
            run.epoch(interrupted)
    return run.finish()


def _load(config: TrainConfig, name: str, universal: bool) -> Records:
    """Records of "<data set>/<split>"."""
    which, split = name.split("/")
    root = config.data_roots.get(which) or Path(config.data_dir) / which
    return load_records(which, root, split, universal=universal)


def load_training_sets(config: TrainConfig) -> list[PoseDataset]:
    """What a run trains on.

    Raises:
        ValueError: if it is to train on nothing, or data are missing or do not fit.
    """
    if not config.train_sets:
        raise ValueError("TrainConfig.train_sets: nothing to train on; give for example 'mpi3d/train'")
    textures = Textures(*(_pictures(folder) for folder in (config.backgrounds, config.cloth, config.objects)))
    return [_load_training(config, name, textures) for name in config.train_sets]


def _pictures(folder: str) -> PicturePool | None:
    return PicturePool(folder) if folder else None


def _load_training(config: TrainConfig, name: str, textures: Textures) -> PoseDataset:
    records = _load(config, name, config.input.universal_scale)
    if not config.augment:
        return PoseDataset(records, config.input)
    ranges = RANGES_3D if records.has_depth else RANGES_2D
    return PoseDataset(
        records, config.input, ranges, config.seed, composite=config.composite, textures=textures
    )


@contextlib.contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT interrupts at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Run:
    """One run: what `fit` keeps while it works."""

    def __init__(
        self,
        config: TrainConfig,
        device: torch.device,
        datasets: list[PoseDataset],
        log: Log | None,
        progress: bool,
    ) -> None:
        self.config, self.device, self.log, self.progress = config, device, log, progress
        self.evaluated: PoseDataset | None = None
        self.protocol: Protocol | None = None
        if config.eval_set:
            self.protocol = get_protocol(config.eval_set.split("/")[0])
            first = self.protocol.metrics[0].name
            self.best_metric = self.protocol.metric(config.best_metric or first)
            self.evaluated = PoseDataset(
                _load(config, config.eval_set, self.protocol.universal), config.input
            )
        self.datasets = datasets
        self.engine = Engine(config, device)
        self.dir = RunDir(config)
        self.done, state = self.dir.load()
        self.evaluation: tuple[int, Evaluation] | None = None
        if state is not None:
            try:
                self.engine.load_state_dict(state)
            except Exception as error:  # what does not fit comes to light in every way that there is
                raise self.dir.damaged() from error

    @property
    def total(self) -> int:
        return self.config.epochs * self.config.steps_per_epoch

    @property
    def finished(self) -> bool:
        return self.done.finished or self.done.epochs >= self.config.epochs

    def record(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            entry = (name, float(value), self.done.step)
            self.done.history.append(entry)
            if self.log is not None:
                self.log(*entry)

    def save(self) -> None:
        self.dir.save(self.done, self.engine.state_dict())

    def epoch(self, interrupted: threading.Event) -> None:
        """The rest of the epoch that is not closed yet, and what follows on it."""
        config, done = self.config, self.done
        per_epoch = config.steps_per_epoch
        number = done.epochs
        first = done.step - number * per_epoch
        if first == 0:
            # Whatever is random in the network depends on the epoch alone.
            torch.manual_seed(config.seed + number)
            done.summed, done.counted = 0.0, 0
        self.engine.model.train()
        saved = time.monotonic()
        title = f"epoch {number + 1}/{config.epochs}"
        loader = self._batches(per_epoch - first)
        bar = tqdm(
            loader, title, per_epoch, unit="batch", disable=not self.progress, leave=False, initial=first
        )
        with bar, contextlib.closing(loader):
            for parts in bar:
                self._step(parts)
                if done.counted and done.step % 10 == 0:
                    bar.set_postfix(loss=f"{done.summed / done.counted:.3f}")
                if interrupted.is_set():
                    self.save()
                    raise Interrupted(f"stopped after step {done.step}")
                if time.monotonic() - saved > 60 * config.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        self._close_epoch()

    def _batches(self, steps: int) -> Iterator[list[Sample]]:
        """Batches in their parts."""
        config = self.config
        draws = ShuffledDraws(
            [len(d) for d in self.datasets],
            steps * config.batch_size,
            config.seed,
            config.shares or None,
            start=self.done.step * config.batch_size,
        )
        forgiving = config.on_bad_sample == "skip"
        mixed = (ForgivingDataset if forgiving else MixedDataset)(self.datasets)
        size = config.batch_size // config.accumulate
        loader = batches(mixed, size, config.workers, self.device, draws)
        with contextlib.closing(loader):
            parts: list[Sample] = []
            for item in loader:
                batch, notes = item if forgiving else (item, ())
                self.done.bad_samples += [note for note in notes if note]
                parts.append(batch)
                if len(parts) == config.accumulate:
                    yield parts
                    parts = []

    def _step(self, parts: list[Sample]) -> None:
        done, config = self.done, self.config
        step = done.step + 1
        try:
            loss = self.engine.step(parts, step, self.total)
            done.summed += loss.item()
            done.counted += 1
        except NotFinite as error:
            if config.on_bad_loss == "skip" and len(done.bad_losses) < config.bad_loss_limit:
                done.bad_losses.append(step)
            else:
                raise ValueError(self._about_bad_loss(parts, step)) from error
        done.step = step

    def _about_bad_loss(self, parts: list[Sample], step: int) -> str:
        first = (step - 1) * self.config.batch_size
        drawn = ShuffledDraws(
            [len(d) for d in self.datasets],
            self.config.batch_size,
            self.config.seed,
            self.config.shares or None,
            start=first,
        )
        rows = [int(i) for part in parts for i in part.index]
        mixed, images = MixedDataset(self.datasets), []
        for draw, row in zip(drawn, rows):
            images.append(str(self.datasets[mixed.which(draw.index)].records.images[row]))
        path = self.dir.note_bad_batch(step, images, rows)
        if self.done.bad_losses:
            return (
                f"the loss was not finite in {len(self.done.bad_losses) + 1} steps, the last of them {step} "
                f"(its examples: {path}): try a smaller lr or clip_norm=1"
            )
        return (
            f"the loss is not finite at step {step} (its examples: {path}): try a smaller lr or clip_norm=1"
        )

    def _close_epoch(self) -> None:
        config, done = self.config, self.done
        # Whatever happens during the evaluation, the steps are done.
        self.save()
        mean = done.summed / done.counted if done.counted else float("nan")
        self.record({"loss": mean, "lr": self.engine.rate})
        if config.eval_every and self.evaluated is not None and (done.epochs + 1) % config.eval_every == 0:
            self._evaluate()
        if config.keep_checkpoints and done.epochs + 1 < config.epochs:
            self._write(self.dir.checkpoint(done.step))
            self.dir.forget_old_checkpoints()
        done.epochs += 1
        self.save()

    def _evaluate(self) -> None:
        config, done = self.config, self.done
        assert self.evaluated is not None
        assert self.protocol is not None
        model = self.engine.best_model.eval()
        result = evaluate(
            model,
            self.evaluated,
            self.protocol,
            workers=config.workers,
            device=self.device,
            progress=self.progress,
        )
        self.evaluation = (done.step, result)
        values = result.overall().values
        self.record({f"eval_{k}": v for k, v in values.items()})
        if not config.eval_every:
            return
        value = values[self.best_metric.name]
        better = done.best is None or (
            value > done.best if self.best_metric.larger_is_better else value < done.best
        )
        if better:
            done.best, done.since_best = value, 0
            self._write(self.dir.path / "best.safetensors", {config.eval_set: values})
        else:
            done.since_best += 1
            done.finished = 0 < config.patience <= done.since_best

    def _write(self, path: Path, metrics: dict[str, Any] | None = None) -> None:
        about = {**provenance(self.config), "step": self.done.step}
        if metrics is not None:
            about["metrics"] = metrics
        if self.done.bad_samples or self.done.bad_losses:
            about["left_out"] = {
                "samples": len(self.done.bad_samples),
                "steps": len(self.done.bad_losses),
            }
        checkpoint.save(path, self.engine.best_model, self.config.input, about)

    def finish(self) -> FitResult:
        """Write the result and, last of all, evaluate it."""
        path = self.dir.path / "model.safetensors"
        self.engine.best_model.eval()
        # Before the evaluation, so that nothing that is wrong with its data costs the training.
        self._write(path)
        if self.evaluated is not None:
            if self.evaluation is None or self.evaluation[0] != self.done.step:
                self._evaluate()
            assert self.evaluation is not None
            self._write(path, {self.config.eval_set: self.evaluation[1].overall().values})
        self.save()
        return FitResult(path, self.evaluation[1] if self.evaluation else None)
