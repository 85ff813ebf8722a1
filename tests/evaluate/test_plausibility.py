"""Predictions that are not what they are stated to be are asked about."""

import numpy as np
import pytest

from margipose.camera import project
from margipose.evaluate import get_protocol
from margipose.evaluate.matching import identify
from margipose.evaluate.predictions import Predictions, score_predictions
from margipose.skeleton import CANONICAL, MPII
from tests.evaluate.guesses import GUESS, RECORDS, TRUTH, predictions, scored
from tests.evaluate.made import mpii_records

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
