"""Tables without a key on real Delta: the rules of docs/guide/no-keys.md, and what the commands know of them."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from crash_points import interrupt_at
from guide import Example, parse_sections
from helpers import Project, Row
from pyspark.sql import SparkSession
from reference_model import apply_counts, count_changes

pytestmark = pytest.mark.usefixtures("spark")

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "no-keys.md"
GUARDS_OFF = {"min_rows": 0, "max_deleted": 1, "max_quarantined": 1}
COUNTED: dict[str, Any] = {"format": "csv", "schema": "a STRING, n INT, x DOUBLE", "keys": "all", "guard": GUARDS_OFF}
LOCAL = COUNTED | {"schema": "a STRING, n INT"}  # Spark compares DOUBLE, and the driver all others
CASE = """
cases:
  a row is there once, or as often as it says:
    model: silver.sums
    given: {bronze.local: [{a: p, n: 5}, {a: p, n: 1, _cdc_count: 3}]}
    expect: [{a: p, n: 8, copies: 4}]
"""
Values = tuple[Any, ...]


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
def test_the_page_of_tables_without_a_key_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    Example(section, tmp_path, spark).check()


def random_rows(rng: random.Random, with_bad: bool) -> list[Values | None]:
    rows: list[Values | None] = [
        (rng.choice([None, "p", "q"]), rng.choice([None, 1, 2]), rng.choice([None, 0.0, 1.5]))
        for _ in range(rng.randint(4, 16))
    ]
    return [*rows, None] if with_bad else rows


def text(rows: list[Values | None], columns: int) -> str:
    """The rows as CSV: the first columns of them; zero has two forms, and a bad row has no number."""
    lines = [",".join(["a", "n", "x"][:columns])]
    for at, row in enumerate(rows):
        a, n, x = ("p", "?", None) if row is None else row
        values = [a or "", "" if n is None else str(n), "" if x is None else "-0.0" if at % 2 and not x else str(x)]
        lines.append(",".join(values[:columns]))
    return "\n".join(lines) + "\n"


def first(rows: list[Values | None], columns: int) -> list[Values | None]:
    return [row and row[:columns] for row in rows]


def bronze(project: Project, name: str, columns: int) -> Counter[Values]:
    rows = project.rows_with_cdc(f"bronze/{name}")
    live = [row for row in rows if row.get("__END_AT") is None]
    assert len({row["_cdc_row"] for row in live}) == len(live)
    return Counter({tuple(row[c] for c in ("a", "n", "x")[:columns]): row["_cdc_count"] for row in live})


def test_every_layer_follows_a_multiset(tmp_path: Path) -> None:
    """Five snapshots by chance, by the driver and by Spark, one by one and then in one pass."""
    tables = {
        "local": LOCAL | {"file": "items.csv"},
        "spark": COUNTED | {"file": "wide.csv", "scd": 2},
        "kept": LOCAL | {"file": "items.csv", "missing": {"after": "2 snapshots"}},
    }
    model = "SELECT a, SUM(n * _cdc_count) AS n, SUM(_cdc_count) AS copies FROM bronze.local GROUP BY a"
    copies = "SELECT _cdc_row AS id, a, n, _cdc_count AS copies FROM bronze.local"
    models = {"silver.sums": (model, {"keys": ["a"]}), "silver.copies": (copies, {"keys": ["id"]})}
    project = Project(tmp_path, tables, models, tuning={"backlog_snapshots": 2})
    (project.pipeline / "tests").mkdir()
    (project.pipeline / "tests/sums.yml").write_text(CASE, encoding="utf-8")
    rng = random.Random("no keys")
    expected: dict[int, Counter[Values]] = {2: Counter(), 3: Counter()}
    snapshots = [random_rows(rng, with_bad=day == 4) for day in range(1, 6)]
    for day, rows in enumerate(snapshots, start=1):
        files = {"items": text(rows, 2), "wide": text(rows, 3)}
        project.snapshot(f"2025010{day}_000000", **files)
        if day < 4:  # the others are pending together
            assert project.run().code == 0
    done = project.run()
    assert done.code == 0  # the held one was superseded

    for name, columns in (("local", 2), ("spark", 3)):
        held = []
        for entry, rows in zip(project.ledger(name), snapshots, strict=True):
            found = count_changes(expected[columns], first(rows, columns))
            counts = {key: entry[key] for key in found.counts}
            assert counts == dict(found.counts), (name, entry)
            held.append(entry["status"] == "held")
            assert held[-1] == found.is_held
            if not found.is_held:
                expected[columns] = apply_counts(expected[columns], found)
        assert any(held)
        assert bronze(project, name, columns) == expected[columns], name
    sums: dict[Any, list[int]] = {}
    for (a, n), count in expected[2].items():
        total = sums.setdefault(a, [0, 0])
        total[0], total[1] = total[0] + (n or 0) * count, total[1] + count
    assert {row["a"]: [row["n"] or 0, row["copies"]] for row in project.rows("silver/sums")} == sums

    counted = {(row["a"], row["n"]): row["copies"] for row in project.rows("silver/copies")}
    assert counted == dict(expected[2])

    checks = project("verify").document["checks"]
    assert [check for check in checks if check["result"] == "failed"] == []
    compared = {c["name"]: c["result"] for c in checks if c["what"] == "bronze = the last accepted snapshot"}
    assert compared == dict.fromkeys(tables, "holds")

    shown = project("diff", "local", "--from", "2025-01-01", "--to", "2025-01-05").document["tables"][0]
    assert all(
        set(row) == {"a", "n", "_cdc_count"} for kind in ("inserted", "deleted") for row in shown["samples"][kind]
    )
    assert all(set(row["key"]) == {"a", "n"} for row in shown["samples"]["updated"])
    assert project("test").code == 0


@pytest.mark.timeout(900)  # many commands: minutes, where the machine has other things to do
def test_rows_are_forgotten_by_a_value_or_by_their_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 32)
    mails = {"schema": "a STRING, n INT, mail STRING", "pii": {"mail": "hmac"}, "scd": 2}
    tables = {
        "rows": COUNTED | {"file": "rows.csv"},
        "lines": COUNTED | {"file": "lines.json", "format": "json"},
        "mails": COUNTED | mails | {"file": "mails.csv"},
    }
    model = "SELECT a, SUM(_cdc_count) AS copies FROM bronze.rows GROUP BY a"
    project = Project(tmp_path, tables, {"silver.copies": (model, {"keys": ["a"]})})
    # Of two equal rows, one is written otherwise; the others differ in a value, or cannot be read.
    kept = 'mmperson,8,1.5\n"",9,\n,9,\n'
    lines = ['{"a": "mmperson", "n": 7, "x": 1.5}', '{"a": "mmperson", "n": 7, "x": null}']
    deliveries = [
        (
            f"mmperson,7,1.5\n{kept}mmperson,07,1.50\nmmperson,7,much\n",
            "p,1,m@x.org\np,2,m@x.org\np,many,m@x.org\nq,1,o@x.org\n",
        ),
        (f"{kept}mmperson,7,1.50\n", "p,1,m@x.org\nq,1,o@x.org\n"),
        (f"mmperson,7,1.5\n{kept}", "q,1,o@x.org\nq,3,m@x.org\n"),
    ]

    def deliver(day: int) -> None:
        rows, of_mails = deliveries[day - 1]
        folder = project.snapshot(f"2025010{day}_000000", rows=f"a,n,x\n{rows}", mails=f"a,n,mail\n{of_mails}")
        (folder / "lines.json").write_text("\n".join(lines))

    for day in (1, 2):
        deliver(day)
    assert project.run().code == 0
    hashes = {(r["a"], r["n"], r["x"]): r["_cdc_row"] for r in project.rows_with_cdc("bronze/rows")}
    row_id = hashes["mmperson", 7, 1.5]

    unknown = [project("forget", "rows", *words) for words in (["mmperson"], ["x=1.5"], ["b=1"], ["a=p", "a=q"])]
    assert [(each.code, "column=value for one or more of a, n; or" in each.error["expected"]) for each in unknown] == [
        (2, True)
    ] * 4
    ambiguous = project("forget", "rows", hashes["", 9, None], "--dry-run")
    assert (ambiguous.code, "cannot be told apart" in ambiguous.document["note"]) == (5, True)
    with interrupt_at("forget-raw"):
        project("forget", "rows", row_id)
    words = {"rows": [row_id], "lines": [f"_cdc_row={row_id}"], "mails": ["mail=m@x.org"]}
    done = {name: project("forget", name, *key) for name, key in words.items()}
    assert {name: each.document.get("erased") for name, each in done.items()} == {
        "rows": {"landing": 0, "raw": 1, "quarantine": 0, "bronze": 1, "ledger": 0},
        "lines": {"landing": 2, "raw": 1, "quarantine": 0, "bronze": 1, "ledger": 0},
        "mails": {"landing": 4, "raw": 3, "quarantine": 1, "bronze": 2, "ledger": 0},
    }
    assert "COLUMN=VALUE in place of the hash" in done["rows"].document["note"]
    landed = [(project.lake / "landing" / "rows" / f"2025010{day}_000000" / "rows.csv").read_text() for day in (1, 2)]
    assert landed == [f"a,n,x\n{kept}mmperson,7,much\n", f"a,n,x\n{kept}"]
    assert {row["a"]: row["copies"] for row in project.rows("silver/copies")} == {"mmperson": 1, "": 1, None: 1}

    # Later snapshots that have the rows are read without them, until they are accepted again.
    assert project("forget", "mails", "mail=m@x.org", "--lift").document["lifted"]
    deliver(3)
    assert project.run().code == 0
    assert len(project.rows("bronze/rows")) == 3
    assert [row["n"] for row in project.rows("bronze/lines")] == [7]
    assert sorted((row["a"], row["n"]) for row in project.rows("bronze/mails")) == [("q", 1), ("q", 3)]
    assert project.ledger("rows")[-1]["rows_read"] == 3
    checks = {(c["name"], c["what"]): c for c in project("verify").document["checks"]}
    assert [check for check in checks.values() if check["result"] == "failed"] == []
    same = "bronze = the last accepted snapshot"
    assert {checks[name, same]["result"] for name in ("rows", "mails")} == {"holds"}


def test_keys_all_can_be_switched_on_and_off(tmp_path: Path) -> None:
    project = Project(tmp_path, {"items": LOCAL | {"file": "items.csv", "keys": ["a"]}})
    project.snapshot("20250101_000000", items="a,n\np,1\nq,2\nq,2\n")
    project.snapshot("20250102_000000", items="a,n\np,1\nq,3\n")
    assert project.run().code == 0

    project.configure(keys="all")
    refused = project.run()
    assert (refused.code, "keys: all is new" in refused.outcome("ingest", "items")["note"]) == (2, True), (
        refused.document
    )
    assert not any(name.startswith("_cdc_r") for name in project.rows_with_cdc("bronze/items")[0])  # it can be undone
    assert project("bronze", "items", "--full-refresh").code == 0
    by_sequence = {entry["sequence"]: entry["duplicates"] for entry in project.ledger()}
    assert by_sequence == {1: 1, 2: 0, 3: 1, 4: 0}
    project.snapshot("20250103_000000", items="a,n\np,1\np,1\nq,3\n,\n")
    assert project.run().code == 0
    assert [(row["a"], row["n"], row["_cdc_count"]) for row in project.rows_with_cdc("bronze/items")] == [
        (None, None, 1),
        ("p", 1, 2),
        ("q", 3, 1),
    ]

    project.configure(keys=["a"])
    refused = project.run()
    assert (refused.code, "keys: all is now a" in refused.outcome("ingest", "items")["note"]) == (2, True)
    assert project("bronze", "items", "--full-refresh").code == 0
    assert project.run().code == 0
    rows: list[Row] = project.rows_with_cdc("bronze/items")
    assert [(row["a"], row["n"]) for row in rows] == [("p", 1), ("q", 3)]
    assert "_cdc_count" not in rows[0]
    assert [c for c in project("verify", "items").document["checks"] if c["result"] == "failed"] == []

    project.configure(keys="all", ignore=["n"])
    assert project("validate").code == 2
    project.configure(keys=["a"], ignore=None)
    assert project("forget", "items", "q").code == 0
    project.configure(keys="all")
    refused = project("bronze", "items", "--full-refresh")
    assert (refused.code, "cannot be recognised" in json.dumps(refused.document)) == (2, True)
    assert "keys of items were forgotten" in json.dumps(refused.document)
    assert str(project.pipeline / "pipeline.json") in json.dumps(refused.document)
    project.document = {"retention": {"landing": "1d"}}
    project.configure()
    assert project("expire").code == 0
    refused = project("bronze", "items", "--full-refresh")
    assert (refused.code, "have expired" in json.dumps(refused.document)) == (5, True)
    project.configure(keys=["a"])  # as both messages say
    assert project.run().code == 0
