"""Another type or name of a declared column goes through all layers by one command, from the landed bytes.

Each table of the project is a case. After the rebuild the lake is that of a second project, which had the new schema
from the start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from helpers import Project, Result, Row, sort_rows
from pyspark.sql import SparkSession

import lakehouse

pytestmark = pytest.mark.usefixtures("spark")

FIRST_DAYS = ("2025-01-01", "2025-01-02", "2025-01-03")
DAYS = ["20250101_000000", "20250102_000000", "20250103_000000", "20250104_000000"]
BEGINNING = {"format": "csv", "keys": ["id"], "guard": {"max_deleted": 0.5}}

# By table: the settings before and after, and the lines of its snapshots. The last one comes after the rebuild.
CASES: dict[str, tuple[Row, Row, list[str]]] = {
    "key": (  # A11: a key whose zeros are gone in the change sets
        {"schema": "id INT, v STRING"},
        {"schema": "id STRING, v STRING"},
        [
            "id,v|000001,a|000002,b|0003,c",
            "id,v|000001,x|000002,b|0003,c",
            "id,v|000001,x|000002,b",
            "id,v|000001,y|000002,b",
        ],
    ),
    "wide": (
        {"schema": "id STRING, v INT"},
        {"schema": "id STRING, v BIGINT"},
        ["id,v|a,1|b,2|c,3", "id,v|a,5|b,2|c,3", "id,v|a,5|b,2|c,3|d,1", "id,v|a,5|b,2|c,30000000000|d,1"],
    ),
    "narrow": (
        {"schema": "id BIGINT, v DOUBLE"},
        {"schema": "id SMALLINT, v DECIMAL(6,2)"},
        ["id,v|1,0.1|2,2", "id,v|1,0.10|2,2.50", "id,v|1,0.1|2,2.5", "id,v|1,0.1|2,-2.25"],
    ),
    "scale": (
        {"schema": "id STRING, v DECIMAL(8,2)"},
        {"schema": "id STRING, v DECIMAL(10,4)"},
        ["id,v|a,1.25|b,2", "id,v|a,1.50|b,2.00", "id,v|a,1.5|b,2|c,0.01", "id,v|a,1.5|b,2.0001|c,0.01"],
    ),
    "days": (
        {"schema": "id STRING, v STRING, n INT"},
        {"schema": "id STRING, v DATE, n DATE", "options": {"dateFormat": "[dd/MM/yyyy][yyyyMMdd]"}},
        [
            "id,v,n|a,31/12/2024,20240229",
            "id,v,n|a,01/01/2025,20240301",
            "id,v,n|a,01/01/2025,20240301|b,,",
            "id,v,n|a,02/01/2025,20240301|b,,",
        ],
    ),
    "named": (
        {"schema": "id STRING, v INT"},
        {"schema": "code STRING, amount INT", "names": {"code": "id", "amount": "v"}, "keys": ["code"]},
        ["id,v|a,1|b,2", "id,v|a,2|b,2", "id,v|a,2|b,3|c,1", "id,v|a,2|b,3|c,4"],
    ),
    "kept": (  # a history
        {"schema": "id INT, v INT, w STRING", "scd": 2, "history_for": ["v"]},
        {"schema": "id STRING, v STRING, w STRING", "scd": 2, "history_for": ["v"]},
        ["id,v,w|01,007,x|2,5,x", "id,v,w|01,008,x|2,5,y", "id,v,w|01,008,x", "id,v,w|01,8,x"],
    ),
    "pair": (
        {"schema": "id INT, uf STRING, v INT", "keys": ["id", "uf"]},
        {"schema": "id STRING, uf STRING", "keys": ["uf", "id"]},
        [
            "id,uf,v|01,SP,1|01,RJ,1",
            "id,uf,v|01,SP,2|02,RJ,1",
            "id,uf,v|01,SP,2|02,RJ,1|1,RJ,1",
            "id,uf,v|01,SP,2|02,RJ,1|1,RJ,9",
        ],
    ),
}
MODELS = {
    "silver.key": ("SELECT t.id AS id, t.v AS v FROM bronze.key AS t", {"keys": ["id"]}),
    "silver.wide": ("SELECT t.id AS id, t.v AS v, t.v + 1 AS next FROM bronze.wide AS t", {"keys": ["id"]}),
    "gold.wide": ("SELECT t.v AS v, COUNT(*) AS n FROM silver.wide AS t GROUP BY t.v", {}),
    "gold.count": ("SELECT t.id AS id, COUNT(t.v) AS n FROM silver.wide AS t GROUP BY t.id", {}),
}


def project(folder: Path, which: int, models: dict[str, Any] = MODELS) -> Project:
    tables = {name: BEGINNING | {"file": f"{name}.csv"} | case[which] for name, case in CASES.items()}
    return Project(folder, {**tables}, dict(models))


def deliver(shop: Project, *days: int) -> None:
    for day in days:
        shop.snapshot(DAYS[day], **{name: case[2][day].replace("|", "\n") + "\n" for name, case in CASES.items()})


def bronze(shop: Project, table: str) -> list[Row]:
    rows = pl.read_delta(str(shop.lake / "bronze" / table)).drop("_cdc_sequence").to_dicts()
    return sort_rows(rows)


def failures(result: Result) -> list[str]:
    return [f"{o['stage']} {o['name']} {o['code']}: {o['note']}" for o in result.document["outcomes"] if o["code"]]


def faults(verified: Result) -> list[str]:
    checks = [c for c in verified.document["checks"] if c["result"] == "failed"]
    assert verified.code == (5 if checks else 0)
    return [f"{c['invariant']} {c['name']}: {c['figures']}" for c in checks]


def test_the_printed_command_takes_another_type_or_name_through_all_layers(tmp_path: Path, spark: SparkSession) -> None:
    shop, other = project(tmp_path / "shop", 0), project(tmp_path / "other", 1)
    deliver(shop, 0, 1, 2)
    deliver(other, 0, 1, 2)
    assert shop.run().code == 0
    assert other.run().code == 0

    for name in CASES:
        shop.tables[name] = other.tables[name]
    shop.configure()
    refused = shop.run()
    assert refused.code == 2
    assert {line.split()[1] for line in failures(refused)} >= set(CASES)
    for name in CASES:
        assert (
            f"next:     to rebuild it: lakehouse bronze {shop.pipeline} {name} --full-refresh"
            in refused.outcome("ingest", name)["note"]
        )

    writes = shop.write_counts()
    done = shop("bronze", *CASES, "--full-refresh")
    assert (done.code, failures(done)) == (0, [])
    assert {(o["stage"], o["name"]) for o in done.document["outcomes"]} == {
        *(("bronze", name) for name in CASES),
        *((model.partition(".")[0], model) for model in MODELS),
    }
    assert [row["id"] for row in shop.rows("bronze/key")] == ["000001", "000002"]
    for name in CASES:
        assert bronze(shop, name) == bronze(other, name), name
        assert (
            pl.read_delta(str(shop.lake / "bronze" / name)).schema
            == pl.read_delta(str(other.lake / "bronze" / name)).schema
        )
    for model in MODELS:
        path = model.replace(".", "/")
        assert shop.rows(path) == other.rows(path), model
        assert pl.read_delta(str(shop.lake / path)).schema == pl.read_delta(str(other.lake / path)).schema, model
    assert shop.write_counts()["gold/count"] == writes["gold/count"]  # no row of it differs
    for number, name in enumerate(CASES):
        day = FIRST_DAYS[number % len(FIRST_DAYS)]
        then, wanted = (
            lakehouse.time_travel(p.pipeline, name, day).drop("_cdc_sequence").collect() for p in (shop, other)
        )
        assert sorted(map(str, then)) == sorted(map(str, wanted)), (name, day)

    versions = shop.versions()
    again = shop.run()
    assert (again.code, shop.versions()) == (0, versions)
    deliver(shop, 3)
    deliver(other, 3)
    for each in (shop, other):
        after = each.run()
        assert (after.code, failures(after)) == (0, [])
    for name in CASES:
        assert bronze(shop, name) == bronze(other, name), name
        counts = [
            [row[c] for c in ("inserted", "updated", "deleted", "unchanged")]
            for row in (shop.ledger(name)[-1], other.ledger(name)[-1])
        ]
        assert counts[0] == counts[1], name
    assert faults(shop("verify")) == []


# --- what cannot be rebuilt, need not be, or was interrupted -----------------------------------------------------

SMALL = BEGINNING | {"schema": "id INT, v STRING"}
TABLES: dict[str, Row] = {
    "lost": SMALL,
    "story": SMALL | {"scd": 2},
    "misfit": SMALL,
    "netted": SMALL | {"schema": "id INT, v INT, w STRING", "guard": {"max_quarantined": 1}},
    "killed": SMALL,
    "cased": BEGINNING | {"schema": "id STRING, uf STRING, v INT", "keys": ["id", "uf"], "ignore": ["v"]},
    "added": BEGINNING | {"schema": "id STRING, v INT", "scd": 2, "history_for": ["v"]},
}
ROWS = {
    "lost": ["id,v|01,a|02,b", "id,v|01,c|02,b"],
    "story": ["id,v|01,a|02,b", "id,v|01,c|02,b"],
    "misfit": ["id,v|01,1|02,2", "id,v|01,1|02,x"],
    "netted": ["id,v,w|1,1,1|2,2,2|3,3,3", "id,v,w|1,x,1|2,2,y|3,3,3"],  # a row each that only one schema reads
    "killed": ["id,v|01,a|02,b", "id,v|01,c|02,b"],
    "cased": ["id,uf,v|a,SP,1", "id,uf,v|a,SP,1|b,RJ,2"],
    "added": ["id,v,w|a,1,early", "id,v,w|a,1,early"],
}
CASED = "SELECT t.id AS id, t.uf AS uf, t.v AS v FROM bronze.cased AS t"
SMALL_MODELS = {
    "silver.cased": (CASED, {"keys": ["id", "uf"]}),
    "gold.cased": ("SELECT t.uf AS uf, SUM(t.v) AS v FROM silver.cased AS t GROUP BY t.uf", {}),
    "silver.killed": ("SELECT t.id AS id, t.v AS v FROM bronze.killed AS t", {"keys": ["id"]}),
    "gold.killed": ("SELECT t.id AS id, COUNT(*) AS n FROM silver.killed AS t GROUP BY t.id", {}),
}


@pytest.fixture(scope="module")
def changed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project after two snapshots, without the oldest files of two tables, and with other schemas since."""
    tables = {name: table | {"file": f"{name}.csv"} for name, table in TABLES.items()}
    shop = Project(tmp_path_factory.mktemp("changed"), tables, dict(SMALL_MODELS))
    for number, day in enumerate(DAYS[:2]):
        shop.snapshot(day, **{name: lines[number].replace("|", "\n") + "\n" for name, lines in ROWS.items()})
    assert shop.run().code == 0
    for name in ("lost", "story"):
        folder = shop.lake / "landing" / name / DAYS[0]
        manifest = json.loads((folder / "_manifest.json").read_text())
        (folder / "_manifest.json").write_text(json.dumps(manifest | {"expired": "2025-02-01T00:00:00+00:00"}))
        (folder / f"{name}.csv").unlink()
    for name in ("lost", "story", "killed"):
        shop.tables[name] = shop.tables[name] | {"schema": "id STRING, v STRING"}
    shop.tables["misfit"] = shop.tables["misfit"] | {"schema": "id STRING, v INT"}
    shop.tables["netted"] = shop.tables["netted"] | {"schema": "id INT, v STRING, w INT"}
    changes = {"schema": "ID STRING, UF STRING, V INT", "keys": ["UF", "ID"], "ignore": ["V"]}
    shop.tables["cased"] = shop.tables["cased"] | changes
    shop.models["silver.cased"] = (CASED.replace("t.uf AS uf", "t.UF AS UF"), {"keys": ["id", "UF"]})
    shop.models["gold.cased"] = (SMALL_MODELS["gold.cased"][0].replace("t.uf", "t.UF"), {})
    shop.tables["added"] = shop.tables["added"] | {"schema": "id STRING, v INT, w STRING"}
    shop.configure()
    shop.snapshot(DAYS[2], added="id,v,w\na,1,late\n", cased="id,uf,v\na,SP,1\nb,RJ,2\n")
    return shop


