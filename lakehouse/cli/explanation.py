"""Prints the document of `lakehouse why` as a tree: a row, under it the rows that made it, down to the landed files."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console

from lakehouse.cli.console import print_json, stdout
from lakehouse.cli.lake import stamp
from lakehouse.text import key_text

Row = dict[str, Any]

_INDENT = "    "


def why(content: Row, as_json: bool) -> None:
    """Print a row, the rows that made it, and since when and from where each row of bronze is there."""
    if as_json:
        print_json(content)
        return
    out = stdout()
    is_table = content["model"].startswith("bronze.")
    _print_line(out, 0, content["model"], content["key"], content["row"])
    if is_table:
        _print_standing(out, 1, content["inputs"][0])
    else:
        _print_inputs(out, 1, content)
    for note in content.get("note", "").splitlines():
        out.print(f"note: {note}", soft_wrap=True)


def _print_inputs(out: Console, depth: int, node: Row) -> None:
    for table in dict.fromkeys([*(child["table"] for child in node["inputs"]), *node.get("more", {})]):
        children = [child for child in node["inputs"] if child["table"] == table]
        for child in children:
            _print_line(out, depth, table, child["key"], child["row"])
            if table.startswith("bronze."):
                _print_standing(out, depth + 1, child)
            _print_inputs(out, depth + 1, child)
        if more := node.get("more", {}).get(table):
            text = f"and {more:,} more" if children else f"{more:,}"
            out.print(f"{_INDENT * depth}{text} of {table}; --limit N shows more", soft_wrap=True)


def _print_line(out: Console, depth: int, table: str, key: Row, row: Row) -> None:
    """Print the key of a row, then its other values."""
    out.print(f"{_INDENT * depth}{table}  {key_text(key, map(_text, key.values()))}", soft_wrap=True)
    values = {name: value for name, value in row.items() if name not in key and not name.startswith("_cdc_")}
    if values:
        text = ", ".join(f"{name} {_text(value)}" for name, value in values.items())
        out.print(f"{_INDENT * depth}  {text}", soft_wrap=True)


def _print_standing(out: Console, depth: int, node: Row) -> None:
    place = "" if node["file"] is None else f", {node['file']}"
    place += "" if node["line"] is None else f", line {node['line']}"
    out.print(f"{_INDENT * depth}since {stamp(node['snapshot_time'])}{place}", soft_wrap=True)
    for column, (before, after) in (node["changed"] or {}).items():
        out.print(f"{_INDENT * depth}  {column}: {_text(before)} -> {_text(after)}", soft_wrap=True)


def _text(value: Any) -> str:
    """Return a value for people; null is NULL, so that it is not taken for an empty text."""
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
