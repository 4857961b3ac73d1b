"""Studies of a list, described together."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from jcs_ct.jobs import JobKey, Ledger, Limits, ResultFolders
from jcs_ct.service.corrections import Corrections
from jcs_ct.service.database import ServiceDatabase
from jcs_ct.service.describing import describe_study, describe_visible
from jcs_ct.service.studies import Studies
from jcs_ct.service.users import Role, User
from jcs_ct.service.waiting import WaitingTime

JANE, JOE = User("jane", Role.READER), User("joe", Role.READER)


def key(study_id: str) -> JobKey:
    return JobKey(study_id, "w", "o", "1")


@pytest.fixture
def service(tmp_path):
    """A page with six queued studies of jane's, without networks."""
    with ServiceDatabase(tmp_path / "service.sqlite") as database, Ledger(tmp_path / "jobs.sqlite") as ledger:
        studies = Studies(database, ledger, ResultFolders(tmp_path / "results"), tmp_path)
        for number in range(6):
            studies.queue(studies.record(JANE, f"study{number}", f"Study {number}", files=1, size=1, key=key), key)
        corrections = Corrections(database, studies, Limits())
        yield SimpleNamespace(
            database=database, ledger=ledger, studies=studies, corrections=corrections, waiting=WaitingTime(ledger)
        )
        corrections.close()


def test_a_list_says_of_each_study_what_it_says_alone_by_as_many_questions_for_many_as_for_one(service, monkeypatch):
    for number, reasons in ((1, ("first", "second")), (3, ("third",))):
        for reason in reasons:
            service.studies.add_opinion(JOE, service.studies.find(f"study{number}"), agrees=False, reason=reason)
    for number, version in ((1, 1), (1, 2), (4, 1)):
        row = (f"study{number}", version)
        service.database.change("INSERT INTO corrections VALUES (?, ?, 0, 'joe', 0, '', '{}')", row)
    records = service.studies.visible(JANE)
    alone = [describe_study(service, record) for record in records]
    told = {one["study_id"]: (one["versions"], one["opinion"] and one["opinion"]["reason"]) for one in alone}
    assert told == {
        f"study{n}": ((0, 2, 0, 0, 1, 0)[n], (None, "second", None, "third", None, None)[n]) for n in range(6)
    }
    asked = []
    real = service.database.rows
    monkeypatch.setattr(service.database, "rows", lambda *query: asked.append(query) or real(*query))
    counts = []
    for shown in (records[:1], records):
        asked.clear()
        assert describe_visible(service, shown) == alone[: len(shown)]
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_one_study_is_looked_for_among_those_that_a_user_may_see(service):
    assert [record.study_id for record in service.studies.visible(JANE, study_id="study2")] == ["study2"]
    assert service.studies.visible(JOE, study_id="study2") == service.studies.visible(JANE, study_id="no") == []
