import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from margipose.backbones import TimmFeatures, build_backbone, build_dense_backbone, networks
from margipose.backbones.extractor import IMAGENET_MEAN, IMAGENET_STD


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("inceptionv4", 384),
        ("resnet18", 128),
        ("resnet50", 512),
        ("efficientnet_lite0", 40),
        ("convnext_atto", 80),
    ],
)
def test_features_have_stride_8(name, channels):
    net = build_backbone(name).eval()
    assert net.channels == channels
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 96)).shape == (1, channels, 8, 12)


@pytest.mark.parametrize(("context", "channels"), [(1, 40 + 112), (2, 40 + 112 + 320)])
def test_context_appends_deeper_features(context, channels):
    net = build_backbone("efficientnet_lite0", context=context).eval()
    assert net.channels == channels
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 96)).shape == (1, channels, 8, 12)
        # Where the coarsest cells are not whole, they are cut.
        assert net(torch.randn(1, 3, 48, 80)).shape == (1, channels, 6, 10)


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "convnext_atto", "inceptionv4"])
def test_early_layers_compute_the_features_of_their_stride(name):
    net = build_backbone(name).eval()
    images = x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for layer in net.early_layers(8):
            x = layer(x)
        torch.testing.assert_close(x, net(images))


def test_early_layers_of_another_stride_are_fewer_or_refused():
    net = build_backbone("efficientnet_lite0", context=1)
    few, more, all_ = (len(net.early_layers(stride)) for stride in (4, 8, 16))
    assert few < more < all_ == len([*net.net.children()]) - 1 + len(net.net.blocks)
    with pytest.raises(ValueError, match="no features at stride 5, only at 2, 4, 8, 16"):
        net.early_layers(5)
    with pytest.raises(ValueError, match=r"'inceptionv4'.*stride 8 only, not at 4"):
        build_backbone("inceptionv4").early_layers(4)


def test_channels_come_second_also_from_networks_that_put_them_last():
    net = build_backbone("swin_tiny_patch4_window7_224", context=1).eval()
    assert net.channels == 192 + 384
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 224, 224)).shape == (1, 576, 28, 28)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "hiera_tiny_224"])
def test_networks_of_one_size_refuse_others_by_name(name):
    net = build_backbone(name).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 224, 224)).shape == (1, net.channels, 28, 28)
        with pytest.raises(ValueError, match=rf"'{name}': cannot take images of 96x64 px \(.*\)") as error:
            net(torch.zeros(1, 3, 64, 96))
    assert "\n" not in str(error.value)


def test_sizes_that_only_some_layer_refuses_are_refused_by_name_too(monkeypatch):
    class Refusing(nn.Module):
        def forward(self, images):
            assert images.shape[2] <= 64, "too high\nfor me"

    net = build_backbone("resnet18").eval()
    monkeypatch.setattr(net, "net", Refusing())
    with pytest.raises(ValueError, match=r"'resnet18': cannot take images of 96x128 px \(too high\)"):
        net(torch.zeros(1, 3, 128, 96))


def test_errors_that_are_not_about_the_size_stay_what_they_are():
    net = build_backbone("resnet18").eval()
    with pytest.raises(RuntimeError, match="type"):
        net(torch.zeros(1, 3, 64, 64, dtype=torch.float64))


def test_features_that_are_not_what_timm_says_are_refused(monkeypatch):
    timm = networks._timm()
    create = timm.create_model

    def mistaken(name, pretrained=False, **kwargs):
        if kwargs.get("out_indices") == (2,):
            kwargs["out_indices"] = (1,)
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", mistaken)
    with pytest.raises(
        ValueError, match=r"'resnet18': .* stride 8 are \(64, 16, 24\) .* 96x64 px, where \(64, 8, 12\)"
    ):
        build_backbone("resnet18")


def test_networks_that_compute_nothing_are_refused(monkeypatch):
    monkeypatch.setattr(TimmFeatures, "_maps", lambda self, images: images.no_such_attribute)
    with pytest.raises(
        ValueError, match=r"'resnet18': computes no features, .*224x224 px.*no_such_attribute"
    ):
        build_backbone("resnet18")


def test_trying_a_network_out_leaves_no_trace():
    torch.manual_seed(0)
    net = build_backbone("resnet18")
    assert all(module.training for module in net.modules())
    assert not net.net.bn1.num_batches_tracked
    assert not net.net.bn1.running_mean.any()


def test_networks_without_memory_can_be_looked_at():
    with torch.device("meta"):
        net = build_backbone("swin_tiny_patch4_window7_224")
    assert net.channels == 192
    assert all(p.is_meta for p in net.parameters())


