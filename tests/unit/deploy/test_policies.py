"""Tests the IAM policies of the stages, and the example of an .env file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values

from lakehouse.cli import main
from lakehouse.config import PII_KEY
from lakehouse.errors import ExitCode
from lakehouse.runner.stages import PUBLISH, STAGES
from lakehouse.storage.paths import Lake

REPOSITORY = Path(__file__).parents[3]
POLICIES = {p.stem: json.loads(p.read_text()) for p in sorted((REPOSITORY / "deploy/iam").glob("*.json"))}
BUCKET, PREFIX = "arn:aws:s3:::example-lake", "loyalty"
ACTIONS = {
    *("s3:ListBucket", "s3:GetBucketLocation", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"),
    *("s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"),
    *("kms:Decrypt", "kms:GenerateDataKey"),
}
_LAKE = Lake("root")
LAYOUT = {
    Path(place).relative_to("root").parts[0]
    for place in (
        *(
            _LAKE.landing_path("t"),
            _LAKE.ledger_table,
            _LAKE.bronze_table("t"),
            _LAKE.table("silver.m"),
            _LAKE.table("gold.m"),
        ),
        *(
            _LAKE.quarantine_table("t"),
            _LAKE.expectation_results_table,
            _LAKE.forgotten_keys_table,
            _LAKE.state_path("x"),
        ),
    )
}


def statements(policy: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = policy["Statement"]
    return found


def allowed_parts(stage: str, action: str) -> set[str]:
    """Return the parts of the lake on which a stage has the permission for an action."""
    allowed = [s for s in statements(POLICIES[stage]) if action in s["Action"]]
    return {r.removeprefix(f"{BUCKET}/{PREFIX}/") for s in allowed for r in s["Resource"] if r.startswith(f"{BUCKET}/")}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_well_formed_and_has_no_wildcard_actions(name: str) -> None:
    policy = POLICIES[name]
    assert policy.keys() == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    sids = [s["Sid"] for s in statements(policy)]
    assert len(set(sids)) == len(sids) and all(re.fullmatch("[A-Za-z0-9]+", sid) for sid in sids)
    for statement in statements(policy):
        assert statement.keys() - {"Condition"} == {"Sid", "Effect", "Action", "Resource"}
        assert statement["Effect"] == "Allow"
        assert statement["Action"] and set(statement["Action"]) <= ACTIONS
        for resource in statement["Resource"]:
            assert re.fullmatch(r"arn:aws:(s3:::[a-z0-9.-]+(/.+)?|kms:[a-z0-9-]+:\d{12}:key/[a-f0-9-]+)", resource)
            assert not resource.startswith(BUCKET + "/") or resource.startswith(f"{BUCKET}/{PREFIX}/")
        for operator, condition in statement.get("Condition", {}).items():
            assert operator in ("StringLike", "StringEquals")
            assert condition.keys() <= {"s3:prefix", "kms:ViaService"}
    listing = next(s for s in statements(policy) if "s3:ListBucket" in s["Action"])
    assert listing["Condition"]["StringLike"]["s3:prefix"] == [PREFIX, f"{PREFIX}/*"]


@pytest.mark.parametrize("name", POLICIES)
def test_every_object_of_a_policy_is_in_the_lakes_layout(name: str) -> None:
    places = {place for action in ACTIONS for place in allowed_parts(name, action)}
    assert places
    assert {place.partition("/")[0] for place in places} <= LAYOUT
    assert all(place.endswith(("/*", "/_manifest.json")) for place in places)


def test_every_stage_has_a_policy_with_only_the_rights_it_needs() -> None:
    assert {*STAGES, PUBLISH, "verify", "forget"} == POLICIES.keys()
    writes = {
        name: {p.partition("/")[0] for p in allowed_parts(name, "s3:PutObject")} - {"_state"} for name in POLICIES
    }
    assert writes == {
        "extract": {"landing"},
        "ingest": {"raw", "bronze", "quarantine"},  # it updates bronze before the next comparison
        "bronze": {"bronze"},
        "silver": {"silver", "quarantine", "quality"},  # rejected rows, and the results of expectations
        "gold": {"gold", "quarantine", "quality"},
        "publish": set(),
        "verify": set(),
        "forget": LAYOUT - {"_state"},
    }
    # Extract removes unfinished snapshots of killed runs; no other stage may delete there.
    assert [name for name in POLICIES if "landing/*" in allowed_parts(name, "s3:DeleteObject")] == ["extract"]
    assert allowed_parts("extract", "s3:GetObject") == {"landing/*", "_state/*"}
    for name in ("bronze", "silver", "gold", "publish"):  # only the manifests, for the sizes, not the received files
        assert {p for p in allowed_parts(name, "s3:GetObject") if p.startswith("landing")} == {
            "landing/*/_manifest.json"
        }
    for name, policy in POLICIES.items():
        keys = [s for s in statements(policy) if any(a.startswith("kms:") for a in s["Action"])]
        assert all("kms:ViaService" in s["Condition"]["StringEquals"] for s in keys), name
        assert keys


def test_the_example_names_every_variable_and_has_no_secret() -> None:
    text = (REPOSITORY / ".env.example").read_text()
    named = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text, re.MULTILINE))
    used = {v for f in (REPOSITORY / "conf").rglob("*.yml") for v in re.findall(r"\$\{(\w+)", f.read_text())}
    assert used | {PII_KEY} <= named
    assert all(not value for value in dotenv_values(REPOSITORY / ".env.example").values())


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_an_env_file_that_others_can_read_causes_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], mode: int, warned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("X=1\n")
    (tmp_path / ".env").chmod(mode)
    assert main(["validate", "nothing-there", "--json"]) == ExitCode.USAGE
    output = capsys.readouterr()
    assert ("chmod 600 .env" in output.err) == warned
    assert json.loads(output.out)["exit_code"] == ExitCode.USAGE
