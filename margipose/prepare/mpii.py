"""MPII Human Pose from its download to the layout that `margipose.data.mpii` reads.

The download is `mpii_human_pose_v1_u12_2.zip`, which holds `mpii_human_pose_v1_u12_1.mat`, and
`mpii_human_pose_v1.tar.gz` with the images, either of them unpacked or not. Images of people are copied,
and last of all `annot.h5`: anew, whenever there are images of more or fewer people than are in it.

Which people validate is not in the download. The split that is commonly used comes with the HDF5 conversion
of the annotations, as `valid.h5`; give it, and it is taken over. Otherwise we choose images by a hash of
their names, so that about as many people validate. `valid.h5` has an attribute, `split`, that says which of
them it is: results on one do not compare with results on the other.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence, Set
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from margipose.data.hdf5 import dataset, open_hdf5, read_numbers, writing_hdf5
from margipose.jobs import Job, Note, Plan, Tick
from margipose.prepare import Option, archives
from margipose.prepare.archives import Member
from margipose.prepare.mpii_release import Release, read_release
from margipose.prepare.photos import copy_jobs, names_in, place_of, stream_job

__all__ = ["ABOUT", "EXAMPLES", "OPTIONS", "plan"]

ABOUT = "MPII Human Pose, from mpii_human_pose_v1_u12_2.zip and mpii_human_pose_v1.tar.gz"

EXAMPLES = """\
margipose prepare mpii downloads/mpii data/mpii --dry-run
margipose prepare mpii downloads/mpii data/mpii --valid valid.h5"""

OPTIONS = (
    # It does not fix a folder's settings: what is in it is compared instead.
    Option("valid", "path", "valid.h5 of the published conversion (default: our own split)", fixed=False),
    Option("allow_missing", "flag", "leave out people whose image is missing, instead of failing", False),
)

_ANNOTATIONS = "mpii_human_pose_v1_u12_1.mat"
_LABELS, _VALID, _IMAGES = "annot.h5", "valid.h5", "images"

_VALIDATING = 0.117
"""Share of the images that validate in our own split: 2958 of 25 204 people do in the published one."""


def plan(
    src: str | Path, dest: str | Path, *, valid: str | Path | None = None, allow_missing: bool = False
) -> Plan:
    """What there is to do; changes nothing, and does not look into packed archives of images.

    Args:
        src: folder of the download, unpacked or not.
        dest: folder to prepare the set in.
        valid: the published `valid.h5`.
        allow_missing: leave out people without an image.

    Raises:
        ValueError: naming the file, if the annotations or `valid` are damaged or do not belong together,
            or `dest` was prepared with another validation split.
    """
    dest = Path(dest)
    containers = archives.containers(src, dest)
    streamed = [c for c in containers if archives.is_streamed(c)]
    members = [m for c in containers if c not in streamed for m in archives.members(c, dest)]
    packed = [c for c in streamed if c.name.startswith("mpii_human_pose")]
    annotations = next((m for m in members if PurePosixPath(m.name).name == _ANNOTATIONS), None)
    if annotations is None:
        raise ValueError(f"{src}: expected {_ANNOTATIONS} or mpii_human_pose_v1_u12_2.zip, got neither")
    with archives.open_member(annotations) as file:
        release = read_release(file, str(annotations))
    pairs, split = _validation(release, valid)
    if (dest / _LABELS).is_file():
        _check_split(dest / _VALID, split)
    images = dest / _IMAGES
    photos = _photos(release, members)
    jobs, kept = copy_jobs(photos, images)
    available = names_in(images).union(photos)
    absent = [n for n in dict.fromkeys(release.images) if n not in available]
    missing = []
    if absent and packed:
        wanted = {f"{_IMAGES}/{n}": n for n in absent}
        jobs += [stream_job(c, wanted, images, c.stat().st_size) for c in packed]
    elif absent:
        missing.append(Note(_IMAGES, _absent(absent)))
    # Which of the absent are in a packed archive shows when they have been looked for.
    searched = bool(absent and packed)
    if not searched and _people_in(dest / _LABELS) == sum(n in available for n in release.images):
        return Plan(jobs, [*kept, _LABELS], (), missing)
    # As it was read: of the published file, that takes the better part of a minute.
    args = (release, pairs, split, str(dest), allow_missing)
    size = 8 * sum(v.size for v in release.columns.values())
    labels = Job(_LABELS, write_labels, args, 1, size, tuple(j.name for j in jobs))
    return Plan([*jobs, labels], kept, (), missing)


def _photos(release: Release, members: Sequence[Member]) -> dict[str, Member]:
    """Members that are images of people, by their names."""
    places = {f"{_IMAGES}/{name}": name for name in release.images}
    found: dict[str, Member] = {}
    for member in members:
        if name := places.get(place_of(member.name)):
            found.setdefault(name, member)
    return {name: found[name] for name in dict.fromkeys(release.images) if name in found}


def _people_in(labels: Path) -> int | None:
    """How many people are labelled; None, if there is no such file or it is damaged."""
    with contextlib.suppress(ValueError), open_hdf5(labels) as file:
        return len(dataset(file, "index", "a number per person", (None,)))
    return None


def _absent(names: Sequence[str]) -> str:
    return f"expected {_IMAGES}/{names[0]}" + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def write_labels(
    release: Release,
    pairs: Set[tuple[float, float]],
    split: str,
    dest: str,
    allow_missing: bool,
    *,
    tick: Tick,
) -> dict[str, int]:
    """Write `valid.h5` and then `annot.h5`, by whose presence the set is complete.

    Args:
        pairs: (index, person) of those who validate.
        split: what to call this choice.
        allow_missing: leave out people whose image is not in `dest`.

    Raises:
        ValueError: if images are missing that may not be.
    """
    there = names_in(Path(dest, _IMAGES))
    rows = np.array([name in there for name in release.images])
    counts = {f"people {why}": n for why, n in release.left_out.items()}
    if not rows.all():
        absent = list(dict.fromkeys(n for n in release.images if n not in there))
        if not allow_missing or not rows.any():
            raise ValueError(
                f"{_absent(absent)}, which the source has not; --allow-missing leaves their people out"
            )
        counts["people without an image"] = int((~rows).sum())
    columns = {key: values[rows] for key, values in release.columns.items()}
    keys = list(zip(columns["index"].tolist(), columns["person"].tolist()))
    validates = np.array([key in pairs for key in keys])
    known = zip(release.columns["index"].tolist(), release.columns["person"].tolist())
    if unknown := pairs.difference(known):
        counts["validation people that are not in the annotations"] = len(unknown)
    names = [name for name, kept in zip(release.images, rows) if kept]
    with writing_hdf5(Path(dest, _VALID)) as file:
        file.attrs["split"] = split
        for key in ("index", "person"):
            file[key] = columns[key][validates]
    with writing_hdf5(Path(dest, _LABELS)) as file:
        for key, values in columns.items():
            file[key] = values
        file["imgname"] = _codes(names)
    train = columns["istrain"] == 1
    return {
        "training people": int((train & ~validates).sum()),
        "validation people": int(validates.sum()),
        "test people": int((~train).sum()),
        **counts,
    }


def _codes(names: Sequence[str]) -> NDArray[np.float64]:
    """File names as rows of character codes, padded with zeros, as the published conversion has them."""
    codes = np.zeros((len(names), max(map(len, names))))
    for row, name in zip(codes, names):
        row[: len(name)] = list(map(ord, name))
    return codes


def _validation(release: Release, valid: str | Path | None) -> tuple[set[tuple[float, float]], str]:
    """(index, person) of those who validate, and what to call this choice."""
    train = release.columns["istrain"] == 1
    keys = np.stack([release.columns["index"], release.columns["person"]], 1)
    if valid is None:
        chosen = {name for name in set(release.images) if _hashed(name) < _VALIDATING}
        rows = train & np.array([name in chosen for name in release.images])
        return set(map(tuple, keys[rows].tolist())), f"not the published one: images by hash, {_VALIDATING}"
    pairs, images = _published(valid)
    known = dict(zip(map(tuple, keys.tolist()), release.images))
    for pair, image in zip(pairs, images):
        if image is not None and known.get(pair, image) != image:
            raise ValueError(
                f"{valid}: image {pair[0]:.0f} is {image}, but {known[pair]} in {_ANNOTATIONS}; "
                "expected the valid.h5 of the same release"
            )
    testing = set(map(tuple, keys[~train].tolist()))
    if not any(p in known for p in pairs) or any(p in testing for p in pairs):
        raise ValueError(f"{valid}: expected people of {_ANNOTATIONS}'s training images")
    digest = hashlib.sha256(np.array(sorted(pairs)).tobytes()).hexdigest()[:16]
    return set(pairs), f"taken over from a file; sha256 of its people {digest}"


def _hashed(name: str) -> float:
    """A number from 0 to 1 that only depends on the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") / 2**64


def _published(path: str | Path) -> tuple[list[tuple[float, float]], list[str | None]]:
    with open_hdf5(path) as file:
        columns, rows = [], None
        for key in ("index", "person"):
            columns.append(read_numbers(file, key, "a whole number per person", (rows,), whole=True))
            rows = len(columns[0])
        if not rows:
            raise ValueError(f"{path}: expected people, got none")
        images: list[str | None] = [None] * rows
        if "imgname" in file:
            expected = "the character codes of a file name per person"
            codes = read_numbers(file, "imgname", expected, (rows, None), whole=True)
            images = ["".join(chr(c) for c in row if 0 < c < 0x110000) for row in codes.tolist()]
    pairs = np.stack(columns, 1).astype(np.float64)
    return list(map(tuple, pairs.tolist())), images


def _check_split(path: Path, expected: str) -> None:
    with open_hdf5(path) as file:
        found = file.attrs.get("split", "")
    if found != expected:
        raise ValueError(
            f"{path}: attribute 'split': expected {expected!r}, got {str(found)!r}; use another folder, or "
            "the valid.h5 that it was made with"
        )
