"""Defines the slices of a snapshot: the parts of its table that it contains, by the values of `slice_by`.

A slice is a tuple of texts, one for each column of `slice_by`. The ledger records the slices of a snapshot as a JSON
array of objects, sorted: `[{"uf":"RJ"},{"uf":"SP"}]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from json.encoder import encode_basestring
from operator import add

from lakehouse.errors import DataRefused
from lakehouse.text import counted, visible

Slice = tuple[str, ...]

MAX_SLICES = 1_000_000  # of a snapshot: the ledger has all of them in one value, of some 37 MB
_MAX_SHOWN = 5


@dataclass(frozen=True)
class Slices:
    """The slices that a snapshot contains.

    Attributes:
        columns: The columns of `slice_by`.
        values: The slices, as texts in the order of the columns.
    """

    columns: tuple[str, ...]
    values: frozenset[Slice]

    @classmethod
    def of(cls, columns: Iterable[str], values: Iterable[Iterable[object]], where: str) -> Slices:
        """Return the slices of a snapshot.

        Args:
            columns: The columns of `slice_by`.
            values: Their values as texts.
            where: The folder of the snapshot, for the message.

        Raises:
            DataRefused: There are too many to record.
        """
        found = cls(tuple(columns), frozenset(tuple(map(str, value)) for value in values))
        if len(found.values) > MAX_SLICES:
            raise DataRefused(
                f"the snapshot has {len(found.values):,} slices, by {', '.join(found.columns)}",
                expected=f"at most {MAX_SLICES:,}",
                where=where,
                next_step="give `slice_by` columns with fewer values, such as the month instead of the time",
            )
        return found

    @staticmethod
    def describe_json(text: str | None) -> str | None:
        """Return the slices that the ledger records as text for people; None for a whole table."""
        return Slices.from_json(text).describe() if text is not None else None

    @classmethod
    def from_json(cls, text: str) -> Slices:
        """Return the slices that the ledger records.

        >>> Slices.from_json('[{"uf":"SP"}]').values
        frozenset({('SP',)})
        """
        rows = json.loads(text)
        columns = tuple(rows[0]) if rows else ()
        return cls(columns, frozenset(tuple(row[column] for column in columns) for row in rows))

    def to_json(self) -> str:
        """Return the slices as the ledger records them; equal slices give equal texts."""
        names = [f"{json.dumps(column, ensure_ascii=False)}:" for column in self.columns]
        rows = (map(add, names, map(encode_basestring, each)) for each in sorted(self.values))
        return f"[{','.join('{' + ','.join(members) + '}' for members in rows)}]"

    def describe(self) -> str:
        """Return the slices as text for people, cut.

        >>> Slices(("uf",), frozenset({("SP",), ("RJ",)})).describe()
        '2 slices: RJ, SP'
        """
        shown = [visible("/".join(each)) for each in sorted(self.values)[:_MAX_SHOWN]]
        more = f" and {len(self.values) - _MAX_SHOWN:,} more" if len(self.values) > _MAX_SHOWN else ""
        return f"{counted(len(self.values), 'slice')}{': ' if shown else ''}{', '.join(shown)}{more}"
