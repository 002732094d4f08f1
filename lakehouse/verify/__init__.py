"""What always holds, checked on a lake as it is: from landing and the authors' SQL anew, without what wrote it.

    I1  bronze = the last accepted snapshot; keys in its quarantine keep their row      raw.py
        a history (scd 2) shows every change set at its time                            history.py
    I2  bronze = its Change Data Feed, replayed                                         log.py
    I3  silver = its SQL over all of bronze     I4  gold = its SQL over all of silver;
        less what expectations took out, and that is in quarantine                     expected.py
    I5  the ledger's counts add up, and are those of raw and of the Change Data Feed    both of these
    I6  PostgreSQL = the lake at the version it names                                   published.py
        the JSON on S3, folded by key, = PostgreSQL                                     objects.py
    I7  one commit for each sequence, and no equal row rewritten                        log.py

A check that cannot be made, because changes wait or retention took the evidence, says so; it has not failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse import logs
from lakehouse.error_mapping import to_lakehouse_error, with_retries
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.lake import delta, ledger
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.models.refresh import Model
from lakehouse.runner import publishing, stages
from lakehouse.runner.context import Run
from lakehouse.spark.session import isolated_session
from lakehouse.storage.delta_log import TableVersion
from lakehouse.verify.check import Check, Claim, quoted_column, to_json
from lakehouse.verify.delta_history import bronze_checks, check_no_rewrite, has_commit
from lakehouse.verify.landed_rows import count_checks, snapshot_checks
from lakehouse.verify.model_sql import model_checks
from lakehouse.verify.s3_objects import check_s3_objects
from lakehouse.verify.scd2 import scd2_checks
from lakehouse.verify.second_reader import CheckedTable

__all__ = ["Check", "verify"]

CurrentVersions = dict[str, Future[TableVersion | None]]  # asked for once, though a table is an input of several models
CheckFunction = Callable[[SparkSession], Iterator[Check]]

_LAYERS = ("silver", "gold")
_INVARIANT = {"silver": "I3", "gold": "I4"}
_SIDE_BY_SIDE = 4
_MAX_COMMITS = 1_000_000
_NO_SNAPSHOT = "no snapshot was accepted yet"


def verify(run: Run) -> list[Check]:
    """Make every check of the tables and models that `run` is narrowed to. Writes nothing."""
    spark, tables = run.spark, run.selected_tables()
    histories, prepared = (
        with_retries(lambda: ledger.read_histories(spark, run.lake, tables)),
        with_retries(lambda: stages.build_models(run)),
    )
    models = [prepared[name] for layer in _LAYERS for group in run.model_groups(layer) for name in group]
    relations = [*(f"bronze.{t}" for t in tables), *(r for m in models for r in (m.name, *m.plan.dependencies))]
    size = run.snapshot_bytes(*run.pipeline.tables)

    def head(
        relation: str,
    ) -> TableVersion | None:  # patiently by itself: who waits for it again gets the same error again
        return with_retries(
            lambda: delta.current_version(isolated_session(spark, size), run.lake.table(relation), _MAX_COMMITS)
        )

    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        heads = {relation: pool.submit(head, relation) for relation in dict.fromkeys(relations)}
        work: list[tuple[str, CheckFunction]] = [
            (t, partial(part, run, t, histories[t], heads)) for t in tables for part in _checks_for_table(histories[t])
        ]
        work += [(m.name, partial(part, run, m, heads)) for m in models for part in (_sql_checks, _key_checks)]
        work += [(source, partial(_postgres_checks, run, source)) for source in run.published_tables()]
        work += [(table, partial(_s3_checks, run, topic)) for topic, table in _connect_topics(run)]
        found = pool.map(lambda each: _run_checks(isolated_session(spark, size), *each), work)
        each = dict.fromkeys(check for checks in found for check in checks)  # what cannot be read is met more than once
        return sorted(each, key=lambda check: check.invariant)


def _postgres_checks(run: Run, source: str, spark: SparkSession) -> Iterator[Check]:
    publishing.import_publish()  # says so, if it is not installed
    from lakehouse.verify.published import published_checks

    yield from published_checks(spark, run, publishing.postgres_config(run), source)


def _run_checks(spark: SparkSession, name: str, work: CheckFunction) -> list[Check]:
    """The checks of a part, up to one that ends in an error: what cannot be read has not passed."""
    checks: list[Check] = []

    def made() -> None:
        checks.clear()
        for check in work(spark):
            checks.append(check)

    try:
        with_retries(made)
    except Exception as error:
        told, claim = to_lakehouse_error(error), Claim("I0", "what is there can be read", name)
        why = logs.redact(told.to_text())
        # Nobody's data are wrong where a store does not answer, or forbids it.
        is_the_stores = isinstance(told, InfrastructureError | ConfigError)
        checks.append(claim.not_checkable(why, told.exit_code) if is_the_stores else claim.fails(why))
    return checks


# --- a table ----------------------------------------------------------------------------------------------------


def _checks_for_table(history: LedgerHistory) -> tuple[Callable[..., Iterator[Check]], ...]:
    """The parts that its checks are made in, and made again where the network fails: the smaller, the sooner one is
    through."""
    return (_landed_checks, _ledger_checks, _delta_history_checks) if history.accepted else (_no_snapshot_checks,)


def _no_snapshot_checks(
    run: Run, name: str, history: LedgerHistory, heads: CurrentVersions, spark: SparkSession
) -> Iterator[Check]:
    for invariant in ("I1", "I2", "I5", "I7"):
        yield Claim(invariant, "bronze", name).not_checkable(_NO_SNAPSHOT)


def _landed_checks(
    run: Run, name: str, history: LedgerHistory, heads: CurrentVersions, spark: SparkSession
) -> Iterator[Check]:
    subject = CheckedTable(spark, run.lake, run.pipeline, name, history)
    if waiting := _bronze_lag_reason(heads[f"bronze.{name}"].result(), history):
        yield Claim("I1", "bronze = the last accepted snapshot", name).not_checkable(waiting)
        return
    yield from snapshot_checks(subject)
    if subject.config.scd == 2:
        yield from scd2_checks(subject)


def _ledger_checks(
    run: Run, name: str, history: LedgerHistory, heads: CurrentVersions, spark: SparkSession
) -> Iterator[Check]:
    yield from count_checks(CheckedTable(spark, run.lake, run.pipeline, name, history))


def _delta_history_checks(
    run: Run, name: str, history: LedgerHistory, heads: CurrentVersions, spark: SparkSession
) -> Iterator[Check]:
    if (head := heads[f"bronze.{name}"].result()) is not None:
        yield from bronze_checks(CheckedTable(spark, run.lake, run.pipeline, name, history), head)
        return
    for invariant in ("I2", "I7"):
        yield Claim(invariant, "bronze", name).not_checkable(_bronze_lag_reason(head, history))


def _bronze_lag_reason(head: TableVersion | None, history: LedgerHistory) -> str:
    """Which accepted change sets bronze has not got yet, by its own newest word; empty if it has all."""
    newest = next((c.metadata for c in head.commits if "sequence" in c.metadata), None) if head else {"sequence": 0}
    if newest is None:
        return ""  # somebody else's table throughout: it is compared as it is
    waiting = [e.sequence for e in history.accepted if (e.sequence or 0) > newest["sequence"] and has_commit(e)]
    return f"change sets wait to be applied: bronze is at {newest['sequence']} of {waiting[-1]}" if waiting else ""


# --- a model ----------------------------------------------------------------------------------------------------


def _sql_checks(run: Run, model: Model, heads: CurrentVersions, spark: SparkSession) -> Iterator[Check]:
    layer = model.name.partition(".")[0]
    same = Claim(_INVARIANT[layer], f"{layer} = its SQL", model.name)
    own = heads[model.name].result()
    there = {r: head for r in model.plan.dependencies if (head := heads[r].result()) is not None}
    if missing := [r for r in model.plan.dependencies if r not in there]:
        yield same.not_checkable(f"{_NO_SNAPSHOT}: there is no {', '.join(missing)}")
        return
    why = _model_lag_reason(model, own, there)
    if own is None or why:
        yield same.not_checkable(why)
    else:
        yield from model_checks(spark, run.lake, model, own, there)


def _key_checks(run: Run, model: Model, heads: CurrentVersions, spark: SparkSession) -> Iterator[Check]:
    own, path = heads[model.name].result(), run.lake.table(model.name)
    if own is None or any(heads[r].result() is None for r in model.plan.dependencies):
        return
    yield _check_unique_keys(
        Claim(_INVARIANT[model.name.partition(".")[0]], "keys are unique", model.name), spark, run, model
    )
    ours = {c.version for c in own.commits if c.metadata and c.changes_rows}
    yield check_no_rewrite(spark, path, model.name, own, ours, delta.read(spark, path).columns)


def _model_lag_reason(model: Model, own: TableVersion | None, inputs: dict[str, TableVersion]) -> str:
    """Why the model may differ from its SQL over what its inputs hold now; empty if it may not.

    What its newest commit of ours names counts, also where somebody else has written since: that is to be found.
    """
    at = next((c.metadata for c in own.commits if "inputs" in c.metadata), None) if own else None
    if at is None:
        return "no commit in its log says what it was computed from" if own else "it waits to be computed"
    arguments = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in model.arguments.items()}
    if at["sql"] != model.plan.sql_hash or at["arguments"] != arguments:
        return "its SQL, a parameter or what is expected of it changed, and it waits to be computed again"
    for relation, head in inputs.items():
        named = at["inputs"].get(relation, {})
        if named.get("id") != head.id or head.has_changed_since(named["version"]):
            return f"changes wait: {relation} is at version {head.version}, read at {named.get('version')}"
    return ""


def _check_unique_keys(claim: Claim, spark: SparkSession, run: Run, model: Model) -> Check:
    keys = list(model.plan.keys)
    grouped = delta.read(spark, run.lake.table(model.name)).groupBy(*map(quoted_column, keys)).count()
    doubled = F.count_if(F.col("count") > 1)
    total, wrong = grouped.agg(F.count("*"), doubled).collect()[0]
    if not wrong:
        return claim.holds(f"{total:,} keys")
    examples = grouped.where("count > 1").orderBy(*map(quoted_column, keys)).limit(3).select(to_json(keys)).collect()
    return claim.fails(f"{wrong:,} keys have more than one row: {'; '.join(row[0] for row in examples)}")


# --- what is published --------------------------------------------------------------------------------------------


def _connect_topics(run: Run) -> list[tuple[str, str]]:
    """Topics whose objects are to be compared, and the tables that they follow."""
    connect, publish = run.pipeline.connect, run.pipeline.publish
    models = publish.postgres.tables if publish and publish.postgres else {}
    wanted = {table for model, table in models.items() if not run.names or model in run.names}
    return [(topic, table) for topic, table in (connect.topics if connect else {}).items() if table in wanted]


def _s3_checks(run: Run, topic: str, _: SparkSession) -> Iterator[Check]:
    yield check_s3_objects(run.pipeline, topic)
