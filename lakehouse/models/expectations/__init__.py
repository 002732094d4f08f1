"""Evaluates the expectations of a model on the rows of a refresh. The entry point is `evaluate`.

    row_rules.py    marks each row with the row rules that it does not meet
    evaluation.py   evaluates the rows once: rejected rows do not reach the table; if a rule with `on_fail: fail` is not
                    met, nothing is written; else the model's quarantine is written, and then the table
    table_rules.py  evaluates the rules about the whole table, on the table as the refresh would leave it
    freshness.py    evaluates a model of which no row changed: only the time can break a rule
    results.py      records the result of each rule in `<lake>/quality/results`

The rules `warn` and `fail`, and the rules about the whole table, apply to the rows that are not rejected. A refresh
evaluates the rows of the affected keys only. The number of other rows that do not meet a rule is in the state that the
model's last commit records (`failing`): a rule that all of them met needs no second evaluation; another is evaluated
on the whole table.
"""

from lakehouse.models.expectations.evaluation import evaluate, is_evaluation_needed
from lakehouse.models.expectations.freshness import evaluate_unchanged, is_freshness_due
from lakehouse.models.expectations.results import (
    FAILED,
    ExpectationsNotMet,
    RuleResult,
    from_state,
    latest_results,
    read_latest_results,
    record_results,
    without_recorded,
)
from lakehouse.models.expectations.row_rules import RowRuleEvaluator

__all__ = [
    "FAILED",
    "ExpectationsNotMet",
    "RowRuleEvaluator",
    "RuleResult",
    "evaluate",
    "evaluate_unchanged",
    "from_state",
    "is_evaluation_needed",
    "is_freshness_due",
    "latest_results",
    "read_latest_results",
    "record_results",
    "without_recorded",
]
