"""Sources: each brings snapshots into the landing zone, as received.

    with opened(pipeline, lake, tables) as source:
        extract(source, "clientes", now, as_of)

    files.py    a folder                          what every source comes to, and how it lands: source.py
    kaggle.py   a dataset on Kaggle               asked for by kaggle_api.py

A source knows nothing of Spark, of the ledger or of what changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lakehouse.config import Files, Kaggle, Pipeline
from lakehouse.extract import files, kaggle
from lakehouse.extract.source import Extracted, Source, extract, peek
from lakehouse.lake import Lake

__all__ = ["Extracted", "Source", "extract", "opened", "peek", "source_signature"]


@contextmanager
def opened(pipeline: Pipeline, lake: Lake, tables: Iterable[str]) -> Iterator[Source]:
    """The pipeline's source, open for the length of a `with` block.

    Args:
        tables: those that will be asked for.

    Raises:
        ConfigError: there is no such source, or it does not let us in.
        InfrastructureError: it cannot be reached.
    """
    match pipeline.source:
        case Files():
            yield Source(pipeline, lake, files.offers(pipeline))
        case Kaggle():
            with kaggle.offers(pipeline, lake) as offers:
                yield Source(pipeline, lake, offers)
        case _:
            raise NotImplementedError(pipeline.source.type)


def source_signature(pipeline: Pipeline) -> dict[str, str]:
    """What the source has, told without reading it: equal means nothing new to land.

    Raises:
        ConfigError, InfrastructureError: as `opened` does.
    """
    match pipeline.source:
        case Files():
            return files.signature(pipeline)
        case Kaggle():
            return kaggle.signature(pipeline)
        case _:
            raise NotImplementedError(pipeline.source.type)
