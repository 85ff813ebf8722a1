"""Comparisons of two predictions, their curves and their pictures."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.draw import COLOURS
from margipose.evaluate import get_protocol, render, score_records
from margipose.evaluate.compare import (
    compare,
    compare_predictions,
    comparison_document,
    comparison_table,
    extremes_table,
)
from margipose.evaluate.curves import pck_curve
from margipose.evaluate.pictures import extreme_picture
from margipose.evaluate.predictions import predictions_of
from margipose.skeleton import CANONICAL
from tests.evaluate.made import h36m_records, mpii_records, noise

PROTOCOL = get_protocol("h36m")
RECORDS = h36m_records()
TRUTH = RECORDS.joints_cam_mm.numpy()
PELVIS, WRIST = CANONICAL.index("pelvis"), CANONICAL.index("left_wrist")


def evaluation(joints, records=RECORDS, protocol=PROTOCOL):
    return score_records(torch.as_tensor(joints), records, protocol)


@pytest.fixture(scope="module")
def pair():
    """The second is as the first, but for a wrist that is worse while people discuss, and better else."""
    first = TRUTH + noise(96, 40)
    second = first.copy()
    error = first[:, WRIST] - TRUTH[:, WRIST] - (first[:, PELVIS] - TRUTH[:, PELVIS])
    factor = np.where(RECORDS.ids["action"] == 3, 3.0, 0.5)[:, None]
    second[:, WRIST] += (factor - 1) * error
    return evaluation(first), evaluation(second)


def cells(table, section, group):
    (row,) = [r for r in table.rows if r["section"] == section and r["group"] == group]
    return row


def test_differences_are_those_of_the_values(pair):
    first, second = pair
    table = comparison_table(compare(first, second), "mpjpe")
    a, b = first.values["mpjpe"], second.values["mpjpe"]
    row = cells(table, "all", "all")
    assert (row["poses"], row["first"], row["second"]) == (
        96,
        pytest.approx(a.mean()),
        pytest.approx(b.mean()),
    )
    assert row["difference"] == pytest.approx((b - a).mean())
    assert (row["second_better"], row["first_better"]) == (0.5, 0.5)
    for action, name in ((2, "Directions"), (3, "Discussion")):
        here = RECORDS.ids["action"] == action
        row = cells(table, "action", name)
        assert row["difference"] == pytest.approx((b - a)[here].mean())
        assert row["second_better"] == (action == 2)
        low, high = row["difference_interval"]
        assert low <= row["difference"] <= high
        assert (high < 0) if action == 2 else (low > 0), "a paired difference is certain where it is constant"
    mean = cells(table, "action", "mean over action")
    assert mean["difference"] == pytest.approx(
        np.mean([(b - a)[RECORDS.ids["action"] == k].mean() for k in (2, 3)])
    )
    joints = {r["group"]: r["difference"] for r in table.rows if r["section"] == "joints"}
    assert list(joints) == list(CANONICAL.joints)
    changed = {j for j, d in joints.items() if abs(d) > 1e-9}
    assert changed == {"left_wrist"}
    assert joints["left_wrist"] / 17 == pytest.approx((b - a).mean())


def test_intervals_resample_sequences_of_paired_differences(pair):
    """Against a loop over resamples, drawn as the bootstrap draws them."""
    first, second = pair
    change = second.values["mpjpe"] - first.values["mpjpe"]
    names, sequence = np.unique(first.sequence, return_inverse=True)
    draws = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), 1000)
    means = []
    for counts in draws:
        drawn = [change[sequence == s] for s, n in enumerate(counts) for _ in range(n)]
        means.append(np.concatenate(drawn).mean())
    row = cells(comparison_table(compare(first, second), "mpjpe"), "all", "all")
    np.testing.assert_allclose(row["difference_interval"], np.percentile(means, (2.5, 97.5)), rtol=1e-9)


def test_larger_shares_are_better(pair):
    table = comparison_table(compare(*pair), "pck")
    change = pair[1].values["pck"] - pair[0].values["pck"]
    row = cells(table, "all", "all")
    assert row["second_better"] == (change > 0).mean()
    assert row["first_better"] == (change < 0).mean() > 0
    assert "larger values are better" in " ".join(table.notes)
    assert "smaller values are better" in " ".join(comparison_table(compare(*pair)).notes)
    with pytest.raises(ValueError, match="no metric 'pckh'"):
        comparison_table(compare(*pair), "pckh")


def test_nothing_differs_from_itself(pair):
    comparison = compare(pair[0], pair[0], ("ours", "ours again"))
    row = cells(comparison_table(comparison), "all", "all")
    assert (row["difference"], *row["difference_interval"], row["first_better"]) == (0, 0, 0, 0)
    assert comparison.extremes() == ([], [])
    assert "0.0 [0.0, 0.0]" in render(comparison_table(comparison), "text")


def test_tables_and_documents_are_written(pair):
    comparison = compare(*pair, ("old", "new"))
    for how in ("text", "markdown", "latex", "csv", "json"):
        for table in (comparison_table(comparison), extremes_table(comparison)):
            assert render(table, how)
    text = render(comparison_table(comparison), "text")
    line = next(line for line in text.splitlines() if line.startswith("Discussion"))
    assert "+" in line
    assert "−" in next(line for line in text.splitlines() if line.startswith("Directions"))
    document = json.loads(json.dumps(comparison_document(comparison, count=3), allow_nan=False))
    assert set(document["metrics"]) == {m.name for m in PROTOCOL.metrics}
    assert (document["first"], document["second"], len(document["extremes"])) == ("old", "new", 6)


def test_extremes_are_the_largest_changes_of_different_sequences(pair):
    comparison = compare(*pair)
    first, second = comparison.mean_errors()
    np.testing.assert_allclose(first, pair[0].values["mpjpe"])
    worse, better = comparison.extremes(4)
    change = second - first
    assert worse[0].row == change.argmax()
    assert better[0].row == change.argmin()
    assert worse[0].second - worse[0].first == pytest.approx(change.max())
    sequences = [int(comparison.first.sequence[e.row]) for e in worse]
    assert len(set(sequences)) == 4
    for extreme in worse:
        here = comparison.first.sequence == comparison.first.sequence[extreme.row]
        assert change[extreme.row] == change[here].max()
    many = [e.row for e in comparison.extremes(30)[0]]
    assert len(set(many)) == 30, "more than there are sequences"
    assert {int(r) for r in np.argsort(-change)[:20]} <= set(many)
    assert (np.diff(change[many]) <= 0).all()


def test_predictions_are_compared_where_both_are(pair):
    first, second = (predictions_of(e) for e in pair)
    order = np.random.default_rng(0).permutation(96)[:90]
    fewer = dataclasses.replace(
        second, joints=second.joints[order], ids={k: v[order] for k, v in second.ids.items()}
    )
    with pytest.raises(ValueError, match="only 90 of 96 poses"):
        compare_predictions(first, fewer, RECORDS, PROTOCOL)
    comparison = compare_predictions(first, fewer, RECORDS, PROTOCOL, ("A", "B"), allow_missing=True)
    kept = np.sort(order)
    for part, whole in ((comparison.first, pair[0]), (comparison.second, pair[1])):
        assert len(part.records) == 90
        np.testing.assert_allclose(part.values["p_mpjpe"], whole.values["p_mpjpe"][kept])
    half = [
        dataclasses.replace(p, joints=p.joints[s], ids={k: v[s] for k, v in p.ids.items()})
        for p, s in ((first, slice(0, 60)), (second, slice(40, 96)))
    ]
    comparison = compare_predictions(*half, RECORDS, PROTOCOL, allow_missing=True)
    np.testing.assert_allclose(comparison.second.values["mpjpe"], pair[1].values["mpjpe"][40:60])
    np.testing.assert_allclose(comparison.first.values["mpjpe"], pair[0].values["mpjpe"][40:60])
    other = evaluation(TRUTH, RECORDS, get_protocol("h36m_original"))
    with pytest.raises(ValueError, match="protocols h36m and h36m_original cannot be compared"):
        compare(pair[0], other)


def test_predictions_with_and_without_joints_that_are_only_fitted(pair):
    protocol = dataclasses.replace(PROTOCOL, joints=get_protocol("h36m_s11").joints)
    whole, other = (predictions_of(e) for e in pair)
    names = [j for j in CANONICAL.joints if j not in ("spine", "head")]
    part = dataclasses.replace(other, joints=other.joints[:, CANONICAL.indices(names)], joint_names=names)
    for two in ((whole, part), (part, whole)):
        comparison = compare_predictions(*two, RECORDS, protocol)
        for one in (comparison.first, comparison.second):
            assert [m.name for m in one.protocol.metrics] == ["mpjpe", "pck", "auc"]


# --- Curves -----------------------------------------------------------------------------------------


def test_curves_are_the_pck_at_every_threshold(pair):
    scores = pair[1].scores
    limits = np.array([0.0, 1.0, 20.0, 50.0, 150.0])
    for alignment, errors in (("none", scores.errors), ("similarity", scores.aligned_errors["similarity"])):
        found = pck_curve(scores, alignment, limits)
        np.testing.assert_array_equal(found[0], limits)
        expected = [np.mean([np.mean([e < t for e in pose]) for pose in errors]) for t in limits]
        np.testing.assert_allclose(found[1], expected, rtol=0, atol=1e-12)
    x, y = pck_curve(scores)
    assert (x[0], x[-1], len(y)) == (0, 150, 151)
    assert y[-1] == pytest.approx(pair[1].overall().values["pck"])
    for wrong, message in (([3.0, 2.0], "ascending"), ([], "ascending")):
        with pytest.raises(ValueError, match=message):
            pck_curve(scores, "none", np.array(wrong))


def test_curves_count_ties_and_masks_as_the_protocol_does():
    records, protocol = mpii_records(4), get_protocol("mpii")
    truth = project(records.joints_cam_mm, records.intrinsics)
    joints = truth.clone()
    joints[:, :, 0] += 16  # 0.4 of a head of 40 px, but for rounding
    result = score_records(joints, records, protocol)
    result.scores.errors[...] = np.where(np.isnan(result.scores.errors), np.nan, 0.4)
    _, y = pck_curve(result.scores, "none", np.array([0.2, 0.4, 0.5]))
    assert y.tolist() == [0, 1, 1], "a joint at the threshold counts"
    with pytest.raises(ValueError, match="mpii has no errors after alignment 'similarity'"):
        pck_curve(result.scores, "similarity")
    left_wrist = protocol.joints.index("left_wrist")
    assert np.isnan(result.scores.errors[3, left_wrist])
    result.scores.errors[3] = np.where(np.isnan(result.scores.errors[3]), np.nan, 0.1)
    share = pck_curve(result.scores, "none", np.array([0.2]))[1][0]
    assert share == pytest.approx(13 / 55), "joints are averaged, of which one is not labelled"


# --- Pictures ---------------------------------------------------------------------------------------


def test_pictures_show_the_label_and_both_predictions(pair, tmp_path):
    image = np.full((1000, 1000, 3), (30, 90, 30), np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    records = dataclasses.replace(RECORDS, images=[tmp_path / "a.png"] * 96)
    comparison = compare(*(dataclasses.replace(e, records=records) for e in pair), ("old", "new"))
    (extreme, *_), _ = comparison.extremes(1)
    picture = extreme_picture(comparison, extreme, side=200)
    assert (picture.shape, picture.dtype) == ((400, 600, 3), np.uint8)
    assert tuple(picture[150, 5]) == (30, 90, 30)
    assert tuple(picture[395, 5]) == (216, 216, 216)
    for panel in np.split(picture[:200], 3, 1):
        assert (panel == COLOURS["left"]).all(-1).any()
        assert (panel == COLOURS["right"]).all(-1).any()
    label, old, new = np.split(picture[30:200], 3, 1)
    assert (label != old).any()
    assert (old != new).any()
    # The spine is drawn, though this protocol does not score it, unless it was not predicted.
    spine = CANONICAL.index("spine")
    without = pair[1].joints.clone()
    without[:, spine] = torch.nan
    whole = extreme_picture(compare(*pair), extreme, side=200)
    for joints, seen in ((pair[1].joints, True), (without, False)):
        first, second = (dataclasses.replace(e, protocol=get_protocol("h36m_s11")) for e in pair)
        comparison = compare(first, dataclasses.replace(second, joints=joints))
        found = extreme_picture(comparison, extreme, side=200)
        assert np.array_equal(found[230:, :200], whole[230:, :200]) == seen
    # Where only the root is elsewhere, poses are drawn upon each other.
    moved = evaluation(pair[0].joints + torch.tensor([300.0, -200.0, 900.0]), records)
    picture = extreme_picture(compare(dataclasses.replace(pair[0], records=records), moved), extreme, 200)
    np.testing.assert_array_equal(picture[30:200, 200:400], picture[30:200, 400:])


def test_pictures_without_an_image_and_of_stored_images_of_another_size(pair, tmp_path):
    comparison = compare(*pair)
    (extreme, *_), _ = comparison.extremes(1)
    assert tuple(extreme_picture(comparison, extreme, side=200)[150, 5]) == (216, 216, 216)
    small, large = tmp_path / "small.png", tmp_path / "large.png"
    cv2.imwrite(str(large), np.full((1000, 1000, 3), 90, np.uint8))
    cv2.imwrite(str(small), np.full((500, 500, 3), 90, np.uint8))
    found = []
    for path in (small, large):
        sizes = torch.full((96, 2), 1000.0, dtype=torch.float64)
        records = dataclasses.replace(RECORDS, images=[path] * 96, intrinsics_size=sizes)
        same = compare(*(dataclasses.replace(e, records=records) for e in pair))
        found.append(extreme_picture(same, extreme, side=200).astype(int))
    assert np.abs(found[0] - found[1]).mean() < 1, "the same part of it with the same poses"


def test_2d_pictures_have_one_row():
    records, protocol = mpii_records(6), get_protocol("mpii")
    truth = project(records.joints_cam_mm, records.intrinsics)
    comparison = compare(*(score_records(truth + d, records, protocol) for d in (4.0, 9.0)), ("a", "b"))
    (extreme, *_), _ = comparison.extremes(1)
    assert extreme_picture(comparison, extreme, side=100).shape == (100, 300, 3)
    assert "% of the head" in extremes_table(comparison).title
