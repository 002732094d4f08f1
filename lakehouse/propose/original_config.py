"""Translates the configuration of the original CDC pipeline (config.json) to a pipeline.yml.

    {"dataset_name": "owner/name", "aws": {"bucket", "prefix", "region"}, "timer": {"unit", "value"},
     "cleanup": {"enabled", "keep_last_n_cdc_files"}, "tables": [{"sep", "name", "date_field", "pk"}]}

It names no columns but the key and the date. Those of the loyalty dataset, for which it was written, are known; for
another one a folder with its files is needed, or the schema has to be completed by hand.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lakehouse.config.fields import to_option_text
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.propose.names import column_names
from lakehouse.propose.page import pipeline_text, silver_sql
from lakehouse.propose.proposal import ProposedColumn, ProposedTable, propose_tables
from lakehouse.propose.write import document, pipeline_name, refuse_existing, table_name, write_pipeline

_KEYS = ("dataset_name", "aws", "timer", "cleanup", "tables")
_TABLE_KEYS = ("sep", "name", "date_field", "pk")
_UNITS = {
    "second": "s",
    "minute": "m",
    "min": "m",
    "hour": "h",
    "day": "d",
    "segundo": "s",
    "minuto": "m",
    "hora": "h",
    "dia": "d",
}
_SEPARATORS = {"\t": r"\t"}
_LOYALTY = "teocalvo/teomewhy-loyalty-system"
_LOYALTY_SCHEMAS = {
    "clientes": "idCliente STRING, flEmail INT, flTwitch INT, flYouTube INT, flBlueSky INT, flInstagram INT,"
    " qtdePontos BIGINT, DtCriacao TIMESTAMP, DtAtualizacao TIMESTAMP",
    "produtos": "IdProduto STRING, DescNomeProduto STRING, DescDescricaoProduto STRING, DescCategoriaProduto STRING",
    "transacoes": "IdTransacao STRING, IdCliente STRING, DtCriacao TIMESTAMP, QtdePontos BIGINT,"
    " DescSistemaOrigem STRING",
    "transacao_produto": "idTransacaoProduto STRING, IdTransacao STRING, IdProduto STRING, QtdeProduto INT,"
    " vlProduto BIGINT",
}


def init_from_config(
    original: Path,
    target: Path,
    source: Path | None = None,
    on_table: Callable[[str], None] = lambda name: None,
) -> dict[str, Any]:
    """Write a pipeline from a configuration of the original pipeline, and return the decisions.

    Args:
        original: The configuration, a JSON file.
        target: The folder to write, or the path of its pipeline.yml.
        source: A folder with the dataset's files, for the columns; they are read from Kaggle later.
        on_table: Called with the name of each table before its files are read.

    Raises:
        ConfigError: The configuration cannot be used, or there is a pipeline already.
        DataRefused: A table's file in `source` cannot be used.
    """
    refuse_existing(target)
    settings = _read(original)
    name = pipeline_name(target)
    wanted = {table_name(str(table["name"])): table for table in settings["tables"]}
    keys = {table: _key(entry) for table, entry in wanted.items()}
    if source:
        proposed = _proposed_tables(source, keys, on_table)
    else:
        is_known = str(settings.get("dataset_name", "")).lower() == _LOYALTY
        proposed = [_table(table, entry, is_known) for table, entry in wanted.items()]
    text = pipeline_text(
        name,
        {"type": "kaggle", "dataset": str(settings["dataset_name"])},
        proposed,
        [
            f"Translated by `lakehouse init` from {original.name}.",
            "Updates are found by comparing rows, so that `date_field` is not needed for it.",
            *_notes(settings),
        ],
        lake=_lake(settings, name),
        extra=_schedule(settings),
    )
    write_pipeline(target, text, {f"silver/{t.name}.sql": silver_sql(t) for t in proposed if not t.problem})
    return document(target, str(settings["dataset_name"]), [], proposed, [])


def _read(original: Path) -> dict[str, Any]:
    try:
        settings = json.loads(original.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{original} cannot be read as JSON: {error}", expected="the original pipeline's config.json"
        ) from None
    problems = []
    if not isinstance(settings, dict):
        raise ConfigError(f"{original} has no JSON object", expected=f"an object with {', '.join(_KEYS)}")
    problems += [f"unknown key {key}{did_you_mean(key, _KEYS)}" for key in settings if key not in _KEYS]
    if not isinstance(settings.get("dataset_name"), str):
        problems.append("no dataset_name")
    tables = settings.get("tables")
    if not isinstance(tables, list) or not tables:
        problems.append("no tables")
    for number, table in enumerate(tables if isinstance(tables, list) else []):
        if not isinstance(table, dict) or not table.get("name") or not table.get("pk"):
            problems.append(f"tables[{number}]: name and pk are required")
            continue
        problems += [
            f"tables[{number}]: unknown key {k}{did_you_mean(k, _TABLE_KEYS)}" for k in table if k not in _TABLE_KEYS
        ]
    names = (
        [table_name(str(t.get("name"))) for t in tables or [] if isinstance(t, dict)]
        if isinstance(tables, list)
        else []
    )
    problems += [f"two tables named {n}" for n in sorted({n for n in names if names.count(n) > 1})]
    if problems:
        raise ConfigError("\n".join(problems), expected=f"an object with {', '.join(_KEYS)}", where=str(original))
    return settings


def _key(table: Mapping[str, Any]) -> list[str]:
    """Return the columns of `pk`: a list, or text with commas."""
    pk = table["pk"]
    return [str(name).strip() for name in (pk if isinstance(pk, list) else str(pk).split(","))]


def _table(name: str, entry: Mapping[str, Any], is_known: bool) -> ProposedTable:
    """Return a table without having seen its file."""
    schema = _LOYALTY_SCHEMAS.get(name, "") if is_known else ""
    columns = dict(part.strip().split(" ") for part in schema.split(",")) if schema else {}
    by_lower = {column.lower(): column for column in columns}
    keys = [by_lower.get(key.lower(), key) for key in _key(entry)]
    unknown = [key for key in keys if key not in columns]
    columns |= dict.fromkeys(unknown, "STRING")
    date_field = str(entry.get("date_field") or "")
    if date_field and date_field.lower() not in {column.lower() for column in columns}:
        columns[date_field] = "TIMESTAMP"
    lake_names = column_names(columns)
    table = ProposedTable(name, str(entry["name"]) if "." in str(entry["name"]) else f"{entry['name']}.csv", "csv")
    sep = _SEPARATORS.get(str(entry.get("sep") or ","), to_option_text(str(entry.get("sep") or ",")))
    if sep != ",":
        table.options["sep"] = sep
    table.columns = [ProposedColumn(lake_names[column], column, kind) for column, kind in columns.items()]
    table.keys = [lake_names[key] for key in keys]
    if not schema:
        table.notes.append(
            "schema: the configuration names the key and the date only; complete the columns, or give the folder with"
            " the files: lakehouse init --from-config config.json SOURCE PIPELINE"
        )
    table.notes.append("keys: from the configuration, not proved")
    return table


def _proposed_tables(
    source: Path, keys: Mapping[str, Sequence[str]], on_table: Callable[[str], None]
) -> list[ProposedTable]:
    """Return the configuration's tables as the files of a folder show them."""
    proposal = propose_tables(source, keys, on_table)
    by_name = {table.name: table for table in proposal.tables}
    if missing := [name for name in keys if name not in by_name]:
        raise ConfigError(f"no file for {', '.join(missing)}", expected="a file of each table", where=str(source))
    tables = [by_name[name] for name in keys]
    for table in tables:
        lake_names = {column.in_files.lower(): column.name for column in table.columns}
        wanted = [lake_names.get(key.lower(), key) for key in keys[table.name]]
        if table.keys and table.keys != wanted and set(table.keys) != set(wanted):
            table.notes.append(
                f"keys: the configuration has {', '.join(wanted)}, which is not unique in every snapshot"
            )
    if all(table.problem for table in tables):
        raise DataRefused("\n".join(f"{table.name}: {table.problem}" for table in tables), where=str(source))
    return tables


