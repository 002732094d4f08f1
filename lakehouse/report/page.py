"""Renders the contents of a report as one HTML page, from a template that escapes all values.

The page contains its style, its scripts and its data. Its Content-Security-Policy allows no other script and no
request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any, Literal

import vl_convert
from markupsafe import Markup

from lakehouse.report import charts, sheets
from lakehouse.report.flow import layout
from lakehouse.report.glossary import glossary
from lakehouse.report.row_lines import explained_lines
from lakehouse.report.templates import jinja_environment, page_file
from lakehouse.report.words import Language, Words
from lakehouse.text import visible_document

Document = dict[str, Any]

_PRINTED_ROWS = 25  # of each table


def render(document: Document, language: Language) -> str:
    """Return the page as HTML.

    Args:
        document: The result of `gather`.
        language: The language of the texts, numbers and dates.
    """
    document = visible_document(document)
    words = Words(language, document["time_zone"])
    has_charts = bool(document["cubes"] or document["entries"]["of"])
    scripts = [*([_vega_script()] if has_charts else []), page_file("page.js")]
    # By these hashes the Content-Security-Policy allows the scripts of the page, and no others.
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    change_charts = [
        charts.figure(table, charts.change_chart(changes, words))
        for table, changes in document["changes"].items()
        if changes
    ]
    cube_sections = [
        cube
        | {"figures": charts.cube_figures(cube, words)}
        | {"facts": sheets.facts(cube, words), "sheet": sheets.cube(cube, words)}
        | {"explained": explained_lines(cube, words)}
        for cube in document["cubes"]
    ]
    return (
        jinja_environment()
        .get_template("page.html")
        .render(
            **document,
            change_charts=change_charts,
            cube_sections=cube_sections,
            changed_row_sheets=[_with_sheets(table, words) for table in document["changed_rows"]["tables"]],
            glossary=glossary(words),
            relations=_with_column_numbers(document["lineage"]),
            w=words,
            is_empty=not document["entries"]["of"] and not document["runs"],
            attention=list(_attention_items(document, words)),
            flow_chart=layout(document["flow"]),
            sheets={name: build(document, words) for name, build in sheets.SHEETS.items()},
            settings=_script_settings(language, words),
            css=Markup(page_file("page.css")),  # noqa: S704 - a file of the package
            scripts=[Markup(script) for script in scripts],  # noqa: S704 - the package's own, and Vega
            hashes=" ".join(f"'sha256-{each}'" for each in hashes),
            printed_rows=_PRINTED_ROWS,
            as_json=partial(json.dumps, ensure_ascii=False),
        )
    )


@lru_cache
def _vega_script() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, safe to put into HTML.

    Text that would end a script element, or open another one or a comment, is escaped.
    """
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub requires an argument that has a default
    return re.sub(r"<(?=/?script|!--)", r"\\x3c", bundle, flags=re.IGNORECASE).strip()


def _with_sheets(table: Document, words: Words) -> Document:
    """Add to each snapshot of a table the table of its changed rows."""
    snapshots = [s | {"sheet": sheets.changed_rows(s, table["kinds"], words)} for s in table["snapshots"]]
    return table | {"snapshots": snapshots}


def _attention_items(document: Document, words: Words) -> Iterator[tuple[str, str]]:
    """Yield a text and its urgency (`bad` or `late`) for everything that needs attention, the most urgent first."""
    for table in document["status"]["tables"]:
        name = table["table"]
        if table["held"]:
            yield words("held_since", table=name, time=words.time(table["held"])), "bad"
        elif table["newest"] == "rejected":
            yield words("rejected_newest", table=name), "bad"
    last = document["runs"][0] if document["runs"] else None
    if last and last["exit_code"]:
        failed = f": {'; '.join(last['failed'])}" if last["failed"] else ""
        yield words("run_failed", doing=last["doing"], run=last["run_id"], code=last["exit_code"], failed=failed), "bad"
    old = [(words.time(a["time"]), words.age(a["seconds"]), a["table"]) for a in document["data_age"] if a["is_old"]]
    for (time, age), names in _names_by_text(old):
        yield words("data_is_old", table=names, time=time, age=age), "late"
    late = [(words.age(t["overdue_seconds"]), t["table"]) for t in document["status"]["tables"] if t["overdue_seconds"]]
    for (age,), names in _names_by_text(late):
        yield words("overdue", table=names, age=age), "late"
    for table in document["status"]["tables"]:
        for changed in table["changed_in_source"]:
            values = {"time": words.time(changed["snapshot_time"]), "next": changed["next_step"]}
            yield words("changed_in_source", table=table["table"], **values), "late"
    if waiting := document["status"].get("not_ready"):
        yield words("not_ready", message=waiting["message"]), "late"
    for model in document["status"]["models"]:
        if model["waiting"]:
            yield words("model_waits", model=model["model"], inputs=", ".join(model["waiting"])), "late"


def _names_by_text(rows: Iterable[tuple[str, ...]]) -> list[tuple[tuple[str, ...], str]]:
    """Return each text once, with the names of all tables that it is about.

    >>> _names_by_text([("2 days", "a"), ("3 days", "b"), ("2 days", "c")])
    [(('2 days',), 'a, c'), (('3 days',), 'b')]
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for *text, name in rows:
        names.setdefault(tuple(text), []).append(name)
    return [(text, ", ".join(tables)) for text, tables in names.items()]


def _with_column_numbers(relations: list[Document]) -> list[Document]:
    """Add a number to each column and to its origins.

    The page names its elements by these numbers, because the name of a column may not be usable for that.
    """
    names = [(r["relation"], c["name"]) for r in relations for c in r["columns"]]
    numbers = {name: number for number, name in enumerate(names)}

    def numbered(relation: str, column: Document) -> Document:
        origins = [numbers[tuple(origin)] for origin in column["origins"]]
        return column | {"number": numbers[relation, column["name"]], "origin_numbers": origins}

    return [r | {"columns": [numbered(r["relation"], column) for column in r["columns"]]} for r in relations]


def _script_settings(language: Language, words: Words) -> Document:
    """Return the settings of the page's script: formats and texts of the language."""

    def parsed(document: Any) -> Any:  # vl_convert returns JSON text or a dictionary, depending on its version
        return json.loads(document) if isinstance(document, str) else document

    locale: Literal["en-US", "pt-BR"] = "en-US" if language == "en" else "pt-BR"
    return {
        "locale": locale,
        "format": parsed(vl_convert.get_format_locale(locale)),
        "timeFormat": parsed(vl_convert.get_time_format_locale(locale)),
        "shown": words("rows_shown", shown="{shown}", of="{of}"),
        "failed": words("chart_failed"),
    }
