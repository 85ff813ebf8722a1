import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from margipose.infer.bvh import TO_BVH, bvh_text
from margipose.skeleton import CANONICAL, SKELETONS, bone_lengths, parent_relative
from margipose.skeleton import from_parent_relative as absolute


def read_bvh(text):
    """Joint positions (T x J x 3), their names and the frame time, by the format's own rules."""
    words = iter(text.split())
    names, parents, offsets, channels, stack, ends = [], [], [], [], [], []
    for word in words:
        if word in ("ROOT", "JOINT"):
            names.append(next(words))
            parents.append(stack[-1] if stack else -1)
            current = len(names) - 1
        elif word == "End":
            assert next(words) == "Site"
            current = None
        elif word == "{":
            stack.append(current)
        elif word == "}":
            stack.pop()
        elif word == "OFFSET":
            offset = [float(next(words)) for _ in range(3)]
            (offsets if stack[-1] is not None else ends).append(offset)
        elif word == "CHANNELS":
            channels.append([next(words) for _ in range(int(next(words)))])
        elif word == "MOTION":
            break
    assert [next(words), int(next(words)) or 1][0] == "Frames:"
    assert next(words) == "Frame" and next(words) == "Time:"
    frame_time = float(next(words))
    values = np.array([float(w) for w in words]).reshape(-1, sum(map(len, channels)))
    positions, turns, at = [None] * len(names), [None] * len(names), 0
    for i, (parent, offset) in enumerate(zip(parents, offsets)):
        part = dict(zip(channels[i], values[:, at : at + len(channels[i])].T))
        at += len(channels[i])
        order = "".join(c[0] for c in channels[i] if c.endswith("rotation"))
        own = Rotation.from_euler(order, np.stack([part[f"{a}rotation"] for a in order], 1), degrees=True)
        if parent < 0:
            positions[i] = np.stack([part[f"{a}position"] for a in "XYZ"], 1) + offset
            turns[i] = own
        else:
            positions[i] = positions[parent] + turns[parent].apply(offset)
            turns[i] = turns[parent] * own
    return np.stack(positions, 1), names, frame_time


def rigid_poses(skeleton, count, spread=1.0):
    """Poses of one person whose bones keep their lengths, and whose hips and shoulders move as one piece."""
    rng = np.random.default_rng(0)
    rest = parent_relative(torch.from_numpy(rng.normal(size=(len(skeleton), 3)) * 200), skeleton).numpy()
    poses = []
    for _ in range(count):
        turns = {j: Rotation.from_rotvec(rng.normal(size=3) * spread) for j in skeleton.joints}
        bones = np.stack([turns[p].apply(rest[i]) for i, p in enumerate(skeleton.parents)])
        joints = absolute(torch.from_numpy(bones), skeleton).numpy()
        poses.append(joints + (100, -50, 3000) + rng.normal(size=3) * 100)
    return np.stack(poses)


def branches(skeleton):
    return [p for p in skeleton.joints if sum(q == p for _, q in skeleton.bones) > 1]


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_the_file_says_the_same_bones(skeleton):
    """Where one bone follows another, its direction and length are exact; so is every joint's, that has
    only such bones above it, relative to the last branch."""
    poses = rigid_poses(skeleton, 6)
    got, names, frame_time = read_bvh(bvh_text(poses, skeleton, 25))
    assert frame_time == pytest.approx(1 / 25)
    assert sorted(names) == sorted(skeleton.joints)
    got = got[:, [names.index(j) for j in skeleton.joints]]
    wanted = poses @ TO_BVH.T
    root = skeleton.index(skeleton.root)
    np.testing.assert_allclose(got[:, root], wanted[:, root], atol=1e-4)
    split = branches(skeleton)
    for joint, parent in skeleton.bones:
        i, p = skeleton.index(joint), skeleton.index(parent)
        if parent not in split:
            np.testing.assert_allclose(got[:, i] - got[:, p], wanted[:, i] - wanted[:, p], atol=5e-3)
    lengths = bone_lengths(torch.from_numpy(got), skeleton)
    torch.testing.assert_close(lengths, bone_lengths(torch.from_numpy(wanted), skeleton), atol=2e-3, rtol=0)


def test_the_rest_pose_itself_returns_whole():
    """Somebody who only turns as a whole from the rest pose, whose branches then fit exactly."""
    text = bvh_text(rigid_poses(CANONICAL, 1), CANONICAL, 30)
    lines = [line for line in text.splitlines() if not line[:1].isdigit() and not line.startswith("-")]
    lines = lines[: lines.index("MOTION")]
    still = [0.0] * (3 + 3 * len(CANONICAL))
    rest, names, _ = read_bvh("\n".join([*lines, "MOTION", "Frames: 1", "Frame Time: 1", *map(str, still)]))
    joints = rest[:, [names.index(j) for j in CANONICAL.joints]]
    turns = Rotation.from_rotvec(np.random.default_rng(1).normal(size=(5, 3)))
    poses = np.stack([t.apply(joints[0]) for t in turns]) + (10, 20, -300)
    got, names, _ = read_bvh(bvh_text(poses @ np.linalg.inv(TO_BVH).T, CANONICAL, 30))
    np.testing.assert_allclose(got[:, [names.index(j) for j in CANONICAL.joints]], poses, atol=5e-3)
    left, right = (joints[0, CANONICAL.index(f"{s}_wrist")] for s in ("left", "right"))
    head, ankle = (joints[0, CANONICAL.index(j)] for j in ("head_top", "left_ankle"))
    assert left[0] > 0 > right[0]  # the person's left is at the picture's right
    assert head[1] > 0 > ankle[1]  # y is up


def test_bones_that_point_backwards_or_have_no_length():
    poses = np.repeat(rigid_poses(CANONICAL, 1), 2, 0)
    knee, ankle = CANONICAL.index("left_knee"), CANONICAL.index("left_ankle")
    poses[:, ankle] = poses[:, knee]
    poses[:, CANONICAL.index("right_ankle")] = poses[:, CANONICAL.index("right_knee")] + (0, -400, 0)
    got, _, _ = read_bvh(bvh_text(poses, CANONICAL, 30))
    assert np.isfinite(got).all()


@pytest.mark.parametrize(
    ("joints", "fps", "message"),
    [
        (np.zeros((2, 5, 3)), 30, r"T x 17 x 3, got shape \(2, 5, 3\)"),
        (np.zeros((0, 17, 3)), 30, "got shape"),
        (np.full((1, 17, 3), np.nan), 30, "finite"),
        (np.zeros((1, 17, 3)), 0, "frames per second"),
    ],
)
def test_refuses_what_is_no_motion(joints, fps, message):
    with pytest.raises(ValueError, match=message):
        bvh_text(joints, CANONICAL, fps)
