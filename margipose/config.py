"""The configuration of a training run: its keys, the named ones, and how they combine."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from margipose import checkpoint
from margipose.appearance import AppearanceRanges
from margipose.backbones import Pretrained
from margipose.composite import CompositeRanges
from margipose.data import DATASETS
from margipose.evaluate import METRICS, PROTOCOLS
from margipose.model import NAMED, ModelSpec, check_input_size
from margipose.skeleton import get_skeleton
from margipose.spec import InputSpec, closest, from_mapping, to_mapping

__all__ = ["NAMED_CONFIGS", "TrainConfig", "combine", "read_config"]


@dataclass(frozen=True)
class TrainConfig:
    """A whole training run.

    Attributes:
        run_dir: where the run lives; made if missing. A run that was interrupted there is continued.
        model: the network.
        pretrained: start its backbone from weights that others trained; see `backbones.build_backbone`.
        frozen_stride: layers of the backbone up to its features of this stride keep the weights and the
            statistics that they start with, which makes steps cheaper; 0 for none.
        backbone_rate: learning rate of the backbone, relative to the others': small for one that knows much.
        start_from: weights to start all of the network from, by name (`margipose.weights`) or as a file;
            empty for none.
        input: what the network is fed, and the space it predicts in; with `universal_scale`, 3D labels
            are read at universal scale.
        train_sets: what to train on, as "<data set>/<split>"; 3D and 2D sets may be mixed.
        shares: how often each is drawn relative to the others; equal if empty.
        eval_set: what to evaluate on after the last epoch, "<data set>/<split>"; empty for nothing.
        eval_protocol: by which; empty for the data set's own.
        data_dir: folder that holds each data set's folder, by its name ...
        data_roots: ... except those for which another folder is given here.
        augment: random augmentation (the paper's ranges for 3D and for 2D sets) ...
        augment_amount: ... of shift, scale and rotation so much of it ...
        upright: probability that an example is turned until its person's torso is upright, before it is
            turned by chance: for networks that look twice (`input.upright`) ...
        composite: ... part of which are other backgrounds and clothes, where a data set has masks, and
            things that cover the person, by these probabilities.
        backgrounds, cloth, objects: folders of pictures for that (objects: with transparency); made by
            chance if empty.
        appearance: ... and of blur, noise, other colours and the like, by these probabilities.
        epochs, examples_per_epoch, batch_size: how long; a last partial batch is dropped. Several processes
            share each batch, so that neither it nor the learning rate depends on how many there are.
        optimiser, lr, momentum, weight_decay: `momentum` is the first beta of adamw.
        schedule: of the learning rate; see `schedule`.
        clip_norm: limit of the gradient's norm; 0 for none.
        accumulate: parts that a batch is computed in, for less memory; statistics of batch normalisation
            are then those of a part.
        ema: decay of an average of the weights, which is evaluated and kept instead of them; 0 for none.
        precision: of convolutions and products; losses are always computed in single precision.
        channels_last: memory layout of images; faster on most devices.
        compile: compile the network; the first steps then take minutes.
        sigma, pixelwise_loss: see `losses`; a network with output heads has them in `model.head`.
        eval_every: evaluate each time after so many epochs; 0 for after the last one only.
        best_metric: by which `best.safetensors` is chosen, where the run evaluates as it goes; empty for
            the one that the protocol's papers quote.
        patience: stop after so many evaluations without a better one; 0 for never.
        log_every: tell loss and speed each time after so many steps.
        checkpoint_minutes: the run can go on from a point at most so long ago, or from the last epoch.
        keep_checkpoints: how many networks of past epochs to keep.
        on_bad_sample: what to do about an example that cannot be read: stop, or take another one.
        on_bad_loss: what to do about a loss or gradient that is not finite: stop, or leave the step out ...
        bad_loss_limit: ... as long as no more than so many were.
        seed: of the initial weights, the order of examples and the augmentation.
        workers: processes that prepare samples, for each process that trains.
        device: "auto" takes a GPU if there is one.
        tensorboard: write a live view for TensorBoard into the run's directory; None for "if it is there".
        pictures: of how many examples to draw predictions after each evaluation; 0 for none.
    """

    run_dir: str = "runs/train"
    model: ModelSpec = field(default_factory=lambda: NAMED["margipose"])
    pretrained: Pretrained = False
    frozen_stride: int = 0
    backbone_rate: float = 1.0
    start_from: str = ""
    input: InputSpec = field(default_factory=InputSpec)
    train_sets: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    eval_set: str = ""
    eval_protocol: str = ""
    data_dir: str = "data"
    data_roots: dict[str, str] = field(default_factory=lambda: dict.fromkeys(DATASETS, ""))
    augment: bool = True
    augment_amount: float = 1.0
    upright: float = 0.0
    composite: CompositeRanges = field(default_factory=CompositeRanges)
    backgrounds: str = ""
    cloth: str = ""
    objects: str = ""
    appearance: AppearanceRanges = field(default_factory=AppearanceRanges)
    epochs: int = 150
    examples_per_epoch: int = 32_000
    batch_size: int = 32
    optimiser: Literal["sgd", "rmsprop", "adamw"] = "sgd"
    lr: float = 1.0
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["1cycle", "constant", "steps"] = "1cycle"
    clip_norm: float = 0.0
    accumulate: int = 1
    ema: float = 0.0
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    channels_last: bool = True
    compile: bool = False
    sigma: float = 1.0
    pixelwise_loss: Literal["jsd", "none"] = "jsd"
    eval_every: int = 0
    best_metric: str = ""
    patience: int = 0
    log_every: int = 50
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    on_bad_sample: Literal["raise", "skip"] = "raise"
    on_bad_loss: Literal["stop", "skip"] = "stop"
    bad_loss_limit: int = 100
    seed: int = 0
    workers: int = 2
    device: str = "auto"
    tensorboard: bool | None = None
    pictures: int = 6

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "sigma", "accumulate", "checkpoint_minutes", "log_every"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"TrainConfig.{name}: must be positive and finite, got {getattr(self, name)}"
                )
        if not self.run_dir:
            raise ValueError("TrainConfig.run_dir: expected a folder, got ''")
        not_negative = ("weight_decay", "clip_norm", "workers", "seed", "eval_every", "patience", "pictures")
        if self.frozen_stride and not (self.pretrained or self.start_from):
            raise ValueError(
                "TrainConfig.frozen_stride: weights that never learned would stay so; "
                "give pretrained or start_from"
            )
        for name in (*not_negative, "frozen_stride", "keep_checkpoints", "bad_loss_limit"):
            if not 0 <= getattr(self, name) < 2**63:
                what = "negative" if getattr(self, name) < 0 else "so large"
                raise ValueError(f"TrainConfig.{name}: must not be {what}, got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"TrainConfig.momentum: expected 0 <= momentum < 1, got {self.momentum}")
        if not 0 < self.backbone_rate < float("inf"):
            raise ValueError(
                f"TrainConfig.backbone_rate: must be positive and finite, got {self.backbone_rate}"
            )
        if not 0 <= self.upright <= 1:
            raise ValueError(f"TrainConfig.upright: expected a probability in 0..1, got {self.upright}")
        if not 0 <= self.augment_amount <= 1:
            raise ValueError(f"TrainConfig.augment_amount: expected 0..1, got {self.augment_amount}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"TrainConfig.ema: expected 0 <= ema < 1, got {self.ema}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"TrainConfig.accumulate: a batch of {self.batch_size} cannot be computed in "
                f"{self.accumulate} equal parts"
            )
        if self.patience and not (self.eval_every and self.eval_set):
            raise ValueError("TrainConfig.patience: needs eval_set and eval_every, to have what to wait for")
        if self.eval_protocol and self.eval_protocol not in PROTOCOLS:
            raise ValueError(
                f"TrainConfig.eval_protocol: {self.eval_protocol!r}{closest(self.eval_protocol, PROTOCOLS)}"
            )
        if self.best_metric and self.best_metric not in METRICS:
            raise ValueError(
                f"TrainConfig.best_metric: {self.best_metric!r}{closest(self.best_metric, METRICS)}"
            )
        if self.examples_per_epoch < self.batch_size:
            raise ValueError(
                f"TrainConfig.examples_per_epoch: {self.examples_per_epoch} do not fill "
                f"a batch of {self.batch_size}"
            )
        if self.shares and len(self.shares) != len(self.train_sets):
            raise ValueError(
                f"TrainConfig.shares: expected one for each of {len(self.train_sets)} train_sets, "
                f"got {len(self.shares)}"
            )
        if not all(0 < share < float("inf") for share in self.shares):
            raise ValueError(f"TrainConfig.shares: expected positive numbers, got {list(self.shares)}")
        joints = len(get_skeleton(self.input.skeleton))
        if joints != self.model.n_joints:
            raise ValueError(
                f"TrainConfig.model.n_joints: skeleton {self.input.skeleton!r} has {joints} joints, "
                f"got {self.model.n_joints}"
            )
        for name in (*self.train_sets, *([self.eval_set] if self.eval_set else [])):
            if name.count("/") != 1:
                raise ValueError(f"TrainConfig: expected '<data set>/<split>', got {name!r}")
            known = name.split("/")[0]
            if known not in DATASETS:
                raise ValueError(f"TrainConfig: unknown data set in {name!r}{closest(known, DATASETS)}")
        for name, root in self.data_roots.items():
            if name not in DATASETS:
                raise ValueError(
                    f"TrainConfig.data_roots: unknown data set {name!r}{closest(name, DATASETS)}"
                )
            if not isinstance(root, str):
                raise ValueError(f"TrainConfig.data_roots.{name}: expected a folder, got {root!r}")
        if self.model.headed and (self.sigma, self.pixelwise_loss) != (1.0, "jsd"):
            raise ValueError(
                "TrainConfig: sigma and pixelwise_loss are for networks of marginal heatmaps; "
                "give model.head.sigma and model.head.regulariser"
            )
        check_input_size(self.model, self.input.width, self.input.height)

    @property
    def steps_per_epoch(self) -> int:
        return self.examples_per_epoch // self.batch_size


# Every optimiser sets what another one might have changed, and so does every recipe.
_PLAIN = {"momentum": 0.9, "weight_decay": 0.0}

_MPI3D: dict[str, Any] = {
    "eval_set": "mpi3d/test",
    "input": {"universal_scale": True},
    "data_roots": {"mpi3d": ""},
}
_SYNTHETIC = {**_MPI3D, "data_roots": {"mpi3d": "data/synthetic"}}


def _network(
    name: str, size_px: int, zoom: float = 1.0, upright: bool = False, backbone_rate: float = 1.0
) -> dict[str, Any]:
    """A network, what it is fed, and how that is learned: all that another one might have changed."""
    return {
        "model": to_mapping(NAMED[name]),
        "input": {"width": size_px, "height": size_px, "zoom": zoom, "upright": upright},
        "upright": 0.5 if upright else 0.0,
        "backbone_rate": backbone_rate,
    }


NAMED_CONFIGS: dict[str, dict[str, Any]] = {
    # Networks.
    "margipose_model": _network("margipose", 256),
    "lite_model": _network("lite", 128),
    "lite_deep_model": _network("lite-deep", 128, zoom=1.25),
    "lite_blazepose_model": _network("lite-blazepose", 192, 1.25, upright=True, backbone_rate=0.1),
    "lite_short_bn_model": _network("lite-blazepose-short-bn", 192, 1.25, upright=True, backbone_rate=0.1),
    # Larger steps ruin its layers before stride 16, whose weights are very unequal.
    "lite_short_model": _network("lite-blazepose-short", 192, 1.25, upright=True, backbone_rate=0.003),
    "chatterbox_model": _network("chatterbox", 256),
    "dsnt_model": _network("dsnt-resnet50", 224),
    "hourglass_model": _network("dsnt-hourglass2", 256),
    # Data.
    "h36m": {
        "train_sets": ["h36m/trainval"],
        "eval_set": "h36m/test",
        "input": {"universal_scale": False},
    },
    "mpi3d": {**_MPI3D, "train_sets": ["mpi3d/train"]},
    "h36m_mpii": {
        "train_sets": ["h36m/trainval", "mpii/train"],
        "eval_set": "h36m/test",
        "input": {"universal_scale": False},
    },
    "mpi3d_mpii": {**_MPI3D, "train_sets": ["mpi3d/train", "mpii/train"]},
    "mpii": {"train_sets": ["mpii/train"], "eval_set": "mpii/val"},
    "lspet": {"train_sets": ["lspet/train"], "eval_set": "lspet/val"},
    # Made by `margipose prepare synthetic data/synthetic`, in the layout of MPI-INF-3DHP.
    "synthetic": {**_SYNTHETIC, "train_sets": ["mpi3d/train"]},
    "synthetic_lspet": {**_SYNTHETIC, "train_sets": ["mpi3d/train", "lspet/train"]},
    # Photos whose depths experiments/lift.py guessed, in the folder of the photos.
    "synthetic_lifted": {
        **_SYNTHETIC,
        "train_sets": ["mpi3d/train", "custom/train"],
        "data_roots": {"mpi3d": "data/synthetic", "custom": "data/lspet"},
    },
    "synthetic_mpii": {**_SYNTHETIC, "train_sets": ["mpi3d/train", "mpii/train"]},
    # Optimisers.
    "1cycle": {"optimiser": "sgd", "schedule": "1cycle", "lr": 1.0, **_PLAIN},
    "rmsprop": {"optimiser": "rmsprop", "schedule": "steps", "lr": 2.5e-3, **_PLAIN, "momentum": 0.0},
    "sgd_simple": {"optimiser": "sgd", "schedule": "constant", "lr": 0.2, **_PLAIN},
    "adamw": {"optimiser": "adamw", "schedule": "1cycle", "lr": 1e-3, "momentum": 0.9, "weight_decay": 1e-4},
    # Recipes.
    # An hour or two on two cores: small epochs, so that an interruption costs little.
    "laptop": {
        "optimiser": "adamw",
        "schedule": "1cycle",
        "lr": 3e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "pretrained": "package",
        "frozen_stride": 8,
        "precision": "float32",
        "ema": 0.998,
        "batch_size": 32,
        "epochs": 14,
        "examples_per_epoch": 4000,
        "workers": 0,
        "eval_every": 7,
        "composite": {"background": 0.2, "upper_body": 0.05, "lower_body": 0.05, "erase": 0.3},
    },
    # Two million examples, made to fit twenty minutes of a large GPU with 16 CPU cores beside it.
    "gpu": {
        "optimiser": "adamw",
        "schedule": "1cycle",
        "lr": 3e-3,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "pretrained": "package",
        "frozen_stride": 0,
        "precision": "bf16",
        "ema": 0.999,
        "batch_size": 128,
        "epochs": 100,
        "examples_per_epoch": 20480,
        "workers": 14,
        "eval_every": 25,
        "composite": {"background": 0.2, "upper_body": 0.05, "lower_body": 0.05, "erase": 0.3},
    },
    "quick": {"epochs": 1, "examples_per_epoch": 64, "batch_size": 8, "workers": 0},
}
"""Partial configurations by name; the later one wins where two say different things."""


def read_config(path: Path) -> dict[str, Any]:
    """The settings of a run that was: for `combine`, as its `base`.

    Args:
        path: a JSON file such as a run's `train_config.json` or Sacred's `config.json`, a run's directory, or
            a network that it left (`.safetensors`).

    Raises:
        ValueError: naming the file, if it holds no settings.
        OSError: if it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "train_config.json"
    try:
        if path.suffix == ".safetensors":
            settings = checkpoint.describe(path)["provenance"]["config"]
        else:
            settings = json.loads(path.read_text())
    except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: holds no settings of a training") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: expected settings by name, got {type(settings).__name__}")
    if settings.get("run_dir") == "":  # Sacred's: it chooses the directory
        del settings["run_dir"]
    return settings


def combine(
    names: Sequence[str],
    updates: Mapping[str, Any] | None = None,
    base: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The configuration of some named ones and further keys, which may be nested or dotted.

    Args:
        base: settings that the names and keys change, instead of the defaults.

    Raises:
        ValueError: for an unknown name or key (the closest valid one is named), or a value that does not fit.
    """
    merged: dict[str, Any] = {}
    _merge(merged, base or {})
    for name in names:
        if name not in NAMED_CONFIGS:
            raise ValueError(f"no configuration is called {name!r}{closest(name, NAMED_CONFIGS)}")
        _merge(merged, NAMED_CONFIGS[name])
    for key, value in (updates or {}).items():
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        _merge(merged, {key.split(".")[0]: value})
    return from_mapping(TrainConfig, merged)


def _merge(into: dict[str, Any], new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = copy.deepcopy(value)
