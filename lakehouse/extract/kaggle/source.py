"""A source of type `kaggle`: a dataset, whose newest version is its one snapshot, taken when it was published.

Kaggle is asked for the version first. The archive is downloaded when a table wants it, once for all of them, and not at
all where the version has landed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lakehouse.concurrency import once
from lakehouse.config import Kaggle, Pipeline
from lakehouse.errors import DataRefused
from lakehouse.extract import source
from lakehouse.extract.folder import matching_files
from lakehouse.extract.kaggle import api
from lakehouse.extract.kaggle.api import Version
from lakehouse.extract.source import SourceSnapshot
from lakehouse.storage import archives, file_io, landing, temp_dirs
from lakehouse.storage.paths import Lake, snapshot_name


@contextmanager
def open_snapshots(pipeline: Pipeline, lake: Lake) -> Iterator[tuple[SourceSnapshot, ...]]:
    """The newest version, whose files are there inside the block.

    Raises:
        ConfigError, InfrastructureError: the version cannot be told.
    """
    dataset = _dataset(pipeline)
    version = api.newest_version(dataset)
    with file_io.shared_temp_dir(lake.state_path("extract"), lake.local_path("extract")) as work:
        fetched = once(lambda: _download_files(dataset, version, lake, work.local))
        yield (SourceSnapshot(version.time, _file_fetcher(pipeline, fetched), immutable=True),)


def signature(pipeline: Pipeline) -> dict[str, str]:
    """The newest version: equal means nothing new to land."""
    dataset = _dataset(pipeline)
    version = api.newest_version(dataset)
    return {dataset: f"version {version.number} of {snapshot_name(version.time)}"}


def _file_fetcher(pipeline: Pipeline, fetched: Callable[[], Path]) -> Callable[[str], source.TableFiles]:
    def files(table: str) -> source.TableFiles:
        folder = fetched()
        return folder, matching_files(folder, pipeline.tables[table])

    return files


def _download_files(dataset: str, version: Version, lake: Lake, folder: Path) -> Path:
    """The version's files, below `folder`. The archive stays in `_state/kaggle` only until it is unpacked."""
    keep = lake.local_path("kaggle")
    keep.mkdir(parents=True, exist_ok=True)
    with temp_dirs.lock_folder(keep):  # `diff` may want the same archive while a run fetches it
        archive = api.download(dataset, version, keep)
        try:
            # The files are looked at and hashed as they land, so that nothing need be known of the archive here.
            for _ in archives.unpack(archive, landing.inspect_file(archive), folder, may_contain_archives=True):
                pass
        except DataRefused as refused:
            refused.found = refused.found.replace(archive.name, f"the archive of version {version.number}")
            refused.where = f"https://www.kaggle.com/datasets/{dataset}"
            raise
        finally:
            archive.unlink()
    return folder / archive.name


def _dataset(pipeline: Pipeline) -> str:
    assert isinstance(pipeline.source, Kaggle)
    return pipeline.source.dataset
