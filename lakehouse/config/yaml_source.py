"""Reads a YAML (or JSON) file as plain data with line numbers, and replaces ``${VAR}`` by the variable's value.

``yaml.safe_load`` offers neither line numbers nor messages that are safe to show. Here a message shows the text of the
*file* (``${PG_URL}``), never the variable's value, and no value at all for keys that look like secrets.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dotenv import dotenv_values

from lakehouse.errors import ConfigError
from lakehouse.text import visible

Loc = tuple[str | int, ...]
"""The location of a value: ``("tables", "clientes", "keys", 0)``."""

_VARIABLE_PATTERN = re.compile(r"\$\$\{|\$\{(?:(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^{}]*))?\})?")
_SECRET_KEY_PATTERN = re.compile(r"(?i)(?!keys$).*(?:key|secret|token|passw|pwd|credential|url|webhook)")
_SECRET_PARAMETER_PATTERN = re.compile(r"(?i)[?&](?:\w*passw|secret|token|key)\w*=$")
# Shorter values are not secrets, and masking them would remove ordinary words from a message.
_MIN_MASKED_LENGTH = 4
_MAX_SHOWN_LENGTH = 60
# A pipeline of 1,000 tables has about 30,000 values. An alias counts as what it stands for, since it is built again.
MAX_BYTES, MAX_VALUES, MAX_DEPTH = 8 << 20, 100_000, 50
_MAX_NUMBER_LENGTH = 400  # YAML converts digits in a time that grows with the square of their number


class Problem(NamedTuple):
    """One error in the file; sorts by line."""

    line: int
    loc: Loc
    message: str


@dataclass
class YamlSource:
    """The content of a file, with the places that messages name.

    Attributes:
        path: The file.
        data: Its content as dicts, lists and scalars; keys are always text.
        problems: Errors in its form: repeated keys, variables that are not set.
        unreadable: Locations of the values with such an error; their meaning is not checked.
        lines: The line of each key and list item.
        raw_texts: The text of each scalar in the file, before variables are replaced.
        used_variables: The values of the variables used.
        secret_values: The values of those that are used in a field for a secret.
    """

    path: Path
    data: Any = field(default=None, repr=False)
    problems: list[Problem] = field(default_factory=list)
    unreadable: set[Loc] = field(default_factory=set)
    lines: dict[Loc, int] = field(default_factory=dict, repr=False)
    raw_texts: dict[Loc, str] = field(default_factory=dict, repr=False)
    used_variables: dict[str, str] = field(default_factory=dict, repr=False)
    secret_values: set[str] = field(default_factory=set, repr=False)

    def add_from_environment(self, key: str, variable: str, env: Mapping[str, str]) -> None:
        """Set a top-level key to a variable's value if the file does not have the key and the variable is set."""
        if isinstance(self.data, dict) and key not in self.data and env.get(variable):
            self.data[key] = self.used_variables[variable] = env[variable]

    @property
    def variables(self) -> dict[str, str | None]:
        """The variables that the file names, each with its default; None: it has none, so that it must be set."""
        found = (match for text in self.raw_texts.values() for match in _VARIABLE_PATTERN.finditer(text))
        named = [(match["name"], match["default"]) for match in found if match["name"]]
        required = {name for name, default in named if default is None}
        return {name: None if name in required else default for name, default in named}

    def problem_at(self, loc: Loc, message: str) -> Problem:
        """Return a problem at `loc`, with the line of `loc` or of the nearest key above it."""
        nearest = (loc[:n] for n in range(len(loc), -1, -1) if loc[:n] in self.lines)
        return Problem(self.lines.get(next(nearest, ()), 1), loc, message)

    def value_for_message(self, loc: Loc) -> str:
        """Return the file's text at `loc` for a message, without secrets; "" for mappings and lists."""
        if loc not in self.raw_texts:
            return ""
        if _is_secret(loc):
            return "a value not shown here"
        text = " ".join(map(_without_login, self.raw_texts[loc].split()))
        if not text:
            return "nothing"
        return f'"{text if len(text) <= _MAX_SHOWN_LENGTH else text[:_MAX_SHOWN_LENGTH] + "..."}"'

    def format_problem(self, problem: Problem) -> str:
        """Return a problem as one line: ``conf/x/pipeline.yml:14 tables.clientes.kyes: unknown key``."""
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.loc)[1:]
        label = f"{visible(where)}: " if where else ""
        return f"{self.path}:{problem.line} {label}{visible(self._mask_variables(problem.message))}"

    def _mask_variables(self, text: str) -> str:
        for name, value in sorted(self.used_variables.items(), key=lambda item: -len(item[1])):
            if len(value) >= _MIN_MASKED_LENGTH:
                text = text.replace(value, f"${{{name}}}")
        return text


