"""Human3.6M from files as they are downloaded, written by the tests themselves, to a batch."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import av
import cdflib.cdfwrite
import cv2
import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from margipose import jobs
from margipose.cli import main
from margipose.data import PoseDataset, load_records
from margipose.data.h36m_sequences import BASE_NAMES, BROKEN_VIDEOS, CAMERAS
from margipose.prepare import h36m, h36m_sequence
from margipose.prepare.h36m_poses import Sampling, fit_intrinsics, read_pose
from margipose.skeleton import H36M
from margipose.spec import InputSpec

ROOT = Path(__file__).parents[2]
SIZE = 160  # px; the cameras are those of the real set, scaled to it
KINDS = ("D2_Positions", "D3_Positions_mono", "D3_Positions_mono_universal")
UNIVERSAL = 0.9


def intrinsics(camera):
    """fx, cx, fy, cy."""
    i = CAMERAS.index(camera)
    return np.array([1145 + i, 512.5 - i, 1143 + 2 * i, 515.5]) * SIZE / 1000


def world_poses(n, seed, speed=30.0):
    """N x 32 x 3 mm: someone who stands, with a right wrist that moves `speed` mm per frame, to and fro."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-1, 1, (32, 3)) * (300, 800, 300)
    poses = np.repeat(pose[None], n, 0)
    poses[:, H36M.index("right_wrist"), 0] += speed * (70 - np.abs(np.arange(n) % 140 - 70))
    return poses


def seen_by(poses, camera):
    """In camera space: a rigid motion."""
    angle = np.radians(90 * CAMERAS.index(camera))
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return poses @ turn.T + (0, 0, 5000)


def projected(poses, camera):
    fx, cx, fy, cy = intrinsics(camera)
    return poses[..., :2] / poses[..., 2:] * (fx, fy) + (cx, cy)


def write_cdf(path, values, dtype="float32"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    values = np.asarray(values, dtype)
    kind = {"float32": 44, "float64": 45}[dtype]  # CDF_FLOAT, CDF_DOUBLE
    spec = {
        "Variable": "Pose",
        "Data_Type": kind,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(values.shape[1:]),
        "Compress": 6,
    }
    with cdflib.cdfwrite.CDF(str(path), {"Compressed": 0}) as cdf:
        cdf.write_var(spec, var_data=values)


def picture(camera, i):
    """A brightness for the camera, a bar that moves with the frame."""
    image = np.full((SIZE, SIZE, 3), 40 + 40 * CAMERAS.index(camera), np.uint8)
    image[:, 2 * (i % 70) : 2 * (i % 70) + 16] = (250, 60, 20)
    return image


def write_video(path, camera, n):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width = stream.height = SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for i in range(n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(camera, i), format="rgb24")))
        container.mux(stream.encode())


def write_sequence(root, key, n, video_frames=None, cameras=CAMERAS):
    """The raw files of a sequence, unpacked."""
    subject, base = key[0], BASE_NAMES[key]
    world = world_poses(n, sum(key))
    for camera in cameras:
        poses = seen_by(world, camera)
        for kind, values in zip(KINDS, (projected(poses, camera), poses, poses * UNIVERSAL)):
            path = root / f"S{subject}/MyPoseFeatures/{kind}/{base}.{camera}.cdf"
            write_cdf(path, values.reshape(1, n, -1))
        video = root / f"S{subject}/Videos/{base}.{camera}.mp4"
        write_video(video, camera, n if video_frames is None else video_frames)


