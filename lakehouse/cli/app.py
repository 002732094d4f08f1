"""Defines the command line: `lakehouse VERB PIPELINE [NAME ...] [options]`.

Each command parses its arguments, calls one function, prints the result and returns an exit code. The result goes to
stdout, as tables or, with --json, as one document; progress goes to stderr.
"""

from __future__ import annotations

import getpass
import logging
import os
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lakehouse import __version__, config, failpoints, logs
from lakehouse.cli import explanation, lake, render, snapshot_diff, verbs
from lakehouse.cli.parameters import (
    At,
    Full,
    Json,
    Log,
    Names,
    Pipeline,
    ReplayFrom,
    Rewritten,
    SnapshotTime,
    Table,
    TableOrModel,
    Verbose,
    complete_models,
    complete_names,
)
from lakehouse.cli.progress import show_progress
from lakehouse.config import Retention, yaml_source
from lakehouse.config.layers import MODEL_LAYERS
from lakehouse.errors import ConfigError, ExitCode, worst_exit_code
from lakehouse.models.sql import pipeline_plans
from lakehouse.runner import bug_files, context, expiring, signals, stages
from lakehouse.runner.context import Run
from lakehouse.spark.engine import command as engine_command
from lakehouse.storage import paths
from lakehouse.text import counted

if TYPE_CHECKING:
    from lakehouse.models.expectations import RuleResult

app = typer.Typer(
    cls=verbs.GroupedCommands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120},
)


def main(argv: list[str] | None = None) -> int:
    """Run a command line, and return its exit code.

    Args:
        argv: The arguments; None: those of the process, which may then use a warm engine (lakehouse/spark/engine).
    """
    arguments = sys.argv[1:] if argv is None else argv
    log = _log_format(arguments)
    logs.restore_stderr()
    logs.register_secrets()
    if message := yaml_source.env_file_warning():
        render.warning(message)
    if argv is not None:
        return _run_command(arguments, log)
    with engine_command.command(logs.create_logger(log, logging.INFO)) as command:
        command.exit_code = _run_command(arguments, log)
    return command.exit_code


def _run_command(arguments: list[str], log: logs.LogFormat) -> int:
    as_json = "--json" in arguments
    bug_files.set_current(None)
    try:
        if setting := failpoints.activate_from_environment():
            render.warning(f"{failpoints.VARIABLE}={setting}: this command is broken off on purpose")
        code = app(args=arguments, prog_name="lakehouse", standalone_mode=False)
        return int(code or 0)
    except typer.Exit as done:
        return done.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as raised:
        if hasattr(raised, "format_message"):  # a usage error of click, or of typer's copy of click
            found, where = " ".join(raised.format_message().split()), getattr(raised, "ctx", None)
            next_step = f"{where.command_path if where else 'lakehouse'} --help"
            return render.error(ConfigError(found, next_step=next_step), as_json, log)
        error = bug_files.report_bug(raised, "--verbose" in arguments)
        if opened := bug_files.current():
            error.next_step = context.name_pipeline(error.next_step, opened.pipeline.argument)
        return render.error(error, as_json, log)


def _parse_time(text: str | None) -> datetime | None:
    return None if text is None else paths.parse_time(text)


def _log_format(arguments: list[str]) -> logs.LogFormat:
    """Return the value of `--log`, even if the rest of the command line is wrong."""
    values = [value for option, value in pairwise(arguments) if option == "--log"]
    values += [word.partition("=")[2] for word in arguments if word.startswith("--log=")]
    return "json" if [*values, os.environ.get("LAKEHOUSE_LOG", "")][0] == "json" else "text"


def _open_run(pipeline: str, names: Iterable[str] | None, log: logs.LogFormat, **options: Any) -> Run:
    """Return a run whose progress goes to stderr in a log format."""
    opened = context.open_run(pipeline, names or (), log=logs.create_logger(log), **options)
    opened.on_outcome = render.log_outcomes(opened.log) if log == "json" else render.progress
    return opened


