"""Defines the arguments and options that several commands have, and completes names of tables and models in a shell."""

from __future__ import annotations

from typing import Annotated

import typer

from lakehouse import config, logs
from lakehouse.errors import LakehouseError


def complete_tables(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tables that a shell may complete to."""
    return [name for name in complete_names(context, incomplete) if "." not in name]


def complete_models(context: typer.Context, incomplete: str) -> list[str]:
    """Return the models that a shell may complete to."""
    return [name for name in complete_names(context, incomplete) if "." in name]


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the tables and models that a shell may complete to; none while the pipeline has an error."""
    try:
        pipeline = config.load(str(context.params.get("pipeline")))
    except (LakehouseError, OSError):
        return []
    return [name for name in (*pipeline.tables, *pipeline.model_names) if name.startswith(incomplete)]


Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="A folder with pipeline.yml, or that file.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...",
        help="Only these tables (clientes) or models (silver.clientes).",
        autocompletion=complete_names,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable document on stdout.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="Print Spark's own output and full traces on stderr.")]
SnapshotTime = Annotated[
    str | None,
    typer.Option(
        "--snapshot-time",
        "--as-of",
        metavar="TIME",
        help="The time of a snapshot that has none of its own: YYYYMMDD_HHMMSS, or an ISO time. Earlier name: --as-of.",
    ),
]
Rewritten = Annotated[
    bool,
    typer.Option(
        "--rewritten",
        help="If the history of the git repository was rewritten: take the commits after the common ancestor.",
    ),
]
Full = Annotated[
    bool, typer.Option("--full-refresh", help="Rebuild the named tables and models from the layer before.")
]
ReplayFrom = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TIME",
        help="With --full-refresh: decide again about the snapshots from this time on only (YYYYMMDD_HHMMSS).",
    ),
]
Log = Annotated[
    logs.LogFormat,
    typer.Option(
        "--log", envvar="LAKEHOUSE_LOG", help="The form of stderr: text for people, or json with one object per line."
    ),
]
TableOrModel = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A table, or a model (silver.clientes).", autocompletion=complete_names),
]
Table = Annotated[str, typer.Argument(metavar="TABLE", help="A table of the pipeline.", autocompletion=complete_tables)]
At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="TIME", help="Read tables and models as they were at a time: YYYYMMDD_HHMMSS, or an ISO time."
    ),
]
