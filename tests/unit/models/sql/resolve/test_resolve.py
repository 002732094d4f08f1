"""Names, types and functions of models, resolved without Spark: what is accepted, what is refused, and where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grammar
import model_queries
import pytest
import sqlglot
from hypothesis import given, settings

from lakehouse import config
from lakehouse.cli import main
from lakehouse.config.ddl import parse_columns
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.models.sql import calls, functions, pipeline_plans
from lakehouse.models.sql.plan import Plan, plan_model
from lakehouse.models.sql.resolve import base_relation, bronze_relation, lineage, resolve_model, resolve_pipeline


def write(folder: Path, models: dict[str, str], **changes: Any) -> Path:
    """Write a pipeline over the tables of `model_queries`, with keys [id] unless `changes` gives a model."""
    tables = {
        name: {"file": f"{name}.json", "format": "json", "schema": ddl, "keys": model_queries.KEYS[name]}
        for name, ddl in model_queries.DDL.items()
    }
    document: dict[str, Any] = {
        "name": "shop",
        "lake": str(folder / "lake"),
        "source": {"type": "files", "path": str(folder)},
        "tables": tables,
        "silver": {},
        "gold": {},
    }
    for name, sql in models.items():
        layer, short = name.split(".")
        document[layer][short] = {"keys": ["id"]} | changes.pop(short, {})
        (folder / layer).mkdir(exist_ok=True)
        (folder / layer / f"{short}.sql").write_text(sql, encoding="utf-8")
    (folder / "pipeline.yml").write_text(json.dumps(document | changes, indent=1), encoding="utf-8")
    return folder


def plan(folder: Path, models: dict[str, str] | str, **changes: Any) -> dict[str, Plan]:
    named = {"silver.m": models} if isinstance(models, str) else models
    return pipeline_plans.plan_pipeline(config.load(write(folder, named, **changes)))


def refusal(folder: Path, models: dict[str, str] | str, **changes: Any) -> ConfigError:
    with pytest.raises(ConfigError) as refused:
        plan(folder, models, **changes)
    return refused.value


@pytest.mark.parametrize("sql", model_queries.GOOD)
def test_a_valid_query_is_never_refused(tmp_path: Path, sql: str) -> None:
    assert plan(tmp_path, sql)["silver.m"].keys == ("id",)


def assert_refused(folder: Path, sql: str, message: str, at: str) -> None:
    error = refusal(folder, sql)

    assert message in error.to_text()
    assert error.found.startswith("silver.m ")
    file, line, column = error.where.rsplit(":", 2)
    assert file == str(folder / "silver" / "m.sql")
    assert sql.split("\n")[int(line) - 1][int(column) - 1 :].startswith(at)


@pytest.mark.parametrize(("sql", "message", "at"), model_queries.BAD)
def test_what_spark_would_refuse_is_refused_with_its_place(tmp_path: Path, sql: str, message: str, at: str) -> None:
    assert_refused(tmp_path, sql, message, at)


@pytest.mark.parametrize(("sql", "message", "at"), model_queries.REFUSED + model_queries.TIME)
def test_a_result_that_a_table_cannot_have_is_refused_with_its_place(
    tmp_path: Path, sql: str, message: str, at: str
) -> None:
    assert_refused(tmp_path, sql, message, at)


@pytest.mark.parametrize(("sql", "message", "at"), model_queries.TIES)
def test_a_window_that_leaves_ties_is_refused_with_the_column_to_add(
    tmp_path: Path, sql: str, message: str, at: str
) -> None:
    assert_refused(tmp_path, sql, message, at)


@settings(max_examples=150, derandomize=True, deadline=None)
@given(grammar.models())
def test_no_random_model_is_refused(model: grammar.Model) -> None:
    """The grammar's models are valid: tests/lake computes such models with Spark."""
    relations = {
        name: base_relation(name, [(c.name, c.canonical_type) for c in parse_columns(ddl)], (frozenset(["id"]),))
        for name, ddl in grammar.DDL.items()
    }
    found = resolve_model(plan_model("gold.m", model.sql, model.keys, "m.sql", grammar.KEYS), relations, "m.sql")

    assert found.faults == ()
    assert found.result.names == sqlglot.parse_one(model.sql, read="spark").named_selects


