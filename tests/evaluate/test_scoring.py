import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from scipy.spatial.transform import Rotation

from margipose.evaluate import alignment, get_protocol, joint_values, score
from margipose.evaluate.protocols import PROTOCOLS, Metric
from margipose.geometry import align
from margipose.metrics import auc, joint_errors, pck
from margipose.skeleton import CANONICAL, LSP, VNECT_14

MPI3D, H36M = get_protocol("mpi3d"), get_protocol("h36m")
SCORED = CANONICAL.indices(VNECT_14)
PELVIS = CANONICAL.index("pelvis")


def people(*lead, seed=0, noise=60.0):
    """Predictions and labels of random people, `... x 17 x 3` mm, in camera space."""
    rng = np.random.default_rng(seed)
    labels = rng.normal(0, 300, (*lead, 17, 3)) + (100, -50, 4000)
    actual = 1.1 * labels + rng.normal(0, noise, labels.shape) + (5, 6, 7)
    return torch.from_numpy(actual), torch.from_numpy(labels)


def plain_distances(actual, expected):
    return [sum((a - e) ** 2 for a, e in zip(p, q)) ** 0.5 for p, q in zip(actual, expected)]


def scipy_similarity(points, reference):
    """SciPy's rotation and scale, about centroids."""
    p, r = points - points.mean(0), reference - reference.mean(0)
    rotation, _ = Rotation.align_vectors(r, p)
    turned = rotation.apply(p)
    return turned, (turned * r).sum() / (turned**2).sum()


def twin(actual, expected, joints, aligned_by):
    """The values of one pose, by SciPy and plain loops in float64."""
    actual, expected = actual - actual[PELVIS], expected - expected[PELVIS]
    _, scale = scipy_similarity(actual[aligned_by], expected[aligned_by])
    rotation, _ = Rotation.align_vectors(
        expected[aligned_by] - expected[aligned_by].mean(0), actual[aligned_by] - actual[aligned_by].mean(0)
    )
    turned = rotation.apply(actual - actual[aligned_by].mean(0))
    centre = expected[aligned_by].mean(0)
    factor = (actual[aligned_by] * expected[aligned_by]).sum() / (actual[aligned_by] ** 2).sum()
    found = {}
    poses = {"": actual, "p_": scale * turned + centre, "r_": turned + centre, "n_": factor * actual}
    for prefix, pose in poses.items():
        errors = plain_distances(pose[joints], expected[joints])
        found[f"{prefix}mpjpe"] = sum(errors) / len(errors)
        found[f"{prefix}pck"] = sum(e < 150 for e in errors) / len(errors)
        curve = [sum(e < t for e in errors) / len(errors) for t in range(0, 151, 5)]
        found[f"{prefix}auc"] = sum(curve) / len(curve)
    return found


@pytest.mark.parametrize("name", ["h36m", "mpi3d", "h36m_s11"])
def test_values_are_those_of_scipy_and_plain_loops(name):
    protocol = get_protocol(name)
    actual, expected = people(6, 7)
    found = score(actual, expected, protocol)
    joints, aligned_by = CANONICAL.indices(protocol.joints), CANONICAL.indices(protocol.aligned_by)
    assert list(found.values) == [m.name for m in protocol.metrics]
    for index in np.ndindex(6, 7):
        plain = twin(actual[index].numpy(), expected[index].numpy(), joints, aligned_by)
        for metric, values in found.values.items():
            assert values.shape == (6, 7)
            assert values[index] == pytest.approx(plain[metric], abs=1e-6, rel=0)


def test_p_mpjpe_is_that_of_scipys_procrustes():
    actual, expected = people(1)
    # It allows mirroring, which does not help people who are nearly right; it scales labels to 1.
    goal, moved, _ = procrustes(expected[0].numpy(), actual[0].numpy())
    size = np.linalg.norm(expected[0] - expected[0].mean(0))
    plain = np.linalg.norm(goal - moved, axis=1).mean() * size
    assert score(actual, expected, H36M).values["p_mpjpe"][0] == pytest.approx(plain, abs=1e-6)


