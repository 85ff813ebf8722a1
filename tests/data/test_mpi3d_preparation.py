import numpy as np
import pytest

from margipose.data.mpi3d_preparation import fit_intrinsics

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