TRAIN, TEST = (1, 2, 1), (11, 6, 2)  # "Directions 1" and "Phoning 2"
CALIBRATION = "S1/Videos/_ALL.54138969.mp4"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The unpacked download of two sequences; do not write to it."""
    root = tmp_path_factory.mktemp("tree")
    write_sequence(root, TRAIN, 40, video_frames=37)
    write_sequence(root, TEST, 135)
    (root / CALIBRATION).write_bytes(b"the calibration sequence is left alone")
    return root


def pack(tree, root, subjects=(1, 11)):
    """The official archives of what a tree holds."""
    root.mkdir(exist_ok=True)
    for s in subjects:
        for kind in KINDS:
            with tarfile.open(root / f"Poses_{kind}_S{s}.tgz", "w:gz") as archive:
                archive.add(tree / f"S{s}/MyPoseFeatures/{kind}", f"S{s}/MyPoseFeatures/{kind}")
        with tarfile.open(root / f"Videos_S{s}.tgz", "w:gz") as archive:
            archive.add(tree / f"S{s}/Videos", f"S{s}/Videos")
    return root


@pytest.fixture(scope="module")
def archives(tree, tmp_path_factory):
    return pack(tree, tmp_path_factory.mktemp("archives"))


def prepare(src, dest, workers=1, **options):
    return jobs.run(h36m.plan(src, dest, **options), dest, workers, kind="h36m")


@pytest.fixture(scope="module")
def prepared(tree, tmp_path_factory):
    """What the tree is prepared to; do not write to it."""
    dest = tmp_path_factory.mktemp("prepared")
    report = prepare(tree, dest)
    assert not report.failed
    return dest


def contents(dest):
    """Every image, decoded, and every array of the labels, by name."""
    found = {}
    for path in sorted(dest.glob("S*/**/*")):
        name = str(path.relative_to(dest))
        if path.suffix == ".jpg":
            found[name] = cv2.imread(str(path))
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(
                    lambda key, node, name=name: found.__setitem__(
                        f"{name}:{key}", node[()] if isinstance(node, h5py.Dataset) else None
                    )
                )
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def assert_same(a, b):
    a, b = contents(a), contents(b)
    assert list(a) == list(b)
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], key)


def failed(report):
    """The only thing that failed, as one line."""
    assert len(report.failed) == 1
    note = report.failed[0]
    assert "\n" not in note.reason
    return f"{note.name}: {note.reason}"


def test_the_table_of_names_is_the_published_one(shared):
    table = json.loads((shared / "spec" / "h36m_sequences.json").read_text())
    published = {
        (int(s[1:]), *map(int, key.split("-"))): name
        for s, names in table["base_names"].items()
        for key, name in names.items()
    }
    assert dict(BASE_NAMES) == published
    assert [str(c) for c in CAMERAS] == table["cameras"]
    assert set(BROKEN_VIDEOS) <= {(*key, c) for key in BASE_NAMES for c in CAMERAS}


def test_the_table_of_names_is_complete():
    assert len(BASE_NAMES) == 7 * 15 * 2
    for subject in (1, 5, 6, 7, 8, 9, 11):
        names = [name for key, name in BASE_NAMES.items() if key[0] == subject]
        assert len(set(names)) == 30


def test_frames_are_selected_as_the_protocol_says(prepared):
    test = load_records("h36m", prepared, "test")
    by_camera = {c: test.ids["frame"][test.ids["camera"] == c].tolist() for c in CAMERAS}
    assert by_camera == {c: [1, 65, 129] for c in CAMERAS}
    train = load_records("h36m", prepared, "trainval")
    # The universal wrist moves 27 mm a frame: every second one moves 40 mm. The video has 37 frames.
    by_camera = {c: train.ids["frame"][train.ids["camera"] == c].tolist() for c in CAMERAS}
    assert by_camera == {c: list(range(1, 38, 2)) for c in CAMERAS}


def test_movement_is_measured_from_the_last_kept_frame():
    poses = world_poses(50, 0, speed=7)
    steps = Sampling(move_mm=40).select(poses)
    assert steps.tolist() == list(range(0, 50, 6))
    wandering = poses + 45 * np.sin(np.arange(50) / 3)[:, None, None]

    def plain(poses, least):
        kept = [0]
        for i in range(1, len(poses)):
            if max(np.linalg.norm(poses[i] - poses[kept[-1]], axis=-1)) >= least:
                kept.append(i)
        return kept

    assert Sampling(move_mm=40).select(wandering).tolist() == plain(wandering, 40)
    for camera in CAMERAS:
        assert (Sampling(move_mm=40).select(seen_by(wandering, camera)) == plain(wandering, 40)).all()
    assert Sampling(stride=20).select(poses).tolist() == [0, 20, 40]


@pytest.mark.parametrize(("split", "key", "n"), [("trainval", TRAIN, 19), ("test", TEST, 3)])
def test_labels_images_and_cameras_belong_together(prepared, split, key, n):
    world = world_poses(135, sum(key))
    for universal in (False, True):
        records = load_records("h36m", prepared, split, universal=universal)
        assert len(records) == 4 * n
        for row in range(len(records)):
            camera, frame = int(records.ids["camera"][row]), int(records.ids["frame"][row])
            poses = seen_by(world[frame - 1], camera) * (UNIVERSAL if universal else 1)
            np.testing.assert_allclose(records.joints_cam_mm[row], poses, atol=1e-3)
            fx, cx, fy, cy = intrinsics(camera)
            np.testing.assert_allclose(records.intrinsics[row], (fx, fy, cx, cy), rtol=1e-6)
            image = cv2.imread(str(records.images[row]))[..., ::-1].astype(int)
            off = [np.abs(image - picture(camera, frame - 1 + d)).mean() for d in range(-3, 4)]
            assert np.argmin(off) == 3
            assert off[3] < 4
        assert {k: set(records.ids[k]) for k in ("subject", "action", "subaction")} == {
            k: {v} for k, v in zip(("subject", "action", "subaction"), key)
        }


def test_the_labels_in_pixels_are_kept(prepared):
    with h5py.File(prepared / "S11" / "Phoning-2" / "annot.h5") as file:
        poses, camera = file["pose/3d"][()], file["camera"][()]
        for c in CAMERAS:
            px = projected(poses[camera == c].astype(float), c)
            np.testing.assert_allclose(file["pose/2d"][()][camera == c], px, atol=1e-3)
        assert file["pose/2d"].dtype == np.float32  # as in the download
        assert file[f"intrinsics/{CAMERAS[0]}"].attrs["rms_px"] < 1e-3


def test_a_batch_comes_out(prepared):
    dataset = PoseDataset(load_records("h36m", prepared, "trainval"), InputSpec(64, 64))
    (batch,) = DataLoader(Subset(dataset, range(0, 76, 4)), batch_size=19)
    assert batch.image.shape == (19, 3, 64, 64)
    for values in batch:
        if isinstance(values, torch.Tensor) and values.is_floating_point():
            assert values.isfinite().all()


@pytest.fixture
def two_sequences(monkeypatch):
    """A set that consists of the tests' two sequences."""
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key] for key in (TRAIN, TEST)})


