"""Runs the stage `publish`, and reads the state of published tables for other commands.

publish_tables     publish each selected table
read_states        the publish position of tables, as PostgreSQL recorded it
read_former_tables the tables that are not published any more
is_behind          whether a table has rows that wait to be published
pending_readers    the published table that has still to read a table's changes, so that `expire` keeps them
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lakehouse.concurrency import once
from lakehouse.config import Postgres
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.runner.context import Run, run_in_parallel
from lakehouse.runner.outcome import Outcome

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.publish.catalog import PublishPosition, PublishState
    from lakehouse.storage.delta_log import TableVersion

PUBLISH = "publish"


def publish_tables(run: Run) -> list[Outcome]:
    """Publish the selected tables. A table that PostgreSQL has in its current version needs no Spark session.

    Args:
        run: The command, which has locked the lake.

    Raises:
        ConfigError: The command is `publish`, and none of the selected tables is published.
    """
    tables = run.published_tables()
    if not tables and run.stages == (PUBLISH,):
        raise ConfigError(
            f"nothing to publish of {', '.join(run.names) or run.pipeline.name}",
            expected="publish: {postgres: {url: ..., tables: {gold.<model>: <table>}}}, the url not empty",
            where=str(run.pipeline.path),
        )
    spark, keys, data_bytes = once(lambda: run.spark), run.key_columns(), run.data_bytes(*run.pipeline.tables)

    def open_session() -> SparkSession:
        from lakehouse.spark.session import isolated_session

        return isolated_session(spark(), data_bytes)

    def work(name: str) -> Iterator[Outcome]:
        require_psycopg()
        from lakehouse.publish import sync

        publication = sync.Publication(run.pipeline.name, name, postgres_config(run).url, tables[name], keys[name])
        result = sync.publish(publication, run.lake, open_session, run.full_refresh)
        yield Outcome(PUBLISH, name, result.status, dict(result.counts), note=result.reason)

    return run_in_parallel(run, PUBLISH, list(tables), work)


def read_states(run: Run, tables: dict[str, str]) -> dict[str, PublishState]:
    """Return the publish states of tables, by the name that each has in the lake.

    Args:
        run: The command.
        tables: By the lake's name, the table in PostgreSQL.

    Raises:
        LakehouseError: PostgreSQL cannot be read.
    """
    require_psycopg()
    from lakehouse.publish import catalog

    return catalog.read_states(postgres_config(run).url, tables)


def read_former_tables(run: Run) -> list[str]:
    """Return the tables in PostgreSQL that the pipeline published and does not publish any more.

    Args:
        run: The command of a pipeline that publishes.

    Raises:
        LakehouseError: PostgreSQL cannot be read.
    """
    require_psycopg()
    from lakehouse.publish import catalog

    postgres = postgres_config(run)
    return catalog.read_former_tables(postgres.url, run.pipeline.name, postgres.tables.values())


def is_behind(run: Run, version: TableVersion, position: PublishPosition | None) -> bool:
    """Return whether the lake's table may have rows that wait to be published.

    Args:
        run: The command.
        version: The current version of the lake's table.
        position: The publish position that PostgreSQL recorded; None if it was never published.
    """
    require_psycopg()
    from lakehouse.publish import sync

    return sync.is_behind(run.lake, version, position)


def pending_readers(spark: SparkSession, run: Run, name: str) -> list[str]:
    """Return the table in PostgreSQL that has still to read changes of a table, or might have if it does not answer.

    Args:
        spark: Any session.
        run: The command.
        name: The table's name in the lake.
    """
    if name not in run.published_tables():
        return []
    try:
        state = read_states(run, {name: run.published_tables()[name]})[name]
    except LakehouseError:
        return ["PostgreSQL, which does not answer,"]
    from lakehouse.publish import sync

    if state.position is None or not sync.has_unread_changes(spark, run.lake, state.position):
        return []
    return [f"{state.table} in PostgreSQL"]


def postgres_config(run: Run) -> Postgres:
    """Return the section `publish.postgres` of a pipeline that publishes.

    Args:
        run: The command.
    """
    assert run.pipeline.publish and run.pipeline.publish.postgres
    return run.pipeline.publish.postgres


def require_psycopg() -> None:
    """Raise if psycopg is not installed: it is an optional dependency.

    Raises:
        ConfigError: With the command that installs it.
    """
    try:
        import lakehouse.publish.connection  # noqa: F401
    except ImportError:
        raise ConfigError(
            "psycopg is not installed",
            expected="the package that writes to PostgreSQL",
            where="publish: {postgres: ...}",
            next_step="pip install 'lakehouse[postgres]'",
        ) from None
