"""Tests the report without a lake: lineage and shape of a model's SQL, both languages, and the escaping of data."""

from __future__ import annotations

import html.parser
import json
import re
import string
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import grammar
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from report_document import HOSTILE, IMAGE, empty_document, report_document

import lakehouse
from lakehouse import config, report
from lakehouse.cli import main
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.models.sql.pipeline_plans import plan_pipeline
from lakehouse.models.sql.plan import Plan, plan_model
from lakehouse.report import lineage, sheets
from lakehouse.report.charts import cube_figures
from lakehouse.report.data_age import old_after
from lakehouse.report.flow import layout
from lakehouse.report.glossary import glossary
from lakehouse.report.page import render
from lakehouse.report.shape import ColumnKind, CubeShape, cube_shape, time_keys
from lakehouse.report.texts import TEXTS
from lakehouse.report.words import Words
from lakehouse.runner.context import open_run

PACKAGE = Path(report.__file__).parent
LOYALTY = Path(__file__).parents[3] / "conf" / "loyalty"


# --- lineage ----------------------------------------------------------------------------------------------------


def lineage_of(
    tmp_path: Path, models: dict[str, str], pii: dict[str, str] | None = None
) -> dict[str, dict[str, lineage.LineageColumn]]:
    """Return the lineage columns of models over bronze.pessoas(id, email, Pontos, dt), by relation and name."""
    schema = "id STRING, email STRING, Pontos BIGINT, dt DATE"
    table = {"file": "p.csv", "format": "csv", "schema": schema, "keys": ["id"], "pii": pii or {}}
    document: dict[str, Any] = {
        **{"name": "shop", "lake": str(tmp_path / "lake"), "source": {"type": "files", "path": str(tmp_path)}},
        **{"tables": {"pessoas": table}, "pii_key": "k" * 32},
    }
    for name, sql in models.items():
        layer, _, short = name.partition(".")
        document.setdefault(layer, {})[short] = {"keys": ["id"]}
        (tmp_path / layer).mkdir(exist_ok=True)
        (tmp_path / layer / f"{short}.sql").write_text(sql)
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    pipeline = config.load(tmp_path)
    columns = lineage.relation_columns(pipeline, plan_pipeline(pipeline))
    return {relation: {c.name: c for c in each} for relation, each in columns.items()}


def test_lineage_follows_ctes_and_layers_to_the_source_columns(tmp_path: Path) -> None:
    columns = lineage_of(
        tmp_path,
        {
            "silver.pessoas": "SELECT p.id AS id, p.pontos * 2 AS dobro FROM bronze.pessoas AS p WHERE p.email <> ''",
            "gold.total": "WITH x AS (SELECT s.id AS id, s.dobro AS d FROM silver.pessoas AS s)"
            " SELECT x.id AS id, SUM(x.d) + 1 AS total, 7 AS sete FROM x GROUP BY x.id",
        },
    )

    assert columns["silver.pessoas"]["dobro"].origins == (("bronze.pessoas", "Pontos"),)
    assert columns["silver.pessoas"]["dobro"].expression == "p.pontos * 2"
    assert columns["gold.total"]["total"].origins == (("silver.pessoas", "dobro"),)
    assert columns["gold.total"]["total"].expression == "SUM(x.d) + 1"
    assert columns["gold.total"]["sete"].origins == ()
    assert list(columns["bronze.pessoas"]) == ["id", "email", "Pontos", "dt"]


def test_the_columns_of_a_star_have_their_source_columns(tmp_path: Path) -> None:
    columns = lineage_of(tmp_path, {"silver.pessoas": "SELECT * FROM bronze.pessoas AS p"})

    assert columns["silver.pessoas"]["Pontos"].origins == (("bronze.pessoas", "Pontos"),)


def test_where_a_name_cannot_be_followed_any_column_may_be_personal(tmp_path: Path) -> None:
    sql = (
        "SELECT p.id AS id, x AS x FROM (SELECT id, email, pontos FROM bronze.pessoas) PIVOT (MAX(email) FOR pontos IN"
    )
    columns = lineage_of(tmp_path, {"silver.p": f"{sql} (1 AS x)) AS p"}, pii={"email": "hmac"})

    assert [c.is_personal for c in columns["silver.p"].values()] == [True, True]


