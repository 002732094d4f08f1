"""Provides a source of type `git`: each commit of the first-parent history is a snapshot of the tables it changed.

The manifest of a landed snapshot has its commit's id. So what has been taken is known from the landing zone alone, and
a run that was killed is continued after the last commit that landed.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from lakehouse.config import Git, Pipeline
from lakehouse.config.file_pattern import FilePattern
from lakehouse.config.strict_model import did_you_mean
from lakehouse.errors import ConfigError, DataRefused
from lakehouse.extract.git import history
from lakehouse.extract.git.repository import Blobs, Commit, Repository, TreeEntry, git_command, open_repository
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import file_io, landing
from lakehouse.storage.landing import LandedSnapshot
from lakehouse.storage.paths import Lake, snapshot_name, utc_text_z
from lakehouse.text import visible

_SHORT_ID = 12
_SHOWN_NAMES = 5
_SECOND = timedelta(seconds=1)
_NO_FILE_NAMES = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.EINVAL, errno.EILSEQ)

Tree = dict[str, TreeEntry]


@dataclass(frozen=True)
class GitHistory:
    """An open repository.

    Attributes:
        find_new: Returns the snapshots of a table that have not been taken, oldest first.
        warnings: Warnings about the repository.
        table_warnings: Warnings about a table, by its name.
    """

    find_new: Callable[[str], Iterator[SourceSnapshot]]
    warnings: tuple[str, ...]
    table_warnings: Mapping[str, tuple[str, ...]]


@contextmanager
def open_history(pipeline: Pipeline, lake: Lake, tables: tuple[str, ...], rewritten: bool) -> Iterator[GitHistory]:
    """Read the history of a repository, and provide the snapshots of each table until the end of the block.

    Args:
        pipeline: A pipeline with a source of type `git`.
        lake: The lake, whose landed snapshots name the commits that were taken.
        tables: The names of the tables to extract.
        rewritten: Whether to go on after the common ancestor if the last commit taken is no ancestor of HEAD.

    Raises:
        ConfigError: There is no repository, or git cannot read it.
        InfrastructureError: The repository cannot be read.
    """
    timeline = _read_timeline(pipeline, lake)
    repository = timeline.repository
    works = {table: _find_work(timeline, table) for table in tables}
    lost = next((work.newest for work in works.values() if work.is_lost), None)
    refusal = _rewritten_error(pipeline, repository, lost) if lost and not rewritten else None
    starts = {} if refusal else {table: work.start for table, work in works.items()}
    changes = _read_changes(timeline, starts, _patterns(pipeline))
    head_tree = repository.list_files(repository.head, _literal_paths(_patterns(pipeline).values()))
    with (
        file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as temp_dir,
        repository.open_blobs() as blobs,
    ):
        files = _Files(timeline, blobs, temp_dir.local)

        def find_new(table: str) -> Iterator[SourceSnapshot]:
            if refusal:
                raise refusal
            return _list_snapshots(files, table, works[table], changes[table], head_tree)

        yield GitHistory(
            find_new,
            _shallow_warnings(timeline),
            {table: _table_warnings(timeline, table, works[table], changes.get(table), head_tree) for table in tables},
        )


def require_files(pipeline: Pipeline) -> None:
    """Raise if no commit of the repository has a file of any table.

    Args:
        pipeline: A pipeline with a source of type `git`.

    Raises:
        ConfigError: No commit has one; or there is no repository.
    """
    repository, patterns = _open(pipeline), _patterns(pipeline)
    names = repository.list_files(repository.head, _literal_paths(patterns.values()))
    if any(_matches(name, pattern) for name in names for pattern in patterns.values()):
        return
    timeline = _Timeline(pipeline, repository, repository.first_parents(), [], {}, 0)
    if any(table.changes for table in _read_changes(timeline, dict.fromkeys(patterns, 0), patterns).values()):
        return
    files = ", ".join(dict.fromkeys(visible(pattern.text) for pattern in patterns.values()))
    known = sorted(repository.list_files(repository.head, []))
    more = f" and {len(known) - _SHOWN_NAMES} more" if len(known) > _SHOWN_NAMES else ""
    raise ConfigError(
        f"no commit of {repository.path} has a file {files}{did_you_mean(next(iter(patterns.values())).text, known)}",
        expected=f"files of the repository, such as: {', '.join(known[:_SHOWN_NAMES]) or 'none'}{more}",
        where=repository.where,
        next_step="correct source.path or `file`; folders are a part of the name: data/prices.csv",
    )


def signature(pipeline: Pipeline) -> dict[str, str]:
    """Return the commit of HEAD, and where the history of a shallow clone begins; equal means nothing new to land.

    Args:
        pipeline: A pipeline with a source of type `git`.
    """
    repository = _open(pipeline)
    return {"HEAD": repository.head, "shallow": " ".join(repository.shallow_commits)}


def _open(pipeline: Pipeline) -> Repository:
    return open_repository(pipeline.source_folder, f"{pipeline.path}: source.path")


def _settings(pipeline: Pipeline) -> Git:
    assert isinstance(pipeline.source, Git)
    return pipeline.source


def _patterns(pipeline: Pipeline) -> dict[str, FilePattern]:
    """Return the `file` of each table."""
    return {name: table.file_pattern for name, table in pipeline.tables.items()}


def _matches(name: str, pattern: FilePattern) -> bool:
    """Return whether a file in a tree is one of a table's; its name has the columns that `file` takes from it."""
    return history.matches(name, pattern.glob) and (not pattern.columns or pattern.values(name) is not None)


