"""A model's SQL as blocks: each CTE in order, the model's own SELECT last. A CTE is a model that is not stored.

A block can be kept up to date if the rows that it gives for a *touch key* depend on nothing but the rows of its FROM
that have that key: a GROUP BY's expressions, what all windows are partitioned by, or any column of a plain SELECT.
Only what is known to be so is let through, by allow-lists of clauses and functions; the rest raises `Whole`.

The author's text is cut, never written anew: a parser that renames a function would change what is computed.
"""

from lakehouse.models.sql.blocks.block import Block, Condition, KeyPart, NotIncremental, Source
from lakehouse.models.sql.blocks.clauses import find_calls
from lakehouse.models.sql.blocks.group import TOTALS, grouping_expressions, has_totals, is_grouping_id
from lakehouse.models.sql.blocks.parser import parse_blocks
from lakehouse.models.sql.blocks.parts import split_totals

__all__ = [
    "TOTALS",
    "Block",
    "Condition",
    "KeyPart",
    "NotIncremental",
    "Source",
    "find_calls",
    "grouping_expressions",
    "has_totals",
    "is_grouping_id",
    "parse_blocks",
    "split_totals",
]
