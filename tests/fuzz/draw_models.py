"""Draws models: SQL of the allowed grammar over columns of any type, with odd literals.

Expressions are made by type from templates; now and then one of Spark's functions is called with whatever is there,
which `validate` or the first run refuses in words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fuzz.case import Model, Table
from lakehouse.models.sql.calls import spark_functions
from lakehouse.models.sql.functions import SCALAR

Typed = tuple[str, str]  # the SQL of a column, and the class of its type

LITERALS = {
    "i": ("0", "1", "-1", "7", "2147483647", "-2147483648", "127", "CAST(NULL AS INT)"),
    "l": ("0L", "9223372036854775807L", "-1L", "4294967296"),
    "n": ("0.00", "1.5", "-999.99", "99999999999999999999.999999999999999999", "CAST(1 AS DECIMAL(38,18))", "1.105BD"),
    "f": ("0.0D", "-0.0D", "1e308", "CAST('NaN' AS DOUBLE)", "CAST('inf' AS DOUBLE)", "1.5F", "1e-400"),
    "s": ("''", "'a'", "'a''b'", "'\\n'", "'ção'", "'%'", "'['", "'yyyy-MM-dd'", "' 1 '", "'1.5'", "'UTC'", "'America/Sao_Paulo'", "NULL", "'\\0'", "'\\ud83d\\ude00'", "'2018-11-04 00:30:00'", "'abc' COLLATE UTF8_LCASE"),
    "d": ("DATE '0001-01-01'", "DATE '9999-12-31'", "DATE '2024-02-29'", "DATE '1582-10-10'"),
    "t": ("TIMESTAMP '2018-11-04 00:30:00'", "TIMESTAMP '9999-12-31 23:59:59.999999'", "TIMESTAMP '0001-01-01 00:00:00'", "TIMESTAMP '2024-01-01 10:00:00Z'"),
    "z": ("TIMESTAMP_NTZ '2018-11-04 00:30:00'", "TIMESTAMP_NTZ '9999-12-31 23:59:59.999999'"),
    "b": ("true", "false", "NULL"),
    "x": ("X'00FF'", "X''", "CAST('a' AS BINARY)"),
    "A": ("array('a', NULL)", "array('')", "split('a,b', ',')"),
    "L": ("array(1, 2, NULL)", "sequence(1, 3)"),
    "S": ("named_struct('x', 1, 'y', 'a')",),
    "M": ("map('a', 1)", "map('a', 1, 'b', NULL)"),
    "I": ("INTERVAL '1' DAY", "INTERVAL '1' MONTH", "INTERVAL '-1' HOUR", "INTERVAL 1000000 DAYS"),
}  # fmt: skip
TYPES = {
    "i": ("INT", "TINYINT", "SMALLINT"), "l": ("BIGINT",), "n": ("DECIMAL(10,2)", "DECIMAL(38,18)", "DECIMAL(38,0)", "DECIMAL(3,3)"), "f": ("DOUBLE", "FLOAT"),
    "s": ("STRING",), "d": ("DATE",), "t": ("TIMESTAMP",), "z": ("TIMESTAMP_NTZ",), "b": ("BOOLEAN",), "x": ("BINARY",),
}  # fmt: skip
# Classes whose values can be cast to a class.
CASTS = {
    **dict.fromkeys("ilnf", "ilnfsb"), "s": "ilnfsdtzbx", "d": "sdtz", "t": "sdtz", "z": "sdtz", "b": "ilnfsb", "x": "sx",
}  # fmt: skip
# {i}: an expression of that class; {?}: of any class.
TEMPLATES = {
    "i": ("{i} + {i}", "{i} - {i}", "{i} % {i}", "{i} * {i}", "-{i}", "abs({i})", "length({s})", "year({d})", "month({t})", "day({z})", "dayofweek({d})", "hour({t})", "datediff({d}, {d})", "instr({s}, {s})", "ascii({s})", "size({A})", "cardinality({L})", "array_position({A}, {s})", "{L}[{i}]", "element_at({L}, {i} % 99)", "{S}.x", "try_element_at({L}, {i} % 99)", "CAST({s} AS INT)", "try_cast({s} AS INT)", "CAST({n} AS INT)", "CAST({f} AS INT)", "CAST({l} AS SMALLINT)", "int({b})", "levenshtein({s}, {s})", "{i} & {i}", "{i} | {i}", "{i} ^ {i}", "~{i}", "shiftleft({i}, {i})", "bit_count({i})", "octet_length({x})", "weekofyear({d})", "extract(DOY FROM {d})", "date_part('week', {d})", "regexp_count({s}, {s})", "locate({s}, {s}, {i})", "find_in_set({s}, {s})", "hash({?}, {?})", "crc32({x})", "position('a' IN {s})", "{M}['a']", "element_at({M}, {s})", "factorial({i})", "width_bucket({f}, {f}, {f}, {i})", "array_max({L})", "aggregate({L}, 0, (a, v) -> a + v)", "regexp_instr({s}, {s})", "sign({i})", "greatest({i}, {i})", "timestampdiff(DAY, {t}, {t})", "date_diff({d}, {d})", "months_between({d}, {d})", "unix_date({d})", "getbit({i}, {i})", "json_array_length({s})", "minute({t})", "second({t})", "quarter({d})", "weekday({d})"),
    "l": ("{l} + {i}", "{l} * {l}", "{i} div {i}", "CAST({s} AS BIGINT)", "CAST({n} AS BIGINT)", "CAST({t} AS BIGINT)", "xxhash64({?})", "unix_micros({t})", "unix_seconds({t})", "to_unix_timestamp({s})", "unix_millis({t})", "CAST({f} AS BIGINT)", "ceil({n})", "floor({f})", "round({l}, {i})", "pmod({l}, {i})", "conv({s}, 16, 10)", "shiftright({l}, {i})", "try_cast({s} AS BIGINT)", "bigint({d} - {d})", "try_add({l}, {l})"),
    "n": ("{n} + {n}", "{n} * {n}", "{n} / {n}", "{n} % {n}", "-{n}", "CAST({s} AS DECIMAL(10,2))", "CAST({f} AS DECIMAL(38,18))", "CAST({i} AS DECIMAL(5,0))", "round({n}, {i})", "round({n}, 1)", "ceil({n}, 1)", "try_cast({s} AS DECIMAL(20,4))", "to_number({s}, '999.99')", "try_to_number({s}, '999,999.99')", "abs({n})", "try_divide({n}, {n})", "bround({n}, 1)", "CAST({n} AS DECIMAL(38,38))", "{n} div {n}", "coalesce({n}, {i})", "greatest({n}, {n})", "positive({n})", "CAST({l} * {n} AS DECIMAL(38,6))", "negative({n})"),
    "f": ("{f} + {f}", "{f} * {f}", "{f} / {f}", "{i} / {i}", "sqrt({f})", "log({f})", "exp({f})", "power({f}, {f})", "CAST({s} AS DOUBLE)", "CAST({n} AS DOUBLE)", "CAST({f} AS FLOAT)", "round({f}, 2)", "nanvl({f}, {f})", "atan2({f}, {f})", "cbrt({f})", "try_divide({f}, {f})", "CAST({t} AS DOUBLE)", "sin({f})", "degrees({f})", "pmod({f}, {f})", "hypot({f}, {f})", "log({f}, {f})", "rint({f})", "expm1({f})", "months_between({t}, {t})", "e()", "double({s})"),
    "s": ("concat({s}, {s})", "{s} || {s}", "upper({s})", "lower({s})", "trim({s})", "substr({s}, {i}, {i})", "substring({s}, 2)", "left({s}, {i})", "right({s}, {i})", "lpad({s}, 5, {s})", "rpad({s}, {i}, 'x')", "repeat({s}, 2)", "repeat({s}, {i})", "replace({s}, {s}, {s})", "reverse({s})", "regexp_replace({s}, {s}, {s})", "regexp_extract({s}, '(a)(b)?', {i})", "regexp_extract({s}, {s})", "split_part({s}, ',', {i})", "split({s}, {s})[0]", "concat_ws({s}, {A})", "array_join({A}, ',')", "CAST({?} AS STRING)", "string({x})", "date_format({d}, 'yyyy-MM')", "date_format({t}, {s})", "from_unixtime({l})", "hex({x})", "base64({x})", "md5({x})", "sha2({s}, 256)", "sha2({s}, {i})", "CAST({x} AS STRING)", "decode({x}, 'UTF-8')", "decode({x}, 'UTF-16')", "coalesce({s}, {s})", "nullif({s}, {s})", "initcap({s})", "translate({s}, {s}, 'xy')", "format_number({n}, 2)", "format_number({f}, {i})", "format_string('%s-%d', {s}, {i})", "format_string({s}, {i})", "to_json({S})", "to_json({M})", "to_json({A})", "get_json_object({s}, '$.a')", "get_json_object({s}, {s})", "{A}[0]", "element_at({A}, {i} % 99)", "{S}.y", "CASE WHEN {b} THEN {s} ELSE {s} END", "if({b}, {s}, {s})", "mask({s})", "soundex({s})", "overlay({s} PLACING {s} FROM {i})", "char({i})", "chr({l})", "space({i})", "elt({i}, {s}, {s})", "typeof({?})", "url_encode({s})", "url_decode({s})", "parse_url({s}, 'HOST')", "dayname({d})", "monthname({d})", "to_char({n}, '999.99')", "to_char({n}, {s})", "bin({l})", "substring_index({s}, ',', {i})", "to_csv({S})", "unbase64({s})", "nvl2({s}, {s}, {s})", "array_max({A})", "regexp_substr({s}, {s})", "btrim({s}, {s})", "{s} COLLATE UTF8_LCASE", "sha1({s})", "conv({s}, 36, {i})", "to_varchar({d}, 'yyyy')", "lpad({x}, 5)"),
    "d": ("date_add({d}, {i})", "date_sub({d}, {i})", "add_months({d}, {i})", "last_day({d})", "next_day({d}, 'MO')", "next_day({d}, {s})", "trunc({d}, 'MONTH')", "trunc({d}, {s})", "CAST({t} AS DATE)", "CAST({z} AS DATE)", "CAST({s} AS DATE)", "to_date({s}, 'dd/MM/yyyy')", "to_date({s}, {s})", "try_to_date({s}, 'yyyy')", "make_date({i}, {i}, {i})", "{d} + INTERVAL '1' MONTH", "{d} - INTERVAL '1' DAY", "date({s})", "coalesce({d}, {d})", "least({d}, {d})", "try_cast({s} AS DATE)", "date_from_unix_date({i})", "{d} + {i}", "dateadd(MONTH, {i}, {d})", "{d} + {I}"),
    "t": ("CAST({d} AS TIMESTAMP)", "CAST({z} AS TIMESTAMP)", "CAST({s} AS TIMESTAMP)", "to_timestamp({s}, 'yyyy-MM-dd')", "to_timestamp({s}, {s})", "date_trunc('MONTH', {t})", "date_trunc({s}, {t})", "from_utc_timestamp({t}, 'America/Sao_Paulo')", "from_utc_timestamp({t}, {s})", "to_utc_timestamp({t}, :business_timezone)", "{t} + INTERVAL '1' HOUR", "timestamp_millis({l})", "timestamp_seconds({l})", "timestamp_seconds({n})", "timestampadd(DAY, {i}, {t})", "make_timestamp({i}, {i}, {i}, {i}, {i}, {n})", "{t} - {I}", "{d} + INTERVAL '1' HOUR", "try_to_timestamp({s})", "try_cast({s} AS TIMESTAMP)", "coalesce({t}, :as_of)", "timestamp_micros({l})", "CAST({l} AS TIMESTAMP)", "CAST({f} AS TIMESTAMP)"),
    "z": ("CAST({t} AS TIMESTAMP_NTZ)", "CAST({s} AS TIMESTAMP_NTZ)", "convert_timezone('UTC', 'Asia/Kolkata', {z})", "convert_timezone({s}, {s}, {z})", "{z} + INTERVAL '1' MONTH", "CAST({d} AS TIMESTAMP_NTZ)", "date_trunc('DAY', {z})", "to_timestamp_ntz({s})"),
    "b": ("{i} > {i}", "{n} <= {i}", "{f} = {f}", "{s} LIKE {s}", "{s} LIKE '%a_'", "{s} RLIKE '^[0-9]+$'", "{s} RLIKE {s}", "{s} IN ('a', 'b')", "{s} IN ({s}, NULL)", "{?} IS NULL", "{?} IS NOT NULL", "{d} BETWEEN {d} AND {d}", "{t} > {t}", "{b} AND {b}", "{b} OR NOT {b}", "array_contains({A}, {s})", "startswith({s}, {s})", "isnan({f})", "{s} <=> {s}", "{A} = {A}", "{S} = {S}", "{i} = {s}", "{d} = {s}", "exists({A}, v -> v = 'a')", "contains({s}, {s})", "{x} = {x}", "{t} = {d}", "{s} ILIKE {s}", "CAST({s} AS BOOLEAN)", "{i} IN ({i}, {l})", "{s} LIKE {s} ESCAPE '/'", "luhn_check({s})", "arrays_overlap({A}, {A})", "{s} > {s}", "equal_null({?}, {?})", "{n} NOT IN (1.5, 2)", "forall({L}, v -> v > 0)", "map_contains_key({M}, {s})"),
    "x": ("CAST({s} AS BINARY)", "unhex({s})", "unbase64({s})", "encode({s}, 'UTF-16')", "encode({s}, {s})", "{x} || {x}", "substr({x}, 1, 2)", "binary({s})", "to_binary({s}, 'utf-8')", "aes_encrypt({s}, '0000111122223333', 'ECB')"),
    "A": ("array({s}, {s})", "split({s}, ',')", "split({s}, {s})", "array_distinct({A})", "array_sort({A})", "sort_array({A})", "array_union({A}, {A})", "filter({A}, v -> v > 'a')", "transform({A}, v -> upper(v))", "slice({A}, {i}, {i})", "slice({A}, 1, 1)", "array_remove({A}, {s})", "array_except({A}, {A})", "concat({A}, {A})", "array_repeat({s}, {i})", "regexp_extract_all({s}, '(a)')", "map_keys({M})", "json_object_keys({s})", "flatten(array({A}))", "transform({L}, v -> string(v))", "array_compact({A})", "zip_with({A}, {A}, (u, v) -> u)", "from_json({s}, 'ARRAY<STRING>')", "array_insert({A}, {i}, {s})", "array_append({A}, {s})"),
    "L": ("array({i}, {i})", "sequence({i}, {i})", "sequence(1, {i})", "array_sort({L})", "transform({A}, v -> length(v))", "map_values({M})", "filter({L}, v -> v > 0)", "sequence({i}, {i}, {i})", "array_sort({L}, (u, v) -> v - u)", "reverse({L})"),
    "S": ("named_struct('x', {i}, 'y', {s})", "struct({i} AS x, {s} AS y)", "from_json({s}, 'x INT, y STRING')", "from_csv({s}, 'x INT, y STRING')", "if({b}, {S}, {S})", "coalesce({S}, {S})", "try_element_at(array({S}), {i} % 99)"),
    "M": ("map({s}, {i})", "map('a', {i})", "map_from_arrays({A}, {L})", "map_from_entries(array(struct({s}, {i})))", "str_to_map({s})", "transform_values({M}, (k, v) -> v + 1)", "map_concat({M}, {M})", "map_filter({M}, (k, v) -> v > 0)", "from_json({s}, 'MAP<STRING, INT>')"),
    "I": ("{d} - {d}", "{t} - {t}", "make_interval({i})", "make_dt_interval({i}, {i})"),
}  # fmt: skip
AGGREGATES = (
    ("COUNT(*)", "l"), ("COUNT({?})", "l"), ("COUNT(DISTINCT {?})", "l"), ("MIN({s})", "s"), ("MAX({d})", "d"), ("MIN({t})", "t"), ("MAX({f})", "f"), ("MAX({S})", "S"), ("MIN({A})", "A"), ("MAX({x})", "x"),
    ("SUM({i})", "l"), ("SUM({l})", "l"), ("SUM({n})", "n"), ("CAST(SUM({n}) AS DECIMAL(38,4))", "n"), ("AVG({n})", "n"), ("SUM({f})", "f"), ("AVG({i})", "f"), ("MAX({b})", "b"), ("COUNT_IF({b})", "l"), ("bool_and({b})", "b"), ("every({b})", "b"),
    ("array_sort(collect_list({s}))", "A"), ("array_join(array_sort(collect_set({s})), ',')", "s"), ("SUM({i}) FILTER (WHERE {b})", "l"), ("percentile({f}, 0.5)", "f"), ("median({n})", "f"), ("MAX(struct({d}, {s})).col2", "s"), ("bit_xor({i})", "i"), ("max_by({s}, {i})", "s"),
    ("try_sum({l})", "l"), ("try_avg({n})", "n"), ("MIN({z})", "z"), ("MAX({L})", "L"), ("SUM(DISTINCT {i})", "l"), ("listagg({s}, ',') WITHIN GROUP (ORDER BY {s})", "s"), ("array_sort(collect_set({S}))", "?"), ("array_size(collect_list({?}))", "i"), ("SUM({I})", "I"), ("SUM({i} * {i})", "l"), ("COUNT(DISTINCT {s}, {i})", "l"), ("mode({s}, true)", "s"), ("bitmap_count(bitmap_construct_agg({i}))", "l"),
)  # fmt: skip
CLASSES = "ilnfsdtzbxALSM"


@dataclass(frozen=True)
class Relation:
    """A table or model with its columns, by class, and its key."""

    name: str
    columns: tuple[Typed, ...]
    keys: tuple[str, ...]


def type_class(kind: str) -> str:
    """Return the class of a declared type; ? for one of which no template knows."""
    kind = kind.upper()
    for start, found in (
        ("TINYINT", "i"),
        ("SMALLINT", "i"),
        ("INT", "i"),
        ("BIGINT", "l"),
        ("DECIMAL", "n"),
        ("DOUBLE", "f"),
        ("FLOAT", "f"),
        ("STRING", "s"),
        ("DATE", "d"),
        ("TIMESTAMP_NTZ", "z"),
        ("TIMESTAMP", "t"),
        ("BOOLEAN", "b"),
        ("BINARY", "x"),
        ("ARRAY<STRING>", "A"),
        ("ARRAY<BIGINT>", "L"),
        ("STRUCT<X: INT, Y: STRING>", "S"),
    ):
        if kind.startswith(start):
            return found
    return "?"


def relation_of(table: Table) -> Relation:
    """Return a table as models read it: without the columns that `pii` drops."""
    pii = table.settings.get("pii", {})
    columns = tuple(
        (quote(c.name), "s" if c.name in pii else type_class(c.kind or ""))
        for c in table.declared
        if pii.get(c.name) != "drop" and not c.since
    )
    return Relation(f"bronze.{table.name}", columns, tuple(quote(key) for key in table.settings["keys"]))


def quote(name: str) -> str:
    return (
        name
        if re.fullmatch(r"[A-Za-z_]\w*", name) and name not in ("from", "select", "key", "value")
        else f"`{name.replace('`', '``')}`"
    )


class Draw:
    """Draws expressions over the columns in scope."""

    def __init__(self, rng: random.Random, columns: Sequence[Typed]) -> None:
        self.rng, self.columns = rng, list(columns)

    def expression(self, kind: str, depth: int = 2) -> str:
        rng = self.rng
        if kind == "?":
            kind = rng.choice([*(k for _, k in self.columns if k != "?"), *CLASSES])
        of_kind = [text for text, known in self.columns if known == kind]
        chance = rng.random()
        if depth <= 0 or chance < 0.45:
            if of_kind and rng.random() < 0.85:
                return rng.choice(of_kind)
            others = [text for text, known in self.columns if known in CASTS.get(kind, "")]
            if kind in TYPES and others and rng.random() < 0.6:
                return (
                    f"{rng.choice(['CAST', 'try_cast', 'try_cast'])}({rng.choice(others)} AS {rng.choice(TYPES[kind])})"
                )
            return rng.choice(LITERALS[kind])
        if chance < 0.5:
            return rng.choice(LITERALS[kind])
        return f"({self.fill(rng.choice(TEMPLATES[kind]), depth - 1)})"

    def fill(self, template: str, depth: int = 1) -> str:
        return re.sub(r"\{([^}])\}", lambda found: self.expression(found[1], depth), template)

    def wild(self) -> str:
        """Return a call of one of Spark's functions with any arguments."""
        names = sorted(SCALAR if self.rng.random() < 0.7 else spark_functions())
        name = self.rng.choice(names)
        counts = [n for n in spark_functions().get(name, {1}) if 0 <= n <= 5] or [1]
        return f"{name}({', '.join(self.expression('?', 1) for _ in range(self.rng.choice(counts)))})"

    def outputs(self, count: int) -> list[Typed]:
        return [self.output() for _ in range(count)]

    def output(self) -> Typed:
        if self.rng.random() < 0.06:
            return self.wild(), "?"
        kind = self.rng.choice("??????" + "iilnnfsssddttzbxALS")
        if kind == "?":
            return self.rng.choice(self.columns)
        return self.expression(kind, self.rng.choice([1, 1, 2])), kind