def test_golden_metrics(golden):
    g = {k: torch.as_tensor(v) for k, v in golden("metrics").items()}
    for protocol, expected in (("h36m_original", "gather_17"), ("mpi3d_original", "gather_14")):
        # The golden poses are compared where they are; ours are relative to the root.
        found = score(g["actual"], g["expected"], dataclasses.replace(get_protocol(protocol), root=None))
        columns = [found.values[m] for m in ("mpjpe", "pck", "auc", "p_mpjpe", "p_pck", "p_auc")]
        np.testing.assert_allclose(np.stack(columns, -1), g[expected], atol=1e-6)


@pytest.mark.parametrize("reflection", [False, True])
def test_blocks_agree_with_geometry(reflection):
    actual, expected = people(50, noise=400)  # some fit better mirrored
    actual, expected = actual - actual[:, PELVIS, None], expected - expected[:, PELVIS, None]
    protocol = get_protocol("h36m_original" if reflection else "h36m")
    found = score(actual, expected, protocol)
    for kind, errors in found.aligned_errors.items():
        allowed = reflection and kind == "similarity"
        theirs = joint_errors(align(actual, expected, kind, allow_reflection=allowed), expected)
        np.testing.assert_allclose(errors, theirs, atol=1e-9)


def test_large_batches_are_scored_as_small_ones(monkeypatch):
    from margipose.evaluate import scoring

    actual, expected = people(50)
    valid = torch.rand(50, 17, generator=torch.Generator().manual_seed(0)) > 0.2
    whole = score(actual, expected, MPI3D, valid=valid)
    monkeypatch.setattr(scoring, "_CHUNK", 7)
    parts = score(actual, expected, MPI3D, valid=valid)
    for name in whole.values:
        np.testing.assert_allclose(parts.values[name], whole.values[name], rtol=1e-12)
    np.testing.assert_array_equal(parts.weights, whole.weights)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_mirrored_skeleton_is_wrong_unless_mirroring_is_allowed(axis):
    _, expected = people(5)
    flipped = expected.clone()
    flipped[..., axis] *= -1
    for protocol in (H36M, MPI3D):
        values = score(flipped, expected, protocol).values
        assert values["p_mpjpe"].min() > 30
        assert values["r_mpjpe"].min() > 30
        assert values["n_mpjpe"].min() > 30
    assert score(flipped, expected, get_protocol("h36m_original")).values["p_mpjpe"].max() < 1e-6


# --- Thresholds -----------------------------------------------------------------------------------


def errors_of_one_joint(millimetres, protocol=MPI3D):
    """Scores of poses in which one scored joint is off by so much, along an axis (so exactly)."""
    expected = torch.zeros(len(millimetres), 17, 3, dtype=torch.float64)
    actual = expected.clone()
    actual[:, CANONICAL.index("left_wrist"), 0] = torch.tensor(millimetres, dtype=torch.float64)
    return score(actual, expected, protocol)


def test_3d_thresholds_are_strict():
    before, after = np.nextafter(150.0, 0), np.nextafter(150.0, 200)
    values = errors_of_one_joint([before, 150.0, after]).values["pck"]
    np.testing.assert_allclose(values, [1, 13 / 14, 13 / 14])


@pytest.mark.parametrize("error", [0.0, 4.999, 5.0, 5.001, 75.0, 145.0, 149.999, 150.0, 1e6])
def test_auc_is_the_official_mean_over_thresholds_from_0(error):
    value = errors_of_one_joint([error]).values["auc"][0]
    right = 13 * 30  # what is exact is below all thresholds but 0
    mine = sum(error < t for t in range(0, 151, 5))
    assert value == pytest.approx((right + mine) / (14 * 31), abs=1e-15)
    assert value <= 30 / 31 + 1e-15


