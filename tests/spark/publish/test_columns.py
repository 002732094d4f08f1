"""The statements for a published table whose columns have changed in the lake. No JVM."""

from __future__ import annotations

import pytest
from psycopg import sql

from lakehouse.publish.catalog import PostgresTable
from lakehouse.publish.statements import TargetTable
from lakehouse.publish.table import alter_statements
from lakehouse.publish.types import Column

TABLE = PostgresTable("public", "t", sql.Identifier("public", "lakehouse_publish"))


def changes(current: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """Return the statements without `ALTER TABLE "public"."t" ` and `;`."""
    target = TargetTable(TABLE, tuple(Column(*column) for column in wanted.items()), ("id",))
    return [
        text.removeprefix('ALTER TABLE "public"."t" ').removesuffix(";") for text in alter_statements(target, current)
    ]


@pytest.mark.parametrize(
    ("current", "wanted", "expected"),
    [
        ({"a": "text"}, {"b": "text"}, ['RENAME COLUMN "a" TO "b"']),
        (
            {"a": "text", "c": "text"},
            {"d": "text", "e": "text"},
            ['RENAME COLUMN "a" TO "d"', 'RENAME COLUMN "c" TO "e"'],
        ),
        ({"a": "text", "uf": "text"}, {"a": "text", "x": "text", "UF": "text"}, ['RENAME COLUMN "uf" TO "UF"']),
        ({"a": "text", "c": "text"}, {"d": "text"}, ['RENAME COLUMN "a" TO "d"', 'DROP COLUMN "c"']),
        ({"a": "integer"}, {"b": "text"}, ['DROP COLUMN "a"']),
        ({"a": "integer"}, {"a": "bigint", "b": "integer"}, ['ALTER COLUMN "a" TYPE bigint USING "a"::bigint']),
        ({"a": "text"}, {"a": "text", "b": "text"}, []),
        ({'a"b': "text"}, {"b": "text"}, ['RENAME COLUMN "a""b" TO "b"']),
    ],
)
def test_a_gone_column_beside_a_new_one_of_its_type_is_renamed(
    current: dict[str, str], wanted: dict[str, str], expected: list[str]
) -> None:
    assert changes({"id": "text"} | current, {"id": "text"} | wanted) == expected
