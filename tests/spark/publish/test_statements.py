"""Types and SQL of a published table, and what a run reads from PostgreSQL without Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from pyspark.sql import types as T

from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.publish import catalog, statements
from lakehouse.publish.catalog import PostgresTable, PublishPosition, PublishState
from lakehouse.publish.statements import TargetTable
from lakehouse.publish.types import Column, postgres_columns, postgres_type
from lakehouse.runner import up_to_date
from lakehouse.storage.paths import Lake

EVIL = 'a"; DROP TABLE x; --'
TABLE = PostgresTable("public", EVIL, sql.Identifier("public", "lakehouse_publish"))
TARGET = TargetTable(TABLE, (Column(EVIL, "text", "it's"), Column("v", "numeric(12,2)")), (EVIL,), "it's \\ all")
NAME = '"public"."a""; DROP TABLE x; --"'
KEY = '"a""; DROP TABLE x; --"'


def text(query: sql.Composed) -> str:
    return query.as_string(None)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (T.ByteType(), "smallint"),
        (T.ShortType(), "smallint"),
        (T.IntegerType(), "integer"),
        (T.LongType(), "bigint"),
        (T.FloatType(), "real"),
        (T.DoubleType(), "double precision"),
        (T.DecimalType(38, 18), "numeric(38,18)"),
        (T.BooleanType(), "boolean"),
        (T.StringType(), "text"),
        (T.BinaryType(), "bytea"),
        (T.DateType(), "date"),
        (T.TimestampType(), "timestamp with time zone"),
        (T.TimestampNTZType(), "timestamp without time zone"),
        (T.ArrayType(T.IntegerType()), "jsonb"),
        (T.StructType([T.StructField("a", T.IntegerType())]), "jsonb"),
        (T.MapType(T.StringType(), T.IntegerType()), "jsonb"),
        (T.MapType(T.ArrayType(T.StringType()), T.IntegerType()), None),
        (T.ArrayType(T.StructType([T.StructField("a", T.VariantType())])), None),
        (T.VariantType(), None),
        (T.DayTimeIntervalType(), None),
    ],
)
def test_a_type_maps_to_the_postgres_type_with_the_same_values_or_to_none(
    kind: T.DataType, expected: str | None
) -> None:
    assert postgres_type(kind) == expected


def test_all_unpublishable_columns_are_named_at_once() -> None:
    long = "é" * 32  # 64 bytes
    fields = T.StructType(
        [
            T.StructField("id", T.StringType()),
            T.StructField("tags", T.ArrayType(T.VariantType())),
            T.StructField("ctid", T.StringType()),
            T.StructField(long, T.IntegerType()),
        ]
    )
    with pytest.raises(ConfigError) as error:
        postgres_columns(fields, "gold.x", ("id",))
    assert "tags is ARRAY<VARIANT>" in error.value.found
    assert "ctid is a name that PostgreSQL keeps for itself" in error.value.found
    assert f"the name {long} has more than 63 bytes" in error.value.found
    assert "to_json(column)" in error.value.next_step


def test_names_types_and_comments_are_always_quoted() -> None:
    created, of_table, of_column, _ = map(text, statements.create_table(TARGET))
    assert created == f'CREATE TABLE {NAME} ({KEY} text, "v" numeric(12,2))'
    assert of_table == f"COMMENT ON TABLE {NAME} IS  E'it''s \\\\ all'"
    assert of_column == f"COMMENT ON COLUMN {NAME}.{KEY} IS 'it''s'"
    queries = [
        *statements.create_table(TARGET),
        *statements.add_columns(TARGET, TARGET.columns),
        statements.add_key_constraint(TARGET, has_nulls=True),
        *statements.drop_key_constraint(TARGET, [EVIL]),
        statements.create_stage(TARGET),
        statements.copy_into_stage(TARGET),
        *(statements.select_null_patterns(TARGET, of_stage=flag) for flag in (True, False)),
        statements.select_duplicate_keys(TARGET),
        statements.delete_all(TARGET),
        *(
            make(TARGET, [flag])
            for make in (
                statements.delete_absent,
                statements.delete_marked,
                statements.update_changed,
                statements.insert_new,
            )
            for flag in (True, False)
        ),
    ]
    for query in map(text, queries):
        assert EVIL not in query
        assert query.replace(NAME, "").replace(KEY, "").count("DROP TABLE") == 0
        assert not query.startswith(("TRUNCATE", "DROP"))


def test_key_comparisons_can_use_an_index() -> None:
    target = TargetTable(TABLE, (Column("a", "text"), Column("b", "text"), Column("v", "text")), ("a", "b"))
    deleted = text(statements.delete_marked(target, [False, True]))
    assert deleted.endswith('WHERE s."_lakehouse_gone" AND t."a" = s."a" AND t."b" IS NULL AND s."b" IS NULL')
    updated = text(statements.update_changed(target, [False, False]))
    assert updated.endswith('AND t."a" = s."a" AND t."b" = s."b" AND ROW("t"."v") IS DISTINCT FROM ROW(s."v")')


def test_the_constraint_name_is_unique_in_the_schema_and_fits() -> None:
    names = {
        TargetTable(PostgresTable("s", name, TABLE.position_table), (), ()).key_constraint
        for name in ("a", "b", "x" * 63)
    }
    assert len(names) == 3
    assert all(len(name) <= 63 for name in names)


# The clean mark


class Published:
    """A pipeline that publishes, and the publish state that PostgreSQL returns."""

    def __init__(self, folder: Path) -> None:
        (folder / "source").mkdir()
        document = {
            "name": "shop",
            "lake": str(folder / "lake"),
            "source": {"type": "files", "path": str(folder / "source")},
            "tables": {"items": {"file": "items.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}},
            "publish": {"postgres": {"url": "postgresql://u:hunter2@h/d", "tables": {"bronze.items": "items"}}},
        }
        (folder / "pipeline.json").write_text(json.dumps(document))
        (folder / "source/items.csv").write_text("id\n1\n")
        self.pipeline: Pipeline = load(folder / "pipeline.json", {})
        self.lake = Lake(str(folder / "lake"))
        self.state: PublishState | Exception = PublishState(
            "public.items", PublishPosition("shop", "bronze.items", "x", 3, "c"), None
        )
        self.reads = 0

    def read_states(self, url: str, tables: Any) -> dict[str, PublishState]:
        self.reads += 1
        if isinstance(self.state, Exception):
            raise self.state
        return {"bronze.items": self.state}

    @property
    def is_up_to_date(self) -> bool:
        return up_to_date.is_up_to_date(self.pipeline, self.lake)

    def mark(self) -> None:
        up_to_date.write_mark(self.lake, up_to_date.read_inputs(self.pipeline, self.lake), self.pipeline)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Published:
    project = Published(tmp_path)
    monkeypatch.setattr(catalog, "read_states", project.read_states)
    return project


@pytest.mark.parametrize(
    "state",
    [
        PublishState("public.items", PublishPosition("shop", "bronze.items", "x", 2, "c"), None),
        PublishState("public.items", PublishPosition("shop", "bronze.items", "x", 3, "d"), None),
        PublishState("public.items", None, None),
        InfrastructureError("down"),
    ],
    ids=["an older version", "another commit", "no such table", "nothing"],
)
def test_a_run_is_needed_when_the_publish_position_differs(published: Published, state: Any) -> None:
    published.mark()
    assert published.is_up_to_date
    published.state = state
    assert not published.is_up_to_date
    published.mark()
    assert published.is_up_to_date == isinstance(state, PublishState)


def test_postgres_is_read_last(published: Published, tmp_path: Path) -> None:
    published.mark()
    (tmp_path / "source/items.csv").write_text("id\n1\n2\n")
    published.reads = 0
    assert not published.is_up_to_date
    assert published.reads == 0


def test_the_mark_contains_no_secret(published: Published) -> None:
    published.mark()
    assert "hunter2" not in published.lake.state_path("clean.json").read_text()
