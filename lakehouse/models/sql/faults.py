"""Defines a fault of a model that is found without Spark, its place and its message."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from lakehouse.errors import ConfigError

# A token as sqlglot writes it into some of its messages.
_TOKEN = re.compile(r"<Token token_type: \S+, text: (.*?), line: \d+, col: \d+, start: \d+, end: \d+, comments: .*?>")


@dataclass(frozen=True)
class Fault:
    """A fault of a model.

    Attributes:
        found: The finding.
        expected: The correct form.
        where: The file, line and column; empty until it is known.
        next_step: The change to make.
        offset: The position in the model's text, if the fault is in it.
    """

    found: str
    expected: str = ""
    where: str = ""
    next_step: str = ""
    offset: int | None = None


def text_position(text: str, offset: int) -> str:
    """Return a position in a text as `line:column`, both counted from 1.

    >>> text_position("SELECT a,\\n  b", 12)
    '2:3'

    Args:
        text: The text.
        offset: The position, counted from 0.
    """
    before = text[:offset]
    return f"{before.count(chr(10)) + 1}:{offset - (before.rfind(chr(10)) + 1) + 1}"


def place(fault: Fault, text: str, file: str) -> Fault:
    """Return a fault with its file, line and column.

    Args:
        fault: The fault.
        text: The model's text.
        file: The model's file.
    """
    where = file if fault.offset is None else f"{file}:{text_position(text, fault.offset)}"
    return replace(fault, where=where, offset=None)


def node_offset(node: exp.Expr) -> int | None:
    """Return the position at which an expression begins, as far as sqlglot has recorded it.

    Args:
        node: The expression.
    """
    starts = [start for part in node.walk() if (start := part.meta.get("start")) is not None]
    return min(starts, default=None)


def to_error(faults: Iterable[Fault]) -> ConfigError:
    """Return one error for all faults; of several, each has its place in its own line.

    Args:
        faults: At least one fault.
    """
    listed = list(dict.fromkeys(faults))
    if len(listed) == 1:
        (one,) = listed
        return ConfigError(one.found, expected=one.expected, where=one.where, next_step=one.next_step)
    lines = [f"{one.where} {one.found}" + (f"; {one.next_step}" if one.next_step else "") for one in listed]
    return ConfigError(
        "\n".join(lines),
        expected="columns, functions and types as the tables' schemas and Spark have them",
        next_step="correct these lines, and run `lakehouse validate` again",
    )


def describe_syntax_error(error: Exception) -> str:
    """Return a syntax error for people, without the colours of a terminal.

    Args:
        error: The error of sqlglot.
    """
    details = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    near = f' near "{details["highlight"]}"' if details.get("highlight") else ""
    if details.get("description"):
        return f"{_TOKEN.sub(_quote_token, details['description'])}{near}"
    return str(error) if isinstance(error, SqlglotError) else "no SQL that can be read"


def _quote_token(token: re.Match[str]) -> str:
    return f'"{token[1]}"'


def syntax_error_position(error: Exception) -> str:
    """Return the line and the column of a syntax error as `:line:column`; empty if they are not known.

    Args:
        error: The error of sqlglot.
    """
    details = error.errors[0] if isinstance(error, ParseError) and error.errors else {}
    return f":{details['line']}:{details['col']}" if details.get("line") else ""
