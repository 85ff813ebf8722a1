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

Poses in space are predicted as `Predictor` does, in the box around the labels: through a perspective crop, or
the affine one of training with `--crop affine` (`blazepose` has that one).

`blazepose` is the network of MediaPipe, where that is installed, and `blazepose-ray` the same with its poses
turned onto the ray on which the camera sees the person.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from blazepose import NAMES, evaluate_blazepose
from tqdm import tqdm

from margipose.camera import project
from margipose.checkpoint import Loaded
from margipose.data import PoseDataset, Records, load_records
from margipose.data.images import read_image
from margipose.evaluate import (
    Evaluation,
    Protocol,
    check_evaluation,
    evaluate,
    get_protocol,
    score_records,
)
from margipose.files import replacing
from margipose.infer import Predictor
from margipose.infer.views import CropKind, box_of_joints
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
    if protocol.dims == 3:
        return evaluate_in_space(loaded, records, protocol, args.crop, args.flip, args.any_way_up)
    crops = "flip" if args.flip else "one"
    dataset = PoseDataset(records, loaded.input_spec)
    return evaluate(loaded.model, dataset, protocol, crops=crops, any_way_up=args.any_way_up, progress=True)


def evaluate_in_space(
    loaded: Loaded,
    records: Records,
    protocol: Protocol,
    crop: CropKind = "perspective",
    flip: bool = False,
    any_way_up: bool = False,
) -> Evaluation:
    """Score poses as `Predictor` gives them, of people who may be anywhere in the picture.

    Args:
        protocol: whose depths are true ones, or follow from a height of 920 mm.
        crop, flip, any_way_up: of `Predictor`.
    """
    if protocol.depth not in ("ground_truth", "height"):
        raise ValueError(f"protocol {protocol.name}: Predictor has no depth from {protocol.depth}")
    predictor = Predictor(loaded, crop=crop, refine=0, flip=flip, any_way_up=any_way_up, device="cpu")
    dataset = PoseDataset(records, loaded.input_spec)
    labelled, poses = dataset.records, []
    check_evaluation(labelled, protocol, loaded.model.spec.dims)
    for row in tqdm(range(len(labelled)), unit="image", leave=False):
        image = read_image(labelled.images[row])
        _, intrinsics = dataset.frame(row, image.shape[1::-1])
        joints, valid = labelled.joints_cam_mm[row], labelled.valid[row]
        if protocol.depth == "ground_truth":
            predictor.root_depth_mm = float(joints[dataset.skeleton.index("pelvis"), 2])
        box = box_of_joints(project(joints[valid], intrinsics)).tolist()
        (found,) = predictor(image, [box], intrinsics.tolist())
        poses.append(torch.from_numpy(found.joints_cam_mm))
    return score_records(torch.stack(poses), labelled, protocol)


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
    parser.add_argument("--crop", choices=get_args(CropKind), default="perspective", help="of poses in space")
    parser.add_argument("--flip", action="store_true", help="predict from each image and its mirror image")
    parser.add_argument("--any-way-up", action="store_true", help="the surest of four sides of each image")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if args.synthetic is args.lspet is args.real is None:
        parser.error("nothing to measure: give --synthetic, --lspet or --real")
    try:
        rows = {model: measure(model, args) for model in args.models}
        if args.json is not None:
            with replacing(args.json) as temporary:
                temporary.write_text(json.dumps(rows, indent=1) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    headings = list(next(iter(rows.values())))
    print(f"| network | {' | '.join(headings)} |\n|---{'|---' * len(headings)}|")
    for model, values in rows.items():
        print(f"| {model} | {' | '.join(f'{values[h]:.1f}' for h in headings)} |")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
