"""A refused row as it may be kept where columns are personal."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column
from pyspark.sql import functions as F

from lakehouse.config import Table
from lakehouse.ingest.readers.fields import ParsedField
from lakehouse.schema.pii import MASK, masked_text, protected_value


def masked_row(columns: Mapping[str, ParsedField], row_error: Column, table: Table) -> Column:
    """The row as it may be kept where it was refused, as JSON.

    Only the declared columns, since nobody said of the others whether they are personal; and nothing of a row that
    cannot be taken apart, since anything may stand there.
    """
    parts = {}
    for name, field in columns.items():
        hidden = masked_text(name, field.text, table)
        if (value := protected_value(name, field.value, table)) is not None:
            told_as = table.name_in_files(name)
            parts[told_as] = F.coalesce(value, hidden) if table.pii.get(name) == "hmac" else hidden
    row = F.to_json(F.struct(*[part.alias(name) for name, part in parts.items()]), {"ignoreNullFields": "false"})
    return F.when(row_error.isNotNull(), MASK).otherwise(row)
