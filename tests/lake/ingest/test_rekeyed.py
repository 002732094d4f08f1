"""Rows that are back under another key, and columns under another name, are reported; nothing is merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Project

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"
SCHEMA = "id STRING, name STRING, city STRING, born DATE, amount DECIMAL(10,2), secret STRING"
FOUND = "17 of 20 deleted rows are back under another id"


def table(name: str, **settings: Any) -> dict[str, Any]:
    """Return the settings of a table."""
    return {"file": f"{name}.csv", "format": "csv", "schema": SCHEMA, "keys": ["id"]} | settings


TABLES = {
    "held": table("held"),
    "open": table("open", guard={"max_deleted": 1}),
    # Spark compares a table with personal columns.
    "personal": table("personal", guard={"max_deleted": 1}, pii={"secret": "mask"}),
    "history": table("history", guard={"max_deleted": 1}, scd=2),
    "chance": table("chance", guard={"max_deleted": 1}),
    "moved": table("moved"),
    "document": table("document", format="json"),
    "other": table("other"),
}


def people(first: int, last: int, rename: int = 0, city: str = "Porto") -> list[dict[str, Any]]:
    """Return people with numbers; of those up to `rename`, the id is another one, and one of them moved."""
    return [
        {
            "id": f"{'new' if number <= rename else 'old'}{number}",
            "name": f"person {number}",
            "city": "Lisboa" if number == rename else city,
            "born": f"2000-01-{number:02}",
            "amount": f"{number}.50",
            "secret": f"s{number}",
        }
        for number in range(first, last + 1)
    ]


def as_csv(rows: list[dict[str, Any]], **names: str) -> str:
    lines = [",".join(names.get(name, name) for name in rows[0]), *(",".join(row.values()) for row in rows)]
    return "\n".join(lines) + "\n"


def as_json(rows: list[dict[str, Any]], **names: str) -> str:
    return "\n".join(json.dumps({names.get(name, name): value for name, value in row.items()}) for row in rows) + "\n"


def test_renumbered_rows_and_renamed_columns_are_reported(tmp_path: Path) -> None:
    shop = Project(tmp_path, dict(TABLES))
    before = people(1, 28)
    files = dict.fromkeys(TABLES, as_csv(before)) | {"document": as_json(before)}
    shop.snapshot(FIRST, **files)
    assert shop.run().code == 0

    # 1 to 17 have other ids, 18 to 20 are gone, and the others stay.
    after = [row for row in people(1, 28, rename=17) if row["name"] not in {f"person {n}" for n in (18, 19, 20)}]
    renumbered = dict.fromkeys(("held", "open", "personal", "history"), as_csv(after))
    others = [{**row, "id": f"x{row['id']}", "name": "?", "city": "?"} for row in before]
    renamed = {
        "chance": as_csv(others),
        "moved": as_csv(before, city="town", born="born on"),
        "document": as_json(before, id="identifier"),
        "other": as_csv([{**row, "city": "?"} for row in before], city="town"),  # not its values
    }
    shop.snapshot(SECOND, **renumbered, **renamed)
    preview = {each["table"]: each for each in shop("diff").document["tables"]}
    assert shop.run().code == 5

    reasons = {name: shop.ledger(name)[-1]["reason"] for name in TABLES}
    assert reasons["held"] == f"20 of 28 rows deleted, more than max_deleted 0.3; {FOUND}"
    assert (reasons["open"], reasons["personal"], reasons["history"]) == (FOUND, FOUND, FOUND)
    assert reasons["chance"] is None
    assert {name: preview[name]["reason"] for name in (*renumbered, "chance")} == {
        name: reasons[name] for name in (*renumbered, "chance")
    }
    status = {each["table"]: each["note"] for each in shop("status").document["tables"]}
    assert (status["held"], status["open"]) == (reasons["held"], FOUND)

    # The offered names are those with the values of the missing columns, and following the offer ends well.
    assert "set `names: {city: town, born: born on}`" in reasons["moved"]
    assert "set `names: {id: identifier}`" in reasons["document"]
    assert "set `names: {" not in reasons["other"]
    shop.tables["moved"]["names"] = {"city": "town", "born": "born on"}
    shop.tables["document"]["names"] = {"id": "identifier"}
    shop.configure()
    assert shop.run("moved", "document").code == 0
    assert [shop.ledger(name)[-1]["unchanged"] for name in ("moved", "document")] == [28, 28]
