import struct
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from margipose.infer import media
from margipose.infer.media import find_sources, open_source, passed_over

av = pytest.importorskip("av")


def write_video(path, count=12, size=(64, 48), fps=25, codec="mpeg4", turn=None, times=None, ratio=None):
    """A video whose frame i is grey of brightness 10 + 15 i, left half darker."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p" if codec != "gif" else "rgb8"
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        for i in range(count):
            image = np.full((size[1], size[0], 3), (10 + 15 * i) % 250, np.uint8)
            image[:, : size[0] // 2] //= 2
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[i], Fraction(1, 1000)
            for packet in stream.encode(frame.reformat(format=stream.pix_fmt)):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return path


def source_of(path):
    (source,) = find_sources([str(path)])
    return source


def test_what_inputs_mean(tmp_path):
    for name in ("b.JPG", "a.png", "c.mp4", "notes.txt", "sub/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    inside = find_sources([str(tmp_path)])
    assert [(s.path.name, s.kind) for s in inside] == [
        ("a.png", "image"),
        ("b.JPG", "image"),
        ("c.mp4", "video"),
    ]
    deep = find_sources([str(tmp_path / "**" / "*.jpg")])
    assert [s.path.name for s in deep] == ["d.jpg"]
    assert len(find_sources([str(tmp_path), str(tmp_path / "a.png")])) == 3  # each once
    webcams = find_sources(["webcam", "webcam:2"])
    assert [(s.kind, s.device) for s in webcams] == [("webcam", 0), ("webcam", 2)]
    assert source_of(tmp_path / "notes.txt").kind == "image"
    assert source_of(tmp_path / "absent.avi").kind == "video"
    odd = tmp_path / "odd[1].png"
    odd.write_bytes(b"x")
    assert source_of(odd).path == odd  # a file first, then a pattern


def test_results_and_hidden_files_are_no_inputs_unless_they_are_named(tmp_path):
    for name in ("a.png", "a.pose.png", "v.mp4", "v.POSE.mp4", "._a.png", "my.pose.jpg"):
        (tmp_path / name).write_bytes(b"x")
    expected = ["a.png", "my.pose.jpg", "v.mp4"]
    for inputs in (str(tmp_path), str(tmp_path / "*")):
        assert [s.path.name for s in find_sources([inputs])] == expected
    assert source_of(tmp_path / "a.pose.png").kind == "image"


def test_what_is_passed_over_is_told(tmp_path):
    for name in ("a.png", "b.HEIC", "c.heic", "d.3gp", "notes.txt", ".hidden.heic", "sub/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    words = "1 3gp (not a kind that is read), 2 heic (not a kind that is read), 1 subfolder"
    assert passed_over([str(tmp_path), str(tmp_path / "a.png"), "webcam"]) == {str(tmp_path): words}
    assert passed_over([str(tmp_path / "sub"), ""]) == {}


def test_folders_and_patterns_without_pictures_are_named(tmp_path):
    with pytest.raises(ValueError, match="no images or videos in this folder"):
        find_sources([str(tmp_path)])
    with pytest.raises(ValueError, match=r"\*\.png: matches no images or videos"):
        find_sources([str(tmp_path / "*.png")])


def test_frames_of_a_video(tmp_path):
    stream = open_source(source_of(write_video(tmp_path / "v.mp4")))
    frames = list(stream.frames)
    assert (stream.count, stream.fps) == (12, 25)
    assert [f.index for f in frames] == list(range(12))
    np.testing.assert_allclose([f.time_s for f in frames], np.arange(12) / 25, atol=1e-4)
    for i, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert abs(float(frame.image[:, 48:].mean()) - (10 + 15 * i)) < 6


def test_times_of_a_video_with_a_changing_rate(tmp_path):
    times = [0, 40, 80, 500, 540, 1000]
    path = write_video(tmp_path / "v.mkv", 6, times=times)
    assert [round(f.time_s * 1000) for f in open_source(source_of(path)).frames] == times


def test_the_first_frames_of_a_video(tmp_path):
    stream = open_source(source_of(write_video(tmp_path / "v.avi")), most_frames=3)
    assert stream.count == 3
    assert len(list(stream.frames)) == 3


@pytest.mark.parametrize(
    ("matrix", "dark"),
    [((0, 1, -1, 0), "top"), ((-1, 0, 0, -1), "right"), ((0, -1, 1, 0), "bottom"), ((1, 0, 0, 1), "left")],
)
def test_turned_videos_are_shown_upright(matrix, dark, tmp_path):
    """A telephone that is held upright stores (0, 1, -1, 0): show the picture turned clockwise."""
    path = write_video(tmp_path / "v.mp4", 6)
    data = bytearray(path.read_bytes())
    a, b, c, d = (int(v * 65536) for v in matrix)
    at = data.index(b"tkhd") + 4 + 40  # of the track header, after version, times, layer and volume
    assert struct.unpack_from(">9i", data, at) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    struct.pack_into(">9i", data, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    image = list(open_source(source_of(path)).frames)[-1].image.astype(float)
    assert image.shape == ((48, 64, 3) if dark in ("left", "right") else (64, 48, 3))
    height, width = image.shape[:2]
    sides = {
        "left": image[:, : width // 3],
        "right": image[:, -width // 3 :],
        "top": image[: height // 3],
        "bottom": image[-height // 3 :],
    }
    assert min(sides, key=lambda side: sides[side].mean()) == dark


def decoded(path):
    """How many frames came, and what was said at their end."""
    count = 0
    try:
        for _ in open_source(source_of(path)).frames:
            count += 1
    except ValueError as error:
        return count, str(error)
    return count, ""


def test_a_damaged_video_gives_what_can_be_decoded_and_then_says_so(tmp_path):
    path = write_video(tmp_path / "v.avi", 40, size=(128, 96))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 1000] = bytes(1000)
    path.write_bytes(data)
    count, said = decoded(path)
    assert 10 < count < 40
    assert f"{path}: the video is damaged: {count} frames could be decoded" in said


@pytest.mark.parametrize("name", ["v.avi", "v.mkv"])
def test_a_video_that_was_cut_off(name, tmp_path):
    path = write_video(tmp_path / name, 80, size=(128, 96))
    assert decoded(path) == (80, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count, said = decoded(path)
    assert 5 < count < 70
    assert f"{path}: the video " in said
    assert f": {count} frames" in said


@pytest.mark.parametrize("content", [b"", b"no video", b"\x00" * 5000])
def test_files_that_are_no_videos(content, tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v\.mp4: not a video that can be decoded"):
        open_source(source_of(path))
    with pytest.raises(ValueError, match=r"none\.mp4: no such file"):
        open_source(source_of(tmp_path / "none.mp4"))


def test_a_video_without_a_picture(tmp_path):
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in stream.encode(frame):
            container.mux(packet)
    with pytest.raises(ValueError, match="there is no picture in this video"):
        open_source(source_of(tmp_path / "sound.mkv"))


class Camera:
    """Stands in for OpenCV's."""

    frames, opened, released = 3, True, 0

    def __init__(self, device):
        self.device, self.left = device, self.frames

    def isOpened(self):
        return self.opened

    def get(self, what):
        return 0.0

    def read(self):
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), (255, 0, 0), np.uint8)

    def release(self):
        Camera.released += 1


