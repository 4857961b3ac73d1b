"""A table is the same table as CSV and as Parquet."""

import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jcs_ct.cli import app
from jcs_ct.data.manifest import Manifest, ManifestRow, read_manifest
from jcs_ct.data.manifest.table_files import read_table, write_table
from jcs_ct.errors import ConfigError


def rows(folder):
    return (
        ManifestRow(
            folder / "a.png", "p1", 1, folder / "m.png", "val", "x", "uCT 780", 61.5, "f", 1.0, -350.0, 1500.0
        ),
        ManifestRow(folder / "b.png", "p2", None),
        ManifestRow(folder / "c.png", "17", 0, split="test", age=40.0),
    )


@pytest.mark.parametrize("name", ["slices.csv", "slices.parquet", "slices.PQ"])
def test_a_manifest_is_the_same_in_either_form(tmp_path, name):
    manifest = Manifest(rows(tmp_path))
    manifest.write(tmp_path / name)
    read = read_manifest(tmp_path / name)
    assert read == manifest
    assert read.sha256 == manifest.sha256


def test_parquet_keeps_types_so_that_data_frames_read_it_as_it_is_meant(tmp_path):
    Manifest(rows(tmp_path)).write(tmp_path / "slices.parquet")
    table = pq.read_table(tmp_path / "slices.parquet")
    assert table.schema.field("label").type == pa.int64()
    assert table.column("age").to_pylist() == [61.5, None, 40.0]
    assert table.column("mask").to_pylist() == ["m.png", None, None]


def test_a_table_of_a_data_frame_is_read(tmp_path):
    # Whole numbers with gaps are floats there, names may be numbers or a dictionary, flags are booleans.
    table = pa.table(
        {
            "path": pa.array(["a.png", "b.png", "c.png"]).dictionary_encode(),
            "patient": [17, 18, 19],
            "label": [1.0, float("nan"), 0.0],
            "split": pa.array([b"val", None, b"test"]),
            "age": [61, None, 40],
            "note": [True, False, None],
        }
    )
    pq.write_table(table, tmp_path / "slices.parquet")
    read = read_manifest(tmp_path / "slices.parquet")
    assert [(row.patient, row.label, row.split, row.age) for row in read] == [
        ("17", 1, "val", 61.0),
        ("18", None, "train", None),
        ("19", 0, "test", 40.0),
    ]
    assert [values["note"] for _, values in read_table(tmp_path / "slices.parquet")] == ["1", "0", ""]


def test_problems_of_a_parquet_manifest_name_the_row(tmp_path):
    pq.write_table(pa.table({"path": ["a", "b"], "patient": ["p", "q"], "label": [1, 2]}), tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=r"(?s)1 problem\(s\):.*row 2: label must be 0, 1 or empty, got '2'"):
        read_manifest(tmp_path / "x.parquet")


def test_what_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("path,patient,label\n")
    with pytest.raises(ConfigError, match=r"x\.parquet is no Parquet file that can be read"):
        read_manifest(tmp_path / "x.parquet")
    with pytest.raises(ConfigError, match=r"cannot read the manifest .*none\.parquet: No such file"):
        read_manifest(tmp_path / "none.parquet")


