"""Figures: heatmaps, poses, curves, errors of joints."""

import threading

import numpy as np
import pytest
import torch

from margipose import draw as D
from margipose.dsnt import Marginals, make_gauss
from margipose.skeleton import CANONICAL, SKELETONS
from tests.draw.made import IMAGE, JOINTS_MM, decoded


@pytest.fixture
def figures():
    pytest.importorskip("matplotlib")


def rendered(figure):
    return decoded(D.figure_to_png(figure)).astype(int)


def has_colour(image, rgb, tolerance=3):
    return bool((np.abs(image.astype(int) - rgb).max(-1) <= tolerance).any())


def heatmaps(coords, h=12, w=10, d=8):
    t = torch.as_tensor(coords, dtype=torch.float64)
    sizes = {(0, 1): (h, w), (2, 1): (h, d), (0, 2): (d, w)}
    return Marginals(*(make_gauss(t[:, list(axes)], size, 0.9).numpy() for axes, size in sizes.items()))


COORDS = (JOINTS_MM - (0, 0, 3000)) / 1000


@pytest.mark.parametrize("joint", [None, "left_wrist"])
def test_heatmap_panels_share_their_axes(figures, joint):
    figure = D.heatmap_figure(IMAGE, heatmaps(COORDS), COORDS, CANONICAL, joint)
    xy, zy, xz = figure.axes
    boxes = [ax.get_position() for ax in (xy, zy, xz)]
    assert (boxes[0].y0, boxes[0].y1) == pytest.approx((boxes[1].y0, boxes[1].y1))
    assert (boxes[0].x0, boxes[0].x1) == pytest.approx((boxes[2].x0, boxes[2].x1))
    assert boxes[1].x0 > boxes[0].x1
    assert boxes[2].y0 > boxes[0].y1
    assert xy.get_xlim() == xz.get_xlim() == zy.get_xlim() == (-1, 1)
    assert xy.get_ylim() == zy.get_ylim() == (1, -1), "y points down"
    assert xz.get_ylim() == (-1, 1), "seen from above, away from the camera is up"
    assert [xy.get_xlabel()[0], xy.get_ylabel()[2], zy.get_xlabel()[0], xz.get_ylabel()[0]] == list("xyzz")


def test_heatmaps_lie_where_their_coordinates_are(figures):
    figure = D.heatmap_figure(IMAGE, heatmaps(COORDS), COORDS, CANONICAL, "left_wrist")
    image = rendered(figure)
    height = len(image)
    x, y, z = COORDS[CANONICAL.index("left_wrist")]
    for ax, point in zip(figure.axes[1:], ((z, y), (x, z))):
        box = ax.get_window_extent()
        panel = image[
            height - round(box.y1) + 2 : height - round(box.y0) - 2, round(box.x0) + 2 : round(box.x1) - 2
        ]
        # Heat, not the white marks or black ground: the magenta of the map has more red than green.
        heat = np.clip(panel[..., 0] - panel[..., 1], 0, None).astype(float)
        rows, columns = np.indices(heat.shape)
        at = ax.transData.transform(point) - (box.x0, box.y0)
        assert (heat * columns).sum() / heat.sum() == pytest.approx(at[0], abs=4)
        assert (heat * rows).sum() / heat.sum() == pytest.approx(box.height - at[1], abs=4)
    texts = "\n".join(t.get_text() for t in figure.texts)
    assert "Left wrist" in texts
    assert "x = +0.460" in texts
    assert "z = −0.150" in texts


