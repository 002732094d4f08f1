"""Erases all rows of a key. In order:

1. add the key to the list of forgotten keys, so that no later snapshot brings it back
2. bring bronze to the ledger's last sequence, so that no change set waits
3. landing: rewrite the files that have records of the key; their manifests record it
4. raw: rewrite the change sets that have rows of it; empty caches, temporary copies and logs
5. quarantine, bronze, the ledger's reasons and the run records: erase its rows, and mask texts that name it
6. silver and gold: refresh them; then erase their resolved quarantine rows, and publish
7. report what remains: files of old table versions, which VACUUM removes when they are old enough

Each step finds by itself what is still to do. So after a kill at any point, the same command completes the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lakehouse import bronze
from lakehouse.config import PII_KEY, Table
from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.errors import ConfigError, DataRefused, ExitCode, worst_exit_code
from lakehouse.forget.data_subject import DataSubject, can_be_guessed, find_data_subject, is_identifier, parse_key
from lakehouse.forget.landing import erase_from_snapshot, is_subject_absent
from lakehouse.forget.remaining_files import list_remaining
from lakehouse.forget.tables import erase_from_bronze, erase_from_change_set, erase_from_quarantine, erase_resolved
from lakehouse.lake import change_sets, forgotten_keys, ledger
from lakehouse.lake.table_ref import TableRef
from lakehouse.runner import bug_files, context, publishing, records, stages, up_to_date
from lakehouse.runner.context import Run
from lakehouse.storage import file_io, landing
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake

_TEMP_FOLDERS = ("plain", "extract", "kaggle", "verify")  # below `_state`: copies of rows while files are read


@dataclass
class ErasedRows:
    """The result of `forget`.

    Attributes:
        rows: How many rows were erased, by layer; of landing, how many records.
        unreadable_files: Landed snapshots that may have the data subject, and why they cannot be read.
        is_still_in_source: Whether the newest snapshot had the data subject, so that the source has not erased it yet.
    """

    rows: dict[str, int] = field(default_factory=dict)
    unreadable_files: list[str] = field(default_factory=list)
    is_still_in_source: bool = False


def forget_key(run: Run, name: str, key: list[str], vacuum: bool = False) -> dict[str, Any]:
    """Erase all rows of a key of one table.

    Args:
        run: The command.
        name: The table.
        key: The key's value or, if the key has several columns, `column=value` for each.
        vacuum: Whether to run VACUUM on the files that are old enough.

    Returns:
        The document of `lakehouse forget --json`, which does not have the key.

    Raises:
        ConfigError: There is no such table or key column, a value is not of its type, or a secret is needed.
    """
    key_texts = parse_key(_table_config(run, name), key)
    with context.lock_lake(run, f"forget {name}"):
        up_to_date.remove_mark(run.lake)
        table = run.table_ref(name)
        subject = find_data_subject(table.spark, table.config, key_texts)
        ledger.create_if_missing(table.spark, run.lake)
        listed = forgotten_keys.read_hashes(table.spark, run.lake, name)
        _require_secret(table, key_texts, is_listed=not listed.isdisjoint(subject.key_hashes))
        is_replaced = forgotten_keys.add(table, subject.key_hashes, run.id)
        erased = _erase_from_table(run, table, subject)
        models = [outcome for layer in MODEL_LAYERS for outcome in stages.refresh_models(run, layer)]
        erased.rows["quarantine"] += erase_resolved(table.spark, run.lake, [*run.plans])
        published = publishing.publish_tables(run) if run.published_tables() else []
        tables = _delta_tables(run, name) | ({"forgotten": run.lake.forgotten_keys_table} if is_replaced else {})
        remaining = list_remaining(table.spark, tables, vacuum)
    failed = [outcome for outcome in [*models, *published] if outcome.code]
    notes = _notes(run, name, erased)
    if table.config.pii_key_id is None and can_be_guessed(table.config, key_texts):
        notes.append(
            "the list of forgotten keys has the SHA-256 of the key, and a short key can be found by trial: set"
            f" {PII_KEY} to the output of `openssl rand -hex 32`, and run the command again"
        )
    notes += [f"{o.name} was not refreshed, and the next run refreshes it: {o.note}" for o in failed]
    codes = [outcome.code for outcome in failed] + ([ExitCode.REFUSED] if erased.unreadable_files else [])
    return {
        "pipeline": run.pipeline.name,
        "table": name,
        "erased": erased.rows,
        "models": {o.name: o.counts.get("deleted", 0) for o in models},
        "published": {o.name: o.counts.get("deleted", 0) for o in published},
        "left": remaining,
        "note": "\n".join(notes) or None,
        "exit_code": int(worst_exit_code(codes)),
    }


def lift_key(run: Run, name: str, key: list[str]) -> dict[str, Any]:
    """Remove a key from the list of forgotten keys, so that snapshots can bring it back.

    Args:
        run: The command.
        name: The table.
        key: The key, as for `forget_key`.

    Returns:
        The document of `lakehouse forget --lift --json`.

    Raises:
        ConfigError: There is no such table or key column, or a value is not of its type.
    """
    config = _table_config(run, name)
    if len(key) == 1 and forgotten_keys.is_key_id(key[0]):
        return _lift_all_made_with(run, name, key[0])
    key_texts = parse_key(config, key)
    with context.lock_lake(run, f"forget {name} --lift"):
        up_to_date.remove_mark(run.lake)
        table = run.table_ref(name)
        subject = find_data_subject(table.spark, table.config, key_texts)
        was_forgotten = forgotten_keys.remove(table, subject.key_hashes)
    brought_back = "the next snapshot that has other bytes brings the row back"
    note = brought_back if was_forgotten else "the key was not on the list"
    return {"pipeline": run.pipeline.name, "table": name, "lifted": was_forgotten, "note": note, "exit_code": 0}


def _lift_all_made_with(run: Run, name: str, key_id: str) -> dict[str, Any]:
    """Remove the keys that were hashed with one `pii_key` from the list: it is lost, so that nobody can name them.

    Raises:
        ConfigError: It is not lost, but the one that the table has.
    """
    if forgotten_keys.is_made_with_own_key(_table_config(run, name), key_id):
        raise ConfigError(
            f"{key_id} is the secret that {name} has now",
            expected="the id of a lost secret: with this one, each forgotten key can be named",
            next_step=f"lakehouse forget {run.pipeline.folder} {name} KEY --lift",
        )
    with context.lock_lake(run, f"forget {name} --lift"):
        up_to_date.remove_mark(run.lake)
        were_forgotten = forgotten_keys.remove_made_with(run.table_ref(name), key_id)
    note = (
        "rows of these keys come back with snapshots that have them" if were_forgotten else "no key on the list has it"
    )
    return {"pipeline": run.pipeline.name, "table": name, "lifted": were_forgotten, "note": note, "exit_code": 0}


def _require_secret(table: TableRef, key_texts: Mapping[str, str], is_listed: bool) -> None:
    """Raise if the list would get a hash that can be reversed by trial; not if it has it already.

    Raises:
        ConfigError: There is no secret to hash it with.
    """
    if table.config.pii_key_id is None and not is_listed and is_identifier(table.config, key_texts):
        raise ConfigError(
            "a key that is a number of 9 digits or more, such as a CPF, and no secret: the list of forgotten keys"
            " would have a hash of it, and all such numbers can be tried",
            expected=f"{PII_KEY} in the environment or .env, the output of `openssl rand -hex 32`; keep a copy",
            next_step="set it for all commands of this pipeline, and run this one again",
        )


def _table_config(run: Run, name: str) -> Table:
    if name not in run.pipeline.tables:
        raise ConfigError(f"{name} is a model", expected=f"a table: {', '.join(run.pipeline.tables)}")
    return run.pipeline.tables[name]


def _erase_from_table(run: Run, table: TableRef, subject: DataSubject) -> ErasedRows:
    """Erase a data subject from all layers that are not computed by models.

    Raises:
        ConfigError: `pii` was changed since the last change set was written.
    """
    lake, name = run.lake, table.name
    history = ledger.read_histories(table.spark, lake, [name])[name]
    if history.last_accepted:
        # The stored key can be compared only if `pii` is the same, and a change set applied only as it was counted.
        change_sets.delivered_columns(table, history.last_accepted)
        bronze.refresh(table, history, run.snapshot_bytes(name))
    erased = _erase_from_landing(run, table, subject)
    folders = change_sets.table_folders(lake, name)
    erased.rows["raw"] = sum(erase_from_change_set(table, f, subject) for f in folders if not _remove_unfinished(f))
    _remove_temp_copies(lake, name)
    erased.rows["quarantine"] = erase_from_quarantine(table, run.pipeline.timezone, subject)
    erased.rows["bronze"] = erase_from_bronze(table, subject)
    erased.rows["ledger"] = ledger.redact_reasons(table.spark, lake, name, subject.mask_in)
    records.mask_texts(lake, subject.mask_in)
    bug_files.remove_all(lake)  # traces have messages with values in many forms: masking could miss one
    return erased


def _erase_from_landing(run: Run, table: TableRef, subject: DataSubject) -> ErasedRows:
    erased = ErasedRows({"landing": 0})
    for snapshot in landing.list_snapshots(run.lake, table.name):
        erased.is_still_in_source = False
        if snapshot.expired:
            continue
        try:
            count = erase_from_snapshot(table, snapshot, run.pipeline.timezone, subject)
        except DataRefused as refused:
            if not is_subject_absent(table.config, snapshot, subject):
                erased.unreadable_files.append(f"{snapshot.folder}: {refused.found}")
            continue
        erased.rows["landing"] += count
        erased.is_still_in_source = bool(count)
    return erased


def _remove_unfinished(change_set: StorePath) -> bool:
    """Remove a change set that a killed run has not finished, and return whether it was one."""
    if any(name.endswith(".parquet") for name in file_io.list_names(change_set)):
        return False
    file_io.remove(change_set)
    return True


def _remove_temp_copies(lake: Lake, name: str) -> None:
    """Remove caches of the source's bytes, copies that a killed run left, and the content of logs."""
    copies = [lake.local_path(folder) for folder in _TEMP_FOLDERS]
    for folder in dict.fromkeys(
        [lake.local_path("lines", name), *copies, lake.state_path("plain"), lake.state_path("rebuild", name)]
    ):
        file_io.remove(folder)
    logs = lake.local_path("logs")
    for log in logs.iterdir() if logs.is_dir() else ():
        log.write_bytes(b"")  # not removed: a running JVM has it open and continues to write at its end


