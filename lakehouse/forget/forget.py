"""Erases all rows of a key. In order:

1. find its rows: if there are none, and it is not on the list of forgotten keys, nothing is written
2. add the key to the list, so that no later snapshot brings it back
3. bring bronze to the ledger's last sequence, so that no change set waits
4. landing: rewrite the files in which step 1 found records; their manifests record it
5. raw: rewrite the change sets in which it found rows; empty caches, temporary copies and logs
6. quarantine, bronze, the ledger's reasons and the run records: erase its rows, and mask texts that name it
7. silver and gold: refresh them; then erase their resolved quarantine rows, and publish
8. report the remaining files of old table versions, which VACUUM removes when they are old enough

The lake is locked from step 1 on, so that its findings stay true; only bronze is searched again, since step 3 changes
it. After a kill at any point, the same command finds the rows that are left, and completes the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lakehouse import bronze
from lakehouse.config import PII_KEY, Git, Kafka, Table
from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.config.row_keys import ROW_ID
from lakehouse.errors import ConfigError, DataRefused, ExitCode, LakehouseError, worst_exit_code
from lakehouse.failpoints import failpoint
from lakehouse.forget.data_subject import DataSubject, can_be_guessed, find_data_subject, is_identifier, parse_key
from lakehouse.forget.landing import erase_from_snapshot
from lakehouse.forget.remaining_files import list_remaining
from lakehouse.forget.search import ROW_LAYERS, FoundRows, find_rows
from lakehouse.forget.tables import (
    erase_from_bronze,
    erase_from_change_set,
    erase_from_quarantine,
    erase_resolved,
    is_unfinished,
)
from lakehouse.lake import change_sets, forgotten_keys, ledger
from lakehouse.lake.table_ref import TableRef
from lakehouse.runner import bug_files, context, publishing, records, stages, up_to_date
from lakehouse.runner.context import Run
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake, snapshot_name

# What is below `_state` and has no rows, or is erased by itself; all else are caches and what killed commands left.
_STATE_WITHOUT_ROWS = ("lock", "clean.json", "ready.json", "expired.json", "bronze", "runs", "bugs", "logs")


def forget_key(
    run: Run, name: str, key: list[str], vacuum: bool = False, confirmed: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Erase all rows of a key of one table.

    Args:
        run: The command.
        name: The table.
        key: The key's value or, if the key has several columns, `column=value` for each.
        vacuum: Whether to run VACUUM on the files that are old enough.
        confirmed: `found` of the document of `find_key`, if somebody was shown it and asked; None if not.

    Returns:
        The document of `lakehouse forget --json`, which does not have the key.

    Raises:
        ConfigError: There is no such table or key column, a value is not of its type, a secret is needed, or the lake
            has other rows of the key than those that were confirmed.
        DataRefused: The lake has no row of the key; nothing was written.
    """
    key_texts = parse_key(_table_config(run, name), key)
    with context.lock_lake(run, f"forget {name}"):
        table, subject, found = _find(run, name, key_texts)
        _require_confirmed(run, name, found, confirmed)
        up_to_date.remove_mark(run.lake)
        ledger.create_if_missing(table.spark, run.lake)
        is_replaced = forgotten_keys.add(table, subject.key_hashes, run.id)
        failpoint("after_forgotten_key_listed", name)
        erased = _erase_from_table(run, table, subject, found)
        models = [outcome for layer in MODEL_LAYERS for outcome in stages.refresh_models(run, layer)]
        erased["quarantine"] += erase_resolved(table.spark, run.lake, [*run.plans])
        published = publishing.publish_tables(run) if run.published_tables() else []
        tables = _delta_tables(run, name) | ({"forgotten": run.lake.forgotten_keys_table} if is_replaced else {})
        remaining = list_remaining(table.spark, tables, vacuum)
    failed = [outcome for outcome in [*models, *published] if outcome.code]
    notes = _notes(run, name, found, key_texts)
    if table.config.pii_key_id is None and can_be_guessed(table.config, key_texts):
        notes.append(
            "the list of forgotten keys has the SHA-256 of the key, and a short key can be found by trial: set"
            f" {PII_KEY} to the output of `openssl rand -hex 32`, and run the command again"
        )
    notes += [f"{o.name} was not refreshed, and the next run refreshes it: {o.note}" for o in failed]
    codes = [outcome.code for outcome in failed] + ([ExitCode.REFUSED] if found.unreadable_files else [])
    return {
        "pipeline": run.pipeline.name,
        "table": name,
        "erased": erased,
        "models": {o.name: o.counts.get("deleted", 0) for o in models},
        "published": {o.name: o.counts.get("deleted", 0) for o in published},
        "left": remaining,
        "note": "\n".join(notes) or None,
        "exit_code": int(worst_exit_code(codes)),
    }