@pytest.mark.parametrize("workers", [1, 2])
def test_archives_give_the_same(archives, prepared, tmp_path, two_sequences, workers):
    plan = h36m.plan(archives, tmp_path)
    assert [job.name for job in plan.jobs] == ["S1", "S11"]
    report = jobs.run(plan, tmp_path, workers)
    assert not report.failed
    assert report.done == {
        "S1": {"sequences": 1, "cameras": 4, "images": 76},
        "S11": {"sequences": 1, "cameras": 4, "images": 12},
    }
    assert_same(tmp_path, prepared)
    again = h36m.plan(archives, tmp_path)
    assert again.kept == ["S1/Directions-1", "S11/Phoning-2"]
    assert not again.jobs


def test_other_ways_to_unpack_give_the_same(tree, archives, prepared, tmp_path, two_sequences):
    mixed = tmp_path / "mixed"
    shutil.copytree(tree / "S1", mixed / "extracted" / "S1")
    for kind in KINDS:
        where = mixed / "extracted" / "S1"
        (where / "MyPoseFeatures" / kind).rename(where / f"Poses_{kind}")
    for path in archives.glob("*_S11.tgz"):
        if "D2" not in path.name:
            shutil.copy(path, mixed)
    where = "S11/MyPoseFeatures/D2_Positions"
    shutil.copytree(tree / where, mixed / where)
    for kind in ("zip", "tar"):
        shutil.make_archive(str(tmp_path / "all"), kind, tree)
    with zipfile.ZipFile(tmp_path / "stored.zip", "w") as archive:
        for path in tree.rglob("*.*"):
            archive.write(path, path.relative_to(tree))
    for i, src in enumerate((mixed, tmp_path / "all.zip", tmp_path / "all.tar", tmp_path / "stored.zip")):
        assert not prepare(src, tmp_path / str(i)).failed
        assert_same(tmp_path / str(i), prepared)


