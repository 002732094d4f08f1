"""Finds the slices that a snapshot contains, and leaves the keys of all other slices as they are.

A snapshot of a table with `slice_by` says something only about its slices: those of its accepted rows, and those that
the names of its files have. A key that it lacks is deleted only if the key's row is in one of them.
"""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.ingest.diff import ACCEPTED_SLICE, STATE_SLICE, VERDICT
from lakehouse.ingest.readers.parsed_file import ReadSettings
from lakehouse.lake.cdc import DELETE, GOES_MISSING
from lakehouse.lake.grace import OTHER_SLICE, STILL_MARKED, STILL_MISSING, Grace, outcome_sql
from lakehouse.lake.slice_columns import slice_frame, slice_of
from lakehouse.lake.slices import MAX_SLICES, Slices
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.spark.session import local_frame
from lakehouse.storage.landing import LandedSnapshot

IN_SLICES = "_cdc_in_slices"  # whether the row of the table was in a slice of the snapshot
_SLICE = "_cdc_slice"


def slices_in_names(settings: ReadSettings, snapshot: LandedSnapshot) -> DataFrame | None:
    """Return the slices that the names of a snapshot's files have; None unless they have all columns of `slice_by`.

    Args:
        settings: The reader's settings.
        snapshot: The snapshot, with files that can be read.
    """
    table = settings.table
    if not are_in_names(table):
        return None
    slice_by = list(table.slice_by or ())
    rows = sorted({tuple(settings.name_texts(file)[name] for name in slice_by) for file in snapshot.files})
    texts = local_frame(settings.spark, ", ".join(f"_cdc_text_{n} STRING" for n in range(len(slice_by))), rows)
    values = []
    for n, name in enumerate(slice_by):
        data_type, options = settings.declared[name].dataType, settings.table.options
        value = cast_text(F.col(f"_cdc_text_{n}"), data_type, settings.time_zone, options)[0]
        stored = pii.protected_value(name, value, table)
        values.append(value if stored is None else stored)
    return texts.select(slice_of(values).alias(_SLICE)).where(F.col(_SLICE).isNotNull())


def are_in_names(table: Table) -> bool:
    """Return whether the names of a table's files have all columns of `slice_by`.

    Args:
        table: The table's configuration.
    """
    return bool(table.slice_by) and set(table.slice_by or ()) <= set(table.file_pattern.columns)


def find_slices(verdicts: DataFrame, in_names: DataFrame | None, table: Table, where: str) -> Slices:
    """Return the slices that a snapshot contains.

    Args:
        verdicts: The verdict on each key (`diff.verdicts`).
        in_names: The slices of the names of its files, or None.
        table: The table's configuration.
        where: The folder of the snapshot, for messages.

    Raises:
        DataRefused: They are too many.
    """
    found = verdicts.where(F.col(ACCEPTED_SLICE).isNotNull()).select(F.col(ACCEPTED_SLICE).alias(_SLICE))
    slices = (found.unionByName(in_names) if in_names is not None else found).distinct()
    return Slices.of(table.slice_by or (), (row[0] for row in slices.limit(MAX_SLICES + 1).collect()), where)


def restrict_to_slices(verdicts: DataFrame, slices: Slices, grace: Grace | None = None) -> DataFrame:
    """Return the verdicts with `OTHER_SLICE` for each key to delete whose row is in no slice of the snapshot.

    With `grace`, the keys that the snapshot lacks are decided about by the slices of their rows.

    Args:
        verdicts: The verdict on each key (`diff.verdicts`).
        slices: The slices of the snapshot.
        grace: The treatment of keys that the snapshot lacks; None: they are deleted.

    Returns:
        The same columns but `_cdc_marked`, and `IN_SLICES`: only of live rows.
    """
    known = slice_frame(verdicts.sparkSession, slices, STATE_SLICE).withColumn(IN_SLICES, F.lit(True))
    if grace:
        rows = [(list(each), bound) for each, bound in sorted(grace.bounds(slices.values).items())]
        known = local_frame(verdicts.sparkSession, f"{STATE_SLICE} ARRAY<STRING>, _cdc_bound TIMESTAMP", rows)
        known = known.withColumn(IN_SLICES, F.lit(True))
    joined = verdicts.join(F.broadcast(known), on=STATE_SLICE, how="left")
    is_inside = F.coalesce(IN_SLICES, F.lit(False))
    others = [F.col(name) for name in verdicts.columns if name not in (VERDICT, "_cdc_marked")]
    if grace is None:
        verdict = F.when((F.col(VERDICT) == DELETE) & ~is_inside, OTHER_SLICE).otherwise(F.col(VERDICT))
        return joined.select(verdict.alias(VERDICT), *others, is_inside.alias(IN_SLICES))
    since = F.coalesce("_cdc_since", F.lit(grace.time).cast("timestamp"))
    facts = {
        "_cdc_accepted": F.lit(False),
        "_cdc_quarantined": F.lit(False),
        "_cdc_known": F.lit(True),
        "_cdc_same": F.lit(False),
        "_cdc_due": F.coalesce(since <= F.col("_cdc_bound"), F.lit(False)),
        "_cdc_contained": is_inside,
    }
    is_absent = F.col(VERDICT).isin(DELETE, GOES_MISSING, STILL_MISSING, STILL_MARKED)
    verdict = F.when(is_absent, F.expr(outcome_sql(grace.keeps_marked))).otherwise(F.col(VERDICT))
    is_live = is_inside & ~F.col("_cdc_marked")
    return joined.withColumns(facts).select(verdict.alias(VERDICT), *others, is_live.alias(IN_SLICES))
