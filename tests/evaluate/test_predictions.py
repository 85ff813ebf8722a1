"""Predictions from anywhere: what has to be stated about them, and their scores."""

import dataclasses

import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.evaluate import get_protocol, score_records
from margipose.evaluate.matching import identify
from margipose.evaluate.predictions import Predictions, predictions_of, score_predictions
from margipose.skeleton import CANONICAL, MPII
from tests.evaluate.guesses import GUESS, PROTOCOL, RECORDS, TRUTH, predictions, scored
from tests.evaluate.made import h36m_records, mpii_records, noise

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
