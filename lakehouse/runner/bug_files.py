"""Writes a file about each bug (exit code 1): `_state/bugs/<time>.json`, with all that its report needs and no secret.

    report_bug       the error that a command ends with; if it is a bug, its file is written and the message names it
    remove_all       deletes the files, which may have values of rows in the messages of their traces: for `forget`
    list_older       lists the files that are older than landed ones are kept: for `expire`

A lake that is not there yet or cannot be written to has them in the user's cache folder. Only the newest are kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import traceback
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from platform import platform, python_version
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

import lakehouse
from lakehouse import logs
from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import ExitCode, LakehouseError
from lakehouse.spark.java import find_java_home, java_version
from lakehouse.storage import file_io
from lakehouse.storage.file_io import StorePath
from lakehouse.storage.paths import Lake, parse_time, utc_text
from lakehouse.storage.private_dirs import cache_folder

if TYPE_CHECKING:
    from lakehouse.runner.context import Run

MAX_FILES = 50
_BUGS, _WITHOUT_LAKE = "bugs", "without-lake"
_NAME = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d{6})-[0-9a-f]+\.json")
_PACKAGES = ("pyspark", "delta-spark", "deltalake", "duckdb", "pyarrow", "sqlglot", "pydantic")
_PATH_KEPT = "lakehouse_bug_file"  # attribute of an exception whose file is written

_current: list[Run] = []


def set_current(run: Run | None) -> None:
    """Record the command whose lake and configuration a bug in this process belongs to.

    Args:
        run: The command; None before one is opened.
    """
    _current[:] = [run] if run else []


def current() -> Run | None:
    """Return the command that was opened last in this process."""
    return _current[0] if _current else None


def report_bug(
    raised: BaseException, verbose: bool = False, run: Run | None = None, stage: str = "", name: str = ""
) -> LakehouseError:
    """Return the error that a command ends with; if it is a bug, write a file about it, which its message names.

    Args:
        raised: The exception, of which a file is written once.
        verbose: Whether a bug names its full Python trace.
        run: The command; None for the one that was opened last in this process.
        stage: The stage that failed, if it is known.
        name: The table or model that failed, if it is known.
    """
    error = to_lakehouse_error(raised, verbose)
    if error.exit_code != ExitCode.BUG:
        return error
    file = getattr(raised, _PATH_KEPT, None)
    if file is None:
        file = _write(_document(raised, run or current(), stage, name), run)
        with suppress(AttributeError):
            setattr(raised, _PATH_KEPT, file)
    with_file = f"with {file}" if file else "with the output of the same command and --verbose"
    error.next_step = (
        f"this is a bug: report it in the issues of the project's repository, {with_file}; secrets are removed,"
        " values of rows may be in the trace: read it first"
    )
    return error


def remove_all(lake: Lake) -> int:
    """Delete the files about bugs of a lake, and those of this user that belong to no lake; return how many.

    Args:
        lake: The lake.
    """
    files = [file for folder in _folders(lake) for file in _list(folder)]
    for file in files:
        file_io.remove(file)
    return len(files)


def list_older(lake: Lake, than: datetime) -> list[StorePath]:
    """Return the files about bugs of a lake that are older than a time.

    Args:
        lake: The lake.
        than: The time.
    """
    return [file for folder in _folders(lake) for file in _list(folder) if _time(file.name) < than]


def _folders(lake: Lake) -> list[StorePath]:
    return [lake.state_path(_BUGS), _cache(lake), _cache(None)]


def _cache(lake: Lake | None) -> Path:
    return cache_folder(_BUGS, hashlib.sha256(lake.root.encode()).hexdigest()[:12] if lake else _WITHOUT_LAKE)


def _list(folder: StorePath) -> list[StorePath]:
    return [folder / name for name in file_io.list_names(folder) if _NAME.fullmatch(name)]


def _time(name: str) -> datetime:
    found = _NAME.fullmatch(name)
    assert found is not None  # `_list` returns no others
    return parse_time(f"{found[1]}{found[2]}{found[3]}_{found[4]}")


def _write(document: Mapping[str, Any], run: Run | None) -> str | None:
    """Write a document to the first folder that can be written to, and return its path."""
    run = run or current()
    name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}.json"
    content = json.dumps(logs.redact_document(document), indent=1, ensure_ascii=False).encode(errors="replace")
    with suppress(Exception):  # a bug is reported, whatever else fails
        if run and file_io.list_names(run.lake.path()):  # no lake is made for a file about a bug
            return _write_to(run.lake.state_path(_BUGS), name, content)
    with suppress(Exception):
        return _write_to(_cache(run.lake if run else None), name, content)
    return None


def _write_to(folder: StorePath, name: str, content: bytes) -> str:
    """Write a file that only its owner can read, with any value of `access`, and remove the oldest ones."""
    file = folder / name
    if isinstance(file, Path):
        file.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(file, flags, 0o600), "wb") as target:  # noqa: PTH123 - a descriptor
            target.write(content)
    else:
        file_io.write_atomically(file, content)
    for old in _list(folder)[:-MAX_FILES]:
        file_io.remove(old)
    return str(file)


def _document(raised: BaseException, run: Run | None, stage: str, name: str) -> dict[str, Any]:
    """Return the document about a bug; a part that cannot be read is left out."""
    document: dict[str, Any] = {"time": utc_text(datetime.now(timezone.utc)), "stage": stage, "name": name}
    parts: dict[str, Callable[[], Any]] = {
        "trace": lambda: "".join(traceback.format_exception(type(raised), raised, raised.__traceback__)).splitlines(),
        "java_trace": lambda: list(_java_traces(raised)),
        "versions": _versions,
        "command": lambda: _command(run),
        "run": lambda: {"id": run.id, "stages": run.stages, "lake": run.lake.root} if run else None,
        "model": lambda: _model(run, name) if run else None,
        "configuration": lambda: _plain(run.pipeline) if run else None,
    }
    for part, read in parts.items():
        with suppress(Exception):  # it may be the cause of the bug
            document[part] = read()
    return document


def _java_traces(raised: BaseException) -> Iterator[list[str]]:
    error: BaseException | None = raised
    seen: list[BaseException] = []  # an error may be its own cause: `raise error from error`
    while error is not None and not any(error is other for other in seen):
        seen.append(error)
        if text := getattr(error, "_stackTrace", None):
            yield str(text).splitlines()
        error = error.__cause__


def _versions() -> dict[str, str]:
    versions = {"lakehouse": lakehouse.__version__, "python": python_version(), "system": platform()}
    home = find_java_home()
    versions["java"] = ".".join(map(str, java_version(home))) if home else "unknown"
    for package in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def _command(run: Run | None) -> list[str]:
    """Return the words of the command line that have no value of a row: `forget TABLE KEY` has the key of a person."""
    known = set[str]()
    if run:
        known = {*run.pipeline.tables, *run.names, *(f"silver.{name}" for name in run.pipeline.silver)}
        known |= {f"gold.{name}" for name in run.pipeline.gold}
    words = sys.argv[:1]
    for at, word in enumerate(sys.argv[1:]):
        option, equals, _ = word.partition("=")
        is_option = word.startswith("--")
        if at == 0 or word in known or (is_option and not equals) or _is_path(word):
            words.append(word)
        else:
            words.append(f"{option}={logs.MASK}" if is_option else logs.MASK)
    return words


def _is_path(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long, such as a query, or with a NUL
        return False


def _model(run: Run, name: str) -> dict[str, Any] | None:
    plan = run.plans.get(name)
    if plan is None:
        return None
    plain = {"strategy": plan.strategy, "reason": plan.reason, "inputs": list(plan.inputs), "keys": list(plan.keys)}
    return {"sql": plan.sql.splitlines(), **plain}


def _plain(value: Any) -> Any:
    """Return a part of the configuration as plain values: the given settings, without those that may be secret."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {
            field.alias or name: _plain(getattr(value, name)) if field.repr else logs.MASK
            for name, field in fields.items()
            if name in value.model_fields_set
        }
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
