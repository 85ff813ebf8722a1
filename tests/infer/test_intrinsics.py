import json

import numpy as np
import pytest
import torch
from PIL import Image

from margipose.data.mpi3d_calibration import CameraCalibration, write_calibration
from margipose.infer import (
    Predictor,
    assumed_camera,
    camera_from_fov,
    default_intrinsics,
    given_camera,
    read_camera_file,
    read_exif_camera,
)
from tests.infer import made

WIDTH, HEIGHT = made.SIZE
FOCAL_35MM = 30


def exif_image(path, focal=FOCAL_35MM, size=made.SIZE, orientation=None):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = focal
    if orientation:
        exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)
    return path


def from_numbers(tmp_path):
    return given_camera((510, 512, 300, 250)), (510, 512, 300, 250), "given"


def from_calibration(tmp_path):
    path = tmp_path / "camera.calibration"
    cameras = {
        0: CameraCalibration(900, 900, 1, 1, 64, 48),
        4: CameraCalibration(1020, 1024, 600, 500, 1280, 960),
    }
    write_calibration(path, cameras)
    camera = read_camera_file(path, 4)(made.SIZE)
    middle = (600 + 0.5) / 2 - 0.5, (500 + 0.5) / 2 - 0.5  # the first pixel reaches from -0.5 to 0.5
    return camera, (510, 512, *middle), "file camera.calibration, camera 4, scaled from 1280 x 960"


def from_json(tmp_path):
    path = tmp_path / "cam.json"
    path.write_text(json.dumps({"K": [[510, 0, 300], [0, 512, 250], [0, 0, 1]]}))
    return read_camera_file(path)(made.SIZE), (510, 512, 300, 250), "file cam.json"


def from_exif(tmp_path):
    camera = read_exif_camera(exif_image(tmp_path / "a.jpg"), made.SIZE)
    focal = 800 * FOCAL_35MM / np.hypot(36, 24)
    return camera, (focal, focal, 319.5, 239.5), "EXIF: 30 mm (35 mm equivalent), central principal point"


def from_fov(tmp_path):
    words = "field of view of 90 degrees across the longer side, central principal point"
    return camera_from_fov(90, made.SIZE), (320, 320, 319.5, 239.5), words


WAYS = (from_numbers, from_calibration, from_json, from_exif, from_fov)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", [(0, 0, 3000), (1100, -500, 3000), (-1400, 900, 2600)])
@pytest.mark.parametrize("crop", ["perspective", "affine"])
def test_labels_give_the_scene_back_whatever_way_the_camera_is_known(way, place, crop, tmp_path):
    camera, intrinsics, words = way(tmp_path)
    np.testing.assert_allclose(camera.intrinsics, intrinsics, rtol=1e-12)
    assert camera.source == words
    joints = made.person(1, place)
    box = made.box_around(joints, intrinsics)
    labels = made.labels_from_first_principles(joints, box, intrinsics, kind=crop)
    network = made.Knowing(labels[None])
    predictor = Predictor(network, crop=crop, root_depth_mm=joints[made.ROOT, 2].item())
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    (found,) = predictor.predict([t for t in predictor.targets(image, [box], camera)])
    np.testing.assert_allclose(found.joints_cam_mm, joints.numpy(), rtol=0, atol=1e-6)
    px = joints.numpy()[:, :2] / joints.numpy()[:, 2:] * intrinsics[:2] + intrinsics[2:]
    np.testing.assert_allclose(found.joints_px, px, rtol=0, atol=1e-7)
    assert found.camera == words
    assert found.intrinsics == pytest.approx(intrinsics)


def test_the_default_is_stated_in_degrees():
    camera = assumed_camera((1000, 600))
    assert camera.intrinsics == default_intrinsics(1000, 600) == (1200, 1200, 499.5, 299.5)
    assert camera.source.startswith("assumed: focal length 1.2 x the longer side")
    assert camera_from_fov(np.degrees(2 * np.arctan(1 / 2.4)), (1000, 600)).intrinsics == pytest.approx(
        camera.intrinsics
    )


def test_exif_of_a_turned_image_counts_the_size_as_it_is_shown(tmp_path):
    path = exif_image(tmp_path / "a.jpg", orientation=6)
    camera = read_exif_camera(path, (HEIGHT, WIDTH))
    assert camera.intrinsics[2:] == (239.5, 319.5)


@pytest.mark.parametrize("focal", [0, None])
def test_images_that_say_nothing_have_no_camera(focal, tmp_path):
    path = tmp_path / "a.png"
    if focal is None:
        Image.new("RGB", (8, 8)).save(path)
    else:
        exif_image(path, focal)
    assert read_exif_camera(path, (8, 8)) is None
    path.write_bytes(b"no image")
    assert read_exif_camera(path, (8, 8)) is None
    assert read_exif_camera(tmp_path / "none.jpg", (8, 8)) is None


def test_several_cameras_in_a_file(tmp_path):
    path = tmp_path / "c.json"
    one = {"intrinsics": [500, 500, 320, 240], "width": 640, "height": 480}
    path.write_text(json.dumps({"cameras": {"left": one, "right": {"intrinsics": [1, 2, 3, 4]}}}))
    assert read_camera_file(path, "left")((1280, 960)).intrinsics == (1000, 1000, 640.5, 480.5)
    assert read_camera_file(path, "right")((7, 7)).intrinsics == (1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"c\.json: has cameras left, right: which one"):
        read_camera_file(path)
    with pytest.raises(ValueError, match=r"c\.json: has no camera 3; it has left, right"):
        read_camera_file(path, 3)
    with pytest.raises(ValueError, match="640 x 480 pixels, which 480 x 640 is no scaled version of"):
        read_camera_file(path, "left")((480, 640))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not valid JSON"),
        ("[1, 2]", "expected {"),
        ("{}", "expected {"),
        ('{"cameras": {}}', "'cameras' is empty"),
        ('{"intrinsics": [1, 2, 3]}', "'intrinsics': expected f_x, f_y > 0"),
        ('{"intrinsics": [0, 2, 3, 4]}', "f_x, f_y > 0"),
        ('{"intrinsics": "1234"}', r"expected \[f_x"),
        ('{"intrinsics": [1, 2, 3, 4], "K": []}', "expected {"),
        ('{"intrinsics": [1, 2, 3, 4], "distortion": [0.1]}', "unknown key 'distortion'"),
        ('{"intrinsics": [1, 2, 3, 4], "width": 5}', "whole numbers of pixels"),
        ('{"K": [[1, 0.5, 3], [0, 1, 3], [0, 0, 1]]}', "'K': expected"),
        ('{"K": 7}', "'K': expected"),
    ],
)
def test_files_that_do_not_fit_are_named(content, message, tmp_path):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_camera_file(path)
    assert str(path) in str(error.value)


def test_refuses_what_is_no_camera(tmp_path):
    for fov in (0, 180, float("nan")):
        with pytest.raises(ValueError, match="fov: expected more than 0 and less than 180"):
            camera_from_fov(fov, (10, 10))
    with pytest.raises(ValueError, match="cannot be read"):
        read_camera_file(tmp_path / "none.json")
    with pytest.raises(ValueError, match="f_x, f_y > 0"):
        given_camera((1, float("inf"), 0, 0))
    assert torch.tensor(given_camera((1, 2, 3, 4)).intrinsics).tolist() == [1, 2, 3, 4]
