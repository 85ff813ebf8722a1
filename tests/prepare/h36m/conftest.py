"""Downloads of Human3.6M, and what they are prepared to."""

import shutil

import pytest

from margipose.data.h36m_sequences import BASE_NAMES, CAMERAS
from margipose.prepare import h36m
from tests.prepare.h36m.raw import CALIBRATION, KINDS, TEST, TRAIN, pack, prepare, write_sequence


@pytest.fixture(scope="session")
def tree(tmp_path_factory):
    """The unpacked download of two sequences; do not write to it."""
    root = tmp_path_factory.mktemp("tree")
    write_sequence(root, TRAIN, 40, video_frames=37)
    write_sequence(root, TEST, 135)
    (root / CALIBRATION).write_bytes(b"the calibration sequence is left alone")
    return root


@pytest.fixture(scope="session")
def archives(tree, tmp_path_factory):
    return pack(tree, tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def prepared(tree, tmp_path_factory):
    """What the tree is prepared to; do not write to it."""
    dest = tmp_path_factory.mktemp("prepared")
    report = prepare(tree, dest)
    assert not report.failed
    return dest


@pytest.fixture
def two_sequences(monkeypatch):
    """A set that consists of the tests' two sequences."""
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key] for key in (TRAIN, TEST)})


@pytest.fixture
def damaged(tree, tmp_path):
    """A copy of the download's first sequence, and where its second camera's files are."""
    src = tmp_path / "src"
    shutil.copytree(tree / "S1", src / "S1")
    (src / CALIBRATION).unlink()
    return src, {
        kind: src / f"S1/{'' if kind == 'Videos' else 'MyPoseFeatures/'}{kind}/Directions 1.{CAMERAS[1]}."
        f"{'mp4' if kind == 'Videos' else 'cdf'}"
        for kind in (*KINDS, "Videos")
    }
