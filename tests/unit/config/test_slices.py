"""`slice_by` and columns in the names of files: what is refused, and what bears on the fingerprint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lakehouse.config import Pipeline, fingerprint_config, load, with_stored_names
from lakehouse.errors import ConfigError

SCHEMA = "id STRING, uf STRING, x DOUBLE, tags ARRAY<STRING>, dia DATE"
TABLE: dict[str, Any] = {"file": "c_{uf}.json", "format": "json", "schema": SCHEMA, "keys": ["id"], "slice_by": ["uf"]}


def pipeline(folder: Path, table: dict[str, Any], **document: Any) -> Pipeline:
    source = {"type": "files", "path": "source"}
    content = {"name": "p", "lake": "lake", "source": source, "tables": {"t": table}} | document
    (folder / "pipeline.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    return load(folder)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"slice_by": []}, "slice_by: expected at least one"),
        ({"slice_by": ["ux"]}, 'slice_by[0]: found "ux", which is not a column of schema'),
        ({"slice_by": ["uf", "uf"]}, "given twice"),
        ({"slice_by": ["x"]}, "which is DOUBLE; expected a type whose values have one text each"),
        ({"slice_by": ["tags"]}, "which is ARRAY<STRING>; expected a type whose values have one text each"),
        ({"ignore": ["uf"]}, "which is ignored, so that a row could change its slice without an update"),
        ({"pii": {"uf": "mask"}}, "used in slice_by, whose values mask makes equal; use hmac"),
        ({"pii": {"uf": "drop"}}, "dropped here, but used in slice_by"),
        ({"feed": {"sequence_by": ["dia"]}}, "slice_by: is about what a snapshot contains; this table has a feed"),
        ({"names": {"uf": "UF"}}, "in the files too, where `file` takes it from their names ({uf})"),
        ({"file": "c_{tags}.json"}, "{tags}: the name of a file cannot contain ARRAY<STRING>"),
        ({"file": "c_{uf}{dia}.json"}, "nothing separates {uf} from {dia}"),
        ({"file": "c_*{uf}.json"}, "nothing separates * from {uf}"),
        ({"file": "{uf}**/c.json"}, "nothing separates {uf} from **/"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as raised:
        pipeline(tmp_path, TABLE | settings)
    assert message in raised.value.found
    assert "pipeline.json:" in raised.value.found


def test_a_table_of_a_database_has_no_files_name(tmp_path: Path) -> None:
    table = {"file": "c_{uf}", "format": "parquet", "schema": "id STRING, uf STRING", "keys": ["id"]}
    jdbc = {"type": "jdbc", "url": "jdbc:postgresql://h/d"}
    with pytest.raises(ConfigError, match="has a column in the name of a file, but a table of a database is no file"):
        pipeline(tmp_path, table, source=jdbc)


def test_the_fingerprint_of_a_table_without_these_settings_stays(tmp_path: Path) -> None:
    plain = {"file": "c*.json", "format": "json", "schema": SCHEMA, "keys": ["id"]}

    def settings(**changed: Any) -> dict[str, Any]:
        table = pipeline(tmp_path, plain | changed).tables["t"]
        return dict(json.loads(fingerprint_config(table, "UTC")))

    before = settings()
    assert not {"slice_by", "file"} & before.keys()
    assert settings(file="other_{x1}.json") == before
    assert settings(slice_by=["uf", "dia"]) == settings(slice_by=["dia", "uf"]) == before | {"slice_by": ["dia", "uf"]}
    assert settings(file="c_{uf}.json") == before | {"file": "c_{uf}.json"}


def test_columns_that_differ_in_case_only_are_the_tables(tmp_path: Path) -> None:
    table = pipeline(tmp_path, TABLE).tables["t"]
    stored = with_stored_names(table, ["ID", "UF"])
    assert (stored.slice_by, stored.file_pattern.columns) == (["UF"], ("UF",))