def test_a_column_with_a_personal_value_is_personal_and_a_count_of_it_is_not(tmp_path: Path) -> None:
    columns = lineage_of(
        tmp_path,
        {
            "silver.pessoas": "SELECT p.id AS id, lower(p.email) AS mail, p.pontos AS pontos FROM bronze.pessoas AS p",
            "gold.g": "SELECT s.id AS id, MAX(s.mail) AS algum, COUNT(DISTINCT s.mail) AS quantos,"
            " SUM(s.pontos) AS soma FROM silver.pessoas AS s GROUP BY s.id",
        },
        pii={"email": "hmac", "dt": "drop"},
    )

    assert "dt" not in columns["bronze.pessoas"]
    personal = {f"{relation}.{c.name}" for relation, each in columns.items() for c in each.values() if c.is_personal}
    assert personal == {"bronze.pessoas.email", "silver.pessoas.mail", "gold.g.algum"}
    hidden = lineage.personal_predicate(
        {relation: tuple(each.values()) for relation, each in columns.items()}, "gold.g"
    )
    assert [name for name in ("id", "ALGUM", "quantos", "named_by_an_older_sql") if hidden(name)] == [
        "ALGUM",
        "named_by_an_older_sql",
    ]


def test_every_column_of_the_loyalty_pipeline_has_source_columns() -> None:
    pipeline = config.load(LOYALTY)
    columns = lineage.relation_columns(pipeline, plan_pipeline(pipeline))

    leading_nowhere = [
        f"{relation}.{c.name}"
        for relation, each in columns.items()
        for c in each
        if not c.origins and not relation.startswith("bronze.")
    ]
    assert leading_nowhere == ["gold.resumo_28_dias.grouping_id", "gold.resumo_diario.grouping_id"]


KNOWN = {
    relation: tuple(lineage.LineageColumn(name, is_personal=name in ("shop", "name")) for name in each)
    for relation, each in grammar.COLUMNS.items()
}


@settings(max_examples=30, derandomize=True)
@given(grammar.models())
def test_lineage_of_a_random_model_lists_its_columns_and_marks_only_columns_from_personal_ones(
    model: grammar.Model,
) -> None:
    columns = lineage.model_columns(plan_model("gold.m", model.sql, model.keys, "gold/m.sql", grammar.KEYS), KNOWN)

    assert [c.name for c in columns] == sqlglot.parse_one(model.sql, read="spark").named_selects
    for column in columns:
        origins = {c.is_personal for relation, name in column.origins for c in KNOWN[relation] if c.name == name}
        assert origins or not column.origins  # each origin is an existing column
        assert True in origins or not column.is_personal


# --- the shape of a cube ----------------------------------------------------------------------------------------


def cube_plan(sql: str, keys: tuple[str, ...] = ()) -> Plan:
    return plan_model("gold.cubo", sql, keys, "gold/cubo.sql")


DAILY = """
    SELECT t.dia AS dia, t.loja AS loja, GROUPING_ID() AS gid, MAX(t.nome) AS nome, SUM(t.v) AS soma,
        COUNT(DISTINCT t.c) AS clientes FROM silver.t AS t GROUP BY {}"""
KINDS: dict[str, ColumnKind] = {
    **{"dia": "time", "loja": "text", "gid": "number"},
    **{"nome": "text", "soma": "number", "clientes": "number"},
}


@pytest.mark.parametrize(
    ("group", "levels"),
    [
        ("GROUPING SETS ((t.dia, t.loja), (t.dia), ())", {0: {"dia", "loja"}, 1: {"dia"}, 3: set()}),
        ("ROLLUP (t.dia, t.loja)", {0: {"dia", "loja"}, 1: {"dia"}, 3: set()}),
        ("CUBE (t.dia, t.loja)", {0: {"dia", "loja"}, 1: {"dia"}, 2: {"loja"}, 3: set()}),
    ],
)
def test_grouping_levels_have_the_grouping_id_of_spark(group: str, levels: dict[int, set[str]]) -> None:
    shape = cube_shape(cube_plan(DAILY.format(group)), KINDS)

    assert shape.grouping_levels == levels
    assert (shape.time, shape.dimensions, shape.grouping_column, shape.labels) == (
        "dia",
        ("loja",),
        "gid",
        {"loja": "nome"},
    )
    assert shape.measures == ("soma", "clientes")
    assert [(v.by, v.grouping_level, v.is_aggregated) for v in shape.charts] == [((), 1, False), (("loja",), 0, False)]


