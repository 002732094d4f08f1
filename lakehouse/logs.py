"""Writes log lines to stderr, as text or JSON, and removes secrets from all that leaves the process.

    register_secrets(pipeline)   records the secrets of a configuration and of the environment
    redact(text)                 the text without them: for logs, errors and run records
    create_logger("json")        a structlog logger whose events are all redacted

A secret is known by its name (`password`, `KAGGLE_KEY`, `AWS_SESSION_TOKEN`), by its position (the login of a URL), or
by the field of pipeline.yml that it is filled into, under any name of its variable. It is recognised as plain text,
percent-encoded, in hex and in base64, also as a part of a longer text in base64.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast
from urllib.parse import quote, quote_plus, unquote

from pydantic import SecretStr

from lakehouse.config import Pipeline, yaml_source
from lakehouse.error_mapping import first_line, without_values
from lakehouse.errors import ConfigError, LakehouseError
from lakehouse.retry import report_retries
from lakehouse.text import CUT, escape_json, visible, visible_lines

if TYPE_CHECKING:
    from stamina.instrumentation import RetryDetails
    from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

    Log = FilteringBoundLogger
else:
    Log = Any

LogFormat = Literal["text", "json"]

MASK = "***"
# DBPASS and GH_PAT are secrets; PASSENGERS, PATH and KEYS are none.
_SECRET_NAME = re.compile(
    r"(?i)passw|passphrase|credential|webhook|secret|token(?![a-z])|access_?key|connection_?string"
    r"|(?:pwd|pass)(?![a-z])|(?:^|[^a-z])(?:pat|sas|sig|jwt|bearer)(?![a-z])|(?:^|[^a-z])auth$"
    r"|(?:^|[^a-z]|api|private|account|shared|signing|encryption|master|client|service|ssh|gpg|pgp)_?key$"
)
_HARMLESS_NAME = re.compile(r"(?i)^(?:old)?pwd$|(?:file|path|dir|folder|socket?|endpoint|region|profile|bucket)$")
# Each pattern is tried once per word: its time grows with the length of the text, whatever the text is.
_WORD = re.compile(r"[^\s\"'<>]+")
_URL_LOGIN_IN_TEXT = re.compile(rf"(://)[^\s/?#\"'<>]*(@|(?={CUT}))")
_PARAMETER = re.compile(r"(?<![\w.-])([\w.-]+)=(?=[^\s&;,\"'{}])")
_PARAMETER_VALUE = re.compile(r"[^\s&;,\"'{}]+")
_SECRET_PARAMETER_NAME = re.compile(
    r"(?i)passw|passphrase|secret|token|signature|credential|(?:^|[^a-z])(?:sig|sas|pwd|pass|pat)$|(?:pwd|pass)$"
    r"|(?:access|account|api|shared|subscription|private)_?key$"
)
_AUTHORIZATION = re.compile(r"(?i)(authorization[\"']?[:=] ?[\"']?(?:(?:basic|bearer|token) )?)([^\s\"',;]+)")
_CUT = re.compile(CUT)
_MAX_TEXT_CHARS = 100_000
# A shorter value is probably an ordinary word: masking it everywhere would make messages unreadable.
_MIN_LENGTH, _MIN_LENGTH_IN_ENVIRONMENT, _MIN_PART_LENGTH = 4, 6, 8
_MAX_ESCAPE = 10  # characters that `visible` writes for one
_MAX_ENCODED_LENGTH = 1_000  # a longer secret is a file of keys, which no address or header has

_known_secrets: set[str] = set()


def register_secrets(pipeline: Pipeline | None = None, env: Mapping[str, str] | None = None) -> None:
    """Record the secrets that `redact` removes, until the process ends.

    Args:
        pipeline: The configuration whose secrets are added.
        env: Names and values to use instead of the environment and `.env`.
    """
    if env is None:
        try:
            env = yaml_source.load_environment()
        except ConfigError:  # the code that needs an unreadable .env reports it
            env = os.environ
    secrets = {
        s for name, value in env.items() for s in _secrets_in(name, value) if len(s) >= _MIN_LENGTH_IN_ENVIRONMENT
    }
    if pipeline is not None:
        # The names of a table's columns are no secrets, not even `password`.
        texts = _text_values("", pipeline.model_dump(exclude={"tables", "silver", "gold"}))
        in_fields = {s for name, value in texts for s in _secrets_in(name, value)} | pipeline.secret_values
        secrets |= {s for s in in_fields if len(s) >= _MIN_LENGTH}
    _known_secrets.update(secrets)


def redact(text: str) -> str:
    """Return `text` with every registered secret, and every login or password of a URL, replaced by `***`.

    A text of more than 100,000 characters is cut first, and of a secret that a cut has divided the rest is masked too.

    >>> redact("postgresql://ana:s3same@db/shop?sslpassword=x1")
    'postgresql://***@db/shop?sslpassword=***'
    """
    if len(text) > _MAX_TEXT_CHARS:
        text = text[:_MAX_TEXT_CHARS] + f"... ({len(text):,} characters)"
    if pattern := _secrets_pattern(frozenset(_known_secrets)):
        text = _mask_cut_secrets(pattern.sub(MASK, text))
    text = _AUTHORIZATION.sub(rf"\1{MASK}", _URL_LOGIN_IN_TEXT.sub(rf"\1{MASK}\2", text))
    return _mask_parameters(text)


def redact_document(document: Any) -> Any:
    """Return a document of plain values with each text redacted; other values become redacted text."""
    if isinstance(document, Mapping):
        return {redact(str(k)): redact_document(v) for k, v in document.items()}
    if isinstance(document, list | tuple | set | frozenset):
        return [redact_document(each) for each in document]
    return document if document is None or isinstance(document, bool | int | float) else redact(str(document))


def is_secret_name(name: str) -> bool:
    """Return whether a setting or variable of this name is a secret.

    >>> is_secret_name("database_password"), is_secret_name("password_file")
    (True, False)
    """
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def restore_stderr() -> None:
    """Write to the stderr of spark-submit, which redirects a job's stderr to its own stdout.

    Stdout is for the result only. Without spark-submit this does nothing.
    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ or not os.path.samestat(os.fstat(1), os.fstat(2)):
        return
    try:
        parent_stderr = os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND)
    except OSError:  # no /proc, or a socket: the two stay mixed
        return
    sys.stderr.flush()
    os.dup2(parent_stderr, 2)
    os.close(parent_stderr)