def _run_stages(run: Run, wanted: Iterable[str], as_json: bool, log: logs.LogFormat) -> int:
    rules: list[RuleResult] = []
    with signals.handle_stop_signals() as run.stop_requested:
        if log == "json":
            report = stages.run_stages(run, wanted)
        else:
            run.on_rule_not_met = rules.append  # dozens of rules may be not met: one line for all is easier to read
            with show_progress(run):
                report = stages.run_stages(run, wanted)
        render.report(report, as_json, run.pipeline)
        render.rules_not_met(rules, run.pipeline)
    return report.code


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"lakehouse {__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def first_commands(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Build a change log, a mirror of the source and cubes from full snapshots, on Delta Lake."""
    if context.invoked_subcommand is None:
        print(verbs.first_help())
        raise typer.Exit(ExitCode.USAGE)


@app.command()
def validate(pipeline: Pipeline, as_json: Json = False) -> int:
    """Check the configuration and the models' SQL, without Spark and without changing anything."""
    run = context.open_run(pipeline, reads_lake=False)
    render.validation(run, [*run.warnings, *context.tls_warnings(run.pipeline)], as_json)
    return ExitCode.OK


@app.command()
def run(
    pipeline: Pipeline,
    names: Names = None,
    snapshot_time: SnapshotTime = None,
    full_refresh: Full = False,
    rewritten: Rewritten = False,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="Repeat the run, at the interval `schedule.every`.")
    ] = False,
    log: Log = "text",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Run all stages in order: extract, ingest, bronze, silver, gold, publish."""
    if not schedule:
        opened = _open_run(
            pipeline,
            names,
            log,
            snapshot_time=_parse_time(snapshot_time),
            full_refresh=full_refresh,
            rewritten=rewritten,
            verbose=verbose,
        )
        return _run_stages(opened, stages.STAGES, as_json, log)
    if snapshot_time or full_refresh or rewritten:
        raise ConfigError(
            "--schedule together with --snapshot-time, --full-refresh or --rewritten",
            expected="neither: they are for one run, and each round would do the same work again",
        )
    from lakehouse.runner.schedule import run_schedule

    arguments = ["run", pipeline, *(names or ()), "--log", log]
    arguments += [flag for flag, is_given in (("--json", as_json), ("--verbose", verbose)) if is_given]
    opened = context.open_run(pipeline, names or (), log=logs.create_logger(log, logging.INFO))
    summary = run_schedule(opened, pipeline, arguments, as_json, main)
    render.schedule(summary, as_json)
    return int(summary["exit_code"])


@app.command()
def init(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="[SOURCE]",
            help="A folder with the files of one snapshot, or with a folder YYYYMMDD_HHMMSS for each.",
        ),
    ] = None,
    pipeline: Annotated[
        str | None, typer.Argument(metavar="PIPELINE", help="The folder to write pipeline.yml and its models to.")
    ] = None,
    from_config: Annotated[
        str | None,
        typer.Option("--from-config", metavar="FILE", help="Translate the config.json of the original CDC pipeline."),
    ] = None,
    demo: Annotated[
        str | None, typer.Option("--demo", metavar="DIR", help="Write a small example with two snapshots to DIR.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a pipeline.yml for a folder of files: formats, types, keys and silver models. Starts no JVM."""
    from lakehouse import propose

    paths = [path for path in (source, pipeline) if path is not None]
    wanted = 0 if demo else 1 if from_config else 2
    if (demo and (paths or from_config)) or not wanted <= len(paths):
        raise ConfigError(
            counted(len(paths), "argument")
            + (" with --demo" if demo else " with --from-config" if from_config else ""),
            expected="SOURCE PIPELINE, --from-config FILE [SOURCE] PIPELINE, or --demo DIR",
            next_step="lakehouse init --help",
        )
    on_table = render.reading_table
    if demo:
        document = propose.write_demo(Path(demo))
    elif from_config:
        folder = Path(paths[0]) if len(paths) > 1 else None
        document = propose.init_from_config(Path(from_config), Path(paths[-1]), folder, on_table)
    else:
        document = propose.init_pipeline(Path(paths[0]), Path(paths[1]), on_table=on_table)
    render.proposal(document, as_json)
    return ExitCode.OK


def _run_stage(
    stage: str, pipeline: str, names: Iterable[str] | None, log: logs.LogFormat, as_json: bool, **options: Any
) -> int:
    """Run one stage of a pipeline; the layer of a model may be left out in the stage of its layer."""
    prefix = f"{stage}." if stage in MODEL_LAYERS else ""
    full_names = [name if "." in name else prefix + name for name in names or ()]
    return _run_stages(_open_run(pipeline, full_names, log, **options), (stage,), as_json, log)


