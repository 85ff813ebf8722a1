"""What a network says of the poses in photos whose joints are labelled: MediaPipe's, or one of ours.

    pip install ai-edge-litert; pip install --no-deps mediapipe==0.10.14
    python -m experiments.landmarks data/lspet --out data/lspet/landmarks.npz
    python -m experiments.landmarks data/lspet --model lite --out data/lspet/lite.npz

Each training photo of the extended Leeds Sports set is cut out as the network was trained to see people,
and turned until the labelled torso is upright: for MediaPipe's about the middle of the hips, for one of ours
about the labelled joints. It is asked about the photo and its mirror image, and both answers are averaged.
`experiments/lift.py --landmarks` takes depths from it. Photos whose shoulders and hips are not all labelled
are left out (NaN).

The file holds, for each photo and the joints in `JOINTS`: `joints_m` (`N x J x 3`, relative to the hips'
middle, as turned as the photo), and `joints_px` (`N x J x 2`), where it sees them in the photo.

Source: Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking" (2020).
"""

from __future__ import annotations

import argparse
import sys
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from margipose.backbones.blazepose import LANDMARKS
from margipose.backbones.packages import landmarks_file
from margipose.camera import lean_deg, project
from margipose.data import Records, load_records
from margipose.data.images import read_image
from margipose.files import check_place, replacing
from margipose.infer import Predictor, Target
from margipose.infer.intrinsics import ImageCamera
from margipose.infer.views import box_of_joints
from margipose.skeleton import LSP, convert
from margipose.weights import load_model

__all__ = ["JOINTS", "Landmarks", "ask", "crop_map", "load", "look", "look_with", "save"]

JOINTS = tuple(LANDMARKS)
"""Those that the network shares with us."""
MIRRORED = [
    JOINTS.index(name.replace("left", "*").replace("right", "left").replace("*", "right")) for name in JOINTS
]
SIDE = 256
"""Of the network's input, px."""
ROOM = 1.25
"""Half of the crop's side, relative to the extent of the joints from the hips' middle."""

Array = NDArray[np.float32]
Network = Callable[[Array], tuple[Array, Array]]
"""An image `SIDE x SIDE x 3` in 0..1 to landmarks in the crop, `K x 2` px counted from its corner, and in
space, `K x 3` m."""


class Landmarks(NamedTuple):
    """What the network says of some photos; see above. NaN where it was not asked."""

    joints_m: Array
    joints_px: Array


def crop_map(joints_px: NDArray, known: NDArray) -> NDArray[np.float64]:
    """The map `2 x 3` from a photo's pixels to the crop's, pixel centres at integers.

    Args:
        joints_px: `J x 2`, in the order of `JOINTS`.
        known: `J`; shoulders and hips must be.
    """
    left, right = (JOINTS.index(f"{side}_shoulder") for side in ("left", "right"))
    hips = joints_px[[JOINTS.index("left_hip"), JOINTS.index("right_hip")]].mean(0)
    up = joints_px[[left, right]].mean(0) - hips
    angle = np.arctan2(up[0], -up[1])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    extent = np.abs((joints_px[known] - hips) @ turn.T).max()
    linear = turn * SIDE / (2 * ROOM * max(float(extent), 1.0))
    return np.column_stack((linear, (SIDE - 1) / 2 - linear @ hips))


def look(network: Network, image: NDArray[np.uint8], joints_px: NDArray, known: NDArray) -> Landmarks:
    """What a network says of one person, the mean over the image and its mirror image.

    Args:
        image: `H x W x 3` RGB.
        joints_px: `J x 2`, in the order of `JOINTS`.
        known: `J`; shoulders and hips must be.

    Returns:
        Columns without the first dimension.
    """
    to_crop = crop_map(joints_px, known)
    # Reduced beforehand, lest what is far smaller than the photo be made of a few of its pixels.
    factor = min(1.0, 2 * float(np.sqrt(np.linalg.det(to_crop[:, :2]))))
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    of_stored = to_crop.copy()
    of_stored[:, :2] /= factor
    # The middle of a smaller photo's first pixel is not that of the photo's first pixel.
    of_stored[:, 2] += to_crop[:, :2] @ np.full(2, 0.5 / factor - 0.5)
    crop = cv2.warpAffine(image, of_stored, (SIDE, SIDE), flags=cv2.INTER_LINEAR).astype(np.float32) / 255
    joints_m, seen_px = [], []
    for mirrored in (False, True):
        flat, deep = network(np.ascontiguousarray(crop[:, ::-1]) if mirrored else crop)
        numbers = list(LANDMARKS.values())
        flat, deep = flat[numbers] - 0.5, deep[numbers].copy()
        if mirrored:
            flat, deep = flat[MIRRORED], deep[MIRRORED]
            flat, deep = flat * (-1, 1) + (SIDE - 1, 0), deep * (-1, 1, 1)
        turn = to_crop[:, :2] / np.sqrt(np.linalg.det(to_crop[:, :2]))
        deep[:, :2] = deep[:, :2] @ turn
        joints_m.append(deep)
        seen_px.append((flat - to_crop[:, 2]) @ np.linalg.inv(to_crop[:, :2]).T)
    return Landmarks(np.mean(joints_m, 0, dtype=np.float32), np.mean(seen_px, 0, dtype=np.float32))


