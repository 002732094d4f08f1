"""Extracting from a folder: each snapshot lands once, with the right time, and no file from outside the folder."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from lakehouse.cli import main
from lakehouse.config import Pipeline, load
from lakehouse.errors import ConfigError
from lakehouse.extract import (
    ExtractResult,
    changed_snapshots,
    extract_table,
    land_again,
    open_source,
    peek,
    source_signature,
)
from lakehouse.runner.context import open_run
from lakehouse.storage import landing
from lakehouse.storage.lock import lock_lake
from lakehouse.storage.paths import Lake, snapshot_name

NOW = datetime(2025, 10, 3, 17, 5, 52, tzinfo=timezone.utc)
FIRST, SECOND = "20250101_000000", "20250102_000000"


class Source:
    """A source's folder, a pipeline over it, and the lake it lands in."""

    def __init__(self, folder: Path, lake: Lake) -> None:
        self.root, self.lake, self._config = folder / "source", lake, folder / "pipeline.json"
        self.root.mkdir()
        self.file = "clientes.csv"
        self.others: list[str] = []  # the files of other tables

    @property
    def pipeline(self) -> Pipeline:
        table = {"file": self.file, "format": "csv", "schema": "id STRING", "keys": ["id"]}
        tables = {"clientes": table} | {f"t{n}": table | {"file": file} for n, file in enumerate(self.others)}
        source = {"type": "files", "path": str(self.root)}
        document = {"name": "shop", "lake": self.lake.root, "source": source, "tables": tables}
        self._config.write_text(json.dumps(document))
        return load(self._config, {})

    def put(self, path: str, content: bytes = b"id\n1\n") -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def extract(self, now: datetime = NOW, as_of: datetime | None = None) -> ExtractResult:
        with open_source(self.pipeline, self.lake, ["clientes"]) as source:
            return extract_table(source, "clientes", now, as_of)

    @property
    def landed(self) -> dict[str, dict[str, bytes]]:
        """Snapshot -> file -> bytes."""
        found = landing.list_snapshots(self.lake, "clientes")
        return {s.folder.name: {path.name: path.read_bytes() for path in s.paths} for s in found}


@pytest.fixture
def source(tmp_path: Path, lake: Lake) -> Source:
    return Source(tmp_path, lake)


def at(stamp: str) -> datetime:
    return datetime.strptime(stamp, "%Y%m%d_%H%M%S").replace(tzinfo=timezone.utc)


# Folders that are named by their time


@pytest.mark.parametrize("folder", ["20250101", "2025-01-01", FIRST])
def test_a_folder_named_by_a_day_is_a_snapshot_at_its_midnight(source: Source, folder: str) -> None:
    source.put(f"{folder}/clientes.csv")

    source.extract()

    assert list(source.landed) == [FIRST]


def test_dated_folders_land_in_order_each_once(source: Source) -> None:
    stamps = [f"202501{day:02}_000000" for day in range(1, 10)]
    for stamp in (*stamps[4:], *stamps[:4]):
        source.put(f"{stamp}/clientes.csv", stamp.encode())
    source.put("clientes.csv")

    assert source.extract() == ExtractResult("clientes", tuple(map(at, stamps)))
    assert source.extract() == ExtractResult("clientes")

    source.put("20250110_000000/clientes.csv", b"20250110_000000")
    assert source.extract() == ExtractResult("clientes", (at("20250110_000000"),))
    assert source.landed == {stamp: {"clientes.csv": stamp.encode()} for stamp in (*stamps, "20250110_000000")}


def test_a_folder_older_than_the_landed_ones_lands_too(source: Source) -> None:
    source.put(f"{SECOND}/clientes.csv")
    source.extract()
    source.put(f"{FIRST}/clientes.csv")

    assert source.extract().landed_times == (at(FIRST),)


def test_a_folder_changed_after_it_landed_gives_a_warning_and_does_not_land_again(source: Source) -> None:
    source.put(f"{FIRST}/clientes.csv", b"id\n1\n")
    source.extract()
    source.put(f"{FIRST}/clientes.csv", b"id\n2\n")

    done = source.extract()

    assert done.landed_times == ()
    (warning,) = done.warnings
    assert FIRST in warning
    assert source.landed == {FIRST: {"clientes.csv": b"id\n1\n"}}


