import json

import h5py
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from margipose.synthetic import make_synthetic
from margipose.synthetic.body import random_body
from margipose.synthetic.collision import heights
from margipose.synthetic.motion import random_clip
from margipose.synthetic.motion_files import find_motions, read_motion
from margipose.synthetic.poses import INDEX, outside_limits
from margipose.synthetic.recorded import recorded_clip
from margipose.synthetic.retarget import angles_of, bone_joints

# Offsets in centimetres; a "T" with the arms out.
BONES = {
    "Hips": ("", (0, 0, 0)),
    "Spine": ("Hips", (0, 10, 0)),
    "Spine1": ("Spine", (0, 14, 0)),
    "Neck": ("Spine1", (0, 26, 0)),
    "Head": ("Neck", (0, 10, 2)),
    "LeftShoulder": ("Spine1", (3, 22, 0)),
    "LeftArm": ("LeftShoulder", (14, 0, 0)),
    "LeftForeArm": ("LeftArm", (28, 0, 0)),
    "LeftHand": ("LeftForeArm", (25, 0, 0)),
    "RightShoulder": ("Spine1", (-3, 22, 0)),
    "RightArm": ("RightShoulder", (-14, 0, 0)),
    "RightForeArm": ("RightArm", (-28, 0, 0)),
    "RightHand": ("RightForeArm", (-25, 0, 0)),
    "LeftUpLeg": ("Hips", (10, -2, 0)),
    "LeftLeg": ("LeftUpLeg", (0, -42, 0)),
    "LeftFoot": ("LeftLeg", (0, -41, 0)),
    "LeftToeBase": ("LeftFoot", (0, -6, 13)),
    "RightUpLeg": ("Hips", (-10, -2, 0)),
    "RightLeg": ("RightUpLeg", (0, -42, 0)),
    "RightFoot": ("RightLeg", (0, -41, 0)),
    "RightToeBase": ("RightFoot", (0, -6, 13)),
}
BIOVISION = {
    "Spine1": "Chest",
    "LeftShoulder": "LeftCollar", "LeftArm": "LeftShoulder", "LeftForeArm": "LeftElbow",
    "LeftHand": "LeftWrist",
    "RightShoulder": "RightCollar", "RightArm": "RightShoulder", "RightForeArm": "RightElbow",
    "RightHand": "RightWrist", "LeftUpLeg": "LeftHip", "LeftLeg": "LeftKnee", "LeftFoot": "LeftAnkle",
    "LeftToeBase": "LeftToe", "RightUpLeg": "RightHip", "RightLeg": "RightKnee", "RightFoot": "RightAnkle",
    "RightToeBase": "RightToe",
}  # fmt: skip


def bvh(turns, root=((0, 95, 0),), order="ZXY", names=None, fps=30):
    """A BVH file; `turns` gives Euler angles (frames x 3, degrees, in `order`) by bone, 0 by default."""
    names = names or {}
    frames = max([len(v) for v in turns.values()] + [len(root), 2])
    children = {name: [c for c, (parent, _) in BONES.items() if parent == name] for name in BONES}
    written = []

    def write(name, depth):
        written.append(name)
        pad = "  " * depth
        offset = " ".join(map(str, BONES[name][1]))
        word = "JOINT" if depth else "ROOT"
        position = "Xposition Yposition Zposition " if not depth else ""
        rotation = " ".join(f"{axis}rotation" for axis in order)
        yield f"{pad}{word} {names.get(name, name)}"
        yield f"{pad}{{"
        yield f"{pad}  OFFSET {offset}"
        yield f"{pad}  CHANNELS {6 if not depth else 3} {position}{rotation}"
        for child in children[name]:
            yield from write(child, depth + 1)
        if not children[name]:
            yield f"{pad}  End Site"
            yield f"{pad}  {{"
            yield f"{pad}    OFFSET 0 12 0"
            yield f"{pad}  }}"
        yield f"{pad}}}"

    lines = ["HIERARCHY", *write("Hips", 0), "MOTION", f"Frames: {frames}", f"Frame Time: {1 / fps:.6f}"]
    for i in range(frames):
        row = list(root[min(i, len(root) - 1)])
        for name in written:
            values = turns.get(name, [(0, 0, 0)])
            row += list(values[min(i, len(values) - 1)])
        lines.append(" ".join(f"{v:.6f}" for v in row))
    return "\n".join(lines) + "\n"


