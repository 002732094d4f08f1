"""The explained rows of a cube in the report: no personal columns, and none where there cannot be any. No JVM."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse.errors import DataRefused
from lakehouse.report import explained_rows

RUN: Any = SimpleNamespace(plans={"gold.days": SimpleNamespace(keys=("Day",), blocks=("a block",))})
CUBE = {
    "model": "gold.days",
    "table": {"columns": [{"name": "day"}, {"name": "n"}], "rows": [[str(n), n] for n in range(20)]},
}


def node(table: str, inputs: list[Any], **row: Any) -> dict[str, Any]:
    values = {"id": 1, "mail": "ana@x"} | row
    return {
        "table": table,
        "key": {"id": 1, "mail": "ana@x"},
        "row": values,
        "changed": {"mail": [1, 2]},
        "inputs": inputs,
    }


def test_personal_columns_of_every_input_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def why_rows(*arguments: Any) -> list[Any]:
        asked.extend(arguments[1:])
        return [node("gold.days", [node("bronze.people", [], age=7)])]

    monkeypatch.setattr(explained_rows, "why_rows", why_rows)
    (found,) = explained_rows.explain_rows(
        RUN, CUBE, lambda table: lambda name: table == "bronze.people" and name == "mail"
    )

    assert asked == ["gold.days", [{"day": str(n)} for n in range(10)], 3]
    assert found["row"] == {"id": 1, "mail": "ana@x"}
    (person,) = found["inputs"]
    assert (person["key"], person["row"], person["changed"]) == ({"id": 1}, {"id": 1, "age": 7}, {})


def test_a_cube_without_its_key_or_its_table_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def why_rows(*_: Any) -> list[Any]:
        raise DataRefused("gone")

    monkeypatch.setattr(explained_rows, "why_rows", why_rows)
    hidden = {"columns": [{"name": "n"}], "rows": [[1]]}
    assert explained_rows.explain_rows(RUN, CUBE, lambda _: lambda __: False) == []
    assert explained_rows.explain_rows(RUN, CUBE | {"table": hidden}, lambda _: lambda __: False) == []
