import pytest
import torch
import torch.nn.functional as F

from margipose.backbones import build_backbone
from margipose.backbones.blazepose import fold, unfold

FULL = """
3 1 0 16; 3 2 64 24; 3 1 144 24; 5 2 144 32; 5 1 192 32; 3 2 192 64; 3 1 384 64; 3 1 384 64; 5 1 384 88;
5 1 528 88; 5 1 528 88; 5 2 528 144; 5 1 864 144; 5 1 864 144; 5 1 864 144
"""
HEAVY_TO_32 = """
3 1 0 24; 3 2 96 32; 3 1 128 32; 3 1 192 32; 3 1 192 32; 5 2 192 56; 5 1 336 56; 5 1 336 56; 5 1 336 56;
3 2 336 112; 3 1 672 112; 3 1 672 112; 3 1 672 112; 3 1 672 112; 3 1 672 112; 5 1 672 160; 5 1 960 160;
5 1 960 160; 5 1 960 160; 5 1 960 160; 5 1 960 160; 5 2 960 272
"""
BLOCKS = {
    "blazepose": FULL,
    "blazepose_heavy": HEAVY_TO_32 + "; 5 1 1632 272" * 7,
    "blazepose_short": HEAVY_TO_32,
}
"""Kernel, stride, expanded and output channels of the blocks."""
NOT_USED = {"blazepose": (0, 0, 11), "blazepose_heavy": (2, 0, 57), "blazepose_short": (2, 21, 57)}
"""Convolutions of the published network at strides 8 and 16, after the blocks, and after the decoder."""


def plain(name, convolutions, x):
    """The published network's graph, layer after layer in its file's order."""
    layers = iter(convolutions)
    branches, blocks, others = NOT_USED[name]

    def conv(x, stride=1, rectified=True):
        layer = next(layers)
        pad = layer.kernel_size[0] // 2
        y = F.conv2d(x, layer.weight, layer.bias, stride, pad, groups=layer.groups)
        return y.clamp(0, 6) if rectified else y

    def skip(count):
        assert [next(layers) for _ in range(count)] == [None] * count

    x = conv(x, 2)
    seen = []
    for number, words in enumerate(BLOCKS[name].replace("\n", " ").split(";")):
        _, stride, expanded, _out = map(int, words.split())
        wide = conv(x) if expanded else x
        if number == 1:  # the segmentation's
            skip(2)
        elif stride == 2:
            seen.append(conv(conv(x)))
            skip(branches if len(seen) > 1 else 0)
        y = conv(conv(wide, stride), rectified=False)
        x = x + y if expanded and x.shape == y.shape else y
    skip(blocks)
    top = conv(conv(x))
    decoded = [conv(conv(top))]
    for at_stride in reversed(seen):
        up = F.interpolate(decoded[-1], scale_factor=2, mode="bilinear", align_corners=False)
        decoded.append(up + at_stride)
    skip(others)
    fine = F.avg_pool2d(decoded[3], 2)
    joints = conv(fine, rectified=False)
    deep = conv(conv(top))
    assert next(layers, "nothing is left") == "nothing is left"
    return fine, decoded[2], joints, decoded[1], deep


@pytest.mark.parametrize("name", BLOCKS)
def test_features_are_those_of_the_published_graph(name):
    torch.manual_seed(0)
    net = build_backbone(name, context=2).double().eval()
    images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        actual = net(images)
        maps = plain(name, net._convolutions(), images)
        expected = torch.cat([F.interpolate(m, (8, 12), mode="bilinear") for m in maps], 1)
        torch.testing.assert_close(actual, expected)
        wrist = net.heatmaps["left_wrist"]
        torch.testing.assert_close(actual[:, wrist], maps[2][:, 4])


def test_the_short_one_takes_the_first_weights_of_the_heavy_one():
    torch.manual_seed(0)
    heavy, short = (build_backbone(n, context=2) for n in ("blazepose_heavy", "blazepose_short"))
    published = []
    for conv in heavy._convolutions():
        weight, bias = (torch.zeros(1), torch.zeros(1)) if conv is None else (conv.weight, conv.bias)
        if conv is heavy.joints:  # of whose 39 landmarks the network keeps some
            weight, bias = (torch.zeros(39, *x.shape[1:]) for x in (weight, bias))
        published.append((weight.detach(), bias.detach()))
    short.load_published(published)
    theirs = heavy.state_dict()
    for name, value in short.state_dict().items():
        if not name.startswith("joints"):
            torch.testing.assert_close(value, theirs[name][: len(value)])


