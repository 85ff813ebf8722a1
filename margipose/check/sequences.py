"""One camera of a sequence: its images, joints and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.camera import project
from margipose.check.labels import official_labels
from margipose.check.pictures import Picture, camera_sizes
from margipose.check.poses import Complaint, PoseFacts, compare, facts_of, judge, judge_scale, upside_down
from margipose.check.report import Finding, SequenceRow
from margipose.composite import MASKS
from margipose.data.mpi3d_files import read_index
from margipose.data.records import Records
from margipose.skeleton import CANONICAL

__all__ = ["Checked", "Group", "find_groups", "row_of", "usable_masks"]

CHUNK = 4096
"""People that are looked at together."""

OFF_CENTRE = 0.6
"""How far principal points may be from the middle of images whose size nothing says, in half their sides."""

UNIVERSAL_MM, UNIVERSAL_TOLERANCE = 920.0, 0.06
"""Knee-to-neck height of MPI-INF-3DHP's universal skeletons, and how far off it may be without labels."""


@dataclass(frozen=True)
class Group:
    """Rows of one camera of a sequence; of a whole set, if it has no sequences."""

    sequence: str
    directory: Path | None
    camera: int
    rows: NDArray[np.integer]


def find_groups(records: Records) -> Iterator[Group]:
    """Rows by sequence and camera, in the order of the records."""
    keys = [k for k in ("subject", "action", "subaction", "sequence", "camera") if k in records.ids]
    if not keys or not len(records):
        if len(records):
            yield Group("all", None, -1, np.arange(len(records)))
        return
    table = np.stack([np.asarray(records.ids[k]) for k in keys], 1)
    _, first, which = np.unique(table, axis=0, return_index=True, return_inverse=True)
    which = which.ravel()
    order = np.argsort(which, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(which))[:-1])
    for number in np.argsort(first):
        rows = parts[number]
        folder = records.images[int(rows[0])].parent
        camera = int(records.ids["camera"][rows[0]]) if "camera" in records.ids else -1
        if folder.parent.name == "imageSequence":
            directory = folder.parent.parent
            yield Group("/".join(directory.parts[-2:]), directory, camera, rows)
        else:
            named = ((k, int(v)) for k, v in zip(keys, table[rows[0]]) if k != "camera")
            values = (f"{k} {records.id_names.get(k, {}).get(v, v)}" for k, v in named)
            yield Group(", ".join(values) or "all", None, camera, rows)


