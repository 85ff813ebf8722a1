"""Where the tests find the reference data that is not part of the project.

Golden vectors and research-licensed frames live outside the repository, in a folder `shared` beside it
or wherever MARGIPOSE_SHARED points. Tests that need them skip where they are absent.
"""

import os
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(os.environ.get("MARGIPOSE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data."""
    if not SHARED.is_dir():
        pytest.skip("no folder of reference data (set MARGIPOSE_SHARED)")
    return SHARED


@pytest.fixture(scope="session")
def golden_dir(shared):
    path = shared / "golden"
    if not path.is_dir():
        pytest.skip("no golden vectors")
    return path


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
    path = shared / "frames"
    if not path.is_dir():
        pytest.skip("no benchmark frames")
    return path
