"""Predictions from anywhere: their names, their rows, their plausibility, and their scores."""

import dataclasses

import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.evaluate import get_protocol, score_records
from margipose.evaluate.joint_names import ORDERS, canonical_joints, canonical_name
from margipose.evaluate.matching import identify, match
from margipose.evaluate.predictions import Predictions, predictions_of, score_predictions
from margipose.skeleton import CANONICAL, H36M, MPII, SKELETONS
from tests.evaluate.made import ACTIONS, h36m_records, mpii_records, noise

PROTOCOL = get_protocol("h36m")
RECORDS = h36m_records()
TRUTH = RECORDS.joints_cam_mm.numpy()
GUESS = TRUTH + noise(len(RECORDS), 30)


def predictions(joints=GUESS, ids=RECORDS.ids, **changes):
    stated = {"joint_names": CANONICAL.joints, "unit": "mm", "space": "camera", "ids": ids}
    return Predictions(joints, **(stated | changes))


def scored(made, **options):
    return score_predictions(made, RECORDS, PROTOCOL, **options)


# --- Joint names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("joint", "spellings"),
    [
        (
            "left_hip",
            ["left_hip", "LeftHip", "LHip", "l.hip", "hip_l", "L_HIP", "lhip", "left hip", "HipLeft"],
        ),
        ("right_wrist", ["r_wrist", "RWrist", "rwrist", "RIGHT_WRIST", "Wrist.R"]),
        ("right_elbow", ["RElbow", "right-elbow"]),
        ("pelvis", ["pelvis", "Hip", "hips", "root", "MidHip", "hip_centre"]),
        ("head_top", ["head_top", "HeadTop", "top_of_head", "top head"]),
        ("neck", ["neck", "upper_neck"]),
        (None, ["thorax", "RFoot", "nose", "left", "l", "", "left_right_hip", "left_pelvis", "leftover"]),
    ],
)
def test_names_are_read_as_people_write_them(joint, spellings):
    assert {s: canonical_name(s) for s in spellings} == dict.fromkeys(spellings, joint)


def test_every_skeleton_names_its_canonical_joints_as_they_are():
    for skeleton in SKELETONS.values():
        for joint in skeleton.joints:
            assert canonical_name(joint) == (joint if joint in CANONICAL else None), joint


def test_joints_are_taken_by_name_in_any_order():
    order = np.random.default_rng(0).permutation(17)
    names = [CANONICAL.joints[i] for i in order]
    found = canonical_joints(torch.from_numpy(GUESS[:, order]), names)
    np.testing.assert_array_equal(found.numpy(), GUESS)
    fewer = canonical_joints(torch.from_numpy(GUESS[:, :3]), CANONICAL.joints[:3])
    assert fewer[:, 3:].isnan().all()
    np.testing.assert_array_equal(fewer[:, :3].numpy(), GUESS[:, :3])


def test_the_usual_17_of_human36m_are_those_of_its_32():
    kept = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]  # as the literature selects them
    assert ORDERS["h36m_17"] == tuple(H36M.joints[i] for i in kept)
    joints = torch.randn(4, 32, 3, dtype=torch.float64)
    torch.testing.assert_close(
        canonical_joints(joints[:, kept], "h36m_17"), canonical_joints(joints, "h36m"), rtol=0, atol=0
    )


def test_orders_of_2d_sets_derive_what_they_lack():
    joints = torch.randn(4, 16, 2, dtype=torch.float64)
    found = canonical_joints(joints, "mpii")
    spine = 0.53 * joints[:, MPII.index("spine")] + 0.47 * joints[:, MPII.index("pelvis")]
    torch.testing.assert_close(found[:, CANONICAL.index("spine")], spine)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("h36m_16", "unknown order of joints 'h36m_16'; did you mean 'h36m_17'"),
        (["LHip", "left_hip", *"abcdefghijklmno"], "'LHip' and 'left_hip' are both left_hip; which is it"),
        (list("abcdefghijklmnopq"), "none of a, b, c, .* is known"),
    ],
)
def test_refuses_names_that_do_not_say_which_joint(names, message):
    with pytest.raises(ValueError, match=message):
        predictions(joint_names=names).canonical()


