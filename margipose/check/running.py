"""Checking prepared data: every sequence, its images, joints, camera and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from margipose.check.labels import forget_labels
from margipose.check.pictures import Picture, contact_sheet, look_at
from margipose.check.poses import judge_upright
from margipose.check.report import CheckReport, Finding
from margipose.check.sequences import Checked, Group, find_groups, row_of, usable_masks
from margipose.data import DATASETS, h36m, load_records, lsp, mpii
from margipose.data.custom_files import annotation_file, read_people
from margipose.data.records import EmptySplit, Records
from margipose.draw import write_png

__all__ = ["ImageCheck", "check_dataset", "check_records"]

ImageCheck = Literal["all", "sample", "none"]

_SPLITS: Mapping[str, Iterable[str]] = {
    "h36m": h36m.SPLITS,
    "mpi3d": ("train", "val", "test"),
    "mpii": ("train", "val", "test"),
    "lsp": lsp.SPLITS,
    "lspet": ("train", "val"),
}
"""Of the known sets, without those that join others."""

_FLAT: Mapping[str, tuple[str, Iterable[str]]] = {
    "mpii": ("annot.h5", mpii.SPLITS),
    "lsp": ("joints.mat", lsp.SPLITS),
    "lspet": ("joints.mat", lsp.EXTENDED_SPLITS),
}
"""The file of a set's labels, and all splits."""

SAMPLED = 8
"""Images that are decoded of every camera of a sequence, where not all are."""

SIZE_WARNING, SIZE_ERROR = 0.05, 0.2
"""Differences between bones of one person in several sequences, by the median."""


def check_dataset(
    name: str,
    root: str | Path,
    split: str | None = None,
    *,
    images: ImageCheck = "all",
    workers: int = 1,
    sheet: str | Path | None = None,
    progress: bool = False,
) -> CheckReport:
    """Check a prepared data set; see `check_records`.

    Args:
        name, root: as of `data.load_records`.
        split: None for every split there is.
        sheet: a PNG file to draw people of every sequence to.

    Raises:
        ValueError: if there is no such data set, folder or split, or none of its splits is there.
    """
    reports: list[CheckReport] = []
    shown: dict[str, tuple[Records, NDArray[np.integer]]] = {}
    broken: list[Finding] = []
    for part in [split] if split is not None else _splits(name, root):
        try:
            records = load_records(name, root, part, universal=False)
        except EmptySplit:
            if split is not None:
                raise
            continue
        except ValueError as error:
            if not _is_there(name, root, part):
                raise
            broken.append(Finding("error", f"{name}/{part}", f"cannot be opened: {error}"))
            continue
        reports.append(check_records(records, name, images=images, workers=workers, progress=progress))
        if sheet is not None:
            for group in find_groups(records):  # of each sequence, its first camera
                shown.setdefault(f"{part} {group.sequence}", (records, group.rows))
    if sheet is not None and shown:
        write_png(contact_sheet(shown), sheet)
    findings = broken + [f for report in reports for f in report.findings]
    rows = [r._replace(sequence=f"{p.name.split('/')[-1]} {r.sequence}") for p in reports for r in p.rows]
    return CheckReport(f"{name} in {root}", rows, _sorted(findings))


def _splits(name: str, root: str | Path) -> list[str]:
    """The splits that are there, without those that join others."""
    if name == "custom":
        return sorted({person.split for person in read_people(annotation_file(root))[1]})
    if name not in _SPLITS:
        if name in DATASETS:
            raise ValueError(f"{name}: which splits it has is not known; name one")
        load_records(name, root, "")  # raises
    known = list(_SPLITS[name])
    there = [split for split in known if _is_there(name, root, split)]
    if not there:
        load_records(name, root, known[0])  # raises, saying what it lacks
    return there


def _is_there(name: str, root: str | Path, split: str) -> bool:
    """Whether there are files of a split, so that it is damage if it does not open."""
    root = Path(root)
    if name == "mpi3d":
        parts = ("train", "val") if split == "trainval" else (split,)
        return any(any((root / part).glob("S*/Seq*/metadata.h5")) for part in parts)
    if name == "h36m":
        return any(any(root.glob(f"S{s}/*/annot.h5")) for s in h36m.SPLITS.get(split, ()))
    if name == "custom":
        return split in _splits(name, root)
    labels, splits = _FLAT.get(name, ("", ()))
    return split in splits and (root / labels).is_file()


