"""The command line: help for every command and option, usage errors that name the user's mistake, and no JVM."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from lakehouse.cli import render
from lakehouse.cli.app import app, main
from lakehouse.errors import ConfigError, ExitCode
from lakehouse.runner.outcome import Outcome, Report

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
STAGES = ("extract", "ingest", "bronze", "silver", "gold", "publish")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    table = {"file": "clientes.csv", "format": "csv", "schema": "id STRING, v INT", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": str(tmp_path / "lake"),
        "source": {"type": "files", "path": str(tmp_path)},
        "tables": {"clientes": table},
        "silver": {"clientes": {"keys": ["id"]}},
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    (tmp_path / "silver").mkdir()
    (tmp_path / "silver" / "clientes.sql").write_text("SELECT c.id, c.v FROM bronze.clientes AS c")
    return tmp_path


# Help


def test_every_stage_has_a_command() -> None:
    assert {
        *STAGES,
        "run",
        "validate",
        "status",
        "history",
        "approve",
        "quarantine",
        "verify",
        "explain",
    } <= COMMANDS.keys()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.OK

    out = capsys.readouterr().out
    assert [command for command in COMMANDS if f"  {command} " not in out] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_every_option_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == ExitCode.OK

    captured = capsys.readouterr()
    assert COMMANDS[command].help
    assert "PIPELINE" in captured.out or command == "engine"  # engines belong to no pipeline
    assert captured.err == ""
    assert [p.name for p in COMMANDS[command].params if p.name != "help" and not p.help] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_json(command: str) -> None:
    assert "--json" in [option for p in COMMANDS[command].params for option in p.opts]


# Usage errors

WRONG = {
    "no command": [],
    "unknown command": ["runn"],
    "unknown option": ["run", "{shop}", "--nope"],
    "unknown option before the command": ["--nope"],
    "no pipeline": ["run"],
    "one argument too many": ["validate", "{shop}", "clientes"],
    "a value missing": ["run", "{shop}", "--as-of"],
    "no snapshot": ["approve", "{shop}", "clientes"],
    "not a snapshot's time": ["approve", "{shop}", "clientes", "2025-10-03"],
    "not a time": ["extract", "{shop}", "--as-of", "yesterday"],
    "no such pipeline": ["validate", "{shop}/nowhere"],
    "unknown table": ["run", "{shop}", "cliente"],
    "unknown model": ["gold", "{shop}", "clientes"],
    "nothing to explain": ["explain", "{shop}", "gold.clientes"],
    "a table to explain": ["explain", "{shop}", "bronze.clientes"],
}


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_a_usage_error_ends_with_2_and_makes_no_lake(
    words: list[str], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.format(shop=shop) for word in words]) == ExitCode.USAGE

    captured = capsys.readouterr()
    assert "bug" not in captured.err
    assert not (shop / "lake").exists()


@pytest.mark.parametrize("words", WRONG.values(), ids=WRONG)
def test_with_json_a_usage_error_is_one_document_on_stdout(
    words: list[str], shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*(word.format(shop=shop) for word in words), "--json"])

    document = json.loads(capsys.readouterr().out)
    assert document["exit_code"] == ExitCode.USAGE
    assert document["error"].keys() == {"found", "expected", "where", "next_step"}
    assert document["error"]["found"]


def test_a_misspelt_name_is_answered_with_a_suggestion(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(shop), "cliente"])

    assert 'did you mean "clientes"?' in capsys.readouterr().err


def test_without_json_an_error_leaves_stdout_empty(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["run", str(shop), "nobody"])

    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("found: ")


@pytest.mark.parametrize("as_json", [False, True])
def test_the_command_to_type_names_the_pipeline_of_this_command(
    shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    def fail(*_: Any) -> None:  # as a package does that knows no pipeline
        raise ConfigError("no file", next_step="restore it; then lakehouse ingest PIPELINE items --full-refresh")

    monkeypatch.setattr(render, "validation", fail)

    assert main(["validate", str(shop), *(["--json"] if as_json else [])]) == ExitCode.USAGE

    captured = capsys.readouterr()
    assert f"restore it; then lakehouse ingest {shop} items --full-refresh" in captured.out + captured.err


# Without Spark


def test_validate_lists_the_tables_and_models(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(shop), "--json"]) == ExitCode.OK

    assert json.loads(capsys.readouterr().out) == {
        "pipeline": "shop",
        "valid": True,
        "tables": ["clientes"],
        "models": {"silver.clientes": "row-wise"},
        "warnings": [],
    }
    assert not (shop / "lake").exists()


@pytest.mark.parametrize("name", ["silver.clientes", "clientes"])
def test_explain_shows_how_a_model_is_refreshed(name: str, shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(shop), name, "--json"]) == ExitCode.OK

    document = json.loads(capsys.readouterr().out)
    assert list(document)[:3] == ["model", "strategy", "reason"]
    assert (document["model"], document["strategy"]) == ("silver.clientes", "row-wise")
    assert document["inputs"] == ["bronze.clientes"]
    assert {"column": "id", "from": ["bronze.clientes.id"]} in document["columns"]
    assert main(["explain", str(shop), name]) == ExitCode.OK
    printed = capsys.readouterr().out
    assert document["reason"] in printed
    assert re.search(r"^id +bronze\.clientes\.id$", printed, re.MULTILINE)
    assert not (shop / "lake").exists()


def test_explain_names_the_clause_that_prevents_an_incremental_refresh(
    shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (shop / "silver" / "clientes.sql").write_text("SELECT c.id AS id FROM bronze.clientes AS c ORDER BY c.v LIMIT 3")
    assert main(["explain", str(shop), "silver.clientes"]) == ExitCode.OK

    assert "full" in (out := capsys.readouterr().out)
    assert "LIMIT: " in out


CALLS = {
    "importing": [],
    "validate": ["validate", "{shop}"],
    "explain": ["explain", "{shop}", "clientes"],
    "help": ["run", "--help"],
    "usage error": ["runn"],
}


SLOW = {"pyspark", "delta", "py4j", "pyarrow", "duckdb", "numpy", "pandas"}
SLOW |= {"asyncio", "tenacity", "stamina", "structlog", "pygments"}  # of packages for logs and retries


@pytest.mark.parametrize("words", CALLS.values(), ids=CALLS)
def test_nothing_slow_is_imported(words: list[str], shop: Path) -> None:
    arguments = [word.format(shop=shop) for word in words]
    code = f"""
