"""Photos cut out and made small."""

import cv2
import numpy as np
import pytest
from scipy.io import loadmat, savemat

from experiments import pack as P
from margipose.data import load_records
from tests.printed import one_line


def dotted(labels, size):
    """A black image with a blurred white dot at each label."""
    image = np.zeros((size[1], size[0], 3), np.float32)
    for x, y in labels:
        image[round(y), round(x)] = 1
    image = cv2.GaussianBlur(image, (0, 0), 4)
    return (255 * image / image.max()).astype(np.uint8)


@pytest.mark.parametrize("side", [64, 150, 1000])
def test_labels_stay_on_what_they_label(side):
    points = np.array([[150.0, 200], [260, 120], [350, 310]])
    labels = np.column_stack((points, np.ones(3)))
    image, moved = P.reduced(dotted(points, (640, 480)), labels, side)
    factor = min(1, side / (1.5 * 200))
    assert max(image.shape[:2]) == pytest.approx(factor * P.ROOM * 1.5 * 200, abs=4)
    assert np.ptp(moved[:, 0]) == pytest.approx(factor * 200, rel=0.01)
    bright = image[..., 0].astype(float)
    y, x = np.indices(bright.shape)
    for u, v, _ in moved:
        weight = bright * (np.hypot(x - u, y - v) < 15 * factor)
        assert abs((weight * x).sum() / weight.sum() - u) < 0.15
        assert abs((weight * y).sum() / weight.sum() - v) < 0.15


def test_joints_that_are_not_seen_do_not_count():
    labels = np.array([[150.0, 200, 1], [260, 120, 1], [-50, 10, 1], [600, 450, 0]])
    image, _ = P.reduced(np.zeros((480, 640, 3), np.uint8), labels, 1000)
    assert max(image.shape[:2]) == pytest.approx(P.ROOM * 1.5 * 110, abs=4)
    labels[:, 2] = 0
    image, moved = P.reduced(np.zeros((480, 640, 3), np.uint8), labels, 64)
    assert image.shape == (48, 64, 3)
    np.testing.assert_allclose(moved[:, :2], (labels[:, :2] + 0.5) / 10 - 0.5)


@pytest.fixture
def photos(tmp_path):
    """32 photos of the extended set."""
    root = tmp_path / "lspet"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    joints = np.ones((14, 3, 32))
    joints[:, :2] = rng.uniform(60, 180, (14, 2, 32))
    savemat(root / "joints.mat", {"joints": joints})
    for n in range(32):
        image = dotted(joints[:, :2, n], (240, 260))
        cv2.imwrite(str(root / "images" / f"im{n + 1:05d}.jpg"), image)
    return root


def test_the_script_makes_the_same_set_smaller(photos, tmp_path, monkeypatch, capsys):
    small = tmp_path / "small"
    monkeypatch.setattr("sys.argv", ["pack.py", str(photos), str(small), "--side", "64"])
    P.main()
    assert str(small) in capsys.readouterr().out
    for split in ("train", "val"):
        before, after = (load_records("lspet", root, split) for root in (photos, small))
        assert [p.name for p in before.images] == [p.name for p in after.images]
        assert after.valid.all()
    assert loadmat(small / "joints.mat")["joints"].shape == (14, 3, 32)
    sizes = [cv2.imread(str(p)).shape for p in (small / "images").iterdir()]
    assert max(max(size) for size in sizes) <= 64 * P.ROOM + 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lspet", "small"]


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda root: None, ["--side", "4"], "at least 16 px"),
        (lambda root: (root / "joints.mat").unlink(), [], "joints.mat: no such file"),
        (lambda root: (root / "images" / "im00007.jpg").write_bytes(b"x"), [], "im00007.jpg"),
        (lambda root: (root.parent / "small").mkdir(), [], "small: exists"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_left(
    photos, tmp_path, monkeypatch, capsys, change, words, message
):
    change(photos)
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr("sys.argv", ["pack.py", str(photos), str(tmp_path / "small"), *words])
    with pytest.raises(SystemExit) as done:
        P.main()
    assert done.value.code == 2
    assert message in one_line(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == before
