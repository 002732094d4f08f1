"""Explains one row of a table or model by the rows that made it, down to bronze and the landed files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa
from pyspark.sql import types as T
from sqlglot.errors import SqlglotError

from lakehouse.inspect import query
from lakehouse.inspect.plain_value import plain_value
from lakehouse.inspect.why.bearing import Columns
from lakehouse.inspect.why.find_row import find_row, find_rows
from lakehouse.inspect.why.landed import find_standing
from lakehouse.inspect.why.spark_blocks import trace_with_spark, wanted_columns
from lakehouse.lake import delta, ledger, small_tables
from lakehouse.lake.duckdb_sql import quote, view_name
from lakehouse.lake.duckdb_views import Database, open_database
from lakehouse.lake.table_ref import TableRef
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.trace import NUMBER, RANK, TOTAL, DuckdbBlocks, NotInDuckdbError, Tracer
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.paths import utc_text_z

Document = dict[str, Any]
Row = Mapping[str, Any]


def why(run: Run, relation: str, key: Sequence[str], columns: Columns | None, limit: int) -> Document:
    """Return a row of a table or model, with the rows that made it.

    Args:
        run: The command.
        relation: The table or model, with its layer.
        key: The key, as `parse_key_text` takes it.
        columns: The columns that matter, as `bearing_columns` returns them; None: all.
        limit: The most rows to show of each input for each row.

    Returns:
        The document of `lakehouse why --json`.

    Raises:
        ConfigError: The table is not there yet, the text is no key of it, or a value is not of its column's type.
        DataRefused: There is no row with the key.
    """
    with open_database() as database:
        explanation = _Explanation(run, database, columns, limit)
        rows = explanation.find(relation, key)
        (node,) = explanation.nodes(relation, rows)
    inputs = [node] if relation.startswith("bronze.") else node["inputs"]
    document = {"model": relation, "key": node["key"], "row": node["row"], "inputs": inputs}
    document |= {"more": node["more"]} if "more" in node else {}
    return document | ({"note": "\n".join(explanation.notes)} if explanation.notes else {})


def why_rows(run: Run, relation: str, keys: Sequence[Row], limit: int) -> list[Document]:
    """Return rows of a table or model with the rows that made them, for those of some keys that are there.

    Args:
        run: The command.
        relation: The table or model, with its layer.
        keys: The values of the key columns, as documents of `--json` have them.
        limit: The most rows to show of each input for each row.

    Returns:
        For each row the document of an input in that of `lakehouse why --json`.

    Raises:
        ConfigError: The table is not there yet.
    """
    with open_database() as database:
        explanation = _Explanation(run, database, None, limit)
        return explanation.nodes(relation, explanation.find_all(relation, keys))


class _Explanation:
    """Explains rows of relations, whose rows are views of one database."""

    def __init__(self, run: Run, database: Database, columns: Columns | None, limit: int) -> None:
        self.notes: dict[str, None] = {}  # in order, each once
        self._run, self._database, self._columns, self._limit = run, database, columns, limit
        self._keys = run.key_columns()
        self._schemas: dict[str, T.StructType] = {}
        self._tables = 0

    def find(self, relation: str, key: Sequence[str]) -> str:
        """Return a relation of the database with the row of a key, as number 0."""
        self._view(relation)
        return self._add(find_row(self._run, self._database, relation, self._keys[relation], key))

    def find_all(self, relation: str, keys: Sequence[Row]) -> str:
        """Return a relation of the database with the rows of those of some keys that are there, numbered from 0."""
        self._view(relation)
        found = find_rows(self._database, relation, self._keys[relation], keys)
        return self._create(
            f"SELECT row_number() OVER (ORDER BY {NUMBER}) - 1 AS {NUMBER}, * EXCLUDE {NUMBER} FROM {found}"
        )

    # --- rows that made it --------------------------------------------------------------------------------------------

    def nodes(self, relation: str, rows: str) -> list[Document]:
        """Return the document of each row of a relation of the database, by its number, with its inputs."""
        found = self._database.fetch(f"SELECT * FROM {rows} ORDER BY {NUMBER}")
        nodes: list[Document] = [self._node(relation, row) for row in found]
        if not nodes:
            return nodes
        if relation.startswith("bronze."):
            self._add_standing(relation, rows, found, nodes)
            return nodes
        for name, made_from, links in self._inputs(self._run.plans[relation], rows):
            children = self.nodes(name, made_from)
            shown = Counter(number for number, _, _ in links)
            for number, total, child in links:
                nodes[number]["inputs"].append(children[child])
                if total > shown[number]:
                    nodes[number].setdefault("more", {})[name] = total - shown[number]
        return nodes

    def _node(self, relation: str, row: Row) -> Document:
        columns = self._columns.get(relation) if self._columns is not None else None
        keys = self._keys[relation]
        shown = {
            name: plain_value(value)
            for name, value in row.items()
            if name != NUMBER and (columns is None or name in keys or name.lower() in columns)
        }
        return {
            "table": relation,
            "key": {name: plain_value(row[name]) for name in keys if name in row},
            "row": shown,
            "snapshot_time": None,
            "file": None,
            "line": None,
            "changed": None,
            "inputs": [],
        }

    def _add_standing(self, relation: str, rows: str, found: Sequence[Row], nodes: list[Document]) -> None:
        run, name = self._run, relation.partition(".")[2]
        table = TableRef(run.lazy_spark, run.lake, name, run.pipeline.tables[name], run.pipeline.tuning)
        history = ledger.read_histories(run.lazy_spark, run.lake, [name])[name]
        columns = self._columns.get(relation) if self._columns is not None else None
        standings = find_standing(run, self._database, table, history, rows, found, self._note)
        for node, standing in zip(nodes, standings, strict=True):
            changed = {
                column: [plain_value(before), plain_value(after)]
                for column, (before, after) in (standing.changed or {}).items()
                if columns is None or column.lower() in columns
            }
            node |= {"snapshot_time": utc_text_z(standing.time), "file": standing.file, "line": standing.line}
            node["changed"] = changed if standing.changed is not None else None

    def _inputs(self, plan: Plan, rows: str) -> Iterable[tuple[str, str, list[tuple[int, int, int]]]]:
        """Yield each input that has rows of which rows of a model were made.

        With it come a relation of the database with these rows, each once, and triples: the number of a row of the
        model, how many rows of the input made it, and the number of one of them.
        """
        if not plan.blocks:
            self._note(f"{plan.model} cannot be followed to its inputs: {plan.reason}")
            return
        self._note_changed_inputs(plan)
        for name, found in self._trace(plan, rows).items():
            if self._columns is not None and name not in self._columns:
                continue
            keys = self._keys[name]
            ids = self._add(found)
            same = " AND ".join(f"t.{quote(key)} IS NOT DISTINCT FROM i.k{at}" for at, key in enumerate(keys))
            distinct = f"SELECT DISTINCT {', '.join(f'k{at}' for at in range(len(keys)))} FROM {ids}"
            rows_once = f"({distinct}) i JOIN {view_name(name)} t ON {same}"
            made_from = self._create(f"SELECT row_number() OVER () - 1 AS {NUMBER}, t.* FROM {rows_once}")
            links = self._database.connection.execute(
                f"SELECT i.{NUMBER}, i.{TOTAL}, t.{NUMBER} FROM {ids} i JOIN {made_from} t ON {same}"
                f" ORDER BY i.{NUMBER}, i.{RANK}"
            ).fetchall()
            yield name, made_from, links

    def _trace(self, plan: Plan, rows: str) -> dict[str, pa.Table]:
        """Return the keys of the rows of each input, as `Tracer.trace` does: by DuckDB, or else by Spark."""
        columns = [f"{quote(column)} AS {name}" for name, column in wanted_columns(plan).items()]
        wanted = self._create(f"SELECT {NUMBER}, {', '.join(columns)} FROM {rows}")
        for relation in plan.inputs:
            self._view(relation)
        keys = {relation: self._keys[relation] for relation in plan.inputs}
        arguments = self._arguments(plan)
        values = [
            [row["v"] for row in self._database.fetch(f"SELECT DISTINCT _why_k{at} AS v FROM {wanted}")]
            for at in range(len(plan.blocks[-1].refresh_key))
        ]
        try:
            sql = DuckdbBlocks(self._database.connection, plan, keys, arguments)
            found = Tracer(plan, sql, keys).trace(wanted, values, self._limit)
            return {relation: sql.fetch(text) for relation, text in found.items()}
        except (NotInDuckdbError, SqlglotError, duckdb.Error):
            spark, small = isolated_session(self._run.spark), self._run.pipeline.tuning.small_table_bytes
            inputs = {name: small_tables.read(spark, self._run.lake.table(name), small) for name in plan.inputs}
            of_model = self._database.connection.sql(f"SELECT * FROM {wanted}").to_arrow_table()
            fields = self._schemas[plan.model]
            return trace_with_spark(spark, plan, inputs, keys, arguments, of_model, fields, self._limit)

    def _arguments(self, plan: Plan) -> dict[str, Any]:
        """Return the parameters that a model uses, with their present values."""
        run = self._run
        parameters: dict[str, Any] = {"business_timezone": run.pipeline.business_timezone}
        if plan.parameters & set(NEWEST_SNAPSHOT):
            time = ledger.newest_accepted_time(run.lazy_spark, run.lake)
            parameters |= dict.fromkeys(NEWEST_SNAPSHOT, time)
        return {name: parameters[name] for name in plan.parameters}

    def _note_changed_inputs(self, plan: Plan) -> None:
        """Note the inputs that changed since the model was refreshed: its row may be of rows that are gone."""
        run = self._run
        version = delta.current_version(run.lazy_spark, run.lake.table(plan.model))
        recorded = ((version.recorded_progress() if version else None) or {}).get("inputs", {})
        for relation, at in recorded.items():
            current = delta.current_version(run.lazy_spark, run.lake.table(relation))
            if relation in plan.inputs and current and current.has_unread_changes(at["id"], at["version"]):
                self._note(
                    f"{relation} has changed since {plan.model} was refreshed, so that its rows of now are shown:"
                    f" lakehouse run {run.pipeline.argument} brings both together"
                )

    # --- the database -------------------------------------------------------------------------------------------------

    def _view(self, relation: str) -> T.StructType:
        """Add the view of a relation, once, and return its columns."""
        if relation not in self._schemas:
            query.require_written(self._run, relation)
            address = self._run.lake.table(relation)
            schema = self._database.add_table(relation, self._run.lazy_spark, address)
            stored = {name.lower(): name for name in schema.names}
            self._keys[relation] = tuple(stored.get(key.lower(), key) for key in self._keys[relation])
            self._schemas[relation] = schema
        return self._schemas[relation]

    def _create(self, text: str) -> str:
        self._tables += 1
        name = f"_why_rows_{self._tables}"
        self._database.connection.execute(f"CREATE TEMP TABLE {name} AS {text}")
        return name

    def _add(self, rows: pa.Table) -> str:
        self._tables += 1
        name = f"_why_rows_{self._tables}"
        self._database.connection.register(name, rows)
        return name

    def _note(self, text: str) -> None:
        self.notes[text] = None