def test_networks_that_need_memory_to_be_built_can_be_looked_at_too(monkeypatch):
    timm = networks._timm()
    create = timm.create_model

    def reading(name, **kwargs):
        torch.linspace(0, 1, 3)[0].item()
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", reading)
    with torch.device("meta"):
        assert all(p.is_meta for p in build_backbone("resnet18").parameters())
    assert not any(p.is_meta for p in build_backbone("resnet18").parameters())


def test_nothing_deeper_than_needed_is_kept():
    count = {
        n: sum(p.numel() for p in build_backbone(n).parameters()) for n in ("resnet18", "efficientnet_lite0")
    }
    assert count["resnet18"] < 1e6
    assert count["efficientnet_lite0"] < 1e5

    # ... and nothing that is built is left without a use.
    net = build_backbone("efficientnet_lite0")
    net(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def test_inception_cells_tile_the_image():
    net = build_backbone("inceptionv4")
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            assert module.padding == tuple(k // 2 for k in module.kernel_size)
        if isinstance(module, nn.MaxPool2d):
            assert module.padding == 1


def test_importing_the_module_does_not_import_timm():
    code = "import sys, margipose.backbones; assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_torchvision_operators_are_declared(monkeypatch):
    tries = []

    def importing(name):
        tries.append(name)
        if len(tries) < 3:
            raise RuntimeError(f"operator torchvision::margipose_test_{len(tries)} does not exist")
        return types.ModuleType(name)

    monkeypatch.setattr(networks.importlib, "import_module", importing)
    monkeypatch.setattr(networks.sys, "modules", {"timm.layers": None, "torchvision": None, "torch": torch})
    assert networks._timm().__name__ == "timm"
    assert set(networks.sys.modules) == {"torch"}
    assert hasattr(torch.ops.torchvision, "margipose_test_2")


def test_other_import_errors_are_not_swallowed(monkeypatch):
    def importing(name):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(networks.importlib, "import_module", importing)
    with pytest.raises(RuntimeError, match="out of luck"):
        networks._timm()


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match=r"'resnet81'.*did you mean 'resnet"):
        build_backbone("resnet81")
    with pytest.raises(ValueError, match="did you mean 'inceptionv4'"):
        build_backbone("inceptionv5")
    with pytest.raises(ValueError, match=r"vit_tiny.*stride 8, only at \[16\]"):
        build_backbone("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="stride 16"):
        build_backbone("inceptionv4", context=1)
    with pytest.raises(ValueError, match=r"pretrained.*'imagenet'"):
        build_backbone("resnet18", "imagenet")
    with pytest.raises(ValueError, match=r"'package'.*'resnet18'"):
        build_backbone("resnet18", "package")


def test_unreachable_weights_are_one_clear_error(monkeypatch):
    timm = networks._timm()
    create = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("cannot reach the hub\nand a long story")
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ValueError, match=r"'resnet18'.*could not be fetched \(cannot reach the hub\)"):
        build_backbone("resnet18", pretrained=True)
    with pytest.raises(ValueError, match=r"'inception_v4'.*could not be fetched") as error:
        build_backbone("inceptionv4", pretrained=True)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_that_expect_other_statistics_see_our_images(bias):
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8)).eval()
    nn.init.uniform_(layers[1].running_mean)
    pixels = torch.rand(2, 3, 16, 16)
    expected = layers((pixels - 0.5) / 0.5)
    mean, std = (x[:, None, None] for x in (IMAGENET_MEAN, IMAGENET_STD))
    networks._take_our_images(layers, "net", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    torch.testing.assert_close(layers((pixels - mean) / std), expected)
    with pytest.raises(ValueError, match="'net': its weights expect images normalised by"):
        networks._take_our_images(
            nn.Sequential(nn.Conv2d(3, 8, 3, bias=False)), "net", (0.5,) * 3, (0.5,) * 3
        )


@pytest.mark.parametrize("name", ["inceptionv4", "test_resnet"])
def test_what_pretrained_weights_expect_is_known(name, monkeypatch):
    timm, seen = networks._timm(), []
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **kwargs: create(name, **kwargs))
    fold = networks._take_our_images

    def folded(net, name, mean, std):
        stem = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
        before = stem.weight.detach().clone()
        fold(net, name, mean, std)
        torch.testing.assert_close(stem.weight.detach(), before * (IMAGENET_STD / 0.5)[:, None, None])
        seen.append((mean, std))

    monkeypatch.setattr(networks, "_take_our_images", folded)
    build_backbone(name, pretrained=True)
    assert seen == [((0.5,) * 3, (0.5,) * 3)]


def test_inceptionv4_is_not_a_dense_backbone():
    with pytest.raises(ValueError, match="timm's own is 'inception_v4', with dilated=false"):
        build_dense_backbone("inceptionv4")
