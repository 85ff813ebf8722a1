from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from experiments import landmarks as K
from experiments import lift as L
from margipose import checkpoint
from margipose.backbones.blazepose import LANDMARKS
from margipose.camera import lean_deg, project
from margipose.data import load_records
from margipose.infer.intrinsics import ImageCamera
from margipose.infer.views import box_of_joints, make_view, normalise_in_view
from margipose.model import PoseOutput
from margipose.skeleton import CANONICAL, LSP, convert, mirror
from margipose.spec import InputSpec

from .printed import one_line

ALL = np.ones(len(K.JOINTS), bool)


@pytest.fixture
def joints_px():
    """Somebody who leans to the right by 90 degrees."""
    points = np.random.default_rng(0).uniform(20, 80, (len(K.JOINTS), 2))
    for name, point in (
        ("left_shoulder", (70, 52)),
        ("right_shoulder", (70, 48)),
        ("left_hip", (50, 51)),
        ("right_hip", (50, 49)),
        ("left_ankle", (12, 50)),
    ):
        points[K.JOINTS.index(name)] = point
    return points


def moved(to_crop, points):
    return points @ to_crop[:, :2].T + to_crop[:, 2]


def test_crops_are_upright_about_the_hips(joints_px):
    to_crop = K.crop_map(joints_px, ALL)
    at = dict(zip(K.JOINTS, moved(to_crop, joints_px)))
    middle = (K.SIDE - 1) / 2
    hips = (at["left_hip"] + at["right_hip"]) / 2
    neck = (at["left_shoulder"] + at["right_shoulder"]) / 2
    np.testing.assert_allclose(hips, [middle, middle])
    np.testing.assert_allclose(neck[0], middle)
    assert neck[1] < middle
    assert at["left_shoulder"][0] > at["right_shoulder"][0]  # seen from the front
    # The ankle is farthest away, and lies as far out as the room beyond it leaves.
    np.testing.assert_allclose(at["left_ankle"], [middle, middle + K.SIDE / 2 / K.ROOM], atol=1e-9)


def test_unknown_joints_do_not_matter(joints_px):
    known = ALL.copy()
    known[K.JOINTS.index("left_wrist")] = False
    joints_px[K.JOINTS.index("left_wrist")] = np.nan
    assert np.isfinite(K.crop_map(joints_px, known)).all()


@pytest.mark.parametrize("side", [100, 2000])
def test_answers_come_back_to_the_photo(joints_px, side):
    """A network that knows the truth of the crop, and of its mirror image, gives that of the photo."""
    joints_px = joints_px * side / 100
    to_crop = K.crop_map(joints_px, ALL)
    joints_m = np.random.default_rng(1).normal(size=(len(K.JOINTS), 3)).astype(np.float32)
    turn = to_crop[:, :2] / np.sqrt(np.linalg.det(to_crop[:, :2]))
    crops = []

    def network(image):
        flat, deep = np.zeros((39, 2), np.float32), np.zeros((39, 3), np.float32)
        px, m = moved(to_crop, joints_px), joints_m.copy()
        m[:, :2] = m[:, :2] @ turn.T
        if crops:
            px, m = px[K.MIRRORED] * (-1, 1) + (K.SIDE - 1, 0), m[K.MIRRORED] * (-1, 1, 1)
        numbers = [LANDMARKS[name] for name in K.JOINTS]
        flat[numbers], deep[numbers] = px + 0.5, m
        crops.append(image)
        return flat, deep

    photo = np.random.default_rng(2).integers(0, 255, (side, side, 3), np.uint8)
    found = K.look(network, photo, joints_px, ALL)
    np.testing.assert_allclose(found.joints_px, joints_px, atol=side * 1e-5)
    np.testing.assert_allclose(found.joints_m, joints_m, atol=1e-5)
    assert crops[0].shape == (K.SIDE, K.SIDE, 3)
    assert 0 <= crops[0].min() < crops[0].max() <= 1
    np.testing.assert_array_equal(crops[0][:, ::-1], crops[1])


