"""Parses a page of examples, runs its commands, and compares the results with the page.

    # a page, or a section of it     an example: a project of its own
    ## a part of it                  a table of its own; without parts the section is the only one

A part contains, in order:

    `20250101_000000/items.csv`     a file of the source: this line, then a fenced block. A name that ends in .gz is
                                    compressed; "`20250101_000000/a.zip`, in it `b.csv`" is a member of a zip
    ```yaml                         settings as they stand below `tables:`; they remain until they are changed
    ```sh                           commands, one per line, with `# exit code 4` unless it is 0
    ```text                         the output of the last command: it contains these lines, in this order
    ```python, ```sql               run; the last expression is the **result**
    **bronze**, **change set 2**,   the current rows, as the table below it, or `: not there`, or `: no rows`;
    **quarantine**, **ledger**,     "of `other`" if it is not the part's own table
    **result**, **lake**

All rows have to be shown, and these columns: all declared ones, and of a ledger all counts that are not zero. A part
without a block is prose. A step is a block of commands with everything before it. The first steps of all parts of a
section are run together, then the second steps, and so on: `lakehouse run conf/shop NAME` of several parts is one run,
and each has the exit code of its own table.
"""

from __future__ import annotations

import ast
import gzip
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from itertools import zip_longest
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from helpers import Project, Row, sort_rows
from pyspark.sql import SparkSession

from lakehouse.cli import main

NULL, ELLIPSIS = "∅", "…"
PIPELINE, LAKE, SOURCE = "conf/shop", "lake/shop", "source/shop"
DEFAULTS = {"format": "csv", "schema": "id STRING, qty INT, note STRING", "keys": ["id"]}
_COUNTS = ["inserted", "updated", "deleted", "quarantined", "duplicates"]

_FILE = re.compile(r"`(?P<stamp>\d{8}_\d{6})/(?P<name>[^`]+)`(?:, in it `(?P<member>[^`]+)`)?")
_CAPTION = re.compile(
    r"\*\*(?P<subject>bronze|quarantine|ledger|result|lake|change set (?P<number>\d+))\*\*"
    r"(?: of `(?P<table>\w+)`)?(?:: (?P<none>not there|no rows))?"
)
_COMMAND = re.compile(r"lakehouse (?P<words>.+?)(?:\s+# exit code (?P<code>\d))?")


class GuideError(Exception):
    """The page contains something that cannot be checked."""


@dataclass(frozen=True)
class Command:
    words: list[str]
    code: int = 0

    @property
    def single_run_table(self) -> str | None:
        """The table, if the command is a run of one table."""
        return self.words[2] if self.words[:2] == ["run", PIPELINE] and len(self.words) == 3 else None


@dataclass(frozen=True)
class Expected:
    """The expected rows (None: the table does not exist), or the expected lines of output."""

    subject: str
    table: str | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] | None = ()
    lines: tuple[str, ...] = ()


@dataclass
class Step:
    files: dict[str, str | dict[str, str]] = field(default_factory=dict)  # for a zip: its members
    settings: dict[str, Row] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)
    checks: list[Expected | tuple[str, str]] = field(
        default_factory=list
    )  # expected rows and lines, and snippets, in order


@dataclass
class Part:
    title: str
    steps: list[Step] = field(default_factory=list)

    @property
    def tables(self) -> list[str]:
        """The tables that have settings or are named by a command."""
        named = [words[2] for s in self.steps for c in s.commands if len(words := c.words) > 2]
        return list(dict.fromkeys([*(t for s in self.steps for t in s.settings), *named]))


@dataclass
class Section:
    title: str
    parts: list[Part]

    @property
    def is_example(self) -> bool:
        return any(part.steps for part in self.parts)


# --- reading ----------------------------------------------------------------------------------------------------


def parse_sections(page: str) -> list[Section]:
    """Return all sections of a page.

    Raises:
        GuideError: A block, a caption or a table has no meaning at its place, or a part expects nothing.
    """
    found = []
    for body in _split_at_headings(page, "# ")[1:]:
        title, *_ = body.split("\n", 1)
        parts = [_parse_part(part) for part in _split_at_headings(body, "## ")]
        found.append(Section(title.strip(), [part for part in parts if part.steps]))
    return found


