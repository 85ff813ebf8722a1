"""How a network from elsewhere is measured, with a stand-in for it that knows the labels."""

import math
import sys
from dataclasses import replace
from enum import IntEnum
from types import ModuleType, SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from experiments import blazepose
from margipose.camera import project
from margipose.crops import image_map
from margipose.data import PoseDataset, load_records
from margipose.evaluate import get_protocol
from margipose.geometry import apply_affine
from margipose.skeleton import CANONICAL, LSP, convert
from margipose.spec import InputSpec

LANDMARKS = IntEnum("PoseLandmark", [j.upper() for j in reversed(blazepose.JOINTS)], start=3)
PHOTOS = replace(get_protocol("lspet"), joints=blazepose.JOINTS, joint_groups=())
FRAMES = replace(
    get_protocol("custom"), joints=blazepose.JOINTS, aligned_by=blazepose.JOINTS, groups=(), joint_groups=()
)


@pytest.fixture
def mediapipe(monkeypatch):
    """Answers with the results in its list, one after the other."""
    results = []

    class Pose:
        def __init__(self, static_image_mode, model_complexity, min_detection_confidence):
            assert static_image_mode

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def process(self, image):
            assert image.dtype == np.uint8
            assert image.shape == (384, 384, 3)
            return results.pop(0)

    pose = ModuleType("mediapipe.python.solutions.pose")
    pose.Pose, pose.PoseLandmark = Pose, LANDMARKS
    for name in ("mediapipe", "mediapipe.python", "mediapipe.python.solutions"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, pose.__name__, pose)
    return results


def landmarks(points):
    """By the numbers of `LANDMARKS`, from J x 3 in the order of `JOINTS`."""
    entries = [SimpleNamespace(x=math.nan, y=math.nan, z=math.nan)] * 33
    for joint, (x, y, z) in zip(blazepose.JOINTS, points.tolist()):
        entries[LANDMARKS[joint.upper()]] = SimpleNamespace(x=x, y=y, z=z)
    return SimpleNamespace(landmark=entries)


def test_photos(tmp_path, mediapipe):
    (tmp_path / "images").mkdir()
    for n in range(1, 33):
        cv2.imwrite(str(tmp_path / "images" / f"im{n:05d}.jpg"), np.full((90, 120, 3), 90, np.uint8))
    joints = np.ones((14, 3, 32))
    joints[:, :2] = np.random.default_rng(0).uniform(5, 85, (14, 2, 32))
    savemat(tmp_path / "joints.mat", {"joints": joints})
    records = load_records("lspet", tmp_path, "val")
    dataset = PoseDataset(records, InputSpec(384, 384))
    for i in range(len(records)):
        sample = dataset[i]
        px = torch.from_numpy(joints[:, :2, int(records.images[i].stem[2:]) - 1])
        px = px[LSP.indices(blazepose.JOINTS)] - 1  # of the file, which counts from 1
        crop_px = apply_affine(image_map(sample.crop, sample.intrinsics), px)
        flat = torch.cat(((crop_px + 0.5) / 384, torch.zeros(12, 1)), 1)
        world = landmarks(torch.zeros(12, 3))
        mediapipe.append(SimpleNamespace(pose_landmarks=landmarks(flat), pose_world_landmarks=world))
    assert blazepose.evaluate_blazepose("blazepose", records, PHOTOS).overall().values["pck_torso"] == 1
    mediapipe += [SimpleNamespace(pose_landmarks=None, pose_world_landmarks=None)] * len(records)
    with pytest.warns(UserWarning, match="blazepose: found nobody in 2 of 2 images"):
        lost = blazepose.evaluate_blazepose("blazepose", records, PHOTOS)
    assert lost.overall().values["pck_torso"] < 0.5


def test_poses_in_space(people, mediapipe):
    records = load_records("mpi3d", people, "val", universal=False).converted(CANONICAL)
    labels = records.joints_cam_mm[:]
    # Its hips are taken for those that people label in photos.
    seen = convert(labels, CANONICAL, LSP)
    limbs, hips = (seen[:, LSP.indices(j)] for j in (blazepose.JOINTS, ("left_hip", "right_hip")))
    middle = hips.mean(1, keepdim=True)
    for pose in (limbs - middle) / 1000:
        shown = landmarks(torch.full((12, 3), 0.5))
        mediapipe.append(SimpleNamespace(pose_landmarks=shown, pose_world_landmarks=landmarks(pose)))
    found = blazepose.evaluate_blazepose("blazepose", records, FRAMES)
    np.testing.assert_allclose(found.values["mpjpe"], 0, atol=1e-6)
    np.testing.assert_allclose(found.values["p_mpjpe"], 0, atol=1e-4)


def test_the_ray_of_a_pixel():
    intrinsics = torch.tensor([500.0, 520.0, 320.0, 240.0], dtype=torch.float64)
    axis = torch.tensor([[0.0, 0.0, 100.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    for pixel in ((320.0, 240.0), (0.0, 0.0), (600.0, 240.0), (100.0, 470.0)):
        centre = torch.tensor(pixel, dtype=torch.float64)
        turned = blazepose.onto_ray(axis, centre, intrinsics)
        torch.testing.assert_close(project(turned[:1], intrinsics)[0], centre)
        pose = torch.randn(12, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        moved = blazepose.onto_ray(pose, centre, intrinsics)
        torch.testing.assert_close(torch.cdist(moved, moved), torch.cdist(pose, pose))
        # The shortest way: what is perpendicular to both directions stays.
        hinge = torch.linalg.cross(axis[0], turned[0])
        torch.testing.assert_close(blazepose.onto_ray(hinge[None], centre, intrinsics)[0], hinge)


def test_what_cannot_be_measured(people, monkeypatch):
    records = load_records("mpi3d", people, "val", universal=False)
    with pytest.raises(ValueError, match=r"blazepose: has no head, head_top, neck, spine"):
        blazepose.evaluate_blazepose("blazepose", records, get_protocol("custom"))
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    with pytest.raises(ValueError, match=r"blazepose: needs pip install mediapipe==0\.10\.14"):
        blazepose.evaluate_blazepose("blazepose", records, FRAMES)
