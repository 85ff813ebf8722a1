import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from margipose import geometry as G


def random_similarity(seed, lead=()):
    rng = np.random.default_rng(seed)
    count = int(np.prod(lead, dtype=int))
    rot = Rotation.random(count, random_state=seed).as_matrix().reshape(*lead, 3, 3)
    return G.Similarity(
        torch.from_numpy(rng.uniform(0.5, 2, lead)),
        torch.from_numpy(rot),
        torch.from_numpy(rng.normal(0, 100, (*lead, 3))),
    )


def close(a, b, tol=1e-9):
    torch.testing.assert_close(a, torch.as_tensor(b), rtol=tol, atol=tol)


@pytest.mark.parametrize("lead", [(1,), (4,), (2, 3)])
def test_similarity_is_recovered(lead):
    points = torch.randn(*lead, 17, 3, dtype=torch.float64) * 300
    true = random_similarity(0, lead)
    fit = G.fit_alignment(points, true(points))
    for got, expected in zip(fit, true):
        close(got, expected, 1e-8)


def test_rigid_keeps_size_and_scale_keeps_direction():
    points = torch.randn(5, 17, 3, dtype=torch.float64)
    reference = random_similarity(1, (5,))(points)
    rigid = G.align(points, reference, "rigid")
    close(torch.cdist(rigid, rigid), torch.cdist(points, points))
    scaled = G.align(points, 3 * points, "scale")
    close(scaled, 3 * points)
    assert G.align(points, reference, "none") is points


def test_alignment_is_the_least_squares_optimum():
    """No small change of the fitted parameters lowers the error."""
    torch.manual_seed(0)
    points, reference = torch.randn(2, 17, 3, dtype=torch.float64).unbind()
    best = ((G.align(points, reference, "similarity") - reference) ** 2).sum()
    fit = G.fit_alignment(points, reference)
    for seed in range(20):
        nudge = Rotation.from_rotvec(np.random.default_rng(seed).normal(0, 0.02, 3)).as_matrix()
        other = G.Similarity(
            fit.scale * (1 + 0.01 * torch.randn(())),
            fit.rotation @ torch.from_numpy(nudge),
            fit.translation + 0.01 * torch.randn(3, dtype=torch.float64),
        )
        assert ((other(points) - reference) ** 2).sum() >= best


def test_a_mirrored_person_does_not_fit():
    points = torch.randn(17, 3, dtype=torch.float64) * 300
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    fit = G.fit_alignment(mirrored, points)
    close(torch.linalg.det(fit.rotation), torch.tensor(1.0, dtype=torch.float64))
    assert (fit(mirrored) - points).norm(dim=-1).mean() > 50
    cheat = G.align(mirrored, points, "similarity", allow_reflection=True)
    close(cheat, points, 1e-6)


def test_scaling_never_mirrors():
    points = torch.randn(17, 3, dtype=torch.float64)
    assert G.fit_alignment(points, -points, rotation=False, translation=False).scale == 0
    close(G.align(points, -points, "scale", allow_reflection=True), torch.zeros_like(points), 1)


def test_golden_alignment_needs_reflection_only_where_the_original_used_it(golden):
    g = {k: torch.as_tensor(v) for k, v in golden("skeleton").items()}
    fit = G.fit_alignment(g["proj"], g["refs"], allow_reflection=True)
    close(fit(g["proj"]), g["aligned"])
    proper = torch.linalg.det(fit.rotation) > 0
    close(G.align(g["proj"], g["refs"], "similarity")[proper], g["aligned"][proper])
    mirror_aligned = G.align(g["mirror_skel"], g["skel"][1], "similarity", allow_reflection=True)
    close(mirror_aligned, g["mirror_aligned"])


def test_degenerate_points_stay_finite():
    same = torch.zeros(2, 17, 3, dtype=torch.float64)
    reference = torch.randn(2, 17, 3, dtype=torch.float64)
    for how in ("scale", "rigid", "similarity"):
        assert torch.isfinite(G.align(same, reference, how)).all()


def test_affine_maps():
    points = torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    one = torch.tensor(1.0)
    matrix = G.affine_2d(2 * one, 0 * one, one, 0 * one, one, -one)
    assert G.affine_2d(one.expand(4), one, one, one, one, one).shape == (4, 3, 3)
    close(G.apply_affine(matrix, points), torch.tensor([[3.0, 1.0], [7.0, -2.0]]))
    close(G.apply_affine(matrix[:2], points), G.apply_affine(matrix, points))
    with pytest.raises(ValueError, match="rows"):
        G.apply_affine(torch.eye(2), points)


def test_spherical_round_trip():
    points = torch.randn(50, 3, dtype=torch.float64)
    close(G.spherical_to_cartesian(G.cartesian_to_spherical(points)), points)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="same shape"):
        G.fit_alignment(torch.zeros(17, 3), torch.zeros(16, 3))
    with pytest.raises(ValueError, match="unknown alignment"):
        G.align(torch.zeros(17, 3), torch.zeros(17, 3), "procrustes")
