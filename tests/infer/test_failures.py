"""What cannot be done, in a run or from its middle on, and what is left then."""

import json
import signal
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from margipose.cli import main
from margipose.infer import Predictor, find_sources, media, recording, streaming
from margipose.infer.boxes import BoxTable
from margipose.infer.streaming import Event, FrameQueue, Stopped
from tests.infer.running import Steady, files, run_on, write_image
from tests.infer.test_media import Camera, write_video


def test_a_person_who_cannot_be_predicted_does_not_hold_up_their_batch(tmp_path):
    class Choosy(Steady):
        def __call__(self, images):
            out = super().__call__(images)
            dark = images.amax((1, 2, 3)) < 0
            out.coords_norm[dark] = np.nan
            return out

    for i in range(4):
        write_image(tmp_path / f"{i}.png")
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((60, 80, 3), np.uint8))
    predictor = Predictor(Choosy(), detector="image", refine=0)
    report = run_on(predictor, [tmp_path], tmp_path / "out", formats=("json",))
    assert len(report.problems) == 1
    assert "2.png: the network's prediction is not finite" in report.problems[0]
    assert files(tmp_path / "out") == ["0.pose.json", "1.pose.json", "3.pose.json"]


def test_one_bad_input_does_not_hold_up_the_others(tmp_path, tiny_weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("good.png")
    write_video(Path("good.mp4"), 3)
    Path("bad.jpg").write_bytes(b"\xff\xd8\xff nothing")
    Path("bad.mp4").write_bytes(b"nothing")
    cut = write_video(Path("cut.avi"), 40, size=(128, 96))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    inputs = ["bad.jpg", "bad.mp4", "absent.png", "cut.avi", "good.png", "good.mp4"]
    assert main(["infer", *inputs, "--model", str(tiny_weights), "--out", "out", "--format", "json"]) == 2
    out, err = capsys.readouterr()
    errors = [line for line in err.splitlines() if "error" in line]
    assert len(errors) == 4
    assert all(line.startswith("margipose infer: error: ") for line in errors)
    assert {e.split(": ")[2] for e in errors} == {"bad.jpg", "bad.mp4", "absent.png", "cut.avi"}
    assert "Traceback" not in err
    assert files(tmp_path / "out") == ["cut.pose.json", "good_mp4.pose.json", "good_png.pose.json"]
    document = json.loads(Path("out/cut.pose.json").read_text())
    assert 5 < len(document["frames"]) < 35
    assert "could be decoded" in document["problem"]
    assert "poses: out/cut.pose.json" in out


@pytest.mark.parametrize("broken", ["prediction", "recording"])
def test_a_video_that_fails_is_not_gone_through_for_nothing(broken, tmp_path, monkeypatch):
    monkeypatch.setattr(streaming, "QUEUED_FRAMES", 2)
    decoded, frames = [], media._video_frames

    def counted(*args):
        for frame in frames(*args):
            decoded.append(frame.index)
            yield frame

    monkeypatch.setattr(media, "_video_frames", counted)
    settings, network = {"formats": ("json",)}, Steady()
    if broken == "prediction":
        network.pose = network.pose * np.nan
    else:
        (tmp_path / "out").write_bytes(b"not a folder")
    path = write_video(tmp_path / "v.mp4", 60)
    write_image(tmp_path / "a.png")
    report = run_on(Predictor(network), [path, tmp_path / "a.png"], tmp_path / "out", **settings)
    assert len(report.problems) == 2
    assert "v.mp4: " in report.problems[0]
    assert len(decoded) < 30
    assert report.frames < 30


def refused(extra, weights, capsys):
    """What is said in one line of an image in this folder and words that do not fit."""
    write_image("a.png")
    assert main(["infer", "a.png", "--model", str(weights), *extra]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    return err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--box", "500,500,10,10"], "a.png: box: [500.0, 500.0, 10.0, 10.0] lies outside the image"),
        (["--boxes", "boxes.json"], "a.png: boxes.json has no boxes for this image"),
        (["--calibration", "cam.json"], "is no scaled version of"),
        (["--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_what_cannot_be_done_is_one_line_for_each_input(
    extra, message, tmp_path, tiny_weights, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("boxes.json").write_text('{"other.png": [[1, 2, 3, 4]]}')
    Path("cam.json").write_text('{"intrinsics": [5, 5, 5, 5], "width": 10, "height": 10}')
    assert message in refused(extra, tiny_weights, capsys)
    assert files(tmp_path) == ["a.png", "boxes.json", "cam.json"]


def test_boxes_of_images_say_nothing_about_a_video(tmp_path, predictor):
    path = write_video(tmp_path / "v.mp4", 3)
    table = BoxTable({"a.png": np.array([[5.0, 5, 30, 30]])}, "t.json")
    report = run_on(predictor, [path], tmp_path / "out", formats=("json",), table=table)
    assert report.problems == [f"{path}: t.json has no boxes for any frame, by its number from 0"]
    assert report.empty == report.written == []


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fov", "200"], "fov: expected more than 0"),
        (["--margin", "0"], "--margin: expected a positive factor"),
        (["--margin", "1.25"], "--margin goes with --box or --boxes"),
        (
            ["--runtime", "onnx", "--device", "cuda"],
            "device: ONNX Runtime computes on the CPU here, got 'cuda'",
        ),
        (["--max-frames", "0"], "--max-frames must be at least 1"),
        (["--detect-every", "-1"], "--detect-every must be at least 0"),
        (["--camera-id", "3"], "--camera-id goes with --calibration"),
        (["--out", "a.png"], "--out: a.png is a file, expected a folder"),
        (["--refine", "-1"], "refine: expected at least 0"),
        (["--boxes", "none.csv"], "none.csv: cannot be read"),
        (["--detector", "none.onnx"], "none.onnx"),
    ],
)
def test_arguments_that_do_not_fit_take_one_line(extra, message, tmp_path, tiny_weights, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(extra, tiny_weights, capsys)


def test_options_that_exclude_each_other(tiny_weights, capsys):
    for extra in (
        ["--fov", "50", "--camera", "1,1,1,1"],
        ["--box", "1,1,1,1", "--detector", "hog"],
        ["--height-mm", "900", "--root-depth-mm", "3000"],
    ):
        with pytest.raises(SystemExit):
            main(["infer", "a.png", "--model", str(tiny_weights), *extra])
        assert "not allowed with argument" in capsys.readouterr().err


class Interrupted(Steady):
    """Is told to stop at its twelfth batch."""

    def __call__(self, images):
        answer = super().__call__(images)
        if len(self.batches) == 12:
            raise KeyboardInterrupt
        return answer


def test_ctrl_c_leaves_nothing_half_written(tmp_path, predictor):
    path = write_video(tmp_path / "v.mp4", 40)
    write_image(tmp_path / "a.png")
    threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        run_on(
            Predictor(Interrupted(), detector="image"),
            [tmp_path / "a.png", path],
            tmp_path / "out",
            formats=("json", "overlay"),
        )
    assert set(files(tmp_path / "out")) <= {"a.pose.json", "a.pose.png"}
    assert threading.active_count() == threads


class Terminated(Steady):
    def __call__(self, images):
        signal.raise_signal(signal.SIGTERM)
        return super().__call__(images)


def test_sigterm_leaves_nothing_half_written(tmp_path, monkeypatch, capsys):
    path = write_video(tmp_path / "v.mp4", 40)
    before = signal.getsignal(signal.SIGTERM)
    predictor = Predictor(Terminated(), detector="image")
    monkeypatch.setattr("margipose.infer.Predictor", lambda *_, **__: predictor)
    assert main(["infer", str(path), "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "margipose infer: interrupted\n"
    assert not (tmp_path / "out").exists() or files(tmp_path / "out") == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_ends_a_webcam_s_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "frames", 10**6)
    predictor = Predictor(Interrupted(), detector="image")
    report = run_on(predictor, ["webcam"], tmp_path / "out", formats=("json", "overlay"))
    assert report.problems == []
    assert files(tmp_path / "out") == ["webcam0.pose.json", "webcam0.pose.mp4"]
    document = json.loads((tmp_path / "out" / "webcam0.pose.json").read_text())
    assert len(document["frames"]) >= 10


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, predictor, monkeypatch):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    add = recording.Outputs.add

    def full(self, frame, people):
        if self._writers[0]._path.name == "a.pose.json":
            raise OSError(28, "No space left on device")
        add(self, frame, people)

    monkeypatch.setattr(recording.Outputs, "add", full)
    report = run_on(predictor, [tmp_path], tmp_path / "out", formats=("json", "overlay"))
    assert len(report.problems) == 1
    assert "a.png: " in report.problems[0]
    assert "No space left" in report.problems[0]
    assert files(tmp_path / "out") == ["b.pose.json", "b.pose.png"]


def test_a_queue_holds_frames_back_until_there_is_room():
    stop = threading.Event()
    queue = FrameQueue(stop)
    source = find_sources(["a.png"])[0]
    large = Event(source, frame=media.Frame(np.broadcast_to(np.uint8(0), (5000, 6000, 3)), 0, 0.0))
    small = Event(source, frame=media.Frame(np.zeros((2, 2, 3), np.uint8), 0, 0.0))
    queue.put(large)
    waiting = threading.Thread(target=lambda: queue.put(large), daemon=True)
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()  # two of them are more than fit
    events = iter(queue)
    assert next(events) is large
    waiting.join(2)
    assert not waiting.is_alive()
    queue.put(Event(source), latest=True)  # an end takes no room
    queue.put(small, latest=True)  # and takes the place of the frame that waits
    live = find_sources(["webcam"])[0]
    for number in range(3):
        queue.put(Event(live, frame=media.Frame(small.frame.image, number, 0.0)), latest=True)
    queue.put(None)
    rest = list(events)
    assert [e.frame is None for e in rest] == [True, False, False]
    assert [(e.source, e.frame.index) for e in rest[1:]] == [(source, 0), (live, 2)]  # others' frames stay
    stop.set()
    with pytest.raises(Stopped):
        queue.put(small, latest=True)
    with pytest.raises(Stopped):
        next(iter(queue))
