"""Asking Kafka Connect: requests to its REST API, tried again where that may help, and errors in its own words."""

from __future__ import annotations

import base64
import json
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

import stamina

from lakehouse import logs
from lakehouse.config import Connect
from lakehouse.errors import ConfigError, InfrastructureError

_ATTEMPTS = 6
_ATTEMPT_SECONDS = 20.0  # a validation asks the database
_MAX_MESSAGE_CHARS = 500  # characters


class RestClient:
    """Connect's REST API. What may pass is asked again: no connection, a rebalance (409), a fault of its own (5xx)."""

    def __init__(self, connect: Connect) -> None:
        parts = urlsplit(connect.url)
        host = parts.netloc.rpartition("@")[2]
        self.base_url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        login = f"{parts.username or ''}:{parts.password or ''}".encode()
        basic = {"Authorization": f"Basic {base64.b64encode(login).decode()}"} if parts.username else {}
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **basic}

    def request(self, method: str, path: str, body: Mapping[str, str] | None = None, **missing: Any) -> Any:
        """The answer's document.

        Args:
            missing: `missing=...` is returned where there is no such thing (404).
        """
        content = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(f"{self.base_url}/{path}", content, self._headers, method=method)
        try:
            for attempt in stamina.retry_context(on=_is_transient, attempts=_ATTEMPTS, wait_max=5.0, timeout=60.0):
                with attempt, urllib.request.urlopen(request, timeout=_ATTEMPT_SECONDS) as answer:
                    return json.loads(answer.read() or b"null")
        except HTTPError as error:
            if error.code == 404 and missing:
                error.close()
                return missing["missing"]
            raise _response_error(error, method, f"{self.base_url}/{path}") from None
        except (OSError, ValueError) as error:
            raise InfrastructureError(
                f"Kafka Connect cannot be reached: {getattr(error, 'reason', None) or error}",
                expected="a worker that answers",
                where=self.base_url,
                next_step="start it, or correct connect.url; deploy/connect/local_kafka.py starts one on this machine",
            ) from None
        raise AssertionError("stamina raises the last error")


def _is_transient(error: Exception) -> bool:
    if isinstance(error, HTTPError):
        return error.code in (409, 429) or error.code >= 500
    return isinstance(error, OSError)


def _response_error(error: HTTPError, method: str, where: str) -> ConfigError | InfrastructureError:
    with error:
        said = error.read().decode(errors="replace")
    with suppress(ValueError, KeyError, TypeError):  # not JSON: as it is
        said = str(json.loads(said)["message"])
    told = f"Connect answered {method} with {error.code}: {logs.redact(said)[:_MAX_MESSAGE_CHARS]}"
    if _is_transient(error):
        return InfrastructureError(told, expected="an answer", where=where, next_step="run the same command again")
    return ConfigError(told, expected="a request that it takes", where=where)
