"""Flat pictures, and what cameras do to images."""

import cv2
import numpy as np
import pytest

from margipose.synthetic.film import _shake, random_film
from margipose.synthetic.materials import BANNERS, CROWDS, atlas_of
from margipose.synthetic.palette import Palette
from margipose.synthetic.pictures import backdrop_picture, banner_picture, crowd_picture


@pytest.mark.parametrize("make", [backdrop_picture, banner_picture, crowd_picture])
@pytest.mark.parametrize("side", [48, 128])
def test_pictures_repeat_and_differ(make, side):
    first, again, other = (make(np.random.default_rng(s), side) for s in (1, 1, 2))
    assert first.shape == (side, side, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_crowds_and_banners_are_full_of_detail():
    for make in (crowd_picture, banner_picture):
        edges = [cv2.Canny(make(np.random.default_rng(s), 128), 60, 120).mean() / 255 for s in range(12)]
        assert np.median(edges) > 0.03


def test_an_atlas_ends_with_crowds_and_banners():
    assert len(atlas_of(np.random.default_rng(0), 3)) == 3 + CROWDS + BANNERS
    palette = Palette(np.random.default_rng(0), 3)
    for _ in range(20):
        palette.crowd(), palette.banner(500.0), palette.poster(500.0)
    rows = [m.picture for m in palette.materials]
    assert set(rows[0::3]) == {3, 4}
    assert set(rows[1::3]) == {5, 6, 7}
    assert set(rows[2::3]) <= {0, 1, 2}


def test_shaking_moves_nothing_on_average():
    kernels = [_shake(np.random.default_rng(s), 256) for s in range(100)]
    moved = [k for k in kernels if k.size > 1]
    assert 4 < len(moved) < 30
    for k in moved:
        at = np.arange(len(k)) - len(k) // 2
        assert k.sum() == pytest.approx(1, abs=1e-5)
        assert k.sum(0) @ at == pytest.approx(0, abs=1e-4)
        assert k.sum(1) @ at == pytest.approx(0, abs=1e-4)


def test_no_film_moves_what_it_shows():
    """A bright spot stays where it is, however little the camera resolves."""
    image = np.full((96, 96, 3), 0.05, np.float32)
    cv2.circle(image, (40, 57), 6, (1.0, 1.0, 1.0), -1)
    for seed in range(60):
        film = random_film(np.random.default_rng(seed), image, np.zeros((96, 96), np.float32))
        light = film.develop(image, 0).astype(float).mean(2)
        light = np.maximum(light - (np.median(light) + light.max()) / 2, 0)
        y, x = np.mgrid[:96, :96]
        assert (light * x).sum() / light.sum() == pytest.approx(40, abs=0.6), seed
        assert (light * y).sum() / light.sum() == pytest.approx(57, abs=0.6), seed
