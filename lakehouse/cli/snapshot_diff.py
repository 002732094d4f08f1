"""Prints the document of `diff`: for each table its counts, the reasons of quarantine and samples of the changes."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lakehouse.cli.console import cell_text, indent, print_json, stdout
from lakehouse.text import counted, example_text

_VERDICT_COLOURS = {"held": "yellow", "rejected": "red", "failed": "red"}
_MAX_REASONS = 10


def diff(content: dict[str, Any], as_json: bool) -> None:
    """Print the document of `diff`, with one block for each table."""
    if as_json:
        print_json(content)
        return
    for table in content["tables"]:
        _print_table_diff(stdout(), table)
    if "html" in content:
        stdout().print(f"the page: {content['html']}", soft_wrap=True)


def _print_table_diff(out: Console, table: dict[str, Any]) -> None:
    style = _VERDICT_COLOURS.get(table["verdict"], "")
    both = table["from"], table["to"]  # equal if the last run has taken the newest snapshot
    sides = "" if not both[1] else f", {both[1]}" if both[0] == both[1] else f", {both[0] or 'nothing'} -> {both[1]}"
    out.print(Text(f"{table['table']}{sides}: {table['verdict']}", style=f"bold {style}"), soft_wrap=True)
    reasons = [_quarantine_line(row) for row in table["quarantine"]]
    more = f"... and {counted(len(reasons) - _MAX_REASONS, 'other reason')}" if len(reasons) > _MAX_REASONS else ""
    changed = f"changed columns: {cell_text(table['columns'])}" if table["columns"] else ""
    contained = f"{table['slices']}; other slices stay as they are" if table.get("slices") else ""
    summary = (contained, _counts_line(table), _missing_line(table.get("missing")))
    for text in filter(None, (*summary, changed, *reasons[:_MAX_REASONS], more, table["note"])):
        out.print(indent(text), soft_wrap=True)
    if table["reason"]:
        out.print(Text(indent(table["reason"]), style=style), soft_wrap=True)
    _print_samples(out, table["samples"])
    if last := table.get("last_change"):
        counts = ", ".join(f"{kind} {last['counts'].get(kind, 0):,}" for kind in ("inserted", "updated", "deleted"))
        out.print(indent(f"the last change, {last['from'] or 'nothing'} -> {last['to']}: {counts}"), soft_wrap=True)
        if last["columns"]:
            out.print(indent(f"changed columns: {cell_text(last['columns'])}"), soft_wrap=True)
        _print_samples(out, last["samples"])
    out.print()


def _quarantine_line(row: dict[str, Any]) -> str:
    """Return how many rows are rejected for a reason, with an example and the setting that may accept them."""
    advice = f" ({row['advice']})" if row["advice"] else ""
    return (
        f"quarantined {row['rows']:,}: {row['rule']}, {row['reason']}{example_text(row['value'], row['line'])}{advice}"
    )


def _print_samples(out: Console, samples: dict[str, list[dict[str, Any]]]) -> None:
    for kind, rows in samples.items():
        if rows:
            lines = [line for row in rows for line in _update_lines(row)] if kind == "updated" else rows
            out.print(_samples_table(kind.replace("_", " "), lines))


def _missing_line(missing: dict[str, int] | None) -> str:
    """Return `goes missing 2, would expire 1; 4 keys missing after it`, or an empty text if there is nothing to say."""
    if missing is None or not any(missing.values()):
        return ""
    kinds = ("goes_missing", "is_back", "would_expire")
    parts = ", ".join(f"{kind.replace('_', ' ')} {missing[kind]:,}" for kind in kinds if missing[kind])
    after = f"{counted(missing['missing'], 'key')} missing after it"
    return f"{parts}; {after}" if parts else after


def _counts_line(table: dict[str, Any]) -> str:
    """Return `5 rows before, 6 read: inserted 1 (20 %), ...`, or an empty text if nothing was compared."""
    counts = table["counts"]
    if not counts:
        return ""
    parts = []
    for kind, percent in table["percent"].items():
        share = "" if not percent else f" ({percent:.4g} %)" if percent >= 0.01 else " (<0.01 %)"
        parts.append(f"{kind} {counts[kind]:,}{share}")
    of_slices = " in these slices" if table.get("slices") else ""
    after = f"{counts['rows_read']:,} {'after' if table['verdict'] == 'compared' else 'read'}"
    return f"{counted(table['rows_before'], 'row')} before{of_slices}, {after}: {', '.join(parts)}"


def _update_lines(update: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one line for each changed column of an update; the first line has the key."""
    key = ", ".join(map(_value_text, update["key"].values()))
    return [
        {"key": " " if position else key, "column": column} | sides
        for position, (column, sides) in enumerate(update["changed"].items())
    ]


def _samples_table(kind: str, rows: list[dict[str, Any]]) -> Padding:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_value_text, row.values()))
    # Not as the table's title: rich wraps that at the width of the table.
    return Padding.indent(Group(Text(f"{kind}, for example", style="table.title"), table), 4)


def _value_text(value: Any) -> str:
    """Return a value as JSON, but text without quotes if it cannot be mistaken for another value."""
    return value if isinstance(value, str) and value not in ("", "null") else json.dumps(value, ensure_ascii=False)