def _literal_paths(patterns: Iterable[FilePattern]) -> list[str]:
    """Return files and folders that contain everything that some patterns match; none if that is the whole tree."""
    return history.literal_paths(pattern.glob for pattern in patterns)


# --- which commits ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Timeline:
    """The history of a repository, beside what has landed.

    Attributes:
        pipeline: The pipeline.
        repository: The repository.
        commits: Its history, each commit the first parent of the next.
        times: The times of the commits.
        landed: The landed snapshots of each table that are needed, oldest first.
        first: The position of the first commit by `since`.
    """

    pipeline: Pipeline
    repository: Repository
    commits: list[Commit]
    times: list[datetime]
    landed: Mapping[str, list[LandedSnapshot]]
    first: int

    @property
    def positions(self) -> dict[str, int]:
        """The position of each commit, by id."""
        return {commit.id: position for position, commit in enumerate(self.commits)}


@dataclass(frozen=True)
class _Work:
    """The commits of a table to take.

    Attributes:
        start: The position of the first one.
        is_lost: Whether the last commit that was taken is no ancestor of HEAD.
        newest: The newest landed snapshot.
    """

    start: int
    is_lost: bool = False
    newest: LandedSnapshot | None = None


def _read_timeline(pipeline: Pipeline, lake: Lake) -> _Timeline:
    repository = _open(pipeline)
    commits = repository.first_parents()
    landed = _landed_snapshots(lake, pipeline, {commit.id for commit in commits})
    snapshots = sorted((one for found in landed.values() for one in found), key=lambda snapshot: snapshot.time)
    taken = {snapshot.commit: snapshot.time for snapshot in snapshots if snapshot.commit}
    times = history.commit_times(commits, taken, snapshots[-1].time if taken else None)
    since = _settings(pipeline).since_time
    first = next((n for n, time in enumerate(times) if since is None or time >= since), len(commits))
    return _Timeline(pipeline, repository, commits, times, landed, first)


def _landed_snapshots(lake: Lake, pipeline: Pipeline, known: set[str]) -> dict[str, list[LandedSnapshot]]:
    """Return the newest landed snapshot of each table; all of them if the history lacks the commit of one.

    Those of all tables, also of those that the command does not name: a commit has one time.
    """
    newest = {table: landing.newest_snapshot(lake, table) for table in pipeline.tables}
    if all(snapshot is None or not snapshot.commit or snapshot.commit in known for snapshot in newest.values()):
        return {table: [snapshot] if snapshot else [] for table, snapshot in newest.items()}
    return {table: landing.list_snapshots(lake, table) for table in pipeline.tables}


