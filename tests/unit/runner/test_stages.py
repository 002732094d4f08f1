"""Which stages a command runs, and when it leaves the clean mark. The stages are replaced, so that no JVM starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest

from lakehouse.errors import DataRefused, ExitCode
from lakehouse.runner import stages, up_to_date
from lakehouse.runner.context import Run, open_run, run_in_parallel
from lakehouse.runner.outcome import Outcome, Report
from lakehouse.runner.progress import Progress
from lakehouse.storage import landing

SALES = "SELECT i.id AS id, i.qty AS qty FROM bronze.items AS i"
BIG = "SELECT s.id AS id, s.qty AS qty FROM silver.sales AS s WHERE s.qty > 9"
TOTAL = "SELECT b.qty AS qty, COUNT(*) AS n FROM silver.big AS b GROUP BY b.qty"


class Shop:
    """A pipeline with two tables and three models, and the stages that were run on it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.stages_run = folder, list[str]()
        self.status, self.code = "applied", ExitCode.OK
        table = {"format": "csv", "schema": "id STRING, qty INT", "keys": ["id"]}
        document = {
            "name": "shop",
            "lake": str(folder / "lake"),
            "source": {"type": "files", "path": str(folder / "source")},
            "tables": {name: table | {"file": f"{name}.csv"} for name in ("items", "shops")},
            "silver": {"big": {"keys": ["id"]}, "sales": {"keys": ["id"]}},
            "gold": {"total": {}},
            "retention": {"landing": "90d"},
        }
        for model, sql in {"silver/sales": SALES, "silver/big": BIG, "gold/total": TOTAL}.items():
            (folder / model).parent.mkdir(exist_ok=True)
            (folder / f"{model}.sql").write_text(sql)
        (folder / "pipeline.json").write_text(json.dumps(document))
        (folder / "source").mkdir()
        (folder / "source/items.csv").write_text("id,qty\n1,1\n")

    def open(self, *names: str, full_refresh: bool = False) -> Run:
        return open_run(self.folder, names, full_refresh=full_refresh)

    def run(self, run: Run, *wanted: str) -> Report:
        self.stages_run.clear()
        return stages.run_stages(run, wanted or stages.STAGES)

    def stage(self, name: str) -> Callable[[Run], list[Outcome]]:
        def work(run: Run) -> list[Outcome]:
            self.stages_run.append(name)
            return [Outcome(name, "items", self.status, code=self.code)]

        return work

    @property
    def is_up_to_date(self) -> bool:
        run = self.open()
        return up_to_date.is_up_to_date(run.pipeline, run.lake)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    shop = Shop(tmp_path)
    for name in stages._STAGE_FUNCTIONS:
        monkeypatch.setitem(stages._STAGE_FUNCTIONS, name, shop.stage(name))
    monkeypatch.setattr(stages.expiring, "is_due", lambda run: True)
    return shop


def test_a_packed_or_a_parquet_file_counts_as_the_text_that_it_stands_for(tmp_path: Path) -> None:
    run = Shop(tmp_path).open()
    for table, name in (("items", "items.csv.GZ"), ("shops", "shops.csv")):
        file = tmp_path / name
        file.write_bytes(b"0123456789")
        landing.land_snapshot(run.lake, table, datetime(2025, 1, 1, tzinfo=timezone.utc), [file])

    assert [run.data_bytes(name) for name in ("items", "shops")] == [40, 10]
    assert run.snapshot_bytes("items", "shops") == 20


def test_a_run_ends_with_expire_when_it_is_due_and_the_next_one_has_nothing_to_do(shop: Shop) -> None:
    first = shop.run(shop.open())

    assert shop.stages_run == [*stages.STAGES, "expire"]
    assert (first.code, first.nothing_new) == (ExitCode.OK, False)

    second = shop.run(shop.open())
    assert shop.stages_run == []
    assert (second.code, second.nothing_new, second.outcomes) == (ExitCode.OK, True, [])


@pytest.mark.parametrize(
    ("names", "full_refresh", "wanted"),
    [(("items",), False, ()), ((), True, ()), ((), False, ("extract",)), ((), False, ("silver", "gold"))],
    ids=["only a table", "a full refresh", "one stage", "two stages"],
)
def test_a_partial_or_full_refresh_always_works_and_leaves_no_mark(
    shop: Shop, names: tuple[str, ...], full_refresh: bool, wanted: tuple[str, ...]
) -> None:
    shop.run(shop.open())
    assert shop.is_up_to_date

    report = shop.run(shop.open(*names, full_refresh=full_refresh), *wanted)

    assert shop.stages_run == [*(wanted or stages.STAGES)]
    assert not report.nothing_new
    assert not shop.is_up_to_date


