import dataclasses

import numpy as np
import pytest
import torch

from margipose import checkpoint
from margipose.camera import project
from margipose.crops import crop_camera, crop_joints
from margipose.data import load_records
from margipose.dsnt import marginals_to_coords
from margipose.evaluate import get_protocol, score
from margipose.skeleton import CANONICAL
from margipose.view.examples import ANY, STORED, TARGET, Examples


@pytest.fixture(scope="module")
def protocol():
    return dataclasses.replace(get_protocol("mpi3d"), subjects=(), cameras=(), stride=0)


@pytest.fixture(scope="module")
def records(people):
    return load_records("mpi3d", people, "train").select(np.arange(12))


@pytest.fixture(scope="module")
def predicted(records, protocol, tiny_weights):
    examples = Examples(records, protocol, checkpoint.load(tiny_weights))
    examples.evaluate()
    return examples


def test_labels_are_shown_without_a_network(records, protocol):
    examples = Examples(records, protocol)
    assert examples.stages == [TARGET]
    assert list(examples.orders) == [STORED]
    example = examples.example(3)
    assert example.found_norm is None
    sample = examples.dataset[3]
    np.testing.assert_allclose(example.truth_norm, sample.target_norm, atol=1e-6)
    # The target heatmaps' expectation is the label, where it lies within the cube.
    inside = (np.abs(example.truth_norm) < 0.75).all(-1)  # four deviations from the border
    planes = [torch.from_numpy(h) for h in example.heatmaps]
    np.testing.assert_allclose(marginals_to_coords(planes)[inside], example.truth_norm[inside], atol=2e-3)
    relative = sample.joints_cam_mm - sample.joints_cam_mm[CANONICAL.index("pelvis")]
    np.testing.assert_allclose(example.truth_mm, relative, atol=1e-6)
    assert "frame" in example.about


def test_labels_lie_on_the_person_in_the_crop(records, protocol):
    examples = Examples(records, protocol)
    example, sample = examples.example(0), examples.dataset[0]
    moved = crop_joints(sample.joints_cam_mm, sample.crop, sample.intrinsics, CANONICAL)
    px = project(moved, crop_camera(sample.crop, sample.intrinsics))
    np.testing.assert_allclose(example.truth_px, px, atol=1e-6)
    assert (example.truth_px > 0).all()
    assert (example.truth_px < 256).all()


def test_predictions_and_their_errors_are_those_of_the_evaluation(predicted, protocol):
    last = predicted.stages[-1]
    for row in (0, 7):
        example = predicted.example(row, last)
        evaluated = predicted.evaluation.joints[row]
        root = CANONICAL.index("pelvis")
        np.testing.assert_allclose(example.found_mm, evaluated - evaluated[root], atol=0.5)
        scored = CANONICAL.indices(protocol.joints)
        expected = predicted.evaluation.values["mpjpe"][row]
        assert np.mean(example.errors_mm[scored]) == pytest.approx(expected, abs=0.5)
        assert np.sqrt((example.aligned_errors_mm**2).mean()) <= np.sqrt((example.errors_mm**2).mean())
        found = score(
            torch.from_numpy(example.found_mm)[None], torch.from_numpy(example.truth_mm)[None], protocol
        )
        assert found.values["mpjpe"][0] == pytest.approx(expected, abs=0.5)
    assert predicted.scores(0)["MPJPE mm"] == f"{predicted.evaluation.values['mpjpe'][0]:.1f}"


def test_people_who_lean_are_shown_as_they_were_looked_at_last(records, protocol, tiny_weights):
    loaded = checkpoint.load(tiny_weights)
    spec = dataclasses.replace(loaded.input_spec, upright=True)
    examples = Examples(records, protocol, loaded._replace(input_spec=spec))
    examples.evaluate()
    root, turned = CANONICAL.index("pelvis"), 0
    for row in range(len(records)):
        example = examples.example(row, examples.stages[-1])
        evaluated = examples.evaluation.joints[row]
        np.testing.assert_allclose(example.found_mm, evaluated - evaluated[root], atol=0.5)
        known = np.isfinite(example.truth_px).all(-1)
        crop, out = examples._look(row)
        turned += abs(float(crop.crop.rotation_deg)) >= 15
        assert np.abs(example.truth_px[known] - 32).max() < 48  # labels are those of the turned crop
        np.testing.assert_allclose(example.found_norm, out.coords_norm[0], atol=1e-6)
    assert turned > 0


