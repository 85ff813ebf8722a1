"""Output heads: as codecs, against the golden vectors, and as what a network learns from."""

import math

import pytest
import torch

from margipose import dsnt as D
from margipose.heads import Head, HeadSpec, peak_coords
from margipose.spec import from_mapping, to_mapping

DSNT_KINDS = [
    HeadSpec(),
    *(HeadSpec(regulariser=r) for r in ("kl", "js", "mse", "variance")),
    *(HeadSpec(activation=a) for a in ("relu", "sigmoid", "abs", "thresholded_softmax")),
]
SPECS = [
    *DSNT_KINDS,
    HeadSpec("heatmap"),
    HeadSpec("heatmap", activation="softmax", offset="subpixel"),
    HeadSpec("fc", cells=7),
    HeadSpec("fc", activation="softmax", cells=7),
    HeadSpec("volumetric", regulariser="js", cells=5),
    HeadSpec("volumetric", regulariser="variance", cells=5),
]


def name_of(spec):
    return f"{spec.strategy}-{spec.activation}-{spec.regulariser}-{spec.offset}"


def maps_for(spec, joints=3, side=7, dtype=torch.float64):
    torch.manual_seed(0)
    return torch.randn(2, joints * spec.maps_per_joint, side, side, dtype=dtype)


def targets_for(spec, joints=3, dtype=torch.float64):
    return torch.rand(2, joints, 3, dtype=dtype, generator=torch.Generator().manual_seed(1)) - 0.5


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_shapes_and_finite_gradients(spec):
    head = Head(spec)
    maps = maps_for(spec, dtype=torch.float32).requires_grad_()
    out = head(maps)
    assert out.coords_norm.shape == (2, 3, spec.dims)
    assert out.heatmaps.shape == (2, 3, *((5, 7, 7) if spec.dims == 3 else (7, 7)))
    losses = head.losses(out, targets_for(spec, dtype=torch.float32))
    assert losses.shape == (2, 3)
    assert (losses >= 0).all()
    losses.sum().backward()
    assert torch.isfinite(maps.grad).all()
    assert maps.grad.abs().max() > 0


@pytest.mark.parametrize("spec", SPECS, ids=name_of)
def test_any_batch_shape_and_half_precision(spec):
    head = Head(spec)
    maps = maps_for(spec, dtype=torch.float32)
    out = head(maps)
    stacked = head(torch.stack([maps, maps.flip(0)]))
    torch.testing.assert_close(stacked.coords_norm[0], out.coords_norm)
    torch.testing.assert_close(head(maps[1]).heatmaps, out.heatmaps[1])
    torch.testing.assert_close(
        head.losses(stacked, targets_for(spec, dtype=torch.float32).expand(2, 2, 3, 3))[0],
        head.losses(out, targets_for(spec, dtype=torch.float32)),
    )
    half = head(maps.half())
    assert half.coords_norm.dtype == half.heatmaps.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(head(maps).coords_norm, out.coords_norm)


@pytest.mark.parametrize("spec", [s for s in SPECS if s.activation != "thresholded_softmax"], ids=name_of)
def test_gradients_are_those_of_the_loss(spec):
    # 5 cells: gradcheck computes a loss per cell, twice.
    spec = HeadSpec(**{**to_mapping(spec), "cells": 4 if spec.strategy == "volumetric" else 5})
    head = Head(spec).double()
    maps = maps_for(spec, joints=2, side=5)[:1].requires_grad_()
    target = targets_for(spec, joints=2)[:1]
    assert torch.autograd.gradcheck(lambda m: head.losses(head(m), target), (maps,), atol=1e-6)


@pytest.mark.parametrize("case", ["c0", "c1", "c2", "c3", "c4", "c6"])
def test_dsnt_against_the_golden_vectors(golden, case):
    arrays = {k: torch.from_numpy(v) for k, v in golden("ops").items() if k.startswith(f"{case}_")}
    logits, target, sigma = arrays[f"{case}_logits"], arrays[f"{case}_mu"], float(arrays[f"{case}_sigma"])
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-13} if logits.dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
    )
    distance = D.euclidean_losses(arrays[f"{case}_dsnt"], target)
    for name in ("js", "kl"):
        head = Head(HeadSpec(regulariser=name, sigma=sigma, weight=0.5))
        out = head(logits)
        torch.testing.assert_close(out.heatmaps, arrays[f"{case}_flat_softmax"], **tolerance)
        torch.testing.assert_close(out.coords_norm, arrays[f"{case}_dsnt"], **tolerance)
        expected = distance + 0.5 * arrays[f"{case}_{name}"]
        torch.testing.assert_close(head.losses(out, target), expected, **tolerance)
    encoded = Head(HeadSpec(sigma=sigma)).encode(target, *logits.shape[-2:])
    torch.testing.assert_close(encoded, arrays[f"{case}_gauss"], **tolerance)
    pictures = Head(HeadSpec("heatmap", sigma=sigma)).encode(target, *logits.shape[-2:])
    torch.testing.assert_close(pictures, arrays[f"{case}_gauss_unnorm"], **tolerance)


