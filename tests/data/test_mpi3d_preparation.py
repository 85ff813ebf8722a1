import numpy as np
import pytest

from margipose.data.mpi3d_preparation import (
    fit_intrinsics,
    interesting_frame_indices,
    is_flash,
    split_mask_frame,
    univ_scale_factor,
)
from margipose.skeleton import CANONICAL, MPI3D

CAMERA = (1500.0, 1490.0, 1003.0, 1043.0)


def labels(noise_px=0.0, frames=50):
    rng = np.random.default_rng(0)
    joints = rng.uniform(-800, 800, (frames, 17, 3)) + (200, 0, 3500)
    px = joints[..., :2] / joints[..., 2:] * CAMERA[:2] + CAMERA[2:]
    return joints, px + rng.normal(0, noise_px, px.shape) if noise_px else px


def test_intrinsics_are_found_exactly():
    assert fit_intrinsics(*labels()) == pytest.approx(CAMERA, rel=1e-12)
    joints, px = labels()
    assert fit_intrinsics(joints.reshape(-1, 3), px.reshape(-1, 2)) == pytest.approx(CAMERA, rel=1e-12)


def test_intrinsics_are_least_squares():
    joints, px = labels(noise_px=1.0)
    found = fit_intrinsics(joints, px)
    ray = (joints[..., :2] / joints[..., 2:]).reshape(-1, 2)
    for axis in (0, 1):
        design = np.stack([ray[:, axis], np.ones(len(ray))], 1)
        solution = np.linalg.lstsq(design, px[..., axis].ravel(), rcond=None)[0]
        assert (found[axis], found[2 + axis]) == pytest.approx(solution, rel=1e-9)


def test_revised_joints_do_not_move_the_camera():
    """A fifth of the joints were moved in space, to one side."""
    joints, px = labels(noise_px=0.5)
    plain = fit_intrinsics(joints, px)
    revised = joints.copy()
    revised[:, :4, :2] += (30, 120)
    assert fit_intrinsics(revised, px) == pytest.approx(plain, abs=0.5)
    joints[0, 0], px[1, 1], joints[2, 2, 2] = np.nan, np.inf, -100
    assert fit_intrinsics(joints, px) == pytest.approx(plain, abs=0.5)


def test_labels_that_fix_no_camera_are_refused():
    joints, px = labels()
    for own, image, message in [
        (joints, px[::-1], "do not belong together"),
        (joints * (-1, 1, 1), px, "do not belong together"),
        (joints[:1, :1], px[:1, :1], "several directions .* got 1 usable"),
        (joints * (0, 1, 1), px, "several directions"),
        (joints * np.nan, px, "several directions .* got 0 usable"),
        (joints, px[..., :1], "expected arrays ... x 3 and ... x 2"),
        (joints[1:], px, "expected arrays ... x 3 and ... x 2"),
    ]:
        with pytest.raises(ValueError, match=message) as error:
            fit_intrinsics(own, image)
        assert "\n" not in str(error.value)


def test_golden_universal_scale(golden):
    g = golden("preprocess")
    scale = univ_scale_factor(g["annot3_scaled"], g["univ50"], MPI3D)
    assert scale == pytest.approx(float(g["univ_scale"]), rel=1e-9)
    scale = univ_scale_factor(g["annot3_17"], g["univ_17"], CANONICAL)
    assert scale == pytest.approx(float(g["univ_scale_17"]), rel=1e-9)


def plain_interesting_frames(univ, px, size=2048, move=200):
    kept = []
    for i in range(len(univ)):
        moved = not kept or ((univ[i] - univ[kept[-1]]) ** 2).sum(-1).max() >= move**2
        if moved and (px[i] >= 0).all() and (px[i] < size).all():
            kept.append(i)
    return kept


def test_golden_interesting_frames(golden):
    g = golden("preprocess")
    univ, px = g["univ_annot3"][0], g["annot2"][0]
    found = interesting_frame_indices(univ, px)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, g["indices"])
    # Slow movement makes the search cross its blocks, and the rows need not be MPI3D's.
    slow = np.repeat(univ[:, :17], 9, 0)
    assert interesting_frame_indices(slow, np.repeat(px[:, :17], 9, 0)).tolist() == (
        plain_interesting_frames(slow, np.repeat(px[:, :17], 9, 0))
    )
    assert interesting_frame_indices(univ, px - 5000).tolist() == []


def test_universal_scale_refuses_other_poses(golden):
    g = golden("preprocess")
    own = g["annot3_scaled"].copy()
    own[:, :, MPI3D.index("left_knee")] += 50  # one of those that are not looked at
    assert univ_scale_factor(own, g["univ50"], MPI3D) == pytest.approx(float(g["univ_scale"]), rel=1e-9)
    own[:, :, MPI3D.index("left_wrist")] += 1
    with pytest.raises(ValueError, match="not scaled copies"):
        univ_scale_factor(own, g["univ50"], MPI3D)
    with pytest.raises(ValueError, match="x 17 x 3"):
        univ_scale_factor(own, g["univ50"], CANONICAL)
    with pytest.raises(ValueError, match="differ from the root"):
        univ_scale_factor(np.zeros((2, 17, 3)), np.zeros((2, 17, 3)), CANONICAL)


def test_flash_is_a_third_of_bright_pixels():
    image = np.full((30, 30, 3), 100, np.uint8)
    assert not is_flash(image)
    image[:10] = 255
    assert not is_flash(image)
    image[:11] = 251
    assert is_flash(image)
    assert is_flash(image[..., 0])
    image[:11, :, 0] = 0  # bright in two channels only
    assert not is_flash(image)


def test_masks_are_told_apart_and_noise_is_cut_off():
    frame = np.full((200, 200, 3), 250, np.uint8)
    frame[50:100, 80:120, 0] = 10
    frame[50:70, 80:120, 1] = 10
    frame[180:, :, 0] = 10  # somebody else, at the border
    masks = split_mask_frame(frame, np.array([[90.0, 60.0], [110.0, 95.0]]))
    assert masks["foreground"].sum() == 50 * 40
    assert masks["up_body"].sum() == 20 * 40
    assert not masks["low_body"].any()


def test_people_outside_of_the_image_have_empty_masks():
    dark = np.zeros((20, 30, 3), np.uint8)
    box = np.array([[3.0, 4.0], [9.0, 8.0]])
    assert split_mask_frame(dark, box, 0)["foreground"].sum() == 7 * 5
    for x, y in ((-90, 0), (0, -90), (90, 0), (0, 90), (-90, -90), (-9.2, 0), (0, -8.2)):
        assert not split_mask_frame(dark, box + (x - 1, y - 1), 0)["foreground"].any()
    # Partly outside: the rows and columns that are inside.
    assert split_mask_frame(dark, box - (6, 6), 0)["foreground"].sum() == 4 * 3
    assert split_mask_frame(dark, box * 1e30, 0)["foreground"].sum() == 0
    for bad in (box * np.nan, np.zeros((4, 3)), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="joints_px"):
            split_mask_frame(dark, bad)
    with pytest.raises(ValueError, match="H x W x 3"):
        split_mask_frame(dark[..., 0], box)
