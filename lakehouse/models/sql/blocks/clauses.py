"""Cuts the text of a SELECT into its clauses by its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sqlglot.tokens import Token, TokenType

from lakehouse.models.sql import functions

_OPEN = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSE = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
_AFTER_WHERE = ("GROUP BY", "HAVING", "QUALIFY", "ORDER BY", "SORT BY", "CLUSTER BY", "DISTRIBUTE BY", "LIMIT")
_AFTER_FROM = ("WHERE", *_AFTER_WHERE, "WINDOW", "OFFSET", "LATERAL")
_JOIN_WORDS = frozenset({"left", "right", "full", "outer", "inner", "cross", "semi", "anti", "natural"})
_SORTING_OR_COUNTING = ("array_sort", "size", "array_size", "cardinality")
_TOTALS = (TokenType.ROLLUP, TokenType.CUBE, TokenType.GROUPING_SETS)


@dataclass(frozen=True)
class SelectItem:
    """A selected expression: `text` as it is, and `expression` without the last word and an AS before it."""

    text: str
    expression: str


@dataclass(frozen=True)
class FunctionCall:
    """A function call.

    Attributes:
        name: The name as the author wrote it, in lower case.
        argument: The text of the arguments, without DISTINCT.
        has_over: Whether OVER follows.
        is_sorted: Whether it is the argument of a function that sorts or only counts its values.
    """

    name: str
    argument: str
    has_over: bool
    is_sorted: bool


@dataclass(frozen=True)
class Clauses:
    """The text of one SELECT, cut into clauses.

    Attributes:
        select: The text before FROM.
        items: The selected expressions.
        join_conditions: The ON condition of each JOIN; empty for a JOIN without ON.
        where: The WHERE clause.
        group_by: The GROUP BY clause.
        after_where: The text after the WHERE clause, with the GROUP BY.
        calls: The function calls.
    """

    select: str
    items: tuple[SelectItem, ...]
    join_conditions: tuple[str, ...]
    where: str
    group_by: str
    after_where: str
    calls: tuple[FunctionCall, ...]


def split_selects(sql: str, tokens: list[Token]) -> list[tuple[str, Clauses]]:
    """Return the name of each CTE in lower case with its clauses, and the final SELECT with the name ''.

    Args:
        sql: The author's text.
        tokens: Its tokens.
    """
    tokens = [token for token in tokens if token.token_type is not TokenType.SEMICOLON]
    selects, at = [], 0
    while at < len(tokens) and tokens[at].token_type is not TokenType.SELECT:
        if tokens[at].token_type is TokenType.L_PAREN:
            end = _closing_parenthesis(tokens, at)
            if tokens[at - 1].token_type is TokenType.ALIAS:
                selects.append((tokens[at - 2].text.lower(), _split_clauses(sql, tokens[at + 1 : end])))
            at = end
        at += 1
    return [*selects, ("", _split_clauses(sql, tokens[at:]))]


def find_calls(tokens: list[Token]) -> list[tuple[int, Token]]:
    """Return the positions and tokens of names before a parenthesis, which may call functions.

    Args:
        tokens: The tokens of SQL.
    """
    return [
        (at, token)
        for at, (token, after) in enumerate(pairwise(tokens))
        if after.token_type is TokenType.L_PAREN
        and token.text.isidentifier()
        and token.token_type not in _TOTALS
        and token.text.lower() not in functions.KEYWORDS
    ]


def _split_clauses(sql: str, tokens: list[Token]) -> Clauses:
    depths = list(_parenthesis_depths(tokens))

    def first(words: tuple[str, ...], start: int, end: int) -> int:
        """Return the position of the first of these words outside of parentheses, or `end`."""
        for at in range(start, end):
            is_quoted = tokens[at].token_type in (TokenType.IDENTIFIER, TokenType.STRING)
            # A column after a table's name, or IS DISTINCT FROM.
            is_continued = at > 0 and tokens[at - 1].token_type in (TokenType.DOT, TokenType.DISTINCT)
            if not (depths[at] or is_quoted or is_continued) and tokens[at].text.upper() in words:
                return at
        return end

    def text(start: int, end: int) -> str:
        return sql[tokens[start].start : tokens[end - 1].end + 1] if start < end else ""

    end = len(tokens)
    from_at = first(("FROM",), 0, end)
    where = first(_AFTER_FROM, from_at, end)
    after_where = first(_AFTER_WHERE, where, end)
    group_by = first(("GROUP BY",), where, end)
    has_distinct = len(tokens) > 1 and tokens[1].token_type in (TokenType.DISTINCT, TokenType.ALL)
    return Clauses(
        select=text(0, from_at),
        items=tuple(_select_items(sql, tokens, depths, 1 + has_distinct, from_at)),
        join_conditions=tuple(_join_conditions(sql, tokens, depths, from_at, where)),
        where=text(where, after_where),
        group_by=text(group_by, first(("HAVING", "ORDER BY"), group_by, end)),
        after_where=text(after_where, end),
        calls=tuple(_parse_calls(sql, tokens)),
    )


def _parenthesis_depths(tokens: list[Token]) -> Iterator[int]:
    depth = 0
    for token in tokens:
        depth -= token.token_type in _CLOSE
        yield depth
        depth += token.token_type in _OPEN


def _select_items(sql: str, tokens: list[Token], depths: list[int], start: int, end: int) -> Iterator[SelectItem]:
    commas = [at for at in range(start, end) if not depths[at] and tokens[at].token_type is TokenType.COMMA]
    for first, last in zip([start, *(c + 1 for c in commas)], [*commas, end], strict=True):
        if first >= last:
            continue
        alias = last - 1 - (last - 2 > first and tokens[last - 2].token_type is TokenType.ALIAS)
        text = sql[tokens[first].start : tokens[last - 1].end + 1]
        yield SelectItem(text, sql[tokens[first].start : tokens[alias - 1].end + 1] if alias > first else text)


def _join_conditions(sql: str, tokens: list[Token], depths: list[int], start: int, end: int) -> Iterator[str]:
    joins = [at for at in range(start, end) if not depths[at] and tokens[at].token_type is TokenType.JOIN]
    for join, next_join in pairwise([*joins, end]):
        until = next_join
        while next_join < end and tokens[until - 1].text.lower() in _JOIN_WORDS:
            until -= 1
        on = [at for at in range(join, until) if not depths[at] and tokens[at].token_type is TokenType.ON]
        yield sql[tokens[on[0] + 1].start : tokens[until - 1].end + 1] if on and on[0] + 1 < until else ""


def _parse_calls(sql: str, tokens: list[Token]) -> Iterator[FunctionCall]:
    for at, token in find_calls(tokens):
        end = _closing_parenthesis(tokens, at + 1)
        first = at + 2 + (at + 2 < end and tokens[at + 2].token_type is TokenType.DISTINCT)
        argument = sql[tokens[first].start : tokens[end - 1].end + 1] if first < end else ""
        following = _token_after_call(tokens, end)
        has_over = following is not None and following.text.lower() == "over"
        # Whether the call is the first argument of a function that sorts by value, or that only counts.
        is_first_argument = at >= 2 and tokens[at - 1].token_type is TokenType.L_PAREN and following is not None
        outer = tokens[at - 2].text.lower() if is_first_argument else ""
        is_last_argument = following is not None and following.token_type is TokenType.R_PAREN
        is_sorted = outer == "sort_array" or (is_last_argument and outer in _SORTING_OR_COUNTING)
        yield FunctionCall(token.text.lower(), argument, has_over, is_sorted)


def is_windowed(tokens: list[Token], at: int) -> bool:
    """Return whether OVER follows a call.

    Args:
        tokens: The tokens of SQL.
        at: The position of the name that is called.
    """
    following = _token_after_call(tokens, _closing_parenthesis(tokens, at + 1))
    return following is not None and following.text.lower() == "over"


def _token_after_call(tokens: list[Token], end: int) -> Token | None:
    """Return the token after a call that ends at `end`, after FILTER (...) and IGNORE NULLS; None at the end."""
    after = end + 1
    while after < len(tokens) and tokens[after].text.lower() in ("filter", "ignore", "respect", "nulls"):
        follows = after + 1 < len(tokens) and tokens[after + 1].token_type is TokenType.L_PAREN
        after = (_closing_parenthesis(tokens, after + 1) if follows else after) + 1
    return tokens[after] if after < len(tokens) else None


def _closing_parenthesis(tokens: list[Token], opening: int) -> int:
    """Return the position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += tokens[at].token_type in _OPEN
        depth -= tokens[at].token_type in _CLOSE
        if not depth:
            return at
    return len(tokens) - 1