# --- several models ---------------------------------------------------------------------------------------------------


def test_a_model_is_resolved_against_the_results_of_those_before_it(tmp_path: Path) -> None:
    models = {
        "silver.a": "SELECT t.id AS id, t.nome AS cliente, struct(t.n AS pontos) AS s FROM bronze.t AS t",
        "gold.b": "SELECT a.id AS id, a.client AS c FROM silver.a AS a",
        "gold.c": "SELECT a.id AS id, a.s.ponto AS p FROM silver.a AS a",
    }
    error = refusal(tmp_path, models)

    first, second = error.found.split("\n")
    assert first.startswith(f"{tmp_path}/gold/b.sql:1:20 gold.b reads a.client")
    assert first.endswith('did you mean "cliente"?')
    assert second.startswith(f"{tmp_path}/gold/c.sql:1:20 gold.c reads a.s.ponto")
    assert "pontos" in second


def test_all_faults_of_all_models_are_reported_at_once(tmp_path: Path) -> None:
    models = {
        "silver.a": "SELECT t.id AS id, t.nmoe AS x, uper(t.uf) AS u FROM bronze.t AS t",
        "silver.b": "SELECT t.id AS id, t.nome AS x FROM bronze.t AS t",
    }
    error = refusal(tmp_path, models, a={"keys": ["id", "xx"]}, b={"keys": ["idd"]})

    lines = error.found.split("\n")
    assert [line.partition(" ")[0].removeprefix(f"{tmp_path}/").rpartition(":")[0] for line in lines] == [
        "silver/a.sql:1",
        "silver/a.sql:1",
        "pipeline.yml",
        "pipeline.yml",
    ]
    assert 'did you mean "upper"?' in lines[1]
    assert [line for line in lines if 'the key idd, which its SQL does not select; did you mean "id"?' in line]


def location(error: ConfigError, folder: Path, text: str) -> None:
    """Assert that an error names the line of pipeline.yml that has a text."""
    file, _, line = error.where.rpartition(":")
    assert file == str(folder / "pipeline.yml")
    assert text in (folder / "pipeline.yml").read_text(encoding="utf-8").split("\n")[int(line) - 1]


SELECT = "SELECT t.id AS id, t.nome AS nome, t.s AS s, t.n AS n FROM bronze.t AS t"
STAR = "SELECT * FROM bronze.t"


@pytest.mark.parametrize("sql", [SELECT, STAR])
def test_a_mistyped_key_is_refused_with_its_line(tmp_path: Path, sql: str) -> None:
    error = refusal(tmp_path, sql, m={"keys": ["id", "noem"]})

    assert error.found == 'silver.m has the key noem, which its SQL does not select; did you mean "nome"?'
    location(error, tmp_path, '"noem"')


@pytest.mark.parametrize("sql", [SELECT, STAR])
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"check": "noem <> ''"}, 'did you mean "nome"?'),
        ({"check": "s.ff > 0"}, "has no field ff"),
        ({"check": "upper(nome, 'x') = 'A'"}, "with 2 arguments"),
        ({"not_null": ["noem"]}, 'did you mean "nome"?'),
        ({"unique": ["noem"]}, 'did you mean "nome"?'),
        ({"range": {"nn": {"min": 1}}}, 'did you mean "n"?'),
        ({"reference": {"nome": "bronze.u.nom"}}, 'did you mean "nome"?'),
    ],
)
def test_a_mistyped_column_of_an_expectation_is_refused_with_its_line(
    tmp_path: Path, sql: str, rule: dict[str, Any], message: str
) -> None:
    error = refusal(tmp_path, sql, m={"keys": ["id"], "expect": {"regra": rule}})

    assert "silver.m's expectation regra" in error.found
    assert message in error.to_text()
    location(error, tmp_path, '"regra"')


