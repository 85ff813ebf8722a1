from dataclasses import replace

import cv2
import numpy as np
import pytest

from margipose import appearance as A

ALL = A.AppearanceRanges(filter=1, tone=1, grey=1, blur=1, shrink=1, noise=1, compress=1)
CHANGES = ("filter", "tone", "grey", "blur", "shrink", "noise", "compress")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def image():
    """Smooth colours with a sharp square in them."""
    y, x = np.mgrid[:48, :64]
    image = np.stack([2 * x + 40, 3 * y + 30, 200 - x - y], -1).astype(np.uint8)
    image[16:32, 20:40] = (220, 60, 30)
    return image


def test_as_it_is_by_default(image):
    assert A.change_appearance(image, A.AS_IT_IS, rng()) is image


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_alone(image, name):
    kept, only = image.copy(), replace(A.AS_IT_IS, blur_size=(0.02, 0.04), **{name: 1.0})
    changed = [A.change_appearance(image, only, rng(seed)) for seed in range(4)]
    assert (image == kept).all()
    for made, again in zip(changed, (A.change_appearance(image, only, rng(seed)) for seed in range(4))):
        assert made.shape == image.shape
        assert made.dtype == np.uint8
        assert (made == again).all()
    assert all((made != image).any() for made in changed)
    if name != "grey":
        assert (changed[0] != changed[1]).any()


def test_one_probability_does_not_change_what_else_happens(image):
    noisy = replace(A.AS_IT_IS, noise=1.0)
    alone = A.change_appearance(image, noisy, rng(3))
    beside = A.change_appearance(image, replace(noisy, grey=1e-12, blur=1e-12), rng(3))
    assert (alone == beside).all()


def test_probabilities_are_kept(image):
    some = replace(A.AS_IT_IS, tone=0.3)
    changed = [(A.change_appearance(image, some, rng(seed)) != image).any() for seed in range(400)]
    assert abs(np.mean(changed) - 0.3) < 0.08


def test_nothing_moves():
    # What is bright stays where it is, for any change that keeps brightness apart from darkness.
    image = np.full((96, 96, 3), 30, np.uint8)
    cv2.circle(image, (60, 40), 9, (230, 230, 230), cv2.FILLED)
    ranges = replace(ALL, filter=0.0)
    for seed in range(20):
        light = A.change_appearance(image, ranges, rng(seed)).astype(float).sum(-1)
        weight = np.clip(light - np.median(light) - 60, 0, None)
        y, x = np.mgrid[:96, :96]
        assert abs((weight * x).sum() / weight.sum() - 60) < 1.5
        assert abs((weight * y).sum() / weight.sum() - 40) < 1.5


def test_filter_keeps_mean_and_contrast(image):
    assert np.abs(A.filter_colours(image, 0.0, rng()).astype(int) - image).max() == 0
    for seed in range(10):
        made = A.filter_colours(image, 1.0, rng(seed)).astype(float)
        # Values beyond 0..255 are cut off, which brings both a little closer to the middle.
        assert abs(made.mean() - image.mean()) < 12
        assert 0.7 < made.std() / image.std() < 1.05


def test_filter_of_a_flat_image_is_finite():
    flat = np.full((8, 8, 3), 77, np.uint8)
    assert (A.filter_colours(flat, 1.0, rng()) == 77).all()


def test_tone_follows_its_formula(image):
    gains = np.array([1.2, 1.0, 0.7])
    expected = np.rint(np.clip(255 * gains * (image / 255) ** 1.5, 0, 255))
    assert (A.tone(image, 1.5, gains) == expected).all()


def test_blur_keeps_what_is_flat_and_the_mean(image):
    flat = np.full((20, 30, 3), 90, np.uint8)
    for seed in range(8):
        assert (A.blur(flat, 0.1, rng(seed)) == 90).all()
        blurred = A.blur(image, 0.05, rng(seed)).astype(float)
        assert abs(blurred.mean() - image.mean()) < 1
        edges = [
            sum(np.abs(np.diff(i, axis=a)).sum() for a in (0, 1)) for i in (blurred, image.astype(float))
        ]
        assert edges[0] < edges[1]


def test_motion_blur_is_as_long_as_it_says():
    point = np.zeros((101, 101, 3), np.uint8)
    point[50, 50] = 255
    lengths = set()
    for seed in range(20):
        y, x = np.nonzero(A.blur(point, 8 / 101, rng(seed))[..., 0] > 4)
        if 0 < len(x) < 30:  # a line, not a disc
            lengths.add(round(np.hypot(np.ptp(x), np.ptp(y))))
    assert lengths
    assert all(abs(length - 16) <= 2 for length in lengths)


def test_noise_is_as_strong_as_it_says():
    grey = np.full((200, 200, 3), 128, np.uint8)
    noisy = A.noise(grey, 10.0, rng()).astype(float) - 128
    assert abs(noisy.std() - 10) < 0.2
    assert abs(noisy.mean()) < 0.1
    assert abs(np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]) < 0.02


def test_shrinking_and_compression_lose_detail(image):
    detailed = rng().integers(0, 256, (64, 64, 3), np.uint8)
    assert A.shrink(detailed, 0.25).std() < 0.4 * detailed.std()
    assert (A.shrink(image, 1.0) == image).all()
    fine, coarse = (np.abs(A.compress(image, q).astype(int) - image).mean() for q in (95, 10))
    assert fine < coarse
    assert fine < 4  # colours are in order


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 200, 3)])
def test_any_size(shape):
    for seed in range(5):
        assert A.change_appearance(np.full(shape, 9, np.uint8), ALL, rng(seed)).shape == shape


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blur", 1.5),
        ("noise", -0.1),
        ("filter_share", (0.5, 0.2)),
        ("shrink_factor", (0.0, 0.5)),
        ("compress_quality", (50, 101)),
        ("noise_level", (float("nan"), 3)),
        ("tone_octaves", -1.0),
    ],
)
def test_ranges_are_checked(key, value):
    with pytest.raises(ValueError, match=rf"AppearanceRanges\.{key}: expected"):
        replace(A.AS_IT_IS, **{key: value})


def test_images_are_checked():
    with pytest.raises(ValueError, match=r"expected H x W x 3 uint8 RGB, got float32 of shape \(4, 4, 3\)"):
        A.change_appearance(np.zeros((4, 4, 3), np.float32), ALL, rng())
