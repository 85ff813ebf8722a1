import math

import pytest
import torch

from margipose import dsnt as D

CASES = range(7)


def tol(dtype):
    return {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}


def close(actual, expected):
    expected = torch.as_tensor(expected)
    torch.testing.assert_close(actual, expected, **tol(expected.dtype))


@pytest.fixture(params=CASES, ids=lambda c: f"c{c}")
def case(request, golden):
    prefix = f"c{request.param}_"
    return {k[len(prefix) :]: torch.from_numpy(v) for k, v in golden("ops").items() if k.startswith(prefix)}


def test_golden_heatmaps_and_coordinates(case):
    size = case["logits"].shape[2:]
    hm = D.flat_softmax(case["logits"])
    close(hm, case["flat_softmax"])
    close(D.normalize_heatmaps(case["logits"]), case["flat_softmax"])
    close(D.dsnt(hm), case["dsnt"])
    close(D.soft_argmax(hm, normalized_coordinates=False), case["dsnt_pixel"])
    close(D.make_gauss(case["mu"], size, case["sigma"].item()), case["gauss"])
    close(D.make_gauss(case["mu"], size, case["sigma"].item(), normalize=False), case["gauss_unnorm"])
    close(D.normalized_to_pixel_coordinates(case["mu"], size), case["norm2pix"])
    close(D.pixel_to_normalized_coordinates(case["norm2pix"], size), case["mu"])


def test_golden_regularisers(case):
    hm, mu, sigma = D.flat_softmax(case["logits"]), case["mu"], case["sigma"].item()
    close(D.js_reg_losses(hm, mu, sigma), case["js"])
    close(D.kl_reg_losses(hm, mu, sigma), case["kl"])
    close(D.variance_reg_losses(hm[:1], sigma), case["variance"])
    if "variance_full" in case:
        close(D.variance_reg_losses(hm, sigma), case["variance_full"])


def test_golden_gradients(case):
    def through_hm(f, weight):
        hm = case["flat_softmax"].clone().requires_grad_()
        (f(hm) * weight).sum().backward()
        return hm.grad

    def through_logits(f, weight):
        logits = case["logits"].clone().requires_grad_()
        (f(D.flat_softmax(logits)) * weight).sum().backward()
        return logits.grad

    mu, sigma = case["mu"], case["sigma"].item()
    close(through_hm(D.dsnt, case["w"]), case["dsnt_ghm"])
    close(through_logits(D.dsnt, case["w"]), case["dsnt_glogits"])

    def js(hm):
        return D.js_reg_losses(hm, mu, sigma)

    close(through_hm(js, case["v"]), case["js_ghm"])
    close(through_logits(js, case["v"]), case["js_glogits"])
    mu_var = mu.clone().requires_grad_()
    (D.js_reg_losses(case["flat_softmax"], mu_var, sigma) * case["v"]).sum().backward()
    close(mu_var.grad, case["js_gmu"])


def test_golden_coordinate_losses(case):
    a, b, mask = case["a"].clone().requires_grad_(), case["b"], case["mask"]
    losses = D.euclidean_losses(a, b)
    close(losses.detach(), case["euclidean"])
    close(D.mse_losses(a, b).detach(), case["mse"])
    close(D.l1_losses(a, b).detach(), case["l1"])
    close(D.average_loss(losses).detach(), case["avg"])
    close(D.average_loss(losses, mask).detach(), case["avg_mask"])
    close(D.average_loss(losses, torch.zeros_like(mask)).detach(), case["avg_mask_zero"])
    D.average_loss(losses, mask).backward()
    close(a.grad, case["euclidean_ga"])


def test_golden_one_hot_and_zero_distance(golden):
    ops = golden("ops")
    hm = torch.from_numpy(ops["delta_hm"])
    close(D.dsnt(hm), ops["delta_dsnt"])
    mu = D.dsnt(hm)
    js, kl = D.js_reg_losses(hm, mu, 1.0), D.kl_reg_losses(hm, mu, 1.0)
    close(js, ops["delta_js_f32"])
    close(kl, ops["delta_kl_f32"])
    a = torch.zeros(1, 1, 3, dtype=torch.float64, requires_grad=True)
    D.euclidean_losses(a, torch.zeros_like(a)).sum().backward()
    close(a.grad, ops["zero_dist_grad_dsntnn"])