def find_key(run: Run, name: str, key: list[str]) -> dict[str, Any]:
    """Return the rows that `forget_key` would erase of one table's key; nothing is written.

    Args:
        run: The command.
        name: The table.
        key: The key, as for `forget_key`.

    Returns:
        The document of `lakehouse forget --dry-run --json`, which does not have the key.

    Raises:
        ConfigError: There is no such table or key column, a value is not of its type, or a secret is needed.
        DataRefused: The lake has no row of the key.
    """
    key_texts = parse_key(_table_config(run, name), key)
    _, _, found = _find(run, name, key_texts)
    notes = ["nothing was erased; rows of models go with the rows of bronze that they come from"]
    notes += _notes(run, name, found, key_texts)
    return {
        "pipeline": run.pipeline.name,
        "table": name,
        "found": found.rows,
        "snapshots": [snapshot_name(landed.snapshot.time) for landed in found.snapshots],
        "note": "\n".join(notes),
        "exit_code": int(ExitCode.REFUSED if found.unreadable_files else ExitCode.OK),
    }


def _find(run: Run, name: str, key_texts: Mapping[str, str]) -> tuple[TableRef, DataSubject, FoundRows]:
    """Return the table, the data subject and its rows; raise for each reason for which they cannot be erased."""
    table = run.table_ref(name)
    subject = find_data_subject(table.spark, table.config, key_texts)
    listed = forgotten_keys.read_hashes(table.spark, run.lake, name)
    _require_secret(table, key_texts, is_listed=not listed.isdisjoint(subject.key_hashes))
    found = find_rows(run, table, subject)
    _require_known(run, table, subject, listed, found)
    return table, subject, found


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
    brought_back = (
        "the next event of the key inserts it again"
        if config.feed
        else "the next snapshot that has other bytes brings the row back"
    )
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
            next_step=f"lakehouse forget {run.pipeline.argument} {name} KEY --lift",
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


def _require_known(run: Run, table: TableRef, subject: DataSubject, listed: frozenset[str], found: FoundRows) -> None:
    """Raise if the lake has no row of the key, and the key was not forgotten before.

    Raises:
        DataRefused: It has none.
    """
    may_be_listed = forgotten_keys.may_be_listed(table.config, subject.key_texts, listed, subject.key_hashes)
    if not found.is_known and not may_be_listed:
        raise DataRefused(
            f"no row of {table.name} has this key: it is not in landing, raw, quarantine and bronze",
            expected="a key as it is in the source, before hashing",
            next_step=f"see how keys are written: lakehouse show {run.pipeline.argument} {table.name}",
        )


def _require_confirmed(run: Run, name: str, found: FoundRows, confirmed: Mapping[str, int] | None) -> None:
    """Raise if a command has changed the rows of the key while a question about them waited for its answer.

    Raises:
        ConfigError: There are other rows than those that were confirmed.
    """
    changed = [layer for layer in ROW_LAYERS if confirmed is not None and found.rows[layer] != confirmed[layer]]
    if confirmed is not None and changed:
        lines = [f"{layer}: {confirmed[layer]:,} before the question, {found.rows[layer]:,} now" for layer in changed]
        raise ConfigError(
            "\n".join(["another command has changed the rows of this key; nothing was erased", *lines]),
            expected="the rows that were confirmed",
            where=name,
            next_step=f"lakehouse forget {run.pipeline.argument} {name} KEY, which asks again about the present rows",
        )


def _table_config(run: Run, name: str) -> Table:
    if name not in run.pipeline.tables:
        raise ConfigError(
            f"{name} is a model",
            expected=f"a table: {', '.join(run.pipeline.tables)}",
            where=str(run.pipeline.path),
            next_step=f"lakehouse forget {run.pipeline.argument} TABLE KEY, with a table that the model reads",
        )
    return run.pipeline.tables[name]