def test_plans_tell_what_is_missing_and_change_nothing(tree, tmp_path):
    dest = tmp_path / "none"
    plan = h36m.plan(tree, dest)
    assert [job.name for job in plan.jobs] == ["S1/Directions-1", "S11/Phoning-2"]
    assert not dest.exists()
    missing = dict(plan.missing)
    assert len(missing) == 29 + 29 + 5
    assert missing["S1/Directions-2"] == "expected S1/.../Directions.<camera>.*"
    assert missing["S5"] == "expected Poses_*_S5.tgz, Videos_S5.tgz, or what they hold"
    assert [n.name for n in plan.skipped] == ["S11/Directions-2 camera 54138969"]
    assert all(job.out_bytes > 1e6 for job in plan.jobs)
    every = h36m.plan(tree, dest, every_frame=True, subjects=["S1"])
    assert [job.name for job in every.jobs] == ["S1/Directions-1"]
    assert every.jobs[0].out_bytes > 4 * plan.jobs[0].out_bytes


def test_a_subjects_own_folder_is_a_source(tree, monkeypatch):
    assert [job.name for job in h36m.plan(tree / "S11", tree / "none").jobs] == ["S11/Phoning-2"]
    monkeypatch.chdir(tree / "S11")
    assert [job.name for job in h36m.plan(".", tree / "none").jobs] == ["S11/Phoning-2"]


def test_archives_that_are_missing_are_named(archives, tmp_path, two_sequences):
    src = tmp_path / "src"
    shutil.copytree(archives, src)
    (src / "Videos_S11.tgz").unlink()
    (src / "Poses_D2_Positions_S11.tgz").unlink()
    plan = h36m.plan(src, tmp_path / "d", subjects=["S1", "S11"])
    assert [job.name for job in plan.jobs] == ["S1"]
    assert list(plan.missing) == [
        ("S11", "expected Poses_D2_Positions_S11.tgz, Videos_S11.tgz, or what they hold")
    ]


def test_broken_videos_are_left_out(tmp_path, monkeypatch):
    """The known one is not looked at; the sequence is complete without it."""
    key = (11, 2, 2)
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key]})
    write_sequence(tmp_path / "src", key, 70)
    broken = tmp_path / "src/S11/Videos/Directions.54138969.mp4"
    broken.write_bytes(broken.read_bytes()[:1000])
    report = prepare(tmp_path / "src", tmp_path / "d")
    assert not report.failed
    assert report.skipped == [("S11/Directions-2 camera 54138969", "its video is damaged as published")]
    records = load_records("h36m", tmp_path / "d", "test")
    assert set(records.ids["camera"]) == set(CAMERAS[1:])
    assert h36m.plan(tmp_path / "src", tmp_path / "d").kept == ["S11/Directions-2"]


