import pytest
import torch

from margipose import dsnt as D
from margipose import losses as L


def close(actual, expected):
    expected = torch.as_tensor(expected)
    tol = {"rtol": 1e-9, "atol": 1e-13} if expected.dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-6}
    torch.testing.assert_close(actual, expected, **tol)


@pytest.fixture(params=["f8", "f4"])
def case(request, golden):
    arrays = golden("model_losses")
    prefix = request.param + "_"
    return {k[len(prefix) :]: torch.from_numpy(v) for k, v in arrays.items() if k.startswith(prefix)}


def logits_of(case):
    return [[case[f"logits_{p}_{s}"].clone().requires_grad_() for p in ("xy", "zy", "xz")] for s in range(2)]


def stages_of(logits):
    return tuple(D.Marginals(*map(D.flat_softmax, stage)) for stage in logits)


def random_stages(batch=3, joints=4, n_stages=2, dtype=torch.float64):
    logits = [
        [torch.randn(batch, joints, 6, 8, dtype=dtype, requires_grad=True) for _ in range(3)]
        for _ in range(n_stages)
    ]
    return logits, stages_of(logits)


def gradients(loss, logits):
    flat = [t for stage in logits for t in stage]
    return torch.autograd.grad(loss, flat, allow_unused=True, retain_graph=True)


def test_golden_losses(case):
    stages, xyz = stages_of(logits_of(case)), case["target"][..., :3]
    for s in range(2):
        close(D.marginals_to_coords(stages[s]).detach(), case[f"coords_{s}"])
    close(L.marginal_losses_3d(stages, xyz).detach(), case["loss3d"])
    close(L.marginal_losses_3d(stages, xyz, pixelwise=None).detach(), case["loss3d_nopix"])
    close(L.marginal_losses_2d(stages, xyz[..., :2]).detach(), case["loss2d"])
    close(D.average_loss(L.marginal_losses_3d(stages, xyz), case["mask"]).detach(), case["avg3d"])


def test_golden_mixed_batch_and_its_gradients(case):
    logits = logits_of(case)
    loss = L.marginal_loss(stages_of(logits), case["target"][..., :3], case["valid_depth"], case["mask"])
    close(loss.detach(), case["mixed"])
    loss.backward()
    for s in range(2):
        for p, tensor in zip(("xy", "zy", "xz"), logits[s]):
            if f"g_{p}_{s}" in case:
                close(tensor.grad, case[f"g_{p}_{s}"])
            else:
                close(tensor.grad.norm(), case[f"gnorm_{p}_{s}"])


def test_mixed_batch_is_the_choice_of_two_losses():
    torch.manual_seed(0)
    _, stages = random_stages()
    target = torch.rand(3, 4, 3, dtype=torch.float64) - 0.5
    deep = torch.tensor([True, False, True])
    for pixelwise in ("jsd", None):
        solid = L.marginal_losses_3d(stages, target, 1.5, pixelwise)
        flat = L.marginal_losses_2d(stages, target[..., :2], 1.5, pixelwise)
        mixed = L.marginal_losses(stages, target, deep, sigma=1.5, pixelwise=pixelwise)
        close(mixed, torch.where(deep[:, None], solid, flat))


def test_joints_may_lack_a_depth_one_by_one():
    torch.manual_seed(0)
    logits, stages = random_stages()
    target = torch.rand(3, 4, 3, dtype=torch.float64) - 0.5
    deep = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0]]).bool()
    solid = L.marginal_losses_3d(stages, target)
    flat = L.marginal_losses_2d(stages, target[..., :2])
    holes = torch.where(deep[..., None], target, target * torch.tensor([1, 1, float("nan")]))
    mixed = L.marginal_losses(stages, holes, deep)
    close(mixed, torch.where(deep, solid, flat))
    xy, zy, xz = gradients(mixed.sum(), logits[:1])
    assert (zy[~deep] == 0).all()
    assert (xz[~deep] == 0).all()
    assert (xy != 0).any((-1, -2)).all()


def test_what_does_not_count_may_be_nan():
    torch.manual_seed(1)
    logits, stages = random_stages()
    target = torch.rand(3, 4, 3, dtype=torch.float64) - 0.5
    deep = torch.tensor([1, 0, 0])
    mask = torch.tensor([[1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0]])
    holes = target.clone()
    holes[deep == 0, :, 2] = float("nan")
    holes[mask == 0] = float("nan")
    clean = L.marginal_loss(stages, target, deep, mask)
    dirty = L.marginal_loss(stages, holes, deep, mask)
    close(dirty, clean)
    for a, b in zip(gradients(dirty, logits), gradients(clean, logits)):
        assert torch.isfinite(a).all()
        close(a, b)
    for stage in logits:  # nothing is learned about depth from a sample that has none
        assert all((g[1:] == 0).all() for g in gradients(dirty, [stage])[1:])


def test_nothing_to_learn_from_is_zero_not_nan():
    _, stages = random_stages()
    nothing = torch.full((3, 4, 3), float("nan"), dtype=torch.float64)
    assert L.marginal_loss(stages, nothing, torch.ones(3), torch.zeros(3, 4)).item() == 0


def test_gradient_is_finite_at_a_perfect_prediction():
    hm = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    hm[0, 0, 2, 2] = 1
    hm.requires_grad_()
    L.marginal_loss([D.Marginals(hm, hm, hm)], torch.zeros(1, 1, 3).double(), torch.ones(1)).backward()
    assert torch.isfinite(hm.grad).all()


def test_bfloat16_autocast_gives_float32_losses():
    torch.manual_seed(2)
    _, stages = random_stages(dtype=torch.float32)
    target = torch.rand(3, 4, 3) - 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = L.marginal_loss(stages, target, torch.ones(3))
    assert loss.dtype == torch.float32
    close(loss, L.marginal_loss(stages, target, torch.ones(3)))


def test_refuses_what_does_not_fit():
    _, stages = random_stages()
    target = torch.zeros(3, 4, 3)
    with pytest.raises(ValueError, match=r"target.*3, 4, 3.*3, 5, 3"):
        L.marginal_losses_3d(stages, torch.zeros(3, 5, 3))
    with pytest.raises(ValueError, match="target"):
        L.marginal_losses_2d(stages, target)
    with pytest.raises(ValueError, match=r"has_depth.*got"):
        L.marginal_losses(stages, target, torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"mask.*got"):
        L.marginal_losses(stages, target, torch.ones(3), torch.ones(4))
    with pytest.raises(ValueError, match=r"pixelwise.*'kl'"):
        L.marginal_losses_3d(stages, target, pixelwise="kl")
    with pytest.raises(ValueError, match="stage"):
        L.marginal_losses_3d((), target)
