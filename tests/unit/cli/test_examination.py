"""`lakehouse doctor` on the command line: a line for each check, its document, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_pipeline import write_pipeline

from lakehouse.cli import main
from lakehouse.storage import lock
from lakehouse.storage.paths import Lake

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/items.csv").write_text("id\na\n")
    (tmp_path / "lake/_state").mkdir(parents=True)
    (tmp_path / "lake").chmod(0o700)
    return write_pipeline(tmp_path)


def test_a_line_for_each_check_and_its_remedy(shop: Path, capsys: Capture) -> None:
    (shop / "lake/_state/clean.json").write_text("{")
    assert main(["doctor", str(shop)]) == 0  # a warning

    out = capsys.readouterr().out
    assert f"ok       source         files: {shop / 'source'}" in out
    assert (
        "warning  state          _state/clean.json: cannot be read; the next run does without it\n    next: rm -r"
        in out
    )
    # A second one if the machine has no jars yet.
    warnings = sum(line.startswith("warning ") for line in out.splitlines())
    assert f"{warnings} warning; exit code 0" in out
    assert f"next: lakehouse doctor {shop} --fix" in out

    assert main(["doctor", str(shop), "--fix"]) == 0
    out = capsys.readouterr().out
    assert "repaired removed _state/clean.json" in out
    assert "warning  state" not in out


def test_the_document_has_the_remedy_with_the_pipeline_in_it(shop: Path, capsys: Capture) -> None:
    (shop / "source/items.csv").unlink()
    (shop / "source").rmdir()
    assert main(["doctor", str(shop), "--json"]) == 2

    document = json.loads(capsys.readouterr().out)
    (wrong,) = [check for check in document["checks"] if check["result"] == "wrong"]
    assert wrong["check"] == "source"
    assert wrong["code"] == document["exit_code"] == 2
    assert wrong["next"]
    assert not wrong["can_be_fixed"]
    assert (document["wrong"], document["repaired"]) == (1, [])


def test_a_run_that_works_is_nothing_wrong_and_fix_waits_for_it(shop: Path, capsys: Capture) -> None:
    (shop / "lake/_state/clean.json").write_text("{")
    with lock.lock_lake(Lake.from_root(str(shop / "lake")), "a run", "run"):
        assert main(["doctor", str(shop)]) == 0
        assert "a run has locked the lake: process" in capsys.readouterr().out
        assert main(["doctor", str(shop), "--fix"]) == 6


def test_a_pipeline_that_is_not_there_is_a_finding(tmp_path: Path, capsys: Capture) -> None:
    assert main(["doctor", str(tmp_path / "none")]) == 2
    out = capsys.readouterr().out
    assert "wrong    configuration  no such file or folder" in out
    assert "ok       lake           not checked" in out
