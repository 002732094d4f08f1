"""The help of the command line: the first commands, groups, examples and exit codes; and errors are printed once."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from lakehouse import __version__
from lakehouse.cli import lake, render, snapshot_diff
from lakehouse.cli.app import app, main
from lakehouse.cli.verbs import EXIT_CODES, FIRST_VERBS, GROUPS, VERBS
from lakehouse.errors import ExitCode
from lakehouse.propose.demo import write_demo
from lakehouse.runner import stages
from lakehouse.runner.outcome import Outcome, Report

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
Capture = pytest.CaptureFixture[str]


def test_without_a_command_the_first_five_are_shown(capsys: Capture) -> None:
    assert main([]) == ExitCode.USAGE

    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("  lakehouse ")] == [
        usage.split()[0] for usage in FIRST_VERBS
    ]
    assert len(FIRST_VERBS) == 5
    assert {usage.split()[0] for usage in FIRST_VERBS} <= COMMANDS.keys()


def test_the_version_is_printed(capsys: Capture) -> None:
    assert main(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out == f"lakehouse {__version__}\n"


def test_every_command_is_in_one_group_of_the_help(capsys: Capture) -> None:
    assert VERBS.keys() == COMMANDS.keys()
    main(["--help"])

    out = capsys.readouterr().out
    assert [out.index(title) for title in GROUPS.values()] == sorted(out.index(title) for title in GROUPS.values())
    assert [out.count(f"\n  {name} ") for name in VERBS] == [1] * len(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_the_help_of_a_command_has_examples_that_can_be_parsed_and_exit_codes(name: str, capsys: Capture) -> None:
    assert main([name, "--help"]) == ExitCode.OK

    out, verb = capsys.readouterr().out, VERBS[name]
    for example in verb.examples:
        assert f"    {example}\n" in out
        words = shlex.split(example)
        assert words[:2] == ["lakehouse", name]
        COMMANDS[name].make_context(name, words[2:])  # raises for an option or argument that there is not
    codes = out.partition("Exit codes:\n")[2]
    assert [int(line.split()[0]) for line in codes.splitlines()] == sorted({0, 1, *map(int, verb.codes)})
    assert set(map(int, verb.codes)) <= EXIT_CODES.keys()


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("lakehouse st", ["status"]),
        ("lakehouse status PIPELINE --st", ["--storage"]),
        ("lakehouse status PIPELINE cl", ["clientes"]),
        ("lakehouse run PIPELINE gold.ch", ["gold.churn"]),
        ("lakehouse show PIPELINE silver.p", ["silver.produtos"]),
        ("lakehouse explain PIPELINE gold.ch", ["gold.churn"]),
        ("lakehouse explain PIPELINE cl", []),
        ("lakehouse history PIPELINE cl", ["clientes"]),
        ("lakehouse history PIPELINE silver", []),
        ("lakehouse diff PIPELINE silver.p", ["silver.produtos"]),
        ("lakehouse status nothing cl", []),
    ],
)
def test_a_shell_completes_commands_options_and_names(words: str, completed: list[str]) -> None:
    pipeline = Path(__file__).parents[3] / "conf" / "loyalty"
    typed = words.replace("PIPELINE", str(pipeline))
    environment = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    environment["_LAKEHOUSE_COMPLETE"] = "complete_bash"
    script = "import sys; from lakehouse.cli import main; sys.exit(main(None))"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)

    assert (done.stdout.split(), done.stderr) == (completed, "")


@pytest.mark.parametrize(
    ("words", "found", "next_step"),
    [
        ("runn x", "No such command 'runn'. Did you mean 'run'?", "lakehouse --help"),
        ("run", "Missing argument 'PIPELINE'.", "lakehouse run --help"),
        ("engine", "Missing argument 'ACTION'. Choose from: status, stop", "lakehouse engine --help"),
    ],
)
def test_a_wrong_command_line_leads_to_the_help_of_its_command(
    words: str, found: str, next_step: str, capsys: Capture
) -> None:
    pipeline = Path(__file__).parents[3] / "conf" / "loyalty"
    assert main(words.replace("PIPELINE", str(pipeline)).split()) == ExitCode.USAGE

    err = capsys.readouterr().err
    assert f"found:    {found}\n" in err
    assert f"next:     {next_step}\n" in err


@pytest.mark.parametrize(
    ("name", "usage"),
    [
        ("init", "init [OPTIONS] [SOURCE] [PIPELINE]"),
        ("run", "run [OPTIONS] PIPELINE [NAME]..."),
        ("forget", "forget [OPTIONS] PIPELINE TABLE KEY..."),
    ],
)
def test_the_usage_names_the_arguments(name: str, usage: str, capsys: Capture) -> None:
    main([name, "--help"])

    out = capsys.readouterr().out
    assert out.startswith(f"Usage: lakehouse {usage}\n")
    assert not re.search(r"[{}]|<str>|list\[", out)


@pytest.mark.parametrize(("redirection", "count"), [("2>&1", 1), ("2>err", 1)])
def test_a_failure_is_printed_once_where_stdout_and_stderr_are_one(
    tmp_path: Path, redirection: str, count: int
) -> None:
    code = (
        "from lakehouse.cli import render; from lakehouse.runner.outcome import Outcome, Report;"
        "o = Outcome('ingest', 'items', 'rejected', code=5, note='found: no column');"
        "render.progress(o); render.report(Report('shop', 'r', [o]), False)"
    )
    command = f'"{sys.executable}" -c "{code}" >out {redirection}'
    subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, check=True)

    assert (tmp_path / "out").read_text().count("found: no column") == count


def test_an_approved_snapshot_is_followed_by_the_command_that_applies_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    write_demo(tmp_path / "shop")
    done = Report("shop", "r", [Outcome("ingest", "orders", "accepted")])
    monkeypatch.setattr(stages, "approve", lambda run, table, time: done)
    arguments = ["approve", str(tmp_path / "shop"), "orders", "20250102_180000"]

    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: lakehouse run {tmp_path / 'shop'}, which applies it"
    assert main([*arguments, "--json"]) == 0
    assert "next" not in capsys.readouterr().out


def test_in_a_notebook_the_report_has_the_note(capsys: Capture) -> None:
    render.report(
        Report("shop", "r", [Outcome("ingest", "items", "rejected", code=ExitCode.REFUSED, note="why")]), False
    )
    assert "why" in capsys.readouterr().out


def test_times_are_printed_in_the_form_that_the_verbs_take(capsys: Capture) -> None:
    counts = dict.fromkeys(("rows_read", "inserted", "updated", "deleted", "unchanged", "quarantined", "duplicates"), 1)
    entry = {
        "snapshot_time": "2025-10-03T17:05:52Z",
        "status": "accepted",
        "sequence": 1,
        "run_id": "r",
        "reason": None,
    }
    entry |= counts | {"recorded_at": "2025-10-03T17:06:00Z"}
    lake.history({"pipeline": "shop", "table": "items", "entries": [entry]}, False)

    out = capsys.readouterr().out
    assert "20251003_170552" in out
    assert "ago" in out


@pytest.mark.parametrize(
    ("waiting", "corrected", "line"),
    [
        (1, 0, "shop, items: 1 row waits to be corrected, 0 were corrected"),
        (2, 1, "shop, items: 2 rows wait to be corrected, 1 was corrected"),
    ],
)
def test_one_row_is_written_in_the_singular(waiting: int, corrected: int, line: str, capsys: Capture) -> None:
    content = {"pipeline": "shop", "table": "items", "unresolved": waiting, "resolved": corrected}
    lake.quarantine(content | {"reasons": [], "rows": [], "held": None}, False)

    assert capsys.readouterr().out == f"{line}\n"


def test_in_a_pipe_no_line_of_a_table_ends_with_blanks(capsys: Capture) -> None:
    render.document({"title of the table": [{"a": "x", "note": "a long text"}, {"a": "y", "note": "b"}]}, False)

    assert capsys.readouterr().out.split("\n") == ["title of the table", "a  note", "x  a long text", "y  b", ""]


@pytest.mark.parametrize(("code", "count"), [(ExitCode.HELD, 1), (ExitCode.REFUSED, 1), (ExitCode.OK, 0)])
def test_a_run_that_needs_a_decision_ends_with_the_command_to_type(code: ExitCode, count: int, capsys: Capture) -> None:
    outcome = Outcome("ingest", "items", "held" if code else "accepted", code=code)
    render.report(Report("shop", "r", [outcome]), False, SimpleNamespace(argument="conf/shop"))  # type: ignore[arg-type]

    assert capsys.readouterr().out.count("\nnext: lakehouse status conf/shop\n") == count


def test_a_snapshot_that_was_taken_is_named_once(capsys: Capture) -> None:
    table = {"table": "items", "from": "20250102_000000", "to": "20250102_000000", "verdict": "unchanged"}
    empty: dict[str, Any] = {"counts": {}, "columns": {}, "quarantine": [], "note": "", "reason": None, "samples": {}}
    snapshot_diff.diff({"tables": [table | empty]}, False)

    assert capsys.readouterr().out == "items, 20250102_000000: unchanged\n\n"
