"""The data sets that a configuration names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from margipose.augment import RANGES_2D, RANGES_3D
from margipose.composite import Textures
from margipose.config import TrainConfig
from margipose.data import PoseDataset, Records, load_records
from margipose.textures import PicturePool

__all__ = ["load_set", "load_training_sets"]


def load_set(config: TrainConfig, name: str, universal: bool) -> Records:
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
    records = load_set(config, name, config.input.universal_scale)
    if not config.augment:
        return PoseDataset(records, config.input)
    ranges = replace(RANGES_3D if records.has_depth else RANGES_2D, upright=config.upright)
    ranges = ranges.scaled(config.augment_amount)
    return PoseDataset(
        records,
        config.input,
        ranges,
        config.seed,
        composite=config.composite,
        textures=textures,
        appearance=config.appearance,
    )