def test_expire_keeps_the_mark_of_a_lake_that_is_up_to_date_and_makes_none(shop: Shop) -> None:
    shop.run(shop.open(), "expire")
    assert not shop.is_up_to_date

    shop.run(shop.open())
    shop.run(shop.open(), "expire")
    assert shop.stages_run == ["expire"]
    assert shop.is_up_to_date


def test_a_run_that_failed_or_was_stopped_leaves_no_mark(shop: Shop) -> None:
    shop.code = ExitCode.REFUSED
    assert shop.run(shop.open()).code == ExitCode.REFUSED
    assert not shop.is_up_to_date

    shop.code = ExitCode.OK
    run = shop.open()
    run.stop_requested = lambda: len(shop.stages_run) == 2
    assert shop.run(run).stopped_before == "bronze"
    assert shop.stages_run == ["extract", "ingest"]
    assert not shop.is_up_to_date


def test_no_stage_follows_one_that_finds_another_run_at_work(shop: Shop) -> None:
    shop.code = ExitCode.BUSY
    assert shop.run(shop.open()).code == ExitCode.BUSY
    assert shop.stages_run == ["extract"]


@pytest.mark.parametrize(("status", "stages_run"), [("nothing new", ["extract"]), ("landed", [*stages.STAGES])])
def test_if_only_reading_the_source_can_show_changes_the_run_ends_when_nothing_lands(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, status: str, stages_run: list[str]
) -> None:
    monkeypatch.setattr(stages.expiring, "is_due", lambda run: False)
    monkeypatch.setattr(up_to_date, "is_read_every_run", lambda pipeline: True)
    shop.run(shop.open())
    assert shop.stages_run == [*stages.STAGES]

    shop.status = status
    report = shop.run(shop.open())

    assert shop.stages_run == stages_run
    assert report.nothing_new == (status == "nothing new")


def test_selected_models_come_after_the_models_that_they_read(shop: Shop) -> None:
    assert shop.open().selected_models() == ["silver.sales", "silver.big", "gold.total"]
    assert shop.open("gold.total", "silver.sales").selected_models() == ["silver.sales", "gold.total"]
    assert shop.open().model_groups("silver") == [["silver.sales"], ["silver.big"]]


def test_parallel_work_goes_on_after_an_error_and_returns_the_outcomes_in_order(shop: Shop) -> None:
    run, reported = shop.open(), list[str]()
    run.on_outcome = lambda outcome: reported.append(outcome.name)

    def work(name: str) -> list[Outcome]:
        if name == "items":
            raise ValueError("no such row")
        return [Outcome("ingest", name, "accepted")]

    first, second = run_in_parallel(run, "ingest", ["items", "shops"], work)

    assert (first.name, first.status, first.code) == ("items", "failed", ExitCode.BUG)
    assert "ValueError: no such row" in first.note
    assert (second.name, second.status, second.code) == ("shops", "accepted", ExitCode.OK)
    assert sorted(reported) == ["items", "shops"]


def test_a_command_in_a_note_has_the_pipeline_and_what_is_kept_has_not(shop: Shop) -> None:
    run = shop.open()

    def work(name: str) -> list[Outcome]:
        raise DataRefused(f"{name} has a value", kept=name, next_step="`lakehouse run PIPELINE` reads it again")

    (outcome,) = run_in_parallel(run, "ingest", ["items"], work)

    assert f"`lakehouse run {run.pipeline.argument}` reads it again" in outcome.note
    assert "items has a value" in outcome.note
    assert outcome.document(is_kept=True)["note"].startswith("found:    items\n")
    assert "`lakehouse run PIPELINE`" in outcome.document(is_kept=True)["note"]


class RecordedProgress(Progress):
    def __init__(self) -> None:
        self.steps, self.done = list[tuple[str, int]](), 0

    def begin(self, step: str, total: int = 0) -> None:
        self.steps.append((step, total))

    def advance(self) -> None:
        self.done += 1


def test_progress_has_each_stage_with_the_number_of_its_tables_or_models(shop: Shop) -> None:
    run, some = shop.open(), shop.open("items", "silver.sales")
    run.progress = everything = RecordedProgress()
    some.progress = selected = RecordedProgress()
    shop.run(run)
    shop.run(some, "ingest", "silver", "gold")

    tables = [("extract", 2), ("ingest", 2), ("bronze", 2)]
    assert everything.steps == [*tables, ("silver", 2), ("gold", 1), ("expire", 0)]
    assert selected.steps == [("ingest", 1), ("silver", 1), ("gold", 0)]


def test_progress_counts_tables_that_failed_and_tables_with_several_outcomes_once(shop: Shop) -> None:
    run = shop.open()
    run.progress = progress = RecordedProgress()

    def work(name: str) -> list[Outcome]:
        if name == "items":
            raise ValueError("no such row")
        return [Outcome("ingest", name, "unchanged"), Outcome("ingest", name, "accepted")]

    run_in_parallel(run, "ingest", ["items", "shops"], work)

    assert progress.done == 2
