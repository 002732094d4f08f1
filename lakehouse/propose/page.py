"""Writes a proposal as the text of pipeline.yml and of silver models; a doubt is a comment at its place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from textwrap import wrap

import sqlglot

from lakehouse.config.ddl import quote_identifier
from lakehouse.propose.names import silver_names
from lakehouse.propose.proposal import ProposedColumn, ProposedTable
from lakehouse.propose.sources import shown
from lakehouse.text import escape_yaml

_WIDTH = 110
_PLAIN = re.compile(r"[A-Za-z_/][\w./-]*(?: [\w./()-]+)*")
_SPECIAL = re.compile(r"(?i)true|false|null|yes|no|on|off|y|n|~")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def pipeline_text(
    name: str,
    source: Mapping[str, str],
    tables: Iterable[ProposedTable],
    header: Iterable[str],
    lake: str = "",
    zone: str = "",
    extra: Iterable[str] = (),
) -> str:
    """Return the text of pipeline.yml.

    Args:
        name: The pipeline's name.
        source: The settings of `source`.
        tables: The tables; those with a problem are written as comments.
        header: The lines of the comment at the beginning.
        lake: The lake, as YAML; by default a folder in the working directory.
        zone: The time zone of times that have none; "" is UTC.
        extra: Further lines of YAML between `timezone` and `source`.
    """
    every = list(tables)
    usable = [table for table in every if not table.problem]
    lines = [f"# {line}".rstrip() for line in header]
    lines += [f"name: {scalar(name)}", f"lake: {lake or '${LAKE_ROOT:-lake}/' + name}"]
    has_times = any(column.type == "TIMESTAMP" for table in usable for column in table.columns)
    if zone:
        lines += _comment("timezone: days in the files begin at midnight there; other zones may fit too", "")
        lines.append(f"timezone: {zone}")
    elif has_times:
        lines.append("timezone: UTC # of times that are written without one; is it the source's?")
    lines += [*extra, "", "source:", *(f"  {key}: {scalar(value)}" for key, value in source.items()), "", "tables:"]
    for table in usable:
        lines += [*_table_lines(table), ""]
    for table in every:
        if table.problem:
            lines += [*_problem_lines(table), ""]
    lines += [
        "# Candidates, one per table: its columns in snake_case. Add expectations, and cubes under `gold:`.",
        "silver:",
    ]
    for table in usable:
        names = silver_names(column.name for column in table.columns)
        lines += [f"  {table.name}:", f"    keys: {_sequence(names[key] for key in table.keys)}"]
    return "\n".join(lines) + "\n"


def silver_sql(table: ProposedTable) -> str:
    """Return the SELECT of the silver model of a table.

    Args:
        table: The table.
    """
    names = silver_names(column.name for column in table.columns)
    selected = []
    for column in table.columns:
        alias = "" if names[column.name] == column.name else f" AS {_sql_name(names[column.name])}"
        selected.append(f"    t.{_sql_name(column.name)}{alias}")
    return (
        f"-- One row per row of {table.name}, with its columns in snake_case.\nSELECT\n"
        + ",\n".join(selected)
        + (f"\nFROM bronze.{_sql_name(table.name)} AS t\n")
    )


def scalar(text: str) -> str:
    """Return a text as YAML; `${` is escaped, since the file's own variables begin so.

    >>> scalar("dd/MM/yyyy"), scalar(";"), scalar("no"), scalar("a: b"), scalar("x ${y}")
    ('dd/MM/yyyy', '";"', '"no"', '"a: b"', '"x $${y}"')

    Args:
        text: Any text.
    """
    escaped = text.replace("${", "$${")
    if _PLAIN.fullmatch(escaped) and not _SPECIAL.fullmatch(escaped) and escaped.isascii():
        return escaped
    return escape_yaml(json.dumps(escaped, ensure_ascii=False))


def _table_lines(table: ProposedTable) -> list[str]:
    lines = [f"  {table.name}:"]
    for note in [*table.notes, *(f"{shown(c.name)}: {note}" for c in table.columns for note in c.notes)]:
        lines += _comment(note if note.startswith("locale:") else f"not sure: {note}", "    ")
    return lines + _settings(table)


def _settings(table: ProposedTable) -> list[str]:
    """Return the settings of a table that differ from the defaults."""
    lines = [f"    file: {scalar(table.file)}", f"    format: {table.format}"]
    if table.options:
        options = ", ".join(f"{name}: {_option(value)}" for name, value in table.options.items())
        lines.append(f"    options: {{{options}}}")
    if table.skip_lines:
        lines.append(f"    skip_lines: {table.skip_lines}")
    if table.records:
        lines.append(f"    records: {scalar(table.records)}")
    lines += ["    schema: >-", *(f"      {line}" for line in _schema_lines(table.columns))]
    if table.names:
        lines += ["    names:", *(f"      {scalar(name)}: {scalar(given)}" for name, given in table.names.items())]
    proof = _proof(table)
    keys = _sequence(table.keys) if table.keys else "all"
    lines.append(f"    keys: {keys}" + (f" # {proof}" if proof else ""))
    if table.updated_at:
        lines += ["    duplicates: latest", f"    updated_at: {scalar(table.updated_at)}"]
    return lines


def _proof(table: ProposedTable) -> str:
    """Return the proof of a key, for a comment."""
    if not table.keys:
        return "equal rows are counted; or [a, b], the columns that identify a row"
    if any("not proved" in note for note in table.notes):
        return ""
    counts = [count for count in table.rows if count is not None]
    if not counts:
        return ""
    rows = f"{sum(counts):,} row{'s' if sum(counts) != 1 else ''}"
    if len(counts) == 1:
        return f"unique in {rows}; one snapshot cannot show whether it is stable"
    snapshots = "both" if len(counts) == 2 else f"all {len(counts)}"
    stable = "" if table.stable is None else f"; {100 * table.stable:.4g} % of a snapshot's keys are in the next one"
    return f"unique in {snapshots} snapshots, {rows}{stable}"


def _problem_lines(table: ProposedTable) -> list[str]:
    """Return a table as comments, with the reason."""
    lines = _comment(f"{table.name} ({shown(table.file)}) is left out: {table.problem}", "  ")
    for note in table.notes:
        lines += _comment(f"also: {note}", "  ")
    if table.columns:
        lines += _comment("remove the signs # to use it:", "  ")
        lines += [f"  # {line[2:]}" for line in [f"  {table.name}:", *_settings(table)]]
    return lines


def _comment(text: str, indent: str) -> list[str]:
    width = _WIDTH - len(indent)
    clean = "".join(char if char.isprintable() else "?" for char in text)
    return [f"{indent}# {line}" for line in wrap(clean, width, subsequent_indent="  ", break_long_words=False)]


def _schema_lines(columns: Iterable[ProposedColumn]) -> list[str]:
    lines = [""]
    items = [f"{_ddl_name(column.name)} {column.type}".replace("${", "$${") for column in columns]
    for number, item in enumerate(items):
        text = item + ("," if number < len(items) - 1 else "")
        if lines[-1] and len(lines[-1]) + len(text) + 1 > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {text}".strip()
    return lines


def _ddl_name(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else quote_identifier(name)


def _sql_name(name: str) -> str:
    """Return a name for SQL, in backticks if SQL would not read it as a name.

    >>> _sql_name("nome"), _sql_name("Tipo Titulo"), _sql_name("select"), _sql_name("date")
    ('nome', '`Tipo Titulo`', '`select`', 'date')
    """
    try:
        read = sqlglot.parse_one(f"SELECT t.{name} AS {name} FROM bronze.{name} AS t", read="spark")
        table = read.find(sqlglot.exp.Table)
        is_name = bool(_IDENTIFIER.fullmatch(name)) and table is not None and (table.name, table.alias) == (name, "t")
    except sqlglot.errors.SqlglotError:
        is_name = False
    return name if is_name else quote_identifier(name)


def _option(value: str) -> str:
    return (
        value
        if value in ("true", "false")
        else json.dumps(value, ensure_ascii=False)
        if _needs_quotes(value)
        else value
    )


def _needs_quotes(value: str) -> bool:
    return not re.fullmatch(r"[A-Za-z][\w./-]*", value) or bool(_SPECIAL.fullmatch(value))


def _sequence(names: Iterable[str]) -> str:
    return f"[{', '.join(scalar(name) for name in names)}]"
