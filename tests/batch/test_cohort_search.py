"""Cohorts from lists, addresses and servers, and results in object stores."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path, PurePath

import pytest

from jcs_ct.batch import batch_reading
from jcs_ct.batch.addresses import DONE_MARKER, fetched, find_at, store_folder
from jcs_ct.batch.batch_results import ObjectResults, open_results
from jcs_ct.batch.cohort_manifest import FoundStudy, Kind, write_manifest
from jcs_ct.batch.cohort_search import find_studies
from jcs_ct.batch.local_studies import Gate, find_in_folder
from jcs_ct.batch.store_faults import without_credentials
from jcs_ct.errors import ConfigError, JCSError, NotFoundError, OutputError, StudyError
from jcs_ct.jobs import Outcome
from jcs_ct.jobs.outcome import explain

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


def test_two_series_of_one_study_are_two_to_read(tmp_path, cohort):
    """One was counted as found twice; a list that named another series later had the results of the first."""
    (tmp_path / "volume.nii").write_bytes(b"0")
    lines = [f"{place},{series}\n" for place in ("cohort/study-1", "volume.nii") for series in ("", "a1", "b2", "b2")]
    (tmp_path / "list.csv").write_text("study,series\n" + "".join(lines))
    found = list(find_studies(str(tmp_path / "list.csv"), Gate()))
    assert len({one.study for one in found}) == 6
    assert write_manifest(tmp_path / "manifest.csv", found).duplicates == 2


def test_a_study_of_a_list_that_cannot_be_read_is_not_said_to_be_a_manifest_that_cannot_be_written(
    tmp_path, cohort, monkeypatch
):
    (tmp_path / "list.csv").write_text("study\ncohort/study-2\ncohort/study-1\n")

    def unreadable(paths, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(cohort / "study-1"))

    monkeypatch.setattr("jcs_ct.batch.cohort_search.survey_dicom", unreadable)
    with pytest.raises(ConfigError, match=r"study-1 cannot be read: Permission denied; mend it, or leave it out"):
        write_manifest(tmp_path / "manifest.csv", find_studies(str(tmp_path / "list.csv"), Gate()))
    assert not (tmp_path / "manifest.csv").exists()


def test_a_full_temporary_folder_is_not_said_to_be_an_address_that_cannot_be_read(keys, drawn, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    keys["bucket/1.dcm"] = next(drawn.glob("*.dcm")).read_bytes()
    monkeypatch.setattr("jcs_ct.batch.addresses._write_head", full)
    with pytest.raises(OutputError, match="the disk of the temporary folder is full"):
        find_at("keys://bucket", Gate())


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
    assert [(one.code, one.slice_count, one.byte_count) for one in there] == [
        (one.code, one.slice_count, one.byte_count) for one in here
    ]
    assert find_at(f"{bucket}/in", Gate()) == there
    assert there[1].where == f"{bucket}/in/study-1"
    with pytest.raises(ConfigError, match="nothing lies at"):
        find_at(f"{bucket}/empty", Gate())


class Keys:
    """A store in memory that lists names as they are, with their bytes."""

    def __init__(self):
        self.held = {}

    def find(self, path, detail=False):
        found = {
            name: {"size": len(data), "ETag": hashlib.md5(data, usedforsecurity=False).hexdigest()}
            for name, data in self.held.items()
            if name.startswith(f"{path}/")
        }
        return found if detail else sorted(found)

    def isfile(self, path):
        return path in self.held

    def cat_ranges(self, names, starts, ends, on_error):
        return [self.held[name][start:end] for name, start, end in zip(names, starts, ends, strict=True)]

    def get_file(self, name, place):
        Path(place).write_bytes(self.held[name])

    def get(self, names, places):
        for name, place in zip(names, places, strict=True):
            self.get_file(name, place)


@pytest.fixture
def keys(monkeypatch):
    """What the store ``keys://`` holds."""
    store = Keys()
    monkeypatch.setattr("jcs_ct.batch.addresses.file_system", lambda where: (store, where.removeprefix("keys://")))
    return store.held


