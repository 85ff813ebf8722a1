"""MPII Human Pose from annotations with their real nesting, and packed images, to a batch."""

import hashlib
import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from scipy.io import savemat
from torch.utils.data import DataLoader

from margipose.camera import project
from margipose.cli import main
from margipose.data import PoseDataset, load_records
from margipose.prepare import mpii
from margipose.prepare.mpii_release import read_release
from margipose.skeleton import MPII
from margipose.spec import InputSpec
from tests.prepare.killing import prepare_until_killed

MAT = "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat"
EMPTY = np.zeros((0, 0))


def struct(*entries):
    """A MATLAB struct array 1 x N; entries lack what others have, which is then empty."""
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    array = np.empty((1, len(entries)), [(name, object) for name in names])
    for i, entry in enumerate(entries):
        for name in names:
            array[0, i][name] = entry.get(name, EMPTY)
    return array


def joint(k, **change):
    """A point at (10 + k, 20 + k); MATLAB's files have no visibility of neck and head top."""
    visible = EMPTY if k in (8, 9) else k % 2
    return {"x": 10.0 + k, "y": 20.5 + k, "id": k, "is_visible": visible, **change}


def person(joints=range(16), **change):
    points = struct({"point": struct(*[joint(k) for k in joints])}) if len(joints) else EMPTY
    head = {"x1": 10, "y1": 10, "x2": 13, "y2": 14}
    place = struct({"x": 25, "y": 30})
    return {**head, "annopoints": points, "scale": 0.1, "objpos": place, **change}


def image(name, *people):
    return {
        "image": struct({"name": name}),
        "annorect": struct(*people) if people else EMPTY,
        "frame_sec": EMPTY,
    }


TEST_PERSON = {"scale": 0.2, "objpos": struct({"x": 20, "y": 20})}


def irregular():
    """Images and whether they train, with everything that is irregular in the published file."""
    return [
        (image("a.jpg", person()), 1),
        (image("nobody.jpg"), 1),
        (image("b.jpg", person(range(6)), person([]), person(scale=EMPTY, objpos=EMPTY), person([9])), 1),
        (image("test.jpg", TEST_PERSON), 0),
        (image("test2.jpg", TEST_PERSON, TEST_PERSON), 0),
        (image("text.jpg", person(annopoints=struct({"point": struct(joint(3, is_visible="1"))}))), 1),
        (image("headless.jpg", person(x1=EMPTY, y1=EMPTY, x2=EMPTY, y2=EMPTY)), 1),
        (image("test3.jpg", {"objpos": EMPTY}), 0),
    ]


def mat(images):
    release = {
        "annolist": struct(*[entry for entry, _ in images]),
        "img_train": np.array([[train for _, train in images]], np.uint8),
        "version": "12",
        "single_person": np.array([[EMPTY] for _ in images], object),
        "act": struct(*[{"act_name": EMPTY, "act_id": -1} for _ in images]),
    }
    file = io.BytesIO()
    savemat(file, {"RELEASE": struct(release)})
    return file.getvalue()


def many(count):
    return [(image(f"{i:09d}.jpg", person(range(2)), person([3])), 1) for i in range(count)]


def photos(images):
    """Small ones, with what cannot be compressed behind them."""
    names = [str(entry["image"][0, 0]["name"]) for entry, _ in images]
    data = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    rng = np.random.default_rng(0)
    return {f"images/{name}": data + rng.bytes(50_000) for name in names}


