"""Finds the column that a name means, as Spark does: in the FROM clause, among earlier aliases, in the outer query."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from lakehouse.config.strict_model import did_you_mean
from lakehouse.models.sql import functions
from lakehouse.models.sql.resolve import types
from lakehouse.models.sql.resolve.relation import OutputColumn, Relation

# Names without parentheses that Spark takes for a function if there is no such column.
_LITERAL_FUNCTIONS = functions.words(
    """
    current_date current_timestamp current_time current_user current_catalog current_database current_schema
    localtimestamp session_user user grouping__id
    """
)
_TIME_WINDOWS = ("window", "session_window")  # columns that GROUP BY window(...) makes


@dataclass
class Source:
    """A relation in a FROM clause.

    Attributes:
        alias: Its alias in lower case; empty if it has none.
        relation: Its columns.
        is_visible: Whether the SELECT list can read it; not the right side of a semi or anti join.
    """

    alias: str
    relation: Relation
    is_visible: bool = True


@dataclass(frozen=True)
class Found:
    """The column that a name means.

    Attributes:
        column: The column.
        type: The type of the column, or of its field.
        source: The position of the source in its FROM clause; None for an alias of the SELECT list.
        fields: The fields of a struct that the name selects.
        is_outer: Whether the column belongs to an outer query.
        error: Why the fields cannot be selected; empty if they can, or if that is not known.
    """

    column: OutputColumn
    type: exp.DataType | None
    source: int | None
    fields: tuple[str, ...] = ()
    is_outer: bool = False
    error: str = ""


@dataclass(frozen=True)
class NotFound:
    """A name that means no column, with the reason and the names that it could have been."""

    reason: str
    known: tuple[str, ...]


@dataclass
class Scope:
    """The names that one SELECT can read.

    Attributes:
        sources: The FROM clause.
        merged: Columns that USING or NATURAL joins merge, in lower case.
        aliases: The aliases of the SELECT list so far, which later expressions and GROUP BY can read.
        outputs: All columns of the SELECT list, which ORDER BY and the like read first; empty before it is complete.
        outer: The scope of the query around this one.
        joins: Each join, with the positions of its first source and the one after its last.
        owner: How a message states that no column has a name.
    """

    sources: list[Source] = field(default_factory=list)
    merged: set[str] = field(default_factory=set)
    aliases: list[OutputColumn] = field(default_factory=list)
    outputs: list[OutputColumn] = field(default_factory=list)
    outer: Scope | None = None
    joins: list[tuple[int, int, exp.Join]] = field(default_factory=list)
    owner: str = "no table of the FROM clause has"

    def resolve(
        self, parts: tuple[str, ...], use_aliases: bool = True, outputs_first: bool = False, in_on_clause: bool = False
    ) -> Found | NotFound | None:
        """Return the column that a name means; None if only Spark can decide it.

        Args:
            parts: The parts of the name.
            use_aliases: Whether the clause can read aliases of the SELECT list.
            outputs_first: Whether a column of the SELECT list has precedence over one of the FROM clause.
            in_on_clause: Whether the right side of a semi or anti join can be read.
        """
        aliases = _named(self.aliases, parts[0]) if use_aliases else []
        if outputs_first and (outputs := _named(self.outputs, parts[0])):
            return self._select_fields(outputs[0], None, parts[1:]) if len(outputs) == 1 else None
        matches, is_open = self._matches(parts, in_on_clause)
        if len(matches) > 1 and parts[0].lower() not in self.merged:
            places = [self.sources[at].alias or "a derived table" for at, _, _ in matches]
            return NotFound(f"which is ambiguous: {' and '.join(places)} have a column of that name", ())
        if matches:
            # As in Spark, a column has precedence over an alias of the outer query, also if it is no struct.
            return self._select_fields(matches[0][1], matches[0][0], matches[0][2])
        if is_open:
            return None
        if aliases:
            return self._select_fields(aliases[-1], None, parts[1:]) if len(aliases) == 1 else None
        if self.outer is not None:
            outer = self.outer.resolve(parts)
            if isinstance(outer, Found):
                return replace(outer, is_outer=True)
            if outer is None:
                return None
        if parts[0].lower() in _TIME_WINDOWS or (len(parts) == 1 and parts[0].lower() in _LITERAL_FUNCTIONS):
            return None
        return self._not_found(parts, use_aliases)

    def _matches(
        self, parts: tuple[str, ...], in_on_clause: bool
    ) -> tuple[list[tuple[int, OutputColumn, tuple[str, ...]]], bool]:
        """Return the columns that a name can mean, and whether a relation of unknown columns could have another."""
        readable = [(at, s) for at, s in enumerate(self.sources) if s.is_visible or in_on_clause]
        if len(parts) > 1:
            named = [(at, s) for at, s in readable if s.alias == parts[0].lower()]
            qualified = [(at, column, parts[2:]) for at, s in named for column in s.relation.find(parts[1])]
            if qualified:
                return qualified, any(s.relation.has_unknown_names for _, s in named)
        plain = [(at, column, parts[1:]) for at, s in readable for column in s.relation.find(parts[0])]
        return plain, any(s.relation.has_unknown_names for _, s in readable)

    @staticmethod
    def _select_fields(column: OutputColumn, source: int | None, fields: tuple[str, ...]) -> Found:
        selected, error = types.select_fields(column.type, fields)
        return Found(column, selected, source, fields, error=error)

    def _not_found(self, parts: tuple[str, ...], use_aliases: bool) -> NotFound:
        scopes = list(self._with_outer())
        if len(parts) > 1:
            named = [s for scope in scopes for s in scope.sources if s.alias == parts[0].lower()]
            if named:
                known = tuple(named[0].relation.names)
                return NotFound(f"which {parts[0]} does not have{did_you_mean(parts[1], known)}", known)
            aliases = tuple(dict.fromkeys(s.alias for scope in scopes for s in scope.sources if s.alias))
            reason = f"but FROM has no {parts[0]}{did_you_mean(parts[0], aliases)}"
            return NotFound(reason, aliases)
        columns = [name for scope in scopes for s in scope.sources if s.is_visible for name in s.relation.names]
        columns += [a.name for a in self.aliases if a.name] if use_aliases else []
        known = tuple(dict.fromkeys(columns))
        return NotFound(f"which {self.owner}{did_you_mean(parts[0], known)}", known)

    def _with_outer(self) -> Iterable[Scope]:
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.outer


def _named(columns: Iterable[OutputColumn], name: str) -> list[OutputColumn]:
    return [column for column in columns if column.name and column.name.lower() == name.lower()]
