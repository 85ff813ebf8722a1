from dataclasses import replace

import numpy as np
import pytest
import torch

from margipose import augment as A
from margipose.crops import Crop, normalise_joints, recover_joints
from margipose.skeleton import CANONICAL
from tests.test_crops import close, random_case


@pytest.mark.parametrize("aimed", [False, True])
def test_multi_crop_is_ten_variants(aimed):
    _, joints, intrinsics, crop = random_case(3, aimed)
    ten = A.multi_crop(crop)
    assert ten.scale.shape == (10,)
    offsets = (ten.centre_px - crop.centre_px).int().tolist()
    assert offsets == [[0, 0], [-8, 0], [0, -8], [8, 0], [0, 8]] * 2
    assert (ten.flip[:5] == crop.flip).all()
    assert (ten.flip[5:] != crop.flip).all()
    norm = normalise_joints(joints.expand(10, 17, 3), ten, intrinsics.expand(10, 4), CANONICAL)
    unit = recover_joints(norm, ten, intrinsics.expand(10, 4), CANONICAL)
    root = CANONICAL.index("pelvis")
    close(unit * (joints[root, 2] / unit[:, root, None, 2:]), joints.expand(10, 17, 3))
    assert (unit[:, root, 2] == 1).all() != aimed


def test_colours():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 3), np.uint8)
    kept = image.copy()
    assert (A.adjust_colour(image, A.Colour(brightness=0.5)) == np.rint(image * 0.5)).all()
    grey = A.adjust_colour(image, A.Colour(saturation=0.0))
    assert (grey == grey[..., :1]).all()
    assert np.ptp(A.adjust_colour(image, A.Colour(contrast=0.0))) == 0
    red = np.zeros((2, 2, 3), np.uint8) + np.array([200, 0, 0], np.uint8)
    assert (A.adjust_colour(red, A.Colour(hue=1 / 3)) == [0, 200, 0]).all()
    assert (A.adjust_colour(red, A.Colour(hue=-1 / 3)) == [0, 0, 200]).all()
    assert np.abs(A.adjust_colour(image, A.Colour(hue=1.0)).astype(int) - image).max() <= 1
    assert (image == kept).all()


def test_sampling_keeps_to_its_ranges_and_seed():
    base = Crop.make((100, 120), 0.5, (300, 200), (64, 64))
    rng = np.random.default_rng(0)
    crops = [A.sample_crop(base, A.RANGES_3D, rng) for _ in range(2000)]
    shift = torch.stack([c.centre_px for c in crops]) - base.centre_px
    scale = torch.stack([c.scale for c in crops]) / base.scale
    rotation = torch.stack([c.rotation_deg for c in crops])
    flip = torch.stack([c.flip for c in crops])
    assert 15 < shift.abs().max() <= 16
    assert scale.min() >= 0.9
    assert scale.max() <= 1.1
    assert rotation.abs().max() == 30
    assert abs((rotation != 0).double().mean() - 0.4) < 0.04
    assert abs(flip.mean() - 0.5) < 0.04
    again = np.random.default_rng(0)
    assert all(torch.equal(a, b) for a, b in zip(crops[0], A.sample_crop(base, A.RANGES_3D, again)))
    wide = [A.sample_crop(base, A.RANGES_2D, rng) for _ in range(500)]
    factor = torch.stack([c.scale for c in wide]) / base.scale
    assert factor.min() >= 2**-0.5 - 1e-9
    assert factor.max() <= 2**0.5 + 1e-9
    assert all(torch.equal(c.centre_px, base.centre_px) for c in wide)
    third = [A.sample_crop(base, A.RANGES_3D.scaled(1 / 3), rng) for _ in range(500)]
    shift = torch.stack([c.centre_px for c in third]) - base.centre_px
    assert 5 < shift.abs().max() <= 16 / 3
    assert 0.03 < (torch.stack([c.scale for c in third]) / base.scale - 1).abs().max() <= 0.1 / 3 + 1e-9
    assert torch.stack([c.rotation_deg for c in third]).abs().max() == 10
    none = A.sample_crop(base, A.RANGES_2D.scaled(0), rng)
    assert all(torch.equal(a, b) for a, b in zip(none[:3], base[:3]))
    assert abs(torch.stack([c.flip for c in third]).mean() - 0.5) < 0.08
    colours = np.array([A.sample_colour(A.RANGES_3D, rng) for _ in range(2000)])
    assert (np.abs(colours[:, :3] - 1) <= 0.2).all()
    assert (np.abs(colours[:, 3]) <= 0.1).all()
    assert (np.abs((colours != [1, 1, 1, 0]).mean(0) - 0.3) < 0.04).all()


def test_people_are_turned_upright_before_they_are_turned_by_chance():
    base = Crop.make((50, 60), 0.5, (100, 120), (64, 64))
    never, always = (replace(A.RANGES_3D, upright=share) for share in (0.0, 1.0))
    for seed in range(20):
        plain, turned = (
            A.sample_crop(base, ranges, np.random.default_rng(seed), 70.0) for ranges in (never, always)
        )
        assert turned.rotation_deg == plain.rotation_deg + 70
        assert all(torch.equal(a, b) for a, b in zip(plain, turned._replace(rotation_deg=plain.rotation_deg)))
    often = replace(A.RANGES_3D, upright=0.5, rotation=0.0)
    rng = np.random.default_rng(0)
    share = np.mean([float(A.sample_crop(base, often, rng, 70.0).rotation_deg) == 70 for _ in range(500)])
    assert 0.4 < share < 0.6