def test_as_of_gives_a_warning_for_dated_folders(source: Source) -> None:
    source.put(f"{FIRST}/clientes.csv")

    done = source.extract(as_of=NOW)

    assert done.landed_times == (at(FIRST),)
    assert "--as-of" in done.warnings[0]


def test_a_dated_folder_without_the_file_lands_as_a_snapshot_without_files_once(source: Source) -> None:
    source.put(f"{FIRST}/produtos.csv")

    assert source.extract().landed_times == (at(FIRST),)
    assert source.extract() == ExtractResult("clientes")
    assert source.landed == {FIRST: {}}


# A folder that holds the current files


def test_the_same_bytes_do_not_land_again_whatever_the_files_dates(source: Source) -> None:
    file = source.put("clientes.csv")
    assert source.extract().landed_times == (NOW,)

    assert source.extract(NOW + timedelta(hours=6)) == ExtractResult("clientes")
    os.utime(file, (1, 1))
    assert source.extract(NOW + timedelta(hours=12)) == ExtractResult("clientes")
    source.put("clientes.csv")
    assert source.extract(NOW + timedelta(hours=18), as_of=at(FIRST)) == ExtractResult("clientes")


def test_changed_bytes_land_under_the_time_of_the_run(source: Source) -> None:
    source.put("clientes.csv", b"id\n1\n")
    source.extract(NOW)
    source.put("clientes.csv", b"id\n1\n2\n")

    assert source.extract(NOW + timedelta(hours=6, microseconds=7)).landed_times == (NOW + timedelta(hours=6),)
    assert list(source.landed.values()) == [{"clientes.csv": b"id\n1\n"}, {"clientes.csv": b"id\n1\n2\n"}]


