"""Creates the S3 client, and the settings with which Spark uses the same store.

Credentials, profile, region and endpoint follow the rules of the AWS tools (environment, profile, role).
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from lakehouse.storage.s3.request import s3_request
from lakehouse.storage.spark_conf import read_spark_conf

SCHEME = "s3a://"
KMS_KEY_VARIABLE = "LAKEHOUSE_S3_KMS_KEY"  # the key that encrypts written objects (SSE-KMS)
_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_CREDENTIAL_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE")
_CLIENT_VARIABLES = (
    *_ENDPOINT_VARIABLES,
    *_CREDENTIAL_VARIABLES,
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
)  # a change of a value needs a new client
_ATTEMPTS = 8  # of one request: about half a minute of waits


def client() -> Any:
    """Return the S3 client for the current environment variables."""
    with s3_request("the first request", "S3"):
        return _create_client(*(os.environ.get(name) for name in _CLIENT_VARIABLES))


@lru_cache(maxsize=4)
def _create_client(*environment: str | None) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(region_name=os.environ.get("AWS_REGION"))
    path_style = {"addressing_style": "path"} if any(os.environ.get(name) for name in _ENDPOINT_VARIABLES) else {}
    retries = {"mode": "standard", "total_max_attempts": _ATTEMPTS}
    config = Config(retries=retries, s3=path_style, connect_timeout=10, read_timeout=60, max_pool_connections=32)
    return session.client("s3", config=config)


def encryption_arguments() -> dict[str, str]:
    """Return the arguments of a write that ask for encryption; without a key, the bucket's own rule applies."""
    key = os.environ.get(KMS_KEY_VARIABLE)
    return {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}


def spark_settings() -> dict[str, str]:
    """Return the settings of a Spark session for S3: packages, client options and endpoint, but no credentials."""
    settings = read_spark_conf("spark-s3.conf")
    meta, s3a = client().meta, "spark.hadoop.fs.s3a"
    settings[f"{s3a}.endpoint.region"] = meta.region_name
    if not (urlsplit(meta.endpoint_url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        settings |= {f"{s3a}.endpoint": meta.endpoint_url, f"{s3a}.path.style.access": "true"}
        settings |= {f"{s3a}.connection.ssl.enabled": str(meta.endpoint_url.startswith("https")).lower()}
    if key := os.environ.get(KMS_KEY_VARIABLE):
        settings |= {f"{s3a}.encryption.algorithm": "SSE-KMS", f"{s3a}.encryption.key": key}
    return settings
