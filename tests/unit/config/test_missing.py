"""`missing` in pipeline.yml: what is accepted, what `validate` refuses, and when a table's snapshots are read again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.config import Table, fingerprint_config, load
from lakehouse.errors import ConfigError
from lakehouse.lake.cdc import own_columns_ddl

PIPELINE = """\
name: shop
lake: lake
source: {{type: files, path: x}}
tables:
  items:
    file: items.csv
    format: csv
    schema: id STRING, qty INT
    keys: [id]
{settings}
"""


def table(tmp_path: Path, *settings: str) -> Table:
    text = PIPELINE.format(settings="\n".join(f"    {line}" for line in settings))
    (tmp_path / "pipeline.yml").write_text(text, encoding="utf-8")
    return load(tmp_path, {}).tables["items"]


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("0 snapshots", 0),
        ("1 snapshot", 1),
        ("3 snapshots", 3),
        ("7d", timedelta(days=7)),
        ("90m", timedelta(hours=1.5)),
    ],
)
def test_grace_is_a_number_of_snapshots_or_a_duration(text: str, after: Any, tmp_path: Path) -> None:
    missing = table(tmp_path, f"missing: {{after: {text}, then: mark}}").missing

    assert (missing.after, missing.then) == (after, "mark")
    assert missing.duration == (after if isinstance(after, timedelta) else None)


@pytest.mark.parametrize("settings", [[], ["missing: {}"], ["missing: {after: 0 snapshots, then: delete}"]])
def test_without_grace_a_table_is_as_before(settings: list[str], tmp_path: Path) -> None:
    default, given = table(tmp_path), table(tmp_path, *settings)

    assert given.grace is None
    assert fingerprint_config(given, "UTC") == fingerprint_config(default, "UTC")
    assert "missing" not in fingerprint_config(given, "UTC")
    assert "_cdc_missing_since" not in own_columns_ddl(given)


def test_grace_adds_a_column_and_has_snapshots_read_again(tmp_path: Path) -> None:
    given = [table(tmp_path, f"missing: {{{text}}}") for text in ("after: 7d", "after: 168h", "after: 2 snapshots")]
    given.append(table(tmp_path, "missing: {then: mark}"))

    fingerprints = [fingerprint_config(each, "UTC") for each in given]
    assert fingerprints[0] == fingerprints[1]  # one duration in two spellings
    assert len({*fingerprints, fingerprint_config(table(tmp_path), "UTC")}) == 4
    assert all("_cdc_missing_since TIMESTAMP" in own_columns_ddl(each) for each in given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["missing: {after: 3}"], 'missing.after: found "3", expected a number of snapshots, such as 3 snapshots'),
        (["missing: {after: three snapshots}"], "missing.after: found"),
        (["missing: {after: -1 snapshots}"], "missing.after: found"),
        (["missing: {after: 1w}"], "missing.after: found"),
        (["missing: {then: forget}"], "missing.then: found"),
        (["missing: {when: 3d}"], "missing.when: unknown key"),
        (["missing: 3 snapshots"], "missing"),
        (["missing: {then: mark}", "scd: 2"], 'missing.then: found "mark", expected delete: a history (scd 2)'),
        (["missing: {after: 3d}", "feed: {sequence_by: [qty]}"], "missing: is about rows that a snapshot lacks"),
    ],
)
def test_what_is_no_grace_is_refused_with_its_line(settings: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        table(tmp_path, *settings)

    assert message in raised.value.found
    assert "pipeline.yml:10" in raised.value.found