def _add_stage_command(stage: str, help_text: str) -> None:
    def command(
        pipeline: Pipeline,
        names: Names = None,
        full_refresh: Full = False,
        log: Log = "text",
        as_json: Json = False,
        verbose: Verbose = False,
    ) -> int:
        return _run_stage(stage, pipeline, names, log, as_json, verbose=verbose, full_refresh=full_refresh)

    app.command(stage, help=help_text)(command)


@app.command()
def extract(
    pipeline: Pipeline,
    names: Names = None,
    snapshot_time: SnapshotTime = None,
    rewritten: Rewritten = False,
    log: Log = "text",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Land the source's new snapshots, as received."""
    options = {"snapshot_time": _parse_time(snapshot_time), "rewritten": rewritten, "verbose": verbose}
    return _run_stage("extract", pipeline, names, log, as_json, **options)


@app.command()
def ingest(
    pipeline: Pipeline,
    names: Names = None,
    full_refresh: Full = False,
    replay_from: ReplayFrom = None,
    log: Log = "text",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Compare each landed snapshot with bronze, and write the changes as a change set."""
    if replay_from and not full_refresh:
        raise ConfigError("--from without --full-refresh", expected="both: --from limits the full refresh")
    options = {"full_refresh": full_refresh, "replay_from": _parse_time(replay_from), "verbose": verbose}
    return _run_stage("ingest", pipeline, names, log, as_json, **options)


_add_stage_command(
    "bronze",
    "Apply the accepted change sets to bronze. With --full-refresh: rebuild it and every model after it, after a"
    " change of `schema` from the landed files.",
)
_add_stage_command("silver", "Bring the silver models up to date with bronze.")
_add_stage_command("gold", "Bring the gold cubes up to date with silver.")
_add_stage_command("publish", "Bring the tables in PostgreSQL up to date with those of the lake.")


@app.command()
def approve(
    pipeline: Pipeline,
    table: Table,
    snapshot: Annotated[str, typer.Argument(metavar="YYYYMMDD_HHMMSS", help="The held, late or changed snapshot.")],
    log: Log = "text",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Accept a held snapshot with the guards off, or put a late or changed one in its place."""
    time = paths.snapshot_time(snapshot)
    if time is None:
        raise ConfigError(f"{snapshot!r} is not a snapshot's time", expected="YYYYMMDD_HHMMSS, as `status` prints it")
    opened = _open_run(pipeline, [table], log, verbose=verbose)
    with show_progress(opened, "approve") if log == "text" else nullcontext():
        report = stages.approve(opened, table, time)
    render.report(report, as_json, opened.pipeline)
    if report.code == ExitCode.OK and not as_json:
        render.next_command(f"run {opened.pipeline.argument}, which applies it")
    return report.code


@app.command()
def expire(
    pipeline: Pipeline,
    names: Names = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Report what would be removed, and remove nothing.")
    ] = False,
    log: Log = "text",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Remove old files and versions by `retention`; `run` does the same once a day."""
    opened = _open_run(pipeline, names, log, dry_run=dry_run, verbose=verbose)
    if opened.pipeline.retention == Retention():
        raise ConfigError(
            "no retention is set: everything is kept",
            expected="retention: {landing: 90d, vacuum: 30d}, or one of them",
            where=str(opened.pipeline.path),
        )
    return _run_stages(opened, (expiring.EXPIRE,), as_json, log)


@app.command()
def status(
    pipeline: Pipeline,
    names: Names = None,
    storage: Annotated[bool, typer.Option("--storage", help="Show the bytes received and stored, too.")] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show what needs attention, with the command to type, and the state of each table and model."""
    from lakehouse.inspect import status as inspect_status

    opened = context.open_run(pipeline, names or (), verbose=verbose)
    with show_progress(opened, "status"):
        document = inspect_status.status(opened, with_storage=storage or as_json)
    lake.status(document, as_json, storage)
    return ExitCode.OK


@app.command()
def report(
    pipeline: Pipeline,
    names: Names = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FILE", help="Where to write the page; by default artifacts/<pipeline>-report.html."
        ),
    ] = None,
    language: Annotated[Literal["en", "pt"], typer.Option("--lang", help="The page's language.")] = "en",
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show the lake on one HTML page: flow, freshness, changes, quality, quarantine, cubes and lineage."""
    from lakehouse import report as reports

    opened = context.open_run(pipeline, names or (), verbose=verbose)
    with show_progress(opened, "report"):
        document = reports.report(opened, out, language)
    render.document(document, as_json)
    return ExitCode.OK


@app.command()
def history(pipeline: Pipeline, table: Table, as_json: Json = False, verbose: Verbose = False) -> int:
    """Show every decision about a table's snapshots, oldest first."""
    from lakehouse.inspect import status as inspect_status

    opened = context.open_run(pipeline, [table], checks_models=False, verbose=verbose)
    name = inspect_status.single_table(opened)
    with show_progress(opened, "history"):
        document = inspect_status.history(opened, name)
    lake.history(document, as_json)
    return ExitCode.OK


@app.command()
def quarantine(
    pipeline: Pipeline,
    table: TableOrModel,
    limit: Annotated[
        int | None,
        typer.Option("--limit", min=0, metavar="N", help="The most rows to show; 20 unless given, with --json 1000."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show for which reasons rows of a table or model wait to be corrected, and the newest rows."""
    from lakehouse.inspect import status as inspect_status

    opened = context.open_run(pipeline, [table], checks_models=False, verbose=verbose)
    name = inspect_status.single_table(opened, allow_model=True)
    with show_progress(opened, "quarantine"):
        document = inspect_status.quarantined_rows(opened, name, limit if limit is not None or as_json else 20)
    lake.quarantine(document, as_json)
    return ExitCode.OK


@app.command()
def show(
    pipeline: Pipeline,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A table (clientes) or a model (silver.clientes, gold.churn).",
            autocompletion=complete_names,
        ),
    ],
    limit: Annotated[int, typer.Option("--limit", min=0, metavar="N", help="The most rows to show.")] = 10,
    at: At = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show the counts and the first rows of a table or model."""
    opened = context.open_run(pipeline, checks_models=False, verbose=verbose)
    from lakehouse.inspect import query

    with show_progress(opened, "show"):
        document = query.show(opened, name, limit, _parse_time(at))
    lake.show(document, as_json)
    return ExitCode.OK


@app.command()
def sql(
    pipeline: Pipeline,
    query: Annotated[str, typer.Argument(metavar="SELECT", help="One SELECT in DuckDB's dialect; -: read from stdin.")],
    limit: Annotated[
        int, typer.Option("--limit", min=0, metavar="N", help="The most rows to print; --out writes all.")
    ] = 1000,
    at: At = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="Write the rows to FILE.csv or FILE.parquet.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Run a SELECT over the tables of the lake, such as bronze.clientes or gold.churn; nothing is changed."""
    opened = context.open_run(pipeline, checks_models=False, verbose=verbose)
    from lakehouse.inspect import query as queries

    text = sys.stdin.read() if query == "-" else query
    with show_progress(opened, "sql"):
        document = queries.run_query(opened, text, limit, _parse_time(at), out)
    lake.query(document, as_json)
    return ExitCode.OK


@app.command()
def why(
    pipeline: Pipeline,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A model (gold.churn, silver.clientes) or a table (clientes).",
            autocompletion=complete_names,
        ),
    ],
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY",
            help="The key; of several columns: a=1,b=2, with a=NULL for a null. -: read from standard input.",
        ),
    ],
    column: Annotated[
        str | None, typer.Argument(metavar="[COLUMN]", help="Only what this column is computed from.")
    ] = None,
    limit: Annotated[
        int,
        typer.Option(
            "--limit", min=1, metavar="N", help="The most rows to show of each input for each row; the most changes."
        ),
    ] = 20,
    between: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--between", metavar="TIME TIME", help="Which source changes made its difference between two times."
        ),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show which rows made a row, down to bronze, with the snapshot, landed file and line of each."""
    opened = context.open_run(pipeline, verbose=verbose)
    from lakehouse.inspect import query as queries
    from lakehouse.inspect import why as explaining

    relation, columns = queries.resolve_name(opened, model), None
    if between is not None:
        words = _read_key() if key == "-" else [key]
        with show_progress(opened, "why"):
            document = explaining.why_between(opened, relation, words, column, between, limit)
        explanation.why_between(document, as_json)
        return ExitCode.OK
    if column is not None:
        from lakehouse.report.lineage import relation_columns

        known = relation_columns(opened.pipeline, opened.plans)
        columns = explaining.bearing_columns(relation, column, known, opened.plans)
    words = _read_key() if key == "-" else [key]
    with show_progress(opened, "why"):
        document = explaining.why(opened, relation, words, columns, limit)
    explanation.why(document, as_json)
    return ExitCode.OK


@app.command("test")
def run_model_tests(
    pipeline: Pipeline,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Only cases of these models, files or names; with --cut, the key."),
    ] = None,
    cut: Annotated[
        str | None,
        typer.Option("--cut", metavar="MODEL", help="Write a case with one row of a model, by its key, from the lake."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Run the test cases of the models, tests/*.yml beside the pipeline: rows given, rows expected."""
    opened = context.open_run(pipeline, verbose=verbose)
    from lakehouse.inspect import cases

    if cut is None:
        cases.read_cases(opened.pipeline, opened.plans, names or ())  # raises before a session starts
        from lakehouse.inspect import model_tests

        on_case = (lambda _: None) if as_json else lake.test_case
        document = model_tests.run_tests(opened, names or (), on_case)
        lake.tests(document, as_json)
        return int(document["exit_code"])
    from lakehouse.inspect import cut_case
    from lakehouse.report.lineage import relation_columns

    columns = relation_columns(opened.pipeline, opened.plans)
    personal = {name: frozenset(c.name for c in listed if c.is_personal) for name, listed in columns.items()}
    with show_progress(opened, "test"):
        document = cut_case.cut_case(opened, cut, names or [], personal)
    render.document(document, as_json)
    return ExitCode.OK


@app.command()
def forget(
    pipeline: Pipeline,
    table: Table,
    key: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY...",
            help="The key; of several columns: a=1 b=2; with keys: all, any columns. -: read from standard input.",
        ),
    ],
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Remove old file versions at once, as far as retention allows.")
    ] = False,
    lift: Annotated[bool, typer.Option("--lift", help="Let a forgotten key in again; nothing is erased.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be erased; nothing is written.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask. Without a terminal, or with --json, nothing is asked.")
    ] = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Erase all rows of a key from every layer, landing included, and ignore them in later snapshots."""
    from lakehouse.forget import find_key, forget_key, lift_key

    if lift and (dry_run or vacuum):
        raise ConfigError("--lift erases nothing", expected="--lift without --dry-run and --vacuum")
    opened = context.open_run(pipeline, [table], verbose=verbose, on_outcome=render.progress)  # raises if there is none
    opened.names = ()  # the key is erased from the models after the table, too
    if key == ["-"]:
        key = _read_key()
    has_to_ask = not (lift or yes or as_json) and sys.stdin.isatty() and sys.stderr.isatty()
    with show_progress(opened, "forget"):
        if dry_run or has_to_ask:
            result = find_key(opened, table, key)
        else:
            result = lift_key(opened, table, key) if lift else forget_key(opened, table, key, vacuum)
    render.document(result, as_json)
    if dry_run or not has_to_ask:
        return int(result["exit_code"])
    if not typer.confirm("Erase these rows? They cannot be brought back", err=True):
        raise ConfigError("not confirmed: nothing was erased", expected="y, or --yes")
    with show_progress(opened, "forget"):
        result = forget_key(opened, table, key, vacuum, result["found"])
    render.document(result, as_json)
    return int(result["exit_code"])


def _read_key() -> list[str]:
    """Return a key from standard input, so that it is in no process list and no history of a shell."""
    text = getpass.getpass("KEY: ") if sys.stdin.isatty() else sys.stdin.read()
    lines = [line for line in text.splitlines() if line]
    if not lines:
        raise ConfigError(
            "no key on standard input", expected="the key in one line; of several columns: a=1 and b=2, one in a line"
        )
    return lines


@app.command()
def diff(
    pipeline: Pipeline,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Only these tables (clientes) or, with --from and --to, models (silver.clientes).",
            autocompletion=complete_names,
        ),
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="With --to: compare the lake at two times, YYYYMMDD_HHMMSS or ISO. Alone: the landed snapshot to start"
            " from, in place of bronze.",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="TIME",
            help="The later time. Alone: the landed snapshot to compare, in place of the source's newest.",
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=0, metavar="N", help="Rows to show of each kind of change.")
    ] = 5,
    html: Annotated[
        str | None,
        typer.Option("--html", metavar="FILE", help="Write a page, too, on which changed cells are marked."),
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> int:
    """Show what the newest snapshot would change and whether it would be held, or what changed between two times."""
    from lakehouse import report as reports
    from lakehouse.inspect import diff as inspect_diff

    if html is not None:
        reports.require_diff_page(html)  # before anything is compared
    tables = [name.removeprefix("bronze.") for name in names or ()]
    opened = context.open_run(pipeline, tables, checks_models=False, verbose=verbose)
    with show_progress(opened, "diff"):
        result = inspect_diff.compare_snapshots(opened, from_, to, samples)
    if html is not None:
        reports.write_diff_page(opened, result, html)
        result["html"] = html
    snapshot_diff.diff(result, as_json)
    return int(result["exit_code"])


@app.command()
def connect(
    action: Annotated[
        Literal["apply", "status", "compact"],
        typer.Argument(
            metavar="ACTION",
            help="apply: register and start the connectors; status: show their state; compact: remove from the objects"
            " on S3 what later lines have replaced.",
        ),
    ],
    pipeline: Pipeline,
    as_json: Json = False,
) -> int:
    """Register the connectors to Kafka and S3 with Kafka Connect, show their state, or compact the sink's objects."""
    from lakehouse.publish.kafka_connect import compact as compacting
    from lakehouse.publish.kafka_connect import connectors as connecting

    opened = config.load(pipeline)
    logs.register_secrets(opened)
    logs.log_retries(logs.create_logger())
    actions = {"apply": connecting.apply, "status": connecting.status, "compact": compacting.compact}
    result = actions[action](opened)
    render.document(logs.redact_document(result), as_json)
    return int(result["exit_code"])


