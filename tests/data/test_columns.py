"""Columns that stay small: the same values as plain tensors and lists, wherever they are kept."""

import pickle
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from margipose.data.columns import ImagePaths, Repeated, StoredJoints, StoredPart, join, take
from margipose.data.records import Records
from margipose.skeleton import CANONICAL, H36M

N = 7


@pytest.fixture(params=["whole", "chunked", "float32", "big-endian"])
def stored(request, tmp_path):
    """Joints in two files, one of which has a camera dimension, and the values that they should have."""
    rng = np.random.default_rng(0)
    kind = {"float32": np.float32, "big-endian": ">f8"}.get(request.param, np.float64)
    first = rng.normal(size=(N, 32, 3)).astype(kind)
    second = rng.normal(size=(2, N, 32, 3)).astype(kind)
    chunks = {"chunks": True, "compression": "gzip"} if request.param == "chunked" else {}
    for name, values in (("a.h5", first), ("b.h5", second)):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_dataset("x/pose", data=values, **chunks)
    columns = [
        StoredJoints.of(StoredPart(tmp_path / "a.h5", "x/pose"), np.arange(N), 32),
        StoredJoints.of(StoredPart(tmp_path / "b.h5", "x/pose", (1,), 2.0), np.array([3, 1, 6]), 32),
        StoredJoints.of(StoredPart(tmp_path / "b.h5", "x/pose", (0,), 2.0, about=4), np.array([5]), 32),
    ]
    first, second = first.astype(np.float64), second.astype(np.float64)
    about = second[0, [5]][:, [4]]
    expected = [first, second[1, [3, 1, 6]] / 2, (second[0, [5]] - about) / 2 + about]
    return join(columns), torch.from_numpy(np.concatenate(expected))


def test_stored_joints_are_those_of_the_files(stored):
    column, expected = stored
    assert column.shape == expected.shape
    assert column[:].dtype == torch.float64
    for rows in (slice(None), slice(2, 9, 3), 4, -1, [8, 0, 8, 10], np.array([True, False] * 5 + [True])):
        torch.testing.assert_close(column[rows], expected[rows], rtol=0, atol=1e-15)
    torch.testing.assert_close(column[:, 3, None], expected[:, 3, None], rtol=0, atol=1e-15)
    torch.testing.assert_close(column[2, 3], expected[2, 3], rtol=0, atol=1e-15)
    torch.testing.assert_close(take(column, np.array([9, 1]))[:], expected[[9, 1]], rtol=0, atol=1e-15)
    for row in (11, -12, [0, 11]):
        with pytest.raises(IndexError):
            column[row]


def test_stored_joints_convert_when_they_are_read(stored):
    column, expected = stored
    names = H36M.indices(CANONICAL.joints)
    converted = column.converted(H36M, CANONICAL)
    assert converted.shape == (11, 17, 3)
    assert torch.equal(converted[3], column[3][names])
    # With others that were converted before, only the values can be joined.
    both = join([converted, expected[:, names]])
    torch.testing.assert_close(both, torch.cat([expected[:, names]] * 2), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dumps", [pickle.dumps, ForkingPickler.dumps])
def test_other_processes_open_the_files_themselves(stored, dumps):
    column, expected = stored
    column[:]
    again = pickle.loads(dumps(column))
    assert not again._sources
    torch.testing.assert_close(again[:], expected, rtol=0, atol=1e-15)


def test_places_of_rows_are_told(stored):
    column, _ = stored
    assert column.where(8).endswith("b.h5: key 'x/pose', at [1, 1]")


def test_a_file_that_changed_is_named(tmp_path):
    column = StoredJoints.of(StoredPart(tmp_path / "a.h5", "pose"), np.arange(3), 17)
    with pytest.raises(ValueError, match=r"a\.h5: no such file"):
        column[0]
    (tmp_path / "a.h5").write_bytes(b"no")
    with pytest.raises(ValueError, match=r"a\.h5: expected an HDF5 file"):
        column[0]


def test_repeated_values():
    a = Repeated.constant([1.0, 2.0], 3)
    b = Repeated(torch.tensor([[3.0, 4.0], [5.0, 6.0]]), torch.tensor([1, 0], dtype=torch.int32))
    both = join([a, b])
    expected = torch.tensor([[1.0, 2], [1, 2], [1, 2], [5, 6], [3, 4]])
    assert both.shape == (5, 2)
    assert torch.equal(both[:], expected)
    assert torch.equal(both[3], expected[3])
    assert torch.equal(take(both, np.array([4, 0]))[:], expected[[4, 0]])
    assert torch.equal(join([both, expected]), expected.repeat(2, 1))


def test_image_paths_are_a_sequence_of_paths():
    given = [Path("a/im1.jpg"), Path("a/b/a longer name.png"), Path("ünï/çödé.jpg"), Path("a/x.jpg")]
    column = ImagePaths.of(given)
    assert list(column) == given
    assert column == given
    assert column[-1] == given[-1]
    assert list(column[1:3]) == given[1:3]
    assert list(join([column, ImagePaths.of(["z/1.jpg"])])) == [*given, Path("z/1.jpg")]
    assert list(take(column, np.array([2, 2]))) == [given[2]] * 2
    assert column != given[:3]
    with pytest.raises(IndexError):
        column[4]
    assert list(ImagePaths.of([])) == []


def test_numbered_images():
    column = ImagePaths.numbered(["s/0", "s/1"], np.array([1, 0, 1]), np.array([7, 123456, 0]))
    assert column == [Path("s/1/img_000007.jpg"), Path("s/0/img_123456.jpg"), Path("s/1/img_000000.jpg")]
    masks = ImagePaths.numbered(["m"], 0, np.array([3]), "im%05d.png")
    assert join([column, masks])[3] == Path("m/im00003.png")
    for number in (-1, 1_000_000):
        with pytest.raises(ValueError, match=r"s/img_%06d\.jpg: expected numbers of images"):
            ImagePaths.numbered(["s"], 0, np.array([number]))


def test_records_go_to_other_processes_with_shared_memory():
    count = 5
    records = Records(
        name="x",
        skeleton=CANONICAL,
        images=[Path(f"{i}.jpg") for i in range(count)],
        joints_cam_mm=torch.randn(count, 17, 3, dtype=torch.float64),
        valid=Repeated.constant(torch.ones(17, dtype=torch.bool), count),
        intrinsics=Repeated.constant(torch.ones(4, dtype=torch.float64), count),
        ids={"frame": np.arange(count)},
    )
    assert records.ids["frame"].dtype == np.int32
    again = pickle.loads(ForkingPickler.dumps(records))
    assert again.images == records.images
    assert again.ids["frame"].tolist() == list(range(count))
    records.joints_cam_mm[2, 3] = 7  # seen there, too: nothing was copied
    assert again.joints_cam_mm[2, 3].tolist() == [7, 7, 7]
