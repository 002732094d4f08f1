"""The bar on a terminal: what it shows, that other lines stay whole beside it, and where there is none."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
import threading
import tty
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse import logs
from lakehouse.cli import progress, render
from lakehouse.cli.app import main
from lakehouse.cli.progress import show_progress
from lakehouse.errors import ExitCode
from lakehouse.extract.kaggle.progress import DownloadBar
from lakehouse.runner import stages
from lakehouse.runner.context import Run, open_run
from lakehouse.runner.outcome import Outcome, Report
from lakehouse.runner.progress import Progress


class Terminal:
    """A pseudo-terminal in the place of stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)  # otherwise \n comes as \r\n
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.stderr = os.fdopen(os.dup(self._slave), "w", encoding="utf-8", buffering=1)

    def connect(self) -> None:
        """Take the place of stderr; not in a fixture, since pytest sets its own stderr between that and the test."""
        self._monkeypatch.setattr(sys, "stderr", self.stderr)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._master, 4096)
            except OSError:  # the last writer has closed it
                return
            if not chunk:
                return
            self._chunks.append(chunk)

    def close(self) -> str:
        """Return everything that was written."""
        self.stderr.close()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)
        return b"".join(self._chunks).decode()


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after all that was written, down to the one with the cursor."""
    lines, row, column = [""], 0, 0
    for match in re.finditer(r"\x1b\[([0-9;?]*)([a-zA-Z])|(\r)|(\n)|([^\x1b\r\n]+)", written):
        argument, command, carriage_return, new_line, text = match.groups()
        if command == "K":
            lines[row] = "" if argument == "2" else lines[row][:column]
        elif command == "A":
            row = max(0, row - int(argument or 1))
        elif carriage_return:
            column = 0
        elif new_line:
            row, column = row + 1, 0
            lines += [""] * (row == len(lines))
        elif text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
    assert not any(lines[row + 1 :])
    return [line.rstrip() for line in lines[: row + 1]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    terminal = Terminal(monkeypatch)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    progress._is_submitted.cache_clear()
    yield terminal
    progress._is_submitted.cache_clear()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    table = {"file": "items.csv", "format": "csv", "schema": "id STRING, v INT", "keys": ["id"]}
    document = {
        "name": "shop",
        "lake": str(tmp_path / "lake"),
        "source": {"type": "files", "path": str(tmp_path / "source")},
        "tables": {"items": table, "shops": {**table, "file": "shops.csv"}},
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    (tmp_path / "source").mkdir()
    for name in ("items", "shops"):
        (tmp_path / "source" / f"{name}.csv").write_text("id,v\n1,2\n")
    return tmp_path


@pytest.fixture
def run(shop: Path) -> Run:
    opened = open_run(shop, log=logs.create_logger("text"), on_outcome=render.progress)
    assert type(opened.progress) is Progress
    return opened


def wait_for_a_refresh() -> None:
    threading.Event().wait(2 / progress._REFRESHES_PER_SECOND)


def test_the_bar_shows_the_step_what_it_waits_for_and_how_far_it_is(terminal: Terminal, run: Run) -> None:
    terminal.connect()
    with show_progress(run):
        run.progress.begin("ingest", 4)
        with run.progress.waiting("starting Spark"):
            wait_for_a_refresh()
        run.progress.advance()
        wait_for_a_refresh()

    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.close())
    frames = [re.sub(r"\W*[━╸╺]+", "", frame).strip() for frame in shown.split("\r\x1b[2K")]
    assert any(re.search(r"starting Spark 0 of 4 \d s", frame) for frame in frames)
    assert any(re.search(r"ingest 1 of 4 \d s", frame) for frame in frames)
    assert "\x1b[?25l" not in shown  # the cursor stays visible, also after a kill


def test_the_bar_shows_bytes_while_files_are_copied_and_rows_where_they_are_counted(
    terminal: Terminal, run: Run
) -> None:
    terminal.connect()
    with show_progress(run):
        run.progress.begin("extract", 2)
        run.progress.add_bytes(0, 4_000_000)
        run.progress.add_bytes(0, 2_000_000)
        run.progress.add_bytes(1_500_000)
        wait_for_a_refresh()
        run.progress.begin("ingest", 2)
        run.on_outcome(Outcome("ingest", "items", "accepted", {"rows_read": 1_200_000, "inserted": 7}))
        run.progress.advance()
        wait_for_a_refresh()
        run.progress.begin("bronze", 2)
        run.on_outcome(Outcome("bronze", "items", "applied", {"inserted": 7, "deleted": 1}))
        wait_for_a_refresh()

    shown = re.sub(r"\x1b\[[0-9;]*m", "", terminal.close())
    frames = [re.sub(r"\W*[━╸╺]+", "", frame).strip() for frame in shown.split("\r\x1b[2K")]
    assert any(re.search(r"extract 0 of 2, 1\.5 of 6\.0 MB \d s", frame) for frame in frames)
    assert any(re.search(r"ingest 1 of 2, 1,200,000 rows \d s", frame) for frame in frames)
    assert any(re.search(r"bronze 0 of 2, 8 rows \d s", frame) for frame in frames)


def test_extract_reports_the_bytes_that_it_copies(run: Run, shop: Path) -> None:
    reported: list[tuple[int, int]] = []
    run.progress.add_bytes = lambda done, expected=0: reported.append((done, expected))  # type: ignore[method-assign]

    stages.run_stages(run, ["extract"])

    size = sum(file.stat().st_size for file in (shop / "source").iterdir())
    assert (sum(done for done, _ in reported), sum(expected for _, expected in reported)) == (size, size)


def test_lines_of_others_stay_whole_and_the_bar_leaves_nothing_behind(terminal: Terminal, run: Run) -> None:
    terminal.connect()
    with show_progress(run):
        run.progress.begin("ingest", 2)
        run.log.warning("trying again", reason="the store is slow")
        wait_for_a_refresh()
        run.on_outcome(Outcome("ingest", "items", "accepted", {"inserted": 3}))
        run.on_outcome(Outcome("ingest", "shops", "rejected", {}, code=ExitCode.REFUSED, note="shops.csv is empty"))
        print("one more line", file=sys.stderr)
        run.progress.begin("bronze", 2)
        run.on_outcome(Outcome("bronze", "items", "applied", {"inserted": 3}))
        run.on_outcome(Outcome("bronze", "shops", "applied", {"inserted": 4}))

    lines = screen(terminal.close())
    assert lines[0].endswith("pipeline=shop reason=the store is slow")
    assert re.fullmatch(r"ingest   shops +rejected +0.0 s", lines[1])
    assert lines[2:4] == ["    shops.csv is empty", "one more line"]
    assert re.fullmatch(r"ingest   2 tables +1 accepted, 1 rejected +\d.\d s  inserted 3", lines[4])
    assert re.fullmatch(r"bronze   2 tables +applied +\d.\d s  inserted 7", lines[5])
    assert lines[6:] == [""]


def test_a_command_without_stages_prints_each_outcome(terminal: Terminal, run: Run) -> None:
    terminal.connect()
    with show_progress(run, "forget"):
        run.on_outcome(Outcome("forget", "bronze.items", "erased"))
        run.on_outcome(Outcome("forget", "silver.items", "erased"))

    assert [line.split()[1] for line in screen(terminal.close())[:-1]] == ["bronze.items", "silver.items"]


def test_an_error_removes_the_bar_and_gives_stderr_back(terminal: Terminal, run: Run) -> None:
    terminal.connect()
    with pytest.raises(ValueError, match="no such row"), show_progress(run, "verify"):
        wait_for_a_refresh()
        raise ValueError("no such row")

    assert sys.stderr is terminal.stderr
    assert screen(terminal.close()) == [""]


def test_a_line_that_the_system_writes_while_the_jvm_starts_does_not_reach_the_bar(
    terminal: Terminal, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spark's start leads file descriptor 2 to a log: the bar must go on moving on the terminal."""
    terminal.connect()
    stderr = os.fdopen(os.dup(terminal.stderr.fileno()), "w", encoding="utf-8")
    monkeypatch.setattr(sys, "stderr", stderr)
    with (tmp_path / "spark.log").open("wb") as log, show_progress(run, "verify"):
        os.dup2(log.fileno(), stderr.fileno())
        with run.progress.waiting("starting Spark"):
            wait_for_a_refresh()
    stderr.close()

    assert "starting Spark" in terminal.close()
    assert (tmp_path / "spark.log").read_bytes() == b""


