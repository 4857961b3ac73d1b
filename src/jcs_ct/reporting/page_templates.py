"""The report page's templates with their words, for the page as a whole and for the parts that other pages show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import BytecodeCache, Environment, PackageLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup

from jcs_ct.reporting.language import Words, template_functions
from jcs_ct.reporting.lung_views import SIGHTS
from jcs_ct.reporting.page_words import (
    ACQUISITION,
    FLAGS,
    HELD_OUT,
    LOOK_ALIKES,
    NEVER_SEEN,
    ROLES,
    SIDES,
    SOURCE_KINDS,
    STAGES,
    THIRDS,
    WITHHELD_FIELDS,
    named,
)


class _CompiledPages(BytecodeCache):
    """Compiled templates, kept for as long as the program lives: compiling takes longer than a small study's page."""

    def __init__(self) -> None:
        self._kept: dict[str, bytes] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


_COMPILED = _CompiledPages()


def page_templates(words: Words) -> Environment:
    """The templates in the folder ``page``, their texts and figures in a language."""
    environment = Environment(
        bytecode_cache=_COMPILED,
        loader=PackageLoader("jcs_ct.reporting", "page"),
        extensions=["jinja2.ext.i18n"],
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    environment.policies["ext.i18n.trimmed"] = True
    environment.install_gettext_callables(**template_functions(words))  # type: ignore[attr-defined]
    environment.filters["figure"] = words.figure
    environment.filters["amount"] = words.amount
    environment.filters["percent"] = words.percent
    environment.filters["plain"] = words.plain
    environment.filters["sentence"] = lambda text: f"{text[:1].upper()}{text[1:]}."
    for name, names in (
        ("acquisition_name", ACQUISITION),
        ("field_name", WITHHELD_FIELDS),
        ("flag_name", FLAGS),
        ("held_out_name", HELD_OUT),
        ("role_name", ROLES),
        ("side_name", SIDES),
        ("sight_name", SIGHTS),
        ("source_name", SOURCE_KINDS),
        ("stage_name", STAGES),
        ("third_name", THIRDS),
    ):
        environment.filters[name] = partial(named, words, names)
    return environment


def limit_names(limits: Mapping[str, Any], words: Words) -> dict[str, str]:
    """What the template ``limits.html`` needs beside a report: its kinds of look-alikes and of what was never seen.

    Args:
        limits: Of a report.json.
        words: Of the language.
    """
    return {
        "look_alikes": _listed(words, LOOK_ALIKES, limits["not_told_apart"]),
        "never_seen": _listed(words, NEVER_SEEN, limits["never_seen"]),
    }


def limits_in_html(report: Mapping[str, Any], words: Words) -> Markup:
    """What the verdict cannot tell, as the report page says it, for another page.

    Args:
        report: report.json as values.
        words: Of the language.
    """
    template = page_templates(words).get_template("limits.html")
    return Markup(template.render(report=report, verdict=report["verdict"], **limit_names(report["limits"], words)))


def _listed(words: Words, names: Mapping[str, str], keys: Sequence[str]) -> str:
    return ", ".join(named(words, names, key) for key in keys)