def test_known_values():
    close(
        D.normalized_linspace(4, dtype=torch.float64),
        torch.tensor([-0.75, -0.25, 0.25, 0.75], dtype=torch.float64),
    )
    hm = torch.zeros(1, 1, 5, 8, dtype=torch.float64)
    hm[0, 0, 1, 6] = 1
    close(D.dsnt(hm), torch.tensor([[[(2 * 6 - 7) / 8, (2 * 1 - 4) / 5]]], dtype=torch.float64))
    close(D.soft_argmax(hm, normalized_coordinates=False), torch.tensor([[[6.0, 1.0]]], dtype=torch.float64))
    # The values a numpy user would get: size ordered (height, width), coordinates (x, y).
    assert D.normalized_to_pixel_coordinates(0.0, 5) == 2.0
    assert D.pixel_to_normalized_coordinates(2.0, 5) == 0.0


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "abs", "softmax", "thresholded_softmax"])
def test_activations_normalise(activation):
    torch.manual_seed(0)
    hm = D.normalize_heatmaps(torch.randn(2, 3, 6, 7, dtype=torch.float64), activation)
    assert (hm >= 0).all()
    close(hm.sum((-1, -2)), torch.ones(2, 3).double())


def test_thresholded_softmax_is_a_softmax_of_what_passes():
    scores = torch.tensor([[[0.0, 1.0, -2.0, -0.4]]], dtype=torch.float64)
    expected = torch.tensor([0.0, 1.0, -math.inf, -0.4], dtype=torch.float64).softmax(0)
    close(D.normalize_heatmaps(scores, "thresholded_softmax", threshold=-0.5)[0, 0], expected)


def test_sharpening_matches_power_without_underflow():
    hm = D.flat_softmax(torch.randn(1, 2, 4, 4, dtype=torch.float64))
    powered = hm**3
    close(D.sharpen_heatmaps(hm, 3), powered / powered.sum((-1, -2), keepdim=True))
    sharp = D.sharpen_heatmaps(torch.full((1, 1, 64, 64), 1 / 4096), 20)
    assert torch.isfinite(sharp).all()


def test_pooled_heatmaps_are_the_geometric_mean():
    several = D.flat_softmax(3 * torch.randn(3, 2, 4, 5, 6, dtype=torch.float64), 2)
    expected = several.prod(0) ** (1 / 3)
    expected = expected / expected.sum((-1, -2), keepdim=True)
    close(D.pool_heatmaps(several), expected)
    close(D.pool_heatmaps(several[:, 0, 0], 2), expected[0, 0])
    close(D.pool_heatmaps(7 * several[:1]), several[0])
    apart = torch.eye(16).reshape(16, 1, 1, 4, 4)  # nowhere do all of them find anything
    close(D.pool_heatmaps(apart), torch.full((1, 1, 4, 4), 1 / 16))
    assert D.pool_heatmaps(several.half()).dtype == torch.float32
    with pytest.raises(ValueError, match="expected at least one to pool"):
        D.pool_heatmaps(several[:0])


def brute_moments(hm):
    """Mean and covariance of one heatmap, by looping over its cells."""
    axes = [D.normalized_linspace(n, dtype=hm.dtype) for n in hm.shape]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1).reshape(-1, hm.dim())
    p = hm.reshape(-1, 1)
    mean = (p * grid).sum(0)
    return mean, ((grid - mean).T @ (p * (grid - mean)))


