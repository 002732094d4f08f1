"""A change feed in pipeline.yml: what is accepted, and what `validate` refuses with the place and the reason."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.config import Pipeline, load
from lakehouse.config.column_names import with_stored_names
from lakehouse.errors import ConfigError
from lakehouse.models.sql.pipeline_plans import plan_pipeline

FEED: dict[str, Any] = {"sequence_by": ["seq"], "delete_when": "op = 'D'", "drop": ["op", "seq"]}
TABLE: dict[str, Any] = {
    "file": "t.csv",
    "format": "csv",
    "schema": "id STRING, op STRING, seq BIGINT, day DATE, v STRING, tags ARRAY<STRING>",
    "keys": ["id"],
    "feed": FEED,
}


def pipeline(tmp_path: Path, table: dict[str, Any], **others: Any) -> Pipeline:
    document = {"name": "shop", "lake": "lake", "source": {"type": "files", "path": "x"}, "tables": {"t": table}}
    (tmp_path / "pipeline.json").write_text(json.dumps(document | others), encoding="utf-8")
    return load(tmp_path, {})


def with_feed(**settings: Any) -> dict[str, Any]:
    schema = TABLE["schema"].replace(", tags ARRAY<STRING>", "")
    return TABLE | {"schema": schema, "format": "json", "feed": FEED | settings}


CORRECTED_BY = {"file": "full.csv", "sequence": "MAX(seq)"}


def corrected(**settings: Any) -> dict[str, Any]:
    return with_feed(**({"corrected_by": CORRECTED_BY} | settings))


def envelope(keys: list[str] | None = None, **settings: Any) -> dict[str, Any]:
    row = "STRUCT<id: INT, v: STRING, place: STRUCT<x: INT>>"
    others = ", id STRING, after_id STRING" if keys and "after_id" in keys else ""
    schema = f"before {row}, after {row}, op STRING, ts_ms BIGINT, source STRUCT<ts_ms: BIGINT, lsn: BIGINT>{others}"
    feed = {"sequence_by": ["source.lsn"], "delete_when": "op = 'd'", "drop": ["before", "op", "source"]}
    return TABLE | {"format": "json", "schema": schema, "keys": keys or ["after.id"], "feed": feed | settings}


def test_a_key_inside_a_column_is_a_column_of_bronze_and_a_sequence_is_none(tmp_path: Path) -> None:
    one = pipeline(tmp_path, envelope()).tables["t"]
    several = pipeline(tmp_path, envelope(sequence_by=["source.ts_ms", "ts_ms", "source.lsn"])).tables["t"]
    named = pipeline(tmp_path, envelope(keys=["after.id", "before.id"])).tables["t"]

    assert (one.keys, named.keys) == (["id"], ["after_id", "before_id"])
    assert [(c.name, c.canonical_type) for c in one.stored_columns[:1]] == [("id", "INT")]
    assert [column.name for column in one.stored_columns] == ["id", "after", "ts_ms"]
    assert {field.name: field.paths for field in one.field_columns} == {
        "id": (("after", "id"), ("before", "id")),
        "source.lsn": (("source", "lsn"),),
    }
    assert (one.sequence_type, several.sequence_type) == (
        "BIGINT",
        "STRUCT<`source_ts_ms`: BIGINT, `ts_ms`: BIGINT, `lsn`: BIGINT>",
    )
    assert plan_pipeline(pipeline(tmp_path, envelope(delete_when="after IS NULL AND before.id > 0"))) == {}


def test_a_column_that_differs_in_case_is_found_by_the_paths_into_it(tmp_path: Path) -> None:
    table = pipeline(tmp_path, envelope()).tables["t"]

    found = with_stored_names(table, ["AFTER", "SOURCE"])

    assert found.feed is not None
    assert (found.keys, found.key_paths, found.feed.sequence_by) == (["id"], ["AFTER.id"], ["SOURCE.lsn"])


def test_bronze_has_the_columns_that_are_not_dropped_and_windows_in_the_type_of_the_sequence(tmp_path: Path) -> None:
    one = pipeline(tmp_path, with_feed()).tables["t"]
    several = pipeline(tmp_path, with_feed(sequence_by=["day", "seq"])).tables["t"]

    assert [column.name for column in one.stored_columns] == ["id", "day", "v"]
    assert [column.name for column in one.received_columns] == ["id", "op", "seq", "day", "v"]
    assert (one.sequence_type, several.sequence_type) == ("BIGINT", "STRUCT<`day`: DATE, `seq`: BIGINT>")


@pytest.mark.parametrize(
    ("text", "kept"), [("7d", timedelta(days=7)), ("90m", timedelta(minutes=90)), ("forever", None)]
)
def test_deleted_keys_are_remembered_for_a_duration_or_for_ever(
    text: str, kept: timedelta | None, tmp_path: Path
) -> None:
    feed = pipeline(tmp_path, with_feed(tombstones=text)).tables["t"].feed

    assert feed is not None
    assert feed.tombstones == kept


def test_columns_of_a_change_set_may_be_declared_if_they_are_dropped(tmp_path: Path) -> None:
    schema = "id STRING, v STRING, _cdc_operation STRING, _cdc_sequence BIGINT"
    own = {"sequence_by": ["_cdc_sequence"], "delete_when": "_cdc_operation = 'D'"}

    found = pipeline(tmp_path, TABLE | {"schema": schema, "feed": own | {"drop": ["_cdc_operation", "_cdc_sequence"]}})

    assert [column.name for column in found.tables["t"].stored_columns] == ["id", "v"]
    with pytest.raises(ConfigError, match='"_cdc_operation": the name is reserved'):
        pipeline(tmp_path, TABLE | {"schema": schema, "feed": own | {"drop": ["_cdc_sequence"]}})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (with_feed(sequence_by=[]), "feed.sequence_by"),
        (with_feed(sequence_by=["sq"]), 'feed.sequence_by[0]: found "sq", which is not a column'),
        (with_feed(sequence_by=["id"]), "which is a key, and so the same in all events"),
        (with_feed(sequence_by=["v.lsn"]), 'sequence_by[0]: found "v.lsn", which is no field inside v'),
        (with_feed() | {"keys": ["v.id"]}, 'keys[0]: found "v.id", which is no field inside v'),
        (corrected() | {"scd": 2}, "feed.corrected_by: a snapshot says nothing about history"),
        (corrected(ignore_null_updates=True), "feed.corrected_by: it has whole rows, and the events parts of them"),
        (
            corrected(drop=["op"]),
            "it has no events, so that seq (`sequence_by`) has to be in `drop`",
        ),
        (envelope(corrected_by=CORRECTED_BY), "feed.corrected_by: it has rows, and the events envelopes around them"),
        (corrected(corrected_by={"file": "full.csv", "sequence": "MAX(sq)"}), 'sequence: found "MAX(sq)", which'),
        (corrected(corrected_by={"file": "full.csv", "sequence": "MAX("}), 'sequence: found "MAX(", which'),
        (envelope(keys=["after.place"]), 'keys[0]: found "after.place", which is STRUCT<x: INT>, and no key'),
        (envelope(keys=["after.no"]), 'keys[0]: found "after.no", which is no field inside after'),
        (envelope(keys=["after.id", "after_id"]), 'keys[0]: found "after.id", whose column would be called after_id'),
        (envelope(sequence_by=["after.place"]), "which is STRUCT<x: INT>, and has no order"),
        (envelope(drop=["source.lsn"]), 'drop[0]: found "source.lsn", which is not a column'),
        (envelope() | {"pii": {"before": "mask"}}, "which is read from before, and `pii` protects that column"),
        (
            TABLE | {"feed": FEED | {"sequence_by": ["tags"]}, "format": "json"},
            "which is ARRAY<STRING>, and has no order",
        ),
        (with_feed(drop=["id"]), 'keys[0]: found "id", which `drop` takes out'),
        (with_feed(drop=["v"]) | {"scd": 2, "history_for": ["v"]}, 'history_for[0]: found "v", which `drop`'),
        (with_feed(ignore_null_updates="v"), 'found "v", expected true, false or a list of columns'),
        (with_feed(ignore_null_updates=["id"]), 'ignore_null_updates[0]: found "id", which is a key'),
        (with_feed(ignore_null_updates=["op"]), 'ignore_null_updates[0]: found "op", which is dropped'),
        (with_feed(tombstones="7"), 'tombstones: found "7", expected a number and a unit'),
        (with_feed() | {"guard": {"min_rows": 0}}, "guard.min_rows: applies to snapshots only"),
        (with_feed() | {"slice_by": ["v"]}, "slice_by: is about what a snapshot contains"),
        (with_feed() | {"pii": {"seq": "mask"}}, "used in sequence_by, whose order"),
        (with_feed() | {"schema": "id STRING, op STRING, seq BIGINT, _feed_x INT"}, "names with _feed_ are reserved"),
    ],
)
def test_what_a_feed_cannot_be_is_refused(table: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        pipeline(tmp_path, table)

    assert message in refused.value.found


def test_the_events_of_a_feed_are_not_dropped_by_retention(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="built from all its events"):
        pipeline(tmp_path, with_feed(), retention={"change_sets": "90d"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delete_when": "opp = 'D'"}, "opp, which the event does not have; did you mean"),
        ({"truncate_when": "op = "}, "truncate_when cannot be parsed"),
        ({"delete_when": "seq > :as_of"}, "uses :as_of"),
        ({"delete_when": "current_date() > day"}, "current_date"),
        ({"delete_when": "rand() > 0.5"}, "rand"),
        ({"delete_when": "count(*) > 1"}, "delete_when"),
        ({"delete_when": "no_function(op)"}, "no_function"),
    ],
)
def test_a_condition_is_checked_before_anything_runs(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        plan_pipeline(pipeline(tmp_path, with_feed(**settings)))

    assert message in refused.value.to_text()
    assert "pipeline.json" in refused.value.to_text()


def test_a_condition_may_name_any_column_of_the_event_but_a_personal_one(tmp_path: Path) -> None:
    assert plan_pipeline(pipeline(tmp_path, with_feed(delete_when="v IS NULL AND upper(op) = 'D' -- gone"))) == {}
    with pytest.raises(ConfigError, match="the event does not have"):
        plan_pipeline(pipeline(tmp_path, with_feed(delete_when="v = 'x'") | {"pii": {"v": "mask"}}))
