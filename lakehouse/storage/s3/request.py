"""Translates the failures of S3 requests to errors of this project.

A refused request (403, no credentials, no such bucket) is not retried and becomes a `ConfigError` that names the
request, the object and the permission. A failed request (503, resets, truncated responses) is retried by boto3, or by
`path.py` if boto3 does not see the failure, and becomes an `InfrastructureError` in the end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.errors import ConfigError, InfrastructureError

_NEXT_STEP = "run the same command again"

# The store does not know the keys, or they have expired.
_CREDENTIAL_ERROR_CODES = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed"}
)
# The permissions of requests, if different from `s3:` and the name of the request.
_PERMISSIONS = {
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "HeadObject": "s3:GetObject",
}


class WriteConflict(Exception):
    """A conditional write found another object than expected."""


class TruncatedResponse(InfrastructureError):
    """A response ended too early."""


class UploadNotFound(InfrastructureError):
    """A multipart upload no longer exists; probably a request completed it whose response was lost."""


@contextmanager
def s3_request(action: str, path: object) -> Iterator[None]:
    """Translate the exceptions of the requests in a `with` block.

    Args:
        action: The name of the request, such as GetObject.
        path: The object or folder.

    Raises:
        FileNotFoundError: There is no such object.
        WriteConflict: A condition is not met.
        ConfigError: boto3 is not installed, or the request was refused or could not be signed.
        InfrastructureError: The request failed, after retries.
    """
    try:
        from botocore import exceptions as raised
        from urllib3 import exceptions as http
    except ImportError as error:
        raise ConfigError(
            "a lake on s3a:// needs boto3, which is not installed",
            expected="the package with its extra `s3`",
            next_step="pip install 'lakehouse[s3]'",
        ) from error
    try:
        yield
    except raised.ClientError as error:
        details = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise response_error(
            error.operation_name, path, str(details.get("Code")), status, str(details.get("Message"))
        ) from error
    except (
        raised.IncompleteReadError,
        raised.ResponseStreamingError,
        raised.ReadTimeoutError,
        # botocore does not translate failures while it reads the body of an error response, such as a 404.
        http.ProtocolError,
        http.ReadTimeoutError,
    ) as error:
        raise TruncatedResponse(f"{action} of {path} was truncated: {error}", next_step=_NEXT_STEP) from error
    except (
        raised.NoRegionError,
        raised.NoCredentialsError,
        raised.PartialCredentialsError,
        raised.CredentialRetrievalError,
        raised.ProfileNotFound,
        raised.TokenRetrievalError,
        raised.SSOError,
    ) as error:
        raise ConfigError(
            f"{action} of {path} could not be signed: {error}",
            expected="credentials and a region by the AWS tools' rules: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,"
            " AWS_PROFILE or a role; AWS_REGION",
            next_step="set them for this process: docs/guide/s3.md",
        ) from error
    except raised.BotoCoreError as error:
        raise InfrastructureError(
            f"{action} of {path} failed: {error}", expected="a store that answers", next_step=_NEXT_STEP
        ) from error


def response_error(action: str, path: object, code: str, status: int, message: str) -> Exception:
    """Return the exception for an error response of the store.

    Args:
        action: The name of the request, such as GetObject.
        path: The object or folder.
        code: The error code of the response.
        status: The HTTP status of the response; 0 if unknown.
        message: The message of the response.
    """
    found = f"{action} of {path} was answered {code or status}: {message}"
    bucket = str(path).removeprefix("s3a://").partition("/")[0]
    if code in ("NoSuchKey", "404"):
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if status == 412 or code in ("PreconditionFailed", "ConditionalRequestConflict"):
        return WriteConflict(found)
    if code == "NoSuchUpload":
        return UploadNotFound(found, next_step=_NEXT_STEP)
    if code == "NoSuchBucket":
        return ConfigError(
            found,
            expected=f"a bucket {bucket} in the account and region of the credentials",
            next_step="create it, or correct `lake` in pipeline.yml",
        )
    if status in (301, 307, 400) and ("Redirect" in code or "Region" in code or "AuthorizationHeader" in code):
        return ConfigError(found, expected=f"the region of the bucket {bucket}", next_step="set AWS_REGION to it")
    # An object of a request for several is refused by its code, in a response with status 200.
    if status in (401, 403) or code == "AccessDenied" or code in _CREDENTIAL_ERROR_CODES:
        return ConfigError(
            found,
            expected=_required_permission(action, path, code, message),
            next_step="have the permission granted, or use other credentials",
        )
    return InfrastructureError(found, expected="a store that accepts the request", next_step=_NEXT_STEP)


def _required_permission(action: str, path: object, code: str, message: str) -> str:
    """Return the need of a refused request: valid keys, or a permission on an ARN."""
    permission = _PERMISSIONS.get(action, f"s3:{action}")
    bucket, _, key = str(path).removeprefix("s3a://").partition("/")
    resource = bucket if permission.startswith("s3:List") else f"{bucket}/{key}"
    expected = f"{permission} on arn:aws:s3:::{resource}"
    if code in _CREDENTIAL_ERROR_CODES:
        expected = "keys that the store knows, and a correct clock"
    elif permission == "s3:GetObject":
        expected += ", and s3:ListBucket: without it, S3 answers 403 for objects that do not exist, too"
    return expected + ("; kms:GenerateDataKey and kms:Decrypt on the key" if "kms" in message.lower() else "")
