"""Personal columns (`pii`): what of them gets past the reading of a snapshot. Nothing behind it sees the plain value.

    hmac    HMAC-SHA-256 of the value's text under the pipeline's key, in hex: equal values stay equal
    mask    `***` for every value
    drop    the column is not there

Null stays null in all of them. The first two make the column a STRING, whatever type it was read by.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table

MASK = "***"
LABEL_KEY = "pii"  # in a column's metadata, as Parquet files keep it: what was done to it


def protected_schema(declared: T.StructType, table: Table) -> T.StructType:
    """The declared columns as the lake holds them."""
    kept = [f for f in declared if table.pii.get(f.name) != "drop"]
    return T.StructType([T.StructField(f.name, T.StringType()) if f.name in table.pii else f for f in kept])


def protected_value(name: str, value: Column, table: Table) -> Column | None:
    """What is kept of a column's value; None: nothing, not even the column."""
    match table.pii.get(name):
        case None:
            return value
        case "hmac":
            return _hmac_udf(table.pii_key)(value.cast("string"))
        case "mask":
            return F.when(value.isNotNull(), MASK)
    return None


def masked_text(name: str, text: Column, table: Table) -> Column:
    """A field's text as it may be told, in quarantine and in messages."""
    return F.when(text.isNotNull(), MASK) if name in table.pii else text


def with_labels(rows: DataFrame, table: Table) -> DataFrame:
    """Rows whose columns say what was done to them; see `labels`."""
    labels = table.pii_labels
    columns = [F.col(c).alias(c, metadata={LABEL_KEY: labels[c]}) if c in labels else F.col(c) for c in rows.columns]
    return rows.select(*columns)


def label_mismatches(published: T.StructType, table: Table) -> list[str]:
    """Where what was published is not what the table's `pii` asks for now, a line a column."""
    found = []
    for field in published:
        was, now = field.metadata.get(LABEL_KEY, "plain"), table.pii_labels.get(field.name, "plain")
        if was != now:
            same_way = was.partition(" ")[0] == now.partition(" ")[0]
            found.append(f"{field.name} is {was}, now {now}" if not same_way else f"{field.name} has another key")
    return found


def _hmac_udf(key: bytes) -> Callable[[Column], Column]:
    # A Python function, though `sha2` could be put together to the same: the key would be a literal of the plan then,
    # and plans go to event logs, to the UI and into error messages. A function's closure does not.
    def hashed(text):  # type: ignore[no-untyped-def]
        return None if text is None else hmac.digest(key, text.encode(), "sha256").hex()

    return F.udf(hashed, T.StringType(), useArrow=True)
