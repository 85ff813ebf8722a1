import json
import os
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from margipose import checkpoint
from margipose.cli import main
from margipose.infer import Detections, Predictor, Smoothing, find_sources, given_camera, media
from margipose.infer.boxes import BoxTable
from margipose.infer.intrinsics import camera_from_fov
from margipose.infer.pipeline import _names
from margipose.skeleton import CANONICAL
from margipose.weights.shipped import sha256
from tests.infer import made
from tests.infer.running import Steady, files, run_on, write_image
from tests.infer.test_bvh import read_bvh
from tests.infer.test_media import write_video


def test_images_in_every_format(predictor, tmp_path):
    write_image(tmp_path / "a.png")
    out = tmp_path / "new" / "folder"
    boxes = [[5, 5, 40, 40], [30, 20, 30, 30]]
    report = run_on(
        predictor, [tmp_path / "a.png"], out, formats=("json", "npz", "bvh", "overlay"), boxes_px=boxes
    )
    assert files(out) == ["a.person0.bvh", "a.person1.bvh", "a.pose.json", "a.pose.npz", "a.pose.png"]
    assert sorted(p.name for p in report.written) == files(out)
    assert (report.frames, report.people, report.problems) == (1, 2, [])
    document = json.loads((out / "a.pose.json").read_text())
    assert document["format"] == "margipose-poses-2"
    assert (document["width"], document["height"]) == (80, 60)
    assert document["joint_names"] == list(CANONICAL.joints)
    assert [p["box_px"] for p in document["people"]] == boxes
    assert document["people"][0]["camera"].startswith("assumed")
    with np.load(out / "a.pose.npz") as arrays:  # no pickles
        assert arrays["joints_cam_mm"].shape == (2, 17, 3)
        assert arrays["covariance_cam_mm2"].shape == (2, 17, 3, 3)
        assert list(arrays["joint_names"]) == list(CANONICAL.joints)
        for i, person in enumerate(document["people"]):
            for name in ("joints_px", "joints_cam_mm", "coords_norm", "confidence", "box_px"):
                np.testing.assert_allclose(arrays[name][i], person[name], rtol=1e-4, atol=1e-3)
        assert list(arrays["box"]) == ["given"] * 2
        assert np.isnan(arrays["score"]).all()
        mm = arrays["joints_cam_mm"][1]
    bvh, names, _ = read_bvh((out / "a.person1.bvh").read_text())
    root = names.index("pelvis")
    np.testing.assert_allclose(bvh[0, root], mm[made.ROOT] * (0.1, -0.1, -0.1), atol=1e-3)
    assert cv2.imread(str(out / "a.pose.png")).shape == (60, 80, 3)


@pytest.mark.parametrize("name", ["a.png", "v.mp4"])
def test_a_page_with_cubes(predictor, tmp_path, name):
    pytest.importorskip("plotly")
    path = write_image(tmp_path / name) if name == "a.png" else write_video(tmp_path / name, 3)
    report = run_on(predictor, [path], tmp_path / "out", formats=("html",))
    assert report.problems == []
    text = (tmp_path / "out" / path.with_suffix(".pose.html").name).read_text()
    assert f"People in {name}" in text
    assert ("Person 0, frame" in text) == (name == "v.mp4")


def test_outputs_of_people_who_are_gone_go(predictor, tmp_path):
    pytest.importorskip("plotly")
    path, out = write_image(tmp_path / "a.png"), tmp_path / "out"
    boxes = [[5, 5, 40, 40], [30, 20, 30, 30]]
    run_on(predictor, [path], out, formats=("bvh", "html"), boxes_px=boxes)
    others = ["a.person1.txt", "a.personal.bvh", "a2.person1.bvh"]
    for name in others:
        (out / name).touch()
    assert files(out) == sorted([*others, "a.person0.bvh", "a.person1.bvh", "a.pose.html"])
    run_on(predictor, [path], out, formats=("bvh",), boxes_px=boxes[:1])
    assert files(out) == sorted([*others, "a.person0.bvh", "a.pose.html"])
    predictor.detector = lambda image: Detections(np.zeros((0, 4)), np.zeros(0))
    run_on(predictor, [path], out, formats=("bvh", "html"))
    assert files(out) == sorted(others)


