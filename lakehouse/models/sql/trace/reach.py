"""Finds how far the windows of a SELECT reach: which rows of a partition can change one of its rows. Uses no Spark."""

from __future__ import annotations

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.tokens import TokenType

from lakehouse.models.sql.blocks import Block

_FRAME_WORDS = ("ROWS", "RANGE")
_OF_FRAME = (exp.Count, exp.Sum, exp.Min, exp.Max, exp.Avg, exp.FirstValue)


@dataclass(frozen=True)
class Reach:
    """The rows of a partition, by their positions in its order, that a row is computed from.

    Attributes:
        over: The author's PARTITION BY and ORDER BY, which all windows share.
        low: The first of them, counted from the row's own position; None: from the first one of the partition.
        high: The last of them; None: up to the last one that ORDER BY leaves tied with the row.
    """

    over: str
    low: int | None
    high: int | None


def find_reach(block: Block) -> Reach | None:
    """Return how far the windows of a block reach; None if that may be the whole partition.

    Args:
        block: A block with windows.
    """
    tree = sqlglot.parse_one(f"{block.select}\nFROM t", read="spark")
    windows = list(tree.find_all(exp.Window))
    orders = {(tuple(w.args.get("partition_by") or ()), w.args.get("order")) for w in windows}
    if len(orders) != 1 or " over" in block.after_where.lower() or windows[0].args.get("order") is None:
        return None
    frames = [_frame(window) for window in windows]
    found = [frame for frame in frames if frame is not None]
    over = _over_text(block.select)
    if len(found) < len(frames) or not over:
        return None
    lows, highs = [low for low, _ in found], [high for _, high in found]
    known_highs = [high for high in highs if high is not None]
    if None in highs and max(known_highs, default=0) > 0:
        return None
    return Reach(
        over,
        None if None in lows else min(0, *(low for low in lows if low is not None)),
        None if None in highs else max(0, *known_highs),
    )


def _frame(window: exp.Window) -> tuple[int | None, int | None] | None:
    """Return the first and the last row that a window reads, as `Reach` has them; None if they are not known."""
    called, spec = window.this, window.args.get("spec")
    if isinstance(called, exp.Filter):
        called = called.this
    if isinstance(called, exp.Lag | exp.Lead):
        offset = called.args.get("offset")
        if spec or not (offset is None or (isinstance(offset, exp.Literal) and offset.name.isdigit())):
            return None
        steps = 1 if offset is None else int(offset.name)
        return (-steps, 0) if isinstance(called, exp.Lag) else (0, steps)
    if isinstance(called, exp.RowNumber | exp.Rank | exp.DenseRank):
        return None if spec else (None, 0 if isinstance(called, exp.RowNumber) else None)
    if not isinstance(called, _OF_FRAME):
        return None
    if spec is None:
        return None, None
    if (spec.args.get("kind") or "").upper() != "ROWS" or spec.args.get("exclude"):
        return None
    low, high = _bound(spec, "start"), _bound(spec, "end")
    return None if low == "unknown" or not isinstance(high, int) else (low, high)  # type: ignore[return-value]


def _bound(spec: exp.Expr, which: str) -> int | str | None:
    """Return a bound of a frame of rows, from the row on; None: the first row of the partition."""
    value, side = spec.args.get(which), (spec.args.get(f"{which}_side") or "").upper()
    sign = -1 if side == "PRECEDING" else 1
    if isinstance(value, exp.Literal) and value.name.isdigit():
        return sign * int(value.name)
    if value == "CURRENT ROW":
        return 0
    return None if value == "UNBOUNDED" and side == "PRECEDING" else "unknown"


def _over_text(select: str) -> str:
    """Return the author's text in the first OVER (...), without a frame."""
    tokens = sqlglot.tokenize(select, read="spark")
    overs = [
        at
        for at, token in enumerate(tokens[:-1])
        if token.text.upper() == "OVER" and tokens[at + 1].token_type is TokenType.L_PAREN
    ]
    if not overs:
        return ""
    depth, start = 0, overs[0] + 2
    for at in range(start, len(tokens)):
        token = tokens[at]
        depth += (token.token_type is TokenType.L_PAREN) - (token.token_type is TokenType.R_PAREN)
        is_quoted = token.token_type in (TokenType.IDENTIFIER, TokenType.STRING)
        if depth < 0 or (depth == 0 and not is_quoted and token.text.upper() in _FRAME_WORDS):
            return select[tokens[start].start : tokens[at - 1].end + 1]
    return ""
