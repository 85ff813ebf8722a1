"""Leeds Sports Pose, or its extended set, from its download to the layout that `margipose.data.lsp` reads.

The downloads are `lsp_dataset.zip` (or `lsp_dataset_original.zip`, with larger photos), `lspet_dataset.zip`
and `hr-lspet.zip`, unpacked or not; each holds a `joints.mat` and photos, in `images/` or beside it. Which
set it is shows in the number of photos. The photos are copied, and last of all `joints.mat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from margipose.data.lsp import LSP_PHOTOS, photo_numbers, read_labels
from margipose.files import replacing
from margipose.jobs import Job, Plan, Tick
from margipose.prepare import Option, archives
from margipose.prepare.archives import Member
from margipose.prepare.photos import copy_jobs, names_in

__all__ = ["ABOUT", "EXAMPLES", "OPTIONS", "plan"]

ABOUT = "Leeds Sports Pose or its extended set, from lsp_dataset.zip, lspet_dataset.zip or hr-lspet.zip"

EXAMPLES = """\
margipose prepare lsp downloads/lsp_dataset.zip data/lsp
margipose prepare lsp downloads/lspet_dataset.zip data/lspet"""

OPTIONS: tuple[Option, ...] = ()

_LABELS = "joints.mat"


def plan(src: str | Path, dest: str | Path) -> Plan:
    """What there is to do; changes nothing.

    Args:
        src: one of the archives, or a folder that holds one or what was unpacked of it.
        dest: folder to prepare the set in, one for each set.

    Raises:
        ValueError: naming the file, if the source is damaged or incomplete, or there is more than one set
            in it, or `dest` holds another.
    """
    dest = Path(dest)
    members = [m for c in archives.containers(src, dest) for m in archives.members(c, dest)]
    found = [m for m in members if PurePosixPath(m.name).name == _LABELS]
    if len(found) != 1:
        got = " and ".join(str(m) for m in found[:3]) or "none"
        raise ValueError(f"{src}: expected one {_LABELS}, got {got}; name one archive or folder")
    data = _read(found[0])
    with archives.open_member(found[0]) as file:
        count = len(read_labels(file, str(found[0])))
    photos = _photos(found[0], members, count)
    images = dest / "images"
    if (dest / _LABELS).is_file() and (dest / _LABELS).read_bytes() != data:
        raise ValueError(f"{dest / _LABELS}: expected that of {found[0]}, got another; use another folder")
    if strange := sorted(n for n in names_in(images) if n[0] != "." and n not in photos):
        raise ValueError(f"{images / strange[0]}: not a photo of {found[0].container}; use another folder")
    jobs, kept = copy_jobs(photos, images)
    if (dest / _LABELS).is_file():
        return Plan(jobs, [*kept, _LABELS])
    args = (found[0], str(dest), tuple(photos))
    labels = Job(_LABELS, write_labels, args, 1, len(data), tuple(j.name for j in jobs))
    return Plan([*jobs, labels], kept)


def _photos(labels: Member, members: Sequence[Member], count: int) -> dict[str, Member]:
    """The photos by the names that they get."""
    folders: dict[PurePosixPath, dict[str, Member]] = {}
    for member in members:
        if member.container == labels.container:
            path = PurePosixPath(member.name)
            folders.setdefault(path.parent, {})[path.name] = member
    home = PurePosixPath(labels.name).parent
    folder = home / "images" if home / "images" in folders else home
    numbers = photo_numbers(folders[folder], count, f"{labels.container}: {folder}")
    digits = 4 if count == LSP_PHOTOS else 5
    return {
        f"im{n:0{digits}d}{PurePosixPath(name).suffix}": folders[folder][name] for n, name in numbers.items()
    }


def _read(member: Member) -> bytes:
    with archives.open_member(member) as file:
        return file.read()


def write_labels(labels: Member, dest: str, photos: Sequence[str], *, tick: Tick) -> dict[str, int]:
    """Copy `joints.mat`, by whose presence the set is complete."""
    with replacing(Path(dest, _LABELS)) as temporary:
        temporary.write_bytes(_read(labels))
    return {"people": len(photos)}
