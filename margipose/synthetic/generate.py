"""Data sets of synthetic people, in MPI-INF-3DHP's prepared layout."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from margipose.data.mpi3d_calibration import CameraCalibration, write_calibration
from margipose.data.mpi3d_files import (
    MASKS,
    Metadata,
    TestAnnotations,
    TrainAnnotations,
    image_path,
    mask_path,
    read_metadata,
    sequence_dir,
    write_metadata,
    write_test_annotations,
    write_train_annotations,
)
from margipose.data.mpi3d_sequences import CAMERAS, MaskFlags
from margipose.files import replacing
from margipose.skeleton import CANONICAL, MPI3D
from margipose.synthetic.compose import OVERSAMPLE, paint
from margipose.synthetic.figure import Figure, random_look
from margipose.synthetic.old_body import random_shape
from margipose.synthetic.old_motion import ACTIONS, Clip, random_clip
from margipose.synthetic.scene import Box, Camera, place_camera, random_material, random_scene, view

__all__ = ["SequencePlan", "make_synthetic", "plan_sequences"]

Array = NDArray[np.floating]

FORMAT = 1
"""Raise this when the same seed begins to give other pictures, so that old and new are not mixed."""

CALIBRATION_PX = 2048
"""Calibrations and 2D labels are for images of this size, as in the real data; stored ones are smaller."""

_PER_CAMERA = 10
_MARKER = "synthetic.json"
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class SequencePlan:
    """One sequence to make: images per camera, for cameras 0, 1, ... in the order of `cameras`."""

    split: str
    subject: int
    sequence: int
    counts: tuple[int, ...]


def plan_sequences(frames: int) -> list[SequencePlan]:
    """Sequences that hold `frames` images in all, 80 % of them to train on, 10 % each val and test.

    A larger number of frames only adds to the plan, but for each split's last sequence. Subjects differ
    between train and val; test has its own numbers (TS1 is S1/Seq1), for other people still.

    Raises:
        ValueError: if there are too few frames for three splits.
    """
    if frames < 3:
        raise ValueError(f"frames: expected at least 3 (train, val, test), got {frames}")
    tenth = max(1, round(0.1 * frames))
    plan = []
    for split, left in zip(_SPLITS, (frames - 2 * tenth, tenth, tenth)):
        # Train and val share one row of subjects: every ninth is val. Both wear two outfits.
        number = 0
        while left > 0:
            if split == "test":
                subject, sequence, cameras = number + 1, 1, 1
            else:
                person, sequence = number // 2, number % 2 + 1
                subject = 9 * (person + 1) if split == "val" else person + person // 8 + 1
                cameras = 2
            here = min(left, cameras * _PER_CAMERA)
            counts = tuple(n for n in ((here + 1) // 2, here // 2) if n) if cameras == 2 else (here,)
            plan.append(SequencePlan(split, subject, sequence, counts))
            left -= here
            number += 1
    return plan


def make_synthetic(
    root: Path,
    frames: int,
    seed: int = 0,
    workers: int = 1,
    size: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make a data set of synthetic people, in MPI-INF-3DHP's prepared layout, without any download.

    Each sequence is one person in one short clip before one or two fixed cameras. Sequences that are
    already complete are kept, so a run that was interrupted can be repeated, and `frames` can be raised.
    The files depend on `seed` and `size` only, not on `workers`.

    Args:
        root: folder to hold `train`, `val` and `test`; made if need be.
        frames: number of images in all three.
        seed: of everything that is random.
        workers: number of processes; 1 works in this one.
        size: width and height of the images in pixels.
        progress: called after each sequence with the numbers of images that exist and that are wanted.

    Raises:
        ValueError: for arguments out of range, or if `root` holds synthetic people of another seed,
            size or version, or another data set.
        OSError: if a file cannot be written or a worker process dies. Finished sequences stay.
    """
    # All before the folder is claimed: a call that is refused must leave nothing behind.
    frames, seed = _whole("frames", frames, 3), _whole("seed", seed, 0)
    workers, size = _whole("workers", workers, 1), _whole("size", size, 32)
    plan, root = plan_sequences(frames), Path(root)
    _claim(root, {"format": FORMAT, "seed": seed, "size": size})
    missing = [p for p in plan if not _complete(root, p)]
    done = frames - sum(sum(p.counts) for p in missing)
    if progress:
        progress(done, frames)
    if workers == 1 or len(missing) < 2:
        for p in missing:
            make_sequence(root, p, seed, size)
            done += sum(p.counts)
            if progress:
                progress(done, frames)
        return
    # Fresh processes, not forks: the caller may run threads (torch, OpenCV).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, cv2.setNumThreads, (1,)) as pool:
        try:
            futures = {pool.submit(make_sequence, root, p, seed, size): p for p in missing}
            for future in as_completed(futures):
                future.result()
                done += sum(futures[future].counts)
                if progress:
                    progress(done, frames)
        except BrokenProcessPool as error:
            raise OSError(
                f"{root}: a worker process died (memory that ran out, or a script that lacks "
                "`if __name__ == '__main__':`); finished sequences are kept, the same call goes on"
            ) from error
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _whole(name: str, value: object, least: int) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number, at least {least}, got {value!r}")
    return int(value)


