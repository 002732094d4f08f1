"""SQL that gives the same for the same inputs: what a model's SELECT and its expectations have to be."""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from lakehouse.errors import ConfigError
from lakehouse.models.sql import functions
from lakehouse.models.sql.blocks import find_calls

PARAMETERS = ("as_of", "business_timezone")

_CURRENT_TIME_LITERALS = frozenset({"now", "today", "yesterday", "tomorrow"})  # as in TIMESTAMP 'now'


def require_deterministic(model: str, query: exp.Expr, tokens: list[Token], where: str) -> None:
    """Raises: ConfigError, for what gives other rows by the clock, by chance, by the reader or by order."""
    found = [t for _, t in find_calls(tokens) if t.text.lower() in functions.NON_DETERMINISTIC]
    found += [
        t
        for t in tokens
        if t.token_type is not TokenType.STRING and t.text.lower() in functions.NON_DETERMINISTIC_KEYWORDS
    ]
    for before, token in pairwise(tokens):
        follows = before.text.lower() in ("date", "timestamp", "timestamp_ltz", "timestamp_ntz", "(")
        if follows and token.token_type is TokenType.STRING and token.text.strip().lower() in _CURRENT_TIME_LITERALS:
            found.append(token)
    if query.find(exp.TableSample):
        found += [t for t in tokens if t.text.lower() == "tablesample"]
    if found:
        raise ConfigError(
            f"{model} uses {found[0].text}: the same inputs would not always give the same rows",
            expected="functions of the inputs alone; :as_of is the newest accepted snapshot's time",
            where=f"{where}:{found[0].line}",
        )


def used_parameters(model: str, query: exp.Expr, where: str) -> frozenset[str]:
    """Those that it uses. Raises: ConfigError, for one that there is not."""
    used = frozenset(p.name for p in query.find_all(exp.Placeholder))
    if unknown := sorted(used - set(PARAMETERS)):
        raise ConfigError(
            f"{model} uses :{', :'.join(unknown)}",
            expected="no other parameters than " + " and ".join(f":{p}" for p in PARAMETERS),
            where=where,
        )
    return used
