"""Writes many snapshots of a table, of which each changes a share of the rows: as folders, and as commits of git."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

FIRST, STEP = datetime(2021, 1, 1, tzinfo=timezone.utc), timedelta(hours=6)
SCHEMA = "id INT, name STRING, kind STRING, rate DOUBLE, price DECIMAL(12,2), due DATE, at TIMESTAMP"
COLUMNS = ("id", "name", "kind", "rate", "price", "due", "at")
_SHARE, _KINDS = 0.01, ("prefixado", "selic", "ipca")


def snapshots(count: int, rows: int, file_format: str) -> Iterator[tuple[datetime, bytes]]:
    """Yield the time and the bytes of each snapshot: of 20 changed rows one is replaced by a row of another key."""
    rng, written = random.Random(count * rows), dict[int, bytes]()
    changed = max(round(rows * _SHARE), 1)
    for number in range(count):
        time = FIRST + number * STEP
        if number == 0:
            written = {key: _row(key, time, rng, file_format) for key in range(rows)}
        else:
            keys, following = rng.sample(list(written), changed), max(written) + 1
            replaced = [key for at, key in enumerate(keys) if at % 20 == number % 20]
            for key in replaced:
                del written[key]
            added = range(following, following + len(replaced))
            for key in [*(key for key in keys if key in written), *added]:
                written[key] = _row(key, time, rng, file_format)
        yield time, _file(written, file_format)


def _row(key: int, time: datetime, rng: random.Random, file_format: str) -> bytes:
    kind, rate, price = rng.choice(_KINDS), round(rng.random() * 15, 4), f"{rng.random() * 10_000:.2f}"
    values = (key, f"Tesouro {key}", kind, rate, price, "2035-01-01", f"{time:%Y-%m-%d %H:%M:%S}")
    if file_format == "csv":
        return ",".join(map(str, values)).encode()
    return json.dumps(dict(zip(COLUMNS, values, strict=True))).encode()


def _file(rows: dict[int, bytes], file_format: str) -> bytes:
    if file_format == "csv":
        return b"\n".join([",".join(COLUMNS).encode(), *rows.values(), b""])
    return b"[\n" + b",\n".join(rows.values()) + b"\n]\n"


def write_folders(source: Path, count: int, rows: int, file_format: str) -> None:
    """Write each snapshot to a folder of its time."""
    for time, content in snapshots(count, rows, file_format):
        folder = source / f"{time:%Y%m%d_%H%M%S}"
        folder.mkdir(parents=True)
        (folder / f"rows.{file_format}").write_bytes(content)


def write_repository(path: Path, count: int, rows: int, file_format: str) -> None:
    """Write each snapshot as a commit of a git repository."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str, **named: Any) -> None:
        subprocess.run(["git", *arguments], cwd=path, env=environment, check=True, capture_output=True, **named)

    path.mkdir(parents=True)
    git("init", "-q", "-b", "main")
    parts = []
    for time, content in snapshots(count, rows, file_format):
        parts.append(b"commit refs/heads/main\ncommitter bench <a@b> %d +0000\ndata 1\nx\n" % time.timestamp())
        parts.append(b"M 644 inline rows.%s\ndata %d\n%s\n" % (file_format.encode(), len(content), content))
    git("fast-import", "--quiet", input=b"".join(parts))
    git("reset", "-q", "--hard")
