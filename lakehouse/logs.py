"""What a command tells on stderr, for people or as JSON lines; and what must never be told, there or anywhere.

    learn(pipeline)     notes the secrets of a configuration and of the environment
    redact(text)        the text without them: for logs, errors, run records, whatever leaves the process
    logger("json")      a structlog logger whose every event goes through `redact`

A secret is known by its name (`password`, `KAGGLE_KEY`, `AWS_SESSION_TOKEN`) or by its place (the login of a URL). It
is recognised as it is, percent-encoded and in base64.
"""

from __future__ import annotations

import base64
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Literal, TextIO, cast
from urllib.parse import quote, quote_plus

import structlog
from stamina.instrumentation import RetryDetails, set_on_retry_hooks
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from lakehouse.config import Pipeline, yaml_source
from lakehouse.errors import ConfigError

LogFormat = Literal["text", "json"]
Log = FilteringBoundLogger

MASK = "***"
_SECRET_NAME = re.compile(
    r"(?i)passw|passphrase|credential|webhook|(?:^|[^a-z])(?:pwd|pass)(?![a-z])|secret|token(?![a-z])|access_?key"
    r"|(?:^|[^a-z])(?:api_?|private_?|account_?)?key$"
)
_HARMLESS_NAME = re.compile(r"(?i)^(?:old)?pwd$|(?:file|path|dir|folder|socket?|endpoint|region|profile|bucket)$")
_URL_LOGIN = re.compile(r"://([^\s\"'<>]*)@")
_URL_LOGIN_IN_TEXT = re.compile(r"(://)[^\s/?#\"'<>]*@")
_SECRET_PARAMETER = re.compile(r"(?i)([\w.-]*(?:passw|secret|token|signature|credential)[\w.-]*=)([^\s&;,\"'{}]+)")
# What is shorter is an ordinary word: hiding it would blot out the rest of a message.
_MIN_LENGTH, _MIN_LENGTH_IN_ENVIRONMENT = 4, 6

_known_secrets: set[str] = set()


def register_secrets(pipeline: Pipeline | None = None, env: Mapping[str, str] | None = None) -> None:
    """Note what must not be told, for as long as the process lives.

    Args:
        env: instead of the environment and `.env`.
    """
    if env is None:
        try:
            env = yaml_source.load_environment()
        except ConfigError:  # an .env that cannot be read is told by whoever needs it
            env = os.environ
    found = {s for name, value in env.items() for s in _secrets_in(name, value) if len(s) >= _MIN_LENGTH_IN_ENVIRONMENT}
    if pipeline is not None:
        # What a table calls its columns is no secret, even one that is called password.
        leaves = _text_values("", pipeline.model_dump(exclude={"tables", "silver", "gold"}))
        found |= {s for name, value in leaves for s in _secrets_in(name, value) if len(s) >= _MIN_LENGTH}
    _known_secrets.update(found)


def redact(text: str) -> str:
    """`text` with every secret that was learned, and every login or password of a URL, put out of sight.

    >>> redact("postgresql://ana:s3same@db/shop?sslpassword=x1")
    'postgresql://***@db/shop?sslpassword=***'
    """
    if pattern := _secrets_pattern(frozenset(_known_secrets)):
        text = pattern.sub(MASK, text)
    return _SECRET_PARAMETER.sub(rf"\1{MASK}", _URL_LOGIN_IN_TEXT.sub(rf"\1{MASK}@", text))


def redact_document(document: Any) -> Any:
    """Plain values, or whatever prints as text, with each text redacted."""
    if isinstance(document, Mapping):
        return {redact(str(k)): redact_document(v) for k, v in document.items()}
    if isinstance(document, list | tuple | set | frozenset):
        return [redact_document(each) for each in document]
    return document if document is None or isinstance(document, bool | int | float) else redact(str(document))


def is_secret_name(name: str) -> bool:
    """Whether what is called so is a secret.

    >>> is_secret_name("database_password"), is_secret_name("password_file")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def restore_stderr() -> None:
    """Write to the stderr of spark-submit, which sends a job's to its stdout: that one is for the result alone."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not os.path.samestat(os.fstat(1), os.fstat(2)):
        return
    try:
        theirs = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND)
    except OSError:  # no /proc, or a socket: then they stay mixed
        return
    sys.stderr.flush()
    os.dup2(theirs, 2)
    os.close(theirs)


def create_logger(log_format: LogFormat = "text", level: int | None = None, stream: TextIO | None = None) -> Log:
    """A logger that writes to stderr: a JSON object a line, or a line for people.

    Args:
        level: from which on it writes. JSON has all of a run; for people, progress is told in a better way
            (show.progress), and warnings are left.
        to: instead of stderr.
    """
    is_json = log_format == "json"
    least = level if level is not None else logging.INFO if is_json else logging.WARNING
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(stream or cast(TextIO, _CurrentStderr())),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact_event,
            structlog.processors.JSONRenderer(ensure_ascii=False) if is_json else _render_line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )
    return log


def log_retries(log: Log) -> None:
    """Have `log` tell what stamina tries again. Left alone it would use structlog's own logger, which is stdout."""

    def hook(details: RetryDetails) -> None:
        log.info("trying again", attempt=details.retry_num, seconds=details.wait_for, reason=str(details.caused_by))

    set_on_retry_hooks([hook])


class _CurrentStderr:
    """What is stderr at the time: a logger outlives a redirection of it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    hidden: EventDict = redact_document(event)
    return hidden


def _render_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """`2026-01-31 02:00:00Z  the run ended  exit_code=3`; texts of several lines come below it."""
    time, told = str(event.pop("timestamp"))[:19].replace("T", " "), str(event.pop("event"))
    short = " ".join(f"{k}={v}" for k, v in event.items() if k != "level" and "\n" not in str(v))
    long = "".join(f"\n    {line}" for v in event.values() if "\n" in str(v) for line in str(v).splitlines())
    return f"{time}Z  {told}  {short}".rstrip() + long


def _text_values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """The texts of a configuration, each with the nearest key above it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _text_values(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _text_values(name, inner)
    elif isinstance(value, str):
        yield name, value


def _secrets_in(name: str, value: str) -> Iterator[str]:
    """What of a value is secret: all of it, by its name, or a URL's password and parameters."""
    if is_secret_name(name):
        yield value
    for login in _URL_LOGIN.findall(value):
        user, _, password = login.partition(":")
        yield password or user
    for _, parameter in _SECRET_PARAMETER.findall(value):
        yield parameter


@lru_cache(maxsize=8)
def _secrets_pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    forms = {form for secret in secrets for form in _encodings(secret)}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True)))) if forms else None


def _encodings(secret: str) -> Iterator[str]:
    yield from (secret, quote(secret, safe=""), quote_plus(secret))
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(secret.encode()).decode()
        yield from (encoded, encoded.rstrip("="))
