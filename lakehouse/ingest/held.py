"""Describes a held snapshot or batch: the commonest reasons of its rejected rows, and both ways to go on."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import functions as F

from lakehouse.config import Guard, Table
from lakehouse.config.option_advice import option_advice
from lakehouse.errors import LakehouseError
from lakehouse.ingest.comparison import Comparison
from lakehouse.ingest.readers.snapshot_reader import UNMASKED, add_line_numbers
from lakehouse.spark.session import local_frame
from lakehouse.storage.paths import snapshot_name
from lakehouse.text import counted, example_text

MAX_REASONS = 3


@dataclass(frozen=True)
class RejectedRows:
    """The rows of a snapshot that are rejected for one reason.

    Attributes:
        rows: How many there are.
        rule: The rule, as quarantine names it.
        column: The column of the first problem of each; None if the whole row cannot be read.
        reason: The reason, with the column; it has no values.
        value: The value of one of them, as received.
        line: The line of that one; None if its format has no lines.
    """

    rows: int
    rule: str
    column: str | None
    reason: str
    value: str | None
    line: int | None

    def advice(self, table: Table) -> str:
        """Return the change of the table's settings that may accept the rows; empty if none is known."""
        return option_advice(table, self.column, self.value, self.reason)

    def text(self, with_value: bool) -> str:
        """Return the reason with an example, as `2 rows: qty: not an INT, such as 'x' in line 3`.

        Args:
            with_value: Whether the value may be shown: not in records that are kept.
        """
        example = example_text(self.value if with_value else None, self.line)
        return f"{counted(self.rows, 'row')}: {self.reason}{example}"


def commonest_reasons(comparison: Comparison, limit: int = MAX_REASONS) -> list[RejectedRows]:
    """Return why most of the rejected rows of a snapshot are rejected; the same ones for the same snapshot.

    Args:
        comparison: The comparison of the snapshot.
        limit: The most reasons to return.
    """
    if not comparison.counts.quarantined:
        return []
    spark, table = comparison.context.table.spark, comparison.context.config
    rows = comparison.quarantine_rows()
    looked_up = UNMASKED if UNMASKED in rows.columns else "row"
    example = F.min(F.struct("value", F.col(looked_up).alias("row"))).alias("example")
    groups = rows.groupBy("rule", "column", "reason").agg(F.count("*").alias("rows"), example)
    found = groups.orderBy(F.desc("rows"), "rule", "column", "reason").limit(limit).collect()
    examples = local_frame(spark, "row STRING", [(group["example"]["row"],) for group in found])
    numbered = add_line_numbers(spark, examples, table, comparison.snapshot).collect()
    lines = {row["row"]: row["line"] for row in numbered}
    return [
        RejectedRows(
            group["rows"],
            group["rule"],
            group["column"],
            group["reason"],
            group["example"]["value"],
            lines.get(group["example"]["row"]),
        )
        for group in found
    ]


def held_message(comparison: Comparison, reason: str, reasons: list[RejectedRows], guard: Guard) -> LakehouseError:
    """Return the message about a snapshot that is held, which is reported and not raised.

    Args:
        comparison: The comparison of the snapshot.
        reason: The finding of the guard.
        reasons: The commonest reasons of its rejected rows.
        guard: The guard's limits.
    """
    context, table = comparison.context, comparison.context.config
    name, stamp = context.table.name, snapshot_name(comparison.snapshot.time)
    path = context.pipeline.argument
    ways = [f"- {text}" for text in dict.fromkeys(filter(None, (each.advice(table) for each in reasons)))]
    if reasons and not ways and context.history.last_accepted is None:
        ways = [f"- change `schema` or `options` of {name} in {context.pipeline.path.name}, if the file is right"]
    if ways:
        ways[-1] += f"; then `lakehouse run {path}` reads it again"
    limits = f"max_deleted {guard.max_deleted:g}, max_quarantined {guard.max_quarantined:g}"
    if table.feed:  # no later batch has its events
        kind, of_which = "a batch", ", if it is the newest batch"
        correction = "- correct its files first, if the source has a folder for it: `approve` reads them again"
    else:
        kind, of_which, limits = "a snapshot", "", f"min_rows {guard.min_rows}, {limits}{_optional_limits(guard)}"
        correction = "- correct the source and deliver it again, as a snapshot with a time of its own"
    return LakehouseError(
        "\n".join([reason, *(each.text(with_value=True) for each in reasons)]),
        kept="\n".join([reason, *(each.text(with_value=False) for each in reasons)]),
        expected=f"{kind} within the guard of {name} ({limits}), or an approval; bronze stays as it is",
        where=str(comparison.snapshot.folder),
        next_step="\n".join(
            [
                f"lakehouse diff {path} {name}",
                f"which shows what it would change{of_which}; then one of these:",
                *ways,
                correction,
                f"- accept it as it is: `lakehouse approve {path} {name} {stamp}`",
            ]
        ),
    )


def _optional_limits(guard: Guard) -> str:
    """Return the limits that are off unless given, as they follow the others."""
    given = {"max_updated": guard.max_updated, "max_inserted": guard.max_inserted}
    texts = [f"{name} {limit:g}" for name, limit in given.items() if limit is not None]
    return "".join(f", {text}" for text in [*texts, *(["learned"] if guard.learned else [])])
