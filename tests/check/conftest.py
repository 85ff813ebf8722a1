"""People to spoil."""

import shutil

import pytest


@pytest.fixture
def data(people, tmp_path):
    """A copy of the synthetic people, to spoil."""
    return shutil.copytree(people, tmp_path / "data")