def test_webcams(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    (source,) = find_sources(["webcam:1"])
    stream = open_source(source, most_frames=2)
    frames = list(stream.frames)
    assert [tuple(f.image[0, 0]) for f in frames] == [(0, 0, 255)] * 2  # RGB
    assert stream.fps == 30
    with pytest.raises(ValueError, match="gives no more pictures"):
        list(open_source(source).frames)
    assert Camera.released >= 1
    monkeypatch.setattr(Camera, "opened", False)
    with pytest.raises(ValueError, match="there is no webcam 1, or it is in use"):
        open_source(source)


def test_without_pyav_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r'pip install "margipose\[video\]"'):
        open_source(media.Source("v.mp4", "video", Path("v.mp4")))


@pytest.mark.parametrize(("ratio", "shape"), [("4/3", (48, 85, 3)), ("8/9", (54, 64, 3)), ("1", (48, 64, 3))])
def test_pixels_that_are_not_square_are_made_so(ratio, shape, tmp_path):
    path = write_video(tmp_path / "v.mp4", 2, ratio=Fraction(ratio))
    frames = [frame.image for frame in open_source(source_of(path)).frames]
    assert [image.shape for image in frames] == [shape] * 2
    # The darker left half still ends in the middle.
    edge = np.abs(np.diff(frames[1][20, :, 0].astype(int))).argmax()
    assert abs(edge + 0.5 - (shape[1] - 1) / 2) <= 1


def test_an_empty_name_is_not_the_current_folder():
    with pytest.raises(ValueError, match="an input's name is empty"):
        find_sources([""])
