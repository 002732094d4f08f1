"""What is expected of a model, held against the rows that a refresh has computed, before any of them is written.

    marked     each row with the names of the row rules that it does not meet                        marks.py
    judge      the rows of a refresh, computed once and judged: those that `drop` and `quarantine`
               take out do not reach the table, nor stay in it; if a rule that says `fail` is not
               met, nothing of the model is written, else its quarantine, and then it                judge.py
    Resulting  the table as it would be, for the rules about the model as a whole                    whole.py
    at_rest    what time alone does to a model of which no row changed                               task.py
    refers     whether changes of a table matter to the rows that refer to it                        refers.py
    record     what came of each rule, in `<lake>/quality/results`                                   results.py

`warn` and `fail`, and the rules about the model as a whole, are about the rows that are left. A refresh judges the rows
of the keys that it touches. What the others came to is in the state that the model's last commit carries (`failing`): a
rule that all of them met needs no second look, one that some did not is counted over the whole table.
"""

from lakehouse.models.expectations.context import (
    EvaluationContext,
    ExpectationsNotMet,
    evaluate_unchanged,
    full_refresh_reason,
    is_freshness_due,
)
from lakehouse.models.expectations.evaluation import evaluate
from lakehouse.models.expectations.references import ReferencedRelation
from lakehouse.models.expectations.references import full_refresh_reason as why_refers
from lakehouse.models.expectations.results import FAILED, RuleResult, latest_results, record_results
from lakehouse.models.expectations.row_rules import quarantined_rows, remaining_rows

__all__ = [
    "FAILED",
    "EvaluationContext",
    "ExpectationsNotMet",
    "ReferencedRelation",
    "RuleResult",
    "evaluate",
    "evaluate_unchanged",
    "full_refresh_reason",
    "is_freshness_due",
    "latest_results",
    "quarantined_rows",
    "record_results",
    "remaining_rows",
    "why_refers",
]
