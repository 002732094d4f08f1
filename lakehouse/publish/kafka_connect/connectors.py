"""Registers the pipeline's connectors with Kafka Connect and reports their states.

    apply     validate each file of `connect.connectors`, register those that differ, and wait until all run
    status    report the state of each connector, and what its user lacks in PostgreSQL (`database_rights.py`)

Nothing is registered until Connect has validated all files, and the users of source connectors have their rights.
The files contain no secrets: they name where the worker finds them (`${env:CDC_PASSWORD}`), and a file with a secret is
rejected.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lakehouse import logs
from lakehouse.config import Pipeline
from lakehouse.errors import ConfigError, DataRefused, ExitCode, InfrastructureError
from lakehouse.publish.kafka_connect.database_rights import RightsCheck, check_rights
from lakehouse.publish.kafka_connect.rest import RestClient

START_TIMEOUT = 90.0  # seconds for all connectors to run; the cluster notices a dead worker after about ten
_POLL_SECONDS = 0.5
# A changed connector reports its old state for a moment, and a task reports RUNNING before it connects.
_SETTLE_SECONDS = 3.0
_USER_STATES = ("PAUSED", "STOPPED")
_MAX_ERROR_CHARS = 500
_CONFIG_PROVIDER = re.compile(r"\$\{\w+:[^}]+\}")
_FILE_FORMAT = '{"name": ..., "config": {...}}, all values text, as Kafka Connect expects it'


@dataclass(frozen=True)
class Connector:
    """A connector as its file defines it."""

    name: str
    config: dict[str, str]
    file: Path


def apply(pipeline: Pipeline, timeout: float = START_TIMEOUT) -> dict[str, Any]:
    """Register the pipeline's connectors as their files define them, and wait until they run.

    Args:
        pipeline: The pipeline; `connect` names the worker and the files.
        timeout: Seconds to wait for all connectors to run.

    Returns:
        The document of `status`; each connector also has `change`: created, updated, restarted or unchanged.

    Raises:
        ConfigError: A file is wrong, or Connect rejects it; or the user of a connector lacks a right in PostgreSQL.
        InfrastructureError: Connect cannot be reached, or a connector did not run in time.
        DataRefused: A connector or a task failed.
    """
    client, connectors = _read_connectors(pipeline)
    _validate(client, connectors)
    checks = {connector.name: check_rights(pipeline, connector.config) for connector in connectors}
    _require_rights(checks)
    changes = {connector.name: _apply_connector(client, connector) for connector in connectors}
    settle_seconds = 0.0 if set(changes.values()) == {"unchanged"} else _SETTLE_SECONDS
    states = _wait_until_settled(client, connectors, timeout, settle_seconds)
    states = [state | {"change": changes[state["name"]], "rights": checks[state["name"]].text} for state in states]
    if failed := [state for state in states if _has_failed(state)]:
        raise DataRefused(
            "\n".join(f"{state['name']} failed: {state['error']}" for state in failed),
            expected="connectors and tasks that run",
            where=client.base_url,
            next_step="correct the cause, then run `lakehouse connect apply` again: it restarts what failed",
        )
    if waiting := [state for state in states if not _is_settled(state)]:
        raise InfrastructureError(
            "\n".join(f"{s['name']} is {s['state']}, its tasks {s['tasks'] or 'none'}" for s in waiting),
            expected=f"RUNNING, within {timeout:g} s",
            where=client.base_url,
            next_step=f"lakehouse connect status {pipeline.argument}",
        )
    return {"connect": client.base_url, "connectors": states, "exit_code": int(ExitCode.OK)}


def status(pipeline: Pipeline) -> dict[str, Any]:
    """Return the state of each connector.

    Args:
        pipeline: The pipeline; `connect` names the worker and the files.

    Returns:
        {"connect", "connectors": [{"name", "state", "tasks", "error", "rights"}], "exit_code"}: the code is 5 if a
        connector or a task has failed, a connector is not registered, or its user lacks a right in PostgreSQL.

    Raises:
        ConfigError: A file is wrong.
        InfrastructureError: Connect cannot be reached.
    """
    client, connectors = _read_connectors(pipeline)
    checks = {connector.name: check_rights(pipeline, connector.config) for connector in connectors}
    states = [state | {"rights": checks[state["name"]].text} for state in _read_states(client, connectors)]
    is_bad = any(_has_failed(state) or state["state"] == "not registered" for state in states)
    is_bad = is_bad or any(check.missing for check in checks.values())
    exit_code = ExitCode.REFUSED if is_bad else ExitCode.OK
    return {"connect": client.base_url, "connectors": states, "exit_code": int(exit_code)}


# --- files ------------------------------------------------------------------------------------------------------------


def _read_connectors(pipeline: Pipeline) -> tuple[RestClient, list[Connector]]:
    if pipeline.connect is None:
        raise ConfigError(
            "the pipeline names no connectors",
            expected="connect: {url: http://host:8083, connectors: [files]}",
            where=str(pipeline.path),
        )
    connectors = [_read_connector(pipeline.folder / file) for file in pipeline.connect.connectors]
    return RestClient(pipeline.connect), connectors


def _read_connector(file: Path) -> Connector:
    """Read a connector's file.

    Raises:
        ConfigError: The file cannot be read, has another format, or contains a secret.
    """
    where = str(file)
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"a connector's file cannot be read: {error.strerror}", where=where) from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"a connector's file is not JSON: {error}", expected=_FILE_FORMAT, where=where) from None
    match document:
        case {"name": str(name), "config": dict(config), **rest} if name and not rest:
            pass
        case _:
            raise ConfigError("a connector's file has another format", expected=_FILE_FORMAT, where=where)
    if not_text := [key for key, value in config.items() if not isinstance(value, str)]:
        raise ConfigError(f"values that are not text: {', '.join(not_text)}", expected=_FILE_FORMAT, where=where)
    secrets = [key for key, value in config.items() if value and _is_secret(key) and not _CONFIG_PROVIDER.search(value)]
    if secrets:
        raise ConfigError(
            f"a secret in a connector's file: {', '.join(secrets)}",
            expected="where the worker finds it, such as ${env:CDC_PASSWORD} or ${file:/run/secrets/cdc:password}",
            where=where,
            next_step="remove it, and change the secret if anybody has seen the file",
        )
    return Connector(name, config, file)


def _is_secret(key: str) -> bool:
    """Return whether a setting is a secret: `s3.secret.access.key` is, `transforms.keyDay.field` is not."""
    has_secret_name = logs.is_secret_name(key.replace(".", "_")) or key.endswith("sasl.jaas.config")
    return has_secret_name and not key.startswith(("transforms.", "predicates."))


# --- requests ---------------------------------------------------------------------------------------------------------


def _validate(client: RestClient, connectors: Iterable[Connector]) -> None:
    """Raise a ConfigError with everything that Connect rejects in any of the files."""
    plugins = [str(plugin["class"]) for plugin in client.request("GET", "connector-plugins")]
    problems = []
    for connector in connectors:
        file, plugin = connector.file, connector.config.get("connector.class", "")
        if plugin not in plugins:
            problems.append(f"{file}: connector.class {plugin or 'missing'}; the worker has {', '.join(plugins)}")
            continue
        path, config = f"connector-plugins/{plugin}/config/validate", connector.config | {"name": connector.name}
        for value in (setting["value"] for setting in client.request("PUT", path, config)["configs"]):
            problems += [f"{file}: {value['name']}: {message}" for message in value["errors"]]
    if problems:
        raise ConfigError(
            logs.redact("\n".join(problems)),
            expected="files that Connect accepts; ${env:...} is the worker's environment",
            where=client.base_url,
            next_step="correct the files, or what they name; nothing was changed",
        )


def _require_rights(checks: Mapping[str, RightsCheck]) -> None:
    """Raise a ConfigError with everything that the users of connectors lack."""
    found = [f"{name}: {right.found}" for name, check in checks.items() for right in check.missing]
    if found:
        statements = dict.fromkeys(f"{right.statement};" for check in checks.values() for right in check.missing)
        raise ConfigError(
            "\n".join(found),
            expected="what Debezium needs of PostgreSQL: with less it may retry without an end; nothing was changed",
            where="publish.postgres",
            next_step=f"in psql, as the owner of the tables: {' '.join(statements)} then lakehouse connect apply again",
        )


def _apply_connector(client: RestClient, connector: Connector) -> str:
    """Register a connector if it differs from its file, or restart its failed parts; return the action."""
    path = f"connectors/{quote(connector.name)}"
    registered = client.request("GET", f"{path}/config", not_found=None)
    if registered != connector.config | {"name": connector.name}:
        client.request("PUT", f"{path}/config", connector.config)
        return "updated" if registered else "created"
    if any(_has_failed(state) for state in _read_states(client, [connector])):
        client.request("POST", f"{path}/restart?includeTasks=true&onlyFailed=true")
        return "restarted"
    return "unchanged"


def _wait_until_settled(
    client: RestClient, connectors: list[Connector], timeout: float, settle_seconds: float
) -> list[dict[str, Any]]:
    """Poll until all connectors have been settled for `settle_seconds`, or the time is up; return the last states."""
    settled_since, deadline = None, time.monotonic() + timeout
    while True:
        states, now = _read_states(client, connectors), time.monotonic()
        settled_since = (settled_since or now) if all(map(_is_settled, states)) else None
        if now > deadline or (settled_since is not None and now - settled_since >= settle_seconds):
            return states
        time.sleep(_POLL_SECONDS)


def _read_states(client: RestClient, connectors: Iterable[Connector]) -> list[dict[str, Any]]:
    states = []
    for connector in connectors:
        response = client.request("GET", f"connectors/{quote(connector.name)}/status", not_found={})
        parts = [response.get("connector", {"state": "not registered"}), *response.get("tasks", [])]
        state, *tasks = [str(part["state"]) for part in parts]
        errors = [_summarize_trace(logs.redact(str(part["trace"]))) for part in parts if part.get("trace")]
        states.append({"name": connector.name, "state": state, "tasks": tasks, "error": "\n".join(errors)})
    return states


def _summarize_trace(trace: str) -> str:
    """Return the messages of a Java exception and of its causes, without the stack frames.

    The detail that PostgreSQL adds to a denied permission names the right; others of a server may have values of rows.
    """
    lines = [line.strip() for line in trace.splitlines()]
    messages = [
        line
        for n, line in enumerate(lines)
        if line
        and (
            n == 0
            or line.startswith("Caused by:")
            or (line.startswith("Detail:") and "permission denied" in lines[n - 1])
        )
    ]
    return "\n".join(messages)[:_MAX_ERROR_CHARS]


def _has_failed(state: Mapping[str, Any]) -> bool:
    return "FAILED" in (state["state"], *state["tasks"])


def _is_settled(state: Mapping[str, Any]) -> bool:
    """Return whether the state is final: it runs with all its tasks, has failed, or a user stopped it."""
    is_running = state["state"] == "RUNNING" and set(state["tasks"]) == {"RUNNING"}
    return is_running or _has_failed(state) or state["state"] in _USER_STATES