def test_a_csv_that_is_cut_short_or_no_text_is_refused(tmp_path):
    (tmp_path / "x.csv").write_text("path,patient,label\na.png,p\nb.png\n")
    with pytest.raises(ConfigError, match=r"(?s)2 problem\(s\):.*line 2: has 2 cell\(s\).*line 3: has 1 cell"):
        read_manifest(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"path,patient,label\n\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"no CSV in UTF-8 \(invalid start byte at byte 19\)"):
        read_manifest(tmp_path / "x.csv")


def test_the_missing_extra_is_named(tmp_path):
    code = (
        "import sys; sys.modules['pyarrow'] = None; from pathlib import Path\n"
        "from jcs_ct.data.manifest import read_manifest; read_manifest(Path('x.parquet'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "Parquet needs an extra: pip install 'jcs-ct[parquet]'; or use CSV" in done.stderr


def test_the_extra_is_missed_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match="Parquet needs an extra"):
        write_table(tmp_path / "x.parquet", {"a": str}, [{"a": "1"}])
    assert list(tmp_path.iterdir()) == []


def test_the_commands_take_parquet_too(tmp_path):
    runner = CliRunner()
    small = ["--slices", "4", "--size", "64", "--format", "png", "--lesions", "3"]
    assert runner.invoke(app, ["phantom", str(tmp_path / "set/001"), *small]).exit_code == 0
    for name in ("a.csv", "a.parquet"):
        done = runner.invoke(app, ["data", "make", "phantom", str(tmp_path / "set"), "-o", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    assert read_manifest(tmp_path / "a.csv") == read_manifest(tmp_path / "a.parquet")
    done = runner.invoke(app, ["data", "check", str(tmp_path / "a.parquet")])
    assert done.exit_code == 0, done.output
    joined = tmp_path / "joined.parquet"
    done = runner.invoke(app, ["data", "join", str(tmp_path / "a.parquet"), "-o", str(joined)])
    assert done.exit_code == 0, done.output
    assert len(read_manifest(joined)) == 4


TABLE = """path,patient,label,split
a b.png,007,1,train
"c,d.png",8 ,0,val
"""


@pytest.mark.parametrize(
    ("change", "encoding"),
    [
        (lambda text: text, "utf-8-sig"),
        (lambda text: text, "utf-16"),
        (lambda text: text.replace("\n", "\r\n"), "utf-8"),
        (lambda text: text.replace("\n", "\r"), "utf-8"),
        (lambda text: text.replace("\n", "\n\n"), "utf-8"),
        (lambda text: text.replace(",", ", ").replace("c, d", "c,d"), "utf-8"),
        (lambda text: text.replace("path,patient,label", "Path,PATIENT, Label "), "utf-8"),
        (lambda text: text.replace(",", ";").replace("c;d", "c,d"), "utf-8"),
        (lambda text: text.replace(",", "\t").replace("c\td", "c,d"), "utf-8"),
        (lambda text: "sep=,\n" + text, "utf-8"),
        (lambda text: text.replace(",1,train", ",1.0,Train").replace(",0,", ",0.0,"), "utf-8"),
        (lambda text: text.replace(",1,", ",True,").replace(",0,", ",false,"), "utf-8"),
    ],
    ids=[
        "bom",
        "utf16",
        "crlf",
        "cr",
        "empty-lines",
        "blanks",
        "heads",
        "semicolon",
        "tab",
        "sep",
        "floats",
        "truth",
    ],
)
def test_a_table_is_read_as_spreadsheets_and_data_frames_write_it(tmp_path, change, encoding):
    path = tmp_path / "slices.csv"
    path.write_bytes(change(TABLE).encode(encoding))
    assert [(row.path.name, row.patient, row.label, row.split) for row in read_manifest(path)] == [
        ("a b.png", "007", 1, "train"),
        ("c,d.png", "8", 0, "val"),
    ]


def test_lines_whose_cells_cannot_be_told_apart_are_listed_with_all_else(tmp_path):
    path = tmp_path / "slices.csv"
    path.write_text(TABLE + 'e.png,9\nf.png,9,1,train,x\ng.png,10,2,train\nh.png,"11,0,train\ni.png,12,0,train\n')
    with pytest.raises(ConfigError) as refused:
        read_manifest(path)
    for said in (
        "line 4: has 2 cell(s), the head line has 4",
        "line 5: has 5 cell(s), the head line has 4",
        "line 6: label must be 0, 1 or empty, got '2'",
        "line 7: a quote is not closed",
    ):
        assert said in str(refused.value)
    assert "has 4 problem(s)" in str(refused.value)


@pytest.mark.parametrize("name", ["slices.csv", "slices.parquet"])
def test_a_column_that_stands_twice_is_refused(tmp_path, name):
    if name.endswith("csv"):
        (tmp_path / name).write_text("path,patient,label,Label\na.png,1,1,0\n")
    else:
        values = [pa.array(["a.png"]), pa.array(["1"]), pa.array([1]), pa.array([0])]
        pq.write_table(pa.table(values, names=["path", "patient", "label", "Label"]), tmp_path / name)
    with pytest.raises(ConfigError, match=r"has the column\(s\) label twice"):
        read_manifest(tmp_path / name)
