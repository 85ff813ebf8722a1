"""Output heads: four ways from a network's last maps to coordinates, as codecs.

A head belongs to the last maps of a network, `... x maps x rows x columns`, and does three things that only
make sense together: it encodes target coordinates as what those maps should be, measures how far they are
from that, and decodes maps to coordinates.

| strategy | the maps become | loss | decoding |
|---|---|---|---|
| `heatmap` | pictures of Gaussians | squared differences | the highest cell, and a fraction of a cell |
| `fc` | coordinates, by a linear layer | distance | none |
| `dsnt` | heatmaps that sum to 1 | distance and a regulariser | the expectation |
| `volumetric` | heatmaps over x, y and depth | distance and a regulariser | the expectation |

Coordinates are normalised: cell i of an axis of n cells lies at (2i - (n - 1)) / n.

Source: Nibali et al., "Numerical Coordinate Regression with Convolutional Neural Networks", sections 3 and 4;
volumetric soft-argmax: Sun et al., "Integral Human Pose Regression".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from margipose.dsnt import (
    dsnt,
    euclidean_losses,
    js_reg_losses,
    kl_reg_losses,
    make_gauss,
    mse_reg_losses,
    normalize_heatmaps,
    variance_reg_losses,
)

__all__ = ["Head", "HeadOutput", "HeadSpec", "peak_coords"]

Strategy = Literal["dsnt", "heatmap", "fc", "volumetric"]
Activation = Literal["auto", "none", "softmax", "relu", "sigmoid", "abs", "thresholded_softmax"]
Regulariser = Literal["none", "kl", "js", "mse", "variance"]
Offset = Literal["none", "quarter", "subpixel"]

_AUTOMATIC = {"dsnt": "softmax", "volumetric": "softmax", "heatmap": "none", "fc": "none"}
_REGULARISERS = {"kl": kl_reg_losses, "js": js_reg_losses, "mse": mse_reg_losses}
_MAX_CELLS = 1024


@dataclass(frozen=True)
class HeadSpec:
    """Which head, with its settings.

    Attributes:
        strategy: see the module.
        activation: what the maps go through first; see `dsnt.normalize_heatmaps`. `"none"` leaves them as
            they are, which `dsnt` and `volumetric` do not allow; `"auto"` is softmax for these and `"none"`
            for the others.
        regulariser: what keeps heatmaps in shape, for `dsnt` and `volumetric`.
        weight: of the regulariser beside the distance.
        sigma: standard deviation of target Gaussians, or the one that `"variance"` asks for, in cells.
        offset: of `heatmap`; see `peak_coords`.
        cells: for `fc`, the side of the (square) maps; for `volumetric`, cells along depth.

    Raises:
        ValueError: for settings that do not go together.
    """

    strategy: Strategy = "dsnt"
    activation: Activation = "auto"
    regulariser: Regulariser = "none"
    weight: float = 1.0
    sigma: float = 1.0
    offset: Offset = "quarter"
    cells: int = 28

    def __post_init__(self) -> None:
        expects = self.strategy in ("dsnt", "volumetric")
        if self.regulariser != "none" and not expects:
            raise ValueError(f"HeadSpec.regulariser: {self.strategy!r} has none, got {self.regulariser!r}")
        if self.activation == "none" and expects:
            raise ValueError(
                f"HeadSpec.activation: {self.strategy!r} needs heatmaps that sum to 1, got 'none'"
            )
        for name in ("weight", "sigma"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"HeadSpec.{name}: must be positive and finite, got {getattr(self, name)}")
        if not 1 <= self.cells <= _MAX_CELLS:
            raise ValueError(f"HeadSpec.cells: expected 1 to {_MAX_CELLS}, got {self.cells}")

    @property
    def dims(self) -> int:
        """Coordinates of a joint: 3 with depth, else 2."""
        return 3 if self.strategy == "volumetric" else 2

    @property
    def maps_per_joint(self) -> int:
        """How many maps of the network make one joint."""
        return self.cells if self.strategy == "volumetric" else 1


class HeadOutput(NamedTuple):
    """What a head says.

    Attributes:
        coords_norm: `... x J x dims`, normalised coordinates, x, y[, z].
        heatmaps: `... x J x [depth x] rows x columns` float32, what they were read from: distributions if
            the maps went through an activation, else plain scores.
    """

    coords_norm: Tensor
    heatmaps: Tensor


class Head(nn.Module):
    """An output head; its only parameters are those of the layer of `fc`.

    That layer is one linear map from a heatmap's cells to two coordinates, the same for all joints: the
    rival that DSNT has nothing but its fixed weights in common with.
    """

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec
        self.linear = nn.Linear(spec.cells**2, 2) if spec.strategy == "fc" else None

    @property
    def activation(self) -> str:
        """The activation itself, where the specification leaves it open."""
        automatic = _AUTOMATIC[self.spec.strategy]
        return automatic if self.spec.activation == "auto" else self.spec.activation

    def forward(self, maps: Tensor) -> HeadOutput:
        """Coordinates from the network's maps.

        Args:
            maps: `... x (J * maps_per_joint) x rows x columns`; half precision is computed in float32.

        Raises:
            ValueError: for maps whose number or size does not suit the head.
        """
        spec = self.spec
        if maps.dim() < 3:
            raise ValueError(f"maps: expected ... x maps x rows x columns, got {tuple(maps.shape)}")
        maps = maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps
        if spec.strategy == "volumetric":
            if maps.shape[-3] % spec.cells:
                raise ValueError(f"maps: expected {spec.cells} for each joint, got {maps.shape[-3]}")
            maps = maps.unflatten(-3, (-1, spec.cells))
        if self.activation != "none":
            maps = normalize_heatmaps(maps, self.activation, spatial_dims=spec.dims)  # type: ignore[arg-type]
        return HeadOutput(self.decode(maps if self.linear is None else self._regressed(maps)), maps)

    def encode(self, target_norm: Tensor, rows: int, columns: int) -> Tensor:
        """What the head should say for a target: heatmaps of the given size, or for `fc` the target itself.

        Gaussians sum to 1 where heatmaps do; otherwise their highest possible value is 1.

        Args:
            target_norm: `... x J x dims`.
        """
        spec = self.spec
        if spec.strategy == "fc":
            return target_norm
        size = (spec.cells, rows, columns) if spec.strategy == "volumetric" else (rows, columns)
        return make_gauss(target_norm, size, spec.sigma, normalize=self.activation != "none")

    def decode(self, encoded: Tensor) -> Tensor:
        """Coordinates `... x J x dims` from what `encode` gives or the network says.

        Args:
            encoded: heatmaps, `... x J x [depth x] rows x columns`; for `fc` coordinates, which stay as they
                are. No gradient passes through `heatmap`.
        """
        if self.spec.strategy == "fc":
            return encoded
        if self.spec.strategy == "heatmap":
            return peak_coords(encoded.detach(), self.spec.offset)
        return dsnt(encoded, spatial_dims=self.spec.dims)

    def _regressed(self, maps: Tensor) -> Tensor:
        assert self.linear is not None
        side = self.spec.cells
        if maps.shape[-2:] != (side, side):
            got = " x ".join(map(str, maps.shape[-2:]))
            raise ValueError(f"maps: the fully connected head was made for {side} x {side} cells, got {got}")
        with torch.autocast(maps.device.type, enabled=False):
            return self.linear(maps.flatten(-2))

    def losses(
        self,
        out: HeadOutput,
        target_norm: Tensor,
        valid: Tensor | None = None,
        depth_valid: Tensor | None = None,
    ) -> Tensor:
        """Loss of every joint.

        Args:
            out: from `forward`.
            target_norm: `... x J x 3` (or 2, for a head without depth); z is used by `volumetric` alone.
            valid: `... x J`, true for joints with a target; what `target_norm` has elsewhere is ignored
                (even NaN), and their loss means nothing.
            depth_valid: `... x J`, true for joints whose target has a depth, all of them by default; the
                others are judged by x, y and the heatmap summed over depth.

        Returns:
            `... x J`.

        Raises:
            ValueError: for a target whose shape does not suit the output.
        """
        dims = self.spec.dims
        if target_norm.shape[:-1] != out.coords_norm.shape[:-1] or target_norm.shape[-1] not in (dims, 3):
            raise ValueError(
                f"target_norm: expected {(*out.coords_norm.shape[:-1], dims)}, got {tuple(target_norm.shape)}"
            )
        target = target_norm[..., :dims]
        if valid is not None:
            # A NaN times zero, and its gradient, would be NaN.
            target = torch.where(valid.bool()[..., None], target, torch.zeros_like(target))
        if self.spec.strategy == "heatmap":
            wanted = self.encode(target, *out.heatmaps.shape[-2:])
            return ((out.heatmaps - wanted) ** 2).sum((-2, -1))
        if dims == 2 or depth_valid is None:
            return euclidean_losses(out.coords_norm, target) + self._shape_losses(out.heatmaps, target)
        deep = depth_valid.bool()
        z = torch.where(deep, target[..., 2], torch.zeros_like(target[..., 2]))
        target = torch.cat((target[..., :2], z[..., None]), -1)
        flat = euclidean_losses(out.coords_norm[..., :2], target[..., :2])
        flat = flat + self._shape_losses(out.heatmaps.sum(-3), target[..., :2])
        full = euclidean_losses(out.coords_norm, target) + self._shape_losses(out.heatmaps, target)
        return torch.where(deep, full, flat)

    def _shape_losses(self, heatmaps: Tensor, target: Tensor) -> Tensor | float:
        """The weighted regulariser; its number of dimensions is the target's."""
        spec = self.spec
        if spec.regulariser == "none":
            return 0.0
        if spec.regulariser == "variance":
            losses = variance_reg_losses(heatmaps, spec.sigma, spatial_dims=target.shape[-1])
        else:
            losses = _REGULARISERS[spec.regulariser](heatmaps, target, spec.sigma)
        return spec.weight * losses


