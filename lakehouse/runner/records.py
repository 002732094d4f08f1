"""Run records: `_state/runs/<run_id>.json`, one a run, begun before its first write and ended with its exit code.

For people and for `status`; nothing that a run decides depends on them, and only the newest are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import lakehouse
from lakehouse.logs import redact_document
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake, write_json

Record = dict[str, Any]

MAX_RECORDS = 200
_RUNS = "runs"


def start_record(pipeline: str, run_id: str, command: str, names: Iterable[str]) -> Record:
    """The record of a run that has just begun; without an end, it is still at work or was killed."""
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


def end_record(record: Record, exit_code: int, **more: Any) -> Record:
    """The same at its end, with what became of it."""
    return record | {"ended": utc_text(datetime.now(timezone.utc)), "exit_code": int(exit_code)} | more


def write(lake: Lake, record: Record) -> None:
    """Keep a record, without secrets; an older one of the same run is replaced, the oldest of all go."""
    write_json(lake.state_path(_RUNS, f"{record['run_id']}.json"), redact_document(record))
    for old in file_io.list_names(lake.state_path(_RUNS))[:-MAX_RECORDS]:
        file_io.remove(lake.state_path(_RUNS, old))


def mask_texts(lake: Lake, mask: Callable[[str], str]) -> None:
    """Put in the place of each text of each record what `hidden` makes of it."""
    for record in read_newest(lake):
        if (now := {name: _mask_value(value, mask) for name, value in record.items()}) != record:
            write(lake, now)


def _mask_value(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {name: _mask_value(inner, mask) for name, inner in value.items()}
    if isinstance(value, list):
        return [_mask_value(inner, mask) for inner in value]
    return mask(value) if isinstance(value, str) else value


def read_newest(lake: Lake, limit: int = MAX_RECORDS) -> list[Record]:
    """The newest records, the newest first; one that cannot be read is passed over."""
    found = []
    names = [
        name
        for name in file_io.list_names(lake.state_path(_RUNS))
        if name.endswith(".json") and not name.startswith(".")
    ]
    for content in file_io.read_files(lake.state_path(_RUNS, name) for name in names[::-1][:limit]):
        try:
            found.append(json.loads(content or b""))
        except ValueError:
            continue
    return [record for record in found if isinstance(record, dict) and "run_id" in record]


def count_repeats(lake: Lake, record: Record) -> int:
    """How many runs of the same kind, just before this one, failed in the same way."""
    before = [r for r in read_newest(lake) if r["run_id"] != record["run_id"] and r["doing"] == record["doing"]]
    same = 0
    while same < len(before) and _failure_signature(before[same]) == _failure_signature(record):
        same += 1
    return same


def last_successful(records: list[Record], table: str) -> Record | None:
    """The newest record of a run that looked at a table and had nothing to say against it."""
    return next((record for record in records if _is_success_for(record, table)), None)


def overdue_seconds(record: Record | None, every: timedelta, now: datetime) -> int | None:
    """Seconds by which a table should have been looked at again; 0 if it is in time, None if it never was."""
    if record is None:
        return None
    return max(0, int((now - datetime.fromisoformat(record["ended"]) - every).total_seconds()))


def utc_text(time: datetime) -> str:
    return time.astimezone(timezone.utc).isoformat(timespec="seconds")


def _failure_signature(record: Record) -> Any:
    failed = [o for o in record.get("outcomes", ()) if o["code"]]
    return record["exit_code"], [(o["stage"], o["name"], o["status"], o["code"]) for o in failed]


def _is_success_for(record: Record, table: str) -> bool:
    if record["doing"] != "run" or record["ended"] is None:
        return False
    if record.get("nothing_new"):
        return True
    outcomes = [o for o in record.get("outcomes", ()) if o["name"] == table]
    return "ingest" in {o["stage"] for o in outcomes} and not any(o["code"] for o in outcomes)
