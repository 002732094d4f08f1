"""Tests what sources deliver and users write, and its result: correct tables, or tables left as they were."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import ITEMS, Project, Result, Row, nonzero_counts
from pyspark.sql import SparkSession

pytestmark = pytest.mark.usefixtures("spark")

FIRST, SECOND, THIRD, FOURTH = "20250101_000000", "20250102_000000", "20250103_000000", "20250104_000000"
HEADER = "id,qty,note\n"
ROWS = {"a": "a,1,alpha\n", "b": "b,2,beta\n", "c": "c,3,\n", "d": "d,4,delta\n", "e": "e,5,epsilon\n"}
SILVER = {"silver.items": ("SELECT i.id AS id, i.qty AS qty, i.note AS note FROM bronze.items AS i", {"keys": ["id"]})}


def items(*added: str, without: str = "", **changed: str) -> str:
    """The first snapshot's file with some rows changed, removed (`without`, letters) and added at the end."""
    rows = {k: v for k, v in (ROWS | {k: f"{v}\n" for k, v in changed.items()}).items() if k not in without}
    return HEADER + "".join(rows.values()) + "".join(f"{row}\n" for row in added)


def values(project: Project, key: str) -> Row:
    """The row of a key in bronze."""
    (row,) = [row for row in project.rows("bronze/items") if row["id"] == key]
    return row


def assert_only_the_ledger_grew(project: Project, before: dict[str, int]) -> None:
    assert project.versions() == before | {"raw/ledger": before["raw/ledger"] + 1}


def assert_rejected(project: Project, *messages: str) -> None:
    """Run: it rejects the newest snapshot with this reason and leaves every table as it was."""
    before = project.versions()
    result = project.run()
    assert result.code == 5, result.document
    outcome = result.outcome("ingest", "items")
    assert (outcome["status"], outcome["code"]) == ("rejected", 5)
    entry = project.ledger()[-1]
    assert (entry["status"], entry["sequence"], entry["path"], nonzero_counts(entry)) == ("rejected", None, None, {})
    assert outcome["note"] == entry["reason"]
    for text in ("found:", "expected:", "where:", *messages):
        assert text in entry["reason"]
    assert_only_the_ledger_grew(project, before)


def assert_held(project: Project, reason: str) -> None:
    """The next run holds the newest snapshot, for this reason, and leaves every table as it was."""
    before = project.versions()
    result = project.run()
    assert result.code == 4, result.document
    outcome = result.outcome("ingest", "items")
    assert (outcome["status"], outcome["code"]) == ("held", 4)
    entry = project.ledger()[-1]
    assert (entry["status"], entry["sequence"], entry["path"]) == ("held", None, None)
    assert reason in entry["reason"]
    assert_only_the_ledger_grew(project, before)


def assert_accepted(project: Project, **expected: int) -> Result:
    """The next run accepts the newest snapshot with these counts, which add up."""
    result = project.run()
    assert result.code == 0, result.document
    entry = project.ledger()[-1]
    assert entry["status"] == "accepted"
    assert nonzero_counts(entry) == expected
    assert entry["rows_read"] == sum(entry[c] for c in nonzero_counts(entry) if c not in ("rows_read", "deleted"))
    return result


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("base"))
    project.snapshot(FIRST, items=items())
    assert project.run().code == 0
    return project


@pytest.fixture
def shop(base: Project, tmp_path: Path) -> Project:
    """One accepted snapshot of five rows."""
    return base.copy(tmp_path / "shop")


# --- the configuration ------------------------------------------------------------------------------------------


