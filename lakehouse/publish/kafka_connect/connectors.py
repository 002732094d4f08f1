"""The connectors of a pipeline, registered with Kafka Connect and looked after, through its REST API.

    apply     each file of `connect.connectors`: checked by Connect, put there where it differs, awaited until it runs
    status    what Connect says of them now

Nothing is changed before Connect has found nothing wrong with any of the files. A secret has no place in them: they
name where the worker finds it (`${env:CDC_PASSWORD}`), and one that says it outright is refused.
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
from lakehouse.publish.kafka_connect.rest import RestClient

START_TIMEOUT = 90.0  # seconds for a connector to run; a worker that died is missed after some ten
_POLL_SECONDS = 0.5
_SETTLE_SECONDS = (
    3.0  # what was just told otherwise looks for a moment as it did before, and a task runs before it connects
)
_USER_STATES = ("PAUSED", "STOPPED")
_MAX_ERROR_CHARS = 500  # characters of what a task says
_CONFIG_PROVIDER = re.compile(r"\$\{\w+:[^}]+\}")


@dataclass(frozen=True)
class Connector:
    """A connector as its file has it."""

    name: str
    config: dict[str, str]
    file: Path


def apply(pipeline: Pipeline, timeout: float = START_TIMEOUT) -> dict[str, Any]:
    """Have Connect run the pipeline's connectors as their files say.

    Args:
        patience: seconds to wait for all of them to run.

    Returns:
        `status`, with what was done to each: `change` is created, updated, restarted or unchanged.

    Raises:
        ConfigError: a file, or what Connect finds wrong with it.
        InfrastructureError: Connect cannot be reached, or a connector did not come to run in time.
        DataRefused: a connector or task failed.
    """
    rest, connectors = _read_connectors(pipeline)
    _validate(rest, connectors)
    changes = {each.name: _apply_connector(rest, each) for each in connectors}
    steady = 0.0 if set(changes.values()) == {"unchanged"} else _SETTLE_SECONDS
    found = [
        seen | {"change": changes[seen["name"]]} for seen in _wait_until_settled(rest, connectors, timeout, steady)
    ]
    _raise_if_failed(rest, found)
    if waiting := [seen for seen in found if not _is_settled(seen)]:
        raise InfrastructureError(
            "\n".join(f"{seen['name']} is {seen['state']}, its tasks {seen['tasks'] or 'none'}" for seen in waiting),
            expected=f"RUNNING, within {timeout:g} s",
            where=rest.base_url,
            next_step=f"lakehouse connect status {pipeline.path}",
        )
    return {"connect": rest.base_url, "connectors": found, "exit_code": int(ExitCode.OK)}


def status(pipeline: Pipeline) -> dict[str, Any]:
    """What Connect says of each connector, whatever it is.

    Returns:
        {"connect", "connectors": [{"name", "state", "tasks", "error"}], "exit_code"}: 5 if one or a task of it has
        failed, or it is not registered.
    """
    rest, connectors = _read_connectors(pipeline)
    found = _read_states(rest, connectors)
    bad = any(_has_failed(seen) or seen["state"] == "not registered" for seen in found)
    return {"connect": rest.base_url, "connectors": found, "exit_code": int(ExitCode.REFUSED if bad else ExitCode.OK)}


def _read_connectors(pipeline: Pipeline) -> tuple[RestClient, list[Connector]]:
    if pipeline.connect is None:
        raise ConfigError(
            "the pipeline names no connectors",
            expected="connect: {url: http://host:8083, connectors: [files]}",
            where=str(pipeline.path),
        )
    connectors = [_read_connector(pipeline.folder / file) for file in pipeline.connect.connectors]
    return RestClient(pipeline.connect), connectors


# --- files --------------------------------------------------------------------------------------------------------


def _read_connector(file: Path) -> Connector:
    """A connector's file.

    Raises:
        ConfigError: it cannot be read, is not of the form, or says a secret.
    """
    form = '{"name": ..., "config": {...}}, all values text, as Connect takes it'
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"a connector's file cannot be read: {error.strerror}", where=str(file)) from None
    except ValueError as error:
        raise ConfigError(f"a connector's file is not JSON: {error}", expected=form, where=str(file)) from None
    match document:
        case {"name": str(name), "config": dict(config), **rest} if name and not rest:
            pass
        case _:
            raise ConfigError("a connector's file of another form", expected=form, where=str(file))
    if wrong := [key for key, value in config.items() if not isinstance(value, str)]:
        raise ConfigError(f"values that are no text: {', '.join(wrong)}", expected=form, where=str(file))
    if told := [
        key for key, value in config.items() if value and _is_secret(key) and not _CONFIG_PROVIDER.search(value)
    ]:
        raise ConfigError(
            f"a secret in a connector's file: {', '.join(told)}",
            expected="where the worker finds it, such as ${env:CDC_PASSWORD} or ${file:/run/secrets/cdc:password}",
            where=str(file),
            next_step="take it out, and change the secret if the file was shown to anybody",
        )
    return Connector(name, config, file)


def _is_secret(key: str) -> bool:
    """`s3.secret.access.key`, but not `transforms.keyDay.field`."""
    named = logs.is_secret_name(key.replace(".", "_")) or key.endswith("sasl.jaas.config")
    return named and not key.startswith(("transforms.", "predicates."))


# --- what Connect is asked ------------------------------------------------------------------------------------------


def _validate(client: RestClient, connectors: Iterable[Connector]) -> None:
    """Raises a ConfigError with everything that Connect finds wrong with any of them."""
    plugins = [str(plugin["class"]) for plugin in client.request("GET", "connector-plugins")]
    wrong = []
    for each in connectors:
        known = each.config.get("connector.class", "")
        if known not in plugins:
            wrong.append(f"{each.file}: connector.class {known or 'missing'}; the worker has {', '.join(plugins)}")
            continue
        asked = client.request("PUT", f"connector-plugins/{known}/config/validate", each.config | {"name": each.name})
        for value in (found["value"] for found in asked["configs"]):
            wrong += [f"{each.file}: {value['name']}: {said}" for said in value["errors"]]
    if wrong:
        raise ConfigError(
            logs.redact("\n".join(wrong)),
            expected="nothing that Connect finds wrong; ${env:...} is of the worker's environment",
            where=client.base_url,
            next_step="correct the files, or what they name; nothing was changed",
        )


def _apply_connector(client: RestClient, connector: Connector) -> str:
    """Makes a connector what its file says; returns what that took."""
    there = client.request("GET", f"connectors/{quote(connector.name)}/config", missing=None)
    if there != connector.config | {"name": connector.name}:
        client.request("PUT", f"connectors/{quote(connector.name)}/config", connector.config)
        return "updated" if there else "created"
    if any(_has_failed(seen) for seen in _read_states(client, [connector])):
        client.request("POST", f"connectors/{quote(connector.name)}/restart?includeTasks=true&onlyFailed=true")
        return "restarted"
    return "unchanged"


def _read_states(client: RestClient, connectors: Iterable[Connector]) -> list[dict[str, Any]]:
    return [
        _parse_state(each.name, client.request("GET", f"connectors/{quote(each.name)}/status", missing={}))
        for each in connectors
    ]


def _parse_state(name: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    parts = [answer.get("connector", {"state": "not registered"}), *answer.get("tasks", [])]
    errors = [logs.redact(_summarize_trace(part["trace"])) for part in parts if part.get("trace")]
    tasks = [str(task["state"]) for task in answer.get("tasks", [])]
    return {"name": name, "state": str(parts[0]["state"]), "tasks": tasks, "error": "\n".join(errors)}


def _summarize_trace(trace: str) -> str:
    """What an error of Java's says, and what it says was its cause; never the frames."""
    lines = [line.strip() for line in trace.splitlines()]
    told = [line for at, line in enumerate(lines) if line and (at == 0 or line.startswith("Caused by:"))]
    return "\n".join(told)[:_MAX_ERROR_CHARS]