def _find_work(timeline: _Timeline, table: str) -> _Work:
    """Return where the commits begin that a table has not taken.

    If the last one is not in the first-parent history, they begin after the newest commit of the history that was
    taken: what lies between that and the common ancestor did not change the table.
    """
    landed, positions = timeline.landed[table], timeline.positions
    if not landed:
        return _Work(timeline.first)
    newest, is_lost = landed[-1], False
    if not newest.commit:  # of another source, whose snapshots stand
        start = next((n for n, time in enumerate(timeline.times) if time > newest.time), len(timeline.commits))
    elif newest.commit in positions:
        start = positions[newest.commit] + 1
    else:
        start = max((positions[one.commit] + 1 for one in landed if one.commit in positions), default=0)
        is_lost = not timeline.repository.is_ancestor(newest.commit)
    return _Work(max(timeline.first, start), is_lost, newest)


def _rewritten_error(pipeline: Pipeline, repository: Repository, newest: LandedSnapshot) -> DataRefused:
    last = f"{newest.commit[:_SHORT_ID]}, the last commit taken of {newest.table} ({utc_text_z(newest.time)}),"
    head, command = f"HEAD ({repository.head[:_SHORT_ID]})", f"lakehouse run {pipeline.argument} --rewritten"
    if repository.shallow_commits:
        return DataRefused(
            f"{last} is not in the history of {head}; the clone is shallow, so that its history begins later",
            expected="a clone whose history has the last commit taken",
            where=str(repository.path),
            next_step=f"{git_command(repository.path)} fetch --unshallow; if the history was rewritten: {command}",
        )
    return DataRefused(
        f"{last} is no ancestor of {head}: the history was rewritten, or HEAD names another branch",
        expected="a history that continues the one that was taken",
        where=str(repository.path),
        next_step=f"to take the commits after the common ancestor: {command}",
    )


# --- what the commits changed -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _TableChanges:
    """The commits that changed the files of a table.

    Attributes:
        before: The files before the first of them.
        changes: By position, the files that the commit changed, by name; None for one that it removed.
    """

    before: Tree
    changes: dict[int, dict[str, TreeEntry | None]]


def _read_changes(
    timeline: _Timeline, starts: Mapping[str, int], patterns: Mapping[str, FilePattern]
) -> dict[str, _TableChanges]:
    """Return what the commits changed in the files of some tables; links, submodules and unsafe names are no files.

    Args:
        timeline: The history.
        starts: The position of the first commit of each of these tables.
        patterns: The `file` of each table.
    """
    start, commits = min(starts.values(), default=0), timeline.commits
    if not starts or start >= len(commits):
        return {table: _TableChanges({}, {}) for table in starts}
    paths = _literal_paths(patterns[table] for table in starts)
    positions, repository = timeline.positions, timeline.repository
    tree = repository.list_files(commits[start - 1].id, paths) if start else {}
    trees = {table: _matching_files(tree, patterns[table]) for table in starts}
    found = {table: _TableChanges(dict(trees[table]), {}) for table in starts}
    pairs = ((commits[n].id, commits[n - 1].id if n else None) for n in range(start, len(commits)))
    for commit, name, entry in repository.changed_files(pairs, paths):
        new = entry if entry and _is_taken(name, entry) else None
        for table, first in starts.items():
            if not _matches(name, patterns[table]) or (new is None and name not in trees[table]):
                continue
            _apply(trees[table], {name: new})
            if positions[commit] < first:
                _apply(found[table].before, {name: new})
            else:
                found[table].changes.setdefault(positions[commit], {})[name] = new
    return found


def _matching_files(tree: Tree, pattern: FilePattern) -> Tree:
    return {n: entry for n, entry in tree.items() if _matches(n, pattern) and _is_taken(n, entry)}


def _is_taken(name: str, entry: TreeEntry) -> bool:
    return entry.is_file and history.is_safe(name)


def _apply(tree: Tree, changes: Mapping[str, TreeEntry | None]) -> None:
    for name, entry in changes.items():
        if entry:
            tree[name] = entry
        else:
            tree.pop(name, None)


# --- the snapshots ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Files:
    """Writes the files of commits to a temporary folder.

    Attributes:
        timeline: The history.
        blobs: The reader of the files' content.
        folder: The temporary folder.
    """

    timeline: _Timeline
    blobs: Blobs
    folder: Path

    def write(self, commit: Commit, tree: Tree, table: str) -> TableFiles:
        """Write the files of a table in a commit to a folder of their own.

        Args:
            commit: The commit.
            tree: The files.
            table: The name of the table.

        Raises:
            DataRefused: The content is not in the repository, or the file system cannot have such a file.
        """
        folder = self.folder / f"{table}-{commit.id}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, entry in tree.items():
            named = f"{name} in {commit.id[:_SHORT_ID]}"
            try:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                self.blobs.copy(entry, folder / name, named)
            except OSError as error:
                if error.errno not in _NO_FILE_NAMES:
                    raise
                raise DataRefused(
                    f"a file cannot have the name {visible(named)} here: {error.strerror}",
                    expected="names that the file system of the lake can have",
                    where=str(self.timeline.repository.path),
                    next_step="change `file` so that it does not match this name",
                ) from None
        return TableFiles(folder, sorted(folder / name for name in tree))