def test_an_unknown_key_in_the_configuration_is_named_with_the_key_that_was_meant(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.configure(keys=None, keyz=["id"])
    project.snapshot(FIRST, items=items())
    for verb in ("validate", "run"):
        refused = project(verb)
        assert refused.code == 2
        assert refused.document["exit_code"] == 2
        assert "keyz" in refused.error["found"]
        assert 'did you mean "keys"' in refused.error["found"]
        assert "pipeline.json" in refused.error["found"] + refused.error["where"]
        assert "keyz" in refused.stderr
    assert not project.lake.exists()


@pytest.mark.parametrize("name", ["_cdc_operation", "__START_AT", "_change_type", "_commit_version"])
def test_a_column_name_that_the_lake_uses_itself_is_refused_at_validate(tmp_path: Path, name: str) -> None:
    project = Project(tmp_path)
    project.configure(schema=f"id STRING, {name} STRING")
    refused = project("validate")
    assert refused.code == 2
    assert name in refused.error["found"]
    assert "rename" in refused.error["found"]


def test_a_source_that_is_not_there_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.source.rmdir()
    refused = project.run()
    assert refused.code == 2
    assert str(project.source) in refused.error["found"]
    assert "source.path" in refused.error["where"]
    assert project.versions() == {}


# --- a table's whole file, and what guards hold: one run decides about all these snapshots -----------------------

# In this order after the first snapshot, one a day. Those before "reordered" are rejected, held or unchanged, so that
# each is compared with the first one; the last two change no row.
LATER: dict[str, str | bytes | None] = {
    "no file": None,
    "empty": "",
    "header alone": HEADER,
    "a missing column": items().replace("id,qty,note", "id,quantity,note"),
    "another encoding": items().encode("utf-16"),
    "two columns of one name": items().replace("id,qty,note", "id,QTY,qty"),
    "an open quote": items('f,6,"cut short').rstrip("\n"),
    "cut in the middle": items()[: len(HEADER) + 15],  # a full row, and half of the next
    "many in quarantine": items(a="a,?,alpha", b="b,?,beta", c="c,?,", d="d,4,new"),
    "an unreadable key beside a delete": items(e="e;5;epsilon"),
    "a protected row beside deletes": items(b="b,?,beta", without="cde"),
    "two contents of one key": items("b,3,beta"),
    "the same bytes": items(),
    "reordered": "\ufeffNOTE,Id,QTY\nepsilon,e,5\ndelta,d,4\n,c,3\nbeta,b,2\nalpha,a,1\n",
    "unreadable keys": items("f,6,six,seven", "g"),
}


@dataclass(frozen=True)
class Decided:
    """The lake after the run that decided about the later snapshots."""

    project: Project
    before: dict[str, int]
    after: dict[str, int]
    result: Result
    bronze: list[Row]

    def entry(self, snapshot: str, status: str) -> Row:
        """Return the ledger row of a snapshot, after checking it against the outcome of the run."""
        at = list(LATER).index(snapshot)
        entry = self.project.ledger()[1 + at]
        outcome = [o for o in self.result.document["outcomes"] if (o["stage"], o["name"]) == ("ingest", "items")][at]
        assert (outcome["status"], entry["status"]) == (status, status), outcome
        assert outcome["code"] == {"rejected": 5}.get(status, 0)  # those that were held are superseded by later ones
        superseded = "; a later snapshot supersedes it" if status == "held" else ""
        assert outcome["note"] == (entry["reason"] or "") + superseded
        assert f"{entry['snapshot_time']:%Y%m%d_%H%M%S}" == stamp(at)
        return entry

    def assert_rejected(self, snapshot: str, *messages: str) -> None:
        entry = self.entry(snapshot, "rejected")
        assert (entry["sequence"], entry["path"], nonzero_counts(entry)) == (None, None, {})
        for text in ("found:", "expected:", "where:", *messages):
            assert text in entry["reason"]

    def assert_held(self, snapshot: str, reason: str) -> None:
        entry = self.entry(snapshot, "held")
        assert (entry["sequence"], entry["path"]) == (None, None)
        assert reason in entry["reason"]

    def assert_accepted(self, snapshot: str, sequence: int, **counts: int) -> None:
        entry = self.entry(snapshot, "accepted")
        assert (entry["sequence"], nonzero_counts(entry)) == (sequence, counts)


def stamp(at: int) -> str:
    return f"202501{at + 2:02}_000000"


@pytest.fixture(scope="module")
def decided(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Decided:
    project = base.copy(tmp_path_factory.mktemp("decided"))
    for at, content in enumerate(LATER.values()):
        project.snapshot(stamp(at), **({} if content is None else {"items": content}))
    before, bronze = project.versions(), project.rows_with_cdc("bronze/items")
    result = project.run()
    assert result.code == result.document["exit_code"] == 5
    return Decided(project, before, project.versions(), result, bronze)


def test_rejected_held_and_unchanged_snapshots_leave_the_tables_as_they_were(decided: Decided) -> None:
    ledger = {"raw/ledger": decided.before["raw/ledger"] + 1}  # of so many snapshots, the decisions share a commit
    quarantine = {"quarantine/items": decided.after["quarantine/items"]}  # of the last one, which was accepted
    assert decided.after == decided.before | ledger | quarantine
    assert decided.project.rows_with_cdc("bronze/items") == decided.bronze
    assert len(list((decided.project.lake / "raw/full-load").iterdir())) == 1
    assert len(list((decided.project.lake / "raw/cdc").iterdir())) == 2  # of the accepted ones


def test_a_snapshot_is_rejected_once(decided: Decided) -> None:
    assert decided.project.run().code == 0
    assert decided.project.versions() == decided.after
    assert decided.project.run().document["nothing_new"]


def test_a_snapshot_without_the_tables_file_is_rejected_once(decided: Decided) -> None:
    decided.assert_rejected("no file", "no file items.csv", SECOND)


def test_an_empty_file_is_rejected(decided: Decided) -> None:
    decided.assert_rejected("empty", "items.csv is empty", "id, qty, note", THIRD)


def test_a_header_alone_is_held(decided: Decided) -> None:
    decided.assert_held("header alone", "min_rows 1")


def test_a_missing_column_is_rejected_with_the_header_that_was_found(decided: Decided) -> None:
    decided.assert_rejected("a missing column", "no column qty", "id, quantity, note", "line 1")


def test_a_file_in_another_encoding_than_the_declared_one_is_rejected(decided: Decided) -> None:
    decided.assert_rejected("another encoding", "no column id", "line 1")


def test_two_columns_of_one_name_are_rejected(decided: Decided) -> None:
    messages = ("more than one column named QTY, qty", "no column note", "line 1")
    decided.assert_rejected("two columns of one name", *messages)


def test_an_open_quote_at_the_end_of_the_file_is_rejected(decided: Decided) -> None:
    decided.assert_rejected("an open quote", "items.csv is not well-formed CSV", "every quote closed", "line 7")


def test_a_file_cut_in_the_middle_is_held_by_its_deletes(decided: Decided) -> None:
    decided.assert_held("cut in the middle", "of 5 rows deleted")


def test_more_rows_in_quarantine_than_the_guard_allows_hold_the_snapshot(decided: Decided) -> None:
    decided.assert_held("many in quarantine", "3 of 5 rows quarantined, more than max_quarantined 0.5")


def test_a_row_whose_key_cannot_be_read_holds_a_snapshot_that_would_delete(decided: Decided) -> None:
    reason = "1 row whose key cannot be read, beside 1 row deleted"
    decided.assert_held("an unreadable key beside a delete", reason)


def test_a_protected_row_counts_as_live_for_max_deleted(decided: Decided) -> None:
    decided.assert_held("a protected row beside deletes", "3 of 5 rows deleted, more than max_deleted 0.3")


def test_one_key_with_different_contents_is_rejected_once_and_named(decided: Decided) -> None:
    decided.assert_rejected("two contents of one key", "1 key of items has several", "in lines ", "duplicates: fail")


def test_the_same_bytes_again_are_recorded_once_for_a_dated_source(decided: Decided) -> None:
    entry = decided.entry("the same bytes", "unchanged")
    assert (entry["sequence"], entry["rows_read"]) == (None, None)


def test_a_header_in_another_order_and_case_after_a_bom_changes_nothing(decided: Decided) -> None:
    decided.assert_accepted("reordered", 2, rows_read=5, unchanged=5)


def test_a_row_whose_key_cannot_be_read_is_quarantined_where_nothing_would_be_deleted(decided: Decided) -> None:
    decided.assert_accepted("unreadable keys", 3, rows_read=7, unchanged=5, quarantined=2)
    assert [(row["column"], row["value"], row["line"]) for row in decided.project.quarantine()] == [
        (None, "f,6,six,seven", 7),
        (None, "g", 8),
    ]


# --- rows: one snapshot with all kinds of trouble, and one with some of it corrected ----------------------------

MESSY = """\
id,qty,note,colour
a,9,alpha,red
a,9,alpha,red
b,2x,beta,
c,3,"first
second, ""third""\",
d,4,caf\u00e9,
,7,nobody,
00123,6,1e5,
1e5,,"",blue
"""


@pytest.fixture(scope="module")
def messy(base: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Without e, which is deleted; with a row cut by a newline, bad values, a null key, bytes that are not UTF-8."""
    project = base.copy(tmp_path_factory.mktemp("messy"))
    project.models = SILVER
    project.configure()
    project.snapshot(SECOND, items=MESSY.encode("windows-1252"))
    assert_accepted(project, rows_read=8, inserted=2, updated=2, deleted=1, quarantined=3, duplicates=1)
    return project


@pytest.fixture(scope="module")
def corrected(messy: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The snapshot after that: all is correct except the null key."""
    project = messy.copy(tmp_path_factory.mktemp("repaired"))
    project.snapshot(THIRD, items=MESSY.replace("2x", "22"))
    result = assert_accepted(project, rows_read=8, updated=2, unchanged=4, quarantined=1, duplicates=1)
    assert result.outcome("silver", "silver.items")["status"] == "row-wise"
    return project


def bad(project: Project, value: str | None) -> Row:
    """The row that waits in quarantine because of `value`."""
    (found,) = [row for row in project.quarantine() if row["value"] == value]
    return found


def test_a_quoted_newline_a_doubled_quote_and_a_separator_are_kept(messy: Project) -> None:
    assert values(messy, "c")["note"] == 'first\nsecond, "third"'


def test_text_stays_as_written(messy: Project) -> None:
    assert values(messy, "00123") == {"id": "00123", "qty": 6, "note": "1e5"}
    assert values(messy, "1e5") == {"id": "1e5", "qty": None, "note": ""}  # blank is null, "" is the empty string
    changed = {row["id"]: row["_cdc_changed"] for row in messy.change_set(messy.ledger()[-1])}
    assert changed == {"00123": None, "1e5": None, "a": ["qty"], "c": ["note"], "e": None}


def test_an_unreadable_number_goes_to_quarantine_and_its_key_stays(messy: Project) -> None:
    row = bad(messy, "2x")
    assert (row["column"], row["line"], row["reason"], row["rule"]) == ("qty", 4, "qty: not an INT", "malformed")
    assert row["row"] == '{"id":"b","qty":"2x","note":"beta","colour":null}'
    assert (row["stage"], row["first_sequence"], row["last_sequence"], row["resolved"]) == ("ingest", 2, 2, False)
    assert values(messy, "b") == {"id": "b", "qty": 2, "note": "beta"}


def test_bytes_that_are_not_utf8_go_to_quarantine_and_their_key_stays(messy: Project) -> None:
    (row,) = [row for row in messy.quarantine() if row["column"] == "note"]
    assert (row["value"], row["line"]) == ("caf\ufffd", 7)
    assert "encoding" in row["reason"]
    assert values(messy, "d") == {"id": "d", "qty": 4, "note": "delta"}


def test_a_null_key_goes_to_quarantine_and_protects_nothing(messy: Project) -> None:
    row = bad(messy, None)
    assert (row["column"], row["line"], row["reason"], row["rule"]) == ("id", 8, "id: null in a key", "null_key")
    assert [row["id"] for row in messy.rows("bronze/items")] == ["00123", "1e5", "a", "b", "c", "d"]
    assert messy.rows("silver/items") == messy.rows("bronze/items")


def test_equal_rows_collapse_into_one(messy: Project) -> None:
    assert values(messy, "a")["qty"] == 9  # the ledger has counted the other: see the fixture


def test_an_unknown_column_is_ignored_and_status_keeps_reporting_it(messy: Project) -> None:
    entry = messy.ledger()[-1]
    assert "colour" in entry["reason"]
    for _ in range(2):
        (status,) = messy("status").document["tables"]
        assert (status["newest"], "colour" in status["note"]) == ("accepted", True)


def test_quarantined_rows_come_back_when_the_data_is_corrected(corrected: Project) -> None:
    assert values(corrected, "b")["qty"] == 22
    assert values(corrected, "d")["note"] == "caf\u00e9"
    assert corrected.rows("silver/items") == corrected.rows("bronze/items")
    document = corrected("quarantine", "items").document
    assert (document["unresolved"], document["resolved"]) == (1, 2)
    assert (bad(corrected, None)["first_sequence"], bad(corrected, None)["last_sequence"]) == (2, 3)


def test_a_quarantined_row_comes_back_when_the_configuration_is_corrected(shop: Project) -> None:
    shop.snapshot(SECOND, items=items(b="b,N/A,beta"))
    assert_accepted(shop, rows_read=5, unchanged=4, quarantined=1)
    assert bad(shop, "N/A")["line"] == 3
    shop.configure(options={"nullValue": "N/A"})
    assert_accepted(shop, rows_read=5, updated=1, unchanged=4)
    assert [(row["sequence"], row["snapshot_time"].day) for row in shop.ledger()] == [(1, 1), (2, 2), (3, 2)]
    assert values(shop, "b")["qty"] is None
    assert shop.quarantine() == []


def test_under_malformed_fail_an_unreadable_number_rejects_the_snapshot(shop: Project) -> None:
    shop.configure(malformed="fail")
    shop.snapshot(SECOND, items=items(b="b,2x,beta"))
    assert_rejected(shop, "in line 3: qty: not an INT (malformed)", "malformed: fail", SECOND)
    assert "2x" not in str(shop.ledger()[-1]["reason"]) + json.dumps(shop("status").document)
    records = [path.read_text() for path in (shop.lake / "_state" / "runs").iterdir()]
    assert not any("2x" in record for record in records), "what is kept has no values of rows"


# --- keys with several rows ------------------------------------------------------------------------------------


def test_one_key_with_different_contents_is_rejected_on_the_first_run_too(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.snapshot(FIRST, items=items("b,3,beta"))
    assert project.run().code == 5
    assert project.statuses() == ["rejected"]
    assert project.versions() == {"raw/ledger": 1}


def test_under_latest_the_greatest_updated_at_counts_and_a_tie_is_rejected(shop: Project) -> None:
    shop.configure(duplicates="latest", updated_at="qty")
    shop.snapshot(SECOND, items=items("b,30,newest", "b,3,older"))
    assert_accepted(shop, rows_read=7, updated=1, unchanged=4, duplicates=2)
    assert values(shop, "b") == {"id": "b", "qty": 30, "note": "newest"}
    shop.snapshot(THIRD, items=items("b,31,one", "b,31,other"))
    assert_rejected(shop, "in lines ", "duplicates: latest", THIRD)


def test_under_quarantine_all_rows_of_a_conflicting_key_wait_and_bronze_keeps_its_own(shop: Project) -> None:
    shop.configure(duplicates="quarantine")
    shop.snapshot(SECOND, items=items("b,3,beta"))
    before = shop.versions()
    assert_accepted(shop, rows_read=6, unchanged=4, quarantined=2)
    assert shop.versions()["bronze/items"] == before["bronze/items"]
    assert [(row["rule"], row["line"]) for row in shop.quarantine()] == [("duplicate_key", 3), ("duplicate_key", 7)]


# --- snapshots in their order -----------------------------------------------------------------------------------


def test_a_mass_delete_is_held_on_every_run_until_it_is_approved(shop: Project) -> None:
    shop.snapshot(SECOND, items=items(without="cde"))
    assert_held(shop, "3 of 5 rows deleted, more than max_deleted 0.3")
    before = shop.versions()
    again = shop.run()
    assert (again.code, again.outcome("ingest", "items")["status"]) == (4, "held")
    assert shop.versions() == before  # reported again, not recorded again

    assert shop("approve", "items", SECOND).code == 0
    assert shop.statuses() == ["accepted", "held", "accepted"]
    assert nonzero_counts(shop.ledger()[-1]) == {"rows_read": 2, "deleted": 3, "unchanged": 2}
    assert shop.run().code == 0
    assert [row["id"] for row in shop.rows("bronze/items")] == ["a", "b"]
    assert shop("approve", "items", SECOND).code == 2


def test_a_newer_accepted_snapshot_supersedes_a_held_one(shop: Project) -> None:
    shop.snapshot(SECOND, items=items(without="cde"))
    shop.snapshot(THIRD, items=items(a="a,9,alpha"))
    assert shop.run().code == 0
    assert shop.statuses() == ["accepted", "held", "accepted"]
    assert values(shop, "a")["qty"] == 9
    assert shop.run().code == 0
    before = shop.versions()
    refused = shop("approve", "items", SECOND)
    assert refused.code == 2
    for text in ("superseded", SECOND, THIRD):
        assert text in refused.error["found"]
    assert shop("approve", "items", FOURTH).code == 2  # no such snapshot
    assert shop.versions() == before


def test_a_snapshot_older_than_the_last_accepted_is_rejected_with_no_more_than_a_warning(shop: Project) -> None:
    shop.snapshot("20241231_235959", items=items(a="a,0,old"))
    before = shop.versions()
    result = shop.run()
    assert result.code == 0
    outcome = result.outcome("ingest", "items")
    assert (outcome["status"], outcome["code"]) == ("rejected", 0)
    assert f"older than the last accepted snapshot, {FIRST}" in outcome["note"]
    assert shop.statuses() == ["accepted", "rejected"]
    assert_only_the_ledger_grew(shop, before)
    assert shop.run().document["nothing_new"]


def test_a_change_and_its_reversal_are_three_sequences(shop: Project) -> None:
    shop.snapshot(SECOND, items=items(a="a,9,alpha"))
    shop.snapshot(THIRD, items=items())
    assert shop.run().code == 0
    entries = shop.ledger()
    assert [(e["sequence"], e["kind"]) for e in entries] == [(1, "full-load"), (2, "cdc"), (3, "cdc")]
    assert [nonzero_counts(e).get("updated") for e in entries] == [None, 1, 1]
    assert values(shop, "a")["qty"] == 1


def test_the_same_bytes_again_are_nothing_at_all_for_a_flat_source(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.snapshot(items=items())
    assert project.run("--as-of", "2025-01-01T00:00:00Z").code == 0
    (entry,) = project.ledger()
    assert (entry["status"], entry["snapshot_time"].isoformat()) == ("accepted", "2025-01-01T00:00:00+00:00")
    before = project.versions()
    project.snapshot(items=items())  # written again: the same bytes at another time
    assert project.run().code == 0
    assert project.versions() == before
    assert [p.name for p in (project.lake / "landing/items").iterdir()] == [FIRST]


def test_a_dated_snapshot_that_changes_afterwards_is_reported_and_the_landed_copy_stays(shop: Project) -> None:
    folder = shop.snapshot(FIRST, items=items(a="a,9,alpha"))
    before = shop.versions()
    result = shop.run()
    assert result.code == 0
    note = result.outcome("extract", "items")["note"]
    assert "changed after it was landed" in note
    assert str(folder) in note
    assert shop.versions() == before


# --- several tables ---------------------------------------------------------------------------------------------


def test_a_rejected_table_does_not_stop_the_others(shop: Project) -> None:
    other: dict[str, Any] = ITEMS | {"schema": "id STRING"}
    shop.tables |= {"good": other | {"file": "good.csv"}, "guarded": other | {"file": "guarded.csv"}}
    shop.models = {"silver.good": ("SELECT g.id AS id FROM bronze.good AS g", {"keys": ["id"]})}
    shop.configure()
    shop.snapshot(FIRST, good="id\nx\n", guarded="id\nx\n")
    shop.snapshot(SECOND, good="id\nx\n", guarded="id\n", items=items("b,3,beta"))
    before = shop.versions()
    result = shop.run()
    assert result.code == result.document["exit_code"] == 5  # worse than the 4 of the held one
    assert shop.statuses("items") == ["accepted", "rejected"]
    assert shop.statuses("good") == ["accepted", "unchanged"]
    assert shop.statuses("guarded") == ["accepted", "held"]
    assert shop.rows("silver/good") == [{"id": "x"}]
    assert shop.versions()["bronze/items"] == before["bronze/items"]
    assert shop.run().code == 4


def test_two_rows_with_one_key_in_a_model_are_refused_and_the_model_stays_as_it_was(shop: Project) -> None:
    shop.models = {"silver.notes": ("SELECT i.note AS note, i.qty AS qty FROM bronze.items AS i", {"keys": ["note"]})}
    shop.configure()
    assert shop.run().code == 0
    shop.snapshot(SECOND, items=items(a="a,9,beta"))
    before = shop.versions()
    for _ in range(2):
        refused = shop.run()
        assert refused.code == 5
        assert (
            "silver.notes has more than one row for a key, such as ('beta',)"
            in (refused.outcome("silver", "silver.notes")["note"])
        )
    assert shop.versions()["silver/notes"] == before["silver/notes"]
    assert values(shop, "a")["note"] == "beta"  # the layer before it is refreshed

    shop.snapshot(THIRD, items=items(a="a,9,gamma"))
    assert shop.run().code == 0
    assert {row["note"]: row["qty"] for row in shop.rows("silver/notes")}["gamma"] == 9