def test_all_joints_are_marked_in_their_colours(figures):
    marginals = heatmaps(COORDS)
    figure = D.heatmap_figure(IMAGE, marginals, COORDS, CANONICAL)
    shown = figure.axes[1].images[-1].get_array()
    expected = marginals.zy.max(0) / marginals.zy.max()
    np.testing.assert_allclose(shown, expected)
    image = rendered(figure)
    assert all(has_colour(image, D.COLOURS[side]) for side in D.COLOURS)
    some = COORDS.copy()
    some[CANONICAL.index("left_elbow")] = np.nan
    some[CANONICAL.index("left_wrist"), 2] = np.inf
    for joint in (None, "left_elbow", "left_wrist"):
        assert rendered(D.heatmap_figure(IMAGE, marginals, some, CANONICAL, joint)).size
    empty = Marginals(*(np.zeros_like(m) for m in marginals))
    assert rendered(D.heatmap_figure(IMAGE, empty, some, CANONICAL)).size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joint": "left_tail"}, "has no joint 'left_tail'"),
        ({"coords_norm": COORDS[:, :2]}, "coords_norm: expected 17 x 3"),
        ({"crop_image": IMAGE.astype(int)}, "crop_image: expected H x W x 3 uint8"),
        ({"marginals": heatmaps(COORDS)[:2]}, "expected XY, ZY and XZ, got 2"),
        ({"marginals": heatmaps(COORDS)._replace(xy=np.ones((1, 12, 10)))}, "xy: expected 17 x h x w"),
        ({"marginals": heatmaps(COORDS)._replace(zy=np.ones((17, 9, 8)))}, "zy: expected 17 x 12 x d"),
        ({"marginals": heatmaps(COORDS)._replace(xz=np.ones((17, 9, 9)))}, "xz: expected 17 x 8 x 10"),
        ({"marginals": heatmaps(COORDS)._replace(xz=np.full((17, 8, 10), np.nan))}, "not finite"),
    ],
)  # fmt: skip
def test_heatmap_figure_refuses(change, message):
    arguments = {"crop_image": IMAGE, "marginals": heatmaps(COORDS), "coords_norm": COORDS, **change}
    with pytest.raises(ValueError, match=message):
        D.heatmap_figure(skeleton=CANONICAL, **arguments)


def projected(ax, joint, nearer=0.0):
    """Display position (y up) of a joint of the person, or of the point so much nearer, in a 3D plot."""
    from mpl_toolkits.mplot3d import proj3d

    x, y, z = JOINTS_MM[CANONICAL.index(joint)] - (0, 0, nearer)
    return ax.transData.transform(proj3d.proj_transform(x, z, -y, ax.get_proj())[:2])


def test_the_pose_is_seen_as_from_the_camera_and_from_the_side(figures):
    figure = D.pose_figure(JOINTS_MM, CANONICAL, JOINTS_MM + 40, "A person")
    image = rendered(figure)
    assert all(has_colour(image, D.COLOURS[side]) for side in D.COLOURS)
    front, side = figure.axes
    left, right, head = (projected(front, j) for j in ("left_wrist", "right_wrist", "head_top"))
    assert left[0] > right[0], "who faces the camera has their left on the image's right"
    assert head[1] > left[1]
    assert projected(side, "head_top")[1] > projected(side, "left_ankle")[1]
    away, near = projected(side, "pelvis"), projected(side, "pelvis", nearer=100)
    assert away[0] > near[0] + 5, "away from the camera is on the right"
    assert projected(front, "pelvis", nearer=100) == pytest.approx(projected(front, "pelvis"))
    # A millimetre is as long along each axis.
    for ax in (front, side):
        limits = (ax.get_xlim(), ax.get_ylim(), ax.get_zlim())
        assert np.ptp(limits, axis=1) == pytest.approx([np.ptp(limits[0])] * 3)
        assert all(low < value < high for (low, high), value in zip(limits, (460, 3060, 800)))
    per_mm = (left - right)[0] / 920, (projected(front, "head_top") - projected(front, "pelvis"))[1] / 800
    assert per_mm[0] == pytest.approx(per_mm[1], rel=1e-3)
    assert figure.get_suptitle() == "A person"
    assert "reference" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_poses_may_lack_joints(figures):
    joints = JOINTS_MM.copy()
    joints[CANONICAL.index("left_elbow")] = (np.inf, 0, 0)
    whole, part = (len(D.pose_figure(j, CANONICAL).axes[0].lines) for j in (JOINTS_MM, joints))
    assert whole - part == 2, "the two bones of the elbow"
    assert rendered(D.pose_figure(joints, CANONICAL, joints)).size
    assert rendered(D.pose_figure(np.full((17, 3), np.nan), CANONICAL)).size
    with pytest.raises(ValueError, match="joints_mm: expected 17 x 3"):
        D.pose_figure(JOINTS_MM[None], CANONICAL)
    with pytest.raises(ValueError, match="reference_mm: expected 17 x 3"):
        D.pose_figure(JOINTS_MM, CANONICAL, JOINTS_MM[:3])


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_every_skeleton_can_be_drawn(figures, name):
    skeleton = SKELETONS[name]
    joints = np.random.default_rng(0).normal(0, 300, (len(skeleton), 3)) + (0, 0, 3000)
    assert len(D.pose_figure(joints, skeleton).axes[0].lines) == len(skeleton.bones) + len(skeleton)
    assert has_colour(D.draw_skeleton(IMAGE, joints[:, :2] * 0.1 + 100, skeleton), D.COLOURS["left"])


