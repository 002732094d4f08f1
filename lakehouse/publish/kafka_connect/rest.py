"""Sends requests to the REST API of Kafka Connect, with retries, and maps its errors to ours."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

from lakehouse import logs
from lakehouse.config import Connect
from lakehouse.errors import ConfigError, InfrastructureError
from lakehouse.http_requests import open_url
from lakehouse.retry import RetryPolicy, with_retries
from lakehouse.text import visible

_RETRIES = RetryPolicy(attempts=6, wait_initial=0.1, wait_max=5.0, timeout=60.0)
_ATTEMPT_SECONDS = 20.0  # a validation connects to the database
_ONCE, _ONCE_SECONDS = RetryPolicy(attempts=1, wait_initial=0.1, wait_max=0.1, timeout=5.0), 5.0
_MAX_MESSAGE_CHARS, _MAX_ANSWER_BYTES, _MAX_DOCUMENT_BYTES = 500, 1 << 20, 16 << 20
_RAISE = object()


class RestClient:
    """A client of Kafka Connect's REST API.

    It retries if there is no connection, the workers rebalance (409), or Connect itself failed (5xx).

    Args:
        connect: The address, with a login if Connect needs one.
        is_patient: Whether to wait for a worker that starts or is busy.
    """

    def __init__(self, connect: Connect, is_patient: bool = True) -> None:
        self._retries, self._seconds = (_RETRIES, _ATTEMPT_SECONDS) if is_patient else (_ONCE, _ONCE_SECONDS)
        parts = urlsplit(connect.url)
        host = parts.netloc.rpartition("@")[2]
        self.base_url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        login = f"{parts.username or ''}:{parts.password or ''}".encode()
        basic = {"Authorization": f"Basic {base64.b64encode(login).decode()}"} if parts.username else {}
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **basic}

    def request(self, method: str, path: str, body: Mapping[str, str] | None = None, *, not_found: Any = _RAISE) -> Any:
        """Send a request and return the document of the response.

        Args:
            method: The HTTP method.
            path: The path below the address.
            body: The document to send.
            not_found: The value to return instead of raising if Connect answers 404.

        Raises:
            ConfigError: Connect rejects the request.
            InfrastructureError: Connect cannot be reached, or still fails after the last attempt.
        """
        url = f"{self.base_url}/{path}"
        sent = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, sent, self._headers, method=method)  # noqa: S310 - open_url checks it

        def send() -> Any:
            with open_url(request, self._seconds) as response:
                content = response.read(_MAX_DOCUMENT_BYTES + 1)
                if len(content) > _MAX_DOCUMENT_BYTES:
                    raise ValueError(f"an answer of more than {_MAX_DOCUMENT_BYTES >> 20} MiB")
                return json.loads(content or b"null")

        try:
            return with_retries(send, _is_transient, self._retries)
        except HTTPError as error:
            if error.code == 404 and not_found is not _RAISE:
                error.close()
                return not_found
            raise _response_error(error, method, url) from None
        except (OSError, ValueError, RecursionError) as error:
            raise InfrastructureError(
                f"Kafka Connect cannot be reached: {getattr(error, 'reason', None) or error}",
                expected="a worker that answers",
                where=self.base_url,
                next_step="start it, or correct connect.url; deploy/connect/local_kafka.py starts one on this machine",
            ) from None


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in (409, 429) or error.code >= 500
    return isinstance(error, OSError)


def _response_error(error: HTTPError, method: str, where: str) -> ConfigError | InfrastructureError:
    with error:
        message = error.read(_MAX_ANSWER_BYTES).decode(errors="replace") if error.code >= 400 else error.reason
    with suppress(ValueError, KeyError, TypeError):  # a response that is not JSON is quoted as it is
        message = str(json.loads(message)["message"])
    found = f"Connect answered {method} with {error.code}: {visible(logs.redact(message), _MAX_MESSAGE_CHARS)}"
    if _is_transient(error):
        return InfrastructureError(found, expected="an answer", where=where, next_step="run the same command again")
    return ConfigError(found, expected="a request that Connect accepts", where=where)