def people_shape(hidden: tuple[str, ...] = ()) -> CubeShape:
    sql = """SELECT t.dia AS dia, t.id AS id, SUM(t.v) AS soma, COUNT(DISTINCT t.w) AS dias, AVG(t.v) AS media,
        CASE WHEN SUM(t.v) > 3 THEN 'A' ELSE 'B' END AS grupo FROM silver.t AS t GROUP BY t.dia, t.id"""
    kinds: dict[str, ColumnKind] = {
        **{"dia": "time", "id": "text", "soma": "number"},
        **{"dias": "number", "media": "number", "grupo": "text"},
    }
    return cube_shape(cube_plan(sql), kinds, hidden)


def test_only_sums_and_counts_are_summed_and_categories_make_series() -> None:
    shape = people_shape()

    assert shape.additive == {"soma"}
    added = [(v.by, v.measures) for v in shape.charts if v.is_aggregated]
    assert added == [((), ("soma",)), (("grupo",), ("soma",))]


def test_rows_with_a_hidden_key_are_only_shown_aggregated() -> None:
    shape = people_shape(hidden=("id",))

    assert shape.dimensions == ()
    assert all(chart.is_aggregated for chart in shape.charts)


def test_a_cube_of_several_dimensions_has_a_chart_by_all_of_them_together() -> None:
    sql = """SELECT t.venc AS venc, t.tipo AS tipo, t.dia AS dia, AVG(t.taxa) AS media, COUNT(*) AS quantos
        FROM silver.t AS t GROUP BY t.venc, t.tipo, t.dia"""
    kinds: dict[str, ColumnKind] = {
        "venc": "time",
        "tipo": "text",
        "dia": "time",
        "media": "number",
        "quantos": "number",
    }
    shape = cube_shape(cube_plan(sql), kinds, time="dia")

    assert time_keys(cube_plan(sql), kinds) == ["venc", "dia"]
    assert (shape.time, shape.dimensions) == ("dia", ("venc", "tipo"))
    assert [(v.by, v.is_aggregated, v.measures) for v in shape.charts] == [
        (("venc", "tipo"), False, ("media", "quantos")),
        ((), True, ("quantos",)),
        (("venc",), True, ("quantos",)),
        (("tipo",), True, ("quantos",)),
    ]


def test_a_cube_whose_only_key_is_time_is_shown_without_aggregation() -> None:
    shape = cube_shape(
        cube_plan("SELECT t.dia AS dia, AVG(t.v) AS media FROM silver.t AS t GROUP BY t.dia"),
        {"dia": "time", "media": "number"},
    )

    assert [(v.by, v.is_aggregated, v.measures) for v in shape.charts] == [((), False, ("media",))]


# --- the flow ---------------------------------------------------------------------------------------------------


def test_every_line_of_the_flow_connects_two_cards_and_no_cards_overlap() -> None:
    flow = report_document()["flow"]
    chart = layout(flow)

    cards = [card for stage in chart["stages"] for card in stage["cards"]]
    assert len(cards) == 3 * 2 + 3 + 1
    assert len({(card["left"], card["top"]) for card in cards}) == len(cards)
    assert len(chart["lines"]) == 2 * 2 + 3 + 1
    assert [stage["name"] for stage in chart["stages"]] == ["landing", "raw", "bronze", "silver", "gold", "publish"]
    assert len(layout(flow | {"published": []})["stages"]) == 5
    assert max(card["left"] for card in cards) + chart["width"] == pytest.approx(1000, abs=0.1)
    assert max(card["top"] for card in cards) < chart["height"]


