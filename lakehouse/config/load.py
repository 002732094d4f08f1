"""Loads a pipeline.yml: `load` reports everything wrong with it in one `ConfigError`, a line per error."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lakehouse.config import yaml_source
from lakehouse.config.pipeline import FILE_NAMES, PII_KEY, Pipeline, Table
from lakehouse.config.strict_model import VALUE, join_with_or
from lakehouse.errors import ConfigError

# Of the rules by which files are read (lakehouse/schema, lakehouse/ingest/readers). Raise it when one of them changes:
# each table's newest snapshot is then read again. 2: times in gaps, and outside the years 1 to 9999, are malformed.
_READING_RULES = 2


def load(path: str | Path, env: Mapping[str, str] | None = None) -> Pipeline:
    """Return the pipeline of a file.

    Args:
        path: A folder with pipeline.yml (.yaml, .json), or that file.
        env: The values of `${VAR}`, instead of the process environment. Both take precedence over ``.env`` in the
            working directory.

    Raises:
        ConfigError: The file is missing or invalid. It has a line for each error.
    """
    file = find_file(Path(path))
    variables = yaml_source.load_environment(env)
    source = yaml_source.read_yaml(file, variables)
    source.add_from_environment("pii_key", PII_KEY, variables)
    errors: list[Any] = []
    try:
        context = {"path": file, "folder": file.parent, "lines": source.lines}
        context["secret_values"] = frozenset(source.secret_values)
        pipeline = Pipeline.model_validate(source.data, context=context)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
    problems = _collect_problems(source, errors)
    if not problems:
        return pipeline
    raise ConfigError(
        "\n".join(source.format_problem(problem) for problem in problems),
        next_step=f"lakehouse validate {path}",
    )


def fingerprint_config(table: Table, timezone: str) -> str:
    """Return the settings that affect how a table's snapshots are read and compared, as canonical JSON.

    Equal settings give equal text: order and spelling that do not matter are normalized.

    Args:
        table: The table's configuration.
        timezone: The pipeline's time zone.
    """
    settings: dict[str, Any] = {
        "format": table.format,
        "options": {name.lower(): value for name, value in table.options.items()},
        "columns": [[column.name, column.canonical_type] for column in table.columns],
        "keys": sorted(table.key_paths),
        "ignore": sorted(table.ignore),
        "duplicates": table.duplicates,
        "updated_at": table.updated_at,
        "malformed": table.malformed,
        "timezone": timezone,
        "rules": _READING_RULES,
    }
    if table.pii:
        settings["pii"] = table.pii_labels
    if table.feed:
        settings["feed"] = table.feed.model_dump(mode="json")
    if nulls := {c.name: texts for c in table.columns if (texts := table.null_texts(c.name))}:
        settings["null_values"] = nulls
    if table.records:
        settings["records"] = [name.lower() for name in table.record_names]
    settings |= {name: count for name in ("skip_lines", "skip_footer") if (count := getattr(table, name))}
    if table.grace:
        settings["missing"] = table.grace.setting
    if table.slice_by:
        settings["slice_by"] = sorted(table.slice_by)
    if table.file_pattern.columns:
        settings["file"] = table.file
    lower_names = {column: name.lower() for column, name in table.names.items()}
    if other_names := {column: name for column, name in lower_names.items() if name != column.lower()}:
        settings["names"] = other_names
    return json.dumps(settings, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of pipeline.yml, for editors."""
    schema = Pipeline.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pipeline.yml"}


def find_file(path: Path) -> Path:
    """Return the file of a pipeline.

    Args:
        path: A folder with pipeline.yml (.yaml, .json), or that file.

    Raises:
        ConfigError: There is none, or there are several.
    """
    files = [path / name for name in FILE_NAMES if (path / name).is_file()] if path.is_dir() else [path]
    if len(files) > 1:
        raise ConfigError(f"{' and '.join(file.name for file in files)}", expected="one of them", where=str(path))
    if not files or not files[0].is_file():
        raise ConfigError(
            "a folder without a pipeline" if path.is_dir() else "no such file or folder",
            expected=f"a folder with {join_with_or(FILE_NAMES)}, or that file",
            where=str(path),
            next_step=f"lakehouse init SOURCE {shlex.quote(str(path))}, to write one for a folder of files",
        )
    return files[0]


def _collect_problems(source: yaml_source.YamlSource, errors: list[Any]) -> list[yaml_source.Problem]:
    """Return the errors of the file's form and pydantic's errors, by line."""
    problems = list(source.problems)
    for error in errors:
        loc = error["loc"]
        # pydantic adds the member of a union, and a mark for keys.
        if loc[:1] in (("source",), ("lake",)) and len(loc) > 1 and loc[1] != "type":
            loc = (loc[0], *loc[2:])
        if loc[-1:] == ("[key]",):
            loc = loc[:-1]
        value = source.value_for_message(loc) if error["type"] == VALUE else ""
        if loc not in source.unreadable:
            problems.append(source.problem_at(loc, f"found {value}, {error['msg']}" if value else error["msg"]))
    return sorted(problems, key=lambda problem: problem.line)