@app.command()
def engine(
    action: Annotated[
        Literal["status", "stop"],
        typer.Argument(metavar="ACTION", help="status: show the engines; stop: end those that no command uses."),
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Stop the engines in use too; their commands fail with exit code 3.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Show or stop the warm engines: JVMs that earlier commands have left for later ones (LAKEHOUSE_ENGINE=on|off)."""
    from lakehouse.spark.engine import overview

    if action == "status":
        render.engines(overview.status(), as_json)
        return ExitCode.OK
    result = overview.stop(force)
    render.engines(result, as_json)
    return ExitCode.BUSY if result["in_use"] else ExitCode.OK


@app.command()
def explain(
    pipeline: Pipeline,
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A model, such as gold.resumo_diario.", autocompletion=complete_models),
    ],
    as_json: Json = False,
) -> int:
    """Show how a model is refreshed and why, and the columns of bronze that its columns come from. Starts no JVM."""
    render.explanation(*pipeline_plans.load_plan(pipeline, model), as_json)
    return ExitCode.OK


@app.command()
def verify(pipeline: Pipeline, names: Names = None, as_json: Json = False, verbose: Verbose = False) -> int:
    """Check the invariants of the lake, and print each check with its figures."""
    from lakehouse import verify as checks

    opened = context.open_run(pipeline, names or (), verbose=verbose)
    with show_progress(opened, "verify"), context.lock_lake(opened, "verify"):
        results = checks.verify(opened)
    render.checks(results, as_json)
    has_failed = any(check.result == "failed" for check in results)
    return ExitCode.REFUSED if has_failed else worst_exit_code(check.code for check in results)


@app.command()
def doctor(
    pipeline: Pipeline,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Do the repairs that lose nothing: remove what killed commands left and expendable files that cannot"
            " be read, and prepare damaged tables to be computed again by the next run.",
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Find what keeps a pipeline from running, on this machine, in its settings and in its lake. Starts no JVM."""
    from lakehouse.cli.examination import examination
    from lakehouse.doctor import examine

    result = examine(pipeline, fix)
    examination(result, as_json)
    return result.exit_code


verbs.add_help(app)
