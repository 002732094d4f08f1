"""Runs a small project for tests as a user runs it: a pipeline, its source and its lake in one folder.

    shop = Project(tmp_path)
    shop.snapshot("20250101_000000", items="id,qty\na,1\n")
    assert shop.run().code == 0
    assert shop.rows("bronze/items") == [{"id": "a", "qty": 1}]

A test reads the result of a command from its exit code and its --json document, and the effects from the files of the
lake: Delta logs, and tables as Polars reads them. Nothing here uses the product's own code, except its command line.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lakehouse.cli import main

Row = dict[str, Any]

ITEMS = {"file": "items.csv", "format": "csv", "schema": "id STRING, qty INT, note STRING", "keys": ["id"]}

# Operations in a Delta log that may change the rows of the table.
_WRITE_OPERATIONS = frozenset({"WRITE", "MERGE", "DELETE", "UPDATE", "RESTORE", "CREATE TABLE AS SELECT"})


@dataclass(frozen=True)
class Result:
    """The result of a command: its exit code, its --json document, and its stderr."""

    code: int
    document: dict[str, Any]
    stderr: str

    @property
    def error(self) -> dict[str, str]:
        """The parts of the error: found, expected, where, next_step."""
        error: dict[str, str] = self.document["error"]
        return error

    def outcome(self, stage: str, name: str) -> dict[str, Any]:
        """Return the outcome of a table or model in a stage: status, counts, code, note. There must be only one."""
        (outcome,) = [o for o in self.document["outcomes"] if (o["stage"], o["name"]) == (stage, name)]
        return outcome

    def statuses(self, stage: str) -> dict[str, str]:
        return {o["name"]: o["status"] for o in self.document["outcomes"] if o["stage"] == stage}


@dataclass
class LakeFiles:
    """The files of a lake, read without Spark."""

    lake: Path

    def versions(self) -> dict[str, int]:
        """Return the newest version of every Delta table, from the file names of its log."""
        logs = [log for log in self.lake.glob("*/*/_delta_log") if log.parts[-3] != "_state"]
        return {str(log.parent.relative_to(self.lake)): max(_log_versions(log)) for log in logs}

    def write_counts(self) -> dict[str, int]:
        """Return the number of commits of every Delta table that may have changed its rows."""
        return {table: sum(op in _WRITE_OPERATIONS for op in self.operations(table)) for table in self.versions()}

    def operations(self, table: str) -> list[str]:
        """Return the operation of each commit of a Delta table, oldest first."""
        log = sorted((self.lake / table / "_delta_log").glob("*.json"))
        entries = [json.loads(line) for file in log for line in file.read_text().splitlines()]
        return [entry["commitInfo"]["operation"] for entry in entries if "commitInfo" in entry]

    def rows(self, table: str) -> list[Row]:
        """Return the sorted rows of a table without the `_cdc_*` columns."""
        return [{k: v for k, v in row.items() if not k.startswith("_cdc_")} for row in self.rows_with_cdc(table)]

    def rows_with_cdc(self, table: str) -> list[Row]:
        return sort_rows(pl.read_delta(str(self.lake / table)).to_dicts())

    def ledger(self, table: str = "items") -> list[Row]:
        """Return the ledger rows of a table in the order in which they were recorded."""
        rows = pl.read_delta(str(self.lake / "raw/ledger")).sort("recorded_at").to_dicts()
        return [row for row in rows if row["table"] == table]

    def statuses(self, table: str = "items") -> list[str]:
        return [row["status"] for row in self.ledger(table)]

    def change_set(self, entry: Row) -> list[Row]:
        """Return the rows of the change set of an accepted ledger row."""
        return sort_rows(pl.read_parquet(self.lake / entry["path"] / "*.parquet").to_dicts())


class Project(LakeFiles):
    """A pipeline with its source and its lake, in pipeline/, source/ and lake/ of `folder`.

    Args:
        models: By name (silver.items), the SQL and the settings of each model.
        source_settings: The settings of the source; by default the folder source/.
        publish: The settings of `publish`.
    """

    def __init__(
        self,
        folder: Path,
        tables: dict[str, dict[str, Any]] | None = None,
        models: dict[str, tuple[str, dict[str, Any]]] | None = None,
        source_settings: dict[str, Any] | None = None,
        publish: dict[str, Any] | None = None,
        tuning: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(folder / "lake")
        self.folder, self.pipeline, self.source = folder, folder / "pipeline", folder / "source"
        self.source_settings, self.publish, self.tuning = source_settings, publish, tuning
        self.document: dict[str, Any] = {}  # other settings of the pipeline
        self.tables, self.models = tables or {"items": dict(ITEMS)}, models or {}
        self.source.mkdir(parents=True, exist_ok=True)
        self.pipeline.mkdir(exist_ok=True)
        self.configure()

    @property
    def root(self) -> str:
        """The root of the lake as the pipeline names it."""
        return str(self.lake)

    def configure(self, **items: Any) -> None:
        """Write the pipeline with these settings of the table `items` changed; None removes a setting."""
        if items:
            self.tables["items"] = {k: v for k, v in (self.tables["items"] | items).items() if v is not None}
        document: dict[str, Any] = (
            {
                "name": "shop",
                "lake": self.root,
                "source": self.source_settings or {"type": "files", "path": str(self.source)},
                "tables": self.tables,
            }
            | self.document
            | {name: value for name, value in {"publish": self.publish, "tuning": self.tuning}.items() if value}
        )
        for name, (sql, settings) in self.models.items():
            layer, _, short = name.partition(".")
            document.setdefault(layer, {})[short] = settings
            (self.pipeline / layer).mkdir(exist_ok=True)
            (self.pipeline / layer / f"{short}.sql").write_text(sql, encoding="utf-8")
        (self.pipeline / "pipeline.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

    def snapshot(self, stamp: str | None = None, **files: str | bytes) -> Path:
        """Write `<name>.csv` files into the source: into the folder `stamp`, or directly if there is no stamp."""
        folder = self.source / stamp if stamp else self.source
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / f"{name}.csv").write_bytes(data)
        return folder

    def copy(self, folder: Path) -> Project:
        """Copy the project, with the current state of its source and its lake, to another folder."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Project(
            folder,
            {name: dict(table) for name, table in self.tables.items()},
            dict(self.models),
            self.source_settings,
            self.publish,
            self.tuning,
        )

    def __call__(self, verb: str, *arguments: str) -> Result:
        return lakehouse(verb, str(self.pipeline), *arguments)

    def run(self, *arguments: str) -> Result:
        return self("run", *arguments)

    def quarantine(self) -> list[Row]:
        """Return the unresolved rows in the quarantine of `items`."""
        rows: list[Row] = self("quarantine", "items").document["rows"]
        return rows


def lakehouse(*arguments: str) -> Result:
    """Run a command with --json in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*arguments, "--json"])
    return Result(code, json.loads(out.getvalue()), err.getvalue())


def copy_pipeline(pipeline: Path, folder: Path, **tuning: int) -> Path:
    """A copy of a pipeline's folder with a `tuning:` section; it still refers to the repository's other files."""
    shutil.copytree(pipeline, folder, dirs_exist_ok=True)
    file = folder / "pipeline.yml"
    text = file.read_text(encoding="utf-8").replace("../../", f"{pipeline.parents[1]}/")
    section = "".join(f"  {name}: {value}\n" for name, value in tuning.items())
    file.write_text(f"{text}\ntuning:\n{section}", encoding="utf-8")
    return folder


def nonzero_counts(entry: Row) -> Row:
    """Return the counts of a ledger row that are not zero."""
    names = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
    return {name: entry[name] for name in names if entry[name]}


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """Sort rows by their values, nulls first."""
    return sorted(rows, key=lambda row: [(v is not None, str(v)) for v in row.values()])


def _log_versions(log: Path) -> list[int]:
    return [int(file.stem) for file in log.glob("*.json") if file.stem.isdigit()]
