"""Checks pipeline.yml, its variables, the source and what is published to. Values of variables are never shown."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from lakehouse import config, extract
from lakehouse.config import Connect, Files, Git, Jdbc, Kafka, Kaggle, Pipeline, yaml_source
from lakehouse.doctor.finding import Finding, Subject
from lakehouse.errors import ExitCode, LakehouseError
from lakehouse.models.sql import pipeline_plans
from lakehouse.publish.kafka_connect.rest import RestClient
from lakehouse.runner import publishing
from lakehouse.storage.paths import Lake
from lakehouse.text import counted

_CREDENTIALS, _SOURCE = "credentials", "source"


def load(argument: str) -> tuple[Pipeline | None, list[Finding]]:
    """Return the pipeline, or None if it has errors; and what was found about it.

    Args:
        argument: A folder with pipeline.yml, or that file.
    """
    subject, next_step = Subject("configuration"), f"lakehouse validate {shlex.quote(argument)}"
    try:
        pipeline = config.load(argument)
    except LakehouseError as error:
        lines = error.found.splitlines()
        return None, [subject.wrong(line, error.next_step or next_step, ExitCode.USAGE) for line in lines]
    try:
        plans = pipeline_plans.plan_pipeline(pipeline)
    except LakehouseError as error:
        return pipeline, [subject.wrong(line, next_step, error.exit_code) for line in error.found.splitlines()]
    found = f"{pipeline.path}: {counted(len(pipeline.tables), 'table')}, {counted(len(plans), 'model')}"
    return pipeline, [subject.ok(found)]


def find_lake(argument: str) -> Lake | None:
    """Return the lake of a pipeline that has errors elsewhere; None if its own setting cannot be read either.

    Args:
        argument: A folder with pipeline.yml, or that file.
    """
    try:
        file = config.find_file(Path(argument))
        source = yaml_source.read_yaml(file, yaml_source.load_environment())
    except LakehouseError:
        return None
    lake = source.data.get("lake") if isinstance(source.data, dict) else None
    if not isinstance(lake, str) or ("lake",) in source.unreadable:
        return None
    if "://" in lake or Path(lake).is_absolute() or Path(lake).exists():
        return Lake.from_root(lake)
    return Lake.from_root(str(file.parent / lake)) if (file.parent / lake).exists() else None


def check_variables(argument: str) -> Iterator[Finding]:
    """Yield whether each variable that pipeline.yml names is set: names only.

    Args:
        argument: A folder with pipeline.yml, or that file.
    """
    try:
        environment = yaml_source.load_environment()
        source = yaml_source.read_yaml(config.find_file(Path(argument)), environment)
    except LakehouseError:
        return  # the check of the configuration reports it
    for name, default in source.variables.items():
        subject = Subject(_CREDENTIALS, name)
        if environment.get(name):
            yield subject.ok(f"set in {'the environment' if os.environ.get(name) else '.env'}")
        elif default is not None:
            yield subject.ok("not set: pipeline.yml has a default")
        elif name in environment:
            yield subject.warning("set to an empty text", f"export {name}=..., or a line {name}=... in .env")
        else:
            next_step = f"export {name}=..., or a line {name}=... in .env"
            yield subject.wrong("not set, neither in the environment nor in .env", next_step, ExitCode.USAGE)
    if warning := yaml_source.env_file_warning():
        found, _, next_step = warning.partition(": ")
        yield Subject(_CREDENTIALS, ".env").warning(found, next_step)


def check_source(pipeline: Pipeline, lake: Lake) -> Iterator[Finding]:
    """Yield whether the source can be read. Kaggle is asked only for credentials, a database for an answer.

    Args:
        pipeline: The pipeline.
        lake: Its lake.
    """
    subject = Subject(_SOURCE, pipeline.source.type)
    match pipeline.source:
        case Files() | Git():
            try:
                extract.require_source(pipeline)
                waiting = extract.find_not_ready(pipeline, lake)
            except LakehouseError as error:
                yield subject.failed(error)
                return
            folder = pipeline.source_folder
            if not os.access(folder, os.R_OK | os.X_OK):
                yield subject.wrong(f"{folder} cannot be read", f"chmod u+rx {folder}", ExitCode.USAGE)
            elif waiting:
                yield subject.warning(waiting.message, "wait for the source to complete it")
            else:
                yield subject.ok(str(folder))
        case Kaggle():
            yield _check_kaggle(subject, pipeline.source.dataset)
        case Kafka():
            yield _check_topics(subject, pipeline)
        case Jdbc():
            yield _check_database(subject, pipeline)


def _check_kaggle(subject: Subject, dataset: str) -> Finding:
    """Return whether Kaggle's client has credentials."""
    from lakehouse.extract.kaggle.client import signed_in_client

    try:
        with signed_in_client(dataset):
            return subject.ok(f"there are credentials for {dataset}")
    except LakehouseError as error:
        return subject.failed(error)


def _check_topics(subject: Subject, pipeline: Pipeline) -> Finding:
    """Return whether the brokers answer and have the topics of the tables."""
    from lakehouse.extract.kafka.source import signature

    try:
        partitions = signature(pipeline)
    except LakehouseError as error:
        return subject.failed(error)
    return subject.ok(f"the brokers answer; {counted(len(partitions), 'partition')}")


def _check_database(subject: Subject, pipeline: Pipeline) -> Finding:
    """Return whether the source's database answers."""
    from lakehouse.extract.postgres.source import check_connection

    try:
        check_connection(pipeline)
    except LakehouseError as error:
        return subject.failed(error)
    return subject.ok("the database answers")


def check_publish(pipeline: Pipeline) -> Iterator[Finding]:
    """Yield whether PostgreSQL and Kafka Connect can be reached, if the pipeline publishes.

    Args:
        pipeline: The pipeline.
    """
    if pipeline.publish and pipeline.publish.postgres:
        subject = Subject("publish", "postgres")
        try:
            publishing.require_psycopg()
            from lakehouse.publish import catalog

            states = catalog.read_states(pipeline.publish.postgres.url, pipeline.publish.postgres.tables)
        except LakehouseError as error:
            yield subject.failed(error)
        else:
            yield subject.ok(f"the database answers; {counted(len(states), 'published table')}")
    if pipeline.connect:
        yield _check_connect(Subject("publish", "connect"), pipeline.connect)


def _check_connect(subject: Subject, connect: Connect) -> Finding:
    """Return whether Kafka Connect answers; `lakehouse connect status` shows the state of the connectors."""
    client = RestClient(connect, is_patient=False)
    try:
        client.request("GET", "")
    except LakehouseError as error:
        return subject.failed(error)
    return subject.ok(f"{client.base_url} answers")