def _claim(root: Path, settings: dict[str, int]) -> None:
    """Leave a note of what a folder holds, or check it."""
    marker = root / _MARKER
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root}: expected a folder, got a file")
    if marker.is_file():
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{marker}: expected JSON ({reason}); use another folder") from error
        if found != settings:
            raise ValueError(f"{marker}: expected {settings}, got {found}; use another folder")
        return
    if any((root / split).exists() for split in _SPLITS):
        raise ValueError(f"{root}: expected an empty folder or one with {_MARKER}; it holds another data set")
    with replacing(marker) as temporary:
        temporary.write_text(json.dumps(settings), encoding="utf-8")


def _complete(root: Path, plan: SequencePlan) -> bool:
    # metadata.h5 is written last.
    path = sequence_dir(root, plan.split, plan.subject, plan.sequence) / "metadata.h5"
    if not path.is_file():
        return False
    frames = read_metadata(path).interesting_frames
    return tuple(len(f) for f in frames.values()) == plan.counts


def make_sequence(root: Path, plan: SequencePlan, seed: int, size: int) -> None:
    """Make one sequence's files; see `make_synthetic`."""
    split = _SPLITS.index(plan.split)
    person = np.random.default_rng([seed, split, plan.subject])
    rng = np.random.default_rng([seed, split, plan.subject, plan.sequence])
    shape, skin, hair = random_shape(person), person.random(), int(person.integers(6))
    figure = Figure(shape, random_look(rng, skin, hair))
    # Always as many poses and cameras as fit: what a sequence shows does not depend on its length.
    clip = random_clip(rng, shape, _PER_CAMERA)
    ids = (0,) if plan.split == "test" else sorted(rng.choice(CAMERAS, 2, replace=False).tolist())
    first = rng.uniform(0, 360)
    around = (first, first + rng.uniform(50, 310))
    cameras = {c: place_camera(rng, clip.posed.joints_world_mm, a) for c, a in zip(ids, around)}
    scene = random_scene(rng, list(cameras.values()))
    if ACTIONS[clip.action].seated:
        scene.boxes.append(_seat(rng, clip))
    directory = sequence_dir(root, plan.split, plan.subject, plan.sequence)
    (directory / "metadata.h5").unlink(missing_ok=True)
    placed = figure.place(clip.posed)
    finish = _finish(rng, size)
    for n, ((c, camera), count) in enumerate(zip(cameras.items(), plan.counts)):
        backdrop = view(scene, camera, size, OVERSAMPLE)
        for i in range(count):
            picture = paint(figure, (placed[0][i], placed[1], placed[2][i]), scene, camera, backdrop)
            _save(
                image_path(directory, c, i),
                finish(picture.image, n * _PER_CAMERA + i),
                cv2.IMWRITE_JPEG_QUALITY,
                92,
            )
            if plan.split != "test":
                for kind in MASKS:
                    mask = np.where(getattr(picture, kind) > 0.5, np.uint8(255), np.uint8(0))
                    _save(mask_path(directory, kind, c, i), mask, cv2.IMWRITE_PNG_COMPRESSION, 1)
    _write_labels(directory, plan, clip, cameras)


