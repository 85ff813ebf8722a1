import io
import tempfile
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from margipose.prepare import video


def picture(i, size=(64, 48)):
    """A grey picture of brightness 2 i with a bright square that moves."""
    image = np.full((size[1], size[0], 3), 2 * i % 200, np.uint8)
    image[8:24, 2 + i % 30 : 18 + i % 30] = (255, 30, 30)
    return image


def write_video(path, n, codec="mpeg4", **options):
    with av.open(str(path), "w", options={k: str(v) for k, v in options.items()}) as container:
        stream = container.add_stream(codec, rate=50)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 4_000_000
        for i in range(n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(i), format="rgb24")))
        container.mux(stream.encode())
    return path


def matches(image, i):
    return np.abs(image.astype(int) - picture(i)).mean() < 6


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_wanted_frames_are_the_right_ones(tmp_path, name):
    path = write_video(tmp_path / name, 60)
    assert video.frame_count(path) == 60
    with tempfile.TemporaryFile() as copy:  # open for writing, too, as those that archives give
        copy.write(path.read_bytes())
        assert video.frame_count(copy) == 60
        assert [i for i, _ in video.frames(copy, [3])] == [3]
    for source in (path, str(path), io.BytesIO(path.read_bytes())):
        got = list(video.frames(source, [59, 0, 7, 7, 8]))
        assert [i for i, _ in got] == [0, 7, 8, 59]
        for i, image in got:
            assert image.shape == (48, 64, 3)
            assert image.dtype == np.uint8
            assert matches(image, i)
            assert not matches(image, i + 5)
    assert list(video.frames(path, [])) == []


def test_a_frame_does_not_depend_on_which_others_are_wanted(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30)
    every = dict(video.frames(path, range(30)))
    for i, image in video.frames(path, [3, 17, 29]):
        assert (image == every[i]).all()


def test_decoding_ends_with_the_last_wanted_frame(tmp_path):
    path = write_video(tmp_path / "a.avi", 60)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert [i for i, _ in video.frames(path, [0, 5])] == [0, 5]


def test_what_the_caller_raises_is_not_blamed_on_the_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", 5)
    with pytest.raises(OSError, match="disk full"):
        for _ in video.frames(path, [0, 1]):
            raise OSError("disk full")


def test_short_videos_say_how_many_frames_they_have(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    with pytest.raises(video.VideoTooShort, match=r"a\.mp4: expected a frame 20 .* only 20 could") as error:
        list(video.frames(path, [3, 20]))
    assert error.value.found == 20
    with pytest.raises(ValueError, match="expected frame numbers from 0, got -1"):
        list(video.frames(path, [-1]))


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("a.avi", {})])
def test_truncated_videos(tmp_path, name, options):
    path = write_video(tmp_path / name, 60, **options)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    got = []
    with pytest.raises(video.VideoTooShort, match=rf"{name}: expected a frame \d+ ") as error:
        got.extend(i for i, _ in video.frames(path, range(60)))
    assert "\n" not in str(error.value)
    assert 10 < error.value.found < 55


@pytest.mark.parametrize("data", [b"", b"not a video", bytes(5000)])
def test_what_is_not_a_video_is_named(tmp_path, data):
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    for call in (lambda: list(video.frames(path, [0])), lambda: video.frame_count(path)):
        with pytest.raises(ValueError, match=r"a\.mp4: expected a video that can be decoded") as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"S1\.zip: a\.mp4: expected a video"):
        list(video.frames(io.BytesIO(data), [0], "S1.zip: a.mp4"))
    with pytest.raises(ValueError, match=r"none\.mp4: expected a video"):
        list(video.frames(tmp_path / "none.mp4", [0]))


def test_a_cut_off_mp4_without_its_index_is_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", 60)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"a\.mp4: expected a video that can be decoded"):
        list(video.frames(path, [0]))


def test_sound_without_pictures_is_refused(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="there is no picture in it"):
        video.frame_count(path)


def test_images_are_written_whole(tmp_path):
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8), (9, 9), 3)
    path = tmp_path / "new" / "a.jpg"
    video.write_jpeg(path, image)
    assert np.abs(cv2.imread(str(path))[..., ::-1].astype(int) - image).mean() < 2
    size = path.stat().st_size
    video.write_jpeg(path, image, quality=50)
    assert path.stat().st_size < size
    video.write_png(tmp_path / "a.png", image)
    assert (cv2.imread(str(tmp_path / "a.png"))[..., ::-1] == image).all()
    mask = image[..., 0] > 128
    video.write_png(tmp_path / "m.png", mask)
    assert ((cv2.imread(str(tmp_path / "m.png"), cv2.IMREAD_UNCHANGED) > 0) == mask).all()
    header = (tmp_path / "m.png").read_bytes()[:26]
    assert header[24] == 1  # bits per pixel
    assert not list(tmp_path.rglob(".*"))


def test_folders_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        video.write_jpeg(Path(tmp_path, "file", "a.jpg"), picture(0))