def _split_at_headings(text: str, heading: str) -> list[str]:
    """Split a text at headings that are not inside a fenced block."""
    parts, fenced = [""], False
    for line in text.splitlines(keepends=True):
        fenced ^= line.startswith("```")
        if line.startswith(heading) and not fenced:
            parts.append(line[len(heading) :])
        else:
            parts[-1] += line
    return parts


def _parse_part(text: str) -> Part:
    """Parse one part by its lines; paragraphs are ignored."""
    title, *lines = text.split("\n")
    part, file, caption = Part(title.strip()), None, None
    if "\n```" not in text:
        if any(_CAPTION.fullmatch(line.strip()) for line in lines):
            raise GuideError(f"{title}: a caption, but no command")
        return part
    steps = [Step()]
    walk = iter(lines)
    for line in walk:
        if line.startswith("```"):
            _add_block(steps, line[3:].strip(), _read_block(walk), file, title)
            file = None
        elif line.startswith("|"):
            if caption is None:
                raise GuideError(f"{title}: a table of nothing: {line}")
            steps[-1].checks.append(_parse_table(caption, line, walk))
            caption = None
        elif line.startswith("**"):
            caption = _CAPTION.fullmatch(line.strip())
            if caption is None:
                raise GuideError(f"{title}: {line}")
            if caption["none"]:
                nothing = None if caption["none"] == "not there" else ()
                steps[-1].checks.append(Expected(caption["subject"], caption["table"], rows=nothing))
                caption = None
        elif line.strip():
            file = _FILE.fullmatch(line.strip())
    if caption:
        raise GuideError(f"{title}: **{caption['subject']}** has no table")
    part.steps = [s for s in steps if s.files or s.settings or s.commands or s.checks]
    for step in part.steps:
        if not step.commands:
            raise GuideError(f"{title}: no command takes {[*step.files, *step.settings] or 'this'}")
        if not any(isinstance(e, Expected) for e in step.checks) and not any(c.code for c in step.commands):
            raise GuideError(f"{title}: nothing is expected of {step.commands[-1].words}")
    return part


def _read_block(walk: Iterator[str]) -> str:
    lines = []
    for line in walk:
        if line.startswith("```"):
            return "".join(f"{text}\n" for text in lines)
        lines.append(line)
    raise GuideError(f"a block without an end: {lines[:1]}")


def _add_block(steps: list[Step], kind: str, text: str, file: re.Match[str] | None, title: str) -> None:
    """Add a fenced block to the steps; a file or a setting after commands begins the next step."""
    is_input = kind in ("csv", "json", "yaml")
    if (is_input and steps[-1].commands) or (kind == "sh" and steps[-1].checks):
        steps.append(Step())
    step = steps[-1]
    if kind in ("csv", "json") and file:
        path = f"{file['stamp']}/{file['name']}"
        if file["member"]:
            members = step.files.setdefault(path, {})
            assert isinstance(members, dict)
            members[file["member"]] = text
        else:
            step.files[path] = text
    elif kind == "yaml":
        step.settings |= yaml.safe_load(text)
    elif kind == "sh":
        for line in text.splitlines():
            if not (found := _COMMAND.fullmatch(line.strip())):
                raise GuideError(f"{title}: {line}")
            step.commands.append(Command(found["words"].split(), int(found["code"] or 0)))
    elif kind == "text" and step.commands:
        step.checks.append(Expected("output", lines=tuple(text.splitlines())))
    elif kind in ("python", "sql") and step.commands:
        step.checks.append((kind, text))
    else:
        raise GuideError(f"{title}: a block of {kind or 'nothing'} here: {text[:60]!r}")


def _parse_table(caption: re.Match[str], head: str, walk: Iterator[str]) -> Expected:
    rows = []
    for line in walk:
        if not line.startswith("|"):
            break
        rows.append(table_cells(line))
    columns = table_cells(head)
    if any(len(row) != len(columns) for row in rows) or len(rows) < 2:
        raise GuideError(f"**{caption['subject']}**: rows of {', '.join(columns)}: {rows}")
    return Expected(caption["subject"], caption["table"], columns, tuple(rows[1:]))


def table_cells(line: str) -> tuple[str, ...]:
    return tuple(re.sub(r"^`(.*)`$", r"\1", cell.strip()) for cell in line.strip().strip("|").split("|"))


# --- doing ------------------------------------------------------------------------------------------------------


