"""Defines `Feed`, the section of a table whose files contain the events of a change feed, and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from lakehouse.config.ddl import Column, quote_identifier
from lakehouse.config.fields import DURATION_PATTERN, FileName, Text, parse_duration
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel, validation_error
from lakehouse.config.yaml_source import Loc

FEED_SEQUENCE = "_feed_sequence"
"""The column of bronze with the sequence of the event that a row's values come from."""

# Columns of a change set, which a feed made by another lake has. Other such names are used while events are read.
_CHANGE_SET_COLUMNS = ("_cdc_operation", "_cdc_timestamp", "_cdc_sequence", "_cdc_changed", "_cdc_missing_since")
# Of settings that do not apply to a table with a feed: what they are about.
_SNAPSHOT_SETTINGS = {"missing": "rows that a snapshot lacks", "slice_by": "what a snapshot contains"}


def _parse_tombstones(value: Any) -> Any:
    return None if value == "forever" else parse_duration(value)


def _parse_columns_or_all(value: Any) -> Any:
    if not isinstance(value, bool | list):
        raise validation_error("expected true, false or a list of columns")
    return value


class CorrectedBy(StrictModel):
    """A full snapshot of the table beside the feed, which corrects it; not available yet."""

    file: FileName = Field(description="Name or glob of its files inside a batch.")
    sequence: Text = Field(description="SQL over the file's columns: the sequence at which the table stood so.")


class Feed(StrictModel):
    """A change feed: rows are events, and the event with the highest sequence of a key wins."""

    sequence_by: list[Text] = Field(min_length=1, description="Columns that order the events of one key.")
    delete_when: Text | None = Field(None, description="SQL condition of events that delete their key.")
    truncate_when: Text | None = Field(
        None, description="SQL condition of events that delete every key whose sequence is lower; tested first."
    )
    drop: list[Text] = Field([], description="Columns of the event that are not columns of the table.")
    ignore_null_updates: Annotated[
        bool | list[Text],
        BeforeValidator(_parse_columns_or_all),
        WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}}]}),
    ] = Field(False, description="Columns whose value a null in an update keeps: true for all of them, or a list.")
    tombstones: Annotated[
        timedelta | None,
        BeforeValidator(_parse_tombstones),
        WithJsonSchema({"type": "string", "pattern": f"{DURATION_PATTERN}|^forever$"}),
    ] = Field(
        "7d",
        validate_default=True,
        description="How long deleted keys are remembered, so that late events do not restore them; `forever` is"
        " allowed. Not used with scd 2, which remembers all of them.",
    )
    corrected_by: CorrectedBy | None = Field(
        None, description="A full snapshot beside the feed, which corrects the table; not available yet."
    )


def sequence_type(feed: Feed, columns: tuple[Column, ...]) -> str:
    """Return the type of a feed's sequence, as DDL: that of its column, or a struct of several.

    Args:
        feed: The feed.
        columns: The declared columns.
    """
    types = {column.name: column.canonical_type for column in columns}
    if len(feed.sequence_by) == 1:
        return types[feed.sequence_by[0]]
    return f"STRUCT<{', '.join(f'{quote_identifier(name)}: {types[name]}' for name in feed.sequence_by)}>"


def check_feed(data: Mapping[str, Any], columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    """Yield the discrepancies between a table's feed and its other settings.

    Args:
        data: The table, as it is written.
        columns: Its declared columns; none if they are not valid.
    """
    feed = data.get("feed")
    if not isinstance(feed, Mapping):
        return
    guard = data.get("guard")
    for name in ("min_rows", "max_updated", "max_inserted", "learned"):
        if isinstance(guard, Mapping) and name in guard:
            yield Discrepancy(("guard", name), STRUCTURE, "applies to snapshots only; this table has a feed")
    for name, about in _SNAPSHOT_SETTINGS.items():
        if name in data:
            yield Discrepancy((name,), STRUCTURE, f"is about {about}; this table has a feed")
    names, types = [c.name for c in columns], {c.name: c for c in columns}
    dropped = set(_texts(feed.get("drop")))
    for setting in ("keys", "history_for", "history_except", "ignore"):
        for at, name in enumerate(_texts(data.get(setting))):
            if name in dropped:
                yield Discrepancy((setting, at), VALUE, "which `drop` takes out of the table")
    for at, name in enumerate(_texts(feed.get("ignore_null_updates"))):
        loc = ("feed", "ignore_null_updates", at)
        if name in dropped or name in _texts(data.get("keys")):
            yield Discrepancy(loc, VALUE, f"which is {'a key' if name not in dropped else 'dropped'}")
    orders: list[tuple[Loc, Any]] = [(("keys",), data.get("keys")), (("feed", "sequence_by"), feed.get("sequence_by"))]
    for at_list, used in orders:
        for at, name in enumerate(_texts(used)):
            head, _, rest = name.partition(".")
            if rest and head in types and name not in types:
                message = "a field inside a column, which is not available yet; declare it as a column of its own"
                yield Discrepancy((*at_list, at), STRUCTURE, message)
            elif at_list[0] == "feed" and name in _texts(data.get("keys")):
                yield Discrepancy((*at_list, at), VALUE, "which is a key, and so the same in all events of one key")
            elif at_list[0] == "feed" and name in types and types[name].is_nested:
                yield Discrepancy((*at_list, at), VALUE, f"which is {types[name].canonical_type}, and has no order")
    for name in names:
        if name.lower().startswith("_cdc_") and name in dropped and name.lower() not in _CHANGE_SET_COLUMNS:
            known = ", ".join(_CHANGE_SET_COLUMNS)
            message = f'column "{name}": the name is reserved for the lake; in a feed, only {known} can be dropped'
            yield Discrepancy(("schema",), STRUCTURE, message)
        elif name.lower().startswith("_feed_"):
            message = f'column "{name}": in a feed, names with _feed_ are reserved for the lake; rename it by `names`'
            yield Discrepancy(("schema",), STRUCTURE, message)


def dropped_columns(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the columns that a table's feed drops, as they are written."""
    feed = data.get("feed")
    return frozenset(_texts(feed.get("drop"))) if isinstance(feed, Mapping) else frozenset()


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
