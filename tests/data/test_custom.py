"""Anyone's own data from JSON and CSV files, and what their documentation shows."""

import csv
import json
import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.data import PoseDataset, load_records
from margipose.skeleton import CANONICAL, LSP
from margipose.spec import InputSpec

DOCS = (Path(__file__).parents[2] / "docs/custom_data.md").read_text()
SIZE = 240


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)


@pytest.fixture
def root(tmp_path):
    """A folder with some images."""
    (tmp_path / "images").mkdir()
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for name in ("0001.jpg", "0002.jpg"):
        cv2.imwrite(str(tmp_path / "images" / name), image)
    return tmp_path


def write(root, samples, **document):
    text = json.dumps({"format": "margipose-custom", "version": 1, "samples": samples, **document})
    (root / "annotations.json").write_text(text)
    return root


def write_csv(root, rows):
    with (root / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return root


def flat(**change):
    """A sample with joints in pixels."""
    joints = {"neck": [120, 80], "left_wrist": [150, 100.5], "pelvis": [121, 150]}
    return {"image": "images/0001.jpg", "joints_px": joints, **change}


def deep(unit="mm", **change):
    """A sample with joints in camera space."""
    scale = {"mm": 1, "m": 1000}[unit]
    place = {
        j: [(20 * i - 160) / scale, (40 * i - 300) / scale, 3000 / scale]
        for i, j in enumerate(CANONICAL.joints)
    }
    joints = {f"joints_cam_{unit}": place}
    return {"image": "images/0002.jpg", "camera": [300, 310, 118, 122], **joints, **change}


def load(root, split="train"):
    return load_records("custom", root, split)


def px(records):
    return project(records.joints_cam_mm, records.intrinsics)


def refused(action, message):
    with pytest.raises(ValueError, match=message) as error:
        action()
    assert "\n" not in str(error.value)


# --- What the documentation says ----------------------------------------------------------------------


def test_documented_json(root):
    (root / "annotations.json").write_text(blocks("json")[0])
    train, val = load(root), load(root, "val")
    assert train.has_depth
    assert not val.has_depth
    assert train.joints_cam_mm[0, CANONICAL.index("neck")].tolist() == [30, -430, 2960]
    assert {j for j, v in zip(CANONICAL.joints, train.valid[0].tolist()) if v} == {
        "pelvis",
        "left_hip",
        "right_hip",
        "neck",
        "head_top",
    }
    assert {c: list(names.values()) for c, names in train.id_names.items()} == {
        "subject": ["Ada"],
        "action": ["waving"],
    }
    assert train.ids["frame"].tolist() == [17]
    assert train.box_side_px.tolist() == [220]
    assert train.box_centre_px.tolist() == [[119.5, 119.5]]
    assert px(val)[0, CANONICAL.index("right_wrist")].tolist() == pytest.approx([140, 52.5])
    assert val.intrinsics[0].tolist() == [1.2 * SIZE, 1.2 * SIZE, SIZE / 2, SIZE / 2]
    assert val.box_side_px.tolist() == pytest.approx([1.5 * 51.5])


def test_documented_csv(root):
    (root / "annotations.csv").write_text(blocks("csv")[0])
    train, val = load(root), load(root, "val")
    assert px(train)[0, CANONICAL.index("left_wrist")].tolist() == pytest.approx([88.5, 40])
    assert val.valid.sum() == 1 if False else train.valid.sum() == 2
    assert list(train.id_names["subject"].values()) == ["Ada"]


def test_documented_commands_and_code(root, monkeypatch, capsys):
    from margipose.cli import build_parser
    from margipose.cli.training import parse_updates
    from margipose.config import combine

    lines = "".join(blocks("sh")).replace("\\\n", "").splitlines()
    commands = [shlex.split(line)[1:] for line in lines]
    assert [c[0] for c in commands] == ["train", "train", "train", "eval", "eval"]
    for command in commands:
        args = build_parser().parse_args(command)
        if command[0] == "train":
            assert "custom/train" in combine(*parse_updates(args.words)).train_sets
    write(root, [flat()])
    root.rename(root.with_name("mydata"))
    monkeypatch.chdir(root.parent)
    exec(compile(blocks("python")[0], "custom_data.md", "exec"), {})
    assert capsys.readouterr().out.startswith("1 ('head_top', 'neck'")


# --- Values -------------------------------------------------------------------------------------------


def test_units_and_files_give_the_same(root):
    expected = load(write(root, [deep(), deep()]))
    in_metres = load(write(root, [deep("m"), deep("m")]))
    torch.testing.assert_close(in_metres.joints_cam_mm, expected.joints_cam_mm)
    assert len(load(root / "annotations.json")) == 2
    (root / "annotations.json").unlink()
    header = ["image", "f_x", "f_y", "c_x", "c_y"]
    header += [f"{j}_{a}_cam_m" for j in CANONICAL.joints for a in "xyz"]
    values = [v for j in CANONICAL.joints for v in deep("m")["joints_cam_m"][j]]
    row = ["images/0002.jpg", 300, 310, 118, 122, *values]
    found = load(write_csv(root, [header, row, row]))
    torch.testing.assert_close(found.joints_cam_mm, expected.joints_cam_mm)
    assert found.intrinsics.equal(expected.intrinsics)
    assert found.valid.all()
    assert len(load(root / "annotations.csv")) == 2


def test_samples_of_another_set_are_the_same(people, root):
    known = load_records("mpi3d", people, "train").converted(CANONICAL).select(range(4))
    dataset = PoseDataset(known, InputSpec(64, 64))
    samples = [
        {
            "image": str(image),
            "camera": sample.intrinsics.tolist(),  # of the image as stored
            "joints_cam_mm": dict(zip(CANONICAL.joints, sample.joints_cam_mm.tolist())),
        }
        for image, sample in zip(known.images, dataset)
    ]
    found = PoseDataset(load(write(root, samples)), InputSpec(64, 64))
    for a, b in zip(found, dataset):
        torch.testing.assert_close(a.target_norm, b.target_norm)
        torch.testing.assert_close(a.image, b.image)
        assert a.depth_valid.all()
    assert len(found) == 4


def test_people_in_space_of_whom_none_has_a_pelvis_are_refused(root):
    without = deep()
    del without["joints_cam_mm"]["pelvis"]
    write(root, [without, flat()])
    refused(
        lambda: load(root),
        r"annotations\.json: no sample in space of split 'train' has a 'pelvis', to which depths",
    )
    derived = [[20 * i, 40 * i, 3000] for i in range(len(LSP))]
    write(root, [deep(joints_cam_mm=dict(zip(LSP.joints, derived)))], skeleton="lsp")
    assert PoseDataset(load(root), InputSpec(64, 64))[0].depth_valid.any()  # from the hips


def test_both_kinds_in_one_file(root):
    records = load(
        write(root, [flat(), deep(), deep(joints_cam_mm={"neck": [0, 0, 900], "head": [0, 9, 900]})])
    )
    assert records.has_depth
    dataset = PoseDataset(records, InputSpec(64, 64))
    samples = [dataset[i] for i in range(3)]
    assert [int(s.depth_valid.sum()) for s in samples] == [0, 17, 0]  # without a pelvis there is no depth
    assert [int(s.valid.sum()) for s in samples] == [3, 17, 2]
    for sample in samples:
        assert sample.target_norm[sample.valid, :2].isfinite().all()
        assert sample.target_norm[sample.depth_valid].isfinite().all()


def test_other_skeletons_are_converted_by_name(root):
    joints = {"left_hip": [100, 150], "right_hip": [140, 150], "neck": [120, 50], "head_top": [120, 30]}
    joints |= {"left_shoulder": [100, 60], "right_shoulder": [140, 60]}
    records = load(write(root, [flat(joints_px=joints)], skeleton="lsp"))
    assert records.skeleton is LSP
    canonical = records.converted(CANONICAL)
    found = dict(zip(CANONICAL.joints, px(canonical)[0].tolist()))
    valid = {j for j, v in zip(CANONICAL.joints, canonical.valid[0].tolist()) if v}
    assert valid == {*joints, "pelvis", "spine", "head"}
    assert found["left_hip"] == pytest.approx([100, 141])
    assert found["pelvis"] == pytest.approx([120, 141])
    assert found["spine"] == pytest.approx([120, 0.53 * 141 + 0.47 * 50])
    assert found["head"] == pytest.approx([120, 40])
    rows = [["image", "skeleton", "neck_x_px", "neck_y_px", "left_hip_x_px", "left_hip_y_px"]]
    (root / "annotations.json").unlink()
    write_csv(root, [*rows, ["images/0001.jpg", "lsp", 1, 2, 3, 4]])
    assert load(root).skeleton is LSP
    write_csv(root, [*rows, *(["images/0001.jpg", name, 1, 2, 3, 4] for name in ("lsp", "mpii"))])
    refused(lambda: load(root), "column 'skeleton': expected one name in all rows, got .'lsp', 'mpii'.")


def test_names_and_numbers_of_groups(root):
    records = load(
        write(root, [flat(action="run", subject=7), flat(subject=9), flat(action="climb", frame=3)])
    )
    names = records.id_names["action"]
    assert [names[number] for number in records.ids["action"].tolist()] == ["run", "no action", "climb"]
    assert [names[number] for number in sorted(names)] == ["no action", "climb", "run"]
    assert records.ids["subject"].tolist() == [7, 9, -1]
    assert records.id_names["subject"] == {-1: "no subject"}
    assert "sequence" not in records.ids
    assert load(write(root, [flat(subject=-5), flat()])).ids["subject"].tolist() == [-5, -6]
    records = load(write(root, [flat(subject=5), flat(subject="5"), flat(subject="x")]))
    assert np.unique(records.ids["subject"], return_inverse=True)[1].tolist() == [0, 0, 1]


def test_boxes(root):
    records = load(
        write(root, [flat(), flat(box=[10, 20, 41, 31]), flat(joints_px={"neck": [5, 5]}, box=[0, 0, 9, 9])])
    )
    assert records.box_centre_px[:, 0].tolist() == pytest.approx([135, 30, 4])
    assert records.box_centre_px[:, 1].tolist() == pytest.approx([115, 35, 4])
    assert records.box_side_px.tolist() == pytest.approx([1.5 * 70, 41, 9])


# --- Errors -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (3, "sample 2: expected an object, got 3"),
        (flat(pictures=1), "sample 2: unknown key 'pictures'"),
        (flat(joints={}), "sample 2: unknown key 'joints'; joints need a unit; did you mean 'joints_px'"),
        (
            flat(joints_cam_m={"neck": [0, 0, 3]}),
            "sample 2: expected one of joints_px, .*, got joints_px and joi",
        ),
        ({"image": "images/0001.jpg"}, "sample 2: expected one of joints_px, .*, got none"),
        (flat(joints_px=[]), r"sample 2: key 'joints_px': expected an object of joints by name, got \[\]"),
        (flat(joints_px={"neck": None}), "key 'joints_px': expected at least one joint"),
        (flat(joints_px={"tail": [1, 2]}), "key 'joints_px': skeleton 'canonical' has no joint 'tail'"),
        (flat(joints_px={"left_wrst": [1, 2]}), "has no joint 'left_wrst'; did you mean 'left_wrist'"),
        (
            flat(joints_px={"neck": [1, 2, 3]}),
            r"neck: expected 2 finite numbers \(x, y\) or null, got \[1, 2, 3",
        ),
        (flat(joints_px={"neck": [1, float("nan")]}), r"neck: expected 2 finite .* got \[1, nan\]"),
        (flat(joints_px={"neck": [1, True]}), r"neck: expected 2 finite .* got \[1, True\]"),
        (flat(joints_px={"neck": [1, 10**400]}), "neck: expected 2 finite"),
        (flat(frame=10**20), "sample 2: key 'frame': expected a whole number"),
        (flat(joints_px={"neck": [1, "2"]}), r"neck: expected 2 finite .* got \[1, '2'\]"),
        (flat(joints_px={"neck": [1, 2]}), "sample 2: key 'box' is missing; its joints lie in one place"),
        (deep(camera=None), "sample 2: key 'camera' is missing; joints in camera space need"),
        (deep(camera=[1, 2, 3]), r"sample 2: key 'camera': expected 4 finite numbers .* got \[1, 2, 3\]"),
        (deep(camera=[-1, 1, 3, 4]), "sample 2: key 'camera': expected positive focal lengths"),
        (
            deep(joints_cam_mm={"neck": [1, 2, -3]}),
            "neck: expected a depth z > 0 before the camera, got -3.0",
        ),
        (flat(box=[1, 2, 0, 4]), "sample 2: key 'box': expected a positive width and height"),
        (flat(box="all"), "sample 2: key 'box': expected 4 finite numbers .* got 'all'"),
        (flat(image="images/3.jpg"), "sample 2: key 'image': no such file .*images/3.jpg"),
        (flat(image=7), "sample 2: key 'image': expected text, got 7"),
        ({"joints_px": {"neck": [1, 2]}}, "sample 2: key 'image': expected text, got None"),
        (flat(split="a/b"), "sample 2: key 'split': expected a name without '/'"),
        (flat(frame="one"), "sample 2: key 'frame': expected a whole number, got 'one'"),
        (flat(action=1.5), "sample 2: key 'action': expected text or a whole number, got 1.5"),
    ],
)
def test_errors_name_file_sample_and_key(root, sample, message):
    write(root, [flat(), sample])
    refused(lambda: load(root), rf"^{root / 'annotations.json'}: .*{message.removeprefix('sample 2: ')}")
    refused(lambda: load(root), "sample 2: ")