def ids_at(shop: Project, table: str, day: str) -> list[str]:
    return sorted(row.id for row in lakehouse.time_travel(shop.pipeline, table, day).collect())


def test_what_expired_is_reported_and_a_row_that_does_not_fit_stops_the_rebuild(
    changed: Project, tmp_path: Path
) -> None:
    shop = changed.copy(tmp_path / "shop")
    before = shop.rows_with_cdc("bronze/misfit")
    done = shop("bronze", "lost", "story", "misfit", "netted", "--full-refresh")

    codes = {o["name"]: o["code"] for o in done.document["outcomes"]}
    assert codes == {"lost": 0, "story": 0, "misfit": 5, "netted": 5}
    netted = done.outcome("bronze", "netted")["note"]
    assert "w y is no int" in netted and "v x" not in netted
    assert [row["id"] for row in shop.rows("bronze/netted")] == [1, 2, 3]
    misfit = done.outcome("bronze", "misfit")["note"]
    assert "v x is no int" in misfit
    assert "cast it in silver" in misfit
    assert shop.rows_with_cdc("bronze/misfit") == before
    assert len(shop.ledger("misfit")) == 2
    for name in ("lost", "story"):
        note = done.outcome("bronze", name)["note"]
        assert f"the files up to {DAYS[0]} have expired" in note, note
        assert (ids_at(shop, name, FIRST_DAYS[0]), ids_at(shop, name, FIRST_DAYS[1])) == (["1", "2"], ["01", "02"])
    assert [row["id"] for row in shop.rows("bronze/lost")] == ["01", "02"]
    windows = [(row["id"], row["__END_AT"] is None) for row in shop.rows("bronze/story")]
    assert windows == [("01", True), ("02", True), ("1", False), ("2", False)]
    assert faults(shop("verify", "lost", "story")) == []


