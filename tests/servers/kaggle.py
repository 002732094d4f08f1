"""Runs a fake of Kaggle's API and of the store behind it: the newest version of a dataset, and its archive.

    with kaggle() as server:
        server.publish({"clientes.csv": b"..."}, "2025-10-03T17:05:52.513Z")
        server.faults["GetDataset"] = [Answer(503)]      # instead of the next responses
        server.cuts = [1000]                             # the next archive breaks off after 1000 bytes
        server.environment                               # makes Kaggle's own client use this server

The paths are those of kagglesdk: POST <api>/v1/datasets.DatasetApiService/GetDataset and /DownloadDataset, which
redirects the client to a store on another host, with an address that is valid for this archive only. With
KAGGLE_API_ENVIRONMENT=TEST the client's <api> is fixed at http://localhost:7777/api; so that many tests can run at the
same time, this server has a port of its own and is the client's HTTP proxy.
"""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

OWNER, SLUG = "teocalvo", "teomewhy-loyalty-system"
DATASET = f"{OWNER}/{SLUG}"
USER, KEY, TOKEN = "a-reader", "canary-key-8b1f", "KGAT_canary-token-77aa"
SIGNATURE = "canary-signature-c4d2"  # gives access to the archive in the store
_STORE = "storage.test"


@dataclass(frozen=True)
class Answer:
    """A response that is sent instead of the correct one."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b'{"code": %d, "message": "as the test wants it"}'

    @property
    def content(self) -> bytes:
        return self.body % self.status if b"%d" in self.body else self.body


@dataclass
class Kaggle:
    """The published versions, the planned failures, and the received requests."""

    port: int = 0
    versions: list[tuple[str, bytes]] = field(default_factory=list)  # time and archive
    faults: dict[str, list[Answer]] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    has_ranges: bool = True
    has_redirects: bool = True  # if not, Kaggle itself sends the archive
    has_sizes: bool = True  # and checksums
    stalls: threading.Event | None = None  # if set, responses wait for it

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KAGGLE_API_ENVIRONMENT": "TEST",
            "KAGGLE_USERNAME": USER,
            "KAGGLE_KEY": KEY,
            "http_proxy": f"http://127.0.0.1:{self.port}",
            "no_proxy": "",
            "NO_PROXY": "",
        }

    @property
    def routes(self) -> list[str]:
        return [route for route, _, _ in self.requests]

    def publish(self, files: Mapping[str, bytes] | bytes, time: str) -> None:
        """Publish a new version: files, which are zipped, or an archive."""
        self.versions.append((time, files if isinstance(files, bytes) else zip_files(files)))


def zip_files(files: Mapping[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return data.getvalue()


@contextmanager
def kaggle() -> Iterator[Kaggle]:
    """Run a server during the block; its behaviour is set on the object."""
    state = Kaggle()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: Kaggle

    def log_message(self, *message: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        route = path.rpartition("/")[2]
        if not self._has_no_fault(route, body):
            return
        if path != f"/api/v1/datasets.DatasetApiService/{route}" or not hasattr(self, f"_{route}"):
            self._send(Answer(404))
        elif self.headers["Authorization"] not in (
            f"Basic {b64encode(f'{USER}:{KEY}'.encode()).decode()}",
            f"Bearer {TOKEN}",
        ):
            self._send(Answer(401))
        elif (body.get("ownerSlug"), body.get("datasetSlug")) != (OWNER, SLUG):
            self._send(Answer(403, body=b'{"code": %d, "message": "Permission \'datasets.get\' was denied"}'))
        else:
            getattr(self, f"_{route}")(body)

    def do_GET(self) -> None:
        if not self._has_no_fault("archive", {}):
            return
        url = urlsplit(self.path)
        if url.hostname != _STORE or url.query != f"X-Goog-Signature={SIGNATURE}":
            self._send(Answer(403, body=b"<Error>SignatureDoesNotMatch</Error>"))
            return
        self._send_archive(int(url.path.rpartition("/")[2]))

    def _send_archive(self, number: int) -> None:
        _, archive = self.state.versions[number - 1]
        etag, first = f'"{hashlib.sha1(archive).hexdigest()}"', 0
        wanted = self.headers["Range"] or ""
        if self.state.has_ranges and wanted and self.headers["If-Range"] == etag:
            first = int(wanted.removeprefix("bytes=").rstrip("-"))
        md5 = b64encode(hashlib.md5(archive).digest()).decode()
        headers = {"ETag": etag, "Accept-Ranges": "bytes"}
        if self.state.has_sizes:
            headers["x-goog-hash"] = f"crc32c=AAAAAA==,md5={md5}"
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(archive) - 1}/{len(archive)}"
        self._stream(206 if first else 200, headers, archive[first:])

    def _GetDataset(self, body: dict[str, Any]) -> None:
        versions = [
            {"versionNumber": n, "creationDate": time, "status": "Ready"}
            for n, (time, _) in enumerate(self.state.versions, start=1)
        ]
        document = {
            "ref": DATASET,
            "lastUpdated": self.state.versions[-1][0],
            "currentVersionNumber": len(versions),
            "versions": versions,
        }
        self._send(Answer(200, body=json.dumps(document).encode()))

    def _DownloadDataset(self, body: dict[str, Any]) -> None:
        number = body["datasetVersionNumber"]
        if not self.state.has_redirects:
            self._send_archive(number)
            return
        self._send(Answer(302, {"Location": f"http://{_STORE}/archives/{number}?X-Goog-Signature={SIGNATURE}"}, b""))

    def _has_no_fault(self, route: str, body: dict[str, Any]) -> bool:
        """Record a request; return whether it is answered correctly."""
        self.state.requests.append((route, dict(self.headers), body))
        if self.state.stalls:
            self.state.stalls.wait(30)
        if self.state.faults.get(route):
            self._send(self.state.faults[route].pop(0))
            return False
        return True

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        kind = {} if "Content-Type" in answer.headers else {"Content-Type": "application/json"}
        for name, value in {**kind, **answer.headers, "Content-Length": str(len(answer.content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def _stream(self, status: int, headers: dict[str, str], content: bytes) -> None:
        cut = self.state.cuts.pop(0) if self.state.cuts else len(content)
        self.send_response(status)
        for name, value in {
            **headers,
            **({"Content-Length": str(len(content))} if self.state.has_sizes else {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = True