def test_samplings(tree, tmp_path):
    def frames(subject, **options):
        dest = tmp_path / str(len(list(tmp_path.iterdir())))
        prepare(tree, dest, subjects=[subject], **options)
        split = "test" if subject == "S11" else "trainval"
        records = load_records("h36m", dest, split)
        assert set(records.ids["subject"]) == {int(subject[1:])}
        return records.ids["frame"][records.ids["camera"] == CAMERAS[3]].tolist()

    assert frames("S1", every_frame=True) == list(range(1, 38))
    assert frames("S11", every_frame=True) == list(range(1, 136))
    assert frames("S1", stride=10) == [1, 11, 21, 31]
    assert frames("S1", move_mm=100) == [1, 5, 9, 13, 17, 21, 25, 29, 33, 37]
    assert frames("S11", move_mm=100) == [1, 65, 129]
    assert frames("S1", move_mm=100, stride=50)[:2] == [1, 5]
    assert frames("S11", move_mm=100, stride=50) == [1, 51, 101]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": ["S2"]}, "subjects: expected some of S1, .*, got 'S2'"),
        ({"stride": 0}, "stride: expected a whole number, at least 1, got 0"),
        ({"move_mm": float("nan")}, "move_mm: expected a positive number, got nan"),
        ({"every_frame": True, "stride": 2}, "every_frame goes with neither"),
    ],
)
def test_options_that_do_not_fit(tree, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        h36m.plan(tree, tmp_path, **options)


def start(src, dest, workers):
    command = [sys.executable, "-m", "margipose.cli", "prepare", "h36m", src, dest, "--workers", str(workers)]
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.mark.parametrize("packed", [False, True], ids=["tree", "archives"])
def test_a_killed_run_goes_on_to_the_same_result(tmp_path, packed, monkeypatch):
    key = (5, 2, 1)
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key]})
    src = tmp_path / "tree"
    write_sequence(src, key, 400)
    if packed:
        src = pack(src, tmp_path / "packed", [5])
    whole = tmp_path / "whole"
    assert not prepare(src, whole).failed
    every = len(list(whole.rglob("*.jpg")))
    assert every == 800
    dest = tmp_path / "killed"
    for share in (0.01, 0.4):
        process = start(src, dest, 2 if share < 0.1 else 1)
        end = time.monotonic() + 60
        while len(list(dest.rglob("i*.jpg"))) < share * every:
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(0.5)
        assert not list(dest.rglob("annot.h5"))
    before = {p: p.stat().st_mtime_ns for p in dest.rglob("i*.jpg")}
    assert 0.4 * every <= len(before) < every
    assert not prepare(src, dest).failed
    assert_same(dest, whole)
    assert {p: p.stat().st_mtime_ns for p in before} == before  # nothing was done twice
    assert not [p for p in dest.rglob(".*") if p.is_file()]


@pytest.fixture
def damaged(tree, tmp_path):
    """A copy of the download's first sequence, and where its second camera's files are."""
    src = tmp_path / "src"
    shutil.copytree(tree / "S1", src / "S1")
    (src / CALIBRATION).unlink()
    return src, {
        kind: src / f"S1/{'' if kind == 'Videos' else 'MyPoseFeatures/'}{kind}/Directions 1.{CAMERAS[1]}."
        f"{'mp4' if kind == 'Videos' else 'cdf'}"
        for kind in (*KINDS, "Videos")
    }


def write_wrong(path, kind, how):
    n = 2 if kind == "D2_Positions" else 3
    data = path.read_bytes()
    good = read_pose(path, "a", n) if kind != "Videos" else None
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "shape":
        write_cdf(path, good[:, :-1].reshape(1, 40, -1))
    elif how == "flat":
        write_cdf(path, good.reshape(1, -1))
    elif how == "nan":
        write_cdf(path, np.where(np.arange(32)[:, None] == 3, np.nan, good).reshape(1, 40, -1))
    elif how == "short":
        write_cdf(path, good[:10].reshape(1, 10, -1))
    elif how == "behind":
        write_cdf(path, -good.reshape(1, 40, -1))
    elif how == "other":
        write_cdf(path, (good + 30 * np.sin(np.arange(40 * 32 * n)).reshape(good.shape)).reshape(1, 40, -1))
    elif how == "long":
        write_video(path, CAMERAS[1], 70)