@pytest.mark.parametrize(("unit", "span"), [("mm", "0.00064 m"), ("m", "640 m")])
def test_mistaken_units_are_noticed(root, unit, span):
    other = {"mm": "m", "m": "mm"}[unit]
    joints = deep(other)[f"joints_cam_{other}"]
    sample = {"image": "images/0002.jpg", "camera": [300, 300, 120, 120], f"joints_cam_{unit}": joints}
    refused(lambda: load(write(root, [flat(), sample])), f"sample 2: joints span {span}, expected a body of")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected JSON"),
        ('{"format": "margipose-custom", "version": 1, "samples": [', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ("[]", "expected an object whose key 'format' is 'margipose-custom'"),
        ('{"format": "coco"}', "expected an object whose key 'format'"),
        ('{"format": "margipose-custom", "version": 2}', "key 'version': expected 1, got 2"),
        ('{"format": "margipose-custom", "version": 1, "people": []}', "unknown key 'people'"),
        ('{"format": "margipose-custom", "version": 1}', "key 'samples': expected a list, got None"),
        ('{"format": "margipose-custom", "version": 1, "samples": []}', "expected samples, got none"),
        (
            '{"format": "margipose-custom", "version": 1, "samples": [], "skeleton": "coco"}',
            "key 'skeleton': expected one of canonical, .*, got 'coco'",
        ),
        (
            '{"format": "margipose-custom", "version": 1, "samples": [{"image": "a", "image": "b"}]}',
            "expected JSON .key 'image' is twice",
        ),
    ],
)
def test_documents_that_do_not_fit(root, text, message):
    (root / "annotations.json").write_text(text)
    refused(lambda: load(root), f"^{root / 'annotations.json'}: {message}")


