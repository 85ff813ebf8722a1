"""Calibration files of MPI-INF-3DHP."""

import numpy as np
import pytest

from margipose.data.mpi3d_calibration import (
    CameraCalibration,
    parse_calibration,
    read_calibration,
    write_calibration,
)


def test_golden_calibration(golden, golden_dir):
    expected = golden("preprocess")
    cameras = read_calibration(golden_dir / "camera.calibration")
    assert list(cameras) == expected["calib_ids"].tolist()
    for camera, matrix, extrinsic, size in zip(
        cameras.values(), expected["calib_K"], expected["calib_E"], expected["calib_size"]
    ):
        np.testing.assert_array_equal(camera.matrix, matrix)
        np.testing.assert_array_equal(camera.extrinsic, extrinsic)
        assert (camera.width, camera.height) == tuple(size)


def test_calibration_round_trip(tmp_path):
    rng = np.random.default_rng(0)
    cameras = {
        c: CameraCalibration(*rng.uniform(500, 2000, 4), 2048, 1080, rng.normal(size=(4, 4))) for c in (7, 0)
    }
    write_calibration(tmp_path / "camera.calibration", cameras)
    again = read_calibration(tmp_path / "camera.calibration")
    assert again == cameras
    assert list(again) == [7, 0]
    for c, camera in cameras.items():
        np.testing.assert_array_equal(again[c].extrinsic, camera.extrinsic)


def test_intrinsics_follow_the_stored_size():
    camera = CameraCalibration(1683.4, 1674.4, 940, 555, 1920, 1080)
    fx, fy, cx, cy = camera.intrinsics_at(341, 192)
    assert fx == pytest.approx(298.97885417, abs=1e-8)
    assert (fy, cx, cy) == pytest.approx((1674.4 * 192 / 1080, 940 * 341 / 1920, 555 * 192 / 1080))


CAMERA = "name 0\nsize 20 10\nintrinsic 9 0 5 0 0 9 5 0 0 0 1 0 0 0 0 1\n"


def test_calibration_may_leave_out_lines():
    camera = parse_calibration("some title\n\n" + CAMERA)[0]
    assert (camera.width, camera.height, camera.cx) == (20, 10, 5)
    np.testing.assert_array_equal(camera.extrinsic, np.eye(4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("title\n", "at least one camera"),
        ("title\nsize 3 4\n", "line 2: 'size' comes before any 'name'"),
        ("t\nname zero\n", "line 2: expected 'name' and a camera number"),
        ("t\n" + CAMERA + CAMERA, "line 5: camera 0 appears twice"),
        ("t\n" + CAMERA.replace("size 20 10", "size 20"), "line 3: expected 'size' and 2 finite numbers"),
        ("t\n" + CAMERA.replace("0 0 9", "0 x 9"), "line 4: expected 'intrinsic' and 16 finite numbers"),
        ("t\n" + CAMERA.replace("0 0 9", "0 nan 9"), "line 4: expected 'intrinsic' and 16 finite numbers"),
        ("t\n" + CAMERA.replace("size 20", "size nan"), "line 3: expected 'size' and 2 finite numbers"),
        ("t\n" + CAMERA.replace("size 20", "size inf"), "line 3: expected 'size' and 2 finite numbers"),
        ("t\n" + CAMERA.replace("size 20", "size 0.4"), "line 2: camera 0: expected a size in whole pixels"),
        ("t\n" + CAMERA + "extrinsic 1 nan", "line 5: expected 'extrinsic' and 16 finite numbers"),
        ("t\nname \u00b2\n", "line 2: expected 'name' and a camera number"),
        ("t\n" + CAMERA.replace("intrinsic 9", "intrinsic -9"), "focal lengths must be positive"),
        ("t\n" + CAMERA.replace("size", "sighs"), "line 2: camera 0 has no 'size'"),
        ("t\n" + CAMERA.replace("size 20", "size 0"), "line 2: camera 0: size and focal lengths must be"),
    ],
)
def test_calibration_errors_name_the_line(text, message):
    with pytest.raises(ValueError, match=message) as error:
        parse_calibration(text, "here/camera.calibration")
    assert "here/camera.calibration" in str(error.value)
