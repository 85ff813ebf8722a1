"""The batches of a training, in the parts that each process computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from margipose.config import TrainConfig
from margipose.data import PoseDataset, Sample
from margipose.data.loading import batches
from margipose.data.sampling import ForgivingDataset, MixedDataset, ShuffledDraws
from margipose.train.distributed import World

__all__ = ["Batch", "batch_parts", "check_batch", "examples_of"]


class Batch(NamedTuple):
    """What a process has of a batch.

    Attributes:
        parts: one for each of the parts that a batch is computed in.
        notes: what was wrong with examples that were replaced.
        joints: how many joints count in the whole batch, that of all processes, once that is known.
    """

    parts: list[Sample]
    notes: list[str]
    joints: float = 0.0


def check_batch(config: TrainConfig, world: World) -> None:
    """Refuse a batch that cannot be dealt out evenly.

    Raises:
        ValueError: naming a size that could be.
    """
    if config.batch_size % (world.size * config.accumulate):
        parts = f" in {config.accumulate} parts" if config.accumulate > 1 else ""
        raise ValueError(
            f"TrainConfig.batch_size: a batch of {config.batch_size} cannot be split{parts} over "
            f"{world.size} processes: give a multiple of {world.size * config.accumulate}"
        )


def batch_parts(
    config: TrainConfig,
    datasets: Sequence[PoseDataset],
    world: World,
    device: torch.device,
    done: int,
    steps: int,
) -> Iterator[Batch]:
    """This process's part of each of the next batches, after `done` of them.

    A batch is a run of drawings (see `ShuffledDraws`). It consists of `config.accumulate` parts one after the
    other, and each of these of a block for each process.
    """
    size = config.batch_size // (config.accumulate * world.size)
    draws = _draws(config, datasets, done, steps, rank=world.rank, ranks=world.size, block=size)
    forgiving = config.on_bad_sample == "skip"
    mixed = (ForgivingDataset if forgiving else MixedDataset)(datasets)
    loader = batches(mixed, size, config.workers, device, draws)
    with contextlib.closing(loader):
        found = Batch([], [])
        for item in loader:
            part, notes = item if forgiving else (item, ())
            found.parts.append(part)
            found.notes.extend(note for note in notes if note)
            if len(found.parts) == config.accumulate:
                yield found
                found = Batch([], [])


def examples_of(
    batch: Batch, config: TrainConfig, datasets: Sequence[PoseDataset], world: World, step: int
) -> tuple[list[int], list[str]]:
    """Rows and images of all processes' examples in the batch of a step, from 1; called by all of them."""
    by_process = world.gather([part.index.tolist() for part in batch.parts])
    rows = [row for blocks in zip(*by_process) for block in blocks for row in block]
    mixed, images = MixedDataset(datasets), []
    for draw, row in zip(_draws(config, datasets, step - 1, 1), rows):
        images.append(str(datasets[mixed.which(draw.index)].records.images[row]))
    return rows, images


def _draws(
    config: TrainConfig, datasets: Sequence[PoseDataset], done: int, steps: int, **kind: int
) -> ShuffledDraws:
    size = config.batch_size
    lengths = [len(d) for d in datasets]
    return ShuffledDraws(lengths, steps * size, config.seed, config.shares or None, start=done * size, **kind)
