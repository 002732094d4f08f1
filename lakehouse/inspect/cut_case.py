"""Cuts a test case of a model out of the lake: the rows of its inputs that make one row. Entry point: `cut_case`.

1. Read the row and the inputs. If the inputs have the model's key columns, only rows with the key are tried first.
2. Remove rows as long as the model still gives the same row, in halves, quarters and so on, up to a number of attempts.
3. Mask personal texts: one value is the same invented one everywhere, so that joins hold.
4. Compute the expected rows from these, and write the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError
from lakehouse.inspect.cases import FOLDER, Case, Row
from lakehouse.inspect.json_rows import json_rows
from lakehouse.inspect.model_tests import CaseRunner
from lakehouse.lake import delta, ledger
from lakehouse.lake.marked_rows import live_rows
from lakehouse.models.sql.determinism import NEWEST_SNAPSHOT
from lakehouse.runner.context import Run
from lakehouse.storage.paths import utc_text_z
from lakehouse.text import escape_yaml

Document = dict[str, Any]
Given = dict[str, tuple[Row, ...]]

MAX_ROWS = 20_000  # of an input, which are read and tried
MAX_ATTEMPTS = 60


def cut_case(run: Run, model: str, key: list[str], personal: Mapping[str, frozenset[str]]) -> Document:
    """Write a case with one row of a model, and return its description.

    Args:
        run: The command.
        model: The model, such as `gold.churn`.
        key: The value of its key, or `column=value` for each column.
        personal: The personal columns of each table and model, which are masked.

    Returns:
        The document of `lakehouse test --cut --json`.

    Raises:
        ConfigError: There is no such model or row, or an input has more rows than can be tried.
    """
    if model not in run.plans:
        raise ConfigError(
            f"no model {model}{did_you_mean(model, [*run.plans])}",
            expected=f"one of {', '.join(run.plans)}",
            where=str(run.pipeline.path),
            next_step=f"lakehouse status {run.pipeline.argument}, which lists them",
        )
    wanted = _parse_key(run, model, key)
    cutter = _Cutter(run, Case(Path(), "cut", model, only=wanted, newest_snapshot=_newest_snapshot(run, model)))
    given = cutter.smallest_given()
    mask = _Mask(personal)
    masked = {relation: tuple(mask.row(relation, row) for row in rows) for relation, rows in given.items()}
    only = mask.key(model, wanted)
    case = replace(cutter.case, given=masked, only=only)
    expect = cutter.rows_of(case)
    if not expect:
        raise ConfigError(
            f"{model} has no row from the masked rows of its inputs",
            expected="a model that does not compute with personal values",
            where=str(run.pipeline.path),
            next_step="write the case by hand, with invented rows",
        )
    file = _free_file(run.pipeline.folder / FOLDER, model.partition(".")[2])
    _write(file, case, " ".join(map(str, only.values())), expect)
    counts = {relation: len(rows) for relation, rows in masked.items()}
    return {"pipeline": run.pipeline.name, "file": str(file), "model": model, "given": counts, "expect": len(expect)}


def _parse_key(run: Run, model: str, words: list[str]) -> dict[str, Any]:
    keys = run.plans[model].keys
    if len(keys) == 1 and len(words) == 1 and not words[0].startswith(f"{keys[0]}="):
        return {keys[0]: words[0]}
    values = dict(word.split("=", 1) for word in words if "=" in word)
    if values.keys() != set(keys) or len(words) != len(keys):
        form = " ".join(f"{name}=..." for name in keys)
        raise ConfigError(
            f"the key {' '.join(words)}",
            expected=f"{form}, each column once",
            where=f"the key of {model}",
            next_step=f"lakehouse test {run.pipeline.argument} --cut {model} {form}",
        )
    return {name: values[name] for name in keys}


def _newest_snapshot(run: Run, model: str) -> str | None:
    if not run.plans[model].parameters & set(NEWEST_SNAPSHOT):
        return None
    time = ledger.newest_accepted_time(run.lazy_spark, run.lake)
    return utc_text_z(time) if time else None


class _Cutter:
    """Finds few rows of the inputs that make the row."""

    def __init__(self, run: Run, case: Case) -> None:
        self.case, self._run, self._bench = case, run, CaseRunner(run)
        self._attempts = 0
        self._row: list[Row] = []

    def rows_of(self, case: Case) -> list[Row]:
        """Return the rows that a case's model has, of those that are compared."""
        return [*json_rows(self._bench.selected(case))]

    def smallest_given(self) -> Given:
        """Return the rows of the inputs without most of those that the row does not need."""
        given = {relation: self._input_rows(relation) for relation in self._run.plans[self.case.model].inputs}
        self._row = self.rows_of(replace(self.case, given=given))
        if not self._row:
            raise ConfigError(
                f"{self.case.model} has no row with {dict(self.case.only)}",
                expected="the key of a row that the lake's inputs give",
                where=str(self._run.pipeline.path),
                next_step=f"lakehouse show {self._run.pipeline.argument} {self.case.model}",
            )
        by_key = {relation: self._with_key(rows) for relation, rows in given.items()}
        if by_key != given and self._gives_the_row(by_key):
            given = by_key
        for relation in given:
            given = self._reduce(given, relation)
        return given

    def _input_rows(self, relation: str) -> tuple[Row, ...]:
        address = self._run.lake.table(relation)
        if delta.is_missing(address):
            raise ConfigError(
                f"{relation} is not in the lake yet",
                expected="a table that a run has written",
                where=self._run.lake.root,
                next_step=f"lakehouse run {self._run.pipeline.argument}",
            )
        rows = live_rows(relation, delta.read(self._bench.spark, address)).limit(MAX_ROWS + 1)
        found = json_rows(rows)
        if len(found) > MAX_ROWS:
            raise ConfigError(
                f"{relation} has more than {MAX_ROWS:,} rows",
                expected="inputs that can be tried row by row",
                next_step="write the case by hand, with rows from `lakehouse sql`",
            )
        return tuple(found)

    def _with_key(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """Return the rows that agree with the key in the columns that they have."""
        wanted = {name.lower(): str(value) for name, value in self.case.only.items()}
        return tuple(
            row for row in rows if all(str(v) == wanted[c.lower()] for c, v in row.items() if c.lower() in wanted)
        )

    def _gives_the_row(self, given: Given) -> bool:
        self._attempts += 1
        return self.rows_of(replace(self.case, given=given)) == self._row

    def _reduce(self, given: Given, relation: str) -> Given:
        """Remove rows of one input in ever smaller parts, while the row stays the same."""
        rows, parts = given[relation], 2
        while len(rows) and self._attempts < MAX_ATTEMPTS:
            for part in _split(len(rows), parts):
                fewer = rows[: part.start] + rows[part.stop :]
                if self._attempts < MAX_ATTEMPTS and self._gives_the_row(given | {relation: fewer}):
                    rows = fewer
                    parts = max(parts - 1, 2)
                    break
            else:
                if parts >= len(rows):
                    break
                parts = min(2 * parts, len(rows))
        return given | {relation: rows}


def _split(count: int, parts: int) -> Iterator[range]:
    size = -(-count // parts)
    return (range(start, min(start + size, count)) for start in range(0, count, size))


class _Mask:
    """Replaces personal texts; the same one by the same invented one."""

    def __init__(self, personal: Mapping[str, frozenset[str]]) -> None:
        self._personal = personal
        self._invented: dict[str, str] = {}

    def row(self, relation: str, row: Row) -> Row:
        """Return a row with its personal texts replaced; other personal values are null."""
        columns = {name.lower() for name in self._personal.get(relation, ())}
        return {c: self._invent(c, value) if c.lower() in columns else value for c, value in row.items()}

    def key(self, model: str, key: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's key, with the texts that replaced personal ones in the rows of its inputs.

        Raises:
            ConfigError: A personal part of it is no text of these rows, so that nothing can stand for it.
        """
        personal = {name.lower() for name in self._personal.get(model, ())}
        if left := [
            column for column, value in key.items() if column.lower() in personal and value not in self._invented
        ]:
            raise ConfigError(
                f"the key of {model} has personal values that cannot be replaced: {', '.join(left)}",
                expected="a key whose personal parts are texts of the model's inputs",
                next_step="write the case by hand, with invented rows",
            )
        return {column: self._invented.get(value, value) for column, value in key.items()}

    def _invent(self, column: str, value: Any) -> str | None:
        if not isinstance(value, str):
            return None
        return self._invented.setdefault(value, f"{column} {len(self._invented) + 1}")


def _free_file(folder: Path, name: str) -> Path:
    files = (folder / f"{name}{number}.yml" for number in ("", *(f"_{n}" for n in range(2, 1000))))
    return next(file for file in files if not file.exists())


def _write(file: Path, case: Case, name: str, expect: list[Row]) -> None:
    content: dict[str, Any] = {"given": {r: [_without_nulls(row) for row in rows] for r, rows in case.given.items()}}
    if case.newest_snapshot:
        content = {"newest_snapshot": case.newest_snapshot} | content
    content |= {"only": dict(case.only), "expect": [dict(row) for row in expect]}
    document = {"model": case.model, "cases": {name: content}}
    file.parent.mkdir(exist_ok=True)
    text = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)
    header = "# Cut from the lake by `lakehouse test --cut`; personal texts are invented."
    file.write_text(f"{header}\n{escape_yaml(text)}", encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Writes texts that are not printable in double quotes, the only ones in which YAML has escapes."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"'
    ),
)


def _without_nulls(row: Row) -> Row:
    counted = {ROW_COUNT: row[ROW_COUNT]} if row.get(ROW_COUNT, 1) != 1 else {}
    return {n: value for n, value in row.items() if value is not None and not n.startswith("_cdc_")} | counted
