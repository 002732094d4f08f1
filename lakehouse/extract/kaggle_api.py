"""Kaggle's API: which version of a dataset is the newest, and its archive.

Spoken through kagglesdk, the half of Kaggle's own client that talks to the server. Its other half, `kaggle`, is not
imported: it signs in when it is imported, makes folders, and prints what it sends where VERBOSE is set.
"""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import is_zipfile

import lakehouse
from lakehouse.config.yaml_source import environment
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.extract.progress import Bar
from lakehouse.extract.retries import Again, patiently
from lakehouse.lake import utc

if TYPE_CHECKING:
    from kagglesdk.kaggle_client import KaggleClient
    from requests import Response

_TIMEOUT = (30, 120)  # seconds: to connect, and for the next bytes to come
_CHUNK = 1 << 16  # bytes; of a connection that breaks, what came after the last whole chunk is lost
_LONGEST_TOLD = 200
_WAYS = (
    "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, in the environment or in .env; "
    "or the files that Kaggle's own client uses, ~/.kaggle/access_token or ~/.kaggle/kaggle.json"
)
_SETTINGS = "https://www.kaggle.com/settings/api"


@dataclass(frozen=True)
class Version:
    """A version of a dataset, and when it was published (UTC)."""

    number: int
    time: datetime


def newest(dataset: str) -> Version:
    """The dataset's newest version. Nothing is downloaded.

    Raises:
        ConfigError: no credentials, refused ones, or no such dataset.
        InfrastructureError: Kaggle could not be reached, or kept failing.
    """
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    with _client(dataset) as client:

        def ask() -> Version:
            with _understood(dataset):
                found = client.datasets.dataset_api_client.get_dataset(request)
                number = found.current_version_number
                created = {v.version_number: v.creation_date for v in found.versions or ()}
                time = created.get(number) or found.last_updated
                if time is None:
                    raise ValueError("no time of the newest version in it")
                return Version(number, utc(time).replace(microsecond=0))

        return patiently(ask)


def download(dataset: str, version: Version, folder: Path) -> Path:
    """The archive of a version, whole, below `folder`. What an earlier attempt or run left of it there is gone on with.

    Raises:
        ConfigError, InfrastructureError: as `newest` does.
    """
    with _client(dataset) as client, Bar(f"{dataset}, version {version.number}") as bar:
        return patiently(lambda: _attempt(client, dataset, version, folder, bar))


# --- an archive -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Archive:
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
    def of(cls, answer: Response) -> _Archive:
        headers = answer.headers
        etag, length = headers.get("ETag", ""), headers.get("Content-Length", "")
        packed = headers.get("Content-Encoding", "identity") != "identity"  # then the length is another one
        md5 = re.search(r"\bmd5=([A-Za-z0-9+/=]+)", headers.get("x-goog-hash", ""))
        size = int(length) if length.isdecimal() and not packed else None
        return cls("" if etag.startswith("W/") else etag, size, md5[1] if md5 else "")

    def name(self, version: Version) -> str:
        """A file's name for it, the same only for the same bytes."""
        told = f"{version.number}\0{self.etag}\0{self.size}\0{self.md5}"
        return f"{hashlib.sha256(told.encode()).hexdigest()[:16]}.zip"


def _attempt(client: KaggleClient, dataset: str, version: Version, folder: Path, bar: Bar) -> Path:
    """One attempt at the whole archive, from where the last one was cut off."""
    from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = dataset.split("/")
    request.dataset_version_number = version.number or None  # 0: Kaggle gave none
    with _understood(dataset), client.datasets.dataset_api_client.download_dataset(request) as answer:
        archive = _Archive.of(answer)
        path = folder / archive.name(version)
        for other in folder.iterdir():
            if other != path:
                other.unlink()
        have = path.stat().st_size if path.exists() and archive.etag else 0
        if not have:
            _write(answer, path, 0, archive.size, bar)
        elif have != archive.size:
            with _rest(answer, have, archive.etag) as rest:
                _write(rest, path, have if rest.status_code == 206 else 0, archive.size, bar)
    _check(path, archive, dataset)
    return path


def _rest(answer: Response, have: int, etag: str) -> Response:
    """What is still missing; all of it, if the store has another archive by now or sends no parts."""
    import requests

    if not answer.history:  # Kaggle itself answered, and not the store it sends us to: there it takes no ranges
        return answer
    answer.close()
    headers = {"Range": f"bytes={have}-", "If-Range": etag, "Accept-Encoding": "identity"}
    rest = requests.get(answer.url, headers=headers, stream=True, timeout=_TIMEOUT)
    rest.raise_for_status()
    if rest.status_code == 206 and not rest.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        raise ValueError("another part than the one that was asked for")
    return rest


def _write(answer: Response, path: Path, done: int, size: int | None, bar: Bar) -> None:
    with path.open("ab" if done else "wb") as file:
        for chunk in answer.iter_content(_CHUNK):
            file.write(chunk)
            done += len(chunk)
            bar.at(done, size)


def _check(path: Path, archive: _Archive, dataset: str) -> None:
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
        raise Again(f"the archive {wrong}", where=_where(dataset))


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return b64encode(digest.digest()).decode()


# --- signing in -------------------------------------------------------------------------------------------------


