from pathlib import PurePath
from random import Random

from jcs_ct.imaging.study_files import find_files, natural_key

#: z/01 and z/1 are equal but for leading zeros: their letters tell, whatever the folder listed first.
IN_ORDER = (
    *("10/x.png", "a/IM1.png", "a/im2.png", "a/im10.png", "a/im10b/0.png"),
    *("masks/7.png", "masks3/1.png", "z/01.png", "z/1.png", "Z.png"),
)


def test_numbers_count_case_does_not_and_folders_stay_together():
    given = [PurePath(name) for name in IN_ORDER]
    Random(0).shuffle(given)
    assert [str(path) for path in sorted(given, key=natural_key)] == list(IN_ORDER)


def test_lost_files_are_told_from_the_others_once_a_file(tmp_path, monkeypatch):
    """By how often a path is looked up: a set of all that are lost, made anew for each file, grows by the square."""
    (tmp_path / "whole.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "notes.txt").touch()
    for number in range(200):
        (tmp_path / f"im{number}.dcm").touch()
    hashed, counted = [], PurePath.__hash__
    monkeypatch.setattr(PurePath, "__hash__", lambda path: hashed.append(path) or counted(path))
    source = find_files(tmp_path)
    assert len(source.lost) == 200
    assert [path.name for path in source.others] == ["notes.txt"]
    assert len(hashed) < 5000
