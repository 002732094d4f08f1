"""How results look: tables for people on stdout, one JSON document for programs, progress on stderr."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lakehouse import logs
from lakehouse.errors import ExitCode, LakehouseError

if TYPE_CHECKING:
    from lakehouse.models.sql.plan import Plan
    from lakehouse.runner.context import Run
    from lakehouse.runner.outcome import OnOutcome, Outcome, Report
    from lakehouse.verify import Check

_COLOURS = {ExitCode.OK: "", ExitCode.HELD: "yellow"}
_VERDICTS = {"held": "yellow", "rejected": "red", "failed": "red"}
_MAX_REASONS = 10


def _stdout() -> Console:
    return Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 200
    )


def _stderr() -> Console:
    return Console(file=sys.stderr, highlight=False, markup=False, emoji=False)


def _print_json(document: dict[str, Any]) -> None:
    print(json.dumps(document, ensure_ascii=False, indent=1, default=str))


def error(raised: LakehouseError, as_json: bool, log: logs.LogFormat = "text") -> int:
    """Print an error's block; returns its exit code."""
    parts = {k: logs.redact(getattr(raised, k)) for k in ("found", "expected", "where", "next_step")}
    code = int(raised.exit_code)
    if as_json:
        _print_json({"error": parts, "exit_code": code})
    if log == "json":
        logs.create_logger("json").error("failed", exit_code=code, **parts)
    else:
        _stderr().print(Text(logs.redact(raised.to_text()), style="red"), soft_wrap=True)
    return code


def warning(text: str) -> None:
    _stderr().print(Text(f"warning: {text}", style="yellow"), soft_wrap=True)


def progress(outcome: Outcome) -> None:
    """One line as soon as something is done."""
    counts = " ".join(f"{k} {v:,}" for k, v in outcome.counts.items() if v)
    line = f"{outcome.stage:<8} {outcome.name:<28} {outcome.status:<12} {outcome.seconds:6.1f} s  {counts}"
    _stderr().print(Text(line.rstrip(), style=_COLOURS.get(outcome.code, "red")), soft_wrap=True)
    if outcome.note and outcome.code:
        _stderr().print(Text(_indent(outcome.note), style=_COLOURS.get(outcome.code, "red")), soft_wrap=True)


def log_outcomes(log: logs.Log) -> OnOutcome:
    """The same as an event of a log: an error if somebody has to look after it, a warning if a snapshot waits."""

    def told(o: Outcome) -> None:
        tell = log.info if o.code == ExitCode.OK else log.warning if o.code == ExitCode.HELD else log.error
        about = {"table": o.name} if "." not in o.name else {"model": o.name}
        more: dict[str, Any] = {"note": o.note} if o.note else {}
        tell("done", stage=o.stage, **about, status=o.status, **o.counts, seconds=o.seconds, code=int(o.code), **more)

    return told


def report(done: Report, as_json: bool) -> None:
    """The end of a run: what became of each table and model."""
    if as_json:
        _print_json(done.document())
        return
    if done.nothing_new:
        _stdout().print(f"{done.pipeline}: nothing new ({done.seconds:.2f} s)")
        return
    table = Table(title=f"{done.pipeline}, run {done.run_id}", title_justify="left", box=None, pad_edge=False)
    for column in ("stage", "name", "status"):
        table.add_column(column)
    counted = ("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates")
    for column in (*counted, "seconds"):
        table.add_column(column.replace("_", " "), justify="right")
    for o in done.outcomes:
        numbers = [f"{o.counts[c]:,}" if c in o.counts else "" for c in counted]
        table.add_row(o.stage, o.name, o.status, *numbers, f"{o.seconds:.1f}", style=_COLOURS.get(o.code, "red"))
    _stdout().print(table)
    for o in done.outcomes:
        if o.note and (o.code or o.stage in ("extract", "ingest")):
            _stdout().print(f"{o.stage} {o.name} {o.status}:\n{_indent(o.note)}", soft_wrap=True)
    stopped = f", stopped before {done.stopped_before}" if done.stopped_before else ""
    _stdout().print(f"{done.seconds:.1f} s, exit code {int(done.code)}{stopped}")


def schedule(found: dict[str, Any], as_json: bool) -> None:
    """The end of a schedule; each of its rounds has told of itself."""
    if as_json:
        _print_json(found)
    else:
        _stdout().print(f"{found['pipeline']}: {found['rounds']} rounds, exit code {found['exit_code']}")


def validation(run: Run, as_json: bool) -> None:
    models = {name: plan.strategy for name, plan in run.plans.items()}
    if as_json:
        _print_json(
            {"pipeline": run.pipeline.name, "valid": True, "tables": list(run.pipeline.tables), "models": models}
        )
        return
    _stdout().print(f"{run.pipeline.name}: {len(run.pipeline.tables)} tables, {len(models)} models, nothing to mend")