@pytest.mark.parametrize(("context", "channels"), [(0, 108), (1, 156), (2, 444)])
def test_any_size_of_whole_cells_will_do(context, channels):
    net = build_backbone("blazepose", context=context).eval()
    assert net.channels == channels
    with torch.no_grad():
        assert net(torch.randn(1, 3, 48, 80)).shape == (1, channels, 6, 10)


@pytest.mark.parametrize(
    ("name", "channels"), [("blazepose", (24, 32, 88)), ("blazepose_short", (32, 56, 160))]
)
def test_early_layers_are_the_beginning(name, channels):
    net = build_backbone(name).eval()
    x = torch.randn(1, 3, 64, 64)
    for stride, width in zip((4, 8, 16), channels):
        y = x
        for layer in net.early_layers(stride):
            y = layer(y)
        assert y.shape == (1, width, 64 // stride, 64 // stride)
    with pytest.raises(ValueError, match=f"'{name}': has no early layers of stride 32, only of 4, 8, 16"):
        net.early_layers(32)


@pytest.mark.parametrize("name", ["blazepose", "blazepose_short"])
def test_it_has_no_weights_on_a_hub_and_no_dense_features(name):
    from margipose.backbones import build_dense_backbone

    with pytest.raises(ValueError, match=rf"'{name}'.*pretrained='package'"):
        build_backbone(name, pretrained=True)
    with pytest.raises(ValueError, match=f"'{name}'"):
        build_dense_backbone(name)


@pytest.fixture
def normalised():
    """A network with batch normalisation, as if it had learned."""
    torch.manual_seed(0)
    net = build_backbone("blazepose_short_bn", context=2).double()
    net.train()(torch.randn(8, 3, 96, 96, dtype=torch.float64))
    with torch.no_grad():
        for conv in net._convolutions():
            if conv is not None and conv is not net.joints:
                conv.norm.weight.uniform_(0.5, 1.5)
                conv.norm.bias.uniform_(0, 1)
                conv.norm.running_var.uniform_(0.2, 2)
    return net.eval()


def test_batch_normalisation_is_put_into_weights_and_taken_out_again(normalised):
    image, *others = (torch.randn(2, 3, 64, 96, dtype=torch.float64) for _ in range(3))
    plain = fold(normalised)
    again = unfold(plain, others)
    assert [n.name for n in (plain, again)] == ["blazepose_short", "blazepose_short_bn"]
    assert not any(n.training for n in (plain, again))
    sizes = [c.weight.flatten(1).norm(dim=1) for c in plain._convolutions() if c is not None]
    assert max(map(torch.max, sizes)) > 5 * min(map(torch.min, sizes))
    with torch.no_grad():
        wanted = normalised(image)
        assert wanted.std() > 0.1
        torch.testing.assert_close(plain(image), wanted)
        torch.testing.assert_close(again(image), wanted)
    for conv in again._convolutions():
        if conv is not None and conv is not again.joints:
            sizes = conv.weight.flatten(1).norm(dim=1)
            torch.testing.assert_close(sizes, torch.ones_like(sizes))


def test_what_a_training_normalises_by_is_measured(normalised):
    plain = fold(normalised)
    images = [torch.randn(2, 3, 64, 64, dtype=torch.float64) for _ in range(4)]
    batch = torch.cat(images)
    # In training, by the batch itself, which is what was measured.
    trained = unfold(plain, images).train()
    features = trained(batch)
    torch.testing.assert_close(features, plain(batch), rtol=0.01, atol=0.01)
    features.mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained.parameters())


def test_some_networks_have_no_batch_normalisation():
    with pytest.raises(ValueError, match="'blazepose': has no counterpart"):
        unfold(build_backbone("blazepose"), [])
    net = build_backbone("blazepose_short")
    with pytest.raises(ValueError, match="without images"):
        unfold(net, [])
    with pytest.raises(ValueError, match="'blazepose_short': has no batch normalisation"):
        fold(net)
