"""Checks what PostgreSQL lets the user of a Debezium connector do; the entry point is `check_rights`.

Without SELECT on a table, Debezium retries without an end and its tasks are shown as running. So `connect apply` looks
beforehand, and `connect status` each time, in the catalogs of the database that `publish.postgres` names. Nothing is
read or changed with the connector's own password, which only the worker has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from lakehouse.config import Pipeline
from lakehouse.config.yaml_source import load_environment
from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.publish.connection import Connection

_DEBEZIUM = "io.debezium.connector.postgresql.PostgresConnector"
_VARIABLE = re.compile(r"\$\{env:(\w+)\}")
_NAMES_IT = "set the variable here too, in the environment or .env"

_ROLE = """
SELECT rolcanlogin, rolsuper, has_database_privilege(rolname, current_database(), 'CONNECT'),
    has_database_privilege(rolname, current_database(), 'CREATE'),
    rolreplication OR EXISTS (
        SELECT FROM pg_roles AS rds WHERE rds.rolname = 'rds_replication' AND pg_has_role(r.oid, rds.oid, 'MEMBER')
    ), quote_ident(rolname), quote_ident(current_database()), current_setting('wal_level')
FROM pg_roles AS r WHERE rolname = %s"""
_USER_OF_SLOT = """
SELECT a.usename FROM pg_replication_slots AS s JOIN pg_stat_activity AS a ON a.pid = s.active_pid
WHERE s.slot_name = %s"""
_PUBLICATION = """
SELECT quote_ident(pubname), pg_has_role(%s, pubowner, 'USAGE') FROM pg_publication WHERE pubname = %s"""
# Of each table that people make: its name and its schema, and what the role may do.
_TABLES = """
SELECT n.nspname || '.' || c.relname, format('%%I.%%I', n.nspname, c.relname), quote_ident(n.nspname),
    has_schema_privilege(%(role)s, n.oid, 'USAGE'),
    CASE WHEN %(some_columns)s THEN has_any_column_privilege(%(role)s, c.oid, 'SELECT') ELSE (
        SELECT coalesce(bool_and(has_column_privilege(%(role)s, c.oid, a.attnum, 'SELECT')), true)
        FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    ) END,
    p.tablename IS NOT NULL, pg_has_role(%(role)s, c.relowner, 'USAGE')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_publication_tables AS p
    ON p.pubname = %(publication)s AND p.schemaname = n.nspname AND p.tablename = c.relname
