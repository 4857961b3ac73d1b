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
from jcs_ct.errors import ConfigError
from jcs_ct.imaging.study import QualityFlag
from jcs_ct.operating_point import Verdict, VerdictBasis
from jcs_ct.reading.second_look import SecondLook
from jcs_ct.reporting import render_report
from jcs_ct.reporting.language import LANGUAGES, Words
from jcs_ct.reporting.model_limits import shipped_figures
from jcs_ct.reporting.page_pictures import MOST_SLICES_SHOWN, shown_slices
from jcs_ct.reporting.slice_images import MAP_COLOURS

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
    def make(study_options=None, language="en", **options):
        study = make_study(**(study_options or {}))
        return render_report(study, make_diagnosis(study, **options), language=language)

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
    assert page.count(NOTICE) == 3, "top, bottom, and the margin of every printed page"
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
    assert "8 of 11 slices with lung look infected (73 %). Positive when more than 3 slices are infected." in words
    assert "SHA-256 " + "ab" * 32 in words
    assert "zonal, not lobar" in words
    assert "PHO cut" in words


def test_a_negative_page_says_why_there_are_no_lesions(render):
    words = _Outline(render(positive=False)).words()
    assert "NEGATIVE" in words
    assert "Lesions were not segmented: the patient rule is negative." in words
    assert "Lesions of each slice, Number of lesions, Lesions, Burden: lesions were not segmented" in words
    assert not _Outline(render(positive=False)).find("input", id="show-outlines"), "nothing to show or hide"


def test_a_negative_page_says_what_the_second_look_found(make_study, make_diagnosis):
    study = make_study()
    look = SecondLook(tuple(range(20)), 0.0012)
    page = render_report(study, replace(make_diagnosis(study, positive=False), second_look=look))
    said = "Checked by segmenting 20 slices: lesions are outlined on 0.1\N{NO-BREAK SPACE}% of their lung"
    assert said in page
    assert "Checked by segmenting" not in render_report(study, make_diagnosis(study))


def test_the_page_opens_on_an_infected_slice_of_the_largest_lesion(make_study, make_diagnosis):
    study = make_study()
    diagnosis = make_diagnosis(study, boxes=[np.s_[1:8, 10:18, 8:20]])
    largest = diagnosis.lesion_labels.copy()
    first = json.loads(re.search(r'id="data">(.*?)</script>', render_report(study, diagnosis)).group(1))["first"]
    assert largest[first].any()
    assert diagnosis.slices[first].infected


def test_every_printed_page_is_numbered_and_names_the_study(render):
    page = render()
    margins = next(rule for rule in re.findall(r"@page .*", page) if "@top-center" in rule)
    assert f'@top-center {{ content: "{NOTICE}"; }}' in margins
    assert '@bottom-left { content: "0123456789abcdef"; }' in margins
    assert '"page " counter(page) " of " counter(pages)' in margins
    words = _Outline(page).words()
    assert "Study 0123456789abcdef" in words[: words.index("POSITIVE")]


def test_what_would_be_rounded_to_nothing_is_less_than_something():
    words = Words.of("en")
    assert [words.amount(value) for value in (0.0, 0.04, 0.05, 0.1)] == ["0.0", "< 0.1", "0.1", "0.1"]
    assert words.amount(0.001, 2) == "< 0.01"
    assert Words.of("de").amount(0.01) == "< 0,1"


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
    assert "In a study this small, positive when more than 3 slices, 17" in (
        words := _Outline(render_report(study, small)).words()
    )
    assert re.search(r"\(here 3: 17.% of the slices with lung\)", words)


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
    assert "not to scale" in outline.words()
    assert _data(render({"affine": None}))["slices"][3]["fields"][0][:3] == [1, None, 96]
    assert "R?" in outline.words()


