"""Makes names of tables and columns from names of files and headers: identifiers, and snake_case for silver."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Names that `config/checks.py` reserves for the lake.
_RESERVED = re.compile(r"(?i)(_cdc_.*|__start_at|__end_at|_change_type|_commit_.*|_feed_sequence)")


def is_usable(name: str) -> bool:
    """Return whether a column can keep its name of the files: an identifier that the lake does not reserve.

    >>> is_usable("idCliente"), is_usable("Tipo Titulo"), is_usable("_cdc_operation"), is_usable("2024")
    (True, False, False, False)

    Args:
        name: A column's name in the files.
    """
    return bool(_IDENTIFIER.fullmatch(name)) and not _RESERVED.fullmatch(name)


def to_snake_case(name: str, fallback: str = "column") -> str:
    """Return a name as a lower-case identifier.

    >>> to_snake_case("idCliente"), to_snake_case("PUCompraManhã (R$)"), to_snake_case("2024"), to_snake_case("名前")
    ('id_cliente', 'pu_compra_manha_r', 'column_2024', 'column')

    Args:
        name: Any text.
        fallback: The text before a name that begins with a digit, and in place of one without letters.
    """
    ascii_text = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", ascii_text))
    words = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")
    if not words:
        return fallback
    return words if words[0].isalpha() else f"{fallback}_{words}"


def unique(name: str, taken: Iterable[str]) -> str:
    """Return a name that equals no taken one, ignoring case: with _2, _3 ... behind it if necessary.

    Args:
        name: The name.
        taken: The names that are in use.
    """
    in_use = {other.lower() for other in taken}
    numbered = (name if n == 1 else f"{name}_{n}" for n in range(1, len(in_use) + 2))
    return next(each for each in numbered if each.lower() not in in_use)


def column_names(in_files: Iterable[str]) -> dict[str, str]:
    """Return the column for each name in the files: the same name if it is usable, otherwise one in snake_case.

    >>> column_names(["id", "Tipo Titulo", "tipo_titulo"])
    {'id': 'id', 'tipo_titulo': 'tipo_titulo', 'Tipo Titulo': 'tipo_titulo_2'}

    Args:
        in_files: Names that differ in more than case.
    """
    columns = {name: name for name in in_files if is_usable(name)}
    for name in in_files:
        if name not in columns:
            columns[name] = unique(to_snake_case(name), columns.values())
    return columns


def silver_names(columns: Iterable[str]) -> dict[str, str]:
    """Return the name in silver of each column of bronze: snake_case, each of its own.

    Args:
        columns: The columns of a table.
    """
    named: dict[str, str] = {}
    for column in columns:
        named[column] = unique(to_snake_case(column), named.values())
    return named
