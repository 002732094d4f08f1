"""Reads the sequence of events of a change feed."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from lakehouse.bronze import feed_rules
from lakehouse.config import Table, sequence_names
from lakehouse.config.ddl import quote_identifier


def sequence(table: Table) -> Column:
    """Return the sequence of an event: the value of its column, or a struct of several.

    Args:
        table: The table's configuration.
    """
    feed = feed_rules.feed_of(table)
    names = zip(feed.sequence_by, sequence_names(feed), strict=True)
    columns = [F.col(quote_identifier(name)).alias(stored) for name, stored in names]
    return columns[0] if len(columns) == 1 else F.struct(*columns)
