from dataclasses import replace

import pytest
import torch

from margipose import dsnt
from margipose.backbones.networks import _timm
from margipose.model import (
    NAMED,
    MargiPose,
    ModelSpec,
    PoseOutput,
    build_model,
    check_input_size,
    get_model_spec,
    valid_input_sides,
)
from margipose.spec import from_mapping, to_mapping

SMALL = ModelSpec(
    backbone="efficientnet_lite0",
    n_stages=2,
    n_joints=5,
    feature_channels=16,
    column_channels=24,
    column_blocks=(0, 0, 0, 0),
)


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build_model(SMALL).eval()


def test_output_is_coordinates_and_heatmaps_of_every_stage(small):
    with torch.no_grad():
        out = small(torch.randn(2, 3, 64, 64))
    assert isinstance(out, PoseOutput)
    assert out.coords_norm.shape == (2, 5, 3)
    assert len(out.stages) == 2
    for heatmaps in (h for stage in out.stages for h in stage):
        assert heatmaps.shape == (2, 5, 8, 8)
        torch.testing.assert_close(heatmaps.sum((-1, -2)), torch.ones(2, 5))
    torch.testing.assert_close(out.coords_norm, dsnt.marginals_to_coords(out.stages[-1]))


def test_later_stages_see_the_heatmaps_of_earlier_ones(small):
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = small(images)
        combiner = small.combiners[0].weight
        saved = combiner.clone()
        combiner.mul_(-3)
        after = small(images)
        combiner.copy_(saved)
    assert torch.equal(before.stages[0].zy, after.stages[0].zy)
    assert not torch.equal(before.stages[1].zy, after.stages[1].zy)


