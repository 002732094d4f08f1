"""Answers questions about the rows of a lake in the driver: `show` and `sql`. DuckDB computes, over the lake's files.

1. Resolve the names of tables and models; of a query, those that its FROM clauses name.
2. Make each of them a view, as it is now or as it was at a time (`lake/duckdb_views.py`).
3. Run the query, which may read nothing but these views; return a document, or write a file.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError, InfrastructureError, LakehouseError
from lakehouse.inspect.plain_value import plain_value
from lakehouse.lake import delta, ledger
from lakehouse.lake.cdc import DELETE, END_AT, MISSING_SINCE
from lakehouse.lake.duckdb_sql import quote
from lakehouse.lake.duckdb_views import Database, NeedsSparkError, open_database
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.lake.small_tables import python_values
from lakehouse.lake.table_ref import TableRef
from lakehouse.runner.context import Run, open_run
from lakehouse.storage.file_io import replace_when_complete
from lakehouse.storage.paths import parse_time, to_utc, utc_text_z

Document = dict[str, Any]

FORMATS = (".csv", ".parquet")
_BATCH_ROWS = 1 << 16
_DIALECT = "DuckDB's SQL, which is not Spark's: what only Spark has belongs in a model, or in a notebook"


def resolve_name(run: Run, name: str) -> str:
    """Return a table or model with its layer: `bronze.clientes`, `silver.clientes`.

    Args:
        run: The command.
        name: With its layer, or a table's or a model's name that only one layer has; a table comes first.

    Raises:
        ConfigError: There is no such table or model.
    """
    known = relations(run)
    if name in known:
        return name
    if name in run.pipeline.tables:
        return f"bronze.{name}"
    found = [relation for relation in known if relation.partition(".")[2] == name]
    if len(found) != 1:
        raise ConfigError(
            f"{run.pipeline.name} has no {name}{did_you_mean(name, known)}",
            expected=f"one of {', '.join(known)}",
            where=str(run.pipeline.path),
            next_step=f"lakehouse status {run.pipeline.argument}, which lists them",
        )
    return found[0]


def relations(run: Run) -> list[str]:
    """Return the names of all tables and models, with their layers."""
    return [*(f"bronze.{table}" for table in run.pipeline.tables), *run.pipeline.model_names]


def show(run: Run, name: str, limit: int, at: datetime | None = None) -> Document:
    """Return the counts and the first rows of a table or model.

    Args:
        run: The command.
        name: The table or model, as `resolve_name` takes it.
        limit: The most rows to return.
        at: The time to show it at; None: now.

    Returns:
        The document of `lakehouse show --json`.
    """
    relation = resolve_name(run, name)
    layer, _, short = relation.partition(".")
    keys = run.keys_of(relation)
    with open_database() as database:
        history = _add_view(run, database, relation, at)
        columns = database.columns(relation)
        # Of a history, the open windows are the rows that there are now.
        is_live = _live_condition(columns) if layer == "bronze" and at is None else "true"
        view = f"{quote(layer)}.{quote(short)}"
        (counts,) = database.fetch(f"SELECT count(*) AS n, count(*) FILTER ({is_live}) AS live FROM {view}")
        order = ", ".join(quote(key) for key in keys if key in columns) or "ALL"
        query = f"SELECT * FROM {view} WHERE {is_live} ORDER BY {order} LIMIT {int(limit)}"
        rows = list(_plain_rows(database.connection.sql(query)))
    last = history.last_accepted if history else None
    return {
        "pipeline": run.pipeline.name,
        "name": relation,
        "at": utc_text_z(at) if at else None,
        "count": counts["live"],
        "windows": counts["n"] if END_AT in columns and is_live != "true" else None,
        "keys": list(keys),
        "columns": [{"name": column, "type": kind} for column, kind in columns.items()],
        "snapshot_time": utc_text_z(last.snapshot_time) if last else None,
        "last_change": last.counts if last else None,
        "rows": rows,
    }


def _live_condition(columns: Collection[str]) -> str:
    """Return the SQL for whether a row of bronze is a live one: an open window, and not marked as deleted."""
    if END_AT in columns:
        return f"{quote(END_AT)} IS NULL"
    is_kept = f"{MISSING_SINCE} IS NULL OR _cdc_operation <> '{DELETE}'"
    return is_kept if MISSING_SINCE in columns else "true"


def run_query(run: Run, query: str, limit: int, at: datetime | None = None, out: str | None = None) -> Document:
    """Return the rows of a query over the lake's tables and models, or write them to a file.

    Args:
        run: The command.
        query: One SELECT in DuckDB's dialect.
        limit: The most rows to return; of a file, all are written.
        at: The time at which the tables are read; None: now.
        out: The file to write, `.csv` or `.parquet`; None: return the rows.

    Returns:
        The document of `lakehouse sql --json`.

    Raises:
        ConfigError: The query is not one SELECT of this pipeline's tables, or the file has another ending.
    """
    if out is not None and (Path(out).is_dir() or not Path(out).parent.is_dir()):
        raise ConfigError(
            f"{out} cannot be written: {'it is a folder' if Path(out).is_dir() else 'its folder is missing'}",
            expected="a file in a folder that exists",
            where="--out",
            next_step=f"mkdir -p {shlex.quote(str(Path(out).parent))}, or another file",
        )
    if out is not None and Path(out).suffix.lower() not in FORMATS:
        raise ConfigError(
            f"--out {out}",
            expected=f"a file that ends with {' or '.join(FORMATS)}",
            where="--out",
            next_step=f"the same command with --out {shlex.quote(str(Path(out).with_suffix(FORMATS[0])))}",
        )
    with _open_query(run, query, at) as found:
        document: Document = {
            "pipeline": run.pipeline.name,
            "at": utc_text_z(at) if at else None,
            "columns": [
                {"name": name, "type": str(kind)} for name, kind in zip(found.columns, found.types, strict=True)
            ],
        }
        if out is not None:
            return document | {"out": out, "count": _write_file(found, Path(out))}
        rows = list(_plain_rows(found.limit(limit + 1)))
    return document | {"rows": rows[:limit], "has_more": len(rows) > limit}


def sql(pipeline: str | Path, query: str, at: datetime | str | None = None, verbose: bool = False) -> pa.Table:
    """Return the rows of a query over the tables and models of the lake. Starts no JVM for a lake on a disk.

    Args:
        pipeline: A folder with pipeline.yml, or that file.
        query: One SELECT in DuckDB's dialect; tables have their full names, such as bronze.clientes.
        at: The time at which tables are read, with a time zone, else it is UTC; or its text, YYYYMMDD_HHMMSS or ISO.
            None: now.
        verbose: Whether Spark's own output is shown.

    Raises:
        ConfigError: The query is not one SELECT of this pipeline's tables, or the text is no time.
    """
    time = parse_time(at) if isinstance(at, str) else to_utc(at) if at else None
    with _open_query(open_run(pipeline, checks_models=False, verbose=verbose), query, time) as found:
        return found.to_arrow_table()


@contextmanager
def _open_query(run: Run, query: str, at: datetime | None) -> Iterator[duckdb.DuckDBPyRelation]:
    """Yield the result of a query, which has read nothing but the tables that it names."""
    with open_database() as database, _query_errors(query):
        for relation in _named_relations(run, database.connection, query):
            _add_view(run, database, relation, at)
        database.close_to_files()
        yield database.connection.sql(query)


def require_written(run: Run, relation: str) -> str:
    """Return the address of a table or model, after a check that a run has written it.

    Args:
        run: The command.
        relation: The table or model, with its layer.

    Raises:
        ConfigError: It is not in the lake yet.
    """
    address = run.lake.table(relation)
    if delta.is_missing(address):
        raise ConfigError(
            f"{relation} is not in the lake yet",
            expected="a table that a run has written",
            where=run.lake.root,
            next_step=f"lakehouse run {run.pipeline.argument}",
        )
    return address


# --- views ------------------------------------------------------------------------------------------------------------


def _add_view(run: Run, database: Database, relation: str, at: datetime | None) -> LedgerHistory | None:
    """Make a table or model a view, and return the ledger's rows of a table."""
    layer, _, short = relation.partition(".")
    address = require_written(run, relation)
    if layer != "bronze":
        if at is None or not _add_model_at(run, database, relation, at):
            database.add_table(relation, run.lazy_spark, address)
        return None
    history = ledger.read_histories(run.lazy_spark, run.lake, [short])[short]
    if at is None:
        database.add_table(relation, run.lazy_spark, address)
        return history
    _add_view_at(run, database, relation, history, at)
    return LedgerHistory([entry for entry in history.entries if entry.snapshot_time <= at])


