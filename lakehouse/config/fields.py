"""Defines the value types of a configuration: the values that each accepts, and the message for others."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, WithJsonSchema

from lakehouse.config.strict_model import STRUCTURE, VALUE, did_you_mean, validation_error

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
DURATION_PATTERN = "^[1-9][0-9]{0,5}[smhd]$"
_NAME_PATTERN = "^[A-Za-z_][A-Za-z0-9_]*$"
_KAGGLE_NAME_PATTERN = r"^[^/\s]+/[^/\s]+$"
MIN_PII_KEY_LENGTH = 32
MAX_POSTGRES_NAME_BYTES = 63  # PostgreSQL silently cuts longer names


def _matches(pattern: str, message: str, kind: str = VALUE) -> AfterValidator:
    """Return a validator that raises `message` for a text that does not match a pattern."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value, re.DOTALL):
            raise validation_error(message, kind)
        return value

    return AfterValidator(check)


def parse_duration(value: Any) -> timedelta:
    """Return a duration of the configuration, such as 6h.

    Args:
        value: Its text; a duration is returned as it is.

    Raises:
        PydanticCustomError: The text is no duration.
    """
    if isinstance(value, timedelta):
        return value
    if not (isinstance(value, str) and re.fullmatch(DURATION_PATTERN, value)):
        raise validation_error("expected a number and a unit, such as 10m, 6h or 1d")
    return timedelta(**{_UNITS[value[-1]]: int(value[:-1])})


def _check_week_or_more(value: timedelta) -> timedelta:
    if value < timedelta(days=7):
        raise validation_error("expected at least 7d: readers of an older version would lose its files")
    return value


def _check_time_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        hint = did_you_mean(value, available_timezones())
        raise validation_error(f"expected an IANA time zone, such as America/Sao_Paulo{hint}") from None
    return value


def _check_file_name(value: str) -> str:
    paths = (PurePosixPath(value), PureWindowsPath(value))
    if any(path.anchor or ".." in path.parts for path in paths):
        raise validation_error("expected a name or glob inside the snapshot: no absolute path, no ..")
    *folders, name = value.split("/")
    if "**" in name or any("**" in folder and folder != "**" for folder in folders):  # Pythons read it differently
        raise validation_error("expected ** only as the name of a folder, for any folders: a/**/*.csv; else *")
    return value


def _check_jdbc_url(value: str) -> str:
    if not value.startswith("jdbc:postgresql:"):
        is_other_database = re.match("jdbc:([a-z0-9]{1,20}):", value)
        hint = "; PostgreSQL is the only supported database" if is_other_database else ""
        raise validation_error(f"expected jdbc:postgresql://host/database{hint}")
    return value


def _check_postgres_table(value: str) -> str:
    parts = value.split(".")
    if len(parts) > 2 or not all(re.fullmatch(r"[^\s\"]+", part) for part in parts):
        raise validation_error("expected a table's name, or schema.name", STRUCTURE)
    if len(parts) == 2 and (parts[0].startswith("pg_") or parts[0] == "information_schema"):
        raise validation_error(f"PostgreSQL keeps the schema {parts[0]} for itself", STRUCTURE)
    if any(len(part.encode()) > MAX_POSTGRES_NAME_BYTES for part in parts):
        raise validation_error(
            f"the name is longer than PostgreSQL's limit of {MAX_POSTGRES_NAME_BYTES} bytes", STRUCTURE
        )
    return value


def _check_key_length(value: SecretStr) -> SecretStr:
    # A key that can be guessed reveals every value: an attacker with the hashes tries keys until names come out.
    if len(value.get_secret_value()) < MIN_PII_KEY_LENGTH:
        raise validation_error(
            f"expected at least {MIN_PII_KEY_LENGTH} characters, such as `openssl rand -hex 32` prints", STRUCTURE
        )
    return value


def _reject_boolean(value: Any) -> Any:
    # pydantic reads `yes` as 1: `max_deleted: yes` would disable the guard.
    if isinstance(value, bool):
        raise validation_error("expected a number")
    return value


def to_option_text(value: Any) -> Any:
    """Return a YAML value as the text of a Spark reader option."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _check_scalar(value: Any) -> Any:
    if not isinstance(value, str | bool | int | float) or (isinstance(value, float) and not math.isfinite(value)):
        raise validation_error("expected text, a number, true or false")
    return value


T = TypeVar("T")
_Number = BeforeValidator(_reject_boolean)

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str,
    _matches(
        _NAME_PATTERN,
        "a name may contain only letters a-z, digits and _, and must not start with a digit: it becomes a folder",
        STRUCTURE,
    ),
    WithJsonSchema({"type": "string", "pattern": _NAME_PATTERN}),
]
FileName = Annotated[Text, AfterValidator(_check_file_name)]
LakeRoot = Annotated[
    Text,
    _matches("s3a://.*|(?!.*://).*", "expected a local path, s3a://bucket/prefix or {catalog: ..., volume: ...}"),
]
KaggleName = Annotated[
    str,
    _matches(_KAGGLE_NAME_PATTERN, "expected owner/name, as in the dataset's URL"),
    WithJsonSchema({"type": "string", "pattern": _KAGGLE_NAME_PATTERN}),
]
JdbcUrl = Annotated[str, AfterValidator(_check_jdbc_url)]
# STRUCTURE, so that the message does not show the value, which contains the password. libpq has a second form,
# "host=... password=...", which is not supported: `logs` can only redact passwords in URLs.
PostgresUrl = Annotated[
    str, _matches("postgres(ql)?://.*", "expected postgresql://user:password@host/database", STRUCTURE)
]
PostgresTable = Annotated[str, AfterValidator(_check_postgres_table)]
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
Duration = Annotated[
    timedelta, BeforeValidator(parse_duration), WithJsonSchema({"type": "string", "pattern": DURATION_PATTERN})
]

WeekOrMore = Annotated[Duration, AfterValidator(_check_week_or_more)]
PiiKey = Annotated[SecretStr, AfterValidator(_check_key_length), WithJsonSchema({"type": "string"})]

Count = Annotated[int, Field(ge=0), _Number]
LineCount = Annotated[int, Field(ge=0, le=10_000), _Number]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), _Number]
Ratio = Annotated[float, Field(ge=0, allow_inf_nan=False), _Number]
Scd = Annotated[int, Field(ge=1, le=2), _Number]

Scalar = Annotated[Any, AfterValidator(_check_scalar), WithJsonSchema({"type": ["string", "number", "boolean"]})]
"""A value that SQL has a literal for; dates are text."""

Option = Annotated[str, BeforeValidator(to_option_text), WithJsonSchema({"type": ["string", "boolean", "number"]})]
"""A reader option: Spark expects text, YAML has ``true`` and ``10``."""

EmptyIfNull = Annotated[T, BeforeValidator(lambda value: {} if value is None else value)]
"""A mapping that may be left empty: ``gold:`` with every model commented out, ``churn:`` without settings."""

NoneIfUrlIsEmpty = Annotated[
    T | None, BeforeValidator(lambda value: None if isinstance(value, Mapping) and value.get("url") == "" else value)
]
"""A section that is disabled by an empty URL, such as ``${PG_URL:-}``."""
