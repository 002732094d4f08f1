"""Implements objects and folders of S3 with the methods of `pathlib.Path` that the lake needs.

Some failures of a request are not visible to boto3, such as a response that ends too early; they are retried here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from lakehouse.errors import InfrastructureError
from lakehouse.retry import RetryPolicy, with_retries
from lakehouse.storage.s3.client import SCHEME, client, encryption_arguments
from lakehouse.storage.s3.request import TruncatedResponse, UploadNotFound, response_error, s3_request

# boto3 has retried the requests themselves for half a minute.
_READ_POLICY = RetryPolicy(attempts=6, wait_initial=0.2, wait_max=10.0, wait_jitter=0.4, timeout=None)
_REQUEST_POLICY = RetryPolicy(attempts=3, wait_initial=0.2, wait_max=10.0, wait_jitter=0.4, timeout=None)
_MAX_DELETES_PER_REQUEST = 1000  # S3's limit


@dataclass(frozen=True)
class S3Path:
    """An object or a folder on S3; `str` returns the path by which Spark reads it.

    Attributes:
        bucket: The bucket.
        key: The key of the object, or the prefix of the folder, without a slash at its end.
        local_copy: A copy on this machine, which Python reads instead of the object.
    """

    bucket: str
    key: str
    local_copy: Path | None = field(default=None, compare=False)

    @classmethod
    def from_url(cls, url: str) -> S3Path:
        """Return the path of an s3a:// URL."""
        bucket, _, key = url.removeprefix(SCHEME).partition("/")
        return cls(bucket, key.strip("/"))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> S3Path:
        return S3Path(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        """The last part of the key."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> S3Path:
        """The folder that contains it."""
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def with_local_copy(self, local_copy: Path) -> S3Path:
        """Return the same path with a copy on this machine."""
        return replace(self, local_copy=local_copy)

    @overload
    def open(self, mode: Literal["rb"]) -> BinaryIO: ...
    @overload
    def open(
        self,
        mode: Literal["r"] = "r",
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> TextIO: ...
    def open(
        self, mode: str = "r", *, encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open the object to stream its bytes or text.

        Args:
            mode: `rb` or `r`.
            encoding: As of `pathlib.Path.open`.
            errors: As of `pathlib.Path.open`.
            newline: As of `pathlib.Path.open`.

        Raises:
            FileNotFoundError: There is no such object.
        """
        if self.local_copy:
            return self.local_copy.open(mode, encoding=encoding, errors=errors, newline=newline)
        raw = io.BufferedReader(_ObjectReader(self), 1 << 20)
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=newline)

    def read_bytes(self) -> bytes:
        """Return the bytes of the object."""
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the text of the object."""
        return self.read_bytes().decode(encoding)

    def exists(self) -> bool:
        """Return whether there is such an object."""
        try:
            with s3_request("HeadObject", self):
                client().head_object(Bucket=self.bucket, Key=self.key)
        except FileNotFoundError:
            return False
        return True

    def iterdir(self) -> Iterator[S3Path]:
        """Return the objects and folders directly in this folder, sorted; none if it does not exist."""
        names = set()
        for page in self._list_pages("ListObjectsV2", Delimiter="/"):
            names |= {item["Prefix"].rstrip("/") for item in page.get("CommonPrefixes", [])}
            names |= {item["Key"] for item in page.get("Contents", []) if not item["Key"].endswith("/")}
        return iter([S3Path(self.bucket, key) for key in sorted(names)])

    def list_files(self) -> Iterator[S3Path]:
        """Yield all objects below this folder, sorted."""
        for page in self._list_pages("ListObjectsV2"):
            yield from (S3Path(self.bucket, item["Key"]) for item in page.get("Contents", []))

    def file_sizes(self) -> dict[str, int]:
        """Return the bytes of each object below this folder, by its relative key; objects are listed, not read."""
        prefix = f"{self.key}/"
        items = [item for page in self._list_pages("ListObjectsV2") for item in page.get("Contents", [])]
        return {item["Key"].removeprefix(prefix): item["Size"] for item in items if not item["Key"].endswith("/")}

    def unlink(self, missing_ok: bool = True) -> None:
        """Delete the object; a missing one is never an error."""
        with s3_request("DeleteObject", self):
            client().delete_object(Bucket=self.bucket, Key=self.key)

    def put(self, content: bytes, **condition: str) -> str:
        """Write the object in one request and return its ETag.

        Args:
            content: The bytes of the object.
            condition: `IfNoneMatch="*"`, or `IfMatch` with an ETag.

        Raises:
            WriteConflict: The condition is not met; or this very write met it, and its first response was lost.
        """
        with s3_request("PutObject", self):
            response = client().put_object(
                Bucket=self.bucket, Key=self.key, Body=content, **encryption_arguments(), **condition
            )
        return str(response["ETag"])

    def read_object(self) -> S3Object:
        """Return the object with its ETag and age, for conditional writes.

        Raises:
            FileNotFoundError: There is no such object.
        """

        def attempt() -> S3Object:
            with s3_request("GetObject", self):
                response = client().get_object(Bucket=self.bucket, Key=self.key)
                now = parsedate_to_datetime(response["ResponseMetadata"]["HTTPHeaders"]["date"])
                age = (now - response["LastModified"]).total_seconds()
                return S3Object(response["Body"].read(), response["ETag"], age)

        return with_retries(attempt, InfrastructureError, _REQUEST_POLICY)

    def upload(self, open_stream: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        """Write the object from a stream; a large one in parts, each with its SHA-256.

        Args:
            open_stream: Opens the stream from its beginning; called again for an upload whose last response was lost.
        """
        arguments = {"ChecksumAlgorithm": "SHA256", **encryption_arguments()}

        def attempt() -> None:
            with s3_request("PutObject", self), open_stream() as source:
                client().upload_fileobj(source, self.bucket, self.key, ExtraArgs=arguments)

        with_retries(attempt, UploadNotFound, _REQUEST_POLICY)

    def remove(self) -> None:
        """Delete the object, or all objects of the folder and its unfinished uploads."""
        for page in self._list_pages("ListMultipartUploads"):
            for upload in page.get("Uploads", []):
                with s3_request("AbortMultipartUpload", self):
                    client().abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        items = [item for page in self._list_pages("ListObjectsV2") for item in page.get("Contents", [])]
        keys = [item["Key"] for item in items] or [self.key]
        for start in range(0, len(keys), _MAX_DELETES_PER_REQUEST):
            objects = [{"Key": key} for key in keys[start : start + _MAX_DELETES_PER_REQUEST]]
            with s3_request("DeleteObjects", self):
                response = client().delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for error in response.get("Errors", []):
                refused = f"s3a://{self.bucket}/{error.get('Key', self.key)}"
                raise response_error("DeleteObjects", refused, error.get("Code", ""), 0, error.get("Message", ""))

    def _list_pages(self, action: str, **more: str) -> Iterator[dict[str, Any]]:
        """Yield all pages of a listing below this folder."""
        request = {"ListObjectsV2": "list_objects_v2", "ListMultipartUploads": "list_multipart_uploads"}[action]
        with s3_request(action, self):
            paginator = client().get_paginator(request)
            yield from paginator.paginate(Bucket=self.bucket, Prefix=f"{self.key}/".lstrip("/"), **more)


@dataclass(frozen=True)
class S3Object:
    """The content of an object.

    Attributes:
        content: The bytes.
        etag: The version, for conditional writes.
        age_seconds: The time since it was written, by the store's clock.
    """

    content: bytes
    etag: str
    age_seconds: float


class _ObjectReader(io.RawIOBase):
    """Streams an object; after a truncated response it requests the rest of the same version of the object."""

    def __init__(self, path: S3Path) -> None:
        self._path, self._position = path, 0
        self._condition: dict[str, str] = {}
        self._body: Any = None
        self._size = with_retries(self._request_body, TruncatedResponse, _READ_POLICY)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if position != self._position:
            self._close_body()
        self._position = position
        return position

    def readinto(self, buffer: Any, /) -> int:
        content = with_retries(lambda: self._read(len(buffer)), TruncatedResponse, _READ_POLICY)
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read(self, size: int) -> bytes:
        if self._position >= self._size:
            return b""
        if self._body is None:
            self._request_body()
        try:
            with s3_request("GetObject", self._path):
                return bytes(self._body.read(size))
        except TruncatedResponse:
            self._body = None
            raise

    def _request_body(self) -> int:
        """Request the bytes from the current position on, and return their number."""
        begin = {"Range": f"bytes={self._position}-"} if self._position else {}
        with s3_request("GetObject", self._path):
            response = client().get_object(Bucket=self._path.bucket, Key=self._path.key, **begin, **self._condition)
        self._body, self._condition = response["Body"], {"IfMatch": response["ETag"]}
        return int(response["ContentLength"])

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None

    def close(self) -> None:
        self._close_body()
        super().close()