def _add_view_at(run: Run, database: Database, relation: str, history: LedgerHistory, at: datetime) -> None:
    """Make a table as it was at a time a view, of the rows that `lakehouse.time_travel` returns."""
    from lakehouse.bronze import read

    name = relation.partition(".")[2]
    table = TableRef(run.lazy_spark, run.lake, name, run.pipeline.tables[name], run.pipeline.tuning)
    try:
        if table.config.feed:
            raise NeedsSparkError
        if table.config.scd == 2 and any(entry.keeps_missing for entry in history.accepted):
            raise NeedsSparkError  # see `rows_as_of`
        if table.config.scd == 2:
            database.add_windows_at(relation, table, at, read.undelivered_at(table, history, at))
        else:
            database.add_last_changes(relation, table, read.entries_until(table, history, at))
    except NeedsSparkError:
        table = TableRef(run.spark, run.lake, name, run.pipeline.tables[name], run.pipeline.tuning)
        database.add_frame(relation, read.rows_as_of(table, history, at))


def _add_model_at(run: Run, database: Database, model: str, at: datetime) -> bool:
    """Make a model as it was at a time a view: its SQL over its inputs at that time, which Spark computes.

    Returns:
        Whether it did; not if nothing was accepted since, so that the model is as it was.
    """
    histories = ledger.read_histories(run.lazy_spark, run.lake, list(run.pipeline.tables))
    newest = max((time for history in histories.values() if (time := history.newest_accepted_time)), default=None)
    if newest is not None and newest <= at:
        return False
    from lakehouse.inspect.at_time import RelationsAt
    from lakehouse.spark.session import isolated_session

    spark = isolated_session(run.spark, run.data_bytes(*run.pipeline.tables))
    database.add_frame(model, RelationsAt(run, spark, histories, at).rows(model))
    return True


