"""Uploads: cut and resumed, bounded, and never under a name that a browser gave."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import sqlite3
import time
from collections import namedtuple

import numpy as np
import pytest
from PIL import Image

from jcs_ct.errors import StudyError
from jcs_ct.imaging import open_study
from jcs_ct.imaging.study_files import find_files
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.problems import Problem
from jcs_ct.service.settings import UploadLimits
from jcs_ct.service.uploads import Uploads
from jcs_ct.service.users import Role, User


def take_over(uploads, upload, place):
    with uploads.taking_over(upload, place):
        pass


JANE, JOE = User("jane", Role.READER), User("joe", Role.READER)


@pytest.fixture
def uploads(tmp_path):
    database = ServiceDatabase(tmp_path / "service.sqlite")
    limits = UploadLimits(total_bytes=10_000, files=5, chunk_bytes=100, free_bytes=1)
    yield Uploads(database, tmp_path / "uploads", limits)
    database.close()


def announced(uploads, sizes=(3, 4), user=JANE, names=None):
    names = names or [f"s/im{number}" for number in range(len(sizes))]
    return uploads.announce(user, "label", [{"name": n, "size": s} for n, s in zip(names, sizes, strict=True)])


def sent(uploads, upload, offset, *blocks, cut=False):
    async def body():
        for block in blocks:
            yield block
        if cut:
            raise ConnectionResetError

    fresh = uploads.find(JANE, upload.upload_id)
    return asyncio.run(uploads.receive(fresh, offset, body()))


def refused(code, act, *arguments, **options):
    with pytest.raises(Problem) as problem:
        act(*arguments, **options)
    assert problem.value.code == code
    return problem.value


def test_files_arrive_under_neutral_names(uploads, tmp_path):
    names = ["s/im10", "../../etc/im2", "C:\\x\\im1.nii.gz"]
    upload, order = announced(uploads, (2, 3, 4), names=names)
    contents = [b"10", b"222", b"1111"]
    stream = b"".join(contents[index] for index in order)
    assert sent(uploads, upload, 0, stream[:5]) == 5
    assert sent(uploads, upload, 5, stream[5:7], stream[7:]) == 9
    take_over(uploads, uploads.find(JANE, upload.upload_id), tmp_path / "sent" / "x")
    found = find_files(tmp_path / "sent" / "x")
    assert {path.read_bytes(): path.suffixes for path in found.others} == {
        b"10": [],
        b"222": [],
        b"1111": [".nii", ".gz"],
    }
    assert not any(word in str(path) for path in found.others for word in ("etc", "im", ".."))
    assert uploads.count() == 0
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_cut_keeps_what_came_and_goes_on_from_there(uploads, tmp_path):
    upload, _ = announced(uploads, (6,))
    with pytest.raises(ConnectionResetError):
        sent(uploads, upload, 0, b"ab", b"cd", cut=True)
    assert uploads.find(JANE, upload.upload_id).received == 4
    problem = refused("WRONG_OFFSET", sent, uploads, upload, 0, b"ab")
    assert problem.facts["received"] == 4
    refused("INCOMPLETE", take_over, uploads, uploads.find(JANE, upload.upload_id), tmp_path / "sent")
    assert sent(uploads, upload, 4, b"ef") == 6
    take_over(uploads, uploads.find(JANE, upload.upload_id), tmp_path / "sent")
    assert [path.read_bytes() for path in (tmp_path / "sent").iterdir()] == [b"abcdef"]


def said_of(folder):
    try:
        return sorted(str(flag.code) for flag in open_study(folder).flags)
    except StudyError as error:
        return str(error)


@pytest.mark.parametrize("study", ["letter", "hidden", "patients", "one patient"])
def test_what_was_sent_is_judged_as_it_is_where_it_comes_from(tmp_path, phantom_folder, study):
    own = tmp_path / "Doe^Jane"
    if study in ("letter", "hidden"):
        shutil.copytree(phantom_folder, own / "series")
        (own / {"letter": "README.txt", "hidden": ".DS_Store"}[study]).write_bytes(b"no image")
    else:
        for number in range(6):
            place = own / ("ab"[number % 2] if study == "patients" else "")
            place.mkdir(parents=True, exist_ok=True)
            grey = np.random.default_rng(number).integers(0, 255, (16, 16)).astype(np.uint8)
            Image.fromarray(grey).save(place / f"{number}.png")
    files = sorted(path for path in own.rglob("*") if path.is_file())
    database = ServiceDatabase(tmp_path / "service.sqlite")
    uploads = Uploads(database, tmp_path / "uploads", UploadLimits(chunk_bytes=1 << 30, free_bytes=1))
    announced_files = [{"name": str(f.relative_to(tmp_path)), "size": f.stat().st_size} for f in files]
    upload, order = uploads.announce(JANE, "label", announced_files)
    sent(uploads, upload, 0, b"".join(files[index].read_bytes() for index in order))
    take_over(uploads, uploads.find(JANE, upload.upload_id), tmp_path / "sent")
    database.close()
    assert said_of(tmp_path / "sent") == said_of(own)
    assert not any("Doe" in str(path) for path in (tmp_path / "sent").rglob("*"))
    assert b"Doe" not in (tmp_path / "service.sqlite").read_bytes()


def test_an_upload_is_taken_over_once(uploads, tmp_path):
    upload, _ = announced(uploads, (2,))
    sent(uploads, upload, 0, b"ab")
    whole = uploads.find(JANE, upload.upload_id)
    take_over(uploads, whole, tmp_path / "sent" / "x")
    refused("UNKNOWN_UPLOAD", take_over, uploads, whole, tmp_path / "sent" / "y")
    assert not (tmp_path / "sent" / "y").exists()


def test_an_upload_stays_until_it_is_recorded_whose_its_files_are(uploads, tmp_path):
    upload, _ = announced(uploads, (2,))
    sent(uploads, upload, 0, b"ab")
    whole, place = uploads.find(JANE, upload.upload_id), tmp_path / "sent" / "x"

    def end_in_it(error):
        with pytest.raises(type(error)), uploads.taking_over(whole, place):
            assert [path.read_bytes() for path in place.iterdir()] == [b"ab"]
            raise error

    for error in (sqlite3.OperationalError("database or disk is full"), KeyboardInterrupt()):
        end_in_it(error)
        assert not place.exists()
    take_over(uploads, uploads.find(JANE, upload.upload_id), place)
    assert [path.read_bytes() for path in place.iterdir()] == [b"ab"]


def test_what_is_announced_is_bounded(uploads):
    refused("NO_FILES", announced, uploads, ())
    refused("TOO_MANY_FILES", announced, uploads, (1,) * 6)
    problem = refused("UPLOAD_TOO_LARGE", announced, uploads, (20 * 1024**3,))
    assert "20.0 GiB are announced" in problem.message
    refused("BAD_SIZE", announced, uploads, (-1,))
    refused("BAD_SIZE", announced, uploads, (True,))
    refused("BAD_NAME", announced, uploads, (1,), names=[""])
    refused("BAD_NAME", announced, uploads, (1,), names=["a\0b"])
    assert uploads.count() == 0


def test_more_than_announced_is_not_taken(uploads):
    upload, _ = announced(uploads, (6,))
    refused("CHUNK_TOO_LARGE", sent, uploads, upload, 0, b"abc", b"defg")
    assert uploads.find(JANE, upload.upload_id).received == 0
    upload, _ = announced(uploads, (600,))
    refused("CHUNK_TOO_LARGE", sent, uploads, upload, 0, b"x" * 101)


def test_a_full_disk_is_said_before_and_during(uploads, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
        refused("DISK_FULL", announced, uploads, (4,))
    upload, _ = announced(uploads, (6,))
    sent(uploads, upload, 0, b"ab")

    async def full(function, *arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("jcs_ct.service.uploads.run_in_threadpool", full)
        problem = refused("DISK_FULL", sent, uploads, upload, 2, b"cd")
    assert problem.status == 507
    assert sent(uploads, upload, 2, b"cdef") == 6, "what was there is still there"


def test_fifty_uploads_at_a_time_are_bounded(uploads):
    outcomes = []
    for number in range(50):
        try:
            announced(uploads, (3,), user=User(f"reader{number % 10}", Role.READER))
            outcomes.append("")
        except Problem as problem:
            outcomes.append(f"{problem.code} {problem.headers()['Retry-After']}")
    assert outcomes.count("") == uploads.limits.open_uploads == uploads.count()
    assert outcomes.count("TOO_MANY_UPLOADS 10") == 50 - uploads.limits.open_uploads


def test_one_reader_cannot_take_all_places_nor_anothers_upload(uploads):
    upload, _ = announced(uploads, (3,))
    for _ in range(uploads.limits.open_uploads_of_one - 1):
        announced(uploads, (3,))
    refused("TOO_MANY_UPLOADS", announced, uploads, (3,))
    announced(uploads, (3,), user=JOE)
    refused("UNKNOWN_UPLOAD", uploads.find, JOE, upload.upload_id)
    refused("UNKNOWN_UPLOAD", uploads.find, JANE, "../" + upload.upload_id)


def test_uploads_that_nobody_goes_on_with_are_removed(uploads, tmp_path):
    upload, _ = announced(uploads, (3,))
    assert uploads.sweep() == 0
    long_ago = time.time() - 2 * uploads.limits.idle_s
    os.utime(tmp_path / "uploads" / upload.upload_id / "pack.part", (long_ago, long_ago))
    uploads._database.change("UPDATE uploads SET created_at = ?", (long_ago,))
    assert uploads.sweep() == 1
    refused("UNKNOWN_UPLOAD", uploads.find, JANE, upload.upload_id)
    assert list((tmp_path / "uploads").iterdir()) == []


def test_what_another_request_removes_meanwhile_is_no_error(uploads, tmp_path, monkeypatch):
    gone = tmp_path / "uploads" / "removed"
    monkeypatch.setattr(type(gone), "iterdir", lambda folder: iter([gone]))
    assert uploads.sweep() == 0
    monkeypatch.undo()
    upload, _ = announced(uploads, (3,))
    sent(uploads, upload, 0, b"abc")
    whole = uploads.find(JANE, upload.upload_id)
    uploads.drop(upload.upload_id)

    async def body():
        yield b"abc"

    refused("UNKNOWN_UPLOAD", asyncio.run, uploads.receive(whole, 3, body()))
    refused("UNKNOWN_UPLOAD", take_over, uploads, whole, tmp_path / "study")
    assert not (tmp_path / "study").exists()
