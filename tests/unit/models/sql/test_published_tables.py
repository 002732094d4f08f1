"""`validate` refuses, without a JVM and a server, the tables that PostgreSQL cannot have."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lakehouse.cli import main
from lakehouse.config.postgres_tables import PlannedColumn, require_possible, smallest_row
from lakehouse.errors import ConfigError, ExitCode

KEPT = ("xmin", "xmax", "cmin", "cmax", "ctid", "tableoid")


def validate(
    folder: Path, capsys: pytest.CaptureFixture[str], schema: str, keys: list[str], sql: str = "", table: str = "t"
) -> tuple[int, str]:
    """The exit code and the error of a pipeline whose table `bronze.t`, or model `silver.m`, is published."""
    document = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder)},
        "tables": {"t": {"file": "t.json", "format": "json", "schema": schema, "keys": keys}},
        "publish": {"postgres": {"url": "postgresql://u:p@localhost/x", "tables": {"bronze.t": table}}},
    }
    if sql:
        (folder / "silver").mkdir()
        (folder / "silver/m.sql").write_text(sql)
        document |= {"silver": {"m": {"keys": keys}}}
        document["publish"] = {"postgres": {"url": "postgresql://u:p@localhost/x", "tables": {"silver.m": table}}}
    (folder / "pipeline.yml").write_text(json.dumps(document))
    code = main(["validate", str(folder), "--json"])
    error = json.loads(capsys.readouterr().out).get("error") or {}
    return code, str(error.get("found", error))


@pytest.mark.parametrize("name", KEPT)
def test_a_name_that_postgresql_keeps_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = validate(tmp_path, capsys, f"id INT, {name} INT", ["id"])
    assert (code, f"{name} is a name that PostgreSQL keeps for itself" in found) == (ExitCode.USAGE, True)


def test_a_name_of_a_model_is_refused_and_one_in_capitals_is_another_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sql = "SELECT t.id AS id, t.v AS {} FROM bronze.t AS t"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    code, found = validate(tmp_path / "a", capsys, "id INT, v INT", ["id"], sql.format("ctid"))
    assert (code, "silver.m" in found, "ctid" in found) == (ExitCode.USAGE, True, True)
    assert validate(tmp_path / "b", capsys, "id INT, v INT", ["id"], sql.format("CTID"))[0] == ExitCode.OK


@pytest.mark.parametrize(("length", "code"), [(63, ExitCode.OK), (64, ExitCode.USAGE)])
def test_names_are_limited_in_bytes(length: int, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(tmp_path, capsys, f"id INT, `{'é' * 31}{'a' * (length - 62)}` INT", ["id"])[0] == code


def test_too_many_columns_and_too_many_keys_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = [f"c{n}" for n in range(1601)]
    code, found = validate(tmp_path, capsys, ", ".join(f"{c} BOOLEAN" for c in columns), columns[:33])
    assert code == ExitCode.USAGE
    assert "PostgreSQL's limit is 1,600" in found
    assert "its key has 33 columns, and PostgreSQL's limit is 32" in found


def test_a_row_that_is_too_wide_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = validate(tmp_path, capsys, ", ".join(f"c{n} BIGINT" for n in range(1100)), ["c0"])
    assert (code, "a row without NULL has at least" in found) == (ExitCode.USAGE, True)


def test_nested_columns_are_accepted_and_variants_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate(tmp_path, capsys, "id INT, a ARRAY<STRUCT<b: DECIMAL(4,1)>>, s STRUCT<c: DATE>", ["id"])[0] == 0
    with pytest.raises(ConfigError, match="v is ARRAY<VARIANT>, which PostgreSQL has no type for"):
        require_possible("gold.x", [PlannedColumn("v", None, "ARRAY<VARIANT>")], ("id",), "pipeline.yml")


@pytest.mark.parametrize("table", ["pg_catalog.t", "pg_own.t", "information_schema.t"])
def test_a_schema_that_postgresql_keeps_is_refused(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = validate(tmp_path, capsys, "id INT", ["id"], table=table)
    assert (code, "for itself" in found) == (ExitCode.USAGE, True)


def test_the_smallest_row_has_the_alignment_of_its_types() -> None:
    assert smallest_row([PlannedColumn("a", "boolean"), PlannedColumn("b", "bigint")]) == 40
    assert smallest_row([PlannedColumn("a", "numeric(38,18)"), PlannedColumn("b", None)]) == 29
