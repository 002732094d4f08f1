"""Holds the queries of `model_queries`, to which tests/unit holds the resolver, to Spark's own analyzer."""

from __future__ import annotations

import re

import grammar
import model_queries
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import types as T
from sqlglot import exp

from lakehouse.config.ddl import parse_columns
from lakehouse.errors import ConfigError
from lakehouse.models.sql.plan import plan_model
from lakehouse.models.sql.resolve import base_relation, resolve_model
from lakehouse.spark.session import isolated_session


@pytest.fixture(scope="module")
def session(spark: SparkSession) -> SparkSession:
    session = isolated_session(spark)
    for name, ddl in model_queries.DDL.items():
        session.createDataFrame([], f"{ddl}, {model_queries.OWN_COLUMNS}").createOrReplaceTempView(f"queries_{name}")
    return session


def analyze(session: SparkSession, sql: str) -> DataFrame:
    try:
        plan = plan_model("silver.m", sql, ("id",), "silver/m.sql")
    except ConfigError:  # sqlglot cannot parse it
        return session.sql(sql.replace("bronze.", "queries_"))
    return session.sql(plan.sql_with_names({relation: f"queries_{relation[7:]}" for relation in plan.inputs}))


def test_spark_accepts_what_must_not_be_refused(session: SparkSession) -> None:
    refused = {}
    for sql in [*model_queries.GOOD, *(sql for sql, _, _ in model_queries.REFUSED + model_queries.TIES)]:
        try:
            analyze(session, sql)
        except AnalysisException as error:
            refused[sql] = error.getCondition()

    assert refused == {}


def test_spark_refuses_what_the_resolver_does(session: SparkSession) -> None:
    accepted = []
    for sql, _, _ in model_queries.BAD:
        try:
            analyze(session, sql)
        except AnalysisException:
            continue
        accepted.append(sql)

    assert accepted == []


def test_known_names_and_types_of_results_are_those_of_spark(session: SparkSession) -> None:
    relations = {
        f"bronze.{name}": base_relation(
            f"bronze.{name}",
            [(c.name, c.canonical_type) for c in parse_columns(f"{ddl}, {model_queries.OWN_COLUMNS}")],
        )
        for name, ddl in model_queries.DDL.items()
    }
    wrong, known_types = [], 0
    for sql in [*model_queries.GOOD, *(sql for sql, _, _ in model_queries.REFUSED)]:
        result = resolve_model(plan_model("silver.m", sql, ("id",), "m.sql"), relations, "m.sql").result
        if result.is_open:
            continue
        schema = analyze(session, sql).schema
        wrong += [(sql, "width")] * (len(schema) != len(result.columns))
        for found, field in zip(result.columns, schema, strict=False):
            if found.name is not None and found.name != field.name:
                wrong.append((sql, f"{found.name} is {field.name}"))
            if found.type is not None:
                known_types += 1
                if _kind(found.type) != _kind(field.dataType):
                    wrong.append((sql, f"{found.name}: {found.type.sql('spark')} is {field.dataType.simpleString()}"))

    assert wrong == []
    assert known_types > 300


def _kind(data_type: exp.DataType | T.DataType) -> str:
    """Return the first word of a type; of arrays and structs also those of their parts."""
    text = data_type.sql("spark") if isinstance(data_type, exp.DataType) else data_type.simpleString()
    plain = re.sub(r"\(.*?\)|\bcollate \w+|(?<=interval)[a-z ]+", "", text.lower()).strip()
    plain = "void" if plain == "null" else plain
    is_map = plain.startswith("map")
    return "map" if is_map else re.sub(r"\bmap<.*?>|\bmap\b", "map", plain.replace(": ", ":").replace(", ", ","))


NAMES = re.compile(r"(?<=\.)(?:id|day|shop|item|amount|qty|name|kind|since|sale|label|price|at|[xmwg]\d+)\b")


@st.composite
def models_with_a_typo(draw: grammar.Draw) -> str:
    """Return a model in which one column is read under a name that some table has, or none."""
    sql = draw(grammar.models()).sql
    places = [found.span() for found in NAMES.finditer(sql)]
    start, end = draw(st.sampled_from(places))
    return f"{sql[:start]}{draw(st.sampled_from(['qty', 'shop', 'x0', 'day', 'nada']))}{sql[end:]}"


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(sql=models_with_a_typo())
def test_a_typo_in_a_random_model_is_refused_only_if_spark_refuses_it(session: SparkSession, sql: str) -> None:
    relations = {
        name: base_relation(name, [(c.name, c.canonical_type) for c in parse_columns(ddl)], (frozenset(["id"]),))
        for name, ddl in grammar.DDL.items()
    }
    for name, ddl in grammar.DDL.items():
        session.createDataFrame([], ddl).createOrReplaceTempView(f"random_{name[7:]}")
    plan = plan_model("gold.m", sql, ("x0",), "m.sql", grammar.KEYS)
    faults = [fault for fault in resolve_model(plan, relations, "m.sql").faults if " tied" not in fault.found]
    try:
        session.sql(plan.sql_with_names({relation: f"random_{relation[7:]}" for relation in plan.inputs}))
        is_accepted = True
    except AnalysisException as error:
        is_accepted = False
        unresolved = (error.getCondition() or "").startswith("UNRESOLVED_COLUMN")
        assert faults or not unresolved, sql  # every name that Spark cannot find is found without it
    assert not (faults and is_accepted), (sql, faults)