def env_file_warning() -> str:
    """Return a warning if other users can read the `.env` file of the working directory, else ""."""
    file = Path.cwd() / ".env"
    mode = file.stat().st_mode & 0o777 if file.is_file() and os.name == "posix" else 0
    return f"other users can read {file} (mode {mode:04o}), which holds secrets: chmod 600 .env" if mode & 0o077 else ""


def load_environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables that a configuration can use: those of `env`, then those of ``.env``.

    Args:
        env: Used instead of the process environment.

    Raises:
        ConfigError: The file ``.env`` cannot be read.
    """
    try:
        in_file = dotenv_values(Path.cwd() / ".env")
    except (OSError, UnicodeDecodeError):
        raise ConfigError("the file .env cannot be read", expected="UTF-8 lines of NAME=value") from None
    return {k: v for k, v in in_file.items() if v is not None} | dict(os.environ if env is None else env)


def read_yaml(path: Path, env: Mapping[str, str]) -> YamlSource:
    """Read a file and replace its variables; errors of single values are collected in `problems`.

    Args:
        path: A YAML or JSON file.
        env: The values of variables.

    Raises:
        ConfigError: The file cannot be read or is not valid YAML.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content[:MAX_BYTES].decode() if len(content) <= MAX_BYTES else ""
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start} is not UTF-8", expected="a file in UTF-8", where=str(path)) from None
    except OSError as error:
        raise ConfigError(f"the file cannot be read: {error.strerror}", where=str(path)) from None
    if len(content) > MAX_BYTES:
        raise _too_large(path, f"is larger than {MAX_BYTES >> 20} MiB")
    if path.suffix == ".json":
        # JSON may be indented with tabs, YAML may not. Inside a JSON string a bare tab is not allowed anyway.
        text = text.replace("\t", " ")
    try:
        return _Builder(path, text, env).source
    except yaml.YAMLError as error:
        raise _yaml_error(path, error) from None
    except _LimitExceeded as error:
        raise _too_large(path, str(error)) from None


class _LimitExceeded(Exception):
    """A file has more values than a configuration needs, or deeper ones."""