def _lake(settings: Mapping[str, Any], name: str) -> str:
    aws = settings.get("aws")
    aws = aws if isinstance(aws, dict) else {}
    bucket, prefix = str(aws.get("bucket") or ""), str(aws.get("prefix") or "").strip("/")
    if not bucket:
        return ""
    root = "/".join(part for part in (f"s3a://{bucket}", prefix) if part)
    return f'"${{LAKE_ROOT:-{root}}}/{name}"'


def _schedule(settings: Mapping[str, Any]) -> list[str]:
    timer = settings.get("timer")
    timer = timer if isinstance(timer, dict) else {}
    unit = str(timer.get("unit") or "").lower()
    letter = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
    value = timer.get("value")
    if letter is None or isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000:
        return ["# timer: not a whole number of seconds, minutes, hours or days; runs repeat every 6h"] if timer else []
    return [f"schedule: {{every: {value}{letter}}}"]


def _notes(settings: Mapping[str, Any]) -> list[str]:
    """Return lines about settings that have another place here."""
    notes = []
    aws, cleanup = settings.get("aws"), settings.get("cleanup")
    if isinstance(aws, dict) and aws.get("region"):
        notes.append(f"aws.region: set AWS_REGION={aws['region']} in the environment or .env.")
    if isinstance(cleanup, dict) and cleanup.get("enabled"):
        kept = cleanup.get("keep_last_n_cdc_files")
        notes.append(f"cleanup kept the last {kept} change files; here `retention: {{change_sets: 90d}}` goes by age.")
    return ["".join(char if char.isprintable() else "?" for char in note) for note in notes]
