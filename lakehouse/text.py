r"""Makes foreign text safe to show: names and values of sources, servers' messages, keys of a configuration.

    visible          one line: every control character as an escape, cut to a length
    visible_lines    the same for a text of several lines
    visible_document the same for every text of a document
    age_text         a number of seconds in its largest unit
    counted          a number with its noun: `1 row`, `2 rows`
    escape_json      a JSON document whose strings have such characters as \u escapes
    escape_yaml      the same for a YAML document
    is_encodable     whether the texts of a JSON value can be written in UTF-8

A terminal obeys escape sequences (ESC, C1, OSC), a line feed or carriage return forges a line of a log, and a bidi
control reverses what people read. None of them is ever written; an escape that names the character replaces it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import accumulate
from typing import Any

MAX_CHARS = 2_000
MAX_LINES = 500
CUT = r"\.\.\. \([\d,]+ characters\)"  # matches what `visible` writes in place of the rest
_MAX_TEXT_CHARS, _MAX_MARK_CHARS = 100_000, 50
_MAX_EXAMPLE_CHARS = 60

# Unicode's Cc, Cf, Cs, Zl and Zp: C0 and C1 controls, bidi and other invisible marks, lone surrogates, line separators.
# The soft hyphen and the joiners are among them: they make two names look equal.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_UNITS = (("year", 31_556_952), ("month", 2_629_746), ("day", 86_400), ("hour", 3_600), ("minute", 60))
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def counted(count: int, one: str, several: str = "") -> str:
    """Return a number with its noun, in the singular or the plural.

    >>> counted(1, "row"), counted(0, "row"), counted(12_000, "row waits", "rows wait")
    ('1 row', '0 rows', '12,000 rows wait')

    Args:
        count: The number.
        one: The noun in the singular, with a verb if there is one.
        several: The same in the plural; by default with an s at the end.
    """
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def key_text(names: Iterable[str], values: Iterable[object]) -> str:
    """Return the key of a row as people type it.

    >>> key_text(["id", "uf"], [7, "SP"])
    'id=7, uf=SP'

    Args:
        names: The columns of the key.
        values: Its values.
    """
    return ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))


def example_text(value: str | None, line: int | None) -> str:
    """Return an example of rejected rows, to be put behind their reason; empty if nothing of it is known.

    >>> example_text("Ana", 3), example_text(None, None)
    (", such as 'Ana' in line 3", '')

    Args:
        value: The value; None if it is not known, or must not be shown.
        line: Its line; None if its format has no lines.
    """
    shown = [repr(visible(value, _MAX_EXAMPLE_CHARS))] if value is not None else []
    place = [f"in line {line}"] if line is not None else []
    return f", such as {' '.join([*shown, *place])}" if shown or place else ""


def age_text(seconds: float) -> str:
    """Return a number of seconds in the largest unit of which there are two, or in seconds.

    >>> age_text(36_000), age_text(86_400), age_text(200 * 86_400), age_text(61), age_text(1), age_text(-7200)
    ('10 hours', '24 hours', '6 months', '61 seconds', '1 second', '2 hours ahead')
    """
    if seconds < 0:
        return f"{age_text(-seconds)} ahead"
    for unit, size in _UNITS:
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}s"
    return counted(int(seconds), "second")


def visible(text: str, limit: int = MAX_CHARS) -> str:
    r"""Return a text as one line of printable characters, cut to a length.

    The result stays the same if it is given again.

    Args:
        text: Any text, of any length.
        limit: The most characters to return; how many the text has is stated in place of the others.

    >>> visible("na\x1b[2Jme\r")
    'na\\x1b[2Jme\\r'
    >>> visible("x" * 100, 25)
    'xxxxx... (100 characters)'
    """
    shown = text[:limit]
    if not shown.isprintable():
        shown = _UNSAFE_CHARACTER.sub(_escape, shown)
    if len(shown) <= limit and len(text) <= limit:
        return shown
    cut = f"... ({len(text):,} characters)"
    return shown[: max(limit - len(cut), 0)] + cut


def visible_lines(text: str, limit: int = MAX_CHARS, max_lines: int = MAX_LINES) -> str:
    r"""Return a text of several lines with each line as `visible` returns it; only `\n` ends a line.

    Args:
        text: Any text, of any length.
        limit: The most characters of a line to return.
        max_lines: The most lines to return; the last one states how many others there are.
    """
    if len(text) <= limit and text.isprintable():
        return text
    lines = text.split("\n", max_lines)
    left = lines.pop().count("\n") + 1 if len(lines) > max_lines else 0
    shown = [visible(line.replace("\t", "    ") if len(line) <= limit else line, limit) for line in lines]
    if not left and sum(map(len, shown)) <= _MAX_TEXT_CHARS:
        return "\n".join(shown)
    sizes = accumulate(map(len, shown[: max_lines - 1]))
    kept = sum(size <= _MAX_TEXT_CHARS - _MAX_MARK_CHARS for size in sizes)
    return "\n".join([*shown[:kept], f"... ({len(lines) - kept + left:,} more lines)"])


def visible_document(document: Any) -> Any:
    """Return a document of plain values with each text as `visible_lines` returns it.

    Args:
        document: Mappings, lists and scalars.
    """
    if isinstance(document, dict):
        return {visible(str(name)): visible_document(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [visible_document(value) for value in document]
    return visible_lines(document) if isinstance(document, str) else document


def escape_json(document: str) -> str:
    r"""Return a JSON document with invisible characters as `\u` escapes, which mean the same to a program.

    Args:
        document: The document; outside its strings it has line feeds and no other control character.
    """
    is_safe = document.isascii() and "\x7f" not in document
    return document if is_safe else _UNSAFE_CHARACTER.sub(_json_escape, document)


def escape_yaml(document: str) -> str:
    r"""Return a YAML document with every character that is not printable as an escape, which means the same.

    >>> escape_yaml('"a\u202e\U000e0041"\n')
    '"a\\u202e\\U000e0041"\n'

    Args:
        document: The document; texts with such characters are in double quotes.
    """
    if document.replace("\n", "").isprintable():
        return document
    codes = ((char, ord(char)) for char in document)
    return "".join(
        char if char.isprintable() or char == "\n" else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
        for char, code in codes
    )


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _json_escape(match: re.Match[str]) -> str:
    if match[0] in "\n\t":
        return match[0]
    encoded = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{encoded[i]:02x}{encoded[i + 1]:02x}" for i in range(0, len(encoded), 2))


def is_encodable(value: Any) -> bool:
    """Return whether no text in a value of JSON has half of a surrogate pair, which is no text.

    >>> is_encodable(["a", {"b": "\\U0001f600"}]), is_encodable({"a": ["\\ud800"]})
    (True, False)

    Args:
        value: A text, or lists, tuples and dictionaries of texts; other values are ignored.
    """
    remaining = [value]
    try:
        while remaining:
            one = remaining.pop()
            if isinstance(one, str):
                one.encode()
            elif isinstance(one, list | tuple):
                remaining += one
            elif isinstance(one, dict):
                remaining += [*one, *one.values()]
    except UnicodeEncodeError:
        return False
    return True


def number_text(value: float) -> str:
    """Return a number with at most two decimals.

    >>> number_text(12.0), number_text(7.25), number_text(0.5)
    ('12', '7.25', '0.5')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".")