# --- words ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("99999999999999999999.999999999999999999", "99,999,999,999,999,999,999.999999999999999999"),
        ("-" + "9" * 38, "-99," + ",".join(["999"] * 12)),
        ("0." + "0" * 37 + "1", "0." + "0" * 37 + "1"),
        ("5e-324", "5e-324"),
        ("1.7976931348623157e+308", "1.7976931348623157e+308"),
        ("0E-18", "0.000000000000000000"),
        ("NaN", "NaN"),
    ],
)
def test_numbers_of_any_size_are_shown(value: str, shown: str) -> None:
    assert Words("en").number(value) == shown


def test_every_text_has_the_same_placeholders_in_both_languages_and_is_used() -> None:
    def fields(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert [key for key, (english, portuguese) in TEXTS.items() if fields(english) != fields(portuguese)] == []
    written = " ".join(path.read_text() for path in PACKAGE.rglob("*") if path.is_file() and path.name != "texts.py")
    assert [key for key in TEXTS if f"'{key}'" not in written and f'"{key}"' not in written] == []


def test_numbers_and_times_have_the_format_of_the_language() -> None:
    english, portuguese = Words("en"), Words("pt")
    assert (english.age(-10_800), portuguese.age(10_800)) == ("-3 hours", "3 horas")

    assert (english.number("1234567.50"), portuguese.number("1234567.50")) == ("1,234,567.50", "1.234.567,50")
    assert (english.number(-12), portuguese.number("NaN")) == ("-12", "NaN")
    assert portuguese.number("12345678901234567890.123456") == "12.345.678.901.234.567.890,123456"
    assert portuguese.moment("2025-10-03") == "03/10/2025"
    assert english.moment("2025-10-03T17:05:52.123456Z") == "2025-10-03 17:05 UTC"
    assert portuguese.moment("+12025-10-03") == "+12025-10-03"
    assert (english.age(7400), portuguese.age(3 * 86400)) == ("2 hours", "3 dias")


def test_times_have_the_offset_of_the_pages_zone_and_dates_have_none() -> None:
    words = Words("pt", "America/Sao_Paulo")

    assert words.time("2025-10-03T01:05:52Z") == "02/10/2025 22:05 -03:00"
    assert words.time("2018-12-03T01:05:52+00:00") == "02/12/2018 23:05 -02:00", "in summer"
    assert words.clock("2025-10-03T01:05:52Z") == "02/10/2025 22:05"
    assert words.moment("2025-10-03") == "03/10/2025"
    assert words.moment("2025-10-03T10:00:00.5") == "03/10/2025 10:00", "a time without a zone stays as it is"
    assert words.moment("0001-01-01T00:00:00Z") == "0001-01-01T00:00:00Z", "in that zone it is in the year 0"


@given(
    moment=st.datetimes(timezones=st.just(timezone.utc)),
    zone=st.sampled_from(["UTC", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe"]),
)
def test_an_instant_on_an_axis_has_the_clock_time_of_the_zone(moment: datetime, zone: str) -> None:
    text = Words("en", zone).chart_time(moment.isoformat().replace("+00:00", "Z"))

    try:
        local = moment.astimezone(ZoneInfo(zone))
    except OverflowError:  # the years 0 and 10000
        return
    assert datetime.fromisoformat(text.removesuffix("Z")) == local.replace(tzinfo=None)


def test_days_of_the_charts_are_those_of_the_zone() -> None:
    document = report_document(time_zone="America/Sao_Paulo")
    for n, entry in enumerate(document["changes"]["clientes"]):
        entry["snapshot_time"] = f"2025-10-{n + 2:02}T01:00:00Z"
    series = document["cubes"][0]["charts"][0]["series"]
    for n, row in enumerate(series):
        row["t"] = f"2025-09-{n + 1:02}T01:30:00Z"

    texts = re.findall(r'<script type="application/json">(.*?)</script>', render(document, "en"), re.DOTALL)
    data = [rows for text in texts for rows in json.loads(text)["datasets"].values()]
    assert data[0][0]["t"].startswith("2025-10-01T22:00:00Z ")
    assert data[0][0]["when"] == "2025-10-01 22:00 -03:00"
    assert data[2][0]["t"] == "2025-08-31T22:30:00Z"


@pytest.mark.parametrize(("by", "adds"), [([], True), (["produto"], True), (["produto"], False)])
def test_values_of_one_day_are_drawn_as_points_or_bars(by: list[str], adds: bool) -> None:
    """A line or an area of one day has no length, so that the first chart of a new lake would be blank."""
    cube = report_document()["cubes"][0]
    view = cube["charts"][1] | {"by": by, "adds": adds, "bars": []}
    one_day = [row for row in view["series"] if row["t"] == view["series"][0]["t"]]

    first = cube_figures(cube | {"charts": [view | {"series": one_day if by else one_day[:1]}]}, Words("en"))[0]

    marks = [layer["mark"] for layer in first["spec"].get("layer", [first["spec"]])]
    assert [m for m in marks if m["type"] == "bar" or (m["type"] == "point" and m["opacity"] and m["size"] > 30)]


# --- the age of data --------------------------------------------------------------------------------------------


def test_data_is_old_after_three_usual_intervals_between_a_day_and_a_year() -> None:
    def every(interval: timedelta, count: int = 12) -> list[datetime]:
        return [datetime(2020, 1, 1) + n * interval for n in range(count)]

    assert old_after([]) == old_after(every(timedelta(days=1), 2)) == timedelta(days=30)
    assert old_after(every(timedelta(hours=1))) == timedelta(days=1)
    assert old_after(every(timedelta(days=7))) == timedelta(days=21)
    assert old_after(every(timedelta(days=182))) == timedelta(days=365)
    late_once = [*every(timedelta(days=1)), datetime(2020, 6, 1)]
    assert old_after(late_once) == timedelta(days=3)


def test_nothing_is_green_beside_data_that_is_old() -> None:
    document = report_document(runs=[], quarantine=[])
    document["status"]["tables"] = document["status"]["tables"][:1]
    document["status"]["models"] = []
    document["data_age"] = [document["data_age"][0] | {"seconds": 366 * 86400, "is_old": True}]

    page = render(document, "en")
    assert TEXTS["nothing_waits"][0] not in page
    assert "clientes: data of 2025-10-04 09:56 UTC, 12 months before this report" in page
    assert '<dd class="old">' in page
    assert 'class="status old"' in page and 'class="status current"' not in page
    css = (PACKAGE / "page" / "page.css").read_text()
    green = re.findall(r"^(.*?)\{[^}]*background: var\(--inserted\)", css, re.MULTILINE)
    assert [selector.strip() for selector in green] == [".status.current::before"]

    document["data_age"][0]["is_old"] = False
    page = render(document, "en")
    assert TEXTS["nothing_waits"][0] in page and 'class="status current"' in page


def test_what_is_true_of_several_tables_is_one_line() -> None:
    document = report_document(runs=[], quarantine=[])
    table, age = document["status"]["tables"][0], document["data_age"][0] | {"seconds": 366 * 86400, "is_old": True}
    names = ("clientes", "produtos", "transacoes")
    document["status"]["tables"] = [table | {"table": name, "overdue_seconds": 7200} for name in names]
    document["data_age"] = [age | {"table": name} for name in names]
    document["data_age"][2]["seconds"] = 800 * 86400

    page = render(document, "en")

    assert '<li class="late">clientes, produtos: data of' in page
    assert '<li class="late">transacoes: data of' in page
    assert '<li class="late">clientes, produtos, transacoes: overdue by 2 hours</li>' in page


def test_a_snapshot_that_is_not_ready_needs_attention() -> None:
    document = report_document()
    message = "20250103_000000 is not ready: no _SUCCESS; 2 later ones wait"
    document["status"] = document["status"] | {"not_ready": {"message": message}}

    assert f"source: {message}" in render(document, "en")
    assert f"fonte: {message}" in render(document, "pt")


def test_missing_keys_have_columns_only_if_a_table_keeps_them() -> None:
    document = report_document()
    without = sheets.freshness(document, Words("en"))
    document["status"]["tables"][0] |= {"missing": 3, "missing_since": "2025-10-01T00:00:00Z"}

    table = sheets.freshness(document, Words("en"))

    headings = ["Missing keys", "First missing since"]
    assert [name for name, _ in table["columns"][-2:]] == headings
    assert table["rows"][0][-2:] == [3, "2025-10-01T00:00:00Z"]
    assert not {*headings} & {name for name, _ in without["columns"]}


def test_keys_in_which_a_feed_was_wrong_have_columns_only_if_a_snapshot_looked() -> None:
    document = report_document()
    without = sheets.freshness(document, Words("en"))
    drift = {"snapshot_time": "2025-10-01T00:00:00Z", "keys": 3, "note": "the feed was wrong in 3 keys"}
    document["status"]["tables"][0] |= {"drift": drift}

    table = sheets.freshness(document, Words("en"))

    headings = ["Keys wrong in the feed", "By the snapshot of"]
    assert [name for name, _ in table["columns"][-2:]] == headings
    assert [row[-2:] for row in table["rows"][:2]] == [[3, "2025-10-01T00:00:00Z"], [None, None]]
    assert not {*headings} & {name for name, _ in without["columns"]}


# --- changed rows -----------------------------------------------------------------------------------------------


def test_changed_rows_have_a_line_for_each_changed_column_with_its_values_before_and_after() -> None:
    (table,) = report_document()["changed_rows"]["tables"]
    shown = sheets.changed_rows(table["snapshots"][0], table["kinds"], Words("en"))

    assert shown["rows"][1:4] == [
        ["updated", "id: 1", "n", "3", "4"],
        ["updated", "id: 1", "x", "", "{{ 7 * 7 }} {% raw %} ${window.pwned = 1}"],
        ["updated", "id: 2", "at", "(not found)", "2025-10-03 17:05 UTC"],
    ]
    assert shown["rows"][0][2:] == ["(the row)", None, f"{IMAGE}: a\"b'c` & <b> · n: 1 · x: —"]
    deleted = shown["rows"][4]
    assert deleted[3].startswith("email: *** · x: yyy") and deleted[3].endswith("... (500 characters)")
    assert shown["note"] == "updated: 2 of 34"


def test_a_change_set_that_cannot_be_read_is_mentioned() -> None:
    assert TEXTS["no_changed_rows"][1] in render(report_document(), "pt")


def test_the_glossary_explains_every_status_and_strategy() -> None:
    for language in ("en", "pt"):
        terms = " ".join(term for term, _ in glossary(Words(language)))
        words = {"accepted", "unchanged", "held", "rejected", "row-wise", "lookup", "grouped", "windowed", "full"}
        assert {word for word in words if word not in terms} == set()


def test_the_reason_of_a_decision_comes_before_its_counts() -> None:
    headings = [name for name, _ in sheets.decisions(report_document(), Words("en"))["columns"]]

    assert headings[:5] == ["table", "snapshot", "status", "reason", "sequence"]


# --- in a notebook ----------------------------------------------------------------------------------------------


def test_a_notebook_shows_the_page_in_a_frame_that_may_run_scripts_and_nothing_else() -> None:
    page = report.Page("shop", render(report_document(), "en"), {"tables": 2})
    frame = Elements(page._repr_html_())

    assert frame.names == ["iframe"]
    attributes = dict(frame.attributes)
    assert attributes["srcdoc"] == page.html
    assert attributes["sandbox"] == "allow-scripts"
    assert repr(page) == "<report of shop: 2 tables>"


def test_a_page_is_saved_to_a_file(tmp_path: Path) -> None:
    page = report.Page("shop", "<p>ção</p>", {})

    assert page.save(tmp_path / "new" / "r.html").read_text(encoding="utf-8") == "<p>ção</p>"
    with pytest.raises(ConfigError):
        page.save(tmp_path)


def test_the_module_is_the_function_for_notebooks() -> None:
    assert callable(lakehouse.report)
    with pytest.raises(ConfigError, match="no_such_table"):
        lakehouse.report(str(LOYALTY), "no_such_table")


# --- the page ---------------------------------------------------------------------------------------------------


class Elements(html.parser.HTMLParser):
    """The elements of a page and the texts between them, as a browser parses them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.mark.parametrize("language", ["en", "pt"])
def test_data_is_text_in_the_page_and_adds_no_elements_or_scripts(language: Any) -> None:
    page = Elements(render(report_document(), language))

    assert set(HOSTILE) <= set(page.texts)
    assert not {"img", "iframe", "object", "b1"} & set(page.names)
    assert page.names.count("script") == 1 + 2 + 7  # settings, Vega and the page's own, the charts' specifications
    assert [name for name, _ in page.attributes if name.startswith("on")] == []
    addresses = [value for name, value in page.attributes if name in ("src", "href")]
    assert all(value and value.startswith(("#", "data:")) for value in addresses)


def test_a_page_has_no_control_character_of_a_name_or_value() -> None:
    def with_controls(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: with_controls(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [with_controls(inner) for inner in value]
        return value.replace("<", "\x1b\u202e\x9b<") if isinstance(value, str) else value

    page = Elements(render(with_controls(report_document()), "en"))

    assert [text for text in page.texts if {"\x1b", "\u202e", "\x9b"} & set(text) and "vega" not in text] == []
    assert any("\\x1b\\u202e\\x9b" in text for text in page.texts)


def test_the_data_of_a_specification_is_complete_and_cannot_end_its_script() -> None:
    page = render(report_document(), "en")

    specifications = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert len(specifications) == 7
    values = {row.get("d") for text in specifications for rows in json.loads(text)["datasets"].values() for row in rows}
    assert set(HOSTILE) <= values


def test_a_column_name_that_looks_like_a_vega_expression_is_only_a_title() -> None:
    shown = report_document()
    shown["cubes"][0]["charts"][0]["measures"][0]["name"] = "a['b'].c"
    page = render(shown, "en")

    texts = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    fields = set(re.findall(r'"field": "([^"]*)"', " ".join(texts)))
    assert fields == {"t", "d", "v", "m0", "m1", "k", "n", "when"}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_texts_and_drawings_have_enough_contrast_in_both_themes(scheme: int) -> None:
    css = (PACKAGE / "page" / "page.css").read_text(encoding="utf-8")
    pairs = re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", css)
    light = {name: _luminance(colours[scheme]) for name, *colours in pairs}

    least = dict.fromkeys(("ink", "muted", "accent", "inserted", "updated", "deleted"), 4.5)
    least |= {f"series-{n}": 3.0 for n in range(1, 13)}
    papers = ("paper", "raised")
    contrast = {(n, p): _contrast(light[n], light[p]) for n in least for p in papers}
    assert {each: round(found, 2) for each, found in contrast.items() if found < least[each[0]]} == {}


def _luminance(colour: str) -> float:
    """Relative luminance by WCAG 2."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: float, other: float) -> float:
    return (max(one, other) + 0.05) / (min(one, other) + 0.05)


def test_the_same_document_gives_the_same_page() -> None:
    assert render(report_document(), "pt") == render(report_document(), "pt")


def test_the_page_of_an_empty_lake_reports_it_and_has_no_charts() -> None:
    page = render(empty_document(), "en")

    assert TEXTS["empty"][0] in page
    assert "lakehouse run conf/shop" in page
    assert len(page) < 60_000


# --- the command ------------------------------------------------------------------------------------------------


def test_missing_packages_are_named_with_the_command_that_installs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_REQUIRED_PACKAGES", ("altair", "a_package_that_is_not_there"))

    with pytest.raises(ConfigError, match="a_package_that_is_not_there") as error:
        report.report(open_run(LOYALTY))
    assert error.value.next_step == "pip install 'lakehouse[report]'"


def test_a_file_that_cannot_be_written_is_reported_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")

    for out in (tmp_path, tmp_path / "taken" / "report.html"):
        assert main(["report", str(LOYALTY), "--out", str(out)]) == ExitCode.USAGE
        assert str(out) in capsys.readouterr().err


def test_an_unknown_language_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(LOYALTY), "--lang", "de"]) == ExitCode.USAGE

    assert "'en', 'pt'" in capsys.readouterr().err


def test_the_description_of_a_cube_is_the_comment_at_the_start_of_its_sql() -> None:
    from lakehouse.report.shape import leading_comment

    assert leading_comment("-- One row\n-- a day.\n\n-- Not this.\nSELECT 1") == "One row a day."
    assert (
        leading_comment("-- Kinds:\n--\n--   A  the first\n--   B  the second\nSELECT 1")
        == "Kinds:\n\n  A  the first\n  B  the second"
    )
    assert leading_comment(f"SELECT 1 -- {IMAGE}") == ""