class Checked:
    """What is found about a group; where there are no poses in 3D, its facts are None.

    Attributes:
        posed, upside_down: rows of the poses, and whether each has its head below.
    """

    def __init__(
        self, records: Records, name: str, group: Group, pictures: Mapping[str, Picture] | None
    ) -> None:
        self.records, self.group = records, group
        self.findings: list[Finding] = []
        self.missing = self.unreadable = self.joints = self.invalid = self.outside = 0
        self.facts: PoseFacts | None = None
        self.posed, self.upside_down = group.rows[:0], np.zeros(0, bool)
        self.reprojection_px: float | None = None
        self.scale: float | None = None
        if pictures is not None:
            self._images(pictures)
        parts = np.split(group.rows, np.arange(CHUNK, len(group.rows), CHUNK))
        flat = not records.has_depth
        labelled = [self._flat(rows) if flat else self._solid(rows) for rows in parts]
        joints, rows = ([part[i] for part in labelled] for i in (0, 1))
        if flat:
            share = self.outside / max(self.joints - self.invalid, 1)
            if share > 0.02:
                self._add("warning", f"{share:.0%} of the joints lie outside of their images", group.rows)
            return
        self._poses(name, np.concatenate(joints), np.concatenate(rows))

    def _add(
        self, severity: Literal["error", "warning"], what: str, rows: NDArray, where: object = None
    ) -> None:
        place = where if where is not None else self.records.images[int(rows[0])]
        self.findings.append(Finding(severity, str(place), what, len(rows)))

    def _complain(self, complaints: Iterable[Complaint], rows: NDArray) -> None:
        for severity, what, concerned in complaints:
            everyone = len(concerned) == len(rows) and self.group.directory is not None
            where = f"{self.group.directory}, camera {self.group.camera}" if everyone else None
            self._add(severity, what, rows[concerned], where)

    def _images(self, pictures: Mapping[str, Picture]) -> None:
        looked = [(row, pictures.get(str(self.records.images[int(row)]))) for row in self.group.rows]
        missing = np.array([row for row, p in looked if p is not None and p.missing], int)
        broken = [(row, p) for row, p in looked if p is not None and p.size is None and not p.missing]
        self.missing, self.unreadable = len(missing), len(broken)
        if len(missing):
            self._add("error", "image is missing" + self._others(missing), missing)
        if broken:
            rows = np.array([row for row, _ in broken])
            text = f"image cannot be decoded: {broken[0][1].reason}{self._others(rows)}"
            self._add("error", text, rows)
        self._masks(pictures)
        sizes = [(row, p.size) for row, p in looked if p is not None and p.size is not None]
        if self.records.intrinsics_size is not None:
            wrong = []
            for row, (width, height) in sizes:
                full = self.records.intrinsics_size[int(row)].tolist()
                if abs(width * full[1] / (height * full[0]) - 1) > 0.01:
                    wrong.append(row)
            if wrong:
                text = f"image has other proportions than the camera's {full[0]:.0f} x {full[1]:.0f}"
                self._add("error", text, np.array(wrong))
        elif sizes and self.records.has_depth:
            self._off_centre(sizes)

    def _off_centre(self, sizes: Sequence[tuple[int, tuple[int, int]]]) -> None:
        """Complain of images that intrinsics do not seem to be of, as of some that were made smaller."""
        rows = np.array([row for row, _ in sizes])
        middle = (np.array([size for _, size in sizes]) - 1) / 2
        principal = self.records.intrinsics[rows][:, 2:].numpy()
        wrong = (abs(principal - middle) > OFF_CENTRE * middle).any(1)
        if wrong.any():
            (x, y), (_, (width, height)) = principal[wrong][0], sizes[int(wrong.argmax())]
            text = (
                f"the principal point ({x:.0f}, {y:.0f}) is far from the middle of the image, {width} x "
                f"{height} px: was it made smaller without its intrinsics?"
            )
            self._add("warning", text, rows[wrong])

    def _masks(self, pictures: Mapping[str, Picture]) -> None:
        looked = [(row, path) for row in self.group.rows for path in usable_masks(self.records, int(row))]
        bad = [(row, path) for row, path in looked if (p := pictures.get(str(path))) and p.size is None]
        if bad:
            first = bad[0][1]
            more = f"; and {len(bad) - 1:,} more" if len(bad) > 1 else ""
            text = f"mask is missing or cannot be decoded: {pictures[str(first)].reason}{more}"
            self._add("error", text, np.unique([row for row, _ in bad]), first)

    def _others(self, rows: NDArray) -> str:
        """Names of further files, so far as there are few."""
        if len(rows) < 2:
            return ""
        named = ", ".join(self.records.images[int(row)].name for row in rows[1:4])
        return f"; also {named}" + (f" and {len(rows) - 4:,} more" if len(rows) > 4 else "")

    def _solid(self, rows: NDArray) -> tuple[NDArray, NDArray]:
        """Canonical joints of the rows whose joints are all numbers, and these rows."""
        part = self.records.select(rows)
        self._numbers(part, rows)
        self.invalid += int((~part.valid[:]).sum())
        self.joints += part.valid.shape[0] * part.valid.shape[1]
        if self.records.skeleton.name != CANONICAL.name:
            part = part.converted(CANONICAL)
        joints, whole = part.joints_cam_mm[:].numpy(), part.valid[:].all(-1).numpy()
        if part.depth_valid is not None:
            whole &= part.depth_valid[:].all(-1).numpy()
        whole &= np.isfinite(joints).all((1, 2))
        return joints[whole], rows[whole]

    def _numbers(self, part: Records, rows: NDArray) -> None:
        labelled = part.valid[:]
        lost = (labelled & ~torch.isfinite(part.joints_cam_mm[:]).all(-1)).any(-1).numpy()
        if lost.any():
            self._add("error", "joints are not numbers (NaN)", rows[lost])
        bad = ~(torch.isfinite(part.intrinsics[:]).all(-1) & (part.intrinsics[:][:, :2] > 0).all(-1)).numpy()
        if bad.any():
            self._add("error", "intrinsics are not positive numbers", rows[bad])
        if part.box_side_px is not None and part.box_centre_px is not None:
            fine = (
                (part.box_side_px > 0)
                & torch.isfinite(part.box_side_px)
                & torch.isfinite(part.box_centre_px).all(-1)
            )
            if not fine.all():
                self._add("error", "boxes are empty or not numbers", rows[~fine.numpy()])

    def _flat(self, rows: NDArray) -> tuple[NDArray, NDArray]:
        part = self.records.select(rows)
        self._numbers(part, rows)
        valid = part.valid[:]
        self.joints += valid.numel()
        self.invalid += int((~valid).sum())
        px = project(part.joints_cam_mm[:], part.intrinsics[:])
        beyond = ((px < 0) | (px > camera_sizes(part)[:, None])).any(-1)
        self.outside += int((valid & beyond).sum())
        none = ~valid.any(-1).numpy()
        if none.any():
            self._add("warning", "people without any joint", rows[none])
        return rows[:0], rows[:0]

    def _poses(self, name: str, joints: NDArray, rows: NDArray) -> None:
        if not len(joints):
            text = "poses are not checked: nobody has all of the canonical joints"
            self._add("warning", text, self.group.rows)
            return
        facts = self.facts = facts_of(joints)
        self.posed, self.upside_down = rows, upside_down(joints)
        self._complain(judge(joints, facts), rows)
        group, records = self.group, self.records
        if group.directory is None or not name:
            return
        try:
            labels = official_labels(
                name, group.directory, group.camera, np.asarray(records.ids["frame"])[group.rows]
            )
        except ValueError as error:
            self.findings.append(Finding("error", str(group.directory), f"official labels: {error}"))
            return
        if labels is None:
            scale = self._written_scale(name)
            if scale and abs(facts.height_mm / scale / UNIVERSAL_MM - 1) > UNIVERSAL_TOLERANCE:
                height = facts.height_mm / scale
                text = f"people of scale {scale:g} measure {height:.0f} mm at universal scale, not 920"
                self._complain([Complaint("warning", text, np.arange(len(rows)))], rows)
            return
        kept = np.isin(group.rows, rows)
        labels = replace(labels, place=labels.place[kept])
        width = float(camera_sizes(records.select(rows[:1]))[0, 0])
        intrinsics = records.intrinsics[rows].numpy()
        self.reprojection_px, complaints = compare(joints, intrinsics, width, labels)
        self._complain(complaints, rows)
        self.scale, complaints = judge_scale(joints, labels)
        self._complain(complaints, rows)

    def _written_scale(self, name: str) -> float | None:
        if name != "mpi3d" or self.group.directory is None:
            return None
        return read_index(self.group.directory / "metadata.h5").scale


