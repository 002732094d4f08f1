"""Writes the rows of a table to bytes: CSV in a dialect, JSON lines or arrays, Parquet; and damages bytes."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import parquet

if TYPE_CHECKING:
    from fuzz.case import Row, Table

Mutation = tuple[str, float, bytes]  # what is done, where in the file, and with which bytes

PARQUET_TYPES: dict[str, pa.DataType] = {
    **{t: getattr(pa, t)() for t in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    **{t: getattr(pa, t)() for t in ("float16", "float32", "float64", "string", "large_string", "binary")},
    **{t: getattr(pa, t)() for t in ("large_binary", "date32", "date64", "null", "string_view", "binary_view")},
    "bool": pa.bool_(),
    **{f"ts_{unit}": pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"tz_{unit}": pa.timestamp(unit, "America/Sao_Paulo") for unit in ("s", "ms", "us", "ns")},
    "time32": pa.time32("ms"),
    "time64": pa.time64("ns"),
    "duration": pa.duration("us"),
    "fixed16": pa.binary(16),
    "uuid": pa.uuid(),
    "dictionary": pa.dictionary(pa.int32(), pa.string()),
    "dec_9_2": pa.decimal128(9, 2),
    "dec_10_2": pa.decimal128(10, 2),
    "dec_14_4": pa.decimal128(14, 4),
    "dec_38_18": pa.decimal128(38, 18),
    "dec_5_0": pa.decimal128(5, 0),
    "dec_60_4": pa.decimal256(60, 4),
    "list_string": pa.list_(pa.string()),
    "list_int64": pa.list_(pa.int64()),
    "large_list": pa.large_list(pa.string()),
    "map": pa.map_(pa.string(), pa.int32()),
    "struct": pa.struct([("x", pa.int32()), ("y", pa.string())]),
    "struct_wide": pa.struct([("y", pa.string()), ("x", pa.int64()), ("z", pa.float64())]),
    "list_struct": pa.list_(pa.struct([("x", pa.int32()), ("y", pa.string())])),
}


def render(table: Table, rows: list[Row]) -> bytes:
    content = {"csv": _csv, "json": _json, "parquet": _parquet}[table.format](table, rows)
    match table.layout.get("compression"):
        case ".gz":
            return gzip.compress(content, 1, mtime=0)
        case ".zip":
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr(zipfile.ZipInfo(f"{table.name}.{table.format}"), content)
            return out.getvalue()
    return content


def mutate(content: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    for kind, share, what in mutations:
        at = int(share * len(content))
        match kind:
            case "insert":
                content = content[:at] + what + content[at:]
            case "replace":
                content = content[:at] + what + content[at + len(what) :]
            case "cut":
                content = content[:at]
            case "remove":
                content = content[:at] + content[at + 7 :]
            case "double":
                content = content[:at] + content[at : at + 40] * 2 + content[at + 40 :]
            case "whole":
                content = what
    return content


def _csv(table: Table, rows: list[Row]) -> bytes:
    layout = table.layout
    sep, quote, escape, end = layout["sep"], layout["quote"], layout["escape"], layout["end"]
    order = random.Random(layout["order"]).sample(range(len(table.columns)), len(table.columns))
    if not layout["header"]:
        order = list(range(len(table.columns)))

    def field(text: str | None) -> str:
        if text is None:
            return ""
        if quote and (
            not text or any(sign in text for sign in (sep, quote, "\r", "\n", escape)) or text != text.strip()
        ):
            inner = text.replace(escape, escape * 2) if escape != quote else text
            return quote + inner.replace(quote, escape + quote) + quote
        return text

    records = [[field(row[at]) for at in order] for row in rows]
    if layout["header"]:
        records.insert(0, [field(table.names_in_files[at]) for at in order])
    head, foot = layout.get("around", (0, 0))
    lines = ['A "title'] * head + [sep.join(record) for record in records] + ['Total"'] * foot
    text = end.join(lines) + (end if layout["last_end"] else "")
    return layout["bom"] + text.encode(layout["encoding"], errors="replace")


def _json(table: Table, rows: list[Row]) -> bytes:
    """A row has the texts of its values, None for a value that is left out."""
    import json

    layout = table.layout
    members = [
        [
            f"{json.dumps(name)}:{layout['space']}{value}"
            for name, value in zip(table.names_in_files, row, strict=True)
            if value is not None
        ]
        for row in rows
    ]
    objects = ["{" + f",{layout['space']}".join(parts) + "}" for parts in members]
    if layout["is_array"]:
        array = "[" + f",{layout['end']}".join(objects) + "]"
        text = f'{{"n": 1,{layout["end"]}"data": {{"items": {array}}}}}' if layout.get("is_inside") else array
        return layout["bom"] + text.encode("utf-8", "surrogatepass")
    return layout["bom"] + (layout["end"].join(objects) + layout["end"]).encode("utf-8", "surrogatepass")


def _parquet(table: Table, rows: list[Row]) -> bytes:
    layout = table.layout
    arrays = [_array([row[at] for row in rows], column.stored) for at, column in enumerate(table.columns)]
    sink = pa.BufferOutputStream()
    parquet.write_table(
        pa.Table.from_arrays(arrays, table.names_in_files),
        sink,
        compression=layout["codec"],
        row_group_size=layout["row_group"],
        use_dictionary=layout["dictionary"],
        data_page_version=layout["page"],
        use_deprecated_int96_timestamps=layout["int96"],
        version="2.6" if any(column.stored.endswith("_ns") for column in table.columns) else layout["version"],
        store_schema=layout["store_schema"],
        write_statistics=layout["statistics"],
    )
    return bytes(sink.getvalue())


def _array(values: list[Any], stored: str) -> pa.Array:
    kind = PARQUET_TYPES[stored]
    if stored == "uuid":
        return pa.ExtensionArray.from_storage(kind, pa.array(values, pa.binary(16)))
    if stored == "dictionary":
        return pa.array(values, pa.string()).dictionary_encode()
    if stored in ("string", "large_string") and any(isinstance(v, bytes) for v in values):
        raw = pa.array([v.encode() if isinstance(v, str) else v for v in values], pa.binary())
        return (
            pa.Array.from_buffers(pa.string(), len(raw), raw.buffers()).cast(kind, safe=False)
            if stored == "string"
            else pa.array([None] * len(values), kind)
        )
    return pa.array(values, kind)
