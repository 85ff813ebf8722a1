"""Put a trained network's columns upon better features.

    npm install @mediapipe/pose
    python -m experiments.graft runs/lite/model.safetensors --synthetic data/synthetic --lspet data/lspet \\
        --out runs/grafted.safetensors

The new network is `lite-blazepose-short`. MediaPipe's "heavy" network lends it its weights, but for those of
seven blocks that it lacks; without them, the rest does not fit together. So what comes after stride 16 first
learns to give the features that the whole network has there (`--steps`), while everything before stays as it
is. Then the old network's columns are taken over as they are: a linear layer that feeds them, and another
one that gives joints at once, are fitted by least squares to what the old network has in these places
(`--images`).

What comes out is a network to train on from, as `start_from`; it finds less than the old one. Pictures are
synthetic people and photos in turn, as `synthetic_lifted` augments them for training.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from margipose import checkpoint
from margipose.backbones import BlazePoseFeatures, build_backbone
from margipose.config import combine
from margipose.data import PoseDataset
from margipose.files import check_place
from margipose.model import MargiPose, build_model, get_model_spec
from margipose.train.sets import load_training_sets
from margipose.weights import load_model

__all__ = ["batches", "fit", "graft", "match", "training_sets"]

OLD, NETWORK, WHOLE = "lite-blazepose", "lite-blazepose-short", "blazepose_heavy"
BATCH = 32
RATE = 1e-3
RIDGE = 1e-4
"""Added to the variances of features, relative to their mean, lest a useless one get a large weight."""


def batches(sets: list[PoseDataset], count: int, seed: int = 0) -> Iterator[Tensor]:
    """So many batches of images, an equal part of each from every set."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        rows = [torch.randint(len(s), (BATCH // len(sets),), generator=generator).tolist() for s in sets]
        images = [s[row].image for s, mine in zip(sets, rows) for row in mine]
        yield torch.stack(images).contiguous(memory_format=torch.channels_last)


def match(short: BlazePoseFeatures, whole: BlazePoseFeatures, images: Iterator[Tensor], steps: int) -> float:
    """Teach a short network what the whole one has at stride 32, with all before that in common; in place.

    Args:
        images: of which each step takes a batch.

    Returns:
        Mean squared difference over the last fifty steps or so, relative to the features' variance.
    """
    trunk = nn.Sequential(*short.early_layers(16))
    rest = nn.ModuleList((short.blocks[len(trunk) - 1 :], short.top, short.bottom, short.deep))

    def at_32(net: BlazePoseFeatures, x: Tensor) -> Tensor:
        top = net.top(net.blocks[len(trunk) - 1 :](x))
        return torch.cat((net.bottom(top), net.deep(top)[:, : short.deep[-1][0].out_channels]), 1)

    optimiser = torch.optim.AdamW(rest.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, steps)
    left = 1.0
    for step, batch in enumerate(tqdm(images, "matching", steps, unit="step", disable=None)):
        with torch.no_grad():
            x = trunk(batch)
            wanted = at_32(whole, x)
            scale = wanted.var((0, 2, 3), keepdim=True) + RIDGE
        loss = ((at_32(short, x) - wanted).square() / scale).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        left += (float(loss.detach()) - left) / min(step + 1, 50)
    return left


@torch.no_grad()
def fit(old: MargiPose, new: MargiPose, images: Iterator[Tensor]) -> float:
    """Give a network another one's columns, and the layers before them that suit its own features best.

    Args:
        old: with one stage, as `new`; both `direct`.

    Returns:
        The part of the variance that is not explained of what the old one's layers give.
    """
    size, given = new.backbone.channels + 1, new.project[0].out_channels
    squares = torch.zeros(size, size, dtype=torch.float64)
    products = torch.zeros(size, given + new.spec.n_joints, dtype=torch.float64)
    total = torch.zeros(2, products.shape[1], dtype=torch.float64)
    for batch in images:
        seen, theirs = new.backbone(batch), old.backbone(batch)
        wanted = torch.cat((old.project[0](theirs), old.direct[0](theirs)), 1)
        x = F.pad(seen, (0, 0, 0, 0, 0, 1), value=1.0).transpose(0, 1).flatten(1).T.double()
        y = wanted.transpose(0, 1).flatten(1).T.double()
        squares += x.T @ x
        products += x.T @ y
        total += torch.stack((y.sum(0), y.square().sum(0)))
    damped = squares + RIDGE * squares.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    weights = torch.linalg.solve(damped, products)
    residual = total[1] - 2 * (weights * products).sum(0) + (weights * (squares @ weights)).sum(0)
    variance = total[1] - total[0].square() / squares[-1, -1]
    for part in ("stages", "project", "direct"):
        mine, theirs = getattr(new, part), getattr(old, part)
        kept = mine.state_dict()
        kept.update({k: v for k, v in theirs.state_dict().items() if kept[k].shape == v.shape})
        mine.load_state_dict(kept)
    for layer, columns in ((new.project[0], slice(given)), (new.direct[0], slice(given, None))):
        layer.weight.copy_(weights[:-1, columns].T[:, :, None, None])
        layer.bias.copy_(weights[-1, columns])
    return float((residual / variance).mean())


def training_sets(synthetic: Path, lspet: Path) -> list[PoseDataset]:
    """Synthetic people and photos, augmented as for training."""
    roots = {"data_roots.mpi3d": str(synthetic), "data_roots.custom": str(lspet)}
    return load_training_sets(combine(["lite_short_model", "synthetic_lifted", "laptop"], roots))


def graft(old: checkpoint.Loaded, sets: list[PoseDataset], steps: int, count: int) -> MargiPose:
    """The network begun from another one's columns; see above."""
    new = build_model(NETWORK, "package").eval()
    whole = build_backbone(WHOLE, "package", context=2).to(memory_format=torch.channels_last).eval()
    left = match(new.backbone, whole, batches(sets, steps), steps)
    print(f"features at stride 32: {100 * left:.1f} % of their variance are not met")
    new.eval()
    pictures = tqdm(batches(sets, count // BATCH, seed=1), "fitting", count // BATCH, disable=None)
    left = fit(old.model.eval(), new, pictures)
    print(f"what columns are fed: {100 * left:.1f} % of its variance are not met")
    return new


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="MODEL", help="a file, or the name of shipped weights")
    parser.add_argument("--synthetic", type=Path, required=True, metavar="DIR", help="synthetic people")
    parser.add_argument("--lspet", type=Path, required=True, metavar="DIR", help="photos, lifted")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write")
    parser.add_argument("--steps", type=int, default=500, metavar="N", help="default: 500 of 32 images")
    parser.add_argument("--images", type=int, default=1600, metavar="N", help="default: 1600")
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        for name, least in (("steps", 1), ("images", BATCH)):
            if getattr(args, name) < least:
                raise ValueError(f"--{name}: expected at least {least}, got {getattr(args, name)}")
        check_place(args.out)
        old = load_model(args.old)
        if old.model.spec != get_model_spec(OLD):
            raise ValueError(f"{args.old}: expected a network {OLD!r}")
        new = graft(old, training_sets(args.synthetic, args.lspet), args.steps, args.images)
        checkpoint.save(args.out, new, old.input_spec, {"grafted_from": old.provenance})
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    print(args.out)


if __name__ == "__main__":
    main()