def _seat(rng: np.random.Generator, clip: Clip) -> Box:
    pelvis = clip.posed.joint("pelvis").mean(0)
    facing = clip.posed.axes["pelvis"][:, :, 2].mean(0)
    yaw = float(np.degrees(np.arctan2(facing[0], facing[2])))
    top = clip.posed.joint("pelvis")[:, 1].min() - 92 * clip.posed.scale
    half = np.array([rng.uniform(190, 280), 0.5 * top, rng.uniform(180, 240)])
    forward = np.array([np.sin(np.radians(yaw)), 0, np.cos(np.radians(yaw))])
    centre = np.array([pelvis[0], 0.5 * top, pelvis[2]]) + (half[2] - 150) * forward
    return Box(centre, half, yaw, random_material(rng, "plain plain planks stripes"))


def _finish(rng: np.random.Generator, size: int) -> Callable[[Array, int], NDArray[np.uint8]]:
    """A sequence's camera: exposure, sharpness and noise.

    Returns:
        A function of an image (RGB in [0, 1]) and its number in the sequence that gives 8 bit BGR.
    """
    gain, gamma, blur = rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15), rng.uniform(0, 0.7)
    grain = rng.standard_normal((size + 32, size + 32, 3), np.float32) * rng.uniform(0.5, 5)
    offsets = rng.integers(0, 32, (2 * _PER_CAMERA, 2))
    curve = (255 * gain * np.linspace(0, 1, 1024) ** gamma).astype(np.float32)

    def finish(image: Array, number: int) -> NDArray[np.uint8]:
        if blur > 0.25:
            image = cv2.GaussianBlur(image, (5, 5), blur)
        y, x = offsets[number]
        toned = curve[np.clip(image[..., ::-1] * 1023, 0, 1023).astype(np.int32)]
        return np.clip(toned + grain[y : y + size, x : x + size] + 0.5, 0, 255).astype(np.uint8)

    return finish


def _save(path: Path, image: NDArray[np.uint8], flag: int, value: int) -> None:
    ok, data = cv2.imencode(path.suffix, image, [flag, value])
    if not ok:
        raise OSError(f"{path}: the image could not be encoded")
    # metadata.h5 vouches for a sequence, so its images need no renaming.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def _write_labels(directory: Path, plan: SequencePlan, clip: Clip, cameras: dict[int, Camera]) -> None:
    """Calibration, official labels and, last, the metadata."""
    frames, scale, test = max(plan.counts), clip.posed.scale, plan.split == "test"
    names = CANONICAL.joints if test else MPI3D.joints
    world = clip.posed.joints_world_mm[:frames, MPI3D.indices(names)]
    cam = {c: camera.to_cam(world) for c, camera in cameras.items()}
    joints = np.stack([cam.get(c, np.full_like(world, np.nan)) for c in range(max(cameras) + 1)])
    px = np.empty((len(cameras), *world.shape[:2], 2))
    calibrations = {}
    for i, (c, camera) in enumerate(cameras.items()):
        fx, fy, cx, cy = camera.pixels(CALIBRATION_PX)
        px[i] = cam[c][..., :2] / cam[c][..., 2:] * (fx, fy) + (cx, cy)
        extrinsic = np.concatenate([camera.world_to_cam, [[0, 0, 0, 1]]])
        calibrations[c] = CameraCalibration(fx, fy, cx, cy, CALIBRATION_PX, CALIBRATION_PX, extrinsic)
    write_calibration(directory / "camera.calibration", calibrations)
    seen = np.stack(list(cam.values()))
    if test:
        activity = np.full(frames, ACTIONS[clip.action].activity)
        annotations = TestAnnotations(np.ones(frames, bool), activity, px[0], seen[0], seen[0] / scale)
        write_test_annotations(directory / "annot_data.mat", annotations)
    else:
        write_train_annotations(
            directory / "annot.mat",
            TrainAnnotations(np.array(list(cameras)), np.arange(frames), px, seen, seen / scale),
        )
    masks = MaskFlags() if test else MaskFlags(background=True, upper_body=True, lower_body=True)
    images = {c: np.arange(n) for c, n in zip(cameras, plan.counts)}
    write_metadata(directory / "metadata.h5", Metadata(joints, scale, images, masks))