@pytest.mark.parametrize("size", [(32, 32), (64, 128), (192, 96), (384, 16)])
def test_sizes_that_the_permutation_allows(small, size):
    with torch.no_grad():
        out = small(torch.randn(1, 3, *size))
    assert out.stages[0].xz.shape[2:] == (size[0] // 8, size[1] // 8)
    assert torch.isfinite(out.coords_norm).all()


def test_other_sizes_are_refused_by_name(small):
    with pytest.raises(ValueError, match=r"width.*80 px.*16, 32, 48, 64, 96, 128"):
        small(torch.zeros(1, 3, 64, 80))
    with pytest.raises(ValueError, match=r"height.*70 px"):
        small(torch.zeros(1, 3, 70, 64))
    with pytest.raises(ValueError, match=r"images.*3 x H x W"):
        small(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match=r"width.*16, 32"):
        check_input_size(ModelSpec(axis_permutation=False), 10**30 + 1, 64)
    assert 80 not in valid_input_sides(SMALL)
    assert valid_input_sides("margipose", 300) == [16, 32, 48, 64, 96, 128, 192, 256]
    flat = replace(SMALL, axis_permutation=False)
    assert 80 in valid_input_sides(flat)
    with torch.no_grad():
        assert build_model(flat).eval()(torch.zeros(1, 3, 80, 112)).stages[0].zy.shape[2:] == (10, 14)


def test_heatmaps_stay_float32_under_autocast(small):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        full = small(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = small(images)
    assert half.coords_norm.dtype == torch.float32
    assert all(h.dtype == torch.float32 for stage in half.stages for h in stage)
    torch.testing.assert_close(half.coords_norm, full.coords_norm, rtol=0, atol=0.05)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_memory_layout_changes_nothing_but_speed(small, layout):
    images = torch.randn(2, 3, 64, 64)
    other = build_model(SMALL).eval()
    other.load_state_dict(small.state_dict())
    other.to(memory_format=layout)
    with torch.no_grad():
        expected = small(images).coords_norm
        out = other(images.contiguous(memory_format=layout)).coords_norm
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_networks_are_laid_out_channels_last(small):
    weight = small.stages[0]["zy"].up[0].main[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_forward_leaves_nothing_behind(small):
    def attributes():
        return {n: set(vars(m)) for n, m in small.named_modules()}

    before = attributes()
    with torch.no_grad():
        small(torch.randn(1, 3, 64, 64))
    assert attributes() == before


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Converting a tensor")
def test_traced_and_exported(small):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = small(images).coords_norm
        program = torch.export.export(small, (torch.randn(2, 3, 64, 64),))
        torch.testing.assert_close(program.module()(images).coords_norm, expected)
        traced = torch.jit.trace(small, torch.randn(1, 3, 64, 64), strict=False)
        torch.testing.assert_close(traced(images)[0], expected)


def test_every_parameter_learns(small):
    model = build_model(SMALL)
    out = model(torch.randn(2, 3, 64, 64))
    (out.coords_norm.sum() + sum((h**2).sum() for s in out.stages for h in s)).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_float64(small):
    images = torch.randn(1, 3, 64, 64)
    double = build_model(SMALL).eval().double()
    double.load_state_dict(small.state_dict())
    with torch.no_grad():
        out = double(images.double())
        assert out.coords_norm.dtype == torch.float64
        torch.testing.assert_close(out.coords_norm.float(), small(images).coords_norm, rtol=1e-4, atol=1e-5)


def test_specifications_survive_json():
    for spec in NAMED.values():
        assert from_mapping(ModelSpec, to_mapping(spec)) == spec


def test_lite_is_light():
    from torch.utils.flop_counter import FlopCounterMode

    model = build_model("lite").eval()
    side = max(s for s in valid_input_sides("lite") if s <= 256)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() <= 3e9


def test_refuses_what_does_not_exist():
    with pytest.raises(ValueError, match=r"'light'.*did you mean 'lite'"):
        get_model_spec("light")
    with pytest.raises(ValueError, match="backbone"):
        build_model(ModelSpec(backbone="resnet19"))
    with pytest.raises(ValueError, match=r"n_stages.*got 0"):
        ModelSpec(n_stages=0)
    with pytest.raises(ValueError, match="column_blocks"):
        ModelSpec(column_blocks=(1, 1, 1))
    with pytest.raises(ValueError, match=r"column_blocks.*0 to 64"):
        ModelSpec(column_blocks=(1, 1, 1, 10**9))
    for name in ("n_stages", "n_joints", "feature_channels", "column_channels"):
        with pytest.raises(ValueError, match=rf"ModelSpec\.{name}: expected 1 to \d+, got 10{{30}}$"):
            ModelSpec(**{name: 10**30})
    with pytest.raises(ValueError, match=r"ModelSpec.direct: is for the type 'margipose', not 'backbone'"):
        ModelSpec(type="backbone", direct=True)
    with pytest.raises(ValueError, match="type"):
        build_model(ModelSpec(type="diamond"))


def test_direct_logits_are_added_to_those_of_xy():
    torch.manual_seed(0)
    net = build_model(replace(SMALL, direct=True)).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = net(images)
        features = net.backbone(images)
        net.direct[1].weight[3, 7] = 2.5
        net.direct[1].bias[3] = 1.0
        after = net(images)
    assert torch.equal(before.stages[0].xy, after.stages[0].xy)
    for plane in ("zy", "xz"):
        assert torch.equal(getattr(before.stages[1], plane), getattr(after.stages[1], plane))
    logits = before.stages[1].xy[:, 3].log() + 2.5 * features[:, 7]
    torch.testing.assert_close(after.stages[1].xy[:, 3], dsnt.flat_softmax(logits[:, None])[:, 0])
    others = [j for j in range(5) if j != 3]
    assert torch.equal(before.stages[1].xy[:, others], after.stages[1].xy[:, others])


def test_direct_logits_begin_as_the_heatmaps_of_joints_with_their_names():
    spec = replace(SMALL, backbone="blazepose", n_joints=3, direct=True)
    net = build_model(spec, joints=("pelvis", "left_knee", "right_wrist"))
    for layer in net.direct:
        expected = torch.zeros(3, net.backbone.channels, 1, 1)
        expected[1, net.backbone.heatmaps["left_knee"]] = 1
        expected[2, net.backbone.heatmaps["right_wrist"]] = 1
        torch.testing.assert_close(layer.weight.detach(), expected)
        assert not layer.bias.any()
    assert not build_model(replace(SMALL, direct=True)).direct[0].weight.any()  # knows none


def test_model_is_what_the_name_says():
    assert isinstance(build_model("margipose-resnet18"), MargiPose)
    assert _timm().is_model(NAMED["lite"].backbone)
