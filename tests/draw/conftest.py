"""No picture may keep global state."""

import sys

import pytest


@pytest.fixture(scope="module", autouse=True)
def no_pyplot():
    yield
    assert "matplotlib.pyplot" not in sys.modules, "pyplot keeps global state"
