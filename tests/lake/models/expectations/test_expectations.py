"""Expectations of models: rows that are dropped, quarantined or warned about, and refreshes that fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Project, Result
from pyspark.sql import SparkSession

from lakehouse.models import write

pytestmark = pytest.mark.usefixtures("spark")

TABLES: dict[str, dict[str, Any]] = {
    "items": {
        "file": "items.csv",
        "format": "csv",
        "schema": "id STRING, qty INT, note STRING, shop STRING",
        "keys": ["id"],
        "guard": {"max_deleted": 1.0},
    },
    "shops": {
        "file": "shops.csv",
        "format": "csv",
        "schema": "shop STRING, seen DATE",
        "keys": ["shop"],
        "guard": {"max_deleted": 1.0},
    },
}
ITEM_RULES: dict[str, Any] = {
    "positive": {"check": "qty >= 0"},
    "noted": {"not_null": ["note"], "on_fail": "drop"},
    "small": {"range": {"qty": {"max": 100}}, "on_fail": "warn"},
    "known": {"reference": {"shop": "silver.shops.shop"}},
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.shops": (
        "SELECT s.shop AS shop, s.seen AS seen FROM bronze.shops AS s",
        {"keys": ["shop"], "expect": {"fresh": {"freshness": {"column": "seen", "within": "1d"}}}},
    ),
    "silver.items": (
        "SELECT i.id AS id, i.qty AS qty, i.note AS note, i.shop AS shop FROM bronze.items AS i",
        {"keys": ["id"], "expect": ITEM_RULES},
    ),
    "gold.notes": (
        "SELECT i.note AS note, COUNT(*) AS items, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note",
        {"expect": {"few": {"check": "items <= 2", "on_fail": "fail"}}},
    ),
    "gold.items": ("SELECT n.items AS items, COUNT(*) AS notes FROM gold.notes AS n GROUP BY n.items", {}),
}
INCREMENTAL = {"full_refresh_below_bytes": 0}  # incremental refreshes, although the tables are small
FIRST = "id,qty,note,shop\na,1,x,s1\nb,-2,x,s1\nc,,y,s1\nd,400,y,s1\ne,5,,s1\nf,6,z,s9\n"
SHOPS = "shop,seen\ns1,2025-01-01\ns2,2025-01-01\n"
# Now a is wrong, b and e are right, and g is new and wrong twice; c, f and d (with a warning) are unchanged.
SECOND = "id,qty,note,shop\na,-1,x,s1\nb,2,x,s1\nc,,y,s1\nd,400,y,s1\ne,5,x,s1\nf,6,z,s9\ng,-7,z,s9\n"


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    shop = Project(tmp_path_factory.mktemp("first"), TABLES, MODELS, tuning=INCREMENTAL)
    shop.snapshot("20250101_000000", items=FIRST, shops=SHOPS)
    assert shop.run().code == 0
    return shop


@pytest.fixture(scope="module")
def second(first: Project, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Result]:
    shop = first.copy(tmp_path_factory.mktemp("second"))
    shop.snapshot("20250102_000000", items=SECOND, shops=SHOPS)
    return shop, shop.run()


@pytest.fixture
def shop(second: tuple[Project, Result], tmp_path: Path) -> Project:
    """A copy of the lake at the second snapshot."""
    return second[0].copy(tmp_path / "shop")


def ids(shop: Project) -> str:
    return "".join(row["id"] for row in shop.rows("silver/items"))


def quarantined(shop: Project, model: str = "silver.items") -> set[tuple[str, str]]:
    """The rows in quarantine, each as its id and the rule."""
    return {(json.loads(row["row"])["id"], row["rule"]) for row in shop("quarantine", model).document["rows"]}


def unmet(shop: Project) -> dict[str, int | None]:
    """The number of rows that do not meet each rule, as `status` reports it."""
    return {row["rule"]: row["rows_failing"] for row in shop("status").document["expectations"]}


def failed_checks(shop: Project, model: str = "silver.items") -> list[dict[str, str]]:
    return [check for check in shop("verify", model).document["checks"] if check["result"] != "holds"]


def run_to_silver(shop: Project) -> dict[str, Any]:
    """Run everything except gold; return the outcome of silver.items."""
    return shop.run(*TABLES, "silver.shops", "silver.items").outcome("silver", "silver.items")


def test_rows_are_dropped_quarantined_or_warned_about(first: Project) -> None:
    assert ids(first) == "ad"
    assert quarantined(first) == {("b", "positive"), ("c", "positive"), ("f", "known")}
    (row,) = [row for row in first("quarantine", "silver.items").document["rows"] if row["rule"] == "known"]
    assert row["stage"] == "silver"
    assert json.loads(row["row"]) == {"id": "f", "qty": 6, "note": "z", "shop": "s9"}
    assert (row["column"], row["value"], row["reason"]) == ("shop", "s9", "expected shop in silver.shops.shop")
    assert first("quarantine", "items").document["rows"] == []  # rows that ingest rejected
    assert unmet(first) == {"noted": None, "positive": 2, "small": 1, "known": 1}


def test_the_results_of_a_run_count_the_rows_checked_and_failed(first: Project) -> None:
    found = {row["rule"]: row for row in first.rows("quality/results")}
    assert {rule: (row["status"], row["rows_checked"], row["rows_failed"]) for rule, row in found.items()} == {
        "positive": ("failed", 6, 2),
        "noted": ("failed", 6, 1),
        "known": ("failed", 6, 1),
        "small": ("failed", 2, 1),  # of the remaining rows
        "few": ("ok", 2, 0),
        "fresh": ("ok", 2, None),
    }
    assert {(row["run_id"], f"{row['as_of']:%Y%m%d}") for row in found.values()} == {
        (first("status").document["runs"][0]["run_id"], "20250101")
    }


def test_an_incremental_refresh_rejects_and_restores_the_same_rows_as_a_full_one(
    second: tuple[Project, Result],
) -> None:
    shop, done = second
    assert done.code == 0
    silver = done.outcome("silver", "silver.items")
    assert silver["status"] == "row-wise"
    assert silver["counts"] == {"inserted": 2, "updated": 0, "deleted": 1, "quarantined": 2, "dropped": 0}
    assert ids(shop) == "bde"
    assert quarantined(shop) == {
        ("a", "positive"),
        ("c", "positive"),
        ("f", "known"),
        ("g", "positive"),
        ("g", "known"),
    }
    assert unmet(shop) == {"positive": 3, "known": 2, "small": 1}  # includes d, which the refresh does not affect
    assert failed_checks(shop) == []
    writes = shop.write_counts()
    assert shop("silver", "--full-refresh").outcome("silver", "silver.items")["status"] == "full"
    assert shop.write_counts() == writes


def test_a_run_with_nothing_new_evaluates_nothing(shop: Project) -> None:
    before = shop.versions()
    (shop.lake / "_state/clean.json").unlink(missing_ok=True)
    assert shop.run().code == 0
    assert shop.versions() == before


def test_rows_come_back_after_the_rule_is_corrected(shop: Project) -> None:
    rules = {"positive": {"check": "qty >= -1 OR qty IS NULL"}, "noted": {"not_null": ["note"], "on_fail": "warn"}}
    shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"], "expect": ITEM_RULES | rules})
    shop.configure()
    assert shop("status").document["models"][1]["waiting"] == ["bronze.items"]
    silver = run_to_silver(shop)
    assert (silver["status"], silver["note"]) == ("full", "its SQL, keys or expectations changed")
    assert ids(shop) == "abcde"
    assert quarantined(shop) == {("f", "known"), ("g", "positive"), ("g", "known")}
    assert shop("quarantine", "silver.items").document["resolved"] == 3  # b (corrected by the second snapshot), a and c
    shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"]})
    shop.configure()
    assert run_to_silver(shop)["code"] == 0
    assert ids(shop) == "abcdefg"
    assert quarantined(shop) == set()


def test_a_rule_with_on_fail_fail_leaves_the_model_and_its_readers_unchanged(shop: Project) -> None:
    gold, versions = shop.rows("gold/notes"), shop.versions()
    third = SECOND.replace("a,-1,x", "a,1,x") + "h,8,z,s1\n"  # x has three rows
    shop.snapshot("20250103_000000", items=third, shops=SHOPS)
    done = shop.run()
    assert done.code == 5
    notes = done.outcome("gold", "gold.notes")
    assert (notes["status"], notes["code"]) == ("failed", 5)
    assert 'gold.notes does not meet few, items <= 2: 1 of 2 rows, such as {"note":"x"}' in notes["note"]
    assert f"at version {versions['gold/notes']}" in notes["note"]
    reader = done.outcome("gold", "gold.items")
    assert (reader["status"], reader["code"]) == ("waiting", 0)
    assert reader["note"] == "waits for gold.notes: not refreshed by this run"
    assert ids(shop) == "abdeh"  # silver was refreshed
    assert (shop.rows("gold/notes"), shop.versions()["gold/notes"]) == (gold, versions["gold/notes"])
    assert unmet(shop)["few"] == 1
    assert shop.run().code == 5  # until it is corrected
    shop.snapshot("20250104_000000", items=third.replace("e,5,x", "e,5,y"), shops=SHOPS)
    assert shop.run().code == 0
    assert {row["note"]: row["items"] for row in shop.rows("gold/notes")} == {"x": 2, "y": 2, "z": 1}
    assert "few" not in unmet(shop)
    # Meanwhile :as_of changed, and the newest shop did not.
    assert [row["found"] for row in shop("status").document["expectations"] if row["rule"] == "fresh"] == [
        "newest seen: 2025-01-01 00:00:00; :as_of 2025-01-04 00:00:00"
    ]


def test_after_a_run_was_killed_with_the_quarantine_written_the_next_one_writes_the_table(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = quarantined(shop)
    corrected = SECOND.replace("a,-1", "a,1").replace("b,2", "b,-2")
    shop.snapshot("20250103_000000", items=corrected, shops=SHOPS)
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise RuntimeError("killed")

        patch.setattr(write, "merge_to_match", killed)
        assert run_to_silver(shop)["status"] == "failed"
    assert (ids(shop), quarantined(shop)) == ("bde", before)
    # The next snapshot undoes that, so that the changes in total do not affect these keys.
    shop.snapshot("20250104_000000", items=SECOND.replace("d,400", "d,40"), shops=SHOPS)
    again = run_to_silver(shop)
    assert (again["status"], again["note"]) == ("full", "a run was interrupted after it wrote the quarantine")
    assert (ids(shop), quarantined(shop)) == ("bde", before)
    assert failed_checks(shop) == []


def test_referenced_values_are_added_and_removed(shop: Project) -> None:
    def silver(day: int, shops: str) -> tuple[str, str]:
        shop.snapshot(f"202501{day:02}_000000", items=SECOND, shops=f"shop,seen\n{shops}")
        outcome = run_to_silver(shop)
        return outcome["status"], outcome["note"]

    # The date of a shop does not matter to the items.
    assert silver(3, "s1,2025-01-03\ns2,2025-01-01\n") == ("row-wise", "changes of silver.shops that affect no row")
    # s9 is added, which rows in quarantine refer to; later s2 is removed, to which no row refers, and s1.
    status, note = silver(4, "s1,2025-01-03\ns2,2025-01-01\ns9,2025-01-04\n")
    assert (status, note) == ("full", "known refers to silver.shops, which has new values")
    assert (ids(shop), ("f", "known") in quarantined(shop)) == ("bdef", False)
    status, note = silver(5, "s9,2025-01-05\n")
    assert (status, note) == ("full", "known refers to values of silver.shops that were removed")
    assert ids(shop) == "f"
    assert ("b", "known") in quarantined(shop)
    assert failed_checks(shop) == []


def test_a_forgotten_subject_is_in_no_quarantine_of_a_model(shop: Project) -> None:
    assert {json.loads(row["row"])["id"] for row in shop.rows("quarantine/items")} == set("abcfg")  # b was corrected
    done = shop("forget", "items", "c")
    assert done.code == 0, done.document
    assert done.document["erased"]["quarantine"] == 2  # and the resolved row of b, whose subject is unknown
    assert {json.loads(row["row"])["id"] for row in shop.rows("quarantine/items")} == set("afg")
    assert "quarantine/items" in {left["table"] for left in done.document["left"]}


def test_an_invalid_expectation_is_refused_by_validate(tmp_path: Path) -> None:
    shop = Project(tmp_path, TABLES, MODELS)
    for rule, found in {
        "quantity > 0": "names quantity, which the model does not have",
        "max(qty) > 0": "uses max, which is not known to be a function of one row",
        "qty > 0 AND now() IS NOT NULL": "uses now: the same inputs would not always give the same rows",
    }.items():
        shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"], "expect": {"odd": {"check": rule}}})
        shop.configure()
        refused = shop("validate")
        assert (refused.code, found in refused.error["found"]) == (2, True), refused.error
    shop.models["silver.items"] = (
        MODELS["silver.items"][0],
        {"keys": ["id"], "expect": {"odd": {"reference": {"shop": "silver.shops.name"}}}},
    )
    shop.configure()
    assert "names name, which silver.shops does not have" in shop("validate").error["found"]


def test_a_condition_that_spark_cannot_evaluate_is_named_and_changes_nothing(shop: Project) -> None:
    before = shop.versions()
    for check in ("date_add(qty, id) IS NULL", "note > 5"):  # the types do not fit; the values do not
        rules = ITEM_RULES | {"odd": {"check": check}}
        shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"], "expect": rules})
        shop.configure()
        items = shop("silver", "silver.items").outcome("silver", "silver.items")
        assert (items["status"], items["code"]) == ("failed", 2), items
        assert "silver.items's expectation odd cannot be evaluated: [" in items["note"]
    assert shop.versions() == before