class Example:
    """The project of a section, and the output of its commands."""

    def __init__(self, section: Section, folder: Path, spark: SparkSession) -> None:
        self.section, self.spark = section, spark
        names = [name for part in section.parts for name in part.tables]
        if len(names) != len(set(names)):
            raise GuideError(f"{section.title}: parts share a table: {names}")
        files = {name: DEFAULTS | {"file": f"{name}.csv"} for name in names}
        self.project = Project(folder, files)
        self.outputs: dict[str, str] = {}
        self.result: list[Row] = []

    def check(self) -> None:
        for steps in zip_longest(*[part.steps for part in self.section.parts]):
            now = [(part, step) for part, step in zip(self.section.parts, steps, strict=True) if step]
            for _, step in now:
                self._write_inputs(step)
            for commands in zip_longest(*[step.commands for _, step in now]):
                self._run_commands([(part.title, c) for (part, _), c in zip(now, commands, strict=True) if c])
            for part, step in now:
                for check in step.checks:
                    if isinstance(check, Expected):
                        self.compare(part, check)
                    else:
                        self.result = self._run_snippet(*check)

    def _write_inputs(self, step: Step) -> None:
        for path, content in step.files.items():
            stamp, _, name = path.partition("/")
            (self.project.snapshot(stamp) / name).write_bytes(_pack_content(name, content))
        for name, settings in step.settings.items():
            merged = self.project.tables[name] | settings
            self.project.tables[name] = {k: v for k, v in merged.items() if v is not None}
        self.project.configure()

    def _run_commands(self, commands: list[tuple[str, Command]]) -> None:
        """Run several runs of one table each as a single run, and the other commands one after the other."""
        together = [(title, c) for title, c in commands if c.single_run_table] if len(commands) > 1 else []
        if together:
            done = self.project.run(*[c.single_run_table or "" for _, c in together])
            for title, command in together:
                outcomes = [o for o in done.document["outcomes"] if o["name"] == command.single_run_table]
                codes = {o["code"] for o in outcomes}
                worst = next(code for code in (1, 2, 3, 5, 4, 0) if code in codes)
                assert worst == command.code, (title, outcomes)
                self.outputs[title] = self._to_page_paths("\n".join(o["note"] for o in outcomes))
        for title, command in commands:
            if not (together and command.single_run_table):
                out = io.StringIO()
                with redirect_stdout(out), redirect_stderr(out):
                    code = main([self._to_real_paths(word) for word in command.words])
                self.outputs[title] = self._to_page_paths(out.getvalue())
                assert code == command.code, (title, command.words, self.outputs[title])

    def _run_snippet(self, kind: str, text: str) -> list[Row]:
        """Return the rows of a query, or of the last expression of a Python snippet."""
        text = self._to_real_paths(text)
        if kind == "sql":
            return _frame_rows(self.spark.sql(text))
        *before, last = ast.parse(text).body
        if not isinstance(last, ast.Expr):
            raise GuideError(f"a snippet that ends with no expression: {text}")
        names: Row = {"spark": self.spark}
        exec(compile(ast.Module(before, []), "the guide", "exec"), names)
        return _frame_rows(eval(compile(ast.Expression(last.value), "the guide", "eval"), names))

    def compare(self, part: Part, expected: Expected) -> None:
        if expected.subject == "output":
            output, lines = self.outputs[part.title], [line.strip() for line in expected.lines]
            assert re.search(".*".join(map(_pattern, lines)), output, re.DOTALL), (lines, output)
            return
        table = expected.table or part.tables[0]
        if expected.subject == "lake":
            self._compare_files(expected)
            return
        found = self._read_rows(expected, table)
        if expected.rows is None or found is None:
            assert (expected.rows, found) == (None, None), f"{part.title}: {expected.subject} of {table}"
            return
        columns = list(expected.columns)
        if found and columns:
            must = self._required_columns(expected, table, found)
            assert set(must) <= set(columns) <= set(found[0]), f"{part.title}: {expected.subject} does not show {must}"
        texts = [tuple(self._to_page_paths(cell_text(row[c])) for c in columns) for row in found]
        wanted = list(expected.rows)
        left = list(texts)
        for row in wanted:
            candidates = left[:1] if expected.subject == "ledger" else left  # only the rows of a ledger are ordered
            like = [other for other in candidates if all(map(_matches, row, other))]
            assert like, (
                f"{part.title}: {expected.subject} of {table} does not have {row}\n{_markdown_table(columns, texts)}"
            )
            left.remove(like[0])
        assert not left, (
            f"{part.title}: {expected.subject} of {table} also has {left}\n{_markdown_table(columns, texts)}"
        )

    def _read_rows(self, expected: Expected, table: str) -> list[Row] | None:
        match expected.subject.split()[0]:
            case "result":
                return self.result
            case "ledger":
                return self.project.ledger(table)
            case "change":
                wanted = int(expected.subject.split()[-1])
                entry = [e for e in self.project.ledger(table) if e["sequence"] == wanted]
                return self.project.change_set(entry[0]) if entry else None
        folder = f"{expected.subject}/{table}"
        return self.project.rows_with_cdc(folder) if (self.project.lake / folder / "_delta_log").is_dir() else None

    def _required_columns(self, expected: Expected, table: str, found: list[Row]) -> list[str]:
        """Return the columns that the page has to show."""
        if expected.subject == "ledger":
            return ["status", *[c for c in _COUNTS if any(row[c] for row in found)]]
        if expected.subject == "quarantine":
            return ["resolved"] if any(row["resolved"] for row in found) else []
        return [c for c in found[0] if not c.startswith("_")]

    def _compare_files(self, expected: Expected) -> None:
        """Assert that each path exists, and that there are no other files."""
        listed = [row[0] for row in expected.rows or ()]
        for path in listed:
            assert list(self.project.folder.glob(path.replace(LAKE, "lake", 1))), f"{path} does not exist"
        there = {f"{LAKE}/{p.relative_to(self.project.lake)}" for p in self.project.lake.glob("*/*")}
        known = {str(p) for path in listed for p in self._listed_paths(path)}
        assert there - known == {p for p in there if p.startswith(f"{LAKE}/_state/")}, there - known

    def _listed_paths(self, path: str) -> list[str]:
        """Return the paths that a listed pattern matches, two folders deep."""
        found = self.project.folder.glob(path.replace(LAKE, "lake", 1))
        return [f"{LAKE}/{'/'.join(p.relative_to(self.project.lake).parts[:2])}" for p in found]

    def _to_real_paths(self, words: str) -> str:
        return words.replace(PIPELINE, str(self.project.pipeline)).replace(LAKE, str(self.project.lake))

    def _to_page_paths(self, words: str) -> str:
        places = {self.project.lake: LAKE, self.project.source: SOURCE, self.project.pipeline: PIPELINE}
        for real, shown in places.items():
            words = words.replace(str(real), shown)
        return words