def peak_coords(heatmaps: Tensor, offset: Offset = "quarter") -> Tensor:
    """Normalised coordinates of each heatmap's highest cell, moved by a fraction of a cell.

    Args:
        heatmaps: `... x rows x columns`.
        offset: `"none"`; `"quarter"`, a quarter of a cell towards the higher neighbour (Newell et al.,
            "Stacked Hourglass Networks"); `"subpixel"`, to the vertex of the parabola through the logarithms
            of the three cells, which is exact for a Gaussian, or as `"quarter"` where they are not all
            positive. Along an axis on which the cell lies at the border it is not moved.

    Returns:
        `... x 2`, x and y. For a Gaussian whose centre lies within the border cells' centres, the error
        along an axis is at most half a cell, a quarter of a cell away from the border, or none there.
    """
    rows, columns = heatmaps.shape[-2:]
    best = heatmaps.flatten(-2).argmax(-1)
    found = []
    for along, n, stride in (("x", columns, 1), ("y", rows, columns)):
        index = best % columns if along == "x" else best // columns
        inside = (index > 0) & (index < n - 1)
        # At the border any neighbours will do: they are not used.
        step = torch.where(inside, stride, 0)
        below, peak, above = (
            heatmaps.flatten(-2).gather(-1, (best + sign * step)[..., None])[..., 0] for sign in (-1, 0, 1)
        )
        moved = torch.zeros_like(peak)
        if offset != "none":
            moved = 0.25 * torch.sign(above - below)
        if offset == "subpixel":
            tiny = torch.finfo(heatmaps.dtype).tiny
            b, p, a = (v.clamp(min=tiny).log() for v in (below, peak, above))
            curvature = b - 2 * p + a
            fits = (below > tiny) & (above > tiny) & (curvature < 0)
            vertex = 0.5 * (b - a) / torch.where(fits, curvature, torch.ones_like(curvature))
            moved = torch.where(fits, vertex.clamp(-0.5, 0.5), moved)
        moved = torch.where(inside, moved, torch.zeros_like(moved))
        found.append((2 * (index + moved) + 1) / n - 1)
    return torch.stack(found, -1)
