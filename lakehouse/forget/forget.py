"""`lakehouse forget PIPELINE TABLE KEY`: a person's rows leave every layer. In order:

1. the key goes on the list of forgotten keys, so that no later snapshot brings it back          forgotten.py
2. bronze takes what the ledger has published: after this no change set waits
3. landing: files without the person's records; their manifests say so                           snapshot/erase.py
4. raw: change sets without their rows; the cache of lines, unpacked files and logs are dropped
5. quarantine, bronze (current state or history), reasons in the ledger that name the key
6. silver and gold, by their ordinary refresh; then what is kept of rows that expectations had taken out, and what is
   published of them
7. what is left: files that no table has any more, which VACUUM removes once their time is over

Every step finds for itself what is still to do: killed anywhere, the same command ends it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from lakehouse.bronze import apply
from lakehouse.config import Table
from lakehouse.errors import ConfigError, DataRefused, ExitCode, worst_exit_code
from lakehouse.forget import bronze as erase_bronze
from lakehouse.forget import change_sets as erase_change_sets
from lakehouse.forget import landing as erase_landing
from lakehouse.forget import quarantine as erase_quarantine
from lakehouse.forget import remaining_files
from lakehouse.forget.landing import DataSubject
from lakehouse.lake import change_sets, forgotten_keys, ledger
from lakehouse.lake.ledger import LedgerHistory
from lakehouse.runner import context, publishing, records, stages, up_to_date
from lakehouse.runner.context import Run
from lakehouse.runner.outcome import Outcome
from lakehouse.schema import pii
from lakehouse.schema.cast import cast_text
from lakehouse.schema.pii import MASK
from lakehouse.schema.table_schema import declared_schema
from lakehouse.spark.session import isolated_session
from lakehouse.storage import file_io, landing
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake

_LAYERS = ("silver", "gold")
_TEMP_FOLDERS = (
    "plain",
    "extract",
    "kaggle",
    "verify",
)  # folders below `_state` that hold rows for the time of a reading


@dataclass
class ErasedRows:
    """What was taken out, and what could not be looked into.

    Attributes:
        rows: taken out, by layer; of landing, records.
        unread: landed files of which nobody can say whether the person is in them, and why.
        still_handed_out: the newest snapshot had them, so that the source has not erased them yet.
    """

    rows: dict[str, int] = field(default_factory=dict)
    unreadable_files: list[str] = field(default_factory=list)
    is_still_in_source: bool = False


def forget(run: Run, name: str, key: list[str], vacuum: bool = False) -> dict[str, Any]:
    """Erase a person.

    Args:
        name: of the table; all rows of the key are meant, of this table only.
        key: its value or, where the key has several columns, `column=value` for each.
        vacuum: have VACUUM remove at once what is old enough.

    Returns:
        The document of `lakehouse forget --json`; the key is not in it.

    Raises:
        ConfigError: no such key column, or no value of its type.
    """
    table = _configured_table(run, name)
    texts = parse_key(table, key)
    with context.lock_lake(run, f"forget {name}"):
        up_to_date.remove_mark(run.lake)
        spark = isolated_session(run.spark, run.snapshot_bytes(name))
        person = _data_subject(spark, table, texts)
        ledger.create_if_missing(spark, run.lake)
        forgotten_keys.add(spark, run.lake, name, person.key_hash, run.id)
        erased = _erase_from_layers(spark, run, name, person)
        outcomes = [o for layer in _LAYERS for o in stages.refresh_models(run, layer)]
        erased.rows["quarantine"] += erase_quarantine.erase_resolved(spark, run.lake, [*run.plans])
        models, published = outcomes, publishing.publish_tables(run) if run.published_tables() else []
        outcomes = [*models, *published]
        left = remaining_files.list_remaining(spark, _delta_tables(run, name), vacuum)
    failed = [o for o in outcomes if o.code]
    code = worst_exit_code([*(o.code for o in outcomes), *([ExitCode.REFUSED] if erased.unreadable_files else [])])
    return {
        "pipeline": run.pipeline.name,
        "table": name,
        "erased": erased.rows,
        "models": {o.name: o.counts.get("deleted", 0) for o in models},
        "published": {o.name: o.counts.get("deleted", 0) for o in published},
        "left": left,
        "note": "\n".join([*_notes(run, name, erased), *map(_failure_note, failed)]) or None,
        "exit_code": int(code),
    }


def lift(run: Run, name: str, key: list[str]) -> dict[str, Any]:
    """Let a forgotten key come again: the person is back as a customer, say."""
    table = _configured_table(run, name)
    texts = parse_key(table, key)
    with context.lock_lake(run, f"forget {name} --lift"):
        up_to_date.remove_mark(run.lake)
        spark = isolated_session(run.spark, run.snapshot_bytes(name))
        was = forgotten_keys.remove(spark, run.lake, name, _data_subject(spark, table, texts).key_hash)
    note = "the next snapshot that has other bytes brings the row back" if was else "the key was not on the list"
    return {"pipeline": run.pipeline.name, "table": name, "lifted": was, "note": note, "exit_code": 0}


def parse_key(table: Table, key: list[str]) -> dict[str, str]:
    """A key as it was given, by column.

    Raises:
        ConfigError: not every column of the key, or another one.
    """
    if len(table.keys) == 1:
        given = {table.keys[0]: key[0]} if len(key) == 1 else {}
    else:
        parts = key[0].split(",") if len(key) == 1 else key
        given = {name: value for name, equals, value in (part.partition("=") for part in parts) if equals}
    if set(given) != set(table.keys) or not all(given.values()):
        wanted = ["KEY"] if len(table.keys) == 1 else [f"{k}=..." for k in table.keys]
        raise ConfigError(
            f"{len(key)} arguments that do not name a key",
            expected=f"{' '.join(wanted)}: a value for {', '.join(table.keys)}",
        )
    return {k: given[k] for k in table.keys}


def _configured_table(run: Run, name: str) -> Table:
    if name not in run.pipeline.tables:
        raise ConfigError(f"{name} is a model", expected=f"a table: {', '.join(run.pipeline.tables)}")
    return run.pipeline.tables[name]


def _data_subject(spark: SparkSession, table: Table, texts: Mapping[str, str]) -> DataSubject:
    """Raises: ConfigError, where a text is no value of the key's type."""
    kinds = {f.name: f.dataType for f in declared_schema(table)}
    given = spark.createDataFrame([tuple(texts.values())], ", ".join(f"`{k}` STRING" for k in texts))
    plain = given.select(*[cast_text(F.col(f"`{k}`"), kinds[k], "UTC", {})[0].alias(k) for k in texts])
    if None in (row := plain.collect()[0]):
        wrong = [f"{k} as {kinds[k].simpleString().upper()}" for k in texts if row[k] is None]
        raise ConfigError(
            f"no value of the key's type: {', '.join(wrong)}", expected="as 2025-10-03, 17.5 or plain text"
        )
    stored = plain.select(*[_stored_key(k, table) for k in texts])
    return DataSubject(texts, plain, stored, stored.select(forgotten_keys.hash_key(table)).collect()[0][0])


