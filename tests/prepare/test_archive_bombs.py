"""Archives that would unpack to more than there is room for."""

import gzip
import io
import shutil
import tarfile
import tempfile
import zipfile
from collections import namedtuple

import pytest

from margipose.prepare import archives
from margipose.prepare.archives import Member


def tgz_of_zeros(path, size):
    info = tarfile.TarInfo("zeros.bin")
    info.size = size
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(info.tobuf())
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(archives, "_BOMB_BYTES", 1 << 20)


def test_a_streamed_bomb_is_refused_before_it_is_unpacked(tmp_path, small_limit, monkeypatch):
    path = tmp_path / "bomb.tgz"
    tgz_of_zeros(path, 64 << 20)
    written = []
    monkeypatch.setattr(
        tempfile.SpooledTemporaryFile, "write", lambda self, block: written.append(len(block)), raising=True
    )
    message = r"bomb\.tgz: the archive is damaged or incomplete \(it unpacks to more than 200 times its size"
    with pytest.raises(ValueError, match=message):
        for passing in archives.stream(path):
            with passing.open():
                pass
    assert sum(written) < 32 << 20
    with pytest.raises(ValueError, match=message):
        archives.members(path)


def test_a_bomb_in_a_zip_is_refused_before_it_is_unpacked(tmp_path, small_limit):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(32 << 20))
        archive.writestr("fine.bin", bytes(1000))
    zeros, fine = archives.members(path)
    with (
        pytest.raises(ValueError, match=r"bomb\.zip: .* unpacks to more than 200 times"),
        archives.open_member(zeros),
    ):
        pass
    with archives.open_member(fine) as file:
        assert len(file.read()) == 1000


def test_zeros_in_moderation_are_data(tmp_path):
    """The limit is about what fills disks: empty masks compress as well."""
    tgz_of_zeros(tmp_path / "a.tgz", 4 << 20)
    (member,) = archives.members(tmp_path / "a.tgz")
    assert member.size == 4 << 20


def test_a_size_that_is_not_true_is_noticed(tmp_path):
    """A zip that says of a member that it is small gives no more than that, and fails its checksum."""
    path = tmp_path / "lie.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 20))
    data = bytearray(path.read_bytes())
    real, small = (1 << 20).to_bytes(4, "little"), (1000).to_bytes(4, "little")
    path.write_bytes(data.replace(real, small))
    (member,) = archives.members(path)
    assert member.size == 1000
    with pytest.raises(ValueError, match=r"lie\.zip: the archive is damaged"), archives.open_member(member):
        pass


def test_what_does_not_fit_on_the_disk_is_refused_first(tmp_path, monkeypatch):
    path = tmp_path / "a.tgz"
    tgz_of_zeros(path, 4 << 20)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(archives, "_IN_MEMORY", 1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 1, 1 << 20))
    member = Member(path, "zeros.bin", 4 << 20)
    with pytest.raises(OSError, match="No space left on device"), archives.open_member(member):
        pass


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
@pytest.mark.parametrize("suffix", ["tar", "tgz"])
def test_what_is_no_file_is_passed_over(tmp_path, kind, suffix):
    path = tmp_path / f"a.{suffix}"
    with tarfile.open(path, "w:gz" if suffix == "tgz" else "w") as archive:
        info = tarfile.TarInfo("../device")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
        info = tarfile.TarInfo("file")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    assert [m.name for m in archives.members(path)] == ["file"]
