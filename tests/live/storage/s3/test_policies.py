"""Each stage needs only the rights of its own policy in deploy/iam.

moto checks no rights; a proxy in front of it checks each request as IAM would. It is stricter in one point: a missing
object may not be requested either, unless the policy has `s3:GetObject` on it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from s3_project import S3Project
from servers import faults, s3
from servers.postgres import Server
from shop import MODELS

pytestmark = [pytest.mark.usefixtures("spark"), pytest.mark.timeout(600)]  # every stage of a lake on S3, one by one

POLICIES = Path(__file__).parents[4] / "deploy/iam"
BUCKET = "example-lake"  # the bucket of the policies, with the folder `loyalty`
FIRST, SECOND = "20250101_000000", "20250102_000000"
_BY_QUERY = {
    ("GET", "list-type"): "s3:ListBucket",
    ("GET", "uploads"): "s3:ListBucketMultipartUploads",
    ("GET", "location"): "s3:GetBucketLocation",
    ("DELETE", "uploadId"): "s3:AbortMultipartUpload",
}
# Before it creates a folder or opens a table, Spark requests its parent folders as objects and accepts a refusal.
_ABOVE = re.compile(r"loyalty(/[a-z]+)?(/_delta_log)?")
_BY_METHOD = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Put", "DELETE": "Delete"}


class Loyalty(S3Project):
    @property
    def root(self) -> str:
        return f"s3a://{self.bucket}/loyalty"


class Guard:
    """Grants the rights of one policy, and collects the refused requests in `refused`."""

    def __init__(self) -> None:
        self.statements: list[dict[str, Any]] = []
        self.refused: set[str] = set()

    def use_policy(self, name: str) -> None:
        self.statements = json.loads((POLICIES / f"{name}.json").read_text())["Statement"]

    def refuses(self, method: str, path: str) -> bool:
        parts = urlsplit(path)
        query = parse_qs(parts.query, keep_blank_values=True)
        if method == "POST" and "delete" in query:
            return False  # checked for each object in the request
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        of_bucket = next((action for (m, name), action in _BY_QUERY.items() if m == method and name in query), None)
        action = of_bucket or (f"s3:{_BY_METHOD[method]}Object" if key else "s3:ListBucket")
        resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
        prefix = query.get("prefix", [""])[0]
        if any(_allows(one, action, resource, prefix) for one in self.statements):
            return False
        if not (method == "HEAD" and _ABOVE.fullmatch(key)):
            self.refused.add(f"{action} on {key or prefix or bucket}")
        return True


def _allows(statement: dict[str, Any], action: str, resource: str, prefix: str) -> bool:
    if action not in statement["Action"] or not any(fnmatchcase(resource, r) for r in statement["Resource"]):
        return False
    wanted = statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix")
    return wanted is None or any(fnmatchcase(prefix, one) for one in wanted)


def test_every_stage_verify_and_forget_need_only_the_rights_of_their_policy(
    moto: str, known_to_spark: Callable[[str, str], None], database: Server, tmp_path: Path
) -> None:
    publish = {"postgres": {"url": database.url, "tables": {"bronze.items": "items", "gold.notes": "notes"}}}
    s3.client(moto).create_bucket(Bucket=BUCKET)
    guard = Guard()
    with faults.proxy(moto, faults.Faults({}, guard.refuses)) as url:
        known_to_spark(BUCKET, url)
        shop = Loyalty(tmp_path / "shop", BUCKET, url, moto, models=MODELS, publish=publish)
        shop.snapshot(FIRST, items='id,qty,note\na,1,"x"\r\nb,2,"y"\nc,3,z\n')  # two kinds of line ends
        shop.snapshot(SECOND, items="id,qty,note\na,2,x\nb,2x,y\nc,4,z\n")
        for stage in ("extract", "ingest", "bronze", "silver", "gold", "publish", "verify"):
            guard.use_policy(stage)
            done = shop(stage)
            assert (done.code, guard.refused) == (0, set()), (stage, done.document)
        guard.use_policy("forget")
        done = shop("forget", "items", "c")
        assert (done.code, guard.refused) == (0, set()), done.document
        guard.use_policy("extract")
        assert shop("verify").code != 0, "the proxy guards nothing"
