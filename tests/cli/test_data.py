import json
import subprocess
import sys

import numpy as np
from PIL import Image
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import read_manifest


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


def stats_of(lines, folder):
    """What `jcs data stats` says of a manifest's lines."""
    path = folder / "slices.csv"
    path.write_text("\n".join(lines))
    done = CliRunner().invoke(app, ["data", "stats", str(path), "-o", str(folder / "out")])
    assert done.exit_code == 0, done.output
    return json.loads((folder / "out/evaluation.json").read_text())


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
    content = stats_of(lines, tmp_path)
    assert content["tables"]["table_iii"]["rows"] == [{"scanner": "Aquilion ONE", "patients": 1}]
    age = content["tables"]["patients"]["rows"][0]
    assert (age["known"], age["not_known"], age["mean"]) == (1, 1, 61.0)
    assert content["tables"]["lesions"]["rows"][2]["maximum"] == 7
    assert content["figures"] == ["figure-7-age", "figure-7-sex", "figure-7-thickness", "figure-8"]


def test_stats_say_several_where_the_rows_of_a_patient_differ(tmp_path):
    Image.fromarray(np.zeros((16, 16), dtype=np.uint8)).save(tmp_path / "m.png")
    lines = [
        "path,patient,label,source,scanner,age,sex,thickness_mm",
        "m.png,p1,1,a,uCT 780,61,f,1.0",
        "m.png,p1,1,a,Aquilion ONE,61,,5.0",
        "m.png,p1,1,a,,,,",
        "m.png,p1,0,b,Aquilion ONE,20,m,5.0",
    ]
    tables = stats_of(lines, tmp_path)["tables"]
    assert tables["table_iii"]["rows"] == [{"scanner": "several", "patients": 1}]
    age, thickness, *sexes = tables["patients"]["rows"]
    assert (age["known"], age["several"], age["mean"]) == (2, 0, 40.5)
    assert [thickness[key] for key in ("known", "several", "not_known", "mean")] == [1, 1, 0, 5.0]
    assert [(row["quantity"], row["known"]) for row in sexes] == [("sex f", 1), ("sex m", 1)]


def test_join_names_patients_that_two_sources_share_and_makes_them_apart(tmp_path):
    for source, label, names in (("a", 1, ("001", "x")), ("b", 0, ("001", "y"))):
        rows = [f"{source}{name}.png,{name},{label},{source},{'g' if name == '001' else ''}" for name in names]
        (tmp_path / f"{source}.csv").write_text("\n".join(["path,patient,label,source,group", *rows]))
    out = tmp_path / "all.csv"
    command = ["data", "join", str(tmp_path / "a.csv"), str(tmp_path / "b.csv"), "-o", str(out)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "note: 1 patient(s) of one name in several sources: '001' (a, b); " in done.stderr
    done = CliRunner().invoke(app, [*command, "--prefix-source"])
    assert "several sources" not in done.stderr
    assert [(row.patient, row.group) for row in read_manifest(out)] == [
        ("a/001", "a/g"), ("a/x", ""), ("b/001", "b/g"), ("b/y", "")
    ]  # fmt: skip


def test_manifests_without_a_source_are_told_apart_by_their_files(tmp_path):
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file in files:
        file.write_text(f"path,patient,label\n{file.stem}.png,001,1\n")
    out = tmp_path / "all.csv"
    command = ["data", "join", *map(str, files), "-o", str(out)]
    assert f"'001' ({files[0]}, {files[1]})" in CliRunner().invoke(app, command).stderr
    CliRunner().invoke(app, [*command, "--prefix-source"])
    assert [row.patient for row in read_manifest(out)] == ["a/001", "b/001"]


def test_a_join_that_parts_a_patient_leaves_what_was_there(tmp_path):
    for split in ("train", "test"):
        (tmp_path / f"{split}.csv").write_text(f"path,patient,label,split\n{split}.png,001,1,{split}\n")
    out = tmp_path / "all.csv"
    out.write_text("an earlier one")
    command = ["data", "join", str(tmp_path / "train.csv"), str(tmp_path / "test.csv"), "-o", str(out)]
    assert "patient '001' is in the splits test, train" in str(CliRunner().invoke(app, command).exception)
    assert out.read_text() == "an earlier one"


def test_check_names_patients_that_two_sources_share(tmp_path):
    for name, level in (("a", 90), ("b", 200)):
        Image.fromarray(np.diag(np.full(8, level, dtype=np.uint8))).save(tmp_path / f"{name}.png")
    path = tmp_path / "slices.csv"
    path.write_text("path,patient,label,source\na.png,001,1,a\nb.png,001,0,\n")
    done = CliRunner().invoke(app, ["data", "check", str(path)])
    assert done.exit_code == 0, done.output
    assert "several sources: '001' (a, no source)" in done.stderr