def explanation(plan: Plan, as_json: bool) -> None:
    """How a model is kept up to date; block by block, if by what changed."""
    parts = [
        {
            "block": block.name or plan.model,
            "kind": block.kind,
            "by": [key.output or key.sql for key in block.refresh_key],
            "reads": [source.relation for source in block.sources],
        }
        for block in plan.blocks
    ]
    head = {"model": plan.model, "strategy": plan.strategy, "reason": plan.reason}
    rules = [
        {"rule": r.name, "expects": r.description, "on_fail": r.on_fail, "judges": r.evaluated_rows} for r in plan.rules
    ]
    if as_json:
        _print_json(head | {"keys": list(plan.keys), "inputs": plan.inputs, "blocks": parts, "expectations": rules})
        return
    _stdout().print(f"{plan.model}: {plan.strategy}\n{_indent(plan.reason)}", soft_wrap=True)
    if parts:
        document({"blocks": parts}, False)
    if rules:
        document({"expectations": rules}, False)


def checks(found: list[Check], as_json: bool) -> None:
    """What `verify` found."""
    if as_json:
        _print_json({"checks": [vars(c) for c in found], "failed": sum(c.result == "failed" for c in found)})
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "of", "result", "figures"):
        table.add_column(column, overflow="fold")
    for c in found:
        table.add_row(c.invariant, c.what, c.name, c.result, c.figures, style="red" if c.result == "failed" else "")
    _stdout().print(table)


def document(found: dict[str, Any], as_json: bool) -> None:
    """A view: its plain values as lines, its lists as tables."""
    if as_json:
        _print_json(found)
        return
    out = _stdout()
    for key, value in found.items():
        if not isinstance(value, list):
            shown = _cell_text(value) if isinstance(value, dict) else value
            out.print(f"{key.replace('_', ' ')}: {shown}", soft_wrap=True)
        elif value:
            columns = [c for c in value[0] if any(row[c] not in (None, "", [], {}) for row in value)]
            table = Table(title=key, title_justify="left", box=None, pad_edge=False)
            for column in columns:
                table.add_column(column.replace("_", " "), overflow="fold")
            for row in value:
                table.add_row(*[_cell_text(row[c]) for c in columns])
            out.print(table)


def diff(found: dict[str, Any], as_json: bool) -> None:
    """What `diff` found, a block a table."""
    if as_json:
        _print_json(found)
        return
    for table in found["tables"]:
        _print_table_diff(_stdout(), table)


def _print_table_diff(out: Console, found: dict[str, Any]) -> None:
    style = _VERDICTS.get(found["verdict"], "")
    sides = f", {found['from'] or 'nothing'} -> {found['to']}" if found["to"] else ""
    out.print(Text(f"{found['table']}{sides}: {found['verdict']}", style=f"bold {style}"), soft_wrap=True)
    reasons = [f"quarantined {row['rows']:,}: {row['rule']}, {row['reason']}" for row in found["quarantine"]]
    more = [f"... and {len(reasons) - _MAX_REASONS} other reasons"] if len(reasons) > _MAX_REASONS else []
    changed = f"changed columns: {_cell_text(found['columns'])}" if found["columns"] else ""
    for text in filter(None, (_counts_line(found), changed, *reasons[:_MAX_REASONS], *more, found["note"])):
        out.print(_indent(text), soft_wrap=True)
    if found["reason"]:
        out.print(Text(_indent(found["reason"]), style=style), soft_wrap=True)
    for kind, rows in found["samples"].items():
        if rows:
            out.print(
                _samples_table(
                    kind, [line for row in rows for line in _update_lines(row)] if kind == "updated" else rows
                )
            )
    out.print()


def _counts_line(found: dict[str, Any]) -> str:
    """`5 rows before, 6 read: inserted 1 (20 %), ...`, or nothing where nothing was compared."""
    counts = found["counts"]
    if not counts:
        return ""
    parts = [f"{kind} {counts[kind]:,}{_percent_text(percent)}" for kind, percent in found["percent"].items()]
    return f"{found['rows_before']:,} rows before, {counts['rows_read']:,} read: {', '.join(parts)}"


def _percent_text(percent: float | None) -> str:
    if not percent:
        return ""
    return f" ({percent:.4g} %)" if percent >= 0.01 else " (<0.01 %)"


def _update_lines(update: dict[str, Any]) -> list[dict[str, Any]]:
    """An update as a line a changed column; the key stands on the first."""
    key = ", ".join(map(_value_text, update["key"].values()))
    changed = enumerate(update["changed"].items())
    return [{"key": key if at == 0 else " ", "column": column} | sides for at, (column, sides) in changed]


def _samples_table(kind: str, rows: list[dict[str, Any]]) -> Padding:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(_value_text, row.values()))
    # Not the table's own title: that is wrapped where the table is narrower than it.
    return Padding.indent(Group(Text(f"{kind}, for example", style="table.title"), table), 4)


def _value_text(value: Any) -> str:
    """A value as JSON has it, but text without its quotes where it can be taken for nothing else."""
    return value if isinstance(value, str) and value not in ("", "null") else json.dumps(value, ensure_ascii=False)


def _cell_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _indent(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