class _Loader(yaml.SafeLoader):
    """A YAML loader without dates: no key of a configuration is a date, so ``name: 2024-01-31`` is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._values = self._merged = 0
        self._merging: list[yaml.Node] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node, unless the file has too many or too deep ones."""
        self._values += 1
        self._depth += 1
        _require_within_limits(self._values, self._depth)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put the keys of `<<: *base` first, unless these are too many: each list of bases multiplies them."""
        self._merging.append(node)
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                bases = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for base in bases:
                    if isinstance(base, yaml.MappingNode) and not any(base is each for each in self._merging):
                        self.flatten_mapping(base)
                    self._merged += len(base.value)
                    _require_within_limits(self._merged)
        self._merging.pop()
        super().flatten_mapping(node)


def _require_within_limits(values: int, depth: int = 0) -> None:
    if values > MAX_VALUES:
        raise _LimitExceeded(f"has more than {MAX_VALUES:,} values, aliases counted as what they stand for")
    if depth > MAX_DEPTH:
        raise _LimitExceeded(f"has more than {MAX_DEPTH} levels")


class _Builder:
    """Converts YAML nodes to data, and records their lines and texts."""

    def __init__(self, path: Path, text: str, env: Mapping[str, str]) -> None:
        self.source = YamlSource(path)
        self._env = env
        self._loader = _Loader(text)
        self._ancestors: list[yaml.Node] = []
        self._values = 0
        self._checked_nodes: set[int] = set()
        root = self._loader.get_single_node()
        self.source.data = self._build(root, ()) if root else None

    def _build(self, node: yaml.Node, loc: Loc) -> Any:
        self._values += 1
        _require_within_limits(self._values, len(self._ancestors))
        self.source.lines.setdefault(loc, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._build_scalar(node, loc)
        if any(node is above for above in self._ancestors):
            self._report(loc, "an alias that contains itself")
            return None
        self._ancestors.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._build_mapping(node, loc)
            return [self._build(item, (*loc, n)) for n, item in enumerate(node.value)]
        finally:
            self._ancestors.pop()

    def _build_mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Any]:
        self._report_repeated_keys(node, loc)
        # Puts the keys of `<<: *base` first, so that the mapping's own keys win.
        self._loader.flatten_mapping(node)
        data = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._report(loc, "a key is not text; put braces and brackets in quotes")
                continue
            # The key's text, not its value: a table named `no` or `2024` keeps this name.
            key_loc = (*loc, key.value)
            self.source.lines[key_loc] = key.start_mark.line + 1
            data[key.value] = self._build(value, key_loc)
        return data

    def _report_repeated_keys(self, node: yaml.MappingNode, loc: Loc) -> None:
        if id(node) in self._checked_nodes:  # an alias; flattened by now, so overridden keys would look repeated
            return
        self._checked_nodes.add(id(node))
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in first:
                message = f"given twice, first on line {first[key.value]}"
                self.source.problems.append(Problem(line, (*loc, key.value), message))
            elif isinstance(key, yaml.ScalarNode):
                first[key.value] = line

    def _build_scalar(self, node: yaml.ScalarNode, loc: Loc) -> Any:
        self.source.raw_texts[loc] = node.value
        is_text = node.tag == "tag:yaml.org,2002:str"
        try:
            if not is_text and len(node.value) > _MAX_NUMBER_LENGTH:
                raise ValueError("too long for anything but text")
            value = self._loader.construct_object(node)
        except (ValueError, LookupError, TypeError, AttributeError, OverflowError):  # `!!int` of nothing, for instance
            self._report(loc, "not a value that YAML can read; put it in quotes")
            return node.value
        if value is None:
            self.source.raw_texts[loc] = ""  # instead of "null" or "~"
        if isinstance(value, str):
            return _VARIABLE_PATTERN.sub(lambda match: self._resolve_variable(match, loc), value)
        return value

    def _resolve_variable(self, match: re.Match[str], loc: Loc) -> str:
        if match[0] == "$${":
            return "${"
        name, default = match["name"], match["default"]
        if name is None:
            self._report(loc, "${ must start ${NAME} or ${NAME:-default}; write $${ for the characters")
        elif default is not None and not self._env.get(name):
            return default
        elif name not in self._env:
            self._report(loc, f"${{{name}}} is not set, neither in the environment nor in .env")
        else:
            self.source.used_variables[name] = self._env[name]
            if _fills_secret(match, loc):
                self.source.secret_values.add(self._env[name])
            return self._env[name]
        return match[0]

    def _report(self, loc: Loc, message: str) -> None:
        self.source.unreadable.add(loc)
        self.source.problems.append(self.source.problem_at(loc, message))


def _without_login(word: str) -> str:
    start, end = word.find("://"), word.rfind("@")
    return f"{word[:start]}://***{word[end:]}" if 0 <= start < end else word


def _is_secret(loc: Loc) -> bool:
    name = next((part for part in reversed(loc) if isinstance(part, str)), "")
    return bool(_SECRET_KEY_PATTERN.match(name))


def _too_large(path: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"the file {fault}",
        expected=f"a configuration of at most {MAX_VALUES:,} values and {MAX_DEPTH} levels",
        where=str(path),
    )


def _fills_secret(variable: re.Match[str], loc: Loc) -> bool:
    """Return whether a variable fills a field for a secret, or of a URL the password: its host is no secret."""
    if not _is_secret(loc):
        return False
    name = next(part for part in reversed(loc) if isinstance(part, str))
    if not name.lower().endswith("url"):
        return True
    before, after = variable.string[: variable.start()], variable.string[variable.end() :]
    is_password = ":" in before.partition("://")[2] and "@" in after
    return is_password or bool(_SECRET_PARAMETER_PATTERN.search(before))


def _yaml_error(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    # Names in quotes are text of the file: YAML reads an unquoted password such as *pa55 as an undefined alias.
    problem = re.sub(r"'(?!<)[^']{2,}'", "...", str(getattr(error, "problem", None) or "unreadable characters"))
    if r"'\t'" in str(getattr(error, "problem", "")):
        problem = "found a tab, where only spaces can indent"
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return ConfigError(f"not valid YAML: {problem}", where=where)