def _stored_key(key: str, table: Table) -> Any:
    value = pii.protected_value(key, F.col(f"`{key}`"), table)
    assert value is not None  # a key is not dropped
    return value.alias(key)


# --- the layers -------------------------------------------------------------------------------------------------


def _erase_from_layers(spark: SparkSession, run: Run, name: str, subject: DataSubject) -> ErasedRows:
    lake, table, zone = run.lake, run.pipeline.tables[name], run.pipeline.timezone
    history = ledger.read_histories(spark, lake, [name])[name]
    _apply_pending(spark, run, name, history)
    erased = _erase_from_landing(spark, run, name, subject)
    sets = [folder for folder in change_sets.table_folders(lake, name) if _has_files(folder)]
    erased.rows["raw"] = sum(erase_change_sets.erase(spark, lake, folder, subject) for folder in sets)
    _drop_temp_copies(lake, name)
    erased.rows["quarantine"] = erase_quarantine.erase(spark, lake, name, table, zone, subject)
    erased.rows["bronze"] = erase_bronze.erase(spark, lake, name, subject, table)
    erased.rows["ledger"] = ledger.redact_reasons(spark, lake, name, lambda text: _redact_key(text, subject))
    records.mask_texts(lake, lambda text: _redact_key(text, subject))
    return erased