def draw_model(rng: random.Random, name: str, relations: Sequence[Relation]) -> tuple[Model, Relation]:
    """Return a model over one or two of the relations, and what it is to those after it."""
    shape = rng.choice(
        [_plain] * 5
        + [
            _joined,
            _joined,
            _grouped,
            _grouped,
            _grouped,
            _totals,
            _windowed,
            _windowed,
            _distinct,
            _union,
            _exploded,
            _subquery,
            _newest,
        ]
    )
    sql, outputs, keys = shape(rng, relations)
    settings: dict[str, Any] = {"keys": [unquoted(key) for key in keys]}
    if rng.random() < 0.35:
        settings["expect"] = {f"r{at}": _draw_rule(rng, outputs, keys) for at in range(rng.randint(1, 2))}
    return Model(name, sql, settings), Relation(name, tuple(outputs), tuple(keys))


def unquoted(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _draw_rule(rng: random.Random, outputs: list[Typed], keys: list[str]) -> dict[str, Any]:
    draw, column = Draw(rng, outputs), unquoted(rng.choice(outputs)[0])
    rule: dict[str, Any] = rng.choice(
        [
            {"check": draw.expression("b", 2)},
            {"check": draw.expression("b", 2)},
            {"not_null": [column]},
            {"values": {column: rng.choice([["a", "b"], [1, 2], [True]])}},
            {"range": {column: rng.choice([{"min": 0}, {"max": 10.5}, {"min": "2020-01-01"}])}},
            {"unique": [column]},
            {"rows": {"min": 1}},
            {"freshness": {"column": column, "within": "30d"}},
        ]
    )
    if next(iter(rule)) in ("unique", "rows", "freshness"):
        return rule | {"on_fail": rng.choice(["warn", "fail"])}
    return rule | {"on_fail": rng.choice(["warn", "drop", "quarantine", "quarantine", "fail"])}


Shape = tuple[str, list[Typed], list[str]]


def _scope(relation: Relation, alias: str) -> list[Typed]:
    return [(f"{alias}.{name}", kind) for name, kind in relation.columns]


def _named(columns: Sequence[Typed], prefix: str = "o") -> tuple[str, list[Typed]]:
    named = [(f"{prefix}{at}", kind) for at, (_, kind) in enumerate(columns)]
    return ", ".join(f"{text} AS {n}" for (text, _), (n, _) in zip(columns, named, strict=True)), named


def _key_list(relation: Relation, alias: str) -> tuple[str, list[Typed]]:
    kinds = dict(relation.columns)
    return ", ".join(f"{alias}.{key} AS k{at}" for at, key in enumerate(relation.keys)), [
        (f"k{at}", kinds.get(key, "?")) for at, key in enumerate(relation.keys)
    ]


def _where(rng: random.Random, draw: Draw) -> str:
    return f"\nWHERE {draw.expression('b', 2)}" if rng.random() < 0.25 else ""


def _plain(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    keys, key_columns = _key_list(one, "t")
    listed, named = _named(draw.outputs(rng.randint(1, 5)))
    return (
        f"SELECT {keys}, {listed}\nFROM {one.name} AS t{_where(rng, draw)}",
        [*key_columns, *named],
        [k for k, _ in key_columns],
    )


def _joined(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one, other = rng.choice(relations), rng.choice(relations)
    left, right = _scope(one, "t"), _scope(other, "u")
    pairs = [(a, b) for a, k in left for b, j in right if k == j and k not in "?M"]
    a, b = rng.choice(pairs) if pairs else ("1", "1")
    on = rng.choice(
        [
            f"{a} = {b}",
            f"{b} <=> {a}",
            f"u.{other.keys[0]} = {rng.choice(left)[0]}",
            f"{a} = {b} AND {Draw(rng, right).expression('b', 1)}",
        ]
    )
    side = rng.choice(["JOIN", "LEFT JOIN", "LEFT JOIN", "LEFT SEMI JOIN", "LEFT ANTI JOIN", "FULL JOIN", "RIGHT JOIN"])
    visible = left if "SEMI" in side or "ANTI" in side else left + right
    draw = Draw(rng, visible)
    keys, key_columns = _key_list(one, "t")
    listed, named = _named(draw.outputs(rng.randint(1, 4)))
    sql = f"SELECT {keys}, {listed}\nFROM {one.name} AS t\n{side} {other.name} AS u ON {on}{_where(rng, draw)}"
    return sql, [*key_columns, *named], [k for k, _ in key_columns]


def _group_columns(rng: random.Random, draw: Draw) -> list[Typed]:
    plain = [column for column in draw.columns if column[1] not in "M"]
    return [rng.choice(plain) if rng.random() < 0.7 else draw.output() for _ in range(rng.randint(1, 2))]


def _aggregates(rng: random.Random, draw: Draw) -> tuple[str, list[Typed]]:
    chosen = [rng.choice(AGGREGATES) for _ in range(rng.randint(1, 4))]
    return _named([(draw.fill(text), kind) for text, kind in chosen], "m")


def _grouped(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    by, named = _named(groups := _group_columns(rng, draw), "g")
    measures, measured = _aggregates(rng, draw)
    texts = (
        ", ".join(dict.fromkeys(text for text, _ in groups))
        if rng.random() < 0.6
        else ", ".join(str(at + 1) for at in range(len(groups)))
    )
    having = f"\nHAVING {draw.fill('COUNT(*) > {i}')}" if rng.random() < 0.15 else ""
    return (
        f"SELECT {by}, {measures}\nFROM {one.name} AS t{_where(rng, draw)}\nGROUP BY {texts}{having}",
        [*named, *measured],
        [n for n, _ in named],
    )


def _totals(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    by, named = _named(groups := _group_columns(rng, draw), "g")
    measures, measured = _aggregates(rng, draw)
    texts = ", ".join(text for text, _ in groups)
    clause = rng.choice(
        [f"ROLLUP ({texts})", f"CUBE ({texts})", f"GROUPING SETS (({texts}), ())", f"{texts} WITH ROLLUP"]
    )
    sql = f"SELECT {by}, GROUPING_ID() AS gid, {measures}\nFROM {one.name} AS t\nGROUP BY {clause}"
    return sql, [*named, ("gid", "l"), *measured], [*(n for n, _ in named), "gid"]


def _windowed(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    keys, key_columns = _key_list(one, "t")
    by, order = draw.expression("?", 1), draw.expression("?", 1)
    unique = ", ".join([order, *(f"t.{key}" for key in one.keys)])
    frame = rng.choice(
        ["", "", " ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", " ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW"]
    )
    calls = [
        ("ROW_NUMBER()", "i", ""),
        ("RANK()", "i", ""),
        ("LAG({?})", "?", ""),
        ("LEAD({s}, 2)", "s", ""),
        ("SUM({n})", "n", frame),
        ("COUNT({?})", "l", frame),
        ("MAX({s})", "s", frame),
        ("LAST_VALUE({?}, true)", "?", frame),
        ("NTILE(3)", "i", ""),
        ("AVG({i})", "f", frame),
        ("FIRST_VALUE({i})", "i", frame),
    ]
    windows = []
    for _ in range(rng.randint(1, 3)):
        call, kind, its_frame = rng.choice(calls)
        windows.append(
            (
                f"{draw.fill(call)} OVER (PARTITION BY {by} ORDER BY {unique}{rng.choice(['', ' DESC'])}{its_frame})",
                kind,
            )
        )
    listed, named = _named(windows, "w")
    return f"SELECT {keys}, {listed}\nFROM {one.name} AS t", [*key_columns, *named], [k for k, _ in key_columns]


def _newest(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    by, kind = rng.choice([c for c in draw.columns if c[1] not in "M"])
    listed, named = _named(draw.outputs(rng.randint(1, 3)))
    order = ", ".join([draw.expression("?", 1), *(f"t.{key}" for key in one.keys)])
    sql = f"SELECT {by} AS g0, {listed}\nFROM {one.name} AS t\nQUALIFY ROW_NUMBER() OVER (PARTITION BY {by} ORDER BY {order}) = 1"
    return sql, [("g0", kind), *named], ["g0"]


def _distinct(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    listed, named = _named(draw.outputs(rng.randint(1, 3)))
    return f"SELECT DISTINCT {listed}\nFROM {one.name} AS t{_where(rng, draw)}", named, [n for n, _ in named]


def _union(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    parts, named, kinds = [], list[Typed](), [rng.choice("ilnfsdtzb") for _ in range(2)]
    for at in range(2):
        one = rng.choice(relations)
        draw = Draw(rng, _scope(one, "t"))
        columns = [(draw.expression(kind, 1), kind) for kind in kinds]
        listed, named = _named(columns)
        parts.append(f"SELECT {at} AS part, t.{one.keys[0]} AS k0, {listed}\nFROM {one.name} AS t")
    return (
        f"\n{rng.choice(['UNION ALL', 'UNION ALL', 'UNION', 'EXCEPT'])}\n".join(parts),
        [("part", "i"), ("k0", "?"), *named],
        ["part", "k0"],
    )


def _exploded(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one = rng.choice(relations)
    draw = Draw(rng, _scope(one, "t"))
    keys, key_columns = _key_list(one, "t")
    generator = draw.fill(rng.choice(["posexplode({A})", "posexplode_outer({L})"]))
    listed, named = _named([*draw.outputs(1), ("e.v", "?")])
    sql = f"SELECT {keys}, e.p AS p, {listed}\nFROM {one.name} AS t\nLATERAL VIEW {generator} e AS p, v"
    return sql, [*key_columns, ("p", "i"), *named], [*(k for k, _ in key_columns), "p"]


def _subquery(rng: random.Random, relations: Sequence[Relation]) -> Shape:
    one, other = rng.choice(relations), rng.choice(relations)
    draw, inner = Draw(rng, _scope(one, "t")), Draw(rng, _scope(other, "u"))
    keys, key_columns = _key_list(one, "t")
    listed, named = _named(draw.outputs(rng.randint(1, 2)))
    left, same = rng.choice(draw.columns)[0], [text for text, known in inner.columns]
    condition = rng.choice(
        [
            f"{left} IN (SELECT {rng.choice(same)} FROM {other.name} AS u)",
            f"EXISTS (SELECT 1 FROM {other.name} AS u WHERE u.{other.keys[0]} = t.{one.keys[0]})",
            f"{draw.expression('l', 1)} > (SELECT COUNT(*) FROM {other.name} AS u)",
        ]
    )
    with_part = ""
    source = one.name
    if rng.random() < 0.5:
        with_part, source = f"WITH c AS (SELECT * FROM {one.name}{rng.choice(['', ' LIMIT 10'])})\n", "c"
    return (
        f"{with_part}SELECT {keys}, {listed}\nFROM {source} AS t\nWHERE {condition}",
        [*key_columns, *named],
        [k for k, _ in key_columns],
    )
