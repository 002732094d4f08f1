"""Change feeds on real Delta: the rules of docs/guide/change-feeds.md, and the law by many keys at once."""

from __future__ import annotations

import json
import random
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from crash_points import interrupt_at
from feed_reference import DELETE, TRUNCATE, UPSERT, Batch, Row, Rules, Sent, fold
from guide import Example, parse_sections
from helpers import Project
from pyspark.sql import DataFrame, SparkSession
from text_search import find_words

from lakehouse.failpoints import handled_by
from lakehouse.lake import feed_events
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.lake.table_ref import TableRef

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "change-feeds.md"
FEED: dict[str, Any] = {
    "sequence_by": ["seq"],
    "delete_when": "op = 'D'",
    "truncate_when": "op = 'T'",
    "drop": ["op", "seq"],
}
TABLE: dict[str, Any] = {
    "file": "t.csv",
    "format": "csv",
    "schema": "id STRING, op STRING, seq BIGINT, a INT, b STRING",
    "keys": ["id"],
    "guard": {"max_deleted": 1, "max_quarantined": 1},
}
DAY = 86_400


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
def test_the_page_of_change_feeds_shows_what_happens(tmp_path: Path, spark: SparkSession) -> None:
    (section,) = parse_sections(PAGE.read_text(encoding="utf-8"))

    Example(section, tmp_path, spark).check()


# --- the law ----------------------------------------------------------------------------------------------------------


def _random_events(random_: random.Random, keys: int) -> list[Sent]:
    """Events of which no two of one key and sequence differ; the sequences of keys overlap those of the truncates."""
    events = [Sent(None, sequence, TRUNCATE) for sequence in (4, 9)]
    for key in range(keys):
        for sequence in random_.sample(range(1, 16), random_.randint(1, 7)):
            kind = random_.choice([UPSERT, UPSERT, UPSERT, DELETE])
            values = (("a", random_.choice([None, 1, 2])), ("b", random_.choice([None, "x", "y"])))
            events.append(Sent(f"k{key}", sequence, kind, values))
    return events


