"""Checks the invariants of a lake. The entry point is `verify`.

The expected rows come from the landed files and the models' SQL, not from the code that wrote the lake's tables.

    I1  bronze = the last accepted snapshot; keys in its quarantine keep their row      landed_rows.py second_reader.py
        of a table with slice_by, for each slice                                        landed_slices.py
        rows of a table without a key, each as often as it was delivered                counted_rows.py
        a history (scd 2) shows every change set at its time                            scd2.py
        a table with a change feed = the fold of all accepted events                    feed.py feed_fold.py
    I2  bronze = its Change Data Feed, replayed                                         delta_history.py
    I3  silver = its SQL over all of bronze, less the rejected rows;                    model_sql.py
        quarantine has the rows that expectations put there
    I4  gold = its SQL over all of silver, in the same way                              model_sql.py
    I5  the ledger's counts add up, and equal those of the change sets                  ledger_counts.py
        and of the Change Data Feed; after a replay, its net                            delta_history.py net_changes.py
    I6  PostgreSQL = the lake at the version that it records                            published.py
        the JSON lines on S3, folded by key, = PostgreSQL                               s3_objects.py
    I7  one commit for each sequence, and no equal row rewritten                        delta_history.py log_summary.py

A claim is not checkable if changes wait to be applied, retention removed the evidence or a commit is missing in a log;
that is not a failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TypeVar

from pyspark.sql import SparkSession

from lakehouse import logs
from lakehouse.concurrency import worker_pool
from lakehouse.error_mapping import retry_transient, to_lakehouse_error
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.lake import delta, ledger
from lakehouse.runner import publishing, stages
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.delta_log import TableVersion
from lakehouse.verify.check import Check, Claim
from lakehouse.verify.checked_table import NO_SNAPSHOT, CheckedTable
from lakehouse.verify.delta_history import bronze_checks
from lakehouse.verify.landed_rows import snapshot_checks
from lakehouse.verify.landed_slices import slice_checks
from lakehouse.verify.ledger_counts import count_checks
from lakehouse.verify.model_sql import CheckedModel, key_checks, sql_checks
from lakehouse.verify.s3_objects import check_s3_objects

__all__ = ["Check", "verify"]

CheckFunction = Callable[[SparkSession], Iterator[Check]]
Part = tuple[str, CheckFunction]  # of a table or model, by its name

Subject = TypeVar("Subject", CheckedTable, CheckedModel)

_MAX_COMMITS = 1_000_000


def verify(run: Run) -> list[Check]:
    """Check the tables, models and published tables that a command selects. Nothing is written.

    1. Read the ledger, and build the models.
    2. Read the current version of each Delta table, once.
    3. Run the checks of each table, model and published table, several at once; each part is retried by itself.
    4. Order the results by invariant.

    Args:
        run: The command, with its pipeline and names.

    Returns:
        The results. A part that cannot be read adds a result of the invariant `I0`.
    """
    spark, lake, tables = run.spark, run.lake, run.selected_tables()
    histories = retry_transient(lambda: ledger.read_histories(spark, lake, tables))
    all_models = retry_transient(lambda: stages.build_models(run))
    models = [all_models[name] for name in run.selected_models()]
    relations = [*(f"bronze.{table}" for table in tables), *(m.name for m in models)]
    relations += [relation for model in models for relation in model.plan.dependencies]
    data_bytes = run.data_bytes(*run.pipeline.tables)

    def read_version(relation: str) -> TableVersion | None:
        session = isolated_session(spark, data_bytes)
        return retry_transient(lambda: delta.current_version(session, lake.table(relation), _MAX_COMMITS))

    with worker_pool() as pool:
        versions = {relation: pool.submit(read_version, relation) for relation in dict.fromkeys(relations)}
        parts: list[Part] = []
        for name in tables:
            table = CheckedTable(spark, lake, run.pipeline, name, histories[name], versions)
            content_checks = slice_checks if table.config.slice_by else snapshot_checks
            functions = (content_checks, count_checks, bronze_checks) if table.accepted else (_no_snapshot_checks,)
            parts += _parts(table, functions)
        for model in models:
            parts += _parts(CheckedModel(spark, lake, model, versions), (sql_checks, key_checks))
        parts += [(source, partial(_check_published, run, source)) for source in run.published_tables()]
        parts += [(table, partial(_check_s3_objects, run, topic)) for topic, table in _selected_topics(run)]
        run.progress.begin("verify", len(parts))

        def check_part(part: Part) -> list[Check]:
            checks = _run_checks(isolated_session(spark, data_bytes), *part)
            run.progress.advance()
            return checks

        results = pool.map(check_part, parts)
        unique = dict.fromkeys(check for checks in results for check in checks)  # parts may meet the same error
        return sorted(unique, key=lambda check: check.invariant)


def _run_checks(spark: SparkSession, name: str, function: CheckFunction) -> list[Check]:
    """Return the checks of a part, up to the first error; a part that cannot be read has failed.

    It has not if a store does not answer or denies access: then nobody's data are wrong.
    """
    checks: list[Check] = []

    def run_all() -> None:
        checks.clear()
        for check in function(spark):
            checks.append(check)

    try:
        retry_transient(run_all)
    except Exception as raised:
        error, claim = to_lakehouse_error(raised), Claim("I0", "what is there can be read", name)
        message = logs.redact(error.to_text())
        is_store_error = isinstance(error, InfrastructureError | ConfigError)
        checks.append(claim.not_checkable(message, error.exit_code) if is_store_error else claim.fails(message))
    return checks


def _parts(subject: Subject, functions: Iterable[Callable[[Subject], Iterator[Check]]]) -> list[Part]:
    """Return the parts of the checks of a table or model; small ones, so that a retry repeats little."""

    def in_session(function: Callable[[Subject], Iterator[Check]]) -> CheckFunction:
        return lambda spark: function(subject.with_spark(spark))

    return [(subject.name, in_session(function)) for function in functions]


def _no_snapshot_checks(table: CheckedTable) -> Iterator[Check]:
    for invariant in ("I1", "I2", "I5", "I7"):
        yield Claim(invariant, "bronze", table.name).not_checkable(NO_SNAPSHOT)


def _check_published(run: Run, source: str, spark: SparkSession) -> Iterator[Check]:
    publishing.require_psycopg()  # raises an error with the next step if psycopg is not installed
    from lakehouse.verify.published import check_published

    yield check_published(spark, run, publishing.postgres_config(run), source)


def _check_s3_objects(run: Run, topic: str, _: SparkSession) -> Iterator[Check]:
    yield check_s3_objects(run.pipeline, topic)


def _selected_topics(run: Run) -> list[tuple[str, str]]:
    """Return the topics that follow a selected table, each with the name of that table in PostgreSQL."""
    connect, publish = run.pipeline.connect, run.pipeline.publish
    tables = publish.postgres.tables if publish and publish.postgres else {}
    selected = {table for source, table in tables.items() if not run.names or source in run.names}
    return [(topic, table) for topic, table in (connect.topics if connect else {}).items() if table in selected]
