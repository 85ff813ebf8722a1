"""Whose each predicted pose is."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from margipose.data import load_records
from margipose.evaluate import score_records
from margipose.evaluate.matching import identify, match
from margipose.evaluate.predictions import score_predictions
from tests.evaluate.guesses import GUESS, PROTOCOL, RECORDS, predictions, scored
from tests.evaluate.made import ACTIONS, h36m_records, mpii_records


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


def test_images_that_were_not_named_are_missing():
    """Several of them: none of these rows has a number that would tell it from the others."""
    images = np.array([str(p) for p in RECORDS.images])
    kept = np.setdiff1d(np.arange(96), [3, 50, 51])
    for ids in (
        {"image": images[kept]},
        {"image": images[kept], "camera": RECORDS.ids["camera"][kept]},
    ):
        found = match(ids, RECORDS, allow_missing=True)
        np.testing.assert_array_equal(found.rows, kept)
        np.testing.assert_array_equal(found.poses, np.arange(93))
        assert (found.missing, found.unused) == (3, 0)
        with pytest.raises(ValueError, match="only 93 of 96 poses of h36m/test have a prediction"):
            match(ids, RECORDS)


@pytest.mark.parametrize("allow_missing", [False, True])
def test_a_name_of_each_side_is_shown_if_no_image_is_the_same(allow_missing):
    images = np.array([f"frames/{p.name}" for p in RECORDS.images[:2]])
    with pytest.raises(
        ValueError,
        match=r"no pose of h36m/test has a prediction.*No image is called 'frames/img_000001\.jpg'; "
        r"the first of h36m/test is S9/Directions-1/54138969/img_000001\.jpg",
    ):
        match({"image": images}, RECORDS, allow_missing=allow_missing)


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


@pytest.mark.parametrize("kind", [int, str])
def test_a_frame_before_the_first_is_asked_about_though_nothing_is_missing(kind):
    """Every frame, counted from 0: those that are scored are there, each as that before it."""
    every = h36m_records(frames=range(140))
    moved = {**every.ids, "frame": every.ids["frame"].astype(kind)}
    made = predictions(every.joints_cam_mm.numpy(), ids=moved)
    records = dataclasses.replace(
        h36m_records(), joints_cam_mm=every.joints_cam_mm[np.isin(every.ids["frame"], (0, 64, 128))]
    )
    question = (
        r"Do its frames count from 0 instead of 1\? One is frame 0, and those of h36m/test count from 1"
    )
    with pytest.raises(ValueError, match=f"^predictions: {question}; if its frames are as stated"):
        score_predictions(made, records, PROTOCOL)
    assert len(score_predictions(made, records, PROTOCOL, check=False).records) == 96
    # Nor does it matter whether some are missing as well.
    kept = np.flatnonzero(every.ids["frame"] < 128)
    fewer = predictions(every.joints_cam_mm[kept].numpy(), ids={k: v[kept] for k, v in moved.items()})
    with pytest.raises(ValueError, match=rf"only 64 of 96 poses .* unchecked\. {question}"):
        score_predictions(fewer, records, PROTOCOL, allow_missing=True)
    # Other sets may have a frame 0.
    other = dataclasses.replace(records, name="custom/test")
    assert match(moved, other, check=True).missing == 0


def test_of_two_other_numbers_of_frames_the_one_that_finds_more_is_asked_about():
    """Each finds more than the frames as stated, which find none."""
    records = h36m_records(frames=(1, 3, 5, 7))
    for frames, question in (
        ((2, 4, 6, 8), "1 instead of 0. Then 128 of 128"),
        ((0, 2, 4, 6), "0 instead of 1. Then 128 of 128"),
    ):
        ids = h36m_records(frames=frames).ids
        with pytest.raises(ValueError, match=f"no pose of .*Do its frames count from {question}"):
            match(ids, records)


@pytest.mark.parametrize("kind", [int, str])
def test_numbers_are_names_where_a_column_has_names(kind, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((9, 9, 3), np.uint8))
    joints = {"pelvis": [0, 0, 3000], "neck": [0, -500, 3000]}
    person = {"image": "a.png", "joints_cam_mm": joints, "camera": [9, 9, 4, 4], "split": "test"}
    people = [{**person, "subject": name} for name in ("10", 2, "x")]
    (tmp_path / "annotations.json").write_text(
        json.dumps({"format": "margipose-custom", "version": 1, "samples": people})
    )
    records = load_records("custom", tmp_path, "test")
    found = match({"subject": np.array([2, 0, 10, 1], kind)}, records, allow_missing=True)
    assert (found.rows.tolist(), found.poses.tolist()) == ([0, 1], [2, 0])
    assert (found.missing, found.unused) == (1, 2)