@pytest.mark.parametrize("size", [(6,), (5, 8), (4, 5, 6)])
def test_moments_against_brute_force(size):
    torch.manual_seed(1)
    hm = D.flat_softmax(2 * torch.randn(2, 3, *size, dtype=torch.float64))
    mean, cov = D.dsnt(hm), D.covariance(hm)
    for b in range(2):
        for j in range(3):
            expected_mean, expected_cov = brute_moments(hm[b, j])
            close(mean[b, j], expected_mean)
            close(cov[b, j], expected_cov)
    pixels = D.covariance(hm, normalized_coordinates=False)
    scale = torch.tensor(size[::-1], dtype=torch.float64) / 2
    close(pixels, cov * scale[:, None] * scale)
    close(D.entropy(hm), -(hm * hm.log()).flatten(2).sum(-1))
    close(
        D.entropy(torch.full((1, 1, 4, 4), 1 / 16).double()),
        torch.tensor([[math.log(16)]], dtype=torch.float64),
    )


def test_marginals_of_a_volume_give_its_own_mean_and_covariance():
    torch.manual_seed(2)
    volume = D.flat_softmax(torch.randn(2, 3, 6, 7, 8, dtype=torch.float64))  # z, y, x
    marginals = D.Marginals(volume.sum(-3), volume.sum(-1).transpose(-1, -2), volume.sum(-2))
    close(D.marginals_to_coords(marginals), D.dsnt(volume))
    close(D.marginals_to_covariance(marginals), D.covariance(volume))


@pytest.mark.parametrize("lead", [(), (4,), (2, 3, 4)])
def test_any_leading_dimensions(lead):
    torch.manual_seed(3)
    logits = torch.randn(*lead, 5, 6, dtype=torch.float64)
    mu = torch.rand(*lead, 2, dtype=torch.float64) - 0.5
    hm = D.flat_softmax(logits, spatial_dims=2)
    flat = hm.reshape(1, -1, 5, 6)
    close(D.dsnt(hm, spatial_dims=2), D.dsnt(flat).reshape(*lead, 2))
    close(D.js_reg_losses(hm, mu, 1.0), D.js_reg_losses(flat, mu.reshape(1, -1, 2), 1.0).reshape(lead))
    close(D.variance_reg_losses(hm, 1.0, spatial_dims=2), D.variance_reg_losses(flat, 1.0).reshape(lead))


def test_gradcheck():
    torch.manual_seed(4)
    logits = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    mu = (torch.rand(1, 2, 2, dtype=torch.float64) - 0.5).requires_grad_()
    for loss in (D.js_reg_losses, D.kl_reg_losses, D.mse_reg_losses):
        assert torch.autograd.gradcheck(lambda z, m, f=loss: f(D.flat_softmax(z), m, 1.0), (logits, mu))
    assert torch.autograd.gradcheck(lambda z: D.variance_reg_losses(D.flat_softmax(z), 1.0), logits)
    assert torch.autograd.gradcheck(lambda z: D.covariance(D.flat_softmax(z)), logits)
    assert torch.autograd.gradcheck(lambda z: D.entropy(D.flat_softmax(z)), logits)


