"""Creates Kaggle's client with a login and timeouts, and maps its errors to the project's.

The client is kagglesdk, the part of Kaggle's package that sends requests. The other part, `kaggle`, is not imported: at
its import it signs in and creates folders, and it prints its requests if VERBOSE is set.
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

TIMEOUTS = (30, 120)  # seconds: to connect, and until the next bytes
_MAX_MESSAGE_LENGTH = 200
_MAX_PATH_LENGTH = 200
_CREDENTIAL_PLACES = (
    "KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, in the environment or in .env; "
    "or the files that Kaggle's own client uses, ~/.kaggle/access_token or ~/.kaggle/kaggle.json"
)
_TOKEN_PAGE = "https://www.kaggle.com/settings/api"  # noqa: S105 - an address


@contextmanager
def signed_in_client(dataset: str) -> Iterator[KaggleClient]:
    """Open a signed-in client for the length of a `with` block.

    Args:
        dataset: owner/name, for messages.

    Raises:
        ConfigError: Kaggle's client is not installed, or the credentials are missing.
    """
    try:
        from kagglesdk.kaggle_client import KaggleClient
        from kagglesdk.kaggle_env import get_access_token_from_env  # noqa: F401 - missing in old versions
    except ImportError:
        raise ConfigError(
            "Kaggle's client is not installed",
            expected="the package kaggle, 2.2 or later, on Python 3.11 or later",
            where=dataset_url(dataset),
            next_step="pip install 'lakehouse[kaggle]'",
        ) from None
    login = _find_login(load_environment()) or _login_from_browser(dataset)
    is_sendable = all(value.isascii() and value.isprintable() for value in login.values())
    if not (login and is_sendable):
        raise ConfigError(
            f"the credentials for Kaggle {'contain characters that cannot be sent' if login else 'are missing'}",
            expected=_CREDENTIAL_PLACES,
            where=dataset_url(dataset),
            next_step=f"create a token at {_TOKEN_PAGE}",
        )
    with KaggleClient(**login, user_agent=f"lakehouse/{lakehouse.__version__}") as client:
        _set_timeouts(client)
        yield client


def _find_login(env: Mapping[str, str]) -> dict[str, str]:
    """Return the credentials with the precedence of Kaggle's own client, a token before a name and key; {} if none."""
    from kagglesdk.kaggle_env import get_access_token_from_env

    if token := env.get("KAGGLE_API_TOKEN"):
        file = Path(token)
        is_path = len(token) < _MAX_PATH_LENGTH and file.is_file()
        return {"api_token": file.read_text(encoding="utf-8").strip() if is_path else token}
    if token := get_access_token_from_env()[0]:
        return {"api_token": token}
    if env.get("KAGGLE_USERNAME") and env.get("KAGGLE_KEY"):
        return {"username": env["KAGGLE_USERNAME"], "password": env["KAGGLE_KEY"]}
    return _login_from_file(env)


def _login_from_file(env: Mapping[str, str]) -> dict[str, str]:
    """Return the name and key in kaggle.json, in the folders of Kaggle's own client; {} if there is none."""
    folder_setting, home = env.get("KAGGLE_CONFIG_DIR"), Path.home()
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    for folder in [Path(folder_setting)] if folder_setting else [home / ".kaggle", config / "kaggle"]:
        try:
            content = json.loads((folder / "kaggle.json").read_text(encoding="utf-8"))
            return {"username": str(content["username"]), "password": str(content["key"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {}


def _login_from_browser(dataset: str) -> dict[str, str]:
    """Return a token by the login that `kaggle auth login` saved, renewed if it has expired; {} if there is none."""
    from kagglesdk.kaggle_client import KaggleClient
    from kagglesdk.kaggle_creds import KaggleCredentials

    with KaggleClient() as client, kaggle_errors(dataset):
        _set_timeouts(client)
        credentials = KaggleCredentials.load(client)
        token = credentials.get_access_token() if credentials else None
    return {"api_token": token} if token else {}


def _set_timeouts(kaggle_client: KaggleClient) -> None:
    """Set timeouts, without which the client waits for ever; there is no public access to its session."""
    from requests.adapters import HTTPAdapter

    class TimeoutAdapter(HTTPAdapter):
        def send(self, request: Any, **options: Any) -> Response:  # type: ignore[override]
            return super().send(request, **{**options, "timeout": TIMEOUTS})

    for scheme in ("https://", "http://"):
        kaggle_client.http_client()._session.mount(scheme, TimeoutAdapter())


# --- errors -----------------------------------------------------------------------------------------------------


@contextmanager
def kaggle_errors(dataset: str) -> Iterator[None]:
    """Map the client's errors to the project's, without their messages.

    The messages may contain signed URLs of the archive, and headers with a key.

    Args:
        dataset: owner/name, for messages.

    Raises:
        ConfigError: Kaggle rejected the request.
        TransientError: The connection or the server failed.
    """
    from requests import exceptions

    try:
        yield
    except exceptions.HTTPError as error:
        if error.response is None:
            raise TransientError("the connection to Kaggle failed", where=dataset_url(dataset)) from None
        raise _to_lakehouse_error(error.response, dataset) from None
    except ValueError as error:
        raise TransientError(
            f"Kaggle's answer cannot be read: {type(error).__name__}", where=dataset_url(dataset)
        ) from None
    except (exceptions.RequestException, ConnectionError) as error:
        raise TransientError(
            f"the connection to Kaggle failed: {type(error).__name__}", where=dataset_url(dataset)
        ) from None


def _to_lakehouse_error(answer: Response, dataset: str) -> LakehouseError:
    """Return the project's error for an answer with an error status."""
    status, message = _status_and_message(answer)
    found = f"Kaggle answers {status}{f': {message}' if message else ''}"
    if status in (408, 425, 429) or status >= 500:
        return TransientError(found, retry_after=_retry_after(answer), where=dataset_url(dataset))
    steps = {
        401: f"create a new token at {_TOKEN_PAGE}, and replace the old one",
        403: "accept its terms in the browser, or ask its owner to share it; check the spelling of source.dataset",
        404: "check the spelling of source.dataset: owner/name, as in the dataset's URL",
    }
    expected = f"credentials with access: {_CREDENTIAL_PLACES}" if status in (401, 403) else "an existing dataset"
    return ConfigError(found, expected=expected, where=dataset_url(dataset), next_step=steps.get(status, ""))


def _status_and_message(answer: Response) -> tuple[int, str]:
    """Return the status and Kaggle's message; the body of an answer with status 200 may contain an error status."""
    try:
        body = answer.json() if answer.status_code != 401 else {}  # a 401 may repeat the credentials
    except ValueError:
        return answer.status_code, ""
    body = body if isinstance(body, dict) else {}
    code, message = body.get("code"), " ".join(str(body.get("message") or "").split())
    status = answer.status_code if answer.status_code >= 400 or not isinstance(code, int) else code
    return status, message[:_MAX_MESSAGE_LENGTH]


def _retry_after(answer: Response) -> float | None:
    """Return the Retry-After header in seconds; its value is a number or a date."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(timezone.utc)).total_seconds())
    except (ValueError, TypeError):
        return None


def dataset_url(dataset: str) -> str:
    """Return the address of a dataset's page."""
    return f"https://www.kaggle.com/datasets/{dataset}"
