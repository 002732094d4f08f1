"""The policy of `extract` on a server that evaluates IAM policies itself: moto, with its users and their keys.

moto does not evaluate conditions (`s3:prefix` of ListBucket), and asks for the right to delete on the bucket, not
on each object, if several are deleted by one request; test_policies.py is exact, with a proxy, for every stage.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from s3_project import S3Project
from servers import s3

POLICY = json.loads((Path(__file__).parents[4] / "deploy/iam/extract.json").read_text())
BUCKET = "example-lake"  # the bucket of the policies, with the folder `loyalty`
LESS = {  # the right that is missing, and what the message says
    "s3:PutObject": "s3:PutObject on arn:aws:s3:::example-lake/loyalty/",
    "s3:GetObject": "s3:GetObject on arn:aws:s3:::example-lake/loyalty/",
    "s3:ListBucket": "s3:ListBucket on arn:aws:s3:::example-lake",
}


def policy_without(action: str) -> dict[str, Any]:
    """Return the policy without an action, and with the right that only moto asks for."""
    policy = copy.deepcopy(POLICY)
    for statement in policy["Statement"]:
        statement["Action"] = [a for a in statement["Action"] if a != action] or ["s3:GetBucketLocation"]
    bucket = [f"arn:aws:s3:::{BUCKET}"]
    policy["Statement"].append({"Effect": "Allow", "Action": ["s3:DeleteObject"], "Resource": bucket})
    return policy


class Loyalty(S3Project):
    """A project whose commands have the keys of a user."""

    keys: dict[str, str]

    @property
    def root(self) -> str:
        return f"s3a://{self.bucket}/loyalty"

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | self.keys


def create_user(iam: Any, name: str, policy: dict[str, Any]) -> dict[str, str]:
    """Create a user with one policy, by three requests; return the environment of its commands."""
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.put_user_policy(UserName=name, PolicyName="stage", PolicyDocument=json.dumps(policy))
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_extract_lands_a_snapshot_with_its_policy_and_names_the_right_that_it_lacks_with_less(tmp_path: Path) -> None:
    with s3.moto(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT=str(1 + 3 * (len(LESS) + 1))) as url:
        s3.client(url).create_bucket(Bucket=BUCKET)
        credentials = {name.lower(): value for name, value in s3.CREDENTIALS.items() if name != "AWS_REGION"}
        iam = boto3.client("iam", endpoint_url=url, region_name="us-east-1", **credentials)
        users = {action: create_user(iam, action.replace(":", "-"), policy_without(action)) for action in LESS}
        users["all"] = create_user(iam, "all", policy_without(""))
        with pytest.raises(Exception, match=r"403|InvalidAccessKeyId"):
            s3.client(url).list_objects_v2(Bucket=BUCKET)

        shop = Loyalty(tmp_path / "shop", BUCKET, url)
        shop.snapshot("20250101_000000", items="id,qty,note\na,1,x\n")
        for action, needed in LESS.items():
            shop.keys = users[action]
            refused = shop("extract")
            assert refused.code == 2, action
            assert needed in refused.stderr, action
        shop.keys = users["all"]
        done = shop("extract")
        assert done.code == 0, done.stderr
