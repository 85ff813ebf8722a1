"""The course of a training: epochs, evaluations, and interruptions that leave no trace in the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from margipose import checkpoint
from margipose.config import TrainConfig
from margipose.data import PoseDataset
from margipose.data.loading import naming_dead_workers
from margipose.evaluate import Evaluation, Protocol, check_evaluation, default_protocol, get_protocol, scored
from margipose.train.batches import Batch, batch_parts, check_batch, examples_of
from margipose.train.device import pick_device
from margipose.train.distributed import World, evaluate_together, joined, mark
from margipose.train.engine import Engine, NotFinite
from margipose.train.run_dir import Progress, RunDir, damaged, held, provenance
from margipose.train.sets import load_set, load_training_sets
from margipose.train.stopping import Interrupted, Stop, stop_signals
from margipose.train.watching import Watch, check_views

__all__ = ["FitResult", "Snapshot", "fit"]

Log = Callable[[str, float, int], None]


@dataclass(frozen=True)
class FitResult:
    """Where the trained network was written, and how it scored on `eval_set` (None without one)."""

    checkpoint: Path
    evaluation: Evaluation | None


@dataclass(frozen=True)
class Snapshot:
    """A network as it was evaluated in the course of a training.

    Attributes:
        step: how many steps it has learned.
        model: the network, not in training mode.
        dataset: what it was evaluated on; without an `eval_set`, the first of those it learns from.
        evaluation: how it scored; None without an `eval_set`.
        device: that the network is on.
    """

    step: int
    model: nn.Module
    dataset: PoseDataset
    evaluation: Evaluation | None
    device: torch.device


Show = Callable[[Snapshot], None]


def fit(
    config: TrainConfig, log: Log | None = None, progress: bool = False, show: Show | None = None
) -> FitResult:
    """Train as configured, going on where an interrupted run in the same directory stopped.

    A run that was interrupted between two steps by SIGINT or SIGTERM, or that died and goes on from what it
    wrote last, ends with the same weights as one that was not (on a CPU with as many threads: bit for bit).

    Processes that `torchrun` started train together (see `distributed`): each computes its part of every
    batch, and the result is that of one process but for rounding. Only the main one logs, shows and writes.

    Args:
        log: receives, with the number of steps done, `loss` (mean over an epoch), `lr` (its last) and
            `eval_<metric>`, which the run's `metrics.jsonl` has, too; and every `log_every` steps what
            differs from run to run: `train/loss` (mean since the last time), `train/lr`, and the speed (see
            `Phases.read`), of this process but for the images per second, which are those of all.
        progress: show a progress bar.
        show: receives a `Snapshot` after each evaluation, and after the last step.

    Returns:
        The same in every process.

    Warns:
        UserWarning: at the end, if examples or steps were left out.

    Raises:
        ValueError: for data that is missing or does not fit, a directory with a different run in it, a batch
            that cannot be split over the processes, or a loss, or its gradient, that is not finite.
        OSError: if the directory cannot be written to, or another training is at work in it; if a process
            that prepares samples ends, or another of the run does. What was written before stays.
        Interrupted: after SIGINT or SIGTERM, in all processes even if one of them received it.
        SystemExit: in processes of `torchrun` but the main one, where that one raises one of these.
    """
    with joined() as world, stop_signals(insist=world.alone) as stop, contextlib.ExitStack() as stack:
        with world.agreed():
            check_batch(config, world)
            check_views(config)
            device = world.device(pick_device(config.device))
            datasets = load_training_sets(config)
        tell = _Tell(log, show, progress) if world.main else _Tell()
        run = _Run(config, world, device, datasets, tell, stack)
        while not run.finished:
            run.epoch(stop)
        return run.finish(stop)


@dataclass(frozen=True)
class _Tell:
    """Whom to tell what."""

    log: Log | None = None
    show: Show | None = None
    progress: bool = False

    def also(self, watch: Watch) -> _Tell:
        """The same, and the views in the run's directory before them."""
        log, show = self.log, self.show

        def log_both(name: str, value: float, step: int) -> None:
            watch.log(name, value, step)
            if log is not None:
                log(name, value, step)

        def show_both(snapshot: Snapshot) -> None:
            watch.show(snapshot)
            if show is not None:
                show(snapshot)

        return _Tell(log_both, show_both, self.progress)