#: How the colour-blind see linear red, green and blue (Machado, Oliveira and Fernandes 2009, Table 1, severity 1).
COLOUR_BLIND = {
    "nobody": np.eye(3),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


@pytest.mark.parametrize("reader", COLOUR_BLIND)
def test_a_lesions_line_is_told_from_every_colour_of_the_map(render, reader):
    hexadecimal = re.search(r"--lesion: #([0-9a-f]{6});", render()).group(1)
    line = [int(hexadecimal[place : place + 2], 16) for place in (0, 2, 4)]
    seen = (np.array([line, *MAP_COLOURS]) / 255) ** 2.2 @ COLOUR_BLIND[reader].T
    first, *others = 255 * np.clip(seen, 0, 1) ** (1 / 2.2)
    assert min(np.linalg.norm(first - other) for other in others) > 90


def test_lines_have_a_dark_rim_and_a_legend_that_is_printed(render):
    outline = _Outline(render())
    lines = [a["class"] for a in outline.find("path") if "outline" in a.get("class", "")]
    assert lines[::2] == ["outline rim"] * (len(lines) // 2)
    assert lines[1::2] == ["outline"] * (len(lines) // 2)
    assert len(lines) > 0
    shown, printed = outline.words(), render().split("@media print")[1]
    assert "lesion outline chosen lesion Activation map 0" in shown
    assert ".legend" not in printed
    assert "lesion outline" not in _Outline(render(boxes=())).words()


def test_the_head_names_the_scan_and_says_why_it_is_not_dated(make_study, make_diagnosis):
    study = make_study(acquisition={"model": "Scanner Q", "kernel": "B70f", "slice_thickness_mm": 2.5})
    words = _Outline(render_report(study, make_diagnosis(study))).words()
    head = words[: words.index("POSITIVE")]
    assert "Scanner Scanner Q Reconstruction kernel B70f Slice thickness (mm) 2.5 Slice spacing (mm) 2.00" in head
    assert "Study date and description are left out on purpose: they can identify the patient." in head


def test_figures_of_the_limits_bear_their_names_where_a_phone_stacks_them(make_study, make_diagnosis):
    study, figures = make_study(), shipped_figures().weights
    found = make_diagnosis(study)
    models = {"classifier": {"name": "compact", "preset": "compact", "sha256": figures.classifier.sha256}}
    point = replace(found.operating_point, slice_probability=figures.classifier.slice_probability)
    page = render_report(study, replace(found, models=models, operating_point=point))
    labels = [a["data-label"] for a in _Outline(page).find("td") if "data-label" in a]
    names = ["Patients", "Sensitivity", "Specificity"]
    assert [label for label in labels if label in names] == names * len(figures.classifier.slices)


def test_the_page_carries_every_slice_and_the_fields_of_fig_6(render):
    data = _data(render())
    assert [entry["index"] for entry in data["slices"]] == list(range(12))
    assert data["slices"][3]["fields"] == [[1, 54, 96, 13.5, 13.5, 8, 10, 12, 8]]  # 96 pixels of 0.7 x 0.8 mm
    assert [len(entry["outlines"]) for entry in data["slices"]] == [0, 0, 0, 1, 1, 2, 2, 1, 0, 0, 0, 0]
    assert [entry["map"] is not None for entry in data["slices"]] == [2 <= index < 10 for index in range(12)]
    assert data["first"] == 3


def test_the_table_leads_to_the_slices(render):
    rows = [attributes for attributes in _Outline(render()).find("tr") if "data-lesion" in attributes]
    assert [(row["data-lesion"], row["data-slice"]) for row in rows] == [("1", "3"), ("2", "5")]


def test_hostile_text_stays_text(make_study, make_diagnosis):
    study = make_study(acquisition={"kernel": HOSTILE})
    page = render_report(study, make_diagnosis(study, flags=[QualityFlag(HOSTILE, HOSTILE)]), label=HOSTILE)
    outline = _Outline(page)
    assert len(outline.find("script")) == 2
    assert not [a for _, a in outline.elements if "onerror" in a]
    assert outline.words().count("alert(1)") == 6  # the label and the flag twice, the kernel at both its places
    assert "49" not in re.findall(r"onerror=alert\(2\)>(\S*)", outline.words())


#: A name of a program or a standard that has an underscore in it would have to be listed here; there is none.
_RAW_NAME = re.compile(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b|\w\[\]")


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_page_shows_a_reader_the_names_of_fields(render, language):
    acquisition = {"slice_thickness_mm": 1.25, "patient_position": "HFS", "body_part": "CHEST"}
    study = {"shape": (6, 24, 24), "acquisition": acquisition}
    for study_options, options in (
        (study, {}),
        (study, {"positive": False}),
        ({**study, "affine": None, "hu_is_assumed": True}, {}),
    ):
        outline = _Outline(render(study_options, language, boxes=(np.s_[2:5, 6:16, 6:16],), **options))
        assert _RAW_NAME.findall(outline.words()) == []
    assert ("1,25" if language == "de" else "1.25") in outline.words()


def test_limits_stand_beside_the_verdict(make_study, make_diagnosis):
    study = make_study()
    found, figures = make_diagnosis(study), shipped_figures().weights
    shipped = replace(
        found,
        models={
            "classifier": {"name": "compact", "preset": "compact", "sha256": figures.classifier.sha256},
            "segmenter": {"name": "compact", "preset": "compact", "sha256": figures.segmenter.sha256},
        },
        operating_point=replace(
            found.operating_point,
            slice_probability=figures.classifier.slice_probability,
            lesion_probability=figures.segmenter.lesion_probability,
        ),
    )
    words = _Outline(render_report(study, shipped)).words()
    header = words[: words.index("Slice viewer") if "Slice viewer" in words else 2500]
    assert "opacifications as of COVID-19 or another pneumonia" in header
    assert "Not evaluated in: children" in header
    for row in figures.classifier.slices:
        assert row.source in header
        for share, number in ((row.sensitivity, row.infected), (row.specificity, row.not_infected)):
            assert share is None or f"{100 * share:.0f} % of {number}" in header
    (error,) = figures.segmenter.burden
    low, high = (
        f"{shipped.burden.lung_volume_ml * share / 100:.0f}"
        for share in (error.lowest_percent, error.highest_percent)
    )
    assert f"Of these lungs that is {low.replace('-', '−')} to {high} ml." in words
    assert "limits of agreement −7.3 to 5.0 (8 volumes of zenodo20" in words
    unknown = _Outline(render_report(study, found)).words()
    assert "was not measured" in unknown
    assert "limits of agreement" not in unknown
    assert figures.classifier.slices[0].source not in unknown
    negative = _Outline(render_report(study, make_diagnosis(study, positive=False))).words()
    assert "COVID-19 can be present without visible opacifications" in negative


def test_small_lesions_can_be_left_out_and_are_counted(render):
    # Boxes of 480 and 48 voxels of 1.12 mm3: 0.54 ml, and 0.05 ml, under the filter.
    page = render()
    outline, data = _Outline(page), _data(page)
    assert [row["data-lesion"] for row in outline.find("tr", **{"class": "small-lesion"})] == ["2"]
    assert "leave out lesions under 0.1 ml" in outline.words()
    assert "1 lesion, 0.05 ml in all; its outline stays on the slices" in outline.words()
    assert "checked" in outline.find("input", id="hide-small")[0]
    assert data["small"] == [2]
    assert [len(entry["outlines"]) for entry in data["slices"]][5] == 2
    only_small = _Outline(render(boxes=(np.s_[5:7, 20:24, 30:36],)))
    assert "checked" not in only_small.find("input", id="hide-small")[0], "nothing would be left"
    assert not _Outline(render({"affine": None})).find("input", id="hide-small"), "no volume is known"


def test_a_label_stands_on_the_page(make_study, make_diagnosis):
    study = make_study()
    page = render_report(study, make_diagnosis(study), label=" Ward 3, case <12> ")
    outline = _Outline(page)
    assert outline.words().startswith("Ward 3, case <12> – Positive")
    assert "<12>" not in page
    for bad in ("", "  ", "x" * 101, "two\nlines", "bell\a"):
        with pytest.raises(ConfigError, match=r"1 to 100 printable characters") as caught:
            render_report(study, make_diagnosis(study), label=bad)
        assert not bad.strip() or bad not in str(caught.value)


def test_the_lungs_are_seen_from_the_front_and_both_sides(render):
    views = [a for a in _Outline(render()).find("svg") if a.get("class") == "view-picture"]
    sides = ["Right lung from the side", "Left lung from the side"]
    assert [view["aria-label"] for view in views] == ["From the front", *sides]
    front, side = (view["viewbox"].split() for view in views[:2])
    assert front[2:] == ["38.4", "24.0"]  # 48 columns of 0.8 mm, 12 slices of 2 mm
    assert side[2:] == ["28.0", "24.0"]  # 40 rows of 0.7 mm
    assert not [a for a in _Outline(render(positive=False)).find("svg") if a.get("class") == "view-picture"]


def test_a_german_page_is_german(make_study, make_diagnosis):
    study = make_study()
    page = render_report(study, make_diagnosis(study, flags=[QualityFlag("GAP", "a gap")]), language="de")
    outline = _Outline(page)
    words = outline.words()
    assert outline.find("html")[0]["lang"] == "de"
    assert (
        "8 von 11 Schichten mit Lunge sehen infiziert aus (73 %). Positiv, wenn mehr als 3 Schichten infiziert sind."
        in words
    )
    assert NOTICE in words, "the notice stays in English too"
    assert "0,54" in words
    assert "0.54" not in words
    assert "Schichten fehlen oder haben ungleiche Abstände GAPa gap" in words
    assert _data(page)["words"]["decimal_mark"] == ","
    with pytest.raises(ConfigError, match=r"no report in the language 'xx'; choose from en, de"):
        render_report(study, make_diagnosis(study), language="xx")


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
