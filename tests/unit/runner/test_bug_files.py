"""The file about a bug: what it has, what it must not have, where it is, and how long it is kept."""

from __future__ import annotations

import json
import os
import stat
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from small_pipeline import write_pipeline

import lakehouse
from lakehouse import extract
from lakehouse.cli import main
from lakehouse.runner import bug_files, context
from lakehouse.storage import paths
from lakehouse.storage.paths import Lake

SECRET = "c4nary-passw0rd"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shop(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_pipeline(
        tmp_path,
        pii_key="a key that is a secret of 32 bytes",
        on_failure={"command": ["true", f"--token={SECRET}"]},
        publish={"postgres": {"url": f"postgresql://ana:{SECRET}@db/shop", "tables": {"bronze.items": "items"}}},
    )
    (tmp_path / "source").mkdir()
    (tmp_path / "source/items.csv").write_text("id\n1\n")
    monkeypatch.setattr(sys, "argv", ["lakehouse", "extract", str(tmp_path)])
    return tmp_path


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def extract_table(*_: Any) -> None:
        error = ZeroDivisionError(f"nobody thought of this, as {SECRET}")
        raise error from error  # as where an error is raised again that is no refusal

    monkeypatch.setattr(extract, "extract_table", extract_table)


def bug_documents(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]


@pytest.mark.usefixtures("bug")
def test_a_bug_leaves_a_file_that_the_message_names(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extract", str(shop), "--json"]) == 1

    (file,) = (shop / "lake/_state/bugs").iterdir()
    (outcome,) = json.loads(capsys.readouterr().out)["outcomes"]
    assert f"report it in the issues of the project's repository, with {file}" in outcome["note"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (found,) = bug_documents(file.parent)
    assert (found["stage"], found["name"]) == ("extract", "items")
    assert [line for line in found["trace"] if "ZeroDivisionError" in line]
    assert any("in extract_table" in line for line in found["trace"])
    assert found["versions"]["lakehouse"] == lakehouse.__version__
    assert {"python", "java", "pyspark", "delta-spark"} <= set(found["versions"])
    assert found["command"] == ["lakehouse", "extract", str(shop)]
    assert found["configuration"]["tables"]["items"]["schema"] == "id STRING"
    assert found["configuration"]["publish"]["postgres"]["url"] == found["configuration"]["pii_key"] == "***"
    assert SECRET not in file.read_text() and "32 bytes" not in file.read_text()
    assert (shop / "lake/_state/runs").is_dir()


@pytest.mark.usefixtures("bug")
def test_the_file_is_for_its_owner_only_even_if_a_group_works_on_the_lake(shop: Path) -> None:
    config = json.loads((shop / "pipeline.json").read_text())
    (shop / "pipeline.json").write_text(json.dumps(config | {"access": "group"}))
    before = os.umask(0o022)
    try:
        assert main(["extract", str(shop)]) == 1
    finally:
        os.umask(before)

    (file,) = (shop / "lake/_state/bugs").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_one_exception_has_one_file(shop: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record of the command and the command line both report it."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lakehouse.runner.stages._run_in_order", fail)

    assert main(["extract", str(shop)]) == 1

    assert len(list((shop / "lake/_state/bugs").iterdir())) == 1
    (record,) = context.records.read_newest(lake)
    assert "_state/bugs/" in record["error"]


def test_without_a_lake_the_file_is_in_the_cache_folder_and_no_lake_is_made(
    shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lakehouse.cli.render.validation", fail)

    assert main(["validate", str(shop)]) == 1

    (file,) = (cache / "lakehouse/bugs").rglob("*.json")
    assert str(file) in capsys.readouterr().err.replace("\n", "")
    assert not (shop / "lake").exists()


@pytest.mark.usefixtures("bug")
def test_a_lake_that_cannot_be_written_has_the_file_in_the_cache_folder(shop: Path, lake: Lake, cache: Path) -> None:
    (shop / "lake/_state").mkdir(parents=True)
    (shop / "lake/_state/bugs").write_text("a file stands here")

    assert main(["extract", str(shop)]) == 1

    (file,) = (cache / "lakehouse/bugs").rglob("*.json")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (shop / "lake/_state/bugs").unlink()
    assert bug_files.remove_all(lake) == 1
    assert not file.exists()


def test_a_bug_before_the_pipeline_is_known_has_a_file_too(
    shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("lakehouse.config.load", fail)

    assert main(["run", str(shop)]) == 1

    (found,) = [json.loads(file.read_text()) for file in (cache / "lakehouse/bugs").rglob("*.json")]
    assert found["configuration"] is None


def test_a_folder_that_cannot_be_written_at_all_does_not_hide_the_bug(
    shop: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("the first")

    monkeypatch.setattr("lakehouse.cli.render.validation", fail)
    monkeypatch.setattr(bug_files, "_write_to", fail)

    assert main(["validate", str(shop)]) == 1
    assert "--verbose" in capsys.readouterr().err


def test_the_command_line_has_no_key_of_a_person(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = context.open_run(shop)
    words = ["lakehouse", "forget", str(shop), "items", "123.456.789-09", "--vacuum", "--at=ana@x.org", "x" * 999]
    monkeypatch.setattr(sys, "argv", words)

    found = bug_files._command(run)

    assert found == ["lakehouse", "forget", str(shop), "items", "***", "--vacuum", "--at=***", "***"]


def test_only_the_newest_files_are_kept(lake: Lake, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bug_files, "MAX_FILES", 3)
    folder = lake.state_path("bugs")
    for day in range(1, 6):
        bug_files._write_to(folder, f"2026013{day}T000000-abcdef.json", b"{}")

    assert [file.name[:8] for file in bug_files._list(folder)] == ["20260133", "20260134", "20260135"]


def test_files_are_listed_by_the_time_in_their_names(lake: Lake, cache: Path) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    for time in (now - timedelta(days=40), now):
        name = f"{paths.snapshot_name(time).replace('_', 'T')}-abcdef.json"
        bug_files._write_to(lake.state_path("bugs"), name, b"{}")
    (cache / "another.json").parent.mkdir(exist_ok=True)

    old = bug_files.list_older(lake, now - timedelta(days=30))

    assert [file.name[:15] for file in old] == ["20251222T120000"]