@pytest.mark.parametrize(
    ("kind", "how", "message"),
    [
        ("Videos", "gone", r"S1/Videos/Directions 1\.55011271\.mp4 is missing"),
        ("Videos", "cut", r"55011271\.mp4: expected a frame \d+ .* only \d+ could be decoded"),
        ("Videos", "empty", r"55011271\.mp4: expected a video that can be decoded"),
        ("Videos", "long", r"55011271\.mp4: expected about 40 frames, as of poses, got 70"),
        ("D2_Positions", "gone", r"D2_Positions/Directions 1\.55011271\.cdf is missing"),
        ("D3_Positions_mono", "cut", r"mono/Directions 1\.55011271\.cdf: .* cannot be read"),
        ("D3_Positions_mono_universal", "empty", r"universal/Directions 1\.55011271\.cdf: .* cannot be read"),
        ("D2_Positions", "shape", r"Pose of 1 x N x 64 numbers, got float32 of shape \(1, 40, 62\)"),
        ("D3_Positions_mono", "flat", r"Pose of 1 x N x 96 numbers, got float32 of shape"),
        ("D3_Positions_mono", "nan", "all finite, got NaN or infinity"),
        (
            "D3_Positions_mono",
            "short",
            r"as many poses in each file, got 40 in .*10 in S1/MyPoseFeatures/D3_Positions_mono/D",
        ),
        ("D3_Positions_mono_universal", "behind", r"universal/.*\.cdf: expected joints before the camera"),
        (
            "D2_Positions",
            "other",
            r"projects the poses to .*misses them by \d+\.\d px \(RMS; allow",
        ),
    ],
)
def test_a_bad_file_costs_its_camera_only(damaged, tmp_path, monkeypatch, kind, how, message):
    monkeypatch.setattr(h36m_sequence, "_APART", 10)
    src, paths = damaged
    whole = paths[kind].read_bytes()
    write_wrong(paths[kind], kind, how)
    report = prepare(src, tmp_path / "d")
    assert re.search(f"^S1/Directions-1 camera {CAMERAS[1]}: .*{message}", failed(report)), report.failed
    records = load_records("h36m", tmp_path / "d", "trainval")
    assert set(records.ids["camera"]) == set(CAMERAS) - {CAMERAS[1]}
    assert report.done["S1/Directions-1"]["cameras"] == 3
    # Once it is mended, the same call completes the sequence.
    paths[kind].write_bytes(whole)
    report = prepare(src, tmp_path / "d")
    assert not report.failed
    assert report.done["S1/Directions-1"]["cameras"] == 4


def test_a_few_frames_less_are_fine_but_not_none_at_all(tmp_path, monkeypatch):
    """Even where the whole sequence is shorter than what its files may differ by."""
    monkeypatch.setattr(h36m, "BASE_NAMES", {TRAIN: BASE_NAMES[TRAIN]})
    src = tmp_path / "src"
    write_sequence(src, TRAIN, 20, video_frames=15)
    path = src / f"S1/Videos/Directions 1.{CAMERAS[1]}.mp4"
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"mdat") + 8])
    assert f"camera {CAMERAS[1]}: " in failed(prepare(src, tmp_path / "d"))
    records = load_records("h36m", tmp_path / "d", "trainval")
    assert set(records.ids["camera"]) == set(CAMERAS) - {CAMERAS[1]}
    assert records.ids["frame"].max() == 15


def test_without_a_good_camera_there_are_no_labels(damaged, tmp_path):
    src, _ = damaged
    for path in src.glob("S1/Videos/*.mp4"):
        path.write_bytes(b"")
    report = prepare(src, tmp_path / "d")
    assert len(report.failed) == 4
    assert not report.done
    assert not list((tmp_path / "d").rglob("annot.h5"))