def _erase_from_table(run: Run, table: TableRef, subject: DataSubject, found: FoundRows) -> dict[str, int]:
    """Erase a data subject from all layers that are not computed by models; return how many rows, by layer."""
    lake, name = run.lake, table.name
    history = ledger.read_histories(table.spark, lake, [name])[name]
    if history.last_accepted:  # a change set can be applied only as it was counted
        bronze.refresh(table, history, run.snapshot_bytes(name))
    erased = {"landing": _erase_from_landing(table, found)}
    failpoint("after_landing_erased", name)
    for folder in change_sets.table_folders(lake, name):
        if is_unfinished(folder):  # by a killed run; the rows in it cannot be found
            file_io.remove(folder)
    erased["raw"] = sum(erase_from_change_set(table, folder, rows) for folder, rows in found.change_sets.items())
    failpoint("after_raw_erased", name)
    _remove_temp_copies(lake)
    erased["quarantine"] = erase_from_quarantine(table, found.quarantined) if found.quarantined else 0
    failpoint("after_quarantine_erased", name)
    erased["bronze"] = erase_from_bronze(table, subject)
    failpoint("after_bronze_erased", name)
    erased["ledger"] = ledger.redact_reasons(table.spark, lake, name, subject.mask_in)
    erased["ledger"] += ledger.redact_slices(table.spark, lake, name, list(subject.key_texts), subject.mask_in)
    failpoint("after_ledger_erased", name)
    records.mask_texts(lake, subject.mask_in)
    bug_files.remove_all(lake)  # traces have messages with values in many forms: masking could miss one
    return erased


def _erase_from_landing(table: TableRef, found: FoundRows) -> int:
    erased = 0
    for landed in found.snapshots:
        try:
            erased += erase_from_snapshot(table, landed)
        except DataRefused as refused:
            found.unreadable_files.append(f"{landed.snapshot.folder}: {refused.found}")
    return erased


def _remove_temp_copies(lake: Lake) -> None:
    """Remove caches of the source's bytes, what killed commands left, and the content of logs."""
    for place in (lake.local_path, lake.state_path):
        for name in file_io.list_names(place()):
            if name not in _STATE_WITHOUT_ROWS:
                file_io.remove(place(name))
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


def _notes(run: Run, name: str, found: FoundRows, key_texts: Mapping[str, str]) -> list[str]:
    """Return notes for the user: remaining work and warnings."""
    notes = [f"cannot be read, and may have the data subject: {file}" for file in found.unreadable_files]
    table = run.pipeline.tables[name]
    if table.feed:
        rows = ", and its rows in a later snapshot beside the feed," if table.feed.corrected_by else ""
        notes.append(
            f"events of the key that come later{rows} are landed but not ingested: also the delete that the source"
            " sends when the data subject is erased there. The same command erases them from landing"
        )
    elif found.is_still_in_source:
        notes.append(
            "the source's newest snapshot still had the data subject: have them erased there. New snapshots with them"
            " are landed but not ingested; the same command erases them from landing"
        )
    if ROW_ID in key_texts:
        notes.append(
            "one row was meant, by all of its values: a row that differs in one of them, or that cannot be read, is"
            " another one; COLUMN=VALUE in place of the hash means all rows that have the value"
        )
    if isinstance(run.pipeline.source, Kafka):
        notes.append(
            "the topics of the source keep their messages about the data subject until Kafka deletes or compacts them;"
            " messages that landed are not landed again"
        )
    if isinstance(run.pipeline.source, Git):
        notes.append(
            "the git repository keeps every commit that has the data subject; commits that landed are not landed again"
        )
    if run.lake.is_on_s3:
        notes.append(
            "a bucket with versioning keeps old versions of rewritten files until a lifecycle rule removes them"
        )
    if run.published_tables():
        notes += _notes_about_postgres(run)
    if run.pipeline.connect:
        topics = ", ".join(run.pipeline.connect.topics) or "the topics of its tables"
        objects = run.pipeline.connect.objects or "the sink's prefix on S3"
        notes.append(
            f"Kafka ({topics}) and the objects below {objects} still have the rows that were sent before, and a table"
            " with REPLICA IDENTITY FULL, such as one whose key has NULLs, sends them again with their deletes:"
            f" when they have arrived, `lakehouse connect compact {run.pipeline.argument}` erases the rows from the"
            " objects, and docs/guide/kafka.md says how to erase them from Kafka"
        )
    others = [other for other in run.pipeline.tables if other != name]
    if others:
        notes.append(f"only rows of {name} were erased; if {', '.join(others)} have the data subject, forget these too")
    return notes


def _notes_about_postgres(run: Run) -> list[str]:
    """Return notes about rows that may be left in PostgreSQL."""
    notes = [
        "PostgreSQL removes deleted rows from its files with its next VACUUM, and from its log and backups with their"
        " retention"
    ]
    try:
        former = publishing.read_former_tables(run)
    except LakehouseError as error:
        return [*notes, f"PostgreSQL was not searched for tables that are not published any more: {error.kept}"]
    if former:
        notes.append(
            f"{', '.join(former)} in PostgreSQL: published by this pipeline before, and left as they were. Drop what"
            " nobody needs, or delete the rows there"
        )
    return notes
