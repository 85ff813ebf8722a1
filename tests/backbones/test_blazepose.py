import pytest
import torch
import torch.nn.functional as F

from margipose.backbones import build_backbone

BLOCKS = """
3 1 0 16; 3 2 64 24; 3 1 144 24; 5 2 144 32; 5 1 192 32; 3 2 192 64; 3 1 384 64; 3 1 384 64; 5 1 384 88;
5 1 528 88; 5 1 528 88; 5 2 528 144; 5 1 864 144; 5 1 864 144; 5 1 864 144
"""
"""Kernel, stride, expanded and output channels of the published network's blocks."""


def plain(convolutions, x):
    """The published network's graph, layer after layer in its file's order."""
    layers = iter(convolutions)

    def conv(x, stride=1, rectified=True):
        layer = next(layers)
        pad = layer.kernel_size[0] // 2
        y = F.conv2d(x, layer.weight, layer.bias, stride, pad, groups=layer.groups)
        return y.clamp(0, 6) if rectified else y

    x = conv(x, 2)
    seen = {}
    for number, words in enumerate(BLOCKS.replace("\n", "").split(";")):
        _, stride, expanded, _out = map(int, words.split())
        wide = conv(x) if expanded else x
        if number == 1:  # the segmentation's
            assert next(layers) is next(layers) is None
        elif stride == 2:
            seen[number] = (x, conv(conv(x)))
        y = conv(conv(wide, stride), rectified=False)
        x = x + y if x.shape == y.shape else y
    top = conv(conv(x))
    decoded = [conv(conv(top))]
    for number in (11, 5, 3):
        up = F.interpolate(decoded[-1], scale_factor=2, mode="bilinear", align_corners=False)
        decoded.append(up + seen[number][1])
    for _ in range(11):  # the segmentation's, again
        assert next(layers) is None
    fine = F.avg_pool2d(decoded[3], 2)
    joints = conv(fine, rectified=False)
    deep = conv(conv(top))
    assert next(layers, "nothing is left") == "nothing is left"
    return fine, decoded[2], joints, decoded[1], deep


def test_features_are_those_of_the_published_graph():
    torch.manual_seed(0)
    net = build_backbone("blazepose", context=2).double().eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        actual = net(images)
        maps = plain(net._convolutions(), images)
        expected = torch.cat([F.interpolate(m, (8, 12), mode="bilinear") for m in maps], 1)
        torch.testing.assert_close(actual, expected)
        wrist = net.heatmaps["left_wrist"]
        torch.testing.assert_close(actual[:, wrist], maps[2][:, 4])


@pytest.mark.parametrize(("context", "channels"), [(0, 108), (1, 156), (2, 444)])
def test_any_size_of_whole_cells_will_do(context, channels):
    net = build_backbone("blazepose", context=context).eval()
    assert net.channels == channels
    with torch.no_grad():
        assert net(torch.randn(1, 3, 48, 80)).shape == (1, channels, 6, 10)


def test_early_layers_are_the_beginning():
    net = build_backbone("blazepose").eval()
    x = torch.randn(1, 3, 64, 64)
    for stride, channels in ((4, 24), (8, 32), (16, 88)):
        y = x
        for layer in net.early_layers(stride):
            y = layer(y)
        assert y.shape == (1, channels, 64 // stride, 64 // stride)
    with pytest.raises(ValueError, match="'blazepose': has no early layers of stride 32, only of 4, 8, 16"):
        net.early_layers(32)


def test_it_has_no_weights_on_a_hub_and_no_dense_features():
    from margipose.backbones import build_dense_backbone

    with pytest.raises(ValueError, match=r"'blazepose'.*pretrained='package'"):
        build_backbone("blazepose", pretrained=True)
    with pytest.raises(ValueError, match="'blazepose'"):
        build_dense_backbone("blazepose")
