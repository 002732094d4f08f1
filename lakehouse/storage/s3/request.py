"""A request to S3, and what becomes of one that is refused, or fails.

What is refused (403, no credentials, no such bucket) is not asked again and ends as a `ConfigError` that names the
request, the object and the permission; what fails (503, resets, answers cut short) is asked again, with growing pauses,
and at last is an `InfrastructureError`.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from lakehouse.errors import ConfigError, InfrastructureError

_NEXT_STEP = "run the same command again"

# The store does not know the keys, or not any more.
_CREDENTIAL_ERROR_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
)
# What a request needs, where that is not `s3:` and its own name.
_PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
}

T = TypeVar("T")


class WriteConflict(Exception):
    """A conditional write met another object than it expected."""


class TruncatedResponse(InfrastructureError):
    """An answer that ended before its end."""


class UploadNotFound(InfrastructureError):
    """An upload in parts that is no longer known: completed, as it seems, by a request whose answer was lost."""


def with_retries(work: Callable[[], T], on: type[Exception], attempts: int) -> T:
    """Do `work`, up to so many times, with growing pauses of chance length."""
    for attempt in range(1, attempts):
        try:
            return work()
        except on:
            time.sleep(random.uniform(0, min(0.2 * 2**attempt, 10)))
    return work()


@contextmanager
def s3_request(action: str, path: object) -> Iterator[None]:
    """A request, or the first of them for which a client is made.

    Raises:
        FileNotFoundError: there is no such object.
        Conflict: a condition is not met.
        ConfigError: it was refused, or could not be signed.
        InfrastructureError: it failed, and was tried again in vain.
    """
    try:
        from botocore import exceptions as raised
        from urllib3 import exceptions as below
    except ImportError as error:
        raise ConfigError(
            "a lake on s3a:// needs boto3, which is not installed",
            expected="the package with its extra `s3`",
            next_step="pip install 'lakehouse[s3]'",
        ) from error
    try:
        yield
    except raised.ClientError as error:
        told = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise response_error(
            error.operation_name, path, str(told.get("Code")), status, str(told.get("Message"))
        ) from error
    except (
        raised.IncompleteReadError,
        raised.ResponseStreamingError,
        raised.ReadTimeoutError,
        # botocore reads the text of a refusal (404, for one) where it lets what happens to it pass.
        below.ProtocolError,
        below.ReadTimeoutError,
    ) as error:
        raise TruncatedResponse(f"{action} of {path} was cut short: {error}", next_step=_NEXT_STEP) from error
    except (raised.NoRegionError, *_credential_errors(raised)) as error:
        raise ConfigError(
            f"{action} of {path} could not be signed: {error}",
            expected="credentials and a region by the AWS tools' rules: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " AWS_PROFILE or a role; AWS_REGION",
            next_step='set them for this process; README, "On S3"',
        ) from error
    except raised.BotoCoreError as error:
        raise InfrastructureError(
            f"{action} of {path} failed: {error}", expected="a store that answers", next_step=_NEXT_STEP
        ) from error


def _credential_errors(raised: Any) -> tuple[type[Exception], ...]:
    return (
        raised.NoCredentialsError,
        raised.PartialCredentialsError,
        raised.CredentialRetrievalError,
        raised.ProfileNotFound,
        raised.TokenRetrievalError,
        raised.SSOError,
    )


def response_error(action: str, path: object, code: str, status: int, message: str) -> Exception:
    """What an answer of the store means."""
    said = f"{action} of {path} was answered {code or status}: {message}"
    if code in ("NoSuchKey", "404"):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return WriteConflict(said)
    if code == "NoSuchUpload":
        return UploadNotFound(said, next_step=_NEXT_STEP)
    bucket, _, key = str(path).removeprefix("s3a://").partition("/")
    if code == "NoSuchBucket":
        return ConfigError(
            said,
            expected=f"a bucket {bucket} in the account and region of the credentials",
            next_step="make it, or correct `lake` in pipeline.yml",
        )
    if status in (301, 307, 400) and ("Redirect" in code or "Region" in code or "AuthorizationHeader" in code):
        return ConfigError(said, expected=f"the region of the bucket {bucket}", next_step="set AWS_REGION to it")
    if status in (401, 403) or code in _CREDENTIAL_ERROR_CODES:
        permission = _PERMISSIONS.get(action, f"s3:{action}")
        on = bucket if permission.startswith("s3:List") else f"{bucket}/{key}"
        wanted = f"{permission} on arn:aws:s3:::{on}"
        if code in _CREDENTIAL_ERROR_CODES:
            wanted = "keys that the store knows, and a clock that is right"
        elif permission == "s3:GetObject":
            wanted += ", and s3:ListBucket: without it what is not there is forbidden, too"
        wanted += "; kms:GenerateDataKey and kms:Decrypt on the key" if "kms" in message.lower() else ""
        return ConfigError(said, expected=wanted, next_step="have the permission granted, or use other credentials")
    return InfrastructureError(said, expected="a store that takes the request", next_step=_NEXT_STEP)
