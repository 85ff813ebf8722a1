"""Data sets: every adapter maps files to `Records`, one class maps records to samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from margipose.data import custom, h36m, lsp, mpi3d, mpii
from margipose.data.dataset import PoseDataset, Sample
from margipose.data.records import Records
from margipose.spec import closest

__all__ = ["DATASETS", "PoseDataset", "Records", "Sample", "load_records"]

DATASETS: dict[str, Callable[..., Records]] = {
    "h36m": h36m.load,
    "mpi3d": mpi3d.load,
    "mpii": mpii.load,
    "lsp": lsp.load,
    "lspet": lsp.load_extended,
    "custom": custom.load,
}
"""What each data set's name loads: `f(root, split, **options)`."""


def load_records(name: str, root: str | Path, split: str, **options: bool | str) -> Records:
    """Records of a data set by name; options are the adapter's.

    Raises:
        ValueError: if there is no such data set, folder or split.
    """
    if name not in DATASETS:
        raise ValueError(f"unknown data set {name!r}{closest(name, DATASETS)}")
    if not Path(root).is_dir() and not (name == "custom" and Path(root).is_file()):
        raise ValueError(f"{root}: no such folder (data set {name!r})")
    return DATASETS[name](root, split, **options)
