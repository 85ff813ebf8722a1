"""Files of predictions: what is written is read, in every format, and what is not right is refused."""

import dataclasses
import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from margipose.data import Records, load_records
from margipose.data.flat import at_one_depth
from margipose.evaluate import get_protocol, score_records
from margipose.evaluate.joint_names import ORDERS
from margipose.evaluate.matching import match
from margipose.evaluate.prediction_files import (
    _KEYS,
    FORMAT,
    SUFFIXES,
    read_predictions,
    write_predictions,
)
from margipose.evaluate.predictions import Predictions, predictions_of, score_predictions
from margipose.skeleton import CANONICAL, MPII, SKELETONS, VNECT_14
from tests.evaluate.made import h36m_records, noise

RECORDS = h36m_records()
GUESS = RECORDS.joints_cam_mm.numpy() + noise(len(RECORDS), 30)
MADE = predictions_of(score_records(torch.from_numpy(GUESS), RECORDS, get_protocol("h36m")))

suffixes = pytest.mark.parametrize("suffix", SUFFIXES)


def same(a, b):
    names = [list(p.joint_names) if not isinstance(p.joint_names, str) else p.joint_names for p in (a, b)]
    assert names[0] == names[1]
    assert (a.unit, a.space, a.scale) == (b.unit, b.space, b.scale)
    np.testing.assert_array_equal(a.joints, b.joints)
    assert list(a.ids) == list(b.ids)
    for column in a.ids:
        np.testing.assert_array_equal(a.ids[column], b.ids[column])
        assert a.ids[column].dtype.kind == b.ids[column].dtype.kind


@suffixes
def test_files_give_back_what_was_written(suffix, tmp_path):
    path = tmp_path / f"new/p{suffix}"
    write_predictions(MADE, path)
    same(read_predictions(path), MADE)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@suffixes
def test_one_pose_of_an_order_with_joints_that_were_not_predicted(suffix, tmp_path):
    joints = np.random.default_rng(0).normal(size=(1, 17, 3))
    joints[0, 3] = np.nan
    made = Predictions(joints, "h36m_17", "m", "root_relative", {"image": ["ä b.jpg"], "frame": [3]})
    write_predictions(made, tmp_path / f"p{suffix}")
    same(read_predictions(tmp_path / f"p{suffix}"), made)


@suffixes
def test_2d_predictions(suffix, tmp_path):
    joints = np.random.default_rng(0).normal(size=(2, 16, 2))
    made = Predictions(joints, MPII.joints, "px", "image", {"index": [5, 6], "person": [0, 1]})
    write_predictions(made, tmp_path / f"p{suffix}")
    same(read_predictions(tmp_path / f"p{suffix}"), made)


@suffixes
@pytest.mark.parametrize("name", ["h36m", "mpi3d"])
def test_predictions_for_real_frames_go_through_every_format(frames, name, suffix, tmp_path):
    protocol = dataclasses.replace(get_protocol(name), subjects=(), stride=0)
    split = {"h36m": "trainval", "mpi3d": "test"}[name]
    if name == "mpi3d":
        with pytest.warns(UserWarning, match=r"annot_data\.mat is missing"):
            records = load_records(name, frames / name, split, universal=protocol.universal)
    else:
        records = load_records(name, frames / name, split, universal=protocol.universal)
    records = records.converted(CANONICAL)
    joints = records.joints_cam_mm[:] + torch.from_numpy(noise(len(records), 25))
    expected = score_records(joints, records, protocol)
    path = tmp_path / f"p{suffix}"
    write_predictions(predictions_of(expected), path)
    result = score_predictions(read_predictions(path), records, protocol)
    for metric, values in expected.values.items():
        np.testing.assert_array_equal(result.values[metric], values)


