"""Foreign text is shown on one line, printable and cut."""

from __future__ import annotations

import json
import unicodedata

import pytest

from lakehouse.text import MAX_CHARS, escape_json, visible, visible_document, visible_lines

CONTROLS = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def test_no_control_character_of_unicode_is_shown() -> None:
    assert all(visible(f"a{c}b").isascii() and visible(f"a{c}b").isprintable() for c in CONTROLS)
    assert all(visible_lines(f"a{c}b").isprintable() for c in CONTROLS if c != "\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("São Paulo 東京 😀\u00a0x", "São Paulo 東京 😀\u00a0x"),
        ("a\x1b[31mb\x1b]52;c;aGk=\x07", "a\\x1b[31mb\\x1b]52;c;aGk=\\x07"),
        ("a\x9b2J\u202etxt.exe\u2066", "a\\x9b2J\\u202etxt.exe\\u2066"),
        ("ok\r2026-01-31  done\n", "ok\\r2026-01-31  done\\n"),
        ("\U000e0041\ud800", "\\U000e0041\\ud800"),
    ],
)
def test_a_control_character_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_text_of_several_lines_keeps_its_line_feeds_only() -> None:
    assert visible_lines("a\tb\r\nc\u2028d\x85e") == "a    b\\r\nc\\u2028d\\x85e"


def test_a_long_text_is_cut() -> None:
    assert visible("x" * 1_000_000, 30) == "xxxxxx... (1,000,000 characters)"[-30:].rjust(30, "x")
    assert visible_lines("a\n" * 1_000, max_lines=3) == "a\na\n... (999 more lines)"
    assert len(visible_lines(("x" * 2_000 + "\n") * 1_000)) < 110_000


@pytest.mark.parametrize(
    "text", ["x" * 5_000, "\x1b" * 1_990, "\n" * 3_000, "a\u202e" * 1_500 + "\n" + "y" * 2_001, "\\x1b"]
)
def test_a_visible_text_stays_as_it_is(text: str) -> None:
    assert len(visible(text)) <= MAX_CHARS
    assert visible(visible(text)) == visible(text)
    assert visible_lines(visible_lines(text)) == visible_lines(text)


def test_every_text_of_a_document_is_made_visible() -> None:
    document = {"na\x1bme": [1, None, True, {"row": ("a\nb", "\u202e")}]}

    assert visible_document(document) == {"na\\x1bme": [1, None, True, {"row": ["a\nb", "\\u202e"]}]}


def test_a_json_document_says_the_same_with_its_control_characters_escaped() -> None:
    value = {"na\x7fme": "".join(c for c in CONTROLS if unicodedata.category(c) != "Cs") + "\ud800é😀"}
    document = escape_json(json.dumps(value, ensure_ascii=False, indent=1))

    assert json.loads(document) == value
    assert all(line.isprintable() for line in document.split("\n"))
    assert "é😀" in document
