"""Classifies an error of a PostgreSQL server by its SQLSTATE: exit code 2, 3 or 5, and what to do.

The table in docs/guide/publish.md shows these rules; `tests/unit/config/test_sqlstates.py` compares the two, and
`tests/live/publish/test_sqlstates.py` has a server raise those errors that a test can provoke.
"""

from __future__ import annotations

from dataclasses import dataclass

from lakehouse.errors import ExitCode


@dataclass(frozen=True)
class Meaning:
    """The exit code and the advice for a server error.

    Attributes:
        exit_code: USAGE (the configuration, the statement or the user's rights), INFRASTRUCTURE (worth retrying) or
            REFUSED (a row).
        expected: The values or settings that the server accepts.
        next_step: The change to make; empty if only the message has it.
    """

    exit_code: ExitCode
    expected: str
    next_step: str = ""


_AGAIN = Meaning(
    ExitCode.INFRASTRUCTURE,
    "a server that answers",
    "run the same command again: nothing was written and nothing is lost",
)
_RIGHTS = Meaning(
    ExitCode.USAGE,
    "the privileges of deploy/postgres/grants.sql, and names that exist",
    "have the privilege granted, or correct the name; then run the same command again",
)
_USAGE = Meaning(
    ExitCode.USAGE,
    "a server and settings that allow what publishing and reading do",
    "correct the address, or the settings of the role or the database",
)
_LOGIN = Meaning(
    ExitCode.USAGE, "a user that may connect to this database", "correct the address, the user or the password"
)
_READ_ONLY = Meaning(
    ExitCode.USAGE,
    "a database that can be written: the primary server, and default_transaction_read_only = off",
    "correct the address; target_session_attrs=read-write is a parameter of it",
)
_ROW = Meaning(
    ExitCode.REFUSED,
    "text without NUL characters, years from 1 to 9999, and a table that nothing else writes",
    "correct the value in the model's SQL or at its source; the published table is unchanged",
)
_ENCODING = Meaning(
    ExitCode.REFUSED,
    "text whose characters the encoding of the database has",
    "replace the character in the model's SQL, or publish to a database in UTF8; the published table is unchanged",
)
_TRIGGER = Meaning(
    ExitCode.REFUSED,
    "a table that no trigger or rule of others writes to or refuses rows of",
    "remove the trigger, or have it accept the row; the published table is unchanged",
)
_LIMIT = Meaning(
    ExitCode.USAGE,
    "a table within PostgreSQL's limits: 1,600 columns, 32 columns in a key",
    "publish a model with fewer columns",
)
_TOO_LARGE = Meaning(
    ExitCode.REFUSED,
    "rows and keys within PostgreSQL's limits: a key of about 2,700 bytes, a row of 8,160 without its long texts",
    "shorten the value in the model's SQL, or use a hash of it as the key; the published table is unchanged",
)

CLASSES: dict[str, tuple[str, Meaning]] = {
    "00": ("successful completion", _AGAIN),
    "01": ("warning", _AGAIN),
    "02": ("no data", _AGAIN),
    "03": ("SQL statement not yet complete", _USAGE),
    "08": ("connection exception", _AGAIN),
    "09": ("triggered action exception", _TRIGGER),
    "0A": ("feature not supported", _USAGE),
    "0B": ("invalid transaction initiation", _USAGE),
    "0F": ("locator exception", _USAGE),
    "0L": ("invalid grantor", _RIGHTS),
    "0P": ("invalid role specification", _LOGIN),
    "0Z": ("diagnostics exception", _USAGE),
    "10": ("XQuery error", _USAGE),
    "20": ("case not found", _TRIGGER),
    "21": ("cardinality violation", _ROW),
    "22": ("data exception", _ROW),
    "23": ("integrity constraint violation", _ROW),
    "24": ("invalid cursor state", _USAGE),
    "25": ("invalid transaction state", _USAGE),
    "26": ("invalid SQL statement name", _USAGE),
    "27": ("triggered data change violation", _TRIGGER),
    "28": ("invalid authorization specification", _LOGIN),
    "2B": ("dependent privilege descriptors still exist", _RIGHTS),
    "2D": ("invalid transaction termination", _TRIGGER),
    "2F": ("SQL routine exception", _TRIGGER),
    "34": ("invalid cursor name", _USAGE),
    "38": ("external routine exception", _TRIGGER),
    "39": ("external routine invocation exception", _TRIGGER),
    "3B": ("savepoint exception", _USAGE),
    "3D": ("invalid catalog name", _LOGIN),
    "3F": ("invalid schema name", _RIGHTS),
    "40": ("transaction rollback", _AGAIN),
    "42": ("syntax error or access rule violation", _RIGHTS),
    "44": ("WITH CHECK OPTION violation", _ROW),
    "53": ("insufficient resources", _AGAIN),
    "54": ("program limit exceeded", _LIMIT),
    "55": ("object not in prerequisite state", _USAGE),
    "57": ("operator intervention", _AGAIN),
    "58": ("system error", _AGAIN),
    "72": ("snapshot failure", _AGAIN),
    "F0": ("configuration file error", _AGAIN),
    "HV": ("foreign data wrapper error", _AGAIN),
    "P0": ("PL/pgSQL error", _TRIGGER),
    "XX": ("internal error", _AGAIN),
}
"""All classes of PostgreSQL, with its name for each."""

CODES: dict[str, tuple[str, Meaning]] = {
    "22021": ("character not in repertoire", _ENCODING),
    "22023": ("invalid parameter value", _USAGE),
    "22P05": ("untranslatable character", _ENCODING),
    "25006": ("read only SQL transaction", _READ_ONLY),
    "25P03": ("idle in transaction session timeout", _AGAIN),
    "25P04": ("transaction timeout", _AGAIN),
    "40002": ("transaction integrity constraint violation", _ROW),
    "54000": ("a key or a row is too large", _TOO_LARGE),
    "55006": ("object in use", _AGAIN),
    "55P03": ("lock not available", _AGAIN),
    "HV00N": ("foreign data wrapper: unable to establish connection", _AGAIN),
    "HV00P": ("foreign data wrapper: no schemas", _RIGHTS),
    "HV00Q": ("foreign data wrapper: schema not found", _RIGHTS),
    "HV00R": ("foreign data wrapper: table not found", _RIGHTS),
}
"""The codes that mean something else than their class."""

UNKNOWN = _TRIGGER  # a code that a trigger made up


def meaning(sqlstate: str) -> Meaning:
    """Return the meaning of an error.

    >>> int(meaning("22003").exit_code), int(meaning("25006").exit_code), int(meaning("57P01").exit_code)
    (5, 2, 3)

    Args:
        sqlstate: The five characters that the server sent.
    """
    return CODES.get(sqlstate, CLASSES.get(sqlstate[:2], ("", UNKNOWN)))[1]
