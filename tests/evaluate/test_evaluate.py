import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from margipose import evaluate as E
from margipose.data import PoseDataset, load_records
from margipose.metrics import mpjpe
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, VNECT_14, root_relative
from margipose.spec import InputSpec

SPEC = InputSpec(64, 64)


class Oracle(nn.Module):
    """Answers with the targets of a data set, in order, plus noise."""

    def __init__(self, dataset, noise=0.0):
        super().__init__()
        self.answers = iter(
            [b.target_norm + noise * torch.randn_like(b.target_norm) for b in DataLoader(dataset, 16)]
        )

    def forward(self, images):
        return PoseOutput(next(self.answers)[: len(images)], ())


@pytest.fixture(scope="module")
def dataset(people):
    return PoseDataset(load_records("mpi3d", people, "test"), SPEC)


@pytest.mark.parametrize("name", ["mpi3d", "h36m"])
def test_perfect_predictions_score_perfectly(dataset, name):
    result = E.evaluate(Oracle(dataset), dataset, E.get_protocol(name), batch_size=16)
    row = result.overall()
    assert row.count == len(dataset)
    assert row.values["mpjpe"] < 0.05  # targets are float32
    assert row.values["p_mpjpe"] < 0.05
    assert row.values["pck"] == row.values["p_pck"] == 1
    assert row.values["auc"] == pytest.approx(30 / 31)
    assert (result.joints - dataset.records.joints_cam_mm[:]).abs().max() < 1


def test_scores_are_those_of_the_metrics(dataset):
    torch.manual_seed(0)
    result = E.evaluate(Oracle(dataset, 0.05), dataset, E.get_protocol("mpi3d"), batch_size=16)
    scored = CANONICAL.indices(VNECT_14)
    expected = root_relative(dataset.records.joints_cam_mm[:], CANONICAL)[:, scored]
    actual = root_relative(result.joints, CANONICAL)[:, scored]
    np.testing.assert_allclose(result.values["mpjpe"], mpjpe(actual, expected).numpy())
    assert list(result.values) == [m.name for m in result.protocol.metrics]
    assert set(result.values) < set(E.METRICS)
    assert (result.values["p_mpjpe"] != result.values["r_mpjpe"]).all()
    assert 20 < result.overall().values["mpjpe"] < 500
    assert list(result.per_joint_mm()) == list(VNECT_14)
    assert np.mean(list(result.per_joint_mm().values())) == pytest.approx(result.overall().values["mpjpe"])


def test_rows_are_named_and_weigh_up_to_the_whole(dataset):
    torch.manual_seed(0)
    result = E.evaluate(Oracle(dataset, 0.05), dataset, E.get_protocol("mpi3d"), batch_size=16)
    rows = result.by("activity")
    assert {r.group for r in rows} <= set(dataset.records.id_names["activity"].values())
    assert sum(r.count for r in rows) == len(dataset)
    mean = sum(r.count * r.values["mpjpe"] for r in rows) / len(dataset)
    assert mean == pytest.approx(result.overall().values["mpjpe"])
    values = [r.values["mpjpe"] for r in rows]
    assert result.rows()[len(rows)].group == "mean over activity"
    assert result.rows()[len(rows)].values["mpjpe"] == pytest.approx(np.mean(values))
    table = E.format_table(result.rows())
    assert len({len(line) for line in table.splitlines()}) == 1
    assert table.splitlines()[-1].startswith("all")


def test_evaluation_leaves_the_model_as_it_was(dataset):
    model = Oracle(dataset).train()
    E.evaluate(model, dataset, E.get_protocol("mpi3d"), batch_size=16)
    assert model.training


def test_a_mirrored_depth_is_an_error_after_alignment_too(dataset):
    joints = dataset.records.joints_cam_mm[:]
    root = joints[:, CANONICAL.index("pelvis"), None]
    mirrored = (joints - root) * torch.tensor([1.0, 1.0, -1.0]) + root
    values = E.score(mirrored, joints, E.get_protocol("mpi3d")).values
    assert values["p_mpjpe"].mean() > 30


def test_refuses_what_cannot_be_scored(dataset):
    joints = dataset.records.joints_cam_mm[:]
    broken = joints.clone()
    broken[3, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="prediction 3 is not finite"):
        E.score(broken, joints, E.get_protocol("mpi3d"))
    with pytest.raises(ValueError, match="'lspet' has no protocol of its own"):
        E.get_protocol("lspet")
    with pytest.raises(ValueError, match="unknown protocol 'h36n'; did you mean 'h36m'"):
        E.get_protocol("h36n")
    flat = PoseDataset(dataclasses.replace(dataset.records, has_depth=False), SPEC)
    with pytest.raises(ValueError, match="2D labels only"):
        E.evaluate(Oracle(dataset), flat, E.get_protocol("mpi3d"))
