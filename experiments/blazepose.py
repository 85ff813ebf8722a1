"""BlazePose, the network that comes with MediaPipe, measured as ours are.

It needs `pip install mediapipe==0.10.14`, the version whose wheel holds the network, in an environment that
may need older versions of other packages than this project asks for. The detector in front of it sees what
our networks see, the crop of 1.5 times the person's extent, and so finds the person again in it.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from margipose.crops import image_map
from margipose.data import PoseDataset, Records
from margipose.data.dataset import tensor_image
from margipose.evaluate import Evaluation, Protocol, score_records
from margipose.geometry import apply_affine
from margipose.skeleton import LSP
from margipose.spec import InputSpec

__all__ = ["JOINTS", "NAMES", "evaluate_blazepose", "onto_ray"]

NAMES = ("blazepose", "blazepose-ray")
"""As it comes; and with its poses turned onto the ray on which the camera sees the person."""

JOINTS = tuple(
    f"{side}_{part}"
    for side in ("left", "right")
    for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
)
"""Those that it shares with us. Pelvis and hips of benchmarks in space follow from its hips as from LSP's."""

_SPEC = InputSpec(384, 384, crop="affine")
"""Affine, as is the way back from its crops."""


def evaluate_blazepose(name: str, records: Records, protocol: Protocol) -> Evaluation:
    """Score its poses. A person whom it does not find counts as one point: the crop's middle.

    Args:
        protocol: of the joints in `JOINTS` and the pelvis.

    Raises:
        ValueError: if MediaPipe is not installed, or the protocol scores other joints.
    """
    others = set(protocol.joints) - {*JOINTS, "pelvis"}
    if others:
        raise ValueError(f"{name}: has no {', '.join(sorted(others))}")
    try:
        from mediapipe.python.solutions.pose import Pose, PoseLandmark
    except ImportError as error:
        raise ValueError(f"{name}: needs pip install mediapipe==0.10.14 ({error})") from error

    dataset = PoseDataset(records, _SPEC)
    marks = [PoseLandmark[joint.upper()] for joint in JOINTS]
    poses = []
    with Pose(static_image_mode=True, model_complexity=1, min_detection_confidence=0.1) as network:
        missed = 0
        for i in tqdm(range(len(dataset)), name, unit="image", leave=False):
            sample = dataset[i]
            found = network.process(tensor_image(sample.image, _SPEC))
            missed += found.pose_landmarks is None
            flat = _array(found.pose_landmarks, marks, 0.5)[:, :2]
            if protocol.dims == 2:
                px = torch.from_numpy(flat * (_SPEC.width, _SPEC.height) - 0.5)
                back = image_map(sample.crop, sample.intrinsics).inverse()
                poses.append(_named(apply_affine(back, px)))
            else:
                mm = torch.from_numpy(1000 * _array(found.pose_world_landmarks, marks, 0.0))
                turned = onto_ray(mm, sample.crop.centre_px, sample.intrinsics)
                poses.append(_named(turned if name == "blazepose-ray" else mm))
    if missed:
        warnings.warn(f"{name}: found nobody in {missed} of {len(dataset)} images", stacklevel=2)
    return score_records(torch.stack(poses), dataset.labelled(protocol.skeleton), protocol, LSP)


def _array(landmarks: object | None, marks: list, otherwise: float) -> NDArray[np.float64]:
    """x, y and z of some landmarks, J x 3."""
    if landmarks is None:
        return np.full((len(marks), 3), otherwise)
    points = [landmarks.landmark[mark] for mark in marks]
    return np.array([(p.x, p.y, p.z) for p in points], np.float64)


def _named(joints: torch.Tensor) -> torch.Tensor:
    """As joints of LSP, among whose hips, set by people in photos, its own are; zero where there are none."""
    found = joints.new_zeros(len(LSP), joints.shape[-1])
    found[LSP.indices(JOINTS)] = joints
    return found


def onto_ray(joints_mm: torch.Tensor, centre_px: torch.Tensor, intrinsics: torch.Tensor) -> torch.Tensor:
    """A pose (`J x 3`) as seen along the optical axis, turned the shortest way onto a pixel's ray.

    Args:
        centre_px: the pixel, `2`.
        intrinsics: of its image, `4`.
    """
    x, y = ((centre_px - intrinsics[2:]) / intrinsics[:2]).tolist()
    ray = joints_mm.new_tensor((x, y, 1.0))
    ray = ray / ray.norm()
    cross = joints_mm.new_tensor(((0, 0, ray[0]), (0, 0, ray[1]), (-ray[0], -ray[1], 0)))
    turn = torch.eye(3, dtype=joints_mm.dtype) + cross + cross @ cross / (1 + ray[2])
    return joints_mm @ turn.T