@pytest.mark.parametrize("sql", [SELECT, STAR])
def test_an_expectation_may_name_every_column_fields_of_structs_and_bronzes_own_columns(
    tmp_path: Path, sql: str
) -> None:
    rules: dict[str, Any] = {
        "a": {"check": "s.f > 0 AND S.g.h <> '' AND NOME IS NOT NULL"},
        "b": {"check": "exists(array(1, n), x -> x > id)"},
        "c": {"reference": {"id": "bronze.u._cdc_sequence"}},
    }

    assert len(plan(tmp_path, sql, m={"keys": ["ID"], "expect": rules})["silver.m"].rules) == 3


def test_a_mistyped_table_is_refused_with_its_place(tmp_path: Path) -> None:
    error = refusal(tmp_path, "SELECT t.id\nFROM bronze.tt AS t")

    assert 'did you mean "bronze.t"?' in error.found
    assert error.where == f"{tmp_path}/silver/m.sql:2:6"


def test_a_syntax_error_has_its_place_and_no_colours(tmp_path: Path) -> None:
    error = refusal(tmp_path, "SELECT t.id,\n  CASE WHEN FROM bronze.t AS t")

    assert error.where.startswith(f"{tmp_path}/silver/m.sql:2:")
    assert error.found.isprintable()


# --- bronze -----------------------------------------------------------------------------------------------------------


def test_bronze_has_the_columns_as_they_are_stored(tmp_path: Path) -> None:
    table = {
        **{
            "file": "p.csv",
            "format": "csv",
            "schema": "id STRING, mail STRING, fone BIGINT, cpf STRING",
            "keys": ["id"],
        },
        **{"pii": {"mail": "hmac", "fone": "mask", "cpf": "drop"}, "scd": 2},
    }
    sql = "SELECT p.id, p.mail, p.fone, p.__START_AT, p.__END_AT, p._cdc_sequence FROM bronze.p AS p"
    tables = {"p": table}
    plan(tmp_path, sql, tables=tables, pii_key="k" * 32)
    stored = bronze_relation("bronze.p", config.load(tmp_path).tables["p"])

    assert [(c.name, c.type.sql("spark")) for c in stored.columns if c.type][:4] == [
        ("id", "STRING"),
        ("mail", "STRING"),
        ("fone", "STRING"),
        ("_cdc_operation", "STRING"),
    ]
    assert stored.keys == (frozenset({"id", "__start_at"}), frozenset({"id", "__end_at"}))
    assert "cpf" in refusal(tmp_path, "SELECT p.id, p.cpf FROM bronze.p AS p", tables=tables, pii_key="k" * 32).found
    assert "__START_AT" in refusal(tmp_path, "SELECT t.id, t.__START_AT FROM bronze.t AS t").found


def test_the_open_windows_of_a_history_are_unique_by_the_keys(tmp_path: Path) -> None:
    table = {"file": "h.csv", "format": "csv", "schema": "id STRING, uf STRING", "keys": ["id"], "scd": 2}
    number = "row_number() OVER (PARTITION BY h.uf ORDER BY h.id) AS rn"
    sql = f"SELECT h.id, h._cdc_sequence AS s, {number} FROM bronze.h AS h"

    assert plan(tmp_path, f"{sql} WHERE h.__END_AT IS NULL", tables={"h": table})["silver.m"].keys == ("id",)
    assert "add h.__START_AT to its ORDER BY" in refusal(tmp_path, sql, tables={"h": table}).next_step


# --- lineage ----------------------------------------------------------------------------------------------------------


