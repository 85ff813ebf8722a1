"""What a data set of five million frames costs before its first image is read.

    python benchmarks/index.py [--frames 5000000]

Writes the labels (not the images) of a Human3.6M set of that size to a temporary folder, opens it as records
and as samples, and reads joints at random: in this process, and in two workers that were started by fork and
two by spawn. Memory is what the system counts: `anonymous` belongs to the process alone or is shared with
its workers, label files that are mapped do not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from multiprocessing import Queue
from pathlib import Path

import h5py
import numpy as np
import torch

from margipose.data import PoseDataset, Records, load_records
from margipose.spec import InputSpec

SEQUENCES = 240
CAMERAS = (54138969, 55011271, 58860488, 60457274)
READS = 2000


def write_labels(root: Path, frames: int) -> None:
    for n in range(SEQUENCES):
        rows = frames * (n + 1) // SEQUENCES - frames * n // SEQUENCES
        path = root / "S1" / f"Directions-{n}" / "annot.h5"
        path.parent.mkdir(parents=True)
        with h5py.File(path, "w") as file:
            # Allocated but never written: takes no space on most file systems.
            early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            space = h5py.h5s.create_simple((rows, 32, 3))
            group = file.create_group("pose")
            h5py.h5d.create(group.id, b"3d", h5py.h5t.IEEE_F64LE, space, early)
            file["camera"] = np.resize(np.array(CAMERAS, np.int32), rows)
            file["frame"] = np.arange(rows, dtype=np.int32) + 1
            for key in ("subject", "action", "subaction"):
                file[key] = np.full(rows, 2, np.int32)
            for camera in CAMERAS:
                file[f"intrinsics/{camera}"] = np.array([1145.0, 512, 1144, 515])


def anonymous_mb() -> float:
    """Memory of this process that no file backs, MB; pages that others share with it count in part."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return (sizes["Pss_Anon"] + sizes.get("Pss_Shmem", 0)) / 1024


def read_joints(records: Records, seed: int) -> float:
    """Microseconds for the joints of one random row."""
    rows = np.random.default_rng(seed).integers(len(records), size=READS).tolist()
    start = time.perf_counter()
    for row in rows:
        records.joints_cam_mm[row]
    return (time.perf_counter() - start) / READS * 1e6


def work(records: Records, seed: int, results: Queue) -> None:
    read_joints(records, seed)
    results.put((read_joints(records, seed), anonymous_mb()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=5_000_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_labels(Path(folder), args.frames)
        before, start = anonymous_mb(), time.perf_counter()
        dataset = PoseDataset(load_records("h36m", folder, "trainval"), InputSpec(256, 256))
        seconds, after = time.perf_counter() - start, anonymous_mb()
        print(f"{len(dataset)} frames of {SEQUENCES} sequences opened in {seconds:.1f} s")
        print(
            f"memory: {after - before:.0f} MB ({(after - before) * 2**20 / len(dataset):.0f} bytes a frame), "
            f"beside {before:.0f} MB of Python and its libraries"
        )
        read_joints(dataset.records, 0)  # opens the files
        print(f"joints of a random frame: {read_joints(dataset.records, 0):.0f} µs")
        for method in ("fork", "spawn"):
            context = torch.multiprocessing.get_context(method)
            results = context.Queue()
            workers = [context.Process(target=work, args=(dataset.records, i, results)) for i in range(2)]
            for worker in workers:
                worker.start()
            found = [results.get() for _ in workers]
            for worker in workers:
                worker.join()
            each, memory = (sum(values) / 2 for values in zip(*found))
            print(f"a worker by {method}: {each:.0f} µs, {memory:.0f} MB with its part of what is shared")


if __name__ == "__main__":
    main()