def create_logger(log_format: LogFormat = "text", level: int | None = None, stream: TextIO | None = None) -> Log:
    """Return a logger that writes one JSON object, or one line of text, for each event.

    Args:
        log_format: JSON has all events of a run. Text has warnings and errors only: people see the progress in the
            output of the command (`cli/render.py`).
        level: The lowest level to write, instead of the default of the format.
        stream: Where to write, instead of stderr.
    """
    is_json = log_format == "json"
    default_level = logging.INFO if is_json else logging.WARNING

    def create() -> Log:
        import structlog

        log: Log = structlog.wrap_logger(
            structlog.PrintLogger(stream or cast(TextIO, _CurrentStderr())),
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _redact_event,
                _render_json if is_json else _render_line,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(default_level if level is None else level),
        )
        return log

    return cast(Log, _LazyLog(create))


class _LazyLog:
    """Creates a logger when it writes: structlog imports asyncio and pygments, which takes as long as `status`."""

    def __init__(self, create: Callable[[], Log]) -> None:
        self._create = create

    @cached_property
    def _log(self) -> Log:
        return self._create()

    def bind(self, **values: Any) -> Any:
        """Return a logger whose events have these values, too; it is created at its first use as well."""
        return _LazyLog(lambda: self._log.bind(**values))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def log_retries(log: Log) -> None:
    """Have `log` report every retry of an operation, except those of a source, which are printed.

    Args:
        log: Receives the number of the attempt that failed, the seconds until the next one and the reason.
    """

    def on_retry(details: RetryDetails) -> None:
        error = details.caused_by
        reason = error.kept if isinstance(error, LakehouseError) else without_values(first_line(error))
        log.info("trying again", attempt=details.retry_num, seconds=details.wait_for, reason=reason)

    report_retries(on_retry)


