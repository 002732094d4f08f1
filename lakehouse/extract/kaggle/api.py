"""Requests the newest version of a dataset from Kaggle, and downloads its archive."""

from __future__ import annotations

import hashlib
import re
import shutil
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

from lakehouse.errors import DataRefused
from lakehouse.extract.kaggle.client import TIMEOUTS, dataset_url, kaggle_errors, signed_in_client
from lakehouse.extract.kaggle.progress import DownloadBar
from lakehouse.retry import TransientError, with_retries
from lakehouse.storage.paths import to_utc

if TYPE_CHECKING:
    from kagglesdk.kaggle_client import KaggleClient
    from requests import Response

_CHUNK_BYTES = 1 << 16  # if a connection breaks, the bytes after the last complete chunk are lost


MAX_ARCHIVE_BYTES = 256 << 30
_MAX_DISK_SHARE = 0.9  # of what is free; the files of the archive need the rest


@dataclass(frozen=True)
class Version:
    """A version of a dataset, with the time of its publication (UTC)."""

    number: int
    time: datetime


def newest_version(dataset: str) -> Version:
    """Return the newest version of a dataset, without downloading it.

    Args:
        dataset: owner/name.

    Raises:
        ConfigError: The credentials are missing or rejected, or there is no such dataset.
        InfrastructureError: Kaggle could not be reached, or all attempts failed.
    """
    with signed_in_client(dataset) as client:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/")

        def request_version() -> Version:
            with kaggle_errors(dataset):
                answer = client.datasets.dataset_api_client.get_dataset(request)
                number = answer.current_version_number
                creation_dates = {v.version_number: v.creation_date for v in answer.versions or ()}
                time = creation_dates.get(number) or answer.last_updated
                if time is None:
                    raise ValueError("the answer has no time for the newest version")
                return Version(number, to_utc(time).replace(microsecond=0))

        return with_retries(request_version)


def download(dataset: str, version: Version, folder: Path) -> Path:
    """Download the archive of a version, or the rest of it if an earlier attempt or run was cut off.

    Args:
        dataset: owner/name.
        version: The version to download.
        folder: An existing folder for the archive alone.

    Returns:
        The path of the complete archive.

    Raises:
        ConfigError: The credentials are missing or rejected, or there is no such dataset.
        InfrastructureError: Kaggle could not be reached, or all attempts failed.
    """
    with signed_in_client(dataset) as client, DownloadBar(f"{dataset}, version {version.number}") as bar:
        return with_retries(lambda: _download_once(client, dataset, version, folder, bar))


# --- an archive -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ArchiveInfo:
    """The properties of an archive in the headers of its download.

    Attributes:
        etag: The strong ETag, which proves that a part belongs to this archive; "" if there is none.
        size: The size in bytes, if the headers contain it.
        md5: The checksum in base64, if the headers contain it.
    """

    etag: str
    size: int | None
    md5: str

    @classmethod
    def from_response(cls, answer: Response) -> _ArchiveInfo:
        """Return the properties in the headers of an answer."""
        headers = answer.headers
        etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
        is_encoded = headers.get("Content-Encoding", "identity") != "identity"  # then the length is not the archive's
        md5 = re.search(r"\bmd5=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", ""))
        size = int(length) if length.isdecimal() and not is_encoded else None
        return cls("" if etag.startswith("W/") else etag, size, md5[1] if md5 else "")

    def file_name(self, version: Version) -> str:
        """Return a name for the local file, which is the same only for the same bytes."""
        properties = f"{version.number}\0{self.etag}\0{self.size}\0{self.md5}"
        return f"{hashlib.sha256(properties.encode()).hexdigest()[:16]}.zip"


def _download_once(client: KaggleClient, dataset: str, version: Version, folder: Path, bar: DownloadBar) -> Path:
    """Make one attempt to download the archive, from where the last attempt was cut off."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    request.dataset_version_number = version.number or None  # 0: Kaggle's answer had no number
    with kaggle_errors(dataset), client.datasets.dataset_api_client.download_dataset(request) as answer:
        archive = _ArchiveInfo.from_response(answer)
        path = folder / archive.file_name(version)
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        received = path.stat().st_size if path.exists() and archive.etag else 0
        if not received:
            _write_chunks(answer, path, 0, archive.size, bar)
        elif received != archive.size:
            with _request_rest(answer, received, archive.etag) as rest:
                _write_chunks(rest, path, received if rest.status_code == 206 else 0, archive.size, bar)
    _check_archive(path, archive, dataset)
    return path


def _request_rest(answer: Response, received: int, etag: str) -> Response:
    """Request the missing rest; the answer is the complete archive if it changed, or if the server sends no parts."""
    import requests

    answer.close()
    request, session = answer.request.copy(), requests.Session()
    request.headers.update({"Range": f"bytes={received}-", "If-Range": etag, "Accept-Encoding": "identity"})
    settings = session.merge_environment_settings(request.url or "", {}, True, None, None)
    rest = session.send(request, timeout=TIMEOUTS, **settings)
    rest.raise_for_status()
    if rest.status_code == 206 and not rest.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
        raise ValueError("the answer is not the requested part")
    return rest


def _write_chunks(answer: Response, path: Path, received: int, size: int | None, bar: DownloadBar) -> None:
    """Write the rest of an archive.

    Raises:
        DataRefused: It is larger than the limit, or than the disk allows; nothing of it is kept.
    """
    free = int(_MAX_DISK_SHARE * shutil.disk_usage(path.parent).free) + received
    limit = min(MAX_ARCHIVE_BYTES, free)
    with path.open("ab" if received else "wb") as file:
        if (size or 0) <= limit:
            for chunk in answer.iter_content(_CHUNK_BYTES):
                received += len(chunk)
                if received > limit:
                    break
                file.write(chunk)
                bar.show(received, size)
    if max(received, size or 0) > limit:
        path.unlink()
        raise DataRefused(
            f"the archive has {size:,} bytes" if size else f"the archive has more than {limit:,} bytes",
            expected=f"at most {MAX_ARCHIVE_BYTES >> 30} GiB, and {_MAX_DISK_SHARE:.0%} of the free disk",
            where=str(path.parent),
            next_step="free disk, or use a smaller dataset",
        )


def _check_archive(path: Path, archive: _ArchiveInfo, dataset: str) -> None:
    """Raise if the file is not the complete archive; delete it if it cannot be continued either."""
    size, problem = path.stat().st_size, ""
    if archive.size is not None and size != archive.size:
        problem = f"has {size:,} bytes, expected {archive.size:,}"
    elif archive.md5 and _md5(path) != archive.md5:
        problem = "has a wrong checksum"
    elif not is_zipfile(path):
        problem = "is not a zip archive, or only a part of one"
    if problem:
        if archive.size is None or size >= archive.size:
            path.unlink()
        raise TransientError(f"the archive {problem}", where=dataset_url(dataset))


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return b64encode(digest.digest()).decode()
