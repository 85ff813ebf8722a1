"""Take batch normalisation out of a network's weights, so that they can be trained on, or put it back.

    python -m experiments.normalise runs/grafted.safetensors --synthetic data/synthetic --lspet data/lspet \\
        --out runs/normalised.safetensors
    python -m experiments.normalise runs/lite/model.safetensors --fold --out runs/folded.safetensors

The network is `lite-blazepose-short` or, with `--fold`, `lite-blazepose-short-bn`, and becomes the other one
with the same answers. Without it, what is normalised by is measured on `--images` pictures: synthetic people
and photos in turn, as `synthetic_lifted` augments them for training. Heatmaps that were sharpened
(`experiments/ship.py`), as those of `lite`, become again as they were trained.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from experiments.graft import BATCH, NETWORK, batches, training_sets
from experiments.ship import sharpen
from margipose import checkpoint
from margipose.backbones import BlazePoseFeatures
from margipose.backbones.blazepose import fold, unfold
from margipose.files import check_place
from margipose.model import MargiPose, build_model, get_model_spec
from margipose.weights import load_model

__all__ = ["folded", "unfolded"]

NORMALISED = "lite-blazepose-short-bn"


def unfolded(model: MargiPose, images: Iterable[Tensor]) -> MargiPose:
    """The same network with batch normalisation in its backbone; see `backbones.blazepose.unfold`."""
    return _with_backbone(model, unfold(model.backbone, images))


def folded(model: MargiPose) -> MargiPose:
    """The same network without batch normalisation in its backbone, as it is when not in training."""
    return _with_backbone(model, fold(model.backbone))


def _with_backbone(model: MargiPose, backbone: BlazePoseFeatures) -> MargiPose:
    new = build_model(replace(model.spec, backbone=backbone.name))
    rest = {k: v for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    new.load_state_dict({**rest, **{f"backbone.{k}": v for k, v in backbone.state_dict().items()}})
    return new.train(model.training)


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", metavar="MODEL", help="a file, or the name of shipped weights")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="where to write")
    parser.add_argument("--fold", action="store_true", help="put it back")
    parser.add_argument("--synthetic", type=Path, metavar="DIR", help="synthetic people")
    parser.add_argument("--lspet", type=Path, metavar="DIR", help="photos, lifted")
    parser.add_argument("--images", type=int, default=960, metavar="N", help="default: 960")
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        check_place(args.out)
        loaded = load_model(args.model)
        expected = NORMALISED if args.fold else NETWORK
        if loaded.model.spec != get_model_spec(expected):
            raise ValueError(f"{args.model}: expected a network {expected!r}")
        loaded.model.eval()
        provenance = dict(loaded.provenance or {})
        if args.fold:
            new = folded(loaded.model)
        elif args.synthetic is None or args.lspet is None or args.images < BATCH:
            raise ValueError(f"expected --synthetic, --lspet and --images of at least {BATCH}, or --fold")
        else:
            count = args.images // BATCH
            power = provenance.pop("heatmaps_to_the_power", 1.0)
            if power != 1:
                sharpen(loaded.model, 1 / power)
            pictures = batches(training_sets(args.synthetic, args.lspet), count)
            new = unfolded(loaded.model, tqdm(pictures, "measuring", count, unit="batch", disable=None))
        checkpoint.save(args.out, new, loaded.input_spec, provenance)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    print(args.out)


if __name__ == "__main__":
    main()
