"""Derives the types of expressions, as far as they are certain, and selects fields of structs.

sqlglot's own type annotator is not used: it gives a type to every expression, by the rules of several databases, and a
wrong type would refuse a valid model. A type that is not certain is None, and Spark decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from sqlglot import exp

from lakehouse.models.sql import functions

DType: TypeAlias = exp.DType
TypeOf = Callable[[exp.Expr], exp.DataType | None]
"""Returns the type of a column in the query."""

TIMESTAMPS = (DType.TIMESTAMP, DType.TIMESTAMPTZ, DType.TIMESTAMPLTZ)
_DATES = (DType.DATE, *TIMESTAMPS, DType.TIMESTAMPNTZ)
_WITHOUT_FIELDS = (
    *(DType.TEXT, DType.BOOLEAN, DType.TINYINT, DType.SMALLINT, DType.INT, DType.BIGINT, DType.FLOAT, DType.DOUBLE),
    *(DType.DECIMAL, DType.BINARY, *_DATES),
)
INCOMPARABLE = {
    DType.MAP: ("MAP", "an ARRAY<STRUCT<key, value>>, such as map_entries(x), sorted by array_sort"),
    DType.VARIANT: ("VARIANT", "its text, such as to_json(x), or single fields by variant_get(x, '$.a', 'STRING')"),
    DType.INTERVAL: ("INTERVAL", "a number, such as datediff(a, b) or timestampdiff(SECOND, a, b)"),
    DType.TIME: ("TIME", "its text, such as CAST(x AS STRING)"),
    DType.NULL: ("without a type (NULL)", "a type, such as CAST(NULL AS STRING)"),
}
"""Types that a result must not have, with their names and what to write instead."""

_SAME_AS_ARGUMENT = (
    *(exp.Paren, exp.Alias, exp.Max, exp.Min, exp.Neg, exp.Lag, exp.Lead, exp.First, exp.Last, exp.FirstValue),
    *(exp.LastValue, exp.NthValue, exp.AnyValue, exp.IgnoreNulls, exp.RespectNulls, exp.Window, exp.Filter),
    exp.Collate,
)
_TEXT = (exp.Upper, exp.Lower, exp.Trim, exp.Initcap, exp.Substring, exp.RegexpReplace, exp.RegexpExtract)
_BOOLEAN = (exp.Predicate, exp.Not, exp.And, exp.Or, exp.Boolean)
_DATE = (exp.TsOrDsToDate, exp.DateTrunc, exp.TsOrDsAdd, exp.AddMonths, exp.LastDay, exp.NextDay, exp.Date)
_TIMESTAMP = (exp.TimestampTrunc, exp.AtTimeZone, exp.FromTimeZone, exp.StrToTime, exp.TimeStrToTime)
_MAPS = (exp.Map, exp.VarMap, exp.MapFromEntries, exp.StrToMap)
_MAP_NAMES = functions.words("map_concat map_filter transform_values transform_keys map_zip_with str_to_map")
_VARIANT_NAMES = functions.words("parse_json try_parse_json to_variant_object")
_INTERVAL_NAMES = functions.words("make_interval try_make_interval make_dt_interval make_ym_interval")
_TIME_NAMES = functions.words("to_time try_to_time make_time")
_TIMESTAMP_NAMES = functions.words(
    """
    to_timestamp try_to_timestamp from_utc_timestamp to_utc_timestamp to_timestamp_ltz timestamp_seconds
    timestamp_millis timestamp_micros date_trunc
    """
)


def select_fields(data_type: exp.DataType | None, fields: tuple[str, ...]) -> tuple[exp.DataType | None, str]:
    """Return the type of a field of a value, and the reason if there is no such field.

    Args:
        data_type: The type of the value; None if it is not known.
        fields: The names of the fields, from the outermost in.

    Returns:
        The type, None if it is not known; and the reason, empty if the field exists or if that is not known.
    """
    for name in fields:
        data_type, reason = _select_field(data_type, name)
        if reason or data_type is None:
            return None, reason
    return data_type, ""


def _select_field(data_type: exp.DataType | None, name: str) -> tuple[exp.DataType | None, str]:
    if data_type is None:
        return None, ""
    if data_type.this == DType.STRUCT:
        members = [m for m in data_type.expressions if isinstance(m, exp.ColumnDef)]
        if len(members) != len(data_type.expressions):
            return None, ""
        for member in members:
            if member.name.lower() == name.lower():
                return member.args.get("kind"), ""
        return None, f"the struct has no field {name}: it has {', '.join(m.name for m in members)}"
    if data_type.this == DType.ARRAY and data_type.expressions:
        element, reason = _select_field(data_type.expressions[0], name)
        return (_array_of(element) if element is not None else None), reason
    if data_type.this == DType.MAP and len(data_type.expressions) == 2:
        return data_type.expressions[1], ""
    if data_type.this in _WITHOUT_FIELDS:
        return None, f"it is {data_type.sql('spark')}, which has no field {name}"
    return None, ""


def incomparable_part(data_type: exp.DataType | None) -> exp.DataType | None:
    """Return the part of a type that cannot be compared or stored; None if there is none.

    Args:
        data_type: A type; None if it is not known.
    """
    if data_type is None:
        return None
    if data_type.this in INCOMPARABLE or isinstance(data_type, exp.Interval):
        return data_type
    for inner in data_type.expressions:
        kind = inner.args.get("kind") if isinstance(inner, exp.ColumnDef) else inner
        if isinstance(kind, exp.DataType) and (part := incomparable_part(kind)) is not None:
            return part
    return None


def field_names(data_type: exp.DataType | None) -> Iterator[str]:
    """Yield the names of all fields of structs in a type.

    Args:
        data_type: A type; None if it is not known.
    """
    for member in data_type.find_all(exp.ColumnDef) if data_type is not None else ():
        yield str(member.name)


def expression_type(node: exp.Expr, type_of: TypeOf) -> exp.DataType | None:
    """Return the type of an expression; None if it is not certain.

    Args:
        node: The expression.
        type_of: Returns the type of each column and subquery in it.
    """

    def inner(child: exp.Expr | None) -> exp.DataType | None:
        return expression_type(child, type_of) if isinstance(child, exp.Expr) else None

    if isinstance(node, exp.Column | exp.Query):
        return type_of(node)
    if isinstance(node, exp.Cast):
        return _cast_type(node.to)
    if isinstance(node, exp.Window) and isinstance(node.this, exp.Identifier):
        return None
    if isinstance(node, exp.Distinct):
        return inner(node.expressions[0]) if len(node.expressions) == 1 else None
    if isinstance(node, _SAME_AS_ARGUMENT):
        return inner(node.this)
    if isinstance(node, exp.Dot):
        return select_fields(inner(node.this), (node.expression.name,))[0]
    if isinstance(node, exp.Bracket):
        return _element_type(node, inner(node.this))
    if isinstance(node, exp.Coalesce | exp.If | exp.Case | exp.Nullif):
        return _common_type(_branches(node), inner)
    if isinstance(node, exp.Struct):
        return _struct_type(node, inner)
    if isinstance(node, exp.Array):
        element = _common_type(list(node.expressions), inner)
        return _array_of(element) if element is not None else None
    if isinstance(node, exp.ArrayAgg | exp.ArrayUniqueAgg):
        element = inner(node.this)
        return _array_of(element) if element is not None else None
    if isinstance(node, exp.Add | exp.Sub):
        return _sum_type(node, inner(node.this), inner(node.expression))
    if isinstance(node, exp.Interval):
        return exp.DataType(this=DType.INTERVAL)
    return _type_by_kind(node)


def _type_by_kind(node: exp.Expr) -> exp.DataType | None:
    name = node.name.lower() if isinstance(node, exp.Anonymous) else node.key
    kinds: list[tuple[bool, DType]] = [
        (isinstance(node, exp.Null), DType.NULL),
        (isinstance(node, exp.Literal) and node.is_string, DType.TEXT),
        (isinstance(node, exp.Literal) and node.is_int, DType.INT),
        (isinstance(node, _MAPS) or name in _MAP_NAMES, DType.MAP),
        (isinstance(node, exp.ParseJSON) or name in _VARIANT_NAMES, DType.VARIANT),
        (isinstance(node, exp.MakeInterval) or name in _INTERVAL_NAMES, DType.INTERVAL),
        (name in _TIME_NAMES, DType.TIME),
        (isinstance(node, exp.Count | exp.CountIf | exp.ApproxDistinct), DType.BIGINT),
        (isinstance(node, _BOOLEAN), DType.BOOLEAN),
        (isinstance(node, _TEXT), DType.TEXT),
        (isinstance(node, _DATE), DType.DATE),
        (isinstance(node, _TIMESTAMP) or name in _TIMESTAMP_NAMES, DType.TIMESTAMPTZ),
    ]
    return next((exp.DataType(this=kind) for is_kind, kind in kinds if is_kind), None)


def _cast_type(to: exp.DataType) -> exp.DataType | None:
    if isinstance(to, exp.Interval) or isinstance(to.this, exp.Interval):
        return exp.DataType(this=DType.INTERVAL)
    return to if to.this not in (DType.USERDEFINED, DType.UNKNOWN) else None


def _array_of(element: exp.DataType) -> exp.DataType:
    return exp.DataType(this=DType.ARRAY, expressions=[element.copy()], nested=True)


def _element_type(node: exp.Bracket, container: exp.DataType | None) -> exp.DataType | None:
    if container is None or len(node.expressions) != 1:
        return None
    inner: list[exp.DataType] = container.expressions
    if container.this == DType.ARRAY and inner:
        return inner[0]
    if container.this == DType.MAP and len(inner) == 2:
        return inner[1]
    key = node.expressions[0]
    if container.this == DType.STRUCT and isinstance(key, exp.Literal) and key.is_string:
        return _select_field(container, key.name)[0]
    return None


def _branches(node: exp.Expr) -> list[exp.Expr]:
    if isinstance(node, exp.Coalesce):
        return [node.this, *node.expressions]
    if isinstance(node, exp.Nullif):
        return [node.this]
    if isinstance(node, exp.If):
        return [e for e in (node.args.get("true"), node.args.get("false")) if e is not None]
    return [*(branch.args["true"] for branch in node.args["ifs"]), *filter(None, [node.args.get("default")])]


def _common_type(parts: list[exp.Expr], inner: TypeOf) -> exp.DataType | None:
    return common_type([inner(part) for part in parts])


def common_type(found: list[exp.DataType | None]) -> exp.DataType | None:
    """Return the type that all values have, without those that are NULL; None if it is not certain.

    Args:
        found: The type of each value.
    """
    typed = [kind for kind in found if kind is None or kind.this != DType.NULL]
    if not typed:
        return found[0] if found else None
    first = typed[0]
    return first if first is not None and all(kind == first for kind in typed) else None


def _struct_type(node: exp.Struct, inner: TypeOf) -> exp.DataType | None:
    members = []
    for item in node.expressions:
        if not isinstance(item, exp.PropertyEQ) or not isinstance(item.this, exp.Identifier):
            return None
        members.append(exp.ColumnDef(this=item.this.copy(), kind=inner(item.expression)))
    return exp.DataType(this=DType.STRUCT, expressions=members, nested=True) if members else None


def _sum_type(node: exp.Add | exp.Sub, left: exp.DataType | None, right: exp.DataType | None) -> exp.DataType | None:
    """Return the type of a sum or difference of times; None for numbers."""
    if left is None or right is None:
        return None
    if left.this in _DATES and right.this in _DATES:
        return exp.DataType(this=DType.INTERVAL) if isinstance(node, exp.Sub) else None
    if left.this in TIMESTAMPS and right.this == DType.INTERVAL:
        return left
    if left.this == right.this == DType.INTERVAL:
        return left
    return None


def walk_collations(node: exp.Expr, collation_of: Callable[[exp.Column], str]) -> Iterator[str]:
    """Yield the collations, other than UTF8_BINARY, of the text that an expression returns.

    Args:
        node: The expression.
        collation_of: Returns the collation of a column in the query.
    """
    bare = node.unalias()
    if isinstance(bare, exp.Collate):
        yield from _named_collation(bare.expression.name)
    elif isinstance(bare, exp.Anonymous) and bare.name.lower() == "collate" and len(bare.expressions) == 2:
        yield from _named_collation(bare.expressions[1].name)
    elif isinstance(bare, exp.Cast):
        collation = bare.to.args.get("collate")
        yield from _named_collation(collation.name) if isinstance(collation, exp.Expr) else ()
    elif isinstance(bare, exp.Column):
        yield from filter(None, [collation_of(bare)])
    elif isinstance(bare, exp.Paren | exp.Max | exp.Min | exp.Upper | exp.Lower | exp.Trim | exp.Window):
        if isinstance(bare.this, exp.Expr):
            yield from walk_collations(bare.this, collation_of)
    elif isinstance(bare, exp.Coalesce | exp.If | exp.Case):
        for branch in _branches(bare):
            yield from walk_collations(branch, collation_of)


def _named_collation(name: str) -> Iterator[str]:
    short = name.rpartition(".")[2].upper()
    if short and short != "UTF8_BINARY":
        yield short
