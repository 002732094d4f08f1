"""Reads and checks pipeline.yml; the entry point is `load`.

    pipeline = load("conf/loyalty")
    pipeline.tables["clientes"].columns[0].name    # "idCliente"

The steps, in order:

1. `yaml_source.py` reads the file as plain data with line numbers, and replaces ``${VAR}``.
2. `pipeline.py` validates the data as frozen models, whose value types are in `fields.py`, `expect.py`, `tuning.py`,
   `reading.py`, `ready.py`, `row_keys.py`.
3. `checks.py` finds errors that concern several values together; `ddl.py`, `options.py`, `patterns.py` and `locales.py`
   check schemas and reader options.
4. `load.py` reports all errors in one `ConfigError`, each with file, line and key.

``python -m lakehouse.config`` prints the JSON Schema that editors use.
"""

from __future__ import annotations

from lakehouse.config.column_names import with_stored_names
from lakehouse.config.feed import FEED_SEQUENCE, Feed, sequence_names
from lakehouse.config.git import Git
from lakehouse.config.kafka import Kafka
from lakehouse.config.load import find_file, fingerprint_config, json_schema, load
from lakehouse.config.missing import Missing
from lakehouse.config.pipeline import (
    PII_KEY,
    Connect,
    Files,
    Guard,
    Jdbc,
    Kaggle,
    Model,
    OnFailure,
    Pipeline,
    Postgres,
    Publish,
    Retention,
    Schedule,
    Table,
    Volume,
)

__all__ = [
    "FEED_SEQUENCE",
    "FOREVER",
    "PII_KEY",
    "Connect",
    "Feed",
    "Files",
    "Git",
    "Guard",
    "Jdbc",
    "Kafka",
    "Kaggle",
    "Missing",
    "Model",
    "OnFailure",
    "Pipeline",
    "Postgres",
    "Publish",
    "Retention",
    "Schedule",
    "Table",
    "Volume",
    "find_file",
    "fingerprint_config",
    "json_schema",
    "load",
    "sequence_names",
    "with_stored_names",
]
