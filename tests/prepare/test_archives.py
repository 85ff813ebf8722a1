import errno
import io
import os
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from margipose.prepare import archives
from margipose.prepare.archives import Member

CONTENTS = {
    "S1/a.bin": np.random.default_rng(0).bytes(300_000),
    "S1/Videos/Directions 1.54138969.mp4": b"video" * 1000,
    "empty.txt": b"",
}
NAMES = ["a.zip", "stored.zip", "a.tar", "a.tgz", "a.tar.gz"]


def make(folder, name, contents=CONTENTS):
    """An archive or, for no name, a tree."""
    path = folder / name
    if name.endswith(".zip"):
        kind = zipfile.ZIP_STORED if name.startswith("stored") else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.mkdir("S1") if hasattr(archive, "mkdir") else None
            for key, value in contents.items():
                archive.writestr(key, value)
    elif name:
        with tarfile.open(path, "w:gz" if "gz" in name else "w") as archive:
            folder_info = tarfile.TarInfo("S1")
            folder_info.type = tarfile.DIRTYPE
            archive.addfile(folder_info)
            for key, value in contents.items():
                info = tarfile.TarInfo(key)
                info.size = len(value)
                archive.addfile(info, io.BytesIO(value))
    else:
        for key, value in contents.items():
            (path / key).parent.mkdir(parents=True, exist_ok=True)
            (path / key).write_bytes(value)
    return path


@pytest.mark.parametrize("name", [*NAMES, ""])
def test_members_are_the_same_however_they_are_packed(tmp_path, name):
    path = make(tmp_path, name)
    assert archives.containers(path) == [path]
    found = archives.members(path)
    assert {m.name: m.size for m in found} == {k: len(v) for k, v in CONTENTS.items()}
    for member in found:
        assert member.container == path
        with archives.open_member(member) as file:
            assert file.seekable()
            assert file.read() == CONTENTS[member.name]
            file.seek(2)
            assert file.read(5) == CONTENTS[member.name][2:7]
            file.seek(0, 2)
            assert file.tell() == member.size
        assert str(member).startswith(str(path))
        assert str(member).endswith(member.name)


@pytest.mark.parametrize("name", ["a.tar", "a.tgz"])
def test_streaming_gives_members_as_they_come_by(tmp_path, name):
    path = make(tmp_path, name)
    got, positions = {}, []
    for passing in archives.stream(path, lambda n: n != "S1/a.bin"):
        with passing.open() as file:
            assert file.seekable()
            got[passing.member.name] = file.read()
        positions.append(passing.position)
    assert got == {k: v for k, v in CONTENTS.items() if k != "S1/a.bin"}
    assert positions == sorted(positions)
    assert positions[-1] <= path.stat().st_size
    # Unopened members are passed over.
    assert [p.member.name for p in archives.stream(path)] == list(CONTENTS)


def test_large_members_go_to_a_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_IN_MEMORY", 1000)
    path = make(tmp_path, "a.tgz")
    for passing in archives.stream(path):
        with passing.open() as file:
            assert file.read() == CONTENTS[passing.member.name]


def test_a_folder_holds_its_files_and_archives(tmp_path):
    make(tmp_path, "")
    (tmp_path / "sub").mkdir()
    tgz, inner = make(tmp_path, "A.TGZ"), make(tmp_path / "sub", "b.zip")
    assert archives.containers(tmp_path) == [tmp_path, tgz, inner]
    assert Member(tmp_path, "S1/a.bin", 300_000) in archives.members(tmp_path)
    assert [archives.is_streamed(c) for c in (tmp_path, tgz, inner)] == [False, True, False]


def test_a_folder_in_a_source_can_be_left_out(tmp_path, monkeypatch):
    dest = tmp_path / "src" / "dest"
    for folder in (tmp_path / "src", dest, tmp_path / "src" / "dest2"):
        make(folder, "", {"a": b"1"})
        make(folder, "a.zip", {"a": b"1"})
    monkeypatch.chdir(tmp_path)
    for without in (dest, "src/dest", "src/dest2/../dest"):
        found = archives.containers("src", without)
        assert [str(c) for c in found] == ["src", "src/a.zip", "src/dest2/a.zip"]
        names = [m.name for m in archives.members(found[0], without)]
        assert sorted(names) == ["a", "a.zip", "dest2/a", "dest2/a.zip"]
    assert len(archives.containers("src")) == 4
    assert len(archives.members(Path("src"))) == 6


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path, "")
    (tmp_path / "S1" / "back").symlink_to(tmp_path)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.bin").write_bytes(b"b")
    (tmp_path / "link").symlink_to(elsewhere)
    assert sorted(m.name for m in archives.members(tmp_path)) == sorted([*CONTENTS, "link/b.bin"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 0.999])