def usable_masks(records: Records, row: int) -> list[Path]:
    """Files of the masks by which training replaces parts of a row's image."""
    if records.usable_masks is None:
        return []
    flags = zip(MASKS, records.usable_masks[row].tolist())
    return [records.masks[kind][row] for kind, usable in flags if usable and kind in records.masks]


def row_of(sequence: str, cameras: Sequence[Checked], with_images: bool) -> SequenceRow:
    """The numbers of a sequence, of those of its cameras."""
    facts = [c.facts for c in cameras if c.facts is not None]
    flat = not cameras[0].records.has_depth
    joints = sum(c.joints for c in cameras)
    known = joints - sum(c.invalid for c in cameras)

    def median(values: Iterable[float]) -> float | None:
        return float(np.median(found)) if (found := list(values)) else None

    def most(values: Iterable[float | None]) -> float | None:
        return max((v for v in values if v is not None), default=None)

    return SequenceRow(
        sequence,
        sum(len(c.group.rows) for c in cameras),
        sum(c.missing for c in cameras) if with_images else None,
        sum(c.unreadable for c in cameras) if with_images else None,
        most(c.reprojection_px for c in cameras),
        {c.group.camera: c.reprojection_px for c in cameras if c.reprojection_px is not None} or None,
        median(f.height_mm for f in facts),
        median(c.scale for c in cameras if c.scale is not None),
        most(f.asymmetry for f in facts),
        most(f.spread for f in facts),
        median(f.depth_mm / 1000 for f in facts),
        sum(c.invalid for c in cameras) / joints if joints and (flat or known < joints) else None,
        sum(c.outside for c in cameras) / max(known, 1) if flat else None,
    )
