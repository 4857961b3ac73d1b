"""The words of the report page: English stands in the sources, other languages in gettext catalogues.

``scripts/translations.py`` collects the texts into ``locale/report.pot``, brings the catalogues up to date and
compiles them. A language is added by translating that template (docs/how-to/translate.md).
"""

from __future__ import annotations

import gettext
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, get_args

from jcs_ct.choices import ReportLanguage
from jcs_ct.errors import ConfigError

LANGUAGES: tuple[ReportLanguage, ...] = get_args(ReportLanguage)

#: Stands for a number that is not stated.
DASH = "\N{EN DASH}"


def marked(text: str) -> str:
    """Mark a text for the catalogue where it is defined; it is translated where it is shown."""
    return text


#: Probabilities are told from a cut-off with at most so many digits.
_MOST_DIGITS = 6


@dataclass(frozen=True)
class Words:
    """Texts and numbers as a reader of one language expects them.

    Args:
        language: Code of the language, also the page's ``lang``.
        catalogue: Its translations; texts that it lacks stay English.
    """

    language: ReportLanguage
    catalogue: gettext.NullTranslations

    @classmethod
    def of(cls, language: str) -> Words:
        """The words of a language.

        Raises:
            ConfigError: a language without a catalogue.
        """
        for known in LANGUAGES:
            if known == language:
                return _words(known)
        raise ConfigError(f"no report in the language {language!r}; choose from {', '.join(LANGUAGES)}")

    def text(self, message: str, **values: object) -> str:
        """The translation of a text, its ``%(name)s`` filled in."""
        translated = self.catalogue.gettext(message)
        return translated % values if values else translated

    def plural(self, one: str, several: str, number: int, **values: object) -> str:
        """The same for a text that depends on a number, which fills ``%(number)s``."""
        return self.catalogue.ngettext(one, several, number) % {"number": number, **values}

    @property
    def decimal_mark(self) -> str:
        """What parts whole numbers from their fractions."""
        return self.catalogue.pgettext("decimal mark", ".")

    def figure(self, value: float | None, digits: int = 1, unit: str = "") -> str:
        """A number for a reader, or a dash when it is not stated."""
        if value is None:
            return DASH
        grouping = "," if abs(value) >= 10_000 else ""  # four digits stand together (SI brochure, 5.4.4)
        text = f"{value:{grouping}.{digits}f}".replace(",", "\N{THIN SPACE}").replace("-", "\N{MINUS SIGN}")
        return text.replace(".", self.decimal_mark) + unit

    def amount(self, value: float, digits: int = 1) -> str:
        """A number for a reader that is never 0 when there is something: what would be rounded to 0 is "< 0.1"."""
        least = 10.0**-digits
        return f"< {self.figure(least, digits)}" if 0 < value < least / 2 else self.figure(value, digits)

    def probability(self, value: float, cut: float) -> str:
        """A slice's probability with as many digits, two or more, as show on which side of the cut-off it lies."""
        digits = 2
        while (round(value, digits) >= round(cut, digits)) != (value >= cut) and digits < _MOST_DIGITS:
            digits += 1
        return self.figure(value, digits)

    def plain(self, value: float | str | None) -> str:
        """A fact of a header: its text, or its number with as many digits as it has."""
        if value is None or isinstance(value, str):
            return value or DASH
        return f"{value:g}".replace("-", "\N{MINUS SIGN}").replace(".", self.decimal_mark)

    def percent(self, value: float | None, digits: int = 1) -> str:
        """A share in per cent."""
        return self.figure(value, digits, "\N{NO-BREAK SPACE}%")


@lru_cache(maxsize=len(LANGUAGES))
def _words(language: ReportLanguage) -> Words:
    if language == "en":
        return Words(language, gettext.NullTranslations())
    with files("jcs_ct.reporting").joinpath("locale", f"{language}.mo").open("rb") as stream:
        return Words(language, gettext.GNUTranslations(stream))


def template_functions(words: Words) -> dict[str, Any]:
    """What Jinja's ``install_gettext_callables`` takes."""
    catalogue = words.catalogue
    return {
        "gettext": catalogue.gettext,
        "ngettext": catalogue.ngettext,
        "pgettext": catalogue.pgettext,
        "npgettext": catalogue.npgettext,
        "newstyle": True,
    }
