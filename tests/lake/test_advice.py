"""The advice of messages (`next`) is right, where it needs a lake: many faults in one project, all followed at once.

tests/unit/test_advice.py has what the configuration refuses; tests/advice_list.py lists all advice.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Project, Result
from pyspark.sql import SparkSession

from lakehouse.lake import delta

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH = (f"2025010{day}_000000" for day in (1, 2, 3, 4))
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
    "wide": (
        table("wide.csv", options={"maxColumns": "2"}),
        b"id,n,x\na,1,1\n",
        {"options": {"maxColumns": "3"}},
        "correct `sep` in the table's `options`, or set `maxColumns` there",
    ),
    "empty": (table("empty.csv"), b"", GOOD, "have the source deliver it again, with a time of its own"),
    "latin": (
        table("latin.json", format="json"),
        '{"id":"é","n":1}\n'.encode("latin-1"),
        '{"id":"é","n":1}\n'.encode(),
        "have the source write UTF-8, and deliver it again with a time of its own",
    ),
    "notice": (
        table("notice.json", format="json"),
        b"Service unavailable\nTry again\n",
        b'{"id":"a","n":1}\n',
        "look at the file: a download that failed is often a page or a message",
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
    "folder": (
        table("folder.csv"),
        b"",
        {"file": "folder.csv/*.csv"},
        "correct `file`; a snapshot with a time of its own is then read by it",
    ),
    "hidden": (
        table("_hidden*.csv"),
        GOOD,
        {"file": "hidden*.csv"},
        "rename them at the source, or change `file` so that it does not match them",
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


# Files of tables whose `file` is a pattern, or a folder.
OTHERS = {"folder.csv/part-0.csv": GOOD, "_hidden_1.csv": GOOD}
OTHERS_MENDED = {"folder.csv/part-0.csv": GOOD, "hidden_1.csv": GOOD, "twice_1.csv": GOOD}


def deliver(project: Project, stamp: str, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        file = project.source / stamp / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def test_following_the_advice_about_data_and_models_ends_well(tmp_path: Path) -> None:
    tables = {name: settings for name, (settings, *_) in FAULTS.items()}
    tables |= {"texts": table("texts.csv", schema="id STRING, n INT, txt STRING")}
    shop = Project(tmp_path, tables, dict(MODELS))
    texts = {"texts.csv": b"id,n,txt\na,1,10\nb,1,vinte\n"}
    named = {name: fault for name, fault in FAULTS.items() if name not in ("folder", "hidden", "twice")}
    deliver(shop, FIRST, {s["file"]: content for s, content, *_ in named.values()} | OTHERS | texts)

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
    mended_files = {s["file"]: m if isinstance(m, bytes) else content for s, content, m, _ in named.values()}
    deliver(shop, SECOND, mended_files | OTHERS_MENDED | texts)

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
    (landed,) = (shop.lake / "landing/typed" / changes.stem.removeprefix("typed_")).glob("*.csv")
    shutil.move(changes, tmp_path / "changes")
    shutil.move(landed, tmp_path / "landed")  # with it, the run would write the change set again
    shutil.rmtree(shop.lake / "bronze/typed")
    gone = shop.run()
    assert "restore the change set, or rebuild the table from the landed snapshots" in str(gone.document)
    shutil.move(tmp_path / "changes", changes)
    shutil.move(tmp_path / "landed", landed)
    assert shop.run().code == 0


def next_steps(result: Result) -> str:
    """Return the advice of all errors of a command, a line each."""
    notes = [outcome["note"] for outcome in result.document.get("outcomes", ()) if outcome["code"]]
    advice = re.findall(r"^next: +(.*(?:\n +.*)*)", "\n".join(notes), re.MULTILINE)
    return "\n".join([*advice, (result.document.get("error") or {}).get("next_step", "")])


def typed(shop: Project, advice: str) -> Result:
    """Run the command of an advice, as somebody types it."""
    verb, pipeline, *arguments = shlex.split(advice)
    assert pipeline in (str(shop.pipeline), "PIPELINE"), advice
    return shop(verb, *arguments)


def test_following_the_advice_about_changes_of_a_table_ends_well(tmp_path: Path, spark: SparkSession) -> None:
    """Another type, other protection, a model's other columns, snapshots that cannot be approved, and a change feed."""
    events = {"schema": "id STRING, n INT, seq BIGINT, word STRING", "feed": {"sequence_by": ["seq"]}}
    names = ("typed", "secret", "late", "held")
    shop = Project(
        tmp_path,
        {name: table(f"{name}.csv", schema="id STRING, n STRING") for name in names}
        | {"events": table("events.csv", **events)},
        {"silver.typed": ("SELECT t.id AS id, t.n AS n FROM bronze.typed AS t", {"keys": ["id"]})},
    )
    sent = {"events.csv": b"id,n,seq,word\na,1,1,x\n"}
    files = {f"{name}.csv": GOOD.replace(b"a,1", b"a,x") for name in names}
    deliver(shop, FIRST, files | sent)
    assert shop.run().code == 0
    shop.tables["held"]["guard"] = {"min_rows": 9}
    shop.configure()
    changed = {name: content + b"c,3\n" for name, content in files.items()}
    deliver(shop, SECOND, changed | {"events.csv": b"id,n,seq,word\na,2,2,y\n"})
    assert shop.run().code == 4

    # Another type, which a row does not fit: with bronze, and without it
    shop.tables["typed"]["schema"] = "id STRING, n INT"
    shop.configure()
    refused = shop("bronze", "typed", "--full-refresh")
    assert "keep the column as it was and cast it in silver" in next_steps(refused), refused.document
    shutil.move(shop.lake / "bronze/typed", tmp_path / "typed")
    refused = shop("bronze", "typed")
    assert "keep the column's type and cast it in silver" in next_steps(refused), refused.document
    shutil.move(tmp_path / "typed", shop.lake / "bronze/typed")
    shop.tables["typed"]["schema"] = "id STRING, n STRING"
    shop.models["silver.typed"] = (
        "SELECT t.id AS id, try_cast(t.n AS INT) AS n FROM bronze.typed AS t",
        {"keys": ["id"]},
    )
    shop.configure()
    refused = shop("silver", "silver.typed")
    advice = re.match(r"lakehouse (silver \S+ (?:silver\.)?typed --full-refresh)", next_steps(refused).strip())
    assert advice, refused.document
    assert typed(shop, advice[1]).code == 0
    assert [row["n"] for row in shop.rows("silver/typed")] == [None, 2, 3]

    # Other protection
    shop.tables["secret"]["pii"] = {"n": "mask"}
    shop.configure()
    advice = re.search(
        r"to ingest all landed snapshots again: (lakehouse ingest \S+ secret --full-refresh)", shop.run().stderr
    )
    assert advice
    assert typed(shop, advice[1].removeprefix("lakehouse ")).code == 0
    assert {row["n"] for row in shop.rows("bronze/secret")} == {"***"}

    # Snapshots that cannot be approved
    deliver(shop, FIRST, {"late.csv": GOOD})
    later = shop.lake / "landing/late" / SECOND / "_manifest.json"
    content = later.read_text()
    later.write_text(json.dumps(json.loads(content) | {"expired": "2025-02-01T00:00:00+00:00"}))
    refused = shop("approve", "late", FIRST)
    assert "deliver a correction as a new snapshot with its own time" in next_steps(refused), refused.document
    later.write_text(content)
    refused = shop("approve", "late", SECOND)
    assert typed(shop, next_steps(refused).strip().removeprefix("lakehouse ")).code == 0
    manifest = shop.lake / "landing/held" / SECOND / "_manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"expired": "2025-02-01T00:00:00+00:00"}))
    refused = shop("approve", "held", SECOND)
    advice = re.match(r"lakehouse (history \S+ held), for what it changed", next_steps(refused).strip())
    assert advice, refused.document
    assert typed(shop, advice[1]).code == 0

    # A change feed
    shop.tables["events"]["feed"] = {"sequence_by": ["seq"], "delete_when": "CAST(word AS INT) = 0"}
    shop.configure()
    deliver(shop, THIRD, changed | {"events.csv": b"id,n,seq,word\na,3,3,z\n"})
    failed = shop.run()
    assert "use try_cast and the like in them" in next_steps(failed), failed.document
    assert len(shop.rows("bronze/late")) == 3
    shop.tables["events"]["feed"]["delete_when"] = "try_cast(word AS INT) = 0"
    shop.configure()
    deliver(shop, FOURTH, changed | {"events.csv": b"id,n,seq,word\na,4,4,0\nb,1,1,z\n"})
    assert {o["name"] for o in shop.run().document["outcomes"] if o["code"]} == {"held"}
    assert [row["id"] for row in shop.rows("bronze/events")] == ["b"]

    landed = shop.lake / "landing/events" / FIRST
    content = json.loads((landed / "_manifest.json").read_text())
    (landed / "_manifest.json").write_text(json.dumps(content | {"expired": "2025-02-01T00:00:00+00:00"}))
    shutil.move(landed / "events.csv", tmp_path / "events.csv")
    refused = shop("ingest", "events", "--full-refresh")
    assert "restore these files, and remove `expired` from their manifests" in next_steps(refused), refused.document
    shutil.move(tmp_path / "events.csv", landed / "events.csv")
    (landed / "_manifest.json").write_text(json.dumps(content))
