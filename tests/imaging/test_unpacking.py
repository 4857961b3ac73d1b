"""Archives: read when harmless, refused with a reason when not."""

from __future__ import annotations

import errno
import gzip
import io
import lzma
import os
import random
import tarfile
import tempfile
import zipfile

import numpy as np
import pytest

from jcs_ct.errors import GateCode, OutputError, StudyError
from jcs_ct.imaging import open_study, unpacking
from jcs_ct.imaging.unpacking import ArchiveLimits, unpack


def zip_of(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in members.items():
            package.writestr(name, data)
    return path


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_study_in_an_archive(write_series, tmp_path, suffix):
    series = write_series(slices=6)
    path = tmp_path / f"study.{suffix}"
    if suffix == "zip":
        zip_of(path, {f"deep/{file.name}": file.read_bytes() for file in series.files})
    else:
        with tarfile.open(path, f"w:{suffix.partition('.')[2]}") as package:
            package.add(series.folder, "deep")
    study = open_study(path)
    assert np.array_equal(study.volume.hu, series.truth)
    assert study.paths == (path,)


def test_names_in_the_archive_never_reach_the_disk(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    archive = zip_of(tmp_path / "a.zip", {"Doe^Jane/one.dcm": b"1", "two.nii.gz": b"2", ".hidden": b"3"})
    names = unpack(archive, out)
    assert {file.name: str(name) for file, name in names.items()} == {
        "000001.bin": "Doe^Jane/one.dcm",
        "000002.bin": "two.nii.gz",
    }
    assert sorted(path.name for path in out.iterdir()) == ["000001.bin", "000002.bin"]


def refused(archive, out, limits=None):
    out.mkdir(exist_ok=True)
    with pytest.raises(StudyError) as error:
        unpack(archive, out, limits)
    assert error.value.code in (GateCode.UNSUPPORTED, GateCode.UNREADABLE)
    return str(error.value)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "..\\evil", "C:\\evil"])
def test_paths_that_lead_outside(tmp_path, name):
    message = refused(zip_of(tmp_path / "slip.zip", {name: b"x"}), tmp_path / "out")
    assert "one of its paths leads outside" in message
    assert not list((tmp_path / "out").iterdir())


def test_links_in_a_tar_and_a_zip(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        with tarfile.open(tmp_path / "link.tar", "w") as package:
            info = tarfile.TarInfo("link")
            info.type, info.linkname = kind, "/etc/passwd"
            package.addfile(info)
        assert "it holds a link" in refused(tmp_path / "link.tar", tmp_path / "out")
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    zip_of(tmp_path / "link.zip", {info: "/etc/passwd"})
    assert "it holds a link" in refused(tmp_path / "link.zip", tmp_path / "out")


def test_caps_on_members_size_and_ratio(tmp_path):
    many = zip_of(tmp_path / "many.zip", {str(n): b"x" for n in range(5)})
    assert "more than 4 files" in refused(many, tmp_path / "a", ArchiveLimits(members=4))
    noise = np.random.default_rng(0).bytes(3 << 20)
    large = zip_of(tmp_path / "large.zip", {"large": noise})
    assert "caps on size and ratio" in refused(large, tmp_path / "b", ArchiveLimits(total_bytes=1 << 20))
    bomb = zip_of(tmp_path / "bomb.zip", {"bomb": bytes(100 << 20)})
    assert "caps on size and ratio" in refused(bomb, tmp_path / "c")
    assert sum(file.stat().st_size for file in (tmp_path / "c").iterdir()) < 30 << 20


@pytest.mark.parametrize("comment", [b"", b"x" * 65535])
@pytest.mark.parametrize("zip64", [False, True])
def test_a_zip_whose_list_of_members_would_fill_the_memory_is_not_begun(tmp_path, monkeypatch, zip64, comment):
    with monkeypatch.context() as written:
        if zip64:
            written.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
        with zipfile.ZipFile(tmp_path / "many.zip", "w") as package:
            for number in range(1000):
                package.writestr(f"{number}/", b"")
            package.comment = comment
    assert (b"PK\6\6" in (tmp_path / "many.zip").read_bytes()) is zip64
    assert 46_000 < unpacking._zip_list_bytes(tmp_path / "many.zip") < 60_000
    monkeypatch.setattr(unpacking, "_LIST_BYTES", 40_000)
    assert "the list of its members takes more than" in refused(tmp_path / "many.zip", tmp_path / "out")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_whose_members_unpack_without_a_bound_is_not_begun(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", method) as package:
        package.writestr("one.dcm", bytes(1 << 20))
    message = refused(tmp_path / "bomb.zip", tmp_path / "out")
    assert f"zip's method {method}, read are 8 (deflate) and 0 (none); zip it again with deflate" in message
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE], ids=["long name", "pax"])
def test_a_header_of_a_tar_that_takes_all_memory(tmp_path, kind):
    header = tarfile.TarInfo("one")
    header.type, header.size = kind, 1 << 32
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as stream:
        stream.write(header.tobuf() + bytes(4 << 20))
    assert "a header in it takes more than 1 MiB" in refused(tmp_path / "bomb.tar.gz", tmp_path / "out")


