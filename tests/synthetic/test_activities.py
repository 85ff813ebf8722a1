import json

import h5py
import pytest

from margipose.data import mpi3d_files as F
from margipose.synthetic import make_synthetic
from margipose.synthetic.sequence import Options, SequencePlan, make_sequence

pytestmark = pytest.mark.long


def test_activities_are_those_that_were_asked_for(tmp_path):
    plan = SequencePlan("train", 1, 1, (1,))
    found = []
    for seed in range(8):
        root = tmp_path / str(seed)
        make_sequence(root, plan, seed, Options(64, 1, activities=((3, 1.0), (5, 3.0))))
        with h5py.File(F.sequence_dir(root, "train", 1, 1) / "truth.h5") as file:
            found.append(int(file.attrs["activity"]))
    assert set(found) == {3, 5}
    make_synthetic(tmp_path / "set", 3, size=64, activities={5: 2, 3: 1})
    said = json.loads((tmp_path / "set" / "synthetic.json").read_text())
    assert said["activities"] == {"3": 1.0, "5": 2.0}
    make_synthetic(tmp_path / "set", 4, size=64, activities={3: 1, 5: 2})
    with pytest.raises(ValueError, match="activities"):
        make_synthetic(tmp_path / "set", 4, size=64)


@pytest.mark.parametrize(
    ("activities", "message"),
    [
        ({8: 1}, "expected numbers from 1 to 7, got 8"),
        ({3: 0}, "expected a number above 0 for 3, got 0"),
        ({3: float("nan")}, "expected a number above 0 for 3, got nan"),
        ({}, "expected at least one"),
    ],
)
def test_activities_that_are_none_are_refused(tmp_path, activities, message):
    with pytest.raises(ValueError, match=message):
        make_synthetic(tmp_path / "set", 3, size=64, activities=activities)
    assert not (tmp_path / "set").exists()
