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

_PRINTED = 25  # rows of a table on paper


def render(found: Document, language: Language) -> str:
    """The whole file, as HTML.

    Args:
        found: what `gather` gives.
    """
    words = Words(language)
    has_charts = bool(found["cubes"] or found["entries"]["of"])
    scripts = [*([_vega()] if has_charts else []), _file("page.js")]
    return (
        _environment()
        .get_template("page.html")
        .render(
            **found,
            change_charts=list(_changes(found, words)),
            drawn_cubes=[_cube(cube, words) for cube in found["cubes"]],
            relations=_numbered(found["lineage"]),
            w=words,
            is_empty=not found["entries"]["of"] and not found["runs"],
            attention=list(_attention(found, words)),
            way=layout(found["flow"]),
            sheets=_sheets(found, words),
            settings=_settings(language, words),
            css=Markup(_file("page.css")),
            scripts=[Markup(script) for script in scripts],
            hashes=" ".join(f"'sha256-{_hash(script)}'" for script in scripts),
            printed=_PRINTED,
            as_json=partial(json.dumps, ensure_ascii=False),
        )
    )


@lru_cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("lakehouse.report", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _file(name: str) -> str:
    loader = _environment().loader
    assert loader is not None
    return loader.get_source(_environment(), name)[0].strip()


@lru_cache
def _vega() -> str:
    """Vega, Vega-Lite and Vega-Embed, without what would end a script in HTML, or begin one that ends elsewhere."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub asks for what has a default
    return re.sub(r"<(?=/?script|!--)", r"\\x3c", bundle, flags=re.IGNORECASE).strip()


def _hash(script: str) -> str:
    """As a Content-Security-Policy names a script that may run: no other one does."""
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _attention(found: Document, words: Words) -> Any:
    """What somebody should look at, the most pressing first."""
    for table in found["status"]["tables"]:
        name = table["table"]
        if table["held"]:
            yield words("held_since", table=name, time=words.time(table["held"])), "bad"
        elif table["newest"] == "rejected":
            yield words("rejected_newest", table=name), "bad"
    last = found["runs"][0] if found["runs"] else None
    if last and last["exit_code"]:
        yield words("run_failed", run=last["run_id"], failed="; ".join(last["failed"]) or last["exit_code"]), "bad"
    for table in found["status"]["tables"]:
        if table["overdue_seconds"]:
            yield words("overdue", table=table["table"], age=words.age(table["overdue_seconds"])), "late"
    for model in found["status"]["models"]:
        if model["waiting"]:
            yield words("model_waits", model=model["model"], inputs=", ".join(model["waiting"])), "late"


def _changes(found: Document, words: Words) -> Any:
    """A chart for each table that has changed since its full load."""
    for table, changes in found["changes"].items():
        if changes:
            yield charts.drawn(table, charts.changes(changes, words))


def _sheets(found: Document, words: Words) -> Document:
    every = ("freshness", "decisions", "quality", "expectations", "results", "quarantine", "columns", "models", "runs")
    return {name: getattr(sheets, name)(found, words) for name in every}


def _cube(cube: Document, words: Words) -> Document:
    drawn, told = charts.of_cube(cube, words), sheets.facts(cube, words)
    return cube | {"drawn": drawn, "facts": told, "sheet": sheets.cube(cube, words)}


def _numbered(relations: list[Document]) -> list[Document]:
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


def _settings(language: Language, words: Words) -> Document:
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