def test_curves(figures):
    x = np.arange(9)
    figure = D.curve_figure({"train": (x, 0.5**x), "val": ([3], [0.2])}, "epoch", "loss", log_y=True)
    (ax,) = figure.axes
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "log")
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 0.5**x)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["train", "val"]
    assert has_colour(rendered(figure), D.COLOURS["left"], 20), "a curve of one point shows as a dot"
    assert rendered(D.curve_figure({"a": (x, np.where(x < 4, np.nan, x - 6.0))}, "", "", log_y=True)).size
    with pytest.raises(ValueError, match="at least one"):
        D.curve_figure({}, "x", "y")
    with pytest.raises(ValueError, match=r"curves\['train'\] y: expected 9, got shape \(8,\)"):
        D.curve_figure({"train": (x, x[1:])}, "x", "y")


def test_values_of_joints_on_a_body(figures):
    values = {j: 10.0 * i for i, j in enumerate(CANONICAL.joints, 1)} | {"spine": float("nan")}
    figure = D.joint_figure(values, "mean error, mm", "Errors")
    ax, bar = figure.axes
    shown = {t.get_text(): t.get_position() for t in ax.texts}
    assert {f"{v:.1f}" for v in values.values() if v == v} <= set(shown)
    assert "nan" not in shown
    at = {j: shown[f"{values[j]:.1f}"] for j in ("left_wrist", "right_wrist", "head_top", "left_ankle")}
    assert at["left_wrist"][0] > 0 > at["right_wrist"][0], "as of a person who faces us"
    assert at["head_top"][1] > at["left_wrist"][1] > at["left_ankle"][1]
    empty, discs = ax.collections
    assert len(empty.get_offsets()) == 1
    sizes = dict(zip(discs.get_array().tolist(), discs.get_sizes()))
    assert list(sizes.values()) == [sizes[v] for v in sorted(sizes)], "larger values have larger discs"
    assert bar.get_ylabel() == "mean error, mm"
    assert rendered(figure).size
    assert rendered(D.joint_figure({"neck": 0.0}, "")).size
    with pytest.raises(ValueError, match="'left_hand' is not one of head_top"):
        D.joint_figure({"left_hand": 1.0}, "")
    with pytest.raises(ValueError, match="expected one of a joint at least"):
        D.joint_figure({"neck": float("nan")}, "")


def test_threads_draw_alike(figures):
    pngs = {}

    def draw(i):
        pngs[i] = D.figure_to_png(D.curve_figure({"a": ([0, 1], [0, 1])}, "x", "y"))

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(pngs) == 3
    assert len(set(pngs.values())) == 1


def test_figures_as_files(figures, tmp_path, monkeypatch):
    figure = D.curve_figure({"a": ([0, 1], [0, 1])}, "x", "y")
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for suffix, start in starts.items():
        D.save_figure(figure, tmp_path / f"f{suffix}")
        assert (tmp_path / f"f{suffix}").read_bytes().startswith(start)
    assert decoded((tmp_path / "f.png").read_bytes()).shape == (408, 720, 3)
    with pytest.raises(ValueError, match=r"f\.gif: figures are written as \.pdf, \.png or \.svg"):
        D.save_figure(figure, tmp_path / "f.gif")

    def fail(path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    before = (tmp_path / "f.png").read_bytes()
    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        D.save_figure(figure, tmp_path / "f.png")
    assert (tmp_path / "f.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3
