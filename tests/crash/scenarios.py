"""Projects that are ready for a command: snapshots in every layer, and news in the source.

The tables are small, so that a run takes seconds in a warm JVM: rows that come, change, go and come back, rows that
cannot be read, a new column, a history, a change feed, and models with expectations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from helpers import LakeFiles, Project

from crash import loyalty

Command = tuple[str, ...]

TIMES = [f"2025010{day}_000000" for day in range(1, 10)]
GUARD = {"max_deleted": 1.0, "max_quarantined": 1.0}
FEED = {"sequence_by": ["seq"], "delete_when": "op = 'D'", "drop": ["op", "seq"]}

ITEMS: dict[str, Any] = {
    "file": "items.csv",
    "format": "csv",
    "schema": "id STRING, qty INT, note STRING",
    "keys": ["id"],
}
PEOPLE: dict[str, Any] = {
    "file": "people.csv",
    "format": "csv",
    "schema": "id INT, city STRING",
    "keys": ["id"],
    "scd": 2,
}
EVENTS: dict[str, Any] = {
    "file": "events.csv",
    "format": "csv",
    "schema": "id STRING, op STRING, seq BIGINT, a INT",
    "keys": ["id"],
    "feed": FEED,
}
TABLES = {"items": ITEMS | {"guard": GUARD}, "people": PEOPLE | {"guard": GUARD}, "events": EVENTS}
ITEM_FILES = [
    "id,qty,note\na,1,x\nb,2,x\nc,3,y\nd,-4,z\n",
    "id,qty,note\na,10,x\nb,many,x\nd,-4,z\ne,5,z\n",  # U, one that cannot be read, D, I
    "id,qty,note,size\na,1,x,7\nb,20,x,8\nc,3,y,9\nd,4,z,\n",  # back, resolved, back, D, and a new column
    "id,qty,note\na,1,x\nb,21,x\nc,3,y\nf,6,y\n",
    "id,qty,note\na,2,x\nb,21,y\nc,oops,y\ng,7,z\n",
]
PEOPLE_FILES = [
    "id,city\n1,Recife\n2,Olinda\n",
    "id,city\n1,Natal\n2,Olinda\n3,Recife\n",
    "id,city\n1,Recife\n3,Natal\n",
]
EVENT_FILES = [
    "id,op,seq,a\nk,U,1,1\nl,U,2,2\nm,U,3,3\n",
    "id,op,seq,a\nk,U,5,4\nl,D,6,\nn,U,7,5\n",
    "id,op,seq,a\nk,U,4,9\nl,U,8,8\nm,D,9,\nn,U,x,5\n",  # one that is late, and one that cannot be read
]
RULES = {"positive": {"check": "qty >= 0", "on_fail": "quarantine"}, "small": {"check": "qty < 15", "on_fail": "warn"}}
ITEMS_SQL = "SELECT i.id AS id, i.qty AS qty, i.note AS note{more} FROM bronze.items AS i"
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "silver.items": (ITEMS_SQL.format(more=""), {"keys": ["id"], "expect": RULES}),
    "gold.notes": ("SELECT i.note AS note, SUM(i.qty) AS qty FROM silver.items AS i GROUP BY i.note", {}),
    "gold.cities": (
        "SELECT p.city AS city, COUNT(*) AS people FROM bronze.people AS p WHERE p.__END_AT IS NULL GROUP BY p.city",
        {},
    ),
    "gold.events": ("SELECT e.a AS a, COUNT(*) AS events FROM bronze.events AS e GROUP BY e.a", {}),
}
OF_ITEMS = {name: MODELS[name] for name in ("silver.items", "gold.notes")}
_FOLDERS: list[TemporaryDirectory[str]] = []  # removed when the process ends
INCREMENTAL = {"full_refresh_below_bytes": 0, "full_refresh_share": 1}


@dataclass(frozen=True)
class Scenario:
    """A project that is ready, and the commands to break off.

    Attributes:
        name: Its name.
        prepare: Makes the project in a folder.
        commands: The commands; after a break, the broken one and those after it are repeated.
        only_kills: Whether an exception cannot end its commands: a stream's callback runs in a thread of the JVM.
        counts_commits: Whether another number of commits is a fault. A backlog that is taken in two parts has more.
    """

    name: str
    prepare: Callable[[Path], Project]
    commands: tuple[Command, ...] = (("run",),)
    only_kills: bool = False
    counts_commits: bool = True


@dataclass
class Prepared:
    """A scenario's project, which is copied for each case."""

    scenario: Scenario
    project: Project

    def copy(self, folder: Path) -> Project:
        """Copy the project to a folder, in place of what is there."""
        shutil.rmtree(folder, ignore_errors=True)
        return copy_project(self.project, folder)


class CopiedProject(Project):
    """A project that was copied, with the settings of its files."""

    def __init__(self, folder: Path, lake: Path) -> None:
        LakeFiles.__init__(self, lake)
        self.folder, self.pipeline, self.source = folder, folder / "pipeline", folder / "source"


