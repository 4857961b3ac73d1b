"""Cohorts from lists, addresses and servers, and results in object stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from jcs_ct.batch.addresses import find_at, store_folder
from jcs_ct.batch.batch_results import DONE_MARKER, ObjectResults, open_results
from jcs_ct.batch.cohort_manifest import Kind
from jcs_ct.batch.cohort_search import find_studies
from jcs_ct.batch.local_studies import Gate, find_in_folder
from jcs_ct.errors import ConfigError

RECORD = {"value": {"n": 1}, "seconds": 1.0, "peak_memory_bytes": 1}


@pytest.fixture(scope="module")
def bucket():
    """A bucket of a server that speaks S3, on this machine."""
    moto = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("cohort")
        yield "s3://cohort"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_a_list_names_studies_and_series(tmp_path, cohort):
    (tmp_path / "list.csv").write_text("study,series\ncohort/study-2,\ncohort/gap,\ncohort/study-1,\n")
    found = list(find_studies(str(tmp_path / "list.csv"), Gate()))
    assert [(Path(one.where).name, one.code) for one in found] == [("study-2", ""), ("gap", "GAP"), ("study-1", "")]
    assert {one.study for one in found} == {one.study for one in find_in_folder(cohort)}


def test_a_parquet_list_is_the_same(tmp_path, cohort):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table({"study": ["cohort/study-1"]}), tmp_path / "list.parquet")
    (found,) = find_studies(str(tmp_path / "list.parquet"), Gate())
    assert found.slice_count == 6


def test_all_problems_of_a_list_at_once(tmp_path):
    (tmp_path / "list.csv").write_text("study\nnowhere\nneither\n")
    with pytest.raises(ConfigError, match=r"(?s)line 2: no study at nowhere.*line 3: no study at neither"):
        list(find_studies(str(tmp_path / "list.csv"), Gate()))
    (tmp_path / "other.csv").write_text("path\nx\n")
    with pytest.raises(ConfigError, match="no column study; it holds path"):
        list(find_studies(str(tmp_path / "other.csv"), Gate()))
    with pytest.raises(ConfigError, match="leave --since out"):
        find_studies(str(tmp_path), Gate(), since=__import__("datetime").date(2020, 1, 1))


def test_two_lines_of_one_study_are_told_apart(tmp_path, add_study):
    add_study(tmp_path / "a", number="1")
    add_study(tmp_path / "b", number="1")
    (tmp_path / "list.csv").write_text("study\na\nb\n")
    first, second = find_studies(str(tmp_path / "list.csv"), Gate())
    assert (first.code, second.code, first.study == second.study) == ("", "", True)


def test_an_object_store_shows_what_a_folder_shows(bucket, cohort):
    store_folder(cohort, f"{bucket}/in")
    there, here = find_at(f"{bucket}/in", Gate()), find_in_folder(cohort)
    assert [(one.study, one.code, one.slice_count, one.byte_count) for one in there] == [
        (one.study, one.code, one.slice_count, one.byte_count) for one in here
    ]
    assert there[1].where == f"{bucket}/in/study-1"
    with pytest.raises(ConfigError, match="nothing lies at"):
        find_at(f"{bucket}/empty", Gate())


def test_results_in_a_store_count_from_their_marker_on(bucket):
    results = open_results(f"{bucket}/out")
    assert isinstance(results, ObjectResults)
    staged = results.stage("job")
    assert staged == {"store": f"{bucket}/out/job"}
    assert results.find("job") is None
    results._system.pipe_file(f"{results._root}/job/job.json", b"{}")
    assert (results.find("job"), list(results.records())) == (None, [])
    assert results.publish("job", staged, RECORD) == RECORD
    assert results._system.exists(f"{results._root}/job/{DONE_MARKER}")
    assert list(results.records()) == [("job", RECORD)]
    assert results.picture("job") is None


@pytest.mark.slow
def test_from_a_bucket_into_a_bucket(bucket, cohort, tmp_path, jcs):
    store_folder(cohort, f"{bucket}/source")
    folder = tmp_path / "batch"
    done = jcs("batch", "run", f"{bucket}/source", "-o", folder, "--results", f"{bucket}/results", "--workers", 1)
    assert done.exit_code == 0, done.output
    records = dict(open_results(f"{bucket}/results").records())
    assert len(records) == 2
    names = {
        Path(one).name for one in open_results(f"{bucket}/results")._system.find(f"cohort/results/{min(records)}")
    }
    assert {"report.html", "report.json", "run.json", "job.json", "picture.png", "_DONE"} <= names
    assert (folder / "summary.csv").read_text().count("done") == 2


@pytest.fixture
def server(cohort, monkeypatch):
    """The cohort on the tests' DICOMweb server."""
    import threading
    from http.server import ThreadingHTTPServer

    pytest.importorskip("requests")
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "pacs"))
    from fake_pacs import FakePacs, Handler

    held = FakePacs()
    for path in sorted(cohort.rglob("*.dcm")):
        held.add(path.read_bytes())
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"pacs": held}))
    held.url = f"http://127.0.0.1:{web.server_address[1]}"
    thread = threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield held.url
    web.shutdown()
    web.server_close()
    thread.join()


def test_a_dicomweb_server_lists_what_it_holds(server):
    found = list(find_studies(server, Gate()))
    assert sorted((one.kind, one.slice_count, one.code) for one in found) == [
        (Kind.DICOMWEB, count, "") for count in (5, 6, 6)
    ]
    assert all(one.where.startswith(f"{server}/studies/") for one in found)
    assert len({one.study for one in found}) == 3


@pytest.mark.slow
def test_from_a_dicomweb_server(server, tmp_path, jcs):
    done = jcs("batch", "run", server, "-o", tmp_path / "batch", "--workers", 1)
    assert done.exit_code == 0, done.output
    summary = (tmp_path / "batch" / "summary.csv").read_text()
    assert (summary.count("done"), summary.count("refused,GAP")) == (2, 1)
