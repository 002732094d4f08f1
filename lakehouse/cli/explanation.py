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


def why_between(content: Row, as_json: bool) -> None:
    """Print the difference of a row between two times, and the source changes that made it."""
    if as_json:
        print_json(content)
        return
    out = stdout()
    times = f"{content['from']} to {content['to']}"
    out.print(
        f"{content['model']}  {key_text(content['key'], map(_text, content['key'].values()))}, {times}", soft_wrap=True
    )
    before, after = content["before"], content["after"]
    if before is None or after is None:
        out.print(f"  {'not there before' if before is None else 'not there after'}", soft_wrap=True)
    for name in after or before:
        then, now = (before or {}).get(name), (after or {}).get(name)
        if name not in content["key"] and then != now:
            difference = content["difference"].get(name)
            out.print(f"  {name}: {_text(then)} -> {_text(now)}{_signed(difference)}", soft_wrap=True)
    for change in content["changes"]:
        _print_change(out, change)
    if content["more"]:
        out.print(f"and {content['more']:,} more changes; --limit N shows more", soft_wrap=True)
    if content["is_complete"]:
        out.print(
            "the effects add up to the whole difference" if content["changes"] else "no difference", soft_wrap=True
        )
    for note in content.get("note", "").splitlines():
        out.print(f"note: {note}", soft_wrap=True)


def _print_change(out: Console, change: Row) -> None:
    effects = ", ".join(
        f"{name} {_sign(change['share'][name])}" if name in change["share"] else f"{name} {_text(then)} -> {_text(now)}"
        for name, (then, now) in change["effect"].items()
    )
    if change["table"] is None:
        out.print(f"{_INDENT}{effects}: the time of the newest snapshot", soft_wrap=True)
        return
    subject = (
        f"{change['rows']:,} rows"
        if change["key"] is None
        else key_text(change["key"], map(_text, change["key"].values()))
    )
    out.print(f"{_INDENT}{effects}: {change['table']}  {subject} {change['kind']}", soft_wrap=True)
    if change["snapshot_time"]:
        _print_standing(out, 2, change, "in" if change["file"] is None else "since")


def _signed(difference: Any) -> str:
    return "" if difference is None else f" ({_sign(difference)})"


def _sign(difference: Any) -> str:
    text = _text(difference)
    return text if text.startswith("-") else f"+{text}"


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


def _print_standing(out: Console, depth: int, node: Row, word: str = "since") -> None:
    place = "" if node["file"] is None else f", {node['file']}"
    place += "" if node["line"] is None else f", line {node['line']}"
    out.print(f"{_INDENT * depth}{word} {stamp(node['snapshot_time'])}{place}", soft_wrap=True)
    for column, (before, after) in (node["changed"] or {}).items():
        out.print(f"{_INDENT * depth}  {column}: {_text(before)} -> {_text(after)}", soft_wrap=True)


def _text(value: Any) -> str:
    """Return a value for people; null is NULL, so that it is not taken for an empty text."""
    if value is None:
        return "NULL"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
