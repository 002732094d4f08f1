"""`keys: all`: what it stands for, and the settings that do not go with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import write_pipeline

from lakehouse import config
from lakehouse.config import Table, fingerprint_config
from lakehouse.errors import ConfigError

TABLE: dict[str, Any] = {"file": "items.csv", "format": "csv", "schema": "a STRING, n INT", "keys": "all"}


def test_the_lake_adds_a_hash_and_a_count_to_rows_without_a_key() -> None:
    table = Table.model_validate(TABLE)
    keyed = Table.model_validate(TABLE | {"keys": ["a"], "ignore": ["n"]})

    assert [column.name for column in table.stored_columns] == ["a", "n", "_cdc_row", "_cdc_count"]
    assert (table.counts_rows, keyed.counts_rows) == (True, False)
    assert (table.compared_columns, keyed.compared_columns) == (("_cdc_count",), ())
    assert (table.identifying_columns, keyed.identifying_columns) == (("a", "n"), ("a",))
    assert (table.shown_columns, keyed.shown_columns) == (("a", "n", "_cdc_count"), ("a", "n"))
    assert fingerprint_config(table, "UTC") != fingerprint_config(keyed, "UTC")
    assert Table.model_validate(TABLE | {"schema": "`all` STRING", "keys": ["all"]}).keys == ["all"]  # a column


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keys": "al"}, "expected a list of columns, such as [a, b], or all"),
        ({"keys": []}, "expected at least one"),
        ({"keys": ["_cdc_row"]}, "not a column of schema"),
        ({"ignore": ["n"]}, "ignore: needs a key, and this table has keys: all"),
        ({"updated_at": "n"}, "updated_at: needs a key"),
        ({"duplicates": "quarantine"}, "beside keys: all, which counts equal rows"),
        ({"scd": 2, "history_for": ["n"]}, "history_for: needs a key"),
        ({"scd": 2, "history_except": ["n"]}, "history_except: needs a key"),
        ({"feed": {"sequence_by": ["n"]}}, "the events of a feed need a key"),
        ({"schema": "a STRING, n MAP<STRING, INT>"}, "a MAP cannot be compared"),
        ({"schema": "a STRING, _cdc_count INT"}, "the name is reserved for the lake"),
    ],
)
def test_what_does_not_go_with_it_is_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    (tmp_path / "source").mkdir()
    write_pipeline(tmp_path, tables={"items": TABLE | settings})

    with pytest.raises(ConfigError) as raised:
        config.load(tmp_path)

    assert message in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"scd": 2},
        {"slice_by": ["a"]},
        {"missing": {"after": "2 snapshots"}},
        {"pii": {"a": "mask"}},
        {"duplicates": "fail"},
    ],
)
def test_everything_else_goes_with_it(tmp_path: Path, settings: dict[str, Any]) -> None:
    (tmp_path / "source").mkdir()
    table = config.load(write_pipeline(tmp_path, tables={"items": TABLE | settings})).tables["items"]
    assert table.counts_rows


def test_the_schema_for_editors_allows_it() -> None:
    keys = config.json_schema()["$defs"]["Table"]["properties"]["keys"]
    assert {"const": "all"} in keys["anyOf"], json.dumps(keys)
