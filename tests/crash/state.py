"""Returns what a lake has, in a form to compare two lakes by: without times of runs, run ids and names of files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from deltalake import DeltaTable
from helpers import LakeFiles, Row, sort_rows

_OWN = frozenset({"run_id", "recorded_at", "forgotten_at"})
_VERSIONS = frozenset({"first_sequence", "last_sequence"})
_RESULT = ("on_fail", "status", "rows_failing")
_APART = ("raw/ledger", "quality/results")


def lake_state(lake: Path, counts_commits: bool = True) -> dict[str, Any]:
    """Return the content of every layer of a lake.

    Args:
        lake: Its folder.
        counts_commits: Whether the number of data-changing commits of each table, and its Change Data Feed, are a part.
    """
    files = LakeFiles(lake)
    tables = [table for table in sorted(files.versions()) if table not in _APART]
    state: dict[str, Any] = {f"rows of {table}": _without_own(files.rows_with_cdc(table)) for table in tables}
    if (lake / "raw/ledger/_delta_log").is_dir():
        state["ledger"] = _without_own(files.rows_with_cdc("raw/ledger"))
    if (lake / "quality/results/_delta_log").is_dir():
        state["results of rules"] = _latest_results(files)
    state |= {f"change set {path}": rows for path, rows in _change_sets(files)}
    state["landing"] = dict(_landed(lake / "landing"))
    if counts_commits:
        state |= {f"feed of {table}": _feed(lake / table) for table in tables if table != "raw/forgotten"}
    state["left over"] = sorted(_left_over(lake))
    return state


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Return the parts in which a state is not the expected one, a line each."""
    names = sorted(found.keys() | expected.keys())
    return [
        f"{name}:\n    found    {_short(found.get(name))}\n    expected {_short(expected.get(name))}"
        for name in names
        if found.get(name) != expected.get(name)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 2000 else f"{text[:2000]}..."


def _without_own(rows: list[Row]) -> list[Row]:
    """Return rows without what differs from run to run.

    That is also the version of a model's table at which it lost a row: a commit that only adds a column may have been
    made by the run that was broken off, and then it has a version of its own.
    """
    return sort_rows({name: value for name, value in row.items() if name not in _own_of(row)} for row in rows)


def _own_of(row: Row) -> frozenset[str]:
    return _OWN | _VERSIONS if _is_of_model(row) else _OWN


def _is_of_model(row: Row) -> bool:
    """Return whether a row is one that a model left out, in quarantine."""
    return row.get("stage") in ("silver", "gold") and "row_hash" in row


def _latest_results(files: LakeFiles) -> dict[tuple[str, str], Row]:
    """Return the latest result of each rule: a run that was broken off may have evaluated it once more."""
    rows = sorted(files.rows_with_cdc("quality/results"), key=lambda row: (row["recorded_at"], row["run_id"]))
    return {(row["model"], row["rule"]): {name: row[name] for name in _RESULT} for row in rows}


def _change_sets(files: LakeFiles) -> Iterator[tuple[str, list[Row]]]:
    """Yield the published change sets, and no others: those of an attempt that ended are overwritten or left."""
    if not (files.lake / "raw/ledger/_delta_log").is_dir():
        return
    for row in files.rows_with_cdc("raw/ledger"):
        if row["path"] and (files.lake / row["path"]).is_dir():
            yield row["path"], files.change_set(row)


def _landed(landing: Path) -> Iterator[tuple[str, Any]]:
    for file in sorted(path for path in landing.rglob("*") if path.is_file()):
        name = file.relative_to(landing).as_posix()
        if file.name != "_manifest.json":
            yield name, file.read_bytes()
            continue
        document = json.loads(file.read_text())
        for each in document["files"]:
            del each["signature"]  # of the source's file, which was copied with the project
        yield name, document | ({"expired": True} if "expired" in document else {})


def _feed(table: Path) -> list[list[Row]] | None:
    """Return the changes of each commit that changed rows, oldest first; None if only Spark can read the feed."""
    versions = list(_data_versions(table))
    try:
        batches = DeltaTable(str(table)).load_cdf(starting_version=0, allow_out_of_range=True)
        rows = _arrow_rows(batches)
    except Exception:  # deletion vectors, or versions whose files are gone
        return [[{"operation": operation}] for _, operation in versions]
    by_version: dict[int, list[Row]] = {version: [] for version, _ in versions}
    for row in rows:
        version = row.pop("_commit_version")
        row.pop("_commit_timestamp")
        by_version.setdefault(version, []).append(row)
    commits = [(changes, _without_new_versions(changes)) for _, changes in sorted(by_version.items())]
    return [_without_own(kept) for changes, kept in commits if kept or not changes]


def _without_new_versions(changes: list[Row]) -> list[Row]:
    """Leave out the updates that give rows of a model's quarantine other versions alone (`_without_own`)."""

    sides = {"update_preimage": "update_postimage", "update_postimage": "update_preimage"}

    def values(row: Row) -> Row:
        return {name: value for name, value in row.items() if name not in _own_of(row)}

    def is_new_version(row: Row) -> bool:
        side = {"_change_type": sides.get(row["_change_type"])}
        others = [each for each in changes if values(each) == values(row) | side] if _is_of_model(row) else []
        return any(each[name] != row[name] for each in others for name in _VERSIONS & row.keys())

    return [row for row in changes if not is_new_version(row)]


def _arrow_rows(reader: Any) -> list[Row]:
    import pyarrow as pa

    return list(pa.table(reader.read_all()).to_pylist())


def _data_versions(table: Path) -> Iterator[tuple[int, str]]:
    """Yield the versions whose commit changed rows, with the operation."""
    for file in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in file.read_text().splitlines() if line]
        changes = [a for a in actions for kind in ("add", "remove", "cdc") if a.get(kind, {}).get("dataChange", False)]
        if changes:
            yield int(file.stem), next((a["commitInfo"]["operation"] for a in actions if "commitInfo" in a), "")


def _left_over(lake: Path) -> Iterator[str]:
    """Yield the files and folders of work in progress: the next run removes those of a command that was killed."""
    for path in lake.rglob("*"):
        if path.name.endswith(".partial"):
            yield path.relative_to(lake).as_posix()
    for folder in ("replay", "rebuild", "plain"):
        for path in (lake / "_state" / folder).rglob("*"):
            if path.is_file():
                yield path.relative_to(lake).as_posix()