def test_the_next_run_completes_a_rebuild_that_was_killed_and_models_follow(
    changed: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = changed.copy(tmp_path / "shop")
    with monkeypatch.context() as patch:
        patch.setattr("lakehouse.bronze.refresh", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            shop("bronze", "killed", "--full-refresh")
    assert [row["id"] for row in shop.rows("bronze/killed")] == [1, 2]

    done = shop.run("killed", "silver.killed", "gold.killed")
    assert failures(done) == [f"ingest killed 5: {done.outcome('ingest', 'killed')['note']}"]  # it lacks the last file
    for path in ("bronze/killed", "silver/killed", "gold/killed"):
        assert [row["id"] for row in shop.rows(path)] == ["01", "02"], path


def test_a_column_whose_name_changes_in_case_only_is_the_same_one(changed: Project, tmp_path: Path) -> None:
    shop = changed.copy(tmp_path / "shop")
    writes = {name: count for name, count in shop.write_counts().items() if name.endswith("cased")}
    done = shop.run("cased", "silver.cased", "gold.cased")

    assert (done.code, failures(done)) == (0, [])
    assert shop.statuses("cased") == ["accepted", "accepted", "unchanged"]
    assert {name: shop.write_counts()[name] for name in writes} == writes
    shop.snapshot(DAYS[3], cased="id,UF,v\na,SP,10\nc,RJ,5\n")
    assert shop.run("cased", "silver.cased", "gold.cased").code == 0
    assert [tuple(row.values()) for row in shop.rows("gold/cased")] == [("RJ", 5), ("SP", 1)]
    assert faults(shop("verify", "cased", "silver.cased", "gold.cased")) == []


def test_a_table_at_a_time_shows_a_column_only_from_the_time_it_has(changed: Project, tmp_path: Path) -> None:
    shop = changed.copy(tmp_path / "shop")
    assert shop.run("added").code == 0
    assert [(row["w"], row["__END_AT"]) for row in shop.rows("bronze/added")] == [("late", None)]

    for day, value in zip(FIRST_DAYS, [None, None, "late"], strict=True):
        (row,) = lakehouse.time_travel(shop.pipeline, "added", day).collect()
        assert (row.id, row.v, row.w) == ("a", 1, value)
        shown = shop("sql", "SELECT w FROM bronze.added", "--at", day.replace("-", "") + "_000000")
        assert shown.document["rows"] == [{"w": value}]