def ask(network: Network | Predictor, records: Records) -> Landmarks:
    """What a network says of the photos of a 2D set of skeleton `lsp`."""
    columns = LSP.indices(JOINTS)
    torso = [JOINTS.index(f"{side}_{part}") for part in ("shoulder", "hip") for side in ("left", "right")]
    found = Landmarks(*(np.full((len(records), len(JOINTS), dims), np.nan, np.float32) for dims in (3, 2)))
    rows = torch.arange(len(records))
    labels = project(records.joints_cam_mm[rows], records.intrinsics[rows])
    valid = records.valid[rows]
    asked = valid[:, columns][:, torso].all(-1).nonzero()[:, 0].tolist()
    for row in tqdm(asked, desc="looking", unit="photo", disable=None):
        image = read_image(records.images[row])
        if isinstance(network, Predictor):
            camera = ImageCamera(tuple(records.intrinsics[row].tolist()), "given")
            one = look_with(network, image, labels[row], valid[row], camera)
        else:
            one = look(network, image, labels[row, columns].numpy(), valid[row, columns].numpy())
        for column, values in zip(found, one):
            column[row] = values
    return found


def look_with(
    predictor: Predictor, image: NDArray[np.uint8], labels_px: Tensor, known: Tensor, camera: ImageCamera
) -> Landmarks:
    """What one of our networks says of one person.

    Args:
        image: `H x W x 3` RGB.
        labels_px: `J x 2`, of skeleton `lsp`.
        known: `J`; shoulders and hips must be.

    Returns:
        Columns without the first dimension.
    """
    box = box_of_joints(labels_px[known])
    turn_deg = float(lean_deg(labels_px, LSP, known))
    (person,) = predictor.predict([Target(image, tuple(box.tolist()), camera, turn_deg=turn_deg)])
    joints_mm = convert(torch.from_numpy(person.joints_cam_mm), predictor.skeleton, LSP)
    joints_px = project(joints_mm, torch.tensor(camera.intrinsics, dtype=joints_mm.dtype))
    hips = joints_mm[LSP.indices(("left_hip", "right_hip"))].mean(0)
    columns = LSP.indices(JOINTS)
    joints_m = (joints_mm[columns] - hips) / 1000
    return Landmarks(joints_m.numpy().astype(np.float32), joints_px[columns].numpy().astype(np.float32))


def save(path: Path, landmarks: Landmarks) -> None:
    """Write landmarks, all of them or nothing."""
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **landmarks._asdict())


def load(path: Path, count: int) -> Landmarks:
    """Landmarks of so many photos, as `save` wrote them.

    Raises:
        ValueError: naming the file, if it holds none, or those of another number of photos.
        OSError: if it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = Landmarks(*(stored[name].astype(np.float32) for name in Landmarks._fields))
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected what experiments/landmarks.py writes ({error})") from error
    for name, dims in (("joints_m", 3), ("joints_px", 2)):
        shape, expected = getattr(found, name).shape, (count, len(JOINTS), dims)
        if shape != expected:
            raise ValueError(f"{path}: {name} is {shape}, expected {expected}")
    return found


def tflite_network(path: Path) -> Network:
    """The network in MediaPipe's file.

    Raises:
        ValueError: if ai-edge-litert is not installed, or the file is not such a network.
        OSError: if there is no such file.
    """
    content = path.read_bytes()
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ValueError(f"{path}: to run it, pip install ai-edge-litert") from error
    try:
        interpreter = Interpreter(model_content=content)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"{path}: expected a network in TFLite's format ({error})") from error
    given = {tuple(d["shape"]): d["index"] for d in interpreter.get_input_details()}
    # By size, as its outputs have no names: five values for each landmark of the image, three in space.
    sizes = {int(np.prod(d["shape"])): d["index"] for d in interpreter.get_output_details()}
    if set(given) != {(1, SIDE, SIDE, 3)} or not {39 * 5, 39 * 3} <= set(sizes):
        raise ValueError(
            f"{path}: expected MediaPipe's network of landmarks, got one of other inputs or outputs"
        )
    (image_index,) = given.values()

    def run(image: Array) -> tuple[Array, Array]:
        interpreter.set_tensor(image_index, image[None])
        interpreter.invoke()
        flat, deep = (interpreter.get_tensor(sizes[39 * n]).reshape(39, n) for n in (5, 3))
        return flat[:, :2], deep

    return run


def our_network(name: str) -> Predictor:
    """One of ours, which does not turn people itself: the labels say how they are turned."""
    loaded = load_model(name)
    spec = replace(loaded.input_spec, upright=False)
    return Predictor(loaded._replace(input_spec=spec), detector="image", flip=True)


def build_parser() -> argparse.ArgumentParser:
    """The words that the command takes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lspet", type=Path, metavar="DIR", help="the photos")
    parser.add_argument("--out", type=Path, required=True, metavar="NPZ", help="where to write")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--network", type=Path, metavar="TFLITE", help="default: that of the installed package mediapipe"
    )
    which.add_argument("--model", help="one of ours instead: a name of shipped weights, or a file")
    return parser


def main() -> None:
    parser = build_parser()
    args = parser.parse_args()
    try:
        check_place(args.out)
        network = our_network(args.model) if args.model else tflite_network(args.network or landmarks_file())
        records = load_records("lspet", args.lspet, "train")
        landmarks = ask(network, records)
        save(args.out, landmarks)
    except (ValueError, OSError) as error:
        parser.exit(2, f"{Path(sys.argv[0]).name}: error: {error}\n")
    asked = int(np.isfinite(landmarks.joints_m).all((1, 2)).sum())
    print(f"{args.out}: {asked} of {len(records)} photos")


if __name__ == "__main__":
    main()