def copy_project(project: Project, folder: Path) -> Project:
    """Copy a project with its lake, its source and its settings, in which the paths are those of the copy."""
    shutil.copytree(project.folder, folder, symlinks=True)
    for file in (folder / "pipeline").glob("pipeline.*"):
        file.write_text(file.read_text(encoding="utf-8").replace(str(project.folder), str(folder)), encoding="utf-8")
    return CopiedProject(folder, folder / project.lake.relative_to(project.folder))


def _deliver(project: Project, day: int, items: str | None = None) -> None:
    files = {"items": items or ITEM_FILES[day - 1]}
    if "people" in project.tables:
        files |= {"people": PEOPLE_FILES[day - 1], "events": EVENT_FILES[day - 1]}
    project.snapshot(TIMES[day - 1], **files)


def _run(project: Project, *command: str) -> None:
    done = project(*(command or ("run",)))
    assert done.code == 0, (command, done.document)


def _with_two_days(project: Project) -> Project:
    for day in (1, 2):
        _deliver(project, day)
        _run(project)
    return project


def _third_day(tuning: dict[str, Any], only_items: bool = False) -> Callable[[Path], Project]:
    """Two snapshots are in every layer; the third one has a new column, which the schema and a model name."""

    def prepare(folder: Path) -> Project:
        tables = {"items": TABLES["items"]} if only_items else TABLES
        project = Project(folder, dict(tables), dict(OF_ITEMS if only_items else MODELS), tuning=INCREMENTAL | tuning)
        _with_two_days(project)
        project.models["silver.items"] = (ITEMS_SQL.format(more=", i.size AS size"), MODELS["silver.items"][1])
        project.configure(schema=f"{ITEMS['schema']}, size INT")
        _deliver(project, 3)
        return project

    return prepare


def _first(folder: Path) -> Project:
    project = Project(folder, dict(TABLES), dict(MODELS), tuning=INCREMENTAL)
    _deliver(project, 1)
    return project


def _items_only(folder: Path, tuning: dict[str, Any] | None = None) -> Project:
    return Project(folder, {"items": TABLES["items"]}, dict(OF_ITEMS), tuning=INCREMENTAL | (tuning or {}))


def _backlog(folder: Path) -> Project:
    project = _items_only(folder, {"backlog_snapshots": 3})
    _deliver(project, 1)
    _run(project)
    for day in (2, 4, 5):
        _deliver(project, day)
    return project


def _accepted(folder: Path, days: tuple[int, ...] = (1, 2, 4)) -> Project:
    return _accepted_once(days).copy(folder)


@lru_cache
def _accepted_once(days: tuple[int, ...]) -> Project:
    """Take snapshots one by one, in a folder of this process that several scenarios copy."""
    folder = TemporaryDirectory(prefix="crash")
    _FOLDERS.append(folder)
    project = _items_only(Path(folder.name, "shop"))
    for day in days:
        _deliver(project, day)
        _run(project)
    return project


def _late(folder: Path) -> Project:
    """The second snapshot comes after the fourth one, and was rejected for being late."""
    return _accepted(folder, (1, 4, 2))


def _retyped(folder: Path) -> Project:
    project = _accepted(folder)
    project.configure(schema="id STRING, qty BIGINT, note STRING")
    return project


def _old(folder: Path) -> Project:
    """Everything is a month old, and retention keeps less."""
    from retention.test_expire import make_older

    project = _accepted(folder)
    project.document = {"retention": {"landing": "1d", "change_sets": "1d", "vacuum": "7d"}}
    project.configure()
    make_older(project.lake, days=30)
    (project.lake / "_state" / "expired.json").unlink(missing_ok=True)
    return project


def _again(folder: Path) -> Project:
    """The folder of an accepted snapshot has changed since."""
    project = _accepted(folder)
    project.snapshot(TIMES[1], items=ITEM_FILES[1].replace("e,5", "e,55"))
    return project


SPARK = {"small_table_bytes": 0, "driver_write_bytes": 0, "driver_compare_bytes": 0, "local_rows": 0}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("run", _third_day({})),
        Scenario("first", _first),
        Scenario("spark", _third_day(SPARK, only_items=True)),
        Scenario("delta", _third_day({"driver_write_bytes": 0}, only_items=True)),
        Scenario("stream", _third_day({"stream_from_bytes": 0}, only_items=True), only_kills=True),
        Scenario("backlog", _backlog, counts_commits=False),
        Scenario("expire", _old, (("expire",), ("run",))),
        Scenario("forget", _accepted, (("forget", "items", "b", "--yes"), ("run",))),
        Scenario("late", _late, (("approve", "items", TIMES[1]), ("run",))),
        Scenario("again", _again, (("approve", "items", TIMES[1]), ("run",))),
        Scenario("replay", _accepted, (("ingest", "items", "--full-refresh", "--from", TIMES[1]), ("run",))),
        Scenario("reset", _accepted, (("ingest", "items", "--full-refresh"), ("run",))),
        Scenario("loyalty", loyalty.prepare, only_kills=True),
        Scenario("retype", _retyped, (("run", "items", "--full-refresh"), ("run",))),
    )
}
NOT_REPEATED = ("approve", "--from")
"""Commands that put a snapshot in its place: repeated after they have published it, they would do so once more."""
