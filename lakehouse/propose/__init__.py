"""Proposes a pipeline for a folder of files; the entry points are `init_pipeline`, `init_from_config`, `write_demo`.

    init_pipeline(Path("exports"), Path("conf/shop"))    # writes conf/shop/pipeline.yml and its silver models

The steps, in order:

1. `sources.py` finds the snapshots of the folder and the files of each table; `names.py` makes identifiers.
2. `dialect.py` detects how CSV files are written, by the signs that `signs.py` finds; `load.py` loads all rows into
   DuckDB, as text (`json_files.py` for JSON) or by Parquet's types.
3. `types.py` chooses a type for each column, and proves it on all values (`texts.py`, `dates.py`, `numbers.py`; for
   JSON and Parquet also `nested.py` and `parquet_types.py`).
4. `keys.py` finds a key, and proves it on all rows of every snapshot.
5. `proposal.py` does 1 to 4 for each table; `page.py` writes the pipeline with its doubts as comments, and
   `write.py` reads it back and checks it before it is put in place.

`original_config.py` translates the configuration of the original CDC pipeline; `demo.py` writes an example.
"""

from lakehouse.propose.demo import write_demo
from lakehouse.propose.original_config import init_from_config
from lakehouse.propose.write import init_pipeline

__all__ = ["init_from_config", "init_pipeline", "write_demo"]