def test_images_share_batches(predictor, tmp_path):
    for i in range(11):
        write_image(tmp_path / f"{i:02}.png")
    predictor.refine = 0
    report = run_on(predictor, [tmp_path], tmp_path / "out", formats=("json",))
    assert report.frames == 11
    assert predictor.ready.network.batches == [8, 3]
    assert len(files(tmp_path / "out")) == 11


def test_a_video(predictor, tmp_path):
    path = write_video(tmp_path / "v.mp4", 12, size=(64, 48))
    out = tmp_path / "out"
    formats = ("json", "npz", "bvh", "overlay")
    report = run_on(predictor, [path], out, formats=formats, smoothing=Smoothing())
    assert files(out) == ["v.person0.bvh", "v.pose.json", "v.pose.mp4", "v.pose.npz"]
    document = json.loads((out / "v.pose.json").read_text())
    assert document["fps"] == 25
    assert document["settings"]["smoothing"].startswith("One-Euro")
    assert [f["frame"] for f in document["frames"]] == list(range(12))
    assert [[p["track"] for p in f["people"]] for f in document["frames"]] == [[0]] * 12
    assert "problem" not in document
    assert read_bvh((out / "v.person0.bvh").read_text())[0].shape == (12, 17, 3)
    drawn = media.open_source(find_sources([str(out / "v.pose.mp4")])[0])
    times = [f.time_s for f in drawn.frames]
    np.testing.assert_allclose(times, np.arange(12) / 25, atol=1e-3)
    assert (report.frames, report.people) == (12, 12)


def test_the_motions_of_a_video_stay_in_step(predictor, tmp_path):
    path = write_video(tmp_path / "v.mp4", 8)
    left, right = [2.0, 5, 20, 20], [40.0, 5, 20, 20]
    rows = {
        str(i): np.array([left, right] if i in (3, 4, 6) else [left]) + [i / 4, 0, 0, 0] for i in range(8)
    }
    run_on(predictor, [path], tmp_path / "out", formats=("bvh", "npz"), table=BoxTable(rows, "t.csv"))
    motions = [read_bvh((tmp_path / "out" / f"v.person{i}.bvh").read_text()) for i in (0, 1)]
    assert [len(joints) for joints, _, _ in motions] == [8, 7]  # up to the last frame that shows them
    with np.load(tmp_path / "out" / "v.pose.npz") as arrays:
        rows = arrays["track"] == 1
        assert arrays["frame"][rows].tolist() == [3, 4, 6]
        pelvis = arrays["joints_cam_mm"][rows][:, made.ROOT] * (0.1, -0.1, -0.1)
    joints, names, _ = motions[1]
    np.testing.assert_allclose(joints[:, names.index("pelvis")], pelvis[[0, 0, 0, 0, 1, 1, 2]], atol=1e-3)


def test_boxes_of_a_table_in_a_video_are_predicted_in_batches(predictor, tmp_path):
    path = write_video(tmp_path / "v.mp4", 12)
    rows = {str(i): np.array([[5.0 + i, 5, 30, 30]]) for i in range(12) if i != 4}
    report = run_on(predictor, [path], tmp_path / "out", formats=("json",), table=BoxTable(rows, "t.csv"))
    assert report.people == 11
    assert predictor.ready.network.batches == [8, 3]
    document = json.loads((tmp_path / "out" / "v.pose.json").read_text())
    people = [f["people"] for f in document["frames"]]
    assert people[4] == []
    assert {p["track"] for found in people for p in found} == {0}
    assert people[7][0]["box_px"] == [12, 5, 30, 30]


