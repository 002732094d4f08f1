"""What is expected of models: rows that are dropped, put in quarantine or warned of, and refreshes that fail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Project, Result
from pyspark.sql import SparkSession

from lakehouse.models import refresh

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
FIRST = "id,qty,note,shop\na,1,x,s1\nb,-2,x,s1\nc,,y,s1\nd,400,y,s1\ne,5,,s1\nf,6,z,s9\n"
SHOPS = "shop,seen\ns1,2025-01-01\ns2,2025-01-01\n"
# a is wrong now, b and e are right, g came and is wrong twice; c, f, and d, of which is warned, are as they were.
SECOND = "id,qty,note,shop\na,-1,x,s1\nb,2,x,s1\nc,,y,s1\nd,400,y,s1\ne,5,x,s1\nf,6,z,s9\ng,-7,z,s9\n"


@pytest.fixture(scope="module", autouse=True)
def by_changes() -> Iterator[None]:
    """Tables as small as these would be computed whole."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(refresh, "FULL_REFRESH_BELOW_BYTES", 0)
        yield


@pytest.fixture(scope="module")
def first(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    shop = Project(tmp_path_factory.mktemp("first"), TABLES, MODELS)
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
    """A lake of the test's own, at the second snapshot."""
    return second[0].copy(tmp_path / "shop")


def ids(shop: Project) -> str:
    return "".join(row["id"] for row in shop.rows("silver/items"))


def quarantined(shop: Project, model: str = "silver.items") -> set[tuple[str, str]]:
    """The rows that are out, each as its id and the rule."""
    return {(json.loads(row["row"])["id"], row["rule"]) for row in shop("quarantine", model).document["rows"]}


def unmet(shop: Project) -> dict[str, int | None]:
    """By rule, how many rows do not meet it, as `status` has it."""
    return {row["rule"]: row["rows_failing"] for row in shop("status").document["expectations"]}


def failed_checks(shop: Project, model: str = "silver.items") -> list[dict[str, str]]:
    return [check for check in shop("verify", model).document["checks"] if check["result"] != "holds"]


def to_silver(shop: Project) -> dict[str, Any]:
    """Run, but for gold; what became of silver.items."""
    return shop.run(*TABLES, "silver.shops", "silver.items").outcome("silver", "silver.items")


def test_rows_are_dropped_put_in_quarantine_or_warned_of(first: Project) -> None:
    assert ids(first) == "ad"
    assert quarantined(first) == {("b", "positive"), ("c", "positive"), ("f", "known")}
    (row,) = [row for row in first("quarantine", "silver.items").document["rows"] if row["rule"] == "known"]
    assert row["stage"] == "silver"
    assert json.loads(row["row"]) == {"id": "f", "qty": 6, "note": "z", "shop": "s9"}
    assert (row["column"], row["value"], row["reason"]) == ("shop", "s9", "expected shop in silver.shops.shop")
    assert first("quarantine", "items").document["rows"] == []  # what ingest refused
    assert unmet(first) == {"noted": None, "positive": 2, "small": 1, "known": 1}


def test_the_results_of_a_run_say_what_was_checked_and_what_failed(first: Project) -> None:
    found = {row["rule"]: row for row in first.rows("quality/results")}
    assert {rule: (row["status"], row["rows_checked"], row["rows_failed"]) for rule, row in found.items()} == {
        "positive": ("failed", 6, 2),
        "noted": ("failed", 6, 1),
        "known": ("failed", 6, 1),
        "small": ("failed", 2, 1),  # of those that are left
        "few": ("ok", 2, 0),
        "fresh": ("ok", 2, None),
    }
    assert {(row["run_id"], f"{row['as_of']:%Y%m%d}") for row in found.values()} == {
        (first("status").document["runs"][0]["run_id"], "20250101")
    }


def test_a_refresh_by_what_changed_takes_out_and_brings_back_what_a_whole_one_would(
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
    assert unmet(shop) == {"positive": 3, "known": 2, "small": 1}  # d, which the refresh did not touch, among them
    assert failed_checks(shop) == []
    writes = shop.write_counts()
    assert shop("silver", "--full-refresh").outcome("silver", "silver.items")["status"] == "full"
    assert shop.write_counts() == writes


def test_a_run_with_nothing_new_judges_nothing(shop: Project) -> None:
    before = shop.versions()
    (shop.lake / "_state/clean.json").unlink(missing_ok=True)
    assert shop.run().code == 0
    assert shop.versions() == before


def test_rows_come_back_once_the_rule_is_mended(shop: Project) -> None:
    rules = {"positive": {"check": "qty >= -1 OR qty IS NULL"}, "noted": {"not_null": ["note"], "on_fail": "warn"}}
    shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"], "expect": ITEM_RULES | rules})
    shop.configure()
    assert shop("status").document["models"][1]["waiting"] == ["bronze.items"]
    silver = to_silver(shop)
    assert (silver["status"], silver["note"]) == ("full", "its SQL, its keys or what is expected of it changed")
    assert ids(shop) == "abcde"
    assert quarantined(shop) == {("f", "known"), ("g", "positive"), ("g", "known")}
    assert shop("quarantine", "silver.items").document["resolved"] == 3  # b, which the second mended, a and c
    shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"]})
    shop.configure()
    assert to_silver(shop)["code"] == 0
    assert ids(shop) == "abcdefg"
    assert quarantined(shop) == set()


def test_a_rule_that_says_fail_leaves_the_model_and_what_reads_it_as_they_were(shop: Project) -> None:
    gold, versions = shop.rows("gold/notes"), shop.versions()
    third = SECOND.replace("a,-1,x", "a,1,x") + "h,8,z,s1\n"  # x has three rows
    shop.snapshot("20250103_000000", items=third, shops=SHOPS)
    done = shop.run()
    assert done.code == 5
    told = done.outcome("gold", "gold.notes")
    assert (told["status"], told["code"]) == ("failed", 5)
    assert 'gold.notes does not meet few, items <= 2: 1 of 2 rows, such as {"note":"x"}' in told["note"]
    assert f"at version {versions['gold/notes']}" in told["note"]
    assert done.outcome("gold", "gold.items")["status"] == "current"
    assert ids(shop) == "abdeh"  # silver went on
    assert (shop.rows("gold/notes"), shop.versions()["gold/notes"]) == (gold, versions["gold/notes"])
    assert unmet(shop)["few"] == 1
    assert shop.run().code == 5  # as long as it is not mended
    shop.snapshot("20250104_000000", items=third.replace("e,5,x", "e,5,y"), shops=SHOPS)
    assert shop.run().code == 0
    assert {row["note"]: row["items"] for row in shop.rows("gold/notes")} == {"x": 2, "y": 2, "z": 1}
    assert "few" not in unmet(shop)
    # Meanwhile :as_of went on, and the newest shop did not.
    assert [row["found"] for row in shop("status").document["expectations"] if row["rule"] == "fresh"] == [
        "newest seen: 2025-01-01 00:00:00; :as_of 2025-01-04 00:00:00"
    ]


def test_a_run_killed_after_quarantine_was_written_shows_what_holds_and_the_next_one_ends_it(
    shop: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = quarantined(shop)
    mended = SECOND.replace("a,-1", "a,1").replace("b,2", "b,-2")
    shop.snapshot("20250103_000000", items=mended, shops=SHOPS)
    with monkeypatch.context() as patch:

        def killed(*_: Any, **__: Any) -> None:
            raise RuntimeError("killed")

        patch.setattr(refresh, "merge_to_match", killed)
        assert to_silver(shop)["status"] == "failed"
    assert (ids(shop), quarantined(shop)) == ("bde", before)
    # The snapshot after it undoes that: the keys are not touched by what changed in all.
    shop.snapshot("20250104_000000", items=SECOND.replace("d,400", "d,40"), shops=SHOPS)
    again = to_silver(shop)
    assert (again["status"], again["note"]) == ("full", "a run was killed after it wrote the quarantine")
    assert (ids(shop), quarantined(shop)) == ("bde", before)
    assert failed_checks(shop) == []


def test_what_rows_refer_to_comes_and_goes(shop: Project) -> None:
    def silver(day: int, shops: str) -> tuple[str, str]:
        shop.snapshot(f"202501{day:02}_000000", items=SECOND, shops=f"shop,seen\n{shops}")
        outcome = to_silver(shop)
        return outcome["status"], outcome["note"]

    # Another day of a shop is nothing to the items.
    assert silver(3, "s1,2025-01-03\ns2,2025-01-01\n") == ("row-wise", "changes of silver.shops that matter to no row")
    # s9 comes, which rows waited for; s2 goes, which none refers to.
    status, note = silver(4, "s1,2025-01-03\ns2,2025-01-01\ns9,2025-01-04\n")
    assert (status, note) == ("full", "known refers to silver.shops, which has new values")
    assert (ids(shop), ("f", "known") in quarantined(shop)) == ("bdef", False)
    status, note = silver(5, "s9,2025-01-05\n")
    assert (status, note) == ("full", "known refers to values of silver.shops that went")
    assert ids(shop) == "f"
    assert ("b", "known") in quarantined(shop)
    assert failed_checks(shop) == []


def test_who_is_forgotten_is_in_no_quarantine_of_a_model(shop: Project) -> None:
    assert {json.loads(row["row"])["id"] for row in shop.rows("quarantine/items")} == set("abcfg")  # b is back
    done = shop("forget", "items", "c")
    assert done.code == 0, done.document
    assert done.document["erased"]["quarantine"] == 2  # and b's, of which nobody can tell whose it was
    assert {json.loads(row["row"])["id"] for row in shop.rows("quarantine/items")} == set("afg")
    assert "quarantine/items" in {left["table"] for left in done.document["left"]}


def test_what_is_no_expectation_is_refused_at_validate(tmp_path: Path) -> None:
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


def test_a_condition_that_spark_does_not_take_is_told_by_its_name_and_touches_nothing(shop: Project) -> None:
    before = shop.versions()
    for check in ("date_add(qty, id) IS NULL", "note > 5"):  # the types do not fit; the values do not
        rules = ITEM_RULES | {"odd": {"check": check}}
        shop.models["silver.items"] = (MODELS["silver.items"][0], {"keys": ["id"], "expect": rules})
        shop.configure()
        told = shop("silver", "silver.items").outcome("silver", "silver.items")
        assert (told["status"], told["code"]) == ("failed", 2), told
        assert "silver.items's expectation odd cannot be evaluated: [" in told["note"]
    assert shop.versions() == before
