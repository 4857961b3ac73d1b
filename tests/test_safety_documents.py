"""What the safety documents say of the report is what its schema has."""

import json
import re
from pathlib import Path

import pytest

from jcs_ct.reporting import report_schema

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("INTENDED_USE.md", "SECURITY.md", "src/jcs_ct/weights/MODEL_CARD.md")


def schema_names(node: object) -> set[str]:
    """Every property that the schema names, at any depth."""
    if isinstance(node, dict):
        own = set(node.get("properties", {})) if isinstance(node.get("properties", {}), dict) else set()
        return own.union(*(schema_names(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(schema_names(value) for value in node))
    return set()


def test_fields_that_intended_use_names_are_in_the_schema():
    text = (ROOT / "INTENDED_USE.md").read_text()
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", text)) - {"jcs_ct"}
    assert named >= {"percent_ground_glass", "percent_consolidation"}
    assert named <= schema_names(report_schema())


def test_intended_use_and_schema_agree_on_ground_glass():
    """The report parts ground glass from consolidation: no document may say that it does not."""
    assert "percent_ground_glass" in schema_names(report_schema())
    for name in DOCUMENTS:
        assert not re.search(r"without telling\s+ground glass", (ROOT / name).read_text()), name


@pytest.mark.parametrize("name", DOCUMENTS)
def test_each_says_what_it_is_not(name):
    assert "esearch use only, not a medical device" in (ROOT / name).read_text()


def test_no_category_is_assigned_as_intended_use_says():
    assert "No CO-RADS category is ever assigned" in (ROOT / "INTENDED_USE.md").read_text()
    text = json.dumps(report_schema())
    assert not re.search(r'"co_?rads"\s*:\s*{(?![^}]*null)', text, re.IGNORECASE)
