"""Explains the difference of a row between two times by the changes of the rows of bronze that made it.

Entry point: `why_between`. Its steps, all with Spark:

1. find the row at both times                                                    inspect/at_time.py
2. find the rows of bronze that made it, at each of them                         made_from.py
3. pair these by key: the changes, in the order of their snapshots               source_changes.py
4. compute the row again after each change: what it differs by is its effect     states.py, effects.py
5. check the first and the last of these rows with those of step 1
6. list the changes, those with the largest effect first, with file and line     landed.py
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from sqlglot.errors import SqlglotError

from lakehouse.config.ddl import quote_identifier
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.inspect.at_time import RelationsAt
from lakehouse.inspect.between import Interval
from lakehouse.inspect.plain_value import plain_value
from lakehouse.inspect.why.effects import Effect, EffectColumns
from lakehouse.inspect.why.find_row import no_value_error, parse_row_key
from lakehouse.inspect.why.landed import Standing, locate
from lakehouse.inspect.why.made_from import MadeFrom, NotTracedError, rows_with_keys
from lakehouse.inspect.why.source_changes import Row, TableChange, identity, merge_changes, ordered_changes
from lakehouse.inspect.why.states import States
from lakehouse.lake import change_sets, ledger
from lakehouse.lake.cdc import DELETE
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.models.sql.plan import dependency_levels
from lakehouse.models.sql.states import NoStatesError
from lakehouse.runner.context import Run
from lakehouse.spark.session import SPARK_ERRORS, isolated_session, local_frame
from lakehouse.storage.paths import snapshot_name

Document = dict[str, Any]

MAX_ROWS = 1_000_000
"""Of all states together: above it, the changes of a table in one snapshot are applied together."""


def why_between(
    run: Run, relation: str, key: Sequence[str], column: str | None, times: tuple[str, str], limit: int
) -> Document:
    """Return which source changes made the difference of a row between two times.

    The changes are applied one after another, in the order of their snapshots; the effect of each is the difference
    that it makes. So the effects add up to the whole difference, also where changes meet, as of both sides of a join.

    Args:
        run: The command.
        relation: The table or model, with its layer.
        key: The key, as `parse_key_text` takes it.
        column: The only column to explain; None: all.
        times: The two times, the earlier one first: YYYYMMDD_HHMMSS or ISO times.
        limit: The most changes to show.

    Returns:
        The document of `lakehouse why --between --json`.

    Raises:
        ConfigError: The text is no key of the table or model, it has no such column, or the times are none.
        DataRefused: The change sets of one of the times were dropped, or the row is there at neither time.
    """
    return _Comparison(run, relation, key, column, Interval.from_texts(*times, option="--between")).document(limit)


class _Comparison:
    """A row at two times."""

    def __init__(self, run: Run, relation: str, key: Sequence[str], column: str | None, interval: Interval) -> None:
        self._run, self._relation, self._interval = run, relation, interval
        self._spark = isolated_session(run.spark, run.data_bytes(*run.pipeline.tables))
        self._histories = ledger.read_histories(self._spark, run.lake, [*run.pipeline.tables])
        self._keys = run.key_columns()
        self._sides = [RelationsAt(run, self._spark, self._histories, time) for time in (interval.start, interval.end)]
        self._notes: dict[str, None] = {}  # in order, each once
        frames = [side.rows(relation) for side in self._sides]
        self._columns = _shown_columns(relation, frames[1].columns, self._keys[relation], column)
        self._key = self._typed_key(key, frames[1].schema)
        self._frames = [self._with_key(frame) for frame in frames]
        self._rows = [next(iter(frame.toArrow().to_pylist()), None) for frame in self._frames]
        if self._rows == [None, None]:
            times = " or ".join(map(snapshot_name, (interval.start, interval.end)))
            raise DataRefused(
                f"no row of {relation} has this key at {times}",
                expected="the key of a row that is there at one of these times",
                where=relation,
                next_step=f"lakehouse show {run.pipeline.argument} {relation} --at {snapshot_name(interval.end)}",
            )

    def document(self, limit: int) -> Document:
        """Return the document, with at most so many changes."""
        columns, (before, after) = self._columns, self._rows
        effects: list[Effect] = []
        try:
            effects = columns.by_size(self._effects())
        except (NotTracedError, NoStatesError, SqlglotError) as error:
            self._note(str(error))
        sums = {name: total for name, total in columns.totals(effects).items() if total}
        is_complete = not self._notes and sums == columns.shares(before, after)
        return {
            "model": self._relation,
            "key": self._shown_key(),
            "from": snapshot_name(self._interval.start),
            "to": snapshot_name(self._interval.end),
            "before": columns.shown(before),
            "after": columns.shown(after),
            "difference": columns.shown_shares(before, after),
            "changes": self._described(effects[:limit]),
            "more": max(0, len(effects) - limit),
            "is_complete": is_complete,
            **({"note": "\n".join(self._notes)} if self._notes else {}),
        }

    # --- changes and their effects ------------------------------------------------------------------------------------

    def _effects(self) -> list[Effect]:
        """Return the effect of each change, in the order in which they are applied."""
        tables = self._changed_tables()
        changes = ordered_changes(tables, {table.table: self._deleted_at(table) for table in tables})
        unchanged = {table.table: table.unchanged for table in tables}
        if (sum(map(len, unchanged.values())) + len(changes)) * len(changes) > MAX_ROWS:
            changes = merge_changes(changes)
        schemas = {name: self._sides[1].rows(name).schema for name in self._tables()}
        states = States(self._spark, self._run.plans, schemas, unchanged, changes, self._sides[1].rows)
        earlier, later = (side.parameters for side in self._sides)
        rows = states.rows(self._relation, earlier, self._with_key)
        effects = [Effect(change, rows[number], rows[number + 1]) for number, change in enumerate(changes)]
        last = rows[-1]
        if earlier != later and any(
            self._run.plans[model].parameters & set(NEWEST_SNAPSHOT) for model in self._models()
        ):
            last = states.rows(self._relation, later, self._with_key)[-1]
            effects.append(Effect(None, rows[-1], last))
        self._check(rows[0], last)
        return effects

    def _check(self, first: Row | None, last: Row | None) -> None:
        """Note if the rows computed from the found rows alone are others than those of the two times."""
        if [repr(first), repr(last)] == [repr(row) for row in self._rows]:
            return
        blocks = [block for model in self._models() for block in self._run.plans[model].blocks]
        anti = sorted({s.relation for block in blocks for s in block.sources if s.join_type == "anti"})
        reason = f": it also depends on rows that must not be there (LEFT ANTI JOIN {', '.join(anti)})" if anti else ""
        self._note(f"the changes do not explain the whole difference of {self._relation}{reason}")

    def _changed_tables(self) -> list[TableChange]:
        """Return the rows of bronze that made the row at one of the times, as they were at both."""
        found: dict[str, list[pa.Table]] = {}
        for side, rows in zip(self._sides, self._frames, strict=True):
            made = MadeFrom(side, self._keys)
            made.add(self._relation, rows)
            for table, keys in made.found.items():
                found.setdefault(table, []).extend(keys)
        return [self._table_change(table, pa.concat_tables(keys)) for table, keys in found.items()]

    def _table_change(self, table: str, keys: pa.Table) -> TableChange:
        names = self._keys[table]
        before, after = (
            rows_with_keys(side, table, names, keys).toArrow().to_pylist() if keys.num_rows else []
            for side in self._sides
        )
        stored = {name.lower(): name for name in self._sides[1].rows(table).columns}
        return TableChange(table, [stored[name.lower()] for name in names], before, after)

    def _deleted_at(self, table: TableChange) -> dict[str, datetime]:
        """Return the time of the snapshot that deleted each key of a table that is gone at the later time."""
        gone = [before for before, after in table.changed if after is None and before is not None]
        name = table.table.partition(".")[2]
        ref = self._run.table_ref(name, self._spark)
        if not gone or ref.config.feed:  # the events of a feed are no changes of rows
            return {}
        start, end = self._interval.start, self._interval.end
        entries = [e for e in self._histories[name].entries_to_fold if start < e.snapshot_time <= end]
        keys = [key for key in table.keys if key in ref.config.keys]
        changes = change_sets.read_change_sets(ref, entries).where(F.col("_cdc_operation") == DELETE)
        found = changes.select(*map(quote_identifier, keys), "_cdc_timestamp").toArrow().to_pylist()
        times = {identity(row, keys): row["_cdc_timestamp"] for row in found}
        return {identity(row, table.keys): time for row in gone if (time := times.get(identity(row, keys)))}

    # --- models and tables --------------------------------------------------------------------------------------------

    def _models(self) -> list[str]:
        """Return the model and those that it reads, directly or through others."""
        wanted = {self._relation}
        for level in reversed(dependency_levels(self._run.plans)):
            wanted |= {name for model in level if model in wanted for name in self._run.plans[model].inputs}
        return sorted(wanted & self._run.plans.keys())

    def _tables(self) -> set[str]:
        """Return the tables of bronze that these models read."""
        names = {self._relation, *(name for model in self._models() for name in self._run.plans[model].inputs)}
        return names - self._run.plans.keys()

    # --- the row ------------------------------------------------------------------------------------------------------

    def _with_key(self, rows: DataFrame) -> DataFrame:
        names = {name.lower(): name for name in rows.columns}
        same = [F.col(quote_identifier(names[name.lower()])).eqNullSafe(value) for name, value in self._key.items()]
        return rows.where(reduce(lambda left, right: left & right, same))

    def _typed_key(self, words: Sequence[str], schema: T.StructType) -> dict[str, Column]:
        """Return the value of each column of the key.

        Raises:
            ConfigError: The words are no key, or a value is not of its column's type.
        """
        relation, types = self._relation, {field.name.lower(): field.dataType for field in schema}
        argument = self._run.pipeline.argument
        texts = parse_row_key(argument, relation, self._keys[relation], words, is_history=False)
        values = {name: F.lit(text).cast(types[name.lower()]) for name, text in texts.items()}
        try:
            local_frame(self._spark, "n INT", [(1,)]).select(*values.values()).collect()
        except SPARK_ERRORS as error:
            kinds = {name: types[name.lower()].simpleString().upper() for name in texts}
            raise no_value_error(argument, relation, kinds) from error
        return values

    def _shown_key(self) -> Document:
        row = {name.lower(): value for name, value in (self._rows[1] or self._rows[0] or {}).items()}
        return {name: plain_value(row[name.lower()]) for name in self._keys[self._relation]}

    def _note(self, text: str) -> None:
        self._notes[text] = None

    # --- descriptions -------------------------------------------------------------------------------------------------

    def _described(self, effects: Sequence[Effect]) -> list[Document]:
        """Return the effects as the document has them, with the landed file and line of inserted and updated rows."""
        documents: list[Document] = []
        groups: dict[tuple[str, datetime], list[tuple[Standing, Document]]] = {}
        for effect in effects:
            change = effect.change
            document = self._columns.describe(effect, self._keys[change.table] if change else ())
            documents.append(document)
            after = change.rows[0][1] if change and len(change.rows) == 1 else None
            if change and after is not None and change.time == after["_cdc_timestamp"]:
                group = groups.setdefault((change.table, after["_cdc_timestamp"]), [])
                group.append((Standing(after["_cdc_timestamp"], after), document))
        for (table, time), group in groups.items():
            ref = self._run.table_ref(table.partition(".")[2], self._spark)
            locate(self._run, ref, time, [standing for standing, _ in group], self._note)
            for standing, document in group:
                document |= {"file": standing.file, "line": standing.line}
        return documents


def _shown_columns(relation: str, names: Sequence[str], keys: Sequence[str], column: str | None) -> EffectColumns:
    """Return the columns to show and to explain: all but those that lakehouse adds, or the key and one."""
    own = [name for name in names if not name.startswith("_cdc_")]
    key = frozenset(name.lower() for name in keys)
    if column is None:
        return EffectColumns(own, key)
    if column.lower() not in (name.lower() for name in own):
        raise ConfigError(
            f"{relation} has no column {column}{did_you_mean(column, own)}",
            expected=f"one of {', '.join(own)}",
            where="COLUMN",
        )
    return EffectColumns([name for name in own if name.lower() in {*key, column.lower()}], key)