def test_bytes_changed_with_the_same_size_and_date_are_detected(source: Source) -> None:
    file = source.put("clientes.csv", b"id\n1\n")
    source.extract()
    before = file.stat()
    source.put("clientes.csv", b"id\n2\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert len(source.extract(NOW + timedelta(hours=6)).landed_times) == 1


def test_earlier_bytes_land_again_as_a_new_snapshot(source: Source) -> None:
    for hours, content in enumerate([b"A", b"B", b"A"]):
        source.put("clientes.csv", content)
        source.extract(NOW + timedelta(hours=hours))

    assert [files["clientes.csv"] for files in source.landed.values()] == [b"A", b"B", b"A"]


def test_as_of_sets_the_time(source: Source) -> None:
    source.put("clientes.csv")

    assert source.extract(as_of=at(FIRST)).landed_times == (at(FIRST),)
    assert list(source.landed) == [FIRST]


def test_other_bytes_with_the_same_time_are_rejected(source: Source) -> None:
    for stamp, content in ((FIRST, b"A"), (SECOND, b"B")):
        source.put("clientes.csv", content)
        source.extract(as_of=at(stamp))
    source.put("clientes.csv", b"C")

    for stamp in (FIRST, SECOND):
        with pytest.raises(ConfigError) as error:
            source.extract(as_of=at(stamp))
        assert stamp in error.value.found
    source.put("clientes.csv", b"A")
    assert source.extract(as_of=at(FIRST)).landed_times == ()
    assert source.landed == {FIRST: {"clientes.csv": b"A"}, SECOND: {"clientes.csv": b"B"}}


@pytest.mark.parametrize("back", [timedelta(0), timedelta(days=1)])
def test_a_clock_set_back_does_not_put_a_snapshot_before_the_last(source: Source, back: timedelta) -> None:
    source.put("clientes.csv", b"A")
    source.extract(NOW)
    for n, content in enumerate([b"B", b"C"], start=1):
        source.put("clientes.csv", content)

        done = source.extract(NOW - back)

        assert done.landed_times == (NOW + timedelta(seconds=n),)
        assert "clock" in done.warnings[0]


def test_a_table_whose_file_vanished_lands_as_a_snapshot_without_files_once(source: Source) -> None:
    source.others = ["produtos.csv"]
    source.put("produtos.csv")
    file = source.put("clientes.csv")
    source.extract(NOW)
    file.unlink()

    assert source.extract(NOW + timedelta(hours=1)).landed_times == (NOW + timedelta(hours=1),)
    assert source.extract(NOW + timedelta(hours=2)) == ExtractResult("clientes")
    source.put("clientes.csv")
    assert source.extract(NOW + timedelta(hours=3)).landed_times == (NOW + timedelta(hours=3),)
    assert [len(files) for files in source.landed.values()] == [1, 0, 1]


# What is no snapshot


@pytest.mark.parametrize("name", ["2025-13-01", "20250101_0000", "novembro", "2025_01_01", "20250101T000000"])
def test_a_folder_with_another_name_is_passed_over_with_a_warning_on_each_run(source: Source, name: str) -> None:
    source.put(f"{FIRST}/clientes.csv")
    before = source_signature(source.pipeline, source.lake)
    source.put(f"{name}/clientes.csv")
    for quiet in (".ipynb_checkpoints", "_old"):
        source.put(f"{quiet}/clientes.csv")

    for landed in ((at(FIRST),), ()):
        done = source.extract()
        assert done.landed_times == landed
        (warning,) = done.warnings
        assert name in warning and "YYYYMMDD_HHMMSS, YYYYMMDD or YYYY-MM-DD" in warning
    assert source_signature(source.pipeline, source.lake) != before, (
        "a run with nothing else that is new would not report it"
    )
    with open_source(source.pipeline, source.lake, ["clientes"]) as opened:
        assert opened.warnings == done.warnings, "diff reports them too"


def test_many_folders_with_other_names_are_one_warning(source: Source) -> None:
    source.put(f"{FIRST}/clientes.csv")
    for n in range(30):
        source.put(f"folder{n:02}/clientes.csv")

    (warning,) = source.extract().warnings
    assert "folder00, folder01, folder02, folder03, folder04 and 25 more" in warning


@pytest.mark.parametrize("name", ["novembro", ".20250101", "_20250101", None])
def test_a_source_with_neither_snapshots_nor_files_is_refused_and_nothing_lands(
    source: Source, name: str | None
) -> None:
    source.others = ["produtos_*.csv"]
    if name:
        source.put(f"{name}/clientes.csv")

    with pytest.raises(ConfigError) as error:
        source.extract()
    assert "no snapshot" in error.value.found and "clientes.csv, produtos_*.csv" in error.value.found
    assert ("novembro" in error.value.found) == (name == "novembro")
    assert source.landed == {}


def test_a_folder_of_a_tables_files_is_not_passed_over(source: Source) -> None:
    source.file = "*/part.csv"
    source.put("north/part.csv")
    source.put("empty/other.csv")

    done = source.extract()

    assert done.landed_times == (NOW,)
    (warning,) = done.warnings
    assert "empty" in warning and "north" not in warning


@pytest.mark.parametrize("names", [("20250101", "2025-01-01"), (FIRST, "20250101")])
def test_two_folders_of_one_time_are_refused_and_nothing_lands(source: Source, names: tuple[str, str]) -> None:
    for name in names:
        source.put(f"{name}/clientes.csv")
    source.put(f"{SECOND}/clientes.csv")

    with pytest.raises(ConfigError) as error:
        source.extract()
    assert all(name in error.value.found for name in names)
    assert source.landed == {}


@pytest.mark.parametrize(
    ("files", "pattern"),
    [
        (["part-00000.snappy.parquet", "_SUCCESS", ".part-00000.crc"], '"itens/*.parquet"'),
        (["part-0.csv.gz", "part-1.csv.gz"], '"itens/*.csv.gz"'),
        (["uf=SP/part-0.parquet"], '"itens/**/*.parquet"'),
        (["a.csv", "b.txt"], '"itens/*"'),
    ],
)
@pytest.mark.parametrize("root", [f"{FIRST}/", ""])
def test_a_pattern_that_matches_a_folder_leaves_a_hint_with_the_pattern_of_its_files(
    source: Source, files: list[str], pattern: str, root: str
) -> None:
    source.file = "itens"
    for file in files:
        source.put(f"{root}itens/{file}")
    with open_source(source.pipeline, source.lake, ["clientes"]) as opened:
        looked, _ = peek(opened, "clientes", NOW)
    source.extract()

    (snapshot,) = landing.list_snapshots(source.lake, "clientes")
    assert snapshot.files == ()
    assert snapshot.hint == looked.hint
    assert snapshot.hint.endswith(f"write `file: {pattern}`")

    source.file = json.loads(pattern)
    with open_source(source.pipeline, source.lake, ["clientes"]) as opened:
        names = [file.name for file in peek(opened, "clientes", NOW)[0].files] if not root else []
    assert (
        root
        or names == [f"itens/{file}" for file in files if not file.startswith(("_", "."))]
        or pattern == '"itens/*"'
    )


# A folder that changed after it was taken


def test_a_changed_folder_stays_reported_until_it_is_landed_again(source: Source) -> None:
    for stamp in (FIRST, SECOND):
        source.put(f"{stamp}/clientes.csv", b"id\n1\n")
    source.extract()
    source.put(f"{SECOND}/clientes.csv", b"id\n1\n2\n")

    for _ in range(2):
        (warning,) = source.extract().warnings
        assert f"lakehouse approve {source.pipeline.argument} clientes {SECOND}" in warning

    with open_source(source.pipeline, source.lake, ["clientes"]) as opened:
        (changed,) = changed_snapshots(opened, landing.list_snapshots(source.lake, "clientes"))
        assert changed.time == at(SECOND)
        assert land_again(opened, "clientes", changed.time)
        assert not land_again(opened, "clientes", at("20300101_000000"))
        assert changed_snapshots(opened, landing.list_snapshots(source.lake, "clientes")) == []
    assert source.landed[SECOND] == {"clientes.csv": b"id\n1\n2\n"}
    assert source.extract() == ExtractResult("clientes")

    source.put(f"{FIRST}/clientes.csv", b"id\n3\n")
    (warning,) = source.extract().warnings
    assert f"lakehouse approve {source.pipeline.argument} clientes {FIRST}" in warning


# Which files


def test_a_glob_selects_all_matching_files_in_order_of_names(source: Source) -> None:
    source.file = "clientes_*.csv"
    for name in ("e", "g", "c", "a", "b", "d", "f"):
        source.put(f"{FIRST}/clientes_{name}.csv", name.encode())
    source.put(f"{FIRST}/clientes.csv")
    source.put(f"{FIRST}/produtos_a.csv")
    (source.root / FIRST / "clientes_folder.csv").mkdir()
    source.extract()

    assert list(source.landed[FIRST].items()) == [(f"clientes_{name}.csv", name.encode()) for name in "abcdefg"]


def test_files_with_the_same_name_in_two_folders_both_land(source: Source) -> None:
    source.file = "*/part.csv"
    source.put(f"{FIRST}/north/part.csv", b"id\n1\n")
    source.put(f"{FIRST}/south/part.csv", b"id\n2\n")
    source.extract()

    (snapshot,) = landing.list_snapshots(source.lake, "clientes")
    assert sorted(path.read_bytes() for path in snapshot.paths) == [b"id\n1\n", b"id\n2\n"]


def test_a_file_added_to_a_glob_is_a_change(source: Source) -> None:
    source.file = "*.csv"
    source.put("a.csv")
    source.extract(NOW)
    source.put("b.csv")

    assert len(source.extract(NOW + timedelta(hours=1)).landed_times) == 1


@pytest.mark.parametrize("inside", [False, True])
def test_a_snapshot_folder_that_is_a_link_is_not_taken_and_reported(
    source: Source, tmp_path: Path, inside: bool
) -> None:
    source.put(f"{FIRST}/clientes.csv")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "clientes.csv").write_bytes(b"id\nsecret\n")
    before = source_signature(source.pipeline, source.lake)

    (source.root / SECOND).symlink_to(source.root / FIRST if inside else outside)

    result = source.extract()
    assert result.landed_times == (at(FIRST),)
    (warning,) = result.warnings
    assert SECOND in warning
    assert "symbolic link" in warning
    assert source.landed == {FIRST: {"clientes.csv": b"id\n1\n"}}
    assert source_signature(source.pipeline, source.lake) != before, (
        "a run with nothing else that is new would not report it"
    )


