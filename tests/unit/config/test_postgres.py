"""Off this machine, a connection to PostgreSQL checks the server's certificate unless the address says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lakehouse.cli import main
from lakehouse.config.postgres import connection_defaults, message_without_values, tls_warning
from lakehouse.publish import connection

LIBPQ = 180_006
REMOTE = ["postgresql://u:p@db/shop", "postgresql://db.example:5433/shop", "postgresql://10.0.0.7/shop"]
REMOTE += [
    "postgresql://localhost,db/shop",
    "postgresql://[2001:db8::1]:5432/shop",
    "postgresql://localhost/s?hostaddr=10.1.1.1",
]
LOCAL = ["postgresql://localhost/shop", "postgresql://u:p@127.0.0.1:5432/shop", "postgresql://[::1]/shop"]
LOCAL += ["postgresql:///shop", "postgresql://%2Frun%2Fpostgresql/shop", "postgresql:///shop?host=/run/postgresql"]
LOCAL += ["postgresql://127.0.0.2,localhost/shop", "postgresql://db/shop?hostaddr=127.0.0.1"]


@pytest.fixture(autouse=True)
def no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "HOSTADDR", "SSLMODE", "SSLROOTCERT", "SERVICE", "SERVICEFILE"):
        monkeypatch.delenv(f"PG{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def sslmode(url: str) -> str | None:
    given = conninfo_to_dict(url)
    return connection_defaults(given, LIBPQ).get("sslmode") or given.get("sslmode")  # type: ignore[return-value]


@pytest.mark.parametrize("url", REMOTE)
def test_another_machine_has_to_prove_its_name(url: str) -> None:
    assert sslmode(url) == "verify-full"
    assert "verify-full is used" in tls_warning(url, "publish.postgres.url")


@pytest.mark.parametrize("url", LOCAL)
def test_a_socket_and_the_loopback_interface_need_no_certificate(url: str) -> None:
    assert sslmode(url) is None
    assert tls_warning(url, "publish.postgres.url") == ""


@pytest.mark.parametrize("mode", ["disable", "prefer", "require", "verify-ca", "verify-full"])
def test_an_address_that_says_otherwise_is_obeyed(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sslmode(f"postgresql://db/shop?sslmode={mode}") == mode
    assert bool(tls_warning(f"postgresql://db/shop?sslmode={mode}", "x")) == (mode != "verify-full")
    monkeypatch.setenv("PGSSLMODE", mode)
    assert sslmode("postgresql://db/shop") is None


def test_the_host_and_mode_of_the_environment_and_of_a_service_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".pg_service.conf").write_text("[shop]\nhost=db\npassword=%x\n[open]\nhost=db\nsslmode=prefer\n")
    assert sslmode("postgresql:///?service=shop") == "verify-full"
    assert sslmode("postgresql:///?service=open") is None
    monkeypatch.setenv("PGHOST", "db")
    assert sslmode("postgresql:///shop") == "verify-full"


def test_the_certificates_of_the_system_are_used_where_the_user_has_none(tmp_path: Path) -> None:
    given = conninfo_to_dict(REMOTE[0])
    assert connection_defaults(given, LIBPQ)["sslrootcert"] == "system"
    assert "sslrootcert" not in connection_defaults(given, 150_000)
    (tmp_path / ".postgresql").mkdir()
    (tmp_path / ".postgresql" / "root.crt").write_text("")
    assert "sslrootcert" not in connection_defaults(given, LIBPQ)


def test_publishing_connects_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[str]()

    def refuse(conninfo: str, **_: Any) -> None:
        seen.append(conninfo)
        raise psycopg.OperationalError("server does not support SSL, but SSL was required")

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(connection.ConfigError, match="does not support SSL"), connection.connect(REMOTE[0]):
        pass

    assert "sslmode=verify-full" in seen[0]


@pytest.mark.parametrize("as_json", [False, True])
def test_validate_warns_and_stays_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    table = {"file": "items", "format": "parquet", "schema": "id STRING", "keys": ["id"]}
    postgres = {"url": "postgresql://u:hunter22@dw/shop?sslmode=require", "tables": {"bronze.items": "t"}}
    document = {
        "name": "shop",
        "lake": str(tmp_path / "lake"),
        "source": {"type": "jdbc", "url": "jdbc:postgresql://db/shop", "user": "u", "password": "hunter22"},
        "tables": {"items": table},
        "publish": {"postgres": postgres},
    }
    (tmp_path / "pipeline.json").write_text(json.dumps(document))

    assert main(["validate", str(tmp_path), *(["--json"] if as_json else [])]) == 0

    output = capsys.readouterr()
    warnings = " ".join(json.loads(output.out)["warnings"] if as_json else [output.err])
    assert "source.url has no sslmode" in warnings
    assert "publish.postgres.url has sslmode=require" in warnings
    assert "hunter22" not in output.out + output.err


@pytest.mark.parametrize(
    ("message", "sqlstate", "condition", "kept"),
    [
        ('invalid input syntax for type integer: "ana"', "22P02", "InvalidTextRepresentation", False),
        ("ana is not welcome", "P0001", "RaiseException", False),
        ("could not convert ana", "XX000", "InternalError_", False),
        ('relation "items" does not exist', "42P01", "UndefinedTable", True),
        ("terminating connection due to administrator command", "57P01", "AdminShutdown", True),
        ("connection refused", None, "OperationalError", True),
    ],
)
def test_a_message_about_a_value_is_kept_as_its_condition(
    message: str, sqlstate: str | None, condition: str, kept: bool
) -> None:
    expected = message if kept else f"{condition} ({sqlstate})"

    assert message_without_values(message, sqlstate, condition) == expected
