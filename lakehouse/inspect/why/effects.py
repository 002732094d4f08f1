"""Computes the effects of changes on a row, and describes them as `lakehouse why --between` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from typing import Any

from lakehouse.config.row_keys import ROW_COUNT
from lakehouse.inspect.plain_value import plain_value
from lakehouse.inspect.why.source_changes import Row, SourceChange
from lakehouse.storage.paths import utc_text_z

Document = dict[str, Any]
Shares = dict[str, Fraction]


@dataclass(frozen=True)
class Effect:
    """The effect of a change on a row.

    Attributes:
        change: The change; None for that of the newest snapshot's time, which a model may use.
        before: The row without it; None if there is none.
        after: The row with it; None if there is none.
    """

    change: SourceChange | None
    before: Row | None
    after: Row | None


@dataclass(frozen=True)
class EffectColumns:
    """The columns of a row to explain.

    Attributes:
        names: Their names.
        keys: Those that identify the row, in lower case: their numbers are no amounts.
    """

    names: Sequence[str]
    keys: frozenset[str]

    def changed(self, before: Row | None, after: Row | None) -> list[str]:
        """Return the columns whose values differ, NaN being equal to NaN."""
        then, now = before or {}, after or {}
        return [name for name in self.names if repr(then.get(name)) != repr(now.get(name))]

    def shares(self, before: Row | None, after: Row | None) -> Shares:
        """Return the differences of the columns with numbers; a null, or a row that is not there, counts as 0."""
        then, now = before or {}, after or {}
        return {
            name: Fraction(now.get(name) or 0) - Fraction(then.get(name) or 0)
            for name in self.changed(before, after)
            if name.lower() not in self.keys and _is_number(then.get(name)) and _is_number(now.get(name))
        }

    def shown_shares(self, before: Row | None, after: Row | None) -> Document:
        """Return the same differences as JSON has values of the column."""
        then, now = before or {}, after or {}
        with localcontext(Context(prec=100)):
            return {n: plain_value((now.get(n) or 0) - (then.get(n) or 0)) for n in self.shares(before, after)}

    def shown(self, row: Row | None) -> Document | None:
        """Return the values of a row as JSON has them."""
        return None if row is None else {name: plain_value(row.get(name)) for name in self.names}

    def totals(self, effects: Iterable[Effect], part: Callable[[Fraction], Fraction] = Fraction) -> Shares:
        """Return the sum of a part of each effect, by column."""
        found: Shares = {}
        for effect in effects:
            for name, share in self.shares(effect.before, effect.after).items():
                found[name] = found.get(name, Fraction(0)) + part(share)
        return found

    def by_size(self, effects: Iterable[Effect]) -> list[Effect]:
        """Return the effects on these columns, those with the largest share of all effects on a column first."""
        found = [effect for effect in effects if self.changed(effect.before, effect.after)]
        totals = self.totals(found, abs)

        def size(effect: Effect) -> Fraction:
            shares = self.shares(effect.before, effect.after)
            return max((abs(s) / totals[name] for name, s in shares.items() if totals[name]), default=Fraction(0))

        return sorted(found, key=size, reverse=True)

    def describe(self, effect: Effect, keys: Sequence[str]) -> Document:
        """Return an effect as the document has it, without the landed file.

        Args:
            effect: The effect.
            keys: The columns of the key of the changed table.
        """
        then, now = effect.before or {}, effect.after or {}
        changed = {n: [plain_value(then.get(n)), plain_value(now.get(n))] for n in self.changed(then, now)}
        document = _describe_change(effect.change, {key.lower() for key in keys})
        return document | {"effect": changed, "share": self.shown_shares(then, now)}


def _describe_change(change: SourceChange | None, keys: set[str]) -> Document:
    nothing = dict.fromkeys(("snapshot_time", "key", "row", "changed", "file", "line"))
    if change is None:
        return {"table": None, "kind": "newest_snapshot", "rows": 0, **nothing}
    time = utc_text_z(change.time) if change.time else None
    document = {"table": change.table, "kind": change.kind, "rows": len(change.rows), **nothing, "snapshot_time": time}
    if len(change.rows) > 1:
        return document
    before, after = change.rows[0]
    row = after or before or {}
    # Of a table without a key, `_cdc_row` identifies a row, and its count is what changes.
    names = [name for name in row if name.lower() in keys or name == ROW_COUNT or not name.startswith("_cdc_")]
    document["key"] = {name: plain_value(row[name]) for name in names if name.lower() in keys}
    document["row"] = {name: plain_value(row[name]) for name in names}
    if before is not None and after is not None:
        columns = EffectColumns(names, frozenset())
        document["changed"] = {
            name: [plain_value(before.get(name)), plain_value(after.get(name))]
            for name in columns.changed(before, after)
        }
    return document


def _is_number(value: Any) -> bool:
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return True
    return isinstance(value, float | Decimal) and Decimal(value).is_finite()
