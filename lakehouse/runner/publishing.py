"""The stage `publish`: every published table brought up to date; and what others ask of it.

publish     each table of `publish:`, and what became of it
standing    how far each is, by what PostgreSQL itself says
readers     who has still to read changes of a table, so that `expire` leaves them there
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
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
    """Bring what is published up to date. Without Spark, where PostgreSQL says that it has everything.

    Raises:
        ConfigError: nothing is published, of what the command is narrowed to.
    """
    tables = run.published_tables()
    if not tables and run.stages == (PUBLISH,):
        raise ConfigError(
            f"nothing to publish of {', '.join(run.names) or run.pipeline.name}",
            expected="publish: {postgres: {url: ..., tables: {gold.<model>: <table>}}}, the url not empty",
            where=str(run.pipeline.path),
        )
    spark, keys, size = once(lambda: run.spark), run.key_columns(), run.snapshot_bytes(*run.pipeline.tables)

    def work(name: str) -> Iterator[Outcome]:
        from lakehouse.spark.session import isolated_session

        sync = import_publish().sync
        what = sync.Publication(run.pipeline.name, name, postgres_config(run).url, tables[name], keys[name])
        done = sync.publish(what, run.lake, lambda: isolated_session(spark(), size), run.full_refresh)
        yield Outcome(PUBLISH, name, done.how, dict(done.counts), note=done.why)

    return run_in_parallel(run, PUBLISH, list(tables), work)


def read_states(run: Run, tables: dict[str, str]) -> dict[str, PublishState]:
    """How far each table is, by its name in the lake.

    Raises:
        LakehouseError: PostgreSQL cannot be asked.
    """
    found: dict[str, PublishState] = import_publish().catalog.standing(postgres_config(run).url, tables)
    return found


def is_behind(run: Run, version: TableVersion, position: PublishPosition | None) -> bool:
    """Whether the newest version of the lake's table waits to be published."""
    return bool(import_publish().sync.is_behind(run.lake, version, position))


def pending_readers(spark: SparkSession, run: Run, name: str) -> list[str]:
    """The table in PostgreSQL that has still to read changes of a table, or may have: it may not be there to ask."""
    if name not in run.published_tables():
        return []
    try:
        at = read_states(run, {name: run.published_tables()[name]})[name]
    except LakehouseError:
        return ["PostgreSQL, which does not answer,"]
    behind = at.position and import_publish().sync.has_to_read(spark, run.lake, at.position)
    return [f"{at.table} in PostgreSQL"] if behind else []


def postgres_config(run: Run) -> Postgres:
    """Where it is published to; only asked where something is."""
    assert run.pipeline.publish and run.pipeline.publish.postgres
    return run.pipeline.publish.postgres


def import_publish() -> ModuleType:
    """`lakehouse.publish`, with all of its modules.

    Raises:
        ConfigError: what it needs is not installed.
    """
    try:
        import lakehouse.publish.sync
    except ImportError:
        raise ConfigError(
            "psycopg is not installed",
            expected="the package that writes to PostgreSQL",
            where="publish: {postgres: ...}",
            next_step="pip install 'lakehouse[postgres]'",
        ) from None
    return lakehouse.publish