def _named_relations(run: Run, connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
    """Return the tables and models that a query names, after a check that it is one SELECT."""
    statements = connection.extract_statements(query)
    if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
        kinds = ", ".join(statement.type.name for statement in statements) or "no statement"
        raise ConfigError(
            f"the query is {kinds}",
            expected="one SELECT: `sql` only reads",
            where=f"the query: {query}",
            next_step="docs/guide/look.md has examples",
        )
    ((text,),) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    tree, known = json.loads(text), relations(run)
    if tree.get("error", True):  # DESCRIBE and the like, which may name any
        return [relation for relation in known if not delta.is_missing(run.lake.table(relation))]
    by_name = {relation.lower(): relation for relation in known}
    own_names = {name.lower() for name in _values(tree, "key")}  # of common table expressions
    found = [(node["schema_name"], node["table_name"]) for node in _nodes(tree, "BASE_TABLE")]
    full_names = [f"{schema}.{name}" if schema else name for schema, name in found]
    named = {name.lower(): name for name in full_names if name.lower() not in own_names}
    if unknown := [name for key, name in named.items() if key not in by_name]:
        raise ConfigError(
            f"{run.pipeline.name} has no {', '.join(unknown)}{did_you_mean(unknown[0], known)}",
            expected=f"one of {', '.join(known)}",
            where=f"the query: {query}",
            next_step=f"lakehouse status {run.pipeline.argument}, which lists them",
        )
    return [by_name[key] for key in sorted(named)]


def _nodes(tree: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a kind in a query's tree."""
    if isinstance(tree, dict) and tree.get("type") == kind:
        yield tree
    for value in _children(tree):
        yield from _nodes(value, kind)


def _values(tree: Any, name: str) -> Iterator[str]:
    """Yield the texts that nodes of a query's tree have by a name."""
    if isinstance(tree, dict) and isinstance(tree.get(name), str):
        yield tree[name]
    for value in _children(tree):
        yield from _values(value, name)


def _children(tree: Any) -> Iterable[Any]:
    return tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()


class _query_errors:
    """Reports an error of DuckDB about the query as the user's, or as one of the machine."""

    def __init__(self, query: str) -> None:
        self._query = query

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, duckdb.OutOfMemoryException | duckdb.IOException):
            raise _machine_error(error) from error
        if isinstance(error, duckdb.Error):
            raise ConfigError(
                str(error).strip(),
                expected=_DIALECT,
                where=f"the query: {self._query}",
                next_step="docs/guide/look.md has examples",
            ) from error


def _machine_error(error: duckdb.Error) -> LakehouseError:
    return InfrastructureError(str(error), expected="enough memory and readable files", next_step="run it again")


# --- values -----------------------------------------------------------------------------------------------------------


def _plain_rows(found: duckdb.DuckDBPyRelation) -> Iterator[Document]:
    """Yield rows as JSON values: exact decimals as text, times as ISO text."""
    names = found.columns
    readers = [_reader(str(kind)) for kind in found.types]
    for batch in found.to_arrow_reader(_BATCH_ROWS):
        columns = map(python_values, batch.columns)
        for values in zip(*columns, strict=True):
            yield {name: read(value) for name, read, value in zip(names, readers, values, strict=True)}


def _reader(kind: str) -> Callable[[Any], Any]:
    if kind in ("HUGEINT", "UHUGEINT"):  # the type of a sum of integers; Arrow has it as a decimal
        return lambda value: None if value is None else int(value)
    return plain_value


def _write_file(found: duckdb.DuckDBPyRelation, file: Path) -> int:
    """Write rows to a file, which appears when it is complete, and return how many there are."""
    reader, count = found.to_arrow_reader(_BATCH_ROWS), 0
    writer = _open_csv if file.suffix.lower() == ".csv" else _open_parquet
    with replace_when_complete(file) as partial, writer(partial, reader.schema) as target:
        for batch in reader:
            target.write_batch(batch)
            count += batch.num_rows
    return count


def _open_parquet(file: Path, schema: pa.Schema) -> Any:
    return pq.ParquetWriter(file, schema, compression="zstd")


def _open_csv(file: Path, schema: pa.Schema) -> _CsvWriter:
    return _CsvWriter(file, schema)


class _CsvWriter:
    """Writes a CSV file by RFC 4180: null is blank, an empty text is `""`; lists and structs are JSON."""

    def __init__(self, file: Path, schema: pa.Schema) -> None:
        self._file = file.open("w", encoding="utf-8", newline="")
        self._write([field.name for field in schema])

    def __enter__(self) -> _CsvWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write_batch(self, batch: pa.RecordBatch) -> None:
        """Append rows."""
        for values in zip(*map(python_values, batch.columns), strict=True):
            self._write([plain_value(value) for value in values])

    def _write(self, values: list[Any]) -> None:
        self._file.write(",".join(map(_csv_text, values)) + "\r\n")


def _csv_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    needs_quotes = text == "" or text != text.strip() or any(character in text for character in ',"\r\n')
    return '"' + text.replace('"', '""') + '"' if needs_quotes else text