def check_records(
    records: Records,
    name: str = "",
    *,
    images: ImageCheck = "all",
    workers: int = 1,
    progress: bool = False,
) -> CheckReport:
    """Look for what is wrong in records, sequence by sequence.

    Images have to be there and whole, and so do the masks that training uses. Joints must be numbers, in
    front of the camera, of human size; they must project to their 2D labels where the set has some, with the
    person's own left on the left. Sizes have to agree with the universal skeletons' and from sequence to
    sequence. Most people's heads should not be below their ankles.

    Args:
        records: with each person's own size (`universal=False`).
        name: of the data set, whose official labels the joints are compared with; "" for none.
        images: whether all images are decoded, some of every sequence (then others only have to be
            there), or none is looked at.
        workers: processes that decode images.

    Raises:
        ValueError: for another value of `images`.
    """
    if images not in get_args(ImageCheck):
        raise ValueError(f"images: expected {', '.join(get_args(ImageCheck))}, got {images!r}")
    groups = list(find_groups(records))
    pictures = _pictures(records, groups, images, workers, progress)
    rows, findings, everyone = [], [], []
    lengths: dict[int, dict[str, NDArray]] = {}
    for sequence in dict.fromkeys(g.sequence for g in groups):
        cameras = [g for g in groups if g.sequence == sequence]
        checked = [Checked(records, name, g, pictures) for g in cameras]
        findings += [f for c in checked for f in c.findings]
        everyone += checked
        rows.append(row_of(sequence, checked, pictures is not None))
        facts = [c.facts for c in checked if c.facts is not None]
        if facts and "subject" in records.ids:
            subject = int(records.ids["subject"][cameras[0].rows[0]])
            lengths.setdefault(subject, {})[sequence] = np.median([f.lengths_mm for f in facts], 0)
    forget_labels()
    names = records.id_names.get("subject", {})
    findings += [f for s, of in lengths.items() for f in _constancy(names.get(s, s), of)]
    findings += _upright(records, everyone)
    return CheckReport(records.name, rows, _sorted(findings))


def _upright(records: Records, checked: Sequence[Checked]) -> Iterator[Finding]:
    """Somebody may do a handstand in a sequence, but not in most of them."""
    if checked:
        posed = np.concatenate([c.posed for c in checked])
        for severity, what, rows in judge_upright(np.concatenate([c.upside_down for c in checked])):
            yield Finding(severity, str(records.images[int(posed[rows[0]])]), what, len(rows))


def _sorted(findings: Iterable[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda f: f.severity != "error")


# --- Images ---------------------------------------------------------------------------------------


def _pictures(
    records: Records, groups: Sequence[Group], images: ImageCheck, workers: int, progress: bool
) -> Mapping[str, Picture] | None:
    if images == "none":
        return None
    decoded, others = [], []
    for group in groups:
        chosen = set(np.linspace(0, len(group.rows) - 1, SAMPLED).astype(int).tolist())
        for i, row in enumerate(group.rows):
            paths = [str(records.images[int(row)]), *map(str, usable_masks(records, int(row)))]
            (decoded if images == "all" or i in chosen else others).extend(paths)
    missing = {p: Picture(None, "no such file", True) for p in others if not Path(p).is_file()}
    return {**look_at(decoded, workers, progress), **missing}


def _constancy(subject: str | int, sequences: Mapping[str, NDArray]) -> Iterator[Finding]:
    """A person's bones ought to be as long in every sequence."""
    if len(sequences) < 2:
        return
    typical = np.median(list(sequences.values()), 0)
    for sequence, lengths in sequences.items():
        change = float(np.median(lengths / np.maximum(typical, 1e-9)) - 1)
        if abs(change) > SIZE_WARNING:
            severity = "error" if abs(change) > SIZE_ERROR else "warning"
            text = f"wrong scale? bones of subject {subject} are {change:+.0%} longer than in other sequences"
            yield Finding(severity, sequence, text)