class _Run:
    """One run: what `fit` keeps while it works."""

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        device: torch.device,
        datasets: list[PoseDataset],
        tell: _Tell,
        stack: contextlib.ExitStack,
    ) -> None:
        self.config, self.world, self.device, self.datasets, self.tell = config, world, device, datasets, tell
        self.path = Path(config.run_dir)
        self.evaluated: PoseDataset | None = None
        self.protocol: Protocol | None = None
        with world.agreed():
            if config.eval_set:
                dataset = config.eval_set.split("/")[0]
                protocol = get_protocol(config.eval_protocol or default_protocol(dataset, config.model.dims))
                self.best_metric = protocol.metric(config.best_metric or protocol.metrics[0].name)
                records = load_set(config, config.eval_set, protocol.universal)
                check_evaluation(records, protocol, config.model.dims)
                records, self.protocol = scored(records, protocol)
                self.evaluated = PoseDataset(records, config.input)
            self.engine = Engine(config, device, world)
        self.about = provenance(config)  # now: by the end, the commit may be another
        self.dir: RunDir | None = None
        self.done, state = world.from_main(lambda: self._open(stack))
        self.evaluation: tuple[int, Evaluation] | None = None
        with world.agreed():
            if state is not None:
                self._restore(state)
        self._notes: list[str] = []
        self._recent: list[float] = []
        self._saved = (self.done.step, time.monotonic())
        if tell.progress and not world.alone:
            part = config.batch_size // world.size
            tqdm.write(
                f"{world.size} processes: a batch of {config.batch_size} is {world.size} x {part} examples, "
                f"the learning rate {config.lr:g} is for the whole of it"
            )

    def _open(self, stack: contextlib.ExitStack) -> tuple[Progress, dict[str, Any] | None]:
        stack.enter_context(held(self.path))
        self.dir = RunDir(self.config, self.world.size)
        done, state = self.dir.load()
        watch = stack.enter_context(Watch(self.path, self.config, done.history, done.step))
        self.tell = self.tell.also(watch)
        return done, state

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.engine.load_state_dict(state)
        except (MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what does not fit comes to light in every way that there is
            raise damaged(self.path / "state.pt") from error

    @property
    def total(self) -> int:
        return self.config.epochs * self.config.steps_per_epoch

    @property
    def finished(self) -> bool:
        return self.done.finished or self.done.epochs >= self.config.epochs

    def record(self, values: dict[str, float]) -> None:
        known = {(name, step) for name, _, step in self.done.history}
        for name, value in values.items():
            entry = (name, float(value), self.done.step)
            if (name, self.done.step) not in known:  # a run that is asked for again evaluates once more
                self.done.history.append(entry)
            if self.tell.log is not None:
                self.tell.log(*entry)

    def save(self) -> None:
        """Write down how far the run has come."""
        for notes in self.world.gather(self._notes):
            self.done.bad_samples += notes
        self._notes = []
        state = self.engine.state_dict()
        self.world.only_main(lambda: self._directory.save(self.done, state))
        self._saved = (self.done.step, time.monotonic())

    @property
    def _directory(self) -> RunDir:
        assert self.dir is not None, "only the main process has the run's directory"
        return self.dir

    # --- Steps ------------------------------------------------------------------------------------

    def epoch(self, stop: Stop) -> None:
        """The rest of the epoch that is not closed yet, and what follows on it."""
        config, done = self.config, self.done
        per_epoch = config.steps_per_epoch
        first, end = done.step - done.epochs * per_epoch, (done.epochs + 1) * per_epoch
        if first == 0:
            # Whatever is random in the network depends on the epoch alone.
            self.engine.seed(done.epochs)
            done.summed, done.counted = 0.0, 0
        self.engine.train()
        self.engine.phases.reset()
        loader = batch_parts(config, self.datasets, self.world, self.device, done.step, per_epoch - first)
        title = f"epoch {done.epochs + 1}/{config.epochs}"
        shown = not self.tell.progress
        bar = tqdm(total=per_epoch, desc=title, unit="batch", disable=shown, leave=False, initial=first)
        with naming_dead_workers(), bar, contextlib.closing(loader):
            while (batch := self._next(loader, stop)) is not None:
                self._step(batch)
                bar.update()
                if done.counted and done.step % 10 == 0:
                    bar.set_postfix(loss=f"{done.summed / done.counted:.3f}")
                if done.step % config.log_every == 0 or done.step == end:
                    self._log_steps()
        self._close_epoch(stop)

    def _next(self, loader: Iterator[Batch], stop: Stop) -> Batch | None:
        """The next batch; None at the end of the epoch.

        Here, before each step, the processes agree on whether to go on, to save, and how much a batch weighs.
        """
        batch: Batch | None = None
        failure: BaseException | None = None
        if not stop.asked.is_set():
            try:
                batch = next(loader, None)
            except Exception as error:
                failure = None if stop.explains(error) else error
        self.engine.phases.end("data")
        step, when = self._saved
        # The main process's clock decides for all.
        due = self.world.main and batch is not None and self.done.step > step
        due = due and time.monotonic() - when > 60 * self.config.checkpoint_minutes
        count = 0 if batch is None else sum(int(part.valid.sum()) for part in batch.parts)
        failed, asked, due_, joints = self.world.sum([failure is not None, stop.asked.is_set(), due, count])
        if failed:
            self.world.agree(failure)
        if asked:
            self.save()
            raise mark(Interrupted(f"stopped after step {self.done.step}"), "all")
        if due_:
            self.save()
        return batch and batch._replace(joints=joints)

    def _step(self, batch: Batch) -> None:
        done, config = self.done, self.config
        step = done.step + 1
        self._notes += batch.notes
        self.engine.phases.start()
        try:
            loss = self.engine.step(batch.parts, step, self.total, batch.joints).item()
            done.summed += loss
            done.counted += 1
            self._recent.append(loss)
        except NotFinite as error:
            if config.on_bad_loss == "skip" and len(done.bad_losses) < config.bad_loss_limit:
                done.bad_losses.append(step)
            else:
                with self.world.agreed():
                    raise ValueError(self._about_bad_loss(batch, step, str(error))) from error
        done.step = step
        self.engine.phases.step(config.batch_size)

    def _about_bad_loss(self, batch: Batch, step: int, what: str) -> str:
        rows, images = examples_of(batch, self.config, self.datasets, self.world, step)
        path = self.world.from_main(lambda: self._directory.note_bad_batch(step, images, rows))
        if self.done.bad_losses:
            return (
                f"the loss or its gradient was not finite in {len(self.done.bad_losses) + 1} steps, the last "
                f"of them {step} (its examples: {path}): try a smaller lr or clip_norm=1"
            )
        return f"{what} at step {step} (its examples: {path}): try a smaller lr or clip_norm=1"

    def _log_steps(self) -> None:
        """Tell what is not worth keeping: it goes by the clock, or is part of a mean that is kept."""
        speed, log = self.engine.phases.read(), self.tell.log
        recent, self._recent = self._recent, []
        if log is None:
            return
        if recent:
            log("train/loss", sum(recent) / len(recent), self.done.step)
        log("train/lr", self.engine.rate, self.done.step)
        for name, value in speed.items():
            log(name, value, self.done.step)

    # --- Between epochs ---------------------------------------------------------------------------

    def _close_epoch(self, stop: Stop) -> None:
        config, done = self.config, self.done
        # Whatever happens during the evaluation, the steps are done.
        self.save()
        mean = done.summed / done.counted if done.counted else float("nan")
        self.record({"loss": mean, "lr": self.engine.rate})
        if config.eval_every and self.evaluated is not None and (done.epochs + 1) % config.eval_every == 0:
            self._evaluate(stop)
        if config.keep_checkpoints and done.epochs + 1 < config.epochs:
            self._write(self.path / "checkpoints" / f"step_{done.step:08d}.safetensors")
            self.world.only_main(lambda: self._directory.forget_old_checkpoints())
        done.epochs += 1
        self.save()

    def _evaluate(self, stop: Stop) -> None:
        config, done = self.config, self.done
        assert self.evaluated is not None
        assert self.protocol is not None
        model = self.engine.best_model.eval()
        with stop.at_once(), naming_dead_workers():
            result = evaluate_together(
                self.world,
                model,
                self.evaluated,
                self.protocol,
                workers=config.workers,
                device=self.device,
                progress=self.tell.progress,
            )
        self.evaluation = (done.step, result)
        values = result.overall().values
        self.record({f"eval_{k}": v for k, v in values.items()})
        self._show(stop)
        if not config.eval_every:
            return
        value = values[self.best_metric.name]
        better = done.best is None or (
            value > done.best if self.best_metric.larger_is_better else value < done.best
        )
        if better:
            done.best, done.since_best = value, 0
            self._write(self.path / "best.safetensors", {config.eval_set: values})
        else:
            done.since_best += 1
            done.finished = 0 < config.patience <= done.since_best

    def _show(self, stop: Stop) -> None:
        show, dataset = self.tell.show, self.evaluated or self.datasets[0]
        evaluation = None if self.evaluation is None else self.evaluation[1]
        snapshot = Snapshot(self.done.step, self.engine.best_model.eval(), dataset, evaluation, self.device)
        with stop.at_once():
            self.world.only_main(lambda: show and show(snapshot))

    def _write(self, path: Path, metrics: dict[str, Any] | None = None) -> None:
        about = {**self.about, "step": self.done.step}
        if metrics is not None:
            about["metrics"] = metrics
        if left_out := self.done.left_out:
            about["left_out"] = left_out
        self.world.only_main(lambda: checkpoint.save(path, self.engine.best_model, self.config.input, about))

    def finish(self, stop: Stop) -> FitResult:
        """Write the result and, last of all, evaluate it."""
        path = self.path / "model.safetensors"
        self.engine.best_model.eval()
        # Before the evaluation, so that nothing that is wrong with its data costs the training.
        self._write(path)
        if self.evaluated is None:
            self._show(stop)
        else:
            if self.evaluation is None or self.evaluation[0] != self.done.step:
                self._evaluate(stop)
            assert self.evaluation is not None
            self._write(path, {self.config.eval_set: self.evaluation[1].overall().values})
        self.save()
        if self.dir is not None:
            self.dir.warn_of_what_is_missing(self.done)
        return FitResult(path, self.evaluation[1] if self.evaluation else None)