@pytest.mark.parametrize(
    "name",
    ["../out.dcm", "a/../../out.dcm", "/out.dcm", "./out.dcm", "a\\..\\out.dcm", "a\0.dcm", "n" * 256, "1.dcm/x"],
    ids=["up", "below and up", "absolute", "dot", "backslash", "nul", "long", "below a file"],
)
def test_a_name_that_leads_out_of_the_folder_writes_nothing_there(keys, drawn, tmp_path, monkeypatch, name):
    """The good study beside it is found; the name is a study that is refused."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    images = {f"{number}.dcm": path.read_bytes() for number, path in enumerate(sorted(drawn.glob("*.dcm")))}
    keys.update({f"bucket/in/{one}": data for one, data in images.items()})
    keys[f"bucket/in/{name}"] = images["0.dcm"]
    found, refused = find_at("keys://bucket/in", Gate())
    assert (found.code, found.slice_count, found.where) == ("", 6, "keys://bucket/in")
    assert (refused.code, "another name in its store" in refused.message) == ("UNSUPPORTED", True)
    for files in ([], [name] if name != "1.dcm/x" else ["1.dcm", name]):
        folder = tmp_path / "temporary" / f"study-{len(files)}"
        folder.mkdir()
        with pytest.raises(StudyError, match="another name in its store"):
            fetched("keys://bucket/in", files, folder)
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == [tmp_path / "temporary"]
    assert {path.name for path in (tmp_path / "temporary").iterdir()} == {f"study-{n}" for n in (0, len(files))}


def test_an_address_of_a_list_without_one_study_is_a_row_with_a_code(keys, drawn, tmp_path, add_study):
    keys["bucket/notes/readme.txt"] = b"no study"
    for number in ("1", "2"):
        for path in add_study(tmp_path / number, number=number):
            keys[f"bucket/{number}/{path.name}"] = keys[f"bucket/two/{number}/{path.name}"] = path.read_bytes()
    lines = [f"keys://bucket/{name}" for name in ("1", "notes", "nothing", "two", "2")]
    (tmp_path / "list.csv").write_text("\n".join(["study", *lines]))
    found = list(find_studies(str(tmp_path / "list.csv"), Gate()))
    assert [one.where for one in found] == lines
    assert [one.code for one in found] == ["", "NO_IMAGES", "NO_IMAGES", "MIXED_SERIES", ""]
    assert len({one.study for one in found}) == 5
    assert ("no studies lie at" in found[1].message, "2 studies lie at" in found[3].message) == (True, True)


def test_a_study_whose_objects_were_replaced_is_another(keys, drawn, tmp_path, add_study):
    for path in add_study(tmp_path / "1", tmp_path / "2", number="1") + add_study(
        tmp_path / "2", number="2", prefix="b"
    ):
        keys[f"bucket/{path.relative_to(tmp_path)}"] = path.read_bytes()
    before = {one.where: one.study for one in find_at("keys://bucket", Gate())}
    place = max(name for name in keys if name.startswith("bucket/2/b"))
    keys[place] = keys[place][:-2] + bytes([keys[place][-2] ^ 1, keys[place][-1]])
    after = {one.where: one.study for one in find_at("keys://bucket", Gate())}
    assert {where for where in before if before[where] != after[where]} == {"keys://bucket/2"}
    assert len(before) == 2


def test_what_lies_in_every_folder_is_looked_for_once_and_not_for_every_study(keys, monkeypatch):
    places = [f"{number // 10}/{number}" for number in range(100)]
    keys.update({f"bucket/{place}/1.dcm": place.encode() for place in places})
    looks = []
    parents = PurePath.parents.fget
    monkeypatch.setattr(PurePath, "parents", property(lambda path: looks.append(path) or parents(path)))

    def found_in(folder, gate, **_):
        return [FoundStudy(f"study {place}", Kind.DICOM, str(folder / place)) for place in places]

    monkeypatch.setattr("jcs_ct.batch.addresses.find_in_folder", found_in)
    found = find_at("keys://bucket", Gate())
    assert len({one.study for one in found}) == 100
    assert len(looks) < 5 * 100


def test_marks_of_empty_folders_and_a_lone_object_are_no_trouble(keys, drawn, tmp_path):
    data = sorted(drawn.glob("*.dcm"))[0].read_bytes()
    keys.update({"bucket/in/a/": b"", "bucket/in/a/1.dcm": data})
    (found,) = find_at("keys://bucket/in", Gate(lenient=True))
    assert found.slice_count == 1
    assert fetched("keys://bucket/in/a/1.dcm", [], tmp_path) == tmp_path / "1.dcm"
    assert (tmp_path / "1.dcm").read_bytes() == data


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


def test_results_in_a_store_that_are_whole_stay(bucket, tmp_path):
    """An attempt that was taken for dead ends after the one that took its place."""
    results = open_results(f"{bucket}/whole")
    for attempt in ("first", "late"):
        (tmp_path / "report.html").write_text(attempt)
        staged = results.stage("job")
        store_folder(tmp_path, staged["store"])
        assert results.publish("job", staged, {**RECORD, "attempt": attempt})["attempt"] == "first"
    assert results.find("job")["attempt"] == "first"
    assert results._system.cat_file(f"{results._root}/job/report.html") == b"first"


class StoreError(Exception):
    """As the libraries of S3 and GCS raise it, which is no OSError."""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreError("no endpoint"), "OUTPUT_UNWRITABLE"),
        (ConnectionError("reset"), "OUTPUT_UNWRITABLE"),
        (OSError(errno.ENOSPC, "No space left"), "DISK_FULL"),
    ],
)
@pytest.mark.parametrize("call", ["store", "find", "publish"])
def test_a_store_that_fails_is_an_outage_and_no_studys_fault(cohort, monkeypatch, error, code, call):
    def fail(*given, **named):
        raise error

    results = open_results("memory://out")
    for name in ("put", "exists", "pipe_file"):
        monkeypatch.setattr(results._system, name, fail)
    with pytest.raises(OutputError, match=rf"cannot write to .*{code}") as caught:
        if call == "store":
            store_folder(cohort, "memory://out/job")
        else:
            results.find("job") if call == "find" else results.publish("job", {}, RECORD)
    ending, found, message = explain(caught.value)
    assert Outcome(ending, found, message).is_outage
    assert found == code


class ClientError(StoreError):
    """As botocore keeps what S3 answered."""

    def __init__(self, status):
        self.response = {"ResponseMetadata": {"HTTPStatusCode": status}}


NoCredentialsError = type("NoCredentialsError", (StoreError,), {})
SECRET = "keys://jane:secret@bucket/in"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (FileNotFoundError("The specified bucket does not exist"), "NOT_FOUND", "no such bucket or object"),
        (ClientError(404), "NOT_FOUND", "no such bucket or object"),
        (PermissionError("Access Denied"), "SETTINGS", "no permission"),
        (ClientError(403), "SETTINGS", "no permission"),
        (NoCredentialsError(), "SETTINGS", "give credentials that may list and read it"),
        (ValueError("invalid name"), "SETTINGS", "the address keys://bucket/in cannot be used"),
        (ConnectionError("reset"), "NOT_FETCHED", "its store does not answer (ConnectionError)"),
        (StoreError('no endpoint "http://jane:secret@host"'), "NOT_FETCHED", "can be reached from here"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("call", ["find", "cat_ranges", "records", "picture"])
def test_a_store_that_cannot_be_read_is_said_without_credentials(keys, monkeypatch, error, code, said, call):
    def fail(*given, **named):
        raise error

    keys["jane:secret@bucket/in/1.dcm"] = b"x"
    for name in {"find", "cat_ranges"} & {call}:
        monkeypatch.setattr(Keys, name, fail)
    for name in ("invalidate_cache", "glob", "exists"):
        monkeypatch.setattr(Keys, name, fail, raising=False)
    with pytest.raises(JCSError) as caught:
        if call in ("find", "cat_ranges"):
            find_at(SECRET, Gate())
        else:
            results = ObjectResults.__new__(ObjectResults)
            results._address, results._system, results._root = SECRET, Keys(), "bucket/in"
            list(results.records()) if call == "records" else results.picture("job")
    assert (caught.value.code, said in str(caught.value)) == (code, True), str(caught.value)
    assert "secret" not in str(caught.value) + caught.value.remedy


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("s3://bucket/study?1", "s3://bucket/study?1"),
        ("ftp://jane:p@ss@host/a", "ftp://host/a"),
        ("https://host/a?sig=abc", "https://host/a"),
    ],
)
def test_an_address_is_shown_without_credentials(address, shown):
    assert without_credentials(address) == shown


def test_a_bucket_that_is_not_there_is_told_from_one_that_cannot_be_reached(bucket):
    with pytest.raises(NotFoundError, match="there is no such bucket or object"):
        find_at("s3://no-such-bucket/in", Gate())


def test_an_address_of_an_unknown_kind_is_said():
    with pytest.raises(ConfigError, match=r"the address nosuch://bucket cannot be used"):
        find_at("nosuch://jane:secret@bucket", Gate())


@pytest.mark.parametrize(
    ("error", "code"), [(StoreError("no endpoint"), "NOT_FETCHED"), (OSError(errno.ENOSPC, "full"), "DISK_FULL")]
)
def test_a_study_that_cannot_be_fetched_is_told_from_a_full_disk_here(monkeypatch, error, code):
    def fail(*given):
        raise error

    monkeypatch.setattr(batch_reading, "fetched", fail)
    study = {"kind": Kind.SINGLE, "where": "memory://in/1", "files": [], "series": "", "byte_count": 1}
    with pytest.raises((OutputError, batch_reading.NotFetchedError)) as caught:
        batch_reading.read_for_batch({"study": study, "options": {}, "output": "x"}, lambda *stage: None)
    assert explain(caught.value)[1] == code


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
    yield held
    web.shutdown()
    web.server_close()
    thread.join()


def test_a_dicomweb_server_lists_what_it_holds(server):
    found = list(find_studies(server.url, Gate()))
    assert sorted((one.kind, one.slice_count, one.code) for one in found) == [
        (Kind.DICOMWEB, count, "") for count in (5, 6, 6)
    ]
    assert all(one.where.startswith(f"{server.url}/studies/") for one in found)
    assert len({one.study for one in found}) == 3


@pytest.mark.parametrize("trouble", ["PACS_INCOMPLETE", "PACS_GONE"])
def test_a_study_that_the_server_cannot_list_is_a_row_with_a_code(server, trouble):
    bad = sorted({key[0] for key in server.instances})[0]

    def before(method, path):
        if path == f"/studies/{bad}/series" and trouble == "PACS_GONE":
            server.remove(bad)
        server.counts = "+2" if trouble == "PACS_INCOMPLETE" and bad in path else "true"

    server.on_request = before
    found = list(find_studies(server.url, Gate()))
    assert sorted(one.code for one in found) == ["", "", trouble]
    assert [one.where for one in found if one.code] == [f"{server.url}/studies/{bad}"]


def test_a_server_that_goes_away_ends_the_search(server, monkeypatch):
    from jcs_ct.pacs.server import PacsUnavailableError

    monkeypatch.setattr("jcs_ct.pacs.server.PacsServer.from_environment", impatient)
    server.on_request = lambda method, path: setattr(server, "failures", 9) if path.endswith("/series") else None
    with pytest.raises(PacsUnavailableError):
        list(find_studies(server.url, Gate()))


def impatient(url, ca_bundle=""):
    from jcs_ct.pacs.server import PacsServer

    return PacsServer(url, retries=0)


@pytest.mark.slow
def test_from_a_dicomweb_server(server, tmp_path, jcs):
    done = jcs("batch", "run", server.url, "-o", tmp_path / "batch", "--workers", 1)
    assert done.exit_code == 0, done.output
    summary = (tmp_path / "batch" / "summary.csv").read_text()
    assert (summary.count("done"), summary.count("refused,GAP")) == (2, 1)
