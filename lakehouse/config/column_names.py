"""Spells a table's declared columns as its table in the lake does: a name that differs in case only is no new name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lakehouse.config.ddl import parse_columns, quote_identifier
from lakehouse.config.pipeline import Table


def stored_names(names: Iterable[str], stored: Iterable[str]) -> list[str]:
    """Return names as a table in the lake spells them; one that it does not have stays as it is.

    Args:
        names: The names.
        stored: The columns of the table in the lake.
    """
    by_lower_name = {name.lower(): name for name in stored}
    return [by_lower_name.get(name.lower(), name) for name in names]


def with_stored_names(table: Table, stored: Iterable[str]) -> Table:
    """Return a table whose columns have the names of the lake where these differ in case only.

    In the files, or in the database, a column keeps the name that is declared.

    Args:
        table: The table's configuration.
        stored: The columns of the table in the lake.
    """
    declared = [column.name for column in table.columns]
    new = dict(zip(declared, stored_names(declared, stored), strict=True))
    if all(name == other for name, other in new.items()):
        return table

    def spelled(names: Iterable[str]) -> list[str]:
        return [new.get(name, name) for name in names]

    def spelled_paths(paths: Iterable[str]) -> list[str]:
        heads = (path.partition(".") if path not in new else (path, "", "") for path in paths)
        return [f"{new.get(head, head)}{dot}{rest}" for head, dot, rest in heads]

    names_in_files = {new[name]: table.name_in_files(name) for name in declared}
    ddl = ", ".join(f"{quote_identifier(new[column.name])} {column.type}" for column in parse_columns(table.schema_ddl))
    update: dict[str, Any] = {
        "schema_ddl": ddl,
        "names": {name: in_files for name, in_files in names_in_files.items() if name != in_files},
        "null_values": {new.get(name, name): texts for name, texts in table.null_values.items()},
        "key_paths": spelled_paths(table.key_paths),
        "ignore": spelled(table.ignore),
        "updated_at": new.get(table.updated_at, table.updated_at) if table.updated_at else None,
        "slice_by": spelled(table.slice_by) if table.slice_by is not None else None,
        "history_for": spelled(table.history_for) if table.history_for is not None else None,
        "history_except": spelled(table.history_except) if table.history_except is not None else None,
        "pii": {new.get(name, name): action for name, action in table.pii.items()},
    }
    if feed := table.feed:
        ignored = feed.ignore_null_updates
        changes = {"sequence_by": spelled_paths(feed.sequence_by), "drop": spelled(feed.drop)}
        changes |= {"ignore_null_updates": spelled(ignored)} if isinstance(ignored, list) else {}
        update["feed"] = feed.model_copy(update=changes)
    return table.model_copy(update=update)
