"""Distances between many poses and their labels after alignment, in blocks.

A block is an array `D x J x n`: coordinates, joints, poses. Every step runs over long rows of memory, and one
rotation serves all alignments that turn poses: several times faster than `geometry.align`, with the same
results.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from margipose.evaluate.protocols import Alignment

__all__ = ["aligned_errors", "distances"]

Block = NDArray[np.float64]

_STEPS = 12
"""Of the polar iteration, at most. Regular matrices take up to nine."""

_REGULAR = 1e-6
"""Determinant, of a matrix of norm 1, from which on it is taken for regular."""

_NEAR = 1e-9
"""Distance from a rotation that the next step squares away."""


def distances(a: Block, b: Block) -> Block:
    """`D x J x n` each, to `J x n`."""
    squares = (a - b) ** 2
    return np.sqrt(sum(squares[1:], squares[0]))


def aligned_errors(
    fitted: tuple[Block, Block],
    scored: tuple[Block, Block],
    kinds: Mapping[Alignment, bool],
    counts: NDArray[np.bool_] | None = None,
) -> dict[Alignment, Block]:
    """Distances after alignments of each pose.

    Args:
        fitted: predictions and labels, `D x F x n` each, root-relative, that alignments are fitted to.
        scored: the same people's joints, `D x S x n` each, whose distances are wanted.
        kinds: the alignments, and whether each may mirror poses; see `geometry.align`.
        counts: `F x n`, which of the joints fitted to count; the others may be NaN. All, if None.

    Returns:
        `S x n` for each of the kinds.
    """
    points, goals = fitted if counts is None else (np.where(counts, x, 0.0) for x in fitted)
    found: dict[Alignment, Block] = {}
    if "scale" in kinds:
        # Without a rotation the best factor may be negative, which mirrors all axes.
        factor = np.maximum(_ratio(_total(points * goals), _total(points**2)), 0)
        found["scale"] = distances(factor * scored[0], scored[1])
    turning = {kind: mirroring for kind, mirroring in kinds.items() if kind in ("rigid", "similarity")}
    if not turning:
        return found
    number = points.shape[1] if counts is None else np.maximum(counts.sum(0), 1)
    centres = [x.sum(1, keepdims=True) / number for x in (points, goals)]
    points, goals = points - centres[0], goals - centres[1]
    if counts is not None:
        points, goals = np.where(counts, points, 0.0), np.where(counts, goals, 0.0)
    covariance = np.stack([(goal * points).sum(1) for goal in goals])  # D x D x n
    moved, goal = scored[0] - centres[0], scored[1] - centres[1]
    for mirroring in sorted(set(turning.values())):
        rotation = _rotations(covariance, mirroring)
        turned = np.stack([sum(row[1:, None] * moved[1:], row[0] * moved[0]) for row in rotation])
        if turning.get("rigid") is mirroring:
            found["rigid"] = distances(turned, goal)
        if turning.get("similarity") is mirroring:
            # The best rotation does not depend on the scale.
            factor = _ratio(_total(rotation * covariance), _total(points**2))
            found["similarity"] = distances(factor * turned, goal)
    return found


def _total(block: Block) -> NDArray[np.float64]:
    """Sums over all but the last dimension. (NumPy is slow at sums over two dimensions at once.)"""
    return block.reshape(-1, block.shape[-1]).sum(0)


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    # All points in one place fit any scale equally well.
    return np.divide(a, b, out=np.ones_like(a), where=b > 0)


def _rotations(covariance: Block, mirroring: bool) -> Block:
    """`D x D x n` rotations that maximise the trace of rotation^T covariance (Umeyama, 1991).

    Where the covariance is regular and does not mirror (or may), that is its orthogonal polar factor, which
    takes an iteration of plain products. The others, such as those of flat or mirrored poses, are decomposed.
    """
    if len(covariance) != 3:
        return _decomposed(covariance, mirroring)
    found, regular = _polar_factors(covariance, mirroring)
    others = np.flatnonzero(~regular)
    if len(others):
        found[..., others] = _decomposed(covariance[..., others], mirroring)
    return found


def _decomposed(covariance: Block, mirroring: bool) -> Block:
    u, _, vh = np.linalg.svd(covariance.transpose(2, 0, 1))
    if not mirroring:
        u[..., -1] *= np.sign(np.linalg.det(u) * np.linalg.det(vh))[:, None]
    return np.ascontiguousarray((u @ vh).transpose(1, 2, 0))


def _polar_factors(matrices: Block, mirroring: bool) -> tuple[Block, NDArray[np.bool_]]:
    """Orthogonal polar factors of `3 x 3 x n` matrices, and n: for which of them it is the rotation sought.

    By Newton's iteration X <- (X + X^-T) / 2, each X scaled to determinant 1 (Higham, Functions of Matrices,
    2008, section 8.6). A step makes every singular value 1 or larger, so the determinant tells how far the
    largest is from 1.
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        x = matrices / np.sqrt(_total(matrices**2))
        cofactors, determinant = _cofactors(x)
        regular = (np.abs(determinant) if mirroring else determinant) > _REGULAR
        for _ in range(_STEPS):
            factor = np.cbrt(np.abs(determinant))
            x = x * (0.5 / factor) + cofactors * (0.5 * factor / determinant)
            cofactors, determinant = _cofactors(x)
            near = np.abs(determinant) < 1 + _NEAR
            if near[regular].all():
                break
        return (x + cofactors / determinant) / 2, regular & near


def _cofactors(matrices: Block) -> tuple[Block, NDArray[np.float64]]:
    """Of `3 x 3 x n` matrices, and their determinants."""
    found = np.empty_like(matrices)
    cycle = ((1, 2), (2, 0), (0, 1))
    for i, (j, k) in enumerate(cycle):
        for a, (b, c) in enumerate(cycle):
            np.multiply(matrices[j, b], matrices[k, c], out=found[i, a])
            found[i, a] -= matrices[j, c] * matrices[k, b]
    return found, (matrices[0] * found[0]).sum(0)
