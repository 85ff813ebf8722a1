import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from margipose.textures import PicturePool, procedural_object, procedural_texture


def rng(*seed):
    return np.random.default_rng(seed or 0)


@pytest.fixture
def folder(tmp_path):
    """One plain picture of a colour of its own per file, one of them in a subfolder."""
    (tmp_path / "more").mkdir()
    for i, name in enumerate(("a.jpg", "b.png", "more/c.JPG")):
        Image.new("RGB", (90, 60), (60 * i + 40, 20, 200)).save(tmp_path / name, quality=95)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (3, 2), (96, 96), (131, 70), (500, 900)])
def test_made_pictures_have_their_size(size):
    for i in range(25):
        texture = procedural_texture(size, rng(i))
        assert texture.shape == (size[1], size[0], 3) and texture.dtype == np.uint8
        found = procedural_object(size, rng(i))
        assert found.shape == (size[1], size[0], 4) and found.dtype == np.uint8


def test_textures_are_their_generators():
    for i in range(10):
        np.testing.assert_array_equal(
            procedural_texture((64, 48), rng(i)), procedural_texture((64, 48), rng(i))
        )
    script = (
        "import numpy, zlib; from margipose.textures import procedural_texture as t\n"
        "print(zlib.crc32(b''.join(t((64, 48), numpy.random.default_rng(i)).tobytes() for i in range(20))))"
    )
    runs = [subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)]
    runs.append(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True))
    assert runs[0].stdout == runs[1].stdout


def test_textures_are_varied():
    """In colour, contrast and detail, and no two of them alike."""
    made = np.stack([procedural_texture((96, 96), rng(1, i)) for i in range(120)]).astype(np.float32)
    assert len(np.unique(made.reshape(120, -1), axis=0)) == 120
    means = made.mean((1, 2))
    assert (means.std(0) > 30).all() and (np.abs(means.mean(0) - 127) < 50).all()
    contrast = made.mean(-1).std((1, 2))
    assert np.percentile(contrast, 10) < 20 and np.percentile(contrast, 90) > 45
    steps = np.abs(np.diff(made.mean(-1), axis=2)).mean((1, 2))
    assert np.percentile(steps, 90) > 10 * np.percentile(steps, 10)


def test_objects_are_solid_in_the_middle_with_soft_edges():
    found = [procedural_object((80, 80), rng(i)) for i in range(40)]
    opacity = np.stack([o[..., 3] for o in found])
    assert (opacity[:, 39, 39] == 255).all() and (opacity[:, 0] < 255).all()
    shares = (opacity > 127).mean((1, 2))
    assert shares.min() < 0.25 and shares.max() > 0.45
    between = ((opacity > 0) & (opacity < 255)).sum((1, 2))
    assert (between > 20).all() and (between < 0.2 * 80 * 80).all()


def test_a_pool_gives_parts_of_its_pictures(folder):
    pool = PicturePool(folder)
    assert len(pool) == 3
    seen = set()
    for i in range(30):
        texture = pool.texture((33, 47), rng(i))
        assert texture.shape == (47, 33, 3)
        colour = texture.reshape(-1, 3).mean(0)
        assert np.abs(texture - colour).max() < 3 and abs(colour[1] - 20) < 4
        seen.add(round((colour[0] - 40) / 60))
        np.testing.assert_array_equal(texture, pool.texture((33, 47), rng(i)))
    assert seen == {0, 1, 2}


def test_a_pool_keeps_proportions_and_mirrors(tmp_path):
    y, x = np.mgrid[:200, :300]
    cv2.imwrite(str(tmp_path / "ramp.png"), np.dstack([0 * x, y, x * 255 // 299]).astype(np.uint8))
    pool, slopes = PicturePool(tmp_path), []
    for i in range(20):
        texture = pool.texture((60, 60), rng(i)).astype(float)
        along_x, along_y = (
            np.diff(texture[..., 0].mean(0)).mean() * 299 / 255,
            np.diff(texture[..., 1].mean(1)).mean(),
        )
        assert abs(along_x) == pytest.approx(along_y, rel=0.05)  # source pixels per pixel, either way
        slopes.append(along_x)
    assert (
        min(slopes) < 0 < max(slopes) and 200 / 60 * 0.38 < np.abs(slopes).min() < np.abs(slopes).max() < 3.4
    )


def test_cutouts_keep_their_transparency_and_fit(tmp_path):
    picture = np.zeros((100, 50, 4), np.uint8)
    picture[:50] = (10, 200, 30, 255)
    Image.fromarray(picture).save(tmp_path / "half.png")
    found = PicturePool(tmp_path).cutout((40, 40), rng(0))
    assert found.shape == (40, 20, 4)
    assert (found[:19] == (10, 200, 30, 255)).all() and (found[21:, :, 3] == 0).all()


def test_pools_refuse_what_they_cannot_use(folder, tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        PicturePool(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty: expected pictures \(.bmp, .jpeg.*found none"):
        PicturePool(tmp_path / "empty")
    with pytest.raises(ValueError, match="expected a texture's size to be positive"):
        procedural_texture((0, 5), rng())
    data = (folder / "b.png").read_bytes()
    for damaged in (b"", b"no picture", data[: len(data) // 2]):
        only = tmp_path / f"damaged{len(damaged)}"
        only.mkdir()
        (only / "bad.png").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"bad.png: not a picture that can be decoded"):
            PicturePool(only).texture((8, 8), rng())


def test_pools_do_not_depend_on_the_working_directory(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(folder.parent)
    pool = PicturePool(folder.name)
    before = pool.texture((8, 8), rng(4))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    np.testing.assert_array_equal(pool.texture((8, 8), rng(4)), before)
