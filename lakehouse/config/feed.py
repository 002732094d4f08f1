"""Defines `Feed`, the section of a table whose files contain the events of a change feed, and checks it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError

from lakehouse.config.ddl import Column, quote_identifier
from lakehouse.config.field_columns import field_column, find_field, is_path, short_names
from lakehouse.config.fields import DURATION_PATTERN, FileName, Text, parse_duration
from lakehouse.config.strict_model import STRUCTURE, VALUE, Discrepancy, StrictModel, did_you_mean, validation_error
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
    """A full snapshot of the table beside the feed, which corrects it."""

    file: FileName = Field(description="Name or glob of its files inside a batch.")
    sequence: Text = Field(
        description="SQL over the file's columns: the sequence at which the table stood so, such as MAX(seq)."
    )


class Feed(StrictModel):
    """A change feed: rows are events, and the event with the highest sequence of a key wins."""

    sequence_by: list[Text] = Field(
        min_length=1, description="Columns that order the events of one key, or fields inside columns (source.lsn)."
    )
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
        None, description="A full snapshot that lies beside the events of some batches, and corrects the table."
    )


def sequence_type(feed: Feed, columns: tuple[Column, ...]) -> str:
    """Return the type of a feed's sequence, as DDL: that of its column, or a struct of several.

    Args:
        feed: The feed.
        columns: The declared columns.
    """
    types = [found.canonical_type for name in feed.sequence_by if (found := find_column(name, columns))]
    if len(types) == 1:
        return types[0]
    fields = zip(map(quote_identifier, sequence_names(feed)), types, strict=True)
    return f"STRUCT<{', '.join(f'{name}: {kind}' for name, kind in fields)}>"


def sequence_names(feed: Feed) -> list[str]:
    """Return the names of the parts of a sequence in the struct that they are stored as.

    Args:
        feed: The feed.
    """
    return short_names(feed.sequence_by, ())


def find_column(name: str, columns: Sequence[Column]) -> Column | None:
    """Return the declared column of a name, or the field that a dotted name leads to; None if there is none.

    Args:
        name: The name.
        columns: The declared columns.
    """
    declared = next((column for column in columns if column.name == name), None)
    return declared or find_field(name, columns)


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
    dropped = set(_texts(feed.get("drop")))
    for setting in ("keys", "history_for", "history_except", "ignore"):
        for at, name in enumerate(_texts(data.get(setting))):
            if name in dropped:
                yield Discrepancy((setting, at), VALUE, "which `drop` takes out of the table")
    for at, name in enumerate(_texts(feed.get("ignore_null_updates"))):
        loc = ("feed", "ignore_null_updates", at)
        if name in dropped or name in _texts(data.get("keys")):
            yield Discrepancy(loc, VALUE, f"which is {'a key' if name not in dropped else 'dropped'}")
    yield from _check_fields(data, feed, columns)
    yield from _check_correction(data, feed, columns)
    for at, name in enumerate(_texts(feed.get("sequence_by"))):
        found = find_column(name, columns)
        if name in _texts(data.get("keys")):
            message = "which is a key, and so the same in all events of one key"
            yield Discrepancy(("feed", "sequence_by", at), VALUE, message)
        elif found and found.is_nested:
            message = f"which is {found.canonical_type}, and has no order"
            yield Discrepancy(("feed", "sequence_by", at), VALUE, message)
    for name in (column.name for column in columns):
        if name.lower().startswith("_cdc_") and name in dropped and name.lower() not in _CHANGE_SET_COLUMNS:
            known = ", ".join(_CHANGE_SET_COLUMNS)
            message = f'column "{name}": the name is reserved for the lake; in a feed, only {known} can be dropped'
            yield Discrepancy(("schema",), STRUCTURE, message)
        elif name.lower().startswith("_feed_"):
            message = f'column "{name}": in a feed, names with _feed_ are reserved for the lake; rename it by `names`'
            yield Discrepancy(("schema",), STRUCTURE, message)


def _check_correction(
    data: Mapping[str, Any], feed: Mapping[str, Any], columns: tuple[Column, ...]
) -> Iterator[Discrepancy]:
    """Yield the settings that do not fit a snapshot beside the feed."""
    if feed.get("corrected_by") is None:
        return
    loc, order = ("feed", "corrected_by"), _texts(feed.get("sequence_by"))
    if data.get("scd") == 2:
        yield Discrepancy(loc, STRUCTURE, "a snapshot says nothing about history; it is for tables with scd 1")
    if feed.get("ignore_null_updates"):
        message = "it has whole rows, and the events parts of them (`ignore_null_updates`)"
        yield Discrepancy(loc, STRUCTURE, message)
    if any(is_path(name, columns) for name in [*_texts(data.get("keys")), *order]):
        yield Discrepancy(loc, STRUCTURE, "it has rows, and the events envelopes around them (keys inside columns)")
    yield from _check_sequence_expression(feed["corrected_by"], columns)
    if kept := [name for name in order if name not in _texts(feed.get("drop"))]:
        message = f"it has no events, so that {', '.join(kept)} (`sequence_by`) has to be in `drop`"
        yield Discrepancy(loc, STRUCTURE, message)


def _check_sequence_expression(corrected_by: Any, columns: tuple[Column, ...]) -> Iterator[Discrepancy]:
    text = corrected_by.get("sequence") if isinstance(corrected_by, Mapping) else None
    if not isinstance(text, str) or not columns:
        return
    known, loc = {column.name.lower() for column in columns}, ("feed", "corrected_by", "sequence")
    try:
        named = sorted({column.name for column in parse_one(text, read="spark").find_all(exp.Column)})
    except SqlglotError:
        yield Discrepancy(loc, VALUE, "which cannot be parsed as SQL")
        return
    if unknown := [name for name in named if name.lower() not in known]:
        hint = did_you_mean(unknown[0], [column.name for column in columns])
        yield Discrepancy(loc, VALUE, f"which names {', '.join(unknown)}, no column of schema{hint}")


def _check_fields(
    data: Mapping[str, Any], feed: Mapping[str, Any], columns: tuple[Column, ...]
) -> Iterator[Discrepancy]:
    """Yield the discrepancies of keys and sequences that are fields inside columns."""
    lists: list[tuple[Loc, Any]] = [(("keys",), data.get("keys")), (("feed", "sequence_by"), feed.get("sequence_by"))]
    for loc, used in lists:
        for at, name in enumerate(_texts(used)):
            if not is_path(name, columns):
                continue
            found = find_field(name, columns)
            if found is None:
                yield Discrepancy((*loc, at), VALUE, f"which is no field inside {name.partition('.')[0]}")
            elif loc == ("keys",) and found.is_nested:
                yield Discrepancy((*loc, at), VALUE, f"which is {found.canonical_type}, and no key")
            else:
                yield from _check_field_protection(data, (*loc, at), name, columns)
    keys = _texts(data.get("keys"))
    columns_of_keys = short_names(keys, [column.name for column in columns])
    for at, name in enumerate(columns_of_keys):
        taken = [column.name for column in columns if is_path(keys[at], columns)]
        if name.lower() in {other.lower() for other in [*taken, *columns_of_keys[:at]]}:
            message = f"whose column would be called {name}, as another one is; rename that one by `names`"
            yield Discrepancy(("keys", at), VALUE, message)


def _check_field_protection(
    data: Mapping[str, Any], loc: Loc, name: str, columns: tuple[Column, ...]
) -> Iterator[Discrepancy]:
    pii = data.get("pii")
    for source in sorted(field_column(name, name, columns).sources & {*(pii if isinstance(pii, Mapping) else ())}):
        yield Discrepancy(loc, VALUE, f"which is read from {source}, and `pii` protects that column as a whole")


def dropped_columns(data: Mapping[str, Any]) -> frozenset[str]:
    """Return the columns that a table's feed drops, as they are written."""
    feed = data.get("feed")
    return frozenset(_texts(feed.get("drop"))) if isinstance(feed, Mapping) else frozenset()


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
