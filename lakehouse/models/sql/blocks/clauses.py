"""A SELECT's text, cut into its clauses by its tokens: what stands where, and nothing about what it means."""

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
_TOTALS = (TokenType.ROLLUP, TokenType.CUBE, TokenType.GROUPING_SETS)


@dataclass(frozen=True)
class SelectItem:
    """A selected expression: as it stands, and without its last word and an AS before it."""

    text: str
    expression: str


@dataclass(frozen=True)
class FunctionCall:
    """A name before a parenthesis, as the author spells it.

    `over`: OVER follows it. `sorted`: it stands right inside a function that sorts or counts what it gathers.
    """

    name: str
    argument: str
    has_over: bool
    is_sorted: bool


@dataclass(frozen=True)
class Clauses:
    """The text of one SELECT. `joins`: the condition of each JOIN, empty where it has none."""

    select: str
    items: tuple[SelectItem, ...]
    join_conditions: tuple[str, ...]
    where: str
    group_by: str
    after_where: str
    calls: tuple[FunctionCall, ...]


def split_selects(sql: str, tokens: list[Token]) -> list[tuple[str, Clauses]]:
    """Each CTE's name, in lower case, and its clauses; then those of the SELECT after them, named ''."""
    tokens = [t for t in tokens if t.token_type is not TokenType.SEMICOLON]
    found, at = [], 0
    while at < len(tokens) and tokens[at].token_type is not TokenType.SELECT:
        if tokens[at].token_type is TokenType.L_PAREN:
            end = _closing_parenthesis(tokens, at)
            if tokens[at - 1].token_type is TokenType.ALIAS:
                found.append((tokens[at - 2].text.lower(), _split_clauses(sql, tokens[at + 1 : end])))
            at = end
        at += 1
    return [*found, ("", _split_clauses(sql, tokens[at:]))]


def find_calls(tokens: list[Token]) -> list[tuple[int, Token]]:
    """Where names stand before a parenthesis and may call something."""
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
        """Where one of these words stands outside of parentheses."""
        for at in range(start, end):
            if not depths[at] and tokens[at].text.upper() in words and not _is_name(tokens, at):
                return at
        return end

    def text(start: int, end: int) -> str:
        return sql[tokens[start].start : tokens[end - 1].end + 1] if start < end else ""

    end = len(tokens)
    source = _find_from(tokens, depths)
    where = first(_AFTER_FROM, source, end)
    rest = first(_AFTER_WHERE, where, end)
    group = first(("GROUP BY",), where, end)
    distinct = len(tokens) > 1 and tokens[1].token_type in (TokenType.DISTINCT, TokenType.ALL)
    return Clauses(
        select=text(0, source),
        items=tuple(_select_items(sql, tokens, depths, 1 + distinct, source)),
        join_conditions=tuple(_join_conditions(sql, tokens, depths, source, where)),
        where=text(where, rest),
        group_by=text(group, first(("HAVING", "ORDER BY"), group, end)),
        after_where=text(rest, end),
        calls=tuple(_parse_calls(sql, tokens)),
    )


def _parenthesis_depths(tokens: list[Token]) -> Iterator[int]:
    depth = 0
    for token in tokens:
        depth -= token.token_type in _CLOSE
        yield depth
        depth += token.token_type in _OPEN


def _find_from(tokens: list[Token], depths: list[int]) -> int:
    for at, token in enumerate(tokens):
        after_distinct = at and tokens[at - 1].token_type is TokenType.DISTINCT  # IS DISTINCT FROM
        if token.token_type is TokenType.FROM and not depths[at] and not after_distinct and not _is_name(tokens, at):
            return at
    return len(tokens)


def _is_name(tokens: list[Token], at: int) -> bool:
    """Whether a word is a quoted name, a text, or the column of a table."""
    is_quoted = tokens[at].token_type in (TokenType.IDENTIFIER, TokenType.STRING)
    return is_quoted or (at > 0 and tokens[at - 1].token_type is TokenType.DOT)


def _select_items(sql: str, tokens: list[Token], depths: list[int], start: int, end: int) -> Iterator[SelectItem]:
    commas = [at for at in range(start, end) if not depths[at] and tokens[at].token_type is TokenType.COMMA]
    for first, last in zip([start, *(c + 1 for c in commas)], [*commas, end], strict=True):
        if first >= last:
            continue
        bare = last - 1 - (last - 2 > first and tokens[last - 2].token_type is TokenType.ALIAS)
        whole = sql[tokens[first].start : tokens[last - 1].end + 1]
        yield SelectItem(whole, sql[tokens[first].start : tokens[bare - 1].end + 1] if bare > first else whole)


def _join_conditions(sql: str, tokens: list[Token], depths: list[int], start: int, end: int) -> Iterator[str]:
    at_joins = [at for at in range(start, end) if not depths[at] and tokens[at].token_type is TokenType.JOIN]
    for join, following in pairwise([*at_joins, end]):
        until = following
        while following < end and tokens[until - 1].text.lower() in _JOIN_WORDS:
            until -= 1
        on = [at for at in range(join, until) if not depths[at] and tokens[at].token_type is TokenType.ON]
        yield sql[tokens[on[0] + 1].start : tokens[until - 1].end + 1] if on and on[0] + 1 < until else ""


def _parse_calls(sql: str, tokens: list[Token]) -> Iterator[FunctionCall]:
    for at, token in find_calls(tokens):
        end = _closing_parenthesis(tokens, at + 1)
        first = at + 2 + (at + 2 < end and tokens[at + 2].token_type is TokenType.DISTINCT)
        argument = sql[tokens[first].start : tokens[end - 1].end + 1] if first < end else ""
        after = end + 1
        while after < len(tokens) and tokens[after].text.lower() in ("filter", "ignore", "respect", "nulls"):
            follows = after + 1 < len(tokens) and tokens[after + 1].token_type is TokenType.L_PAREN
            after = (_closing_parenthesis(tokens, after + 1) if follows else after) + 1
        over = after < len(tokens) and tokens[after].text.lower() == "over"
        yield FunctionCall(token.text.lower(), argument, over, _is_sorted(tokens, at, after))


def _is_sorted(tokens: list[Token], at: int, after: int) -> bool:
    """Whether a call is the first argument of one that sorts by the values themselves, or only counts them."""
    if at < 2 or tokens[at - 1].token_type is not TokenType.L_PAREN or after >= len(tokens):
        return False
    outer, alone = tokens[at - 2].text.lower(), tokens[after].token_type is TokenType.R_PAREN
    return outer == "sort_array" or (alone and outer in ("array_sort", "size", "array_size", "cardinality"))


def _closing_parenthesis(tokens: list[Token], opening: int) -> int:
    """Where the parenthesis that opens there is closed."""
    depth = 0
    for at in range(opening, len(tokens)):
        depth += tokens[at].token_type in _OPEN
        depth -= tokens[at].token_type in _CLOSE
        if not depth:
            return at
    return len(tokens) - 1
