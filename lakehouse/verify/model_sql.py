"""Checks I3 and I4: a silver or gold table equals its SQL over all rows of its inputs, less the rejected rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.errors import ExitCode
from lakehouse.lake import delta, quarantine
from lakehouse.lake.marked_rows import live_rows
from lakehouse.models.expectations import RowRuleEvaluator
from lakehouse.models.failure import is_caused_by_values
from lakehouse.models.model import Model, run_model_query, with_relation_names
from lakehouse.spark.faults import read_fault
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake
from lakehouse.text import counted
from lakehouse.verify.check import Check, Claim, Side, compare_rows, quoted_column, to_json
from lakehouse.verify.checked_table import NO_SNAPSHOT, CurrentVersions
from lakehouse.verify.delta_history import DeltaHistory, check_no_rewrite

_INVARIANTS = {"silver": "I3", "gold": "I4"}
_MAX_EXAMPLES = 3


@dataclass(frozen=True)
class CheckedModel:
    """A model, its table, and the current versions of its inputs."""

    spark: SparkSession
    lake: Lake
    model: Model
    versions: CurrentVersions

    def with_spark(self, spark: SparkSession) -> CheckedModel:
        """Return the same model in another session."""
        return replace(self, spark=spark)

    @property
    def name(self) -> str:
        """The model's layer and name."""
        return self.model.name

    @property
    def address(self) -> str:
        """The address of the model's table."""
        return self.lake.table(self.name)

    @property
    def layer(self) -> str:
        """`silver` or `gold`."""
        return self.name.partition(".")[0]

    @property
    def version(self) -> TableVersion | None:
        """The current version of the model's table; None if there is no table."""
        return self.versions[self.name].result()

    @property
    def inputs(self) -> dict[str, TableVersion | None]:
        """The current version of each relation that the SQL or a rule reads."""
        return {relation: self.versions[relation].result() for relation in self.model.plan.dependencies}

    @property
    def lag_reason(self) -> str:
        """The reason why the table may differ from its SQL over its inputs, all of which exist; empty if it may not.

        The newest commit of this project counts, also if another writer has written since: its changes have to be
        found.
        """
        if self.version is None:
            return "it waits to be computed"
        recorded = next((c.metadata for c in self.version.commits if "inputs" in c.metadata), None)
        if recorded is None:
            return "no commit in its log states the inputs that it was computed from"
        arguments = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in self.model.arguments.items()}
        if recorded["sql"] != self.model.plan.sql_hash or recorded["arguments"] != arguments:
            return "its SQL, a parameter or an expectation changed, and it waits to be computed again"
        for relation, current in self.inputs.items():
            read = recorded["inputs"].get(relation)
            if current and (read is None or current.has_unread_changes(read["id"], read["version"])):
                read_version = read["version"] if read else None
                return f"changes wait: {relation} is at version {current.version}, read at {read_version}"
        return ""

    def claim(self, what: str) -> Claim:
        """Return a claim about the model's table."""
        return Claim(_INVARIANTS[self.layer], what, self.name)


def sql_checks(model: CheckedModel) -> Iterator[Check]:
    """Check that a model's table has the rows of its SQL less the rejected ones, and that quarantine has those."""
    same = model.claim(f"{model.layer} = its SQL")
    inputs = {relation: version for relation, version in model.inputs.items() if version is not None}
    if missing := [relation for relation in model.inputs if relation not in inputs]:
        yield same.not_checkable(f"{NO_SNAPSHOT}: there is no {', '.join(missing)}")
        return
    version, lag_reason = model.version, model.lag_reason
    if version is None or lag_reason:
        yield same.not_checkable(lag_reason)
        return

    def read(relation: str) -> DataFrame:
        return live_rows(relation, delta.read(model.spark, model.lake.table(relation), inputs[relation].version))

    plan = model.model.plan
    rows = run_model_query(model.spark, model.model, {relation: read(relation) for relation in plan.inputs})
    rules = RowRuleEvaluator(model.spark, plan, model.model.parameters, read)
    details = ", ".join(f"{relation} at version {version.version}" for relation, version in inputs.items())
    expected = Side("the SQL", rules.remaining_rows(rows))
    actual = Side(model.layer, delta.read(model.spark, model.address))
    try:
        check = compare_rows(same, expected, actual, details)
    except SPARK_ERRORS as error:
        # Which rows an expression is computed for depends on the plan: a refresh of few rows may not meet the value.
        if not is_caused_by_values(error):
            raise
        found = with_relation_names(read_fault(error).message)
        yield same.not_checkable(f"its SQL cannot be computed over all rows: {found}", ExitCode.REFUSED)
        return
    yield check
    if any(rule.on_fail == "quarantine" for rule in plan.rules):
        in_quarantine = quarantine.read_of_model(model.spark, model.lake, model.name, version.last_refresh_version)
        yield compare_rows(
            model.claim("quarantine = what expectations took out"),
            Side("the SQL", rules.quarantined_rows(rows).select("row", "rule").distinct()),
            Side("quarantine", in_quarantine.where("NOT resolved").select("row", "rule")),
            details,
        )


def key_checks(model: CheckedModel) -> Iterator[Check]:
    """Check that the keys of a model's table are unique, and that no commit rewrote an equal row."""
    version = model.version
    if version is None or any(current is None for current in model.inputs.values()):
        return
    table = delta.read(model.spark, model.address)
    claim, keys = model.claim("keys are unique"), list(model.model.plan.keys)
    counts = table.groupBy(*map(quoted_column, keys)).count()
    key_count, duplicated = counts.agg(F.count("*"), F.count_if(F.col("count") > 1)).collect()[0]
    if duplicated:
        rows = counts.where("count > 1").orderBy(*map(quoted_column, keys)).limit(_MAX_EXAMPLES)
        examples = "; ".join(row[0] for row in rows.select(to_json(keys)).collect())
        yield claim.fails(f"{counted(duplicated, 'key has', 'keys have')} more than one row: {examples}")
    else:
        yield claim.holds(counted(key_count, "key"))
    refreshes = {commit.version for commit in version.commits if commit.metadata and commit.changes_rows}
    yield check_no_rewrite(model.name, DeltaHistory(model.spark, model.address, version), refreshes, table.columns)
