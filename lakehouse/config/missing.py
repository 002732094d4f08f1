"""Defines `Missing`, the section of a table about keys that a snapshot lacks, and checks it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from lakehouse.config.fields import DURATION_PATTERN, parse_duration
from lakehouse.config.strict_model import VALUE, Discrepancy, StrictModel, validation_error

_SNAPSHOTS_PATTERN = "^(0|[1-9][0-9]{0,5}) snapshots?$"


def _parse_after(value: Any) -> int | timedelta:
    """Return a number of snapshots, or a duration."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (found := re.fullmatch(_SNAPSHOTS_PATTERN, value)):
        return int(found.group(1))
    if isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value):
        return parse_duration(value)
    raise validation_error("expected a number of snapshots, such as 3 snapshots, or a duration, such as 7d")


After = Annotated[
    int | timedelta,
    BeforeValidator(_parse_after),
    WithJsonSchema({"type": "string", "pattern": f"{_SNAPSHOTS_PATTERN}|{DURATION_PATTERN}"}),
]


class Missing(StrictModel):
    """The treatment of a key that snapshots lack: how long its row is kept, and what happens then."""

    after: After = Field(
        "0 snapshots",
        validate_default=True,
        description="How long a key has to be missing: `3 snapshots` in a row without it, or a duration such as 7d.",
    )
    then: Literal["delete", "mark"] = Field(
        "delete", description="delete: its row is deleted. mark: it stays, with `_cdc_operation` D (scd 1 only)."
    )

    @property
    def is_default(self) -> bool:
        """Whether a key is deleted by the first snapshot that lacks it, so that nothing has to be remembered."""
        return self.after == 0 and self.then == "delete"

    @property
    def duration(self) -> timedelta | None:
        """How long a key has to be missing; None if snapshots are counted."""
        return self.after if isinstance(self.after, timedelta) else None

    @property
    def setting(self) -> dict[str, str]:
        """The section in one spelling."""
        after = (
            f"{int(self.after.total_seconds())}s" if isinstance(self.after, timedelta) else f"{self.after} snapshots"
        )
        return {"after": after, "then": self.then}


def check_missing(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies between `missing` and the rest of a table.

    Args:
        data: The table as written. Any value may be missing or of a wrong type; the fields report that.
    """
    missing = data.get("missing")
    if isinstance(missing, Mapping) and missing.get("then") == "mark" and data.get("scd") == 2:
        message = "expected delete: a history (scd 2) closes the window of the key, and marks no row"
        yield Discrepancy(("missing", "then"), VALUE, message)