def _has_failed(state: Mapping[str, Any]) -> bool:
    return "FAILED" in (state["state"], *state["tasks"])


def _is_settled(state: Mapping[str, Any]) -> bool:
    """Whether waiting would change nothing: it runs with all of its tasks, has failed, or somebody has stopped it."""
    runs = state["state"] == "RUNNING" and set(state["tasks"]) == {"RUNNING"}
    return runs or _has_failed(state) or state["state"] in _USER_STATES


def _wait_until_settled(
    client: RestClient, connectors: list[Connector], timeout: float, settle_seconds: float
) -> list[dict[str, Any]]:
    """The last look at connectors that are settled, and have been for `steady` seconds, or of which patience is out."""
    settled_since, deadline = None, time.monotonic() + timeout
    while True:
        found, now = _read_states(client, connectors), time.monotonic()
        settled_since = (settled_since or now) if all(map(_is_settled, found)) else None
        if now > deadline or (settled_since is not None and now - settled_since >= settle_seconds):
            return found
        time.sleep(_POLL_SECONDS)


def _raise_if_failed(client: RestClient, states: Iterable[Mapping[str, Any]]) -> None:
    if failed := [seen for seen in states if _has_failed(seen)]:
        raise DataRefused(
            "\n".join(f"{seen['name']} failed: {seen['error']}" for seen in failed),
            expected="connectors and tasks that run",
            where=client.base_url,
            next_step="mend what it names, then `lakehouse connect apply` again: it restarts what failed",
        )
