"""Files that are nearly right are read, or refused by the one documented error; nothing else ever happens.

Each test tries a stated number of inputs, the same ones in every run. MARGIPOSE_FUZZ=20 tries 20 times as
many, other ones each time.
"""

import copy
import io
import json
import os
import zipfile

import numpy as np
import pytest
import safetensors.torch
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from margipose import checkpoint
from margipose.data.custom_files import read_people
from margipose.data.mpi3d_calibration import CameraCalibration, parse_calibration, read_calibration
from margipose.evaluate import Predictions, read_predictions, write_predictions
from margipose.skeleton import CANONICAL

MORE = int(os.environ.get("MARGIPOSE_FUZZ", "1"))


def trying(count):
    """So many inputs; without a limit on their time, as the machine may be busy."""
    return settings(
        max_examples=count * MORE,
        deadline=None,
        derandomize=MORE == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def refused_in_one_line(read, path):
    """Read a file; an error must be the documented one, and name the file on one line."""
    try:
        return read(path)
    except ValueError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 2000
    return None


edits = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.sampled_from(["set", "insert", "cut", "truncate"]),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)


def edited(data, changes):
    """Bytes with a few changes: where (a share of the length), which, and with what."""
    data = bytearray(data)
    for share, kind, value in changes:
        at = int(share * len(data))
        if kind == "set":
            data[at : at + len(value)] = value
        elif kind == "insert":
            data[at:at] = value
        elif kind == "cut":
            del data[at : at + len(value)]
        else:
            del data[at:]
    return bytes(data)


