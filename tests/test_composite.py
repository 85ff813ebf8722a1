import cv2
import numpy as np
import pytest
from PIL import Image

from margipose.composite import (
    MASKS,
    NO_CHANGES,
    CompositeRanges,
    Textures,
    compose,
    erase,
    paste,
    replace_background,
    replace_clothing,
)
from margipose.data.mpi3d_files import MASKS as MASK_FILES
from margipose.textures import PicturePool

GREEN = np.array([30, 190, 60])
SIZES = [(96, 128), (256, 256), (768, 700)]


def rng(*seed):
    return np.random.default_rng(seed or 0)


def person(height, width):
    """A red figure before a green screen, its mask and its exact cover.

    Edges are as a camera makes them: pixels mix both colours.
    """
    fine = np.zeros((4 * height, 4 * width), np.uint8)
    cv2.ellipse(fine, (2 * width, 2 * height), (width, int(1.4 * height)), 20, 0, 360, 255, cv2.FILLED)
    cv2.line(fine, (2 * width, 2 * height), (4 * width, 3 * height), 255, max(16, width // 8))
    cover = (
        cv2.GaussianBlur(cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA), (0, 0), 0.7) / 255
    )
    texture = rng(3).integers(-20, 20, (height, width, 1))
    image = cover[..., None] * (np.array([200, 40, 50]) + texture) + (1 - cover[..., None]) * GREEN
    return image.round().astype(np.uint8), cover > 0.5, cover


def full(image, colour):
    return np.broadcast_to(np.uint8(colour), image.shape).copy()


def far_from(mask, distance):
    """Pixels inside, and outside, and farther than this from the border."""
    inside, outside = (cv2.distanceTransform(np.uint8(m), cv2.DIST_L2, 5) > distance for m in (mask, ~mask))
    return inside, outside


def test_masks_are_named_as_in_files():
    assert MASKS == MASK_FILES


@pytest.mark.parametrize("size", SIZES)
def test_backgrounds_replace_all_but_the_person(size):
    image, mask, _ = person(*size)
    background = rng(1).integers(0, 256, image.shape).astype(np.uint8)
    before = image.copy()
    out = replace_background(image, mask, background)
    inside, outside = far_from(mask, 1 + 3 * max(1, max(size) / 256))
    np.testing.assert_array_equal(out[inside], image[inside])
    np.testing.assert_array_equal(out[outside], background[outside])
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(out, replace_background(image, np.uint8(mask) * 255, background))


@pytest.mark.parametrize("size", SIZES)
def test_no_green_halo_remains(size):
    """Before grey, no pixel is greener than person and background are, and none by much less red."""
    image, mask, cover = person(*size)
    out = replace_background(image, mask, full(image, (128, 128, 128))).astype(int)
    greenness = out[..., 1] - (out[..., 0] + out[..., 2]) / 2
    assert greenness.max() <= 4
    naive = np.where(mask[..., None], image, 128).astype(int)
    assert (naive[..., 1] - (naive[..., 0] + naive[..., 2]) / 2).max() > 20, "the test has no halo to find"
    # The person shrinks by about a soft edge's half.
    red = (out[..., 0] - 128) / (200 - 128)
    border = cv2.Canny(np.uint8(mask) * 255, 50, 100).astype(bool).sum()
    assert 0 <= cover.sum() - red.sum() < 1.5 * max(1, max(size) / 256) * border


def test_edges_are_soft():
    image, mask, _ = person(256, 256)
    out = replace_background(image, mask, full(image, 255)).astype(int)
    between = (out[..., 1] > 80) & (out[..., 1] < 235)
    border = cv2.Canny(np.uint8(mask) * 255, 50, 100).astype(bool).sum()
    assert between.sum() > 0.5 * border


@pytest.mark.parametrize("size", SIZES)
def test_clothes_keep_their_shading(size):
    height, width = size
    mask = np.zeros(size, bool)
    mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
    shade = np.linspace(0.5, 1.5, width)[None, :, None] * np.ones((height, 1, 1))
    image = np.where(mask[..., None], 0.5 * shade * np.array([40, 90, 200]), 240).round().astype(np.uint8)
    out = replace_clothing(image, mask, full(image, (150, 100, 20)))
    inside, outside = far_from(mask, 1 + 3 * max(1, max(size) / 256))
    np.testing.assert_array_equal(out[outside], image[outside])
    # An independent statement of the formula, in float64.
    light = image @ np.array([0.299, 0.587, 0.114])
    factor = np.clip((light + 8) / (np.median(light[mask]) + 8), 0.3, 2.0)
    expected = np.clip(factor[..., None] * np.array([150, 100, 20]), 0, 255)
    assert np.abs(out - expected)[inside].max() < 6
    assert np.corrcoef(out[inside][:, 0], shade[..., 0][inside])[0, 1] > 0.99
    assert np.median(out[inside], axis=0) == pytest.approx([150, 100, 20], abs=4)


def test_clothes_have_no_seam_where_their_surroundings_are_bright():
    """The shading next to the mask comes from the cloth, not from the white wall."""
    image, mask = np.full((100, 100, 3), 255, np.uint8), np.zeros((100, 100), bool)
    mask[30:70, 30:70] = True
    image[mask] = (30, 30, 40)
    out = replace_clothing(image, mask, full(image, (0, 120, 0))).astype(int)
    edge = out[50, 25:36]
    assert (np.diff(edge[:, 1]) <= 0).all() and (np.diff(edge[:, 0]) <= 0).all()  # from white to green
    assert edge[0].tolist() == [255] * 3 and abs(edge[-1] - [0, 120, 0]).max() <= 2


def test_clothes_of_any_original_colour_become_the_texture():
    mask = np.ones((40, 40), bool)
    for colour in ((0, 0, 0), (3, 3, 3), (90, 10, 200), (255, 255, 255)):
        out = replace_clothing(
            full(np.zeros((40, 40, 3)), colour), mask, full(np.zeros((40, 40, 3)), (60, 130, 90))
        )
        assert np.abs(out.astype(int) - (60, 130, 90)).max() <= 1
    noisy = rng(0).integers(0, 12, (40, 40, 3)).astype(np.uint8)  # black cloth with a camera's noise
    out = replace_clothing(noisy, mask, full(noisy, 120))
    assert out.std() < 35


def test_empty_masks_change_no_clothes():
    image = person(64, 64)[0]
    np.testing.assert_array_equal(replace_clothing(image, np.zeros((64, 64), bool), full(image, 9)), image)


def test_erase_covers_one_limited_part():
    image, shares, fills = person(120, 90)[0], [], set()
    for i in range(80):
        out = erase(image, rng(i), (0.2, 0.5))
        rows, columns = np.nonzero((out != image).any(-1))
        assert 0.1 * 90 <= np.ptp(rows) + 1 <= 46 and 0.1 * 90 <= np.ptp(columns) + 1 <= 46
        part = out[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        shares.append((out != image).any(-1).sum() / part[..., 0].size)
        middle = part[part.shape[0] // 4 : -part.shape[0] // 4, part.shape[1] // 4 : -part.shape[1] // 4]
        fills.add(
            "flat" if middle.reshape(-1, 3).std(0).max() == 0 else "noise" if middle.std() > 65 else "other"
        )
        np.testing.assert_array_equal(out, erase(image, rng(i), (0.2, 0.5)))
    assert fills == {"flat", "noise", "other"}
    assert (
        np.mean(np.array(shares) > 0.95) > 0.2 and np.mean(np.abs(np.array(shares) - np.pi / 4) < 0.06) > 0.2
    )


def test_pasted_objects_may_be_cut_off_by_the_border():
    image, touched, sizes = np.full((80, 120, 3), 128, np.uint8), 0, []
    for i in range(60):
        out = paste(image, None, rng(i), (0.3, 0.6))
        changed = (out != image).any(-1)
        rows, columns = np.nonzero(changed)
        if len(rows):
            sizes.append(max(np.ptp(rows), np.ptp(columns)))
        touched += changed[0].any() or changed[-1].any() or changed[:, 0].any() or changed[:, -1].any()
    assert 5 < touched < 55 and max(sizes) <= 48 and len(sizes) > 50


def test_pasted_cutouts_show_their_opaque_part(tmp_path):
    picture = np.zeros((60, 60, 4), np.uint8)
    picture[20:40, 20:40] = (250, 0, 120, 255)
    picture[..., :3] = (250, 0, 120)
    Image.fromarray(picture).save(tmp_path / "object.png")
    image, counts = np.zeros((100, 100, 3), np.uint8), []
    for i in range(20):
        out = paste(image, PicturePool(tmp_path), rng(i), (0.3, 0.3))
        counts.append((out == (250, 0, 120)).all(-1).sum())
        assert not ((out != image).any(-1) & (out[..., 0] < 2)).any()
    assert max(counts) == pytest.approx(100, abs=25)  # a third of 30 px, squared


def all_masks(mask):
    height = mask.shape[0]
    upper, lower = mask.copy(), mask.copy()
    upper[height // 2 :], lower[: height // 2] = False, False
    return {"foreground": mask, "up_body": upper, "low_body": lower}


def changed_parts(image, out, masks):
    """Whether background, upper and lower body are changed for the most part."""
    changed = (out != image).any(-1)
    regions = (~masks["foreground"], masks["up_body"], masks["low_body"])
    return tuple(bool(changed[r].mean() > 0.5) for r in regions)


@pytest.mark.parametrize("size", SIZES)
def test_each_probability_has_its_part(size):
    image, mask, _ = person(*size)
    masks = all_masks(mask)
    for i, name in enumerate(("background", "upper_body", "lower_body")):
        ranges = CompositeRanges(**{"background": 0, "upper_body": 0, "lower_body": 0, name: 1})
        for seed in range(4):
            out = compose(image, masks, None, ranges, Textures(), rng(seed))
            assert changed_parts(image, out, masks) == tuple(k == i for k in range(3))
    before = image.copy()
    everything = CompositeRanges(1, 1, 1, 1, 1)
    out = compose(image, masks, (True, True, True), everything, Textures(), rng(5))
    assert out.shape == image.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(out, compose(image, masks, None, everything, Textures(), rng(5)))


def test_probabilities_hold():
    image, mask, _ = person(48, 48)
    masks = all_masks(mask)
    parts = [
        changed_parts(image, compose(image, masks, None, CompositeRanges(), Textures(), rng(i)), masks)
        for i in range(400)
    ]
    assert np.mean(parts, 0) == pytest.approx([0.6, 0.2, 0.5], abs=0.08)
    assert compose(image, masks, None, NO_CHANGES, Textures(), rng(0)) is image


def test_masks_that_are_unusable_missing_or_empty_are_left_alone():
    image, mask, _ = person(64, 64)
    masks, certain = all_masks(mask), CompositeRanges(1, 1, 1)
    for given, usable, expected in (
        (masks, (False, True, False), (False, True, False)),
        (masks, (True, False, False), (True, False, False)),
        ({"foreground": mask}, None, (True, False, False)),
        ({**masks, "foreground": np.zeros_like(mask)}, None, (False, True, True)),
    ):
        out = compose(image, given, usable, certain, Textures(), rng(1))
        assert changed_parts(image, out, masks) == expected
    assert compose(image, None, None, certain, Textures(), rng(0)) is image


def test_masks_are_asked_for_when_they_are_needed_only():
    image, mask, _ = person(64, 64)
    asked = []

    class Lazy(dict):
        def __getitem__(self, key):
            asked.append(key)
            return super().__getitem__(key)

    compose(image, Lazy(all_masks(mask)), None, CompositeRanges(0, 0, 1), Textures(), rng(0))
    compose(image, Lazy(all_masks(mask)), (False,) * 3, CompositeRanges(1, 1, 1), Textures(), rng(0))
    assert asked == ["low_body"]


def test_what_happens_does_not_depend_on_the_other_masks():
    """An unusable mask must not change how the rest of the image is drawn."""
    image, mask, _ = person(64, 64)
    masks, certain = all_masks(mask), CompositeRanges(1, 1, 1)
    a = compose(image, masks, None, certain, Textures(), rng(2))
    b = compose(image, masks, (True, False, True), certain, Textures(), rng(2))
    _, outside = far_from(mask, 3)
    lower = far_from(masks["low_body"], 3)[0]
    np.testing.assert_array_equal(a[outside], b[outside])
    np.testing.assert_array_equal(a[lower], b[lower])


def test_pictures_of_folders_are_used(tmp_path):
    for name, colour in (("backgrounds", (10, 20, 30)), ("cloth", (90, 100, 200))):
        (tmp_path / name).mkdir()
        Image.new("RGB", (50, 50), colour).save(tmp_path / name / "plain.png")
    textures = Textures(PicturePool(tmp_path / "backgrounds"), PicturePool(tmp_path / "cloth"))
    image, mask, _ = person(96, 96)
    out = compose(image, all_masks(mask), None, CompositeRanges(1, 1, 1), textures, rng(0))
    inside, outside = far_from(mask, 4)
    assert (out[outside] == (10, 20, 30)).all()
    assert np.median(out[inside], axis=0) == pytest.approx([90, 100, 200], abs=6)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((10, 10), bool), "foreground_mask: expected 64 x 64 booleans or uint8, got bool of shape"),
        (np.zeros((64, 64)), "foreground_mask: expected .*, got float64"),
    ],
)
def test_wrong_masks_are_refused(mask, message):
    image = person(64, 64)[0]
    with pytest.raises(ValueError, match=message):
        replace_background(image, mask, image)


def test_wrong_pictures_are_refused():
    image, mask, _ = person(64, 64)
    with pytest.raises(ValueError, match="background: expected the image's shape"):
        replace_background(image, mask, image[:32])
    with pytest.raises(ValueError, match="texture: expected H x W x 3 uint8 RGB, got float64"):
        replace_clothing(image, mask, image / 255)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"background": 1.5}, "background: expected a probability in 0..1, got 1.5"),
        ({"erase": float("nan")}, "erase: expected a probability"),
        ({"paste_size": (0.4, 0.2)}, "paste_size: expected 0 < least <= most"),
        ({"erase_count": (0, 2)}, "erase_count: expected 0 < least"),
    ],
)
def test_wrong_ranges_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        CompositeRanges(**wrong)


def test_thin_objects_may_be_cut_off_whole(tmp_path):
    pole = np.full((1000, 12, 4), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "pole.png"), pole)
    image = np.zeros((64, 64, 3), np.uint8)
    untouched = [not paste(image, PicturePool(tmp_path), rng(i), (0.1, 0.3)).any() for i in range(400)]
    assert any(untouched)
    assert not all(untouched)