def test_smoothing_moves_the_pixels_with_the_joints(tmp_path):
    rng = np.random.default_rng(0)

    class Trembling(Steady):
        def __call__(self, images):
            self.pose = self.pose + rng.normal(scale=0.02, size=(17, 3))
            return super().__call__(images)

    path = write_video(tmp_path / "v.mp4", 12)
    camera = given_camera((70, 70, 32, 24))
    for smoothing, name in ((None, "raw"), (Smoothing(), "smooth")):
        predictor = Predictor(Trembling(), detector="image", refine=0)
        settings = {"formats": ("npz",), "smoothing": smoothing, "camera": lambda size: camera}
        run_on(predictor, [path], tmp_path / name, **settings)
    poses = {}
    for name in ("raw", "smooth"):
        with np.load(tmp_path / name / "v.pose.npz") as arrays:
            mm, px = arrays["joints_cam_mm"], arrays["joints_px"]
        np.testing.assert_allclose(px, mm[..., :2] / mm[..., 2:] * 70 + (32, 24), atol=0.01)
        poses[name] = mm - mm[:, made.ROOT, None]
    steps = {k: np.abs(np.diff(v, axis=0)).mean() for k, v in poses.items()}
    assert steps["smooth"] < 0.7 * steps["raw"]


def unusual_images(folder):
    """Files that people have, and the size at which they are shown."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, (30, 40), np.uint8)
    cv2.imwrite(str(folder / "grey.png"), grey)
    cv2.imwrite(str(folder / "sixteen.png"), rng.integers(0, 65535, (30, 40, 3), np.uint16))
    cv2.imwrite(str(folder / "sixteen.tiff"), rng.integers(0, 65535, (30, 40), np.uint16))
    cv2.imwrite(str(folder / "alpha.png"), rng.integers(0, 255, (30, 40, 4), np.uint8))
    cv2.imwrite(str(folder / "one.png"), grey[:1, :1])
    cv2.imwrite(str(folder / "line.png"), rng.integers(0, 255, (1, 40), np.uint8))
    Image.fromarray(grey).convert("P").save(folder / "palette.png")
    Image.fromarray(np.dstack([grey] * 3)).convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 35
    Image.fromarray(grey).save(folder / "turned.jpg", exif=exif)
    sizes = dict.fromkeys((p.name for p in folder.iterdir()), (40, 30))
    return sizes | {"one.png": (1, 1), "line.png": (40, 1), "turned.jpg": (30, 40)}


def test_images_of_every_kind(tmp_path, tiny_weights, capsys):
    sizes = unusual_images(tmp_path)
    out = tmp_path / "out"
    assert main(["infer", str(tmp_path), "--model", str(tiny_weights), "--out", str(out)]) == 0
    assert len(files(out)) == 2 * len(sizes)
    for name, size in sizes.items():
        found = [p for p in out.glob("*.json") if json.loads(p.read_text())["image"].endswith(f"/{name}")]
        document = json.loads(found[0].read_text())
        assert (document["width"], document["height"]) == size
        (person,) = document["people"]
        assert np.isfinite(person["joints_px"]).all()
        drawn = cv2.imread(str(found[0]).replace(".json", ".png"))
        assert drawn.shape == (size[1], size[0], 3)
        assert person["camera"].startswith("EXIF: 35 mm" if name == "turned.jpg" else "assumed")


def test_a_very_large_image(predictor, tmp_path):
    image = np.zeros((8_000, 12_500, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "large.jpg"), image)
    report = run_on(predictor, [tmp_path / "large.jpg"], tmp_path / "out", formats=("json", "overlay"))
    assert report.problems == []
    assert cv2.imread(str(tmp_path / "out" / "large.pose.png")).shape == (2621, 4096, 3)
    (person,) = json.loads((tmp_path / "out" / "large.pose.json").read_text())["people"]
    assert np.ptp(np.array(person["joints_px"]), axis=0).max() > 1000


def test_an_image_without_people(tmp_path, predictor):
    write_image(tmp_path / "a.png")
    predictor.detector = lambda image: Detections(np.zeros((0, 4)), np.zeros(0))
    report = run_on(
        predictor, [tmp_path / "a.png"], tmp_path / "out", formats=("json", "npz", "bvh", "overlay")
    )
    assert report.empty == [str(tmp_path / "a.png")]
    assert report.problems == []
    assert json.loads((tmp_path / "out" / "a.pose.json").read_text())["people"] == []
    assert files(tmp_path / "out") == ["a.pose.json", "a.pose.npz", "a.pose.png"]
    with np.load(tmp_path / "out" / "a.pose.npz") as arrays:  # what reads other files reads this one
        assert arrays["joints_cam_mm"].shape == (0, 17, 3)
        assert arrays["joints_cam_mm"].dtype == np.float32
        assert arrays["track"].shape == arrays["camera"].shape == (0,)


def test_what_is_there_is_left_out_on_demand(tmp_path, predictor):
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name)
    out = tmp_path / "out"
    run_on(predictor, [tmp_path / "a.png"], out, formats=("json",))
    before = (out / "a.pose.json").stat().st_mtime_ns
    report = run_on(predictor, [tmp_path], out, formats=("json",), resume=True)
    assert (report.skipped, report.frames) == (1, 1)
    assert (out / "a.pose.json").stat().st_mtime_ns == before
    assert files(out) == ["a.pose.json", "b.pose.json"]


@pytest.mark.parametrize("form", ["json", "npz"])
def test_what_is_not_whole_or_made_otherwise_is_made_again(tmp_path, predictor, form):
    (tmp_path / "other").mkdir()
    video, other = (write_video(tmp_path / name, 40, (128, 96)) for name in ("v.avi", "other/v.avi"))

    def skipped(path=video, **settings):
        report = run_on(predictor, [path], tmp_path / "out", formats=(form,), resume=True, **settings)
        assert report.skipped + bool(report.frames) == 1
        return report.skipped

    assert not skipped(most_frames=2)
    assert skipped(most_frames=2)
    assert not skipped()
    assert skipped()
    assert not skipped(smoothing=Smoothing())
    assert not skipped()
    for name, value in (("flip", True), ("refine", 0), ("height_mm", 900.0), ("root_depth_mm", 3000.0)):
        setattr(predictor, name, value)
        assert not skipped(), name
        assert skipped(), name
    for given in (
        {"follow": False},
        {"boxes_px": [[5.0, 5, 30, 30]]},
        {"boxes_px": [[5.0, 5, 30, 31]]},
        {"boxes_px": [[5.0, 5, 30, 31]], "margin": 1.5},
        {"table": BoxTable({"0": np.array([[5.0, 5, 30, 30]])}, "a table")},
        {"table": BoxTable({"1": np.array([[5.0, 5, 30, 30]])}, "a table")},
        {"camera": lambda size: camera_from_fov(50, size)},
        {"camera": lambda size: camera_from_fov(60, size)},
    ):
        assert not skipped(**given), given
        assert skipped(**given), given
    given = {"boxes_px": [[5.0, 5, 30, 30]]}  # of the first frame: others are found
    assert not skipped(**given)
    predictor.detector = lambda image: Detections(np.zeros((0, 4)), np.zeros(0))
    assert not skipped(**given)
    assert skipped(**given)
    assert not skipped(**given, detect_every=7)
    assert not skipped(other)
    whole = video.read_bytes()
    middle = len(whole) // 2
    video.write_bytes(whole[:middle] + bytes(1000) + whole[middle + 1000 :])
    assert run_on(predictor, [video], tmp_path / "out", formats=(form,)).problems
    video.write_bytes(whole)
    assert not skipped()
    (tmp_path / "out" / f"v.pose.{form}").write_bytes(b"{")
    assert not skipped()
    assert skipped()


def test_what_was_changed_since_is_made_again(tmp_path, tiny_weights):
    """Other weights or another image of the same name."""
    image = write_image(tmp_path / "a.png")
    weights = tmp_path / "model.safetensors"
    shutil.copy(tiny_weights, weights)

    def skipped():
        report = run_on(
            Predictor(weights, detector="image"), [image], tmp_path / "out", formats=("json",), resume=True
        )
        return report.skipped

    assert not skipped()
    assert skipped()
    loaded = checkpoint.load(weights)
    checkpoint.save(weights, loaded.model, loaded.input_spec, {"trained": "on"})
    assert not skipped()
    assert skipped()
    later = (tmp_path / "out/a.pose.json").stat().st_mtime + 10
    os.utime(image, (later, later))
    assert not skipped()
    about = json.loads((tmp_path / "out/a.pose.json").read_text())
    assert about["settings"]["weights_sha256"] == sha256(weights)[:16]


def test_poses_of_an_animation_are_where_their_times_are(tmp_path, predictor):
    """A video of 25 frames/s on average that shows nothing for a while."""
    times = [0, 40, 80, 500, 540, 1000]
    path = write_video(tmp_path / "v.mkv", 6, times=times)
    run_on(predictor, [path], tmp_path / "out", formats=("bvh", "json"))
    poses, _, frame_time = read_bvh((tmp_path / "out/v.person0.bvh").read_text())
    fps = json.loads((tmp_path / "out/v.pose.json").read_text())["fps"]
    assert frame_time == pytest.approx(1 / fps, abs=1e-5)
    assert len(poses) == round(1.0 * fps) + 1


def test_frames_without_boxes_are_counted(tmp_path, predictor):
    video = write_video(tmp_path / "v.mp4", 5)
    table = BoxTable({"0": np.array([[5.0, 5, 30, 30]]), "3": np.array([[5.0, 5, 30, 30]])}, "t.json")
    report = run_on(predictor, [video], tmp_path / "out", formats=("json",), table=table)
    assert report.without_boxes == {str(video): 3}
    assert report.people == 2
    other = write_video(tmp_path / "w.mp4", 5)
    with pytest.raises(ValueError, match=r"t\.json: boxes by frame are those of one video, got 2"):
        run_on(predictor, [video, other], tmp_path / "two", formats=("json",), table=table)
    assert not (tmp_path / "two").exists()


def test_positions_in_the_image_are_not_smoothed(tmp_path):
    predictor = Predictor(Steady(), detector="image")
    predictor.ready = predictor.ready._replace(dims=2)
    video = write_video(tmp_path / "v.mp4", 2)
    with pytest.raises(ValueError, match="smooth: is done in space"):
        run_on(predictor, [video], tmp_path / "out", formats=("json",), smoothing=Smoothing())


def test_a_given_box_is_of_the_first_frame(tmp_path, predictor):
    video = write_video(tmp_path / "v.mp4", 3)
    boxes = np.array([[5.0, 5, 30, 30]])
    run_on(predictor, [video], tmp_path / "out", formats=("json",), boxes_px=boxes, follow=False)
    frames = json.loads((tmp_path / "out" / "v.pose.json").read_text())["frames"]
    found = [frame["people"][0]["box"] for frame in frames]
    assert found == ["given", *["the whole image, refined"] * 2]


def test_inputs_of_the_same_name_get_outputs_of_their_own(tmp_path, predictor):
    names = {"x/a.png": "x_a_png", "y/a.png": "y_a_png", "a.jpg": "a_jpg", "b.jpg": "b"}
    names |= {"1/z/c.png": "1_z_c_png", "2/z/c.png": "2_z_c_png"}
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name)
    for number, order in enumerate((list(names), list(names)[::-1])):
        out = tmp_path / f"out{number}"
        run_on(predictor, [tmp_path / name for name in order], out, formats=("json",))
        found = {json.loads(p.read_text())["image"]: p.name for p in out.iterdir()}
        assert found == {str(tmp_path / k): f"{v}.pose.json" for k, v in names.items()}


def test_other_inputs_of_the_same_name_are_not_taken_for_done(tmp_path, predictor):
    for folder in "xyz":
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "a.png")
    for folders, skipped in (("xy", 0), ("yz", 1), ("zyx", 3)):
        inputs = [tmp_path / folder / "a.png" for folder in folders]
        report = run_on(predictor, inputs, tmp_path / "out", formats=("json",), resume=True)
        assert report.skipped == skipped
    for folder in "xyz":
        document = json.loads((tmp_path / "out" / f"{folder}_a_png.pose.json").read_text())
        assert document["image"] == str(tmp_path / folder / "a.png")


def test_names_that_folders_make_the_same(tmp_path):
    for name in ("d/b/a.png", "c/b/a.png", "c_b_a_png.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(tmp_path / name)
    sources = find_sources([str(tmp_path / n) for n in ("d/b/a.png", "c/b/a.png", "c_b_a_png.jpg")])
    assert len(set(_names(sources).values())) == 3
