"""A folder of weights in place of the package's."""

import pytest

from experiments.ship import ship
from margipose.weights import shipped
from tests.weights.made import CARD


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder in place of the package's, without any weights."""
    path = tmp_path / "shipped"
    path.mkdir()
    (path / "index.json").write_text("{}")
    monkeypatch.setattr(shipped, "FOLDER", path)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def lite(folder, tiny_weights):
    """The tiny network, shipped as `lite`."""
    path, _ = ship(tiny_weights, "lite", CARD, folder)
    return path
