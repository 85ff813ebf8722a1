"""Heatmap columns: from image features to the logits of one plane's marginal heatmaps.

A column works in image space (rows y, columns x) up to its narrowest map. For the planes that contain
the depth axis, an axis permutation there turns channels into a spatial axis and that axis into channels;
the rest of the column works in the new space. See the MargiPose paper, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

__all__ = ["Column", "Plane", "Residual", "init_weights", "permute_axes", "valid_sides"]

Plane = Literal["xy", "zy", "xz"]
PLANES: tuple[Plane, ...] = ("xy", "zy", "xz")

Resample = Literal["down", "up"]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, without an activation after their sum.

    `B x in_channels x H x W` to `B x out_channels x H' x W'`, where `resample="down"` halves the sides
    (rounding up) and `"up"` doubles them.
    """

    def __init__(self, in_channels: int, out_channels: int, resample: Resample | None = None) -> None:
        super().__init__()
        self.main = nn.Sequential(
            _conv(in_channels, out_channels, 3, resample),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            _conv(out_channels, out_channels, 3),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )
        self.shortcut = nn.Sequential(
            _conv(in_channels, out_channels, 1, resample), nn.BatchNorm2d(out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.shortcut(x)


def _conv(a: int, b: int, kernel: int, resample: Resample | None = None) -> nn.Module:
    kwargs = {"kernel_size": kernel, "padding": kernel // 2, "bias": False}
    if resample == "up":
        return nn.ConvTranspose2d(a, b, stride=2, output_padding=1, **kwargs)
    return nn.Conv2d(a, b, stride=2 if resample == "down" else 1, **kwargs)


def permute_axes(x: Tensor, plane: Plane) -> Tensor:
    """Swap a spatial axis with depth, which is read out of the channels.

    Channels are cut into consecutive groups; within a group the channel index is the depth. For `zy`
    depth changes places with x, so groups have as many channels as the map has columns; for `xz`
    with y, and groups have as many as there are rows. Depth and the axis that it replaces are thus equally
    long, which keeps the shape; the published definition is the case of a square map. `xy` is returned
    as it is.

    Args:
        x: `B x C x H x W`; C is a multiple of W for `zy`, of H for `xz`.

    Raises:
        ValueError: if the channels cannot be cut into such groups.
    """
    if plane == "xy":
        return x
    side, axis = (x.shape[3], 4) if plane == "zy" else (x.shape[2], 3)
    channels = x.shape[1]
    if channels % side:
        sides = ", ".join(map(str, valid_sides(channels)))
        raise ValueError(
            f"axis permutation: a {plane} map of {x.shape[2]}x{x.shape[3]} cells needs a multiple of {side} "
            f"channels, got {channels}; sides that work: {sides}"
        )
    return x.unflatten(1, (channels // side, side)).transpose(2, axis).flatten(1, 2)


def valid_sides(channels: int) -> list[int]:
    """The sides of maps of `channels` channels that the axis permutation allows: their divisors."""
    return [n for n in range(1, channels + 1) if channels % n == 0]


class Column(nn.Module):
    """One plane's column: `B x in_channels x H x W` to logits `B x n_joints x H x W`.

    Args:
        in_channels: of the features, and of the layers at their resolution.
        channels: at half of that resolution, where the axes are permuted.
        n_joints: joints, one heatmap each.
        plane: which axes to permute; `"xy"` for none.
        blocks: numbers of residual blocks before going down, below before the permutation, below after it,
            and after coming up. Those that change the resolution or give the logits come on top.

    Raises:
        ValueError: from `forward`, if H/2 or W/2 is a side that the permutation does not allow.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        n_joints: int,
        plane: Plane = "xy",
        blocks: Sequence[int] = (2, 2, 2, 1),
    ) -> None:
        super().__init__()
        if plane not in PLANES:
            raise ValueError(f"plane: {plane!r} is not one of {', '.join(map(repr, PLANES))}")
        before, below, permuted, after = blocks
        self.plane: Plane = plane
        self.down = nn.Sequential(
            *(Residual(in_channels, in_channels) for _ in range(before)),
            Residual(in_channels, channels, "down"),
            *(Residual(channels, channels) for _ in range(below)),
        )
        self.up = nn.Sequential(
            *(Residual(channels, channels) for _ in range(permuted)),
            Residual(channels, in_channels, "up"),
            *(Residual(in_channels, in_channels) for _ in range(after)),
            Residual(in_channels, n_joints),
        )

    def forward(self, features: Tensor) -> Tensor:
        return self.up(permute_axes(self.down(features), self.plane))


def init_weights(module: nn.Module) -> None:
    """Kaiming-normal (fan-out) convolutions and unit batch normalisation, in place, for all of `module`."""
    for m in module.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(m.weight, mode="fan_out")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.ones_(m.weight)
            nn.init.zeros_(m.bias)