# --- What is stated ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": None}, r"joints in mm or m\? The unit is not stated, and poses span 1\.\d+e\+03"),
        ({"space": None}, "in camera or root_relative coordinates"),
        ({"space": "world"}, "bring poses there from world coordinates"),
        ({"space": "image"}, "space: expected 'camera', 'root_relative' for joints of 3 coordinates"),
        ({"unit": "px"}, "unit: expected 'mm', 'm' for joints of 3"),
        ({"unit": "m", "joints": GUESS[..., :2]}, "unit: expected 'px' for joints of 2 coordinates, got 'm'"),
        ({"scale": "huge"}, "scale: expected 'metric', 'universal'"),
        ({"joints": GUESS[:, :16]}, "poses have 16 joints, there are names for 17: which joints are they"),
        ({"joint_names": "h36m"}, "poses have 17 joints, 'h36m' has 32"),
        ({"joints": GUESS[0]}, r"expected joints N x J x 3 \(or 2\), got shape \(17, 3\)"),
        ({"joints": GUESS[:0], "ids": {}}, "expected joints N x J x 3"),
        ({"joints": [[[1, 2, 3], [1, 2]]]}, "all poses alike"),
        ({"ids": {"frame": [1, 2]}}, r"id 'frame': expected 96 whole numbers or names, got .* \(2,\)"),
        ({"ids": {"frame": np.arange(96) + 0.5}}, "id 'frame': expected 96 whole numbers"),
    ],
)
def test_asks_for_what_is_not_stated(changes, message):
    with pytest.raises(ValueError, match=f"^a file: .*{message}"):
        predictions(changes.pop("joints", GUESS), source="a file", **changes)


# --- Matching ---------------------------------------------------------------------------------------


def test_rows_are_matched_in_any_order_and_others_left_over():
    more = h36m_records(frames=(1, 33, 65, 97, 129))
    order = np.random.default_rng(0).permutation(len(more))
    found = match({k: v[order] for k, v in more.ids.items()}, RECORDS)
    assert (found.missing, found.unused) == (0, len(more) - len(RECORDS))
    np.testing.assert_array_equal(found.rows, np.arange(len(RECORDS)))
    for column, values in RECORDS.ids.items():
        np.testing.assert_array_equal(more.ids[column][order][found.poses], values)


def test_ids_may_be_names_or_images():
    ids = dict(RECORDS.ids)
    ids["action"] = np.array([ACTIONS[a] for a in ids["action"]])
    ids["subject"] = np.array([f"S{s}" for s in ids["subject"]])
    ids["camera"] = ids["camera"].astype(str)
    np.testing.assert_array_equal(match(ids, RECORDS).poses, np.arange(96))
    images = np.array([str(p) for p in RECORDS.images])
    np.testing.assert_array_equal(match({"image": images}, RECORDS).poses, np.arange(96))
    windows = np.array([rf".\{p}".replace("/", "\\") for p in images])
    np.testing.assert_array_equal(match({"image": windows}, RECORDS).poses, np.arange(96))


def test_what_is_saved_identifies_every_row():
    ids = identify(RECORDS)
    assert list(ids) == ["subject", "action", "subaction", "camera", "frame"]
    assert set(ids["action"]) == set(ACTIONS.values())
    np.testing.assert_array_equal(match(ids, RECORDS).poses, np.arange(96))
    bare = dataclasses.replace(RECORDS, ids={}, id_names={})
    assert list(identify(bare)) == ["image"]
    np.testing.assert_array_equal(match(identify(bare), RECORDS).poses, np.arange(96))
    people = mpii_records()
    np.testing.assert_array_equal(match(identify(people), people).poses, np.arange(len(people)))
    with pytest.raises(ValueError, match=r"nothing tells the people in images/00000\.jpg apart"):
        identify(dataclasses.replace(people, ids={}))