def test_volumetric_against_the_golden_vectors(golden):
    arrays = {k[3:]: torch.from_numpy(v) for k, v in golden("ops").items() if k.startswith("c5_")}
    logits, target = arrays["logits"], arrays["mu"]
    head = Head(HeadSpec("volumetric", regulariser="js", sigma=float(arrays["sigma"]), cells=6))
    out = head(logits.flatten(1, 2))
    tolerance = (
        {"rtol": 1e-9, "atol": 1e-13} if logits.dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
    )
    torch.testing.assert_close(out.coords_norm, arrays["dsnt"], **tolerance)
    expected = D.euclidean_losses(arrays["dsnt"], target) + arrays["js"]
    torch.testing.assert_close(head.losses(out, target), expected, **tolerance)


# --- Codecs ---------------------------------------------------------------------------------------


def cell_errors(head, reach, rows=20, columns=28, count=4000):
    """Errors along each axis, in cells, of targets at least `reach` cells from the border cells' middles."""
    generator = torch.Generator().manual_seed(0)
    size = torch.tensor([columns, rows, head.spec.cells][: head.spec.dims]).double()
    target = torch.rand(1, count, head.spec.dims, generator=generator, dtype=torch.float64) * 2 - 1
    target = target * (size - 1 - 2 * reach) / size
    decoded = head.decode(head.encode(target, rows, columns))
    return ((decoded - target).abs() * size / 2)[0]


def sampling_limit(sigma):
    """How far, in cells, the mean of a sampled Gaussian can be from its centre, by Poisson's summation."""
    alias = math.exp(-2 * (math.pi * sigma) ** 2)
    return 4 * math.pi * sigma**2 * alias / (1 - 2 * alias)


@pytest.mark.parametrize(
    ("spec", "limit", "reached"),
    [
        (HeadSpec("heatmap", offset="none"), 0.5, 0.49),
        (HeadSpec("heatmap", offset="quarter"), 0.25, 0.24),
        (HeadSpec("heatmap", offset="subpixel"), 1e-9, 0),
        (HeadSpec("heatmap", activation="softmax", offset="subpixel"), 1e-9, 0),
        (HeadSpec("fc"), 0, 0),
        (HeadSpec(sigma=1.0), sampling_limit(1.0), 0),
        (HeadSpec(sigma=0.5), sampling_limit(0.5), 0.022),
    ],
    ids=str,
)
def test_circle_is_as_exact_as_the_strategy_allows(spec, limit, reached):
    # Six standard deviations from the border, so that nothing is cut off.
    errors = cell_errors(Head(spec), reach=7)
    assert reached <= errors.max() <= limit + 1e-12


@pytest.mark.parametrize("offset", ["none", "quarter", "subpixel"])
def test_matching_is_off_by_half_a_cell_at_most_even_at_the_border(offset):
    assert cell_errors(Head(HeadSpec("heatmap", offset=offset)), reach=0).max() <= 0.5 + 1e-12


def test_volumetric_circle():
    head = Head(HeadSpec("volumetric", cells=16))
    assert cell_errors(head, reach=7, rows=16, columns=16, count=20).max() < 1e-6


def test_dsnt_can_say_exactly_whatever_lies_between_its_cells():
    target = torch.rand(1, 50, 2, dtype=torch.float64) * 2 - 1
    rows, columns = 6, 9
    px = D.normalized_to_pixel_coordinates(target, (rows, columns))
    px = torch.minimum(px.clamp(min=0), torch.tensor([columns - 1.0, rows - 1.0]).double())
    x, y = px.unbind(-1)
    shares = [(1 - (v[..., None] - torch.arange(n)).abs()).clamp(min=0) for v, n in ((x, columns), (y, rows))]
    splat = shares[1][..., :, None] * shares[0][..., None, :]
    expected = D.pixel_to_normalized_coordinates(px, (rows, columns))
    torch.testing.assert_close(Head(HeadSpec()).decode(splat), expected)