def test_lineage_follows_columns_to_bronze_without_a_lake(tmp_path: Path) -> None:
    models = {
        "silver.a": "SELECT t.id AS id, t.n * 2 AS dobro, e.tag AS tag, (SELECT max(u.city) FROM bronze.u AS u) AS city"
        " FROM bronze.t AS t LATERAL VIEW explode(t.tags) e AS tag",
        "silver.b": "SELECT * EXCEPT (tag) FROM silver.a UNION ALL SELECT id, n, nome FROM bronze.t",
        "gold.c": "WITH x AS (SELECT b.id AS id, b.dobro AS d, b.city FROM silver.b AS b) "
        "SELECT x.id AS id, SUM(x.d) + COUNT(x.city) AS total, 7 AS sete FROM x GROUP BY x.id",
    }
    pipeline = config.load(write(tmp_path, models))
    resolved = resolve_pipeline(pipeline, pipeline_plans.plan_pipeline(pipeline))

    assert lineage(resolved) == {
        "silver.a": {
            "id": (("bronze.t", "id"),),
            "dobro": (("bronze.t", "n"),),
            "tag": (("bronze.t", "tags"),),
            "city": (("bronze.u", "city"),),
        },
        "silver.b": {
            "id": (("bronze.t", "id"),),
            "dobro": (("bronze.t", "n"),),
            "city": (("bronze.u", "city"), ("bronze.t", "nome")),
        },
        "gold.c": {
            "id": (("bronze.t", "id"),),
            "total": (("bronze.t", "n"), ("bronze.u", "city"), ("bronze.t", "nome")),
            "sete": (),
        },
    }


# --- warnings ---------------------------------------------------------------------------------------------------------

SAO_PAULO = "America/Sao_Paulo"


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        ("date_trunc('MONTH', t.at)", "from_utc_timestamp(t.at, :business_timezone)"),
        ("CAST(t.at AS DATE)", "CAST(from_utc_timestamp(t.at, :business_timezone) AS DATE)"),
        ("t.at::date", "from_utc_timestamp(t.at, :business_timezone)"),
        ("to_date(t.at)", "from_utc_timestamp(t.at, :business_timezone)"),
        ("day(at)", "from_utc_timestamp(at, :business_timezone)"),
        ("hour(t.at)", "from_utc_timestamp(t.at, :business_timezone)"),
        ("year(coalesce(t.at, t.at))", "from_utc_timestamp(t.at, :business_timezone)"),
        ("extract(DOW FROM t.at)", "from_utc_timestamp(t.at, :business_timezone)"),
        ("date_format(t.at, 'yyyy-MM')", "from_utc_timestamp(t.at, :business_timezone)"),
        ("CAST(t._cdc_timestamp AS DATE)", "from_utc_timestamp(t._cdc_timestamp, :business_timezone)"),
    ],
)
def test_a_day_of_an_instant_in_utc_is_a_warning_where_days_begin_elsewhere(
    tmp_path: Path, expression: str, advice: str
) -> None:
    sql = f"SELECT t.id AS id,\n  {expression} AS d FROM bronze.t AS t"
    (warning,) = plan(tmp_path, sql, business_timezone=SAO_PAULO)["silver.m"].warnings

    assert warning.startswith(f"{tmp_path}/silver/m.sql:2:")
    assert advice in warning
    assert plan(tmp_path, sql)["silver.m"].warnings == ()  # UTC
    assert len(plan(tmp_path, sql, timezone=SAO_PAULO)["silver.m"].warnings) == 1


@pytest.mark.parametrize(
    "expression",
    [
        "date_trunc('MONTH', from_utc_timestamp(t.at, :business_timezone))",
        "CAST(convert_timezone('UTC', 'America/Sao_Paulo', t.at) AS DATE)",
        "day(t.day)",
        "trunc(t.day, 'MM')",
        "CAST(t.seen AS DATE)",
        "year(t.seen)",
        "CAST(t.nome AS DATE)",
        "to_date(t.nome, 'yyyyMMdd')",
        "date_trunc('SECOND', t.at)",
        "extract(MINUTE FROM t.at)",
        "t.at",
    ],
)
def test_a_local_time_or_a_date_is_no_warning(tmp_path: Path, expression: str) -> None:
    sql = f"SELECT t.id AS id, {expression} AS d FROM bronze.t AS t"

    assert plan(tmp_path, sql, business_timezone=SAO_PAULO)["silver.m"].warnings == ()


