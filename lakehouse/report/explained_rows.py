"""Explains the first rows of a cube by the rows that made them, as `lakehouse why` does, without personal columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lakehouse.errors import LakehouseError
from lakehouse.inspect.why import why_rows
from lakehouse.runner.context import Run

Document = dict[str, Any]
IsPersonal = Callable[[str], bool]

MAX_ROWS, MAX_INPUTS = 10, 3
"""The most rows of a cube that are explained, and the most rows of each input that are shown for each row."""


def explain_rows(run: Run, cube: Document, is_personal: Callable[[str], IsPersonal]) -> list[Document]:
    """Return the first rows of a cube's table with the rows that made them.

    Args:
        run: The command.
        cube: The cube, as `read_cube` returns it.
        is_personal: Returns, for a table or model, which of its columns may contain personal data.

    Returns:
        A document for each row, with `key`, `row`, `inputs` and `more` as in the document of `lakehouse why`; none for
        a cube whose key is personal, and for a model that cannot be followed.
    """
    model, names = cube["model"], [column["name"] for column in cube["table"]["columns"]]
    keys = {key.lower() for key in run.plans[model].keys}
    at = {name: position for position, name in enumerate(names) if name.lower() in keys}
    if len(at) < len(keys) or not run.plans[model].blocks:
        return []
    rows = [{name: row[position] for name, position in at.items()} for row in cube["table"]["rows"][:MAX_ROWS]]
    try:
        return [_without_personal(node, is_personal) for node in why_rows(run, model, rows, MAX_INPUTS)]
    except LakehouseError:  # a table that was changed or removed since: the page shows the rest
        return []


def _without_personal(node: Mapping[str, Any], is_personal: Callable[[str], IsPersonal]) -> Document:
    hidden = is_personal(node["table"])

    def visible(values: Mapping[str, Any] | None) -> Document | None:
        return None if values is None else {name: value for name, value in values.items() if not hidden(name)}

    return {
        **node,
        **{name: visible(node[name]) for name in ("key", "row", "changed")},
        "inputs": [_without_personal(each, is_personal) for each in node["inputs"]],
    }