def _delta_tables(run: Run, name: str) -> dict[str, str]:
    """Return the addresses of the Delta tables that had the data subject's rows, or may have had them."""
    lake, models = run.lake, run.selected_models()
    quarantines = dict.fromkeys([name, *(model.partition(".")[2] for model in models)])
    tables = {f"bronze/{name}": lake.bronze_table(name)}
    tables |= {f"quarantine/{table}": lake.quarantine_table(table) for table in quarantines}
    tables |= {model.replace(".", "/", 1): lake.table(model) for model in models}
    return tables | {"raw/ledger": lake.ledger_table}


def _notes(run: Run, name: str, erased: ErasedRows) -> list[str]:
    """Return notes for the user: remaining work and warnings."""
    notes = [f"cannot be read, and may have the data subject: {file}" for file in erased.unreadable_files]
    if erased.is_still_in_source:
        notes.append(
            "the source's newest snapshot still had the data subject: have them erased there. New snapshots with them"
            " are landed but not ingested; the same command erases them from landing"
        )
    if run.lake.is_on_s3:
        notes.append(
            "a bucket with versioning keeps old versions of rewritten files until a lifecycle rule removes them"
        )
    if run.pipeline.connect:
        notes.append(
            "the rows that were sent to Kafka and S3 before are still there, and a table with REPLICA IDENTITY FULL,"
            " such as one whose key has NULLs, sends them again with their deletes: docs/guide/kafka.md says how to"
            " erase these"
        )
    others = [other for other in run.pipeline.tables if other != name]
    if others:
        notes.append(f"only rows of {name} were erased; if {', '.join(others)} have the data subject, forget these too")
    return notes
