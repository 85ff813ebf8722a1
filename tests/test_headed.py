"""Networks of one head: the DSNT paper's, trained and scored by the same code as MargiPose."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from margipose import checkpoint
from margipose.backbones import build_dense_backbone
from margipose.config import combine
from margipose.data import PoseDataset, load_records
from margipose.evaluate import evaluate, get_protocol
from margipose.export import export
from margipose.headed import BackboneNetwork, Hourglass
from margipose.heads import HeadSpec
from margipose.infer import predict_image
from margipose.model import NAMED, ModelSpec, build_model, check_input_size, valid_input_sides
from margipose.skeleton import LSP
from margipose.spec import InputSpec, from_mapping, to_mapping
from margipose.train import fit

SMALL = ModelSpec("backbone", "test_resnet", n_joints=5, head=HeadSpec(regulariser="js"))
GLASS = ModelSpec("hourglass", n_stages=2, n_joints=5, feature_channels=16, stride=4)


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("dilated", [False, True])
@pytest.mark.parametrize("name", ["resnet18", "test_resnet"])
def test_resnets_at_every_resolution_of_the_paper(stride, dilated, name):
    torch.manual_seed(0)
    backbone = build_dense_backbone(name, stride=stride, dilated=dilated).eval()
    with torch.no_grad():
        assert backbone(torch.zeros(1, 3, 64, 96)).shape == (1, backbone.channels, 64 // stride, 96 // stride)
    assert (backbone.channels == {"resnet18": 512, "test_resnet": 96}[name]) or not dilated


def test_dilation_changes_neither_weights_nor_what_keeps_its_own_stride():
    torch.manual_seed(0)
    plain = build_dense_backbone("resnet18", stride=32, dilated=False).eval()
    dilated = build_dense_backbone("resnet18", stride=32, dilated=True).eval()
    finer = build_dense_backbone("resnet18", stride=8, dilated=True).eval()
    images = torch.randn(1, 3, 64, 64)
    for other in (dilated, finer):
        other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(plain(images), dilated(images))
    spread = {
        m.dilation for m in finer.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (3, 3)
    }
    assert spread == {(1, 1), (2, 2), (4, 4)}


def test_dilated_features_are_those_of_the_strided_network_at_its_positions():
    """Without padding's influence: the layers of a dilated group compute the strided group's values, too."""
    torch.manual_seed(0)
    strided = build_dense_backbone("resnet18", stride=16, dilated=False).eval()
    whole = build_dense_backbone("resnet18", stride=8, dilated=True).eval()
    first, other = (dict(b.net.named_children())["layer3"] for b in (whole, strided))
    first.load_state_dict(other.state_dict())
    # The second block alone: its convolutions have stride 1 in both, and are spread by 2 in one.
    x = torch.randn(1, 256, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        fine = first[1](x)[..., 4:-4:2, 4:-4:2]
        coarse = other[1](x[..., ::2, ::2])[..., 2:-2, 2:-2]
    torch.testing.assert_close(fine, coarse)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "convnext_atto", "regnetx_002"])
def test_any_network_of_timm_that_can(name):
    assert build_dense_backbone(name, stride=8)(torch.zeros(2, 3, 64, 64)).shape[2:] == (8, 8)
    assert build_dense_backbone(name, stride=16, dilated=False)(torch.zeros(2, 3, 64, 64)).shape[2:] == (4, 4)


def test_refuses_what_cannot_be_dilated():
    with pytest.raises(ValueError, match=r"'vgg11': cannot be dilated to stride 8"):
        build_dense_backbone("vgg11", stride=8)
    with pytest.raises(ValueError, match=r"'resnet18': can be dilated to strides 4, 8, 16 and 32, not 2"):
        build_dense_backbone("resnet18", stride=2)
    with pytest.raises(ValueError, match=r"'package': only 'efficientnet_lite0'"):
        build_dense_backbone("resnet18", "package")


@pytest.mark.parametrize("stride", [2, 4, 8, 16, 32])
@pytest.mark.parametrize("size", [(64, 64), (96, 32)])
def test_hourglass_at_every_stride_and_any_size(stride, size):
    model = build_model(replace(GLASS, stride=stride)).eval()
    assert isinstance(model, Hourglass)
    with torch.no_grad():
        out = model(torch.randn(2, 3, *size))
    assert [s.heatmaps.shape for s in out.stages] == [(2, 5, size[0] // stride, size[1] // stride)] * 2


def test_later_stacks_see_the_earlier_ones_and_every_parameter_learns():
    model = build_model(GLASS)
    images, target = torch.randn(2, 3, 64, 64), torch.rand(2, 5, 3) - 0.5
    model.losses(model(images), target).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    with torch.no_grad():
        before = model(images)
        model.combiners[0][1].weight.mul_(-3)
        after = model(images)
    assert torch.equal(before.stages[0].heatmaps, after.stages[0].heatmaps)
    assert not torch.equal(before.stages[1].heatmaps, after.stages[1].heatmaps)


@pytest.mark.parametrize("spec", [SMALL, GLASS], ids=lambda s: s.type)
def test_output_is_flat_unless_the_head_knows_depth(spec):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        out = build_model(spec).eval()(images)
        assert out.coords_norm.shape == (2, 5, 3)
        assert (out.coords_norm[..., 2] == 0).all()
        torch.testing.assert_close(out.coords_norm[..., :2], out.stages[-1].coords_norm)
        deep = replace(spec, head=HeadSpec("volumetric", cells=6))
        out = build_model(deep).eval()(images)
    assert out.stages[-1].heatmaps.shape[:3] == (2, 5, 6)
    assert (out.coords_norm[..., 2] != 0).all()
    assert (spec.dims, deep.dims, NAMED["lite"].dims) == (2, 3, 3)


def test_losses_add_up_over_stages():
    model = build_model(GLASS).eval()
    target = torch.rand(2, 5, 3) - 0.5
    with torch.no_grad():
        out = model(torch.randn(2, 3, 64, 64))
    each = [model.heads[0].losses(stage, target) for stage in out.stages]
    torch.testing.assert_close(model.losses(out, target), each[0] + each[1])


def test_sizes():
    assert valid_input_sides(SMALL, 40) == [8, 16, 24, 32, 40]
    fc = replace(SMALL, head=HeadSpec("fc", cells=8))
    assert valid_input_sides(fc) == [64]
    with pytest.raises(ValueError, match=r"a backbone cannot take 72 px; sides that work: 64$"):
        check_input_size(fc, 72, 64)
    with pytest.raises(ValueError, match=r"width: a hourglass cannot take 66 px"):
        build_model(GLASS)(torch.zeros(1, 3, 64, 66))
    with pytest.raises(ValueError, match=r"images.*3 x H x W"):
        build_model(GLASS)(torch.zeros(1, 1, 64, 64))


def test_settings_that_do_not_go_together():
    with pytest.raises(ValueError, match=r"head, stride and dilated are for the types 'backbone'"):
        ModelSpec(head=HeadSpec("heatmap"))
    with pytest.raises(ValueError, match=r"stride: expected one of \(2, 4, 8, 16, 32\), got 5"):
        replace(SMALL, stride=5)
    with pytest.raises(ValueError, match=r"even number, got 15"):
        build_model(replace(GLASS, feature_channels=15))
    with pytest.raises(ValueError, match="no ImageNet weights"):
        build_model(GLASS, True)
    with pytest.raises(ValueError, match=r"give model\.head\.sigma and model\.head\.regulariser"):
        combine([], {"model": to_mapping(NAMED["dsnt-resnet18"]), "sigma": 2.0})


def test_the_paper_s_networks_by_name():
    for depth in (18, 34, 50, 101, 152):
        assert NAMED[f"dsnt-resnet{depth}"].backbone == f"resnet{depth}"
    for stacks in (1, 2, 4, 8):
        with torch.device("meta"):
            model = build_model(f"dsnt-hourglass{stacks}")
        assert len(model.hourglasses) == len(model.heads) == stacks
    # Newell et al. give their eight stacks as about 25 million parameters.
    assert 23e6 < sum(p.numel() for p in model.parameters()) < 28e6
    for spec in NAMED.values():
        assert from_mapping(ModelSpec, to_mapping(spec)) == spec


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Converting a tensor")
def test_autocast_float64_tracing_and_export():
    images = torch.randn(2, 3, 64, 64)
    model = build_model(GLASS).eval()
    with torch.no_grad():
        full = model(images)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(images)
        assert half.stages[0].heatmaps.dtype == torch.float32
        torch.testing.assert_close(half.coords_norm, full.coords_norm, rtol=0, atol=0.05)
        program = torch.export.export(model, (images,))
        torch.testing.assert_close(program.module()(images).coords_norm, full.coords_norm)
        assert model.double()(images.double()).coords_norm.dtype == torch.float64


@pytest.mark.parametrize(
    "spec", [SMALL, GLASS, replace(SMALL, head=HeadSpec("fc", cells=8))], ids=lambda s: s.type
)
def test_checkpoints(spec, tmp_path):
    spec = replace(spec, n_joints=17)
    model = build_model(spec).eval()
    checkpoint.save(tmp_path / "w.safetensors", model, InputSpec(64, 64))
    loaded = checkpoint.load(tmp_path / "w.safetensors")
    assert loaded.model.spec == spec
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded.model(images).coords_norm, model(images).coords_norm)


# --- One training loop for all --------------------------------------------------------------------

HEADS = {
    "heatmap": {"strategy": "heatmap"},
    "fc": {"strategy": "fc", "cells": 8},
    "dsnt": {},
    **{f"dsnt-{r}": {"regulariser": r} for r in ("kl", "js", "mse", "variance")},
    "volumetric": {"strategy": "volumetric", "regulariser": "js", "cells": 8},
}


def settings(tiny, **model):
    return {
        **tiny,
        "model": {"type": "backbone", "backbone": "test_resnet", **model},
        "epochs": 3,
        "examples_per_epoch": 32,
        "augment": False,
        "lr": 3e-3,
    }


@pytest.mark.parametrize("head", HEADS)
def test_every_head_trains_and_is_scored_by_the_same_code(tiny, head):
    logged = []
    model = {"head": HEADS[head]} if head != "dsnt-kl" else {"head": HEADS[head], "dilated": False}
    result = fit(combine([], settings(tiny, **model)), lambda *entry: logged.append(entry))
    losses = [value for name, value, _ in logged if name == "loss"]
    assert losses[-1] < losses[0]
    values = result.evaluation.overall().values
    assert ("mpjpe" if head == "volumetric" else "pck_torso") in values
    assert np.isfinite(list(values.values())).all()
    assert isinstance(checkpoint.load(result.checkpoint).model, BackboneNetwork)


def test_stacked_hourglasses_train_in_parts(tiny):
    model = {"type": "hourglass", "n_stages": 2, "feature_channels": 16, "stride": 4}
    logged = []
    fit(
        combine([], {**settings(tiny), "model": model, "accumulate": 2, "ema": 0.9}),
        lambda *entry: logged.append(entry),
    )
    losses = [value for name, value, _ in logged if name == "loss"]
    assert losses[-1] < losses[0]


def test_a_network_without_depth_is_not_scored_in_space(people):
    model = build_model(replace(SMALL, n_joints=17)).eval()
    dataset = PoseDataset(load_records("mpi3d", people, "test"), InputSpec(64, 64))
    with pytest.raises(ValueError, match=r"protocol mpi3d scores poses in space; try protocol mpi3d_image"):
        evaluate(model, dataset, get_protocol("mpi3d"))
    with pytest.raises(ValueError, match=r"protocol custom scores poses in space$"):
        evaluate(model, dataset, get_protocol("custom"))


def test_prediction_says_nothing_about_depth_that_is_not_known(tmp_path):
    torch.manual_seed(0)
    model = build_model(replace(SMALL, n_joints=17)).eval()
    loaded = checkpoint.Loaded(model, InputSpec(64, 64), {})
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    found = predict_image(loaded, image, (10, 10, 80, 80))
    assert np.isnan(found.joints_cam_mm).all()
    assert np.isfinite(found.joints_px).all()
    assert found.to_json()["joints_cam_mm"][0] == [None, None, None]
    assert "not predicted" in found.depth
    # Half of a crop's pixel is what the published normalised space is off by.
    flat = predict_image(loaded, image, (10, 10, 80, 80), crop="affine")
    expected = 10 + (flat.coords_norm[:, :2] + 1) * 80 / 2 - 0.5
    np.testing.assert_allclose(flat.joints_px, expected, atol=0.7)
    with pytest.raises(ValueError, match="a backbone cannot be exported yet"):
        export(loaded, tmp_path / "model.pt2")


def test_labels_in_the_image_are_learnt_by_heart(tmp_path):
    """A 2D data set in its own layout: a network that knows a few photos by heart finds their joints."""
    generator = np.random.default_rng(0)
    joints = generator.uniform(20, 76, (8, 14, 2))
    joints[:, [LSP.index("right_hip"), LSP.index("left_shoulder")]] += [[-15, 15], [15, -15]]
    (tmp_path / "lspet" / "images").mkdir(parents=True)
    for i, points in enumerate(joints):
        image = np.full((96, 96, 3), 60, np.uint8)
        for j, (x, y) in enumerate(points):
            colour = [int(v) for v in np.random.default_rng(j).integers(80, 255, 3)]
            cv2.circle(image, (round(x), round(y)), 4, colour, -1)
        cv2.imwrite(str(tmp_path / "lspet" / "images" / f"im{i + 1:05d}.png"), image)
    labels = np.concatenate([joints, np.ones((8, 14, 1))], 2).transpose(1, 2, 0)
    savemat(tmp_path / "lspet" / "joints.mat", {"joints": labels})
    config = combine(
        ["adamw"],
        {
            "model": {"type": "hourglass", "n_stages": 1, "feature_channels": 32, "stride": 4},
            "model.head.regulariser": "js",
            "input": {"width": 64, "height": 64},
            "train_sets": ["lspet/trainval"],
            "eval_set": "lspet/trainval",
            "data_dir": str(tmp_path),
            "run_dir": str(tmp_path / "run"),
            "augment": False,
            "epochs": 1,
            "examples_per_epoch": 800,
            "batch_size": 8,
            "lr": 5e-3,
            "workers": 0,
        },
    )
    values = fit(config).evaluation.overall().values
    assert values["pck_torso"] > 0.9