def _batches(random_: random.Random, events: list[Sent]) -> list[Batch]:
    """Four batches in an order by chance, of which one comes again in part; the times are in no order."""
    shuffled = random_.sample(events, len(events))
    cuts = sorted(random_.sample(range(len(events)), 2))
    parts = [shuffled[: cuts[0]], shuffled[cuts[0] : cuts[1]], shuffled[cuts[1] :]]
    parts.append(random_.sample(events, len(events) // 3))
    return [Batch(day * DAY, tuple(part)) for day, part in zip((3, 1, 4, 2), parts, strict=True)]


def _later_batches(random_: random.Random, keys: int) -> list[Batch]:
    """Three batches: one is in order, one overlaps it alone, and one is in order and has a truncate."""
    of_key = {key: random_.sample(range(20, 36), 6) for key in range(0, keys + 10, 5)}
    found = []
    for day, sequences in ((5, range(20, 26)), (6, range(23, 30)), (7, range(30, 36))):
        events = [Sent(None, 32, TRUNCATE)] if day == 7 else []
        for key, own in of_key.items():
            for sequence in [each for each in own if each in sequences][:3]:
                own.remove(sequence)
                values = (("a", random_.choice([None, 1, 2])), ("b", random_.choice([None, "x", "y"])))
                events.append(Sent(f"k{key}", sequence, random_.choice([UPSERT, UPSERT, UPSERT, DELETE]), values))
        found.append(Batch(day * DAY, tuple(random_.sample(events, len(events)))))
    return found


def _csv(batch: Batch) -> str:
    kinds = {UPSERT: "U", DELETE: "D", TRUNCATE: "T"}
    lines = ["id,op,seq,a,b"]
    for event in batch.events:
        values = dict(event.values)
        fields = [event.key, kinds[event.kind], event.sequence, values.get("a"), values.get("b")]
        lines.append(",".join("" if field is None else str(field) for field in fields))
    return "\n".join(lines) + "\n"


def _bronze(shop: Project, name: str) -> list[Row]:
    names = {"id": "key", "_feed_sequence": "sequence", "__START_AT": "start", "__END_AT": "end"}
    rows = [{names.get(column, column): value for column, value in row.items()} for row in shop.rows(f"bronze/{name}")]
    return sorted(rows, key=lambda row: (row["key"], row["sequence"]))


@pytest.mark.timeout(900)  # many runs: minutes, where the machine has other things to do
def test_bronze_is_the_definition_after_each_batch_whatever_their_order(tmp_path: Path, spark: SparkSession) -> None:
    rules = {
        "current": Rules(tombstones=DAY),
        "kept": Rules(kept_on_null=frozenset("ab")),
        "history": Rules(scd=2),
        "tracked": Rules(scd=2, tracked=("a",), kept_on_null=frozenset("b")),
    }
    settings: dict[str, dict[str, Any]] = {
        "current": {"feed": FEED | {"tombstones": "1d"}},
        "kept": {"feed": FEED | {"ignore_null_updates": True, "tombstones": "forever"}},
        "history": {"scd": 2, "feed": FEED},
        "tracked": {"scd": 2, "history_for": ["a"], "feed": FEED | {"ignore_null_updates": ["b"]}},
    }
    shop = Project(
        tmp_path / "shop",
        {name: TABLE | own for name, own in settings.items()},
        {"gold.count": ("SELECT t.a AS a, COUNT(*) AS n FROM bronze.current AS t GROUP BY t.a", {})},
    )
    random_ = random.Random(21)
    late = _batches(random_, _random_events(random_, 150))
    later = _later_batches(random_, 150)
    batches = [*late[:2], *later[:2], late[2], later[2], late[3]]
    assert 2 * len(later[0].events) < len(late[0].events) + len(late[1].events)  # few overlap the next one

    for number, batch in enumerate(batches, start=1):
        shop.snapshot(f"202501{1 + batch.time // DAY:02d}_000000", t=_csv(batch))
        assert shop.run().code == 0
        for name, of_table in rules.items():
            assert _bronze(shop, name) == fold(batches[:number], of_table), (name, number)

    verified = shop("verify")
    assert verified.code == 0, str([c for c in verified.document["checks"] if c["result"] == "failed"])
    claims = {(c["name"], c["what"]): c["result"] for c in verified.document["checks"]}
    assert claims["history", "bronze = the fold of all accepted events"] == "holds"
    assert claims["history", "Change Data Feed = the ledger"] == "holds"
    versions = shop.versions()
    assert shop.run().code == 0
    assert shop.versions() == versions
    # Bronze is nothing but a result of the events: lost, or wrong, it comes back.
    shutil.rmtree(shop.lake / "bronze" / "history")
    shop.tables["current"]["feed"] = FEED | {"tombstones": "forever"}
    shop.configure()
    assert shop.run("history", "current").statuses("bronze") == {"history": "applied", "current": "healed"}
    assert _bronze(shop, "history") == fold(batches, rules["history"])
    assert _bronze(shop, "current") == fold(batches, Rules())


# --- around it --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, spark: SparkSession) -> Project:
    """A table with a feed, two batches and an event in quarantine."""
    found = Project(tmp_path_factory.mktemp("shop"), {"items": TABLE | {"feed": FEED}})
    found.snapshot("20250102_000000", t="id,op,seq,a,b\nk1,U,1,1,x\nk2,U,2,2,y\nk3,U,,3,z\n")
    assert found.run().code == 0
    return found


def test_each_event_is_kept_as_received_and_the_ledger_names_the_batch(shop: Project) -> None:
    (entry,) = shop.ledger()[:1]

    assert (entry["kind"], entry["path"]) == ("feed", "raw/cdc/items_20250102_000000.parquet")
    assert [(row["id"], row["op"], row["seq"]) for row in shop.change_set(entry)] == [("k1", "U", 1), ("k2", "U", 2)]
    assert [row["rule"] for row in shop.quarantine()] == ["null_sequence"]


def test_an_older_and_an_empty_batch_are_accepted_and_quarantine_stays(shop: Project, tmp_path: Path) -> None:
    late = shop.copy(tmp_path / "late")
    late.snapshot("20250101_000000", t="id,op,seq,a,b\nk1,U,5,5,late\n")
    late.snapshot("20250103_000000", t="id,op,seq,a,b\n")
    late.snapshot("20250104_000000")

    result = late.run()

    assert (result.code, [row["status"] for row in late.ledger()]) == (0, ["accepted"] * 4)
    assert [row["a"] for row in late.rows("bronze/items")] == [5, 2]
    assert [row["rule"] for row in late.quarantine()] == ["null_sequence"]
    state = late("status").document["tables"][0]
    assert state["snapshot_time"] == "2025-01-04T00:00:00Z"


def test_a_held_batch_is_reported_until_it_is_approved_whatever_comes_after_it(shop: Project, tmp_path: Path) -> None:
    held = shop.copy(tmp_path / "held")
    held.configure(guard={"max_deleted": 0.5, "max_quarantined": 1})
    # Neither delete is newer than the row of its key: the truncate deletes both.
    held.snapshot("20250103_000000", t="id,op,seq,a,b\n,T,9,,\nk1,D,0,,\nk1,U,8,8,x\nk2,D,1,,\n")
    held.snapshot("20250104_000000", t="id,op,seq,a,b\nk5,U,20,5,x\n")

    first, second = held.run(), held.run()

    outcomes = [o for result in (first, second) for o in result.document["outcomes"] if o["status"] == "held"]
    assert (first.code, second.code) == (4, 4)
    assert held.statuses() == ["accepted", "held", "accepted", "held"]  # of 2 rows, and then of 3
    for outcome in outcomes:
        for text in (
            "rows deleted by a truncate, more than max_deleted 0.5",
            "expected: a batch within the guard of items (max_deleted 0.5, max_quarantined 1)",
            "which shows what it would change, if it is the newest batch; then",
            f"lakehouse approve {held.pipeline} items 20250103_000000",
        ):
            assert text in outcome["note"]
    assert [o["counts"]["deleted"] for o in outcomes] == [2, 2]
    (table,) = held("status").document["tables"]
    assert (table["newest"], table["held"]) == ("accepted", "2025-01-03T00:00:00Z")
    assert table["note"] == "2 of 3 rows deleted by a truncate, more than max_deleted 0.5"
    assert held("approve", "items", "20250103_000000").code == 0
    assert (held.run().code, [row["id"] for row in held.rows("bronze/items")]) == (0, ["k5"])


def test_a_batch_that_was_written_or_published_by_halves_is_taken_once(shop: Project, tmp_path: Path) -> None:
    killed = shop.copy(tmp_path / "killed[1]")  # a path is no pattern
    killed.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\n")
    with interrupt_at("change-set-written"):
        killed.run()
    assert (killed.statuses(), len(killed.rows("bronze/items"))) == (["accepted"], 2)
    killed.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\n")

    assert killed("ingest").code == 0  # its row is in the ledger, and bronze does not have it yet
    assert [row["a"] for row in killed.rows("bronze/items")] == [1, 2]
    assert killed("bronze").code == 0

    assert (killed.statuses(), [row["a"] for row in killed.rows("bronze/items")]) == (["accepted"] * 2, [5])
    verified = killed("verify")
    of_events = {check["result"] for check in verified.document["checks"] if "events" in check["what"]}
    assert (verified.code, of_events) == (0, {"holds"})


def test_more_changes_than_the_driver_takes_are_merged_by_spark(shop: Project, tmp_path: Path) -> None:
    large = shop.copy(tmp_path / "large")
    large.tuning = {"local_rows": 1}
    large.tables["past"] = TABLE | {"scd": 2, "feed": FEED}
    large.configure()
    assert large.run().code == 0
    large.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\nk4,U,1,4,n\n")

    assert large.run().code == 0

    assert [(row["id"], row["a"]) for row in large.rows("bronze/items")] == [("k1", 5), ("k4", 4)]
    windows = [(row["id"], row["a"], row["__END_AT"]) for row in large.rows("bronze/past")]
    assert windows == [("k1", 1, 5), ("k1", 5, None), ("k2", 2, 6), ("k4", 4, None)]
    assert large("verify").code == 0


def test_a_batch_reads_the_accepted_batches_that_overlap_it(
    shop: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordered, asked, read = shop.copy(tmp_path / "ordered"), list[list[int | None]](), feed_events.read

    def read_and_note(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
        asked.append([entry.sequence for entry in entries])
        return read(table, entries)

    ordered.snapshot("20250102_120000", t="id,op,seq,a,b\n" + "".join(f"k{n},D,1,,\n" for n in range(20, 28)))
    assert ordered.run().code == 0
    monkeypatch.setattr(feed_events, "read", read_and_note)
    ordered.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\nk4,U,7,4,n\n")
    assert ordered.run().code == 0
    assert asked == []  # bronze has all that matters, and its rows were computed by ingest

    ordered.snapshot("20250104_000000", t="id,op,seq,a,b\nk2,U,4,4,late\nk4,U,7,4,n\nk4,U,9,8,n\nk1,D,3,,\n")
    assert ordered.run().code == 0
    assert {*map(tuple, asked)} == {(3,)}  # the first two end at 2

    asked.clear()
    ordered.snapshot("20250105_000000", t="id,op,seq,a,b\nk9,U,1,9,late\nk1,D,2,,\n")
    assert ordered.run().code == 0
    assert (1, 2, 3, 4) in map(tuple, asked)

    counts = [[row[name] for name in ("inserted", "updated", "deleted", "unchanged")] for row in ordered.ledger()]
    assert counts == [[2, 0, 0, 0], [0, 0, 0, 8], [1, 1, 1, 0], [0, 1, 0, 3], [1, 0, 0, 1]]
    assert [(row["id"], row["a"]) for row in ordered.rows("bronze/items")] == [("k1", 5), ("k4", 8), ("k9", 9)]
    assert ordered("verify").code == 0


def test_bronze_computes_a_batch_itself_if_somebody_writes_to_it_after_ingest(
    shop: Project, tmp_path: Path, spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched, asked, read = shop.copy(tmp_path / "touched"), list[int | None](), feed_events.read
    touched.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\nk4,U,7,4,n\n")

    def touch(name: str, where: str) -> None:
        if (name, where) == ("before_stage", "bronze"):
            own = spark.newSession()  # the version that ingest compared with is not the newest any more
            own.sql(f"ALTER TABLE delta.`{touched.lake / 'bronze/items'}` SET TBLPROPERTIES ('by' = 'somebody')")
            monkeypatch.setattr(feed_events, "read", read_and_note)

    def read_and_note(table: TableRef, entries: list[LedgerEntry]) -> DataFrame:
        asked.extend(entry.sequence for entry in entries)
        return read(table, entries)

    with handled_by(touch):
        assert touched.run().code == 0

    assert 2 in asked
    assert [(row["id"], row["a"]) for row in touched.rows("bronze/items")] == [("k1", 5), ("k4", 4)]
    assert touched("verify").code == 0


def test_a_lost_bronze_comes_back_with_a_batch_that_was_taken_again(shop: Project, tmp_path: Path) -> None:
    again = shop.copy(tmp_path / "again")
    again.snapshot("20250103_000000", t="id,op,seq,a,b\nk9,U,9,9,z\n")
    assert again.run().code == 0
    again.snapshot("20250102_000000", t="id,op,seq,a,b\nk1,U,1,1,x\nk1,U,1,1,x\nk2,U,2,2,y\nk3,U,,3,z\n")
    assert again("approve", "items", "20250102_000000").code == 0
    assert again.run().code == 0
    rows = again.rows("bronze/items")
    assert [row["id"] for row in rows] == ["k1", "k2", "k9"]

    shutil.rmtree(again.lake / "bronze/items")

    assert (again.run().code, again.rows("bronze/items")) == (0, rows)


def test_a_bronze_from_a_backup_is_repaired_if_a_batch_was_taken_again_since(shop: Project, tmp_path: Path) -> None:
    older = shop.copy(tmp_path / "older")
    older.snapshot("20250103_000000", t="id,op,seq,a,b\nk9,D,9,,\n")
    assert older.run().code == 0
    older.snapshot("20250104_000000", t="id,op,seq,a,b\nk9,U,8,8,dead\nk1,U,8,8,x\n")
    assert older.run().code == 0
    older.snapshot("20250103_000000", t="id,op,seq,a,b\nk9,D,9,,\nk9,D,9,,\n")
    assert (older("approve", "items", "20250103_000000").code, older.run().code) == (0, 0)
    rows = older.rows("bronze/items")
    shutil.rmtree(older.lake / "bronze/items")
    shutil.copytree(shop.lake / "bronze/items", older.lake / "bronze/items")

    result = older.run()

    assert (result.code, older.rows("bronze/items")) == (0, rows)
    assert [(row["id"], row["a"]) for row in rows] == [("k1", 8), ("k2", 2)]
    assert older("verify").code == 0


def test_diff_shows_what_the_newest_batch_would_change(shop: Project, tmp_path: Path) -> None:
    waiting = shop.copy(tmp_path / "waiting")
    waiting.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\nk4,U,1,4,n\nk5,D,9,,\n")

    (table,) = waiting("diff").document["tables"]

    counts = {"rows_read": 4, "inserted": 1, "updated": 1, "deleted": 1, "unchanged": 1}
    assert {name: count for name, count in table["counts"].items() if count} == counts
    assert (table["verdict"], table["columns"]) == ("accepted", {"a": 1})
    assert table["samples"]["updated"] == [{"key": {"id": "k1"}, "changed": {"a": {"before": 1, "after": 5}}}]
    assert [row["id"] for row in table["samples"]["deleted"]] == ["k2"]


def test_a_change_that_old_events_do_not_fit_is_refused_with_the_command(shop: Project, tmp_path: Path) -> None:
    changed = shop.copy(tmp_path / "changed")
    changed.configure(keys=["id", "b"])
    refused = changed.run()
    changed.configure(keys=["id"], schema="id STRING, op STRING, seq STRING, a INT, b STRING")
    retyped = changed.run()
    changed.configure(feed=None)
    removed = changed.run()

    for result, found in ((refused, "keys was"), (retyped, "seq: bigint is now string"), (removed, "was removed")):
        note = result.outcome("ingest", "items")["note"]
        assert (result.code, found in note, "ingest" in note and "--full-refresh" in note) == (2, True, True), note
    changed.configure(keys=["id"], schema="id STRING, op STRING, seq STRING, a INT, b STRING", feed=FEED)
    assert changed("ingest", "items", "--full-refresh").code == 0
    assert changed.run().code == 0
    assert [row["_feed_sequence"] for row in changed.rows("bronze/items")] == ["1", "2"]


def test_a_column_that_is_added_is_null_in_older_batches(shop: Project, tmp_path: Path) -> None:
    wider = shop.copy(tmp_path / "wider")
    wider.configure(schema="id STRING, op STRING, seq BIGINT, a INT, b STRING, c INT")
    wider.snapshot("20250103_000000", t="id,op,seq,a,b,c\nk1,U,5,5,x,7\n")
    wider.snapshot("20250101_000000", t="id,op,seq,a,b\nk3,U,5,5,x\n")

    assert wider.run().code == 0

    assert [(row["id"], row["c"]) for row in wider.rows("bronze/items")] == [("k1", 7), ("k2", None), ("k3", None)]


def test_a_full_load_in_front_of_a_feed_may_lack_the_operation_and_no_later_batch(tmp_path: Path) -> None:
    loaded = Project(tmp_path, {"items": TABLE | {"feed": FEED}})
    loaded.snapshot("20241231_000000")  # a folder without the table's file delivers no column
    loaded.snapshot("20250101_000000", t="id,seq,a,b\nk1,1,1,x\nk2,1,2,y\n")
    assert loaded.run().code == 0
    loaded.snapshot("20250102_000000", t="id,op,seq,a,b\nk1,D,2,,\n")
    assert loaded.run().code == 0
    loaded.snapshot("20250103_000000", t="id,seq,a,b\nk2,3,,\n")

    refused = loaded.run()

    assert (refused.code, loaded.statuses()) == (5, [*["accepted"] * 3, "rejected"])
    assert [row["reason"] for row in loaded.ledger()[:3]] == [None, "columns that the batch lacks are null: op", None]
    assert [row["id"] for row in loaded.rows("bronze/items")] == ["k2"]


def test_a_condition_that_fails_for_an_event_rejects_its_batch(shop: Project, tmp_path: Path) -> None:
    cast = shop.copy(tmp_path / "cast")
    cast.configure(feed=FEED | {"delete_when": "CAST(b AS INT) = 0"})
    cast.snapshot("20250103_000000", t="id,op,seq,a,b\nk9,U,5,5,word\n")

    result = cast.run()

    # It cannot be computed for the events that were accepted before, either.
    assert (result.code, cast.statuses()) == (5, ["accepted", "rejected"])
    assert "a condition of the feed cannot be computed" in result.outcome("ingest", "items")["note"]
    cast.configure(feed=FEED | {"delete_when": "1 / (seq - 5) = 0"})

    assert cast.run().code == 5
    assert "a condition of the feed cannot be computed" in cast.ledger()[-1]["reason"]


# --- a data subject ---------------------------------------------------------------------------------------------------

SUBJECT, THEIRS, THEIR_NUMBER = "mmperson", "mmtheirs", 717_171
ENVELOPE = "STRUCT<id: INT, note: STRING, n: INT>"


def _envelope(op: str, lsn: int, before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    return json.dumps({"before": before, "after": after, "op": op, "source": {"lsn": lsn}})


def _feeds_with_a_data_subject(folder: Path) -> Project:
    """Two batches of CSV beside which a snapshot lies, of a history in Parquet, and of envelopes in JSON."""
    corrected_by = {"file": "full.csv", "sequence": "MAX(seq)"}
    theirs, theirs_too = {"id": THEIR_NUMBER, "note": THEIRS, "n": 1}, {"id": THEIR_NUMBER, "note": THEIRS, "n": "x"}
    history = TABLE | {"file": "h.parquet", "format": "parquet", "names": {"id": "Cod. Cliente"}, "scd": 2}
    envelopes = TABLE | {"file": "e.jsonl", "format": "json", "keys": ["after.id"]}
    tables = {
        "events": TABLE | {"feed": FEED | {"corrected_by": corrected_by}},
        "history": history | {"schema": "id STRING, day DATE, n INT, b STRING", "feed": {"sequence_by": ["day", "n"]}},
        "envelopes": envelopes
        | {
            "schema": f"before {ENVELOPE}, after {ENVELOPE}, op STRING, source STRUCT<lsn: BIGINT>",
            "feed": {"sequence_by": ["source.lsn"], "delete_when": "op = 'd'", "drop": ["before", "op", "source"]},
        },
    }
    shop = Project(
        folder, tables, {"silver.a": ("SELECT e.id AS id, e.b AS b FROM bronze.events AS e", {"keys": ["id"]})}
    )
    first = f"k1,U,1,1,x\n{SUBJECT},U,1,1,{THEIRS}\n{SUBJECT},U,2,many,{THEIRS}\n{SUBJECT},U,,3,{THEIRS}\nk2,U,3,3,y\n"
    shop.snapshot("20250101_000000", t=f"id,op,seq,a,b\n{first}")
    # A truncate is about all keys, whatever it has in the column of the key.
    second = f"k1,U,20,2,x\n{SUBJECT},T,2,,\n{SUBJECT},U,7,1,{THEIRS}\n{SUBJECT},U,22,1,{THEIRS},more\n"
    shop.snapshot("20250102_000000", t=f"id,op,seq,a,b\n{second}")
    (shop.source / "20250102_000000" / "full.csv").write_text(
        f"id,seq,a,b\nk1,9,1,x\nk2,3,3,y\n{SUBJECT},5,5,{THEIRS}\n"
    )
    for day in (1, 2):
        rows = [
            {"Cod. Cliente": key, "day": date(2025, 1, day), "n": n, "b": b}
            for key, n, b in (("k1", 1, "x"), (SUBJECT, day, f"{THEIRS}{day}"))
        ]
        pl.DataFrame(rows).write_parquet(shop.source / f"2025010{day}_000000" / "h.parquet")
    other = {"id": 1, "note": "x", "n": 1}
    lines = [
        [_envelope("c", 1, None, other), _envelope("c", 2, None, theirs), _envelope("u", 3, theirs, theirs_too)],
        # The key of a delete is in `before` only, and that of a message of another kind in no column of the table.
        [_envelope("d", 4, theirs, None), "null", _envelope("m", 5, None, None)],
    ]
    for day, of_day in enumerate(lines, start=1):
        if day == 2:
            of_day.append(json.dumps({"op": "m", "source": {"lsn": 6}, "key": {"id": THEIR_NUMBER}}))
        (shop.source / f"2025010{day}_000000" / "e.jsonl").write_text("\n".join(of_day))
    return shop


@pytest.mark.timeout(900)  # many commands: minutes, where the machine has other things to do
def test_forget_erases_the_events_of_a_key_from_every_layer(tmp_path: Path, spark: SparkSession) -> None:
    shop, words = _feeds_with_a_data_subject(tmp_path), [SUBJECT, THEIRS, str(THEIR_NUMBER)]
    assert shop.run().code == 0
    before = {name: len(shop.rows(f"bronze/{name}")) for name in shop.tables}
    assert before == {"events": 3, "history": 4, "envelopes": 1}

    with interrupt_at("forget-raw"):
        shop("forget", "events", SUBJECT)
    found = {name: shop("forget", name, SUBJECT if name != "envelopes" else str(THEIR_NUMBER)) for name in shop.tables}

    assert {name: done.document.get("erased") for name, done in found.items()} == {
        "events": {"landing": 0, "raw": 2, "quarantine": 3, "bronze": 1, "ledger": 0},
        "history": {"landing": 2, "raw": 2, "quarantine": 0, "bronze": 2, "ledger": 0},
        "envelopes": {"landing": 4, "raw": 2, "quarantine": 2, "bronze": 0, "ledger": 0},
    }
    assert "a later snapshot beside the feed" in found["events"].document["note"]
    landing = shop.lake / "landing"
    truncate = f"{SUBJECT},T,2,,"
    text = (landing / "events" / "20250102_000000" / "t.csv").read_text()
    assert text == f"id,op,seq,a,b\nk1,U,20,2,x\n{truncate}\n"
    (landing / "events" / "20250102_000000" / "t.csv").write_text(text.replace(truncate, ",T,2,,"))
    assert find_words(landing, words) == []
    assert _words_in_raw(shop, words) == [SUBJECT]  # of the truncate
    assert [row["id"] for row in shop.rows("silver/a")] == ["k1", "k2"]
    assert _unverified(shop) == []

    # What comes later is left out, but for a truncate; lost tables come back without the data subject.
    _deliver_again(shop)
    for name in ("events", "history"):
        shutil.rmtree(shop.lake / "bronze" / name)
    assert shop.run().code == 0
    kept = {"events": ["k1", "k2"], "history": ["k1", "k1"], "envelopes": [1]}
    assert {name: sorted(row["id"] for row in shop.rows(f"bronze/{name}")) for name in kept} == kept
    assert _words_in_raw(shop, words) == [SUBJECT]
    counts = {name: shop.ledger(name)[-1]["rows_read"] for name in kept}
    assert counts == {"events": 1, "history": 0, "envelopes": 0}
    assert _unverified(shop) == []

    # Until the key is accepted again: then its next event is that of a new key.
    assert shop("forget", "events", SUBJECT, "--lift").document["note"] == "the next event of the key inserts it again"
    shop.snapshot("20250104_000000", t=f"id,op,seq,a,b\n{SUBJECT},U,1,1,{THEIRS}\n{SUBJECT},U,40,4,{THEIRS}\n")
    assert shop.run("events").code == 0
    assert {row["id"]: row["a"] for row in shop.rows("bronze/events")} == {"k1": 2, "k2": 3, SUBJECT: 4}
    assert shop.ledger("events")[-1]["inserted"] == 1


def _deliver_again(shop: Project) -> None:
    shop.snapshot("20250103_000000", t=f"id,op,seq,a,b\nk1,U,9,9,x\n{SUBJECT},U,30,1,{THEIRS}\n")
    folder = shop.source / "20250103_000000"
    (folder / "full.csv").write_text(f"id,seq,a,b\nk1,10,2,x\nk2,3,3,y\n{SUBJECT},5,5,{THEIRS}\n")
    row = {"Cod. Cliente": SUBJECT, "day": date(2025, 1, 3), "n": 1, "b": THEIRS}
    pl.DataFrame([row]).write_parquet(folder / "h.parquet")
    (folder / "e.jsonl").write_text(_envelope("d", 9, {"id": THEIR_NUMBER, "note": THEIRS, "n": 1}, None))


def _words_in_raw(shop: Project, words: list[str]) -> list[str]:
    return [place.rpartition(": ")[2] for place in find_words(shop.lake / "raw" / "cdc", words)]


def _unverified(shop: Project) -> list[str]:
    checks = shop("verify").document["checks"]
    return [f"{c['name']}: {c['what']}: {c['figures']}" for c in checks if c["result"] != "holds"]


# --- a snapshot beside the feed ---------------------------------------------------------------------------------------

CORRECTED = FEED | {"corrected_by": {"file": "full*.csv", "sequence": "MAX(seq)"}}


def _with_full(shop: Project, stamp: str, full: str, events: str | None = None) -> None:
    shop.snapshot(stamp, **({} if events is None else {"t": events}))
    (shop.source / stamp / "full.csv").write_text(full, encoding="utf-8")


def test_a_snapshot_beside_a_feed_corrects_it_and_the_drift_is_reported(shop: Project, tmp_path: Path) -> None:
    drifted = shop.copy(tmp_path / "drifted")
    drifted.configure(feed=CORRECTED, guard={"max_deleted": 0.4, "max_quarantined": 1})
    drifted.snapshot("20250103_000000", t="id,op,seq,a,b\nk3,U,3,3,z\nk4,U,20,4,new\n")
    assert drifted.run().code == 0
    # k1 is wrong, k2 cannot be read, k3 is gone, k4 has a newer event, k9 is new: 1 of 4 keys is deleted.
    _with_full(drifted, "20250104_000000", "id,seq,a,b\nk1,9,1,right\nk2,2,many,y\nk4,4,0,old\nk9,10,9,n\n")

    (shown,) = drifted("diff").document["tables"]
    result = drifted.run()

    drift = (
        "the feed was wrong in 3 keys by the snapshot beside it: 1 with other values (b 1), 1 that it did not have,"
        " 1 that the snapshot does not have"
    )
    assert result.code == 0, result.document
    assert (result.code, drift in result.outcome("ingest", "items")["note"], drift in shown["reason"]) == (
        0,
        True,
        True,
    )
    assert shown["columns"] == {"b": 1}
    rows = {row["id"]: (row["a"], row["b"], row["_feed_sequence"]) for row in drifted.rows("bronze/items")}
    assert rows == {"k1": (1, "right", 10), "k2": (2, "y", 2), "k4": (4, "new", 20), "k9": (9, "n", 10)}
    counts = drifted.ledger()[-1]
    assert [counts[name] for name in ("rows_read", "inserted", "updated", "deleted", "quarantined", "corrected")] == [
        *(1, 1, 1, 1, 1, 3)
    ]
    (state,) = drifted("status").document["tables"]
    assert state["drift"] == {"snapshot_time": "2025-01-04T00:00:00Z", "keys": 3, "note": drift}
    kept = {row["id"]: row["_feed_correction"] for row in drifted.change_set(counts)}
    assert kept == {"k1": "C", "k3": "R", "k9": "C", None: "M"}
    assert drifted("verify").code == 0
    # An event up to the snapshot's sequence that comes after it changes nothing, and the same snapshot again neither.
    late = "id,op,seq,a,b\nk1,U,8,8,late\nk2,U,3,8,late\nk3,U,9,8,late\nk5,U,7,8,late\n"
    _with_full(drifted, "20250105_000000", "id,seq,a,b\nk1,9,1,right\nk2,2,2,y\nk4,4,0,old\nk9,10,9,n\n", late)
    versions = drifted.versions()

    assert drifted.run().code == 0
    assert {row["id"]: (row["a"], row["b"], row["_feed_sequence"]) for row in drifted.rows("bronze/items")} == rows
    assert drifted.ledger()[-1]["corrected"] == 0
    assert {name: v for name, v in drifted.versions().items() if "bronze" in name} == {
        name: v for name, v in versions.items() if "bronze" in name
    }
    # A file that has too few keys is held, and taken by `approve`. Bronze can be computed again from raw.
    _with_full(drifted, "20250106_000000", "id,seq,a,b\nk1,9,1,right\nk4,30,4,new\n")
    held = drifted.run()
    assert (held.code, "2 of 4 rows deleted by the snapshot beside the feed" in drifted.ledger()[-1]["reason"]) == (
        4,
        True,
    )
    assert drifted("approve", "items", "20250106_000000").code == 0
    shutil.rmtree(drifted.lake / "bronze" / "items")
    assert drifted.run().code == 0
    assert [row["id"] for row in drifted.rows("bronze/items")] == ["k1", "k4"]
    assert drifted("verify").code == 0


def test_a_snapshot_that_cannot_correct_a_feed_is_refused_and_taken_after_the_advice(
    shop: Project, tmp_path: Path
) -> None:
    refused = shop.copy(tmp_path / "refused")
    refused.configure(feed=CORRECTED | {"corrected_by": {"file": "full.csv", "sequence": "MAX(a) / 0"}})
    _with_full(refused, "20250103_000000", "id,seq,a,b\nk1,9,1,x\nk1,9,2,x\nk2,2,2,y\n")
    without_sequence = refused.run()
    refused.configure(feed=CORRECTED)
    twice = refused.run()
    _with_full(refused, "20250103_000000", "id,seq,a,b\nk1,9,2,x\nk2,2,2,y\n")
    assert refused("approve", "items", "20250103_000000").code == 0
    assert refused.run().code == 0

    notes = [each.outcome("ingest", "items")["note"] for each in (without_sequence, twice)]
    assert (without_sequence.code, twice.code) == (5, 5)
    assert "the sequence of the snapshot beside the feed" in notes[0]
    assert "rows of one key with different content, such as in lines 2, 3" in notes[1]
    assert [row["a"] for row in refused.rows("bronze/items")] == [2, 2]


def test_a_batch_that_is_taken_again_replaces_its_events(shop: Project, tmp_path: Path) -> None:
    again = shop.copy(tmp_path / "again")
    again.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,5,x\nk2,D,6,,\nk7,U,7,7,x\n")
    again.snapshot("20250104_000000", t="id,op,seq,a,b\nk8,U,8,8,x\n")
    assert again.run().code == 0
    # k1 has another value at the same sequence, and neither the delete of k2 nor k7 had happened.
    again.snapshot("20250103_000000", t="id,op,seq,a,b\nk1,U,5,50,x\n")

    ignored = again.run()
    approved = again("approve", "items", "20250103_000000")
    done = again.run()

    assert (ignored.code, approved.code, done.code) == (0, 0, 0)
    assert "changed after it was landed" in ignored.outcome("extract", "items")["note"]
    rows = [(row["id"], row["a"]) for row in again.rows("bronze/items")]
    assert rows == [("k1", 50), ("k2", 2), ("k8", 8)]
    last = again.ledger()[-1]
    assert [last[name] for name in ("status", "sequence", "inserted", "updated", "deleted")] == ["accepted", 4, 1, 1, 1]
    versions = again.versions()
    assert (again.run().code, again.versions() == versions) == (0, True)
    shutil.rmtree(again.lake / "bronze" / "items")
    assert again.run().code == 0
    assert [(row["id"], row["a"]) for row in again.rows("bronze/items")] == rows
    verified = again("verify")
    assert verified.code == 0, str([c for c in verified.document["checks"] if c["result"] == "failed"])