def test_one_of_our_networks_is_asked_about_somebody_upside_down(people):
    """A network that sees the truth in its crop gives that of the photo, as LSP's labels have it."""
    records = load_records("mpi3d", people, "test", universal=True).select([0]).converted(CANONICAL)
    joints_mm = records.joints_cam_mm[0]
    middle = joints_mm[CANONICAL.indices(("left_hip", "right_hip"))].mean(0)
    joints_mm = (joints_mm - middle) * joints_mm.new_tensor([-1, -1, 1]) + middle
    camera = ImageCamera((300.0, 300.0, 128.0, 120.0), "given")
    spec = InputSpec(width=64, height=64, skeleton="canonical")
    truth = convert(joints_mm, CANONICAL, LSP)
    labels_px = project(truth, torch.tensor(camera.intrinsics, dtype=torch.float64))
    turns = []

    def network(images):
        box = box_of_joints(labels_px)[None]
        lean = lean_deg(labels_px, LSP)
        turns.append(float(lean))
        view = make_view(
            "perspective",
            box,
            torch.tensor([camera.intrinsics], dtype=torch.float64),
            torch.tensor([[256.0, 240.0]], dtype=torch.float64),
            spec,
            lean[None],
        )
        return PoseOutput(normalise_in_view(joints_mm[None], view, CANONICAL, spec).float(), ())

    predictor = K.Predictor(network, input_spec=spec, detector="image")
    known = torch.ones(len(LSP), dtype=torch.bool)
    found = K.look_with(predictor, np.zeros((240, 256, 3), np.uint8), labels_px, known, camera)
    assert abs(turns[0]) > 120
    columns = LSP.indices(K.JOINTS)
    np.testing.assert_allclose(found.joints_px, labels_px[columns], atol=1e-2)
    relative = truth[columns] - truth[LSP.indices(("left_hip", "right_hip"))].mean(0)
    size = np.linalg.norm(relative) / np.linalg.norm(found.joints_m)
    np.testing.assert_allclose(found.joints_m * size, relative, atol=0.5)
    assert 0.9 < size / 1000 < 1.1  # the person's height is assumed


def landmarks(count, joints_m=0.0):
    shape = (count, len(K.JOINTS))
    return K.Landmarks(np.full((*shape, 3), joints_m, np.float32), np.zeros((*shape, 2), np.float32))


def test_files_are_read_as_they_were_written(tmp_path):
    seen = landmarks(3)
    seen.joints_m[1] = np.nan
    K.save(tmp_path / "a.npz", seen)
    for mine, theirs in zip(seen, K.load(tmp_path / "a.npz", 3)):
        np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(ValueError, match=r"a\.npz: joints_m is \(3, 12, 3\), expected \(4, 12, 3\)"):
        K.load(tmp_path / "a.npz", 4)
    np.savez(tmp_path / "b.npz", joints_m=seen.joints_m)
    (tmp_path / "c.npz").write_bytes(b"no archive")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-200])
    np.save(tmp_path / "d.npy", seen.joints_m)
    for name in ("b.npz", "c.npz", "cut.npz", "d.npy"):
        with pytest.raises(ValueError, match=rf"{name}: expected what experiments/landmarks"):
            K.load(tmp_path / name, 3)


def test_who_has_a_labelled_torso_is_asked_about(sports, tiny_weights, tmp_path, monkeypatch, capsys):
    """Of all but the first, MediaPipe's network or one of ours says something."""
    records = load_records("lspet", sports, "train").select(list(range(4)))
    crops = []

    def network(image):
        crops.append(image)
        return np.full((39, 2), K.SIDE / 2 + 3, np.float32), np.full((39, 3), 0.5, np.float32)

    found = K.ask(network, records)
    assert len(crops) == 6
    assert np.isnan(found.joints_px[0]).all() and np.isfinite(found.joints_px[1:]).all()
    labels = project(records.joints_cam_mm[:], records.intrinsics[:])
    hips = labels[:, LSP.indices(("left_hip", "right_hip"))].mean(1)
    extent = (labels - hips[:, None]).norm(dim=-1).amax(1)
    assert ((found.joints_px[1:].mean(1) - hips[1:].numpy()) ** 2).sum(1).max() < (0.1 * extent.max()) ** 2

    out = tmp_path / "ours.npz"
    monkeypatch.setattr(
        "sys.argv", ["landmarks.py", str(sports), "--model", str(tiny_weights), "--out", str(out)]
    )
    K.main()
    assert "29 of 30 photos" in capsys.readouterr().out
    ours = K.load(out, 30)
    assert np.isnan(ours.joints_m[0]).all() and np.isfinite(ours.joints_m[1:]).all()
    both_hips = ours.joints_m[1:, [K.JOINTS.index("left_hip"), K.JOINTS.index("right_hip")]]
    np.testing.assert_allclose(both_hips.mean(1), 0, atol=1e-6)
    sizes = np.linalg.norm(ours.joints_m[1:], axis=-1).max(1)
    assert sizes.min() > 0.1 and sizes.max() < 100  # metres


def test_labels_say_how_people_are_turned(tiny_weights, tmp_path):
    """One of ours that turns people itself does not here, and sees mirror images, too."""
    loaded = checkpoint.load(tiny_weights)
    path = tmp_path / "upright.safetensors"
    checkpoint.save(path, loaded.model, replace(loaded.input_spec, upright=True))
    predictor = K.our_network(str(path))
    assert not predictor.spec.upright
    assert predictor.flip


