"""Colours, and what is drawn upon images."""

import sys

import cv2
import numpy as np
import pytest
import torch

from margipose import draw as D
from margipose.skeleton import CANONICAL, SKELETONS, mirror
from tests.draw.made import IMAGE, JOINTS_MM, JOINTS_PX, decoded


def colour_at(image, point):
    x, y = np.rint(point).astype(int)
    return tuple(image[y, x].tolist())


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
COLOUR_VISION = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


@pytest.mark.parametrize("vision", COLOUR_VISION)
def test_colours_stay_distinct(vision):
    rgb = np.array(list(D.COLOURS.values())) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(COLOUR_VISION[vision]).T, 0, 1)
    seen = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    distances = np.linalg.norm(lab[:, None] - lab[None], axis=-1)[np.triu_indices(3, 1)]
    assert distances.min() > 30  # about ten times what is just noticeable


def test_sides_are_those_of_the_names():
    assert [D.side_of(j) for j in ("left_wrist", "right_hip", "pelvis")] == ["left", "right", "middle"]
    for skeleton in SKELETONS.values():
        swap = {"left": "right", "right": "left", "middle": "middle"}
        assert [D.side_of(m) for m in skeleton.mirrors] == [swap[D.side_of(j)] for j in skeleton.joints]


def test_joints_and_bones_have_their_sides_colours():
    out = D.draw_skeleton(IMAGE, JOINTS_PX, CANONICAL)
    assert (out.shape, out.dtype) == (IMAGE.shape, np.uint8)
    assert (IMAGE == 60).all(), "the image itself must not change"
    for joint, parent in CANONICAL.bones:
        j, p = JOINTS_PX[CANONICAL.indices([joint, parent])]
        assert colour_at(out, (j + p) / 2) == D.COLOURS[D.side_of(joint)], joint
    for joint in ("left_wrist", "right_ankle", "head_top"):
        assert colour_at(out, JOINTS_PX[CANONICAL.index(joint)]) == D.COLOURS[D.side_of(joint)]
    assert colour_at(out, (5, 5)) == (60, 60, 60)


def test_colours_swap_when_the_person_is_mirrored():
    mirrored = mirror(torch.from_numpy(JOINTS_PX), CANONICAL).numpy()
    before, after = (D.draw_skeleton(IMAGE, px, CANONICAL) for px in (JOINTS_PX, mirrored))
    at = JOINTS_PX[CANONICAL.index("left_wrist")]
    assert colour_at(before, at) == D.COLOURS["left"]
    assert colour_at(after, at) == D.COLOURS["right"]


def test_a_bone_ends_between_pixels_where_its_joints_do():
    px = np.full((17, 2), np.nan)
    px[CANONICAL.indices(["left_elbow", "left_wrist"])] = [(20.25, 30.5), (80.25, 30.5)]
    red = D.draw_skeleton(np.zeros((60, 100, 3), np.uint8), px, CANONICAL)[..., 0].astype(float)
    column = red[:, 50]
    assert (column * np.arange(60)).sum() / column.sum() == pytest.approx(30.5, abs=0.1)


@pytest.mark.parametrize("how", ["nan", "infinite", "invalid"])
def test_unknown_joints_are_left_out_with_their_bones(how):
    px, valid = JOINTS_PX.copy(), np.ones(17, bool)
    i = CANONICAL.index("left_elbow")
    if how == "invalid":
        valid[i] = False
    else:
        px[i, 1] = np.nan if how == "nan" else -np.inf
    out = D.draw_skeleton(IMAGE, px, CANONICAL, valid)
    for other in ("left_shoulder", "left_wrist"):
        point = JOINTS_PX[CANONICAL.index(other)]
        assert colour_at(out, point) == D.COLOURS["left"], "the joint itself stays"
        assert colour_at(out, (point + JOINTS_PX[i]) / 2) == (60, 60, 60)
    assert colour_at(out, JOINTS_PX[i]) == (60, 60, 60)
    assert (D.draw_skeleton(IMAGE, px, CANONICAL, np.zeros(17)) == IMAGE).all()


@pytest.mark.parametrize("far", [300.0, 1e5, 1e30, -1e308])
def test_points_off_the_image_are_cut_off(far):
    px = JOINTS_PX.copy()
    start, outside = CANONICAL.indices(["left_elbow", "left_wrist"])
    px[outside] = (far, px[start, 1])
    out = D.draw_skeleton(IMAGE, px, CANONICAL)
    edge = IMAGE.shape[1] - 1 if far > 0 else 0
    assert colour_at(out, (edge, px[start, 1])) == D.COLOURS["left"], "the bone leads out of the image"
    away = np.full_like(px, 1e6)
    assert (D.draw_skeleton(IMAGE, away, CANONICAL) == IMAGE).all()


