"""Writes texts, numbers, dates and ages in the language of the page, with Babel's tables."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from decimal import Context, Decimal, InvalidOperation, localcontext
from typing import Literal
from zoneinfo import ZoneInfo

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal

from lakehouse.report.texts import TEXTS

Language = Literal["en", "pt"]

LOCALES = {"en": "en", "pt": "pt_BR"}
_DAY_PATTERNS = {"en": "yyyy-MM-dd", "pt": "dd/MM/yyyy"}
_MAX_DIGITS = 40  # before or after the point; a DECIMAL has 38
_FRACTION = re.compile(r"\.(\d{1,6})")


@dataclass(frozen=True)
class Words:
    """The texts and formats of one language, with times in one zone.

    Attributes:
        language: English or Portuguese.
        zone: The name of the zone.

    >>> Words("pt").number("1234.50"), Words("en").number(1234567)
    ('1.234,50', '1,234,567')
    """

    language: Language
    zone: str = "UTC"

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a key with its placeholders filled in.

        Args:
            key: A key of `TEXTS`.
            values: The values of the placeholders.
        """
        return TEXTS[key][0 if self.language == "en" else 1].format(**values)

    def number(self, value: object) -> str:
        """Return a number with all of its digits.

        A text that is no number, such as NaN, is returned unchanged, and so is a number of too many digits (`5e-324`).
        """
        try:
            exact = value if isinstance(value, int) else Decimal(str(value))
        except InvalidOperation:
            return str(value)
        if isinstance(exact, Decimal) and exact and exact.is_finite() and abs(exact.adjusted()) > _MAX_DIGITS:
            return str(value)
        digits = max(0, -exact.as_tuple().exponent) if isinstance(exact, Decimal) and exact.is_finite() else 0  # type: ignore[operator]
        with localcontext(
            Context(prec=2 * _MAX_DIGITS + digits)
        ):  # by default, a DECIMAL of more than 28 digits is refused
            return str(format_decimal(exact, format="#,##0." + "0" * digits, locale=LOCALES[self.language]))

    @property
    def _zone(self) -> tzinfo:
        return ZoneInfo(self.zone)

    def day(self, value: date | str) -> str:
        """Return a date."""
        return self._format(date.fromisoformat(value) if isinstance(value, str) else value, "")

    def time(self, value: datetime | str) -> str:
        """Return a time to the minute, in the page's zone with its offset; one without a zone stays as it is."""
        time = _parse_time(value) if isinstance(value, str) else value
        if time.tzinfo is None:
            return self._format(time, " HH:mm")
        local = time.astimezone(self._zone)
        return self._format(local, " HH:mm 'UTC'" if self.zone == "UTC" else " HH:mm xxx")

    def clock(self, value: str) -> str:
        """Return a time to the minute without its offset, where there is little room; in UTC, as `time` does."""
        return (
            self.time(value)
            if self.zone == "UTC"
            else self._format(_parse_time(value).astimezone(self._zone), " HH:mm")
        )

    def moment(self, value: object) -> str:
        """Return a date or a time that is given as text."""
        text = str(value)
        try:
            return self.day(text) if len(text) == len("2025-10-03") else self.time(text)
        except (ValueError, OverflowError):  # a year that Python does not support
            return text

    def chart_time(self, value: str) -> str:
        """Return the text of an instant as a clock in the page's zone shows it, for an axis that is drawn in UTC.

        A date, or a time without a zone, stays as it is.
        """
        if self.zone == "UTC" or not value.endswith("Z"):
            return value
        try:
            return f"{_parse_time(value).astimezone(self._zone).replace(tzinfo=None).isoformat()}Z"
        except (ValueError, OverflowError):
            return value

    def age(self, seconds: float | None) -> str:
        """Return a duration in its largest unit; with a minus sign before it if a time is in the future."""
        if seconds is None:
            return "—"
        duration = timedelta(seconds=abs(seconds))
        sign = "-" if seconds < 0 else ""
        return f"{sign}{format_timedelta(duration, threshold=1.5, locale=LOCALES[self.language])}"

    def _format(self, value: date | datetime, time_pattern: str) -> str:
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        pattern = _DAY_PATTERNS[self.language] + time_pattern
        return str(format_datetime(moment, pattern, tzinfo=moment.tzinfo, locale=LOCALES[self.language]))


def _parse_time(text: str) -> datetime:
    """Return the time of ISO text. Python 3.10 reads no `Z`, and only fractions of three or six digits."""
    return datetime.fromisoformat(_FRACTION.sub(lambda found: f".{found[1]:0<6}", text.replace("Z", "+00:00")))
