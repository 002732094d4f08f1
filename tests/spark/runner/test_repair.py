"""After a failure, tables that lost files and lost change sets are prepared, and the stages that are run once more.

tests/lake/doctor runs them. Here no JVM is started.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from crafted_lake import CHANGE_SETS, SECOND, write_lake
from deltalake import DeltaTable

from lakehouse.errors import ExitCode, InfrastructureError
from lakehouse.runner import repair
from lakehouse.runner.outcome import FAILED, WAITING, Outcome, Report
from lakehouse.runner.repair import REPAIR
from lakehouse.storage import file_io
from lakehouse.storage.paths import Lake

pytestmark = pytest.mark.no_jvm

STAGES = ("extract", "ingest", "bronze", "silver", "gold")
LANDED, HELD = Outcome("extract", "items", "landed"), Outcome("ingest", "items", "held", code=ExitCode.HELD)


class FakeRun(SimpleNamespace):
    def selected_tables(self) -> list[str]:
        return ["items"]


@pytest.fixture
def run(lake: Lake, tmp_path: Path) -> Any:
    write_lake(lake, tmp_path)
    log = SimpleNamespace(warning=lambda *_, **__: None)
    replays: dict[str, datetime] = {}
    return FakeRun(lake=lake, id="r", spark=None, replays=replays, blocked={"x"}, log=log, on_outcome=lambda _: None)


def repaired(run: Any, *outcomes: Outcome, stages: tuple[str, ...] = STAGES) -> tuple[Report, tuple[str, ...]]:
    report = Report("shop", "r", list(outcomes))
    return report, repair.repair_failed(run, report, stages)


def lose_bronze(run: Any) -> None:
    for uri in DeltaTable(f"{run.lake.root}/bronze/items").file_uris():
        Path(uri.removeprefix("file://")).unlink()


def failed(stage: str, code: ExitCode = ExitCode.INFRASTRUCTURE) -> Outcome:
    return Outcome(stage, "items", FAILED, code=code)


def test_a_run_that_lost_nothing_is_not_repeated(run: Any) -> None:
    report, again = repaired(run, LANDED, failed("silver"))
    assert again == ()
    assert report.code == ExitCode.INFRASTRUCTURE


def test_without_a_failure_nothing_is_looked_at(run: Any) -> None:
    lose_bronze(run)
    assert repaired(run, LANDED, HELD)[1] == ()
    assert DeltaTable(f"{run.lake.root}/bronze/items").version() == 0


def test_lost_files_are_left_out_and_the_stages_from_bronze_on_run_again(run: Any) -> None:
    lose_bronze(run)
    waiting = Outcome("gold", "notes", WAITING)
    report, again = repaired(run, LANDED, HELD, failed("silver"), waiting)
    assert again == ("bronze", "silver", "gold")
    assert [outcome.stage for outcome in report.outcomes] == ["extract", "ingest", REPAIR]
    assert report.outcomes[-1].note == "bronze.items: 1 lost file left out of version 1; a run writes the rows again"
    assert not run.blocked
    assert DeltaTable(f"{run.lake.root}/bronze/items").file_uris() == []


def test_a_lost_change_set_is_compared_again_by_ingest(run: Any) -> None:
    shutil.rmtree(Path(run.lake.root, CHANGE_SETS[SECOND]))
    report, again = repaired(run, LANDED, HELD, failed("bronze"))
    assert again == ("ingest", "bronze", "silver", "gold")
    assert run.replays == {"items": SECOND}
    assert [outcome.stage for outcome in report.outcomes] == ["extract", REPAIR]  # ingest reports the held one again


def test_a_change_set_is_not_compared_again_without_the_landed_files(run: Any) -> None:
    shutil.rmtree(Path(run.lake.root, CHANGE_SETS[SECOND]))
    Path(run.lake.root, "landing/items/20250102_000000/items.csv").unlink()
    assert repaired(run, failed("bronze"))[1] == ()
    assert run.replays == {}


@pytest.mark.parametrize("stages", [("silver",), ("gold",)])
def test_a_stage_alone_does_not_repair_the_layer_before(run: Any, stages: tuple[str, ...]) -> None:
    lose_bronze(run)
    assert repaired(run, failed(stages[0]), stages=stages)[1] == ()


def test_another_run_that_works_on_the_lake_is_left_alone(run: Any) -> None:
    lose_bronze(run)
    assert repaired(run, failed("bronze", ExitCode.BUSY))[1] == ()


def test_a_commit_of_another_writer_is_not_replaced(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_bronze(run)
    write = file_io.write_if_absent

    def write_after_another(file: Path, content: bytes) -> bool:
        file.write_text("of another writer")
        return write(file, content)

    monkeypatch.setattr(file_io, "write_if_absent", write_after_another)
    with pytest.raises(InfrastructureError, match="another writer committed version 1") as error:
        repaired(run, failed("silver"))

    assert error.value.next_step == "run the same command again"
    log = Path(f"{run.lake.root}/bronze/items/_delta_log")
    assert (log / "00000000000000000001.json").read_text() == "of another writer"
    assert not [*log.glob(".*.partial")]