@suffixes
def test_2d_predictions_for_real_frames_go_through_every_format(frames, suffix, tmp_path):
    people = json.loads((frames / "mpii" / "annotations.json").read_text())
    names = people[0]["joint_names"]  # with MPII's own "thorax" and "upper_neck"
    labels = [[(np.nan, np.nan) if xy is None else xy for xy in p["joints2d_px"]] for p in people]
    joints_px = torch.tensor(labels, dtype=torch.float64)
    valid = joints_px.isfinite().all(-1)
    images = sorted((frames / "mpii" / "images").iterdir())
    intrinsics = torch.tensor([[1500.0, 1500.0, 640.0, 360.0]] * len(people), dtype=torch.float64)
    records = Records(
        name="mpii/val",
        skeleton=MPII,
        images=images,
        joints_cam_mm=at_one_depth(joints_px, intrinsics),
        valid=valid,
        intrinsics=intrinsics,
        has_depth=False,
        head_length_px=torch.full((len(people),), 100.0, dtype=torch.float64),
    )
    off = joints_px + torch.tensor([30.0, 30.0])
    off[0, names.index("left_wrist"), 0] += 90
    made = Predictions(off.numpy(), names, "px", "image", {"image": [p.name for p in images]})
    write_predictions(made, tmp_path / f"p{suffix}")
    same(read_predictions(tmp_path / f"p{suffix}"), made)
    result = score_predictions(read_predictions(tmp_path / f"p{suffix}"), records, get_protocol("mpii"))
    scored = int(valid[:, MPII.indices(VNECT_14)].sum())
    assert result.overall().values["pckh"] == pytest.approx((scored - 1) / scored)
    assert result.scores.by_joint("pckh")["left_wrist"] == 0.5


# --- The page that describes them -------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "predictions.md").read_text()


def block(language):
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return text


def test_the_pages_json_is_read(tmp_path):
    (tmp_path / "p.json").write_text(block("json"))
    found = read_predictions(tmp_path / "p.json")
    assert found.joints.shape == (2, 3, 3)
    walking = dataclasses.replace(RECORDS.select([0, 1]), id_names={"action": {2: "Walking"}})
    assert match(found.ids, walking).poses.tolist() == [0, 1]
    joints = found.joints_in()
    assert joints[0, CANONICAL.index("left_hip")].tolist() == [128.5, 4, 30]
    assert joints[1, CANONICAL.index("right_hip")].tolist() == [-127, -9, -36.5]


def test_the_pages_python_scores_arrays(people, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    records = load_records("mpi3d", people, "test")
    joints = records.joints_cam_mm[:].numpy()[:, CANONICAL.indices(ORDERS["h36m_17"])] / 1000
    values = {c: records.ids[c] for c in ("subject", "sequence", "frame")}
    exec(block("py"), {"joints": joints, "root": people, **values})
    assert re.search(r"\| all \| \d+ \| 100\.0 ", capsys.readouterr().out)
    assert (tmp_path / "theirs.json").is_file()


def test_the_page_names_every_key_and_order():
    for word in (*_KEYS, *ORDERS, *SKELETONS, FORMAT, *SUFFIXES):
        assert f"`{word}`" in PAGE, word


# --- Files of others --------------------------------------------------------------------------------


def content(**changes):
    return {
        "joints": GUESS,
        "joint_names": list(CANONICAL.joints),
        "unit": "mm",
        "space": "camera",
        **{f"id_{k}": v for k, v in RECORDS.ids.items()},
    } | changes


def test_what_matlab_writes_is_read(tmp_path):
    path = tmp_path / "p.mat"
    columns = {f"id_{k}": v.astype(float)[None] for k, v in RECORDS.ids.items()}  # rows of doubles
    padded = np.array([f"{j:14}" for j in CANONICAL.joints])  # a matrix of characters
    scipy.io.savemat(path, content(joint_names=padded, **columns))
    same(read_predictions(path), dataclasses.replace(MADE, joints=GUESS, ids=RECORDS.ids, scale=None))


def test_what_numpy_writes_in_a_line_is_read(tmp_path):
    np.savez(tmp_path / "p.npz", **content(joint_names="canonical", joints=GUESS.astype(np.float32)))
    found = read_predictions(tmp_path / "p.npz")
    assert found.joint_names == "canonical"
    np.testing.assert_array_equal(found.joints, GUESS.astype(np.float32))


def test_arguments_answer_what_a_file_does_not_state(tmp_path):
    path = tmp_path / "p.npz"
    np.savez(path, **{k: v for k, v in content().items() if k not in ("unit", "space", "joint_names")})
    with pytest.raises(ValueError, match=r"p\.npz: which joints are they"):
        read_predictions(path)
    with pytest.raises(ValueError, match=r"p\.npz: are joints in mm or m\? The unit is not stated"):
        read_predictions(path, joint_names="canonical")
    found = read_predictions(path, unit="mm", space="camera", joint_names="canonical")
    assert (found.unit, found.space, found.joint_names) == ("mm", "camera", "canonical")
    np.savez(path, **content())
    with pytest.raises(ValueError, match=r"p\.npz: unit is 'mm' in the file, not 'm'"):
        read_predictions(path, unit="m")


def write(path, values):
    if path.suffix == ".npz":
        np.savez(path, **values)
    elif path.suffix == ".json":
        lists = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}
        path.write_text(json.dumps(lists))
    else:
        scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None})


