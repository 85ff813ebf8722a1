"""MPI-INF-3DHP from its download to the layout that `margipose.data.mpi3d` reads.

The download is `S<subject>/Seq<sequence>/` for training, with `annot.mat`, `camera.calibration`,
`imageSequence/video_<camera>.avi` and `FGmasks/video_<camera>.avi` (or the `vnect_cameras.zip` that holds
those videos), and `mpi_inf_3dhp_test_set/TS<subject>/` for the benchmark, with `annot_data.mat` and
`imageSequence/img_<number>.jpg`; unpacked, or inside .zip or .tar files. The masks of chairs are not used.

Row n of the labels belongs to frame n of each video. Each camera keeps the frames in which the person is
inside the image and has moved since the last one kept, without those that a studio flash spoils. Of the
benchmark, which is scored on valid frames, it is exactly those.

Without images, only labels and calibrations are needed; what a flash spoils is kept then, as nothing tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from margipose.data.mpi3d_files import MASKS, image_path, mask_path, read_index, sequence_dir
from margipose.data.mpi3d_sequences import CAMERAS, SEQUENCES, TEST_SIZES, MaskFlags, split_of, usable_cameras
from margipose.files import names_in
from margipose.jobs import Job, Note, Plan
from margipose.prepare import Option
from margipose.prepare.lacking import lacking_job
from margipose.prepare.mpi3d_source import Source, TestVideo, TrainVideo, find_source
from margipose.prepare.mpi3d_testset import CAMERA, prepare_test_video
from margipose.prepare.mpi3d_train import (
    ANNOTATIONS,
    CALIBRATION,
    METADATA,
    Sampling,
    prepare_camera,
    prepare_labels,
)

__all__ = ["ABOUT", "EXAMPLES", "OPTIONS", "plan"]

ABOUT = "MPI-INF-3DHP, from S1 ... S8 and mpi_inf_3dhp_test_set, or the archives that hold them"

EXAMPLES = """
margipose prepare mpi3d downloads data/mpi3d --dry-run
margipose prepare mpi3d downloads data/mpi3d --workers 4
margipose prepare mpi3d downloads data/mpi3d --splits test
margipose prepare mpi3d downloads data/mpi3d-s1 --subjects S1 --cameras 0,8 --no-masks
margipose prepare mpi3d downloads data/mpi3d-labels --labels-only
"""

OPTIONS = (
    Option("every_frame", "flag", "keep every frame that has the whole person in it", False),
    Option(
        "move_mm",
        "float",
        "keep frames in which some joint has moved as far since the last one kept, in mm (default: 200)",
    ),
    Option("size", "int", "height of the images, px (default: 768)", 768),
    Option("no_masks", "flag", "leave out the masks, by which background and clothing are replaced", False),
    Option("labels_only", "flag", "make neither images nor masks: no video is needed", False, newer=True),
    Option("splits", "names", "only these, out of train,val,test", fixed=False),
    Option("subjects", "names", "only these, such as S1,TS3", fixed=False),
    Option("sequences", "names", "only these, such as S1/Seq2,TS3", fixed=False),
    Option("cameras", "names", "of the training videos, only these (default: 0,1,2,4,5,6,7,8)", fixed=False),
)

_SPLITS = ("train", "val", "test")
_ALL_CAMERAS = tuple(range(14))

# Guesses, to tell beforehand how much space is needed.
_KEPT_PER_SECOND = 3.0
_IMAGE_BYTES = 150_000
_MASK_BYTES = 5_000
_LABEL_BYTES = len(_ALL_CAMERAS) * 28 * (3 + 3 + 3 + 2) * 8


def plan(
    src: str | Path,
    dest: str | Path,
    *,
    every_frame: bool = False,
    move_mm: float | None = None,
    size: int = 768,
    no_masks: bool = False,
    labels_only: bool = False,
    splits: Sequence[str] | None = None,
    subjects: Sequence[str] | None = None,
    sequences: Sequence[str] | None = None,
    cameras: Sequence[str] | None = None,
) -> Plan:
    """What there is to do; looks at both folders and changes neither. `OPTIONS` explains the keywords.

    A training sequence's labels are a job, then each of its cameras; a test video is one job.

    Raises:
        ValueError: for options out of range, or if `src` has nothing of the data set.
    """
    sampling = _sampling(every_frame, move_mm, size, not (no_masks or labels_only), not labels_only)
    numbers = _among("cameras", cameras, {str(c): c for c in _ALL_CAMERAS})
    train, test = _selected(splits, subjects, sequences)
    source = find_source(Path(src), Path(dest))
    if not source.train and not source.test:
        unread = "".join(f"; {n.name}: {n.reason}" for n in source.unread)
        raise ValueError(
            f"{src}: expected S<subject>/Seq<sequence>/annot.mat or TS<subject>/annot_data.mat and what "
            f"belongs to them, found neither{unread}"
        )
    found = _Findings()
    for subject, sequence in train:
        directory = sequence_dir(Path(dest), split_of(subject, sequence), subject, sequence)
        video = source.train.get((subject, sequence))
        found.add_train(subject, sequence, video, directory, numbers or CAMERAS, sampling)
    for subject in test:
        directory = sequence_dir(Path(dest), "test", subject, 1)
        found.add_test(subject, source.test.get(subject), directory, sampling)
    return found.plan(source, src)


class _Findings:
    """The lists of a plan, as they come together."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.kept: list[str] = []
        self.skipped: list[Note] = []
        self.missing: list[Note] = []
        self._absent: list[str] = []

    def plan(self, source: Source, src: str | Path) -> Plan:
        missing, jobs = [*source.unread, *self.missing], self.jobs
        if self._absent:
            missing.append(Note(", ".join(self._absent), f"nothing of it in {src}"))
        if self._absent or self.missing:
            # What is in them was meant to be there; where nothing is missing, it is not needed any more.
            jobs = [*jobs, *(lacking_job(*note) for note in source.unread)]
        return Plan(jobs, self.kept, self.skipped, missing)

    def add_train(
        self,
        subject: int,
        sequence: int,
        video: TrainVideo | None,
        directory: Path,
        cameras: Sequence[int],
        sampling: Sampling,
    ) -> None:
        name, facts = f"S{subject}/Seq{sequence}", SEQUENCES[subject, sequence]
        wanted, done = usable_cameras(subject, sequence, cameras), _cameras_done(directory, sampling)
        undone = [c for c in wanted if c not in (done or ())]
        if undone and video is None:
            self._absent.append(name)
        if video is not None or done:
            self.kept += [f"{name} camera {c}" for c in wanted if c not in undone]
            self.skipped += [
                Note(f"{name} camera {c}", "its video is too short as published")
                for c in cameras
                if c not in wanted
            ]
        if not undone or video is None:
            return
        lacking = {} if done is not None else _lacking_labels(video)
        if not lacking:
            lacking = _lacking_videos(video, undone, sampling.masks) if sampling.images else {}
            ready = [
                c
                for c in undone
                if not sampling.images or (c in video.videos and (c in video.masks or not sampling.masks))
            ]
            labels = f"{name} labels"
            if done is None and ready:
                flags = facts.masks if sampling.masks else MaskFlags()
                args = (video.annotations, video.calibration, directory, facts.num_frames, flags)
                size = facts.num_frames * _LABEL_BYTES
                self.jobs.append(Job(labels, prepare_labels, args, facts.num_frames // 10, size))
            per_second = _KEPT_PER_SECOND * 200 / max(sampling.min_move_mm, 1)
            images = math.ceil(facts.num_frames * min(1, per_second / facts.fps))
            for camera in ready:
                masks = video.masks[camera] if sampling.masks else None
                args = (video.videos.get(camera), masks, directory, camera, sampling)
                work = facts.num_frames * (sampling.images + sampling.masks) or 1
                size = images * _stored_bytes(sampling)
                self.jobs.append(Job(f"{name} camera {camera}", prepare_camera, args, work, size, (labels,)))
        self._add_lacking(name, lacking)

    def add_test(self, subject: int, video: TestVideo | None, directory: Path, sampling: Sampling) -> None:
        name = f"TS{subject}"
        if CAMERA in (_cameras_done(directory, replace(sampling, masks=False)) or ()):
            self.kept.append(name)
        elif video is None:
            self._absent.append(name)
        elif video.annotations is None:
            self._add_lacking(name, {"": "no annot_data.mat"})
        else:
            images = video.images if sampling.images else None
            args = (subject, video.annotations, images, directory, sampling.size)
            work = max(1, len(images or ()))
            size = len(video.images) * _stored_bytes(sampling)
            self.jobs.append(Job(name, prepare_test_video, args, work, size))

    def _add_lacking(self, name: str, lacking: Mapping[str, str]) -> None:
        """Of what is there in part, the rest was meant to be there: that makes the run a failed one."""
        for what, reason in lacking.items():
            part = f"{name} {what}".strip()
            self.missing.append(Note(part, reason))
            self.jobs.append(lacking_job(part, reason))


def _lacking_labels(video: TrainVideo) -> dict[str, str]:
    absent = [n for n, m in ((ANNOTATIONS, video.annotations), (CALIBRATION, video.calibration)) if m is None]
    return {"": f"no {' and no '.join(absent)}"} if absent else {}


def _lacking_videos(video: TrainVideo, wanted: Sequence[int], masks: bool) -> dict[str, str]:
    lacking = {}
    if absent := [c for c in wanted if c not in video.videos]:
        lacking["videos"] = f"no imageSequence/video_<camera>.avi of {_listed(absent)}"
    if absent := [c for c in wanted if masks and c in video.videos and c not in video.masks]:
        # Not in this DEST, which may hold others' masks already.
        hint = "--no-masks with another DEST does without"
        lacking["masks"] = f"no FGmasks/video_<camera>.avi of {_listed(absent)} ({hint})"
    return lacking


def _listed(cameras: Sequence[int]) -> str:
    return f"camera{'s' if len(cameras) > 1 else ''} {', '.join(map(str, cameras))}"


def _cameras_done(directory: Path, sampling: Sampling) -> set[int] | None:
    """The cameras that are finished and have all their files, or None if not even the labels are."""
    labels = [directory / CALIBRATION, directory / METADATA]
    if not all(path.is_file() for path in labels):
        return None
    try:
        frames = read_index(directory / METADATA).interesting_frames
    except ValueError:  # damaged since
        return None

    def complete(camera: int) -> bool:
        first = [image_path(directory, camera, 0)] * sampling.images
        first += [mask_path(directory, kind, camera, 0) for kind in MASKS] * sampling.masks
        names = {path.with_name("img_%06d" + path.suffix): names_in(path.parent) for path in first}
        return all(p.name % (i + 1) in there for p, there in names.items() for i in frames[camera].tolist())

    return {camera for camera in frames if complete(camera)}


def _stored_bytes(sampling: Sampling) -> int:
    """Of an image with its masks."""
    if not sampling.images:
        return 0
    return round((_IMAGE_BYTES + _MASK_BYTES * sampling.masks) * (sampling.size / 768) ** 2)


def _sampling(every_frame: bool, move_mm: float | None, size: int, masks: bool, images: bool) -> Sampling:
    if isinstance(size, bool) or not isinstance(size, int) or size < 32:
        raise ValueError(f"size: expected a whole number, at least 32, got {size!r}")
    if move_mm is not None and not 0 < move_mm < math.inf:
        raise ValueError(f"move_mm: expected a positive number, got {move_mm}")
    if every_frame and move_mm is not None:
        raise ValueError("every_frame does not go with move_mm")
    return Sampling(0.0 if every_frame else 200.0 if move_mm is None else float(move_mm), size, masks, images)


def _among(option: str, words: Sequence[str] | None, known: Mapping[str, object]) -> list:
    for word in words or ():
        if word not in known:
            raise ValueError(f"{option}: expected some of {', '.join(known)}, got {word!r}")
    return [known[w] for w in known if w in (words or ())]


def _selected(
    splits: Sequence[str] | None, subjects: Sequence[str] | None, sequences: Sequence[str] | None
) -> tuple[list[tuple[int, int]], list[int]]:
    """The training sequences and the subjects of test videos that the options leave."""
    parts = {f"S{s}/Seq{q}": (split_of(s, q), (s, q)) for s, q in SEQUENCES}
    parts |= {f"TS{s}": ("test", s) for s in TEST_SIZES}
    people = {name.partition("/")[0]: None for name in parts}
    for option, words, known in (
        ("splits", splits, dict.fromkeys(_SPLITS)),
        ("subjects", subjects, people),
        ("sequences", sequences, parts),
    ):
        _among(option, words, known)

    def left() -> Iterator[tuple[str, object]]:
        for name, (split, key) in parts.items():
            person = name.partition("/")[0]
            if all(
                not words or word in words
                for words, word in ((splits, split), (subjects, person), (sequences, name))
            ):
                yield split, key

    found = list(left())
    if not found:
        raise ValueError("splits, subjects and sequences have no sequence in common")
    return [k for s, k in found if s != "test"], [k for s, k in found if s == "test"]  # type: ignore[misc]
