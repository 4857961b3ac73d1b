import errno
import os
import stat
from pathlib import Path

import pytest

from jcs_ct.errors import OutputError
from jcs_ct.files import prepare_output_folder, replacing, write_text


def test_write_replaces_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "report.json"
    write_text(target, "one")
    write_text(target, "two")
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def test_failed_write_leaves_the_old_file_and_no_half_one(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    write_text(target, "old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_written_files_honour_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "report.json", "one")
        with replacing(tmp_path / "weights.safetensors") as temporary:
            temporary.touch(mode=0o600)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_full_disk_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="DISK_FULL"), replacing(tmp_path / "x.bin"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_file_in_the_way_of_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="OUTPUT_UNWRITABLE"):
        prepare_output_folder(tmp_path / "file" / "out")