def test_a_time_that_an_earlier_model_has_shifted_is_no_warning(tmp_path: Path) -> None:
    models = {
        "silver.a": "SELECT t.id AS id, from_utc_timestamp(at, :business_timezone) AS local, at FROM bronze.t AS t",
        "gold.b": "SELECT a.id AS id, CAST(a.local AS DATE) AS d FROM silver.a AS a",
        "gold.c": "SELECT a.id AS id, CAST(a.at AS DATE) AS d FROM silver.a AS a",
    }
    plans = plan(tmp_path, models, business_timezone=SAO_PAULO)

    assert {name: len(each.warnings) for name, each in plans.items()} == {"silver.a": 0, "gold.b": 0, "gold.c": 1}


@pytest.mark.parametrize(
    ("sql", "warns"),
    [
        ("SELECT t.id FROM bronze.t AS t ORDER BY t.n DESC LIMIT 3", True),
        ("SELECT t.id FROM bronze.t AS t LIMIT 3", True),
        ("SELECT uf AS id, sum(n) AS s FROM bronze.t GROUP BY uf ORDER BY s DESC LIMIT 3", True),
        ("SELECT t.id FROM bronze.t AS t ORDER BY t.n DESC, t.id LIMIT 3", False),
        ("SELECT uf AS id, sum(n) AS s FROM bronze.t GROUP BY uf ORDER BY s DESC, id LIMIT 3", False),
        ("SELECT max(id) AS id FROM bronze.t LIMIT 1", False),
        ("SELECT DISTINCT uf AS id FROM bronze.t ORDER BY id LIMIT 1", False),
        ("SELECT id FROM bronze.t UNION ALL SELECT id FROM bronze.u ORDER BY id LIMIT 3", False),
        ("SELECT id, uf FROM bronze.t UNION ALL SELECT id, city FROM bronze.u ORDER BY id LIMIT 3", True),
    ],
)
def test_a_limit_in_an_order_with_ties_is_a_warning(tmp_path: Path, sql: str, warns: bool) -> None:
    assert bool(plan(tmp_path, sql)["silver.m"].warnings) is warns


@pytest.mark.parametrize(
    ("aggregate", "instead"),
    [
        ("max_by(t.nome, t.at)", "MAX(STRUCT(t.at, t.nome)).nome"),
        ("min_by(upper(t.nome), t.at)", "MIN(STRUCT(t.at, UPPER(t.nome) AS x)).x, of rows whose t.at is not NULL"),
        ("concat(max_by(t.nome, t.at), '!')", "MAX(STRUCT(t.at, t.nome)).nome"),
        ("max_by(t.nome, t.at) FILTER (WHERE t.ok)", "MAX(STRUCT(t.at, t.nome)).nome"),
        ("collect_list(t.nome)", "array_sort(collect_list(t.nome))"),
        ("collect_set(t.nome)", "array_sort(collect_set(t.nome))"),
        ("listagg(t.nome, ',')", "listagg(...) WITHIN GROUP (ORDER BY t.nome)"),
        ("mode(t.nome)", "mode(t.nome, true)"),
        ("upper(mode(t.nome))", "mode(t.nome, true)"),
        ("mode(t.nome, true)", ""),
        ("mode() WITHIN GROUP (ORDER BY t.nome)", ""),
        ("max_by(t.nome, t.id)", ""),
        ("max_by(t.nome, struct(t.at, t.id))", ""),
        ("array_sort(collect_list(t.nome))", ""),
        ("size(collect_set(t.nome))", ""),
        ("listagg(t.nome, ',') WITHIN GROUP (ORDER BY t.nome)", ""),
        ("max(t.nome)", ""),
        ("max_by(t.at, t.at)", ""),
    ],
)
def test_an_aggregate_of_rows_in_no_defined_order_is_a_warning(tmp_path: Path, aggregate: str, instead: str) -> None:
    warnings = plan(tmp_path, f"SELECT t.uf AS id, {aggregate} AS x FROM bronze.t AS t GROUP BY t.uf")[
        "silver.m"
    ].warnings

    assert len(warnings) == bool(instead)
    assert all(warning.endswith(f"in an order that is not defined; write {instead}") for warning in warnings)
    by_key = f"SELECT t.id AS id, {aggregate} AS x FROM bronze.t AS t GROUP BY t.id"
    assert bool(plan(tmp_path, by_key)["silver.m"].warnings) is (bool(instead) and "_by" not in aggregate)
    totals = f"SELECT t.uf AS uf, GROUPING_ID() AS id, {aggregate} AS x FROM bronze.t AS t GROUP BY ROLLUP (t.uf)"
    assert len(plan(tmp_path, totals)["silver.m"].warnings) == bool(instead)


