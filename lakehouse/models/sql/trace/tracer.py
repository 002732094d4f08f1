"""Finds the rows of a model's inputs that made given rows of it, by the blocks of its plan.

Each relation gets a hidden column with the identity of its rows: of a stored one its key; of a CTE that groups or has
windows its refresh key, and of windows the positions that they reach (`reach.py`); of a plain CTE the identities of the
rows that it joins. Then, from the final SELECT inwards:

    joined rows   the identities of the rows of the FROM clause that have a wanted refresh key, one for each source
    members       of a semi join, whose columns nobody can read: the rows that its condition matches with joined rows
    rows          of a stored source, these identities are the result; of a CTE, they are the refresh keys to find next

So joins, filters and keys are computed by the author's conditions, and no aggregate is, unless a condition reads it.
The SQL is the same for Spark and, where both give the same result, DuckDB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from lakehouse.models.sql.blocks import Block, Source
from lakehouse.models.sql.plan import Plan
from lakehouse.models.sql.trace.block_sql import BlockSql
from lakehouse.models.sql.trace.reach import Reach, find_reach

NUMBER = "_why_n"
"""The column with the number of the wanted row."""
TOTAL, RANK = "_why_total", "_why_rank"
_WANTED = "_why_w"


class Tracer:
    """Traces rows of one model."""

    def __init__(self, plan: Plan, sql: BlockSql, input_keys: Mapping[str, tuple[str, ...]]) -> None:
        """Prepare the trace.

        Args:
            plan: The model's plan, with blocks.
            sql: Runs the SQL.
            input_keys: The columns that identify a row of each input.
        """
        self._plan, self._sql, self._input_keys = plan, sql, input_keys
        self._ctes = {block.name: block for block in plan.blocks if block.name}
        self._created: dict[tuple[str, bool], str] = {}
        self._found: dict[str, list[str]] = {}
        self._reaches: dict[str, Reach | None] = {}

    def trace(self, wanted: str, values: Sequence[Iterable[Any]], limit: int) -> dict[str, str]:
        """Return, for each input that has some, the SQL of the keys of the rows that made the wanted rows.

        The columns are NUMBER, TOTAL (how many rows of the input there are for that number), RANK, and `k0`, `k1` ...
        for the columns of the key; of each number, the first rows by key.

        Args:
            wanted: A relation with the columns NUMBER, `_why_k0`, `_why_k1` ... for the parts of the refresh key, and
                `_why_m0`, `_why_m1` ... for the model's keys.
            values: The values in it of each part: written out, they let a reader skip files and groups of rows.
            limit: The most rows of each input for each number.
        """
        final = self._plan.blocks[-1]
        if final.kind == "partitioned" and self._reach(final):
            self._find_reached(final, self._windowed_rows(final, wanted, values))
        else:
            joined = self._joined_rows(final, wanted, *self._needed_parts(final), values)
            self._find(final, joined, is_one_row=final.kind == "rows")
        return {relation: self._limited(relation, parts, limit) for relation, parts in self._found.items()}

    # --- which rows ---------------------------------------------------------------------------------------------------

    def _needed_parts(self, block: Block) -> tuple[list[int], bool]:
        """Return the parts of the final refresh key to compare, and whether the WHERE clause has to be computed.

        If the key has the unchanged key of the only source, a row of the model is of the source's row with it.
        """
        parts = list(range(len(block.refresh_key)))
        (source, *others), columns = block.sources, [part.column for part in block.refresh_key]
        keys = [(source.alias.lower(), key.lower()) for key in self._input_keys.get(source.relation, ())]
        if block.kind != "rows" or others or not keys or not set(keys) <= set(columns):
            return parts, True
        return [columns.index(key) for key in keys], False

    def _joined_rows(
        self,
        block: Block,
        wanted: str,
        parts: Iterable[int],
        is_filtered: bool = True,
        values: Sequence[Iterable[Any]] = (),
    ) -> str:
        """Return a relation with NUMBER and the identity of each source's row in the joined rows of wanted keys."""
        rows = self._rows(block.sources)
        columns = [f"{_WANTED}.{NUMBER} AS {NUMBER}"]
        columns += [f"{self._identity(s)} AS s{at}" for at, s in _kept(block)]
        listed = dict(enumerate(values)) if values else {}
        on = " AND ".join(
            self._has_key(block, at, rows, listed.get(at) or self._sql.values(wanted, f"_why_k{at}")) for at in parts
        )
        where = self._sql.where_sql(block, rows) if is_filtered else ""
        from_sql = f"{self._sql.from_sql(block, block.sources, rows)} JOIN {wanted} AS {_WANTED} ON {on or 'true'}"
        return self._sql.create(f"SELECT DISTINCT {', '.join(columns)} FROM {from_sql} {where}")

    def _has_key(self, block: Block, at: int, rows: Mapping[str, str], values: Iterable[Any] = ()) -> str:
        """Return the condition that a joined row has a part of the wanted refresh key, whose values may be known."""
        count = len(block.refresh_key)
        if block.totals and at == count - 1:
            return "true"  # GROUPING_ID() says below which of the other parts count
        key = f"({self._sql.key_sql(block, block.refresh_key[at], rows)})"
        same = self._sql.same(key, f"{_WANTED}._why_k{at}")
        if not block.totals:
            return " AND ".join([same, *_listed(key, values)])
        return f"(NOT {self._sql.is_in_set(f'{_WANTED}._why_k{count - 1}', count - 2 - at)} OR {same})"

    def _find(self, block: Block, joined: str, is_one_row: bool = False) -> None:
        """Add the rows of stored relations that the joined rows of a block come from.

        Args:
            block: The block.
            joined: Its joined rows.
            is_one_row: Whether there is one of them for each wanted row, so that of a window only the rows that it
                reaches are needed. Others would be computed from some of their rows, and might join or be counted.
        """
        for at, source in _kept(block):
            rows = f"SELECT DISTINCT {NUMBER}, s{at} AS id FROM {joined} WHERE s{at} IS NOT NULL"
            self._find_source(source, rows, is_one_row)
        for at, source in enumerate(block.sources):
            if source.join_type == "semi":
                self._find_source(source, self._members(block, at, joined))

    def _members(self, block: Block, position: int, joined: str) -> str:
        """Return the SQL of the rows of a semi join's source that its condition matches with joined rows."""
        source, before = block.sources[position], [(at, s) for at, s in _kept(block) if at < position]
        sources = [*(s for _, s in before), Source(source.alias, source.relation, "inner", source.on)]
        rows = self._rows(sources)
        on = " AND ".join(self._sql.same(self._identity(s), f"{_WANTED}.s{at}") for at, s in before)
        return (
            f"SELECT DISTINCT {_WANTED}.{NUMBER} AS {NUMBER}, {self._identity(source)} AS id"
            f" FROM {self._sql.from_sql(block, sources, rows)} JOIN {joined} AS {_WANTED} ON {on}"
        )

    def _find_source(self, source: Source, rows: str, is_one_row: bool = False) -> None:
        block = self._ctes.get(source.relation)
        if block is None:
            self._found.setdefault(source.relation, []).append(rows)
        elif block.kind == "rows":
            columns = "".join(f", id.s{at} AS s{at}" for at, _ in _kept(block))
            joined = self._sql.create(f"SELECT DISTINCT {NUMBER}{columns} FROM ({rows}) AS _why_i")
            self._find(block, joined, is_one_row)
        elif is_one_row and self._reach(block):
            self._find_reached(block, rows)
        else:
            columns = "".join(f", id.k{at} AS _why_k{at}" for at in range(len(block.refresh_key)))
            wanted = self._sql.create(f"SELECT {NUMBER}{columns} FROM ({rows}) AS _why_i")
            self._find(block, self._joined_rows(block, wanted, range(len(block.refresh_key))))

    # --- windows ------------------------------------------------------------------------------------------------------

    def _reach(self, block: Block) -> Reach | None:
        if block.name not in self._reaches:
            self._reaches[block.name] = find_reach(block) if block.kind == "partitioned" else None
        return self._reaches[block.name]

    def _windowed_rows(self, final: Block, wanted: str, values: Sequence[Iterable[Any]]) -> str:
        """Return the SQL of the identities of the wanted rows of a model whose own SELECT has windows."""
        view = self._relation(final.name, with_identity=True)
        same = [
            self._sql.same(f"_why_v.{self._sql.name(key)}", f"{_WANTED}._why_m{at}")
            for at, key in enumerate(self._plan.keys)
        ]
        for part, known in zip(final.refresh_key, values, strict=True):
            same += _listed(f"_why_v.{self._sql.name(part.output)}", known)
        return (
            f"SELECT {_WANTED}.{NUMBER} AS {NUMBER}, _why_v.{_hidden(final.name)} AS id"
            f" FROM {view} AS _why_v JOIN {wanted} AS {_WANTED} ON {' AND '.join(same)}"
        )

    def _find_reached(self, block: Block, rows: str) -> None:
        """Add the rows that rows of a block with windows are computed from: those that its windows reach."""
        keys = range(len(block.refresh_key))
        columns = ", ".join([*(f"id.k{at} AS _why_k{at}" for at in keys), "id.low AS low", "id.high AS high"])
        wanted = self._sql.create(f"SELECT DISTINCT {NUMBER}, {columns} FROM ({rows}) AS _why_i")
        sources = self._rows(block.sources)
        in_partition = " AND ".join(self._has_key(block, at, sources) for at in keys)
        numbered = ", ".join(
            [
                *(f"{self._sql.key_sql(block, part, sources)} AS k{at}" for at, part in enumerate(block.refresh_key)),
                f"{self._position(block, sources)} AS pos",
                *(f"{self._identity(s)} AS s{at}" for at, s in _kept(block)),
            ]
        )
        from_sql = f"{self._sql.from_sql(block, block.sources, sources)} {self._sql.semi_join} {wanted} AS {_WANTED}"
        where = self._sql.where_sql(block, sources)
        partitions = f"SELECT {numbered} FROM {from_sql} ON {in_partition} {where}"
        same = [self._sql.same(f"_why_p.k{at}", f"{_WANTED}._why_k{at}") for at in keys]
        on = " AND ".join([*same, f"_why_p.pos BETWEEN {_WANTED}.low AND {_WANTED}.high"])
        found = "".join(f", _why_p.s{at} AS s{at}" for at, _ in _kept(block))
        reached = f"({partitions}) AS _why_p JOIN {wanted} AS {_WANTED} ON {on}"
        self._find(block, self._sql.create(f"SELECT DISTINCT {_WANTED}.{NUMBER} AS {NUMBER}{found} FROM {reached}"))

    def _position(self, block: Block, rows: Mapping[str, str]) -> str:
        reach = self._reach(block)
        assert reach is not None
        return self._sql.over(block, "row_number()", reach.over, rows)

    def _window_identity(self, block: Block, rows: Mapping[str, str]) -> dict[str, str]:
        """Return the positions that a row of a block is computed from, if its windows do not reach everywhere."""
        reach = self._reach(block)
        if reach is None:
            return {}
        position, tied = self._position(block, rows), self._sql.over(block, "count(*)", reach.over, rows)
        return {
            "low": "1" if reach.low is None else f"{position} + {reach.low}",
            "high": tied if reach.high is None else f"{position} + {reach.high}",
        }

    def _limited(self, relation: str, parts: list[str], limit: int) -> str:
        keys = [f"k{at}" for at in range(len(self._input_keys[relation]))]
        order = ", ".join(f"id.{key} NULLS FIRST" for key in keys)
        found = f"SELECT DISTINCT {NUMBER}, id FROM ({' UNION ALL '.join(parts)}) AS _why_u"
        numbered = (
            f"SELECT {NUMBER}, count(*) OVER (PARTITION BY {NUMBER}) AS {TOTAL},"
            f" row_number() OVER (PARTITION BY {NUMBER} ORDER BY {order}) AS {RANK},"
            f" {', '.join(f'id.{key} AS {key}' for key in keys)} FROM ({found}) AS _why_f"
        )
        return f"SELECT * FROM ({numbered}) AS _why_l WHERE {RANK} <= {int(limit)}"

    # --- relations ----------------------------------------------------------------------------------------------------

    def _rows(self, sources: Iterable[Source]) -> dict[str, str]:
        """Return the relation to read for each source, with its hidden column."""
        return {source.alias: self._relation(source.relation, with_identity=True) for source in sources}

    def _identity(self, source: Source) -> str:
        """Return the SQL of the identity of a source's row."""
        return f"{self._sql.name(source.alias)}.{_hidden(source.relation)}"

    def _relation(self, name: str, with_identity: bool) -> str:
        """Return a relation with the rows of a stored one or a CTE.

        A plain CTE has its hidden column only on request: if a join repeated its rows for it, an aggregate over them
        would be another.
        """
        if (name, with_identity) not in self._created:
            block = self._ctes.get(name) if name else self._plan.blocks[-1]
            if block is None:
                created = self._sql.stored(name, _hidden(name) if with_identity else "")
            elif block.kind == "rows":
                rows = {s.alias: self._relation(s.relation, with_identity) for s in block.sources}
                identities = {f"s{at}": self._identity(s) for at, s in _kept(block)}
                hidden = f"{self._sql.struct(identities)} AS {_hidden(name)}" if with_identity else ""
                created = self._sql.cte(block, rows, hidden)
            else:
                rows = {s.alias: self._relation(s.relation, with_identity=False) for s in block.sources}
                parts = {f"k{at}": self._sql.key_sql(block, part, rows) for at, part in enumerate(block.refresh_key)}
                parts |= self._window_identity(block, rows)
                created = self._sql.cte(block, rows, f"{self._sql.struct(parts)} AS {_hidden(name)}")
            self._created[name, with_identity] = created
        return self._created[name, with_identity]


def _listed(key: str, known: Iterable[Any]) -> Iterator[str]:
    """Yield the condition that a key has one of the wanted values, if they are known and simple."""
    values = {None if value is None else _literal(value) for value in known}
    if not values or "" in values:
        return
    texts = sorted(value for value in values if value is not None)
    parts = [f"{key} IN ({', '.join(texts)})"] if texts else []
    yield f"({' OR '.join([*parts, *([f'{key} IS NULL'] if None in values else [])])})"


def _literal(value: Any) -> str:
    """Return a value as both dialects spell it; empty if they do not spell it in the same way."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str) and value.isprintable() and not set(value) & set("'\\$"):
        return f"'{value}'"
    return ""


def _kept(block: Block) -> Iterator[tuple[int, Source]]:
    """Yield the sources whose columns a joined row has, with their positions."""
    return ((at, s) for at, s in enumerate(block.sources) if s.join_type not in ("semi", "anti"))


def _hidden(relation: str) -> str:
    """Return the name of a relation's hidden column, which a star of the author selects without harm."""
    return f"_why_{relation.replace('.', '_', 1)}".lower()