@pytest.mark.parametrize("kind", [*KINDS, "Videos"])
def test_a_truncated_archive_is_one_failure(archives, prepared, tmp_path, two_sequences, kind):
    src = tmp_path / "src"
    shutil.copytree(archives, src)
    path = next(src.glob(f"*{kind}_S1.tgz"))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    report = prepare(src, tmp_path / "d")
    assert re.search(rf"^S1/Directions-1 camera .*{kind}_S1\.tgz: the archive is damaged", failed(report))
    assert "S11" in report.done
    assert_same(tmp_path / "d" / "S11", prepared / "S11")
    path.write_bytes(data)
    assert not prepare(src, tmp_path / "d").failed
    assert_same(tmp_path / "d", prepared)


def test_an_archive_that_lacks_sequences(archives, tmp_path, monkeypatch):
    keys = [k for k in BASE_NAMES if k[0] == 1][:3]
    monkeypatch.setattr(h36m, "BASE_NAMES", {key: BASE_NAMES[key] for key in keys})
    note = failed(prepare(archives, tmp_path, subjects=["S1"]))
    assert note.startswith("S1/Directions-2 camera 54138969, S1/Directions-2 camera 55011271, ")
    assert "and 4 more: " in note
    assert "universal_S1.tgz: there is none of its files in it" in note
    assert (tmp_path / "S1" / "Directions-1" / "annot.h5").exists()


def command(src, dest, *options):
    return main(["prepare", "h36m", str(src), str(dest), "--workers", "1", *options])


def test_the_command_line(tree, prepared, tmp_path, capsys):
    dest = tmp_path / "d"
    assert command(tree, dest, "--dry-run") == 0
    out = capsys.readouterr().out
    assert re.search(r"^to do: 2 parts \(about \S+ GB needed, \S+ GB free\)$", out, re.MULTILINE)
    assert "  S9: expected Poses_*_S9.tgz, Videos_S9.tgz, or what they hold" in out
    assert not dest.exists()
    assert command(tree, dest, "--subjects", "S11") == 0
    assert "done: 1 part (1 sequences, 4 cameras, 12 images)" in capsys.readouterr().out
    before = sorted(dest.rglob("*"))
    assert command(tree, dest, "--dry-run") == 0
    assert "kept from earlier: 1 part" in capsys.readouterr().out
    assert command(tree, dest, "--stride", "2") == 2
    assert "h36m.json: expected " in capsys.readouterr().err
    assert sorted(dest.rglob("*")) == before
    assert command(tree, dest) == 0
    assert_same(dest, prepared)
    assert command(tree, dest) == 0
    assert "done: 0 parts" in capsys.readouterr().out
    report = json.loads((dest / "h36m_report.json").read_text())
    assert report["kept"] == ["S1/Directions-1", "S11/Phoning-2"]
    assert report["earlier"]["S11/Phoning-2"] == {"sequences": 1, "cameras": 4, "images": 12}


def test_the_command_line_fails_with_what_failed(damaged, tmp_path, capsys):
    src, paths = damaged
    paths["Videos"].unlink()
    assert command(src, tmp_path / "d") == 2
    captured = capsys.readouterr()
    assert (
        "  S1/Directions-1 camera 55011271: S1/Videos/Directions 1.55011271.mp4 is missing\n" in captured.out
    )
    assert captured.err.strip().splitlines()[-1] == (
        "margipose prepare: error: 1 failure, named above; what is finished is kept, and the same command "
        "tries the rest again"
    )
    assert len(load_records("h36m", tmp_path / "d", "trainval")) == 3 * 19


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_destination_that_cannot_be_written_to(tree, tmp_path, capsys, workers):
    dest = tmp_path / "d"
    assert command(tree, dest, "--subjects", "S11") == 0
    capsys.readouterr()
    (dest / "S1").write_text("in the way of a folder")
    assert command(tree, dest, "--workers", workers) == 2
    err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert re.search(r"error: S1/Directions-1: \S+/S1.*; finished parts are kept, and the same", err[-1])
    assert "Traceback" not in "".join(err)
    (tmp_path / "file").touch()
    assert command(tree, tmp_path / "file" / "d") == 2
    assert "Not a directory" in capsys.readouterr().err


