"""Reads and writes run records: `_state/runs/<run_id>.json`, one per run.

A record is written before the run's first write and completed with its exit code. Records are for people and for
`status`: no decision of a run depends on them. Only the newest are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import lakehouse
from lakehouse.logs import redact_document
from lakehouse.runner.outcome import FAILED, WAITING
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake, utc_text, write_json

Record = dict[str, Any]

MAX_RECORDS = 200
_RUNS = "runs"


def start_record(pipeline: str, run_id: str, command: str, names: Iterable[str]) -> Record:
    """Return the record of a run that starts now. Without an end, the run is still working or was killed.

    Args:
        pipeline: The pipeline's name.
        run_id: The run's id.
        command: The command, for people.
        names: The tables and models to which it is limited.
    """
    return {
        "run_id": run_id,
        "pipeline": pipeline,
        "doing": command,
        "names": list(names),
        "started": utc_text(datetime.now(timezone.utc)),
        "ended": None,
        "exit_code": None,
        "version": lakehouse.__version__,
    }


def end_record(record: Record, exit_code: int, **details: Any) -> Record:
    """Return a record with its end, the exit code and further details."""
    return record | {"ended": utc_text(datetime.now(timezone.utc)), "exit_code": int(exit_code)} | details


def write(lake: Lake, record: Record) -> None:
    """Write a record without secrets, in place of an older one of the same run.

    The oldest of all records are removed, and what a killed run left of its own.
    """
    write_json(lake.state_path(_RUNS, f"{record['run_id']}.json"), redact_document(record))
    names = file_io.list_names(lake.state_path(_RUNS))
    partial = [name for name in names if name.startswith(".")]
    for name in dict.fromkeys([*partial, *names[:-MAX_RECORDS]]):
        file_io.remove(lake.state_path(_RUNS, name))


def mask_texts(lake: Lake, mask: Callable[[str], str]) -> None:
    """Replace every text of every record by the result of `mask`.

    Args:
        lake: The lake of the records.
        mask: Returns the text without its personal parts.
    """
    for masked in find_texts(lake, mask):
        write(lake, masked)


def find_texts(lake: Lake, mask: Callable[[str], str]) -> list[Record]:
    """Return the records that have a text which `mask` changes, with it changed.

    Args:
        lake: The lake of the records.
        mask: Returns the text without its personal parts.
    """
    masked = ((record, _mask_value(record, mask)) for record in read_newest(lake))
    return [after for before, after in masked if after != before]


def _mask_value(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _mask_value(inner, mask) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask_value(inner, mask) for inner in value]
    return mask(value) if isinstance(value, str) else value


def read_newest(lake: Lake, limit: int = MAX_RECORDS) -> list[Record]:
    """Return the newest records, the newest first, without those that cannot be read.

    Args:
        lake: The lake of the records.
        limit: How many files to read.
    """
    folder = lake.state_path(_RUNS)
    names = [name for name in file_io.list_names(folder) if name.endswith(".json") and not name.startswith(".")]
    records = []
    for content in file_io.read_files(folder / name for name in names[::-1][:limit]):
        try:
            records.append(json.loads(content or b""))
        except (ValueError, RecursionError):
            continue
    return [record for record in records if isinstance(record, dict) and "run_id" in record]


def count_repeats(lake: Lake, record: Record) -> int:
    """Return how many runs of the same command, just before this one, failed in the same way."""
    earlier = [r for r in read_newest(lake) if r["run_id"] != record["run_id"] and r["doing"] == record["doing"]]
    repeats = 0
    while repeats < len(earlier) and _failure_signature(earlier[repeats]) == _failure_signature(record):
        repeats += 1
    return repeats


def last_successful(records: list[Record], table: str) -> Record | None:
    """Return the newest record of a run that checked a table and found no problem with it.

    Args:
        records: Records, the newest first.
        table: The name of the table.
    """
    return next((record for record in records if _is_success_for(record, table)), None)


def last_problem(records: list[Record], model: str) -> Record | None:
    """Return the outcome of the newest command that attempted a model, if it failed or the model waits for an input.

    Args:
        records: Records, the newest first.
        model: The layer and name, such as `silver.customers`.
    """
    layer = model.partition(".")[0]
    outcomes = (outcome for record in records for outcome in record.get("outcomes") or ())
    newest = next((o for o in outcomes if o["name"] == model and o["stage"] == layer), None)
    return newest if newest and newest["status"] in (FAILED, WAITING) else None


def overdue_seconds(record: Record | None, every: timedelta, now: datetime) -> int | None:
    """Return by how many seconds the next run is late; 0 if it is not, None if there was none.

    Args:
        record: The record of the last successful run.
        every: The interval of the schedule.
        now: The current time.
    """
    if record is None:
        return None
    return max(0, int((now - datetime.fromisoformat(record["ended"]) - every).total_seconds()))


def _failure_signature(record: Record) -> Any:
    failed = [outcome for outcome in record.get("outcomes", ()) if outcome["code"]]
    return record["exit_code"], [(o["stage"], o["name"], o["status"], o["code"]) for o in failed]


def _is_success_for(record: Record, table: str) -> bool:
    if record["doing"] != "run" or record["ended"] is None:
        return False
    if record.get("nothing_new"):
        return True
    outcomes = [outcome for outcome in record.get("outcomes", ()) if outcome["name"] == table]
    return any(o["stage"] == "ingest" for o in outcomes) and not any(o["code"] for o in outcomes)
