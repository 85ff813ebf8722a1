import pytest
import torch
from torch import nn

from margipose.heads import Column, Residual, init_weights, permute_axes, valid_sides


def permute_by_index(x, plane):
    """The definition, cell by cell: in each group the channel is the depth."""
    height, width = x.shape[2:]
    side = width if plane == "zy" else height
    out = torch.empty_like(x)
    for c in range(x.shape[1]):
        group, d = divmod(c, side)
        for y in range(height):
            for i in range(width):
                if plane == "zy":
                    out[:, group * side + i, y, d] = x[:, c, y, i]
                else:
                    out[:, group * side + y, d, i] = x[:, c, y, i]
    return out


@pytest.mark.parametrize("plane", ["zy", "xz"])
@pytest.mark.parametrize("size", [(4, 4), (2, 6), (6, 4), (12, 1)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_permutation_against_its_definition(plane, size, channels_last):
    x = torch.randn(2, 12, *size)
    expected = permute_by_index(x, plane)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    out = permute_axes(x, plane)
    assert torch.equal(out, expected)
    assert torch.equal(permute_axes(out, plane), x)  # twice is the identity


def test_permutation_leaves_xy_alone():
    x = torch.randn(1, 7, 5, 3)
    assert permute_axes(x, "xy") is x


def test_permutation_refuses_maps_that_do_not_divide_the_channels():
    x = torch.randn(1, 12, 4, 5)
    assert permute_axes(x, "xz").shape == x.shape
    with pytest.raises(ValueError, match=r"zy.*4x5.*got 12.*work: 1, 2, 3, 4, 6, 12"):
        permute_axes(x, "zy")
    assert 16 in valid_sides(192)
    assert 20 not in valid_sides(192)


@pytest.mark.parametrize(("resample", "size"), [(None, (6, 8)), ("down", (3, 4)), ("up", (12, 16))])
def test_residual_is_main_plus_shortcut(resample, size):
    torch.manual_seed(0)
    block = Residual(5, 7, resample)
    x = torch.randn(2, 5, 6, 8)
    out = block(x)
    assert out.shape == (2, 7, *size)
    assert torch.equal(out, block.main(x) + block.shortcut(x))
    assert (out < 0).any()  # nothing rectifies the sum
    assert all(m.bias is None for m in block.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)))


@pytest.mark.parametrize("blocks", [(2, 2, 2, 1), (0, 0, 0, 0)])
def test_column_keeps_the_resolution(blocks):
    column = Column(8, 12, 5, "zy", blocks)
    assert column(torch.randn(2, 8, 12, 8)).shape == (2, 5, 12, 8)
    assert len(column.down) == blocks[0] + blocks[1] + 1
    assert len(column.up) == blocks[2] + blocks[3] + 2


def test_column_refuses_unknown_planes():
    with pytest.raises(ValueError, match="'yz'"):
        Column(8, 12, 5, "yz")


def test_initial_weights_keep_the_scale_of_gradients():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(16, 64, 3), nn.BatchNorm2d(4)
    nn.init.zeros_(norm.weight)
    init_weights(nn.Sequential(conv, norm))
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
    assert (norm.weight == 1).all()
