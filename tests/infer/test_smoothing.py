import numpy as np
import pytest

from margipose.infer import OneEuro, Smoothing
from margipose.infer.smoothing import JointSmoother


def plain(values, times, min_cutoff, beta, derivative_cutoff):
    """The paper's algorithm 1 for single numbers."""

    def alpha(cutoff, passed):
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau / passed)

    out, speed, last = [values[0]], 0.0, values[0]
    for i in range(1, len(values)):
        passed = times[i] - times[i - 1]
        a = alpha(derivative_cutoff, passed)
        speed = a * (values[i] - last) / passed + (1 - a) * speed
        a = alpha(min_cutoff + beta * abs(speed), passed)
        last = a * values[i] + (1 - a) * last
        out.append(last)
    return out


def test_numbers_of_the_paper_s_algorithm():
    rng = np.random.default_rng(0)
    values, times = rng.normal(size=50).cumsum(), np.cumsum(rng.uniform(0.01, 0.05, 50))
    ours = OneEuro(1.3, 0.4, 0.9)
    np.testing.assert_allclose(
        [ours(np.array([[v]]), t).item() for v, t in zip(values, times)], plain(values, times, 1.3, 0.4, 0.9)
    )


def test_trembling_goes_and_movement_stays():
    rng = np.random.default_rng(1)
    smooth = JointSmoother(Smoothing(), 0)
    times = np.arange(150) / 30
    walk = np.zeros((150, 2, 3))
    walk[:, :, 2] = 3000
    walk[:, 1, 0] = np.where(times < 2.5, 0, (times - 2.5) * 1500)  # still, then fast
    seen = walk + rng.normal(scale=10, size=walk.shape)
    out = np.stack([smooth(joints, t) for joints, t in zip(seen, times)])
    still = slice(30, 70)
    assert out[still].std(0).mean() < 0.4 * seen[still].std(0).mean()
    assert np.abs(out[-20:, 1, 0] - walk[-20:, 1, 0]).max() < 120  # 80 ms behind at 1.5 m/s


def test_axes_share_a_cutoff_so_that_turning_the_camera_changes_nothing():
    rng = np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    values = rng.normal(size=(20, 4, 3)).cumsum(0)
    one, other = OneEuro(1.0, 0.5), OneEuro(1.0, 0.5)
    for i, v in enumerate(values):
        np.testing.assert_allclose(one(v, i / 30) @ turn, other(v @ turn, i / 30))


def test_time_that_stands_still_changes_nothing():
    euro = OneEuro(1.0, 0.0)
    first = euro(np.ones((1, 3)), 1.0)
    np.testing.assert_array_equal(euro(np.full((1, 3), 9.0), 1.0), first)


def test_refuses_cutoffs_that_are_none():
    for name, value in (("min_cutoff_hz", 0), ("beta", -1), ("root_beta", float("inf"))):
        with pytest.raises(ValueError, match=name):
            Smoothing(**{name: value})
