"""Extracting from a git repository: every commit that changed a table is a snapshot of it, at its time, in order."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import git_commits
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.cli import main
from lakehouse.config import load
from lakehouse.errors import ConfigError, DataRefused, ExitCode, LakehouseError
from lakehouse.extract import extract_table, open_source, peek, source_signature
from lakehouse.extract.git import history
from lakehouse.extract.git.repository import Commit
from lakehouse.storage import landing
from lakehouse.storage.paths import Lake, snapshot_name

NOW = datetime(2025, 6, 1, tzinfo=timezone.utc)
GUIDE = Path(__file__).parents[3] / "docs" / "guide" / "git.md"
CLIENTS, ORDERS = "clients.csv", "orders.csv"


@dataclass
class Repository:
    """A repository, a pipeline over it, and the lake it lands in."""

    folder: Path
    files: dict[str, str] = field(default_factory=lambda: {"clients": CLIENTS})
    since: str | None = None
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.folder / "repository"
        self.path.mkdir()
        self.git("init", "-q", "-b", "main")

    @property
    def lake(self) -> Lake:
        return Lake.from_root(str(self.folder / "lake"))

    def git(self, *arguments: str, date: str = "2025-01-01T00:00:00Z", text: bytes | None = None) -> str:
        return git_commits.git(self.path, *arguments, date=date, text=text)

    def put(self, name: str, content: bytes = b"id\n1\n") -> None:
        (self.path / name).parent.mkdir(parents=True, exist_ok=True)
        (self.path / name).write_bytes(content)

    def commit(self, date: str, files: Mapping[str, bytes | None] | None = None) -> str:
        return git_commits.commit(self.path, date, files)

    def write_pipeline(self, **source: Any) -> str:
        table = {"format": "csv", "schema": "id STRING", "keys": ["id"]}
        document = {
            "name": "shop",
            "lake": self.lake.root,
            "source": {"type": "git", "path": str(self.path)} | ({"since": self.since} if self.since else {}) | source,
            "tables": {name: table | {"file": file} for name, file in self.files.items()},
        }
        (self.folder / "pipeline.json").write_text(json.dumps(document))
        return str(self.folder / "pipeline.json")

    def extract(self, *tables: str, rewritten: bool = False) -> dict[str, tuple[str, ...]]:
        """Extract, and return the warnings by table."""
        pipeline, names = load(self.write_pipeline(), {}), tables or tuple(self.files)
        with open_source(pipeline, self.lake, names, rewritten) as source:
            return {name: extract_table(source, name, NOW, None).warnings for name in names}

    def landed(self, table: str = "clients") -> dict[str, dict[str, bytes]]:
        """Snapshot -> file -> bytes."""
        found = landing.list_snapshots(self.lake, table)
        return {s.folder.name: {f.name: p.read_bytes() for f, p in zip(s.files, s.paths, strict=True)} for s in found}

    def commits(self, table: str = "clients") -> list[str]:
        return [snapshot.commit for snapshot in landing.list_snapshots(self.lake, table)]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def run(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main([*words, "--json"])
    return code, capsys.readouterr().out


# Which commits are snapshots


def test_each_commit_that_changed_a_table_is_a_snapshot_of_it_at_the_committers_time(repository: Repository) -> None:
    repository.files = {"clients": CLIENTS, "orders": ORDERS}
    repository.commit("2025-01-01T10:00:00+02:00", {CLIENTS: b"id\n1\n", ORDERS: b"id\n9\n"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"id\n2\n"})
    repository.commit("2025-01-03T00:00:00Z", {"README": b"no table"})
    repository.commit("2025-01-04T00:00:00Z", {ORDERS: b"id\n8\n"})

    repository.extract()

    assert repository.landed("clients") == {
        "20250101_080000": {CLIENTS: b"id\n1\n"},
        "20250102_000000": {CLIENTS: b"id\n2\n"},
    }
    assert repository.landed("orders") == {
        "20250101_080000": {ORDERS: b"id\n9\n"},
        "20250104_000000": {ORDERS: b"id\n8\n"},
    }


def test_a_commit_is_at_least_a_second_after_its_parent_as_that_was_used(repository: Repository) -> None:
    for n, date in enumerate(["00:00:10Z", "00:00:10Z", "00:00:05Z", "00:00:12Z", "00:00:20Z"]):
        name = "README" if n == 1 else CLIENTS  # a commit of no table has a time as well
        repository.commit(f"2025-01-01T{date}", {name: b"%d" % n})

    repository.extract()

    assert [name[-2:] for name in repository.landed()] == ["10", "12", "13", "20"]


def test_the_second_extract_lands_nothing_and_later_ones_only_new_commits(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.extract()
    before = (repository.lake.landing_path("clients") / "20250101_000000").stat().st_mtime_ns  # type: ignore[union-attr]
    repository.extract()
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"2"})
    repository.extract()

    assert list(repository.landed()) == ["20250101_000000", "20250101_000001"]
    assert (repository.lake.landing_path("clients") / "20250101_000000").stat().st_mtime_ns == before  # type: ignore[union-attr]


def test_what_was_taken_is_known_without_the_state_folder(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.extract()
    shutil.rmtree(repository.folder / "lake" / "_state")
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    repository.extract()

    assert list(repository.landed()) == ["20250101_000000", "20250102_000000"]


def test_a_merge_is_what_it_changed_in_its_first_parent(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.git("checkout", "-q", "-b", "side")
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"side 1"})
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"side 2"})
    repository.git("checkout", "-q", "main")
    repository.commit("2025-01-04T00:00:00Z", {"README": b"x"})
    repository.git("merge", "-q", "--no-ff", "-m", "x", "side", date="2025-01-05T00:00:00Z")

    repository.extract()

    assert repository.landed() == {"20250101_000000": {CLIENTS: b"1"}, "20250105_000000": {CLIENTS: b"side 2"}}


def test_a_history_that_was_merged_the_other_way_round_goes_on_without_a_question(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.git("branch", "other")
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"2"})
    repository.extract()
    repository.git("checkout", "-q", "other")
    repository.commit("2025-01-02T00:00:00Z", {"README": b"x"})
    repository.git("merge", "-q", "-m", "x", "main", date="2025-01-04T00:00:00Z")  # what was taken: the second parent
    assert repository.git("rev-parse", "HEAD^2") == repository.commits()[-1]

    repository.extract()

    assert list(repository.landed()) == ["20250101_000000", "20250103_000000", "20250104_000000"]


def test_a_table_of_several_files_has_all_of_them_in_each_snapshot(repository: Repository) -> None:
    repository.files = {"clients": "data/*/clients.csv"}
    repository.commit("2025-01-01T00:00:00Z", {"data/a/clients.csv": b"a1", "data/b/clients.csv": b"b1"})
    repository.commit("2025-01-02T00:00:00Z", {"data/b/clients.csv": b"b2", "data/x/y/clients.csv": b"deeper"})
    repository.commit("2025-01-03T00:00:00Z", {"data/a/clients.csv": None, "clients.csv": b"not below data"})
    repository.commit("2025-01-04T00:00:00Z", {"clients.csv": b"again"})

    repository.extract()

    assert repository.landed() == {
        "20250101_000000": {"data/a/clients.csv": b"a1", "data/b/clients.csv": b"b1"},
        "20250102_000000": {"data/a/clients.csv": b"a1", "data/b/clients.csv": b"b2"},
        "20250103_000000": {"data/b/clients.csv": b"b2"},
    }
    repository.commit("2025-01-05T00:00:00Z", {"data/c/clients.csv": b"c"})
    repository.extract()
    assert repository.landed()["20250105_000000"] == {"data/b/clients.csv": b"b2", "data/c/clients.csv": b"c"}


def test_a_commit_that_deletes_the_files_of_a_table_is_a_snapshot_without_them(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: None})
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"3"})

    repository.extract()

    assert repository.landed() == {
        "20250101_000000": {CLIENTS: b"1"},
        "20250102_000000": {},
        "20250103_000000": {CLIENTS: b"3"},
    }


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("2025-01-02", ["02", "03"]),
        ("20250102", ["02", "03"]),
        ("2025-01-02T00:00:00", ["02", "03"]),
        ("2025-01-02T00:00:01", ["03"]),
        ("20250102_000001", ["03"]),
        ("2025-01-01T22:00:00-02:00", ["02", "03"]),
        ("2025-01-03T03:00:00+03:00", ["03"]),
        ("2025-01-04", []),
    ],
)
def test_since_is_the_first_day_or_instant_that_is_taken(
    repository: Repository, since: str, expected: list[str]
) -> None:
    for day in ("01", "02", "03"):
        repository.commit(f"2025-01-{day}T00:00:00Z", {CLIENTS: day.encode()})
    repository.since = since

    warnings = repository.extract()

    assert [name[6:8] for name in repository.landed()] == expected
    assert [bool(w) for w in warnings.values()] == [not expected]


def test_times_do_not_depend_on_since(repository: Repository) -> None:
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"2"})  # a clock that was set back
    repository.since = "2025-01-02T00:00:01Z"

    repository.extract()

    assert repository.landed() == {"20250102_000001": {CLIENTS: b"2"}}


def test_an_earlier_since_takes_nothing_from_before_and_reports_it(repository: Repository) -> None:
    for day in ("01", "02"):
        repository.commit(f"2025-01-{day}T00:00:00Z", {CLIENTS: day.encode()})
    repository.since = "2025-01-02"
    repository.extract()
    repository.since = None

    (warning,) = repository.extract()["clients"]

    assert list(repository.landed()) == ["20250102_000000"]
    assert "are not taken, because later ones were" in warning


def test_a_table_that_is_added_later_gets_the_history_from_its_beginning(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1", ORDERS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2", ORDERS: b"2"})
    repository.extract()
    repository.files["orders"] = ORDERS

    repository.extract()

    assert (
        list(repository.landed("orders"))
        == list(repository.landed("clients"))
        == ["20250101_000000", "20250102_000000"]
    )


def test_a_bare_repository_is_read_like_one_with_a_work_tree(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.git("clone", "-q", "--bare", ".", str(repository.folder / "bare.git"))
    repository.path = repository.folder / "bare.git"

    repository.extract()

    assert repository.landed() == {"20250101_000000": {CLIENTS: b"1"}}


def test_what_is_not_committed_and_how_files_are_checked_out_do_not_matter(repository: Repository) -> None:
    repository.put(".gitattributes", b"*.csv text eol=crlf filter=shout\n")
    repository.git("config", "filter.shout.smudge", "tr a-z A-Z")
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"id\na\n"})
    repository.put(CLIENTS, b"changed, not committed")
    status = repository.git("status", "--porcelain")

    repository.extract()

    assert repository.landed() == {"20250101_000000": {CLIENTS: b"id\na\n"}}
    assert repository.git("status", "--porcelain") == status != ""


def test_the_example_of_the_guide(repository: Repository) -> None:
    rows = re.findall(r"^\| (20\d\d-.*) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    repository.files = {"items": "items.csv", "shops": "shops/*.csv"}
    expected: dict[str, dict[str, list[str]]] = {"items": {}, "shops": {}}
    for n, row in enumerate(rows):
        date, written, deleted, *landed = (cell.strip() for cell in row.split("|"))
        contents: dict[str, bytes | None] = {name: b"%d" % n for name in written.split(", ") if name}
        repository.commit(date, contents | {name: None for name in deleted.split(", ") if name})
        for table, cell in zip(expected, landed, strict=True):
            if cell:
                stamp, _, names = cell.partition(":")
                expected[table][stamp] = [name for name in names.strip().split(", ") if name]

    repository.extract()

    assert len(rows) == 7
    assert {t: {stamp: sorted(files) for stamp, files in repository.landed(t).items()} for t in expected} == expected


# A run that was killed, a history that was rewritten


def test_after_a_kill_the_rest_is_taken_at_the_same_times(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.files = {"clients": CLIENTS, "orders": ORDERS}
    for n in range(30):  # all in one second
        repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"%d" % n, ORDERS: b"%d" % n})
    copy, calls = landing._copy_file, 0

    def die(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 17:
            raise KeyboardInterrupt
        return copy(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(landing, "_copy_file", die)
        repository.extract()
    killed = list(repository.landed())
    assert 0 < len(killed) <= 16
    assert killed == [f"20250101_{n // 60:04}{n % 60:02}" for n in range(len(killed))]

    repository.extract()

    for table in ("clients", "orders"):
        contents = [files[f"{table}.csv"] for files in repository.landed(table).values()]
        assert contents == [b"%d" % n for n in range(30)]
        assert list(repository.landed(table)) == [f"20250101_0000{n:02}" for n in range(30)]
        assert [p.name for p in Path(str(repository.lake.landing_path(table))).glob(".*")] == []


def test_a_rewritten_history_is_refused_and_lands_nothing(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.files = {"clients": CLIENTS, "orders": ORDERS}
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1", ORDERS: b"1"})
    lost = repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    repository.extract()
    repository.git("commit", "-q", "--amend", "-m", "y", date="2025-01-03T00:00:00Z")
    repository.commit("2025-01-04T00:00:00Z", {ORDERS: b"4"})

    code, out = run("extract", repository.write_pipeline(), capsys=capsys)

    assert code == ExitCode.REFUSED
    document = json.loads(out)
    assert {o["name"]: (o["status"], o["code"]) for o in document["outcomes"]} == {
        "clients": ("failed", 5),
        "orders": ("failed", 5),
    }
    assert lost[:12] in document["outcomes"][0]["note"]
    assert "--rewritten" in document["outcomes"][0]["note"]
    assert list(repository.landed("orders")) == ["20250101_000000"]

    code, _ = run("extract", repository.write_pipeline(), "--rewritten", capsys=capsys)

    assert code == ExitCode.OK
    assert repository.landed("clients") == {
        "20250101_000000": {CLIENTS: b"1"},
        "20250102_000000": {CLIENTS: b"2"},
        "20250103_000000": {CLIENTS: b"2"},
    }
    assert list(repository.landed("orders")) == ["20250101_000000", "20250104_000000"]
    assert run("extract", repository.write_pipeline(), capsys=capsys)[0] == ExitCode.OK


def test_commits_after_the_common_ancestor_are_later_than_everything_taken(repository: Repository) -> None:
    repository.files = {"clients": CLIENTS, "orders": ORDERS}
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1", ORDERS: b"1"})
    repository.commit("2025-02-01T00:00:00Z", {CLIENTS: b"lost"})
    repository.extract()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("2025-01-10T00:00:00Z", {CLIENTS: b"2", ORDERS: b"2"})
    repository.commit("2025-01-11T00:00:00Z", {CLIENTS: b"3"})

    repository.extract(rewritten=True)

    assert list(repository.landed()) == ["20250101_000000", "20250201_000000", "20250201_000001", "20250201_000002"]
    assert list(repository.landed("orders")) == ["20250101_000000", "20250201_000001"]  # one commit, one time
    assert repository.landed()["20250201_000002"] == {CLIENTS: b"3"}


def test_a_commit_has_one_time_also_if_a_run_was_killed_after_a_rewrite(repository: Repository) -> None:
    repository.files = {"clients": CLIENTS, "orders": ORDERS}
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1", ORDERS: b"1"})
    repository.commit("2025-02-01T00:00:00Z", {CLIENTS: b"lost", ORDERS: b"lost"})
    repository.extract()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("2025-01-10T00:00:00Z", {"README": b"x"})
    repository.commit("2025-01-11T00:00:00Z", {CLIENTS: b"2", ORDERS: b"2"})
    repository.extract("orders", rewritten=True)

    repository.extract(rewritten=True)

    assert list(repository.landed("clients")) == list(repository.landed("orders"))
    assert list(repository.landed("clients"))[-1] == "20250201_000002"


def test_a_history_that_was_cut_back_leaves_the_table_as_it_is_in_head(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    second = repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    repository.extract()
    repository.git("reset", "-q", "--hard", "HEAD~1")

    with pytest.raises(LakehouseError, match="is no ancestor of HEAD"):
        repository.extract()
    repository.extract(rewritten=True)

    assert list(repository.landed().values()) == [{CLIENTS: b"1"}, {CLIENTS: b"2"}, {CLIENTS: b"1"}]
    repository.extract()  # nothing is left to ask
    assert len(repository.landed()) == 3
    repository.git("reset", "-q", "--hard", second)
    repository.extract()
    assert list(repository.landed())[-1] == "20250102_000002"
    assert list(repository.landed().values())[-1] == {CLIENTS: b"2"}


def test_a_rewritten_history_in_a_new_clone_without_the_old_commits_has_a_common_ancestor(
    repository: Repository,
) -> None:
    for day in ("01", "02", "03"):
        repository.commit(f"2025-01-{day}T00:00:00Z", {CLIENTS: day.encode()})
    repository.extract()
    repository.git("reset", "-q", "--hard", "HEAD~1")
    repository.commit("2025-01-04T00:00:00Z", {CLIENTS: b"04"})
    repository.git("clone", "-q", "--no-local", ".", str(repository.folder / "clone"))
    repository.path = repository.folder / "clone"

    repository.extract(rewritten=True)

    assert [name[6:8] for name in repository.landed()] == ["01", "02", "03", "04"]


def test_rewritten_is_for_a_git_repository_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    repository = Repository(tmp_path)
    repository.put(CLIENTS)
    pipeline = repository.write_pipeline(type="files")

    code, out = run("extract", pipeline, "--rewritten", capsys=capsys)

    assert code == ExitCode.USAGE
    assert json.loads(out)["error"]["next_step"] == "leave --rewritten out"
    assert not (tmp_path / "lake" / "landing").exists()
    assert run("extract", pipeline, capsys=capsys)[0] == ExitCode.OK


# Shallow and partial clones, hostile content


def test_a_shallow_clone_begins_where_it_begins_and_says_so(repository: Repository) -> None:
    for day in ("01", "02", "03"):
        repository.commit(f"2025-01-{day}T00:00:00Z", {CLIENTS: day.encode()})
    origin = repository.path
    repository.git("clone", "-q", "--depth", "2", f"file://{origin}", str(repository.folder / "clone"))
    repository.path = repository.folder / "clone"

    (warning,) = repository.extract()["clients"]

    assert [name[6:8] for name in repository.landed()] == ["02", "03"]
    assert "is a shallow clone" in warning
    shutil.rmtree(repository.path)
    repository.path = origin
    repository.commit("2025-01-04T00:00:00Z", {CLIENTS: b"04"})
    repository.commit("2025-01-05T00:00:00Z", {CLIENTS: b"05"})
    repository.git("clone", "-q", "--depth", "1", f"file://{origin}", str(repository.folder / "clone"))
    repository.path = repository.folder / "clone"
    with pytest.raises(LakehouseError, match="the clone is shallow") as refused:
        repository.extract()
    command = refused.value.next_step.partition(";")[0]
    subprocess.run([*command.split(), "-q"], check=True)
    repository.extract()
    assert [name[6:8] for name in repository.landed()] == ["02", "03", "04", "05"]


def test_content_that_a_partial_clone_lacks_is_not_fetched(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    repository.git("config", "uploadpack.allowFilter", "true")
    clone = str(repository.folder / "clone")
    repository.git("clone", "-q", "--bare", "--filter=blob:none", f"file://{repository.path}", clone)
    repository.path = Path(clone)

    with pytest.raises(ConfigError, match="the clone lacks the content of files") as error:
        repository.extract()

    assert "without --filter" in error.value.next_step
    shutil.rmtree(clone)
    subprocess.run(["git", "clone", "-q", "--bare", repository.folder / "repository", clone], check=True)
    repository.extract()
    assert len(repository.landed()) == 2


def test_a_pointer_of_git_lfs_is_refused_after_what_came_before(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n"
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: pointer})
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"3"})

    code, out = run("extract", repository.write_pipeline(), capsys=capsys)

    assert code == ExitCode.REFUSED
    assert "clients.csv in" in out
    assert "a pointer of Git LFS" in out
    assert list(repository.landed()) == ["20250101_000000"]
    repository.since = "2025-01-03"  # as the advice says
    repository.extract()
    assert list(repository.landed()) == ["20250101_000000", "20250103_000000"]


def test_links_and_submodules_are_not_followed_and_reported(repository: Repository) -> None:
    repository.files = {"clients": "*"}
    secret = repository.folder / "secret"
    secret.write_text("id\nsecret\n")
    repository.put(CLIENTS, b"1")
    (repository.path / "link.csv").symlink_to(secret)
    commit = repository.commit("2025-01-01T00:00:00Z")
    repository.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repository.git("commit", "-q", "-m", "x", date="2025-01-02T00:00:00Z")

    warnings = repository.extract()["clients"]

    assert repository.landed() == {"20250101_000000": {CLIENTS: b"1"}}
    assert [w.partition(" and was not")[0] for w in warnings] == [
        "link.csv is a symbolic link",
        "module is a submodule",
    ]
    (repository.path / CLIENTS).unlink()
    (repository.path / CLIENTS).symlink_to(secret)  # a file that becomes a link is gone
    repository.git("add", CLIENTS)
    repository.git("commit", "-q", "-m", "x", date="2025-01-03T00:00:00Z")
    repository.extract()
    assert repository.landed()["20250103_000000"] == {}


def test_names_that_leave_the_folder_are_not_written(repository: Repository) -> None:
    repository.files = {"clients": "**/*"}
    content = repository.git("hash-object", "-w", "--stdin", text=b"evil")
    raw = b"".join(b"100644 %s\0%s" % (name, bytes.fromhex(content)) for name in (b"a.csv", b"b/../../../c.csv"))
    inner = repository.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", text=raw)
    outer = b"40000 ..\0" + bytes.fromhex(inner) + b"40000 d\0" + bytes.fromhex(inner)
    tree = repository.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", text=outer)
    commit = repository.git("commit-tree", "-m", "x", tree, date="2025-01-01T00:00:00Z")
    repository.git("update-ref", "HEAD", commit)

    warnings = repository.extract()["clients"]

    assert repository.landed() == {"20250101_000000": {"d/a.csv": b"evil"}}
    assert len(warnings) == 3
    assert list(repository.folder.rglob("c.csv")) == []


def test_a_name_that_the_disk_cannot_have_is_refused(repository: Repository) -> None:
    repository.files = {"clients": "*"}
    content = repository.git("hash-object", "-w", "--stdin", text=b"1")
    tree = repository.git("mktree", text=f"100644 blob {content}\t{'x' * 300}\n100644 blob {content}\ta.csv\n".encode())
    repository.git("update-ref", "HEAD", repository.git("commit-tree", "-m", "x", tree))

    with pytest.raises(DataRefused, match="a file cannot have the name xxx"):
        repository.extract()

    assert repository.landed() == {}
    repository.files = {"clients": "*.csv"}
    repository.extract()
    assert repository.landed() == {"20250101_000000": {"a.csv": b"1"}}


def test_odd_names_and_contents_land_as_they_are(repository: Repository) -> None:
    repository.files = {"clients": "d*/*"}
    names = {"d/a\nb.csv": b"\0\n1", "d/:b.csv": b"", "d/-c.csv": b"c" * 3_000_000, 'd\t"/é.csv': b"\n"}
    repository.commit("2025-01-01T00:00:00Z", dict(names))

    repository.extract()

    assert repository.landed() == {"20250101_000000": names}


def test_no_program_that_a_repository_names_is_run(repository: Repository) -> None:
    evil, mark = repository.folder / "evil", repository.folder / "was-run"
    evil.write_text(f"#!/bin/sh\ntouch {mark}\n")
    evil.chmod(evil.stat().st_mode | stat.S_IXUSR)
    repository.put(".gitattributes", b"*.csv diff=evil filter=evil\n")
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    settings = ["core.fsmonitor", "core.pager", "diff.external", "diff.evil.textconv", "diff.evil.command"]
    settings += ["filter.evil.smudge", "filter.evil.process", "core.sshCommand", "core.alternateRefsCommand"]
    for setting in (*settings, "gpg.program", "credential.helper", "core.editor"):
        repository.git("config", setting, str(evil))
    for hook in ("post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"):
        (repository.path / ".git" / "hooks").mkdir(exist_ok=True)
        shutil.copy(evil, repository.path / ".git" / "hooks" / hook)
    mark.unlink(missing_ok=True)

    repository.extract()
    source_signature(load(repository.write_pipeline(), {}), repository.lake)

    assert len(repository.landed()) == 2
    assert not mark.exists()


def test_variables_of_the_environment_do_not_lead_to_another_repository(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path))

    repository.extract()

    assert repository.landed() == {"20250101_000000": {CLIENTS: b"1"}}


# What cannot be read


def broken(what: str) -> Callable[[Repository], dict[str, Any]]:
    def change(repository: Repository) -> dict[str, Any]:
        (repository.folder / "file").write_text("x")
        (repository.path / "below").mkdir()
        return {
            "no such folder": {"path": str(repository.folder / "nowhere")},
            "a file": {"path": str(repository.folder / "file")},
            "no repository": {"path": str(repository.folder)},
            "a folder inside a repository": {"path": str(repository.path / "below")},
        }.get(what, {})

    return change


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("no such folder", "does not exist"),
        ("a file", "is a file"),
        ("no repository", "is not a git repository"),
        ("a folder inside a repository", "is not a git repository"),
        ("no commit", "has no commit at HEAD"),
    ],
)
def test_a_source_that_is_no_repository_ends_with_2_and_lands_nothing(
    repository: Repository, what: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = broken(what)(repository)
    if what != "no commit":
        repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})

    code, out = run("extract", repository.write_pipeline(**source), capsys=capsys)

    assert code == ExitCode.USAGE
    assert message in json.loads(out)["error"]["found"]
    assert not (repository.folder / "lake" / "landing").exists()
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    assert run("extract", repository.write_pipeline(), capsys=capsys)[0] == ExitCode.OK


def test_a_file_that_no_commit_has_ends_with_2_and_names_the_nearest(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit("2025-01-01T00:00:00Z", {"data/clients.csv": b"1"})

    code, out = run("extract", repository.write_pipeline(), capsys=capsys)

    assert code == ExitCode.USAGE
    assert 'did you mean "data/clients.csv"?' in json.loads(out)["error"]["found"]
    assert not (repository.folder / "lake" / "landing").exists()
    repository.files = {"clients": "data/clients.csv"}
    assert run("extract", repository.write_pipeline(), capsys=capsys)[0] == ExitCode.OK


def test_one_table_without_any_file_is_a_warning(repository: Repository) -> None:
    repository.files = {"clients": CLIENTS, "orders": "order.csv"}
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1", ORDERS: b"2"})

    warnings = repository.extract()

    assert warnings["clients"] == ()
    assert "has a file order.csv" in warnings["orders"][0]
    assert 'did you mean "orders.csv"?' in warnings["orders"][0]


PROGRAMS = {
    "git is not installed": None,
    "git is too old": "echo git version 1.8.3.1",
    "belongs to another user": (
        'case "$*" in version) echo git version 2.39.5;;'
        " *) echo \"fatal: detected dubious ownership in repository at '/x'\" >&2; exit 128;; esac"
    ),
}


@pytest.mark.parametrize("found", PROGRAMS)
def test_a_git_that_is_missing_too_old_or_distrusts_the_owner_ends_with_2(
    repository: Repository, found: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    programs = repository.folder / "bin"
    programs.mkdir()
    if script := PROGRAMS[found]:
        (programs / "git").write_text(f"#!/bin/sh\n{script}\n")
        (programs / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))

    code, out = run("extract", repository.write_pipeline(), capsys=capsys)

    assert code == ExitCode.USAGE
    assert found in json.loads(out)["error"]["found"]


def test_a_damaged_repository_ends_with_3(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    tree = repository.git("rev-parse", "HEAD^{tree}")
    (repository.path / ".git" / "objects" / tree[:2] / tree[2:]).unlink()

    assert run("extract", repository.write_pipeline(), capsys=capsys)[0] == ExitCode.INFRASTRUCTURE


@pytest.mark.parametrize("what", ["commit", "tag", "other content", "replaced"])
def test_content_is_what_was_committed_or_it_is_refused(repository: Repository, what: str) -> None:
    first = repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"id\n1\n"})
    blob, other = (
        repository.git("rev-parse", f"HEAD:{CLIENTS}"),
        repository.git("hash-object", "-w", "--stdin", text=b"2"),
    )
    if what == "replaced":  # by a reference that says so: what was committed is read
        repository.git("replace", blob, other)
        repository.extract()
        assert repository.landed() == {"20250101_000000": {CLIENTS: b"id\n1\n"}}
        return
    if what == "other content":  # a file of the repository was changed by hand
        objects = repository.path / ".git" / "objects"
        target = objects / blob[:2] / blob[2:]
        target.unlink()
        shutil.copy(objects / other[:2] / other[2:], target)
    else:  # a tree that was made by hand, whose file is no file
        tag = f"object {first}\ntype commit\ntag x\ntagger x <x@example.org> 0 +0000\n\nx\n".encode()
        named = first if what == "commit" else repository.git("mktag", text=tag)
        raw = b"100644 %s\0%s" % (CLIENTS.encode(), bytes.fromhex(named))
        tree = repository.git("hash-object", "-w", "-t", "tree", "--literally", "--stdin", text=raw)
        repository.git("update-ref", "HEAD", repository.git("commit-tree", "-m", "x", tree))

    with pytest.raises(DataRefused, match=f"{CLIENTS}.*: the commit names the content"):
        repository.extract()

    assert repository.landed() == {}


@pytest.mark.parametrize("since", ["yesterday", "2025-13-01", True, 2025, "0001-01-01T00:00+23:00"])
def test_a_since_that_is_no_time_is_wrong_configuration(repository: Repository, since: Any) -> None:
    with pytest.raises(ConfigError, match=r"source\.since"):
        load(repository.write_pipeline(since=since), {})


def test_columns_are_read_from_the_names_of_files_in_the_tree(repository: Repository) -> None:
    repository.files = {"clients": "clients_{uf}.csv"}
    pipeline = json.loads(Path(repository.write_pipeline()).read_text())
    pipeline["tables"]["clients"]["schema"] = "id STRING, uf STRING"
    (repository.folder / "pipeline.json").write_text(json.dumps(pipeline))
    repository.commit("2025-01-01T00:00:00Z", {"clients_SP.csv": b"1", "clients_.csv": b"2", "clients_RJ.csv": b"3"})

    with open_source(load(repository.folder / "pipeline.json", {}), repository.lake, ["clients"]) as source:
        extract_table(source, "clients", NOW, None)

    (landed,) = repository.landed().values()
    assert landed == {"clients_SP.csv": b"1", "clients_RJ.csv": b"3"}


# What a run without news, `diff` and others see


def test_the_signature_is_heads_commit(repository: Repository) -> None:
    commit = repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})

    assert source_signature(load(repository.write_pipeline(), {}), repository.lake) == {"HEAD": commit, "shallow": ""}


def test_peek_shows_the_newest_commit_of_a_table_and_lands_nothing(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.extract()
    repository.commit("2025-01-02T00:00:00Z", {CLIENTS: b"2"})
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"3"})
    pipeline = load(repository.write_pipeline(), {})

    with open_source(pipeline, repository.lake, ["clients"]) as source:
        snapshot, _ = peek(source, "clients", NOW)
        assert snapshot_name(snapshot.time) == "20250103_000000"
        assert [path.read_bytes() for path in snapshot.paths] == [b"3"]
        assert {time.day for time in source.times_of("clients")} == {2, 3}

    assert list(repository.landed()) == ["20250101_000000"]
    repository.extract()
    with open_source(pipeline, repository.lake, ["clients"]) as source:
        assert peek(source, "clients", NOW)[0].folder == repository.lake.landing_path("clients") / "20250103_000000"


def test_snapshots_that_landed_from_a_folder_stand(repository: Repository) -> None:
    repository.commit("2025-01-01T00:00:00Z", {CLIENTS: b"1"})
    repository.commit("2025-01-03T00:00:00Z", {CLIENTS: b"3"})
    landing.land_snapshot(
        repository.lake, "clients", datetime(2025, 1, 2, tzinfo=timezone.utc), [repository.path / CLIENTS]
    )

    (warning,) = repository.extract()["clients"]

    assert [name[6:8] for name in repository.landed()] == ["02", "03"]
    assert "are of another source" in warning


# Laws


@settings(max_examples=300)
@given(
    seconds=st.lists(st.integers(0, 50) | st.integers(0, 2**62), min_size=1, max_size=20),
    taken=st.dictionaries(st.integers(0, 19), st.integers(0, 100), max_size=3),
    newest=st.none() | st.integers(0, 200),
)
def test_times_rise_by_a_second_at_least_and_are_never_before_the_committers(
    seconds: list[int], taken: dict[int, int], newest: int | None
) -> None:
    start = datetime(1970, 1, 1, tzinfo=timezone.utc)
    commits = [Commit(str(n), second) for n, second in enumerate(seconds)]
    times_of = {str(n): start + timedelta(seconds=second) for n, second in taken.items()}
    latest = start + timedelta(seconds=newest) if newest is not None else None

    times = history.commit_times(commits, times_of, latest)

    assert all((b - a).total_seconds() >= 1 for a, b in pairwise(times))
    for commit, time in zip(commits, times, strict=True):
        if commit.id not in times_of and commit.committed < 10**10:
            assert (time - start).total_seconds() >= commit.committed
    if latest and str(len(commits) - 1) not in times_of:
        assert times[-1] > latest


@settings(max_examples=200, deadline=None)
@given(
    names=st.lists(
        st.lists(st.sampled_from(["a", "b.csv", ".c", "[d]", "*"]), min_size=1, max_size=4).map("/".join), max_size=6
    ),
    pattern=st.lists(st.sampled_from(["a", "*", "*.csv", "**", "?", "[ab]*", "[[]d]"]), min_size=1, max_size=4)
    .filter(lambda parts: parts[-1] != "**")
    .map("/".join),
)
def test_names_match_as_in_the_folder_of_a_snapshot(
    names: list[str], pattern: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("glob")
    for name in names:
        file = folder / name
        if not any(parent.is_file() for parent in file.parents) and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    found = {p.relative_to(folder).as_posix() for p in folder.glob(pattern) if p.is_file()}

    assert {name for name in files if history.matches(name, pattern)} == found
    paths = history.literal_paths([pattern])
    assert all(not paths or any(f"{name}/".startswith(f"{path}/") for path in paths) for name in found)
