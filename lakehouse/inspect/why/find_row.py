"""Finds a row of a table or model by its key, as people type it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from lakehouse.config.key_text import KeyTextError, key_form, parse_key_text
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.lake.cdc import END_AT, START_AT
from lakehouse.lake.duckdb_sql import quote, view_name
from lakehouse.lake.duckdb_views import Database
from lakehouse.models.sql.trace import NUMBER
from lakehouse.runner.context import Run


def find_row(run: Run, database: Database, relation: str, keys: Sequence[str], words: Sequence[str]) -> pa.Table:
    """Return the row of a key, with the column NUMBER, which is 0. Of a history it is the open window.

    Args:
        run: The command.
        database: The database with the view of the relation.
        relation: The table or model.
        keys: The columns that identify its rows.
        words: The key, as `parse_key_text` takes it; of a history, the start of the window may be left out.

    Raises:
        ConfigError: The words are no key of the relation, or a value is not of its column's type.
        DataRefused: There is no row with the key.
    """
    kinds, pipeline = database.columns(relation), run.pipeline.argument
    is_history = relation.startswith("bronze.") and END_AT in kinds
    texts = parse_row_key(pipeline, relation, keys, words, is_history)
    conditions = [f"{quote(name)} IS NOT DISTINCT FROM CAST($k{at} AS {kinds[name]})" for at, name in enumerate(texts)]
    parameters = {f"k{at}": text for at, text in enumerate(texts.values())}
    with_key = f"SELECT 0 AS {NUMBER}, * FROM {view_name(relation)} WHERE {' AND '.join(conditions)}"
    try:
        rows = database.connection.sql(with_key, params=parameters).to_arrow_table()
    except duckdb.ConversionException as error:
        raise no_value_error(pipeline, relation, {name: kinds[name] for name in texts}) from error
    closed = rows.num_rows
    if is_history and START_AT not in texts:
        rows = rows.filter(rows.column(END_AT).is_null())
    if not rows.num_rows:
        raise DataRefused(
            f"no row of {relation} has this key{': all its windows are closed' if closed else ''}",
            expected="the key of a row that is there now",
            where=relation,
            next_step=f"see how keys are written: lakehouse show {pipeline} {relation}",
        )
    return rows


def find_rows(database: Database, relation: str, keys: Sequence[str], values: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of a relation with the rows of some keys, with the column NUMBER: the position of the key.

    Args:
        database: The database with the view of the relation.
        relation: The table or model.
        keys: The columns that identify its rows.
        values: For each row the values of these columns, as documents of `--json` have them.
    """
    kinds = database.columns(relation)
    texts = {
        f"k{at}": pa.array([None if row[key] is None else _text(row[key]) for row in values], pa.string())
        for at, key in enumerate(keys)
    }
    wanted = pa.table({NUMBER: pa.array(range(len(values)), pa.int64()), **texts})
    database.connection.register("_why_wanted", wanted)
    same = " AND ".join(
        f"t.{quote(key)} IS NOT DISTINCT FROM CAST(w.k{at} AS {kinds[key]})" for at, key in enumerate(keys)
    )
    database.connection.execute(
        f"CREATE OR REPLACE TEMP TABLE _why_found AS SELECT w.{NUMBER}, t.* FROM _why_wanted w"
        f" JOIN {view_name(relation)} t ON {same}"
    )
    return "_why_found"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def parse_row_key(
    pipeline: str, relation: str, keys: Sequence[str], words: Sequence[str], is_history: bool
) -> dict[str, str | None]:
    """Return the text of each key column; None for a null.

    Args:
        pipeline: The pipeline, as the user named it, for messages.
        relation: The table or model.
        keys: The columns that identify its rows.
        words: The key, as `parse_key_text` takes it.
        is_history: Whether the start of the window may be left out.

    Raises:
        ConfigError: The words are no key of the relation.
    """
    forms = [list(keys), [key for key in keys if key != START_AT]] if is_history else [list(keys)]
    for form in forms:
        try:
            return parse_key_text(form, words)
        except KeyTextError:
            continue
    raise ConfigError(
        f"the text is no key of {relation}",  # without the text, which may name a person
        expected=f"{key_form(forms[-1])}: a value for {', '.join(forms[-1])}; one with a comma in double quotes",
        where=f"the key of {relation}",
        next_step=f"lakehouse show {pipeline} {relation}, which shows keys",
    )


def no_value_error(pipeline: str, relation: str, types: Mapping[str, str]) -> ConfigError:
    """Return the error for a key with a value that is not of its column's type.

    Args:
        pipeline: The pipeline, as the user named it.
        relation: The table or model.
        types: The type of each column of the key.
    """
    return ConfigError(
        "no value of the key's type: " + ", ".join(f"{name} as {kind}" for name, kind in types.items()),
        expected="as 2025-10-03, 17.5 or plain text",
        where=f"the key of {relation}",
        next_step=f"lakehouse show {pipeline} {relation}",
    )
