"""Defines the settings of a source of type `git`, and reads the day or instant of `since`."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from lakehouse.config.fields import Text
from lakehouse.config.strict_model import StrictModel, validation_error


def parse_since(text: str) -> datetime:
    """Return a day, or an instant, as a time in UTC.

    >>> parse_since("2024-01-31").isoformat(), parse_since("20240131_120000").isoformat()
    ('2024-01-31T00:00:00+00:00', '2024-01-31T12:00:00+00:00')
    >>> parse_since("2024-01-31T00:00-03:00").isoformat()
    '2024-01-31T03:00:00+00:00'

    Args:
        text: YYYY-MM-DD, YYYYMMDD, YYYYMMDD_HHMMSS or an ISO time; without a zone it is UTC.

    Raises:
        ValueError: The text is no time.
        OverflowError: The time is outside the years 1 to 9999.
    """
    # YAML reads 20240131 and 20240131_120000 as numbers, the second without its underscore.
    if digits := re.fullmatch(r"(\d{8})(?:_?(\d{6}))?", text, re.ASCII):
        return datetime.strptime(f"{digits[1]}{digits[2] or '000000'}", "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time.astimezone(timezone.utc)


def _check_since(value: Any) -> Any:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(text, str):
        with suppress(ValueError, OverflowError):
            parse_since(text)
            return text
    raise validation_error("expected a day such as 2024-01-31, or an instant such as 2024-01-31T12:00:00Z")


class Git(StrictModel):
    """A git repository on this machine, whose commits are snapshots; nothing is checked out."""

    type: Literal["git"]
    path: Text = Field(
        description="The repository, bare or with a work tree; relative to the working directory if it is there, else"
        " to pipeline.yml."
    )
    since: Annotated[str, BeforeValidator(_check_since), WithJsonSchema({"type": ["string", "integer"]})] | None = (
        Field(
            None,
            description="The first day (2024-01-31) or instant whose commits are taken, in UTC unless it has a zone;"
            " without it, all of the history is.",
        )
    )

    @property
    def since_time(self) -> datetime | None:
        """The time of `since`; None without it."""
        return parse_since(self.since) if self.since else None
