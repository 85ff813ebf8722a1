"""Which examples are drawn when: one seeded order over several data sets, for any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from math import gcd, isfinite, lcm
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

__all__ = ["Draw", "ForgivingDataset", "MixedDataset", "ShuffledDraws"]

_FINEST_SHARE = 1000
"""Shares are rounded to fractions of the largest with denominators up to this."""

_REPLACEMENTS = 10
"""How many other examples are tried before a data set counts as unreadable."""


class Draw(NamedTuple):
    """One drawing of an example: the same pair gives the same augmented sample, in any process."""

    index: int
    number: int


class MixedDataset(Dataset[Any]):
    """Several data sets one after the other, indexed by `Draw`s (see `ShuffledDraws`)."""

    def __init__(self, parts: Sequence[Dataset[Any]]) -> None:
        self.parts = list(parts)
        self._ends = np.cumsum([len(p) for p in self.parts])  # type: ignore[arg-type]

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, draw: Draw) -> Any:
        which = self.which(draw.index)
        return self.parts[which][Draw(draw.index - self._first(which), draw.number)]

    def which(self, index: int) -> int:
        """The number of the data set that an index lies in."""
        return int(np.searchsorted(self._ends, index, side="right"))

    def _first(self, which: int) -> int:
        return int(self._ends[which]) - len(self.parts[which])  # type: ignore[arg-type]


class ForgivingDataset(MixedDataset):
    """As `MixedDataset`, but for an example that cannot be read it gives another one of the same data set.

    Items are pairs of a sample and what was wrong, which is empty if nothing was. What replaces an example
    depends on the drawing alone.
    """

    def __getitem__(self, draw: Draw) -> tuple[Any, str]:
        """A sample and a note.

        Raises:
            ValueError: if the replacements cannot be read either.
        """
        try:
            return super().__getitem__(draw), ""
        except (ValueError, OSError) as error:
            note = " ".join(str(error).split())
        which = self.which(draw.index)
        others = np.random.default_rng((draw.index, draw.number)).integers(
            len(self.parts[which]),  # type: ignore[arg-type]
            size=_REPLACEMENTS,
        )
        for other in others.tolist():
            try:
                return super().__getitem__(Draw(self._first(which) + other, draw.number)), note
            except (ValueError, OSError):
                continue
        raise ValueError(f"{note}; {_REPLACEMENTS} other examples of the data set cannot be read either")


class ShuffledDraws(Sampler[Draw]):
    """A seeded order of drawings from several data sets in given shares, without an end of its own.

    Data sets are the parts of a `MixedDataset`, by their lengths. Each runs through its own permutations,
    however short it is, and they take turns as evenly as their shares allow; over every whole round of
    turns the shares are exact. Drawing number n is the same whoever asks: `start` continues after an
    interruption, and several ranks take turns in blocks of drawings, so that together they see what one
    process would. (In blocks, since a rank that took every other drawing of two data sets would see but one.)

    Args:
        lengths: of the data sets.
        count: how many to draw, by all ranks together; a multiple of `ranks * block`.
        seed: of the order.
        shares: how often each is drawn relative to the others, e.g. (1, 1) or (0.7, 0.3); equal if None.
        start: how many were drawn before.
        rank, ranks: of this process, and how many there are.
        block: how many drawings one rank takes before it is the next one's turn.

    Raises:
        ValueError: for an empty data set, shares that are not positive, or counts that do not divide.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        count: int,
        seed: int = 0,
        shares: Sequence[float] | None = None,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        block: int = 1,
    ) -> None:
        shares = [1] * len(lengths) if shares is None else list(shares)
        fits = len(shares) == len(lengths) and all(isfinite(s) and s > 0 for s in shares)
        if not lengths or min(lengths) < 1 or not fits:
            raise ValueError(
                f"every data set needs examples and a share, got lengths {list(lengths)}, shares {shares}"
            )
        if not 0 <= rank < ranks or block < 1 or count % (ranks * block):
            raise ValueError(
                f"rank {rank} of {ranks} cannot draw its part of {count} examples in blocks of {block}"
            )
        self.lengths, self.count, self.seed, self.start = list(lengths), count, seed, start
        self.rank, self.ranks, self.block = rank, ranks, block
        self._turn = _turns(shares)

    def __len__(self) -> int:
        return self.count // self.ranks

    def __iter__(self) -> Iterator[Draw]:
        permutations: dict[int, tuple[int, np.ndarray]] = {}
        offsets = np.cumsum([0, *self.lengths[:-1]])
        per_round = [self._turn.count(d) for d in range(len(self.lengths))]
        before = [self._turn[:place].count(which) for place, which in enumerate(self._turn)]
        first, stride = self.start + self.rank * self.block, self.ranks * self.block
        blocks = (range(n, n + self.block) for n in range(first, self.start + self.count, stride))
        for number in chain.from_iterable(blocks):
            rounds, place = divmod(number, len(self._turn))
            which = self._turn[place]
            lap, step = divmod(rounds * per_round[which] + before[place], self.lengths[which])
            if permutations.get(which, (-1,))[0] != lap:
                order = np.random.default_rng((self.seed, which, lap)).permutation(self.lengths[which])
                permutations[which] = (lap, order)
            yield Draw(int(offsets[which] + permutations[which][1][step]), number)


def _turns(shares: Sequence[float]) -> list[int]:
    """Which data set's turn it is, through one round: whoever is furthest behind its share comes next."""
    largest = Fraction(max(shares))
    parts = [max(Fraction(s) / largest, Fraction(1, _FINEST_SHARE)) for s in shares]
    parts = [p.limit_denominator(_FINEST_SHARE) for p in parts]
    whole = [int(p * lcm(*(q.denominator for q in parts))) for p in parts]
    whole = [n // gcd(*whole) for n in whole]
    if sum(whole) > 10 * _FINEST_SHARE:  # unlike denominators: a common one serves
        whole = [max(1, round(p * _FINEST_SHARE)) for p in parts]
    total, drawn, turns = sum(whole), [0] * len(whole), []
    for place in range(1, total + 1):
        behind = [n * place - d * total for n, d in zip(whole, drawn)]
        turns.append(behind.index(max(behind)))
        drawn[turns[-1]] += 1
    return turns
