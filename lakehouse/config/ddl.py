"""Parses the Spark DDL of a table's schema, such as ``id STRING, price DECIMAL(10,2), tags ARRAY<STRING>``.

A configuration is checked before any JVM starts, so Spark cannot parse it. The grammar below works on sqlglot's
tokens. sqlglot's own parser does not fit: it accepts types that Spark does not have (TEXT, UUID) and rejects names
that Spark accepts (``from``, ``select``).

    columns := column {"," column}
    column  := name type ["NOT" "NULL"] ["COMMENT" text]         inside a struct also: name ":" type ...
    type    := simple | DECIMAL ["(" p ["," s] ")"] | ARRAY "<" type ">" | STRUCT "<" columns ">"
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from sqlglot import tokenize
from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

_SIMPLE_TYPES = {
    "STRING": "STRING",
    "BOOLEAN": "BOOLEAN",
    "BYTE": "TINYINT",
    "TINYINT": "TINYINT",
    "SHORT": "SMALLINT",
    "SMALLINT": "SMALLINT",
    "INT": "INT",
    "INTEGER": "INT",
    "LONG": "BIGINT",
    "BIGINT": "BIGINT",
    "FLOAT": "FLOAT",
    "REAL": "FLOAT",
    "DOUBLE": "DOUBLE",
    "DATE": "DATE",
    "TIMESTAMP": "TIMESTAMP",
    "TIMESTAMP_LTZ": "TIMESTAMP",
    "TIMESTAMP_NTZ": "TIMESTAMP_NTZ",
    "BINARY": "BINARY",
}
_DECIMAL_NAMES = ("DECIMAL", "DEC", "NUMERIC")
# Types that Spark has but that cannot be used here, with the reason for the message.
_UNSUPPORTED_TYPES = {
    "MAP": "a MAP cannot be compared, so updates could not be detected; use an ARRAY<STRUCT<key: ..., value: ...>>",
    "VARIANT": "a VARIANT cannot be compared, so updates could not be detected; use STRING",
    "CHAR": "Spark's readers do not support CHAR; use STRING",
    "CHARACTER": "Spark's readers do not support CHARACTER; use STRING",
    "VARCHAR": "Spark's readers do not support VARCHAR; use STRING",
}
_TYPE_NAMES = {*_SIMPLE_TYPES, *_DECIMAL_NAMES, *_UNSUPPORTED_TYPES, "ARRAY", "STRUCT"}
_EXPECTED_TYPE = f"{', '.join(dict.fromkeys(_SIMPLE_TYPES.values()))}, DECIMAL(p,s), ARRAY<...> or STRUCT<...>"
_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Column:
    """One declared column; it may be null, also with ``NOT NULL``.

    Attributes:
        name: The declared name, without backticks.
        type: The type as written in the DDL, such as ``DECIMAL(10,2)``.
    """

    name: str
    type: str

    @property
    def canonical_type(self) -> str:
        """The one spelling of the type: ``integer`` and ``INT`` are both ``INT``."""
        return canonical_type(self.type)

    @property
    def is_nested(self) -> bool:
        """Whether the column is an array or a struct."""
        return self.canonical_type.startswith(("ARRAY<", "STRUCT<"))


class DdlError(ValueError):
    """A schema that cannot be parsed.

    Attributes:
        problems: One message for each invalid column.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@lru_cache(maxsize=256)
def parse_columns(ddl: str) -> tuple[Column, ...]:
    """Return the columns of a schema.

    >>> [(c.name, c.type) for c in parse_columns("id STRING NOT NULL, `v 1` DECIMAL(10,2) COMMENT 'BRL'")]
    [('id', 'STRING'), ('v 1', 'DECIMAL(10,2)')]

    Args:
        ddl: Column definitions, as in CREATE TABLE.

    Raises:
        DdlError: The schema is invalid. It has a message for each invalid column.
    """
    return _Parser(ddl).parse_columns()


@lru_cache(maxsize=256)
def canonical_type(text: str) -> str:
    """Return the one spelling of a type that can be written in several ways.

    >>> canonical_type("array<struct<a integer, b: dec(4, 1)>>")
    'ARRAY<STRUCT<a: INT, b: DECIMAL(4,1)>>'

    Args:
        text: A type as written in DDL.

    Raises:
        DdlError: The text is not a supported type.
    """
    return _Parser(text).parse_type()


def array_element(text: str) -> str:
    """Return the type of an array's elements, as written.

    >>> array_element("ARRAY<STRUCT<`a b`: INT>>")
    'STRUCT<`a b`: INT>'

    Args:
        text: A type whose canonical spelling begins with ``ARRAY<``.

    Raises:
        DdlError: The text is not an array.
    """
    return _Parser(text).parse_element()


def struct_columns(text: str) -> tuple[Column, ...]:
    """Return the fields of a struct.

    >>> [(c.name, c.type) for c in struct_columns("STRUCT<`a b`: INT, c: ARRAY<DATE>>")]
    [('a b', 'INT'), ('c', 'ARRAY<DATE>')]

    Args:
        text: A type whose canonical spelling begins with ``STRUCT<``.

    Raises:
        DdlError: The text is not a struct.
    """
    return _Parser(text).parse_fields()


def quote_identifier(*parts: str) -> str:
    """Return a name in backticks, as Spark SQL quotes it.

    >>> quote_identifier("Tipo Titulo"), quote_identifier("a`b"), quote_identifier("source", "id")
    ('`Tipo Titulo`', '`a``b`', '`source`.`id`')

    Args:
        parts: The name, or the parts of a qualified name.
    """
    return ".".join(f"`{part.replace('`', '``')}`" for part in parts)