def test_a_damaged_label_file_is_made_anew(tree, prepared, tmp_path):
    dest = tmp_path / "d"
    shutil.copytree(prepared, dest)
    path = dest / "S11" / "Phoning-2" / "annot.h5"
    path.write_bytes(path.read_bytes()[:500])
    plan = h36m.plan(tree, dest)
    assert plan.kept == ["S1/Directions-1"]
    jobs.run(plan, dest)
    assert_same(dest, prepared)


def test_a_full_disk_stops_the_run(tree, tmp_path, monkeypatch):
    import errno

    from margipose.prepare import video

    write, count = video.write_jpeg, []

    def limited(path, image):
        if len(count) == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        count.append(write(path, image))

    monkeypatch.setattr(video, "write_jpeg", limited)
    with pytest.raises(
        OSError, match=r"S1/Directions-1: .*img_.*\.jpg: No space left .* same command goes on"
    ):
        prepare(tree, tmp_path)
    assert len(list(tmp_path.rglob("img_*.jpg"))) == 10


@pytest.fixture
def mounted(tmp_path):
    """Mounts a file system in memory with the options that it is called with."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("file systems cannot be mounted here")
        return folder

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_really_full(tree, mounted, capsys):
    disk = mounted("size=128k")
    assert command(tree, disk, "--every-frame") == 2
    err = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    assert re.search(
        r"error: S1/Directions-1: \S+/disk\S*: No space left on device; finished parts are kept", err[-1]
    )
    images = list(disk.rglob("img_*.jpg"))
    assert images
    assert all(cv2.imread(str(p)) is not None for p in images)
    assert not list(disk.rglob(".*.jpg"))


def test_a_disk_that_is_read_only(tree, mounted, capsys):
    disk = mounted("ro")
    assert command(tree, disk) == 2
    assert "Read-only file system" in capsys.readouterr().err


def test_intrinsics_are_recovered_whatever_the_noise():
    rng = np.random.default_rng(0)
    poses = seen_by(world_poses(30, 1), CAMERAS[0]) + rng.normal(0, 200, (30, 32, 3))
    px = projected(poses, CAMERAS[0])
    exact = fit_intrinsics(px, poses)
    np.testing.assert_allclose(exact[:4], intrinsics(CAMERAS[0]), rtol=1e-9)
    assert exact.rms_px < 1e-9
    noisy = fit_intrinsics(px + rng.normal(0, 0.5, px.shape), poses)
    np.testing.assert_allclose(noisy[:4], intrinsics(CAMERAS[0]), rtol=0.02)
    assert 0.6 < noisy.rms_px < 0.8
    with pytest.raises(ValueError, match="determine a focal length"):
        fit_intrinsics(px[:, :1] * 0, poses[:, :1] * 0 + (0, 0, 1000))


def test_intrinsics_of_real_frames(frames):
    """One frame of the benchmark, whose intrinsics are known."""
    for path in sorted(frames.glob("h36m/*/*/annot.h5")):
        with h5py.File(path) as file:
            px, mm = file["pose/2d"][()], file["pose/3d"][()]
            camera = file["camera"][0]
            fx, cx, fy, cy = file[f"intrinsics/{camera}"][()]
        found = fit_intrinsics(px, mm)
        assert found.rms_px < 1
        np.testing.assert_allclose(found[:4], (fx, cx, fy, cy), rtol=0.2)
        # The labels are reproduced as well as by the known camera, or better.
        known = mm[..., :2] / mm[..., 2:] * (fx, fy) + (cx, cy) - px
        assert found.rms_px < 1.05 * np.sqrt((known**2).sum(-1).mean())
