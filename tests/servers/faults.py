"""Runs an HTTP proxy that fails on purpose, for tests of a store's failures. Nothing is random.

    slow down    503, several in a row: the request does not reach the server
    reset        the connection is reset before the request reaches the server
    lost         the server has executed the request, but the response does not arrive: writes only
    cut          a response that breaks off half way: objects only
    cut list     the same for a list: Spark's client does not retry it by itself

Each kind occurs at every n-th request at which it can occur; `fault_counts` counts them.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import unescape

SLOW_DOWN, RESET, LOST, CUT, CUT_LIST = "slow down", "reset", "lost", "cut", "cut list"
_BURST = 3
_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}
_XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"


class Faults:
    """The failures of requests.

    Args:
        every: By kind, the n of "every n-th request at which it can occur".
        is_forbidden: Returns whether a method and path are forbidden (403).
    """

    def __init__(
        self, every: dict[str, int], is_forbidden: Callable[[str, str], bool] = lambda method, path: False
    ) -> None:
        self.every, self.is_forbidden = every, is_forbidden
        self.fault_counts: Counter[str] = Counter()
        self.request_count = 0  # including failed requests
        self.is_down = False  # if set, all connections are reset
        self._request_counts: Counter[str] = Counter()
        self._slow_downs_left = 0
        self._lock = threading.Lock()

    def next_fault(self, method: str, path: str) -> str | None:
        """Return the failure of this request, or None."""
        kinds = [SLOW_DOWN, RESET, *([LOST] if method not in ("GET", "HEAD") else [])]
        kinds += [CUT_LIST if "list-type=" in path else CUT] if method == "GET" else []
        with self._lock:
            self.request_count += 1
            if self.is_down:
                return RESET
            if self._slow_downs_left:
                self._slow_downs_left -= 1
                return self._count(SLOW_DOWN)
            for kind in kinds:
                self._request_counts[kind] += 1
                if kind in self.every and self._request_counts[kind] % self.every[kind] == 0:
                    self._slow_downs_left = _BURST - 1 if kind == SLOW_DOWN else 0
                    return self._count(kind)
        return None

    def _count(self, kind: str) -> str:
        self.fault_counts[kind] += 1
        return kind


@contextmanager
def proxy(upstream: str, faults: Faults) -> Iterator[str]:
    """Run a proxy in front of the server at `upstream`; yield its address."""
    server_url = urlsplit(upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _handle(self) -> None:
            body = self._read_body()
            if any(faults.is_forbidden(*each) for each in self._required_rights(body)):
                self._send_error(403, "AccessDenied", "Access Denied")
                return
            fault = faults.next_fault(self.command, self.path)
            if fault == SLOW_DOWN:
                self._send_error(503, "SlowDown", "Please reduce your request rate.")
            elif fault == RESET:
                self._reset()
            else:
                self._forward(body, fault)

        def _required_rights(self, body: bytes | None) -> Iterator[tuple[str, str]]:
            """Yield the methods and paths that need a permission, also of each object to delete or to copy."""
            yield self.command, self.path
            path, _, query = self.path.partition("?")
            if self.command == "POST" and query.startswith("delete"):
                keys = re.findall(rb"<Key>([^<]*)</Key>", body or b"")
                yield from (("DELETE", f"{path.rstrip('/')}/{quote(unescape(key.decode()))}") for key in keys)
            if source := self.headers.get("x-amz-copy-source"):
                yield "GET", f"/{source.lstrip('/')}"

        def _forward(self, body: bytes | None, fault: str | None) -> None:
            connection = http.client.HTTPConnection(server_url.hostname or "", server_url.port, timeout=60)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            finally:
                connection.close()
            if fault == LOST:
                self._reset()
            else:
                self._send_response(answer, content, half=fault in (CUT, CUT_LIST) and len(content) > 1)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def _read_body(self) -> bytes | None:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                raise NotImplementedError("S3 clients send the length of a body")
            length = int(self.headers.get("Content-Length", 0))
            if self.headers.get("Expect") == "100-continue" and length:
                self.send_response_only(100)
                self.end_headers()
            return self.rfile.read(length) if length else None

        def _send_response(self, answer: http.client.HTTPResponse, content: bytes, half: bool) -> None:
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP | {"content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
            if answer.status != 204:
                self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if half else content)
            if half:
                self.wfile.flush()
                self._reset()

        def _send_error(self, status: int, code: str, message: str) -> None:
            content = b"" if self.command == "HEAD" else _XML.format(code=code, message=message).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _reset(self) -> None:
            """Close the connection so that the other side sees a reset."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # the client has disconnected, or was disconnected
                self.close_connection = True

        def finish(self) -> None:
            with suppress(OSError, ValueError):
                super().finish()

    class Server(ThreadingHTTPServer):
        daemon_threads, request_queue_size = True, 128

        def shutdown_request(self, request: object) -> None:
            with suppress(OSError):
                super().shutdown_request(request)  # type: ignore[arg-type]

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
