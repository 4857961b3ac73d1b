"""Texts of the report page into gettext catalogues, and the catalogues into what the package reads.

    python scripts/translations.py            collect, bring every catalogue up to date, compile
    python scripts/translations.py --new fr   start another language

Then translate ``src/jcs_ct/reporting/locale/LANGUAGE.po`` and run it again.
"""

from __future__ import annotations

import argparse
import io
from datetime import UTC, datetime
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

REPORTING = Path(__file__).resolve().parents[1] / "src" / "jcs_ct" / "reporting"
LOCALE = REPORTING / "locale"
TEMPLATE = LOCALE / "report.pot"
_METHODS = [("**.py", "python"), ("**.html", "jinja2.ext:babel_extract")]
_OPTIONS = {"**.html": {"trimmed": "true", "silent": "false"}}
_KEYWORDS = {
    "_": None,
    "marked": None,
    "gettext": None,
    "ngettext": (1, 2),
    "plural": (1, 2),
    "pgettext": ((1, "c"), 2),
}


def collected() -> Catalog:
    """Every text of the page, from the templates and from calls of ``marked`` and ``plural``."""
    catalogue = Catalog(project="jcs-ct", fuzzy=False)
    found = extract_from_dir(REPORTING, _METHODS, _OPTIONS, _KEYWORDS, comment_tags=("For translators:",))
    for name, _, message, comments, context in sorted(found, key=lambda entry: (entry[0], entry[1])):
        catalogue.add(message, None, [(name, None)], auto_comments=comments, context=context)
    return catalogue


def languages() -> list[str]:
    """Languages that have a catalogue."""
    return sorted(path.stem for path in LOCALE.glob("*.po"))


def read_catalogue(language: str) -> Catalog:
    """A catalogue as it is stored."""
    with (LOCALE / f"{language}.po").open("rb") as stream:
        return read_po(stream, locale=language)


def updated(language: str) -> Catalog:
    """A stored catalogue with the texts of today; texts that are gone are dropped, never guessed anew."""
    catalogue = read_catalogue(language)
    catalogue.update(collected(), no_fuzzy_matching=True)
    catalogue.obsolete.clear()
    return catalogue


def as_po(catalogue: Catalog) -> bytes:
    """The catalogue as text, without the header's times: the same texts give the same bytes."""
    stream = io.BytesIO()
    write_po(stream, catalogue, omit_header=False, sort_by_file=True, width=118, include_lineno=False)
    lines = stream.getvalue().decode("utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(('"POT-Creation', '"PO-Revision'))).encode("utf-8")


def as_mo(catalogue: Catalog) -> bytes:
    """The catalogue as the package reads it, without times: the same texts give the same bytes."""
    catalogue.creation_date = catalogue.revision_date = datetime(2026, 1, 1, tzinfo=UTC)
    stream = io.BytesIO()
    write_mo(stream, catalogue)
    return stream.getvalue()


def main() -> None:
    """Write the template and every catalogue."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", metavar="LANGUAGE", help="start a catalogue of another language")
    options = parser.parse_args()
    TEMPLATE.write_bytes(as_po(collected()))
    if options.new:
        (LOCALE / f"{options.new}.po").write_bytes(as_po(Catalog(locale=options.new, project="jcs-ct", fuzzy=False)))
    for language in languages():
        catalogue = updated(language)
        (LOCALE / f"{language}.po").write_bytes(as_po(catalogue))
        catalogue = read_catalogue(language)
        (LOCALE / f"{language}.mo").write_bytes(as_mo(catalogue))
        missing = [message.id for message in catalogue if message.id and not message.string]
        print(f"{language}: {len(catalogue)} texts, {len(missing)} without a translation")


if __name__ == "__main__":
    main()
