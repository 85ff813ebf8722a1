"""A network being trained: its optimiser, its averaged weights, and one step of both."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from margipose.backbones import FeatureExtractor
from margipose.config import TrainConfig
from margipose.data import Sample
from margipose.dsnt import average_loss
from margipose.headed import HeadedNetwork
from margipose.losses import marginal_loss
from margipose.model import build_model
from margipose.schedule import learning_rate
from margipose.skeleton import get_skeleton
from margipose.spec import to_mapping
from margipose.train.device import autocast
from margipose.train.distributed import World
from margipose.train.timing import Phases
from margipose.weights import load_model

__all__ = ["Engine", "NotFinite"]


class NotFinite(ValueError):
    """A loss, or the gradient of one, that is NaN or infinite; the weights have not been changed by it."""


class _Placed(NamedTuple):
    """What a step needs of a part of a batch, on the device."""

    images: Tensor
    target_norm: Tensor
    valid: Tensor
    depth_valid: Tensor


class Engine:
    """Network, optimiser and what belongs to them.

    Attributes:
        model: the network in training.
        device: that it is on.
        phases: how long the parts of steps take; whoever takes steps adds the time that data take.
    """

    def __init__(self, config: TrainConfig, device: torch.device, world: World | None = None) -> None:
        """Build everything as configured.

        Args:
            world: the processes that take each step together; this one alone by default.

        Raises:
            ValueError: for weights to start from that are those of another network, or layers to freeze that
                it has not.
        """
        self.config, self.device, self.world = config, device, world or World()
        self.phases = Phases(device)
        torch.manual_seed(config.seed)
        if config.start_from:
            self.model: nn.Module = _started(config).to(device)
        else:
            self.model = build_model(
                config.model, config.pretrained, get_skeleton(config.input.skeleton).joints
            ).to(device)
        if config.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for layer in self._frozen():
            layer.requires_grad_(False)
        self._parallel = self.world.parallel(self.model)
        self._optimiser = _optimiser(config, self.model)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self._averaged: AveragedModel | None = None
        if config.ema > 0:
            self._averaged = AveragedModel(self.model, multi_avg_fn=_moving(config.ema), use_buffers=True)
        # The compiled network shares its weights with the other.
        self._forward = torch.compile(self._parallel) if config.compile else self._parallel

    @property
    def best_model(self) -> nn.Module:
        """The network to evaluate and to keep: the averaged one, if there is one."""
        return self.model if self._averaged is None else self._averaged.module

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return float(self._optimiser.param_groups[0]["lr"])

    def train(self) -> None:
        """Set the network to training, all but the layers that stay as they are."""
        self.model.train()
        for layer in self._frozen():
            layer.eval()

    def _frozen(self) -> list[nn.Module]:
        stride = self.config.frozen_stride
        if not stride:
            return []
        return _backbone(self.config, self.model, "frozen_stride").early_layers(stride)

    def seed(self, epoch: int) -> None:
        """Start the chance in the network, such as dropout, that an epoch has in this process."""
        numbers = np.random.SeedSequence((self.config.seed, epoch, self.world.rank))
        torch.manual_seed(int(numbers.generate_state(1, np.uint64)[0]))

    def step(self, batches: Sequence[Sample], step: int, total: int, count: float | None = None) -> Tensor:
        """Learn from one batch, which may come in parts.

        Args:
            batches: parts of the batch, or of this process's share of it; their gradients add up to those of
                the whole.
            step: number of this step, from 1 to `total`.
            count: how many joints count in the whole batch; those of `batches`, if left out.

        Returns:
            The loss, a scalar: the mean over all joints that count.

        Raises:
            NotFinite: if the loss or its gradient is. Weights, statistics and averages stay as they are, the
                statistics only where the configuration skips such steps. With `fp16`, gradients that
                overflow are the scaler's business: it leaves the update out, and scales the next one less.
        """
        config = self.config
        self._set_rate(*learning_rate(config.schedule, step, total, config.lr, config.momentum))
        return self.learn(batches, None, count)

    def learn(self, batches: Sequence[Sample], lr: float | None = None, count: float | None = None) -> Tensor:
        """`step` at the learning rate that is set, or at another one."""
        if lr is not None:
            self._set_rate(lr, self.config.momentum)
        self._optimiser.zero_grad(set_to_none=True)
        counts = [float(b.valid.sum()) for b in batches]
        whole = max(1.0, sum(counts) if count is None else count)
        statistics = [b.clone() for b in self.model.buffers()] if self.config.on_bad_loss == "skip" else []
        total = torch.zeros((), device=self.device)
        for number, (batch, n) in enumerate(zip(batches, counts), 1):
            total += self._descend(batch, n / whole, last=number == len(batches))
        total = self.world.sum_(total)
        try:
            if not total.isfinite():
                raise NotFinite("the loss is not finite")
            self._update()
        except NotFinite:
            for buffer, value in zip(self.model.buffers(), statistics):
                buffer.copy_(value)
            raise
        self.phases.end("optimiser")
        return total

    def _descend(self, batch: Sample, share: float, last: bool) -> Tensor:
        """Add the gradient of a part of a batch; returns its part of the loss."""
        # Processes average their gradients, while their sum is wanted; and once, with the last part.
        waiting = nullcontext() if last or self.world.alone else self._parallel.no_sync()  # type: ignore
        with waiting, self.world.connected():
            placed = self._placed(batch)
            self.phases.end("transfer")
            loss = self._loss(placed) * share
            self.phases.end("forward")
            self._scaler.scale(loss * self.world.size).backward()
            self.phases.end("backward")
        return loss.detach()

    def _update(self) -> None:
        clip = self.config.clip_norm
        if clip > 0:
            self._scaler.unscale_(self._optimiser)
        norm = nn.utils.get_total_norm(p.grad for p in self.model.parameters() if p.grad is not None)
        # A finite loss can have a gradient that is not, and one step with that leaves no weight usable.
        if not self._scaler.is_enabled() and not norm.isfinite():
            raise NotFinite("the gradient of the loss is not finite")
        if clip > 0:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), clip, norm)
        with warnings.catch_warnings():
            # The schedule is ours, and is not stepped.
            warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step\(\).*")
            self._scaler.step(self._optimiser)
        self._scaler.update()
        if self._averaged is not None:
            self._averaged.update_parameters(self.model)

    def _placed(self, batch: Sample) -> _Placed:
        layout = torch.channels_last if self.config.channels_last else torch.contiguous_format
        images = batch.image.to(self.device, non_blocking=True).contiguous(memory_format=layout)
        others = (batch.target_norm, batch.valid, batch.depth_valid)
        return _Placed(images, *(x.to(self.device, non_blocking=True) for x in others))

    def _loss(self, batch: _Placed) -> Tensor:
        config = self.config
        with autocast(self.device, config.precision):
            out = self._forward(batch.images)
        if isinstance(self.model, HeadedNetwork):  # whose heads compute in single precision
            losses = self.model.losses(out, batch.target_norm, batch.valid, batch.depth_valid)
            return average_loss(losses, batch.valid.float())
        stages = out.stages
        # Divergences and distances lose what matters in half precision.
        stages = [type(s)(*(plane.float() for plane in s)) for s in stages]
        pixelwise = None if config.pixelwise_loss == "none" else config.pixelwise_loss
        return marginal_loss(
            stages, batch.target_norm, batch.depth_valid, batch.valid, config.sigma, pixelwise
        )

    def _set_rate(self, lr: float, momentum: float) -> None:
        for group in self._optimiser.param_groups:
            group["lr"] = lr * group.get("rate", 1.0)
            if "betas" in group:
                group["betas"] = (momentum, group["betas"][1])
            else:
                group["momentum"] = momentum

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values; for all processes."""
        chance = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        return {
            "model": self.model.state_dict(),
            "averaged": None if self._averaged is None else self._averaged.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "rng": self.world.gather(chance),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a `state_dict`; what is wrong with one raises what PyTorch raises.

        What is random in the network goes on as it would have if there are as many processes as there were,
        and is as good as new otherwise.
        """
        self.model.load_state_dict(state["model"])
        if self._averaged is not None:
            self._averaged.load_state_dict(state["averaged"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        chances = state["rng"]
        if len(chances) != self.world.size:
            # Processes must not share their chance.
            numbers = np.random.SeedSequence((*chances[0]["cpu"].tolist(), self.world.size, self.world.rank))
            torch.manual_seed(int(numbers.generate_state(1, np.uint64)[0]))
            return
        chance = chances[self.world.rank]
        torch.set_rng_state(chance["cpu"])
        if self.device.type == "cuda" and chance["cuda"] is not None:
            torch.cuda.set_rng_state(chance["cuda"], self.device)


def _started(config: TrainConfig) -> nn.Module:
    """The network whose weights the training starts from.

    What it is fed must agree, too: joints and their normalised space would otherwise change their meaning
    without a word. The image's size, zoom and kind of crop may differ, as the network takes several, and so
    may what the training goes on to change: the scale of the labels, and whether people are turned upright.
    """
    loaded = load_model(config.start_from)
    mine = config.input
    free = ("width", "height", "zoom", "crop", "universal_scale", "upright")
    spec = replace(loaded.input_spec, **{key: getattr(mine, key) for key in free})
    for name, theirs, ours in (("model", loaded.model.spec, config.model), ("input", spec, mine)):
        for key, value in to_mapping(theirs).items():
            wanted = to_mapping(ours)[key]
            if value != wanted:
                raise ValueError(
                    f"TrainConfig.start_from: {config.start_from} has {name}.{key} = {value!r}, "
                    f"this run {wanted!r}"
                )
    return loaded.model.train()


def _backbone(config: TrainConfig, model: nn.Module, key: str) -> FeatureExtractor:
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, FeatureExtractor):
        raise ValueError(f"TrainConfig.{key}: a {config.model.type} has no backbone")
    return backbone


def _optimiser(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    common = {"lr": config.lr, "weight_decay": config.weight_decay}
    parameters: list[dict[str, Any]] = [{"params": list(model.parameters()), "rate": 1.0}]
    if config.backbone_rate != 1:
        backbone = list(_backbone(config, model, "backbone_rate").parameters())
        those = {id(p) for p in backbone}
        parameters[0]["params"] = [p for p in model.parameters() if id(p) not in those]
        parameters.append({"params": backbone, "rate": config.backbone_rate})
    if config.optimiser == "sgd":
        return torch.optim.SGD(parameters, momentum=config.momentum, **common)
    if config.optimiser == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=config.momentum, **common)
    return torch.optim.AdamW(parameters, betas=(config.momentum, 0.999), **common)


def _moving(decay: float) -> Any:
    @torch.no_grad()
    def update(averaged: Sequence[Tensor], current: Sequence[Tensor], count: int | Tensor) -> None:
        # A short memory at first: the initial weights are worth nothing.
        n = int(count)
        keep = min(decay, (1 + n) / (10 + n))
        for a, c in zip(averaged, current):
            if a.is_floating_point():
                a.lerp_(c, 1 - keep)
            else:
                a.copy_(c)

    return update
