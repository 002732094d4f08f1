"""Defines a case: a pipeline, and snapshots of its tables, that can be shortened and written to a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fuzz.files import Mutation, mutate, render

Row = list[Any]  # one value, or text of a field, for each column


@dataclass(frozen=True)
class Column:
    """A column: its name, its type in `schema`, and the name of its type in a Parquet file.

    A column without a declared type is only in the files. One with `since` is added to both by that snapshot.
    """

    name: str
    kind: str | None
    stored: str = ""
    since: int = 0


@dataclass(frozen=True)
class Table:
    """A table with the rows of each snapshot, None for a snapshot without its file."""

    name: str
    format: str
    columns: tuple[Column, ...]
    settings: dict[str, Any]
    snapshots: tuple[list[Row] | None, ...]
    layout: dict[str, Any] = field(default_factory=dict)  # how the file is written
    mutations: tuple[tuple[Mutation, ...], ...] = ()

    @property
    def declared(self) -> list[Column]:
        return [column for column in self.columns if column.kind]

    def at_snapshot(self, at: int) -> Table:
        """Return the table with the columns that it has at a snapshot."""
        kept = [n for n, column in enumerate(self.columns) if column.since <= at]
        rows = tuple(rows and [[row[n] for n in kept] for row in rows] for rows in self.snapshots)
        return replace(self, columns=tuple(self.columns[n] for n in kept), snapshots=rows)

    def document(self) -> dict[str, Any]:
        schema = ", ".join(f"`{c.name.replace('`', '``')}` {c.kind}" for c in self.declared)
        return {"file": self.file_name, "format": self.format, "schema": schema, **self.settings}

    @property
    def names_in_files(self) -> list[str]:
        return [self.settings.get("names", {}).get(column.name, column.name) for column in self.columns]

    @property
    def file_name(self) -> str:
        """The name or, of several files, the pattern."""
        return f"{self.name}{'_*' if self.parts > 1 else ''}.{self.format}{self.layout.get('compression', '')}"

    @property
    def parts(self) -> int:
        """The number of files of a snapshot."""
        return int(self.layout.get("parts", 1))

    def files(self, at: int) -> dict[str, bytes]:
        """Return the files of a snapshot, by their names; the first is damaged."""
        table = self.at_snapshot(at)
        rows = table.snapshots[at]
        if rows is None:
            return {}
        contents = [render(table, rows[part :: self.parts]) for part in range(self.parts)]
        contents[0] = mutate(contents[0], self.mutations[at] if self.mutations else ())
        return {self.file_name.replace("*", str(part)): content for part, content in enumerate(contents)}

    def row_count(self, at: int) -> int | None:
        """Return how many records the file has; None if it cannot be said without reading it as the product does."""
        rows = self.snapshots[at]
        if rows is None or (self.mutations and self.mutations[at]):
            return None
        if self.format == "csv" and (self.layout["quote"] == "" or self.layout["is_lossy"] or len(self.columns) < 2):
            return None
        return len(rows)


@dataclass(frozen=True)
class Model:
    """A model: its layer and name, its SQL and its settings."""

    name: str
    sql: str
    settings: dict[str, Any]

    def reads(self, relation: str) -> bool:
        return relation in self.sql


@dataclass(frozen=True)
class Alter:
    """What somebody sets on a table of the lake by hand, after a snapshot: a property, or a CHECK constraint."""

    after: int
    relation: str
    kind: str
    name: str
    value: str


@dataclass(frozen=True)
class Case:
    """A pipeline and its snapshots."""

    seed: str
    document: dict[str, Any]
    tables: tuple[Table, ...]
    models: tuple[Model, ...]
    stamps: tuple[str, ...]
    alters: tuple[Alter, ...] = ()

    def without(self, names: Iterable[str]) -> Case:
        """Return the case without some tables and models, and without the models that read them."""
        gone = set(names)
        while more := {m.name for m in self.models if m.name not in gone and any(map(m.reads, gone))}:
            gone |= more
        tables = tuple(table for table in self.tables if f"bronze.{table.name}" not in gone)
        alters = tuple(alter for alter in self.alters if alter.relation not in gone)
        models = tuple(model for model in self.models if model.name not in gone)
        return replace(self, tables=tables, models=models, alters=alters)

    def needed_by(self, name: str) -> Case:
        """Return the case with one table or model, and what it reads."""
        wanted = {name}
        for model in reversed(self.models):
            if model.name in wanted:
                wanted |= {other for other in self.names() if other != model.name and model.reads(other)}
        return self.without({other for other in self.names() if other not in wanted})

    def names(self) -> list[str]:
        return [*(f"bronze.{table.name}" for table in self.tables), *(model.name for model in self.models)]

    def write(self, folder: Path) -> None:
        """Write the pipeline, and the snapshots beside it: they come into its source one by one.

        `pipelines/` has the pipeline of each snapshot, and `alters.json` what is set on tables after one.
        """
        pipeline = folder / "pipeline"
        pipeline.mkdir(parents=True, exist_ok=True)
        for model in self.models:
            layer, _, name = model.name.partition(".")
            (pipeline / layer).mkdir(exist_ok=True)
            (pipeline / layer / f"{name}.sql").write_text(model.sql, encoding="utf-8", errors="surrogatepass")
        alters = [vars(alter) | {"after": self.stamps[alter.after]} for alter in self.alters]
        (folder / "alters.json").write_text(json.dumps(alters, indent=1), encoding="utf-8")
        (folder / "pipelines").mkdir(exist_ok=True)
        for at in range(len(self.stamps))[::-1]:
            text = json.dumps(self._document(folder, at), indent=1)
            (folder / "pipelines" / f"{self.stamps[at]}.json").write_text(text, encoding="utf-8")
            (pipeline / "pipeline.json").write_text(text, encoding="utf-8")
        for at, stamp in enumerate(self.stamps):
            snapshot = folder / "snapshots" / stamp
            snapshot.mkdir(parents=True, exist_ok=True)
            for table in self.tables:
                for name, content in table.files(at).items():
                    (snapshot / name).write_bytes(content)

    def _document(self, folder: Path, at: int) -> dict[str, Any]:
        document = {
            "name": "fuzz",
            "lake": str(folder / "lake"),
            "source": {"type": "files", "path": str(folder / "source")},
            "tables": {table.name: table.at_snapshot(at).document() for table in self.tables},
            **self.document,
        }
        for model in self.models:
            layer, _, name = model.name.partition(".")
            document.setdefault(layer, {})[name] = model.settings
        return document

    def row_counts(self) -> dict[tuple[str, str], int]:
        """Return the numbers of records by table and snapshot, of those files of which it is known."""
        return {key: count for key, count in self._row_counts() if count is not None}

    def _row_counts(self) -> Iterator[tuple[tuple[str, str], int | None]]:
        for table in self.tables:
            for at, stamp in enumerate(self.stamps):
                yield (table.name, stamp), table.row_count(at)
