"""Runs a page that a reader types from top to bottom, and compares what the page shows with what there is.

    ```sh                           commands, run one after the other in a new folder: those of `lakehouse` in this
                                    process, others by bash. `# exit code 4` at the end of a line, unless it is 0
    ```text                         what the commands of the block before print: these lines, in this order
    `path/of/a/file`                with a block after it: the file contains these lines, in this order
    `path/of/a/table`               with a table after it: the Delta or Parquet table has exactly these rows
    <!-- not run: why -->           the block after it is not run, and not compared

`…` stands for any text, and any number of blanks for blanks. Blocks of no kind and without a path are only read.
"""

from __future__ import annotations

import io
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from guide import cell_text, table_cells

from lakehouse.cli import main

_PATH = re.compile(r"`([\w./*-]+)`(?:[,:].*)?")
_NOT_RUN = re.compile(r"<!-- not run: \w.* -->")
_EXIT_CODE = re.compile(r"\s+# exit code (\d)$")
_HEREDOC = re.compile(r"<<'(\w+)'")


ALL_KINDS = frozenset({"sh", "text", "file", "table"})


@dataclass(frozen=True)
class Step:
    """A part of the page: `kind` is sh, text, file or table."""

    kind: str
    text: str
    path: str = ""


def parse_steps(page: str) -> list[Step]:
    """Return the parts of a page that are run or compared, in order."""
    return list(_parse(iter(page.split("\n"))))


def _parse(walk: Iterator[str]) -> Iterator[Step]:
    path, is_run = "", True
    for line in walk:
        if line.startswith("```"):
            kind, text = line[3:], "\n".join(_until(walk, lambda each: each.startswith("```")))
            if is_run and path:
                yield Step("file", text, path)
            elif is_run and kind in ("sh", "text"):
                yield Step(kind, text)
            path, is_run = "", True
        elif line.startswith("|") and path:
            rows = [line, *_until(walk, lambda each: not each.startswith("|"))]
            yield Step("table", "\n".join(rows), path)
            path = ""
        elif line.strip():
            found = _PATH.fullmatch(line.strip())
            path, is_run = found[1] if found else "", _NOT_RUN.fullmatch(line.strip()) is None


def _until(walk: Iterator[str], is_end: Callable[[str], bool]) -> Iterator[str]:
    for line in walk:
        if is_end(line):
            return
        yield line


class Transcript:
    """A reader in a new folder.

    Args:
        folder: The folder that the reader is in; the process has to be in it too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, ""
        self.commands: list[str] = []

    def follow(self, page: str, kinds: frozenset[str] = ALL_KINDS) -> None:
        """Run and compare a page, or only the parts of some kinds."""
        work = {
            "sh": self._run,
            "text": self._compare_output,
            "file": self._compare_file,
            "table": self._compare_table,
        }
        for step in parse_steps(page):
            if step.kind in kinds:
                work[step.kind](step)

    def _run(self, step: Step) -> None:
        self.output = ""
        for command in split_commands(step.text):
            expected = _EXIT_CODE.search(command)
            code, printed = self._run_command(_EXIT_CODE.sub("", command))
            self.output += printed
            self.commands.append(command)
            assert code == int(expected[1] if expected else 0), (command, printed)

    def _run_command(self, command: str) -> tuple[int, str]:
        is_plain = "\n" not in command and " < " not in command
        words = shlex.split(command, comments=True) if is_plain else [""]
        if words and words[0].removeprefix(".venv/bin/") == "lakehouse":
            out = io.StringIO()
            with redirect_stdout(out), redirect_stderr(out):
                code = main(words[1:])
            return code, out.getvalue()
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=environment, text=True, capture_output=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def _compare_output(self, step: Step) -> None:
        assert_lines_in_order(step.text, self.output)

    def _compare_file(self, step: Step) -> None:
        data = (self.folder / step.path).read_bytes()
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("iso-8859-1")
        assert_lines_in_order(step.text, text)

    def _compare_table(self, step: Step) -> None:
        head, _, *rows = [table_cells(line) for line in step.text.split("\n")]
        found = self._read_table(step.path)
        texts = sorted(tuple(cell_text(row[column]) for column in head) for row in found.to_dicts())
        assert texts == sorted(rows), (step.path, texts)

    def _read_table(self, path: str) -> pl.DataFrame:
        if "*" not in path and (self.folder / path / "_delta_log").is_dir():
            return pl.read_delta(str(self.folder / path))
        return pl.read_parquet(f"{self.folder / path}/*.parquet")


def split_commands(text: str) -> list[str]:
    """Return the commands of a block: a line each, or several with the text that `<<'END'` gives to one.

    >>> split_commands("cat > a <<'END'\\nx\\nEND\\nls  # all\\n# a remark")
    ["cat > a <<'END'\\nx\\nEND", 'ls  # all']
    """
    commands, lines = [], iter(text.split("\n"))
    for line in lines:
        if found := _HEREDOC.search(line):
            end = found[1]
            commands.append("\n".join([line, *_until(lines, lambda each, end=end: each == end), end]))
        elif line.strip() and not line.startswith("#"):
            commands.append(line)
    return commands


def assert_lines_in_order(expected: str, found: str) -> None:
    """Assert that a text contains lines in this order; `…` is any text."""
    rest, position = found.splitlines(), 0
    for line in filter(str.strip, expected.split("\n")):
        pattern = ".*".join(r"\s+".join(map(re.escape, part.split())) for part in line.split("…"))
        hits = (i for i in range(position, len(rest)) if re.search(rf"(?:^|\s){pattern}(?:\s|$)", rest[i]))
        hit = next(hits, None)
        assert hit is not None, f"not printed, or not after what stands above it: {line}\n{found}"
        position = hit + 1
