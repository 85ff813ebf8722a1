"""Data sets of synthetic people, in MPI-INF-3DHP's prepared layout."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from numbers import Integral, Real
from pathlib import Path

import cv2

from margipose.data.mpi3d_files import read_index, sequence_dir
from margipose.data.mpi3d_sequences import CAMERAS
from margipose.jobs import claim, end_with_parent
from margipose.synthetic.motion import ACTIVITIES
from margipose.synthetic.motion_files import find_motions, read_motion
from margipose.synthetic.sequence import IMAGES_PER_CAMERA, SPLITS, Options, SequencePlan, make_sequence

__all__ = ["make_synthetic", "plan_sequences"]

FORMAT = 7
"""Raise this when the same seed begins to give other pictures or labels: old and new are not to be mixed."""

_PICTURE_SUFFIXES = (".jpeg", ".jpg", ".png")
_LEAST_PICTURES = 3


def plan_sequences(frames: int, views: int = 2) -> list[SequencePlan]:
    """Sequences that hold `frames` images in all, 80 % of them to train on, 10 % each val and test.

    A larger number of frames only adds to the plan, but for each split's last sequence. People differ
    between the splits; test has its own numbers (TS1 is S1/Seq1).

    Args:
        views: cameras per training and validation sequence.

    Raises:
        ValueError: if there are too few frames for three splits.
    """
    if frames < 3:
        raise ValueError(f"frames: expected at least 3 (train, val, test), got {frames}")
    tenth = max(1, round(0.1 * frames))
    plan = []
    for split, left in zip(SPLITS, (frames - 2 * tenth, tenth, tenth)):
        # Train and val share one row of subjects: every ninth is val. Both wear two outfits.
        number = 0
        while left > 0:
            if split == "test":
                subject, sequence, cameras = number + 1, 1, 1
            else:
                person, sequence = number // 2, number % 2 + 1
                subject = 9 * (person + 1) if split == "val" else person + person // 8 + 1
                cameras = views
            here = min(left, cameras * IMAGES_PER_CAMERA)
            counts = tuple(n for n in ((here + cameras - 1 - k) // cameras for k in range(cameras)) if n)
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
    *,
    views: int = 2,
    green_screen: float = 0.1,
    backgrounds: Path | None = None,
    adults_only: bool = True,
    quality: int | None = None,
    motions: Path | None = None,
    activities: Mapping[int, float] | None = None,
) -> None:
    """Make a data set of synthetic people, in MPI-INF-3DHP's prepared layout, without any download.

    Each sequence is one person in one short clip before fixed cameras. Sequences that are already complete
    are kept, so a run that was interrupted can be repeated, and `frames` can be raised; a lower number
    removes nothing. The files depend on the options only, not on `workers`.

    Args:
        root: folder to hold `train`, `val` and `test`; made if need be.
        frames: number of images in all three.
        seed: of everything that is random.
        workers: number of processes; 1 works in this one.
        size: width and height of the images in pixels.
        progress: called after each sequence with the numbers of images that exist and that are wanted.
        views: cameras that show the same moments in training and validation sequences; test sequences have
            one camera.
        green_screen: share of sequences before a green screen.
        backgrounds: folder of photographs without people, at least three, to stand people before; the splits
            get different ones.
        adults_only: without, some people are children or of extreme build.
        quality: of all JPEG files, 1 to 100; each camera has its own if None.
        motions: a BVH file or clip of DeepMimic, or a folder of them: half of the sequences show some seconds
            of one.
        activities: how often each of MPI-INF-3DHP's activities (1 to 7) comes, relative to the others; those
            that are left out never do. As `margipose.synthetic.motion.SHARES` by default.

    Raises:
        ValueError: for arguments out of range, or if `root` holds synthetic people made with other options
            or by another version, or another data set, or naming a background that cannot be read.
        OSError: if a file cannot be written or a worker process dies. Finished sequences stay.
    """
    # All before the folder is claimed: a call that is refused must leave nothing behind.
    frames, seed = _whole("frames", frames, 3), _whole("seed", seed, 0)
    workers, size = _whole("workers", workers, 1), _whole("size", size, 32)
    views = _whole("views", views, 1, len(CAMERAS))
    if isinstance(green_screen, bool) or not isinstance(green_screen, Real) or not 0 <= green_screen <= 1:
        raise ValueError(f"green_screen: expected a share from 0 to 1, got {green_screen!r}")
    pictures = _pictures(Path(backgrounds)) if backgrounds is not None else ()
    quality = _whole("quality", quality, 1, 100) if quality is not None else None
    clips = _motions(Path(motions)) if motions is not None else ()
    weights = _weights(activities) if activities is not None else ()
    options = Options(size, views, float(green_screen), pictures, bool(adults_only), quality, clips, weights)
    plan, root = plan_sequences(frames, views), Path(root)
    settings = {
        "format": FORMAT,
        "seed": seed,
        "size": size,
        "views": views,
        "green_screen": float(green_screen),
        "backgrounds": [Path(p).name for p in pictures],
        "adults_only": bool(adults_only),
    }
    if quality is not None:
        settings["quality"] = quality
    if clips:
        settings["motions"] = [Path(p).name for p in clips]
    if weights:
        settings["activities"] = dict(weights)
    claim(root, settings, "synthetic")
    missing = [p for p in plan if not _complete(root, p)]
    done = frames - sum(sum(p.counts) for p in missing)
    if progress:
        progress(done, frames)
    if workers == 1 or len(missing) < 2:
        for p in missing:
            make_sequence(root, p, seed, options)
            done += sum(p.counts)
            if progress:
                progress(done, frames)
        return
    # Fresh processes, not forks: the caller may run threads (torch, OpenCV).
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(missing)), context, _start_worker) as pool:
        try:
            futures = {pool.submit(make_sequence, root, p, seed, options): p for p in missing}
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


def _start_worker() -> None:
    cv2.setNumThreads(1)
    end_with_parent()


def _whole(name: str, value: object, least: int, most: int | None = None) -> int:
    fits = isinstance(value, Integral) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        until = f" and at most {most}" if most is not None else ""
        raise ValueError(f"{name}: expected a whole number, at least {least}{until}, got {value!r}")
    return int(value)


def _pictures(folder: Path) -> tuple[str, ...]:
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder of backgrounds")
    found = sorted(str(p) for p in folder.resolve().iterdir() if p.suffix.lower() in _PICTURE_SUFFIXES)
    if len(found) < _LEAST_PICTURES:
        raise ValueError(
            f"{folder}: expected at least {_LEAST_PICTURES} pictures ({', '.join(_PICTURE_SUFFIXES)}), one "
            f"for each split, found {len(found)}"
        )
    return tuple(found)


def _motions(path: Path) -> tuple[str, ...]:
    found = find_motions(path.resolve())
    for file in found:  # what is damaged is told before anything is made
        read_motion(file)
    return tuple(map(str, found))


def _weights(activities: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    for number, weight in activities.items():
        if number not in ACTIVITIES:
            raise ValueError(f"activities: expected numbers from 1 to {len(ACTIVITIES)}, got {number!r}")
        if isinstance(weight, bool) or not isinstance(weight, Real) or not 0 < weight < math.inf:
            raise ValueError(f"activities: expected a number above 0 for {number}, got {weight!r}")
    if not activities:
        raise ValueError("activities: expected at least one")
    return tuple(sorted((int(n), float(w)) for n, w in activities.items()))


def _complete(root: Path, plan: SequencePlan) -> bool:
    # metadata.h5 is written last.
    path = sequence_dir(root, plan.split, plan.subject, plan.sequence) / "metadata.h5"
    if not path.is_file():
        return False
    # Of a larger set it may hold more, which is kept.
    held = [len(f) for f in read_index(path).interesting_frames.values()]
    return len(held) >= len(plan.counts) and all(h >= n for h, n in zip(held, plan.counts))