@suffixes
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame": RECORDS.ids["frame"]}, "unknown key 'frame'; did you mean 'id_frame'"),
        ({"unit": 3}, "key 'unit': expected text"),
        ({"joint_names": [1, 2]}, "key 'joint_names': expected names"),
        ({"format": "margipose-predictions-9"}, "key 'format': expected 'margipose-predictions-1'"),
        ({"id_frame": RECORDS.ids["frame"] + 0.25}, "frame'.*: expected .*whole numbers or names"),
        ({"joints": GUESS[:, :5]}, "poses have 5 joints, there are names for 17"),
    ],
)
def test_wrong_content_is_named(suffix, changes, message, tmp_path):
    path = tmp_path / f"p{suffix}"
    write(path, content(**changes))
    with pytest.raises(ValueError, match=rf"p\{suffix}: .*{message}"):
        read_predictions(path)


@suffixes
def test_a_file_without_joints(suffix, tmp_path):
    path = tmp_path / f"p{suffix}"
    write(path, {k: v for k, v in content().items() if k != "joints"})
    with pytest.raises(ValueError, match=rf"p\{suffix}: key 'joints' is missing"):
        read_predictions(path)


@suffixes
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_damaged_files_are_named(suffix, damage, tmp_path):
    path = tmp_path / f"p{suffix}"
    write_predictions(MADE, path)
    whole = path.read_bytes()
    path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "other": b"\x89PNG" * 99}[damage])
    with pytest.raises(ValueError, match=rf"p\{suffix}: "):
        read_predictions(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (tmp_path / "sprung").touch, ()

    path = tmp_path / "p.npz"
    np.savez(path, **content(id_subject=np.array([Trap()] * 96, dtype=object)))
    with pytest.raises(
        ValueError, match=r"p\.npz: expected an \.npz file of numbers and texts, without objects"
    ):
        read_predictions(path)
    assert not (tmp_path / "sprung").exists()


def test_other_files_are_refused(tmp_path):
    for name in ("p.pkl", "p"):
        with pytest.raises(
            ValueError, match=rf"{name}: predictions are read and written as \.npz, \.json, \.mat"
        ):
            read_predictions(tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name}: predictions are read and written as"):
            write_predictions(MADE, tmp_path / name)
    with pytest.raises(ValueError, match=r"nothing\.npz: no such file"):
        read_predictions(tmp_path / "nothing.npz")
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["joints"] = GUESS
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    with pytest.raises(ValueError, match=r"new\.mat: expected a MATLAB 5 file; save it with the option -v7"):
        read_predictions(tmp_path / "new.mat")
    (tmp_path / "p.mat").write_bytes(b"")
    scipy.io.savemat(tmp_path / "p.mat", content(id_subject=np.array([[1], {"a": 2}], dtype=object)))
    with pytest.raises(ValueError, match=r"p\.mat: key 'id_subject': expected cells of text"):
        read_predictions(tmp_path / "p.mat")


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    write_predictions(MADE, path)
    before = path.read_bytes()

    def fail(path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        write_predictions(MADE, path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1
