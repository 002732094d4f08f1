"""Reads the members of a row in quarantine, which is kept as JSON as it was received."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def member_text(name: str, row: str = "row") -> Column:
    """Return the text of a member of a row, whatever the case of its name; null if the row has none, or is no object.

    A row may have a name twice, which no map of lower names could hold: then the first one counts.

    Args:
        name: The name of the member.
        row: The column with the row.
    """
    members = F.map_entries(F.from_json(row, F.lit("map<string, string>")))
    return F.get(F.filter(members, lambda member: F.lower(member["key"]) == name.lower()), F.lit(0))["value"]
