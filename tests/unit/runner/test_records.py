"""Run records: one per run, limited in number, and what `status` derives from them."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import lakehouse
from lakehouse import logs
from lakehouse.cli import main
from lakehouse.errors import ExitCode
from lakehouse.runner import context, records, stages
from lakehouse.runner import outcome as run_outcome
from lakehouse.runner.outcome import Outcome, Report
from lakehouse.storage.paths import Lake, utc_text

NOON = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    tables = {
        t: {"file": f"{t}.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]} for t in ("items", "shops")
    }
    source = {"type": "files", "path": str(tmp_path / "source")}
    document = {"name": "shop", "lake": str(tmp_path / "lake"), "source": source, "tables": tables}
    (tmp_path / "pipeline.json").write_text(json.dumps(document))
    (tmp_path / "source").mkdir()
    (tmp_path / "source/items.csv").write_text("id\n1\n")
    return tmp_path


def outcome(stage: str, name: str, code: int = 0, status: str = "x") -> dict[str, Any]:
    return {"stage": stage, "name": name, "code": code, "status": status}


def record(run_id: str, *outcomes: dict[str, Any], doing: str = "run", code: int = 0, **more: Any) -> records.Record:
    begun = records.start_record("shop", run_id, doing, ())
    return records.end_record(begun, code, outcomes=list(outcomes), nothing_new=False, **more)


def test_a_stage_writes_a_record_with_the_outcome_of_each_table(shop: Path, lake: Lake) -> None:
    assert main(["extract", str(shop)]) == 0

    (found,) = records.read_newest(lake)
    assert (found["doing"], found["exit_code"], found["version"]) == ("extract", 0, lakehouse.__version__)
    assert found["started"] <= found["ended"]
    assert [(o["name"], o["status"], o["counts"]) for o in found["outcomes"]] == [
        ("items", "landed", {"snapshots": 1}),
        ("shops", "landed", {"snapshots": 1}),
    ]
    assert found["error"] is None


def test_a_command_that_failed_before_its_stages_writes_a_record_too(shop: Path, lake: Lake) -> None:
    (shop / "source/items.csv").unlink()
    (shop / "source").rmdir()

    assert main(["run", str(shop)]) == 2

    (found,) = records.read_newest(lake)
    assert (found["exit_code"], found["outcomes"]) == (2, [])
    assert "does not exist" in found["error"]


def test_the_record_of_a_killed_run_has_no_end(shop: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(run: context.Run) -> list[run_outcome.Outcome]:
        (found,) = records.read_newest(lake)
        assert (found["ended"], found["exit_code"]) == (None, None)
        return []

    monkeypatch.setitem(stages._STAGE_FUNCTIONS, "extract", killed)
    assert main(["extract", str(shop)]) == 0
    assert records.read_newest(lake)[0]["exit_code"] == 0


def test_no_secret_gets_into_a_record(shop: Path, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_known_secrets", {"c4nary"})
    records.write(lake, record("1", outcome("ingest", "items"), error="login c4nary refused"))

    assert "c4nary" not in lake.state_path("runs", "1.json").read_text()


def test_only_the_newest_records_are_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORDS", 3)
    for number in range(5):
        records.write(lake, record(f"20260131T00000{number}"))

    assert [r["run_id"][-1] for r in records.read_newest(lake)] == ["4", "3", "2"]
    assert [r["run_id"][-1] for r in records.read_newest(lake, 1)] == ["4"]


def test_an_unreadable_record_is_skipped(lake: Lake) -> None:
    records.write(lake, record("1"))
    lake.state_path("runs", "2.json").write_text('{"run_id": ')
    lake.state_path("runs", "3.json").write_text("[]")

    assert [r["run_id"] for r in records.read_newest(lake)] == ["1"]


def test_a_record_that_cannot_be_written_does_not_fail_the_run(
    shop: Path, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    lake.state_path().mkdir(parents=True)
    lake.state_path("runs").write_text("a file stands here")

    assert main(["extract", str(shop)]) == 0
    assert "the run record could not be written" in capsys.readouterr().err


def test_equal_failures_are_counted_back_to_the_last_different_one(lake: Lake) -> None:
    held = [outcome("extract", "items"), outcome("ingest", "items", 4, "held")]
    for run_id, each in {
        "1": record("1", *held, code=4),
        "2": record("2"),
        "3": record("3", *held, code=4),
        "4": record("4", doing="extract"),
        "5": record("5", *held, code=4),
    }.items():
        records.write(lake, each | {"run_id": run_id})

    assert records.count_repeats(lake, record("6", *held, code=4)) == 2
    assert records.count_repeats(lake, record("6", outcome("ingest", "shops", 4, "held"), code=4)) == 0
    assert records.count_repeats(lake, record("6", *held, outcome("bronze", "items", 3), code=3)) == 0


def test_the_last_success_of_a_table_is_a_run_that_found_no_problem_with_it() -> None:
    good = record("1", outcome("ingest", "items"), outcome("ingest", "shops"))
    held = record("2", outcome("ingest", "items", 4), outcome("ingest", "shops"), code=4)
    single = record("3", outcome("ingest", "items"), doing="ingest")
    killed = records.start_record("shop", "4", "run", ())
    newest_first = [killed, single, held, good]

    assert records.last_successful(newest_first, "items") is good
    assert records.last_successful(newest_first, "shops") is held
    assert records.last_successful(newest_first, "others") is None
    nothing_new = record("5") | {"nothing_new": True}
    assert records.last_successful([nothing_new, *newest_first], "items") is nothing_new


@pytest.mark.parametrize(("hours", "late"), [(5, 0), (6, 0), (6.5, 1800), (30, 86400)])
def test_a_table_is_overdue_when_its_next_run_is_late(hours: float, late: int) -> None:
    good = record("1") | {"ended": utc_text(NOON - timedelta(hours=hours))}

    assert records.overdue_seconds(good, timedelta(hours=6), NOON) == late
    assert records.overdue_seconds(None, timedelta(hours=6), NOON) is None


def test_a_report_that_is_kept_has_no_values_of_rows() -> None:
    with_value = Outcome("gold", "gold.a", "failed", code=ExitCode.REFUSED, note="such as ana", kept_note="in line 3")
    report = Report("shop", "run-1", [with_value, Outcome("gold", "gold.b", "full", note="all of it")])

    assert [outcome["note"] for outcome in report.document()["outcomes"]] == ["such as ana", "all of it"]
    assert [outcome["note"] for outcome in report.document(is_kept=True)["outcomes"]] == ["in line 3", "all of it"]
    assert all("kept_note" not in outcome for outcome in report.document()["outcomes"])


def test_what_a_killed_run_left_of_its_record_is_removed_with_the_next_one(lake: Lake) -> None:
    left = lake.local_path("runs", ".20260101T000000-123456.json.partial")
    left.parent.mkdir(parents=True)
    left.touch()
    records.write(lake, records.start_record("shop", "20260131T120000-abcdef", "run", []))
    assert [path.name for path in left.parent.iterdir()] == ["20260131T120000-abcdef.json"]
