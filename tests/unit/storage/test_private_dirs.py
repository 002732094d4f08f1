"""A folder with a predictable name is used only if it is a real folder of this user, closed to everybody else."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from lakehouse.errors import ConfigError
from lakehouse.spark.engine import files
from lakehouse.spark.engine.files import EngineFolder, EngineUnavailable
from lakehouse.storage import private_dirs
from lakehouse.storage.paths import Lake

LAKE = Lake.from_root("s3a://bucket/shop")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "cache"


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in [folder, *folder.rglob("*")]}


def test_files_of_a_lake_on_s3_are_below_the_cache_folder_of_the_user(cache: Path) -> None:
    before = os.umask(0o022)
    path = LAKE.local_path("logs", "spark.log")
    os.umask(before)

    assert path.is_relative_to(cache / "lakehouse" / "lakes")
    assert modes(cache / "lakehouse") == {0o700}


def test_a_planted_link_is_not_followed(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir(mode=0o700)
    cache.mkdir()
    (cache / "lakehouse").symlink_to(tmp_path / "victim")

    with pytest.raises(ConfigError, match="is a link") as error:
        LAKE.local_path("logs")

    assert error.value.exit_code == 2
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("place", ["lakehouse", "lakehouse/lakes"])
@pytest.mark.parametrize("kind", ["link", "file", "shared", "other owner"])
def test_a_folder_that_somebody_else_may_control_is_refused(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, kind: str
) -> None:
    planted = cache / place
    planted.parent.mkdir(mode=0o700, parents=True)
    if kind == "link":
        planted.symlink_to(tmp_path)
    elif kind == "file":
        planted.write_text("")
    else:
        planted.mkdir()
        planted.chmod(0o777 if kind == "shared" else 0o700)
    if kind == "other owner":
        monkeypatch.setattr(private_dirs.os, "getuid", lambda: 12345)

    with pytest.raises(ConfigError):
        LAKE.local_path("logs")


def test_a_folder_that_others_can_only_read_is_closed(cache: Path) -> None:
    (cache / "lakehouse" / "lakes").mkdir(parents=True)
    (cache / "lakehouse").chmod(0o755)
    (cache / "lakehouse" / "lakes").chmod(0o755)

    LAKE.local_path("logs")

    assert modes(cache / "lakehouse") == {0o700}


def test_without_a_cache_folder_the_runtime_folder_is_used_and_then_a_checked_temporary_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.write_text("no folder can be created here, not even by root")
    (tmp_path / "run").mkdir()

    temporary = LAKE.local_path("logs")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    runtime = LAKE.local_path("logs")

    assert runtime.is_relative_to(tmp_path / "run" / "lakehouse")
    assert temporary.is_relative_to(tmp_path / "tmp" / f"lakehouse-{os.getuid()}")
    assert modes(tmp_path / "tmp" / f"lakehouse-{os.getuid()}") == {0o700}


def test_a_user_without_a_home_folder_has_a_checked_temporary_one(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)

    assert LAKE.local_path("logs").is_relative_to(tmp_path / "tmp" / f"lakehouse-{os.getuid()}")


def test_a_planted_temporary_folder_is_refused(cache: Path, tmp_path: Path) -> None:
    cache.write_text("")
    (tmp_path / "tmp" / f"lakehouse-{os.getuid()}").symlink_to(tmp_path)

    with pytest.raises(ConfigError, match="is a link"):
        LAKE.local_path("logs")


@pytest.mark.parametrize("place", ["lakehouse", "lakehouse/engines"])
def test_an_engine_does_not_use_a_folder_behind_a_link(cache: Path, tmp_path: Path, place: str) -> None:
    (cache / place).parent.mkdir(parents=True)
    (cache / place).symlink_to(tmp_path)

    with pytest.raises(EngineUnavailable, match="is a link"):
        EngineFolder(cache / "lakehouse" / "engines").create()


@pytest.mark.parametrize("name", ["lock", "e1.lease", "e1.json"])
def test_no_file_of_an_engine_is_opened_through_a_link(cache: Path, tmp_path: Path, name: str) -> None:
    folder = EngineFolder(cache / "lakehouse" / "engines")
    folder.create()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder.path / name).symlink_to(victim)

    with pytest.raises(EngineUnavailable, match="symbolic links"):
        files._open_private(folder.path / name)

    assert victim.read_text() == "precious"
