"""Keeps the list of keys that were forgotten on request, in `<lake>/forgotten`.

Rows of these keys that a source still delivers are ignored. The list has only hashes of the keys as the lake stores
them (`pii` included): it has to recognise a key, not to name it. An entry has one of two forms:

    hmac-sha256:<id>:<hex>   HMAC with the pipeline's key (`pii_key`), whose id it names. Without that key nobody can
                             find the table's key by trying all that there can be
    <hex>                    SHA-256, if the pipeline has no key, or if a column of the table's key is an HMAC already

Entries of the second form, also those of version 0.1, are recognised with a key as well, and `forget` replaces them.
Rows without a key (`keys: all`) are forgotten by values of any columns, or by their `_cdc_row`: an entry names the
columns, as a list of JSON and a blank before the form.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timezone
from functools import reduce
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from lakehouse.config import PII_KEY, Table
from lakehouse.config.ddl import quote_identifier
from lakehouse.errors import ConfigError
from lakehouse.lake import delta
from lakehouse.lake.table_ref import TableRef
from lakehouse.schema import pii
from lakehouse.storage.paths import Lake

_HMAC = "hmac-sha256:"
_ENTRY = re.compile(r"(?:(?P<columns>\[.*\]) )?(?P<hash>\S+)")
SCHEMA = "table STRING, key_hash STRING, forgotten_at TIMESTAMP, run_id STRING"


class _Entry(NamedTuple):
    """An entry: the columns that it names, none if they are the table's key, and the hash of their values."""

    columns: tuple[str, ...]
    hash: str


def read_hashes(spark: SparkSession, lake: Lake, name: str) -> frozenset[str]:
    """Return the hashes of a table's forgotten keys."""
    if not delta.exists(spark, lake.forgotten_keys_table):
        return frozenset()
    rows = delta.read(spark, lake.forgotten_keys_table).where(F.col("table") == name)
    return frozenset(row.key_hash for row in rows.collect())


def add(table: TableRef, forms: Sequence[str], run_id: str) -> bool:
    """Add a key to the list, unless it is on it, and remove it in the form that it may have there.

    Args:
        table: The table whose key it is.
        forms: The key in the forms of `hash_forms`, of which the first is added.
        run_id: The run that forgets it.

    Returns:
        Whether another form was replaced, which the table's old files still have.
    """
    wanted, *others = forms
    listed = read_hashes(table.spark, table.lake, table.name)
    if wanted not in listed:
        row = (table.name, wanted, datetime.now(timezone.utc), run_id)
        rows = table.spark.createDataFrame([row], SCHEMA).coalesce(1)
        delta.create_or_append(table.spark, table.lake.forgotten_keys_table, rows)
    return _delete(table, listed & set(others))


def remove(table: TableRef, forms: Collection[str]) -> bool:
    """Remove a key from the list, and return whether it was on it, in any of its forms."""
    return _delete(table, read_hashes(table.spark, table.lake, table.name) & set(forms))


def remove_made_with(table: TableRef, key_id: str) -> bool:
    """Remove all keys from the list that were hashed with one `pii_key`; return whether there were any.

    Args:
        table: The table whose keys they are.
        key_id: The id in the entries, as `hmac-sha256:<id>`.
    """
    listed = read_hashes(table.spark, table.lake, table.name)
    return _delete(table, {entry for entry in listed if _parse(entry).hash.startswith(f"{key_id}:")})


def may_be_listed(table: Table, columns: Iterable[str], listed: Collection[str], forms: Collection[str]) -> bool:
    """Return whether a key is on the list, or may be there in a form that a lost or earlier secret has made.

    Args:
        table: The table's configuration.
        columns: The columns of the key.
        listed: The entries of the list.
        forms: The key in the forms of `hash_forms`.
    """
    own, hashes = f"{_HMAC}{table.pii_key_id}:", [_parse(entry).hash for entry in listed]
    of_other_secrets = any(each.startswith(_HMAC) and not each.startswith(own) for each in hashes)
    of_other_hashes = has_hashed_key(table, columns) and bool(listed)  # of values that an earlier secret has hashed
    return of_other_secrets or of_other_hashes or not set(listed).isdisjoint(forms)


def _delete(table: TableRef, entries: Collection[str]) -> bool:
    if entries:
        keys = delta.table(table.spark, table.lake.forgotten_keys_table)
        keys.delete((F.col("table") == table.name) & F.col("key_hash").isin(*entries))
    return bool(entries)


def is_key_id(text: str) -> bool:
    """Return whether a text is `hmac-sha256:<id>`, as an error message names the `pii_key` of entries."""
    return re.fullmatch(rf"{_HMAC}[0-9a-f]{{16}}", text) is not None