def without(*columns):
    return {k: v for k, v in RECORDS.ids.items() if k not in columns}


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ({}, "whose is which prediction.*subject, action, subaction, camera, frame, image"),
        ({**RECORDS.ids, "person": np.zeros(96, int)}, "h36m/test has no id 'person'; its rows have subject"),
        (without("camera"), "ids .* do not tell rows .* apart, such as .*; add camera"),
        (
            {**RECORDS.ids, "frame": np.where(RECORDS.ids["frame"] == 65, 1, RECORDS.ids["frame"])},
            "which prediction of subject 9, .*frame 1 counts. Rows 0 and 1 .from 0. are both of it",
        ),
        (
            {**RECORDS.ids, "frame": RECORDS.ids["frame"] - 1},
            "no pose of h36m/test has a prediction.*count from 0 instead of 1. Then 96 of 96",
        ),
        (
            {**RECORDS.ids, "action": np.where(RECORDS.ids["action"] == 2, "Directions", "Discusion")},
            "only 48 of 96 poses .* first without one is subject 9, action Discussion, .*"
            "No action is called 'Discusion'; there are Directions, Discussion",
        ),
        ({"image": np.array([p.name for p in RECORDS.images])}, r"which image is 'img_000001\.jpg'"),
        ({"image": np.array([str(p) for p in RECORDS.images[:95]] + ["x.jpg"])}, "only 95 of 96 poses"),
    ],
)
def test_asks_if_rows_are_not_told_apart(ids, message):
    with pytest.raises(ValueError, match=f"^predictions: .*{message}"):
        match(ids, RECORDS)


def test_one_image_under_two_names_is_doubled():
    path = RECORDS.images[0]
    images = np.array([str(path), "/".join(path.parts[1:])])
    with pytest.raises(ValueError, match=r"which prediction of .* counts"):
        match({"image": images}, RECORDS.select([0]))


def test_missing_predictions_are_left_out_only_if_that_is_allowed():
    kept = np.setdiff1d(np.arange(96), [3, 50])
    fewer = predictions(GUESS[kept], {k: v[kept] for k, v in RECORDS.ids.items()})
    with pytest.raises(ValueError, match="only 94 of 96 poses of h36m/test have a prediction"):
        scored(fewer)
    result = scored(fewer, allow_missing=True)
    assert len(result.records) == 94
    np.testing.assert_array_equal(result.records.ids["frame"], RECORDS.ids["frame"][kept])
    expected = score_records(torch.from_numpy(GUESS[kept]), RECORDS.select(kept), PROTOCOL)
    for metric, values in expected.values.items():
        np.testing.assert_array_equal(result.values[metric], values)
    with pytest.raises(ValueError, match="no pose of h36m/test has a prediction"):
        scored(predictions(ids={**RECORDS.ids, "subject": RECORDS.ids["subject"] - 8}), allow_missing=True)


def test_frames_that_count_from_another_number_are_not_merely_missing():
    """Every frame of a video, counted from 0: all but the first would be taken for their neighbours."""
    records = h36m_records(frames=tuple(range(1, 9)))
    every = dataclasses.replace(PROTOCOL, stride=1)
    moved = {**records.ids, "frame": records.ids["frame"] - 1}
    made = predictions(records.joints_cam_mm.numpy(), ids=moved)
    for options in ({}, {"allow_missing": True}):
        with pytest.raises(
            ValueError, match=r"only 224 of 256 .*count from 0 instead of 1\? Then 256 of 256"
        ):
            score_predictions(made, records, every, **options)
    found = score_predictions(made, records, every, allow_missing=True, check=False)
    assert len(found.records) == 224


# --- Scores -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["mm", "m"])
@pytest.mark.parametrize("space", ["camera", "root_relative"])
def test_scores_do_not_depend_on_order_names_unit_or_origin(unit, space):
    expected = score_records(torch.from_numpy(GUESS), RECORDS, PROTOCOL)
    order, joint_order = np.random.default_rng(3).permutation(96), np.random.default_rng(4).permutation(17)
    joints = GUESS[order][:, joint_order]
    if space == "root_relative":
        joints = joints - joints[:, [list(joint_order).index(CANONICAL.index("pelvis"))]]
    result = scored(
        predictions(
            joints / (1000 if unit == "m" else 1),
            {k: v[order] for k, v in RECORDS.ids.items()},
            joint_names=[CANONICAL.joints[j].title().replace("_", "") for j in joint_order],
            unit=unit,
            space=space,
            scale="metric",
        )
    )
    for metric, values in expected.values.items():
        np.testing.assert_allclose(result.values[metric], values, rtol=0, atol=1e-9)
    assert result.overall().values["mpjpe"] == pytest.approx(
        np.linalg.norm((GUESS - GUESS[:, 14:15]) - (TRUTH - TRUTH[:, 14:15]), axis=-1).mean()
    )  # 14 is the pelvis


