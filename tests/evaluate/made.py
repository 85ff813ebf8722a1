"""Records with people that the tests of predictions and comparisons score."""

import numpy as np
import torch

from margipose.camera import project
from margipose.data import Records
from margipose.data.flat import at_one_depth
from margipose.skeleton import CANONICAL, MPII

# Someone who faces the camera: their left is at larger x. Millimetres from the pelvis.
STANDING = {
    "head_top": (0, -800, 0), "head": (0, -700, -60), "neck": (0, -560, 0), "spine": (0, -280, 20),
    "pelvis": (0, 0, 0),
    "left_shoulder": (180, -540, 0), "left_elbow": (330, -330, 0), "left_wrist": (460, -130, -150),
    "right_shoulder": (-180, -540, 0), "right_elbow": (-330, -330, 0), "right_wrist": (-460, -130, 150),
    "left_hip": (120, 0, 0), "left_knee": (140, 430, -80), "left_ankle": (150, 850, 60),
    "right_hip": (-120, 0, 0), "right_knee": (-140, 430, -80), "right_ankle": (-150, 850, 60),
}  # fmt: skip
CAMERAS = (54138969, 55011271, 58860488, 60457274)
ACTIONS = {2: "Directions", 3: "Discussion"}


def poses(count, seed=0):
    """`count` x 17 x 3 mm, relative to the pelvis: people who have turned and moved a little."""
    rng = np.random.default_rng(seed)
    base = np.array([STANDING[j] for j in CANONICAL.joints], float)
    moved = base + rng.normal(0, 40, (count, 17, 3)) * (base != 0).any(-1, keepdims=True)
    angle = rng.uniform(-np.pi, np.pi, count)
    turn = np.zeros((count, 3, 3))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2], turn[:, 2, 0] = np.sin(angle), -np.sin(angle)
    turn[:, 1, 1] = 1
    return np.einsum("nij,nkj->nki", turn, moved)


def noise(count, size, seed=5):
    return np.random.default_rng(seed).normal(0, size, (count, 17, 3))


def h36m_records(frames=(1, 65, 129), name="h36m/test"):
    """Two subjects, two actions, two takes, four cameras: 32 rows per frame."""
    grid = np.array(
        [
            (subject, action, take, camera, frame)
            for subject in (9, 11)
            for action in ACTIONS
            for take in (1, 2)
            for camera in CAMERAS
            for frame in frames
        ]
    )
    count = len(grid)
    rng = np.random.default_rng(1)
    joints = poses(count) + rng.uniform((-400, -300, 3500), (400, 300, 5500), (count, 3))[:, None]
    columns = dict(zip(("subject", "action", "subaction", "camera", "frame"), grid.T))
    return Records(
        name=name,
        skeleton=CANONICAL,
        images=[f"S{s}/{ACTIONS[a]}-{t}/{c}/img_{f:06d}.jpg" for s, a, t, c, f in grid],
        joints_cam_mm=torch.from_numpy(joints),
        valid=torch.ones(count, 17, dtype=torch.bool),
        intrinsics=torch.tensor([[1145.0, 1144.0, 512.0, 515.0]], dtype=torch.float64).repeat(count, 1),
        ids=columns,
        id_names={"action": ACTIONS},
    )


def mpii_records(count=30):
    """People in images of 1000 x 1000 pixels, two per image."""
    k = torch.tensor([[1200.0, 1200.0, 500.0, 500.0]], dtype=torch.float64).repeat(count, 1)
    rng = np.random.default_rng(2)
    joints = poses(count) + rng.uniform((-900, -300, 4000), (900, 300, 6000), (count, 3))[:, None]
    joints_px = project(torch.from_numpy(joints), k)
    names = {"spine": "neck"}
    columns = [CANONICAL.index(names.get(j, j)) for j in MPII.joints]
    valid = torch.ones(count, 16, dtype=torch.bool)
    valid[3, MPII.index("left_wrist")] = False
    return Records(
        name="mpii/val",
        skeleton=MPII,
        images=[f"images/{i // 2:05d}.jpg" for i in range(count)],
        joints_cam_mm=at_one_depth(joints_px[:, columns], k),
        valid=valid,
        intrinsics=k,
        has_depth=False,
        head_length_px=torch.full((count,), 40.0, dtype=torch.float64),
        ids={"index": np.arange(count) // 2, "person": np.arange(count) % 2},
    )