def _pack_content(name: str, content: str | dict[str, str]) -> bytes:
    if isinstance(content, dict):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, words in content.items():
                archive.writestr(member, words)
        return data.getvalue()
    return gzip.compress(content.encode()) if name.endswith(".gz") else content.encode()


def _frame_rows(frame: Any) -> list[Row]:
    """Return the sorted rows of a frame of Spark, Polars or DuckDB, or of a list of dictionaries."""
    if isinstance(frame, list):
        return sort_rows(frame)
    if isinstance(frame, pl.DataFrame):
        return sort_rows(frame.to_dicts())
    if hasattr(frame, "fetchall"):
        names = frame.columns
        return sort_rows(dict(zip(names, row, strict=True)) for row in frame.fetchall())
    return sort_rows(row.asDict() for row in frame.collect())


def cell_text(value: Any) -> str:
    """Return a value as the page shows it.

    >>> [text(v) for v in (None, "", 1, True, -0.0, ["a", "b"], datetime(2025, 1, 2))]
    ['∅', '""', '1', 'true', '-0.0', 'a, b', '2025-01-02 00:00:00']
    """
    match value:
        case None:
            return NULL
        case "":
            return '""'
        case bool():
            return str(value).lower()
        case float():
            return "NaN" if value != value else str(value)
        case list():
            return ", ".join(map(cell_text, value))
        case datetime():
            aware = value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value
            return aware.astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ")
        case date():
            return value.isoformat()
    return str(value).replace("\n", "⏎")


def _matches(expected: str, found: str) -> bool:
    """Return whether two texts are equal except for what an ellipsis leaves out."""
    return re.fullmatch(_pattern(expected), found) is not None


def _pattern(expected: str) -> str:
    return ".*".join(map(re.escape, expected.split(ELLIPSIS)))


def _markdown_table(columns: list[str], rows: list[tuple[str, ...]]) -> str:
    """Return rows as a Markdown table, for a comparison with the page."""
    lines = [columns, ["---"] * len(columns), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