@pytest.mark.parametrize(
    ("call", "instead"),
    [("aes_encrypt(t.nome, 'k')", "'GCM', 'DEFAULT', iv"), ("hll_sketch_agg(t.nome)", "functions of the inputs alone")],
)
def test_a_function_with_several_results_for_the_same_rows_is_refused(tmp_path: Path, call: str, instead: str) -> None:
    with pytest.raises(ConfigError, match="the same inputs would not always give the same rows") as error:
        plan(tmp_path, f"SELECT t.uf AS id, {call} AS x FROM bronze.t AS t GROUP BY t.uf, t.nome")

    assert instead in str(error.value)


def test_an_unlisted_sql_file_and_a_warning_about_a_model_are_shown_by_validate_and_each_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"silver.m": SELECT, "silver.n": "SELECT t.id AS id FROM bronze.t AS t LIMIT 3"})
    (tmp_path / "gold").mkdir()
    (tmp_path / "gold" / "esquecido.sql").write_text("SELECT 1")

    assert main(["validate", str(tmp_path)]) == ExitCode.OK
    shown = capsys.readouterr()
    assert f"{tmp_path}/gold/esquecido.sql" in shown.err
    assert "never computed" in shown.err
    assert main(["validate", str(tmp_path), "--json"]) == ExitCode.OK
    assert len(json.loads(capsys.readouterr().out)["warnings"]) == 2
    for table in ("t", "u"):
        (tmp_path / f"{table}.json").write_text('{"id": 1}\n')
    assert main(["extract", str(tmp_path)]) == ExitCode.OK
    shown = capsys.readouterr()
    assert f"{tmp_path}/gold/esquecido.sql" in shown.err
    assert f"{tmp_path}/silver/n.sql:1:" in shown.err


@pytest.mark.parametrize("verb", ["validate", "run", "silver"])
def test_every_command_refuses_a_mistyped_column_before_it_starts(
    tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"silver.m": "SELECT t.id AS id, t.nmoe AS nome FROM bronze.t AS t"})

    assert main([verb, str(tmp_path)]) == ExitCode.USAGE
    shown = capsys.readouterr().err
    assert 'did you mean "nome"?' in shown
    assert f"{tmp_path}/silver/m.sql:1:20" in shown
    assert not (tmp_path / "lake").exists()


def test_other_functions_are_left_to_a_catalog(tmp_path: Path) -> None:
    sql = "SELECT t.id AS id, ai_query(t.nome) AS x FROM bronze.t AS t"
    lake = {"catalog": "main", "volume": "/Volumes/main/default/lake"}

    assert "ai_query" in refusal(tmp_path, sql).found
    assert plan(tmp_path, sql, lake=lake)["silver.m"].keys == ("id",)
    assert plan(tmp_path, sql.replace("ai_query", "main.default.score"))["silver.m"].keys == ("id",)


def test_a_model_that_is_nested_too_deeply_is_left_to_spark(tmp_path: Path) -> None:
    deep = " + ".join(["t.n"] * 3000)

    assert plan(tmp_path, f"SELECT t.id AS id, {deep} AS x FROM bronze.t AS t")["silver.m"].keys == ("id",)


# --- the list of functions --------------------------------------------------------------------------------------------


def test_every_function_that_models_may_use_is_one_of_spark() -> None:
    listed = functions.SCALAR | functions.AGGREGATES | functions.COLLECTING | functions.GROUPING | functions.WINDOW

    assert sorted(listed - calls.spark_functions().keys() - {"cast", "try_cast", "timestampadd", "timestampdiff"}) == []