def is_made_with_own_key(table: Table, key_id: str) -> bool:
    """Return whether a text of `is_key_id` names the `pii_key` that a table has."""
    return table.pii_key_id is not None and key_id == f"{_HMAC}{table.pii_key_id}"


def drop_forgotten(rows: DataFrame, table: Table, forgotten: Collection[str]) -> DataFrame:
    """Return the rows whose key is not forgotten, including those without a key.

    Args:
        rows: Rows with the table's key columns, as the lake stores them.
        table: The table's configuration.
        forgotten: The hashes of its forgotten keys.
    """
    return rows.where(~is_forgotten(table, forgotten)) if forgotten else rows


def require_recognisable(table: Table, forgotten: Collection[str], name: str = "the table", where: str = "") -> None:
    """Raise if the rows that were forgotten cannot be recognised by the columns that a table has.

    Args:
        table: The table's configuration.
        forgotten: The entries of the list.
        name: The table, for the error.
        where: The file of the configuration, for the error.

    Raises:
        ConfigError: Keys were forgotten and the table has none now, or columns that it does not have.
    """
    known, entries = {column.name for column in table.stored_columns}, map(_parse, forgotten)
    if any(not known.issuperset(entry.columns) or (table.counts_rows and not entry.columns) for entry in entries):
        raise ConfigError(
            f"keys of {name} were forgotten that it does not have now, so that their rows cannot be recognised",
            expected="the keys by which they were forgotten",
            where=where,
            next_step="set `keys` of the table as it was",
        )


def is_forgotten(table: Table, forgotten: Collection[str]) -> Column:
    """Return the condition that a row's key, or the values by which rows without a key were forgotten, are on the list.

    Args:
        table: The table's configuration.
        forgotten: The entries of the list.

    Raises:
        ConfigError: Some were hashed with a `pii_key` that the pipeline does not have, or are of columns that the table
            does not have: their rows cannot be recognised.
    """
    require_recognisable(table, forgotten)
    entries = {_parse(entry) for entry in forgotten}
    keyed = {entry.hash for entry in entries if entry.hash.startswith(_HMAC)}
    if unknown := sorted({entry.rpartition(":")[0] for entry in keyed} - {f"{_HMAC}{table.pii_key_id}"}):
        raise ConfigError(
            f"keys were forgotten that are hashed with another key, {unknown[0]}, and cannot be recognised without it",
            expected=f"{PII_KEY} as it was then",
            next_step=(
                "set it. If it is lost, forget these keys again, and let go of those that cannot be recognised:"
                f" lakehouse forget PIPELINE TABLE {unknown[0]} --lift"
            ),
        )
    conditions = []
    for columns in {entry.columns for entry in entries}:
        hashes = {entry.hash for entry in entries if entry.columns == columns}
        text = _key_text(columns or table.keys)
        if plain := hashes - keyed:
            conditions.append(F.coalesce(_sha256(text).isin(*plain), F.lit(False)))
        if hashes & keyed:
            conditions.append(F.coalesce(_hmac(text, table).isin(*hashes & keyed), F.lit(False)))
    return reduce(Column.__or__, conditions, F.lit(False))


def hash_forms(table: Table, columns: Sequence[str]) -> list[Column]:
    """Return the forms in which the list can have a row's key, first the one to add; null if a part of it is null.

    Args:
        table: The table's configuration.
        columns: The columns of the key; of a table without one, those by which rows are forgotten.
    """
    text = _key_text(columns)
    forms = [_sha256(text)]
    if table.pii_key_id is not None:
        forms.insert(1 if has_hashed_key(table, columns) else 0, _hmac(text, table))
    names = f"{json.dumps(list(columns), ensure_ascii=False)} "
    return [F.concat(F.lit(names), form) for form in forms] if table.counts_rows else forms


def has_hashed_key(table: Table, columns: Iterable[str]) -> bool:
    """Return whether a column of a key is an HMAC in the lake, so that its hash cannot be found by trial.

    Args:
        table: The table's configuration.
        columns: The columns of the key.
    """
    return any(table.pii.get(column) == "hmac" for column in columns)


def _parse(entry: str) -> _Entry:
    match = _ENTRY.fullmatch(entry)
    assert match
    return _Entry(tuple(json.loads(match["columns"] or "[]")), match["hash"])


def _sha256(text: Column) -> Column:
    return F.sha2(text, 256)


def _hmac(text: Column, table: Table) -> Column:
    return F.concat(F.lit(f"{_HMAC}{table.pii_key_id}:"), pii.hmac_text(text, table))


def _key_text(columns: Iterable[str]) -> Column:
    keys = [F.col(quote_identifier(column)) for column in columns]
    has_key = reduce(Column.__and__, [key.isNotNull() for key in keys])
    return F.when(has_key, F.to_json(F.struct(*keys)))
