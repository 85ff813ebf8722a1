"""What the tests of shipped weights share."""

from experiments.ship import Card
from margipose.weights import Score

CARD = Card(
    "ResNet-18, one stage",
    "nothing",
    "tests",
    (Score("MPJPE on nothing, mm", 1234.5, "margipose eval --model lite"),),
)
