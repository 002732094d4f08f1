"""Objects and folders of S3, with as much of `pathlib.Path` as the lake asks for."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, TextIO, overload

from lakehouse.errors import InfrastructureError
from lakehouse.storage.s3.client import SCHEME, client, encryption_arguments
from lakehouse.storage.s3.request import TruncatedResponse, UploadNotFound, response_error, s3_request, with_retries

_READ_ATTEMPTS = 6  # times that a read is tried whose answer breaks off
_MAX_DELETES_PER_REQUEST = 1000  # objects, the most of one request


@dataclass(frozen=True)
class S3Path:
    """An object, or a folder of them; `str` is what Spark reads it by.

    Attributes:
        copy: on this machine, read instead of the object.
    """

    bucket: str
    key: str
    copy: Path | None = field(default=None, compare=False)

    @classmethod
    def from_url(cls, url: str) -> S3Path:
        bucket, _, key = url.removeprefix(SCHEME).partition("/")
        return cls(bucket, key.strip("/"))

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> S3Path:
        return S3Path(self.bucket, f"{self.key}/{name}".lstrip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> S3Path:
        return S3Path(self.bucket, self.key.rpartition("/")[0])

    def with_local_copy(self, copy: Path) -> S3Path:
        return replace(self, copy=copy)

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
        """The object's bytes or text, streamed.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if self.copy:
            return self.copy.open(mode, encoding=encoding, errors=errors, newline=newline)
        raw = io.BufferedReader(_ObjectReader(self), 1 << 20)
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline=newline)

    def read_bytes(self) -> bytes:
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            with s3_request("HeadObject", self):
                client().head_object(Bucket=self.bucket, Key=self.key)
        except FileNotFoundError:
            return False
        return True

    def iterdir(self) -> Iterator[S3Path]:
        """What lies right below this folder, in order; nothing where there is no such folder."""
        names = set()
        for page in self._list_pages("ListObjectsV2", Delimiter="/"):
            names |= {one["Prefix"].rstrip("/") for one in page.get("CommonPrefixes", [])}
            names |= {one["Key"] for one in page.get("Contents", []) if not one["Key"].endswith("/")}
        return iter([S3Path(self.bucket, key) for key in sorted(names)])

    def list_files(self) -> Iterator[S3Path]:
        """All objects below this folder, in order."""
        for page in self._list_pages("ListObjectsV2"):
            yield from (S3Path(self.bucket, one["Key"]) for one in page.get("Contents", []))

    def file_sizes(self) -> dict[str, int]:
        """Bytes of every object below this folder, by its key from there. Objects are listed, not read."""
        pages = self._list_pages("ListObjectsV2")
        found = {
            one["Key"].removeprefix(f"{self.key}/"): one["Size"] for page in pages for one in page.get("Contents", [])
        }
        return {name: size for name, size in found.items() if not name.endswith("/")}

    def unlink(self, missing_ok: bool = True) -> None:
        with s3_request("DeleteObject", self):
            client().delete_object(Bucket=self.bucket, Key=self.key)

    def put(self, content: bytes, **condition: str) -> str:
        """Write the object whole; returns its ETag.

        Args:
            condition: `IfNoneMatch="*"`, or `IfMatch` with an ETag.

        Raises:
            Conflict: the condition is not met; or it was, by this very write, whose first answer was lost.
        """
        with s3_request("PutObject", self):
            done = client().put_object(
                Bucket=self.bucket, Key=self.key, Body=content, **encryption_arguments(), **condition
            )
        return str(done["ETag"])

    def read_object(self) -> S3Object:
        """The object, with what a condition needs of it.

        Raises:
            FileNotFoundError: there is none.
        """

        def asked() -> S3Object:
            with s3_request("GetObject", self):
                got = client().get_object(Bucket=self.bucket, Key=self.key)
                now = parsedate_to_datetime(got["ResponseMetadata"]["HTTPHeaders"]["date"])
                return S3Object(got["Body"].read(), got["ETag"], (now - got["LastModified"]).total_seconds())

        return with_retries(asked, InfrastructureError, 3)

    def upload(self, open_stream: Callable[[], AbstractContextManager[IO[bytes]]]) -> None:
        """Write the object from a stream, in parts where it is large, each with its SHA-256.

        Args:
            opened: gives the stream anew each time: an upload whose last answer was lost begins again.
        """
        extra = {"ChecksumAlgorithm": "SHA256", **encryption_arguments()}

        def attempt() -> None:
            with s3_request("PutObject", self), open_stream() as source:
                client().upload_fileobj(source, self.bucket, self.key, ExtraArgs=extra)

        with_retries(attempt, UploadNotFound, 3)

    def remove(self) -> None:
        """Delete the object, or all objects of the folder and what was begun to be uploaded into it."""
        for page in self._list_pages("ListMultipartUploads"):
            for one in page.get("Uploads", []):
                with s3_request("AbortMultipartUpload", self):
                    client().abort_multipart_upload(Bucket=self.bucket, Key=one["Key"], UploadId=one["UploadId"])
        keys = [one["Key"] for page in self._list_pages("ListObjectsV2") for one in page.get("Contents", [])] or [
            self.key
        ]
        for start in range(0, len(keys), _MAX_DELETES_PER_REQUEST):
            objects = [{"Key": key} for key in keys[start : start + _MAX_DELETES_PER_REQUEST]]
            with s3_request("DeleteObjects", self):
                done = client().delete_objects(Bucket=self.bucket, Delete={"Objects": objects, "Quiet": True})
            for error in done.get("Errors", []):
                raise response_error("DeleteObjects", self, error.get("Code", ""), 0, error.get("Message", ""))

    def _list_pages(self, action: str, **more: str) -> Iterator[dict[str, Any]]:
        """All pages of a list of what lies below this folder."""
        request = {"ListObjectsV2": "list_objects_v2", "ListMultipartUploads": "list_multipart_uploads"}[action]
        with s3_request(action, self):
            pages = client().get_paginator(request)
            yield from pages.paginate(Bucket=self.bucket, Prefix=f"{self.key}/".lstrip("/"), **more)


@dataclass(frozen=True)
class S3Object:
    """An object as it was found; `age` is how long ago it was written, in seconds by the store's own clock."""

    content: bytes
    etag: str
    age_seconds: float


class _ObjectReader(io.RawIOBase):
    """The bytes of an object. Where an answer breaks off, the rest is asked for, of the same version of the object."""

    def __init__(self, path: S3Path) -> None:
        self._path, self._position = path, 0
        self._condition: dict[str, str] = {}
        self._body: Any = None
        self._size = with_retries(self._request_body, TruncatedResponse, _READ_ATTEMPTS)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if at != self._position:
            self._close_body()
        self._position = at
        return at

    def readinto(self, buffer: Any, /) -> int:
        content = with_retries(lambda: self._read(len(buffer)), TruncatedResponse, _READ_ATTEMPTS)
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
        """Have the bytes sent from here on; returns how many there are."""
        begin = {"Range": f"bytes={self._position}-"} if self._position else {}
        with s3_request("GetObject", self._path):
            got = client().get_object(Bucket=self._path.bucket, Key=self._path.key, **begin, **self._condition)
        self._body, self._condition = got["Body"], {"IfMatch": got["ETag"]}
        return int(got["ContentLength"])

    def _close_body(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None

    def close(self) -> None:
        self._close_body()
        super().close()
