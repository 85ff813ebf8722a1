"""A download of MPI-INF-3DHP, and what it is prepared to."""

import shutil

import pytest

from margipose.data.mpi3d_sequences import SEQUENCES
from tests.prepare.mpi3d import raw
from tests.prepare.mpi3d.preparing import FLASHES, OUTSIDE, prepare


@pytest.fixture(scope="session")
def somebody():
    return raw.person(flashes=FLASHES, outside=OUTSIDE)


@pytest.fixture(scope="session")
def download(tmp_path_factory, somebody):
    """Three cameras of S1/Seq1, two of S4/Seq1, and TS1 and TS5; do not write to it."""
    root = tmp_path_factory.mktemp("download")
    raw.write_train(root / "S1/Seq1", somebody)
    raw.write_train(root / "S4/Seq1", raw.person(1, (0, 2), SEQUENCES[4, 1].num_frames))
    raw.write_test(root / "mpi_inf_3dhp_test_set/TS1", raw.benchmark())
    raw.write_test(root / "mpi_inf_3dhp_test_set/TS5", raw.benchmark(1, size=(1920, 1080)), (90, 160))
    return root


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, download):
    """All of the download, without an interruption; do not write to it."""
    dest = tmp_path_factory.mktemp("prepared") / "mpi3d"
    assert prepare(download, dest).failed == []
    return dest


@pytest.fixture
def copied(tmp_path, download):
    """S1/Seq1 of the download, to spoil."""
    return shutil.copytree(download / "S1", tmp_path / "download/S1").parent