def test_truncated_archives_are_named(tmp_path, name, share):
    whole = make(tmp_path, name)
    data = whole.read_bytes()
    path = tmp_path / f"cut-{name}"
    length = int(share * len(data)) if name != "a.tar" or share < 0.9 else 200_000
    path.write_bytes(data[:length])
    with pytest.raises(ValueError, match=rf"cut-{name}: the archive is damaged or incomplete") as error:
        for member in archives.members(path):
            with archives.open_member(member) as file:
                file.read()
    assert "\n" not in str(error.value)


def test_what_came_before_the_damage_is_good(tmp_path):
    path = make(tmp_path, "a.tgz", {f"{i}.bin": np.random.default_rng(i).bytes(200_000) for i in range(40)})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    got = []
    with pytest.raises(ValueError, match="damaged or incomplete"):
        for passing in archives.stream(path):
            with passing.open() as file:
                got.append(file.read())
    assert 15 < len(got) < 20
    assert all(value == np.random.default_rng(i).bytes(200_000) for i, value in enumerate(got))


def test_changed_bytes_are_noticed(tmp_path):
    for name in ("a.tgz", "a.zip"):
        path = make(tmp_path, name)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"{name}: the archive is damaged"):
            for member in archives.members(path):
                with archives.open_member(member) as file:
                    file.read()


def test_damage_to_what_is_not_compressed_is_noticed(tmp_path):
    """It comes to light while the member is read, by whomever."""
    path = make(tmp_path, "stored.zip", {"big": b"1" * 300_000})
    path.write_bytes(path.read_bytes().replace(b"1111", b"1121", 1))
    (member,) = archives.members(path)
    message = rf"^{path}: the archive is damaged or incomplete \(Bad CRC"
    with archives.open_member(member) as file, pytest.raises(ValueError, match=message):
        file.read()
    with (
        archives.open_member(member) as file,
        pytest.raises(ValueError, match=message),
        archives.as_path(file),
    ):
        pass


def test_files_that_cannot_be_read_to_their_end_are_named(tmp_path):
    """Such as those of a disk that fails, or the memory of a process."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs a file that opens but cannot be read")
    (tmp_path / "a.cdf").symlink_to("/proc/self/mem")
    message = rf"^{tmp_path}/a\.cdf: cannot be read \(Input/output error\)"
    with archives.open_member(Member(tmp_path, "a.cdf", 1)) as file, pytest.raises(ValueError, match=message):
        file.read()


def test_a_full_folder_of_temporary_files_is_named(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    message = rf"No space left on device: '{tmp_path}'"
    with pytest.raises(OSError, match=message), archives.as_path(io.BytesIO(b"")):
        pass


def test_an_archive_that_is_replaced_is_read_anew(tmp_path):
    path = make(tmp_path, "a.zip", {"a": b"1"})
    assert [m.name for m in archives.members(path)] == ["a"]
    make(tmp_path, "a.zip", {"b": b"22"})
    assert [m.name for m in archives.members(path)] == ["b"]


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_names_that_climb_out_are_only_names(tmp_path, name):
    folder = tmp_path / "in"
    folder.mkdir()
    path = make(folder, name, {"../../climbed.txt": b"x", "/root.txt": b"y"})
    before = sorted(tmp_path.rglob("*"))
    contents = []
    for member in archives.members(path):
        with archives.open_member(member) as file, archives.as_path(file, ".txt") as copy:
            assert copy.name == "copy.txt"
            contents.append(copy.read_bytes())
    assert contents == [b"x", b"y"]
    assert not copy.exists()
    assert sorted(tmp_path.rglob("*")) == before


def test_links_in_archives_are_left_alone(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    assert archives.members(path) == []


def test_sources_that_are_none(tmp_path):
    (tmp_path / "a.rar").touch()
    with pytest.raises(
        ValueError, match=r"a\.rar: expected a folder or an archive .*, got a file that is none"
    ):
        archives.containers(tmp_path / "a.rar")
    with pytest.raises(ValueError, match=r"none: expected a folder or an archive .*, got nothing there"):
        archives.containers(tmp_path / "none")
    with (
        pytest.raises(ValueError, match="gone: cannot be read"),
        archives.open_member(Member(tmp_path, "gone", 3)),
    ):
        pass
    path = make(tmp_path, "a.tgz")
    with (
        pytest.raises(ValueError, match="expected a member 'gone'"),
        archives.open_member(Member(path, "gone", 3)),
    ):
        pass