import sys
from lakehouse.cli.app import main
if {arguments!r}: main({arguments!r})
print(sorted({{name.split('.')[0] for name in sys.modules}} & {SLOW!r}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"


def test_a_process_seldom_searches_its_modules_for_garbage() -> None:
    """Python's own settings search some hundred times while modules are imported, and once more at the end."""
    code = """
import gc, sys
from lakehouse.cli import main
before, sys.argv = sum(s["collections"] for s in gc.get_stats()), ["lakehouse", "run", "--help"]
main()
print(sum(s["collections"] for s in gc.get_stats()) - before, gc.get_freeze_count() > 10_000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    searches, is_frozen = done.stdout.splitlines()[-1].split()
    assert int(searches) < 10
    assert is_frozen == "True"


# Output


@pytest.mark.parametrize("option", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("size", [0, 1])
def test_a_reader_that_closes_the_pipe_does_not_end_the_command(shop: Path, option: list[str], size: int) -> None:
    """As `lakehouse explain conf/shop clientes | head -c 1` does; the exit code is that of the command."""
    read, write = os.pipe()
    command = [sys.executable, "-m", "lakehouse", "explain", str(shop), "clientes", *option]
    done = subprocess.Popen(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    if size:
        assert os.read(read, size)
    os.close(read)
    _, errors = done.communicate(timeout=60)

    assert (done.returncode, errors) == (0, "")


@pytest.mark.parametrize("text", ["lake [x]/y", "[red]z", "[/b]", ":smile:", "[link=x]y[/link]"])
def test_markup_in_the_data_is_printed_unchanged(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    render.document({"name": text, "rows": [{"value": text}]}, as_json=False)
    render.report(Report("shop", "run-7", [Outcome("ingest", "clientes", "rejected", note=text)]), as_json=False)
    render.error(ConfigError(text), as_json=False)

    captured = capsys.readouterr()
    assert captured.out.count(text) == 3
    assert captured.err.count(text) == 1


# A key on standard input


@pytest.mark.parametrize(
    ("text", "key"), [("000ff655\n", ["000ff655"]), ("a=1\nb=2 x\n", ["a=1", "b=2 x"]), ("a=1,b=2", ["a=1,b=2"])]
)
def test_the_key_to_forget_is_read_from_standard_input(
    text: str, key: list[str], monkeypatch: pytest.MonkeyPatch, shop: Path
) -> None:
    seen = list[Any]()
    package: Any = ModuleType("lakehouse.forget")  # the real one needs Spark
    package.find_key = None
    package.forget_key = lambda run, table, given, vacuum: seen.append(given) or {"exit_code": 0}
    package.lift_key = lambda run, table, given: seen.append(given) or {"exit_code": 0}
    monkeypatch.setitem(sys.modules, "lakehouse.forget", package)

    for options in ([], ["--lift"]):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        assert main(["forget", str(shop), "clientes", "-", *options]) == ExitCode.OK

    assert seen == [key, key]


def test_an_empty_standard_input_is_no_key(
    monkeypatch: pytest.MonkeyPatch, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lakehouse.forget", ModuleType("lakehouse.forget"))
    sys.modules["lakehouse.forget"].__dict__.update(find_key=None, forget_key=None, lift_key=None)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))

    assert main(["forget", str(shop), "clientes", "-"]) == ExitCode.USAGE
    assert "no key on standard input" in capsys.readouterr().err
