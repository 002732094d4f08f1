"""Writes texts, numbers, dates and ages in the language of the page, with Babel's tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import Literal

from babel.dates import format_datetime, format_timedelta
from babel.numbers import format_decimal

from lakehouse.report.texts import TEXTS

Language = Literal["en", "pt"]

LOCALES = {"en": "en", "pt": "pt_BR"}
_DATE_PATTERNS = {"en": ("yyyy-MM-dd", "yyyy-MM-dd HH:mm 'UTC'"), "pt": ("dd/MM/yyyy", "dd/MM/yyyy HH:mm 'UTC'")}


@dataclass(frozen=True)
class Words:
    """The texts and formats of one language.

    >>> Words("pt").number("1234.50"), Words("en").number(1234567)
    ('1.234,50', '1,234,567')
    """

    language: Language

    def __call__(self, key: str, **values: object) -> str:
        """Return the text of a key with its placeholders filled in.

        Args:
            key: A key of `TEXTS`.
            values: The values of the placeholders.
        """
        return TEXTS[key][0 if self.language == "en" else 1].format(**values)

    def number(self, value: object) -> str:
        """Return a number with all of its digits; a text that is no number, such as NaN, is returned unchanged."""
        try:
            exact = value if isinstance(value, int) else Decimal(str(value))
        except InvalidOperation:
            return str(value)
        digits = max(0, -exact.as_tuple().exponent) if isinstance(exact, Decimal) and exact.is_finite() else 0  # type: ignore[operator]
        return str(format_decimal(exact, format="#,##0." + "0" * digits, locale=LOCALES[self.language]))

    def day(self, value: date | str) -> str:
        """Return a date."""
        return self._format_date(date.fromisoformat(value) if isinstance(value, str) else value, 0)

    def time(self, value: datetime | str) -> str:
        """Return a time in UTC, to the minute."""
        time = datetime.fromisoformat(value.replace("Z", "+00:00")) if isinstance(value, str) else value
        return self._format_date(time.astimezone(timezone.utc) if time.tzinfo else time, 1)

    def moment(self, value: object) -> str:
        """Return a date or a time that is given as text."""
        text = str(value)
        try:
            return self.day(text) if len(text) == len("2025-10-03") else self.time(text)
        except ValueError:  # a year that Python does not support
            return text

    def age(self, seconds: float | None) -> str:
        """Return a duration in its largest unit."""
        if seconds is None:
            return "—"
        return str(format_timedelta(timedelta(seconds=seconds), threshold=1.5, locale=LOCALES[self.language]))

    def _format_date(self, value: date | datetime, which: int) -> str:
        moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
        return str(format_datetime(moment, _DATE_PATTERNS[self.language][which], locale=LOCALES[self.language]))
