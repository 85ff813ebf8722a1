import dataclasses

import numpy as np
import pytest
import torch

from margipose.evaluate import get_protocol, labels, published_table, results_table, score_records
from margipose.evaluate.bootstrap import (
    bootstrap_interval,
    bootstrap_means,
    interval_note,
    mean_of_means,
    weighted_mean,
)
from margipose.skeleton import CANONICAL, MPII
from tests.evaluate.made import h36m_records, mpii_records, noise


@pytest.fixture(scope="module")
def evaluation():
    records = h36m_records((1, 65, 129))
    joints = records.joints_cam_mm + torch.from_numpy(noise(len(records), 50))
    joints[records.ids["action"] == 3] += torch.from_numpy(noise(len(records), 80))[: len(records) // 2]
    return score_records(joints, records, get_protocol("h36m"))


def named(rows):
    return {r.group: r for r in rows}


def test_rows_are_means_over_their_poses(evaluation):
    rows = named(evaluation.rows())
    assert list(rows) == [
        "Directions",
        "Discussion",
        "mean over action",
        "subject 9",
        "subject 11",
        "mean over subject",
        "all",
    ]
    action = evaluation.records.ids["action"]
    for metric, values in evaluation.values.items():
        assert rows["Directions"].values[metric] == pytest.approx(values[action == 2].mean())
        assert rows["all"].values[metric] == pytest.approx(values.mean())
    assert rows["Directions"].count + rows["Discussion"].count == rows["all"].count == 96
    assert rows["Discussion"].values["mpjpe"] > rows["Directions"].values["mpjpe"] + 20
    assert {r.column for r in rows.values()} == {"action", "subject", "mean", "all"}


@pytest.mark.parametrize("averaging", ["frames", "actions", "sequences"])
def test_the_quoted_value_is_averaged_as_the_protocol_says(evaluation, averaging):
    # Fewer frames of one action, so that the means differ.
    records = evaluation.records
    kept = (records.ids["action"] == 2) | (records.ids["frame"] == 1)
    kept &= (records.ids["subject"] == 9) | (records.ids["subaction"] == 1) | (records.ids["action"] == 2)
    protocol = dataclasses.replace(get_protocol("h36m"), averaging=averaging)
    some = score_records(evaluation.joints[kept], records.select(kept), protocol)
    ids = some.records.ids
    keys = {
        "frames": np.zeros(kept.sum()),
        "actions": ids["action"],
        "sequences": ids["subject"] * 100 + ids["action"] * 10 + ids["subaction"],
    }
    plain = {
        how: np.mean([some.values["mpjpe"][key == v].mean() for v in np.unique(key)])
        for how, key in keys.items()
    }
    assert some.headline().values["mpjpe"] == pytest.approx(plain[averaging])
    assert len({round(v, 6) for v in plain.values()}) == 3


def test_without_known_actions_the_mean_is_over_poses(evaluation):
    records = dataclasses.replace(evaluation.records, ids={})
    found = score_records(evaluation.joints, records, get_protocol("h36m_all"))
    assert found.averaging == "frames"
    assert found.headline() == found.overall()
    assert "This evaluation's value: the mean over all poses." in published_table(found).notes
    assert "The value to quote is the mean over all poses." in results_table(found).notes
    assert [r.group for r in found.rows()] == ["all"]


def test_joints_of_2d_sets_count_alike():
    records = mpii_records()
    protocol = get_protocol("mpii")
    valid = records.valid.clone()
    valid[:10, : len(MPII) // 2] = False
    records = dataclasses.replace(records, valid=valid)
    expected, valid, length = labels(records, protocol)
    rng = np.random.default_rng(0)
    joints = expected + torch.from_numpy(rng.normal(0, 15, expected.shape))
    found = score_records(joints, records, protocol)
    scored = MPII.indices(protocol.joints)
    near = ((joints - expected).norm(dim=-1) <= 0.5 * length[:, None])[:, scored]
    plain = near[valid[:, scored]].double().mean().item()
    assert found.headline().values["pckh"] == pytest.approx(plain)
    assert 0.3 < plain < 0.99
    assert found.overall().count == 30
    with pytest.raises(ValueError, match="protocol mpii has no metric 'mpjpe'"):
        found.per_joint_mm()


def test_poses_without_labels_are_left_out_of_means_and_counts(evaluation):
    records = evaluation.records
    valid = records.valid.clone()
    valid[:40, CANONICAL.index("pelvis")] = False
    some = score_records(evaluation.joints, dataclasses.replace(records, valid=valid), evaluation.protocol)
    assert some.overall().count == 56
    assert some.overall().values["mpjpe"] == pytest.approx(evaluation.values["mpjpe"][40:].mean())
    none = dataclasses.replace(records, valid=torch.zeros_like(valid))
    nothing = score_records(evaluation.joints, none, evaluation.protocol)
    assert nothing.overall().count == 0
    assert np.isnan(nothing.headline(intervals=True).values["mpjpe"])


def test_unknown_groups_are_refused(evaluation):
    with pytest.raises(ValueError, match="h36m/test does not say the weather"):
        evaluation.by("weather")


# --- Intervals ------------------------------------------------------------------------------------


def test_intervals_hold_their_mean_and_are_those_of_resampled_sequences(evaluation):
    row = evaluation.overall(intervals=True)
    values, sequence = evaluation.values["mpjpe"], evaluation.sequence
    low, high = row.intervals["mpjpe"]
    assert low < row.values["mpjpe"] < high
    rng = np.random.default_rng(1)
    numbers = np.unique(sequence)
    members = [values[sequence == s] for s in numbers]
    plain = [
        np.concatenate([members[i] for i in rng.integers(0, len(numbers), len(numbers))]).mean()
        for _ in range(4000)
    ]
    width = high - low
    np.testing.assert_allclose([low, high], np.percentile(plain, [2.5, 97.5]), atol=0.15 * width)
    again = evaluation.overall(intervals=True)
    assert again.intervals == row.intervals


def test_alike_frames_do_not_narrow_an_interval():
    rng = np.random.default_rng(0)
    means = rng.normal(50, 10, 20)
    narrow, wide = (
        bootstrap_interval(np.repeat(means, n), np.ones(20 * n), np.repeat(np.arange(20), n)) for n in (1, 50)
    )
    np.testing.assert_allclose(narrow, wide)
    assert wide[1, 0] - wide[0, 0] == pytest.approx(2 * 1.96 * means.std() / 20**0.5, rel=0.15)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(200):
        values = rng.normal(0, 3, 30)[np.repeat(np.arange(30), 4)] + rng.normal(0, 1, 120)
        ends = bootstrap_interval(
            values, np.ones(120), np.repeat(np.arange(30), 4), resamples=300, seed=i
        ).reshape(-1)
        covered += ends[0] < 0 < ends[1]
    assert 0.88 < covered / 200 < 0.99


def test_means_over_groups_are_resampled_as_they_are_taken():
    values = np.array([[1.0], [3.0], [10.0], [20.0], [20.0]])
    weights, groups, sequences = np.array([1, 1, 1, 1, 0.0]), np.array([0, 0, 1, 1, 1]), np.arange(5)
    drawn = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), 50)
    found = bootstrap_means(values, weights, sequences, groups, resamples=50)
    for counts, mean in zip(drawn, found[:, 0]):
        n = counts * weights
        parts = [
            (n * values[:, 0])[groups == g].sum() / n[groups == g].sum()
            for g in (0, 1)
            if n[groups == g].sum()
        ]
        assert mean == pytest.approx(np.mean(parts)) if parts else np.isnan(mean)


