"""Copies snapshots from a source into the landing zone, unchanged; the entry points are `open_source`, `extract_table`.

    with open_source(pipeline, lake, tables) as source:
        extract_table(source, "clientes", now, as_of)

The steps, in order:

1. `open_source` lists the source's snapshots: `folder.py` for files, without those that are not ready (`ready.py`);
   `git/source.py` for the commits of a repository; `kaggle/source.py` for a dataset on Kaggle; `postgres/source.py`
   for the tables of a database; `kafka/source.py` for the new messages of topics.
2. `source.py`: `extract_table` lands each snapshot that has not landed yet. `peek` returns the newest one without
   landing it.

A source knows nothing of Spark, of the ledger, or of changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

from lakehouse.config import Files, Git, Jdbc, Kafka, Kaggle, Pipeline
from lakehouse.errors import ConfigError
from lakehouse.extract import folder, ready
from lakehouse.extract.ready import NotReady
from lakehouse.extract.source import (
    ExtractResult,
    Source,
    changed_snapshots,
    extract_table,
    land_again,
    next_step_if_changed,
    peek,
)
from lakehouse.storage.paths import Lake

__all__ = [
    "ExtractResult",
    "NotReady",
    "Source",
    "changed_snapshots",
    "extract_table",
    "find_not_ready",
    "has_folders",
    "has_snapshot_times",
    "is_read_every_run",
    "land_again",
    "may_change_without_news",
    "next_step_if_changed",
    "open_source",
    "peek",
    "record_look",
    "require_source",
    "source_signature",
]


@contextmanager
def open_source(pipeline: Pipeline, lake: Lake, tables: Iterable[str], rewritten: bool = False) -> Iterator[Source]:
    """Open the pipeline's source for the length of a `with` block.

    Args:
        pipeline: The pipeline.
        lake: The lake to land in.
        tables: The tables to extract; a database is read once for all of them.
        rewritten: For a git repository: whether to go on although the last commit taken is no ancestor of HEAD.

    Raises:
        ConfigError: The source does not exist, or denies access.
        InfrastructureError: The source cannot be reached.
    """
    match pipeline.source:
        case Files():
            places = folder.snapshot_places(pipeline)
            waiting = ready.find_not_ready(pipeline, lake, places, datetime.now(timezone.utc))
            snapshots = folder.to_snapshots(pipeline, [p for p in places if not waiting or p[1] not in waiting.folders])
            warnings = (*folder.warnings(pipeline), *([waiting.message] if waiting else []))
            yield Source(pipeline, lake, snapshots, warnings)
        case Git():
            from lakehouse.extract.git import source as git

            with git.open_history(pipeline, lake, tuple(tables), rewritten) as history:
                yield Source(
                    pipeline,
                    lake,
                    (),
                    history.warnings,
                    find_new=history.find_new,
                    table_warnings=history.table_warnings,
                )
        case Kaggle():
            # Imported here, because these imports would take a third of the start time of every command.
            from lakehouse.extract.kaggle import source as kaggle

            with kaggle.open_snapshots(pipeline, lake) as snapshots:
                yield Source(pipeline, lake, snapshots)
        case Kafka():
            from lakehouse.extract.kafka import source as kafka

            with kafka.open_batches(pipeline, lake) as find_new:
                yield Source(pipeline, lake, (), find_new=find_new)
        case Jdbc():
            from lakehouse.extract.postgres import source as postgres

            with postgres.open_snapshots(pipeline, lake, tuple(tables)) as snapshots:
                yield Source(pipeline, lake, snapshots)


def require_source(pipeline: Pipeline, rewritten: bool = False) -> None:
    """Raise if the source is a folder or repository that is not there, or has no snapshot. Nothing is written.

    Args:
        pipeline: The pipeline.
        rewritten: Whether the history of a git repository may have been rewritten.

    Raises:
        ConfigError: With the files that were found there; or `rewritten` is for another source.
    """
    if rewritten and not isinstance(pipeline.source, Git):
        raise ConfigError(
            f"--rewritten with a source of type {pipeline.source.type}",
            expected="a source of type git, whose history can be rewritten",
            where=f"{pipeline.path}: source.type",
            next_step="leave --rewritten out",
        )
    if isinstance(pipeline.source, Files):
        folder.snapshot_places(pipeline)
    elif isinstance(pipeline.source, Git):
        from lakehouse.extract.git import source as git

        git.require_files(pipeline)


def find_not_ready(pipeline: Pipeline, lake: Lake) -> NotReady | None:
    """Return the first snapshot of a source that is not ready to be taken, with those that wait for it; or None.

    Args:
        pipeline: The pipeline.
        lake: The lake, which knows the snapshots that were taken.

    Raises:
        ConfigError: The source does not exist.
    """
    if not isinstance(pipeline.source, Files) or pipeline.source.ready is None:
        return None
    return ready.find_not_ready(pipeline, lake, folder.snapshot_places(pipeline), datetime.now(timezone.utc))


def record_look(pipeline: Pipeline, lake: Lake) -> None:
    """Record how a source looks now, if its snapshots are ready only when they no longer change.

    Args:
        pipeline: The pipeline.
        lake: The lake, which is locked.

    Raises:
        ConfigError: The source does not exist.
    """
    if isinstance(pipeline.source, Files) and pipeline.source.ready is not None:
        ready.record_look(pipeline, lake, folder.snapshot_places(pipeline), datetime.now(timezone.utc))


def has_folders(pipeline: Pipeline) -> bool:
    """Return whether the source is a folder that is there, in which files can change after they were landed.

    Args:
        pipeline: The pipeline.
    """
    return isinstance(pipeline.source, Files) and pipeline.source_folder.is_dir()


def has_snapshot_times(pipeline: Pipeline) -> bool:
    """Return whether the source records the times of its snapshots, so that no other time matters.

    Args:
        pipeline: The pipeline.
    """
    if isinstance(pipeline.source, Files):
        return all(time is not None for time, _ in folder.snapshot_places(pipeline))
    return isinstance(pipeline.source, Git | Kafka | Kaggle)


def is_read_every_run(pipeline: Pipeline) -> bool:
    """Return whether the source must be read to find out if it has new data; a database records no times of changes.

    Args:
        pipeline: The pipeline.
    """
    return isinstance(pipeline.source, Jdbc)


def may_change_without_news(pipeline: Pipeline) -> bool:
    """Return whether the source's signature can change though there is nothing to land: by a commit of other files.

    Args:
        pipeline: The pipeline.
    """
    return isinstance(pipeline.source, Git)


def source_signature(pipeline: Pipeline, lake: Lake) -> dict[str, str]:
    """Return metadata of the source that is equal as long as there is nothing new to land.

    Args:
        pipeline: A pipeline whose source is not read every run.
        lake: The lake, which knows the snapshots that were taken.

    Raises:
        ConfigError: The source does not exist, or denies access.
        InfrastructureError: The source cannot be reached.
    """
    match pipeline.source:
        case Files():
            waiting = find_not_ready(pipeline, lake)
            return folder.signature(pipeline, waiting.folders if waiting else ())
        case Git():
            from lakehouse.extract.git import source as git

            return git.signature(pipeline)
        case Kaggle():
            from lakehouse.extract.kaggle import source as kaggle

            return kaggle.signature(pipeline)
        case Kafka():
            from lakehouse.extract.kafka import source as kafka

            return kafka.signature(pipeline)
        case Jdbc():
            raise AssertionError("a database is read every run")