class _Parser:
    def __init__(self, ddl: str) -> None:
        self._ddl = ddl
        self._position = 0
        try:
            self._tokens = tokenize(ddl, read="spark")
        except SqlglotError:
            raise DdlError(["a quote or backtick is not closed"]) from None

    def parse_columns(self) -> tuple[Column, ...]:
        """Parse all columns; continue after an invalid one at the next comma, to report all of them at once."""
        columns: list[Column] = []
        problems: list[str] = []
        while True:
            try:
                columns.append(self._parse_column())
                if self._peek() and self._next_keyword() != ",":
                    raise DdlError(
                        [f'column "{columns[-1].name}": unexpected {self._next_for_message()} after its type']
                    )
            except DdlError as error:
                problems += error.problems
                self._skip_to_comma()
            if not self._accept(","):
                break
        if problems:
            raise DdlError(problems)
        return tuple(columns)

    def _parse_column(self, *, in_struct: bool = False) -> Column:
        name = self._parse_name()
        try:
            if in_struct:
                self._accept(":")
            first = self._position
            self.parse_type()
            text = self._text_since(first)
            if self._accept("NOT"):
                self._expect("NULL")
            if self._accept("COMMENT"):
                self._skip_comment()
        except DdlError as error:
            raise DdlError([f'column "{name}": {problem}' for problem in error.problems]) from None
        return Column(name, text)

    def _parse_name(self) -> str:
        token = self._peek()
        quoted = token is not None and token.token_type is TokenType.IDENTIFIER
        if token is None or not token.text or token.token_type in (TokenType.NUMBER, TokenType.STRING):
            raise DdlError([f"expected a column name, found {self._next_for_message()}"])
        if not quoted and not _NAME.fullmatch(token.text):
            raise DdlError(
                [f"expected a column name, found {self._next_for_message()}; put an unusual name in backticks"]
            )
        self._position += 1
        return token.text

    def parse_type(self) -> str:
        """Parse a type and return its canonical spelling."""
        word = self._next_keyword()
        if word not in _TYPE_NAMES:
            raise DdlError([f"expected {_EXPECTED_TYPE}, found {self._next_for_message()}{self._backtick_hint()}"])
        if word in _UNSUPPORTED_TYPES:
            raise DdlError([_UNSUPPORTED_TYPES[word]])
        if word == "ARRAY":
            return f"ARRAY<{self._parse_element()}>"
        if word == "STRUCT":
            return f"STRUCT<{', '.join(f'{field.name}: {field.canonical_type}' for field in self.parse_fields())}>"
        self._position += 1
        return self._parse_decimal() if word in _DECIMAL_NAMES else _SIMPLE_TYPES[word]

    def parse_element(self) -> str:
        """Parse an array and return the type of its elements as written."""
        self._parse_element()
        return self._text_since(2, end=1)  # without ARRAY, < and >

    def _parse_element(self) -> str:
        self._expect("ARRAY")
        self._expect("<")
        element = self.parse_type()
        self._expect(">")
        return element

    def parse_fields(self) -> tuple[Column, ...]:
        """Parse a struct and return its fields."""
        self._expect("STRUCT")
        self._expect("<")
        fields = [self._parse_column(in_struct=True)]
        while self._accept(","):
            fields.append(self._parse_column(in_struct=True))
        self._expect(">")
        return tuple(fields)

    def _parse_decimal(self) -> str:
        precision, scale = 10, 0
        if self._accept("("):
            precision = self._parse_number()
            scale = self._parse_number() if self._accept(",") else 0
            self._expect(")")
        if not (1 <= precision <= 38 and scale <= precision):
            raise DdlError(
                [f"DECIMAL({precision},{scale}): the precision must be 1 to 38, the scale at most the precision"]
            )
        return f"DECIMAL({precision},{scale})"

    def _skip_comment(self) -> None:
        start = self._position
        # 'it''s' is two tokens.
        while (token := self._peek()) and token.token_type is TokenType.STRING:
            self._position += 1
        if self._position == start:
            raise DdlError([f"expected a quoted text after COMMENT, found {self._next_for_message()}"])

    def _parse_number(self) -> int:
        token = self._peek()
        if token is None or not token.text.isdecimal():
            raise DdlError([f"expected a number, found {self._next_for_message()}"])
        self._position += 1
        return int(token.text)

    def _text_since(self, first: int, end: int = 0) -> str:
        """Return the text of the tokens from `first` to here, without the last `end` ones."""
        return self._ddl[self._tokens[first].start : self._tokens[self._position - 1 - end].end + 1]

    def _peek(self) -> Token | None:
        return self._tokens[self._position] if self._position < len(self._tokens) else None

    def _next_for_message(self) -> str:
        token = self._peek()
        return f'"{token.text}"' if token else "the end"

    def _backtick_hint(self) -> str:
        """Return a hint about backticks if the next token continues a name: ``Tipo Titulo STRING``, ``a-b INT``."""
        ahead = self._tokens[self._position : self._position + 2]
        in_name = len(ahead) == 2 and (ahead[1].text.upper() in _TYPE_NAMES or not _NAME.fullmatch(ahead[0].text))
        return "; put a name with spaces or special characters in backticks" if in_name else ""

    def _next_keyword(self) -> str:
        token = self._peek()
        if token is None or token.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            return ""
        return token.text.upper()

    def _accept(self, text: str) -> bool:
        if accepted := self._next_keyword() == text:
            self._position += 1
        return accepted

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise DdlError([f"expected {text}, found {self._next_for_message()}"])

    def _skip_to_comma(self) -> None:
        depth = 0
        while (token := self._peek()) and (depth > 0 or self._next_keyword() != ","):
            depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(token.text, 0)
            self._position += 1
