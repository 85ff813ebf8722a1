"""How fast poses are scored on this machine, in one process.

    python benchmarks/evaluate.py

From normalised coordinates to all values of MPI-INF-3DHP's protocol: back to the original camera, depth of
the root from the skeleton's height, alignment by a similarity transform, by rotation and by scale, PCK and
AUC. Beside it stand two plain loops over poses, whose values must agree: NumPy after the same formulas, as
evaluation scripts are written, and our functions called for one pose at a time. Each figure is the best of
several repeats, in processor time on one thread, so that other work on the machine changes it little; with
OMP_NUM_THREADS=1 NumPy's linear algebra is on that thread, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.crops import Crop, crop_camera, normalise_joints, point_map
from margipose.data import Sample
from margipose.evaluate import get_protocol, joints_in_camera, score
from margipose.skeleton import CANONICAL, VNECT_14
from margipose.spec import InputSpec

POSES = 100_000
LOOPED = 500
REPEATS = 5
SPEC = InputSpec(256, 256)


def make_poses(count: int) -> tuple[torch.Tensor, Sample]:
    """Noisy predictions for random people in random crops, and the samples that they belong to."""
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    joints = 250 * normal(count, len(CANONICAL), 3) + torch.tensor([0.0, 0.0, 3500.0])
    intrinsics = torch.tensor([1500.0, 1500.0, 1024.0, 1024.0], dtype=torch.float64).expand(count, 4)
    crop = Crop.make(1024 + 20 * normal(count, 2), 0.5, (2048, 2048), (256, 256))
    coords = normalise_joints(joints, crop, intrinsics, CANONICAL, SPEC.centre)
    nothing = torch.zeros(count)
    sample = Sample(nothing, coords, nothing, nothing, joints, intrinsics, crop, torch.arange(count))
    return coords + 0.01 * normal(*coords.shape), sample


def part(sample: Sample, rows: slice) -> Sample:
    columns = (Crop(*(y[rows] for y in x)) if isinstance(x, Crop) else x[rows] for x in sample)
    return Sample(*columns)


def batched(coords: torch.Tensor, sample: Sample, size: int = 4096) -> dict[str, NDArray[np.float64]]:
    """Into the camera batch by batch, as a network's predictions come; then all scored at once."""
    protocol = get_protocol("mpi3d")
    joints = []
    for start in range(0, len(coords), size):
        rows = slice(start, start + size)
        joints.append(joints_in_camera(coords[rows], part(sample, rows), SPEC, protocol.depth))
    return score(torch.cat(joints), sample.joints_cam_mm, protocol).values


def same_one_by_one(coords: torch.Tensor, sample: Sample) -> dict[str, NDArray[np.float64]]:
    """The same functions, called for each pose."""
    found = [batched(coords[i : i + 1], part(sample, slice(i, i + 1))) for i in range(len(coords))]
    return {name: np.concatenate([values[name] for values in found]) for name in found[0]}


def one_by_one(coords: torch.Tensor, sample: Sample) -> dict[str, NDArray[np.float64]]:
    """The same values by a loop over poses and, for AUC, thresholds."""
    cameras = crop_camera(sample.crop, sample.intrinsics).numpy()
    maps = point_map(sample.crop, sample.intrinsics).numpy()
    size = sample.crop.out_size.numpy()
    found: dict[str, list[float]] = {}
    for i in range(len(coords)):
        pose = recovered(coords[i].numpy(), cameras[i], maps[i], size[i])
        for name, value in pose_values(pose, sample.joints_cam_mm[i].numpy()).items():
            found.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in found.items()}


def recovered(coords: NDArray, camera: NDArray, to_crop: NDArray, size: NDArray) -> NDArray:
    k = (size / camera[:2]).max()
    depth = 1 / (1 - coords[:, 2] * k / (np.sqrt(1 + k**2) + 1))
    xy = coords[:, :2] * camera[2:] / camera[:2] * depth[:, None]
    pose = np.linalg.solve(to_crop, np.column_stack((xy, depth)).T).T

    def between(a: str, b: str) -> float:
        return float(np.linalg.norm(pose[CANONICAL.index(a)] - pose[CANONICAL.index(b)]))

    height = between("left_knee", "left_hip") + between("pelvis", "spine") + between("spine", "neck")
    return pose * 920 / height


def pose_values(actual: NDArray, expected: NDArray) -> dict[str, float]:
    root = CANONICAL.index("pelvis")
    actual, expected = actual - actual[root], expected - expected[root]
    plain = distances(actual, expected)
    similar = distances(aligned(actual, expected, scale=True), expected)
    rigid = distances(aligned(actual, expected, scale=False), expected)
    scaled = distances(actual * (actual * expected).sum() / (actual**2).sum(), expected)
    return {
        "mpjpe": plain.mean(),
        "pck": (plain < 150).mean(),
        "auc": np.mean([(plain < t).mean() for t in range(0, 151, 5)]),
        "p_mpjpe": similar.mean(),
        "p_pck": (similar < 150).mean(),
        "p_auc": np.mean([(similar < t).mean() for t in range(0, 151, 5)]),
        "r_mpjpe": rigid.mean(),
        "n_mpjpe": scaled.mean(),
    }


def aligned(actual: NDArray, expected: NDArray, scale: bool) -> NDArray:
    p, r = actual - actual.mean(0), expected - expected.mean(0)
    u, s, vh = np.linalg.svd(r.T @ p)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vh))])
    turned = p @ ((u * sign) @ vh).T
    return turned * ((s * sign).sum() / (p**2).sum() if scale else 1) + expected.mean(0)


SCORED = CANONICAL.indices(VNECT_14)


def distances(actual: NDArray, expected: NDArray) -> NDArray:
    return np.linalg.norm(actual - expected, axis=1)[SCORED]


def best_seconds(run: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    torch.set_num_threads(1)
    coords, sample = make_poses(POSES)
    few = coords[:LOOPED], part(sample, slice(LOOPED))
    ours = batched(*few)
    for loop in (one_by_one, same_one_by_one):
        for name, values in loop(*few).items():
            np.testing.assert_allclose(ours[name], values, rtol=0, atol=1e-6, err_msg=name)
    fast = best_seconds(lambda: batched(coords, sample)) / POSES
    print(f"{len(ours)} values of each pose, one thread")
    print(f"{'batched':24} {1 / fast:9,.0f} poses/s: {fast * POSES:.2f} s for {POSES:,}")
    for title, loop in (("loop of formulas", one_by_one), ("loop of our functions", same_one_by_one)):
        slow = best_seconds(lambda: loop(*few)) / LOOPED  # noqa: B023
        print(f"{title:24} {1 / slow:9,.0f} poses/s: {slow / fast:.0f} times slower")


if __name__ == "__main__":
    main()