def test_small_crops_of_large_photos_do_not_move():
    """A spot in a photo that is reduced first is where the crop's map says."""
    photo = np.zeros((1600, 1600, 3), np.uint8)
    points = np.random.default_rng(0).uniform(100, 1500, (len(K.JOINTS), 2))
    to_crop = K.crop_map(points, ALL)
    at = points[K.JOINTS.index("left_hip")].round()
    cv2.circle(photo, tuple(int(v) for v in at), 40, (255, 255, 255), -1, cv2.LINE_AA)
    crops = []

    def network(image):
        crops.append(image)
        return np.zeros((39, 2), np.float32), np.zeros((39, 3), np.float32)

    K.look(network, photo, points, ALL)
    weight = crops[0][..., 0]
    rows, columns = np.mgrid[: K.SIDE, : K.SIDE]
    middle = [(weight * grid).sum() / weight.sum() for grid in (columns, rows)]
    np.testing.assert_allclose(middle, moved(to_crop, at), atol=0.06)


def test_mistakes_are_told_in_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "text.tflite").write_text("no network")
    for words, message in (
        ([tmp_path / "none", "--model", "lite-synthetic"], "none: no such folder"),
        ([tmp_path, "--network", tmp_path / "no.tflite"], "no.tflite"),
        ([tmp_path, "--model", "lyte"], "lyte"),
        ([tmp_path, "--network", tmp_path / "text.tflite"], "text.tflite: "),
    ):
        out = tmp_path / "a.npz"
        monkeypatch.setattr("sys.argv", ["landmarks.py", *map(str, words), "--out", str(out)])
        with pytest.raises(SystemExit) as done:
            K.main()
        assert done.value.code == 2
        assert message in one_line(capsys)
        assert not out.exists()


@pytest.fixture
def lifted():
    """Five people of skeleton `lsp` in camera space, mm; their pixels; the columns of `JOINTS`."""
    torch.manual_seed(0)
    joints = torch.randn(5, len(LSP), 3) * 300 + torch.tensor([0, 0, 4000.0])
    return joints, joints[..., :2] / joints[..., 2:] * 500, LSP.indices(K.JOINTS)


def opinion(joints, columns, px):
    m = (joints[:, columns] / 1000).numpy()
    hips = m[:, [K.JOINTS.index(f"{s}_hip") for s in ("left", "right")]].mean(1, keepdims=True)
    return K.Landmarks(m - hips, px[:, columns].numpy().copy())


def test_another_opinion_moves_depths_half_of_the_way_along_rays(lifted):
    joints, px, columns = lifted
    known = torch.ones(joints.shape[:2], dtype=torch.bool)
    agreed = L.moved_to(joints, known, px, [opinion(joints, columns, px)])
    torch.testing.assert_close(agreed, joints, rtol=1e-4, atol=0.1)
    other = joints.clone()
    wrist = LSP.index("left_wrist")
    other[:, wrist, 2] += 100
    moved = L.moved_to(joints, known, px, [opinion(other, columns, px)])
    torch.testing.assert_close(moved[..., :2] / moved[..., 2:], joints[..., :2] / joints[..., 2:])
    shift = (moved - joints)[..., 2]
    torch.testing.assert_close(shift[:, wrist], torch.full((5,), 50.0), rtol=0, atol=25)
    shift[:, wrist] = 0
    assert shift.abs().max() < 25  # the size is that of the median bone


def test_opinions_count_as_much_as_what_was_lifted(lifted):
    joints, px, columns = lifted
    known = torch.ones(joints.shape[:2], dtype=torch.bool)
    wrist = LSP.index("left_wrist")
    others = [joints.clone(), joints.clone(), joints.clone()]
    for other, mm in zip(others, (90, 90, 9000)):
        other[:, wrist, 2] += mm
    opinions = [opinion(other, columns, px) for other in others]
    opinions[2].joints_px[:, K.JOINTS.index("left_wrist")] += 1e4  # sees it elsewhere, and is not heard
    moved = L.moved_to(joints, known, px, opinions)
    shift = (moved - joints)[:, wrist, 2]
    torch.testing.assert_close(shift, torch.full((5,), 60.0), rtol=0, atol=25)


def test_sides_are_exchanged_where_all_opinions_see_that(lifted):
    joints, px, columns = lifted
    known = torch.ones(joints.shape[:2], dtype=torch.bool)
    known[4, LSP.index("left_ankle")] = False
    ours, theirs = opinion(joints, columns, px), opinion(joints, columns, px)
    labels = px.clone()
    labels[[1, 2, 4]] = mirror(px, LSP)[[1, 2, 4]]
    theirs.joints_px[1] = labels[1, columns].numpy()  # of another mind
    ours.joints_px[2] = np.nan
    assert L.sides_exchanged(known, labels, [ours, theirs]).tolist() == [False, False, False, False, True]
    assert not L.sides_exchanged(known, labels, [ours]).any()


def test_no_opinion_or_one_of_somebody_else_moves_nothing(lifted):
    joints, px, columns = lifted
    known = torch.ones(joints.shape[:2], dtype=torch.bool)
    seen = opinion(joints.flip(0), columns, px)
    seen.joints_m[0] = np.nan
    seen.joints_px[1] += 1e5
    known[2] = False
    moved = L.moved_to(joints, known, px, [seen])
    torch.testing.assert_close(moved[:3], joints[:3])
    assert (moved[3:] - joints[3:]).abs().amax((1, 2)).min() > 1
