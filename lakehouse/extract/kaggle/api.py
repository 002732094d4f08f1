"""Kaggle's API: which version of a dataset is the newest, and its archive."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import is_zipfile

from lakehouse.extract.kaggle.client import TIMEOUTS, dataset_url, kaggle_errors
from lakehouse.extract.kaggle.client import signed_in_client as signed_in
from lakehouse.extract.kaggle.progress import DownloadBar
from lakehouse.retry import TransientError, with_retries
from lakehouse.storage.paths import to_utc

if TYPE_CHECKING:
    from kagglesdk.kaggle_client import KaggleClient
    from requests import Response

_CHUNK_BYTES = 1 << 16  # bytes; of a connection that breaks, what came after the last whole chunk is lost


@dataclass(frozen=True)
class Version:
    """A version of a dataset, and when it was published (UTC)."""

    number: int
    time: datetime


def newest_version(dataset: str) -> Version:
    """The dataset's newest version. Nothing is downloaded.

    Raises:
        ConfigError: no credentials, refused ones, or no such dataset.
        InfrastructureError: Kaggle could not be reached, or kept failing.
    """
    with signed_in(dataset) as client:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = dataset.split("/")

        def ask() -> Version:
            with kaggle_errors(dataset):
                found = client.datasets.dataset_api_client.get_dataset(request)
                number = found.current_version_number
                created = {v.version_number: v.creation_date for v in found.versions or ()}
                time = created.get(number) or found.last_updated
                if time is None:
                    raise ValueError("no time of the newest version in it")
                return Version(number, to_utc(time).replace(microsecond=0))

        return with_retries(ask)


def download(dataset: str, version: Version, folder: Path) -> Path:
    """The archive of a version, whole, below `folder`. What an earlier attempt or run left of it there is gone on with.

    Raises:
        ConfigError, InfrastructureError: as `newest` does.
    """
    with signed_in(dataset) as client, DownloadBar(f"{dataset}, version {version.number}") as bar:
        return with_retries(lambda: _download_once(client, dataset, version, folder, bar))


# --- an archive -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _ArchiveInfo:
    """What the store says of an archive before it sends it.

    Attributes:
        etag: the strong one, by which a part is known to be of this very archive; "" if there is none.
        size: bytes, if it says so.
        md5: in base64, if it says so.
    """

    etag: str
    size: int | None
    md5: str

    @classmethod
    def from_response(cls, answer: Response) -> _ArchiveInfo:
        headers = answer.headers
        etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
        packed = headers.get("Content-Encoding", "identity") != "identity"  # then the length is another one
        md5 = re.search(r"\bmd5=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", ""))
        size = int(length) if length.isdecimal() and not packed else None
        return cls("" if etag.startswith("W/") else etag, size, md5[1] if md5 else "")

    def file_name(self, version: Version) -> str:
        """A file's name for it, the same only for the same bytes."""
        told = f"{version.number}\0{self.etag}\0{self.size}\0{self.md5}"
        return f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.zip"


def _download_once(client: KaggleClient, dataset: str, version: Version, folder: Path, bar: DownloadBar) -> Path:
    """One attempt at the whole archive, from where the last one was cut off."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    request.dataset_version_number = version.number or None  # 0: Kaggle gave none
    with kaggle_errors(dataset), client.datasets.dataset_api_client.download_dataset(request) as answer:
        archive = _ArchiveInfo.from_response(answer)
        path = folder / archive.file_name(version)
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        have = path.stat().st_size if path.exists() and archive.etag else 0
        if not have:
            _write_chunks(answer, path, 0, archive.size, bar)
        elif have != archive.size:
            with _request_rest(answer, have, archive.etag) as rest:
                _write_chunks(rest, path, have if rest.status_code == 206 else 0, archive.size, bar)
    _check_archive(path, archive, dataset)
    return path


def _request_rest(answer: Response, received: int, etag: str) -> Response:
    """What is still missing; all of it, if the store has another archive by now or sends no parts."""
    import requests

    answer.close()
    request, session = answer.request.copy(), requests.Session()
    request.headers.update({"Range": f"bytes={received}-", "If-Range": etag, "Accept-Encoding": "identity"})
    settings = session.merge_environment_settings(request.url or "", {}, True, None, None)
    rest = session.send(request, timeout=TIMEOUTS, **settings)
    rest.raise_for_status()
    if rest.status_code == 206 and not rest.headers.get("Content-Range", "").startswith(f"bytes {received}-"):
        raise ValueError("another part than the one that was asked for")
    return rest


def _write_chunks(answer: Response, path: Path, received: int, size: int | None, bar: DownloadBar) -> None:
    with path.open("ab" if received else "wb") as file:
        for chunk in answer.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            received += len(chunk)
            bar.show(received, size)


def _check_archive(path: Path, archive: _ArchiveInfo, dataset: str) -> None:
    """Raises: Again, if this is not the archive, whole; what cannot become it is removed."""
    found, wrong = path.stat().st_size, ""
    if archive.size is not None and found != archive.size:
        wrong = f"has {found:,} bytes, and {archive.size:,} were announced"
    elif archive.md5 and _md5(path) != archive.md5:
        wrong = "does not have the checksum that was announced"
    elif not is_zipfile(path):
        wrong = "is no zip archive, or a part of one"
    if wrong:
        if archive.size is None or found >= archive.size:
            path.unlink()
        raise TransientError(f"the archive {wrong}", where=dataset_url(dataset))


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return b64encode(digest.digest()).decode()
