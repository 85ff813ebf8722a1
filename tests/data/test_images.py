"""Images decoded at a part of their size must lie where the whole ones do."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from margipose.crops import Crop, crop_reduction, warp_image
from margipose.data import images


def smooth(width, height, seed=0):
    """A picture without details that a reduced one could not show."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 60 + 2, width // 60 + 2, 3)).astype(np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def write(path, image, orientation=None, quality=98):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(image).save(path, quality=quality, exif=exif, subsampling=0)
    return path


@pytest.mark.parametrize("size", [(640, 480), (1000, 1002), (641, 487)])
def test_reduced_pixels_are_means_of_squares(tmp_path, size):
    path = write(tmp_path / "a.jpg", smooth(*size))
    whole = images.read_image(path)
    encoded = images.read_encoded(path)
    assert encoded.size == size
    assert encoded.reductions == (1, 2, 4, 8)
    assert np.array_equal(encoded.decode(), whole)
    for r in (2, 4, 8):
        reduced = encoded.decode(r).astype(float)
        h, w = size[1] // r, size[0] // r
        assert reduced.shape == (-(-size[1] // r), -(-size[0] // r), 3)
        means = whole[: h * r, : w * r].reshape(h, r, w, r, 3).mean((1, 3))
        assert np.abs(reduced[:h, :w] - means).max() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(640, 480), (644, 485)])
def test_turned_images_are_reduced_only_where_their_blocks_stay_whole(tmp_path, orientation, size):
    encoded = images.read_encoded(write(tmp_path / "a.jpg", smooth(*size), orientation))
    whole = encoded.decode()
    assert encoded.size == whole.shape[1::-1] == images.image_size(tmp_path / "a.jpg")
    for r in encoded.reductions:
        reduced = encoded.decode(r).astype(float)
        h, w = (side // r for side in whole.shape[:2])
        means = whole[: h * r, : w * r].reshape(h, r, w, r, 3).mean((1, 3))
        assert np.abs(reduced[:h, :w] - means).max() < 3
    expected = (1, 2, 4, 8) if size == (640, 480) or orientation == 1 else (1,)
    assert encoded.reductions == expected


def test_only_jpegs_are_reduced(tmp_path):
    Image.fromarray(smooth(64, 48)).save(tmp_path / "a.png")
    encoded = images.read_encoded(tmp_path / "a.png")
    assert encoded.reductions == (1,)
    with pytest.raises(ValueError, match=r"a\.png: cannot be reduced by 2"):
        encoded.decode(2)


@pytest.mark.parametrize("pixel_centres", ["integer", "half"])
@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_crops_of_reduced_images_are_those_of_whole_ones(tmp_path, reduction, pixel_centres):
    encoded = images.read_encoded(write(tmp_path / "a.jpg", smooth(1600, 1200)))
    intrinsics = torch.tensor([1500.0, 1500, 790, 610], dtype=torch.float64)
    crop = Crop.make((800, 560), 0.9, (1600, 1200), (96, 96), 20.0, True)
    assert float(crop_reduction(crop)) > 8
    whole = warp_image(encoded.decode(), crop, intrinsics, pixel_centres).astype(float)
    part = warp_image(encoded.decode(reduction), crop, intrinsics, pixel_centres, 1 / reduction)
    # Apart from the image's border, whose pixels blend with the black around at their own size.
    white = np.full((1200, 1600), 255, np.uint8)
    inside = cv2.erode(warp_image(white, crop, intrinsics, pixel_centres), np.ones((5, 5))) == 255
    assert inside.mean() > 0.5
    assert np.abs(part - whole)[inside].max() < 6
    # Half a pixel off would be seen.
    shifted = crop._replace(centre_px=crop.centre_px + 0.5 * float(crop_reduction(crop)))
    moved = warp_image(encoded.decode(), shifted, intrinsics, pixel_centres)
    assert np.abs(moved - whole)[inside].max() > 12


def test_masks_may_be_stored_at_another_size():
    mask = np.zeros((120, 160), np.uint8)
    mask[30:90, 40:120] = 255
    large = cv2.resize(mask, (320, 480), interpolation=cv2.INTER_NEAREST)
    intrinsics = torch.tensor([150.0, 150, 80, 60], dtype=torch.float64)
    crop = Crop.make((85, 55), 1.1, (160, 120), (64, 64), -15.0)
    expected = warp_image(mask, crop, intrinsics)
    assert expected.shape == (64, 64)
    found = warp_image(large, crop, intrinsics, stored_scale=(2, 4))
    assert ((found > 127) != (expected > 127)).mean() < 0.01


def test_reduction_counts_pixels_side_by_side():
    crop = Crop.make((85, 55), 2.0, (160, 120), (60, 60), 33.0, True)
    assert float(crop_reduction(crop)) == pytest.approx(4)  # 240 pixels in 60


def test_what_is_not_an_image_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.jpg: cannot be read"):
        images.read_encoded(tmp_path / "none.jpg")
    path = write(tmp_path / "cut.jpg", smooth(64, 48))
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(ValueError, match=r"cut\.jpg: cannot be read"):
        images.read_encoded(path)
    Image.fromarray(smooth(64, 48)[..., 0]).save(tmp_path / "mask.png")
    assert images.read_mask(tmp_path / "mask.png").shape == (48, 64)
    with pytest.raises(ValueError, match=r"cut\.jpg: not an image"):
        images.read_mask(path)
