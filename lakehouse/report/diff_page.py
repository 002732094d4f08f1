"""Renders the document of `diff` as one HTML page on which changed cells are marked.

The page has no script, and its Content-Security-Policy allows no request. Personal columns are masked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup

from lakehouse import __version__
from lakehouse.report.templates import jinja_environment, page_file
from lakehouse.schema.pii import MASK
from lakehouse.text import counted, visible, visible_document

Document = dict[str, Any]
IsPersonal = Callable[[str], bool]

_KINDS = ("inserted", "updated", "deleted")
_MAX_VALUE_CHARS = 500


def render(document: Document, personal: Mapping[str, IsPersonal]) -> str:
    """Return the page as HTML.

    Args:
        document: The document of `diff`.
        personal: By table or model, as the document names it: whether a column may contain personal data.
    """
    tables = [_described(table, personal[table["table"]]) for table in document["tables"]]
    return (
        jinja_environment()
        .get_template("diff.html")
        .render(
            pipeline=visible(document["pipeline"]),
            tables=visible_document(tables),
            css=Markup(page_file("page.css")),  # noqa: S704 - a file of the package
            version=__version__,
        )
    )


def _described(table: Document, is_personal: IsPersonal) -> Document:
    """Return the parts of a table's section: texts, and a sheet of rows for each kind of change that it has."""
    changes, both = table, (table["from"], table["to"])
    if table["last_change"]:  # nothing is new: the section shows the last change
        changes, both = table["last_change"], (table["last_change"]["from"], table["last_change"]["to"])
    samples = changes["samples"]
    sheets = {
        "inserted": _whole_rows(samples["inserted"], "inserted", is_personal),
        "updated": _updated_rows(samples["updated"], is_personal),
        "deleted": _whole_rows(samples["deleted"], "deleted", is_personal),
    }
    counts = changes["counts"]
    return {
        "name": table["table"],
        "verdict": table["verdict"],
        "times": f"{both[0] or 'nothing'} → {both[1]}" if both[1] else "",
        "counts": [{"kind": kind, "text": f"{counts[kind]:,} {kind}"} for kind in _KINDS if counts.get(kind)],
        "before": None if table["rows_before"] is None else f"{counted(table['rows_before'], 'row')} before",
        "columns": [{"name": name, "text": counted(rows, "row")} for name, rows in changes["columns"].items()],
        "texts": [line for text in (table["reason"], table["note"]) if text for line in text.splitlines()],
        "sheets": [
            {"kind": kind, "shown": len(sheet["rows"]), "of": counts.get(kind, len(sheet["rows"]))} | sheet
            for kind, sheet in sheets.items()
            if sheet["rows"]
        ],
    }


def _whole_rows(rows: list[Document], kind: str, is_personal: IsPersonal) -> Document:
    """Return a sheet of rows that are new or gone: every cell has changed."""
    names = list(rows[0]) if rows else []
    cells = [[{"mark": kind, "text": _text(name, row[name], is_personal)} for name in names] for row in rows]
    return {"names": names, "rows": cells}


def _updated_rows(rows: list[Document], is_personal: IsPersonal) -> Document:
    """Return a sheet of updated rows: the key, and each column that one of them has changed, before and after."""
    keys = list(rows[0]["key"]) if rows else []
    changed = list(dict.fromkeys(name for row in rows for name in row["changed"]))
    return {
        "names": [*keys, *changed],
        "rows": [
            [
                *({"mark": "", "text": _text(name, row["key"][name], is_personal)} for name in keys),
                *(_changed_cell(name, row["changed"].get(name), is_personal) for name in changed),
            ]
            for row in rows
        ],
    }


def _changed_cell(name: str, sides: Document | None, is_personal: IsPersonal) -> Document:
    if sides is None:
        return {"mark": "", "text": ""}
    before, after = (_text(name, sides[side], is_personal) for side in ("before", "after"))
    return {"mark": "updated", "before": before, "text": after}


def _text(name: str, value: Any, is_personal: IsPersonal) -> str:
    """Return a value as the page shows it: null as a dash, text without quotes unless it is empty."""
    if value is None:
        return "—"
    if is_personal(name):
        return MASK
    shown = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return visible(shown, _MAX_VALUE_CHARS)
