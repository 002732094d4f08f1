"""Defines the keys of a table: columns that identify a row, or `all`: rows are told apart by all of their values.

With `keys: all` the lake adds two columns: `_cdc_row`, a hash of a row's values, is its key, and `_cdc_count` is how
many equal rows the snapshot has. So every rule about keys and values applies as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from lakehouse.config.ddl import Column
from lakehouse.config.fields import Text
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, validation_error

ALL = "all"
ROW_ID, ROW_COUNT = "_cdc_row", "_cdc_count"
COUNTED_COLUMNS = (Column(ROW_ID, "STRING"), Column(ROW_COUNT, "BIGINT"))
"""The columns that the lake adds to the rows of a table with `keys: all`."""

# Settings that need a row with several values over time.
_SETTINGS_OF_KEYS = {
    "ignore": "a row that differs in one column is another row",
    "updated_at": "it orders rows of one key, and equal rows are counted",
    "history_for": "a row's values never change, only its count",
    "history_except": "a row's values never change, only its count",
}


def _parse_keys(value: Any) -> Any:
    if isinstance(value, str):
        if value != ALL:
            raise validation_error("expected a list of columns, such as [a, b], or all")
        return [ROW_ID]
    return value


Keys = Annotated[
    list[Text],
    Field(min_length=1),
    BeforeValidator(_parse_keys),
    WithJsonSchema(
        {"anyOf": [{"const": ALL}, {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}]}
    ),
]


def check_keys(data: Mapping[str, Any]) -> Iterator[Discrepancy]:
    """Yield the discrepancies between `keys: all` and the rest of a table.

    Args:
        data: The table as written. Any value may be missing or of a wrong type; the fields report that.
    """
    if data.get("keys") != ALL:
        return
    for name, why in _SETTINGS_OF_KEYS.items():
        if data.get(name):
            yield Discrepancy((name,), STRUCTURE, f"needs a key, and this table has keys: all: {why}")
    if data.get("duplicates") not in (None, "fail"):
        message = "expected no `duplicates` beside keys: all, which counts equal rows"
        yield Discrepancy(("duplicates",), VALUE, message)
    if data.get("feed") is not None:
        yield Discrepancy(("keys",), STRUCTURE, "all: the events of a feed need a key; this table has a feed")