odd_numbers = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([2**31, 2**63, 2**64, 10**400, -(10**30), 1e308, 5e-324, -0.0]),
    st.floats(),
)
odd_values = st.recursive(
    st.one_of(st.none(), st.booleans(), odd_numbers, st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(document, path=()):
    """The path of every value in a JSON document."""
    yield path
    if isinstance(document, (dict, list)):
        for key, value in document.items() if isinstance(document, dict) else enumerate(document):
            yield from places(value, (*path, key))


@st.composite
def documents(draw, right):
    """A JSON document of which one or two values are others, or missing."""
    document = copy.deepcopy(right)
    for _ in range(draw(st.integers(1, 2))):
        path = draw(st.sampled_from(list(places(document))[1:] or [()]))
        if not path:
            break
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        if draw(st.booleans()) and draw(st.booleans()):
            del parent[path[-1]]
        else:
            parent[path[-1]] = draw(odd_values)
    return document


# --- camera.calibration -----------------------------------------------------------------------------

CALIBRATION = "Skeletool Camera Calibration File V1.0\n" + "".join(
    f"name {n}\n  sensor 10 10\n  size 2048 2048\n  animated 0\n"
    "  intrinsic 1500 0 1024 0 0 1500 1024 0 0 0 1 0 0 0 0 1\n"
    "  extrinsic 1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1\n  radial 0\n"
    for n in range(3)
)
words = st.one_of(
    st.sampled_from(
        ["name", "size", "intrinsic", "extrinsic", "\n", "nan", "inf", "1e999", "0x1", "1_0", "٣"]
    ),
    odd_numbers.map(str),
    st.text(max_size=5),
)


def parse(text):
    try:
        found = parse_calibration(text, "c")
    except ValueError as error:
        assert str(error).startswith("c")
        return
    for camera in found.values():
        assert isinstance(camera, CameraCalibration)
        assert np.isfinite([*camera.intrinsics_at(100, 100)]).all() or camera.fx > 1e300


@trying(500)
@given(st.lists(words, max_size=40).map(" ".join))
def test_calibrations_of_any_words(text):
    parse(text)


@trying(500)
@given(st.lists(st.tuples(st.integers(0, len(CALIBRATION.split(" ")) - 1), words), min_size=1, max_size=3))
def test_calibrations_with_other_words(changes):
    text = CALIBRATION.split(" ")
    for at, word in changes:
        text[at] = word
    parse(" ".join(text))


@trying(200)
@given(edits)
def test_calibration_files_with_other_bytes(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "camera.calibration"
    path.write_bytes(edited(CALIBRATION.encode(), changes))
    refused_in_one_line(read_calibration, path)


# --- Predictions ------------------------------------------------------------------------------------


def right_predictions():
    joints = np.random.default_rng(0).normal(0, 300, (2, 17, 3))
    return Predictions(joints, CANONICAL.joints, "mm", "root_relative", {"frame": [1, 2]}, scale="metric")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A right file of predictions of each kind."""
    folder = tmp_path_factory.mktemp("right")
    for suffix in ("npz", "json", "mat"):
        write_predictions(right_predictions(), folder / f"p.{suffix}")
        assert len(read_predictions(folder / f"p.{suffix}")) == 2
    return folder


def check_predictions(path):
    found = refused_in_one_line(read_predictions, path)
    if found is not None:
        assert found.joints.ndim == 3
        assert found.joints.dtype == np.float64


@trying(300)
@given(data=st.data())
def test_json_predictions_with_other_values(files, data):
    document = data.draw(documents(json.loads((files / "p.json").read_text())))
    path = files / "odd.json"
    path.write_text(json.dumps(document))
    check_predictions(path)


@pytest.mark.parametrize("suffix", ["npz", "json", "mat"])
@trying(150)
@given(changes=edits)
def test_predictions_with_other_bytes(files, suffix, changes):
    path = files / f"odd.{suffix}"
    path.write_bytes(edited((files / f"p.{suffix}").read_bytes(), changes))
    check_predictions(path)


@trying(200)
@given(
    key=st.sampled_from(["joints", "joint_names", "unit", "space", "scale", "format", "id_frame"]),
    changes=edits,
)
def test_npz_predictions_with_other_arrays(files, key, changes):
    """Bytes change inside an array, and the archive around it is right: checksums do not help."""
    path = files / "inner.npz"
    with zipfile.ZipFile(files / "p.npz") as right, zipfile.ZipFile(path, "w") as odd:
        for name in right.namelist():
            content = right.read(name)
            odd.writestr(name, edited(content, changes) if name == f"{key}.npy" else content)
    check_predictions(path)


def npy(header, content=b""):
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 17, 3)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<U999999999', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (0,)}",
        "__import__('os').system('true')",
        "(" * 60,
    ],
)
def test_arrays_that_lie_about_their_size_or_kind(tmp_path, header):
    path = tmp_path / "p.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("joints.npy", npy(header))
    with pytest.raises(ValueError, match=r"p\.npz"):
        read_predictions(path)


def test_an_archive_of_zeros_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    from margipose.evaluate import prediction_files

    monkeypatch.setattr(prediction_files, "_LARGEST", 1 << 20)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((20_000, 17, 3)))
    with zipfile.ZipFile(tmp_path / "p.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", buffer.getvalue())
    with pytest.raises(ValueError, match=r"p\.npz: .*unpacks to 8,160,128 bytes; at most 1,048,576"):
        read_predictions(tmp_path / "p.npz")


@trying(100)
@given(
    values=st.dictionaries(
        st.sampled_from(["joints", "unit", "space", "joint_names", "id_frame", "x"]), odd_values
    )
)
def test_mat_predictions_of_other_values(files, values):
    path = files / "values.mat"
    try:
        scipy.io.savemat(path, {k: v for k, v in values.items() if v is not None})
    except Exception:  # what MATLAB's format cannot hold
        return
    check_predictions(path)


# --- Custom data ------------------------------------------------------------------------------------

CUSTOM = {
    "format": "margipose-custom",
    "version": 1,
    "skeleton": "canonical",
    "samples": [
        {
            "image": "a.jpg",
            "split": "train",
            "joints_cam_mm": {"pelvis": [0, 0, 4000], "neck": [0, -500, 4000], "left_wrist": None},
            "camera": [1000, 1000, 320, 240],
            "box": [10, 10, 100, 200],
            "subject": "anna",
            "frame": 3,
        },
        {"image": "b.jpg", "joints_px": {"pelvis": [100.5, 80]}},
    ],
}
TABLE = (
    "image,split,frame,f_x,f_y,c_x,c_y,pelvis_x_px,pelvis_y_px\n"
    "a.jpg,train,1,9,9,5,5,100.5,80\n"
    "b.jpg,,,,,,,1,2\n"
)


@trying(400)
@given(document=documents(CUSTOM))
def test_custom_json_with_other_values(tmp_path_factory, document):
    path = tmp_path_factory.getbasetemp() / "odd.json"
    path.write_text(json.dumps(document))
    refused_in_one_line(read_people, path)


@pytest.mark.parametrize(("suffix", "right"), [("json", json.dumps(CUSTOM)), ("csv", TABLE)])
@trying(250)
@given(changes=edits)
def test_custom_files_with_other_bytes(tmp_path_factory, suffix, right, changes):
    path = tmp_path_factory.getbasetemp() / f"bytes.{suffix}"
    path.write_bytes(edited(right.encode(), changes))
    refused_in_one_line(read_people, path)


@trying(200)
@given(
    header=st.lists(st.sampled_from(TABLE.splitlines()[0].split(",")) | st.text(max_size=5), max_size=10),
    rows=st.lists(st.lists(st.one_of(odd_numbers.map(str), st.text(max_size=5)), max_size=10), max_size=3),
)
def test_custom_tables_of_any_cells(tmp_path_factory, header, rows):
    path = tmp_path_factory.getbasetemp() / "cells.csv"
    path.write_text(
        "\n".join(",".join(cells) for cells in (header, *rows)), encoding="utf-8", errors="replace"
    )
    refused_in_one_line(read_people, path)


# --- Weights ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def metadata(tiny_weights):
    return json.loads(safetensors.safe_open(tiny_weights, "pt").metadata()["margipose"])


def load(path):
    try:
        return checkpoint.load(path)
    except checkpoint.CheckpointError as error:
        assert str(path) in str(error)
        assert "\n" not in str(error)
    return None


@trying(40)
@given(changes=edits, front=st.booleans())
def test_weights_with_other_bytes(tiny_weights, tmp_path_factory, changes, front):
    """Half of the changes are in the header, which is a small part of a file."""
    path = tmp_path_factory.getbasetemp() / "odd.safetensors"
    data = tiny_weights.read_bytes()
    length = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(edited(data[:length], changes) + data[length:] if front else edited(data, changes))
    load(path)


@trying(150)
@given(data=st.data())
def test_weights_that_describe_themselves_otherwise(metadata, tmp_path_factory, data):
    """No description may cost more than a moment: the weights beside it are few."""
    path = tmp_path_factory.getbasetemp() / "described.safetensors"
    text = json.dumps(data.draw(documents(metadata)))
    path.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}, {"margipose": text}))
    assert load(path) is None


@trying(100)
@given(changes=edits)
def test_pickles_with_other_bytes(tmp_path_factory, changes):
    path = tmp_path_factory.getbasetemp() / "odd.pth"
    buffer = io.BytesIO()
    desc = {"type": "margipose", "version": "6.0.1", "settings": {"n_stages": 1}}
    torch.save({"state_dict": {"a": torch.zeros(2)}, "model_desc": desc}, buffer)
    path.write_bytes(edited(buffer.getvalue(), changes))
    assert load(path) is None