def test_a_source_whose_only_snapshots_are_links_lands_none_of_them(source: Source, tmp_path: Path) -> None:
    (tmp_path / "clientes.csv").write_bytes(b"id\nsecret\n")
    (source.root / FIRST).symlink_to(tmp_path)
    source.file = "**/clientes.csv"

    with pytest.raises(ConfigError, match="symbolic link"):
        source.extract()
    assert not any(b"secret" in content for files in source.landed.values() for content in files.values())


def test_a_link_that_points_out_of_the_snapshot_is_not_followed(source: Source, tmp_path: Path) -> None:
    source.file = "**/*.csv"
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"id\nsecret\n")
    inside = source.put(f"{FIRST}/real.csv")
    source.put(f"{SECOND}/other.csv")
    (source.root / FIRST / "file.csv").symlink_to(outside / "secret.csv")
    (source.root / FIRST / "folder").symlink_to(outside)
    (source.root / FIRST / "neighbour.csv").symlink_to(source.root / SECOND / "other.csv")
    (source.root / FIRST / "alias.csv").symlink_to(inside)
    source.extract()

    assert source.landed[FIRST] == {"real.csv": b"id\n1\n", "alias.csv": b"id\n1\n"}
    assert "secret" not in str(source.landed)


# The source itself


def test_the_signature_changes_with_the_files_and_only_with_them(source: Source) -> None:
    file = source.put("clientes.csv", b"A")
    source.put("notes.txt")

    def signature() -> dict[str, str]:
        return source_signature(source.pipeline, source.lake) or {}

    before = signature()
    assert list(before) == ["clientes.csv"]
    source.put("notes.txt", b"other")
    assert signature() == before
    os.utime(file, (1, 1))
    assert signature() != before


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_source_that_is_not_a_folder_is_reported(source: Source, kind: str) -> None:
    source.root.rmdir()
    if kind == "a file":
        source.root.touch()

    with pytest.raises(ConfigError) as error:
        source.extract()

    assert str(source.root) in error.value.found


