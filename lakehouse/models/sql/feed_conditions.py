"""Checks the SQL conditions of change feeds (`delete_when`, `truncate_when`) as it is done for expectations."""

from __future__ import annotations

from collections.abc import Iterator

from lakehouse.config import Pipeline
from lakehouse.config.expect import Expectation
from lakehouse.errors import ConfigError
from lakehouse.models.sql.faults import Fault, to_error
from lakehouse.models.sql.resolve import base_relation, check_condition
from lakehouse.models.sql.rules import parse_rules


def require_feed_conditions(pipeline: Pipeline) -> None:
    """Raise if a condition of a feed is not one on the columns of an event, or does not always give the same result.

    Args:
        pipeline: The pipeline.

    Raises:
        ConfigError: With all faults.
    """
    if faults := [fault for name in pipeline.tables for fault in _check_table(pipeline, name)]:
        raise to_error(faults)


def _check_table(pipeline: Pipeline, name: str) -> Iterator[Fault]:
    table = pipeline.tables[name]
    if table.feed is None:
        return
    # Of a protected column, the event has a hash or a mask.
    columns = [(c.name, c.canonical_type) for c in table.received_columns if c.name not in table.pii]
    for setting in ("delete_when", "truncate_when"):
        text = getattr(table.feed, setting)
        if text is None:
            continue
        label, where = f"{name}'s {setting}", pipeline.location("tables", name, "feed", setting)
        (rule,) = parse_rules(name, {setting: Expectation(check=text, on_fail="warn")}, where)
        if rule.parameters:
            found = f"{label} uses :{', :'.join(sorted(rule.parameters))}, and an event never changes its meaning"
            raise ConfigError(found, expected="a condition on the columns of the event alone", where=where)
        yield from check_condition(text, label, where, base_relation(name, columns), "the event does not have")
