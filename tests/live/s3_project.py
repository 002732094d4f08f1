"""Runs a test project with its lake on S3, and reads the lake from a copy on the disk."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from helpers import Project, Result
from servers import s3


class S3Project(Project):
    """A project with its lake on S3. `lake` is a copy on the disk, of the time of the last `download`.

    Args:
        url: The address of the server for the pipeline.
        direct_url: The address of the server without a proxy.
    """

    def __init__(self, folder: Path, bucket: str, url: str, direct_url: str = "", **parts: Any) -> None:
        self.bucket, self.url, self.direct_url = bucket, url, direct_url or url
        super().__init__(folder, **parts)

    @property
    def root(self) -> str:
        return f"s3a://{self.bucket}/shop"

    @property
    def environment(self) -> dict[str, str]:
        return s3.CREDENTIALS | {"AWS_ENDPOINT_URL": self.url}

    def __call__(self, verb: str, *arguments: str) -> Result:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            return super().__call__(verb, *arguments)

    def delete_leases(self) -> None:
        """Delete all leases."""
        client = s3.client(self.direct_url)
        for item in client.list_objects_v2(Bucket=self.bucket, Prefix="shop/_state/lock/").get("Contents", []):
            client.delete_object(Bucket=self.bucket, Key=item["Key"])

    def download(self) -> S3Project:
        """Copy the lake to the disk."""
        shutil.rmtree(self.lake, ignore_errors=True)
        download_prefix(self.direct_url, self.bucket, "shop/", self.lake)
        return self


def download_prefix(url: str, bucket: str, prefix: str, folder: Path) -> None:
    """Copy all objects below a prefix to files."""
    client = s3.client(url)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if item["Key"].endswith("/"):
                continue
            file = folder / item["Key"].removeprefix(prefix)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read())