def test_pck_and_auc_are_those_of_metrics_with_ties_and_masks():
    rng = np.random.default_rng(0)
    errors = rng.integers(0, 40, (200, 14)) * 5.0  # every one on a threshold
    valid = rng.random((200, 14)) > 0.3
    masked = np.where(valid, errors, np.nan)
    for metric, theirs in ((MPI3D.metric("pck"), pck), (MPI3D.metric("auc"), auc)):
        found = np.nanmean(joint_values(metric, masked), -1)
        plain = theirs(torch.from_numpy(errors), valid=torch.from_numpy(valid)).numpy()
        np.testing.assert_allclose(found, plain, atol=1e-12)


def test_thresholds_that_include_their_value():
    within = Metric("x", "X", "pck", thresholds=(0.5,), strict=False)
    several = Metric("x", "X", "auc", thresholds=(0.0, 0.5, 1.0), strict=False)
    errors = np.array([0.0, 0.5, np.nextafter(0.5, 1), np.nan])
    np.testing.assert_array_equal(joint_values(within, errors), [1, 1, 0, np.nan])
    np.testing.assert_allclose(joint_values(several, errors), [1, 2 / 3, 1 / 3, np.nan])


# --- Joints without labels ------------------------------------------------------------------------


def test_joints_without_labels_count_nowhere():
    actual, expected = people(30)
    rng = np.random.default_rng(1)
    valid = rng.random((30, 17)) > 0.25
    valid[:, PELVIS] = True
    broken = torch.where(torch.from_numpy(valid)[..., None], actual, float("nan"))
    label = torch.where(torch.from_numpy(valid)[..., None], expected, float("inf"))
    found = score(broken, label, H36M, valid=torch.from_numpy(valid))
    for i in range(30):
        kept = np.flatnonzero(valid[i])
        plain = twin(actual[i].numpy(), expected[i].numpy(), kept, kept)
        for metric, values in found.values.items():
            assert values[i] == pytest.approx(plain[metric], abs=1e-6), metric
    assert np.isnan(found.errors[~valid]).all()
    assert found.weights.tolist() == [1] * 30


def test_poses_that_cannot_be_scored_weigh_nothing():
    actual, expected = people(3)
    valid = torch.ones(3, 17, dtype=torch.bool)
    valid[0, PELVIS] = False
    valid[1, SCORED] = False
    actual[0] = float("nan")
    found = score(actual, expected, MPI3D, valid=valid)
    assert found.weights.tolist() == [0, 0, 1]
    for values in found.values.values():
        assert np.isnan(values).tolist() == [True, True, False]


# --- Degenerate poses -----------------------------------------------------------------------------


def test_all_joints_in_one_place_have_the_error_of_the_centroid():
    _, expected = people(4)
    point = torch.full_like(expected, 123.0)
    values = score(point, expected, H36M).values
    relative = expected - expected[:, PELVIS, None]
    np.testing.assert_allclose(values["mpjpe"], relative.norm(dim=-1).mean(-1))
    centred = expected - expected.mean(1, keepdim=True)
    np.testing.assert_allclose(values["p_mpjpe"], centred.norm(dim=-1).mean(-1))
    np.testing.assert_allclose(values["r_mpjpe"], values["p_mpjpe"])
    both = score(point, point, H36M).values
    assert all(both[m].max() == 0 for m in ("mpjpe", "p_mpjpe", "r_mpjpe", "n_mpjpe"))