IMAGE = "images/0001.jpg"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "expected a line of column names"),
        ([["image;split"]], "expected a column 'image', with commas"),
        ([["image", "neck_x_px", "neck_x_px"]], "column 'neck_x_px' is there twice"),
        ([["image", "neck_x"]], "unknown column 'neck_x'; valid: image, .* <joint>_x_px"),
        ([["image", "tail_x_px"]], "column 'tail_x_px': skeleton 'canonical' has no joint 'tail'"),
        ([["image", "neck_x_px", "neck_y_px"]], "expected samples, got none"),
        (
            [["image", "neck_x_px", "neck_y_px"], [IMAGE, 1]],
            "line 2: expected 3 cells as in the first line, got 2",
        ),
        (
            [["image", "neck_x_px", "neck_y_px"], [], [IMAGE, "a", 1]],
            "line 3: column 'neck_x_px': expected a number",
        ),
        (
            [["image", "neck_x_px", "neck_y_px"], [IMAGE, 3, ""]],
            "line 2: key 'joints_px': neck: expected 2 finite",
        ),
        (
            [["image", "neck_x_px", "neck_y_px"], [IMAGE, "nan", 2]],
            "line 2: key 'joints_px': neck: expected 2 fin",
        ),
        (
            [["image", "neck_x_px", "neck_y_px"], [IMAGE, "", ""]],
            "line 2: expected one of joints_px, .* got none",
        ),
        (
            [["image", "neck_x_px", "neck_y_px", "f_x"], [IMAGE, 1, 2, 3]],
            "line 2: key 'camera': expected 4 finite numbers",
        ),
        (
            [["image", "neck_x_px", "neck_y_px", "neck_x_cam_m"], [IMAGE, 1, 2, 3]],
            "line 2: expected one of joints_px, .* got joints_px and joints_cam_m",
        ),
    ],
)
def test_tables_that_do_not_fit(root, rows, message):
    write_csv(root, rows)
    refused(lambda: load(root), f"^{root / 'annotations.csv'}: {message}")