ARMS_DOWN = {"LeftArm": [(-80, 0, 0)], "RightArm": [(80, 0, 0)]}


@pytest.fixture(scope="module")
def body():
    return random_body(np.random.default_rng(0))


# --- Retargeting -----------------------------------------------------------------------------------


@pytest.mark.parametrize("activity", [1, 3, 5, 6])
def test_own_movements_come_back(body, activity):
    clip = random_clip(np.random.default_rng(activity), body, 15, activity)
    joints = bone_joints(body, clip.angles)
    again = bone_joints(body, angles_of(body, joints))
    off = {j: np.linalg.norm(again[j] - joints[j], axis=1).mean() for j in joints}
    # The collar bones' own movements are not taken over.
    assert np.mean(list(off.values())) < 25
    assert max(off[f"{s}_{j}"] for s in ("left", "right") for j in ("knee", "ankle")) < 25
    assert outside_limits(angles_of(body, joints)).max() < 1e-6


def test_other_sizes_and_places_give_the_same_angles(body):
    clip = random_clip(np.random.default_rng(2), body, 6, 7)
    joints = bone_joints(body, clip.angles)
    enlarged = {k: 0.01 * v + [3, 5, -2] for k, v in joints.items()}
    np.testing.assert_allclose(angles_of(body, enlarged), angles_of(body, joints), atol=1e-6)


def test_joints_that_are_missing_are_named(body):
    joints = bone_joints(body, np.zeros((2, len(INDEX))))
    del joints["left_knee"]
    with pytest.raises(ValueError, match="joints are missing: left_knee"):
        angles_of(body, joints)


# --- BVH -------------------------------------------------------------------------------------------


def test_places_of_bvh_joints_against_scipy(tmp_path):
    rng = np.random.default_rng(0)
    turns = {name: rng.uniform(-60, 60, (4, 3)) for name in BONES}
    root = rng.uniform(-50, 50, (4, 3))
    path = tmp_path / "wild.bvh"
    path.write_text(bvh(turns, root, "ZYX"))
    motion = read_motion(path)
    assert motion.fps == pytest.approx(30, rel=1e-3)
    for bone, joint in (("LeftHand", "left_wrist"), ("RightToeBase", "right_toe"), ("Spine1", "spine")):
        if bone == "RightToeBase":
            continue  # the file has an end beyond it, which is taken
        for i in range(4):
            place, name = np.zeros(3), bone
            while name != "Hips":
                parent, offset = BONES[name]
                place = Rotation.from_euler("ZYX", turns[parent][i], degrees=True).apply(place + offset)
                name = parent
            np.testing.assert_allclose(motion.joints[joint][i], place + root[i], atol=1e-3)


def test_a_bvh_of_bent_limbs(body, tmp_path):
    """An elbow bent by 70, a knee by 60, a thigh raised by 50; ZXY means x is the second."""
    turns = ARMS_DOWN | {
        "LeftForeArm": [(0, 0, -70)],  # the arm hangs: about its own y, which is forward then
        "LeftUpLeg": [(0, -50, 0)],
        "LeftLeg": [(0, 60, 0)],
    }
    path = tmp_path / "bent.bvh"
    path.write_text(bvh(turns))
    angles = angles_of(body, read_motion(path).joints)[0]
    found = {k: angles[INDEX[f"left_{k}"]] for k in ("elbow", "hip_flex", "knee", "hip_abduct")}
    assert found["elbow"] == pytest.approx(70, abs=3)
    assert found["hip_flex"] == pytest.approx(50, abs=6)
    assert found["knee"] == pytest.approx(60, abs=3)
    assert abs(found["hip_abduct"]) < 5
    assert angles[INDEX["right_knee"]] < 5