def test_poses_of_an_evaluation_score_as_they_did():
    first = score_records(torch.from_numpy(GUESS), RECORDS, PROTOCOL)
    saved = predictions_of(first)
    assert (saved.unit, saved.space, saved.scale) == ("mm", "camera", "metric")
    again = scored(saved)
    for metric, values in first.values.items():
        np.testing.assert_array_equal(again.values[metric], values)


def test_the_protocol_selects():
    more = h36m_records(frames=(1, 33, 65, 97, 129))
    joints = more.joints_cam_mm.numpy() + noise(len(more), 30)
    made = predictions(joints, more.ids)
    result = score_predictions(made, more, PROTOCOL)
    assert set(result.records.ids["frame"]) == {1, 65, 129}
    one = score_predictions(made, more, get_protocol("h36m_s11"))
    assert set(one.records.ids["subject"]) == {11}


def test_2d_predictions_are_scored_in_pixels():
    records, protocol = mpii_records(), get_protocol("mpii")
    truth = project(records.joints_cam_mm, records.intrinsics).numpy()
    off = truth + [19.0, 0.0]
    off[3, MPII.index("left_wrist")] = 1e4  # not labelled
    made = Predictions(off, "mpii", "px", "image", identify(records))
    assert score_predictions(made, records, protocol).overall().values["pckh"] == 1
    off[:, MPII.index("left_knee")] += [2.0, 0.0]  # 21 px are more than half a head of 40 px
    joints = score_predictions(dataclasses.replace(made, joints=off), records, protocol).scores.by_joint(
        "pckh"
    )
    assert joints == {j: 0.0 if j == "left_knee" else 1.0 for j in protocol.joints}
    with pytest.raises(ValueError, match="joints have 3 coordinates; protocol mpii scores positions in the"):
        score_predictions(predictions(), records, protocol)
    with pytest.raises(ValueError, match="joints have 2 coordinates; protocol h36m scores 3D poses"):
        scored(made)


def test_joints_that_are_not_scored_may_be_missing():
    protocol = get_protocol("h36m_s11")  # 14 joints, and the pelvis
    names = [j for j in CANONICAL.joints if j not in ("spine", "head")]
    result = scored(predictions())
    some = predictions(GUESS[:, CANONICAL.indices(names)], joint_names=names)
    score_predictions(some, RECORDS, protocol)
    with pytest.raises(ValueError, match=r"h36m needs joints spine, head, which were not predicted$"):
        scored(some)
    aligned = dataclasses.replace(PROTOCOL, joints=protocol.joints)
    plain = score_predictions(some, RECORDS, aligned)  # what needs no alignment is scored all the same
    assert [m.name for m in plain.protocol.metrics] == ["mpjpe", "pck", "auc"]
    whole = score_predictions(predictions(), RECORDS, aligned)
    for metric in plain.protocol.metrics:
        assert plain.overall().values[metric.name] == whole.overall().values[metric.name]
    assert "P-MPJPE" in plain.protocol.about
    assert "spine, head, too, which were not predicted" in plain.protocol.about
    names = ["Thorax" if j == "neck" else j for j in CANONICAL.joints]
    with pytest.raises(ValueError, match="needs joints neck, which were not predicted; what are 'Thorax'"):
        scored(predictions(joint_names=names))
    assert result.overall().count == 96


def test_joints_that_are_not_finite_are_named():
    broken = GUESS.copy()
    broken[7, CANONICAL.index("left_knee"), 1] = np.nan
    broken[9, 0] = np.inf
    with pytest.raises(
        ValueError,
        match=r"left_knee of subject 9, action Directions, subaction 1, camera 58860488, frame 65 is not "
        r"finite \(.*nan.*\), and 1 more pose is like this; leave",
    ):
        scored(predictions(broken))


def test_scale_must_be_the_protocols():
    with pytest.raises(ValueError, match="at universal scale, protocol h36m compares at metric scale"):
        scored(predictions(scale="universal"))


def test_degenerate_poses_have_a_result_if_they_are_not_asked_about():
    flat = np.zeros_like(GUESS)
    made = predictions(flat, space="root_relative")
    with pytest.raises(ValueError, match="0 times as large as the labels: in which unit"):
        scored(made)
    values = scored(made, check=False).overall().values
    relative = TRUTH - TRUTH[:, [CANONICAL.index("pelvis")]]
    assert values["mpjpe"] == pytest.approx(np.linalg.norm(relative, axis=-1).mean())
    assert np.isfinite(list(values.values())).all()