@pytest.mark.filterwarnings("ignore:Optimal rotation is not uniquely")
@pytest.mark.parametrize("dims", [1, 2])
def test_flat_poses_have_the_errors_of_any_other_solution(dims):
    """Where joints lie on a line or in a plane, the best rotation is not unique, but its errors are."""
    rng = np.random.default_rng(0)
    frame = Rotation.random(random_state=0).as_matrix()[:dims]
    flat = rng.normal(0, 300, (17, dims)) @ frame
    moved = 1.3 * Rotation.random(random_state=1).apply(flat) + (1, 2, 3)
    values = score(torch.from_numpy(moved)[None], torch.from_numpy(flat)[None], H36M).values
    assert values["p_mpjpe"][0] == pytest.approx(0, abs=1e-9)
    other = rng.normal(0, 300, (17, 3))
    found = score(torch.from_numpy(other)[None], torch.from_numpy(flat)[None], H36M).values
    turned, scale = scipy_similarity(other, flat)
    plain = np.mean(plain_distances(scale * turned, flat - flat.mean(0)))
    assert found["p_mpjpe"][0] == pytest.approx(plain, abs=1e-6)


def covariances():
    """3 x 3 x n matrices of every kind: any, badly conditioned, flat, of a line, nothing, and of any size."""
    rng = np.random.default_rng(0)
    turns = [Rotation.random(400, random_state=i).as_matrix() for i in (1, 2)]
    spread = np.sort(10 ** rng.uniform(-9, 0, (400, 3)), 1)[:, ::-1].copy()
    spread[::7, 2] = 0
    spread[::11, 1:] = 0
    spread[::13] = 0
    spread[::17] = spread[::17, :1]
    spread[::19, 1:] = spread[::19, 1:2]
    spread[::2, 2] *= -1
    sizes = 10.0 ** rng.integers(-20, 20, 400)
    regular = rng.normal(size=(400, 3, 3)) * sizes[:, None, None]
    special = np.einsum("nij,nj,nkj->nik", turns[0], spread * sizes[:, None], turns[1])
    return np.concatenate((regular, special)).transpose(1, 2, 0)


@pytest.mark.parametrize("mirroring", [False, True])
def test_rotations_are_the_best_for_every_kind_of_pose(mirroring):
    """By any other way they may be others where the best is not unique, but no better."""
    matrices = covariances()
    found = alignment._rotations(matrices, mirroring).transpose(2, 0, 1)
    matrices = matrices.transpose(2, 0, 1)
    np.testing.assert_allclose(found @ found.transpose(0, 2, 1), np.tile(np.eye(3), (800, 1, 1)), atol=1e-12)
    values = np.linalg.svd(matrices, compute_uv=False)
    if not mirroring:
        np.testing.assert_allclose(np.linalg.det(found), 1, atol=1e-12)
        values[:, 2] *= np.sign(np.linalg.det(matrices))
    gain = np.einsum("nij,nij->n", found, matrices)
    np.testing.assert_allclose(gain, values.sum(-1), rtol=1e-12)
    # Where it is unique and well determined it is the same matrix.
    unique = values[:, 1] + values[:, 2] > 1e-3 * values[:, 0]
    decomposed = alignment._decomposed(matrices.transpose(1, 2, 0), mirroring).transpose(2, 0, 1)
    assert 300 < unique.sum() < 800
    np.testing.assert_allclose(found[unique], decomposed[unique], atol=1e-11)


def test_what_is_not_finite_is_named():
    actual, expected = people(5)
    broken = actual.clone()
    broken[3, CANONICAL.index("left_knee"), 1] = float("nan")
    with pytest.raises(ValueError, match=r"prediction 3 is not finite: left_knee is at \[.*nan"):
        score(broken, expected, MPI3D)
    with pytest.raises(ValueError, match="label 3 is not finite: left_knee"):
        score(actual, broken, MPI3D)
    broken = actual.clone()
    broken[2, CANONICAL.index("head_top")] = float("inf")
    with pytest.raises(ValueError, match="prediction 2 is not finite: head_top"):
        score(broken, expected, MPI3D, valid=torch.ones(5, 17))
    # What a protocol does not use may be anything.
    broken = actual.clone()
    broken[:, CANONICAL.index("spine")] = float("nan")
    assert np.isfinite(score(broken, expected, get_protocol("h36m_s11")).values["p_mpjpe"]).all()
    with pytest.raises(ValueError, match="prediction 0 is not finite: spine"):
        score(broken, expected, MPI3D)  # it aligns by all joints


