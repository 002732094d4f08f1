"""Provides a source of type `kaggle`: a dataset, whose newest version is the only snapshot.

The snapshot's time is the version's publication. The version is requested first. The archive is downloaded when the
first table needs it, once for all tables, and not at all if the version has landed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.concurrency import once
from lakehouse.config import Kaggle, Pipeline
from lakehouse.errors import DataRefused
from lakehouse.extract.folder import find_table_files
from lakehouse.extract.kaggle import api
from lakehouse.extract.kaggle.api import Version
from lakehouse.extract.kaggle.client import dataset_url
from lakehouse.extract.source import SourceSnapshot, TableFiles
from lakehouse.storage import archives, file_io, landing, temp_dirs
from lakehouse.storage.paths import Lake, snapshot_name


@contextmanager
def open_snapshots(pipeline: Pipeline, lake: Lake) -> Iterator[tuple[SourceSnapshot, ...]]:
    """Provide the newest version as a snapshot, whose files exist until the end of the block.

    Args:
        pipeline: A pipeline with a source of type `kaggle`.
        lake: The lake, for temporary files.

    Raises:
        ConfigError: The credentials are missing or rejected, or there is no such dataset.
        InfrastructureError: Kaggle could not be reached, or all attempts failed.
    """
    dataset = _dataset(pipeline)
    version = api.newest_version(dataset)
    with file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as temp_dir:
        download = once(lambda: _download_files(dataset, version, lake, temp_dir.local))

        def fetch_files(table: str) -> TableFiles:
            return find_table_files(download(), pipeline.tables[table])

        yield (SourceSnapshot(version.time, fetch_files, immutable=True),)


def signature(pipeline: Pipeline) -> dict[str, str]:
    """Return the newest version; equal means nothing new to land.

    Args:
        pipeline: A pipeline with a source of type `kaggle`.
    """
    dataset = _dataset(pipeline)
    version = api.newest_version(dataset)
    return {dataset: f"version {version.number} of {snapshot_name(version.time)}"}


def _download_files(dataset: str, version: Version, lake: Lake, folder: Path) -> Path:
    """Download a version and unpack its files below `folder`.

    The archive stays in `_state/kaggle` until it is unpacked, so that the next run can continue a download.
    """
    downloads = lake.local_path("kaggle")
    downloads.mkdir(parents=True, exist_ok=True)
    with temp_dirs.lock_folder(downloads):  # `diff` may need the same archive while a run downloads it
        archive = api.download(dataset, version, downloads)
        try:
            # The results of `unpack` are not needed: the files are inspected and hashed when they land.
            for _ in archives.unpack(archive, landing.inspect_file(archive), folder, may_contain_archives=True):
                pass
        except DataRefused as error:
            error.found = error.found.replace(archive.name, f"the archive of version {version.number}")
            error.where = dataset_url(dataset)
            raise
        finally:
            archive.unlink()
    return folder / archive.name


def _dataset(pipeline: Pipeline) -> str:
    assert isinstance(pipeline.source, Kaggle)
    return pipeline.source.dataset
