"""Makes a test fail that imports Spark or starts a JVM: what is tested here works without it.

`lakehouse validate`, and a run that finds nothing new, must start no JVM; CONTRIBUTING.md says which packages that is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec

import pytest

_BLOCKED = ("pyspark", "py4j", "delta")


class _NoSpark:
    """Refuses imports of Spark, except of what the process has imported already: run tests/unit by itself."""

    @staticmethod
    def find_spec(name: str, *_: object) -> ModuleSpec | None:
        if name.partition(".")[0] in _BLOCKED:
            pytest.fail(f"tests/unit must not import {name}: move the test to tests/spark")
        return None


@contextmanager
def _no_spark() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "meta_path", [_NoSpark, *sys.meta_path])
        patch.setenv("SPARK_HOME", "/nowhere: tests/unit start no JVM")  # for processes that tests start
        yield


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    with _no_spark():
        return (yield)


@pytest.fixture(autouse=True)
def no_spark() -> Iterator[None]:
    with _no_spark():
        yield
