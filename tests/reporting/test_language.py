"""The page's catalogues are whole, up to date and compiled, and every code has a name for the reader."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import translations

import jcs_ct
from jcs_ct.errors import ConfigError, GateCode
from jcs_ct.reporting.language import LANGUAGES, Words
from jcs_ct.reporting.page_words import FLAGS, RESEARCH_USE, WITHHELD_FIELDS

SOURCES = Path(jcs_ct.__file__).parent
OTHERS = [language for language in LANGUAGES if language != "en"]
_PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|</?\w+[^>]*>")


def test_the_template_holds_the_texts_of_today():
    assert translations.TEMPLATE.read_bytes() == translations.as_po(translations.collected()), (
        "run scripts/translations.py"
    )


def test_every_catalogue_is_offered_and_every_language_has_one():
    assert sorted(OTHERS) == translations.languages()


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_is_whole_and_compiled(language):
    stored = translations.read_catalogue(language)
    wanted = {message.id for message in translations.collected() if message.id}
    assert {message.id for message in stored if message.id} == wanted, "run scripts/translations.py"
    for message in stored:
        originals = message.id if isinstance(message.id, tuple) else (message.id,)
        found = message.string if isinstance(message.string, tuple) else (message.string,)
        assert len(originals) == len(found) or not isinstance(message.id, tuple)
        for original, translated in zip(originals, found, strict=True):
            assert translated, f"{original!r} is not translated"
            if original:
                placeholders = sorted(_PLACEHOLDER.findall(original))
                assert sorted(_PLACEHOLDER.findall(translated)) == placeholders, original
    compiled = (translations.LOCALE / f"{language}.mo").read_bytes()
    assert compiled == translations.as_mo(stored), "run scripts/translations.py"


def test_numbers_are_written_as_the_reader_does():
    english, german = Words.of("en"), Words.of("de")
    assert english.figure(2776.04, 1) == "2776.0"
    assert german.figure(-12345.678, 2) == "\N{MINUS SIGN}12\N{THIN SPACE}345,68"
    assert german.percent(12.34) == "12,3\N{NO-BREAK SPACE}%"
    assert english.plain(120.0) == "120"
    assert german.plain(1.25) == "1,25"
    assert english.figure(None) == english.plain(None) == "\N{EN DASH}"
    with pytest.raises(ConfigError, match=r"choose from en, de"):
        Words.of("tlh")


def test_every_flag_has_a_name():
    code = "".join(path.read_text() for path in SOURCES.rglob("*.py"))
    raised = set(re.findall(r'(?:QualityFlag|Finding)\(\s*"([A-Z_]+)"', code))
    assert {"SPARSE_SLICES", "NEAR_THRESHOLD"} <= raised
    planes = {f"{plane}_SLICES" for plane in ("CORONAL", "SAGITTAL")}
    assert raised | planes | {str(code) for code in GateCode} <= set(FLAGS)


def test_every_field_that_is_withheld_has_a_name():
    source = (SOURCES / "reporting" / "report_json.py").read_text()
    fields = set(re.findall(r'yield f?"([a-z_.\[\]{}]+)"', source))
    assert {"reader.co_rads", "burden.zones[].percent_opacity"} <= fields
    assert {field for field in fields if "{" not in field} <= set(WITHHELD_FIELDS)


def test_the_notice_is_in_the_catalogue():
    assert RESEARCH_USE == jcs_ct.NOTICE


@pytest.mark.parametrize(
    ("value", "cut", "said"),
    [
        (0.7956, 0.8, "0.796"),
        (0.8, 0.8, "0.80"),
        (0.79, 0.8, "0.79"),
        (0.99999, 0.8, "1.00"),
        (0.8049, 0.805, "0.80"),
    ],
)
def test_a_probability_is_never_rounded_across_the_cut_off(value, cut, said):
    assert Words.of("en").probability(value, cut) == said
