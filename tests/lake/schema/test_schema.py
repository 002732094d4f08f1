"""Changes of declared columns: added ones reach every layer, others are rejected until the table is rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from helpers import ITEMS, Project, Result, nonzero_counts
from pyspark.sql import SparkSession

import lakehouse
from lakehouse.errors import DataRefused

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
ROWS = "id,qty,note\na,1,alpha\nb,2,beta\nc,3,\n"
SILVER = "SELECT i.id AS id, i.note AS note FROM bronze.items AS i"


def error_text(result: Result) -> str:
    """All error messages of a command, of its outcomes and of its error."""
    notes = [o["note"] for o in result.document.get("outcomes", []) if o["code"]]
    return "\n".join([*notes, *result.document.get("error", {}).values()])


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("base"), models={"silver.items": (SILVER, {"keys": ["id"]})})
    project.snapshot(FIRST, items=ROWS)
    assert project.run().code == 0
    return project


def test_an_added_column_is_null_in_every_layer_until_it_arrives(base: Project, tmp_path: Path) -> None:
    shop = base.copy(tmp_path / "shop")
    shop.models["silver.items"] = (SILVER.replace("FROM", ", i.extra AS extra FROM"), {"keys": ["id"]})
    shop.configure(schema="id STRING, qty INT, note STRING, extra STRING")
    done = shop.run()
    assert done.code == 0, error_text(done)
    assert [row["extra"] for row in shop.rows("bronze/items")] == [None, None, None]
    assert [row["extra"] for row in shop.rows("silver/items")] == [None, None, None]

    shop.snapshot(SECOND, items="id,qty,note,extra\na,1,alpha,new\nb,2,beta,\nc,3,,\n")
    assert shop.run().code == 0
    assert shop.change_set(shop.ledger()[-1])[0]["_cdc_changed"] == ["extra"]
    assert [row["extra"] for row in shop.rows("silver/items")] == ["new", None, None]

    shop.snapshot(THIRD, items=ROWS)  # once the column has arrived, a file without it is rejected
    rejected = shop.run()
    assert rejected.code == 5
    assert "no column extra" in rejected.outcome("ingest", "items")["note"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("id STRING, qty BIGINT, note STRING", {"id": "a", "qty": 1, "note": "alpha"}),
        ("id STRING, qty STRING, note STRING", {"id": "a", "qty": "1", "note": "alpha"}),
        ("id STRING, note STRING", {"id": "a", "note": "alpha"}),
    ],
    ids=["wider", "another type", "removed"],
)
def test_another_type_or_a_removed_column_is_rejected_until_the_table_is_rebuilt(
    base: Project, tmp_path: Path, schema: str, expected: dict[str, object]
) -> None:
    shop = base.copy(tmp_path / "shop")
    shop.configure(schema=schema)
    before = shop.versions()
    rejected = shop.run()
    assert rejected.code == 2
    assert "lakehouse bronze" in error_text(rejected)
    assert "items --full-refresh" in error_text(rejected)
    assert "qty" in error_text(rejected)
    assert shop.versions()["bronze/items"] == before["bronze/items"]

    rebuilt = shop("bronze", "items", "--full-refresh")
    assert rebuilt.code == 0, error_text(rebuilt)
    assert shop.run().code == 0
    assert shop.rows("bronze/items")[0] == expected
    assert len(shop.rows("silver/items")) == 3


def test_a_table_is_not_rebuilt_if_a_value_would_become_null_or_change(base: Project, tmp_path: Path) -> None:
    shop = base.copy(tmp_path / "shop")
    before = shop.rows("bronze/items")
    for schema, value in (("note INT", "note alpha is no int"), ("note DECIMAL(3,1)", "note alpha is no decimal(3,1)")):
        shop.configure(schema=f"id STRING, qty INT, {schema}")
        rejected = shop("bronze", "items", "--full-refresh")
        assert rejected.code == 5
        assert value in error_text(rejected) and "cast it in silver" in error_text(rejected)
    assert shop.rows("bronze/items") == before

    shutil.rmtree(shop.lake / "bronze" / "items")  # nor if it is missing, nor for an earlier state
    assert shop("bronze", "items").code == 5
    with pytest.raises(DataRefused, match="note alpha is no decimal"):
        lakehouse.as_of(shop.pipeline, "items", "2025-01-01")

    # Only the current rows must fit the type: these texts are corrected before the type changes.
    shop.configure(schema="id STRING, qty INT, note STRING")
    shop.snapshot(SECOND, items="id,qty,note\na,1,1.50\nb,2,\nc,3,-7\n")
    assert shop.run().code == 0
    shop.configure(schema="id STRING, qty INT, note DECIMAL(3,1)")
    assert shop("bronze", "items", "--full-refresh").code == 0
    assert [str(row["note"]) for row in shop.rows("bronze/items")] == ["1.5", "None", "-7.0"]


def test_a_column_may_have_any_internal_name_that_is_not_reserved(tmp_path: Path) -> None:
    """Fivetran has columns such as _line, MongoDB _id; the lake's own begin with `_cdc_`."""
    names = ["_key", "_line", "_rank", "_rows", "_at", "_action", "_here", "_before_x", "c", "t", "w", "row", "value"]
    names += ["o", "s", "_window", "count", "table", "sequence", "reason", "_problems", "_received", "_wrong"]
    schema = ", ".join(f"`{name}` STRING" for name in names)
    for scd in (1, 2):
        project = Project(tmp_path / str(scd), {"items": {**ITEMS, "schema": schema, "keys": names[:2], "scd": scd}})
        for day, values in enumerate(["a", "b"], start=1):
            rows = [["k", str(n), *[f"{values}{n}"] * (len(names) - 2)] for n in range(3)]
            rows[0][2:] = ["same"] * (len(names) - 2)
            project.snapshot(f"2025010{day}_000000", items="\n".join([",".join(names), *map(",".join, rows)]) + "\n")
        assert project.run().code == 0
        assert nonzero_counts(project.ledger()[-1]) == {"rows_read": 3, "updated": 2, "unchanged": 1}
        assert len(project.rows("bronze/items")) == (3 if scd == 1 else 5)
        assert project("verify").code == 0
