"""Leeds Sports Pose and its extended set, from files in their official layouts."""

import cv2
import numpy as np
import pytest
import torch
from scipy.io import savemat

from margipose.camera import project
from margipose.data import PoseDataset, load_records, lsp
from margipose.evaluate import get_protocol, score_records
from margipose.skeleton import CANONICAL, LSP, convert
from margipose.spec import InputSpec

WIDTH, HEIGHT = 60, 40


def photos(root, names):
    (root / "images").mkdir(parents=True)
    data = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes()
    for name in names:
        (root / "images" / name).write_bytes(data)


def labels(count, seed=0):
    """14 x 3 x count, all visible and inside."""
    rng = np.random.default_rng(seed)
    joints = np.ones((14, 3, count))
    joints[:, :2] = rng.uniform(1, 38, (14, 2, count))
    return joints


@pytest.fixture(scope="module")
def leeds(tmp_path_factory):
    """The original set; do not write to it. All is marked as occluded."""
    root = tmp_path_factory.mktemp("lsp")
    photos(root, [f"im{n:04d}.jpg" for n in range(1, 2001)])
    savemat(root / "joints.mat", {"joints": labels(2000).transpose(1, 0, 2)})
    return root


@pytest.fixture
def extended(tmp_path):
    """32 photos of the extended set."""
    photos(tmp_path, [f"im{n:05d}.jpg" for n in range(1, 33)])
    savemat(tmp_path / "joints.mat", {"joints": labels(32)})
    return tmp_path


def projected(records):
    return project(records.joints_cam_mm, records.intrinsics)


def refused(load, message):
    with pytest.raises(ValueError, match=message) as error:
        load()
    assert "\n" not in str(error.value)


def test_official_halves_of_leeds_sports_pose(leeds):
    train, test = (load_records("lsp", leeds, split) for split in lsp.SPLITS)
    assert [p.name for p in (train.images[0], train.images[-1])] == ["im0001.jpg", "im1000.jpg"]
    assert [p.name for p in (test.images[0], test.images[-1])] == ["im1001.jpg", "im2000.jpg"]
    assert train.valid.all()  # occluded joints have labels, too
    expected = labels(2000)[:, :2].transpose(2, 0, 1)
    torch.testing.assert_close(projected(test), torch.from_numpy(expected[1000:]))
    assert not test.has_depth
    assert (test.joints_cam_mm[..., 2] == test.intrinsics[:, :1]).all()
    assert test.intrinsics[0].tolist() == [1.2 * WIDTH, 1.2 * WIDTH, WIDTH / 2, HEIGHT / 2]


def test_the_last_sixteenth_of_the_extended_set_validates(extended):
    parts = {split: load_records("lspet", extended, split) for split in lsp.EXTENDED_SPLITS}
    assert [parts[s].ids["photo"].tolist() for s in lsp.EXTENDED_SPLITS] == [
        list(range(1, 31)),
        [31, 32],
        list(range(1, 33)),
    ]
    assert parts["val"].images[0].name == "im00031.jpg"
    torch.testing.assert_close(
        projected(parts["val"]), torch.from_numpy(labels(32)[:, :2, 30:]).movedim(2, 0)
    )


def test_invisible_joints_and_those_outside_are_not_valid(extended):
    joints = labels(32)
    joints[LSP.index("right_hip"), :, 0] = -70, 900, 0  # invisible: means nothing
    joints[LSP.index("neck"), :2, 0] = -0.5, HEIGHT - 0.51  # just inside
    joints[LSP.index("head_top"), :2, 0] = 3, HEIGHT - 0.5  # just outside
    joints[LSP.index("left_wrist"), :2, 0] = np.nan
    joints[LSP.index("left_knee"), :2, 0] = WIDTH - 0.5, 3
    savemat(extended / "joints.mat", {"joints": joints})
    records = load_records("lspet", extended, "train")
    lost = {"right_hip", "head_top", "left_wrist", "left_knee"}
    assert {j for j, v in zip(LSP.joints, records.valid[0].tolist()) if not v} == lost
    assert records.valid[1:].all()
    canonical = records.converted(CANONICAL)
    lost |= {"pelvis", "spine", "head"}
    assert {j for j, v in zip(CANONICAL.joints, canonical.valid[0].tolist()) if not v} == lost
    sample = PoseDataset(records, InputSpec(64, 64))[0]
    assert sample.target_norm[sample.valid, :2].isfinite().all()
    assert not sample.depth_valid.any()


def test_protocols_compare_with_the_labels_as_they_came(extended):
    joints = labels(32)
    joints[LSP.index("right_shoulder"), 2, 30] = 0  # without which no canonical hip, but a label
    savemat(extended / "joints.mat", {"joints": joints})
    records = load_records("lspet", extended, "val")
    dataset = PoseDataset(records, InputSpec(64, 64))
    assert dataset.labelled("lsp").valid.sum() == 2 * 14 - 1
    seen = convert(torch.from_numpy(joints[:, :2, 30:]).movedim(2, 0), LSP, CANONICAL)
    found = score_records(seen, dataset.labelled("lsp"), get_protocol("lspet"), CANONICAL)
    assert found.scores.weights.tolist() == [13, 14]
    assert found.scores.errors[0, found.protocol.joints.index("right_hip")] < 1e-9
    assert found.overall().values["pck_torso"] == 1
    assert found.records.skeleton is LSP


def test_people_of_one_joint_are_left_out(extended):
    joints = labels(32)
    joints[1:, 2, 4], joints[2:, 2, 5] = 0, 0
    savemat(extended / "joints.mat", {"joints": joints})
    records = load_records("lspet", extended, "trainval")
    assert records.ids["photo"].tolist() == [1, 2, 3, 4, *range(6, 33)]
    joints[:, 2] = 0
    savemat(extended / "joints.mat", {"joints": joints})
    refused(
        lambda: load_records("lspet", extended, "train"),
        "joints.mat: lspet/train has no person with two valid",
    )


