"""The order of drawings: seeded, exact shares, the same for all numbers of ranks and after interruptions."""

from collections import Counter

import pytest

from margipose.data.sampling import Draw, MixedDataset, ShuffledDraws


def which(draws, lengths):
    """The data set of each drawing."""
    ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
    return [next(i for i, end in enumerate(ends) if d.index < end) for d in draws]


def test_order_is_seeded_and_every_example_comes_once_per_lap():
    draws = list(ShuffledDraws([5, 2], 40, seed=1))
    assert [d.number for d in draws] == list(range(40))
    assert draws == list(ShuffledDraws([5, 2], 40, seed=1))
    assert draws != list(ShuffledDraws([5, 2], 40, seed=2))
    large = [d.index for d in draws if d.index < 5]
    small = [d.index for d in draws if d.index >= 5]
    assert len(large) == len(small) == 20
    for lap in range(4):
        assert sorted(large[5 * lap : 5 * lap + 5]) == [0, 1, 2, 3, 4]
    for lap in range(10):  # a set that is shorter than its share starts again, it does not run dry
        assert sorted(small[2 * lap : 2 * lap + 2]) == [5, 6]
    assert large[:5] != large[5:10]


@pytest.mark.parametrize("start", [1, 13, 39, 1000])
def test_goes_on_after_an_interruption(start):
    whole = list(ShuffledDraws([5, 2, 9], start + 20, seed=1, shares=(2, 1, 0.5)))
    assert whole[start:] == list(ShuffledDraws([5, 2, 9], 20, seed=1, shares=(2, 1, 0.5), start=start))


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_together_see_what_one_process_sees(ranks):
    kind = {"lengths": [50, 7], "count": 24, "seed": 3, "shares": (3, 2), "start": 12}
    whole = list(ShuffledDraws(**kind))
    parts = [ShuffledDraws(**kind, rank=r, ranks=ranks) for r in range(ranks)]
    assert all(len(p) == 24 // ranks for p in parts)
    together = [draw for turn in zip(*parts, strict=True) for draw in turn]
    assert together == whole
    batch = 12 // ranks  # of each rank: global batches hold the same examples
    first = {d for p in parts for d in list(p)[:batch]}
    assert first == set(whole[:12])


def test_ranks_take_turns_in_blocks():
    kind = {"lengths": [50, 7], "count": 24, "seed": 3, "start": 12}
    whole = list(ShuffledDraws(**kind))
    first, second = (list(ShuffledDraws(**kind, rank=r, ranks=2, block=4)) for r in (0, 1))
    assert first == [*whole[:4], *whole[8:12], *whole[16:20]]
    assert second == [*whole[4:8], *whole[12:16], *whole[20:]]
    # Two data sets that alternate: each rank sees both.
    assert Counter(which(first, [50, 7])) == Counter(which(second, [50, 7])) == {0: 6, 1: 6}


@pytest.mark.parametrize(
    "shares, expected",
    [
        (None, (1, 1)),
        ((2, 1), (2, 1)),
        ((10, 20), (1, 2)),
        ((0.7, 0.3), (7, 3)),
        ((1 / 3, 2 / 3), (1, 2)),
        ((32000.0, 8000.0), (4, 1)),
    ],
)
def test_shares_are_exact_over_rounds(shares, expected):
    period = sum(expected)
    found = which(ShuffledDraws([4, 3], 30 * period, shares=shares), [4, 3])
    assert Counter(found) == {0: 30 * expected[0], 1: 30 * expected[1]}
    for start in range(0, len(found), period):
        assert Counter(found[start : start + period]) == dict(enumerate(expected))
    # They alternate as evenly as can be: no stretch is off by more than one.
    for n in range(1, len(found)):
        assert abs(found[:n].count(0) - n * expected[0] / period) <= 1


def test_odd_shares_are_close():
    shares = (0.123456, 0.777, 3.14159)
    found = Counter(which(ShuffledDraws([4, 3, 2], 100_000, shares=shares), [4, 3, 2]))
    for i, share in enumerate(shares):
        assert found[i] / 1e5 == pytest.approx(share / sum(shares), abs=2e-3)


@pytest.mark.parametrize(
    "kind",
    [
        {"lengths": [3, 0]},
        {"lengths": []},
        {"lengths": [3, 2], "shares": (1,)},
        {"lengths": [3, 2], "shares": (1, 0)},
        {"lengths": [3, 2], "shares": (1, float("nan"))},
    ],
)
def test_every_set_needs_examples_and_a_share(kind):
    with pytest.raises(ValueError, match="every data set needs examples and a share"):
        ShuffledDraws(count=5, **kind)


@pytest.mark.parametrize("rank, ranks, count", [(2, 2, 4), (-1, 2, 4), (0, 3, 4)])
def test_ranks_must_fit(rank, ranks, count):
    with pytest.raises(ValueError, match=f"rank {rank} of {ranks}"):
        ShuffledDraws([3], count, rank=rank, ranks=ranks)


def test_mixed_sets_pass_the_number_on():
    class Echo:
        def __init__(self, name, length):
            self.name, self.length = name, length

        def __len__(self):
            return self.length

        def __getitem__(self, draw):
            return self.name, *draw

    mixed = MixedDataset([Echo("a", 3), Echo("b", 2)])
    assert len(mixed) == 5
    assert [mixed[Draw(i, 9)] for i in (0, 2, 3, 4)] == [("a", 0, 9), ("a", 2, 9), ("b", 0, 9), ("b", 1, 9)]
