"""A small project for tests: a pipeline, its source and its lake in one folder, run as a user runs it.

    shop = Project(tmp_path)
    shop.snapshot("20250101_000000", items="id,qty\\na,1\\n")
    assert shop.run().code == 0
    assert shop.rows("bronze/items") == [{"id": "a", "qty": 1}]

What a command said comes from its exit code and its --json document, what it did from the lake's files: Delta logs,
and tables as Polars reads them. Nothing here looks into the product.
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

# Operations of a Delta log after which other rows are in the table, or may be.
_WRITE_OPERATIONS = frozenset({"WRITE", "MERGE", "DELETE", "UPDATE", "RESTORE", "CREATE TABLE AS SELECT"})


@dataclass(frozen=True)
class Result:
    """What a command gave back: its exit code, its --json document, and what it wrote to stderr."""

    code: int
    document: dict[str, Any]
    stderr: str

    @property
    def error(self) -> dict[str, str]:
        """The parts of the error block: found, expected, where, next_step."""
        error: dict[str, str] = self.document["error"]
        return error

    def outcome(self, stage: str, name: str) -> dict[str, Any]:
        """What a stage says of a table or model: status, counts, code, note. It must have said one thing only."""
        (found,) = [o for o in self.document["outcomes"] if (o["stage"], o["name"]) == (stage, name)]
        return found

    def statuses(self, stage: str) -> dict[str, str]:
        return {o["name"]: o["status"] for o in self.document["outcomes"] if o["stage"] == stage}


@dataclass
class LakeFiles:
    """A lake's files, read without Spark."""

    lake: Path

    def versions(self) -> dict[str, int]:
        """The newest version of every Delta table, from its log's file names."""
        logs = [log for log in self.lake.glob("*/*/_delta_log") if log.parts[-3] != "_state"]
        return {str(log.parent.relative_to(self.lake)): max(_log_versions(log)) for log in logs}

    def write_counts(self) -> dict[str, int]:
        """How many commits of every Delta table may have changed its rows: all but maintenance and notes."""
        return {table: sum(op in _WRITE_OPERATIONS for op in self.operations(table)) for table in self.versions()}

    def operations(self, table: str) -> list[str]:
        """What each commit of a Delta table did, oldest first."""
        log = sorted((self.lake / table / "_delta_log").glob("*.json"))
        entries = [json.loads(line) for file in log for line in file.read_text().splitlines()]
        return [entry["commitInfo"]["operation"] for entry in entries if "commitInfo" in entry]

    def rows(self, table: str) -> list[Row]:
        """A table of the lake without the `_cdc_*` columns, in order."""
        return [{k: v for k, v in row.items() if not k.startswith("_cdc_")} for row in self.rows_with_cdc(table)]

    def rows_with_cdc(self, table: str) -> list[Row]:
        return sort_rows(pl.read_delta(str(self.lake / table)).to_dicts())

    def ledger(self, table: str = "items") -> list[Row]:
        """The ledger's rows of a table, as they were recorded."""
        rows = pl.read_delta(str(self.lake / "raw/ledger")).sort("recorded_at").to_dicts()
        return [row for row in rows if row["table"] == table]

    def statuses(self, table: str = "items") -> list[str]:
        return [row["status"] for row in self.ledger(table)]

    def change_set(self, entry: Row) -> list[Row]:
        """The rows that an accepted row of the ledger published."""
        return sort_rows(pl.read_parquet(self.lake / entry["path"] / "*.parquet").to_dicts())


class Project(LakeFiles):
    """`folder` holds pipeline/, source/ and lake/.

    Args:
        models: by name (silver.items), each its SQL and its settings.
        from_: another source than the folder.
        publish: where tables go from the lake.
    """

    def __init__(
        self,
        folder: Path,
        tables: dict[str, dict[str, Any]] | None = None,
        models: dict[str, tuple[str, dict[str, Any]]] | None = None,
        source_settings: dict[str, Any] | None = None,
        publish: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(folder / "lake")
        self.folder, self.pipeline, self.source = folder, folder / "pipeline", folder / "source"
        self.source_settings, self.publish = source_settings, publish
        self.tables, self.models = tables or {"items": dict(ITEMS)}, models or {}
        self.source.mkdir(parents=True, exist_ok=True)
        self.pipeline.mkdir(exist_ok=True)
        self.configure()

    @property
    def root(self) -> str:
        """The lake as the pipeline names it."""
        return str(self.lake)

    def configure(self, **items: Any) -> None:
        """Write the pipeline, after `items` is changed in the table of that name; None takes a setting out."""
        if items:
            self.tables["items"] = {k: v for k, v in (self.tables["items"] | items).items() if v is not None}
        document: dict[str, Any] = {
            "name": "shop",
            "lake": self.root,
            "source": self.source_settings or {"type": "files", "path": str(self.source)},
            "tables": self.tables,
        } | ({"publish": self.publish} if self.publish else {})
        for name, (sql, settings) in self.models.items():
            layer, _, short = name.partition(".")
            document.setdefault(layer, {})[short] = settings
            (self.pipeline / layer).mkdir(exist_ok=True)
            (self.pipeline / layer / f"{short}.sql").write_text(sql, encoding="utf-8")
        (self.pipeline / "pipeline.json").write_text(json.dumps(document, indent=1), encoding="utf-8")

    def snapshot(self, stamp: str | None = None, **files: str | bytes) -> Path:
        """Put `<name>.csv` files into the source: into a folder of that stamp, or, without one, flat."""
        folder = self.source / stamp if stamp else self.source
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / f"{name}.csv").write_bytes(data)
        return folder

    def copy(self, folder: Path) -> Project:
        """The same project elsewhere: its source and its lake as they are now."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Project(
            folder,
            {name: dict(table) for name, table in self.tables.items()},
            dict(self.models),
            self.source_settings,
            self.publish,
        )

    def __call__(self, verb: str, *arguments: str) -> Result:
        return lakehouse(verb, str(self.pipeline), *arguments)

    def run(self, *arguments: str) -> Result:
        return self("run", *arguments)

    def quarantine(self) -> list[Row]:
        """The rows of items that wait to be mended."""
        found: list[Row] = self("quarantine", "items").document["rows"]
        return found


def lakehouse(*arguments: str) -> Result:
    """A command line with --json, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([*arguments, "--json"])
    return Result(code, json.loads(out.getvalue()), err.getvalue())


def nonzero_counts(entry: Row) -> Row:
    """The counts of a ledger row that are not zero."""
    names = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
    return {name: entry[name] for name in names if entry[name]}


def sort_rows(rows: Iterable[Row]) -> list[Row]:
    """Sorted by their values, nulls first."""
    return sorted(rows, key=lambda row: [(v is not None, str(v)) for v in row.values()])


def _log_versions(log: Path) -> list[int]:
    return [int(file.stem) for file in log.glob("*.json") if file.stem.isdigit()]
