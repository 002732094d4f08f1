"""Requires that a model's SQL and expectations always give the same result for the same inputs."""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from lakehouse.errors import ConfigError
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import find_calls, is_windowed
from lakehouse.models.sql.blocks.ties import function_name

NEWEST_SNAPSHOT = ("newest_snapshot", "as_of")  # two names of the time of the newest accepted snapshot
PARAMETERS = (*NEWEST_SNAPSHOT, "business_timezone")

_LEAST_INT = -(1 << 31)
_CURRENT_TIME_LITERALS = frozenset({"now", "today", "yesterday", "tomorrow"})  # as in TIMESTAMP 'now'


def require_deterministic(model: str, query: exp.Expr, tokens: list[Token], where: str) -> None:
    """Raise if SQL depends on the clock, on chance, on the reader, on the order of rows or on foreign memory.

    Args:
        model: The model's name, or another subject for the message.
        query: The parsed SQL.
        tokens: Its tokens.
        where: The file, for messages.

    Raises:
        ConfigError: With the first such function and its line.
    """
    found = [
        token
        for at, token in find_calls(tokens)
        if token.text.lower() in functions.NON_DETERMINISTIC
        # Of a window, its ORDER BY decides: `resolve.windows` requires that it is unique.
        and not (token.text.lower() in functions.BY_POSITION and is_windowed(tokens, at))
    ]
    found += [
        token
        for token in tokens
        if token.token_type is not TokenType.STRING and token.text.lower() in functions.NON_DETERMINISTIC_KEYWORDS
    ]
    for before, token in pairwise(tokens):
        is_time = before.text.lower() in ("date", "timestamp", "timestamp_ltz", "timestamp_ntz", "(")
        if is_time and token.token_type is TokenType.STRING and token.text.strip().lower() in _CURRENT_TIME_LITERALS:
            found.append(token)
    if query.find(exp.TableSample):
        found += [token for token in tokens if token.text.lower() == "tablesample"]
    expected = "functions of the inputs alone; :newest_snapshot (or :as_of), the time of the newest accepted one"
    if not found and any(map(_draws_vector, query.find_all(exp.Anonymous))):
        found = [token for token in tokens if token.text.lower() == "aes_encrypt"]
        expected = "a vector from the inputs: aes_encrypt(x, key, 'GCM', 'DEFAULT', iv); or mode 'ECB', which has none"
    for call in query.find_all(exp.Bracket):
        if _reads_foreign_memory(call):
            line = next(token.line for token in tokens if token.text == str(-_LEAST_INT))
            raise ConfigError(
                f"{model} uses element_at({call.this.sql('spark')}, {_LEAST_INT}), at which Spark reads memory outside"
                " of the array: another value each time, or the JVM ends",
                expected="another index: no array has this one; for a map: x[key]",
                where=f"{where}:{line}",
            )
    if found:
        raise ConfigError(
            f"{model} uses {found[0].text}: the same inputs would not always give the same rows",
            expected=expected,
            where=f"{where}:{found[0].line}",
        )


def _reads_foreign_memory(call: exp.Bracket) -> bool:
    """Return whether a call is an element_at or a try_element_at whose index has no absolute value as an INT.

    Spark compares that value with the array's size (Spark 4.2, `ElementAt`).
    """
    index = call.expressions[0] if call.args.get("offset") == 1 and call.expressions else None
    value = index.unnest() if index is not None else None
    return isinstance(value, exp.Neg) and value.this.unnest().name == str(-_LEAST_INT)


def _draws_vector(call: exp.Anonymous) -> bool:
    """Return whether a call is an aes_encrypt that draws a random initialization vector."""
    if function_name(call) != "aesencrypt":
        return False
    mode, iv = (call.expressions[at] if len(call.expressions) > at else None for at in (2, 4))
    has_no_vector = isinstance(mode, exp.Literal) and mode.name.upper() == "ECB"
    has_own = iv is not None and not (isinstance(iv, exp.Literal) and not iv.name)  # Spark draws one for '', too
    return not has_no_vector and not has_own


def used_parameters(model: str, query: exp.Expr, where: str) -> frozenset[str]:
    """Return the parameters that SQL uses.

    Args:
        model: The model's name, or another subject for the message.
        query: The parsed SQL.
        where: The file, for messages.

    Raises:
        ConfigError: It uses an unknown parameter.
    """
    used = frozenset(placeholder.name for placeholder in query.find_all(exp.Placeholder))
    if unknown := sorted(used - set(PARAMETERS)):
        raise ConfigError(
            f"{model} uses :{', :'.join(unknown)}",
            expected="no other parameters than :newest_snapshot (its earlier name is :as_of) and :business_timezone",
            where=where,
        )
    return used
