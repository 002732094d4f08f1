"""Whatever a source puts into names and values, the terminal gets printable text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lakehouse.cli import lake, render, snapshot_diff
from lakehouse.cli.app import main
from lakehouse.errors import DataRefused, ExitCode
from lakehouse.runner.outcome import Outcome, Report

HOSTILE = "a\x1b]52;c;aGk=\x07b\x1b[2J\x9b31m\rfound: nothing\u202e\u2066\x85\u2028z"


Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture) -> str:
    return "".join(capsys.readouterr())


def test_no_control_character_of_a_value_reaches_the_terminal(capsys: Capture) -> None:
    outcome = Outcome("ingest", HOSTILE, HOSTILE, {"rows_read": 3}, code=ExitCode.REFUSED, note=f"{HOSTILE}\n{HOSTILE}")
    diff = {"table": HOSTILE, "from": None, "to": HOSTILE, "verdict": HOSTILE, "note": HOSTILE, "reason": HOSTILE}
    diff |= {"rows_before": 1, "counts": {"rows_read": 1}, "percent": {}, "columns": {HOSTILE: 1}}
    diff |= {
        "quarantine": [{"rows": 1, "rule": HOSTILE, "reason": HOSTILE, "value": HOSTILE, "line": 2, "advice": HOSTILE}]
    }
    changed = {HOSTILE: {"before": HOSTILE, "after": None}}
    samples = {"inserted": [{HOSTILE: HOSTILE}], "updated": [{"key": {"k": HOSTILE}, "changed": changed}]}

    render.document(
        {HOSTILE: HOSTILE, "rows": [{HOSTILE: HOSTILE, "list": [HOSTILE], "map": {HOSTILE: HOSTILE}}]}, False
    )
    render.error(DataRefused(HOSTILE, where=HOSTILE), False)
    render.warning(HOSTILE)
    render.progress(outcome)
    render.report(Report(HOSTILE, HOSTILE, [outcome]), False)
    snapshot_diff.diff({"tables": [diff | {"samples": samples}]}, False)

    text = printed(capsys)
    lines = text.split("\n")
    assert len(lines) > 20
    assert [line for line in lines if not line.isprintable()] == []
    assert not any(line.startswith("found: nothing") for line in lines)
    assert "\\x1b]52;c;aGk=\\x07b" in text


def test_a_value_of_a_megabyte_is_cut(capsys: Capture) -> None:
    render.document({"rows": [{"value": "x" * 1_000_000}]}, False)

    text = printed(capsys)
    assert len(text) < 4_000
    assert "(1,000,000 characters)" in text


def test_a_json_document_keeps_the_value_and_has_no_control_character(capsys: Capture) -> None:
    render.document({"rows": [{"value": HOSTILE}]}, True)

    text = printed(capsys)
    assert json.loads(text) == {"rows": [{"value": HOSTILE}]}
    assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("as_json", [False, True])
def test_a_key_of_the_configuration_is_printable(capsys: Capture, tmp_path: Path, as_json: bool) -> None:
    key = json.dumps(HOSTILE + "\nfound: nothing")
    (tmp_path / "pipeline.yml").write_text(f"name: shop\n{key}: 1\ntables: {{{key}: {{{key}: {key}}}}}\n")

    assert main(["validate", str(tmp_path), *(["--json"] if as_json else [])]) == ExitCode.USAGE

    lines = printed(capsys).split("\n")
    assert [line for line in lines if not line.isprintable() or line.strip().startswith("found: nothing")] == []


def test_status_shows_the_usual_figures_of_a_table_with_a_learned_guard(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {
        "rows_read": {"median": 1000, "low": 990, "high": 1010},
        "updated": {"median": 2.5, "low": 0, "high": 7.25},
    }
    table = {"table": "items", "sequence": 9, "snapshot_time": None, "age_seconds": None, "newest": "accepted"}
    table |= {"held": None, "waiting": 0, "last_success": None, "quarantined": 0, "note": None}
    tables = [
        table | {"usual": {"snapshots": 9, "needed": 8, "figures": figures}},
        table | {"table": "young", "usual": {"snapshots": 3, "needed": 8, "figures": {}}},
        table | {"table": "other", "usual": None},
    ]
    sections = {name: [] for name in ("attention", "models", "published", "runs", "storage")}
    lake.status({"pipeline": "shop", "lake": "lake", "tables": tables, **sections}, as_json=False, with_storage=False)

    shown = [line.split() for line in capsys.readouterr().out.partition("usual figures")[2].splitlines()]
    assert ["items", "rows", "read", "1000", "990", "1010"] in shown
    assert ["items", "updated", "2.5", "0", "7.25"] in shown
    assert ["young", "3", "of", "8", "accepted", "snapshots"] in shown
    assert not any(line[:1] == ["other"] for line in shown)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (
            {"goes_missing": 2, "is_back": 1, "would_expire": 3, "missing": 4},
            "goes missing 2, is back 1, would expire 3;",
        ),
        ({"goes_missing": 0, "is_back": 0, "would_expire": 0, "missing": 1}, "1 key missing after it"),
        ({"goes_missing": 0, "is_back": 0, "would_expire": 0, "missing": 0}, None),
        (None, None),
    ],
)
def test_diff_says_which_keys_go_missing_are_back_and_would_expire(
    missing: dict[str, int] | None, line: str | None, capsys: Capture
) -> None:
    table = {
        "table": "t",
        "from": None,
        "to": "x",
        "verdict": "accepted",
        "note": None,
        "reason": None,
        "missing": missing,
    }
    table |= {
        "rows_before": 1,
        "counts": {"rows_read": 1},
        "percent": {},
        "columns": {},
        "quarantine": [],
        "samples": {},
    }

    snapshot_diff.diff({"tables": [table]}, False)

    text = printed(capsys)
    assert line in text if line else "missing" not in text
