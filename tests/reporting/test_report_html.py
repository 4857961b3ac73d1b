from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from jcs_ct import NOTICE
from jcs_ct.imaging.study import QualityFlag
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reporting import render_report
from jcs_ct.reporting.report_html import MOST_SLICES_SHOWN, shown_slices

VOID = {"meta", "img", "input", "br", "link", "hr"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}</script><!--'


class _Outline(HTMLParser):
    """Elements in order; fails on tags that are not closed in turn or ids that are used twice."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids))

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute of <{tag}> stands twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text.append(data)

    def words(self):
        return " ".join("".join(self.text).replace("\N{NO-BREAK SPACE}", " ").split())

    def find(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and all(a.get(k) == v for k, v in wanted.items())]


def _data(page):
    text = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL).group(1)
    return json.loads(text)


@pytest.fixture
def render(make_study, make_diagnosis):
    def make(study_options=None, **options):
        study = make_study(**(study_options or {}))
        return render_report(study, make_diagnosis(study, **options))

    return make


@pytest.fixture(params=["positive", "negative", "no geometry", "assumed HU", "no lesions", "on request"])
def page(request, render):
    return {
        "positive": lambda: render(),
        "negative": lambda: render(positive=False),
        "no geometry": lambda: render({"affine": None}),
        "assumed HU": lambda: render({"hu_is_assumed": True, "affine": None}),
        "no lesions": lambda: render(boxes=()),
        "on request": lambda: render(positive=False, segmented=True),
    }[request.param]()


def test_every_page_is_well_formed_and_reaches_out_to_nothing(page):
    outline = _Outline(page)
    assert re.findall(r"https?://|url\(|@import|//[a-z]+\.", page) == []
    for _, attributes in outline.elements:
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/", "#"))
    assert outline.find("link") == []


def test_every_page_bears_the_notice_at_both_ends(page):
    assert page.count(NOTICE) == 2
    words = _Outline(page).words()
    assert words.index(NOTICE) < 400
    assert words.endswith(NOTICE)


def test_only_the_pages_own_script_may_run(page):
    (policy,) = _Outline(page).find("meta", **{"http-equiv": "Content-Security-Policy"})
    script = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[-1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy["content"]
    assert policy["content"].startswith("default-src 'none'")


def test_every_control_has_a_name(page):
    outline = _Outline(page)
    for attributes in outline.find("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    assert outline.find("input", id="slider")[0]["aria-label"] == "Slice"
    assert outline.find("html")[0]["lang"] == "en"


def test_a_positive_page_says_the_count_the_threshold_and_the_fraction(render):
    words = _Outline(render()).words()
    assert "POSITIVE" in words
    assert "8 of 11 slices with lung look infected (73 %). A study is positive with more than 3." in words
    assert "SHA-256 " + "ab" * 32 in words
    assert "zonal, not lobar" in words
    assert "PHO cut" in words


def test_a_negative_page_says_why_there_are_no_lesions(render):
    words = _Outline(render(positive=False)).words()
    assert "NEGATIVE" in words
    assert "Lesions were not segmented: the patient rule is negative." in words


def test_a_page_without_a_verdict_says_so(make_study, make_diagnosis):
    study = make_study()
    few = replace(
        make_diagnosis(study),
        verdict=Verdict.WITHHELD,
        basis=VerdictBasis.TOO_FEW_SLICES,
        positive_slice_threshold=None,
    )
    words = _Outline(render_report(study, few)).words()
    assert "WITHHELD" in words
    assert "too few slices for a verdict on the patient" in words
    assert not re.search(r"(than|threshold|here|/) None", words)
    small = replace(make_diagnosis(study), basis=VerdictBasis.SLICE_SHARE)
    assert "A study this small is positive with more than 3, 17" in _Outline(render_report(study, small)).words()


def test_a_page_with_lung_of_unknown_side_withholds_its_zones(make_study, make_diagnosis):
    study = make_study()
    found = make_diagnosis(study)
    lesions = (replace(found.lesions[0], side="unknown"), *found.lesions[1:])
    outline = _Outline(
        render_report(study, replace(found, lesions=lesions, burden=replace(found.burden, zones=None)))
    )
    assert "Zones of each lung are withheld" in outline.words()
    assert "unknown" in outline.words()


def test_figures_without_geometry_are_withheld_with_the_reason(render):
    outline = _Outline(render({"affine": None}))
    reasons = {a["title"] for a in outline.find("span", **{"class": "withheld"}) if "title" in a}
    assert any("geometry is not known" in reason for reason in reasons)
    assert not re.search(r"\d ml\b", outline.words())
    assert "R?" in outline.words()


def test_the_page_carries_every_slice_and_the_fields_of_fig_6(render):
    data = _data(render())
    assert [entry["index"] for entry in data["slices"]] == list(range(12))
    assert data["slices"][3]["fields"] == [[1, 96, 13.5, 13.5, 8, 10, 12, 8]]
    assert [len(entry["outlines"]) for entry in data["slices"]] == [0, 0, 0, 1, 1, 2, 2, 1, 0, 0, 0, 0]
    assert [entry["map"] is not None for entry in data["slices"]] == [2 <= index < 10 for index in range(12)]
    assert data["first"] == 3


def test_the_table_leads_to_the_slices(render):
    rows = [attributes for attributes in _Outline(render()).find("tr") if "data-lesion" in attributes]
    assert [(row["data-lesion"], row["data-slice"]) for row in rows] == [("1", "3"), ("2", "5")]


def test_hostile_text_stays_text(render):
    page = render({"acquisition": {"kernel": HOSTILE}}, flags=[QualityFlag(HOSTILE, HOSTILE)])
    outline = _Outline(page)
    assert len(outline.find("script")) == 2
    assert not [a for _, a in outline.elements if "onerror" in a]
    assert outline.words().count("alert(1)") == 3
    assert "49" not in re.findall(r"onerror=alert\(2\)>(\S*)", outline.words())


def test_long_studies_are_thinned_and_say_so(render):
    count = 1200
    page = render({"shape": (count, 8, 8)}, boxes=(np.s_[601:604, 2:5, 2:5],))
    data = _data(page)
    assert len(data["slices"]) == MOST_SLICES_SHOWN
    assert data["count"] == count
    assert (data["slices"][0]["index"], data["slices"][-1]["index"]) == (0, count - 1)
    words = _Outline(page).words()
    assert f"{MOST_SLICES_SHOWN} of {count} slices are shown above" in words
    assert page.count('<rect class="bar') >= count


def test_one_slice_is_enough(render):
    page = render({"shape": (1, 8, 8)}, positive=False)
    assert len(_data(page)["slices"]) == 1
    _Outline(page)


@pytest.mark.parametrize("count", [1, 2, MOST_SLICES_SHOWN, MOST_SLICES_SHOWN + 1, 5000])
def test_shown_slices_are_distinct_and_reach_both_ends(count):
    shown = shown_slices(count)
    assert shown == sorted(set(shown))
    assert (shown[0], shown[-1]) == (0, count - 1)
    assert len(shown) == min(count, MOST_SLICES_SHOWN)
