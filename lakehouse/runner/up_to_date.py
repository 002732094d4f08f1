"""Reads and writes the clean mark: the state of everything that a run depends on, after the last complete run.

While nothing of it has changed, a run has nothing to do and starts no JVM. The mark is removed before a run's first
write and written after its last stage, so a run that did not finish leaves none.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import lakehouse
from lakehouse.config import Pipeline, fingerprint_config
from lakehouse.errors import InfrastructureError, LakehouseError
from lakehouse.extract import is_read_every_run, may_change_without_news, source_signature
from lakehouse.failpoints import failpoint
from lakehouse.storage import file_io
from lakehouse.storage.delta_log import newest_version
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import LAYERS, Lake, read_json, write_json


def is_up_to_date(pipeline: Pipeline, lake: Lake, now: datetime | None = None) -> bool:
    """Return whether nothing that a run depends on has changed since the mark was written.

    Args:
        pipeline: The pipeline.
        lake: The lake.
        now: The time of a snapshot that the run would take; None: that of the clock.
    """
    return not is_read_every_run(pipeline) and _matches_mark(pipeline, lake, now)


def is_up_to_date_if_nothing_lands(pipeline: Pipeline, lake: Lake, now: datetime | None = None) -> bool:
    """Return the same for everything but the source, for one that must be read to find out whether there is news."""
    must_be_read = is_read_every_run(pipeline) or may_change_without_news(pipeline)
    return must_be_read and _matches_mark(pipeline, lake, now, but_for_source=True)


def _matches_mark(pipeline: Pipeline, lake: Lake, now: datetime | None, but_for_source: bool = False) -> bool:
    if lake.catalog:  # only Spark can find out the version of a catalog's table
        return False
    mark = _read_mark(lake)
    due = mark.pop("due", None)
    if due is not None and (now or datetime.now(timezone.utc)) >= datetime.fromisoformat(due):
        return False  # the grace of a missing key has ended
    positions = mark.pop("published", None)
    mark.pop("warnings", None)
    inputs = read_inputs(pipeline, lake)
    if but_for_source:
        mark |= {"source": inputs["source"]} if mark else {}
    return bool(mark == inputs and positions == _publish_positions(pipeline))


def read_warnings(lake: Lake) -> dict[str, str]:
    """Return the warnings of `extract` that the mark records, by table; they hold while the mark is valid.

    Args:
        lake: The lake.
    """
    warnings = _read_mark(lake).get("warnings")
    return {str(table): str(note) for table, note in warnings.items()} if isinstance(warnings, dict) else {}


def _read_mark(lake: Lake) -> dict[str, Any]:
    """Return the mark; empty if there is none that can be read."""
    return {} if lake.catalog else read_json(_mark_file(lake))


def write_mark(
    lake: Lake,
    before: dict[str, Any],
    pipeline: Pipeline,
    warnings: Mapping[str, str] | None = None,
    due: datetime | None = None,
) -> None:
    """Write the mark, unless the source, the configuration or the code changed during the run.

    Args:
        lake: The lake.
        before: The result of `read_inputs` before the run read the source.
        pipeline: The pipeline of the run.
        warnings: The warnings of `extract`, by table; a run that finds nothing new repeats it.
        due: From when on a run has something to do, even if nothing changes: the grace of a missing key ends then.
    """
    if lake.catalog:
        return
    try:
        after = read_inputs(pipeline, lake)
    except InfrastructureError:  # the run succeeded; if the source is no longer reachable, it just leaves no mark
        return
    if all(after[part] == before[part] for part in ("source", "configuration", "code")):
        mark = after | {"published": _publish_positions(pipeline), "warnings": dict(warnings or {})}
        write_json(_mark_file(lake), mark | ({"due": due.isoformat()} if due else {}))


def remove_mark(lake: Lake) -> None:
    """Remove the mark, before the first write of a command.

    Args:
        lake: The lake.
    """
    _mark_file(lake).unlink(missing_ok=True)
    failpoint("after_clean_mark_removed")


def read_inputs(pipeline: Pipeline, lake: Lake) -> dict[str, Any]:
    """Return the state of everything that a run depends on, from file names and metadata only."""
    # The dump masks keys. The fingerprints of the tables change when a key does.
    configuration = [pipeline.model_dump_json(), *(fingerprint_config(t, "") for t in pipeline.tables.values())]
    return {
        "source": None if is_read_every_run(pipeline) else source_signature(pipeline, lake),
        "configuration": _digest([pipeline.path, *sorted(pipeline.folder.rglob("*.sql"))], *configuration),
        "code": _digest(_code_files()),
        "versions": _delta_versions(lake),
    }


def _publish_positions(pipeline: Pipeline) -> Any:
    """Return the publish positions that PostgreSQL recorded, or a value that equals no other if it does not answer."""
    if pipeline.publish is None or pipeline.publish.postgres is None:
        return None
    postgres = pipeline.publish.postgres
    try:
        from lakehouse.publish import catalog

        states = catalog.read_states(postgres.url, postgres.tables)
    except (ImportError, LakehouseError):  # the stage `publish` reports the problem
        return uuid.uuid4().hex
    return {name: vars(state.position) if state.position else None for name, state in states.items()}


def _code_files() -> list[Path]:
    """Return the package's files, or the archive that it was imported from (spark-submit --py-files)."""
    package = Path(lakehouse.__file__).parent
    if package.is_dir():
        return sorted(package.rglob("*.py"))
    return [path for path in package.parents if path.is_file()][:1]


def _delta_versions(lake: Lake) -> dict[str, int]:
    """Return the newest version of every Delta table of the lake."""
    tables = [(layer, name) for layer in LAYERS for name in file_io.list_names(lake.path(layer))]
    versions = {f"{layer}/{name}": newest_version(lake.path(layer, name)) for layer, name in tables}
    return {table: version for table, version in versions.items() if version >= 0}


def _digest(files: list[Path], *texts: str) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode())
    for file in files:
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def _mark_file(lake: Lake) -> StorePath:
    return lake.state_path("clean.json")