class _CurrentStderr:
    """Writes to the `sys.stderr` of the moment: a logger outlives a redirection of it."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _redact_event(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    hidden: EventDict = redact_document(event)
    return hidden


def _render_line(_: WrappedLogger, __: str, event: EventDict) -> str:
    """Return `2026-01-31 02:00:00Z  the run ended  exit_code=3`, with texts of several lines below it."""
    time, message = str(event.pop("timestamp"))[:19].replace("T", " "), visible(str(event.pop("event")))
    values = {visible(k): visible_lines(str(v)) for k, v in event.items() if k != "level"}
    short = " ".join(f"{k}={v}" for k, v in values.items() if "\n" not in v)
    long = "".join(f"\n    {line}" for v in values.values() if "\n" in v for line in v.split("\n"))
    return f"{time}Z  {message}  {short}".rstrip() + long


def _render_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return escape_json(json.dumps(event, ensure_ascii=False))


def _text_values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Yield the texts of a configuration, each with the nearest key above it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _text_values(str(key), inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _text_values(name, inner)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, SecretStr):
        yield "secret", value.get_secret_value()


def _secrets_in(name: str, value: str) -> Iterator[str]:
    """Yield the secret parts of a value: all of it if its name is secret, or a URL's password and parameters."""
    if is_secret_name(name):
        yield value
    for word in _WORD.findall(value):
        start, end = word.find("://"), word.rfind("@")
        if 0 <= start < end:
            user, _, password = word[start + len("://") : end].partition(":")
            yield from {password or user, unquote(password or user)}
    yield from (value[slice(*span)] for span in _parameter_spans(value))


def _parameter_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each value of a secret parameter, such as `x1` of `?sslpassword=x1`."""
    end = 0
    for parameter in _PARAMETER.finditer(text):
        if parameter.start() >= end and _SECRET_PARAMETER_NAME.search(parameter[1]):
            value = _PARAMETER_VALUE.match(text, parameter.end())
            end = value.end() if value else end
            yield parameter.end(), end


def _mask_parameters(text: str) -> str:
    parts, position = list[str](), 0
    for start, end in _parameter_spans(text):
        parts += [text[position:start], MASK]
        position = end
    return "".join([*parts, text[position:]])


def _mask_cut_secrets(text: str) -> str:
    """Return a text in which the beginning of a secret before a cut is masked as the secret would be."""
    parts, position = list[str](), 0
    for cut in _CUT.finditer(text):
        before = text[position : cut.start()]
        divided = _length_of_beginning(before)
        parts += [before[: len(before) - divided], MASK if divided else "", cut[0]]
        position = cut.end()
    return "".join([*parts, text[position:]])


@lru_cache(maxsize=8)
def _secrets_pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    texts = _secret_texts(secrets)
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True)))) if texts else None


def _length_of_beginning(text: str) -> int:
    """Return how many characters at the end of a text are the beginning of a secret."""
    secrets = _secrets_by_beginning(frozenset(_known_secrets))
    for start in range(len(text) - _MIN_LENGTH + 1):
        for secret in secrets.get(text[start : start + _MIN_LENGTH], ()):
            if secret.startswith(text[start:]):
                return len(text) - start
    return 0


@lru_cache(maxsize=8)
def _secrets_by_beginning(secrets: frozenset[str]) -> dict[str, list[str]]:
    by_beginning: dict[str, list[str]] = {}
    for text in _secret_texts(secrets):
        by_beginning.setdefault(text[:_MIN_LENGTH], []).append(text)
    return by_beginning


@lru_cache(maxsize=8)
def _secret_texts(secrets: frozenset[str]) -> frozenset[str]:
    return frozenset(text for secret in secrets for text in _encodings(secret))


def _encodings(secret: str) -> Iterator[str]:
    """Yield the forms in which a secret can occur in a text."""
    yield from (secret, json.dumps(secret)[1:-1], visible(secret, _MAX_ESCAPE * len(secret)))
    yield from (line for line in secret.splitlines() if len(line) >= _MIN_PART_LENGTH)  # such as those of a PEM file
    if len(secret) > _MAX_ENCODED_LENGTH:
        return
    quoted = quote(secret, safe="")
    yield from (quoted, quote_plus(secret), re.sub("%..", lambda match: match[0].lower(), quoted))
    content = secret.encode(errors="surrogateescape")
    if len(content) >= _MIN_LENGTH:
        yield from (content.hex(), content.hex().upper())
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode(content).decode()
        yield from (encoded, encoded.rstrip("="))
        # Behind other bytes, such as `user:` of a Basic login: the characters that these bytes do not change.
        for shift in range(3):
            first, end = (8 * shift + 5) // 6, 8 * (shift + len(content)) // 6
            if end - first >= _MIN_PART_LENGTH:
                yield encode(bytes(shift) + content).decode()[first:end]
