"""`lakehouse why`: the rows that made a row, down to the line of the landed file, in the driver and with Spark."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from helpers import Project, Result
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from transcript import Transcript

from lakehouse.config.ddl import quote_identifier
from lakehouse.inspect.json_rows import json_rows
from lakehouse.inspect.why import explanation
from lakehouse.models.model import Model, run_model_query
from lakehouse.models.sql.trace import NotInDuckdbError
from lakehouse.runner.context import Run, open_run

FIRST, SECOND = "20250101_000000", "20250102_000000"
SALES = """id,day,shop,amount
1,2025-01-01,s1,1.00
2,2025-01-01, S1,2.00
3,2025-01-02,s2,3.00
4,2025-01-03,s1,4.00
5,2025-01-05,,5.00
6,2025-01-05,ß9,6.00
"""
SALES_LATER = SALES.replace("4.00", "40.00").replace("3,2025-01-02,s2,3.00\n", "") + "7,2025-01-06,s2,7.00\n"
SHOPS = '{"shop": "s1", "city": "a,b"}\n\n{"shop": "s2", "city": "x=y"}\n'
PRICES, PRICES_LATER = "shop,price\ns1,10\ns2,20\n", "shop,price\ns1,11\ns2,20\n"
EVENTS, EVENTS_LATER = "id,nr,qty\ne1,2,5\n", "id,nr,qty\ne1,3,6\ne1,4,7\ne1,1,8\n"
PEOPLE = "mail,name,age\nana@x,Ana,7\nbia@x,Bia,8\n"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.sales": (
        "SELECT s.id, s.day, s.shop, s.amount FROM bronze.sales AS s WHERE s.amount > 0",
        {"keys": ["id"]},
    ),
    "silver.labels": (
        "WITH read AS (SELECT upper(trim(s.shop)) AS label, s.amount AS amount FROM bronze.sales AS s)"
        " SELECT r.label AS label, COUNT(*) AS n, MAX(r.amount) AS most FROM read AS r GROUP BY r.label",
        {"keys": ["label"]},
    ),
    "silver.placed": (
        "SELECT s.id AS id, s.amount AS amount, c.city AS city FROM silver.sales AS s"
        " LEFT JOIN bronze.shops AS c ON c.shop = s.shop",
        {"keys": ["id"]},
    ),
    "silver.known": (
        "SELECT shop, COUNT(*) AS n FROM silver.sales LEFT SEMI JOIN bronze.shops AS c ON c.shop = sales.shop"
        " WHERE amount <> 6 GROUP BY shop",
        {"keys": ["shop"]},
    ),
    "silver.unknown": (
        "SELECT s.id AS id FROM silver.sales AS s LEFT ANTI JOIN bronze.shops AS c ON c.shop = s.shop",
        {"keys": ["id"]},
    ),
    "silver.priced": (
        "SELECT s.id AS id, p.price AS price FROM silver.sales AS s JOIN bronze.prices AS p"
        " ON p.shop = s.shop AND p.__END_AT IS NULL",
        {"keys": ["id"]},
    ),
    "gold.cities": (
        "SELECT p.city AS city, GROUPING_ID() AS gid, COUNT(*) AS sales, SUM(p.amount) AS amount"
        " FROM silver.placed AS p GROUP BY GROUPING SETS ((p.city), ())",
        {},
    ),
    "gold.days": (
        "WITH days AS (SELECT DISTINCT s.day AS day FROM silver.sales AS s),"
        " spans AS (SELECT d.day AS day, e.day AS member FROM days AS d"
        " JOIN days AS e ON e.day BETWEEN date_sub(d.day, 1) AND d.day)"
        " SELECT p.day AS day, SUM(s.amount) AS amount FROM spans AS p JOIN silver.sales AS s ON s.day = p.member"
        " LEFT SEMI JOIN silver.known AS k ON k.shop = s.shop GROUP BY p.day",
        {},
    ),
    "gold.steps": (
        "WITH steps AS (SELECT s.shop AS shop, s.id AS id, s.amount AS amount,"
        " LAG(s.amount) OVER (PARTITION BY s.shop ORDER BY s.id) AS before FROM silver.sales AS s)"
        " SELECT t.shop AS shop, t.id AS id, t.amount - t.before AS step FROM steps AS t",
        {"keys": ["shop", "id"]},
    ),
    "gold.newest": (
        "WITH ranked AS (SELECT s.shop AS shop, s.id AS id,"
        " ROW_NUMBER() OVER (PARTITION BY s.shop ORDER BY s.day DESC, s.id) AS n FROM silver.sales AS s)"
        " SELECT r.shop AS shop, r.id AS id FROM ranked AS r WHERE r.n = 1",
        {"keys": ["shop"]},
    ),
    "gold.running": (
        "SELECT s.shop AS shop, s.id AS id, SUM(s.amount) OVER (PARTITION BY s.shop ORDER BY s.day) AS total"
        " FROM silver.sales AS s",
        {"keys": ["shop", "id"]},
    ),
    "gold.shares": (
        "WITH totals AS (SELECT s.shop AS shop, GROUPING_ID() AS gid, SUM(s.amount) AS amount FROM silver.sales AS s"
        " GROUP BY ROLLUP (s.shop)) SELECT t.shop AS shop, t.gid AS gid, t.amount AS amount FROM totals AS t",
        {"keys": ["shop", "gid"]},
    ),
    "gold.both": (
        "SELECT s.id AS id, 1 AS part FROM silver.sales AS s UNION ALL"
        " SELECT u.id AS id, 2 AS part FROM silver.unknown AS u",
        {"keys": ["id", "part"]},
    ),
}
NEED_SPARK = {"silver.labels", "gold.shares"}  # upper() of a text that is not ASCII; totals in a CTE


def no_session(run: Run) -> Any:
    pytest.fail("a session was started")


@pytest.fixture(scope="module")
def base(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Project:
    everything = {"guard": {"max_deleted": 1.0}, "format": "csv"}
    tables: dict[str, dict[str, Any]] = {
        "sales": everything
        | {"file": "sales.csv", "schema": "id INT, day DATE, shop STRING, amount DECIMAL(9,2)", "keys": ["id"]},
        "shops": everything
        | {"file": "shops.json", "format": "json", "schema": "shop STRING, city STRING", "keys": ["shop"]},
        "prices": everything | {"file": "prices.csv", "schema": "shop STRING, price INT", "keys": ["shop"], "scd": 2},
        "people": everything
        | {"file": "people.csv", "schema": "mail STRING, name STRING, age INT", "keys": ["mail"]}
        | {"pii": {"mail": "hmac", "name": "mask"}},
        "events": {"file": "events.csv", "format": "csv", "schema": "id STRING, nr INT, qty INT", "keys": ["id"]}
        | {"feed": {"sequence_by": ["nr"]}},
    }
    shop = Project(tmp_path_factory.mktemp("why"), tables, MODELS)
    states = ((FIRST, SALES, PRICES, EVENTS), (SECOND, SALES_LATER, PRICES_LATER, EVENTS_LATER))
    for stamp, sales, prices, events in states:
        people = PEOPLE.replace("8", stamp[7])
        folder = shop.snapshot(stamp, sales=sales, prices=prices, people=people, events=events)
        (folder / "shops.json").write_text(SHOPS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEHOUSE_PII_KEY", "k" * 64)
        done = shop.run()
    assert done.code == 0, done
    return shop


@pytest.fixture
def shop(base: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("LAKEHOUSE_PII_KEY", "k" * 64)
    return base


def why(shop: Project, *arguments: str) -> dict[str, Any]:
    done = shop("why", *arguments)
    assert done.code == 0, done
    return done.document


def key_text(key: dict[str, Any]) -> str:
    quoted = {name: '"' + str(v).replace('"', '""') + '"' for name, v in key.items() if v is not None}
    return ",".join(f"{name}={quoted.get(name, 'NULL')}" for name in key)


def short(node: dict[str, Any]) -> Any:
    """Return the keys of a row and of those that made it, as `id: [...]`."""
    return {f"{child['table']} {'/'.join(map(str, child['key'].values()))}": short(child) for child in node["inputs"]}


def shown_inputs(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for node in document["inputs"]:
        found.setdefault(node["table"], []).append(node["key"])
    return found


def rows_with_keys(rows: DataFrame, keys: list[dict[str, Any]]) -> DataFrame:
    """Return the rows with these keys, which are compared as texts of JSON."""
    names = list(keys[0]) if keys else []
    columns = [F.to_json(F.struct(*map(quote_identifier, names)), {"ignoreNullFields": "false"})] if keys else []
    if not keys:
        return rows.limit(0)
    wanted = [json.dumps(key, separators=(",", ":"), ensure_ascii=False) for key in keys]
    return rows.where(F.regexp_replace(columns[0], r"\.000Z", "Z").isin(wanted))


@pytest.mark.parametrize("model", [name for name in MODELS if name != "gold.both"])
def test_the_models_sql_over_only_these_rows_gives_the_row_again(
    shop: Project, spark: SparkSession, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    rows = shop("show", model, "--limit", "100").document["rows"]
    run = open_run(shop.pipeline)
    plan = run.plans[model]
    assert rows and plan.strategy != "full"
    for row in [*rows[:2], rows[-1]]:
        key = {name: row[name] for name in plan.keys}
        with monkeypatch.context() as patch:
            if model not in NEED_SPARK:
                patch.setattr(Run, "spark", property(no_session))
            document = why(shop, model, key_text(key), "--limit", "100")
        assert (document["model"], document["key"], document["row"]) == (model, key, row)
        inputs, found = shown_inputs(document), {}
        for relation in plan.inputs:
            table = spark.read.format("delta").load(run.lake.table(relation))
            found[relation] = rows_with_keys(table, inputs.get(relation, []))
            assert found[relation].count() == len(inputs.get(relation, []))
        again = json_rows(run_model_query(spark, Model(plan, {}, {}), found))
        assert [each for each in again if all(each[name] == row[name] for name in plan.keys)] == [row]


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        ("silver.placed", "5", {"silver.sales": [5]}),
        ("silver.known", "s1", {"silver.sales": [1, 4], "bronze.shops": ["s1"]}),
        ("silver.unknown", "5", {"silver.sales": [5]}),
        ("gold.cities", "city=NULL,gid=0", {"silver.placed": [2, 5, 6]}),
        ("gold.days", "2025-01-01", {"silver.sales": [1, 2], "silver.known": ["s1"]}),
        ("gold.days", "2025-01-06", {"silver.sales": [7], "silver.known": ["s2"]}),
        ("gold.steps", "shop=s1,id=4", {"silver.sales": [1, 4]}),
        ("gold.steps", "shop=s1,id=1", {"silver.sales": [1]}),
        ("gold.newest", "s1", {"silver.sales": [4]}),
        ("gold.running", "shop=s1,id=1", {"silver.sales": [1]}),
        ("gold.running", "shop=NULL,id=5", {"silver.sales": [5]}),
    ],
)
def test_exactly_the_rows_that_made_a_row_are_shown(
    shop: Project, monkeypatch: pytest.MonkeyPatch, model: str, key: str, expected: dict[str, list[Any]]
) -> None:
    monkeypatch.setattr(Run, "spark", property(no_session))
    found = shown_inputs(why(shop, model, key))
    assert {name: [value for key in keys for value in key.values()] for name, keys in found.items()} == expected


def test_spark_finds_the_same_rows(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def needs_spark(*_: object) -> None:
        raise NotInDuckdbError

    for model in ("silver.known", "gold.cities", "gold.days", "gold.steps", "gold.newest"):
        row = shop("show", model, "--limit", "1").document["rows"][0]
        key = key_text({name: row[name] for name in open_run(shop.pipeline).plans[model].keys})
        in_driver = why(shop, model, key)
        with monkeypatch.context() as patch:
            patch.setattr(explanation, "DuckdbBlocks", needs_spark)
            assert why(shop, model, key) == in_driver


def test_a_row_is_explained_down_to_the_line_of_the_landed_file(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "spark", property(no_session))
    document = why(shop, "gold.cities", 'city="a,b",gid=0')

    assert document.keys() == {"model", "key", "row", "inputs"}
    assert document["row"] == {"city": "a,b", "gid": 0, "sales": 2, "amount": "41.00"}
    assert short(document) == {
        "silver.placed 1": {"silver.sales 1": {"bronze.sales 1": {}}, "bronze.shops s1": {}},
        "silver.placed 4": {"silver.sales 4": {"bronze.sales 4": {}}, "bronze.shops s1": {}},
    }
    placed = document["inputs"][1]
    assert placed.keys() == {"table", "key", "row", "snapshot_time", "file", "line", "changed", "inputs"}
    (sale,), city = placed["inputs"][0]["inputs"], placed["inputs"][1]
    assert (sale["snapshot_time"], sale["line"]) == ("2025-01-02T00:00:00Z", 4)
    assert sale["file"] == str(shop.lake / f"landing/sales/{SECOND}/sales.csv")
    assert sale["changed"] == {"amount": ["4.00", "40.00"]}
    assert Path(sale["file"]).read_text().splitlines()[sale["line"] - 1] == "4,2025-01-03,s1,40.00"
    assert (city["snapshot_time"], city["line"], city["changed"]) == ("2025-01-01T00:00:00Z", 1, None)
    assert why(shop, "shops", "s2")["inputs"][0]["line"] == 3
    (total,) = [key for key in [why(shop, "gold.cities", "city=NULL,gid=1")] if key["row"]["sales"] == 6]
    assert len(total["inputs"]) == 6


def test_a_window_of_a_history_names_the_snapshot_that_opened_it(shop: Project) -> None:
    node = why(shop, "bronze.prices", "s1")["inputs"][0]
    assert (node["row"]["price"], node["changed"], node["line"]) == (11, {"price": [10, 11]}, 2)
    assert node["key"] == {"shop": "s1", "__START_AT": "2025-01-02T00:00:00Z"}

    closed = why(shop, "bronze.prices", "shop=s1,__START_AT=2025-01-01T00:00:00Z")["inputs"][0]
    assert (closed["row"]["price"], closed["snapshot_time"], closed["changed"]) == (10, "2025-01-01T00:00:00Z", None)


def test_a_row_of_a_change_feed_names_the_event_that_won(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "spark", property(no_session))
    node = why(shop, "events", "e1")["inputs"][0]
    assert (node["row"]["qty"], node["snapshot_time"], node["line"]) == (7, "2025-01-02T00:00:00Z", 3)
    assert (node["file"], node["changed"]) == (str(shop.lake / f"landing/events/{SECOND}/events.csv"), None)


def test_personal_columns_stay_as_the_lake_has_them(shop: Project) -> None:
    people = shop("show", "people").document["rows"]
    (changed,) = [row for row in people if row["age"] == 2]
    node = why(shop, "people", changed["mail"])["inputs"][0]

    assert (node["line"], node["changed"], node["row"]["name"]) == (3, {"age": [1, 2]}, "***")
    assert not any(name in json.dumps(node) for name in ("Bia", "bia@x"))


def test_a_column_is_explained_by_what_it_is_computed_from(shop: Project) -> None:
    document = why(shop, "silver.placed", "4", "CITY")
    assert document["row"] == {"id": 4, "city": "a,b"}
    (city,) = document["inputs"]
    assert (city["table"], city["row"]) == ("bronze.shops", {"shop": "s1", "city": "a,b"})

    sale = why(shop, "gold.cities", 'gid=0,city="a,b"', "sales")["inputs"][1]  # a count is of rows, not of a column
    assert sale["row"] == {"id": 4}
    assert list(short(sale)) == ["silver.sales 4", "bronze.shops s1"]


def test_of_many_rows_some_are_shown_and_all_are_counted(shop: Project) -> None:
    document = why(shop, "gold.cities", "city=NULL,gid=1", "--limit", "2")
    assert ([node["key"]["id"] for node in document["inputs"]], document["more"]) == ([1, 2], {"silver.placed": 4})
    assert "more" not in why(shop, "gold.cities", "city=NULL,gid=1", "--limit", "6")


def test_a_model_that_cannot_be_followed_states_the_clause(shop: Project) -> None:
    document = why(shop, "gold.both", "id=5,part=2")
    assert (document["row"], document["inputs"]) == ({"id": 5, "part": 2}, [])
    assert document["note"].startswith("gold.both cannot be followed to its inputs: a set operation at the top")


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (("silver.sales", "99"), 5, "no row of silver.sales has this key"),
        (("silver.sales", "x"), 2, "no value of the key's type: id as INT"),
        (("gold.cities", "city=a"), 2, "no key of gold.cities"),
        (("gold.cities", 'city="a,b,gid=0'), 2, "no key of gold.cities"),
        (("silver.sales", "1", "amont"), 2, 'did you mean "amount"'),
        (("silver.sale", "1"), 2, 'did you mean "silver.sales"'),
        (("prices", "s9"), 5, "no row of bronze.prices"),
    ],
)
def test_a_key_without_a_row_is_refused(shop: Project, arguments: tuple[str, ...], code: int, found: str) -> None:
    done: Result = shop("why", *arguments)
    assert (done.code, found in done.error["found"]) == (code, True), done.error


def test_a_key_is_read_from_standard_input(shop: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("city=a,b\ngid=0\n"))
    assert why(shop, "gold.cities", "-")["row"]["sales"] == 2


def test_a_reader_who_types_the_guide_sees_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spark: SparkSession
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path(__file__).parents[2] / "docs" / "guide" / "why.md"
    Transcript(tmp_path).follow(page.read_text(encoding="utf-8"))


BETWEEN = ("--between", FIRST, SECOND)


def effects(document: dict[str, Any]) -> list[tuple[str, Any, dict[str, Any]]]:
    return [(c["table"], c["key"], c["share"]) for c in document["changes"]]


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        ("gold.cities", 'city="a,b",gid=0', [("bronze.sales", {"id": 4}, {"amount": "36.00"})]),
        (
            "gold.cities",
            "city=NULL,gid=1",
            [
                ("bronze.sales", {"id": 4}, {"amount": "36.00"}),
                ("bronze.sales", {"id": 3}, {"sales": -1, "amount": "-3.00"}),
                ("bronze.sales", {"id": 7}, {"sales": 1, "amount": "7.00"}),
            ],
        ),
        (
            "gold.days",
            "2025-01-03",
            [("bronze.sales", {"id": 4}, {"amount": "36.00"}), ("bronze.sales", {"id": 3}, {"amount": "-3.00"})],
        ),
        ("gold.days", "2025-01-06", [("bronze.sales", {"id": 7}, {"amount": "7.00"})]),
        ("gold.steps", "shop=s1,id=4", [("bronze.sales", {"id": 4}, {"step": "36.00"})]),
        ("gold.newest", "s2", [("bronze.sales", {"id": 7}, {"id": 7}), ("bronze.sales", {"id": 3}, {"id": -3})]),
        ("gold.running", "shop=s1,id=4", [("bronze.sales", {"id": 4}, {"total": "36.00"})]),
        ("silver.sales", "3", [("bronze.sales", {"id": 3}, {"amount": "-3.00"})]),
        ("prices", "shop=s1,__START_AT=2025-01-01T00:00:00Z", [("bronze.prices", {"shop": "s1"}, {})]),
        ("people", "", [("bronze.people", None, {"age": 1})]),
    ],
)
def test_the_effects_of_source_changes_add_up_to_the_difference(
    shop: Project, model: str, key: str, expected: list[Any]
) -> None:
    if not key:
        key = next(row["mail"] for row in shop("show", "people").document["rows"] if row["age"] == 2)
    document = why(shop, model, key, *BETWEEN)

    assert (document["is_complete"], document["more"], "note" in document) == (True, 0, False), document
    assert sorted(map(json.dumps, (c[0] for c in effects(document)))) == sorted(json.dumps(c[0]) for c in expected)
    for change, (table, source_key, share) in zip(document["changes"], expected, strict=True):
        assert (change["table"], change["share"]) == (table, share)
        assert source_key is None or source_key.items() <= change["key"].items()
        assert change["snapshot_time"] == "2025-01-02T00:00:00Z"
        assert (change["line"] is None) == (change["kind"] == "deleted" or model == "prices")


def test_what_is_not_explained_between_two_times_is_noted(shop: Project) -> None:
    document = why(shop, "gold.both", "id=7,part=1", *BETWEEN)
    assert (document["before"], document["after"], document["changes"]) == (None, {"id": 7, "part": 1}, [])
    assert not document["is_complete"] and "a set operation at the top" in document["note"]

    same = why(shop, "gold.newest", "s1", "id", *BETWEEN)
    assert (same["before"], same["is_complete"], same["changes"]) == ({"shop": "s1", "id": 4}, True, [])

    assert why(shop, "gold.cities", "city=NULL,gid=1", "--limit", "1", *BETWEEN)["more"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "found"),
    [
        (("silver.sales", "99", *BETWEEN), 5, f"no row of silver.sales has this key at {FIRST} or {SECOND}"),
        (("silver.sales", "1", "--between", SECOND, FIRST), 2, "has the later time first"),
        (("silver.sales", "1", "--between", "monday", FIRST), 2, "monday"),
        (("silver.sales", "1", "amont", *BETWEEN), 2, 'did you mean "amount"'),
        (("gold.cities", "city=a", *BETWEEN), 2, "no key of gold.cities"),
        (("silver.sales", "x", *BETWEEN), 2, "no value of the key's type"),
    ],
)
def test_a_difference_that_cannot_be_asked_for_is_refused(
    shop: Project, arguments: tuple[str, ...], code: int, found: str
) -> None:
    done: Result = shop("why", *arguments)
    assert (done.code, found in done.error["found"]) == (code, True), done.error


def test_a_landed_file_that_is_gone_is_noted(shop: Project, tmp_path: Path) -> None:
    copy = shop.copy(tmp_path / "copy")
    for folder in (copy.lake / "landing/sales").iterdir():
        for file in folder.glob("*"):
            file.unlink()
        folder.rmdir()
    document = why(copy, "silver.sales", "4")
    node = document["inputs"][0]
    assert (node["file"], node["line"], node["changed"]) == (None, None, {"amount": ["4.00", "40.00"]})
    assert document["note"] == f"the landed files of sales of {SECOND} are not there"


def test_an_input_that_changed_since_is_noted(shop: Project, tmp_path: Path) -> None:
    copy = shop.copy(tmp_path / "copy")
    copy.snapshot("20250103_000000", sales=SALES, prices=PRICES, people=PEOPLE, events=EVENTS)
    (copy.source / "20250103_000000" / "shops.json").write_text(SHOPS, encoding="utf-8")
    assert [copy(stage, "sales").code for stage in ("extract", "ingest", "bronze")] == [0, 0, 0]
    document = why(copy, "silver.sales", "4")
    assert (document["row"]["amount"], document["inputs"][0]["row"]["amount"]) == ("40.00", "4.00")
    assert "bronze.sales has changed since silver.sales was refreshed" in document["note"]
