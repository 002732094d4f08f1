"""Crashes on S3: the next run ends like an uninterrupted one, and only one of two drivers publishes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
from crash_points import interrupt_at
from helpers import Project
from s3_project import S3Project
from shop import FIRST, GOLD_AFTER_THIRD, MODELS, SECOND, SNAPSHOTS, THIRD, lake_content

from lakehouse.failpoints import VARIABLE
from lakehouse.lake import ledger
from lakehouse.lake.ledger import LedgerEntry
from lakehouse.storage import file_io, lock
from lakehouse.storage.paths import Lake

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.timeout(900)]  # several JVMs, one after the other

KILLED = Path(__file__).parents[3] / "lake" / "crash_points.py"
# In the order of a run. SIGKILL leaves the lease, which need not be shown at each point: the others interrupt a command
# of this process, and save a JVM each. The points with a colon are failpoints that only a lake on S3 has.
POINTS = {
    "after_lease:kill": "killed",
    "landing-half-copied": "killed",
    "change-set-written": "interrupted",
    "bronze-merged": "killed",
    "between-two-models": "interrupted",
    "gold-written": "interrupted",
    "before_lease_release:kill": "killed",
}


class Yesterday(datetime):
    """The clock of a machine that is a day behind."""

    @classmethod
    def now(cls, zone: tzinfo | None = None) -> datetime:
        return datetime.now(zone) - timedelta(days=1)


@pytest.fixture
def shop(
    moto: str, new_bucket: Callable[[str], str], known_to_spark: Callable[[str, str], None], tmp_path: Path
) -> S3Project:
    bucket = new_bucket(moto)
    known_to_spark(bucket, moto)
    return S3Project(tmp_path / "shop", bucket, moto, models=MODELS)


def start(point: str, shop: S3Project) -> subprocess.Popen[str]:
    is_failpoint, pipe = ":" in point, subprocess.PIPE
    program = ["-m", "lakehouse"] if is_failpoint else [str(KILLED), point]
    command = [sys.executable, *program, "run", str(shop.pipeline)]
    setting = {VARIABLE: point, "LAKEHOUSE_ENGINE": "off"} if is_failpoint else {}
    environment = os.environ | shop.environment | setting
    return subprocess.Popen(command, cwd=shop.folder, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def test_a_run_broken_off_in_every_stage_ends_like_an_uninterrupted_one(shop: S3Project, tmp_path: Path) -> None:
    unbroken = Project(tmp_path / "unbroken", models=MODELS)
    for project in (unbroken, shop):
        project.snapshot(FIRST, items=SNAPSHOTS[FIRST])
        assert project.run().code == 0
        project.snapshot(SECOND, items=SNAPSHOTS[SECOND])
        project.snapshot(THIRD, items=SNAPSHOTS[THIRD])
    assert unbroken.run().code == 0

    for point, how in POINTS.items():
        if how == "interrupted":
            with interrupt_at(point):
                shop.run()
            continue
        killed = start(point, shop)
        _, output = killed.communicate(timeout=200)
        assert killed.returncode == -signal.SIGKILL, (point, output)
        refused = shop.run()
        assert refused.code == 6
        assert f"process {killed.pid} on " in refused.error["found"]
        shop.delete_leases()  # the lease would end by itself after a minute
    done = shop.run()

    assert done.code == 0, done.document
    assert lake_content(shop.download()) == lake_content(unbroken)
    assert shop.write_counts() == unbroken.write_counts()
    assert sorted(p.name for p in (shop.lake / "landing/items").iterdir()) == [FIRST, SECOND, THIRD]
    assert shop.run().document["nothing_new"]


def test_only_one_of_two_concurrent_drivers_publishes_a_change_set(
    shop: S3Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lease, two JVMs have compared the snapshot and written their change sets."""
    shop.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    assert shop.run().code == 0
    shop.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    other = start("racing", shop)
    assert other.stdout and other.stdin
    try:
        assert other.stdout.readline() == "about to publish\n"
        inner = ledger.append

        def append(*args: Any) -> LedgerEntry:
            assert other.stdin
            other.stdin.write("\n")
            other.stdin.flush()
            return inner(*args)

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "append", append)
            patch.setattr(lock, "lock_lake", lambda *_: nullcontext())
            ours = shop.run()
        _, output = other.communicate(timeout=200)
    finally:
        other.kill()
    codes = sorted([ours.code, other.returncode])
    assert codes[0] == 0, (ours.document, output)
    assert codes[1] in (3, 6), (ours.document, output)
    assert "change set 2 of items was published by " in ours.stderr + output + str(ours.document)

    shop.snapshot(THIRD, items=SNAPSHOTS[THIRD])
    assert shop.run().code == 0
    assert shop.download().rows("gold/notes") == GOLD_AFTER_THIRD
    assert [row["sequence"] for row in shop.ledger()][-1] == 3
    assert shop("verify").code == 0


def test_the_first_ledger_row_of_a_sequence_counts_whatever_the_clocks_show(
    shop: S3Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run publishes between this run's comparison and its commit; this run's clock is a day behind."""
    shop.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    assert shop.run().code == 0
    shop.snapshot(SECOND, items=SNAPSHOTS[SECOND])
    inner = ledger.append

    def append(spark: Any, lake: Lake, entry: LedgerEntry) -> LedgerEntry:
        monkeypatch.setattr(ledger, "append", inner)
        inner(spark, lake, replace(entry, run_id="theirs", reason="first"))
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "datetime", Yesterday)
            return inner(spark, lake, entry)

    monkeypatch.setattr(ledger, "append", append)
    assert shop("extract").code == 0
    lost = shop("ingest")
    assert lost.code == 6
    assert "change set 2 of items was published by run theirs" in lost.outcome("ingest", "items")["note"]
    assert len(shop.download().ledger()) == 3

    done = shop.run()
    assert done.code == 0, done.document
    assert done.outcome("bronze", "items")["counts"] == {"inserted": 1, "updated": 2, "deleted": 1}
    assert shop("history", "items").document["entries"][1]["run_id"] == "theirs"
    assert shop.download().rows("bronze/items") == [
        {"id": "a", "qty": 10, "note": "x"},
        {"id": "b", "qty": 2, "note": "x"},
        {"id": "c", "qty": 3, "note": "y"},
        {"id": "d", "qty": 4, "note": "z"},
        {"id": "f", "qty": 6, "note": None},
    ]


def test_an_overwritten_ledger_row_does_not_count_as_published(
    shop: S3Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta's log store on S3 checks before it writes: a driver that checked earlier can write later."""
    shop.snapshot(FIRST, items=SNAPSHOTS[FIRST])
    inner = ledger._require_first

    def written_over(spark: Any, lake: Lake, recorded: LedgerEntry, ours: str, before: int) -> None:
        log = lake.path("raw", "ledger", "_delta_log")
        newest = log / [name for name in file_io.list_names(log) if name.endswith(".json")][-1]
        file_io.write_atomically(newest, newest.read_bytes().replace(ours.encode(), b"theirs"))
        inner(spark, lake, recorded, ours, before)

    monkeypatch.setattr(ledger, "_require_first", written_over)
    assert shop("extract").code == 0
    lost = shop("ingest")
    assert lost.code == 6
    assert "published by another run at the same time" in lost.document["outcomes"][0]["note"]
