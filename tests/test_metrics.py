import numpy as np
import pytest
import torch

from margipose import metrics as M
from margipose.geometry import align
from margipose.skeleton import CANONICAL, VNECT_14, mirror


def close(actual, expected, tol=1e-9):
    torch.testing.assert_close(actual, torch.as_tensor(expected), rtol=tol, atol=tol, check_dtype=False)


def six(actual, expected, joints=None, allow_reflection=True):
    """The original's columns: mpjpe, pck, auc, and the same after alignment on all joints."""
    columns = []
    for a in (actual, align(actual, expected, "similarity", allow_reflection=allow_reflection)):
        errors = M.joint_errors(a, expected)
        errors = errors if joints is None else errors[..., joints]
        columns += [M.mean_error(errors), M.pck(errors), M.auc(errors)]
    return torch.stack(columns, -1)


def test_golden_metrics(golden):
    g = {k: torch.as_tensor(v) for k, v in golden("metrics").items()}
    actual, expected = g["actual"], g["expected"]
    fourteen = CANONICAL.indices(VNECT_14)
    assert fourteen == g["included14"].tolist()
    close(six(actual, expected), g["gather_17"])
    close(six(actual, expected), g["gather_none"])
    close(six(actual, expected, fourteen), g["gather_14"])
    close(align(actual, expected, "similarity", allow_reflection=True), g["aligned"], 1e-7)
    errors = M.joint_errors(actual, expected)[..., fourteen]
    thresholds = [0, 5, 50, 100, 150]
    close(torch.stack([M.pck(errors, t) for t in thresholds], -1), g["pck_thresholds"])
    close(M.joint_errors(actual, expected)[:, 0] / 300, g["pckh_dist"])


def test_proper_rotations_change_only_poses_that_needed_a_reflection(golden):
    g = {k: torch.as_tensor(v) for k, v in golden("metrics").items()}
    ours = six(g["actual"], g["expected"], allow_reflection=False)
    same = (ours - g["gather_17"]).abs().amax(-1) < 1e-6
    assert 0 < (~same).sum() < len(same)
    assert (ours[~same, 3] > g["gather_17"][~same, 3]).all()


def test_a_mirrored_pose_is_an_error():
    torch.manual_seed(0)
    pose = 300 * torch.randn(17, 3, dtype=torch.float64)
    flipped = mirror(pose, CANONICAL) * torch.tensor([-1.0, 1, 1], dtype=torch.float64)
    assert M.p_mpjpe(flipped, pose) > 50
    assert M.p_mpjpe(pose * torch.tensor([1.0, 1, -1], dtype=torch.float64), pose) > 50


def test_alignment_orders_errors():
    torch.manual_seed(1)
    expected = 300 * torch.randn(2, 5, 17, 3, dtype=torch.float64)
    actual = expected + 50 * torch.randn_like(expected)
    plain, aligned = M.mpjpe(actual, expected), M.p_mpjpe(actual, expected)
    assert plain.shape == M.n_mpjpe(actual, expected).shape == (2, 5)
    assert (aligned < plain).all()
    close(M.n_mpjpe(2 * expected, expected), torch.zeros(2, 5))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    turned = expected @ (turn * torch.linalg.det(turn)) + 7
    close(M.r_mpjpe(turned, expected), torch.zeros(2, 5), 1e-6)
    assert (M.r_mpjpe(1.1 * turned, expected) > 10).all()
    squared = ((align(actual, expected, "scale") - expected) ** 2).sum((-1, -2))
    assert (squared <= ((actual - expected) ** 2).sum((-1, -2)) + 1e-6).all()


def test_pck_and_auc_by_hand():
    errors = torch.tensor([0.0, 4.0, 149.9, 150.0, 1000.0], dtype=torch.float64)
    assert M.pck(errors) == 3 / 5
    assert np.isclose(M.auc(torch.zeros(1, 4, dtype=torch.float64)).item(), 30 / 31)
    assert np.isclose(M.auc(errors).item(), np.mean([(errors.numpy() < t).mean() for t in range(0, 151, 5)]))


def test_invalid_joints_do_not_count():
    errors = torch.tensor([[10.0, float("nan"), 30.0], [1.0, 2.0, 3.0]])
    valid = torch.tensor([[1, 0, 1], [0, 0, 0]])
    mean = M.mean_error(errors, valid)
    assert mean[0] == 20
    assert torch.isnan(mean[1])
    assert M.pck(errors, 15.0, valid)[0] == 0.5


def test_refuses_shapes_that_would_broadcast():
    with pytest.raises(ValueError, match="same shape"):
        M.mpjpe(torch.zeros(2, 17, 3), torch.zeros(17, 3))
