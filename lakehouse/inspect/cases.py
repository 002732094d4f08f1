"""Reads the test cases of models from `tests/*.yml` beside a pipeline, and compares rows. Uses no Spark.

    model: gold.churn
    cases:
      a client who stays away is lost:
        newest_snapshot: 2025-03-01T00:00:00Z       # only if the SQL uses :newest_snapshot
        given:
          silver.transacoes:
            - {id_transacao: t1, id_cliente: c1, dt_transacao: 2025-01-01}
        only: {dt_referencia: 2025-02-10}           # only rows with these values are compared
        expect:
          - {dt_referencia: 2025-02-10, base: 1, perdidos: 1}

A column that a given row does not name is null. Only the columns that at least one expected row names are compared.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakehouse.config import Pipeline, yaml_source
from lakehouse.config.strict_model import did_you_mean
from lakehouse.config.yaml_source import YamlSource
from lakehouse.errors import ConfigError
from lakehouse.models.sql.plan import Plan

Row = Mapping[str, Any]

FOLDER = "tests"
_CASE_KEYS = ("model", "given", "only", "expect", "newest_snapshot")


@dataclass(frozen=True)
class Case:
    """One test case of a model.

    Attributes:
        file: The file that has it.
        name: Its name.
        model: The model, such as `gold.churn`.
        given: The rows of tables and models, by relation.
        expect: The rows that the model has to have.
        only: Values of the rows that are compared; empty for all rows.
        newest_snapshot: The time `:newest_snapshot`, as text; None if the case does not give it.
    """

    file: Path
    name: str
    model: str
    given: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    expect: tuple[Row, ...] = ()
    only: Row = field(default_factory=dict)
    newest_snapshot: str | None = None


def read_cases(pipeline: Pipeline, plans: Mapping[str, Plan], names: Iterable[str] = ()) -> list[Case]:
    """Return the cases of a pipeline, in the order of their files.

    Args:
        pipeline: The pipeline.
        plans: Its models.
        names: Models (`gold.churn`, `churn`), files (`churn.yml`) or names of cases; none: all.

    Raises:
        ConfigError: With every problem of every file; or a name is of no case.
    """
    files = sorted([*(pipeline.folder / FOLDER).glob("*.yml"), *(pipeline.folder / FOLDER).glob("*.yaml")])
    cases, problems = list[Case](), list[str]()
    for file in files:
        source = yaml_source.read_yaml(file, {})
        reader = _FileReader(source, pipeline, plans)
        cases += reader.read()
        problems += [source.format_problem(problem) for problem in sorted([*source.problems, *reader.problems])]
    if problems:
        raise ConfigError("\n".join(problems), expected="cases as docs/guide/model-tests.md describes them")
    wanted = list(names)
    known = {name for case in cases for name in _names_of(case)}
    if unknown := [name for name in wanted if name not in known]:
        raise ConfigError(
            f"no case is of {', '.join(unknown)}{did_you_mean(unknown[0], sorted(known))}",
            expected="a model, a file or a case of the folder tests",
            where=str(pipeline.folder / FOLDER),
        )
    return [case for case in cases if not wanted or _names_of(case) & set(wanted)]


def _names_of(case: Case) -> set[str]:
    return {case.model, case.model.partition(".")[2], case.file.name, case.file.stem, case.name}


class _FileReader:
    """Reads one file, and collects its problems."""

    def __init__(self, source: YamlSource, pipeline: Pipeline, plans: Mapping[str, Plan]) -> None:
        self.problems: list[yaml_source.Problem] = []
        self._source, self._plans = source, plans
        self._relations = [*(f"bronze.{name}" for name in pipeline.tables), *plans]

    def read(self) -> Iterator[Case]:
        document = self._mapping((), self._source.data, ("model", "cases"))
        cases = document.get("cases") or {}
        if not isinstance(cases, dict) or not cases:
            self._add(("cases",), "no cases: expected a name for each, with `given` and `expect`")
            return
        for name, content in cases.items():
            before = len(self.problems)
            case = self._case(str(name), content, document.get("model"))
            if case and len(self.problems) == before:
                yield case

    def _case(self, name: str, content: Any, default_model: Any) -> Case | None:
        loc = ("cases", name)
        found = self._mapping(loc, content, _CASE_KEYS)
        model = found.get("model", default_model)
        if not isinstance(model, str) or model not in self._plans:
            self._add((*loc, "model"), f"no model {model}{did_you_mean(str(model), [*self._plans])}")
            return None
        given = self._mapping((*loc, "given"), found.get("given") or {}, self._relations)
        rows = {relation: self._rows((*loc, "given", relation), value) for relation, value in given.items()}
        if "expect" not in found:
            self._add(loc, "`expect` is missing: the rows of the model, or [] for none")
        only = found.get("only") or {}
        if not isinstance(only, dict):
            self._add((*loc, "only"), "expected columns with their values")
            only = {}
        time = found.get("newest_snapshot")
        expected = self._rows((*loc, "expect"), found.get("expect"))
        return Case(self._source.path, name, str(model), rows, expected, only, None if time is None else str(time))

    def _mapping(self, loc: tuple[str, ...], value: Any, known: Iterable[str]) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._add(loc, f"expected {', '.join(known)}")
            return {}
        names = list(known)
        for key in value:
            if key not in names:
                self._add((*loc, key), f"unknown key{did_you_mean(key, names)}")
        return {key: each for key, each in value.items() if key in names}

    def _rows(self, loc: tuple[str, ...], value: Any) -> tuple[Row, ...]:
        rows = value or []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self._add(loc, "expected a list of rows, each with columns and values")
            return ()
        return tuple(rows)

    def _add(self, loc: tuple[str, ...], message: str) -> None:
        self.problems.append(self._source.problem_at(loc, message))


def compare_rows(found: Iterable[Row], expected: Iterable[Row], keys: Iterable[str]) -> list[dict[str, Any]]:
    """Return how rows differ from the expected ones.

    Args:
        found: The rows, with the columns that are compared.
        expected: The rows that are wanted, with the same columns and values of the same types.
        keys: The columns that identify a row; rows without them are matched as a whole.

    Returns:
        Rows of (kind, key, column, expected, found); the kind is `missing`, `unexpected` or `differs`.

    >>> compare_rows([{"k": 1, "v": 2}], [{"k": 1, "v": 3}], ["k"])
    [{'kind': 'differs', 'key': {'k': 1}, 'column': 'v', 'expected': 3, 'found': 2}]
    """
    names, left, right = list(keys), _grouped(found), _grouped(expected)
    surplus, missing = [*(left - right).elements()], [*(right - left).elements()]
    differences = []
    for text in list(missing):
        wanted = json.loads(text)
        # Of rows with one key, the first is compared.
        twin = next((t for t in surplus if names and _has_same_key(json.loads(t), wanted, names)), None)
        if twin is None:
            differences.append(_difference("missing", expected=wanted))
            continue
        surplus.remove(twin)
        actual = json.loads(twin)
        key = {name: wanted[name] for name in names}
        differences += [
            _difference("differs", key, column, wanted[column], actual[column])
            for column in wanted
            if wanted[column] != actual[column]
        ]
    return [*differences, *(_difference("unexpected", found=json.loads(text)) for text in surplus)]


def _grouped(rows: Iterable[Row]) -> Counter[str]:
    return Counter(json.dumps(dict(row), sort_keys=True, ensure_ascii=False) for row in rows)


def _has_same_key(left: Row, right: Row, keys: list[str]) -> bool:
    return all(key in left and key in right and left[key] == right[key] for key in keys)


def _difference(
    kind: str, key: Row | None = None, column: str | None = None, expected: Any = None, found: Any = None
) -> dict[str, Any]:
    return {"kind": kind, "key": key, "column": column, "expected": expected, "found": found}
