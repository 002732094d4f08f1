"""Finds the places at which the commands of a scenario pass, and chooses among them.

A case is written as SCENARIO/NAME@WHERE:N, for example `run/after_merge@gold/notes:1`.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from threading import Lock

from lakehouse.failpoints import Interruption

_RANDOM_PARTS = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"), "*"),
    (re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}"), "*"),
    (re.compile(r"(_state/plain/)[^/]+"), r"\1*"),
)


_SHARED = ("raw/ledger",)  # tables that decide at the same time share a commit, or not


def place(where: str, lake: str) -> str:
    """Return the place of a point without the path of the lake and without what differs from run to run."""
    text = where.removeprefix(lake).lstrip("/")
    for pattern, replacement in _RANDOM_PARTS:
        text = pattern.sub(replacement, text)
    return text


@dataclass(frozen=True, order=True)
class Case:
    """A place at which a command is broken off: the N-th time that it reaches a point there."""

    scenario: str
    name: str
    where: str
    number: int = 1

    @property
    def layer(self) -> str:
        """The first part of the place: `bronze` of `bronze/items`, `silver` of `silver.items`."""
        return re.split(r"[/.]", self.where, maxsplit=1)[0]

    def __str__(self) -> str:
        return f"{self.scenario}/{self.name}@{self.where}:{self.number}"

    @classmethod
    def parse(cls, text: str) -> Case:
        """Return the case that a text names."""
        scenario, _, rest = text.partition("/")
        rest, _, number = rest.rpartition(":")
        name, _, where = rest.partition("@")
        return cls(scenario, name, where, int(number))


@dataclass
class Trace:
    """Counts the places that commands reach: a handler of failpoints."""

    lake: str
    places: Counter[tuple[str, str]] = field(default_factory=Counter)
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, name: str, where: str) -> None:
        with self._lock:
            self.places[name, place(where, self.lake)] += 1

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.places}

    def cases(self, scenario: str) -> list[Case]:
        """Return a case for each time that each place was reached."""
        return [
            Case(scenario, name, where, number)
            for (name, where), count in sorted(self.places.items())
            for number in range(1, (1 if where in _SHARED else count) + 1)
        ]


@dataclass
class Break:
    """Ends the command at the place of a case, and everything else that it does from then on."""

    case: Case
    lake: str
    is_broken: bool = False
    _reached: int = 0
    _lock: Lock = field(default_factory=Lock)

    def __call__(self, name: str, where: str) -> None:
        with self._lock:
            if not self.is_broken:
                if (name, place(where, self.lake)) != (self.case.name, self.case.where):
                    return
                self._reached += 1
                if self._reached != self.case.number:
                    return
                self.is_broken = True
        raise Interruption(str(self.case))


def choose(cases: Iterable[Case], count: int, seed: int) -> list[Case]:
    """Return this many cases by chance, among them one of each point in each layer of the lake."""
    shuffled = sorted(cases)
    random.Random(seed).shuffle(shuffled)
    first: dict[tuple[str, str], Case] = {}
    for case in shuffled:
        first.setdefault((case.name, case.layer), case)
    chosen = list(first.values())
    rest = [case for case in shuffled if case not in set(chosen)]
    return sorted([*chosen, *rest[: max(count - len(chosen), 0)]])
