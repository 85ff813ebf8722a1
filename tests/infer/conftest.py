"""A predictor for runs whose poses do not matter."""

import pytest

from margipose.infer import Predictor
from tests.infer.running import Steady


@pytest.fixture
def predictor():
    return Predictor(Steady(), detector="image", batch_size=8)
