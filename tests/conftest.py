"""Where the tests find the reference data that is not part of the project.

Golden vectors and research-licensed frames live outside the repository, in a folder `shared` beside it
or wherever MARGIPOSE_SHARED points. Tests that need them skip where they are absent.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

WORKER = os.environ.get("PYTEST_XDIST_WORKER")
if WORKER:
    # As many tests at a time as there are cores: threads of one would only wait for those of another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Shells start background jobs so, and the processes that tests interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(os.environ.get("MARGIPOSE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def pytest_collection_modifyitems(items):
    """Files that take longest begin first, so that at the end no process is left alone with one of them.

    Processes take files in this order with `--no-loadscope-reorder`; else those of most tests come first.
    """

    def rank(item):
        return 0 if item.get_closest_marker("slow") else 1 if item.get_closest_marker("long") else 2

    files = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    ordered = sorted(files.values(), key=lambda tests: min(map(rank, tests)))
    items[:] = [item for tests in ordered for item in sorted(tests, key=rank)]


def _folder(path, what):
    if not path.is_dir():
        pytest.skip(f"no {what}")
    return path


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data."""
    return _folder(SHARED, "folder of reference data (set MARGIPOSE_SHARED)")


@pytest.fixture(scope="session")
def golden_dir(shared):
    return _folder(shared / "golden", "golden vectors")


@pytest.fixture(scope="session")
def golden(golden_dir):
    """Load golden/<name>.npz as a dict of arrays."""
    cache = {}

    def load(name):
        if name not in cache:
            with np.load(golden_dir / f"{name}.npz") as arrays:
                cache[name] = dict(arrays)
        return cache[name]

    return load


@pytest.fixture(scope="session")
def frames(shared):
    return _folder(shared / "frames", "benchmark frames")


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A small synthetic data set in MPI-INF-3DHP's prepared layout; do not write to it."""
    from margipose.synthetic import make_synthetic

    # Workers of one run share it; the first to come makes it.
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if WORKER else base) / "people"
    with FileLock(root.with_suffix(".lock")):
        make_synthetic(root, 100, seed=1, size=96)
    return root


@pytest.fixture
def photos(tmp_path):
    """Two photos in a data set of one's own."""
    import cv2

    from margipose.skeleton import LSP

    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0)
    samples = []
    for n in range(2):
        cv2.imwrite(str(tmp_path / f"photos/{n}.jpg"), pixels.integers(0, 255, (90, 90, 3), dtype=np.uint8))
        joints = {name: pixels.uniform(5, 85, 2).tolist() for name in LSP.joints}
        samples.append({"image": f"{n}.jpg", "split": "train", "joints_px": joints})
    content = {"format": "margipose-custom", "version": 1, "skeleton": "lsp", "samples": samples}
    (tmp_path / "photos/annotations.json").write_text(json.dumps(content))
    return tmp_path / "photos"


@pytest.fixture
def sports(tmp_path):
    """32 photos in the layout of LSP extended; the first lacks a hip, the second five joints of the limbs."""
    import cv2
    from scipy.io import savemat

    from margipose.skeleton import LSP

    root = tmp_path / "lspet"
    (root / "images").mkdir(parents=True)
    joints = np.ones((14, 3, 32))
    joints[:, :2] = np.random.default_rng(0).uniform(1, 78, (14, 2, 32))
    joints[LSP.index("left_hip"), 2, 0] = 0
    joints[LSP.indices(("left_knee", "right_knee", "left_ankle", "left_wrist", "right_wrist")), 2, 1] = 0
    savemat(root / "joints.mat", {"joints": joints})
    for n in range(32):
        cv2.imwrite(str(root / "images" / f"im{n + 1:05d}.jpg"), np.full((80, 100, 3), 90, np.uint8))
    return root


TINY = {
    "model": {
        "backbone": "test_resnet",
        "n_stages": 1,
        "feature_channels": 16,
        "column_channels": 16,
        "column_blocks": [0, 1, 1, 0],
    },
    "input": {"width": 64, "height": 64},
    "examples_per_epoch": 16,
    "batch_size": 8,
    "epochs": 2,
    "optimiser": "adamw",
    "lr": 1e-3,
    "workers": 0,
    "tensorboard": False,
}


@pytest.fixture
def tiny(tiny_and_its_curve, monkeypatch):
    """Settings of a training run that takes about a second, without the curve, which takes longer."""
    monkeypatch.setattr("margipose.train.watching.Watch._draw_curves", lambda self: None)
    return tiny_and_its_curve


@pytest.fixture
def tiny_and_its_curve(people, tmp_path):
    """What `tiny` gives, with everything that a run draws."""
    return {
        **TINY,
        "train_sets": ["mpi3d/train"],
        "eval_set": "mpi3d/test",
        "data_roots": {"mpi3d": str(people)},
        "run_dir": str(tmp_path / "run"),
    }


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """A checkpoint of an untrained tiny network."""
    import torch

    from margipose import checkpoint
    from margipose.model import ModelSpec, build_model
    from margipose.spec import InputSpec, from_mapping

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoint.save(path, build_model(from_mapping(ModelSpec, TINY["model"])), InputSpec(64, 64))
    return path
