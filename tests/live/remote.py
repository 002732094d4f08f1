"""A project of the tests with its lake on S3, looked at through a copy of it on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Project, Result
from servers import s3


class Remote(Project):
    """`lake` is a copy: as the bucket was when it was last looked at, past any proxy.

    Args:
        url: the server's address, for the pipeline.
        behind: the same without a proxy.
    """

    def __init__(self, folder: Path, bucket: str, url: str, behind: str = "", **parts: Any) -> None:
        self.bucket, self.url, self.behind = bucket, url, behind or url
        super().__init__(folder, **parts)

    @property
    def root(self) -> str:
        return f"s3a://{self.bucket}/shop"

    @property
    def environment(self) -> dict[str, str]:
        return s3.KEY | {"AWS_ENDPOINT_URL": self.url}

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return super().__call__(verb, *arguments)

    def free(self) -> None:
        """End whatever lease there is."""
        client = s3.client(self.behind)
        for one in client.list_objects_v2(Bucket=self.bucket, Prefix="shop/_state/lock/").get("Contents", []):
            client.delete_object(Bucket=self.bucket, Key=one["Key"])

    def look(self) -> Remote:
        """Copy the lake anew."""
        shutil.rmtree(self.lake, ignore_errors=True)
        copied(self.behind, self.bucket, "shop/", self.lake)
        return self


def copied(url: str, bucket: str, prefix: str, folder: Path) -> None:
    """All objects below a prefix, as files."""
    client = s3.client(url)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for one in page.get("Contents", []):
            if one["Key"].endswith("/"):
                continue
            file = folder / one["Key"].removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.get_object(Bucket=bucket, Key=one["Key"])["Body"].read())
