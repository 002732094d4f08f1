"""A snapshot that is held is reported with its reasons and with what to do, which then works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers import Project

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD = "20250101_000000", "20250102_000000", "20250103_000000"


def table(schema: str, **settings: Any) -> dict[str, Any]:
    return {"format": "csv", "schema": schema, "keys": ["id"], **settings}


def rows(*values: str, header: str = "id,v", encoding: str = "utf-8") -> bytes:
    return "".join(f"{line}\n" for line in (header, *(f"{at},{v}" for at, v in enumerate(values)))).encode(encoding)


# Each is wholly or mostly rejected on the first load: the schema, the file, the example that is shown, and the change
# of the settings that the message names.
FIRST_LOADS: dict[str, tuple[str, bytes, str, dict[str, Any]]] = {
    "bytes": (
        "id INT, v STRING",
        rows("plain", *["a\xe9b"] * 59, encoding="latin-1"),
        "59 rows: v: NUL, or bytes that are not valid in the file's encoding, such as 'a\ufffdb' in line 3",
        {"options": {"encoding": "windows-1252"}},
    ),
    "letters": (
        "id INT, v INT",
        b"id,v\n" + b"".join(b"K-%03d,1\n" % n for n in range(200)),
        "200 rows: id: not an INT, such as 'K-000' in line 2",
        {"schema": "id STRING, v INT"},
    ),
    "prices": (
        "id INT, v DECIMAL(10,2)",
        rows('"5893,32"', '"1.234,57"'),
        "2 rows: v: not a DECIMAL(10,2), such as '1.234,57' in line 3",
        {"options": {"locale": "pt-BR"}},
    ),
    "days": (
        "id INT, v DATE",
        rows("31/12/2024", "01/02/2024"),
        "2 rows: v: not a DATE, such as '01/02/2024' in line 3",
        {"options": {"dateFormat": "dd/MM/yyyy"}},
    ),
    "times": (
        "id INT, v TIMESTAMP",
        rows("31/12/2024 10:30", "30/12/2024 10:30"),
        "2 rows: v: not a TIMESTAMP, such as '30/12/2024 10:30' in line 3",
        {"options": {"timestampFormat": "dd/MM/yyyy HH:mm"}},
    ),
}
OTHER_FORMATS: dict[str, tuple[str, bytes, str]] = {  # and the message that names the format
    "zipped": ("csv", b"PK\x03\x04" + bytes(range(40)), "zipped.csv is a zip archive, called .csv"),
    "page": ("json", b"<!DOCTYPE html>\n<html>\n{\n</html>\n", "page.csv is an HTML page, called .csv"),
    "notice": ("json", b"Service unavailable\nTry again\n", "notice.csv is no JSON"),
    "columns": ("parquet", b"\x1f\x8b\x08\0\0\0", "columns.csv is a gzip file, called .csv"),
}
VALUES = ("a\ufffdb", "K-000", "5893,32", "1.234,57", "31/12/2024", "9,99")  # of rows, in no kept record


def settings_text(settings: dict[str, Any]) -> str:
    """Return the part of the message that names the settings."""
    if "schema" in settings:
        return "declare id as STRING in `schema`"
    ((name, value),) = settings["options"].items()
    return f"set `encoding` in `options`, such as {value}" if name == "encoding" else f"set `{name}: "


def test_a_snapshot_that_is_held_is_reported_with_the_way_on_which_works(tmp_path: Path) -> None:
    tables = {name: table(schema, file=f"{name}.csv") for name, (schema, _, _, _) in FIRST_LOADS.items()}
    tables["fewer"] = table("id INT, v STRING", file="fewer.csv")
    tables["one"] = table("id INT, v DOUBLE", file="one.csv")  # one row of three is rejected, which no guard holds
    for name, (file_format, _, _) in OTHER_FORMATS.items():
        tables[name] = table("id INT, v STRING", file=f"{name}.csv") | {"format": file_format}
    shop = Project(tmp_path, tables)
    letters = "abcde"
    first = {name: case[1] for name, case in FIRST_LOADS.items()}
    others = {name: case[1] for name, case in OTHER_FORMATS.items()}
    shop.snapshot(FIRST, fewer=rows(*letters), one=rows("1.5", '"9,99"', "2"), **first, **others)
    run = shop.run()

    assert run.code == 5  # of the files of other formats
    for name, (_, _, found) in OTHER_FORMATS.items():
        assert found in run.outcome("ingest", name)["note"]
        assert shop.statuses(name) == ["rejected"]
    for name, (_, _, example, settings) in FIRST_LOADS.items():
        outcome = run.outcome("ingest", name)
        parts = dict.fromkeys(("found:", "expected:", "where:", "next:"))
        assert all(part in outcome["note"] for part in parts), outcome["note"]
        assert "quarantined, more than max_quarantined 0.5" in outcome["note"]
        assert example in outcome["note"]
        assert settings_text(settings) in outcome["note"]
        assert f"landing/{name}/{FIRST}" in outcome["note"]
        assert f"lakehouse diff {shop.pipeline} {name}" in outcome["note"]
        assert f"lakehouse approve {shop.pipeline} {name} {FIRST}" in outcome["note"]
        (entry,) = shop.ledger(name)
        assert (entry["status"], example.partition(", such as")[0] in entry["reason"]) == ("held", True)
        (preview,) = shop("diff", name).document["tables"]
        assert (preview["verdict"], preview["reason"]) == ("held", entry["reason"])
        (rejected,) = preview["quarantine"]
        assert f"such as {rejected['value']!r} in line {rejected['line']}" in example
        assert settings_text(settings) in rejected["advice"]
        held = shop("quarantine", name).document["held"]
        assert held["quarantined"] == entry["quarantined"]
        assert held["next_step"] == f"lakehouse diff {shop.pipeline} {name}"
    (reason,) = shop("quarantine", "one").document["reasons"]
    assert (reason["column"], reason["rows"], "`locale: pt-BR`" in reason["advice"]) == ("v", 1, True)
    assert shop("quarantine", "one").document["held"] is None

    kept = str([shop.ledger(name) for name in tables])
    kept += "".join(file.read_text() for file in (shop.lake / "_state/runs").iterdir())
    assert "not an INT" in kept
    assert [value for value in VALUES if value in kept] == []
    assert [value for value in VALUES if value in str(shop("status").document)] == []

    for name in OTHER_FORMATS:
        del shop.tables[name]
    for name, (_, _, _, settings) in FIRST_LOADS.items():
        shop.tables[name] |= settings
    shop.tables["one"]["options"] = {"locale": "pt-BR"}
    shop.configure()
    shop.snapshot(SECOND, fewer=rows(*letters[:2]), one=rows('"9,99"'), **first)
    run = shop.run()
    assert {o["name"]: o["code"] for o in run.document["outcomes"] if o["code"]} == {"fewer": 4, "one": 4}
    note = run.outcome("ingest", "fewer")["note"]
    assert "3 of 5 rows deleted, more than max_deleted 0.3" in note
    assert "such as" not in note
    for name, (_, content, _, _) in FIRST_LOADS.items():
        assert len(shop.rows(f"bronze/{name}")) == content.count(b"\n") - 1
    for name in ("fewer", "one"):
        assert shop("approve", name, SECOND).code == 0
    assert shop.run().code == 0
    assert (len(shop.rows("bronze/fewer")), shop.rows("bronze/one")) == (2, [{"id": 0, "v": 9.99}])


@pytest.mark.parametrize("tuning", [{}, {"driver_compare_bytes": 0}], ids=["by the driver", "by Spark"])
def test_leading_zeros_of_a_first_load_are_reported_once_and_repeated_by_status(
    tmp_path: Path, tuning: dict[str, int]
) -> None:
    schema = "id INT, n INT, d DECIMAL(5,2), t STRING"
    tables = {
        "csv": table(schema, file="csv.csv"),
        "json": table(schema, file="json.csv") | {"format": "json"},
        "plain": table(schema, file="plain.csv"),
    }
    shop = Project(tmp_path, tables, tuning=tuning)
    shop.snapshot(
        FIRST,
        csv="ID,n,d,t\n000001,07,0.5,007\n2,8,0,1\n",
        json='{"Id":"1","n":"07","d":0.5,"t":"007"}\n{"id":2,"n":8}\n',
        plain="id,n,d,t\n10,0,0.5,007\n",
    )
    run = shop.run()

    assert run.code == 0
    assert run.outcome("ingest", "csv")["note"].startswith("leading zeros are not kept of the KEY id (INT), n (INT): ")
    assert run.outcome("ingest", "json")["note"].startswith("leading zeros are not kept of n (INT): ")
    assert run.outcome("ingest", "plain")["note"] == ""
    shop.snapshot(
        SECOND,
        csv="id,n,d,t\n1,07,0.5,007\n2,8,1,1\n",
        json='{"id":"1","n":"07","d":1,"t":""}\n{"id":2}\n',
        plain="id,n,d,t\n010,0,0,0\n",
    )
    run = shop.run()
    assert [run.outcome("ingest", name)["note"] for name in tables] == ["", "", ""]
    status = shop("status").document
    notes = {row["table"]: row["note"] or "" for row in status["tables"]}
    assert {name: "leading zeros" in note for name, note in notes.items()} == {
        "csv": True,
        "json": True,
        "plain": False,
    }
    assert [(row["what"], row["name"]) for row in status["attention"]] == [("leading zeros", "csv")]

    shop.tables["csv"]["schema"] = schema.replace("id INT, n INT", "id STRING, n STRING")
    shop.configure()
    assert shop("bronze", "csv", "--full-refresh").code == 0
    assert sorted(row["id"] for row in shop.rows("bronze/csv")) == ["1", "2"]
    assert {row["n"] for row in shop.rows("bronze/csv")} == {"07", "8"}
    assert shop("status").document["attention"] == []
