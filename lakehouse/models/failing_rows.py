"""Finds the rows that make a model's query fail, so that its error can name them. Entry point: `find_failing_rows`.

The query runs again over parts of one input at a time, without a result, until single rows are left that fail by
themselves (`halving.py`). If no single row fails, a group or a join of several rows does: then parts of the model's own
keys are tried. No part is tried after `_MAX_SECONDS`: a large input is costly to read, and the error is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic as time_now

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from lakehouse.config.ddl import quote_identifier
from lakehouse.error_mapping import to_lakehouse_error
from lakehouse.errors import InfrastructureError
from lakehouse.models.halving import Halving
from lakehouse.models.model import RefreshContext, run_model_query
from lakehouse.models.readable import require_readable
from lakehouse.spark.collect import select_collectable
from lakehouse.spark.session import SPARK_ERRORS
from lakehouse.text import key_text

_MAX_SECONDS = 20.0
_MAX_ROWS = 1_000_000  # whose keys the driver collects as hashes
_MAX_CHANGED_ROWS = 10_000
_FEW_ROWS = 10


@dataclass(frozen=True)
class FailingRows:
    """The rows that a search found.

    Attributes:
        relation: The input, or the model itself, that has the rows; empty if none were found.
        keys: The keys of some of the rows, such as `id=1, day=2025-01-01`.
        is_value: Whether the query fails for some rows only: then their values are the cause, not the SQL.
        is_query: Whether the author's query fails, and not only the use of its result.
    """

    relation: str = ""
    keys: tuple[str, ...] = ()
    is_value: bool = False
    is_query: bool = False


def find_failing_rows(context: RefreshContext, is_value: bool = False) -> FailingRows:
    """Return some of the rows that make a model's query fail.

    Args:
        context: The refresh whose query failed.
        is_value: Whether a value is known to be the cause, so that only keys are searched.
    """
    return _Search(context, is_value).run()


def fails_without_rows(context: RefreshContext) -> bool:
    """Return whether a model's query fails even if none of its inputs has a row.

    Args:
        context: The refresh whose query failed.
    """
    return _Search(context, is_value=True).fails_without_rows()


class _Search:
    def __init__(self, context: RefreshContext, is_value: bool) -> None:
        self._context, self._model, self._is_value = context, context.model, is_value
        self._rows = {relation: context.read_current(relation) for relation in context.model.plan.inputs}
        self._end = time_now() + _MAX_SECONDS

    def run(self) -> FailingRows:
        try:
            if not self._fails(self._rows):
                return FailingRows()  # the write failed, or the rows have changed
            return replace(self._find(), is_query=True)
        except SPARK_ERRORS:  # such as a key that cannot be computed by itself, or storage that is away
            return FailingRows()

    def fails_without_rows(self) -> bool:
        return self._fails({relation: rows.where(F.lit(False)) for relation, rows in self._rows.items()})

    def _find(self) -> FailingRows:
        is_value = self._is_value
        for relation, rows in self._rows.items():
            if not self._has_time() or self._fails({**self._rows, relation: rows.where(F.lit(False))}):
                continue  # the query fails without any row of this input
            found = self._search_input(relation)
            if found.keys:
                return replace(found, is_value=is_value or found.is_value or self._passes_for_few())
            is_value = True  # it does not fail without these rows
        found = self._search(self._model.name, self._query(self._rows), self._model.plan.keys, self._fails_rows)
        if found.is_value:
            return found
        return FailingRows(is_value=is_value or self._passes_for_few())  # each key fails: none is special

    def _passes_for_few(self) -> bool:
        """Return whether the query passes for one of a few rows of an input, which are read without the others.

        The clock limits the search for keys, not this decision about the cause.
        """
        if self._has_time():
            return False  # each row was tried, or enough of them
        for relation, rows in self._rows.items():
            few = rows.limit(_FEW_ROWS).toArrow()
            for at in range(few.num_rows):
                one = self._context.spark.createDataFrame(few.slice(at, 1), rows.schema)
                if not self._fails({**self._rows, relation: one}):
                    return True
        return False

    def _search_input(self, relation: str) -> FailingRows:
        def fails(rows: DataFrame) -> bool:
            return self._fails({**self._rows, relation: rows})

        keys = self._model.input_keys[relation]
        return self._search(relation, self._rows[relation], keys, fails, self._changed_rows(relation))

    def _search(
        self,
        relation: str,
        rows: DataFrame,
        keys: Sequence[str],
        fails: Callable[[DataFrame], bool],
        changed: DataFrame | None = None,
    ) -> FailingRows:
        """Search rows by ranges of the hashes of their keys: first the changed ones, then all."""
        key_hash = F.xxhash64(*[F.col(quote_identifier(key)) for key in keys])
        for candidates, limit in ((changed, _MAX_CHANGED_ROWS), (rows, _MAX_ROWS)):
            hashes = _collect_hashes(candidates, key_hash, limit) if candidates is not None else []
            if not hashes or not self._has_time() or not fails(_between(rows, key_hash, hashes[0], hashes[-1])):
                continue
            halving = Halving(
                lambda start, end, known=hashes: fails(_between(rows, key_hash, known[start], known[end - 1])),  # type: ignore[misc]
                self._has_time,
            )
            halving.search(0, len(hashes))
            if halving.found:
                found = rows.where(key_hash.isin([hashes[at] for at in halving.found]))
                is_value = halving.has_passing or (candidates is changed and self._was_computed_before)
                return FailingRows(relation, _key_texts(found, keys), is_value)
        return FailingRows()

    @property
    def _was_computed_before(self) -> bool:
        """Whether the same SQL could be computed from the rows before they changed."""
        return bool(self._context.previous_state.get("sql") == self._model.plan.sql_hash)

    def _changed_rows(self, relation: str) -> DataFrame | None:
        """Return the images of the rows that changed since the last refresh, if they are known."""
        if self._context.recorded_state is None or relation not in self._context.previous_state.get("inputs", {}):
            return None
        try:
            return self._context.read_changes(relation).rows
        except SPARK_ERRORS:
            return None

    def _query(self, relations: Mapping[str, DataFrame]) -> DataFrame:
        return require_readable(self._model, run_model_query(self._context.spark, self._model, relations))

    def _fails(self, relations: Mapping[str, DataFrame]) -> bool:
        return self._fails_rows(self._query(relations))

    @staticmethod
    def _fails_rows(rows: DataFrame) -> bool:
        try:
            rows.write.format("noop").mode("overwrite").save()
        except SPARK_ERRORS as error:
            if isinstance(to_lakehouse_error(error), InfrastructureError):
                raise  # it says nothing about the rows: the search ends
            return True
        return False

    def _has_time(self) -> bool:
        return time_now() < self._end


def _collect_hashes(rows: DataFrame, key_hash: Column, limit: int) -> list[int]:
    """Return the sorted hashes of the keys of rows; none if there are more than `limit`, or they cannot be read."""
    try:
        hashes = rows.select(key_hash.alias("hash")).distinct().limit(limit + 1).toArrow().column("hash").to_pylist()
    except SPARK_ERRORS:
        return []
    return sorted(hashes) if len(hashes) <= limit else []


def _between(rows: DataFrame, key_hash: Column, low: int, high: int) -> DataFrame:
    return rows.where(key_hash.between(low, high))


def _key_texts(rows: DataFrame, keys: Sequence[str]) -> tuple[str, ...]:
    collected = select_collectable(rows, keys).distinct().limit(Halving.limit).collect()
    return tuple(sorted(key_text(keys, row) for row in collected))
