from pathlib import PurePath
from random import Random

from jcs_ct.imaging.study_files import natural_key

#: z/01 and z/1 are equal but for leading zeros: their letters tell, whatever the folder listed first.
IN_ORDER = (
    *("10/x.png", "a/IM1.png", "a/im2.png", "a/im10.png", "a/im10b/0.png"),
    *("masks/7.png", "masks3/1.png", "z/01.png", "z/1.png", "Z.png"),
)


def test_numbers_count_case_does_not_and_folders_stay_together():
    given = [PurePath(name) for name in IN_ORDER]
    Random(0).shuffle(given)
    assert [str(path) for path in sorted(given, key=natural_key)] == list(IN_ORDER)
