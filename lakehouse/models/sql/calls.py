"""Checks the functions that SQL calls, and the numbers of their arguments, against the list of Spark's own functions.

`spark_functions.txt` is made by Spark itself; tests/spark/models/sql/test_spark_functions.py has the command, and holds
the file equal to the list of the installed Spark.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from importlib import resources

import sqlglot
from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.tokens import Token, TokenType

from lakehouse.config.strict_model import did_you_mean
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import find_calls
from lakehouse.models.sql.faults import Fault

_OPEN = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSE = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)
# Words among the arguments that make a call a form of its own: EXTRACT(DAY FROM x), CAST(x AS INT), f(name => x).
_SPECIAL_WORDS = frozenset({"from", "as", "in", "for", "placing", "using", "to", "=>", "order", "*"})
# Functions of Spark's grammar, which its list does not have.
_GRAMMAR = functions.words("cast try_cast timestampadd timestampdiff timediff identifier interval")
# Words that are no calls before a parenthesis: x ILIKE ('a%'), EXISTS (SELECT ...), x > ALL (...).
_OPERATORS = functions.words("all any exists ilike in like regexp rlike some")
_WITH_UNITS = functions.words("date_add date_diff dateadd datediff")  # also f(DAY, 1, x)
_TYPES = functions.words("decimal dec numeric char character varchar string timestamp time interval")


@lru_cache(maxsize=1)
def spark_functions() -> dict[str, frozenset[int]]:
    """Return the numbers of arguments that each function of Spark accepts; -1 means any number above the others."""
    text = (resources.files("lakehouse") / "models" / "sql" / "spark_functions.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if line and not line.startswith("#"))
    return {name: frozenset(_parse_counts(counts)) for name, counts in lines}


def format_counts(counts: list[int], is_unlimited: bool) -> str:
    """Return numbers of arguments as the file has them.

    >>> format_counts([1, 2, 3, 5], False), format_counts([0, 1, 2], True)
    ('1-3,5', '0+')

    Args:
        counts: The numbers, in order.
        is_unlimited: Whether every number after the last is accepted too.
    """
    ranges: list[list[int]] = []
    for count in counts:
        if ranges and ranges[-1][-1] == count - 1:
            ranges[-1].append(count)
        else:
            ranges.append([count])
    texts = [f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in ranges]
    if is_unlimited:
        texts[-1] = f"{ranges[-1][0]}+"
    return ",".join(texts)


def _parse_counts(text: str) -> Iterator[int]:
    for part in text.split(","):
        first, dash, last = part.rstrip("+").partition("-")
        yield from range(int(first), int(last if dash else first) + 1)
        if part.endswith("+"):
            yield -1


def check_calls(label: str, sql: str, tree: exp.Expr, has_other_functions: bool) -> Iterator[Fault]:
    """Yield the calls of unknown functions, and those with a wrong number of arguments.

    Args:
        label: The model, for messages.
        sql: The author's text.
        tree: The parsed SQL.
        has_other_functions: Whether the session may know functions that Spark itself does not have.
    """
    tokens = sqlglot.tokenize(sql, read="spark")
    no_calls = {start for node in tree.find_all(exp.TableAlias) if (start := _start(node.this)) is not None}
    if not has_other_functions:
        yield from _unknown_functions(label, tokens, tree, no_calls)
    yield from wrong_argument_counts(label, tokens, no_calls)


def _unknown_functions(label: str, tokens: list[Token], tree: exp.Expr, no_calls: set[int]) -> Iterator[Fault]:
    known, names = spark_functions(), _called_names(tree) - _GRAMMAR - _OPERATORS - _TYPES
    for at, token in find_calls(tokens):
        name, is_qualified = token.text.lower(), at > 0 and tokens[at - 1].token_type is TokenType.DOT
        if (
            token.start in no_calls
            or is_qualified
            or name in known
            or name not in names - _GRAMMAR - _OPERATORS - _TYPES
        ):
            continue
        yield Fault(
            f"{label} calls {token.text}, which is no function of Spark{did_you_mean(name, known)}",
            "a function of Spark SQL",
            offset=token.start,
        )


def wrong_argument_counts(label: str, tokens: list[Token], no_calls: Collection[int] = ()) -> Iterator[Fault]:
    """Yield the calls of functions of Spark with a wrong number of arguments.

    Args:
        label: The model, for messages.
        tokens: The tokens of its SQL.
        no_calls: The positions of names before a parenthesis that are no calls, such as the alias of `AS t(a, b)`.
    """
    known = spark_functions()
    for at, token in find_calls(tokens):
        name, is_qualified = token.text.lower(), at > 0 and tokens[at - 1].token_type is TokenType.DOT
        if token.start in no_calls or is_qualified or name not in known:
            continue
        count = _argument_count(tokens, at + 1)
        if count is None or name in _GRAMMAR | _OPERATORS or (name in _TYPES and _is_type(tokens, at)):
            continue
        accepted = known[name] | ({3} if name in _WITH_UNITS else set())
        if count not in accepted and not (-1 in accepted and count > max(accepted)):
            yield Fault(
                f"{label} calls {token.text} with {_arguments(count)}",
                _describe(accepted),
                offset=token.start,
            )


def _start(node: exp.Expr | None) -> int | None:
    start = node.meta.get("start") if isinstance(node, exp.Expr) else None
    return start if isinstance(start, int) else None


def _called_names(tree: exp.Expr) -> set[str]:
    """Return the names that sqlglot has parsed as calls of functions, in lower case."""
    anonymous = {node.name.lower() for node in tree.find_all(exp.Anonymous)}
    return anonymous | _sqlglot_functions()


@lru_cache(maxsize=1)
def _sqlglot_functions() -> frozenset[str]:
    """Return the functions that sqlglot knows by name, of any database."""
    parser = Dialect.get_or_raise("spark").parser_class
    return frozenset(name.lower() for name in parser.FUNCTIONS)


def _argument_count(tokens: list[Token], opening: int) -> int | None:
    """Return the number of arguments between parentheses; None if they are no plain list."""
    depth, commas, end = 0, 0, opening
    for end in range(opening, len(tokens)):
        token = tokens[end]
        depth -= token.token_type in _CLOSE
        if depth == 0 and end > opening:
            break
        if depth == 1:
            is_word = token.token_type not in (TokenType.STRING, TokenType.IDENTIFIER)
            if is_word and token.text.lower() in _SPECIAL_WORDS and not _is_column(tokens, end):
                return None
            commas += token.token_type is TokenType.COMMA
        depth += token.token_type in _OPEN
    return 0 if end == opening + 1 else commas + 1


def _is_column(tokens: list[Token], at: int) -> bool:
    """Return whether a word is a column's name after a dot, or a multiplication."""
    if tokens[at - 1].token_type is TokenType.DOT:
        return True
    return tokens[at].text == "*" and tokens[at - 1].token_type not in (TokenType.L_PAREN, TokenType.COMMA)


def _is_type(tokens: list[Token], at: int) -> bool:
    """Return whether a name with numbers in parentheses is a type, such as DECIMAL(9, 2)."""
    inside = []
    for token in tokens[at + 2 :]:
        if token.token_type is TokenType.R_PAREN:
            break
        inside.append(token.text)
    return bool(re.fullmatch(r"[\d,]+", "".join(inside)))


def _arguments(count: int) -> str:
    return f"{count or 'no'} argument{'s' if count != 1 else ''}"


def _describe(accepted: frozenset[int]) -> str:
    counts = sorted(count for count in accepted if count >= 0)
    if -1 in accepted and counts != list(range(counts[0], counts[-1] + 1)):
        return f"{', '.join(map(str, counts[:3]))}, ... arguments"
    if -1 in accepted:
        return f"at least {_arguments(counts[0])}"
    if len(counts) == 1:
        return _arguments(counts[0])
    is_range = counts == list(range(counts[0], counts[-1] + 1)) and len(counts) > 2
    shown = f"{counts[0]} to {counts[-1]}" if is_range else " or ".join(map(str, counts))
    return f"{shown} arguments"