WHERE c.relkind IN ('r', 'p') AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY 1"""


class MissingRight(NamedTuple):
    """A right that a connector needs.

    Attributes:
        found: What is missing.
        statement: The statement that gives it.
    """

    found: str
    statement: str


@dataclass(frozen=True)
class RightsCheck:
    """The result of a check.

    Attributes:
        missing: The rights that the connector's user does not have.
        reason: Why nothing was checked; empty if it was, or if the connector is not Debezium's.
    """

    missing: tuple[MissingRight, ...] = ()
    reason: str = ""

    @property
    def text(self) -> str:
        """What is missing with the statements, or why it is not known; empty if nothing is missing."""
        lines = [f"{right.found}: {right.statement}" for right in self.missing]
        return "\n".join(lines) or (f"not checked: {self.reason}" if self.reason else "")


def check_rights(pipeline: Pipeline, config: Mapping[str, str]) -> RightsCheck:
    """Return the rights that the user of a connector lacks in the database that is published to.

    Args:
        pipeline: The pipeline.
        config: The connector's configuration.
    """
    if config.get("connector.class") != _DEBEZIUM:
        return RightsCheck()
    postgres = pipeline.publish.postgres if pipeline.publish else None
    if postgres is None:
        return RightsCheck(reason="there is no publish.postgres")
    try:
        from lakehouse.publish.connection import connect
    except ImportError:
        return RightsCheck(reason="the extra postgres is not installed")
    try:
        with connect(postgres.url) as connection:
            return _check(connection, config, load_environment())
    except LakehouseError as error:
        return RightsCheck(reason=str(error.kept))


def _check(connection: Connection, config: Mapping[str, str], variables: Mapping[str, str]) -> RightsCheck:
    database, user = (_resolve(config.get(name, ""), variables) for name in ("database.dbname", "database.user"))
    (own,) = _rows(connection, "SELECT current_database()")
    if database and database != own[0]:
        return RightsCheck(reason=f"it reads the database {database}, and publish.postgres names {own[0]}")
    if not user:  # the worker knows it alone; while it is connected, the server does too
        found = _rows(connection, _USER_OF_SLOT, [config.get("slot.name", "debezium")])
        user = found[0][0] if found else ""
    if not user:
        return RightsCheck(reason=f"database.user is {config.get('database.user', 'not given')}; {_NAMES_IT}")
    return RightsCheck(tuple(dict.fromkeys(_missing(connection, config, user))))


def _resolve(text: str, variables: Mapping[str, str]) -> str:
    """Return a setting with the variables that are known here; empty if it needs others."""
    filled = _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)
    return "" if "${" in filled else filled


def _missing(connection: Connection, config: Mapping[str, str], user: str) -> Iterator[MissingRight]:
    roles = _rows(connection, _ROLE, [user])
    if not roles:
        yield MissingRight(f"there is no role {user}", "run deploy/connect/postgres.sql, which creates it")
        return
    can_login, is_superuser, can_connect, can_create, can_replicate, role, database, wal_level = roles[0]
    if wal_level != "logical":
        restart = "ALTER SYSTEM SET wal_level = logical, and restart the server"
        yield MissingRight(f"wal_level is {wal_level}, and logical is needed", restart)
    if not can_login:
        yield MissingRight(f"{role} may not log in", f"ALTER ROLE {role} LOGIN")
    if not can_connect:
        grant = f"GRANT CONNECT ON DATABASE {database} TO {role}"
        yield MissingRight(f"{role} may not connect to {database}", grant)
    if not (can_replicate or is_superuser):
        yield MissingRight(f"{role} lacks REPLICATION", f"ALTER ROLE {role} REPLICATION")
    name = config.get("publication.name", "dbz_publication")
    has_lists = any(f"column.{kind}.list" in config for kind in ("include", "exclude"))
    parameters = {"role": user, "some_columns": has_lists, "publication": name}
    tables = [_Table(*row) for row in _rows(connection, _TABLES, parameters)]
    wanted = [table for table in tables if _is_included(table.name, config)]
    if config.get("plugin.name") == "pgoutput":
        rows = _rows(connection, _PUBLICATION, [user, name])
        if not rows:
            may_create = _may_create_publication(config, wanted, bool(can_create), bool(is_superuser))
            yield from [] if may_create else [_missing_publication(connection, name, wanted)]
        else:
            yield from _missing_in_publication(config, rows[0], role, wanted)
            wanted = [table for table in wanted if table.is_published]
    yield from _missing_of_tables(role, wanted)


def _may_create_publication(
    config: Mapping[str, str], wanted: list[_Table], can_create: bool, is_superuser: bool
) -> bool:
    """Return whether Debezium creates the publication by itself, and may."""
    match config.get("publication.autocreate.mode", "all_tables"):
        case "disabled":
            return False
        case "all_tables":
            return is_superuser
        case _:
            return is_superuser or (can_create and all(table.is_owned for table in wanted))


def _missing_publication(connection: Connection, name: str, wanted: list[_Table]) -> MissingRight:
    ((quoted,),) = _rows(connection, "SELECT quote_ident(%s)", [name])
    tables = ", ".join(table.quoted for table in wanted) or "the published tables"
    return MissingRight(f"there is no publication {name}", f"CREATE PUBLICATION {quoted} FOR TABLE {tables}")


def _missing_in_publication(
    config: Mapping[str, str], publication: tuple[str, bool], role: str, wanted: list[_Table]
) -> Iterator[MissingRight]:
    """Yield the tables that a publication does not have; or its ownership, if Debezium is to add them."""
    name, is_owner = publication
    if config.get("publication.autocreate.mode") == "filtered":
        if not is_owner:
            found = f"{role} does not own the publication {name}, which `filtered` alters"
            yield MissingRight(found, f"ALTER PUBLICATION {name} OWNER TO {role}")
    elif "table.include.list" in config:
        for table in (table for table in wanted if not table.is_published):
            add = f"ALTER PUBLICATION {name} ADD TABLE {table.quoted}"
            yield MissingRight(f"the publication {name} does not have {table.name}", add)


def _missing_of_tables(role: str, tables: list[_Table]) -> Iterator[MissingRight]:
    for table in tables:
        if not table.has_usage:
            grant = f"GRANT USAGE ON SCHEMA {table.schema} TO {role}"
            yield MissingRight(f"{role} lacks USAGE on the schema {table.schema}", grant)
        if not table.has_select:
            yield MissingRight(f"{role} lacks SELECT on {table.name}", f"GRANT SELECT ON {table.quoted} TO {role}")


class _Table(NamedTuple):
    """A table, and what the connector's user may do with it; `quoted` and `schema` are as SQL has them."""

    name: str
    quoted: str
    schema: str
    has_usage: bool
    has_select: bool
    is_published: bool
    is_owned: bool


def _is_included(table: str, config: Mapping[str, str]) -> bool:
    """Return whether the connector reads a table, by its lists of regular expressions."""
    included, excluded = (config.get(f"table.{kind}.list", "") for kind in ("include", "exclude"))
    if included:
        return _matches_any(table, included)
    return not (excluded and _matches_any(table, excluded))


def _matches_any(table: str, patterns: str) -> bool:
    try:
        return any(re.fullmatch(pattern.strip(), table, re.IGNORECASE) for pattern in patterns.split(","))
    except re.error:  # a pattern that Java alone knows
        return False


def _rows(connection: Connection, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    return connection.execute(query.encode(), parameters).fetchall()