def _apply_pending(spark: SparkSession, run: Run, name: str, history: LedgerHistory) -> None:
    """Bronze to the ledger's last sequence, so that every change set is applied as it was counted."""
    table = run.pipeline.tables[name]
    if history.last_accepted:
        change_sets.delivered_columns(
            spark, run.lake, table, history.last_accepted
        )  # refuses keys hashed otherwise than now
        apply.refresh(spark, run.lake, name, table, history, run.snapshot_bytes(name))


def _erase_from_landing(spark: SparkSession, run: Run, name: str, subject: DataSubject) -> ErasedRows:
    erased, table = ErasedRows({"landing": 0}), run.pipeline.tables[name]
    for landed in landing.list_snapshots(run.lake, name):
        erased.is_still_in_source = False
        if landed.expired:
            continue
        try:
            records = erase_landing.erase(spark, run.lake, table, landed, run.pipeline.timezone, subject)
        except DataRefused as refused:
            if not erase_landing.is_subject_absent(table, landed, subject):
                erased.unreadable_files.append(f"{landed.folder}: {refused.found}")
            continue
        erased.rows["landing"] += records
        erased.is_still_in_source = bool(records)
    return erased


def _has_files(folder: StorePath) -> bool:
    """Whether a change set is there; what a killed run left of one is taken away."""
    if any(name.endswith(".parquet") for name in file_io.list_names(folder)):
        return True
    file_io.remove(folder)
    return False


def _drop_temp_copies(lake: Lake, name: str) -> None:
    """What is kept of the source's bytes for a while, or was left by a killed run: on this machine, and on S3."""
    here = [lake.local_path(kind) for kind in _TEMP_FOLDERS]
    for folder in dict.fromkeys([lake.local_path("lines", name), *here, lake.state_path("plain")]):
        file_io.remove(folder)
    logs = lake.local_path("logs")
    for log in logs.iterdir() if logs.is_dir() else ():
        log.write_bytes(b"")  # a running JVM has it open, and goes on writing at its end


def _redact_key(text: str, subject: DataSubject) -> str:
    if not subject.is_named_in(text):
        return text
    for part in subject.key_texts.values():
        text = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", MASK, text)
    return text


# --- what is said -----------------------------------------------------------------------------------------------


def _delta_tables(run: Run, name: str) -> dict[str, str]:
    """The addresses of the Delta tables that had the person's rows, or may have had."""
    lake, models = run.lake, [m for layer in _LAYERS for group in run.model_groups(layer) for m in group]
    kept = dict.fromkeys([name, *(m.partition(".")[2] for m in models)])
    tables = {f"bronze/{name}": lake.bronze_table(name)} | {f"quarantine/{k}": lake.quarantine_table(k) for k in kept}
    return tables | {m.replace(".", "/", 1): lake.table(m) for m in models} | {"raw/ledger": lake.ledger_table}


def _notes(run: Run, name: str, erased: ErasedRows) -> list[str]:
    notes = [
        f"cannot be read, so that nobody can say whether the person is in it: {one}" for one in erased.unreadable_files
    ]
    if erased.is_still_in_source:
        notes.append(
            "the source's newest snapshot still had the person: have them erased there. What it hands out again lands"
            " again and goes no further; the same command takes it out of landing"
        )
    if run.lake.is_on_s3:
        notes.append(
            "a bucket that keeps versions has those of what was written anew, until a lifecycle rule ends them"
        )
    others = [other for other in run.pipeline.tables if other != name]
    if others:
        notes.append(f"only rows of {name} are meant; if {', '.join(others)} tell of the person too, forget theirs")
    return notes


def _failure_note(outcome: Outcome) -> str:
    return f"{outcome.name} was not refreshed, and the next run does it: {outcome.note}"
