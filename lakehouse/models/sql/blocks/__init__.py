"""Parses a model's SQL into blocks: one for each CTE in order, and the model's own SELECT last.

A CTE is treated as a model that is not stored. A block can be refreshed incrementally if the rows that it gives for a
*refresh key* depend only on the rows of its FROM clause that have that key. The refresh key consists of the expressions
of a GROUP BY, of the expressions that all windows are partitioned by, or of any columns of a plain SELECT. Only clauses
and functions that are known to fulfil this are accepted; others raise `NotIncremental`.

`parse_blocks` is the entry point:

    clauses.py          cuts the author's text into clauses by its tokens
    unsupported.py      raises for clauses and functions that are not supported
    join_conditions.py  finds simple comparisons of columns in ON clauses
    select.py           parses the FROM clause and the selected expressions
    group.py            parses GROUP BY, and splits totals
    ties.py             finds whether the order of a window is unique
    refresh_key.py      finds the refresh key
    parser.py           combines these for each SELECT
    block.py            the result

The author's text is cut and never rewritten: a parser that renames a function would change the result.
"""

from lakehouse.models.sql.blocks.block import Block, Condition, KeyPart, NotIncremental, Source
from lakehouse.models.sql.blocks.clauses import find_calls, is_windowed
from lakehouse.models.sql.blocks.group import TOTALS, grouping_expressions, has_totals, is_grouping_id, split_totals
from lakehouse.models.sql.blocks.parser import parse_blocks

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
    "is_windowed",
    "parse_blocks",
    "split_totals",
]
