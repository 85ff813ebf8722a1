"""Small trainings on drawn people, each done once and kept.

Networks learn by `margipose.train.engine`, by the very steps that `margipose train` makes; only the pictures
come from memory. Every step sees new pictures, in the same order for every network; the seed changes the
initial weights. Trainings run beside each other, one thread each; a finished one is found by its settings.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from experiments.claims.figures import batch_of, draw_people
from margipose.config import TrainConfig
from margipose.files import replacing
from margipose.model import ModelSpec
from margipose.spec import InputSpec, to_mapping
from margipose.train.device import pick_device
from margipose.train.engine import Engine
from margipose.train.run_dir import environment

__all__ = ["Drawn", "Job", "heatmaps_of", "network", "train_all"]

TRAIN, TEST = 1, 2
"""Seeds of the pictures."""


@dataclass(frozen=True)
class Drawn:
    """Which pictures: see `figures.draw_people`."""

    scale: float = 1.0
    where: tuple[float, float, float, float] = (0, 0, 1, 1)


@dataclass(frozen=True)
class Job:
    """A training and its tests.

    Attributes:
        model: the network.
        size: of its input, px.
        steps, batch, lr: of AdamW with the 1cycle schedule.
        seed: of the initial weights.
        train: what it learns from.
        tests: what it is tested on, by name.
        count: pictures per test.
    """

    model: ModelSpec
    size: int
    steps: int
    batch: int = 16
    lr: float = 1e-2
    seed: int = 0
    train: Drawn = Drawn()
    tests: dict[str, Drawn] = field(default_factory=lambda: {"test": Drawn()})
    count: int = 400

    @property
    def key(self) -> str:
        """What its result is called."""
        return hashlib.sha256(json.dumps(to_mapping(self), sort_keys=True).encode()).hexdigest()[:16]


def network(job: Job, device: torch.device) -> Engine:
    """The network of a job with what trains it, ready for the first step."""
    config = TrainConfig(
        model=job.model,
        input=InputSpec(job.size, job.size),
        optimiser="adamw",
        lr=job.lr,
        weight_decay=1e-4,
        epochs=1,
        batch_size=job.batch,
        examples_per_epoch=job.batch * job.steps,
        seed=job.seed,
    )
    return Engine(config, device)


@functools.lru_cache(maxsize=4)
def _people(count: int, size: int, seed: int, drawn: Drawn) -> tuple[np.ndarray, np.ndarray]:
    return draw_people(count, size, seed, drawn.scale, drawn.where)


def train(job: Job, device: torch.device) -> tuple[torch.nn.Module, float]:
    """The trained network, in evaluation mode, and the seconds that its steps took."""
    engine = network(job, device)
    spec = engine.config.input
    images, joints = _people(job.batch * job.steps, job.size, TRAIN, job.train)
    engine.model.train()
    seconds = 0.0
    for step in range(1, job.steps + 1):
        rows = slice((step - 1) * job.batch, step * job.batch)
        batch = batch_of(images[rows], joints[rows], spec)
        start = time.perf_counter()
        engine.step([batch], step, job.steps)
        seconds += time.perf_counter() - start
    return engine.model.eval(), seconds


@torch.inference_mode()
def _measure(model: torch.nn.Module, job: Job, drawn: Drawn, device: torch.device) -> dict[str, float]:
    """Errors of the joints: `error`, their mean in per cent of the person's size in the image, and the shares
    `pck10` and `pck5` of joints within 10 and 5 per cent of it; of 3D networks `error_3d`, with depth.
    """
    images, joints = _people(job.count, job.size, TEST, drawn)
    spec = InputSpec(job.size, job.size)
    coords = []
    for start in range(0, len(images), 50):
        rows = slice(start, start + 50)
        coords.append(model(batch_of(images[rows], joints[rows], spec).image.to(device)).coords_norm.cpu())
    found, wanted = torch.cat(coords).double(), torch.from_numpy(joints)
    size = (wanted[..., :2].amax(1) - wanted[..., :2].amin(1)).amax(-1)[:, None]
    errors = torch.linalg.vector_norm(found[..., :2] - wanted[..., :2], dim=-1) / size
    values = {"error": 100 * errors.mean(), "pck10": (errors < 0.1).double().mean()}
    values["pck5"] = (errors < 0.05).double().mean()
    if job.model.dims == 3:
        values["error_3d"] = 100 * (torch.linalg.vector_norm(found - wanted, dim=-1) / size).mean()
    return {name: float(value) for name, value in values.items()}


@torch.inference_mode()
def heatmaps_of(
    model: torch.nn.Module, job: Job, count: int, device: torch.device
) -> tuple[Tensor, np.ndarray]:
    """The last stage's (XY) heatmaps of the first test pictures, `count x J x rows x columns`, summing to 1
    (scores below 0 count as 0), and those pictures."""
    images, joints = _people(job.count, job.size, TEST, next(iter(job.tests.values())))
    out = model(batch_of(images[:count], joints[:count], InputSpec(job.size, job.size)).image.to(device))
    maps = out.stages[-1].heatmaps if job.model.headed else out.stages[-1].xy
    maps = maps.cpu().clamp(min=0)
    return maps / maps.sum((-2, -1), keepdim=True).clamp(min=1e-12), images[:count]


def shape_of(heatmaps: Tensor) -> dict[str, float]:
    """What heatmaps look like: means of their entropy (nats), highest cell, standard deviation (cells) and
    number of modes: cells higher than their eight neighbours and than a tenth of the highest."""
    n = heatmaps.shape[-1]
    entropy = -(heatmaps * (heatmaps + 1e-24).log()).sum((-2, -1))
    peak = heatmaps.amax((-2, -1))
    neighbours = torch.nn.functional.max_pool2d(heatmaps, 3, 1, 1)
    modes = (heatmaps == neighbours) & (heatmaps > 0.1 * peak[..., None, None])
    cells = torch.arange(n, dtype=heatmaps.dtype)
    spread = torch.zeros_like(peak)
    for axis in (-2, -1):
        marginal = heatmaps.sum(axis)
        mean = (marginal * cells).sum(-1, keepdim=True)
        spread = spread + (marginal * (cells - mean) ** 2).sum(-1)
    values = {
        "entropy": entropy,
        "peak": peak,
        "spread": (spread / 2).sqrt(),
        "modes": modes.sum((-2, -1)).float(),
    }
    return {name: float(value.mean()) for name, value in values.items()}


def run(job: Job, folder: Path, device: str = "auto") -> dict[str, Any]:
    """Train and test, or take up what was found before."""
    path = folder / f"{job.key}.json"
    if path.exists():
        return json.loads(path.read_text())
    place = pick_device(device)
    model, seconds = train(job, place)
    result: dict[str, Any] = {"job": to_mapping(job), "train_seconds": seconds}
    result["commit"] = environment()["commit"]
    result["tests"] = {name: _measure(model, job, drawn, place) for name, drawn in job.tests.items()}
    maps, images = heatmaps_of(model, job, min(100, job.count), place)
    result["shape"] = shape_of(maps)
    result["parameters"] = sum(p.numel() for p in model.parameters())
    with replacing(folder / f"{job.key}.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, heatmaps=maps[:4].half().numpy(), images=images[:4])
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _alone() -> None:
    torch.set_num_threads(1)


def train_all(jobs: Sequence[Job], folder: Path, what: str = "training") -> list[dict[str, Any]]:
    """Results of jobs, in their order; those that are not there yet are trained, several at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [
        job for job in dict((j.key, j) for j in jobs).values() if not (folder / f"{job.key}.json").exists()
    ]
    workers = 1 if pick_device("auto").type == "cuda" else min(os.cpu_count() or 1, len(missing))
    if missing and workers == 1:
        for job in tqdm(missing, what, unit="network"):
            run(job, folder)
    elif missing:
        # The longest first, so that no process is left alone with one at the end.
        missing.sort(key=lambda j: -j.steps * (j.size // j.model.stride) ** 2 * j.model.n_stages)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, spawn, _alone) as pool:
            waiting = [pool.submit(run, job, folder) for job in missing]
            for done in tqdm(as_completed(waiting), what, len(waiting), unit="network"):
                done.result()
    return [run(job, folder) for job in jobs]
