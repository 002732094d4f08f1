"""Sources: each brings snapshots into the landing zone, as received.

    with opened(pipeline, lake, tables) as source:
        extract(source, "clientes", now, as_of)

    files.py    a folder                          what every source comes to, and how it lands: source.py
    kaggle.py   a dataset on Kaggle               asked for by kaggle_api.py, through kaggle_client.py
    jdbc.py     the tables of a database          read by postgres.py

A source knows nothing of Spark, of the ledger or of what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lakehouse.config import Files, Jdbc, Kaggle, Pipeline
from lakehouse.extract import folder
from lakehouse.extract.source import ExtractResult, Source, extract_table, peek
from lakehouse.storage.paths import Lake

__all__ = ["ExtractResult", "Source", "extract_table", "is_read_every_run", "open_source", "peek", "source_signature"]


@contextmanager
def open_source(pipeline: Pipeline, lake: Lake, tables: Iterable[str]) -> Iterator[Source]:
    """The pipeline's source, open for the length of a `with` block.

    Args:
        tables: those that will be asked for: a database is read once, for all of them.

    Raises:
        ConfigError: there is no such source, or it does not let us in.
        InfrastructureError: it cannot be reached.
    """
    match pipeline.source:
        case Files():
            yield Source(pipeline, lake, folder.list_snapshots(pipeline))
        case Kaggle():
            # Here, for with what it needs it takes a third of the time in which any command starts.
            from lakehouse.extract.kaggle import source as kaggle

            with kaggle.open_snapshots(pipeline, lake) as offers:
                yield Source(pipeline, lake, offers)
        case Jdbc():
            from lakehouse.extract.postgres import source as postgres

            with postgres.open_snapshots(pipeline, lake, tuple(tables)) as offers:
                yield Source(pipeline, lake, offers)


def is_read_every_run(pipeline: Pipeline) -> bool:
    """Whether only reading the source tells if it has something new: a database says of no table when it changed."""
    return isinstance(pipeline.source, Jdbc)


def source_signature(pipeline: Pipeline) -> dict[str, str]:
    """What a source has that need not be read for it: equal means nothing new to land.

    Raises:
        ConfigError, InfrastructureError: as `opened` does.
    """
    if not isinstance(pipeline.source, Kaggle):
        return folder.signature(pipeline)
    from lakehouse.extract.kaggle import source as kaggle

    return kaggle.signature(pipeline)
