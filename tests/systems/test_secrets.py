"""Tests that secrets appear nowhere: runs a full pipeline with made-up secrets, with and without errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from helpers import ITEMS, Project
from text_search import encoded_forms, find_words

REPOSITORY = Path(__file__).parents[2]
CANARY = Path(__file__).with_name("canary.py")
# They contain characters that URLs and shells escape, and each can be found separately.
SECRETS = {
    name: f"canary+{name.lower()}/=&{number:x}Zq"
    for number, name in enumerate(
        ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "KAGGLE_KEY", "DB_PASSWORD", "SHORT"], 0xA1
    )
}
SECRETS["LAKEHOUSE_PII_KEY"] = "canary+pii/=&of-more-than-32-characters-Zq"
IN_ENV_FILE = ("KAGGLE_KEY", "DB_PASSWORD", "LAKEHOUSE_PII_KEY")
JDBC = {"type": "jdbc", "url": "jdbc:postgresql://u:${DB_PASSWORD}@nowhere/x", "password": "${DB_PASSWORD}"}
# Configurations with an error at or near a secret, and one whose source cannot be reached.
WRONG: dict[str, dict[str, Any]] = {
    "unknown key beside it": {"source": JDBC | {"pasword": "x"}},
    "a list": {"source": JDBC | {"password": ["${DB_PASSWORD}"]}},
    "in place of a zone": {"timezone": "${DB_PASSWORD}"},
    "in place of a name": {"tables": {"${DB_PASSWORD}": dict(ITEMS)}},
    "in place of a type": {"source": {"type": "${DB_PASSWORD}"}},
    "no url": {"publish": {"postgres": {"url": ["${DB_PASSWORD}"], "tables": {}}}},
    "not yet, or unreachable": {"source": JDBC},
    "a key too short": {"pii_key": "${SHORT}"},
    "a key that is none": {"pii_key": {"of": "${LAKEHOUSE_PII_KEY}"}},
    "no such folder": {"source": {"type": "files", "path": "gone"}, "pii_key": "${LAKEHOUSE_PII_KEY}"},
}

SOUND = {"not yet, or unreachable", "no such folder"}  # valid until the source is read


def configured(project: Project, name: str, changes: dict[str, Any]) -> str:
    """Write a copy of the pipeline with these changes; return its folder."""
    folder = project.folder / name.replace(" ", "_")
    folder.mkdir()
    document = json.loads((project.pipeline / "pipeline.json").read_text())
    (folder / "pipeline.json").write_text(json.dumps(document | changes, indent=1))
    return str(folder)


def test_no_secret_appears_in_anything_that_a_run_writes_prints_or_passes_on(tmp_path: Path) -> None:
    project = Project(tmp_path, tables={"items": dict(ITEMS), "strict": ITEMS | {"malformed": "fail"}})
    project.configure(pii={"id": "hmac", "note": "mask"})
    project.snapshot("20250101_000000", items="id,qty,note\na,1,x\nb,2x,y\n")
    (project.source / "20250101_000000" / "items.csv").chmod(0o600)
    wrong = [configured(project, name, changes) for name, changes in WRONG.items()]
    temporary, spark, events = (tmp_path / name for name in ("tmp", "spark", "events"))
    for folder in (temporary, spark, events):
        folder.mkdir()
    event_log = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": events.as_uri(),
        "spark.eventLog.compress": "false",
    }
    (spark / "spark-defaults.conf").write_text("".join(f"{k} {v}\n" for k, v in event_log.items()))
    (tmp_path / ".env").write_text("".join(f"{name}='{SECRETS[name]}'\n" for name in IN_ENV_FILE))
    here = {"TMPDIR": str(temporary), "SPARK_CONF_DIR": str(spark), "PYTHONPATH": str(REPOSITORY)}
    given = {name: value for name, value in SECRETS.items() if name not in IN_ENV_FILE}
    commands = [["validate", folder] for folder in wrong] + [
        ["run", folder, "--json", "--verbose"] for folder in wrong[-4:]
    ]
    commands += [["run", str(project.pipeline), "--verbose"], ["diff", str(project.pipeline)]]
    commands += [["status", str(project.pipeline), "--json"], ["quarantine", str(project.pipeline), "items"]]
    done = subprocess.run(
        [sys.executable, str(CANARY), json.dumps(commands)],
        cwd=tmp_path,
        env=os.environ | here | given,
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
        umask=0o022,
    )
    assert done.returncode == 0, done.stderr
    open_to_others = [p for p in [project.lake, *project.lake.rglob("*")] if p.stat().st_mode & 0o077]
    assert open_to_others == [], "what Python and Spark create is for the user only, whatever the umask of the shell is"
    (result,) = [json.loads(line) for line in done.stdout.splitlines()[-1:]]
    validated, ran, rest = result["codes"][: len(wrong)], result["codes"][len(wrong) : -4], result["codes"][-4:]
    assert {name: code for name, code in zip(WRONG, validated, strict=True) if name not in SOUND} == dict.fromkeys(
        WRONG.keys() - SOUND, 2
    )
    assert set(ran) <= {2, 3} and rest == [5, 0, 0, 0], result["codes"]
    assert "malformed" in done.stdout and any("java" in words[0] for words in result["argv"])

    shown = [form for secret in SECRETS.values() for form in encoded_forms(secret)]
    assert [form for form in shown if form in done.stdout + done.stderr] == []
    assert find_words(tmp_path, shown, skipped_folders=["lake/landing"]) == [f".env: {SECRETS[n]}" for n in IN_ENV_FILE]
    log = "".join(p.read_text() for p in events.rglob("events_*"))
    assert "SparkListenerSQLExecutionStart" in log and "hashed(" in log