def test_lines_grow_with_the_image():
    thin, thick = (
        D.draw_skeleton(np.zeros((240 * k, 200 * k, 3), np.uint8), JOINTS_PX * k, CANONICAL) for k in (1, 4)
    )
    share = [(image == D.COLOURS["left"]).all(-1).mean() for image in (thin, thick)]
    assert share[1] == pytest.approx(share[0], rel=0.35)
    assert D.draw_skeleton(np.zeros((1, 1, 3), np.uint8), JOINTS_PX, CANONICAL).shape == (1, 1, 3)


def test_box():
    out = D.draw_skeleton(IMAGE, np.full((17, 2), np.nan), CANONICAL, box=(20, 30.2, 150, 1e9))
    assert colour_at(out, (20, 100)) == (255, 255, 255)
    assert colour_at(out, (80, 30)) == (255, 255, 255)
    assert colour_at(out, (80, 100)) == (60, 60, 60)


def test_people_are_drawn_one_upon_the_other_with_their_numbers():
    before = IMAGE.copy()
    two = (JOINTS_PX, JOINTS_PX + (40, 10))
    boxes = ((10, 20, 120, 180), None)
    drawn = D.draw_people(IMAGE, two, CANONICAL, boxes)
    first = D.draw_skeleton(IMAGE, two[0], CANONICAL, box=boxes[0])
    np.testing.assert_array_equal(drawn, D.draw_skeleton(first, two[1], CANONICAL))
    np.testing.assert_array_equal(IMAGE, before)
    numbered = D.draw_people(IMAGE, two, CANONICAL, boxes, (7, None))
    rows, columns = np.nonzero((numbered != drawn).any(-1))
    assert rows.size
    assert columns.min() >= 10 and columns.max() < 60  # at the corner of the first one's box
    assert rows.min() >= 20 and rows.max() < 60
    assert (D.draw_people(IMAGE, two[1:], CANONICAL, None, (3,)) != IMAGE).any()
    np.testing.assert_array_equal(D.draw_people(IMAGE, (), CANONICAL), IMAGE)
    nobody = np.full((17, 2), np.nan)
    assert (D.draw_people(IMAGE, (nobody,), CANONICAL, None, (12,)) != IMAGE).any()
    tiny = np.zeros((1, 1, 3), np.uint8)
    assert D.draw_people(tiny, (JOINTS_PX,), CANONICAL, None, (5,)).shape == (1, 1, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": IMAGE / 255}, "image: expected H x W x 3 uint8 RGB, got float64"),
        ({"image": IMAGE[..., 0]}, "image: expected H x W x 3"),
        ({"joints_px": JOINTS_PX[:16]}, "joints_px: expected 17 x 2, got shape"),
        ({"joints_px": JOINTS_MM}, "joints_px: expected 17 x 2, got shape"),
        ({"joints_px": [["a", "b"]] * 17}, "joints_px: expected an array of numbers"),
        ({"valid": np.ones(3)}, "valid: expected 17, got"),
        ({"box": (5, 5, 5, 9)}, "box: expected finite left < right"),
        ({"box": (0, 0, np.nan, 9)}, "box: expected finite left < right"),
        ({"box": (0, 0, 9)}, "box: expected 4, got"),
    ],
)
def test_overlay_refuses(change, message):
    with pytest.raises(ValueError, match=message):
        D.draw_skeleton(
            **{"image": IMAGE, "joints_px": JOINTS_PX, "skeleton": CANONICAL, "valid": None, **change}
        )


def test_without_matplotlib_overlays_work_and_figures_say_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert D.encode_png(D.draw_skeleton(IMAGE, JOINTS_PX, CANONICAL))
    with pytest.raises(ImportError, match=r"margipose\[viz\]"):
        D.pose_figure(JOINTS_MM, CANONICAL)


def test_images_as_files(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert (decoded(D.encode_png(image)) == image).all()
    D.write_png(image, tmp_path / "new" / "a.png")
    assert (decoded((tmp_path / "new" / "a.png").read_bytes()) == image).all()
    smooth = D.draw_skeleton(IMAGE, JOINTS_PX, CANONICAL)
    jpeg = D.encode_jpeg(smooth)
    assert jpeg.startswith(b"\xff\xd8\xff")
    assert np.abs(decoded(jpeg).astype(int) - smooth).mean() < 3
    for encode in (D.encode_png, D.encode_jpeg):
        with pytest.raises(ValueError, match="image: expected H x W x 3 uint8 RGB"):
            encode(image[..., :2])
    with pytest.raises(ValueError, match="image: expected H x W x 3 uint8 RGB"):
        D.write_png(image.astype(float), tmp_path / "b.png")
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
