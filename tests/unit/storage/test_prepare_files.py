"""Tests that unpacked and rewritten files are in the lake's state only while they are read."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from lakehouse.config import Table
from lakehouse.errors import DataRefused
from lakehouse.storage import landing
from lakehouse.storage.csv_dialect import Dialect
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake
from lakehouse.storage.prepare_files import readable_snapshot

TIME = datetime(2025, 1, 1, tzinfo=timezone.utc)


def table(**settings: Any) -> Table:
    return Table.model_validate({"file": "*", "format": "csv", "schema": "id STRING", "keys": ["id"]} | settings)


def land(lake: Lake, folder: Path, **contents: bytes) -> LandedSnapshot:
    for name, content in contents.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return landing.land_snapshot(lake, "items", TIME, [folder / name.replace("__", ".") for name in contents])


def temporary_folders(lake: Lake) -> list[Path]:
    folder = lake.state_path("plain")
    return list(folder.iterdir()) if folder.exists() else []


def test_plain_files_are_read_where_they_landed(lake: Lake, tmp_path: Path) -> None:
    landed = land(lake, tmp_path, a__csv=b"id\r\n1\r\n", b__csv=b"id\n1\r\n")  # no quote: every line is a record

    with readable_snapshot(lake, table(), landed) as files:
        assert files == landed
    assert not lake.state_path().exists(), "nothing is made for them"


def test_a_file_with_quotes_and_one_kind_of_line_end_stays_where_it_landed(lake: Lake, tmp_path: Path) -> None:
    landed = land(lake, tmp_path, a__csv=b'id\r\n"1"\r\n')

    with readable_snapshot(lake, table(), landed) as files:
        assert files == landed
    assert temporary_folders(lake) == []


def test_packed_files_and_mixed_line_ends_are_read_from_temporary_copies(lake: Lake, tmp_path: Path) -> None:
    mixed = b'id\n"1"\r\n'
    landed = land(lake, tmp_path, a__csv=b"id\n1\n", b__csv=mixed, c__csv__gz=gzip.compress(mixed))

    with readable_snapshot(lake, table(), landed) as files:
        assert [f.name for f in files.files] == ["a.csv", "b.csv", "c.csv.gz/c.csv"]
        assert files.paths[0] == landed.folder / "a.csv"
        assert [p.read_bytes() for p in files.paths] == [b"id\n1\n", b'id\n"1"\n', b'id\n"1"\n']
        assert files.folder == landed.folder
        inside = {p.relative_to(lake.state_path("plain")).parts[0] for p in files.paths[1:]}
        assert len(inside) == 1
    assert temporary_folders(lake) == []
    assert landed.paths[1].read_bytes() == mixed


def test_a_refusal_names_the_file_as_received(lake: Lake, tmp_path: Path) -> None:
    landed = land(lake, tmp_path, a__csv__gz=gzip.compress(b'id\r"1\n'))

    with pytest.raises(DataRefused) as error, readable_snapshot(lake, table(), landed):
        pass
    assert error.value.where.startswith(f"{landed.folder}/a.csv.gz/a.csv, ")
    assert temporary_folders(lake) == []


def test_files_of_a_killed_reading_are_deleted_and_files_in_use_stay(lake: Lake, tmp_path: Path) -> None:
    land(lake, tmp_path, a__csv__gz=gzip.compress(b"id\n1\n"))
    script = (
        "import sys; sys.path[:0] = ['tests/unit/storage']; from pathlib import Path\n"
        "from test_prepare_files import *\n"
        f"lake = Lake({lake.root!r})\n"
        "with readable_snapshot(lake, table(), landing.newest_snapshot(lake, 'items')) as files:\n"
        "    print('ready', flush=True); sys.stdin.read()"
    )
    reader = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    )
    assert reader.stdout and reader.stdin
    reader.stdout.readline()
    landed = landing.newest_snapshot(lake, "items")
    assert landed
    with readable_snapshot(lake, table(), landed):
        assert len(temporary_folders(lake)) == 2
    (theirs,) = temporary_folders(lake)

    os.kill(reader.pid, signal.SIGKILL)
    reader.communicate()
    assert theirs.exists()
    with readable_snapshot(lake, table(), landed):
        assert not theirs.exists()


@pytest.mark.parametrize(
    "encoding", ["ISO-8859-1", "windows-1252", "IBM850", "GBK", "US-ASCII", "Shift_JIS", "UTF-16", "UTF-8"]
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_nul_in_any_encoding_becomes_a_replacement_character(
    lake: Lake, tmp_path: Path, encoding: str, packed: bool
) -> None:
    """Most encodings have no U+FFFD, so that the copy that Spark reads is in UTF-8."""
    config = table().model_copy(update={"options": {"encoding": encoding, "sep": ";", "quote": "'"}})
    content = "id;v\na;x\0y\nb;z\n".encode(encoding)
    files = {"a__csv__gz": gzip.compress(content)} if packed else {"a__csv": content}
    landed = land(lake, tmp_path, **files)

    with readable_snapshot(lake, config, landed) as readable:
        (path,) = readable.paths
        dialect = Dialect.from_options(config.options)
        assert path.read_bytes().decode(dialect.encoding_of(path)) == "id;v\na;x\ufffdy\nb;z\n"
        assert list(dialect.read_records(path)) == [["id", "v"], ["a", "x\ufffdy"], ["b", "z"]]


def test_a_refusal_about_a_copy_in_utf8_names_the_file_as_received(lake: Lake, tmp_path: Path) -> None:
    config = table().model_copy(update={"options": {"encoding": "ISO-8859-1"}})
    landed = land(lake, tmp_path, a__csv=b'id\n"1\0\n')

    with pytest.raises(DataRefused) as error, readable_snapshot(lake, config, landed) as readable:
        Dialect.from_options(config.options).count_records(readable.paths[0])
    assert error.value.where.startswith(f"{landed.folder}/a.csv, ")
