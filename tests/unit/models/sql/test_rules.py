"""Parsing expectations into rules, without Spark."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lakehouse.config.expect import KINDS, Expectation
from lakehouse.errors import ConfigError
from lakehouse.models.sql.rules import Rule, digest_rules, parse_rules


def parse_rule(**spec: Any) -> Rule:
    (rule,) = parse_rules("silver.m", {"e": Expectation.model_validate(spec)}, "pipeline.yml")
    return rule


@pytest.mark.parametrize(
    ("spec", "condition"),
    [
        ({"check": "x > 0 -- above"}, "(\nx > 0 -- above\n)"),
        ({"not_null": ["x", "z z"]}, "(`x` IS NOT NULL) AND (`z z` IS NOT NULL)"),
        (
            {"values": {"x": ["it's"], "y": [True]}},
            r"(`x` IS NULL OR `x` IN ('it\'s')) AND (`y` IS NULL OR `y` IN (TRUE))",
        ),
        ({"values": {"x": [1, -2.5]}}, "(`x` IS NULL OR `x` IN (1, -2.5))"),
        ({"values": {"x": []}}, "(`x` IS NULL OR `x` IN (NULL))"),
        (
            {"range": {"x": {"min": -1, "max": 2}, "y": {"max": "2025-01-01"}}},
            "(`x` IS NULL OR `x` >= -1) AND (`x` IS NULL OR `x` <= 2) AND (`y` IS NULL OR `y` <= '2025-01-01')",
        ),
    ],
)
def test_a_row_rule_becomes_a_condition_that_is_true_for_rows_that_meet_it(
    spec: dict[str, Any], condition: str
) -> None:
    rule = parse_rule(**spec)

    assert (rule.condition, rule.on_fail, rule.can_reject_rows, rule.is_table_rule) == (
        condition,
        "quarantine",
        True,
        False,
    )


@pytest.mark.parametrize(
    ("spec", "description"),
    [
        ({"unique": ["x", "y"]}, "x, y unique"),
        ({"rows": {"min": 1, "max": 5000, "max_change": 0.5}},
         "rows: at least 1, at most 5,000, at most 50 % more or fewer than before"),
        ({"freshness": {"column": "y", "within": "2d"}}, "y within 2d of :as_of"),
    ],
)  # fmt: skip
def test_a_table_rule_warns_unless_on_fail_is_fail(spec: dict[str, Any], description: str) -> None:
    rule = parse_rule(**spec)

    assert (rule.description, rule.on_fail, rule.is_table_rule) == (description, "warn", True)
    assert parse_rule(**spec, on_fail="fail").on_fail == "fail"


def test_a_reference_has_a_relation_and_one_column_of_it_for_each_of_its_own() -> None:
    rule = parse_rule(reference={"x": "silver.p.id", "y": "silver.p.day"})

    assert (rule.columns, rule.referenced_relation, rule.referenced_columns) == (("x", "y"), "silver.p", ("id", "day"))


@pytest.mark.parametrize("check", ["X > 0 AND `Z Z` IS NULL", "exists(y, q -> q > x)", "y.field = 1", "x <= :as_of"])
def test_a_check_is_described_by_its_text(check: str) -> None:
    assert parse_rule(check=check).description == check


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"check": "COUNT(x) > 0"}, "uses COUNT, which is not known to be a function of one row"),
        ({"check": "SUM(x) OVER (PARTITION BY y) > 0"}, "uses SUM, which is not known to be"),
        ({"check": "x < now()"}, "uses now: the same inputs would not always give the same rows"),
        ({"check": "x < current_date"}, "uses current_date"),
        ({"check": "x <= :asof"}, "uses :asof"),
        ({"check": "x > 0; y > 0"}, "is not a condition"),
        ({"check": "x IN (SELECT 1)"}, "is not a condition"),
        ({"check": "SELECT 1"}, "is not a condition"),
        ({"check": "1 = 1) OR (1 = 1"}, "cannot be parsed"),
        ({"reference": {"x": "clientes.id"}}, "refers to clientes.id"),
        ({"reference": {"x": "silver.p.id", "y": "silver.q.id"}}, "refers to silver.p.id, silver.q.id"),
    ],
)
def test_an_invalid_condition_is_refused_with_the_model_and_the_rule(spec: dict[str, Any], found: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_rule(**spec)
    assert refused.value.found.startswith("silver.m's expectation e ")
    assert found in refused.value.found
    assert refused.value.where.startswith("pipeline.yml")


@pytest.mark.parametrize(
    "other",
    [
        {"check": "x > 1"},
        {"check": "x > 0", "on_fail": "warn"},
        {"range": {"x": {"min": 0}}},
    ],
)
def test_a_changed_rule_has_another_digest(other: dict[str, Any]) -> None:
    first = parse_rule(check="x > 0")

    assert digest_rules([first]) == digest_rules([parse_rule(check="x > 0", on_fail="quarantine")])
    assert digest_rules([first]) != digest_rules([parse_rule(**other)])


def test_the_examples_of_the_guide_are_valid_and_have_every_kind() -> None:
    guide = (Path(__file__).parents[4] / "docs/guide/expectations.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)
    expect = yaml.safe_load(text)["silver"]["clientes"]["expect"]

    specs = {name: Expectation.model_validate(spec) for name, spec in expect.items()}
    found = parse_rules("silver.clientes", specs, "pipeline.yml")

    assert [rule.kind for rule in found] == [kind for kind in KINDS if kind in {rule.kind for rule in found}]
    assert {rule.kind for rule in found} == set(KINDS)
    assert {rule.on_fail for rule in found} == {"warn", "drop", "quarantine", "fail"}
