"""Classifies texts by their shapes: a shape is a text with a 9 for each digit, so that few stand for many values.

Numbers, by the separators of a locale, and dates and times, with the pattern that Spark reads them by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from lakehouse.config.locales import LOCALES, Separators

# The locales to try, by how usual they are; "" is a decimal point and no groups.
FAMILIES = {"": Separators(".", ""), **{tag: LOCALES[tag] for tag in ("pt-BR", "en-US", "fr-FR", "de-CH")}}

_INTEGER = re.compile(r"[+-]?9+")
_DATE = re.compile(r"(?P<a>9{1,4})(?P<sep>[-/.])(?P<b>9{1,2})(?P=sep)(?P<c>9{1,4})(?P<rest>.*)")
_TIME = re.compile(
    r"(?:(?P<gap>T| )(?P<hour>9{1,2}):99(?P<second>:99(?:\.(?P<fraction>9{1,9}))?)?(?P<half>(?: ?[AaPp][Mm])?)"
    r"(?P<zone>(?: ?(?:Z|UTC|GMT|[+-]99(?::?99)?))?))?"
)


def is_integer(shape: str) -> bool:
    """Return whether a shape is digits with or without a sign."""
    return bool(_INTEGER.fullmatch(shape))


def number_pattern(tag: str) -> re.Pattern[str]:
    """Return the regular expression of numbers in a locale, for shapes and for values.

    Args:
        tag: A key of `FAMILIES`.
    """
    decimal, groups = (re.escape(signs) for signs in FAMILIES[tag])
    grouped = rf"\d{{1,3}}(?:[{groups}]\d{{3}})+|" if groups else ""
    return re.compile(rf"[+-]?(?=.?\d)(?:{grouped}\d*)(?:{decimal}\d*)?(?:[eE][+-]?\d+)?")


class Digits(NamedTuple):
    """The digits of a number: before and after the decimal sign; None after it if there is an exponent."""

    whole: int
    fraction: int | None


def count_digits(shape: str, tag: str) -> Digits:
    """Return how many digits a number's shape has before and after the decimal sign.

    >>> count_digits("-9.999,99", "pt-BR")
    Digits(whole=4, fraction=2)

    Args:
        shape: The shape of a number in the locale.
        tag: A key of `FAMILIES`.
    """
    mantissa, _, exponent = shape.lower().partition("e")
    whole, _, fraction = mantissa.partition(FAMILIES[tag].decimal)
    return Digits(whole.count("9"), None if exponent else len(fraction))


@dataclass(frozen=True)
class DateForm:
    """How a date, or a date and time, is written.

    Attributes:
        order: ymd, or xy: day and month, in an order that the shape does not tell.
        separator: The sign between the parts of the date.
        short_parts: Whether day or month may have one digit.
        year_digits: 4 or 2.
        gap: The text before the time; "" if there is no time.
        hour_digits: 1 or 2; 0 without a time.
        has_second: Whether the time has seconds.
        fraction: The digits after the second.
        half: Whether AM or PM follows.
        zone: The kind of time zone: "", "Z", ":" (+03:00), "4" (+0300), "2" (+03), or "name" for one that only ISO 8601
            times can have here (UTC, or an offset after a space).
    """

    order: str
    separator: str
    short_parts: bool
    year_digits: int
    gap: str = ""
    hour_digits: int = 0
    has_second: bool = False
    fraction: int = 0
    half: bool = False
    zone: str = ""

    @property
    def has_time(self) -> bool:
        """Whether there is a time of day."""
        return bool(self.gap)

    @property
    def is_iso(self) -> bool:
        """Whether the product reads the form without a pattern."""
        return self.order == "ymd" and self.separator == "-" and not self.half

    @property
    def family(self) -> tuple[str, str, int]:
        """The properties that two forms must share to be read by one pattern."""
        return self.order, self.separator, self.year_digits


def date_form(shape: str) -> DateForm | None:
    """Return how a date is written, or None if a shape is not that of a date.

    >>> date_form("99/99/9999 99:99").has_time, date_form("9999-99-99").is_iso, date_form("99:99")
    (True, True, None)

    Args:
        shape: The shape of a text.
    """
    date = _DATE.fullmatch(shape)
    time = _TIME.fullmatch(date["rest"]) if date else None
    if date is None or time is None:
        return None
    first, last = len(date["a"]), len(date["c"])
    if first == 4 and last <= 2:
        order, year_digits = "ymd", 4
    elif first <= 2 and last in (2, 4):
        order, year_digits = "xy", last
    else:
        return None
    parts = (date["b"], date["c"] if order == "ymd" else date["a"])
    return DateForm(
        order,
        date["sep"],
        any(len(part) == 1 for part in parts),
        year_digits,
        time["gap"] or "",
        len(time["hour"] or ""),
        bool(time["second"]),
        len(time["fraction"] or ""),
        bool(time["half"]),
        _zone_kind(time["zone"] or ""),
    )


def compact_date_form() -> DateForm:
    """Return how a day is written without separators: 20250131."""
    return DateForm("ymd", "", short_parts=False, year_digits=4)


def _zone_kind(zone: str) -> str:
    if zone in ("", "Z"):
        return zone
    if zone[0] not in "+-":
        return "name"
    return ":" if ":" in zone else str(zone.count("9"))


def has_pattern(forms: Iterable[DateForm]) -> bool:
    """Return whether there is a pattern of Spark for all forms of one family.

    Args:
        forms: The forms.
    """
    every = list(forms)
    timed = [form for form in every if form.has_time]
    zones = {form.zone for form in timed} - {"", "Z"}
    return len(zones) <= 1 and "name" not in zones and len({form.half for form in timed}) <= 1


def spark_pattern(forms: Iterable[DateForm], day_first: bool) -> str:
    """Return the pattern by which Spark reads dates written in some forms of one family.

    >>> spark_pattern([date_form("99/99/9999"), date_form("99/99/9999 99:99:99.999")], day_first=True)
    'dd/MM/yyyy[ HH:mm:ss.SSS]'

    Args:
        forms: The forms.
        day_first: Whether the day comes before the month.
    """
    every = list(forms)
    short = any(form.short_parts for form in every)
    day, month = ("d", "M") if short else ("dd", "MM")
    year = "y" * every[0].year_digits
    parts = [year, month, day] if every[0].order == "ymd" else [day, month, year] if day_first else [month, day, year]
    date = every[0].separator.join(parts)
    timed = [form for form in every if form.has_time]
    if not timed:
        return date
    time = _time_pattern(timed)
    return f"{date}[{time}]" if len(timed) < len(every) else f"{date}{time}"


def _time_pattern(forms: list[DateForm]) -> str:
    """Return the part of a pattern for the time of day; a part that some forms lack is in brackets."""
    is_half = forms[0].half
    letter = "h" if is_half else "H"
    hour = letter if any(form.hour_digits == 1 for form in forms) else letter * 2
    gaps = {form.gap for form in forms}
    gap = "['T'][ ]" if len(gaps) > 1 else "'T'" if gaps == {"T"} else " "
    with_second = [form for form in forms if form.has_second]
    second = ""
    if with_second:
        longest = max(form.fraction for form in with_second)
        fraction = f".{'S' * longest}" if longest else ""
        fraction = f"[{fraction}]" if fraction and not all(form.fraction for form in with_second) else fraction
        second = f":ss{fraction}" if len(with_second) == len(forms) else f"[:ss{fraction}]"
    zones = {form.zone for form in forms}
    kinds = sorted(zones - {"", "Z"}) or sorted(zones - {""})
    zone = {":": "XXX", "Z": "XXX", "4": "XX", "2": "X"}[kinds[0]] if kinds else ""
    return f"{gap}{hour}:mm{second}{' a' if is_half else ''}{f'[{zone}]' if zone and '' in zones else zone}"


def strptime_formats(form: DateForm, day_first: bool) -> str:
    """Return the format by which DuckDB reads a form, to prove that each value is a date.

    Args:
        form: The form.
        day_first: Whether the day comes before the month.
    """
    year = "%Y" if form.year_digits == 4 else "%y"
    parts = [year, "%m", "%d"] if form.order == "ymd" else ["%d", "%m", year] if day_first else ["%m", "%d", year]
    text = form.separator.join(parts)
    if form.has_time:
        text += f"{form.gap}{'%I' if form.half else '%H'}:%M"
        text += (":%S" if form.has_second else "") + (".%f" if form.fraction else "") + (" %p" if form.half else "")
        text += "%z" if form.zone else ""
    return text