def downloads(folder, images, pictures=None):
    """The two archives."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "mpii_human_pose_v1_u12_2.zip", "w") as archive:
        archive.writestr("mpii_human_pose_v1_u12_2/README.md", "text")
        archive.writestr(MAT, mat(images))
    with tarfile.open(folder / "mpii_human_pose_v1.tar.gz", "w:gz") as archive:
        for name, data in (photos(images) if pictures is None else pictures).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return folder


def unpacked(folder, images):
    for name, data in {f"{MAT}": mat(images), **photos(images)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def prepare(src, dest, *options):
    return main(["prepare", "mpii", str(src), str(dest), "--workers", "1", *options])


def contents(folder):
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name != "mpii_report.json"
    }


def test_irregular_entries():
    release = read_release(io.BytesIO(mat(irregular())), "x.mat")
    columns = release.columns
    trains, tests = ["a.jpg", "b.jpg", "b.jpg"], ["test.jpg", "test2.jpg", "test2.jpg"]
    assert list(release.images) == [*trains, *tests, "text.jpg", "headless.jpg"]
    assert columns["index"].tolist() == [0, 2, 2, 3, 4, 4, 5, 6]
    assert columns["person"].tolist() == [0, 0, 3, 0, 0, 1, 0, 0]
    assert columns["istrain"].tolist() == [1, 1, 1, 0, 0, 0, 1, 1]
    assert columns["scale"].tolist() == [0.1, 0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1]
    assert columns["center"][[0, 3]].tolist() == [[25, 30], [20, 20]]
    # 0.6 times the diagonal of a box of 3 x 4 pixels
    np.testing.assert_allclose(columns["normalize"], [3, 3, 3, 0, 0, 0, 3, 0])
    expected = np.stack([10.0 + np.arange(16), 20.5 + np.arange(16)], 1)
    np.testing.assert_array_equal(columns["part"][0], expected)
    np.testing.assert_array_equal(columns["part"][1], np.where(np.arange(16)[:, None] < 6, expected, 0))
    assert (columns["part"][2] != 0).any(1).tolist() == [k == 9 for k in range(16)]
    assert not columns["part"][3:6].any()
    assert columns["visible"][0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1]
    assert columns["visible"][6].tolist() == [0, 0, 0, 1, *[0] * 12]
    assert release.left_out == {"without a scale or place": 2, "without joints": 1}


def test_one_image_with_one_person():
    release = read_release(io.BytesIO(mat([(image("a.jpg", person([2])), 1)])), "x.mat")
    assert release.images == ("a.jpg",)
    assert release.columns["part"][0, 2].tolist() == [12, 22.5]


def test_from_the_archives_to_a_batch(tmp_path, capsys):
    src = downloads(tmp_path / "src", irregular())
    assert prepare(src, tmp_path / "mpii") == 0
    text = capsys.readouterr().out
    for count in ("6 photos", "3 test people", "1 people without joints", "2 people without a scale"):
        assert count in text
    with h5py.File(tmp_path / "mpii/valid.h5") as file:
        assert file.attrs["split"].startswith("not the published one")
    parts = {split: load_records("mpii", tmp_path / "mpii", split) for split in ("trainval", "test")}
    assert [len(parts[s]) for s in ("trainval", "test")] == [5, 3]
    trainval = parts["trainval"]
    assert trainval.images[1].name == "b.jpg"
    assert trainval.valid[1].tolist() == [k < 6 for k in range(16)]
    px = project(trainval.joints_cam_mm, trainval.intrinsics)
    np.testing.assert_allclose(px[0, MPII.index("head_top")], [19, 29.5])
    assert trainval.head_length_px[0] == 3
    batch = next(iter(DataLoader(PoseDataset(trainval, InputSpec(32, 32)), 5)))
    assert batch.image.shape == (5, 3, 32, 32)
    assert batch.valid.any()
    assert not parts["test"].valid.any()


def test_unpacked_files_give_the_same(tmp_path):
    prepare(downloads(tmp_path / "src", irregular()), tmp_path / "packed")
    prepare(unpacked(tmp_path / "tree", irregular()), tmp_path / "unpacked", "--workers", "2")
    found = contents(tmp_path / "unpacked")
    assert found == contents(tmp_path / "packed")
    assert "images/nobody.jpg" not in found


def test_our_own_split_is_of_whole_images_and_always_the_same(tmp_path):
    src = unpacked(tmp_path / "src", many(400))
    prepare(src, tmp_path / "out")
    validates = load_records("mpii", tmp_path / "out", "val")
    names = {p.name for p in validates.images}
    assert len(validates) == 2 * len(names)
    assert 0.07 < len(names) / 400 < 0.17
    # Never change it: results on two splits do not compare.
    assert sorted(names)[:3] == ["000000014.jpg", "000000039.jpg", "000000058.jpg"]
    for name in (f"{i:09d}.jpg" for i in range(400)):
        first = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
        assert (name in names) == (first < 0.117 * 2**32)


def published(path, values):
    with h5py.File(path, "w") as file:
        for key, value in values.items():
            file[key] = value
    return path


def test_the_published_split_is_taken_over(tmp_path, capsys):
    src = downloads(tmp_path / "src", irregular())
    name = np.array([list(b"b.jpg\0\0")], np.float64)
    values = {"index": [2.0], "person": [3.0], "imgname": name}
    valid = published(tmp_path / "valid.h5", values)
    assert prepare(src, tmp_path / "out", "--valid", str(valid)) == 0
    assert "1 validation people" in capsys.readouterr().out
    assert load_records("mpii", tmp_path / "out", "val").ids["person"].tolist() == [3]
    with h5py.File(tmp_path / "out/valid.h5") as file:
        assert file.attrs["split"].startswith("taken over from a file")
    assert prepare(src, tmp_path / "out", "--valid", str(valid)) == 0
    capsys.readouterr()
    assert prepare(src, tmp_path / "out") == 2
    assert "use another folder" in capsys.readouterr().err
    extra = published(tmp_path / "extra.h5", {"index": [2, 77], "person": [3, 0]})
    assert prepare(src, tmp_path / "extra", "--valid", str(extra)) == 0
    assert "1 validation people that are not in the annotations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"index": [2.0], "person": [3.0], "imgname": [list(b"a.jpg")]}, "image 2 is a.jpg, but b.jpg in"),
        ({"index": [77.0], "person": [0.0]}, "expected people of .*'s training images"),
        ({"index": [2.0, 3.0], "person": [0.0, 0.0]}, "expected people of .*'s training images"),
        ({"index": [0.5], "person": [0.0]}, "key 'index': expected a whole number"),
        ({"index": [0]}, "key 'person' is missing"),
        ({"index": np.zeros(0), "person": np.zeros(0)}, "expected people, got none"),
    ],
)
def test_splits_that_do_not_belong_to_it_are_refused(tmp_path, values, message):
    src = downloads(tmp_path / "src", irregular())
    valid = published(tmp_path / "valid.h5", values)
    with pytest.raises(ValueError, match=f"^{valid}: {message}"):
        mpii.plan(src, tmp_path / "out", valid=valid)


def broken(**change):
    return mat([(image("a.jpg", person(), person(**change)), 1)])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (mat(irregular())[:900], "cannot be read"),
        (broken(scale="large"), r"RELEASE.annolist\(1\).annorect\(2\).scale: expected a finite .* 'large'"),
        (broken(scale=-1.0), r"annorect\(2\).scale: expected a positive number"),
        (broken(scale=np.array([1, 2])), r"annorect\(2\).scale: expected a finite number"),
        (
            broken(annopoints=struct({"point": struct(joint(0), joint(16))})),
            r"annopoints.point\(2\): expected an id of 0 to 15, x and y, got 16",
        ),
        (
            broken(annopoints=struct({"point": struct(joint(0, x=np.nan))})),
            r"annopoints.point\(1\).x: expected a finite number",
        ),
        (mat([(image("../a.jpg", person()), 1)]), r"annolist\(1\).image.name: expected a file name"),
        (mat([(image("a.jpg"), 1), (image("b.jpg"), 1)]), "RELEASE has no people"),
    ],
)
def test_damaged_annotations_are_named(tmp_path, capsys, data, message):
    path = tmp_path / "src" / Path(MAT).name
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path}: .*{message}|^{path}: {message}") as error:
        mpii.plan(tmp_path / "src", tmp_path / "out")
    assert "\n" not in str(error.value)
    assert prepare(tmp_path / "src", tmp_path / "out") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_other_contents_are_named(tmp_path):
    file = io.BytesIO()
    savemat(file, {"RELEASE": 3})
    with pytest.raises(ValueError, match=r"^x\.mat: expected a struct RELEASE"):
        read_release(file, "x.mat")
    file = io.BytesIO()
    annolist = struct(image("a.jpg", person()), image("b.jpg", person()))
    savemat(file, {"RELEASE": struct({"annolist": annolist, "img_train": np.ones((1, 3))})})
    with pytest.raises(ValueError, match=r"^x\.mat: RELEASE\.img_train: expected 2 numbers"):
        read_release(file, "x.mat")
    with pytest.raises(ValueError, match=r"expected mpii_human_pose_v1_u12_1\.mat or"):
        mpii.plan(tmp_path, tmp_path / "out")


@pytest.mark.parametrize("packed", [True, False])
def test_missing_images(tmp_path, capsys, packed):
    if packed:
        some = {k: v for k, v in photos(irregular()).items() if k != "images/b.jpg"}
        src = downloads(tmp_path / "src", irregular(), some)
    else:
        src = unpacked(tmp_path / "src", irregular())
        (src / "images/b.jpg").unlink()
    assert prepare(src, tmp_path / "out") == 2
    text = capsys.readouterr()
    assert (
        "expected images/b.jpg, which the source has not; --allow-missing leaves their people out" in text.out
    )
    assert ("missing: 1" in text.out) == (not packed)
    assert (tmp_path / "out/images/a.jpg").exists()
    assert not (tmp_path / "out/annot.h5").exists()
    assert prepare(src, tmp_path / "other", "--allow-missing") == 0
    assert "2 people without an image" in capsys.readouterr().out
    assert len(load_records("mpii", tmp_path / "other", "trainval")) == 3


@pytest.mark.parametrize("packed", [True, False])
def test_images_that_come_later_bring_their_people(tmp_path, capsys, packed):
    images, write = many(20), downloads if packed else unpacked
    pictures = photos(images)
    src = write(tmp_path / "src", images)
    assert prepare(src, tmp_path / "whole", "--allow-missing") == 0
    if packed:
        shutil.rmtree(src)
        downloads(src, images, dict(list(pictures.items())[:12]))
    else:
        for name in list(pictures)[12:]:
            (src / name).unlink()
    for _ in range(2):  # the second time there is nothing new
        assert prepare(src, tmp_path / "out", "--allow-missing") == 0
        assert len(load_records("mpii", tmp_path / "out", "trainval")) == 24
    assert ("done: 0 parts" in capsys.readouterr().out) == (not packed)
    shutil.rmtree(src)
    write(src, images)
    assert prepare(src, tmp_path / "out", "--allow-missing") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert prepare(src, tmp_path / "out", "--allow-missing", "--dry-run") == 0
    assert "to do: 0 parts" in capsys.readouterr().out


@pytest.mark.parametrize("write", [downloads, unpacked])
def test_an_image_that_is_lost_is_restored(tmp_path, capsys, write):
    src, out = write(tmp_path / "src", many(20)), tmp_path / "out"
    assert prepare(src, out) == 0
    before = contents(out)
    (out / "images/000000003.jpg").unlink()
    assert prepare(src, out) == 0
    assert contents(out) == before
    # Where there is no source of it any more, nobody is told that all is well.
    (out / "images/000000003.jpg").unlink()
    shutil.rmtree(src)
    unpacked(src, many(20))
    (src / "images/000000003.jpg").unlink()
    capsys.readouterr()
    assert prepare(src, out) == 2
    assert "annot.h5: expected images/000000003.jpg, which the source has not" in capsys.readouterr().out
    assert (out / "annot.h5").read_bytes() == before["annot.h5"]


def test_damaged_labels_are_made_anew(tmp_path):
    src, out = unpacked(tmp_path / "src", many(20)), tmp_path / "out"
    assert prepare(src, out) == 0
    before = contents(out)
    (out / "annot.h5").write_bytes(before["annot.h5"][:500])
    assert prepare(src, out) == 0
    assert contents(out) == before


def test_a_truncated_archive_of_images(tmp_path, capsys):
    src = downloads(tmp_path / "src", many(50))
    images = src / "mpii_human_pose_v1.tar.gz"
    data = images.read_bytes()
    images.write_bytes(data[: len(data) // 2])
    assert prepare(src, tmp_path / "out") == 2
    text = capsys.readouterr().out
    assert f"{images}: the archive is damaged" in text
    assert "annot.h5: left undone" in text
    there = len(list((tmp_path / "out/images").glob("*.jpg")))
    assert 0 < there < 50
    images.write_bytes(data)
    assert prepare(src, tmp_path / "out") == 0
    assert f"{50 - there} photos" in capsys.readouterr().out


def test_looking_changes_nothing(tmp_path, capsys):
    src = downloads(tmp_path / "src", irregular())
    assert prepare(src, tmp_path / "out", "--dry-run") == 0
    assert "to do: 2 parts" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_goes_on_after_being_killed(tmp_path):
    src = downloads(tmp_path / "src", many(400))
    images = prepare_until_killed("mpii", src, tmp_path / "out")
    assert 20 < len(list(images.iterdir())) < 400
    assert not (tmp_path / "out/annot.h5").exists()
    assert prepare(src, tmp_path / "out") == 0
    assert prepare(src, tmp_path / "whole") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
