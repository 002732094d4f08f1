"""Sends HTTP requests that are never redirected.

urllib turns a redirected POST into a GET without its body, and sends the headers, a login among them, to any host that
the answer names. So a redirect is an error of the request.
"""

from __future__ import annotations

import urllib.request
from email.message import Message
from http.client import HTTPResponse
from typing import IO, cast
from urllib.error import HTTPError

_REDIRECTED = "redirects are not followed: give the final address"


class _RefuseRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        raise HTTPError(req.full_url, code, f"{msg}; {_REDIRECTED}", headers, fp)


def open_url(request: urllib.request.Request, timeout: float) -> HTTPResponse:
    """Send a request to an http:// or https:// address, and return the response to read from.

    Args:
        request: The request.
        timeout: Seconds to wait for a connection, and for each part of the response.

    Raises:
        HTTPError: The server answered with an error or a redirect.
        OSError: It cannot be reached.
        ValueError: The address has another scheme.
    """
    if request.type not in ("http", "https"):
        raise ValueError(f"{request.type}:// is no address of a web server")
    opener = urllib.request.build_opener(_RefuseRedirects)
    return cast(HTTPResponse, opener.open(request, timeout=timeout))