# The newest snapshot without landing it


def peek_newest(source: Source) -> tuple[str, Path, list[str], str]:
    """The newest snapshot's time, folder and file names, and the warning; the lake does not change."""
    before = sorted(Path(source.lake.root).rglob("*"))
    with open_source(source.pipeline, source.lake, ["clientes"]) as opened_source:
        found, warning = peek(opened_source, "clientes", NOW)
    assert sorted(Path(source.lake.root).rglob("*")) == before
    assert all(path.is_file() for path in found.paths)
    return snapshot_name(found.time), found.folder, [f.name for f in found.files], warning


def test_peek_returns_the_newest_folder_in_the_source_and_once_landed_in_landing(source: Source) -> None:
    source.put(f"{FIRST}/clientes.csv")
    newest = source.put(f"{SECOND}/clientes.csv").parent
    assert peek_newest(source) == (SECOND, newest, ["clientes.csv"], "")

    source.extract()
    landed = source.lake.landing_path("clientes") / SECOND
    assert peek_newest(source) == (SECOND, landed, ["clientes.csv"], "")

    source.put(f"{SECOND}/clientes.csv", b"id\n2\n")
    stamp, folder, names, warning = peek_newest(source)
    assert (stamp, folder, names) == (SECOND, landed, ["clientes.csv"])
    assert "changed after it was landed" in warning


def test_peek_returns_files_without_a_time_as_of_now_unless_they_have_landed(source: Source) -> None:
    source.file = "**/*.csv"
    source.put("clientes.csv")
    source.put("more/clientes.csv")
    names = ["clientes.csv", "more/clientes.csv"]
    assert peek_newest(source) == ("20251003_170552", source.root, names, "")

    source.extract()
    assert peek_newest(source) == (
        "20251003_170552",
        source.lake.landing_path("clientes") / "20251003_170552",
        names,
        "",
    )

    source.put("clientes.csv", b"id\n2\n")  # within the same second
    assert peek_newest(source) == ("20251003_170553", source.root, names, "")


# Where the source and the lake are


def run_from(folder: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, Path, set[str]]:
    """Land the source from a working directory; return the exit code, the lake, and what is new in that directory."""
    folder.mkdir(exist_ok=True)
    before = {path.name for path in folder.iterdir()}
    monkeypatch.chdir(folder)
    code = main(["extract", str(pipeline)])
    return code, Path(open_run(pipeline).lake.root), {path.name for path in folder.iterdir()} - before