def test_the_other_order_of_dimensions_and_png_photos(extended):
    expected = load_records("lspet", extended, "train")
    savemat(extended / "joints.mat", {"joints": labels(32).transpose(1, 0, 2)})
    for path in (extended / "images").iterdir():
        path.write_bytes(cv2.imencode(".png", np.full((HEIGHT, WIDTH, 3), 90, np.uint8))[1].tobytes())
        path.rename(path.with_suffix(".png"))
    found = load_records("lspet", extended, "train")
    assert found.images[6].name == "im00007.png"
    torch.testing.assert_close(found.joints_cam_mm, expected.joints_cam_mm)


def test_leeds_sports_pose_is_not_taken_for_the_extended_set(leeds, tmp_path):
    """Whose third value means the opposite; as many photos of the extended set are."""
    for split in lsp.EXTENDED_SPLITS:
        refused(
            lambda split=split: load_records("lspet", leeds, split),
            f"^{leeds}/joints.mat: key 'joints': .*3 x 14 x 2000, as Leeds Sports Pose has .*called lsp",
        )
    (tmp_path / "images").symlink_to(leeds / "images")
    savemat(tmp_path / "joints.mat", {"joints": labels(2000)})
    assert len(load_records("lspet", tmp_path, "trainval")) == 2000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"points": labels(32)}, "key 'joints' is missing; expected 14 x 3 x N"),
        ({"joints": labels(32)[:13]}, r"key 'joints': expected .* got shape \(13, 3, 32\)"),
        ({"joints": labels(32)[..., 0]}, r"key 'joints': expected .* got shape \(14, 3\)"),
        ({"joints": labels(0)}, r"key 'joints': expected .* got shape \(14, 3, 0\)"),
        ({"joints": "text"}, "key 'joints': expected .* got values of type"),
        ({"joints": labels(33)}, "expected photos 1 to 33, .* number 33 is missing"),
        (
            {"joints": labels(32) + [[0], [0], [1]]},
            "key .* third value of each joint, got 2.0 for right_ankle of photo 1",
        ),
    ],
)
def test_errors_name_file_and_key(extended, values, message):
    savemat(extended / "joints.mat", values)
    refused(lambda: load_records("lspet", extended, "train"), f"^{extended}/(joints.mat|images): {message}")


def test_damaged_and_missing_files(extended, leeds):
    path = extended / "joints.mat"
    refused(lambda: load_records("lsp", extended, "train"), "2000 numbers, .* got 32 photos .* called lspet")
    refused(lambda: load_records("lsp", leeds, "val"), "lsp: unknown split 'val'; valid: train, test")
    refused(lambda: load_records("lspet", leeds, "test"), "lspet: unknown split 'test'; valid: train, val")
    whole = path.read_bytes()
    version_73 = whole[:124] + b"\x00\x02IM" + whole[128:]
    for contents in (b"", whole[:100], whole[: len(whole) // 2], version_73):
        path.write_bytes(contents)
        refused(lambda: load_records("lspet", extended, "train"), f"^{path}: ")
    path.unlink()
    refused(lambda: load_records("lspet", extended, "train"), f"^{path}: no such file")
    path.write_bytes(whole)
    photo = extended / "images/im00003.jpg"
    photo.write_bytes(b"")
    refused(lambda: load_records("lspet", extended, "train"), f"^{photo}: not an image")
    photo.rename(photo.with_suffix(".png"))
    (extended / "images/im00009.jpg").rename(extended / "images/im00003.jpg")
    refused(lambda: load_records("lspet", extended, "train"), "photo 3 is there twice, as im")
    photo.with_suffix(".png").unlink()
    refused(lambda: load_records("lspet", extended, "train"), "number 9 is missing")
    (extended / "images").rename(extended / "pictures")
    refused(lambda: load_records("lspet", extended, "train"), f"^{extended / 'images'}: no such folder")


def test_trains_beside_3d_examples(tiny, extended):
    from margipose.config import combine
    from margipose.train import fit

    settings = {**tiny, "epochs": 1, "train_sets": ["mpi3d/train", "lspet/train"], "eval_set": ""}
    settings["data_roots"] = {**tiny["data_roots"], "lspet": str(extended)}
    logged = []
    fit(combine([], settings), lambda name, value, step: logged.append((name, value)))
    losses = [value for name, value in logged if name == "loss"]
    assert losses
    assert np.isfinite(losses).all()


def test_real_photos_open_as_they_are(shared):
    root = shared / "lspet"
    if not root.is_dir():
        pytest.skip("no photos of the extended set")
    parts = [load_records("lspet", root, split) for split in lsp.EXTENDED_SPLITS]
    assert [len(p) for p in parts] == [7500, 500, 8000]
    canonical = parts[2].converted(CANONICAL)
    share = dict(zip(CANONICAL.joints, canonical.valid.double().mean(0).tolist()))
    assert 0.9 < share["head_top"] < 1
    assert share["head"] < share["neck"]
    assert share["pelvis"] < min(share["left_hip"], share["right_hip"])
    px = project(canonical.joints_cam_mm, canonical.intrinsics)
    known = canonical.valid[:, CANONICAL.indices(["left_hip", "right_hip", "pelvis"])].all(-1)
    hips = px[:, CANONICAL.indices(["left_hip", "right_hip"])].mean(1)
    torch.testing.assert_close(px[known][:, CANONICAL.index("pelvis")], hips[known])
    sample = PoseDataset(canonical, InputSpec(64, 64))[0]
    assert sample.target_norm[sample.valid, :2].abs().max() <= 1
