"""Human3.6M from its download to the layout that `margipose.data.h36m` reads.

The download is, for every subject, `Poses_D2_Positions_S*.tgz`, `Poses_D3_Positions_mono_S*.tgz`,
`Poses_D3_Positions_mono_universal_S*.tgz` and `Videos_S*.tgz`, unpacked or not. Packed videos are decoded
as they come by, a subject at a time; of unpacked ones, each sequence is a job.

All cameras of a sequence keep the same frames. They are chosen by the universal pose as the first camera
sees it (the first whose file can be read): what the others see differs by a rigid motion, which leaves
distances alone, and in the rounding of the files. What an earlier run chose stays. A camera's images end
where its poses or its video end, which differ by a few frames.

Without images, only poses are needed, and a camera's rows end where its poses do.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from margipose.data.h36m import SPLITS
from margipose.data.h36m_sequences import BASE_NAMES, BROKEN_VIDEOS, CAMERAS
from margipose.jobs import Job, Note, Plan
from margipose.prepare import Option, archives
from margipose.prepare.archives import Member
from margipose.prepare.h36m_files import KINDS, VIDEOS, Part, Raw, cameras_done
from margipose.prepare.h36m_poses import Sampling
from margipose.prepare.h36m_sequence import prepare_parts
from margipose.prepare.lacking import lacking_job

__all__ = ["ABOUT", "EXAMPLES", "OPTIONS", "plan"]

ABOUT = "Human3.6M, from its archives (Poses_*_S*.tgz, Videos_S*.tgz) or what was unpacked of them"

EXAMPLES = """\
margipose prepare h36m downloads data/h36m --dry-run
margipose prepare h36m downloads data/h36m --workers 4
margipose prepare h36m downloads data/h36m-test --subjects S9,S11
margipose prepare h36m downloads data/h36m-10fps --stride 5
margipose prepare h36m downloads data/h36m-labels --labels-only --every-frame"""

OPTIONS = (
    Option("subjects", "names", "only these, such as S9,S11 (default: all seven)", (), fixed=False),
    Option("every_frame", "flag", "keep every frame of all subjects", False),
    Option("stride", "int", "keep every Nth frame of all subjects (default: of S9 and S11, every 64th)"),
    Option(
        "move_mm",
        "float",
        "of S1, S5, S6, S7 and S8, keep frames in which some joint has moved so far, in mm (default: 40)",
    ),
    Option("labels_only", "flag", "make no images: no video is needed", False, newer=True),
)

_SUBJECTS = tuple(sorted(SPLITS["trainval"] + SPLITS["test"]))
_FRAMES = 2500
"""About the mean length of the published videos."""
_IMAGE_BYTES, _POSE_BYTES = 130_000, 32 * 8 * 4
_ARCHIVE = re.compile(rf"(?:Poses_)?({'|'.join(KINDS)})_S(\d+)\.(?:tgz|tar\.gz)")


def plan(
    src: str | Path,
    dest: str | Path,
    *,
    subjects: Sequence[str] = (),
    every_frame: bool = False,
    stride: int | None = None,
    move_mm: float | None = None,
    labels_only: bool = False,
) -> Plan:
    """What there is to do; changes nothing, and does not look into packed archives.

    Args:
        src: folder of the download's archives, or of what they held (`S1/MyPoseFeatures/...`), or both.
        dest: folder to prepare the set in.
        subjects: such as S9; all by default.
        every_frame: keep all frames.
        stride: keep every so many frames, beginning with the first. 64 by default for S9 and S11.
        move_mm: for the others, keep frames in which some joint of the universal pose has moved as far
            since the last one kept. 40 by default, unless there is a `stride`.
        labels_only: make no images.

    Raises:
        ValueError: for options that do not fit, or a source that cannot be read.
    """
    chosen = _subjects(subjects)
    samplings = _samplings(every_frame, stride, move_mm)
    kinds = tuple(kind for kind in KINDS if not (labels_only and kind == VIDEOS))
    files: dict[Raw, Member] = {}
    packed: dict[tuple[int, str], Path] = {}
    for container in archives.containers(src, dest):
        if archives.is_streamed(container):
            if (found := _ARCHIVE.fullmatch(container.name)) and found[1] in kinds:
                packed[int(found[2]), found[1]] = container
            continue
        # A subject's own folder, or an archive of what is in it, is as good a source.
        folder = (container if container.is_dir() else container.parent).absolute()
        for member in archives.members(container, dest):
            raw = Raw.of((folder / member.name).as_posix())
            if raw and raw.kind in kinds:
                files.setdefault(raw, member)
    jobs, meant, kept, skipped, missing = [], [], [], [], []
    for subject in chosen:
        lacking = [
            kind
            for kind in kinds
            if (subject, kind) not in packed and not any(r[:2] == (kind, subject) for r in files)
        ]
        streamed, undone = [], False
        for part in _parts(subject, files):
            done = set(part.cameras) <= cameras_done(Path(dest) / str(part), not labels_only)
            undone |= not done
            if done or not lacking:
                broken = [c for c in CAMERAS if c not in part.cameras]
                skipped += [Note(f"{part} camera {c}", "its video is damaged as published") for c in broken]
            if done:
                kept.append(str(part))
            elif lacking:
                continue
            elif any(r not in part.files and (subject, r.kind) in packed for r in part.raws()):
                streamed.append(part)
            elif part.files:
                jobs.append(_job(str(part), dest, [part], {}, samplings[subject], not labels_only))
            else:
                missing.append(Note(str(part), f"expected S{subject}/.../{part.raws()[0].base}.<camera>.*"))
        if lacking and undone:
            some = lacking if len(lacking) < len(kinds) else ("Poses_*", *({VIDEOS} & {*kinds}))
            expected = ", ".join(_archive(kind, subject) for kind in some)
            note = Note(f"S{subject}", f"expected {expected}, or what they hold")
            missing.append(note)
            if subjects or len(lacking) < len(kinds):
                # It was meant to be there: that makes the run a failed one.
                meant.append(lacking_job(*note))
        if streamed:
            streams = {kind: packed[subject, kind] for kind in kinds if (subject, kind) in packed}
            jobs.append(_job(f"S{subject}", dest, streamed, streams, samplings[subject], not labels_only))
    if jobs or kept:  # else there is nothing to prepare
        jobs += meant
    return Plan(jobs, kept, skipped, missing)


def _subjects(words: Sequence[str]) -> tuple[int, ...]:
    known = {f"S{s}": s for s in _SUBJECTS}
    for word in words:
        if word not in known:
            raise ValueError(f"subjects: expected some of {', '.join(known)}, got {word!r}")
    return tuple(known[w] for w in dict.fromkeys(words)) or _SUBJECTS


def _samplings(every_frame: bool, stride: int | None, move_mm: float | None) -> dict[int, Sampling]:
    """By subject."""
    if stride is not None and stride < 1:
        raise ValueError(f"stride: expected a whole number, at least 1, got {stride}")
    if move_mm is not None and not 0 < move_mm < math.inf:
        raise ValueError(f"move_mm: expected a positive number, got {move_mm}")
    if every_frame and (stride, move_mm) != (None, None):
        raise ValueError("every_frame goes with neither stride nor move_mm")
    if every_frame:
        stride = 1
    test = Sampling(stride=stride or 64)
    train = Sampling(move_mm=move_mm or 40.0) if move_mm or not stride else test
    return {s: test if s in SPLITS["test"] else train for s in _SUBJECTS}


def _parts(subject: int, files: dict[Raw, Member]) -> list[Part]:
    parts = []
    for s, action, subaction in BASE_NAMES:
        if s == subject:
            cameras = tuple(c for c in CAMERAS if (s, action, subaction, c) not in BROKEN_VIDEOS)
            part = Part(s, action, subaction, cameras, {})
            parts.append(part._replace(files={r: files[r] for r in part.raws() if r in files}))
    return parts


def _archive(kind: str, subject: int) -> str:
    return f"{'Poses_' if kind in KINDS and kind != VIDEOS else ''}{kind}_S{subject}.tgz"


def _job(
    name: str,
    dest: str | Path,
    parts: list[Part],
    streams: dict[str, Path],
    sampling: Sampling,
    with_images: bool,
) -> Job:
    videos = [m for part in parts for raw, m in part.files.items() if raw.kind == VIDEOS]
    work = sum(m.size for m in videos)
    if VIDEOS in streams:
        work += streams[VIDEOS].stat().st_size
    rows = math.ceil(_FRAMES * sampling.share()) * sum(len(p.cameras) for p in parts)
    args = (str(dest), tuple(parts), streams, sampling, with_images)
    return Job(name, prepare_parts, args, max(work, 1), rows * (_IMAGE_BYTES * with_images + _POSE_BYTES))
