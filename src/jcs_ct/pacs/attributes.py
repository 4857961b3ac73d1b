"""Attributes in a server's answers: the DICOM JSON model (PS3.18 F), and native DICOM XML (PS3.19 A) read as it."""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from jcs_ct.errors import ConfigError
from jcs_ct.pacs.multipart import decode_parts
from jcs_ct.pacs.server import PacsAnswerError

#: Tag -> ``{"vr": ..., "Value": [...]}``.
Attributes = dict[str, Any]

_UID = re.compile(r"[0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*")
_DEEPEST = 32


def read_attributes(content: bytes, content_type: str) -> list[Attributes]:
    """The data sets of an answer, whatever form the server chose; an empty answer holds none.

    Raises:
        PacsAnswerError: it is neither DICOM JSON nor native DICOM XML.
    """
    kind, start = content_type.lower(), content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    if not start:
        return []
    if kind.startswith("multipart/"):
        return [one for part in decode_parts(content, content_type) for one in _from_xml(part)]
    if start == b"<":
        return _from_xml(content)
    try:
        held = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise PacsAnswerError(
            "the PACS's answer is no JSON and no XML; is the address that of its DICOMweb root?"
        ) from error
    items = held if isinstance(held, list) else [held]
    if not all(isinstance(item, dict) for item in items):
        raise PacsAnswerError("the PACS's answer is no list of data sets; is the address that of its DICOMweb root?")
    return items


def first_value(item: Attributes, tag: str) -> Any:
    """The first value of an attribute, or None."""
    values = _values(item, tag)
    return values[0] if values else None


def text_value(item: Attributes, tag: str) -> str:
    """The first value as text, person names by their first form; empty when absent."""
    value = first_value(item, tag)
    if isinstance(value, dict):
        value = next((form for form in value.values() if form), "")
    return "" if value is None or isinstance(value, (dict, list)) else str(value).strip(" \0")


def uid_value(item: Attributes, tag: str) -> str:
    """An identifier, or an empty text: it goes into addresses, so its letters are checked."""
    value = text_value(item, tag)
    return value if is_uid(value) else ""


def count_value(item: Attributes, tag: str) -> int | None:
    """A number of things, or None where the server does not state one."""
    text = text_value(item, tag)
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None


def sequence(item: Attributes, tag: str) -> list[Attributes]:
    """The items of a sequence; none when it is absent or empty."""
    return [value for value in _values(item, tag) if isinstance(value, dict)]


def is_uid(text: str) -> bool:
    """Whether ``text`` can stand in an address as an identifier: a UID, or what real archives hold in its place."""
    return len(text) <= 64 and _UID.fullmatch(text) is not None


def checked_uid(uid: str) -> str:
    """An identifier that can be asked for.

    Raises:
        ConfigError: it has letters that no UID has.
    """
    if not is_uid(uid):
        raise ConfigError("an identifier of a study, series or instance has letters that no UID has")
    return uid


def _values(item: Attributes, tag: str) -> list[Any]:
    attribute = item.get(tag)
    values = attribute.get("Value") if isinstance(attribute, dict) else None
    return values if isinstance(values, list) else []


def _from_xml(content: bytes) -> list[Attributes]:
    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:
        raise PacsAnswerError("the PACS's answer is XML that cannot be read") from error
    if _name(root) != "NativeDicomModel":
        raise PacsAnswerError(
            f"the PACS's answer is XML but no DICOM ({_name(root)[:40]!r}); is the address that of its DICOMweb root?"
        )
    attributes = _xml_attributes(root, 0)
    return [attributes] if attributes else []


def _xml_attributes(element: Element, depth: int) -> Attributes:
    if depth > _DEEPEST:
        raise PacsAnswerError(f"the PACS's answer nests sequences more than {_DEEPEST} deep")
    found: Attributes = {}
    for child in element:
        if _name(child) == "DicomAttribute":
            values = [value for value in (_xml_value(held, depth) for held in child) if value is not None]
            found[child.get("tag", "").upper()] = {"vr": child.get("vr", ""), "Value": values}
    return found


def _xml_value(element: Element, depth: int) -> Any:
    name = _name(element)
    if name == "Item":
        return _xml_attributes(element, depth + 1)
    if name == "Value":
        return element.text or ""
    if name == "PersonName":
        return {"Alphabetic": "".join(element.itertext()).strip()}
    return None


def _name(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
