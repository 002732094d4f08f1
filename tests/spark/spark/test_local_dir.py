"""What does not fit in memory is written to a folder that only this user can open, unless the user has chosen one."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lakehouse.spark import class_archive, session
from lakehouse.spark.launch import Launch
from lakehouse.storage.paths import Lake


@pytest.fixture
def local_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a session that needs no JVM, and returns its `spark.local.dir`."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path / "conf"))
    monkeypatch.setattr(session, "_spark_jars", lambda _: "")
    monkeypatch.setattr(session, "_check_jars", lambda _: None)
    monkeypatch.setattr(class_archive, "after_start", lambda *_: None)
    for name in ("SPARK_LOCAL_DIRS", "PYSPARK_SUBMIT_ARGS"):
        monkeypatch.delenv(name, raising=False)

    def started() -> str | None:
        seen = list[Launch]()
        monkeypatch.setattr(
            session, "_create_session", lambda launch, *_, **__: seen.append(launch) or SimpleNamespace()
        )
        session.start(Launch({"spark.app.name": "x"}), Lake(str(tmp_path / "lake")), False)
        return seen[0].settings.get("spark.local.dir")

    return started


def test_a_session_of_its_own_has_a_new_private_folder(local_dir: Any, tmp_path: Path) -> None:
    one, other = Path(local_dir()), Path(local_dir())

    assert one != other
    assert one.parent == tmp_path
    assert stat.S_IMODE(one.stat().st_mode) == 0o700


@pytest.mark.parametrize(("umask", "expected"), [(0o077, "077"), (0o027, "027"), (0o007, "007")])
def test_spark_gives_its_files_the_permissions_of_the_process(tmp_path: Path, umask: int, expected: str) -> None:
    """Hadoop has a mask of its own, and sets the permissions of each file by it."""
    before = os.umask(umask)
    try:
        launch = session._plain_launch(Lake(str(tmp_path)), "x", 0)
    finally:
        os.umask(before)

    assert launch.settings["spark.hadoop.fs.permissions.umask-mode"] == expected


def test_a_folder_that_the_user_has_chosen_is_kept(
    local_dir: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "spark-defaults.conf").write_text("spark.local.dir /big/disk\n")
    assert local_dir() is None

    (tmp_path / "conf" / "spark-defaults.conf").unlink()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/big/disk")
    assert local_dir() is None