def test_many_sequences_are_drawn_in_blocks(monkeypatch):
    from margipose.evaluate import bootstrap

    values = np.random.default_rng(0).normal(0, 1, 40)
    whole = bootstrap_means(values, np.ones(40), np.arange(40), resamples=100)
    monkeypatch.setattr(bootstrap, "_MOST_DRAWS", 7 * 40)
    np.testing.assert_allclose(bootstrap_means(values, np.ones(40), np.arange(40), resamples=100), whole)


def test_few_sequences_have_no_interval():
    for count in (1, 2, 3):
        ends = bootstrap_interval(np.arange(6.0), np.ones(6), np.arange(6) % count)
        assert np.isnan(ends).all()
        assert f"{count}: too few for any." in interval_note(count)
    # One that cannot be scored is not a fourth.
    assert np.isnan(bootstrap_interval(np.arange(4.0), np.array([1, 1, 1, 0.0]), np.arange(4))).all()
    # Of four the ends are no longer what has been seen.
    low, high = bootstrap_interval(np.arange(4.0), np.ones(4), np.arange(4))[:, 0]
    assert 0 < low < high < 3
    assert interval_note(4).endswith("of which there are 4. Rows of fewer than 4 have none.")


def test_weighted_means_leave_out_what_weighs_nothing():
    values = np.array([[1.0, 2], [np.nan, np.nan], [5, 8]])
    np.testing.assert_allclose(weighted_mean(values, np.array([1.0, 0, 3])), [4, 6.5])
    assert np.isnan(weighted_mean(values, np.zeros(3))).all()
    np.testing.assert_allclose(mean_of_means(values, np.array([1.0, 0, 3]), ["a", "b", "c"]), [3, 5])
    assert np.isnan(mean_of_means(values, np.zeros(3), ["a", "b", "c"])).all()