@pytest.mark.parametrize(
    "names",
    [
        {},
        {name: f"mixamorig:{name}" for name in BONES},
        {name: name.replace("Left", "L_").replace("Right", "R_") for name in BONES},
        BIOVISION,
    ],
)
def test_bones_of_common_sources_are_known(tmp_path, names):
    path = tmp_path / "walk.bvh"
    path.write_text(bvh(ARMS_DOWN, names=names))
    plain = tmp_path / "plain.bvh"
    plain.write_text(bvh(ARMS_DOWN))
    found, expected = read_motion(path).joints, read_motion(plain).joints
    for joint in ("left_shoulder", "right_elbow", "left_wrist", "right_hip", "left_knee", "neck", "spine"):
        np.testing.assert_array_equal(found[joint], expected[joint])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace("Hips", "ROOT {", 1)[:60], "expected"),
        (lambda t: t[: len(t) // 3], "expected|ends early"),
        (lambda t: t.rsplit(" ", 3)[0], "expected 2 frames of 66 numbers, found 129 numbers"),
        (lambda t: t.replace("Frame Time: 0.033333", "Frame Time: 0"), "duration of a frame"),
        (lambda t: t.replace("OFFSET 0 10 0", "OFFSET 0 ten 0"), "expected a number, found 'ten'"),
        (lambda t: t.replace("LeftUpLeg", "Flipper"), "no bones that begin at: left_hip"),
        (lambda t: t.replace("95.000000", "nan"), "not finite"),
        (lambda t: t.replace("95.000000", "high"), "other than numbers"),
        (lambda t: t.replace("Xrotation", "Wrotation", 1), "unknown channel 'Wrotation' of 'Hips'"),
        (lambda t: "", "expected a BVH file"),
    ],
)
def test_damaged_bvh_files_are_refused_by_name(tmp_path, change, message):
    path = tmp_path / "spoilt.bvh"
    path.write_text(change(bvh(ARMS_DOWN)))
    with pytest.raises(ValueError, match=rf"^{path}: .*({message})"):
        read_motion(path)


# --- DeepMimic -------------------------------------------------------------------------------------


def deepmimic(frames=20, knee=-1.0):
    """A clip: standing, the right knee bent, turning to the left."""
    rows = []
    for i in range(frames):
        half = np.radians(90 * i / frames) / 2
        row = [1 / 30, 0, 0.9, 0, np.cos(half), 0, np.sin(half), 0]
        for numbers in (4, 4, 4, 1, 4, 4, 1, 4, 1, 4, 4, 1):
            row += [1, 0, 0, 0] if numbers == 4 else [0]
        row[8 + 12] = knee  # after chest, neck and hip
        rows.append(row)
    return {"Loop": "wrap", "Frames": rows}


def test_deepmimic_clips(body, tmp_path):
    path = tmp_path / "humanoid.txt"
    path.write_text(json.dumps(deepmimic()))
    motion = read_motion(path)
    assert motion.fps == pytest.approx(30)
    angles = angles_of(body, motion.joints)
    assert angles[0, INDEX["right_knee"]] == pytest.approx(np.degrees(1), abs=2)
    assert angles[0, INDEX["left_knee"]] < 3
    yaw = angles[:, INDEX["yaw"]]
    assert yaw[-1] - yaw[0] == pytest.approx(85.5, abs=1)
    # Its x axis is forward, ours is to the left.
    assert yaw[0] == pytest.approx(90, abs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {"Frame": []}, "has a list of Frames"),
        (lambda d: [1, 2], "has a list of Frames"),
        (lambda d: d | {"Frames": [d["Frames"][0][:-1]] * 3}, "frame 0: expected 44 numbers"),
        (lambda d: d | {"Frames": [d["Frames"][0], ["x"] * 44]}, "frame 1: expected 44 numbers"),
        (lambda d: d | {"Frames": [[0] + d["Frames"][0][1:]] * 3}, "duration of a frame"),
        (lambda d: d | {"Frames": [d["Frames"][0][:4] + [0] * 40] * 3}, "a rotation is all zeros"),
        (lambda d: d | {"Frames": d["Frames"][:1]}, "at least 2 frames, found 1"),
    ],
)
def test_damaged_clips_are_refused_by_name(tmp_path, change, message):
    path = tmp_path / "spoilt.json"
    path.write_text(json.dumps(change(deepmimic())))
    with pytest.raises(ValueError, match=rf"^{path}: .*{message}"):
        read_motion(path)


