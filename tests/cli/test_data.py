import json
import subprocess
import sys

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app


def test_all_problems_of_a_manifest_are_listed_at_once_with_exit_code_2(tmp_path):
    plain = np.zeros((8, 8), dtype=np.uint8)
    plain[3, 3] = 9
    Image.fromarray(plain).save(tmp_path / "a.png")
    Image.fromarray(plain).save(tmp_path / "b.png")
    Image.fromarray(plain[:4]).save(tmp_path / "small.png")
    three = plain.copy()
    three[0, :2] = 100, 200
    Image.fromarray(three).save(tmp_path / "three.png")
    Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(tmp_path / "nan.tiff")
    lines = [
        "path,patient,label,mask,split",
        "a.png,p1,1,three.png,train",
        "b.png,p1,1,small.png,test",
        "nan.tiff,p2,0,,train",
        "missing.png,p3,0,,train",
    ]
    path = tmp_path / "slices.csv"
    path.write_text("\n".join(lines))
    command = [sys.executable, "-m", "jcs_ct", "data", "check", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "has 5 problem(s)" in done.stderr
    for problem in (
        "patient 'p1' is in the splits test, train",
        "has 4 values (0, 9, 100, 200)",
        "4x8 pixels, its image 8x8",
        "NaN",
        "no such file",
    ):
        assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_stats_describe_patients_scanners_and_lesions(tmp_path):
    mask = np.zeros((16, 16), dtype=np.uint8)
    mask[3:6, 2:9] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    lines = [
        "path,patient,label,mask,split,scanner,age,sex,thickness_mm",
        "m.png,p1,1,m.png,train,Aquilion ONE,61,f,1.0",
        "m.png,p1,1,m.png,train,Aquilion ONE,61,f,1.0",
        "m.png,p2,0,,test,uCT 780,,m,",
    ]
    path = tmp_path / "slices.csv"
    path.write_text("\n".join(lines))
    done = CliRunner().invoke(app, ["data", "stats", str(path), "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    content = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert content["tables"]["table_iii"]["rows"] == [{"scanner": "Aquilion ONE", "patients": 1}]
    age = content["tables"]["patients"]["rows"][0]
    assert (age["known"], age["not_known"], age["mean"]) == (1, 1, 61.0)
    assert content["tables"]["lesions"]["rows"][2]["maximum"] == 7
    assert content["figures"] == ["figure-7-age", "figure-7-sex", "figure-7-thickness", "figure-8"]
