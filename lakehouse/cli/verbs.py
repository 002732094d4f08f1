"""Describes the verbs for people: in which group each is listed, examples, and the exit codes that it can end with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

DAILY, LOOK, REPAIR, RARE = "daily", "look", "repair", "rare"
GROUPS = {
    DAILY: "Daily (bring the lake up to date)",
    LOOK: "Look (what is there, what changed, what needs attention)",
    REPAIR: "Repair (decide, check, do one stage again)",
    RARE: "Rare (begin, erase, keep house)",
}
EXIT_CODES = {
    0: "done, or nothing to do",
    1: "a bug",
    2: "usage or configuration",
    3: "storage, network or a server failed: the same command may succeed later",
    4: "a snapshot is held for approval",
    5: "data was refused, or a check failed",
    6: "another run has locked the lake",
}
FIRST_VERBS = {
    "init SOURCE PIPELINE": "write a pipeline for a folder of CSV, JSON or Parquet files",
    "run PIPELINE": "bring everything up to date: run it again whenever there is a new snapshot",
    "status PIPELINE": "see what needs attention, and the state of each table",
    "diff PIPELINE": "see what the newest snapshot changes, before or after a run",
    "sql PIPELINE 'SELECT ...'": "ask a question of the lake's tables",
}


@dataclass(frozen=True)
class Verb:
    """The parts of a verb's help beside its arguments.

    Attributes:
        group: One of `GROUPS`.
        codes: The exit codes that it can end with, beside 0 and 1.
        examples: Commands.
        meanings: The meanings of exit codes that are different for this verb.
    """

    group: str
    codes: str
    examples: tuple[str, ...]
    meanings: Mapping[int, str] = field(default_factory=dict)


def _verb(group: str, codes: str, *examples: str, **meanings: str) -> Verb:
    texts = {int(code.removeprefix("code_")): text for code, text in meanings.items()}
    return Verb(group, codes, tuple(f"lakehouse {example}" for example in examples), texts)


VERBS: Mapping[str, Verb] = {
    "run": _verb(DAILY, "23456", "run conf/loyalty", "run conf/loyalty clientes silver.clientes --json"),
    "validate": _verb(DAILY, "2", "validate conf/loyalty"),
    "test": _verb(DAILY, "235", "test conf/loyalty", "test conf/loyalty --cut gold.churn 2025-10-03"),
    "status": _verb(LOOK, "23", "status conf/loyalty", "status conf/loyalty --storage"),
    "diff": _verb(LOOK, "235", "diff conf/loyalty clientes", "diff conf/loyalty clientes --from 20251003_170552"),
    "show": _verb(LOOK, "235", "show conf/loyalty clientes", "show conf/loyalty gold.churn --limit 3"),
    "sql": _verb(
        LOOK,
        "235",
        'sql conf/loyalty "SELECT count(*) FROM bronze.clientes"',
        'sql conf/loyalty "FROM gold.churn" --out churn.csv',
    ),
    "why": _verb(
        LOOK,
        "235",
        "why conf/loyalty gold.churn 2025-10-03",
        "why conf/tesouro gold.variacao_diaria data_base=2025-10-03,tipo_titulo=...,data_vencimento=2031-01-01",
        code_5="no row has the key",
    ),
    "history": _verb(LOOK, "23", "history conf/loyalty clientes"),
    "quarantine": _verb(LOOK, "23", "quarantine conf/loyalty clientes --limit 5"),
    "explain": _verb(LOOK, "2", "explain conf/loyalty gold.churn"),
    "report": _verb(LOOK, "23", "report conf/loyalty --out report.html"),
    "approve": _verb(REPAIR, "2356", "approve conf/loyalty clientes 20251004_095645"),
    "verify": _verb(REPAIR, "2356", "verify conf/loyalty"),
    "doctor": _verb(
        REPAIR, "2356", "doctor conf/loyalty", "doctor conf/loyalty --fix", code_6="--fix, while a run has the lake"
    ),
    "extract": _verb(REPAIR, "2356", "extract conf/loyalty"),
    "ingest": _verb(REPAIR, "23456", "ingest conf/loyalty clientes", "ingest conf/loyalty clientes --full-refresh"),
    "bronze": _verb(REPAIR, "2356", "bronze conf/loyalty clientes --full-refresh"),
    "silver": _verb(REPAIR, "2356", "silver conf/loyalty clientes"),
    "gold": _verb(REPAIR, "2356", "gold conf/loyalty churn --full-refresh"),
    "publish": _verb(REPAIR, "2356", "publish conf/tesouro"),
    "init": _verb(RARE, "235", "init downloads conf/shop", "init --demo demo"),
    "forget": _verb(
        RARE,
        "2356",
        "forget conf/loyalty clientes 000ff655-7a9f-4baa-b108-413f581399ef --dry-run",
        "forget conf/loyalty clientes 000ff655-7a9f-4baa-b108-413f581399ef --yes",
    ),
    "expire": _verb(RARE, "2356", "expire conf/loyalty --dry-run"),
    "connect": _verb(
        RARE, "235", "connect apply conf/tesouro", "connect status conf/tesouro", "connect compact conf/tesouro"
    ),
    "engine": _verb(RARE, "26", "engine status", "engine stop", code_6="a command uses an engine; --force ends it"),
}


class Command(TyperCommand):
    """Shows arguments by their names only: `PIPELINE [NAME]...`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage."""
        pieces = [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]
        return [re.sub(r"\[(\[\w+\])(?:\.\.\.)?\](\.\.\.)?|(\w+\.\.\.)\.\.\.", r"\1\2\3", piece) for piece in pieces]

    def help_records(self, ctx: Any, kind: str) -> list[tuple[str, str]]:
        """Return each argument or option with its meaning.

        Args:
            ctx: The context of the command.
            kind: argument or option.
        """
        records = [p.get_help_record(ctx) for p in self.get_params(ctx) if p.param_type_name == kind]
        return [(re.sub(r" <(?:str|list\[str\])>$", "", record[0]), record[1]) for record in records if record]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and options."""
        for kind in ("argument", "option"):
            if records := self.help_records(ctx, kind):
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(records)


