"""Kaggle's client: signed in, impatient, and with its errors told as ours.

It is kagglesdk, the half of Kaggle's own client that talks to the server. Its other half, `kaggle`, is not imported: it
signs in when it is imported, makes folders, and prints what it sends where VERBOSE is set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lakehouse
from lakehouse.config.yaml_source import load_environment
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.retry import TransientError

if TYPE_CHECKING:
    from kagglesdk.kaggle_client import KaggleClient
    from requests import Response

TIMEOUTS = (30, 120)  # seconds: to connect, and for the next bytes to come
_MAX_MESSAGE_LENGTH = 200
_CREDENTIAL_PLACES = (
    "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, in the environment or in .env; "
    "or the files that Kaggle's own client uses, ~/.kaggle/access_token or ~/.kaggle/kaggle.json"
)
_TOKEN_PAGE = "https://www.kaggle.com/settings/api"


@contextmanager
def signed_in_client(dataset: str) -> Iterator[KaggleClient]:
    """Kaggle's client, signed in.

    Raises:
        ConfigError: it is not installed, or there is nothing to sign in with.
    """
    try:
        from kagglesdk.kaggle_client import KaggleClient
        from kagglesdk.kaggle_env import get_access_token_from_env  # noqa: F401 - older ones know no token
    except ImportError:
        raise ConfigError(
            "Kaggle's client is not installed",
            expected="the package kaggle, 2.2 or later, on Python 3.11 or later",
            where=dataset_url(dataset),
            next_step="pip install 'lakehouse[kaggle]'",
        ) from None
    login = _find_login(load_environment()) or _login_from_browser(dataset)
    can_be_sent = all(value.isascii() and value.isprintable() for value in login.values())
    if not (login and can_be_sent):
        raise ConfigError(
            f"the credentials for Kaggle {'hold signs that cannot be sent' if login else 'are missing'}",
            expected=_CREDENTIAL_PLACES,
            where=dataset_url(dataset),
            next_step=f"make a token at {_TOKEN_PAGE}",
        )
    with KaggleClient(**login, user_agent=f"lakehouse/{lakehouse.__version__}") as signed_in:
        _set_timeouts(signed_in)
        yield signed_in


def _find_login(env: Mapping[str, str]) -> dict[str, str]:
    """What signs in, in the order of Kaggle's own client: a token before a name and a key; nothing: {}."""
    from kagglesdk.kaggle_env import get_access_token_from_env

    if token := env.get("KAGGLE_API_TOKEN"):
        file = Path(token)
        named = len(token) < _MAX_MESSAGE_LENGTH and file.is_file()
        return {"api_token": file.read_text(encoding="utf-8").strip() if named else token}
    if token := get_access_token_from_env()[0]:
        return {"api_token": token}
    if env.get("KAGGLE_USERNAME") and env.get("KAGGLE_KEY"):
        return {"username": env["KAGGLE_USERNAME"], "password": env["KAGGLE_KEY"]}
    return _login_from_file(env)


def _login_from_file(env: Mapping[str, str]) -> dict[str, str]:
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


def _login_from_browser(dataset: str) -> dict[str, str]:
    """What `kaggle auth login` left; its token is good for hours and renewed here."""
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_creds import KaggleCredentials

    with KaggleClient() as nobody, kaggle_errors(dataset):
        _set_timeouts(nobody)
        found = KaggleCredentials.load(nobody)
        token = found.get_access_token() if found else None
    return {"api_token": token} if token else {}


def _set_timeouts(kaggle_client: KaggleClient) -> None:
    """Kaggle's client waits for ever for a server that has stopped answering. There is no public way to its session."""
    from requests.adapters import HTTPAdapter

    class Impatient(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Response:  # type: ignore[override]
            return super().send(request, **{**options, "timeout": TIMEOUTS})

    for scheme in ("https://", "http://"):
        kaggle_client.http_client()._session.mount(scheme, Impatient())


# --- what went wrong --------------------------------------------------------------------------------------------


@contextmanager
def kaggle_errors(dataset: str) -> Iterator[None]:
    """What the client raises, as one of ours, and without its own words: they name addresses that open the archive,
    and headers with a key in them.
    """
    from requests import exceptions as broken

    try:
        yield
    except broken.HTTPError as error:
        if error.response is None:
            raise TransientError("the connection to Kaggle failed", where=dataset_url(dataset)) from None
        raise _to_lakehouse_error(error.response, dataset) from None
    except ValueError as error:
        raise TransientError(
            f"Kaggle's answer cannot be read: {type(error).__name__}", where=dataset_url(dataset)
        ) from None
    except (broken.RequestException, ConnectionError) as error:
        raise TransientError(
            f"the connection to Kaggle failed: {type(error).__name__}", where=dataset_url(dataset)
        ) from None


def _to_lakehouse_error(answer: Response, dataset: str) -> LakehouseError:
    """An error status as one of ours."""
    status, said = _status_and_message(answer)
    found = f"Kaggle answers {status}{f': {said}' if said else ''}"
    if status in (408, 425, 429) or status >= 500:
        return TransientError(found, retry_after=_retry_after(answer), where=dataset_url(dataset))
    steps = {
        401: f"make a new token at {_TOKEN_PAGE}, and put it where the old one is",
        403: "accept its terms in the browser, or have its owner share it; look for a slip in source.dataset",
        404: "look for a slip in source.dataset: owner/name, as in the dataset's address",
    }
    expected = f"credentials that open it: {_CREDENTIAL_PLACES}" if status in (401, 403) else "a dataset that is there"
    return ConfigError(found, expected=expected, where=dataset_url(dataset), next_step=steps.get(status, ""))


def _status_and_message(answer: Response) -> tuple[int, str]:
    """The status, which Kaggle may also tell inside an answer of 200, and its words for it."""
    try:
        told = answer.json() if answer.status_code != 401 else {}  # a 401 may repeat what it was sent
    except ValueError:
        return answer.status_code, ""
    told = told if isinstance(told, dict) else {}
    code, said = told.get("code"), " ".join(str(told.get("message") or "").split())
    status = answer.status_code if answer.status_code >= 400 or not isinstance(code, int) else code
    return status, said[:_MAX_MESSAGE_LENGTH]


def _retry_after(answer: Response) -> float | None:
    """Retry-After in seconds: a number, or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def dataset_url(dataset: str) -> str:
    return f"https://www.kaggle.com/datasets/{dataset}"
