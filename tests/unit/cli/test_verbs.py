"""The help of the command line: the first commands, groups, examples and exit codes; and errors are printed once."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from lakehouse import __version__
from lakehouse.cli import lake, render
from lakehouse.cli.app import app, main
from lakehouse.cli.verbs import EXIT_CODES, FIRST_VERBS, GROUPS, VERBS
from lakehouse.errors import ExitCode
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


def test_completion_lists_the_commands() -> None:
    script = "import sys; from lakehouse.cli import main; sys.exit(main(None))"
    environment = {"_LAKEHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": "lakehouse st", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout.split() == ["status"]


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
