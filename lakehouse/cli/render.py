"""Prints results: tables for people on stdout, or one JSON document for programs; progress goes to stderr."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lakehouse import logs
from lakehouse.cli.console import cell_text, indent, print_json, print_rows, stderr, stdout
from lakehouse.errors import ExitCode, LakehouseError
from lakehouse.lake.cdc import COUNT_COLUMNS
from lakehouse.text import counted

if TYPE_CHECKING:
    from lakehouse.config import Pipeline
    from lakehouse.models.expectations import RuleResult
    from lakehouse.models.sql.plan import Plan
    from lakehouse.models.sql.resolve import Origin
    from lakehouse.runner.context import Run
    from lakehouse.runner.outcome import OnOutcome, Outcome, Report
    from lakehouse.verify import Check

_COLOURS = {ExitCode.OK: "", ExitCode.HELD: "yellow"}
_RULE_EFFECTS = {"quarantine": "put rows in quarantine", "drop": "drop rows", "warn": "only warn"}
_MAX_NOTE = 500


def error(raised: LakehouseError, as_json: bool, log: logs.LogFormat = "text") -> int:
    """Print an error, and return its exit code."""
    parts = {name: logs.redact(getattr(raised, name)) for name in ("found", "expected", "where", "next_step")}
    code = int(raised.exit_code)
    if as_json:
        print_json({"error": parts, "exit_code": code})
    if log == "json":
        kept = {"found": logs.redact(raised.kept)}  # a log is kept
        logs.create_logger("json").error("failed", exit_code=code, **parts | kept)
    else:
        stderr().print(Text(logs.redact(raised.to_text()), style="red"), soft_wrap=True)
    return code


def warning(text: str) -> None:
    """Print a warning on stderr."""
    stderr().print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def progress(outcome: Outcome, console: Console | None = None) -> None:
    """Print one line on stderr for the outcome of a table or model, and its note if it did not succeed."""
    out = console or stderr()
    counts = " ".join(f"{name} {count:,}" for name, count in outcome.counts.items() if count)
    line = f"{outcome.stage:<8} {outcome.name:<28} {outcome.status:<12} {outcome.seconds:6.1f} s  {counts}"
    style = _COLOURS.get(outcome.code, "red")
    out.print(Text(line.rstrip(), style=style), soft_wrap=True)
    if outcome.note and outcome.code:
        out.print(Text(indent(outcome.note), style=style), soft_wrap=True)


def log_outcomes(log: logs.Log) -> OnOutcome:
    """Return a callback that logs outcomes: an error if one failed, a warning if a snapshot waits for approval."""

    def log_outcome(outcome: Outcome) -> None:
        levels = {ExitCode.OK: log.info, ExitCode.HELD: log.warning}
        note = outcome.document(is_kept=True)["note"]
        levels.get(outcome.code, log.error)(
            "done",
            stage=outcome.stage,
            **{"model" if "." in outcome.name else "table": outcome.name},
            status=outcome.status,
            **outcome.counts,
            seconds=outcome.seconds,
            code=int(outcome.code),
            **({"note": note} if note else {}),
        )

    return log_outcome


def report(done: Report, as_json: bool, pipeline: Pipeline | None = None) -> None:
    """Print the report of a run: the outcome of each table and model, and the next command if one needs a decision."""
    if as_json:
        print_json(done.document())
        return
    out = stdout()
    if done.nothing_new:
        out.print(f"{done.pipeline}: nothing new ({done.seconds:.2f} s)")
        return
    out.print(Text(f"{done.pipeline}, run {done.run_id}", style="table.title"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    columns = [column for column in COUNT_COLUMNS if any(outcome.counts.get(column) for outcome in done.outcomes)]
    for column in ("stage", "name", "status"):
        table.add_column(column)
    for column in (*columns, "seconds"):
        table.add_column(column.replace("_", " "), justify="right")
    for outcome in done.outcomes:
        counts = [f"{outcome.counts[c]:,}" if c in outcome.counts else "" for c in columns]
        cells = (outcome.stage, outcome.name, outcome.status, *counts, f"{outcome.seconds:.1f}")
        table.add_row(*cells, style=_COLOURS.get(outcome.code, "red"))
    out.print(table)
    shown_before = _is_one_destination()  # then the note of a failure is above, where `progress` has printed it
    for outcome in done.outcomes:
        is_failure = bool(outcome.code)
        if outcome.note and (not shown_before if is_failure else outcome.stage in ("extract", "ingest")):
            out.print(f"{outcome.stage} {outcome.name} {outcome.status}:\n{indent(outcome.note)}", soft_wrap=True)
    stopped = f", stopped before {done.stopped_before}" if done.stopped_before else ""
    out.print(f"{done.seconds:.1f} s, exit code {int(done.code)}{stopped}")
    if pipeline and done.code in (ExitCode.HELD, ExitCode.REFUSED):
        next_command(f"status {pipeline.argument}")


def next_command(command: str) -> None:
    """Print the next command to type, without `lakehouse`."""
    stdout().print(f"next: lakehouse {command}", soft_wrap=True)


def _is_one_destination() -> bool:
    """Return whether stdout and stderr go to one terminal or file, so that nothing has to be printed on both."""
    try:
        return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
    except (OSError, ValueError):  # no file, as in a notebook
        return False


def rules_not_met(results: list[RuleResult], pipeline: Pipeline) -> None:
    """Print on stderr that expectations are not met, which the pipeline allows, and how to list them."""
    if not results:
        return
    policies = Counter(result.on_fail for result in results)
    effects = ", ".join(f"{count} {_RULE_EFFECTS[policy]}" for policy, count in policies.items())
    rules = counted(len(results), "expectation is", "expectations are")
    text = f"{rules} not met ({effects}); the run goes on. To list them: lakehouse status {pipeline.argument}"
    stderr().print(text, soft_wrap=True)


def schedule(summary: dict[str, Any], as_json: bool) -> None:
    """Print the end of a schedule; each round has printed its own report."""
    if as_json:
        print_json(summary)
    else:
        stdout().print(
            f"{summary['pipeline']}: {counted(summary['rounds'], 'round')}, exit code {summary['exit_code']}"
        )


def validation(run: Run, warnings: list[str], as_json: bool) -> None:
    """Print that a pipeline is valid, with its tables and models, and its warnings."""
    name, tables = run.pipeline.name, list(run.pipeline.tables)
    models = {model: plan.strategy for model, plan in run.plans.items()}
    for text in warnings:
        warning(text)
    if as_json:
        document = {"pipeline": name, "valid": True, "tables": tables, "models": models, "warnings": warnings}
        print_json(document)
        return
    stdout().print(f"{name} is valid: {counted(len(tables), 'table')}, {counted(len(models), 'model')}")


def explanation(plan: Plan, sources: Mapping[str, Iterable[Origin]], as_json: bool) -> None:
    """Print how a model is refreshed: its strategy, the reason, the blocks of an incremental one, columns and rules.

    Args:
        plan: The model's plan.
        sources: The columns of bronze that each column's value comes from.
        as_json: Whether to print one document.
    """
    blocks = [
        {
            "block": block.name or plan.model,
            "kind": block.kind,
            "by": [key.output or key.sql for key in block.refresh_key],
            "reads": [source.relation for source in block.sources],
        }
        for block in plan.blocks
    ]
    rules = [
        {"rule": rule.name, "expects": rule.description, "on_fail": rule.on_fail, "judges": rule.evaluated_rows}
        for rule in plan.rules
    ]
    columns = [{"column": name, "from": [".".join(origin) for origin in origins]} for name, origins in sources.items()]
    if as_json:
        summary = {"model": plan.model, "strategy": plan.strategy, "reason": plan.reason}
        details = {"keys": list(plan.keys), "inputs": plan.inputs, "blocks": blocks, "columns": columns}
        print_json(summary | details | {"expectations": rules})
        return
    stdout().print(f"{plan.model}: {plan.strategy}\n{indent(plan.reason)}", soft_wrap=True)
    for title, rows in (("blocks", blocks), ("columns", columns), ("expectations", rules)):
        if rows:
            document({title: rows}, False)


def checks(results: list[Check], as_json: bool) -> None:
    """Print the checks of `verify`."""
    if as_json:
        failed = sum(check.result == "failed" for check in results)
        print_json({"checks": [vars(check) for check in results], "failed": failed})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "of", "result", "figures"):
        table.add_column(column, overflow="fold")
    for check in results:
        style = "red" if check.result == "failed" else ""
        table.add_row(check.invariant, check.what, check.name, check.result, check.figures, style=style)
    out = stdout()
    out.print(table)
    counts = Counter("hold" if check.result == "holds" else check.result for check in results)
    out.print(f"{counted(len(results), 'check')}: {', '.join(f'{count} {result}' for result, count in counts.items())}")


def document(content: dict[str, Any], as_json: bool) -> None:
    """Print a document: plain values as lines, lists as tables."""
    if as_json:
        print_json(content)
        return
    out = stdout()
    for key, value in content.items():
        if not isinstance(value, list):
            shown = cell_text(value) if isinstance(value, dict) else value
            out.print(f"{key.replace('_', ' ')}: {shown}", soft_wrap=True)
        elif value:
            print_rows(out, key, value)


def reading_table(name: str) -> None:
    """Print on stderr that the files of a table are read, which may take minutes."""
    stderr().print(f"reading {name}", soft_wrap=True)


def proposal(content: dict[str, Any], as_json: bool) -> None:
    """Print what `init` has written: a line for each table, then the doubts, and the next command."""
    if as_json:
        print_json(content)
        return
    from lakehouse.propose.sources import shown

    def visible(text: str) -> str:
        return shown(text, limit=_MAX_NOTE)

    out = stdout()
    out.print(f"{content['pipeline']} is written", soft_wrap=True)
    tables = content.get("tables", [])
    if tables:
        table = Table(box=None, pad_edge=False)
        for column in ("table", "file", "rows", "columns", "options", "keys"):
            table.add_column(column, overflow="fold", justify="right" if column in ("rows", "columns") else "left")
        for each in tables:
            counts = [count for count in each["rows"] if count is not None]
            options = ", ".join(f"{name}: {value}" for name, value in each["options"].items())
            keys = ", ".join(each["keys"]) if each["written"] else "left out"
            cells = (each["table"], visible(each["file"]), f"{sum(counts):,}", str(len(each["columns"])), options, keys)
            table.add_row(*map(Text, cells), style="" if each["written"] else "yellow")
        out.print(table)
    for each in tables:
        notes = [*each["notes"], *(f"{c['in_files']}: {note}" for c in each["columns"] for note in c["notes"])]
        for note in [*filter(None, [each["problem"]]), *notes]:
            out.print(Text(f"  {each['table']}: {visible(note)}"), soft_wrap=True)
    for text in content.get("warnings", []):
        warning(visible(text))
    out.print(f"next: {content['next']}", soft_wrap=True)


def engines(content: dict[str, Any], as_json: bool) -> None:
    """Print lists of warm engines, or that there are none."""
    if not as_json and not any(content.values()):
        stdout().print("no engines")
        return
    if not as_json:
        columns = (
            "id",
            "state",
            "jvm",
            "command",
            "commands",
            "idle_since",
            "memory",
            "heap",
            "data",
            "storage",
            "java",
        )
        content = {
            name.replace("_", " "): [{column: _engine_cell(engine, column) for column in columns} for engine in engines]
            for name, engines in content.items()
        }
    document(content, as_json)


def _engine_cell(engine: dict[str, Any], column: str) -> Any:
    if f"{column}_bytes" in engine:
        return f"{engine[f'{column}_bytes'] >> 20} MB"
    return engine.get(column)
