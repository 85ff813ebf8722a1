"""How a network does on data that it has never seen: synthetic people, and real photos and frames.

    python experiments/transfer.py model.safetensors --synthetic data/mpi3d --lspet data/lspet
    python experiments/transfer.py model.safetensors --real h36m/trainval=frames/h36m mpi3d/test=frames/mpi3d
    python experiments/transfer.py a.safetensors b.safetensors --lspet data/lspet --json transfer.json
    python experiments/transfer.py lite blazepose --lspet data/lspet

One row per network. What is given is measured:

* `--synthetic`: the test part of a synthetic set, by protocol `mpi3d` (14 joints, depth from the height of
  920 mm): PCK@150 and MPJPE.
* `--lspet`: the validation photos of the extended Leeds Sports set, the twelve limb joints that are labelled
  as visible: PCK@0.2 of the torso, from left shoulder to right hip.
* `--real`: real frames with labels in space, parts of data sets as NAME/SPLIT=FOLDER, the twelve limb joints,
  the pelvis's depth from the labels. P-MPJPE and MPJPE, means over all frames of all that is named.

Poses in space are predicted from perspective crops, as by `margipose infer`, or from affine ones with
`--crop affine` (`blazepose` has these); positions in photos from such crops as the network was trained with.

`blazepose` is the network of MediaPipe, where that is installed, and `blazepose-ray` the same with its poses
turned onto the ray on which the camera sees the person. They look once, at an affine crop, whatever `--flip`,
`--any-way-up` and `--crop` say.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from blazepose import NAMES, evaluate_blazepose

from margipose.checkpoint import Loaded
from margipose.data import PoseDataset, Records, load_records
from margipose.evaluate import (
    Evaluation,
    Protocol,
    evaluate,
    get_protocol,
)
from margipose.files import check_place, replacing
from margipose.weights import load_model

LIMBS = tuple(
    f"{side}_{part}"
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("left", "right")
)
PHOTOS = replace(get_protocol("lspet"), name="lspet limbs", joints=LIMBS, joint_groups=())
FRAMES = replace(
    get_protocol("custom"), name="real frames", joints=LIMBS, aligned_by=LIMBS, groups=(), joint_groups=()
)


def _records(part: str) -> Records:
    """Records of NAME/SPLIT=FOLDER."""
    which, equals, folder = part.partition("=")
    name, slash, split = which.partition("/")
    if not (equals and slash):
        raise ValueError(f"--real: expected NAME/SPLIT=FOLDER, got {part!r}")
    return load_records(name, folder, split, universal=False)


def _evaluate(
    loaded: Loaded | str, records: Records, protocol: Protocol, args: argparse.Namespace
) -> Evaluation:
    if isinstance(loaded, str):
        return evaluate_blazepose(loaded, records, protocol)
    spec = loaded.input_spec if protocol.dims == 2 else replace(loaded.input_spec, crop=args.crop)
    crops = "flip" if args.flip else "one"
    return evaluate(
        loaded.model,
        PoseDataset(records, spec),
        protocol,
        crops=crops,
        any_way_up=args.any_way_up,
        progress=True,
    )


def measure(model: str, args: argparse.Namespace) -> dict[str, float]:
    """What is asked for, of one network: shares in per cent, lengths in mm."""
    loaded = model if model in NAMES else load_model(model)
    found: dict[str, float] = {}
    if args.synthetic is not None:
        protocol = get_protocol("mpi3d")
        records = load_records("mpi3d", args.synthetic, "test", universal=True)
        values = _evaluate(loaded, records, protocol, args).overall().values
        found |= {"synthetic PCK@150": 100 * values["pck"], "synthetic MPJPE": values["mpjpe"]}
    if args.lspet is not None:
        records = load_records("lspet", args.lspet, "val")
        row = _evaluate(loaded, records, PHOTOS, args).overall(intervals=True)
        low, high = row.intervals["pck_torso"]
        found |= {"photos PCK@0.2": 100 * row.values["pck_torso"], "from": 100 * low, "to": 100 * high}
    if args.real:
        each = [_evaluate(loaded, _records(part), FRAMES, args).values for part in args.real]
        for name, heading in (("p_mpjpe", "real P-MPJPE"), ("mpjpe", "real MPJPE")):
            found[heading] = float(np.concatenate([values[name] for values in each]).mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", metavar="MODEL", help="names of shipped weights, or files")
    parser.add_argument("--synthetic", type=Path, metavar="DIR")
    parser.add_argument("--lspet", type=Path, metavar="DIR")
    parser.add_argument("--real", nargs="+", metavar="NAME/SPLIT=DIR")
    parser.add_argument(
        "--crop", choices=["perspective", "affine"], default="perspective", help="of poses in space"
    )
    parser.add_argument("--flip", action="store_true", help="predict from each image and its mirror image")
    parser.add_argument("--any-way-up", action="store_true", help="the surest of four sides of each image")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.synthetic is args.lspet is args.real is None:
        parser.error("nothing to measure: give --synthetic, --lspet or --real")
    try:
        if args.json is not None:
            check_place(args.json)
        rows = {model: measure(model, args) for model in args.models}
        headings = list(next(iter(rows.values())))
        print(f"| network | {' | '.join(headings)} |\n|---{'|---' * len(headings)}|")
        for model, values in rows.items():
            print(f"| {model} | {' | '.join(f'{values[h]:.1f}' for h in headings)} |")
        if args.json is not None:
            with replacing(args.json) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
