"""Parses the SQL of a model into blocks."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp
from sqlglot.tokens import Token

from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks.block import Block, NotIncremental
from lakehouse.models.sql.blocks.clauses import split_selects
from lakehouse.models.sql.blocks.group import has_totals
from lakehouse.models.sql.blocks.refresh_key import find_refresh_key
from lakehouse.models.sql.blocks.select import ParsedSelect, parse_select
from lakehouse.models.sql.blocks.ties import UniqueKeys, unique_columns


def parse_blocks(
    query: exp.Expr, sql: str, tokens: list[Token], keys: tuple[str, ...], unique_keys: Mapping[str, tuple[str, ...]]
) -> tuple[Block, ...]:
    """Parse a model into blocks: each CTE that is read, in order, and the model's own SELECT.

    Args:
        query: The parsed SQL.
        sql: The author's text.
        tokens: Its tokens.
        keys: The model's keys.
        unique_keys: The columns that identify a row of each relation, if known.

    Raises:
        NotIncremental: The model needs full refreshes.
    """
    if not isinstance(query, exp.Select):
        raise NotIncremental(
            "a set operation at the top (UNION, EXCEPT, INTERSECT)", "write a model for each part of it"
        )
    texts = split_selects(sql, tokens)
    with_clause = query.args.get("with_")
    ctes: list[exp.CTE] = with_clause.expressions if with_clause else []
    if with_clause and with_clause.args.get("recursive"):
        raise NotIncremental("WITH RECURSIVE")
    if [name for name, _ in texts] != [*(cte.alias.lower() for cte in ctes), ""]:
        raise NotIncremental("WITH with a list of columns", "name them in its SELECT")
    known_keys = {relation: (frozenset(key.lower() for key in found),) for relation, found in unique_keys.items()}
    blocks: list[Block] = []
    for (name, clauses), tree in zip(texts, [*(cte.this for cte in ctes), query], strict=True):
        block = _make_block(parse_select(name, tree, clauses), () if name else keys, known_keys)
        blocks.append(block)
        if columns := unique_columns(block, known_keys):
            known_keys[name] = (columns,)
    # Drop the CTEs that the final SELECT does not read, also not through other CTEs.
    read: set[str] = set()
    for block in reversed(blocks):
        if not block.name or block.name in read:
            read |= {source.relation for source in block.sources}
    return tuple(block for block in blocks if not block.name or block.name in read)


def _make_block(select: ParsedSelect, keys: tuple[str, ...], unique_keys: UniqueKeys) -> Block:
    clauses, group = select.clauses, select.tree.args.get("group")
    key = find_refresh_key(select, keys, unique_keys)
    return Block(
        name=select.name,
        select=clauses.select,
        sources=select.sources,
        where=clauses.where,
        after_where=clauses.after_where,
        totals=clauses.group_by if group and has_totals(group) else "",
        kind=key.kind,
        refresh_key=key.parts,
        grouping_sets=key.grouping_sets,
        plain_columns=select.plain_columns,
        unread_aliases=select.unread_aliases(),
        sums=tuple((call.name, call.argument) for call in clauses.calls if call.name in functions.SUMS),
    )
