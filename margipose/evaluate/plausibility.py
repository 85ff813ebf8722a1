"""Whether predictions are what they are stated to be, judged by the labels: units, frames, axes, sides.

Each check asks whether another reading of the numbers explains the labels far better. None of them changes
a prediction, and a network that is merely bad passes: its bodies are about as large as people, upright
where people are, and have their hands on the sides where people have them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from margipose.camera import project
from margipose.data import Records
from margipose.evaluate.protocols import Protocol

__all__ = ["check_plausible"]

_SAMPLE = 10_000
"""Poses that are looked at, evenly spread, if there are more."""

_ENOUGH = 8
"""Poses from which on a common rotation is no accident."""

_SIZES = (1 / 3, 3.0)
"""Bounds of predicted bodies' sizes relative to the labels'."""

_LENGTHS_MM = {"mm": 1.0, "cm": 10.0, "dm": 100.0, "m": 1000.0, "inches": 25.4}


def check_plausible(
    joints: Tensor,
    expected: Tensor,
    valid: Tensor,
    records: Records,
    protocol: Protocol,
    *,
    unit: str,
    space: str,
    source: str,
) -> None:
    """Ask, if predictions do not look like what they are stated to be.

    Args:
        joints, expected, valid: N x J x D predictions and labels, mm or px, and N x J, which labels count.
        records: of the labels, in the same skeleton.
        unit, space: what the predictions are stated to be in.

    Raises:
        ValueError: the question.
    """
    skeleton = records.skeleton
    scored = skeleton.indices(protocol.joints)
    needed = scored if protocol.root is None else [*scored, skeleton.index(protocol.root)]
    rows = torch.nonzero(valid[:, needed].all(-1)).squeeze(-1)
    if not len(rows):
        return
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), _SAMPLE)).round().long()]
    p, q = joints[rows].double(), expected[rows].double()
    question = _size(p[:, scored], q[:, scored], unit)
    if question is None and space != "root_relative":
        sampled = records.select(rows.numpy())
        question = _position(p, q, scored, sampled, protocol)
    if question is None:
        root = None if protocol.root is None else skeleton.index(protocol.root)
        sides = skeleton.indices(skeleton.mirrors)
        question = _orientation(p, q, scored, root, sides, _cameras(records, rows.numpy()))
    if question is None:
        question = _order(p, q, valid[rows], skeleton.joints)
    if question is not None:
        raise ValueError(f"{source}: {question} If all is as stated, score the predictions unchecked")


def _spread(points: Tensor) -> Tensor:
    """Root mean square distance of points, N x J x D, from their centroid; N."""
    return (points - points.mean(-2, keepdim=True)).square().sum(-1).mean(-1).sqrt()


def _size(p: Tensor, q: Tensor, unit: str) -> str | None:
    ratio = float((_spread(p) / _spread(q)).nanmedian())
    if _SIZES[0] <= ratio <= _SIZES[1]:
        return None
    if unit == "px":
        asked = "are they in pixels of the original image, or normalised, or pixels of a crop?"
    else:
        # What one of their numbers would have to mean.
        length_mm = _LENGTHS_MM[unit] / max(ratio, 1e-9)
        likely = [name for name, value in _LENGTHS_MM.items() if 0.5 < length_mm / value < 2]
        asked = f"are they in {likely[0]} rather than {unit}?" if likely else "in which unit are they?"
    return f"predicted bodies are {ratio:.2g} times as large as the labels: {asked}"


def _position(p: Tensor, q: Tensor, scored: list[int], records: Records, protocol: Protocol) -> str | None:
    """Whether people are where the labels are in the image, by about a body."""
    if protocol.dims == 2:
        seen, true = p[:, scored], q[:, scored]
        asked = "are they in pixels of the original image, or of a crop or a resized image?"
    else:
        # Who is nearer than about their own size is not seen as a whole.
        behind = int((p[:, scored, 2].mean(-1) <= _spread(p[:, scored])).sum())
        asked = "are they relative to the root, in world coordinates, or of another camera?"
        if 2 * behind > len(p):
            behind_it = f"{behind} of {len(p)} poses lie at the camera or behind it"
            return f"{behind_it}: {asked} Does z point away from it?"
        intrinsics = records.intrinsics[:].double()
        true = project(q[:, scored], intrinsics)
        # A body's middle is in front of the camera even if a hand is not.
        seen = project(p[:, scored].mean(-2, keepdim=True), intrinsics)
    distance = torch.linalg.vector_norm(seen.mean(-2) - true.mean(-2), dim=-1)
    away = float((distance / (true.amax(-2) - true.amin(-2)).amax(-1)).nanmedian())
    if away <= 1:
        return None
    return f"in the image, poses lie {away:.2g} body sizes away from the labels: {asked}"


def _cameras(records: Records, rows: NDArray[np.int64]) -> Tensor:
    """A number for each row, equal for rows that one rotation takes from the world to the camera."""
    columns = [records.ids[c][rows] for c in ("subject", "sequence", "camera") if c in records.ids]
    if not columns:
        return torch.zeros(len(rows), dtype=torch.long)
    return torch.from_numpy(np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].reshape(-1))


def _orientation(
    p: Tensor, q: Tensor, scored: list[int], root: int | None, sides: list[int], camera: Tensor
) -> str | None:
    """Whether other axes, sides or a rotation of each camera at least halve the error.

    All from sums of outer products: |R p - q|^2 = |p|^2 + |q|^2 - 2 tr(R^T q p^T).
    """
    if len(p) < _ENOUGH:
        return None

    def centred(points: Tensor) -> Tensor:
        origin = points.mean(-2, keepdim=True) if root is None else points[:, root, None]
        return points[:, scored] - origin

    a, b = centred(p), centred(q)
    size, power = float(b.square().sum()), float(a.square().sum() + b.square().sum())
    products = torch.einsum("nji,njk->nik", b, a)
    error = power - 2 * float(products.sum(0).trace())
    if error < size / 4:
        return None
    swapped = power - 2 * float(torch.einsum("nji,nji->", b, centred(p[:, sides])))
    if swapped < error / 4:
        return (
            "poses fit the labels far better with left and right exchanged: are these the person's own "
            "left and right, and images not mirrored?"
        )
    if p.shape[-1] == 2:
        return None
    total, best = products.sum(0), (error, "")
    for order, signs in product(permutations(range(3)), product((1, -1), repeat=3)):
        gain = sum(s * float(total[i, j]) for i, (j, s) in enumerate(zip(order, signs)))
        name = ", ".join(f"{'-' if s < 0 else ''}{'xyz'[j]}" for j, s in zip(order, signs))
        best = min(best, (power - 2 * gain, name))
    rotated = power - 2 * _rotated_gain(products, camera)
    if rotated < error / 4 and rotated < best[0] / 2:
        return (
            "poses fit the labels far better after one rotation for each camera: are they in world "
            "coordinates?"
        )
    if best[0] < error / 4:
        return (
            f"poses fit the labels far better with ({best[1]}) for (x, y, z): does x point right, y down "
            "and z away from the camera?"
        )
    return None


def _order(p: Tensor, q: Tensor, valid: Tensor, names: Sequence[str]) -> str | None:
    """Whether poses would fit far better if joints had each other's names."""
    from scipy.optimize import linear_sum_assignment

    there = [int(j) for j in torch.nonzero((valid & p.isfinite().all(-1)).all(0)).squeeze(-1)]
    if len(p) < _ENOUGH or len(there) < 2:
        return None
    a, b = (points[:, there] - points[:, there].mean(-2, keepdim=True) for points in (p, q))
    squares = [x.square().sum((0, 2)) for x in (a, b)]
    costs = squares[0][:, None] + squares[1] - 2 * torch.einsum("nik,njk->ij", a, b)
    error = float(costs.trace())
    if error < float(squares[1].sum()) / 4:
        return None
    own, other = linear_sum_assignment(costs.numpy())
    if float(costs[own, other].sum()) >= error / 4:
        return None
    named, found = next((there[i], there[j]) for i, j in zip(own, other) if i != j)
    return (
        f"poses fit the labels far better with joints in another order: what is called "
        f"{names[named]} lies where {names[found]} should; in which order are they?"
    )


def _rotated_gain(products: Tensor, camera: Tensor) -> float:
    """Sum of tr(R^T H) over cameras, H the sum of a camera's products and R the best rotation for it."""
    count = int(camera.max()) + 1
    sums = products.new_zeros(count, 3, 3).index_add_(0, camera, products)
    values = torch.linalg.svdvals(sums)
    gain = values[:, 0] + values[:, 1] + torch.linalg.det(sums).sign() * values[:, 2]
    few = torch.bincount(camera, minlength=count) < _ENOUGH
    return float(torch.where(few, sums.diagonal(dim1=-2, dim2=-1).sum(-1), gain).sum())
