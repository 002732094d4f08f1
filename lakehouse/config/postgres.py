"""Defines the settings of every connection to PostgreSQL, TLS among them, and the messages of a failed login."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

CONNECTION_DEFAULTS = {
    **{"application_name": "lakehouse", "connect_timeout": "30"},
    # A connection that broke without notice is closed within minutes.
    **{"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"},
}
# Whatever the address has: rows are exchanged in UTF-8, which has every character of the lake.
_FIXED_PARAMETERS = {"client_encoding": "UTF8"}

# PostgreSQL reports errors before the login without an SQLSTATE code.
LOGIN_FAILURE = re.compile(
    "authentication failed|no password supplied|no pg_hba.conf entry|does not exist|not permitted to log in|"
    "permission denied for database|certificate|does not support SSL|private key file|"
    "unrecognized configuration parameter|invalid value for parameter|is not currently accepting connections|"
    "invalid [a-z_ ]+ value|invalid port number|invalid integer value|invalid connection option"
)
_HAS_PORT = re.compile(r":\d*$")

# SQLSTATE classes whose messages are about the server, the statement or the user, never about a value.
_CLASSES_WITHOUT_VALUES = ("08", "0A", "25", "26", "28", "3D", "3F", "40", "42", "53", "54", "55", "57", "58")
_WEAK_SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca")
_FIRST_LIBPQ_WITH_SYSTEM_CERTIFICATES = 160_000


def message_without_values(message: str, sqlstate: str | None, condition: str) -> str:
    """Return a message of the server without values of rows: it quotes them, as in `invalid input syntax: "ana"`.

    Args:
        message: The server's first sentence.
        sqlstate: Its code, or None if the error is of the client or the login.
        condition: The name of the error, such as `UniqueViolation`.
    """
    return message if sqlstate is None or sqlstate[:2] in _CLASSES_WITHOUT_VALUES else f"{condition} ({sqlstate})"


def connection_defaults(
    given: Mapping[str, Any], libpq_version: int, env: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the settings of a connection that its address does not have, and those that it must not change.

    A server on another machine has to prove who it is: by default libpq would send the password and the rows to
    any server that answers, without encryption if that server asks for it.

    Args:
        given: The parameters of the address.
        libpq_version: The version as libpq states it, such as 160004.
        env: Used instead of the process environment.
    """
    variables = os.environ if env is None else env
    defaults = {name: value for name, value in CONNECTION_DEFAULTS.items() if name not in given} | _FIXED_PARAMETERS
    known = _with_environment(given, variables)
    if "sslmode" not in known and not is_local(known):
        defaults["sslmode"] = known["sslmode"] = "verify-full"
    if known.get("sslmode") == "verify-full" and libpq_version >= _FIRST_LIBPQ_WITH_SYSTEM_CERTIFICATES:
        own_certificates = Path(variables.get("HOME") or "/nonexistent", ".postgresql", "root.crt")
        if "sslrootcert" not in known and not own_certificates.exists():
            defaults["sslrootcert"] = "system"  # otherwise libpq would refuse to connect
    return defaults


def is_local(parameters: Mapping[str, Any]) -> bool:
    """Return whether an address leads to this machine only: a socket, or the loopback interface.

    >>> is_local({"host": "localhost,127.0.0.1"}), is_local({"host": "/run/postgresql"}), is_local({"host": "db"})
    (True, True, False)

    Args:
        parameters: The parameters of the address.
    """
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or "").split(",")
    return all(_is_local_host(host.strip()) for host in hosts)


def tls_warning(url: str, setting: str, env: Mapping[str, str] | None = None) -> str:
    """Return a warning about an address on another machine whose certificate is not named or not checked, else "".

    Args:
        url: The address, as a URL of libpq.
        setting: Where it stands in pipeline.yml.
        env: Used instead of the process environment.
    """
    known = _with_environment(_url_parameters(url), os.environ if env is None else env)
    mode = known.get("sslmode")
    if is_local(known) or (mode and mode not in _WEAK_SSLMODES):
        return ""
    if mode:
        return f"{setting} has sslmode={mode}: nobody checks that the server is {known.get('host')}; use verify-full"
    return (
        f"{setting} has no sslmode: verify-full is used, which needs a certificate of {known.get('host')};"
        " write sslmode=verify-full, or another mode if the network is trusted"
    )


def _with_environment(given: Mapping[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Return parameters with those that libpq takes from a service file and from the environment."""
    known = {name: value for name, value in given.items() if value}
    if service := known.get("service") or env.get("PGSERVICE"):
        known = _service_parameters(str(service), env) | known
    for name in ("host", "hostaddr", "sslmode", "sslrootcert"):
        if value := env.get(f"PG{name.upper()}"):
            known.setdefault(name, value)
    return known


def _service_parameters(service: str, env: Mapping[str, str]) -> dict[str, str]:
    file = Path(env.get("PGSERVICEFILE") or Path(env.get("HOME") or "/nonexistent", ".pg_service.conf"))
    parser = ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(file, encoding="utf-8")
    except (ConfigParserError, OSError, UnicodeDecodeError):  # libpq reports it
        return {}
    return dict(parser[service]) if parser.has_section(service) else {}


def _url_parameters(url: str) -> dict[str, str]:
    parts = urlsplit(url)
    hosts = [host.rpartition(":")[0] if _HAS_PORT.search(host) else host for host in _netloc_hosts(parts.netloc)]
    in_query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return {"host": ",".join(map(unquote, hosts))} | in_query


def _netloc_hosts(netloc: str) -> list[str]:
    return netloc.rpartition("@")[2].split(",")


def _is_local_host(host: str) -> bool:
    if host in ("", "localhost") or host.startswith(("/", "@")):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
