"""Preparing downloads of these tests, and looking at the result."""

import zipfile

from PIL import Image

from margipose import jobs
from margipose.data import mpi3d_files as F
from margipose.prepare import mpi3d

SIZE = 96
FLASHES = (4, 5)
OUTSIDE = (10, 11)


def prepare(src, dest, workers=1, **options):
    """Plan and run; cameras that no download of these tests has are not asked for."""
    options = {"size": SIZE, "cameras": ("0", "2"), **options}
    return jobs.run(mpi3d.plan(src, dest, **options), dest, workers, kind="mpi3d")


def contents(root, reports=False):
    """Every file below a folder: images decoded, the others as they are."""
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if path.suffix in (".jpg", ".png"):
            with Image.open(path) as image:
                found[name] = (image.mode, image.size, image.tobytes())
        elif reports or not name.endswith("_report.json"):
            found[name] = path.read_bytes()
    return found


def failures(report):
    assert all("\n" not in n.reason for n in report.failed)
    return {n.name: n.reason for n in report.failed}


def pack(archive, folder, names, prefix="", method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(archive, "w", method) as file:
        for name in names:
            file.write(folder / name, prefix + name)
            (folder / name).unlink()


def indices(dest, sequence="train/S1/Seq1"):
    found = F.read_index(dest / sequence / "metadata.h5").interesting_frames
    return {c: f.tolist() for c, f in found.items()}


def cut(path, share=0.5):
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
