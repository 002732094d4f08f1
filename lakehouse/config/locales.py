"""Lists the number separators of locales, as in CLDR: the decimal sign, and the signs between groups of three digits.

Only locales whose separators are known are listed. With a guessed locale, 1.234 would be read as the wrong number.
"""

from __future__ import annotations

from typing import NamedTuple


class Separators(NamedTuple):
    """The separators of a locale.

    Attributes:
        decimal: The decimal sign.
        groups: Each of the signs that may separate groups of three digits.
    """

    decimal: str
    groups: str


_SPACES = " \u00a0\u202f"  # people type the first one, CLDR has the other two
_APOSTROPHES = "'\u2019"
_BY_SEPARATORS = {
    Separators(".", ","): "en en-US en-GB en-AU en-CA en-IE en-NZ es-MX ja-JP ko-KR zh-CN",
    Separators(",", "."): "pt pt-BR de de-DE es es-ES es-AR es-CL es-CO it it-IT nl nl-NL nl-BE da-DK el-GR tr-TR",
    Separators(",", _SPACES): "fr fr-FR fr-BE fr-CA fr-CH pt-PT pl-PL cs-CZ sk-SK hu-HU ru-RU uk-UA sv-SE fi-FI nb-NO",
    Separators(".", _APOSTROPHES): "de-CH de-LI it-CH",
}
LOCALES = {tag: separators for separators, tags in _BY_SEPARATORS.items() for tag in tags.split()}
_BY_LOWER_CASE_TAG = {tag.lower(): separators for tag, separators in LOCALES.items()}


def find_separators(tag: str) -> Separators | None:
    """Return the separators of a language tag (BCP 47), or None if the tag is unknown; case does not matter.

    >>> find_separators("pt-br")
    Separators(decimal=',', groups='.')
    >>> find_separators("pt_BR") is None
    True

    Args:
        tag: A tag such as `pt-BR`.
    """
    return _BY_LOWER_CASE_TAG.get(tag.lower())
