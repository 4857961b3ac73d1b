"""What the safety documents say is what the report's schema, the figures and the files have."""

import hashlib
import json
import re
from pathlib import Path

import pytest
from card_front_matter import with_front_matter
from huggingface_hub import ModelCard

from jcs_ct.checkpoints import load_models
from jcs_ct.reporting import report_schema

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "src/jcs_ct/weights"
DOCUMENTS = ("INTENDED_USE.md", "SECURITY.md", "src/jcs_ct/weights/MODEL_CARD.md")
#: What the documents call what the report names so.
WORDS = {
    "other_pneumonia": "other pneumonia",
    "contrast_agent": "contrast-enhanced scans",
}


def text_of(name: str) -> str:
    """A document in one line, so that its line ends do not matter."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


def schema_names(node: object) -> set[str]:
    """Every property that the schema names, at any depth."""
    if isinstance(node, dict):
        own = set(node.get("properties", {})) if isinstance(node.get("properties", {}), dict) else set()
        return own.union(*(schema_names(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(schema_names(value) for value in node))
    return set()


def schema_choices(name: str) -> list[str]:
    """What a list among the report's limits may hold."""
    return report_schema()["properties"]["limits"]["properties"][name]["items"]["enum"]


def test_fields_that_the_documents_name_are_in_the_schema():
    text = text_of("INTENDED_USE.md")
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) - {"jcs_ct"}
    assert named >= {"percent_ground_glass", "percent_consolidation"}
    assert named <= schema_names(report_schema())


def test_documents_and_schema_agree_on_ground_glass():
    """The report parts ground glass from consolidation: no document may say that it does not."""
    assert "percent_ground_glass" in schema_names(report_schema())
    for name in DOCUMENTS:
        assert not re.search(r"without telling ground glass", text_of(name)), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_says_what_it_is_not(name):
    assert "esearch use only, not a medical device" in text_of(name)


@pytest.mark.parametrize("name", ["INTENDED_USE.md", "src/jcs_ct/weights/MODEL_CARD.md"])
def test_what_the_report_does_not_tell_apart_stands_in(name):
    for kind in schema_choices("not_told_apart"):
        assert WORDS.get(kind, kind) in text_of(name), kind


def test_what_the_report_says_was_never_seen_stands_in_the_card():
    for kind in schema_choices("never_seen"):
        assert WORDS.get(kind, kind) in text_of("src/jcs_ct/weights/MODEL_CARD.md"), kind


def test_no_category_is_assigned_as_intended_use_says():
    assert "No CO-RADS category is ever assigned" in text_of("INTENDED_USE.md")
    text = json.dumps(report_schema())
    assert not re.search(r'"co_?rads"\s*:\s*{(?![^}]*null)', text, re.IGNORECASE)


def test_the_report_has_no_field_for_an_identity_as_security_says():
    assert "carry hashed identifiers and counts: no name, ID, date, UID, path or file name" in text_of("SECURITY.md")
    of_identity = re.compile(
        r"(patient|study|series|accession)_?(name|id|uid|date|path)|birth|uid$|_date$|file_?name"
    )
    assert {name for name in schema_names(report_schema()) if of_identity.search(name)} <= {"patient_count"}


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """The card as Hugging Face's own library reads it."""
    return ModelCard((WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8"), ignore_metadata_errors=False)


def test_the_cards_metadata_are_of_todays_figures_and_files(card):
    text = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert text == with_front_matter(text), "python scripts/card_front_matter.py --write"
    files = {entry["path"]: entry for entry in card.data.to_dict()["files"]}
    assert set(files) == {path.name for path in WEIGHTS.glob("*.safetensors")}
    for name, entry in files.items():
        content = (WEIGHTS / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_hugging_face_reads_every_figure(card):
    figures = json.loads((WEIGHTS / "figures.json").read_text())["weights"]
    wanted = [
        (row["source"], kind, row[kind])
        for row in figures["classifier"]["slices"]
        for kind in ("sensitivity", "specificity")
        if row[kind] is not None
    ] + [(row["source"], "dice", row["dice_percent"]) for row in figures["segmenter"]["lesions"]]
    found = [(one.dataset_name, one.metric_type, one.metric_value) for one in card.data.eval_results]
    assert sorted(found) == sorted(wanted)
    assert (card.data.license, card.data.library_name) == ("apache-2.0", "jcs-ct")
    assert {"sensitivity", "specificity", "dice"} == set(card.data.metrics)
    assert not re.search(r"\s", "".join(card.data.datasets))


def test_the_card_states_the_error_of_the_burden():
    (row,) = json.loads((WEIGHTS / "figures.json").read_text())["weights"]["segmenter"]["burden"]
    text = " ".join(text_of("src/jcs_ct/weights/MODEL_CARD.md").split()).replace("−", "-")
    assert "the eight patients of `zenodo20` each left out of a training like this one" in text
    assert (row["source"], row["volumes"]) == ("zenodo20", 8)
    limits = f"limits of agreement {row['lowest_percent']} to {row['highest_percent']}"
    assert f"found minus true: {row['mean_percent']} on average, {limits};" in text


def test_the_card_states_the_operating_point_of_the_weights():
    point, text = load_models("compact").operating_point, text_of("src/jcs_ct/weights/MODEL_CARD.md")
    assert f"infected from probability {point.slice_probability:.2f}" in text
    assert f"lesion from probability {point.lesion_probability:.2f}" in text
    assert f"more than {point.positive_slice_threshold} infected slices" in text