def test_files_that_do_not_fit(root):
    refused(lambda: load(root), f"^{root}: expected annotations.json or annotations.csv, got neither")
    refused(lambda: load(root / "nothing.json"), "no such folder")
    write(root, [flat(split="train"), flat(split="test")])
    refused(lambda: load(root, "tset"), "annotations.json: unknown split 'tset'; did you mean 'test'")
    (root / "annotations.csv").write_text('image,split\n"a')
    refused(lambda: load(root), "got both")
    refused(lambda: load(root / "annotations.csv"), "annotations.csv: line 2: expected CSV")
    (root / "annotations.csv").write_bytes(b"image\xff")
    refused(lambda: load(root / "annotations.csv"), "annotations.csv: cannot be read")
    refused(lambda: load(root / IMAGE), "0001.jpg: expected a file called .json or .csv")
    (root / IMAGE).write_bytes(b"")
    refused(lambda: load(root / "annotations.json"), "0001.jpg: not an image")


def test_a_table_that_a_spreadsheet_wrote(root):
    text = f"\ufeffimage,neck_x_px,neck_y_px,pelvis_x_px,pelvis_y_px\r\n{IMAGE},1,2,3,40\r\n,,,,\r\n"
    (root / "annotations.csv").write_text(text, encoding="utf-8", newline="")
    assert len(load(root)) == 1


# --- Training and evaluation --------------------------------------------------------------------------


def test_trains_and_is_evaluated(tiny, root, tmp_path, capsys):
    from margipose.cli import main

    samples = [flat(), deep(), deep(joints_cam_mm={"neck": [0, 0, 900], "head": [0, 9, 900]})] * 3
    write(root, [*samples, deep(split="test", action="run"), deep(split="test", action="sit")])
    settings = {**tiny, "epochs": 1, "train_sets": ["custom/train"], "eval_set": ""}
    settings["data_roots"] = {"custom": str(root)}
    assert main(["train", *(f"{k}={json.dumps(v)}" for k, v in settings.items())]) == 0
    lines = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    losses = [e["value"] for e in map(json.loads, lines) if e["name"] == "loss"]
    assert losses
    assert np.isfinite(losses).all()
    weights = str(tmp_path / "run/model.safetensors")
    command = ["eval", "--model", weights, "--dataset", "custom", "--root", str(root), "--protocol", "h36m"]
    assert main([*command, "--json", str(tmp_path / "table.json"), "--workers", "0"]) == 0
    rows = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert [r["group"] for r in rows] == ["run", "sit", "mean over action", "all"]
    assert np.isfinite(rows[-1]["mpjpe"])