# --- Plausibility -----------------------------------------------------------------------------------

ROOT = CANONICAL.index("pelvis")
RELATIVE = GUESS - GUESS[:, [ROOT]]
SIDES = CANONICAL.indices(CANONICAL.mirrors)


def world(joints):
    """As one rotation and translation for each subject and camera would have it, z up."""
    out = np.empty_like(joints)
    for i, subject in enumerate((9, 11)):
        for j, camera in enumerate(sorted(set(RECORDS.ids["camera"]))):
            rows = (RECORDS.ids["subject"] == subject) & (RECORDS.ids["camera"] == camera)
            a = 0.7 + i + 1.6 * j
            turn = np.array([[np.cos(a), 0, -np.sin(a)], [np.sin(a), 0, np.cos(a)], [0, -1, 0]])
            out[rows] = (joints[rows] - (0, 0, 4500)) @ turn.T + (0, 0, 900)
    return out


@pytest.mark.parametrize(
    ("joints", "changes", "question"),
    [
        (GUESS / 1000, {}, r"bodies are 0\.001 times as large as the labels: are they in m rather than mm"),
        (GUESS, {"unit": "m"}, r"bodies are 1e\+03 times .* are they in mm rather than m"),
        (GUESS / 10, {}, "are they in cm rather than mm"),
        (RELATIVE / 500, {"space": "root_relative"}, "in which unit are they"),
        (RELATIVE, {}, "at the camera or behind it: are they relative to the root"),
        (GUESS * (1, 1, -1), {}, "96 of 96 poses lie at the camera or behind it"),
        (world(GUESS), {}, "(body sizes away from the labels|at the camera or behind).*in world coordinates"),
        (GUESS + (4000, 0, 0), {}, "body sizes away from the labels: .* of another camera"),
        (world(RELATIVE), {"space": "root_relative"}, "one rotation for each camera: .* world coordinates"),
        (RELATIVE * (1, -1, 1), {"space": "root_relative"}, r"better with \(x, -y, z\) for \(x, y, z\)"),
        (RELATIVE[..., [0, 2, 1]] * (1, 1, -1), {"space": "root_relative"}, r"with \(x, -z, y\)"),
        (GUESS[:, SIDES], {}, "with left and right exchanged"),
        (
            GUESS,
            {"joint_names": "h36m_17"},
            "in another order: what is called head_top lies where right_ankle should; in which order",
        ),
    ],
)
def test_asks_if_predictions_look_like_something_else(joints, changes, question):
    made = predictions(joints, **changes)
    with pytest.raises(ValueError, match=f"^predictions: .*{question}.*score the predictions unchecked"):
        scored(made)
    assert scored(made, check=False).overall().count == 96


@pytest.mark.parametrize("bad", ["noise", "mean", "small", "near", "tilted", "depth"])
def test_bad_predictions_are_scored_without_questions(bad):
    rng = np.random.default_rng(8)
    relative, root = TRUTH - TRUTH[:, [ROOT]], TRUTH[:, [ROOT]]
    a = 0.5
    tilt = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    joints = {
        "noise": TRUTH + rng.normal(0, 200, TRUTH.shape),
        "mean": relative.mean(0) + root,
        "small": 0.5 * relative + root,
        "near": 0.6 * TRUTH,
        "tilted": relative @ tilt.T + root,
        # Half of the people the wrong way round, as a network may see them.
        "depth": relative * np.where(rng.random((96, 1, 1)) < 0.5, 1, (1, 1, -1)) + root,
    }[bad]
    assert scored(predictions(joints)).overall().values["mpjpe"] > 80


def test_asks_about_2d_predictions_that_are_not_in_the_images_pixels():
    records, protocol = mpii_records(), get_protocol("mpii")
    truth = project(records.joints_cam_mm, records.intrinsics).numpy()
    mirrored = truth[:, MPII.indices(MPII.mirrors)]
    corner = truth.min(1, keepdims=True)
    for joints, question in (
        (truth / 1000, "normalised, or pixels of a crop"),
        (truth - corner + [-500, 1200], "of a crop or a resized image"),
        (mirrored, "left and right exchanged"),
    ):
        made = Predictions(joints, "mpii", "px", "image", identify(records))
        with pytest.raises(ValueError, match=question):
            score_predictions(made, records, protocol)
