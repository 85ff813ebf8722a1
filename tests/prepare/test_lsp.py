"""Leeds Sports Pose from archives and trees as they are downloaded, to a batch."""

import functools
import io
import json
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
from scipy.io import savemat
from torch.utils.data import DataLoader

from margipose.cli import main
from margipose.data import PoseDataset, load_records
from margipose.data.images import read_image
from margipose.prepare import lsp
from margipose.spec import InputSpec
from tests.prepare.killing import prepare_until_killed


def photo(number, suffix=".jpg"):
    image = np.full((30, 40, 3), number % 200, np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


@functools.cache  # the file says at which second it was written
def mat(count, order=(0, 1, 2)):
    joints = np.ones((14, 3, count))
    joints[:, :2] = np.random.default_rng(0).uniform(1, 28, (14, 2, count))
    file = io.BytesIO()
    savemat(file, {"joints": joints.transpose(order)})
    return file.getvalue()


def official(count=2000):
    """Members of lsp_dataset.zip, which has pictures of the skeletons, too."""
    files = {"joints.mat": mat(count, (1, 0, 2)), "README.txt": b"text"}
    drawn = photo(199)
    for n in range(1, count + 1):
        files[f"images/im{n:04d}.jpg"] = photo(n)
        files[f"visualized/im{n:04d}.jpg"] = drawn
    return files


def extended(count=1200, folder="", suffix=".jpg"):
    files = {f"{folder}im{n:05d}{suffix}": photo(n, suffix) for n in range(1, count + 1)}
    return {**files, f"{folder.removesuffix('images/')}joints.mat": mat(count)}


def packed(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def unpacked(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def tarred(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def prepare(src, dest):
    return main(["prepare", "lsp", str(src), str(dest), "--workers", "1"])


def contents(folder):
    """Every file but the report."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "lsp_report.json"
    }


def test_from_the_archive_to_a_batch(tmp_path, capsys):
    src = packed(tmp_path / "lsp_dataset.zip", official())
    assert prepare(src, tmp_path / "lsp") == 0
    assert "2,000 photos" in capsys.readouterr().out
    records = load_records("lsp", tmp_path / "lsp", "test")
    assert len(records) == 1000
    assert read_image(records.images[0]).mean() == pytest.approx(1001 % 200, abs=1)  # not the drawn one
    batch = next(iter(DataLoader(PoseDataset(records, InputSpec(32, 32)), 4)))
    assert batch.image.shape == (4, 3, 32, 32)
    assert batch.valid.any()
    assert prepare(src, tmp_path / "lsp") == 0
    assert "to do: 0 parts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "name"), [(packed, "lspet_dataset.zip"), (tarred, "lspet.tgz"), (unpacked, "lspet")]
)
def test_every_form_of_the_download_gives_the_same(tmp_path, make, name):
    files = extended(40, "somewhere/images/")  # once, as MATLAB's files tell the time
    src = make(tmp_path / name, files)
    assert prepare(src, tmp_path / "out") == 0
    expected = {name.removeprefix("somewhere/"): data for name, data in files.items()}
    found = contents(tmp_path / "out")
    assert json.loads(found.pop("lsp.json"))["prepared"] == "lsp"
    assert found == expected
    assert len(load_records("lspet", tmp_path / "out", "trainval")) == 40


def test_photos_of_high_resolution_lie_beside_their_labels(tmp_path):
    src = packed(tmp_path / "hr-lspet.zip", extended(20, "hr-lspet/", ".png"))
    assert prepare(src, tmp_path / "out") == 0
    assert load_records("lspet", tmp_path / "out", "train").images[0].name == "im00001.png"


def test_the_destination_may_lie_in_the_source(tmp_path, capsys):
    src = unpacked(tmp_path / "src", extended(30))
    for _ in range(2):
        assert prepare(src, src / "prepared") == 0
    assert "kept from earlier: 2 parts" in capsys.readouterr().out


def test_looking_changes_nothing(tmp_path, capsys):
    src = packed(tmp_path / "a.zip", extended())
    assert main(["prepare", "lsp", str(src), str(tmp_path / "out"), "--dry-run"]) == 0
    assert "to do: 4 parts" in capsys.readouterr().out  # 500, 500, 200 photos and the labels
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip"]


def test_goes_on_after_being_killed(tmp_path):
    src = packed(tmp_path / "a.zip", official())
    images = prepare_until_killed("lsp", src, tmp_path / "out")
    assert 20 < len(list(images.iterdir())) < 2000
    assert not (tmp_path / "out/joints.mat").exists()
    first = min(images.glob("im*"))
    before = first.stat().st_mtime_ns
    assert prepare(src, tmp_path / "out") == 0
    assert first.stat().st_mtime_ns == before
    assert prepare(src, tmp_path / "whole") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def failure(capsys, src, dest):
    assert prepare(src, dest) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images/im00007.jpg": None, "images/im00009.jpg": None}, "number 7 and 1 more are missing"),
        ({"joints.mat": None}, "expected one joints.mat, got none"),
        ({"more/joints.mat": mat(20)}, "expected one joints.mat, got .*: joints.mat and .*: more/joints.mat"),
        ({"joints.mat": mat(20)[:500]}, "joints.mat: cannot be read"),
        ({"joints.mat": b""}, "joints.mat: cannot be read"),
        ({"images/im00007.png": photo(7, ".png")}, "photo 7 is there twice"),
    ],
)
def test_incomplete_sources_are_refused(tmp_path, capsys, change, message):
    files = {k: v for k, v in {**extended(20, "images/"), **change}.items() if v is not None}
    with pytest.raises(ValueError, match=message):
        lsp.plan(packed(tmp_path / "a.zip", files), tmp_path / "out")
    assert "a.zip" in failure(capsys, tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_truncated_archives_are_named(tmp_path, capsys):
    src = packed(tmp_path / "a.zip", extended(20, "images/"))
    src.write_bytes(src.read_bytes()[:-3000])
    assert f"{src}: the archive is damaged" in failure(capsys, src, tmp_path / "out")


def test_photos_that_are_none_fail_and_the_others_are_kept(tmp_path, capsys):
    files = {**extended(1200, "images/"), "images/im00600.jpg": b"nothing"}
    src = unpacked(tmp_path / "src", files)
    assert prepare(src, tmp_path / "out") == 2
    text = capsys.readouterr()
    assert "im00600.jpg: not an image (unknown format)\n" in text.out
    assert not (tmp_path / "out/joints.mat").exists()
    assert len(list((tmp_path / "out/images").iterdir())) == 500 + 99 + 200
    (src / "images/im00600.jpg").write_bytes(photo(600))
    assert prepare(src, tmp_path / "out") == 0
    assert len(load_records("lspet", tmp_path / "out", "trainval")) == 1200


def test_another_set_needs_another_folder(tmp_path, capsys):
    prepare(packed(tmp_path / "a.zip", extended(20, "images/")), tmp_path / "out")
    capsys.readouterr()
    other = packed(tmp_path / "b.zip", extended(30, "images/"))
    assert "use another folder" in failure(capsys, other, tmp_path / "out")
    larger = packed(tmp_path / "c.zip", extended(20, "images/", ".png"))
    assert "im00001.jpg: not a photo of" in failure(capsys, larger, tmp_path / "out")
    assert not lsp.plan(tmp_path / "a.zip", tmp_path / "out").jobs
