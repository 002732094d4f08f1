"""The advice of messages (`next`) is right, where it needs a lake: many faults in one project, all followed at once.

tests/unit/test_advice.py has what the configuration refuses; tests/advice_list.py lists all advice.
"""

from __future__ import annotations

import gzip
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Project
from pyspark.sql import SparkSession

from lakehouse.lake import delta

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND = "20250101_000000", "20250102_000000"
GUARD = {"max_deleted": 1.0, "max_quarantined": 1.0}


def table(file: str, **settings: Any) -> dict[str, Any]:
    known = {"file": file, "format": "csv", "schema": "id STRING, n INT", "keys": ["id"], "guard": GUARD}
    return known | settings


GOOD = b"id,n\na,1\nb,2\n"


def parquet(columns: dict[str, Any]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


# By table: its settings, what is delivered first, what the advice asks for (bytes, or settings), and the advice.
FAULTS: dict[str, tuple[dict[str, Any], bytes, bytes | dict[str, Any], str]] = {
    "conflict": (
        table("conflict.csv"),
        GOOD + b"a,3\n",
        {"duplicates": "quarantine"},
        "correct the source, or set `duplicates` to latest or quarantine",
    ),
    "strict": (
        table("strict.csv", malformed="fail"),
        GOOD + b"c,x\n",
        {"malformed": "quarantine"},
        "set `malformed: quarantine`",
    ),
    "renamed": (
        table("renamed.csv"),
        b"id,number\na,1\n",
        {"names": {"n": "number"}},
        "correct the source, or the table's `names` if the source's columns were renamed",
    ),
    "renamed_json": (
        table("renamed.json", format="json"),
        b'{"id":"a","number":1}\n',
        {"names": {"n": "number"}},
        "correct the source, or the table's `names` if the source's names changed",
    ),
    "separator": (table("separator.csv"), b"id;n\na;1\n", {"options": {"sep": ";"}}, 'set `sep` to ";"'),
    "quote": (
        table("quote.csv"),
        b'id,n\n"a,1\nb,2\n',
        GOOD,
        "look for an open quote there; the file may be cut short",
    ),
    "short": (
        table("short.csv", skip_lines=2, skip_footer=2),
        GOOD,
        {"skip_lines": 0, "skip_footer": 0},
        "correct these settings, or have the source deliver the file again, with a time of its own",
    ),
    "elsewhere": (
        table("elsewhere.json", format="json", records="data"),
        b'{"items": [{"id":"a","n":1}]}',
        {"records": "items"},
        "correct `records`, or have the source deliver the file again, with a time of its own",
    ),
    "cut_document": (
        table("cut_document.json", format="json", records="items"),
        b'{"items": [{"id":"a","n":1}',
        b'{"items": [{"id":"a","n":1}]}',
        "the file may be cut short",
    ),
    "packed": (
        table("packed.csv.gz"),
        gzip.compress(GOOD)[:-9],
        gzip.compress(GOOD),
        "have the source deliver the file again, as a snapshot with a new time",
    ),
    "cut": (table("cut.json", format="json"), b'{\n "id": "a",\n', b'{"id":"a","n":1}\n', "the file may be cut short"),
    "renamed_parquet": (
        table("renamed.parquet", format="parquet"),
        parquet({"id": ["a"], "number": [1]}),
        {"names": {"n": "number"}},
        "correct the source, or the table's `names` if the source's columns were renamed",
    ),
    "damaged": (
        table("damaged.parquet", format="parquet"),
        parquet({"id": ["a"], "n": [1]})[:-9],
        parquet({"id": ["a"], "n": [1]}),
        "have the source deliver it again, with a time of its own",
    ),
    "long": (
        table("long.csv.gz"),
        gzip.compress(GOOD + b"c," + bytes(65 << 20).replace(b"\0", b"1"), 1),
        gzip.compress(GOOD),
        "look at the file: its line ends may be missing",
    ),
    "repeated": (
        table("repeated.parquet", format="parquet", schema="id INT, n STRING"),
        parquet({"id": list(range(2_200)), "n": pa.DictionaryArray.from_arrays([0] * 2_200, ["1" * (1 << 19)])}),
        parquet({"id": [1], "n": ["1"]}),
        "have the source deliver it again, with a time of its own",
    ),
    "twice": (
        table("twice*.csv"),
        b"",
        {"file": "twice_1.csv"},
        "let the source deliver the complete snapshot again, with a time of its own",
    ),
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.value": ("SELECT t.id AS id, CAST(t.txt AS INT) AS n FROM bronze.texts AS t", {"keys": ["id"]}),
    "silver.keys": ("SELECT t.n AS n, t.id AS id FROM bronze.texts AS t", {"keys": ["n"]}),
    "silver.sql": (
        "SELECT t.id AS id, CAST(make_date(t.n, 1, 1) AS BOOLEAN) AS n FROM bronze.texts AS t",
        {"keys": ["id"]},
    ),
    "silver.rule": (
        "SELECT t.id AS id, t.n AS n FROM bronze.texts AS t",
        {"keys": ["id"], "expect": {"few": {"rows": {"max": 1}, "on_fail": "fail"}}},
    ),
    "silver.check": (
        "SELECT t.id AS id, t.txt AS txt FROM bronze.texts AS t",
        {"keys": ["id"], "expect": {"number": {"check": "CAST(txt AS INT) > 0"}}},
    ),
}
FOLLOWED: dict[str, tuple[str, tuple[str, dict[str, Any]]]] = {  # by model: the advice, and the model by it
    "silver.value": (
        "correct the rows at their source, or write `try_cast` in the SQL",
        ("SELECT t.id AS id, try_cast(t.txt AS INT) AS n FROM bronze.texts AS t", {"keys": ["id"]}),
    ),
    "silver.keys": ("make the keys of silver.keys unique", (MODELS["silver.keys"][0], {"keys": ["n", "id"]})),
    "silver.sql": (
        "correct the SQL; then `lakehouse run PIPELINE` computes the model",
        ("SELECT t.id AS id, make_date(t.n, 1, 1) > DATE '0001-01-01' AS n FROM bronze.texts AS t", {"keys": ["id"]}),
    ),
    "silver.rule": (
        "correct the rows at their source, or the rule; then `lakehouse run PIPELINE` evaluates them again",
        (MODELS["silver.rule"][0], {"keys": ["id"], "expect": {"few": {"rows": {"max": 9}, "on_fail": "fail"}}}),
    ),
    "silver.check": (
        "correct it in pipeline.yml, with try_cast or try_divide if some values do not fit",
        (MODELS["silver.check"][0], {"keys": ["id"], "expect": {"number": {"check": "try_cast(txt AS INT) > 0"}}}),
    ),
}


def deliver(project: Project, stamp: str, content: dict[str, bytes]) -> None:
    folder = project.source / stamp
    folder.mkdir(exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)


def test_following_the_advice_about_data_and_models_ends_well(tmp_path: Path) -> None:
    tables = {name: settings for name, (settings, *_) in FAULTS.items()}
    tables |= {"texts": table("texts.csv", schema="id STRING, n INT, txt STRING")}
    shop = Project(tmp_path, tables, dict(MODELS))
    texts = {"texts.csv": b"id,n,txt\na,1,10\nb,1,vinte\n"}
    files = {settings["file"]: content for settings, content, *_ in FAULTS.values() if "*" not in settings["file"]}
    deliver(shop, FIRST, files | texts)

    first = shop.run()

    assert first.code == 2, first.document
    notes = {
        outcome["name"]: outcome["note"].replace(f"run {shop.pipeline}", "run PIPELINE")
        for outcome in first.document["outcomes"]
        if outcome["code"]
    }
    assert [n for n, (*_, advice) in FAULTS.items() if advice not in notes.get(n, "")] == [], notes
    assert [n for n, (advice, _) in FOLLOWED.items() if advice not in notes.get(n, "")] == [], notes
    assert {outcome["code"] for outcome in first.document["outcomes"]} == {0, 2, 5}

    for name, (settings, _, mended, _) in FAULTS.items():
        shop.tables[name] = settings | (mended if isinstance(mended, dict) else {})
    shop.models |= {name: model for name, (_, model) in FOLLOWED.items()}
    shop.configure()
    mended_files = {s["file"]: m if isinstance(m, bytes) else content for s, content, m, _ in FAULTS.values()}
    deliver(shop, SECOND, {n: c for n, c in mended_files.items() if "*" not in n} | texts | {"twice_1.csv": GOOD})

    second = shop.run()

    assert second.code == 0, [o for o in second.document["outcomes"] if o["code"]]
    assert all(shop.rows(f"bronze/{name}") for name in FAULTS)
    assert shop.rows("silver/value") == [{"id": "a", "n": 10}, {"id": "b", "n": None}]


def test_following_the_advice_about_tables_ends_well(tmp_path: Path, spark: SparkSession) -> None:
    """What somebody set on tables by hand, another type, a lost change set, and the verbs that look."""
    shop = Project(
        tmp_path,
        {name: table(f"{name}.csv") for name in ("typed", "lost")},
        {
            f"silver.{n}": (f"SELECT t.id AS id, t.n AS n FROM bronze.{n} AS t", {"keys": ["id"]})
            for n in ("typed", "lost")
        },
    )
    deliver(shop, FIRST, {"typed.csv": GOOD, "lost.csv": GOOD})
    unmade = shop("sql", "SELECT * FROM bronze.typed")
    assert f"lakehouse run {shop.pipeline}" in unmade.error["next_step"]
    assert shop.run().code == 0
    assert shop("sql", "SELECT * FROM bronze.typed").code == 0

    for name, statement in {
        "silver/typed": "ADD CONSTRAINT few CHECK (n < 5)",
        "silver/lost": "SET TBLPROPERTIES ('delta.appendOnly' = 'true')",
    }.items():
        spark.sql(f"ALTER TABLE {delta.sql_name(str(shop.lake / name))} {statement}")
    shop.tables["lost"] |= {"schema": "id STRING, n BIGINT"}
    shop.configure()
    deliver(shop, SECOND, {"typed.csv": GOOD.replace(b"a,1", b"a,9"), "lost.csv": GOOD.replace(b"a,1", b"a,9")})
    broken = shop.run()
    notes = "\n".join(outcome["note"] for outcome in broken.document["outcomes"])
    assert broken.code in (2, 5)
    assert f"to rebuild it: lakehouse bronze {shop.pipeline} lost --full-refresh" in notes
    assert "or remove the constraint (`ALTER TABLE" in notes

    for statement in re.findall(r"remove the constraint \(`(ALTER TABLE .*)` in Spark\)", notes):
        spark.sql(statement)
    rebuilt = shop("bronze", "lost", "--full-refresh")
    notes = "\n".join(outcome["note"] for outcome in rebuilt.document["outcomes"])
    for statement in re.findall(r"next: +`(ALTER TABLE .*)` in Spark; then run the same command again", notes):
        spark.sql(statement)
    assert shop("bronze", "lost", "--full-refresh").code == 0
    assert shop.run().code == 0
    assert [row["n"] for row in shop.rows("silver/typed")] == [9, 2]

    shop.models["silver.typed"] = ("SELECT t.id AS id, t.n AS m FROM bronze.typed AS t", {"keys": ["id"]})
    shop.configure()
    (note,) = (outcome["note"] for outcome in shop.run().document["outcomes"] if outcome["code"])
    (command,) = re.findall(rf"next: +lakehouse (\w+) {shop.pipeline} (.*)", note)
    assert shop(command[0], *command[1].split()).code == 0
    assert [row["m"] for row in shop.rows("silver/typed")] == [9, 2]

    assert "mkdir -p" in shop("sql", "SELECT 1 AS x", "--out", str(tmp_path / "no/x.csv")).error["next_step"]
    (tmp_path / "no").mkdir()
    assert shop("sql", "SELECT 1 AS x", "--out", str(tmp_path / "no/x.csv")).code == 0
    assert shop("diff", "silver.lost").error["next_step"].startswith(f"lakehouse status {shop.pipeline}")
    assert shop("status").code == 0

    changes = next((shop.lake / "raw/cdc").glob("typed_*"))
    shutil.move(changes, tmp_path / "changes")
    shutil.rmtree(shop.lake / "bronze/typed")
    gone = shop.run()
    assert "restore the change set, or rebuild the table from the landed snapshots" in str(gone.document)
    shutil.move(tmp_path / "changes", changes)
    assert shop.run().code == 0
