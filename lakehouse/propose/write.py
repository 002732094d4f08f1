"""Writes a proposed pipeline: everything to a temporary folder first, where it is checked as `validate` checks it."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lakehouse import config
from lakehouse.config.pipeline import FILE_NAMES
from lakehouse.errors import ConfigError, DataRefused, LakehouseError
from lakehouse.models.sql import pipeline_plans
from lakehouse.propose.names import to_snake_case
from lakehouse.propose.page import pipeline_text, silver_sql
from lakehouse.propose.proposal import Proposal, ProposedTable, propose_tables
from lakehouse.propose.sources import shown

_NEXT_SNAPSHOT = (
    "The files are one snapshot, at the time of the run. For the next one, replace them; or put each export into a",
    "folder of its own, named by its time in UTC, such as 20251003_170552.",
)


def init_pipeline(
    source: Path,
    target: Path,
    keys: Mapping[str, Sequence[str]] | None = None,
    on_table: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Write a pipeline for the files of a folder, and return the decisions.

    Args:
        source: A folder with the files of one snapshot, or with a folder per snapshot.
        target: The folder to write, or the path of its pipeline.yml.
        keys: Keys to try first, by table.
        on_table: Called with the name of each table before its files are read.

    Returns:
        A document with the keys pipeline, source, snapshots, tables, warnings and next.

    Raises:
        ConfigError: There is a pipeline already, or the source has no files to read.
        DataRefused: No file has a usable key.
    """
    refuse_existing(target)
    proposal = propose_tables(source, keys or {}, on_table)
    usable = [table for table in proposal.tables if not table.problem]
    if not usable:
        raise DataRefused(
            "\n".join(f"{table.name}: {table.problem}" for table in proposal.tables),
            expected="at least one file of rows, with a column, or up to three, that are unique in every snapshot",
            where=shown(str(source)),
            next_step="correct the files, or write a pipeline by hand: see docs/reference/pipeline.md",
        )
    text = pipeline_text(
        pipeline_name(target),
        {"type": "files", "path": str(source)},
        proposal.tables,
        _header(proposal),
        zone=proposal.zone,
    )
    write_pipeline(target, text, {f"silver/{table.name}.sql": silver_sql(table) for table in usable})
    return document(target, str(source), proposal.snapshots, proposal.tables, proposal.warnings)


def pipeline_file(target: Path) -> Path:
    """Return the path of the file to write.

    Args:
        target: A folder, or the path of a .yml or .yaml file.
    """
    return target if target.suffix in (".yml", ".yaml") and not target.is_dir() else target / FILE_NAMES[0]


def pipeline_name(target: Path) -> str:
    """Return a pipeline's name, from the name of its folder or file."""
    file = pipeline_file(target.resolve())
    return to_snake_case(file.parent.name if file.stem == "pipeline" else file.stem, "pipeline")


def refuse_existing(target: Path) -> None:
    """Raise `ConfigError` if there is a pipeline at the target: it is never overwritten."""
    file = pipeline_file(target)
    in_the_way = [path for path in {file, *(file.parent / name for name in FILE_NAMES)} if os.path.lexists(path)]
    if in_the_way:
        raise ConfigError(
            f"{', '.join(sorted(map(str, in_the_way)))} exists, and is not overwritten",
            expected="a folder without a pipeline",
            next_step="choose another folder, or remove the file first",
        )


def write_pipeline(target: Path, text: str, models: Mapping[str, str]) -> None:
    """Write pipeline.yml and its models, after they have been checked; all of them, or none.

    Args:
        target: The folder, or the path of the file.
        text: The content of the file.
        models: The SQL of each model, by its path relative to the folder.

    Raises:
        ConfigError: A file exists already, or the folder cannot be written.
    """
    file = pipeline_file(target)
    refuse_existing(target)
    existing = [file.parent / name for name in models if os.path.lexists(file.parent / name)]
    if existing:
        raise ConfigError(
            f"{', '.join(map(str, existing))} exists, and is not overwritten",
            next_step="choose another folder, or remove the file first",
        )
    with tempfile.TemporaryDirectory(prefix="lakehouse-init-") as name:
        checked = Path(name) / file.name
        _write(checked, text)
        for path, sql in models.items():
            _write(checked.parent / path, sql)
        _check(checked)
        created: list[Path] = []
        try:
            for path in [*models, file.name]:  # the pipeline last: without it, the rest is no pipeline
                (file.parent / path).parent.mkdir(parents=True, exist_ok=True)
                with (
                    (file.parent / path).open("x", encoding="utf-8") as out,
                    (checked.parent / path).open(encoding="utf-8") as copy,
                ):
                    created.append(file.parent / path)
                    shutil.copyfileobj(copy, out)
        except OSError as error:
            for path_created in created:
                path_created.unlink(missing_ok=True)
            raise ConfigError(f"{file.parent} cannot be written: {error.strerror}") from error


def document(
    target: Path, source: str, snapshots: Sequence[str], tables: Sequence[ProposedTable], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the decisions, for people and programs.

    Args:
        target: The folder or file that was written.
        source: The source, as it is written in the pipeline.
        snapshots: The names of the snapshots; one empty name stands for a folder without times.
        tables: The tables, written or left out.
        warnings: The files that were passed over, and why.
    """
    file = pipeline_file(target)
    shown_target = str(file.parent) if file.name in FILE_NAMES else str(file)
    return {
        "pipeline": str(file),
        "source": source,
        "snapshots": [name for name in snapshots if name],
        "tables": [
            {
                "table": table.name,
                "written": not table.problem,
                "file": table.file,
                "format": table.format,
                "options": table.options,
                "records": table.records,
                "skip_lines": table.skip_lines,
                "columns": [asdict(column) for column in table.columns],
                "keys": table.keys,
                "rows": table.rows,
                "stable": table.stable,
                "problem": table.problem,
                "notes": table.notes,
            }
            for table in tables
        ],
        "warnings": list(warnings),
        "next": f"lakehouse validate {shown_target} && lakehouse run {shown_target}",
    }


def _check(file: Path) -> None:
    """Raise `LakehouseError` if the pipeline that is about to be written is not valid, which is a bug."""
    try:
        pipeline_plans.plan_pipeline(config.load(file, env={}))  # with the defaults of its variables
    except ConfigError as error:
        raise LakehouseError(f"the proposed pipeline is not valid, and was not written: {error.found}") from error


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _header(proposal: Proposal) -> list[str]:
    names = [name for name in proposal.snapshots if name]
    found = (
        f"{len(names)} snapshots, {names[0]} to {names[-1]}"
        if len(names) > 1
        else f"the snapshot {names[0]}"
        if names
        else ("the files of one snapshot")
    )
    is_unsure = any(table.notes or any(c.notes for c in table.columns) for table in proposal.tables)
    return [
        f"Proposed by `lakehouse init` from {found}.",
        *(["Comments that begin with `not sure` say what to look at before the first run."] if is_unsure else []),
        "Paths are relative to the folder in which the command runs; those that are not there, to this file.",
        *(_NEXT_SNAPSHOT if not names else []),
    ]


def table_name(text: str) -> str:
    """Return the name of a table that a configuration names by a file or a word."""
    return to_snake_case(re.sub(r"(?i)(\.(csv|json|parquet))$", "", text), "table")