def test_stages_have_their_own_heatmaps(predicted):
    assert predicted.stages == [TARGET, "stage 1"]
    target, first = (predicted.example(2, s) for s in predicted.stages)
    assert target.heatmaps.xy.shape == (17, 32, 32)
    assert first.heatmaps.xy.shape == (17, 8, 8)
    np.testing.assert_allclose(
        marginals_to_coords([torch.from_numpy(h) for h in first.heatmaps]), first.found_norm, atol=1e-6
    )


class Exported(torch.nn.Module):
    """As `export.OnnxNetwork`: gives the last of three stages' heatmaps, or none."""

    def __init__(self, model, heatmaps):
        super().__init__()
        self.model, self.heatmaps = model, heatmaps
        self.spec = dataclasses.replace(model.spec, n_stages=3)

    def forward(self, images):
        out = self.model(images)
        return out if self.heatmaps == "last" else out._replace(stages=())


def test_exported_networks_may_give_fewer_heatmaps(predicted, records, protocol):
    plain = predicted.example(1, "stage 1")
    for heatmaps, stages in {"last": [TARGET, "stage 3"], "none": [TARGET]}.items():
        model = Exported(predicted.loaded.model, heatmaps).eval()
        examples = Examples(records, protocol, predicted.loaded._replace(model=model))
        assert examples.stages == stages
        found = examples.example(1, stages[-1])
        np.testing.assert_allclose(found.found_norm, plain.found_norm, atol=1e-6)
    assert not np.array_equal(found.heatmaps.xy, plain.heatmaps.xy)


def test_rows_are_filtered_and_sorted(predicted):
    values = predicted.evaluation.values
    assert list(predicted.rows()) == list(range(12))
    worst = predicted.rows(order="worst mpjpe")
    assert list(worst) == list(np.argsort(-values["mpjpe"], kind="stable"))
    assert predicted.rows(order="best mpjpe")[0] == np.argmin(values["mpjpe"])
    worst_pck = values["pck"][predicted.rows(order="worst pck")]
    assert (np.diff(worst_pck) >= 0).all(), "the smallest share of correct joints comes first"
    filters = predicted.filters()
    assert filters, "the synthetic people have several frames and activities"
    for column, names in filters.items():
        parts = [predicted.rows(column, name) for name in names]
        assert sorted(np.concatenate(parts)) == list(range(12))
    column = "activity" if "activity" in filters else next(iter(filters))
    some = predicted.rows(column, filters[column][0], "worst mpjpe")
    assert set(some) == set(predicted.rows(column, filters[column][0]))
    assert list(predicted.rows(column, ANY)) == list(range(12))


def test_poses_without_a_value_come_last(predicted, monkeypatch):
    values = predicted.evaluation.values["mpjpe"].copy()
    values[4] = np.nan
    scores = dataclasses.replace(
        predicted.evaluation.scores, values={**predicted.evaluation.values, "mpjpe": values}
    )
    monkeypatch.setattr(predicted, "evaluation", dataclasses.replace(predicted.evaluation, scores=scores))
    assert predicted.rows(order="worst mpjpe")[-1] == 4
    assert predicted.rows(order="best mpjpe")[-1] == 4
    assert predicted.scores(4)["MPJPE mm"] == "–"


def test_joints_without_a_label_are_left_out(records, protocol):
    valid = records.valid[:].clone()
    wrist = records.skeleton.index("left_wrist")
    valid[5, wrist] = False
    example = Examples(dataclasses.replace(records, valid=valid), protocol).example(5)
    row = CANONICAL.index("left_wrist")
    for poses in (example.truth_norm, example.truth_px, example.truth_mm):
        assert np.isnan(poses[row]).all()
        assert np.isfinite(np.delete(poses, row, 0)).all()
    assert example.heatmaps.xy[row].sum() == 0


def test_sets_without_depth_lie_in_a_plane(records, protocol, tiny_weights):
    flat = dataclasses.replace(records, has_depth=False, depth_valid=None)
    example = Examples(flat, protocol, checkpoint.load(tiny_weights)).example(0)
    assert example.flat
    assert (example.truth_norm[:, 2] == 0).all()
    assert example.truth_mm is None
    assert example.errors_mm is None
    assert np.isfinite(example.found_mm).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.example(12), "no row 12; the last is 11"),
        (lambda e: e.example(-1), "no row -1"),
        (lambda e: e.example(0, "stage 9"), "no stage 'stage 9'"),
        (lambda e: e.rows("../../etc", "passwd"), "no column '../../etc'"),
        (lambda e: e.rows(order="worst of all"), "no order"),
    ],
)
def test_what_there_is_not_is_refused(predicted, call, message):
    with pytest.raises(ValueError, match=message):
        call(predicted)


def test_an_empty_set_is_refused(records, protocol):
    with pytest.raises(ValueError, match="no examples to look at"):
        Examples(records.select([]), protocol)
