r"""Makes foreign text safe to show: names and values of sources, servers' messages, keys of a configuration.

    visible          one line: every control character as an escape, cut to a length
    visible_lines    the same for a text of several lines
    escape_json      a JSON document whose strings have such characters as \u escapes

A terminal obeys escape sequences (ESC, C1, OSC), a line feed or carriage return forges a line of a log, and a bidi
control reverses what people read. None of them is ever written; what stands there instead names the character.
"""

from __future__ import annotations

import re

MAX_CHARS = 2_000
MAX_LINES = 500
CUT = r"\.\.\. \([\d,]+ characters\)"  # matches what `visible` writes in place of the rest
_MAX_TEXT_CHARS = 100_000

# Unicode's Cc, Cf, Cs, Zl and Zp: C0 and C1 controls, bidi and other invisible marks, lone surrogates, line separators.
# The soft hyphen and the joiners are among them: they make two names look equal.
_UNSAFE = (
    r"\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_SHORT_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def visible(text: str, limit: int = MAX_CHARS) -> str:
    r"""Return a text as one line of printable characters, cut to a length.

    Args:
        text: Any text, of any length.
        limit: The most characters of the text to show; how many others there are is stated after them.

    >>> visible("na\x1b[2Jme\r")
    'na\\x1b[2Jme\\r'
    >>> visible("abcdef", 4)
    'abcd... (6 characters)'
    """
    shown = text[:limit]
    if not shown.isprintable():
        shown = _UNSAFE_CHARACTER.sub(_escape, shown)
    return shown if len(text) <= limit else f"{shown}... ({len(text):,} characters)"


def visible_lines(text: str, limit: int = MAX_CHARS, max_lines: int = MAX_LINES) -> str:
    r"""Return a text of several lines with each line as `visible` returns it; only `\n` ends a line.

    Args:
        text: Any text, of any length.
        limit: The most characters of a line.
        max_lines: The most lines; how many others there are is stated after them.
    """
    if len(text) <= limit and text.isprintable():
        return text
    lines = text.split("\n", max_lines)
    rest = lines.pop() if len(lines) > max_lines else None
    shown = [visible(line.replace("\t", "    ") if len(line) <= limit else line, limit) for line in lines]
    kept, size = list[str](), 0
    for line in shown:
        size += len(line)
        if size > _MAX_TEXT_CHARS:
            break
        kept.append(line)
    left = len(lines) - len(kept) + (rest.count("\n") + 1 if rest is not None else 0)
    return "\n".join([*kept, f"... ({left:,} more lines)"] if left else kept)


def escape_json(document: str) -> str:
    r"""Return a JSON document with invisible characters as `\u` escapes, which mean the same to a program.

    Args:
        document: The document; outside its strings it has line feeds and no other control character.
    """
    is_safe = document.isascii() and "\x7f" not in document
    return document if is_safe else _UNSAFE_CHARACTER.sub(_json_escape, document)


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
