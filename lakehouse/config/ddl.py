"""A table's schema, as Spark's DDL: ``id STRING, price DECIMAL(10,2), tags ARRAY<STRING>``.

Read here and not by Spark, because a configuration is checked before any JVM starts; and by a grammar of
its own over sqlglot's tokens, because sqlglot's parser takes types that Spark has not (TEXT, UUID) and
refuses names that Spark takes (``from``, ``select``).

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

_SIMPLE = {
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
_DECIMAL = ("DECIMAL", "DEC", "NUMERIC")
# Types that Spark knows and that still cannot be used here: say why, instead of "unknown".
_UNUSABLE = {
    "MAP": "a MAP cannot be compared, so no update could be seen; use an ARRAY<STRUCT<key: ..., value: ...>>",
    "VARIANT": "a VARIANT cannot be compared, so no update could be seen; use STRING",
    "CHAR": "Spark's readers take no CHAR; use STRING",
    "CHARACTER": "Spark's readers take no CHARACTER; use STRING",
    "VARCHAR": "Spark's readers take no VARCHAR; use STRING",
}
_TYPES = {*_SIMPLE, *_DECIMAL, *_UNUSABLE, "ARRAY", "STRUCT"}
_EXPECTED = f"{', '.join(dict.fromkeys(_SIMPLE.values()))}, DECIMAL(p,s), ARRAY<...> or STRUCT<...>"
_NAME = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True)
class Column:
    """One declared column.

    Attributes:
        name: As declared, without backticks.
        type: The text of the DDL, such as ``DECIMAL(10,2)``.
    """

    name: str
    type: str

    @property
    def canonical_type(self) -> str:
        """One spelling per type: ``integer`` and ``INT`` are both ``INT``."""
        return canonical_type(self.type)

    @property
    def nested(self) -> bool:
        """Whether the column is an array or a struct."""
        return self.canonical_type.startswith(("ARRAY<", "STRUCT<"))


class DdlError(ValueError):
    """A schema that cannot be read; ``problems`` names every column that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@lru_cache(maxsize=256)
def parse_columns(ddl: str) -> tuple[Column, ...]:
    """Reads a schema.

    >>> [(c.name, c.type) for c in parse_columns("id STRING NOT NULL, `v 1` DECIMAL(10,2) COMMENT 'BRL'")]
    [('id', 'STRING'), ('v 1', 'DECIMAL(10,2)')]

    Raises:
        DdlError: with all that is wrong in it.
    """
    return _Parser(ddl).columns()


@lru_cache(maxsize=256)
def canonical_type(text: str) -> str:
    """One spelling for all the ways to write a type.

    >>> canonical_type("array<struct<a integer, b: dec(4, 1)>>")
    'ARRAY<STRUCT<a: INT, b: DECIMAL(4,1)>>'

    Raises:
        DdlError: it is no type that can be used here.
    """
    return _Parser(text).type()