# --- Clips and data sets -----------------------------------------------------------------------------


def test_clips_stand_on_the_floor(body, tmp_path):
    swing = [(0, -30 * np.sin(i / 3), 0) for i in range(60)]
    other = [(0, 30 * np.sin(i / 3), 0) for i in range(60)]
    root = [(0, 95, 4 * i) for i in range(60)]
    path = tmp_path / "walk.bvh"
    path.write_text(bvh(ARMS_DOWN | {"LeftUpLeg": swing, "RightUpLeg": other}, root))
    motion = read_motion(path)
    clip = recorded_clip(np.random.default_rng(0), body, motion, 40)
    assert clip.angles.shape == (40, len(INDEX)) and clip.action == "walk" and clip.activity == 7
    low = heights(body, body.rigged(clip.angles, clip.root_mm))
    assert low.min() > -1 and np.median(low) < 5
    assert np.hypot(*np.ptp(clip.root_mm[:, [0, 2]], axis=0)) > 300, "they walk"
    same = recorded_clip(np.random.default_rng(0), body, motion, 40)
    np.testing.assert_array_equal(same.angles, clip.angles)
    # A shorter motion than the clip wants is sampled more finely.
    assert len(recorded_clip(np.random.default_rng(0), body, motion, 200).angles) == 200


def test_jumps_leave_the_floor(body, tmp_path):
    root = [(0, 95 + max(0, 50 - 0.5 * (i - 15) ** 2), 0) for i in range(30)]
    path = tmp_path / "jump.bvh"
    path.write_text(bvh(ARMS_DOWN, root))
    clip = recorded_clip(np.random.default_rng(1), body, read_motion(path), 25)
    low = heights(body, body.rigged(clip.angles, clip.root_mm))
    assert low.max() > 300 and np.percentile(low, 20) < 5


def test_folders_of_motions(tmp_path):
    with pytest.raises(ValueError, match="no such file or folder of motions"):
        find_motions(tmp_path / "none")
    with pytest.raises(ValueError, match=r"found no motion files \(\.bvh, \.json, \.txt\)"):
        find_motions(tmp_path)
    (tmp_path / "deep").mkdir()
    for name in ("b.bvh", "deep/a.BVH", "notes.md"):
        (tmp_path / name).write_text("")
    assert [p.name for p in find_motions(tmp_path)] == ["b.bvh", "a.BVH"]
    assert find_motions(tmp_path / "b.bvh") == [tmp_path / "b.bvh"]


def test_data_sets_show_motions_from_files(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/stroll.bvh").write_text(bvh(ARMS_DOWN, [(0, 95, 2 * i) for i in range(90)]))
    make_synthetic(tmp_path / "d", 100, size=32, motions=tmp_path / "m")
    actions = []
    for path in (tmp_path / "d").rglob("truth.h5"):
        with h5py.File(path) as file:
            actions.append(json.loads(file.attrs["parameters"])["action"])
    assert "stroll" in actions and set(actions) != {"stroll"}
    (tmp_path / "m/bad.bvh").write_text("HIERARCHY\nROOT")
    with pytest.raises(ValueError, match=r"bad\.bvh: the file ends early"):
        make_synthetic(tmp_path / "e", 3, size=32, motions=tmp_path / "m")
    assert not (tmp_path / "e").exists()
