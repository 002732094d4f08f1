"""The clean mark: what the last whole run saw. While all of it is still so, a run has nothing to do and starts no JVM.

Removed before a run's first write and written after its last stage, so a run that did not end leaves none.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import lakehouse
from lakehouse.config import Pipeline, fingerprint_config
from lakehouse.errors import InfrastructureError, LakehouseError
from lakehouse.extract import is_read_every_run, source_signature
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import newest_version
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import LAYERS, Lake, write_json


def is_up_to_date(pipeline: Pipeline, lake: Lake) -> bool:
    """Whether nothing that a run depends on has changed since the mark was written."""
    return not is_read_every_run(pipeline) and _matches_mark(pipeline, lake)


def is_up_to_date_if_nothing_lands(pipeline: Pipeline, lake: Lake) -> bool:
    """The same but for the source, where only reading it tells whether it has something new."""
    return is_read_every_run(pipeline) and _matches_mark(pipeline, lake)


def _matches_mark(pipeline: Pipeline, lake: Lake) -> bool:
    if lake.catalog:  # which version a catalog's table is at cannot be told without Spark
        return False
    try:
        marked = json.loads(_mark_file(lake).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(marked, dict):
        return False
    published = marked.pop("published", None)
    return bool(marked == read_inputs(pipeline, lake) and published == _publish_positions(pipeline))


def write_mark(lake: Lake, before: dict[str, Any], pipeline: Pipeline) -> None:
    """Write the mark, unless the source or the configuration moved while the run was on.

    Args:
        seen_before: what `seen` said before the run looked at the source.
    """
    if lake.catalog:
        return
    try:
        now = read_inputs(pipeline, lake)
    except InfrastructureError:  # the run was good; a source that cannot be asked any more leaves it unmarked
        return
    if all(now[part] == before[part] for part in ("source", "configuration", "code")):
        write_json(_mark_file(lake), now | {"published": _publish_positions(pipeline)})


def remove_mark(lake: Lake) -> None:
    _mark_file(lake).unlink(missing_ok=True)


def read_inputs(pipeline: Pipeline, lake: Lake) -> dict[str, Any]:
    """All that a run depends on, from file names and metadata: cheap, and without Spark."""
    # A dump hides keys: what tells that one was changed is in the fingerprints.
    configuration = [pipeline.model_dump_json(), *(fingerprint_config(t, "") for t in pipeline.tables.values())]
    return {
        "source": None if is_read_every_run(pipeline) else source_signature(pipeline),
        "configuration": _digest([pipeline.path, *sorted(pipeline.folder.rglob("*.sql"))], *configuration),
        "code": _digest(_code_files()),
        "versions": _delta_versions(lake),
    }


def _publish_positions(pipeline: Pipeline) -> Any:
    """How far PostgreSQL says that it is; or, where it does not say so, something that is equal to nothing."""
    if pipeline.publish is None or pipeline.publish.postgres is None:
        return None
    postgres = pipeline.publish.postgres
    try:
        from lakehouse.publish import catalog

        found = catalog.read_states(postgres.url, postgres.tables)
    except (ImportError, LakehouseError):  # whoever publishes says what is wrong
        return uuid.uuid4().hex
    return {name: vars(at.position) if at.position else None for name, at in found.items()}


def _code_files() -> list[Path]:
    """The package's files, or the archive that it was imported from (spark-submit --py-files)."""
    package = Path(lakehouse.__file__).parent
    return sorted(package.rglob("*.py")) if package.is_dir() else [p for p in package.parents if p.is_file()][:1]


def _delta_versions(lake: Lake) -> dict[str, int]:
    """The newest version of every Delta table of the lake."""
    tables = [(layer, name) for layer in LAYERS for name in file_io.list_names(lake.path(layer))]
    versions = {f"{layer}/{name}": newest_version(lake.path(layer, name)) for layer, name in tables}
    return {table: version for table, version in versions.items() if version >= 0}


def _digest(files: list[Path], *more: str) -> str:
    digest = hashlib.sha256()
    for part in more:
        digest.update(part.encode())
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _mark_file(lake: Lake) -> StorePath:
    return lake.state_path("clean.json")
