"""Writes notebooks/tutorial.ipynb from docs/tutorial.md (`make docs`): the same text and the same steps.

A block of commands becomes a cell of bash, one of Python a cell of Python. What a step shows stays text, and the cell's
own output appears below it. The commands that make an environment become a cell that goes to a new folder.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent
TUTORIAL = FOLDER / "tutorial.md"
NOTEBOOK = FOLDER.parent / "notebooks" / "tutorial.ipynb"
_HOW = """\
A notebook server that is installed in `.venv` has what the cells need ([how](guide/report.md#notebooks)). The first
cell makes a folder for all that follows."""
_SETUP = """\
import os
import sys
from pathlib import Path

folder = Path(os.environ.get("FIRST_LAKE", "~/first-lake")).expanduser()
folder.mkdir(parents=True)  # to begin again, remove the folder, or set FIRST_LAKE to another one
os.chdir(folder)  # everything below happens in this folder
os.environ.setdefault("LAKEHOUSE_ENGINE", "on")  # commands share a JVM, as they do at a terminal
os.environ.pop("FORCE_COLOR", None)  # which a kernel sets: commands print plain text, as into a file
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # finds `lakehouse`"""
_BLOCK = re.compile(r"(?:<!-- (not run): .*? -->\n)?```(\w*)\n(.*?)\n```\n", re.DOTALL)
_PYTHON = re.compile(r"python <<'END'\n(.*?)\nEND", re.DOTALL)
_COMMAND = re.compile(r"^.*<<'END'\n(?:.*\n)*?END$|^.+$", re.MULTILINE)
_PARAGRAPH = "\n\n"
_LINK = re.compile(r"\]\((?!https?:|#)([^)\s]+)\)")


def notebook() -> str:
    """Return the notebook's text."""
    page = TUTORIAL.read_text(encoding="utf-8").replace(
        "[A notebook](../notebooks/tutorial.ipynb)", "[A page](tutorial.md)"
    )
    cells = list(_cells(page))
    document = {
        "cells": [_cell(number, kind, source) for number, (kind, source) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cells(page: str) -> Iterator[tuple[str, str]]:
    """Yield the kind and text of each cell."""
    text, at = "", 0
    for block in _BLOCK.finditer(page):
        text, at = text + page[at : block.start()], block.end()
        is_setup, kind, code = block.groups()
        if kind == "sh":
            if is_setup:  # the paragraph before it introduces its commands
                text = f"{text.strip().rpartition(_PARAGRAPH)[0]}{_PARAGRAPH}{_HOW}"
            yield "markdown", _with_links(text.strip())
            text = ""
            yield from [("code", _SETUP)] if is_setup else _code_cells(code)
        else:
            text += block[0]
    yield "markdown", _with_links((text + page[at:]).strip())


def _code_cells(block: str) -> Iterator[tuple[str, str]]:
    """Yield the cells of a block of commands: one of bash, and one for each command that is a program in Python."""
    lines: list[str] = []
    for command in _COMMAND.findall(block):
        program = _PYTHON.fullmatch(command)
        if not program:
            lines.append(command)
            continue
        if lines:
            yield "code", _bash(lines)
        lines = []
        yield "code", program[1]
    if lines:
        yield "code", _bash(lines)


def _bash(commands: list[str]) -> str:
    """Return a cell of bash that ends at its first error, as a reader would; an exit code that is shown is none."""
    expects_error = any("# exit code" in command for command in commands)
    return "\n".join([f"%%bash -e{' --no-raise-error' if expects_error else ''}", *commands])


def _with_links(text: str) -> str:
    """Return text whose links lead from the notebook's folder to where they led from the page."""
    start = posixpath.relpath(FOLDER.as_posix(), NOTEBOOK.parent.as_posix())
    return _LINK.sub(lambda link: f"]({posixpath.normpath(posixpath.join(start, link[1]))})", text)


def _cell(number: int, kind: str, source: str) -> dict[str, object]:
    lines = source.splitlines(keepends=True)
    if kind == "markdown":
        return {"cell_type": "markdown", "id": f"text-{number:02}", "metadata": {}, "source": lines}
    cell = {"cell_type": "code", "execution_count": None, "id": f"code-{number:02}", "metadata": {}, "outputs": []}
    return cell | {"source": lines}


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(), encoding="utf-8")
    print(f"{NOTEBOOK.relative_to(FOLDER.parent)} is written")