class _Parser:
    def __init__(self, ddl: str) -> None:
        self._ddl = ddl
        self._at = 0
        try:
            self._tokens = tokenize(ddl, read="spark")
        except SqlglotError:
            raise DdlError(["a quote or backtick is left open"]) from None

    def columns(self) -> tuple[Column, ...]:
        """The columns; after a faulty one it goes on behind the next comma, to report all of them."""
        columns: list[Column] = []
        problems: list[str] = []
        while True:
            try:
                columns.append(self._column())
                if self._peek() and self._word() != ",":
                    raise DdlError([f'column "{columns[-1].name}": unexpected {self._here()} after its type'])
            except DdlError as error:
                problems += error.problems
                self._skip_to_comma()
            if not self._take(","):
                break
        if problems:
            raise DdlError(problems)
        return tuple(columns)

    def _column(self, *, in_struct: bool = False) -> Column:
        name = self._name()
        try:
            if in_struct:
                self._take(":")
            first = self._at
            self.type()
            text = self._ddl[self._tokens[first].start : self._tokens[self._at - 1].end + 1]
            if self._take("NOT"):
                self._expect("NULL")
            if self._take("COMMENT"):
                self._comment()
        except DdlError as error:
            raise DdlError([f'column "{name}": {problem}' for problem in error.problems]) from None
        return Column(name, text)

    def _name(self) -> str:
        token = self._peek()
        quoted = token is not None and token.token_type is TokenType.IDENTIFIER
        if token is None or not token.text or token.token_type in (TokenType.NUMBER, TokenType.STRING):
            raise DdlError([f"expected a column name, found {self._here()}"])
        if not quoted and not _NAME.fullmatch(token.text):
            raise DdlError([f"expected a column name, found {self._here()}; put an unusual one in backticks"])
        self._at += 1
        return token.text

    def type(self) -> str:
        """The canonical spelling of the type that comes next."""
        word = self._word()
        if word not in _TYPES:
            raise DdlError([f"expected {_EXPECTED}, found {self._here()}{self._backtick_hint()}"])
        if word in _UNUSABLE:
            raise DdlError([_UNUSABLE[word]])
        self._at += 1
        if word in _DECIMAL:
            return self._decimal()
        if word == "ARRAY":
            self._expect("<")
            element = self.type()
            self._expect(">")
            return f"ARRAY<{element}>"
        if word == "STRUCT":
            return self._struct()
        return _SIMPLE[word]

    def _decimal(self) -> str:
        precision, scale = 10, 0
        if self._take("("):
            precision = self._number()
            scale = self._number() if self._take(",") else 0
            self._expect(")")
        if not (1 <= precision <= 38 and scale <= precision):
            raise DdlError([f"DECIMAL({precision},{scale}): precision goes from 1 to 38, scale up to it"])
        return f"DECIMAL({precision},{scale})"

    def _struct(self) -> str:
        self._expect("<")
        fields = [self._column(in_struct=True)]
        while self._take(","):
            fields.append(self._column(in_struct=True))
        self._expect(">")
        return f"STRUCT<{', '.join(f'{field.name}: {field.canonical_type}' for field in fields)}>"

    def _comment(self) -> None:
        start = self._at
        # 'it''s' comes as two tokens.
        while (token := self._peek()) and token.token_type is TokenType.STRING:
            self._at += 1
        if self._at == start:
            raise DdlError([f"expected a quoted text after COMMENT, found {self._here()}"])

    def _number(self) -> int:
        token = self._peek()
        if token is None or not token.text.isdecimal():
            raise DdlError([f"expected a number, found {self._here()}"])
        self._at += 1
        return int(token.text)

    def _peek(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _here(self) -> str:
        token = self._peek()
        return f'"{token.text}"' if token else "the end"

    def _backtick_hint(self) -> str:
        """For ``Tipo Titulo STRING`` and ``a-b INT``, where the rest of a name stands in the type's place."""
        ahead = self._tokens[self._at : self._at + 2]
        in_a_name = len(ahead) == 2 and (ahead[1].text.upper() in _TYPES or not _NAME.fullmatch(ahead[0].text))
        return "; a name with spaces or signs goes in backticks" if in_a_name else ""

    def _word(self) -> str:
        token = self._peek()
        if token is None or token.token_type in (TokenType.IDENTIFIER, TokenType.STRING):
            return ""
        return token.text.upper()

    def _take(self, text: str) -> bool:
        if taken := self._word() == text:
            self._at += 1
        return taken

    def _expect(self, text: str) -> None:
        if not self._take(text):
            raise DdlError([f"expected {text}, found {self._here()}"])

    def _skip_to_comma(self) -> None:
        depth = 0
        while (token := self._peek()) and (depth > 0 or self._word() != ","):
            depth += {"<": 1, "(": 1, ">": -1, ")": -1}.get(token.text, 0)
            self._at += 1
