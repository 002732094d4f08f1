"""Turns explained rows of a cube into the nested lines that the page shows under it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lakehouse.lake.cdc import CDC_COLUMNS
from lakehouse.report.words import Words
from lakehouse.text import key_text, visible

Document = dict[str, Any]

_MAX_CHARS = 200  # of the values of a row


def explained_lines(cube: Document, words: Words) -> list[Document]:
    """Return a line for each explained row of a cube, with those of the rows that made it.

    Args:
        cube: The cube, as `gather` returns it.
        words: The language.

    Returns:
        For each row `key`, `text` (its other values), `notes` (texts) and `inputs` (lines, with their `table`).
    """
    return [_line(node, words) for node in cube.get("explained") or ()]


def _line(node: Mapping[str, Any], words: Words) -> Document:
    key, row = node["key"] or {}, node["row"] or {}
    values = ", ".join(f"{n} {_text(v)}" for n, v in row.items() if n not in key and n not in CDC_COLUMNS)
    return {
        "table": node["table"],
        "key": visible(key_text(key, map(_text, key.values())), _MAX_CHARS) if key else "—",
        "text": visible(values, _MAX_CHARS),
        "notes": list(_notes(node, words)),
        "inputs": [_line(child, words) for child in node["inputs"]],
    }


def _notes(node: Mapping[str, Any], words: Words) -> Iterator[str]:
    if node["snapshot_time"]:
        since = words("since_snapshot", time=words.time(node["snapshot_time"]))
        file = "" if node["file"] is None else f", {node['file'].rpartition('/')[2]}"
        line = "" if node["line"] is None else f", {words('line_of_file', line=words.number(node['line']))}"
        yield f"{since}{file}{line}"
    for column, (before, after) in (node["changed"] or {}).items():
        yield visible(f"{column}: {_text(before)} → {_text(after)}", _MAX_CHARS)
    for table, count in node.get("more", {}).items():
        yield words("more_rows", table=table, count=words.number(count))


def _text(value: Any) -> str:
    if value is None:
        return "—"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