def test_refuses_shapes_that_do_not_suit():
    actual, expected = people(5)
    with pytest.raises(ValueError, match="must have the same shape"):
        score(actual[:4], expected, MPI3D)
    with pytest.raises(ValueError, match=r"'canonical' as \.\.\. x 17 x 3, got \(5, 16, 3\)"):
        score(actual[:, :16], expected[:, :16], MPI3D)
    with pytest.raises(ValueError, match=r"x 17 x 2"):
        score(actual, expected, get_protocol("mpii"), reference=torch.ones(5))
    with pytest.raises(ValueError, match="needs the length"):
        score(actual[..., :2], expected[..., :2], get_protocol("mpii"))
    with pytest.raises(ValueError, match=r"expected valid of shape \(5, 17\), got \(17,\)"):
        score(actual, expected, MPI3D, valid=torch.ones(17))
    with pytest.raises(ValueError, match=r"expected reference of shape \(5,\), got \(1,\)"):
        score(actual[..., :2], expected[..., :2], get_protocol("mpii"), reference=torch.ones(1))
    with pytest.raises(ValueError, match="protocol mpii has no metric 'mpjpe'; it has pckh"):
        get_protocol("mpii").metric("mpjpe")


def test_nothing_is_scored_as_nothing():
    found = score(*people(0), MPI3D)
    assert found.errors.shape == (0, 14)
    assert found.values["mpjpe"].shape == (0,)


# --- In the image ---------------------------------------------------------------------------------


def test_pckh_counts_labelled_joints_and_includes_its_threshold():
    expected = torch.zeros(3, 17, 2, dtype=torch.float64)
    actual = expected.clone()
    wrist, ankle = CANONICAL.index("left_wrist"), CANONICAL.index("right_ankle")
    actual[0, wrist, 0] = 30.0  # half of the head's 60 px
    actual[1, wrist, 0] = np.nextafter(30.0, 31)
    actual[1, ankle, 1] = float("nan")
    valid = torch.ones(3, 17, dtype=torch.bool)
    valid[1, ankle] = False
    found = score(
        actual, expected, get_protocol("mpii"), valid=valid, reference=torch.tensor([60.0, 60, float("nan")])
    )
    np.testing.assert_allclose(found.values["pckh"], [1, 12 / 13, np.nan])
    np.testing.assert_allclose(found.values["pckh_01"], [13 / 14, 12 / 13, np.nan])
    assert found.weights.tolist() == [14, 13, 0]
    assert found.by_joint("pckh")["left_wrist"] == 0.5
    assert found.by_joint("pckh")["right_ankle"] == 1
    assert found.by_joint_group("pckh")["wrists"] == 0.75
    assert "neck" not in found.by_joint_group("pckh")


def test_lsp_scores_its_own_joints():
    rng = np.random.default_rng(0)
    expected = torch.from_numpy(rng.uniform(0, 200, (20, 14, 2)))
    actual = expected + torch.from_numpy(rng.normal(0, 15, (20, 14, 2)))
    torso = torch.from_numpy(rng.uniform(40, 100, 20))
    found = score(actual, expected, get_protocol("lsp"), LSP, reference=torso)
    plain = [
        np.mean([d <= 0.2 * t for d in plain_distances(a, e)])
        for a, e, t in zip(actual.numpy(), expected.numpy(), torso.numpy())
    ]
    np.testing.assert_allclose(found.values["pck_torso"], plain)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_gives_perfect_predictions_the_best_values(name):
    protocol = get_protocol(name)
    _, expected = people(4)
    expected = expected[..., : protocol.dims]
    reference = None if protocol.dims == 3 else torch.ones(4)
    found = score(expected, expected, protocol, "canonical", reference=reference)
    for metric in protocol.metrics:
        best = {"error": 0, "pck": 1, "auc": 30 / 31}[metric.kind]
        np.testing.assert_allclose(found.values[metric.name], best, atol=1e-9)
