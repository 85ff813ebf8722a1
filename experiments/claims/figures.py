"""Drawn people: pictures with exact joints in three dimensions, by the thousand in seconds.

Figures of thick, shaded limbs stand before noise, coloured shapes and stray limbs. Left limbs are bright and
warm, right ones blue; what is nearer is larger and covers what is farther, so that depth can be seen. They
are no replacement for photos: they are a task that small networks can learn on a CPU, alike everywhere.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from margipose.crops import Crop
from margipose.data import Sample
from margipose.data.dataset import image_tensor
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec

__all__ = ["JOINTS", "batch_of", "draw_people"]

JOINTS = CANONICAL.joints

# Bones from their parents at rest (x right, y down, z away from the camera), in heights of a person; the
# figure faces the camera, so that its left is on the right.
_REST = {
    "spine": (0, -0.14, 0),
    "neck": (0, -0.18, 0),
    "head": (0, -0.07, 0),
    "head_top": (0, -0.17, 0),
    "left_shoulder": (0.11, 0.01, 0),
    "left_elbow": (0.06, 0.15, 0),
    "left_wrist": (0.03, 0.15, 0),
    "left_hip": (0.06, 0.02, 0),
    "left_knee": (0.01, 0.23, 0),
    "left_ankle": (0, 0.23, 0),
}
_REST |= {k.replace("left", "right"): (-x, y, z) for k, (x, y, z) in _REST.items() if "left" in k}
# How far bones turn, radians.
_FREE = {"elbow": 0.9, "wrist": 0.9, "knee": 0.7, "ankle": 0.6, "neck": 0.2, "spine": 0.25, "top": 0.2}
_THICK = {"spine": 0.11, "neck": 0.11, "head_top": 0.1, "knee": 0.075, "ankle": 0.06}
_TONES = {"l": (225, 140, 60), "r": (55, 110, 220), "m": (205, 200, 195)}
_PERSPECTIVE = 0.35
_ORDER = [j for j in sorted(JOINTS, key=lambda j: len(CANONICAL.chain(j))) if j != CANONICAL.root]


def draw_people(
    count: int,
    size: int,
    seed: int,
    scale: float = 1.0,
    where: tuple[float, float, float, float] = (0, 0, 1, 1),
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Draw people.

    Args:
        scale: of the figures; at 1 they fill most of the image.
        where: part of the image (left, top, right, bottom, of 1) that all joints of a figure lie in.

    Returns:
        Images `count x size x size x 3` uint8 RGB and joints `count x 17 x 3`: normalised x and y, and z of
        the same scale, relative to the pelvis.
    """
    images, poses = np.empty((count, size, size, 3), np.uint8), np.empty((count, len(JOINTS), 3))
    for i in range(count):
        rng = np.random.default_rng((seed, i))  # a picture depends on its own number alone
        pose = _pose(rng) * scale * rng.uniform(0.9, 1.2)
        flat = _projected(pose)
        low, high = flat[:, :2].min(0), flat[:, :2].max(0)
        box = np.array(where).reshape(2, 2) * 2 - 1
        room = box[1] - box[0]
        if (high - low > room * 0.96).any():
            pose = pose * (room * 0.96 / (high - low)).min()
            flat = _projected(pose)
            low, high = flat[:, :2].min(0), flat[:, :2].max(0)
        shift = rng.uniform(box[0] - low, box[1] - high)
        flat[:, :2] += shift
        poses[i] = flat
        images[i] = _picture(flat, pose[:, 2], size, scale, rng)
    return images, poses


def batch_of(images: NDArray[np.uint8], joints_norm: NDArray[np.float64], spec: InputSpec) -> Sample:
    """The pictures as a batch for a network that takes them as they are."""
    count, joints = len(images), torch.from_numpy(joints_norm)
    size = (spec.width, spec.height)
    everything = torch.ones(count, len(JOINTS), dtype=torch.bool)
    return Sample(
        image=torch.stack([image_tensor(image, spec) for image in images]),
        target_norm=joints.float(),
        valid=everything,
        depth_valid=everything,
        joints_cam_mm=joints,
        intrinsics=torch.tensor([[1.0, 1.0, 0.0, 0.0]]).double().expand(count, 4),
        crop=Crop.make((size[0] / 2, size[1] / 2), 1.0, size, size),
        index=torch.arange(count),
    )


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """17 x 3, relative to the pelvis; a standing person is about 1.6 high."""
    turns = {CANONICAL.root: _rotation(rng.normal(0, (0.25, 1.2, 0.25)))}
    places = {CANONICAL.root: np.zeros(3)}
    for joint in _ORDER:
        parent = CANONICAL.parent_of[joint]
        free = next((v for k, v in _FREE.items() if joint.endswith(k)), 0.05)
        turns[joint] = turns[parent] @ _rotation(rng.normal(0, free, 3))
        places[joint] = places[parent] + turns[joint] @ np.array(_REST[joint]) * 1.7
    return np.stack([places[j] for j in JOINTS])


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    return cv2.Rodrigues(np.asarray(angles, np.float64))[0]


def _projected(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """In perspective: nearer (smaller z) is larger; z stays."""
    return np.concatenate([pose[:, :2] / (1 + _PERSPECTIVE * pose[:, 2:]), pose[:, 2:]], 1)


def _picture(
    flat: NDArray[np.float64], z: NDArray[np.float64], size: int, scale: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    fine = 2 * size
    cells = rng.uniform(60, 170, (rng.integers(3, 7), rng.integers(3, 7), 3)).astype(np.float32)
    canvas = cv2.resize(cells, (fine, fine), interpolation=cv2.INTER_CUBIC)
    canvas = np.ascontiguousarray(canvas.clip(0, 255))
    for _ in range(rng.integers(1, 4)):
        a, b = rng.uniform(0, fine, (2, 2))
        _limb(canvas, a, a + (b - a) * 0.4, rng.uniform(0.02, 0.09) * fine, rng.uniform(20, 235, 3))
    tones = {side: np.array(tone) + rng.uniform(-30, 30, 3) for side, tone in _TONES.items()}
    px = ((flat[:, :2] + 1) * fine - 1) / 2
    bones = []
    for joint in _ORDER:
        j, p = CANONICAL.index(joint), CANONICAL.index(CANONICAL.parent_of[joint])
        bones.append(((z[j] + z[p]) / 2, joint, j, p))
    for depth, joint, j, p in sorted(bones, reverse=True):
        side = joint[0] if joint.startswith(("left_", "right_")) else "m"
        thick = next((v for k, v in _THICK.items() if joint.endswith(k)), 0.05)
        near = 1 / (1 + _PERSPECTIVE * depth)
        shade = np.clip(1 - 0.25 * depth, 0.6, 1.3)
        width = thick * near * scale * fine / 2
        _limb(canvas, px[p], px[j], width, (tones[side] * shade).clip(0, 255))
    image = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA)
    return (image + rng.normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def _limb(canvas: NDArray, a: NDArray, b: NDArray, width: float, colour: NDArray) -> None:
    bits = 4
    ends = [tuple(round(float(v) * 2**bits) for v in point) for point in (a, b)]
    cv2.line(canvas, *ends, tuple(map(float, colour)), max(1, round(width)), cv2.LINE_8, bits)