class GroupedCommands(TyperGroup):
    """Lists the commands in groups, those that one needs most first."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands of each group, with their first sentences."""
        formatter.write_paragraph()
        formatter.write("Commands:\n")
        width = formatter.width - max(map(len, self.commands)) - 6
        for group, title in GROUPS.items():
            rows = [
                (name, self.commands[name].get_short_help_str(width))
                for name, verb in VERBS.items()
                if verb.group == group and name in self.commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows, col_max=20)


def first_help() -> str:
    """Return the output of `lakehouse` alone: the commands that one needs first."""
    width = max(map(len, FIRST_VERBS))
    lines = [f"  lakehouse {usage:<{width}}  {text}" for usage, text in FIRST_VERBS.items()]
    return "\n".join(
        [
            "Snapshots of tables become a change log, a mirror and cubes. The commands that one needs first:",
            "",
            *lines,
            "",
            "lakehouse --help lists all commands, lakehouse VERB --help has examples and exit codes;",
            "lakehouse init --demo DIR writes an example to play with.",
        ]
    )


def add_help(app: typer.Typer) -> None:
    """Add its group, examples and exit codes to the help of each command.

    Args:
        app: The commands.
    """
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        verb = VERBS[name]
        command.rich_help_panel, command.cls = GROUPS[verb.group], Command
        examples = "\n".join(f"  {example}" for example in verb.examples)
        meanings = {**EXIT_CODES, **verb.meanings}
        codes = "\n".join(f"  {code}  {meanings[code]}" for code in sorted({0, 1, *map(int, verb.codes)}))
        # \b: a block whose lines stay as they are.
        command.epilog = f"\b\nExamples:\n{examples}\n\n\b\nExit codes:\n{codes}"