def relative_pipeline(folder: Path, source: str = "source", lake: str = "lake/shop") -> Path:
    table = {"file": "clientes.csv", "format": "csv", "schema": "id STRING", "keys": ["id"]}
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "name": "shop",
        "lake": lake,
        "source": {"type": "files", "path": source},
        "tables": {"clientes": table},
    }
    (folder / "pipeline.json").write_text(json.dumps(document))
    return folder


def test_relative_paths_are_those_of_the_pipeline_wherever_it_is_called_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = relative_pipeline(tmp_path / "project")
    (project / "source").mkdir()
    (project / "source" / "clientes.csv").write_text("id\n1\n")

    assert run_from(tmp_path / "elsewhere", project, monkeypatch) == (0, project / "lake" / "shop", set())
    assert run_from(project, project, monkeypatch)[:2] == (0, project / "lake" / "shop")
    assert (project / "lake" / "shop" / "landing").is_dir()


def test_paths_that_exist_from_the_working_directory_are_those(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = relative_pipeline(tmp_path / "conf" / "shop", source="samples/shop")
    (tmp_path / "samples" / "shop").mkdir(parents=True)
    (tmp_path / "samples" / "shop" / "clientes.csv").write_text("id\n1\n")

    assert run_from(tmp_path, conf, monkeypatch) == (0, tmp_path / "lake" / "shop", {"lake"})


def test_a_new_lake_of_an_absolute_source_is_beside_the_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "clientes.csv").write_text("id\n1\n")
    conf = relative_pipeline(tmp_path / "conf", source=str(tmp_path / "data"))

    assert run_from(tmp_path / "elsewhere", conf, monkeypatch) == (0, conf / "lake" / "shop", set())


@pytest.mark.parametrize("verb", ["run", "extract"])
def test_nothing_is_made_when_the_source_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    project = relative_pipeline(tmp_path / "project")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert main([verb, str(project)]) == 2
    assert {path.name for path in tmp_path.rglob("*")} == {"project", "elsewhere", "pipeline.json"}


def test_a_lake_that_another_run_holds_gets_no_record_of_a_missing_source(tmp_path: Path) -> None:
    project = relative_pipeline(tmp_path / "project", lake=str(tmp_path / "lake"))
    records = tmp_path / "lake/_state/runs"
    with lock_lake(Lake(str(tmp_path / "lake")), "run-7", "ingest"):
        assert main(["run", str(project)]) == 6
        assert not records.exists()

    assert main(["run", str(project)]) == 2
    assert len(list(records.iterdir())) == 1


# Equal files, while a key is missing


def test_equal_files_land_once_more_when_the_grace_of_a_missing_key_has_ended(source: Source) -> None:
    """Once only: a snapshot that landed since then may be held, and waits for a person."""
    source.put("clientes.csv")
    first, due, later = at("20250101_000000"), at("20250108_000000"), at("20250109_120000")

    def extract(now: datetime, as_of: datetime | None = None) -> ExtractResult:
        with open_source(source.pipeline, source.lake, ["clientes"]) as opened:
            return extract_table(opened, "clientes", now, as_of, due)

    assert extract(first).landed_times == (first,)
    assert extract(due - timedelta(seconds=1)).landed_times == ()
    assert extract(first, as_of=due).landed_times == (due,)
    assert extract(later).landed_times == ()


def test_snapshots_that_are_written_several_at_a_time_land_in_order_up_to_the_one_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source(tmp_path, Lake(str(tmp_path / "lake")))
    names = [f"202501{day:02}_000000" for day in range(1, 29)]
    for name in names:
        source.put(f"{name}/clientes.csv", f"id\n{name}\n".encode())
    copy = landing._copy_file

    def copy_most(path: Path, *others: Any) -> landing.LandedFile:
        if path.parent.name == names[20]:
            raise OSError("no space left on device")
        return copy(path, *others)

    monkeypatch.setattr(landing, "_copy_file", copy_most)
    with pytest.raises(OSError, match="no space left"):
        source.extract()

    def landed() -> list[str]:
        return [snapshot_name(each.time) for each in landing.list_snapshots(source.lake, "clientes")]

    assert landed() == names[:20]
    monkeypatch.setattr(landing, "_copy_file", copy)
    assert [snapshot_name(time) for time in source.extract().landed_times] == names[20:]
    assert landed() == names
