"""The checks of the lake's folder, its lock and the files below `_state`."""

from __future__ import annotations

import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from small_pipeline import write_pipeline

from lakehouse.doctor import examine, place
from lakehouse.doctor.finding import Finding
from lakehouse.errors import LakeBusy
from lakehouse.storage import lock, temp_dirs
from lakehouse.storage.paths import Lake
from lakehouse.storage.processes import Process

Usage = namedtuple("Usage", "total used free")


def made(lake: Lake) -> Path:
    root = Path(lake.root)
    (root / "_state").mkdir(parents=True)
    root.chmod(0o700)
    return root


def results(findings: object) -> list[tuple[str, str, int]]:
    assert hasattr(findings, "__iter__")
    return [(f.of, f.result, int(f.code)) for f in findings if isinstance(f, Finding)]


def test_a_lake_that_can_be_written_to_is_right_and_nothing_is_left_in_it(lake: Lake) -> None:
    assert {result for _, result, _ in results(place.check_access(lake, True))} == {"ok"}  # it does not exist yet
    root = made(lake)
    assert {result for _, result, _ in results(place.check_access(lake, True))} == {"ok"}
    assert [path.name for path in root.rglob("*")] == ["_state"]


def test_a_lake_that_others_can_read_is_closed(lake: Lake) -> None:
    root = made(lake)
    root.chmod(0o755)
    assert ("permissions", "warning", 0) not in results(place.check_access(lake, False))  # access: group
    (finding,) = [f for f in place.check_access(lake, True) if f.result == "warning"]
    assert finding.repair is not None
    finding.repair()
    assert root.stat().st_mode & 0o777 == 0o700


def test_a_file_in_the_place_of_the_lake_is_wrong(lake: Lake) -> None:
    Path(lake.root).parent.mkdir(parents=True, exist_ok=True)
    Path(lake.root).write_text("")
    assert results(place.check_access(lake, True)) == [(lake.root, "wrong", 2)]


def test_a_folder_without_permission_or_a_full_disk_is_wrong(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    root = made(lake)
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, _: path != root / "_state")
        (finding,) = place.check_access(lake, True)
        assert (finding.result, finding.code) == ("wrong", 3)
        assert f"chown -R {os.getuid()} {root / '_state'}" in finding.next_step
    with monkeypatch.context() as patch:
        patch.setattr(place.file_io, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
        (finding,) = place.check_access(lake, True)
        assert (finding.result, finding.code) == ("wrong", 3)
        assert "No space left" in finding.found
    for free, expected in ((50 << 20, ("wrong", 3)), (1 << 30, ("warning", 0)), (1 << 40, ("ok", 0))):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: Usage(1 << 42, 0, free))
        assert ("disk space", *expected) in results(place.check_access(lake, True))


# --- the lock ---------------------------------------------------------------------------------------------------------


def leave_lock(root: Path, jvm: Process | None = None) -> None:
    holder = {"pid": 1, "doing": "run", "run_id": "x", "started": "2025", "jvm": jvm.document() if jvm else None}
    (root / "_state/lock").write_text(json.dumps(holder))


def test_a_live_run_is_named_and_nothing_is_wrong(lake: Lake, tmp_path: Path) -> None:
    with lock.lock_lake(lake, "a run", "run"):
        (finding,) = place.check_lock(lake)
        assert finding.result == "ok"
        assert f"process {os.getpid()} (run, run a run" in finding.found
        (Path(lake.root) / "_state/clean.json").write_text("{")
        write_pipeline(tmp_path, lake=lake.root)
        with pytest.raises(LakeBusy):
            examine(str(tmp_path), fix=True)
    assert [finding.found for finding in place.check_lock(lake)] == ["nobody has locked the lake"]


def test_the_lock_of_a_killed_run_is_emptied_by_fix(lake: Lake, tmp_path: Path) -> None:
    leave_lock(made(lake))
    (finding,) = place.check_lock(lake)
    assert (finding.result, finding.next_step) == ("warning", "lakehouse run PIPELINE")
    write_pipeline(tmp_path, lake=lake.root)
    fixed = examine(str(tmp_path), fix=True)
    assert fixed.repaired == (f"the lock of a killed run was taken over: {lake.root}/_state/lock",)
    assert (Path(lake.root) / "_state/lock").read_text() == ""


def test_a_jvm_that_outlives_its_run_is_named(lake: Lake) -> None:
    own = Process.of(os.getpid())
    assert own
    leave_lock(made(lake), own)
    (finding,) = place.check_lock(lake)
    assert (finding.result, finding.repair) == ("warning", None)
    assert f"kill {own.pid}" in finding.next_step


def test_a_link_in_the_place_of_the_lock_is_wrong(lake: Lake) -> None:
    (made(lake) / "_state/lock").symlink_to("elsewhere")
    assert results(place.check_lock(lake)) == [("", "wrong", 2)]


# --- state ------------------------------------------------------------------------------------------------------------


def test_state_that_cannot_be_read_is_removed_and_the_rest_stays(lake: Lake) -> None:
    root = made(lake)
    checkpoint = root / "_state/bronze/items/checkpoint"
    for name, text in (("metadata", '{"id": 1}'), ("offsets/0", "v1\n{}\n{}"), ("commits/0", "v1\n{}")):
        (checkpoint / name).parent.mkdir(parents=True, exist_ok=True)
        (checkpoint / name).write_text(text)
    (root / "_state/runs").mkdir()
    (root / "_state/runs/good.json").write_text("{}")
    assert results(place.check_state(lake)) == [("", "ok", 0)]

    (root / "_state/runs/bad.json").write_text("")
    (root / "_state/clean.json").write_bytes(b"\xff")
    (root / "_state/ready.json").write_text("[" * 100_000)
    (checkpoint / "offsets/0").write_text("")
    findings = list(place.check_state(lake))
    damaged = ["_state/bronze/items/checkpoint", "_state/clean.json", "_state/ready.json", "_state/runs/bad.json"]
    assert sorted(results(findings)) == [(name, "warning", 0) for name in damaged]
    for finding in findings:
        assert finding.repair is not None
        finding.repair()
    assert results(place.check_state(lake)) == [("", "ok", 0)]
    assert (root / "_state/runs/good.json").exists()


def test_files_of_killed_commands_are_removed_and_those_in_use_stay(lake: Lake) -> None:
    root = made(lake)
    for name in ("landing/items/.20250101_000000.partial", "raw/cdc/items_1.parquet/_temporary", "_state/plain/dead"):
        (root / name).mkdir(parents=True)
    (root / "_state/.clean.json.partial").write_text("")
    with temp_dirs.temp_dir(root / "_state/extract") as used:
        findings = [finding for finding in place.check_state(lake) if finding.result == "warning"]
        assert results(findings) == [("temporary files", "warning", 0)]
        assert findings[0].found.startswith("4 temporary files")
        assert findings[0].repair is not None
        findings[0].repair()
        assert used.exists()
    assert results(place.check_state(lake)) == [("", "ok", 0)]
