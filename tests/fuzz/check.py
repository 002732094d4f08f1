"""Runs a case in a folder, snapshot by snapshot, and lists its faults."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import signal
import traceback
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import DeltaTable, QueryBuilder

from lakehouse.cli import main

LIMIT_SECONDS = 300
_COUNTS = ("inserted", "updated", "unchanged", "quarantined", "duplicates")
_UNSAFE_READS = ("raw/ledger", "forgotten")


@dataclass(frozen=True)
class Fault:
    """Something that must never happen.

    Attributes:
        kind: What it is, such as `exit 1`.
        name: The table or model (`bronze.t1`, `silver.s2`); empty if it is about the whole lake.
        text: The message, for people.
        place: Where in the code, if it is known.
    """

    kind: str
    name: str
    text: str
    place: str = ""

    @property
    def signature(self) -> str:
        """Two faults of one signature have most probably the same cause."""
        words = re.sub(
            r"'[^']*'|\"[^\"]*\"|`[^`]*`|\b(?:silver|gold|bronze)\.\w+|\b[tsgmocwk]\d+\b|\d+", "*", self.text
        )
        return f"{self.kind} {self.place} {words[:160]}"


@dataclass
class Result:
    """What a case did.

    Attributes:
        faults: What must never happen.
        exit_codes: The exit code of each command.
        refused: What `validate` refused, by table or model, with its words.
        statuses: How often each status of an outcome occurred.
        refused_by_run: What a run refused with exit code 2, in its words.
    """

    faults: list[Fault] = field(default_factory=list)
    exit_codes: list[int] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    refused_by_run: list[str] = field(default_factory=list)


class Hang(Exception):
    """A command took longer than the limit."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def command(*arguments: str) -> tuple[int, dict[str, Any], str]:
    """Run a command with --json in this process; return its exit code, its document and its stderr."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err), time_limit(LIMIT_SECONDS):
        code = main([*arguments, "--json"])
    return code, json.loads(out.getvalue()), err.getvalue()


def find_refused(pipeline: Path) -> tuple[int, dict[str, Any]]:
    code, document, _ = command("validate", str(pipeline))
    return code, document


def check_project(
    folder: Path, row_counts: Mapping[tuple[str, str], int] | None = None, with_verify: bool = True
) -> Result:
    """Run a project whose snapshots wait in `snapshots/`, and return what went wrong.

    Args:
        folder: The folder of `Case.write`.
        row_counts: The number of records of files, if it is known.
        with_verify: Whether `verify` checks the lake in the end.
    """
    check = _Check(folder, dict(row_counts or {}))
    try:
        check.run_all(with_verify)
    except Hang as hang:
        check.fault("hang", "", f"{check.doing}: {hang}")
    return check.result


class _Check:
    def __init__(self, folder: Path, row_counts: dict[tuple[str, str], int]) -> None:
        self.folder, self.row_counts = folder, row_counts
        self.pipeline, self.lake = str(folder / "pipeline"), folder / "lake"
        self.result, self.doing = Result(), ""

    def fault(self, kind: str, name: str, text: str, place: str = "") -> None:
        self.result.faults.append(Fault(kind, name, text, place))

    def run_all(self, with_verify: bool) -> None:
        source = self.folder / "source"
        source.mkdir(exist_ok=True)
        for snapshot in sorted((self.folder / "snapshots").iterdir()):
            shutil.copytree(snapshot, source / snapshot.name)
            shutil.copy(self.folder / "pipelines" / f"{snapshot.name}.json", self.folder / "pipeline/pipeline.json")
            self.call("diff")
            self.run_once()
            self.alter_tables(snapshot.name)
        self.propose(source)
        self.check_rows()
        self.check_readers()
        self.check_second_run()
        self.look()
        if with_verify:
            self.verify()

    def alter_tables(self, stamp: str) -> None:
        """Set by hand what the case has for tables that are there, with Spark: delta-rs raises their protocol too."""
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.getOrCreate()
        for alter in json.loads((self.folder / "alters.json").read_text()):
            table = self.lake / alter["relation"].replace(".", "/")
            if alter["after"] != stamp or not table.exists():
                continue
            set_it = f"SET TBLPROPERTIES ('{alter['name']}' = '{alter['value']}')"
            add_it = f"ADD CONSTRAINT {alter['name']} CHECK ({alter['value']})"
            with contextlib.suppress(PySparkException):  # rows that do not meet a constraint refuse it
                spark.sql(f"ALTER TABLE delta.`{table}` {set_it if alter['kind'] == 'property' else add_it}")

    def propose(self, source: Path) -> None:
        """Check that `init` writes a pipeline that is valid, or refuses the folder in words."""
        proposed = self.folder / "proposed"
        code, document, _ = command("init", str(source), str(proposed))
        error = document.get("error") or {}
        if code == 0 and (code := find_refused(proposed)[0]):
            error = find_refused(proposed)[1]["error"] | {"found": "init proposes what validate refuses"}
        elif code in (2, 5):
            return
        if code:
            self.fault(f"exit {code}", "", f"init: {error['found']}", error["where"])

    def call(self, verb: str, *arguments: str) -> dict[str, Any]:
        self.doing = " ".join((verb, *arguments))
        try:
            code, document, stderr = command(verb, self.pipeline, *arguments)
        except Hang:
            raise
        except Exception:  # the document cannot be printed or read: a traceback where a message should be
            self.fault("no document", "", f"{self.doing}: {traceback.format_exc(limit=-3)}")
            return {}
        self.result.exit_codes.append(code)
        error = document.get("error") or {}
        tables = document.get("tables", []) if verb == "diff" else []
        for table in tables:
            if "this is a bug" in (table["reason"] or ""):
                self.fault("exit 1", f"bronze.{table['table']}", f"{verb}: {table['reason']}")
        if code in (1, 3) and not tables and not document.get("outcomes"):
            self.fault(
                f"exit {code}",
                "",
                f"{self.doing}: {error.get('found') or json.dumps(document)[:300]}",
                error.get("where", ""),
            )
        if "Traceback (most recent call last)" in stderr:
            self.fault("traceback", "", f"{self.doing}: {stderr[-500:]}")
        return document

    def run_once(self) -> None:
        document = self.call("run")
        for outcome in document.get("outcomes", []):
            key = f"{outcome['stage']} {outcome['status']} {outcome['code']}"
            self.result.statuses[key] = self.result.statuses.get(key, 0) + 1
            if outcome["code"] == 2:
                self.result.refused_by_run.append(f"{outcome['name']}: {outcome['note']}")
            if outcome["code"] in (1, 3, 6):
                layer = "" if "." in outcome["name"] else "bronze."
                place = re.search(r"^where: +(.*)", outcome["note"], re.MULTILINE)
                self.fault(
                    f"exit {outcome['code']}",
                    layer + outcome["name"],
                    f"{outcome['stage']}: {outcome['note']}",
                    place[1] if place else "",
                )

    def check_rows(self) -> None:
        """Check that every record is in the ledger, as what became of it."""
        if not (self.lake / "raw/ledger").exists():
            return
        for row in pl.read_delta(str(self.lake / "raw/ledger")).to_dicts():
            if row["status"] not in ("accepted", "held"):
                continue
            name, found = row["table"], sum(row[count] or 0 for count in _COUNTS)
            if found != (row["rows_read"] or 0):
                self.fault("rows", f"bronze.{name}", f"rows_read {row['rows_read']}, accounted for {found}: {row}")
            wanted = self.row_counts.get((name, f"{row['snapshot_time']:%Y%m%d_%H%M%S}"))
            if wanted is not None and row["rows_read"] != wanted:
                self.fault("rows", f"bronze.{name}", f"the file has {wanted} records, rows_read is {row['rows_read']}")

    def check_readers(self) -> None:
        """Check that Polars, DataFusion, DuckDB and PyArrow read every table, and the same number of rows."""
        for log in sorted(self.lake.glob("*/*/_delta_log")):
            table = log.parent
            name = str(table.relative_to(self.lake))
            if name in _UNSAFE_READS or table.parts[-2] == "_state":
                continue
            counts: dict[str, Any] = {}
            for reader, read in _READERS.items():
                try:
                    counts[reader] = read(str(table))
                except BaseException as error:  # a panic of Rust is no Exception
                    if isinstance(error, KeyboardInterrupt | Hang):
                        raise
                    self.fault("reader", name.replace("/", "."), f"{reader}: {type(error).__name__}: {error}"[:600])
            known = {count for count in counts.values() if count is not None}
            if len(known) > 1:
                self.fault("readers differ", name.replace("/", "."), f"{counts}")

    def check_second_run(self) -> None:
        versions = self._versions()
        self.run_once()
        if changed := {
            n: v
            for n, v in self._versions().items()
            if v != versions.get(n) and n not in ("raw/ledger", "quality/results")
        }:
            self.fault("second run", "", f"wrote again: {changed}, before {versions}")

    def _versions(self) -> dict[str, int]:
        logs = [log for log in self.lake.glob("*/*/_delta_log") if log.parts[-3] != "_state"]
        return {
            str(log.parent.relative_to(self.lake)): max(int(f.stem) for f in log.glob("*.json") if f.stem.isdigit())
            for log in logs
        }

    def look(self) -> None:
        document = json.loads((self.folder / "pipeline/pipeline.json").read_text())
        self.call("status")
        for at, table in enumerate(document["tables"]):
            self.call("show", table)
            if at % 3 == 0:
                self.call("quarantine", table)
                self.call("history", table)
        for layer in ("silver", "gold"):
            for name in document.get(layer, {}):
                self.call("explain", f"{layer}.{name}")
                if (self.lake / layer / name).exists():
                    self.call("show", f"{layer}.{name}")
        self.call("report", "--out", str(self.folder / "report.html"))

    def verify(self) -> None:
        document = self.call("verify")
        for check in document.get("checks", []):
            if check["result"] == "failed":
                self.fault(
                    f"verify {check['invariant']}",
                    self._full(check["name"]),
                    f"{check.get('claim', '')}: {check.get('found', '')} {check}"[:900],
                )

    @staticmethod
    def _full(name: str) -> str:
        return name if "." in name else f"bronze.{name}"


def _polars(table: str) -> int:
    return pl.read_delta(table).height


def _datafusion(table: str) -> int:
    return int(QueryBuilder().register("t", DeltaTable(table)).execute("SELECT * FROM t").read_all().num_rows)


def _pyarrow(table: str) -> int | None:
    delta = DeltaTable(table)
    if delta.protocol().reader_features and "deletionVectors" in delta.protocol().reader_features:
        return None
    return int(delta.to_pyarrow_table().num_rows)


def _duckdb(table: str) -> int | None:
    """The files that the table's log names, as DuckDB reads them."""
    import duckdb

    delta = DeltaTable(table)
    if delta.protocol().reader_features and "deletionVectors" in delta.protocol().reader_features:
        return None
    files = delta.file_uris()
    if not files:
        return 0
    return len(duckdb.connect().execute("SELECT * FROM read_parquet(?, union_by_name = true)", [files]).fetchall())


_READERS = {"polars": _polars, "datafusion": _datafusion, "pyarrow": _pyarrow, "duckdb": _duckdb}