@contextmanager
def _client(dataset: str) -> Iterator[KaggleClient]:
    try:
        from kagglesdk.kaggle_client import KaggleClient
        from kagglesdk.kaggle_env import get_access_token_from_env  # noqa: F401 - older ones know no token
    except ImportError:
        raise ConfigError(
            "Kaggle's client is not installed",
            expected="the package kaggle, 2.2 or later, on Python 3.11 or later",
            where=_where(dataset),
            next_step="pip install 'lakehouse[kaggle]'",
        ) from None
    login = _login(environment()) or _login_by_browser(dataset)
    can_be_sent = all(value.isascii() and value.isprintable() for value in login.values())
    if not (login and can_be_sent):
        raise ConfigError(
            f"the credentials for Kaggle {'hold signs that cannot be sent' if login else 'are missing'}",
            expected=_WAYS,
            where=_where(dataset),
            next_step=f"make a token at {_SETTINGS}",
        )
    with KaggleClient(**login, user_agent=f"lakehouse/{lakehouse.__version__}") as client:
        _give_up_in_time(client)
        yield client


def _login(env: Mapping[str, str]) -> dict[str, str]:
    """What signs in, in the order of Kaggle's own client: a token before a name and a key; nothing: {}."""
    from kagglesdk.kaggle_env import get_access_token_from_env

    if token := env.get("KAGGLE_API_TOKEN"):
        file = Path(token)
        named = len(token) < _LONGEST_TOLD and file.is_file()
        return {"api_token": file.read_text(encoding="utf-8").strip() if named else token}
    if token := get_access_token_from_env()[0]:
        return {"api_token": token}
    if env.get("KAGGLE_USERNAME") and env.get("KAGGLE_KEY"):
        return {"username": env["KAGGLE_USERNAME"], "password": env["KAGGLE_KEY"]}
    return _from_file(env)


def _from_file(env: Mapping[str, str]) -> dict[str, str]:
    """Name and key of kaggle.json, where Kaggle's own client looks for it."""
    own, home = env.get("KAGGLE_CONFIG_DIR"), Path.home()
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    for folder in [Path(own)] if own else [home / ".kaggle", config / "kaggle"]:
        try:
            found = json.loads((folder / "kaggle.json").read_text(encoding="utf-8"))
            return {"username": str(found["username"]), "password": str(found["key"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def _login_by_browser(dataset: str) -> dict[str, str]:
    """What `kaggle auth login` left; its token is good for hours and renewed here."""
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_creds import KaggleCredentials

    with KaggleClient() as client, _understood(dataset):
        _give_up_in_time(client)
        found = KaggleCredentials.load(client)
        token = found.get_access_token() if found else None
    return {"api_token": token} if token else {}


def _give_up_in_time(client: KaggleClient) -> None:
    """Kaggle's client waits for ever for a server that has stopped answering. There is no public way to its session."""
    from requests.adapters import HTTPAdapter

    class Impatient(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Response:  # type: ignore[override]
            return super().send(request, **{**options, "timeout": _TIMEOUT})

    for scheme in ("https://", "http://"):
        client.http_client()._session.mount(scheme, Impatient())


# --- what went wrong --------------------------------------------------------------------------------------------


@contextmanager
def _understood(dataset: str) -> Iterator[None]:
    """What the client raises, as one of ours, and without its own words: they name addresses that open the archive,
    and headers with a key in them.
    """
    from requests import exceptions as broken

    try:
        yield
    except broken.HTTPError as error:
        if error.response is None:
            raise Again("the connection to Kaggle failed", where=_where(dataset)) from None
        raise _answered(error.response, dataset) from None
    except ValueError as error:
        raise Again(f"Kaggle's answer cannot be read: {type(error).__name__}", where=_where(dataset)) from None
    except (broken.RequestException, ConnectionError) as error:
        raise Again(f"the connection to Kaggle failed: {type(error).__name__}", where=_where(dataset)) from None


def _answered(answer: Response, dataset: str) -> LakehouseError:
    """An error status as one of ours."""
    status, said = _status(answer)
    found = f"Kaggle answers {status}{f': {said}' if said else ''}"
    if status in (408, 425, 429) or status >= 500:
        return Again(found, after=_asked_to_wait(answer), where=_where(dataset))
    steps = {
        401: f"make a new token at {_SETTINGS}, and put it where the old one is",
        403: "accept its terms in the browser, or have its owner share it; look for a slip in source.dataset",
        404: "look for a slip in source.dataset: owner/name, as in the dataset's address",
    }
    expected = f"credentials that open it: {_WAYS}" if status in (401, 403) else "a dataset that is there"
    return ConfigError(found, expected=expected, where=_where(dataset), next_step=steps.get(status, ""))


def _status(answer: Response) -> tuple[int, str]:
    """The status, which Kaggle may also tell inside an answer of 200, and its words for it."""
    try:
        told = answer.json() if answer.status_code != 401 else {}  # a 401 may repeat what it was sent
    except ValueError:
        return answer.status_code, ""
    told = told if isinstance(told, dict) else {}
    code, said = told.get("code"), " ".join(str(told.get("message") or "").split())
    status = answer.status_code if answer.status_code >= 400 or not isinstance(code, int) else code
    return status, said[:_LONGEST_TOLD]


def _asked_to_wait(answer: Response) -> float | None:
    """Retry-After in seconds: a number, or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def _where(dataset: str) -> str:
    return f"https://www.kaggle.com/datasets/{dataset}"