def _list_snapshots(
    files: _Files, table: str, work: _Work, table_changes: _TableChanges, head_tree: Tree
) -> Iterator[SourceSnapshot]:
    """Yield the snapshots of a table that have not been taken, oldest first.

    If the history was rewritten and no commit after the common ancestor changed the table, its files in HEAD are one:
    otherwise it would stay as a commit left it that the history no longer has.
    """
    timeline = files.timeline
    first = timeline.commits[timeline.first].id if timeline.first < len(timeline.commits) else ""
    last_time = work.newest.time if work.newest else None

    def snapshot(position: int, tree: Tree) -> SourceSnapshot:
        nonlocal last_time
        time, commit = timeline.times[position], timeline.commits[position]
        last_time = max(time, last_time + _SECOND) if last_time else time
        fetch = partial(files.write, commit, dict(tree))
        return SourceSnapshot(last_time, fetch, immutable=True, commit=commit.id, first_commit=first)

    tree = dict(table_changes.before)
    for position, changes in table_changes.changes.items():
        _apply(tree, changes)
        yield snapshot(position, tree)
    if work.is_lost and not table_changes.changes:
        pattern = _patterns(timeline.pipeline)[table]
        yield snapshot(len(timeline.commits) - 1, _matching_files(head_tree, pattern))


# --- what is reported -------------------------------------------------------------------------------------------------


def _shallow_warnings(timeline: _Timeline) -> tuple[str, ...]:
    """Return a warning if the clone is shallow, unless `since` begins later than its history."""
    repository = timeline.repository
    if timeline.first or not repository.shallow_commits:
        return ()
    begin, command = timeline.commits[0].id[:_SHORT_ID], f"{git_command(repository.path)} fetch --unshallow"
    return (f"{repository.path} is a shallow clone: its history begins at {begin}; {command} fetches the rest",)


def _table_warnings(
    timeline: _Timeline, table: str, work: _Work, table_changes: _TableChanges | None, head_tree: Tree
) -> tuple[str, ...]:
    pattern, newest = _patterns(timeline.pipeline)[table], work.newest
    matching = {name: entry for name, entry in head_tree.items() if _matches(name, pattern)}
    warnings = [_not_taken_warning(name, entry) for name, entry in matching.items() if not _is_taken(name, entry)]
    if len(warnings) > _SHOWN_NAMES:
        warnings[_SHOWN_NAMES:] = [f"{len(warnings) - _SHOWN_NAMES} more names were not taken for the same reasons"]
    if newest is None and table_changes and not table_changes.changes:
        since = _settings(timeline.pipeline).since
        commits = f"no commit since {since}" if since else "no commit"
        if _matching_files(head_tree, pattern):
            warnings.append(f"{commits} changed {visible(pattern.text)}: the next one that does is its first snapshot")
        else:
            hint = did_you_mean(pattern.text, timeline.repository.list_files(timeline.repository.head, []))
            warnings.append(f"{commits} of {timeline.repository.path} has a file {visible(pattern.text)}{hint}")
    if newest and not newest.commit:
        stamp = snapshot_name(newest.time)
        warnings.append(f"the landed snapshots up to {stamp} are of another source; only later commits are taken")
    if newest and timeline.first < timeline.positions.get(newest.first_commit, 0):
        warnings.append(
            f"commits before {newest.first_commit[:_SHORT_ID]} are not taken, because later ones were: the history, or"
            " `since`, began there; a new lake takes all of them"
        )
    return tuple(warnings)


def _not_taken_warning(name: str, entry: TreeEntry) -> str:
    if entry.is_file:
        return f"{visible(name)} was not taken: the lake cannot have a file of this name"
    return f"{visible(name)} is {entry.kind} and was not taken: only files of the repository itself are"