def test_peak_by_hand():
    scores = torch.tensor([[0.0, 1.0, 3.0, 2.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]])
    plain = peak_coords(scores, "none")
    torch.testing.assert_close(plain, torch.tensor([(2 * 2 + 1) / 4 - 1, 1 / 3 - 1]))
    quarter = peak_coords(scores, "quarter")
    torch.testing.assert_close(quarter, plain + torch.tensor([0.25 * 2 / 4, 0.0]))
    # A parabola through log 1, log 3, log 2 has its vertex here.
    vertex = 0.5 * (math.log(1) - math.log(2)) / (math.log(1) - 2 * math.log(3) + math.log(2))
    torch.testing.assert_close(peak_coords(scores, "subpixel"), plain + torch.tensor([vertex * 2 / 4, 0.0]))
    assert torch.equal(peak_coords(-torch.ones(2, 3, 1, 1), "subpixel"), torch.zeros(2, 3, 2))
    negative = scores - 5  # no logarithm
    assert torch.equal(peak_coords(negative, "subpixel"), quarter)


# --- Losses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [HeadSpec(regulariser="js"), HeadSpec("heatmap"), HeadSpec("fc", cells=7)])
def test_what_has_no_target_is_ignored_even_if_it_is_nan(spec):
    head = Head(spec)
    maps = maps_for(spec, dtype=torch.float32).requires_grad_()
    target = targets_for(spec, dtype=torch.float32)
    valid = torch.ones(2, 3, dtype=torch.bool)
    valid[0, 1] = False
    expected = head.losses(head(maps), target)
    target = target.clone()
    target[0, 1] = float("nan")
    target[..., 2] = float("nan")  # no head without depth looks at it
    losses = head.losses(head(maps), target, valid)
    torch.testing.assert_close(losses[valid], expected[valid])
    D.average_loss(losses, valid.float()).backward()
    assert torch.isfinite(maps.grad).all()


@pytest.mark.parametrize("regulariser", ["none", "js", "variance"])
def test_volumetric_without_depth_sees_the_image_plane_alone(regulariser):
    spec = HeadSpec("volumetric", regulariser=regulariser, cells=5)
    head = Head(spec)
    maps, target = maps_for(spec).requires_grad_(), targets_for(spec)
    deep = torch.tensor([[True, False, True], [False, False, True]])
    out = head(maps)
    flat = Head(HeadSpec(regulariser=regulariser))
    xy = out.heatmaps.sum(-3)
    expected = flat.losses(flat(xy)._replace(coords_norm=out.coords_norm[..., :2], heatmaps=xy), target)
    unknown = torch.where(deep, target[..., 2], float("nan"))
    losses = head.losses(out, torch.cat((target[..., :2], unknown[..., None]), -1), None, deep)
    torch.testing.assert_close(losses[~deep], expected[~deep])
    torch.testing.assert_close(losses[deep], head.losses(out, target)[deep])
    losses.sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_only_the_fully_connected_head_has_parameters():
    assert not list(Head(HeadSpec(regulariser="js")).parameters())
    assert not list(Head(HeadSpec("heatmap")).parameters())
    assert not list(Head(HeadSpec("volumetric")).parameters())
    assert sum(p.numel() for p in Head(HeadSpec("fc", cells=28)).parameters()) == 2 * 28 * 28 + 2


def test_no_gradient_passes_through_the_highest_cell():
    maps = torch.randn(1, 2, 5, 5, requires_grad=True)
    assert not Head(HeadSpec("heatmap"))(maps).coords_norm.requires_grad
    assert Head(HeadSpec())(maps).coords_norm.requires_grad


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strategy": "heatmap", "regulariser": "js"}, "regulariser: 'heatmap' has none, got 'js'"),
        ({"activation": "none"}, "sum to 1, got 'none'"),
        ({"weight": 0}, "HeadSpec.weight: must be positive"),
        ({"sigma": float("nan")}, "HeadSpec.sigma: must be positive"),
        ({"cells": 0}, "cells: expected 1 to 1024"),
        ({"strategy": "dsmt"}, "'dsmt' is not one of"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(HeadSpec, settings)


def test_maps_and_targets_that_do_not_fit():
    with pytest.raises(ValueError, match=r"made for 28 x 28 cells, got 7 x 7"):
        Head(HeadSpec("fc"))(torch.zeros(1, 2, 7, 7))
    with pytest.raises(ValueError, match=r"expected 28 for each joint, got 30"):
        Head(HeadSpec("volumetric"))(torch.zeros(1, 30, 7, 7))
    with pytest.raises(ValueError, match=r"maps: expected .* rows x columns"):
        Head(HeadSpec())(torch.zeros(7, 7))
    head = Head(HeadSpec())
    with pytest.raises(ValueError, match=r"target_norm: expected \(1, 2, 2\), got \(1, 3, 2\)"):
        head.losses(head(torch.zeros(1, 2, 7, 7)), torch.zeros(1, 3, 2))
