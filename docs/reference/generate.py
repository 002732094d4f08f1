"""Writes docs/reference/pipeline.md and docs/reference/commands.md from the descriptions in the code (`make docs`)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from lakehouse.cli.app import app
from lakehouse.config import json_schema
from lakehouse.config.locales import LOCALES
from lakehouse.config.options import OPTIONS_BY_FORMAT

FOLDER = Path(__file__).parent
GENERATED = "<!-- Written by `make docs` from the descriptions in the code: change them there. -->"
PIPELINE_INTRO = """
A pipeline is a folder with `pipeline.yml` (or `.yaml`, `.json`) and the SQL of its models, `silver/<name>.sql` and
`gold/<name>.sql`. `lakehouse init` writes one for your files ([how](../guide/init.md)), `lakehouse validate` lists
all its errors at once, and editors check it with [conf/pipeline.schema.json](../../conf/pipeline.schema.json). The
smallest one:

```yaml
name: shop
lake: lake/shop
source: {type: files, path: exports}
tables:
  customers:
    file: customers.csv
    format: csv
    schema: id STRING, name STRING, since DATE
    keys: [id]
```

`${VARIABLE}` and `${VARIABLE:-default}` in a value are filled in from the environment, then from `.env`. Unknown keys
are errors. A duration is a number and a unit: `10m`, `6h`, `1d`. A share is a number from 0 to 1.
"""
COMMANDS_INTRO = """
`lakehouse VERB PIPELINE [NAME ...] [options]`. The result goes to stdout, as tables or, with `--json`, as one
document; progress and errors go to stderr. Every command ends with one of the [exit codes](exit-codes.md).
"""
OPTIONS_INTRO = """
`options` of a table, by Spark's names. Other options of Spark are refused, since they would change what a row means,
and the message has the reason. How each works, with examples: [formats](changes/formats.md).
"""


def pipeline_page() -> str:
    """Return the page about the keys of pipeline.yml."""
    schema = json_schema()
    sections = [f"# pipeline.yml\n\n{GENERATED}\n{PIPELINE_INTRO}", _section("", schema, schema)]
    for path, definition in _definitions(schema):
        sections.append(_section(path, definition, schema))
        if path == "tables.<name>":
            sections.append(_options())
    return "\n".join(sections)


def _definitions(schema: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each class of the schema once, in the order of the file, with the path at which it stands first."""
    seen: set[str] = set()

    def walk(path: str, properties: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, value in properties.items():
            for name, suffix in _references(value):
                if name not in seen:
                    seen.add(name)
                    definition = schema["$defs"][name]
                    kind = definition["properties"].get("type", {}).get("const")
                    where = f"{path}{key}{suffix}" + (f" (type: {kind})" if kind else "")
                    yield where, definition
                    yield from walk(f"{path}{key}{suffix}.", definition["properties"])

    yield from walk("", schema["properties"])


def _references(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the classes that a value can be, each with what its path ends with."""
    found = [(value["$ref"].rpartition("/")[2], "")] if "$ref" in value else []
    for option in [*value.get("anyOf", ()), *value.get("oneOf", ())]:
        found += _references(option)
    inner = _values(value)
    return found + [(name, f".<name>{rest}") for name, rest in (_references(inner) if inner else [])]


def _values(value: dict[str, Any]) -> dict[str, Any]:
    """Return what the values of a mapping may be."""
    named = next(iter(value.get("patternProperties", {}).values()), None) or value.get("additionalProperties")
    return named if isinstance(named, dict) else {}


def _section(path: str, definition: dict[str, Any], schema: dict[str, Any]) -> str:
    title = f"`{path}`" if path else "The keys of the file"
    title = title.replace("`silver.<name>", "`silver.<name>`, `gold.<name>") if path == "silver.<name>" else title
    text = "" if not path else f"\n{' '.join(definition['description'].split())}\n"
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for key, value in definition["properties"].items():
        default = "**required**" if key in definition.get("required", ()) else _default(value)
        meaning = value.get("description") or ("The kind of the source." if "const" in value else "")
        meaning = meaning or " ".join(schema["$defs"][name]["description"] for name, _ in _references(value))
        rows.append(f"| `{key}` | {_type(value)} | {default} | {_cell(meaning)} |")
    return f"## {title}\n{text}\n" + "\n".join(rows) + "\n"


def _type(value: dict[str, Any]) -> str:
    """Return what a value may be, in words."""
    if "enum" in value:
        return ", ".join(f"`{item}`" for item in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value:
        return "section"
    for options in (value.get("anyOf"), value.get("oneOf")):
        if options:
            names = dict.fromkeys(_type(option) for option in options if option.get("type") != "null")
            return " or ".join(names)
    if "[smhd]" in value.get("pattern", ""):
        return "duration"
    if value.get("type") == "array":
        return f"list of {_type(value['items'])}"
    if value.get("type") == "object":
        return f"mapping to {_type(_values(value))}"
    if isinstance(value.get("type"), list):
        return "text, number or boolean"
    if value.get("type") == "number" and value.get("maximum") == 1:
        return "share"
    return {"string": "text", "integer": "number", "number": "number", "boolean": "boolean"}[value["type"]]


def _default(value: dict[str, Any]) -> str:
    default = value.get("default")
    return "" if default in (None, [], {}) else f"`{json.dumps(default) if not isinstance(default, str) else default}`"


def _options() -> str:
    formats = {name: [f for f, names in OPTIONS_BY_FORMAT.items() if name in names] for name in _option_names()}
    rows = ["| option | formats | meaning |", "|---|---|---|"]
    rows += [f"| `{name}` | {', '.join(formats[name])} | {_cell(text)} |" for name, text in _option_names().items()]
    tags = ", ".join(sorted(LOCALES))
    return (
        f"## `tables.<name>.options`\n{OPTIONS_INTRO}\n"
        + "\n".join(rows)
        + f"\n\nThe locales are, in any case: {tags}.\n"
    )


def _option_names() -> dict[str, str]:
    return {name: text for options in OPTIONS_BY_FORMAT.values() for name, text in options.items()}


def commands_page() -> str:
    """Return the page about the command line."""
    group = typer.main.get_command(app)
    sections = [f"# The command line\n\n{GENERATED}\n{COMMANDS_INTRO}"]
    with typer.Context(group, info_name="lakehouse") as context:
        shown = {name: command for name, command in group.commands.items() if not command.hidden}
        sections[0] += "\n| command | what it does |\n|---|---|\n"
        for name, command in shown.items():
            sections[0] += f"| [`{name}`](#lakehouse-{name}) | {_cell(_help(command))} |\n"
        sections += [_command(name, command, context) for name, command in shown.items()]
    return "\n".join(sections)


def _command(name: str, command: Any, parent: Any) -> str:
    with typer.Context(command, info_name=name, parent=parent) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        rows = [record for kind in ("argument", "option") for record in command.help_records(context, kind)]
        rows = [(left, right) for left, right in rows if left != "--help"]
    text = f"## lakehouse {name}\n\n{_help(command)}\n\n```\nlakehouse {name} {usage}\n```\n\n"
    text += (
        "\n".join(["| argument | meaning |", "|---|---|", *(f"| `{_pipes(a)}` | {_cell(b)} |" for a, b in rows)]) + "\n"
    )
    if command.epilog:
        text += f"\n```\n{command.epilog.strip()}\n```\n"
    return text


def _help(command: Any) -> str:
    return " ".join((command.help or "").split("\n\n")[0].split())


def _pipes(text: str) -> str:
    return text.replace("|", "\\|")


def _cell(text: str) -> str:
    return _pipes(" ".join(text.split())).replace("<", "\\<")


PAGES = {"pipeline.md": pipeline_page, "commands.md": commands_page}


if __name__ == "__main__":
    for file, page in PAGES.items():
        (FOLDER / file).write_text(page(), encoding="utf-8")
        print(f"docs/reference/{file} is written")
