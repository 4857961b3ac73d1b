"""A page's pictures are the same whoever begins to draw them, and whenever."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jcs_ct.beside import Beside
from jcs_ct.reporting.page_pictures import PagePictures
from jcs_ct.reporting.report_html import render_report

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


def test_pictures_that_were_begun_while_the_study_was_read_make_the_same_page(make_study, make_diagnosis):
    study = make_study()
    diagnosis = make_diagnosis(study)
    pictures = PagePictures(study.volume)
    with Beside("drawing") as beside:
        pictures.begin_ct(beside)
        pictures.begin_maps(diagnosis.activation, beside)
        page = render_report(study, diagnosis, moment=NOON, pictures=pictures)
    assert "read 2026-11-27 12:00 UTC" in page
    assert page == render_report(study, diagnosis, moment=NOON)


def test_every_slice_has_its_own_pictures_in_order(make_study, make_diagnosis):
    study = make_study()
    told = []
    with Beside("drawing", threads=3) as beside:
        pictures = PagePictures(study.volume)
        pictures.begin_rest(make_diagnosis(study), beside)
        found = pictures.drawn(lambda done, total: told.append((done, total)))
    assert told == [(number, len(pictures.shown)) for number in range(1, len(pictures.shown) + 1)]
    assert [set(picture) for picture in found] == [{"lung", "mediastinal", "map", "outlines"}] * len(found)


def test_what_cannot_be_drawn_ends_the_page(make_study, make_diagnosis, monkeypatch):
    study = make_study()
    diagnosis = make_diagnosis(study)

    def fail(hu, window):
        raise MemoryError("no room for a picture")

    monkeypatch.setattr("jcs_ct.reporting.page_pictures.ct_picture", fail)
    with pytest.raises(MemoryError, match="no room for a picture"):
        render_report(study, diagnosis)
