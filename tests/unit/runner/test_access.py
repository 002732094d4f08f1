"""What a run creates can be read by its user only, unless the pipeline says that its group may."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lakehouse.cli import main
from lakehouse.errors import ExitCode


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """Let everybody read new files, as most systems do."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def extract(folder: Path, **settings: str) -> set[tuple[str, int]]:
    """Land a file that only its user can read, and return the kinds and modes of all that was created."""
    table = {"file": "items.csv", "format": "csv", "schema": "id INT", "keys": ["id"]}
    source = {"type": "files", "path": str(folder / "source")}
    document = {"name": "shop", "lake": str(folder / "lake"), "source": source, "tables": {"items": table}}
    (folder / "pipeline.json").write_text(json.dumps(document | settings))
    landed = folder / "source" / "20250101_000000" / "items.csv"
    landed.parent.mkdir(parents=True)
    landed.write_text("id\n1\n")
    landed.chmod(0o600)

    assert main(["extract", str(folder)]) == ExitCode.OK

    paths = [folder / "lake", *(folder / "lake").rglob("*")]
    return {("folder" if path.is_dir() else "file", stat.S_IMODE(path.stat().st_mode)) for path in paths}


def test_files_of_a_lake_are_for_their_user_only(tmp_path: Path) -> None:
    assert extract(tmp_path) == {("folder", 0o700), ("file", 0o600)}


@pytest.mark.parametrize(
    ("access", "folder", "file"), [("owner", 0o700, 0o600), ("group_read", 0o750, 0o640), ("group", 0o770, 0o660)]
)
def test_a_pipeline_can_let_the_group_use_its_files(tmp_path: Path, access: str, folder: int, file: int) -> None:
    assert extract(tmp_path, access=access) == {("folder", folder), ("file", file)}


def test_an_unknown_access_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(AssertionError, match="2"):
        extract(tmp_path, access="everybody")

    assert "access" in capsys.readouterr().err
