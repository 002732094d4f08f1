"""The page: what was gathered, in a template that escapes all of it, with everything it needs inside."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import lru_cache, partial
from typing import Any, Literal

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lakehouse.report import charts, sheets
from lakehouse.report.flow import layout
from lakehouse.report.words import Language, Words

Document = dict[str, Any]

_PRINTED_ROWS = 25  # rows of a table on paper


def render(document: Document, language: Language) -> str:
    """The whole file, as HTML.

    Args:
        found: what `gather` gives.
    """
    words = Words(language)
    has_charts = bool(document["cubes"] or document["entries"]["of"])
    scripts = [*([_vega_script()] if has_charts else []), _page_file("page.js")]
    return (
        _jinja_environment()
        .get_template("page.html")
        .render(
            **document,
            change_charts=list(_change_figures(document, words)),
            drawn_cubes=[_cube_section(cube, words) for cube in document["cubes"]],
            relations=_with_column_numbers(document["lineage"]),
            w=words,
            is_empty=not document["entries"]["of"] and not document["runs"],
            attention=list(_attention_items(document, words)),
            way=layout(document["flow"]),
            sheets=_all_sheets(document, words),
            settings=_script_settings(language, words),
            css=Markup(_page_file("page.css")),
            scripts=[Markup(script) for script in scripts],
            hashes=" ".join(f"'sha256-{_csp_hash(script)}'" for script in scripts),
            printed=_PRINTED_ROWS,
            as_json=partial(json.dumps, ensure_ascii=False),
        )
    )


@lru_cache
def _jinja_environment() -> Environment:
    return Environment(
        loader=PackageLoader("lakehouse.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page_file(name: str) -> str:
    loader = _jinja_environment().loader
    assert loader is not None
    return loader.get_source(_jinja_environment(), name)[0].strip()


@lru_cache
def _vega_script() -> str:
    """Vega, Vega-Lite and Vega-Embed, without what would end a script in HTML, or begin one that ends elsewhere."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for what has a default
    return re.sub(r"<(?=/?script|!--)", r"\\x3c", bundle, flags=re.IGNORECASE).strip()


def _csp_hash(script: str) -> str:
    """As a Content-Security-Policy names a script that may run: no other one does."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _attention_items(document: Document, words: Words) -> Any:
    """What somebody should look at, the most pressing first."""
    for table in document["status"]["tables"]:
        name = table["table"]
        if table["held"]:
            yield words("held_since", table=name, time=words.time(table["held"])), "bad"
        elif table["newest"] == "rejected":
            yield words("rejected_newest", table=name), "bad"
    last = document["runs"][0] if document["runs"] else None
    if last and last["exit_code"]:
        yield words("run_failed", run=last["run_id"], failed="; ".join(last["failed"]) or last["exit_code"]), "bad"
    for table in document["status"]["tables"]:
        if table["overdue_seconds"]:
            yield words("overdue", table=table["table"], age=words.age(table["overdue_seconds"])), "late"
    for model in document["status"]["models"]:
        if model["waiting"]:
            yield words("model_waits", model=model["model"], inputs=", ".join(model["waiting"])), "late"


def _change_figures(document: Document, words: Words) -> Any:
    """A chart for each table that has changed since its full load."""
    for table, changes in document["changes"].items():
        if changes:
            yield charts.figure(table, charts.change_chart(changes, words))


def _all_sheets(document: Document, words: Words) -> Document:
    every = ("freshness", "decisions", "quality", "expectations", "results", "quarantine", "columns", "models", "runs")
    return {name: getattr(sheets, name)(document, words) for name in every}


def _cube_section(cube: Document, words: Words) -> Document:
    drawn, told = charts.cube_figures(cube, words), sheets.facts(cube, words)
    return cube | {"drawn": drawn, "facts": told, "sheet": sheets.cube(cube, words)}


def _with_column_numbers(relations: list[Document]) -> list[Document]:
    """With a number for each column, to name its element by: what a column is called may not serve."""
    names = [(r["relation"], c["name"]) for r in relations for c in r["columns"]]
    places = {name: number for number, name in enumerate(names)}
    return [
        r
        | {
            "columns": [
                c
                | {"place": places[r["relation"], c["name"]], "origin_places": [places[tuple(o)] for o in c["origins"]]}
                for c in r["columns"]
            ]
        }
        for r in relations
    ]


def _script_settings(language: Language, words: Words) -> Document:
    """What the page's script has to know."""
    locale: Literal["en-US", "pt-BR"] = "en-US" if language == "en" else "pt-BR"
    return {
        "locale": locale,
        "format": _json(vl_convert.get_format_locale(locale)),
        "timeFormat": _json(vl_convert.get_time_format_locale(locale)),
        "shown": words("rows_shown", shown="{shown}", of="{of}"),
        "failed": words("chart_failed"),
    }


def _json(document: Any) -> Any:
    return json.loads(document) if isinstance(document, str) else document
