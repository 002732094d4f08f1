"""A model beside its SQL, less what its expectations took out; and that in its quarantine."""

from __future__ import annotations

from collections.abc import Iterator

from pyspark.sql import DataFrame, SparkSession

from lakehouse.lake import delta, quarantine
from lakehouse.models import expectations
from lakehouse.models.refresh import Model, run_model_query
from lakehouse.storage.delta_log import TableVersion
from lakehouse.storage.paths import Lake
from lakehouse.verify.check import Check, Claim, compare_rows


def model_checks(
    spark: SparkSession, lake: Lake, model: Model, own: TableVersion, inputs: dict[str, TableVersion]
) -> Iterator[Check]:
    """A model that is at its inputs' newest versions, against all of them."""
    layer = model.name.partition(".")[0]
    invariant = "I3" if layer == "silver" else "I4"

    def read(relation: str) -> DataFrame:
        return delta.read(spark, lake.table(relation), inputs[relation].version)

    rows = run_model_query(spark, model, {relation: read(relation) for relation in model.plan.inputs})
    left = expectations.remaining_rows(spark, model.plan, model.parameters, rows, read)
    about = ", ".join(f"{r} at version {h.version}" for r, h in inputs.items())
    same = Claim(invariant, f"{layer} = its SQL", model.name)
    yield compare_rows(same, left, delta.read(spark, lake.table(model.name)), ("the SQL", layer), about)
    if any(rule.on_fail == "quarantine" for rule in model.plan.rules):
        claim = Claim(invariant, "quarantine = what expectations took out", model.name)
        wanted = (
            expectations.quarantined_rows(spark, model.plan, model.parameters, rows, read)
            .select("row", "rule")
            .distinct()
        )
        found = quarantine.read_of_model(spark, lake, model.name, own.last_refresh_version).where("NOT resolved")
        yield compare_rows(claim, wanted, found.select("row", "rule"), ("the SQL", "quarantine"), about)