def test_the_download_from_kaggle_has_its_own_bar(
    terminal: Terminal, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.connect()
    kaggle: Any = SimpleNamespace(source=progress.Kaggle(type="kaggle", dataset="someone/shop"), tables={})
    run.pipeline = kaggle
    with show_progress(run):
        run.progress.begin("extract", 2)
        wait_for_a_refresh()
        with DownloadBar("shop.zip") as bar:
            bar.show(5, 10)
        run.progress.begin("ingest", 2)
        wait_for_a_refresh()

    shown = terminal.close()
    assert "shop.zip" in shown
    assert "ingest" in shown
    assert "extract" not in shown


@pytest.mark.parametrize("reason", ["no terminal", "--verbose", "spark-submit"])
def test_there_is_no_bar_where_others_write_too_or_nobody_looks(
    terminal: Terminal, run: Run, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal.connect()
    if reason == "no terminal":
        monkeypatch.setattr(sys, "stderr", io.StringIO())
    if reason == "spark-submit":
        monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    run.verbose = reason == "--verbose"
    with show_progress(run, "verify"):
        assert type(run.progress) is Progress
        assert run.on_outcome is render.progress

    assert terminal.close() == ""


def test_a_stage_on_a_terminal_shows_one_line(terminal: Terminal, shop: Path) -> None:
    terminal.connect()
    assert main(["extract", str(shop)]) == ExitCode.OK

    (line, rest) = screen(terminal.close())
    assert re.fullmatch(r"extract  2 tables +landed +\d.\d s  snapshots 2", line)
    assert rest == ""


def test_json_logs_on_a_terminal_have_nothing_else_beside_them(terminal: Terminal, shop: Path) -> None:
    terminal.connect()
    assert main(["extract", str(shop), "--log", "json"]) == ExitCode.OK

    events = [json.loads(line)["event"] for line in terminal.close().splitlines()]
    assert events == ["run begun", "stage begun", "done", "done", "run ended"]


# Expectations that are not met


def rule(model: str, on_fail: str, *, is_met: bool = False) -> Any:
    """Return what a result of a rule has for those who report it, without importing Spark."""
    fails_refresh = not is_met and on_fail == "fail"
    return SimpleNamespace(
        model=model, rule="r", on_fail=on_fail, is_met=is_met, fails_refresh=fails_refresh, observed="2 of 9 rows"
    )


RULES = [rule("silver.a", "quarantine"), rule("silver.a", "warn"), rule("silver.b", "quarantine")]


def test_expectations_that_are_not_met_are_one_line_for_people(
    run: Run, shop: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reported: list[Any] = []
    run.on_rule_not_met = reported.append
    stages.report_rules_not_met(run, [*RULES, rule("silver.b", "fail"), rule("silver.b", "warn", is_met=True)])
    render.rules_not_met(reported, run.pipeline)
    render.rules_not_met([], run.pipeline)

    assert reported == RULES
    assert capsys.readouterr().err == (
        "3 expectations are not met (2 put rows in quarantine, 1 only warn); the run goes on. "
        f"To list them: lakehouse status {shop}\n"
    )


def test_expectations_that_are_not_met_are_events_in_a_log(run: Run) -> None:
    stream = io.StringIO()
    run.log = logs.create_logger("json", stream=stream)
    stages.report_rules_not_met(run, RULES)

    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(e["level"], e["event"], e["model"], e["on_fail"], e["found"]) for e in events] == [
        ("warning", "expectation not met", r.model, r.on_fail, "2 of 9 rows") for r in RULES
    ]


# The tables of results


def test_the_table_of_a_run_has_only_columns_with_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    counts = {"rows_read": 5, "inserted": 5, "updated": 0, "deleted": 0}
    render.report(Report("shop", "1", [Outcome("ingest", "items", "accepted", counts, 1.0)]), as_json=False)

    header = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("stage"))
    assert re.split(r"  +", header.strip()) == ["stage", "name", "status", "rows read", "inserted", "seconds"]


def test_verify_ends_with_the_number_of_checks_by_result(capsys: pytest.CaptureFixture[str]) -> None:
    results: list[Any] = [
        SimpleNamespace(invariant="I1", what="bronze = the snapshot", name="items", result=result, figures="", code=0)
        for result in ("holds", "not checkable", "holds")
    ]
    render.checks(results, as_json=False)

    assert capsys.readouterr().out.splitlines()[-1] == "3 checks: 2 hold, 1 not checkable"