def test_js_is_bounded_and_zero_for_the_target_itself():
    mu = torch.tensor([[[0.1, -0.2]]], dtype=torch.float64)
    gauss = D.make_gauss(mu, (9, 9), 1.0)
    close(D.js_reg_losses(gauss, mu, 1.0), torch.zeros(1, 1).double())
    far = D.make_gauss(-mu * 8, (9, 9), 0.1)
    assert D.js_reg_losses(far, mu, 0.1) <= math.log(2) + 1e-12


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    torch.manual_seed(5)
    logits = (4 * torch.randn(2, 3, 16, 16)).to(dtype)
    mu = torch.rand(2, 3, 2) - 0.5
    reference = D.js_reg_losses(D.flat_softmax(logits.float()), mu, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hm = D.flat_softmax(logits)
        assert hm.dtype == torch.float32
        assert D.dsnt(hm.to(dtype)).dtype == torch.float32
        torch.testing.assert_close(D.js_reg_losses(hm, mu, 1.0), reference)
    sharp = D.flat_softmax(1000 * logits)  # exact zeros: where half-precision logarithms give NaN
    assert torch.isfinite(D.js_reg_losses(sharp.to(dtype), mu.to(dtype), 1.0)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_half_precision_coordinates_are_float32(dtype):
    many = torch.ones(1000, 100, dtype=dtype)  # their sum is beyond float16
    assert D.average_loss(many) == 1
    assert D.average_loss(many, many) == 1
    a, b = torch.tensor([[[0.1, 0.2]]], dtype=dtype), torch.tensor([[[0.10009765625, 0.3]]])
    for loss in (D.euclidean_losses, D.l1_losses, D.mse_losses):
        torch.testing.assert_close(loss(a, b), loss(a.float(), b))
    px = D.normalized_to_pixel_coordinates(torch.tensor([0.123], dtype=dtype), [1920])
    assert px.dtype == torch.float32


def test_gradients_stay_finite_where_softmax_underflows():
    logits = (1000 * torch.randn(2, 3, 8, 8)).requires_grad_()
    hm = D.flat_softmax(logits)
    assert (hm == 0).any()
    mu = torch.zeros(2, 3, 2)
    total = D.entropy(hm).sum() + D.sharpen_heatmaps(hm, 0.5).sum() + D.sharpen_heatmaps(hm, 3).sum()
    (total + D.js_reg_losses(hm, mu, 1.0).sum() + D.kl_reg_losses(hm, mu, 1.0).sum()).backward()
    assert torch.isfinite(logits.grad).all()
    empty = D.normalize_heatmaps(-torch.ones(1, 1, 4, 4), "relu")
    assert torch.isfinite(D.sharpen_heatmaps(empty, 2)).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_coordinate_losses_can_be_scripted():
    a, b, mask = torch.rand(2, 3, 2), torch.rand(2, 3, 2), torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    for loss in (D.euclidean_losses, D.l1_losses, D.mse_losses):
        torch.testing.assert_close(torch.jit.script(loss)(a, b), loss(a, b))
    losses = D.euclidean_losses(a, b)
    torch.testing.assert_close(torch.jit.script(D.average_loss)(losses, mask), D.average_loss(losses, mask))


def test_masked_average_ignores_nan_in_what_is_masked():
    losses = torch.tensor([[1.0, float("nan"), 3.0]], requires_grad=True)
    loss = D.average_loss(losses, torch.tensor([[1.0, 0.0, 1.0]]))
    assert loss.item() == 2.0
    loss.backward()
    assert torch.equal(losses.grad, torch.tensor([[0.5, 0.0, 0.5]]))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*jit.trace.*:DeprecationWarning")
def test_traced_and_exported_functions_follow_the_size_of_their_input():
    def f(logits, mu):
        hm = D.flat_softmax(logits)
        return D.dsnt(hm), D.js_reg_losses(hm, mu, 1.0), D.variance_reg_losses(hm, 1.0), D.covariance(hm)

    class Module(torch.nn.Module):
        def forward(self, logits, mu):
            return f(logits, mu)

    first, second = ((torch.randn(b, 3, h, w), torch.rand(b, 3, 2)) for b, h, w in ((2, 6, 8), (4, 9, 5)))
    torch.testing.assert_close(torch.jit.trace(f, first)(*second), f(*second))
    batch, height, width = (torch.export.Dim(n) for n in ("batch", "height", "width"))
    shapes = ({0: batch, 2: height, 3: width}, {0: batch})
    program = torch.export.export(Module(), first, dynamic_shapes=shapes)
    torch.testing.assert_close(program.module()(*second), f(*second))


def test_refuses_shapes_that_do_not_fit():
    hm = torch.zeros(2, 3, 4, 5)
    with pytest.raises(ValueError, match="same size"):
        D.euclidean_losses(torch.zeros(2, 3, 2), torch.zeros(2, 4, 2))
    with pytest.raises(ValueError, match="do not match"):
        D.js_reg_losses(hm, torch.zeros(2, 4, 2), 1.0)
    with pytest.raises(ValueError, match="2 spatial axes"):
        D.linear_expectation(hm, [torch.zeros(4)])
    with pytest.raises(ValueError, match="B x J"):
        D.flat_softmax(torch.zeros(3, 4))
    with pytest.raises(ValueError, match="B x J"):
        D.dsnt(torch.zeros(3))
    with pytest.raises(ValueError, match="activation"):
        D.normalize_heatmaps(hm, "tanh")