def test_folders_and_hidden_files_of_a_tar_are_counted(tmp_path):
    with tarfile.open(tmp_path / "many.tar", "w") as package:
        for number in range(5):
            package.addfile(tarfile.TarInfo(f".hidden-{number}"))
        package.addfile(tarfile.TarInfo("one"))
    message = refused(tmp_path / "many.tar", tmp_path / "out", ArchiveLimits(members=4))
    assert "more than 4 folders and hidden files" in message
    assert len(unpack(tmp_path / "many.tar", tmp_path / "out", ArchiveLimits(members=5))) == 1


def tar_of(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as package:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            package.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def test_an_xz_that_takes_much_memory(tmp_path):
    """The second of two streams asks for a dictionary of 256 MiB; the first for one of 8."""
    data = tar_of({"one": b"1" * 2000})
    large = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    path = tmp_path / "study.tar.xz"
    path.write_bytes(lzma.compress(data[:1000]) + lzma.compress(data[1000:], filters=large))
    assert "decoding it takes more than 128 MiB of memory; pack it again" in refused(path, tmp_path / "out")


def test_an_xz_in_two_streams_with_padding_is_whole_and_a_cut_one_is_not(tmp_path):
    noise = random.Random(0).randbytes(3 << 20)
    data = tar_of({".skipped": noise, "one": noise[:-100], "two": noise})
    path, out = tmp_path / "study.tar.xz", tmp_path / "out"
    out.mkdir()
    packed = lzma.compress(data[: 4 << 20]) + bytes(8) + lzma.compress(data[4 << 20 :]) + bytes(4)
    path.write_bytes(packed)
    assert [file.read_bytes() for file in unpack(path, out)] == [noise[:-100], noise]
    path.write_bytes(packed[: 5 << 20])
    assert "the archive is damaged (EOFError)" in refused(path, tmp_path / "cut")


def test_a_temporary_folder_that_is_missing_is_said(tmp_path, monkeypatch):
    archive = zip_of(tmp_path / "a.zip", {"one.dcm": b"1"})
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(OutputError, match=r"cannot write to the temporary folder: No such file .*; set TMPDIR"):
        open_study(archive)


def test_damaged_archives(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"one": np.random.default_rng(0).bytes(4000)})
    data = bytearray(archive.read_bytes())
    data[500:600] = bytes(100)
    archive.write_bytes(data)
    assert "the archive is damaged (BadZipFile)" in refused(archive, tmp_path / "out")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as package:
        info = tarfile.TarInfo("one")
        info.size = 4000
        package.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(4000)))
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(buffer.getvalue()[:2000])
    assert "the archive is damaged" in refused(cut, tmp_path / "out2")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("harm", ["cut", "cut within the header", "overwritten", "zeros"])
def test_a_tar_that_ends_between_members(tmp_path, mode, harm):
    """A cut there, and a header that was overwritten, look like the end to ``tarfile``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as package:
        for name in ("one", "two", "three"):
            info = tarfile.TarInfo(name)
            info.size = 700
            package.addfile(info, io.BytesIO(name.encode() * 300))
    data, second = bytearray(buffer.getvalue()), 3 * 512
    if harm.startswith("cut"):
        del data[second + (300 if harm == "cut within the header" else 0) :]
    else:
        data[second : second + 512] = (b"?" if harm == "overwritten" else b"\0") * 512
    path = tmp_path / "study.tar"
    path.write_bytes(gzip.compress(data) if mode == "w:gz" else data)
    with pytest.raises(StudyError, match="the archive has no end: it is cut off, or a header") as error:
        unpack(path, tmp_path)
    assert error.value.code is GateCode.TRUNCATED


def test_a_tar_with_one_block_of_zeros_at_its_end_is_whole(tmp_path):
    """Some writers leave the second one out (pax warns of it and reads)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as package:
        package.addfile(tarfile.TarInfo("one"), io.BytesIO())
    path = tmp_path / "study.tar"
    path.write_bytes(buffer.getvalue()[:1024])
    assert [str(name) for name in unpack(path, tmp_path).values()] == ["one"]


def test_a_directory_that_points_outside_the_file(tmp_path):
    archive = zip_of(tmp_path / "a.zip", {"one": b"1" * 100})
    data = bytearray(archive.read_bytes())
    offset = int.from_bytes(data[-6:-2], "little")
    data[-6:-2] = (offset + 50).to_bytes(4, "little")
    archive.write_bytes(data)
    assert "the archive is damaged (OSError)" in refused(archive, tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "code", "message"),
    [
        (errno.ENOSPC, "DISK_FULL", "the disk of the temporary folder is full: free space there"),
        (errno.EDQUOT, "DISK_FULL", "the disk of the temporary folder is full: free space there"),
        (errno.EROFS, "OUTPUT_UNWRITABLE", "temporary folder: Read-only file system; set TMPDIR"),
    ],
)
def test_a_disk_that_takes_nothing_is_not_called_damage(tmp_path, monkeypatch, number, code, message):
    def refuses(*arguments):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("jcs_ct.imaging.unpacking._copy", refuses)
    archive = zip_of(tmp_path / "a.zip", {"one": b"1" * 100})
    with pytest.raises(OutputError, match=message) as error:
        unpack(archive, tmp_path)
    assert error.value.code == code
    assert code in str(error.value)


def test_empty_archive(tmp_path):
    with pytest.raises(StudyError, match="the archive holds no files") as error:
        open_study(zip_of(tmp_path / "empty.zip", {}))
    assert error.value.code is GateCode.NO_IMAGES
