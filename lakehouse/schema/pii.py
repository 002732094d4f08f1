"""Protects the values of personal columns (`pii`) when a snapshot is read, so that no later stage sees a plain value.

    hmac    HMAC-SHA-256 of the value's text with the pipeline's key, in hex: equal values stay equal
    mask    `***` for every value
    drop    the column is removed

Null stays null. With hmac and mask the column becomes a STRING.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from lakehouse.config import Table

MASK = "***"
LABEL_KEY = "pii"  # the key in a column's metadata, which Parquet files keep, for its protection


def protected_schema(declared: T.StructType, table: Table, keep_dropped: bool = False) -> T.StructType:
    """Return the schema of protected rows: without dropped columns, STRING for hashed and masked ones.

    Args:
        declared: The schema of the plain rows.
        table: The table's configuration.
        keep_dropped: Whether to keep the columns that a feed drops, as raw does.
    """
    stored = {column.name for column in (table.received_columns if keep_dropped else table.stored_columns)}
    remaining = [f for f in declared if f.name in stored]
    return T.StructType([T.StructField(f.name, T.StringType()) if f.name in table.pii else f for f in remaining])


def protected_value(name: str, value: Column, table: Table) -> Column | None:
    """Return the protected value of a column, or None if the column is dropped.

    Args:
        name: The column's declared name.
        value: Its plain value.
        table: The table's configuration.
    """
    match table.pii.get(name):
        case None:
            return value
        case "hmac":
            return hmac_text(value.cast("string"), table)
        case "mask":
            return F.when(value.isNotNull(), MASK)
    return None


def hmac_text(text: Column, table: Table) -> Column:
    """Return the HMAC-SHA-256 of texts with the pipeline's key, in hex; null of null.

    Args:
        text: The texts.
        table: The table's configuration, which has the key.

    Raises:
        ConfigError: There is no key.
    """
    return _hmac_udf(table.pii_key)(text)


def masked_text(name: str, text: Column, table: Table) -> Column:
    """Return a field's text for quarantine and messages: masked if the column is personal.

    Args:
        name: The column's declared name.
        text: The field's text in the file.
        table: The table's configuration.
    """
    return F.when(text.isNotNull(), MASK) if name in table.pii else text


def with_labels(rows: DataFrame, table: Table) -> DataFrame:
    """Add the protection of each column to its metadata, which `label_mismatches` compares later.

    Args:
        rows: Protected rows.
        table: The table's configuration.
    """
    labels = table.pii_labels
    columns = [F.col(c).alias(c, metadata={LABEL_KEY: labels[c]}) if c in labels else F.col(c) for c in rows.columns]
    return rows.select(*columns)


def label_mismatches(published: T.StructType, table: Table) -> list[str]:
    """Return a message for each column whose protection differs from the table's current `pii` settings.

    Args:
        published: The schema of rows written earlier, with labels in its metadata.
        table: The table's configuration.
    """
    mismatches = []
    for field in published:
        label, wanted = field.metadata.get(LABEL_KEY, "plain"), table.pii_labels.get(field.name, "plain")
        if label != wanted:
            is_same_action = label.partition(" ")[0] == wanted.partition(" ")[0]
            message = "has another key" if is_same_action else f"is {label}, now {wanted}"
            mismatches.append(f"{field.name} {message}")
    return mismatches


def _hmac_udf(key: bytes) -> Callable[[Column], Column]:
    """Return a function that hashes a column of strings."""

    # A Python UDF, although the hash could be composed of `sha2`: then the key would be a literal in the plan, and
    # plans are written to event logs, to the UI and to error messages. A function's closure is not.
    def hashed(text):  # type: ignore[no-untyped-def]
        return None if text is None else hmac.digest(key, text.encode(), "sha256").hex()

    return F.udf(hashed, T.StringType(), useArrow=True)
