"""Reads Spark's and Delta's own classification of an error: its class, its SQLSTATE and the SQL that it is about."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from pyspark.errors import AnalysisException, PySparkException, QueryContextType
from pyspark.errors.exceptions.captured import CapturedException

from lakehouse.error_mapping import FaultKind, first_line, sqlstate_kind

# What Spark's messages say after the finding: a way around it, of which some would change a setting of the session.
_ADVICE = re.compile(
    r"\s*(?:Use (?:the SQL function )?[`']\w+|If necessary set|Correct the value|SQLSTATE:|To return NULL).*", re.DOTALL
)
_TOLERANT_FUNCTION = re.compile(r"[Uu]se (?:the SQL function )?[`'](\w+)(?:\(\))?[`']")
# About files, the log or Spark's memory, though their SQLSTATE is of a class of SQL or of data.
_ABOUT_STORAGE = re.compile(
    r"DELTA_\w*(?:FILE_NOT_FOUND|VERSION_NOT_FOUND|VERSIONS_NOT_CONTIGUOUS|TRUNCATED_TRANSACTION_LOG|MISSING_FILES)\w*"
    r"|DELTA_MISSING_CHANGE_DATA|FAILED_READ_FILE\S*|KRYO_BUFFER_OVERFLOW"
)
_INTERNAL = "INTERNAL_ERROR"
# What a write, or a phase of planning, failed by is in its cause.
_AROUND_OTHERS = ("TASK_WRITE_FAILED", "WRITING_JOB_ABORTED", _INTERNAL)
# Exceptions of Java and Scala that no value raises on purpose.
_DEFECTS = (
    "java.lang.NullPointerException",
    "java.lang.ClassCastException",
    "java.lang.AssertionError",
    "java.lang.IllegalStateException",
    "java.util.NoSuchElementException",
    "scala.MatchError",
)
# Where Spark computes values, and where it runs, plans or optimizes a query, from the innermost frame on.
_EXPRESSIONS = "org.apache.spark.sql.catalyst.expressions."
_GENERATED = "GeneratedClass"
_OUTSIDE_EXPRESSIONS = re.compile(
    r"org\.apache\.spark\.(?:sql\.(?:execution|delta|classic|catalyst\.(?:analysis|optimizer|plans|rules))|rdd|scheduler)\."
)
_MAX_FRAMES = 50
_CONDITION_TAG = re.compile(r"^\[([A-Z0-9_.]+)\]\s*")


@dataclass(frozen=True)
class SparkFault:
    """An error as Spark and Delta classify it.

    Attributes:
        kind: The cause to correct: `data`, `sql`, or None if Spark does not say so.
        condition: The error class, such as `CAST_INVALID_INPUT`; empty if it has none.
        sqlstate: The SQLSTATE; empty if it has none.
        fragment: The SQL that failed, in the author's words; empty if Spark does not know it.
        message: The message in one line, which may have values of rows.
        tolerant_function: The function that gives null instead, if Spark names one.
        is_before_rows: Whether the query was refused before it read a row, as far as Spark's class of errors says so.
        java_class: The class of the Java exception, such as `java.time.DateTimeException`; empty if it is not known.
        expression: For a defect: the expression in the SQL that was computed, by Spark's name, such as `ArraySort`;
            empty if none was.
    """

    kind: FaultKind | None
    condition: str
    sqlstate: str
    fragment: str
    message: str
    tolerant_function: str = ""
    is_before_rows: bool = False
    java_class: str = ""
    expression: str = ""

    @property
    def name(self) -> str:
        """The error class with its SQLSTATE, or the Java exception: without values of rows."""
        state = f"(SQLSTATE {self.sqlstate})" if self.sqlstate else ""
        return " ".join(filter(None, [self.condition or self.java_class.rpartition(".")[2], state]))

    @property
    def is_defect(self) -> bool:
        """Whether a fault in Spark's code or in ours is the cause, and neither the rows nor the SQL.

        A fault of an expression is not: Spark gets there only by the author's SQL, and another SQL avoids it.
        """
        return self.has_class_of_defects and not self.expression

    @property
    def has_class_of_defects(self) -> bool:
        """Whether the exception is one that no value raises on purpose, wherever it came from."""
        return self.java_class in _DEFECTS or self.condition == _INTERNAL


def read_fault(error: BaseException) -> SparkFault:
    """Return an error as Spark and Delta classify it.

    Of an error and its causes, the first that is about data counts, else the first about SQL, else the first that has
    a class of its own, else the innermost: a failed write is caused by the row that could not be computed.

    Args:
        error: An error of a session.
    """
    faults = [_to_fault(cause) for cause in _causes(error)]
    for kind in ("data", "sql"):
        if found := next((fault for fault in faults if fault.kind == kind), None):
            return found
    return next((fault for fault in faults if fault.condition and fault.condition not in _AROUND_OTHERS), faults[-1])


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes: PySpark gives the classes of most of them, but not of those that it wraps."""
    java: Any = getattr(error, "_origin", None) or getattr(error, "java_exception", None)
    if java is None:
        yield error
        if error.__cause__ not in (None, error):  # `raise error from error`
            yield from _causes(error.__cause__)
        return
    while java is not None:
        is_error_itself = getattr(error, "_origin", None) is not None
        yield error if is_error_itself else CapturedException(origin=java)
        java = java.getCause()
        error = CapturedException(origin=java) if java is not None else error


def _to_fault(error: BaseException) -> SparkFault:
    is_before_rows = isinstance(error, AnalysisException)
    if not isinstance(error, PySparkException):
        return SparkFault(None, "", "", "", first_line(error))
    condition, sqlstate = error.getCondition() or "", error.getSqlState() or ""
    line = first_line(error)
    if not condition and (tag := _CONDITION_TAG.match(line)):
        condition = tag[1]
    java: Any = getattr(error, "_origin", None)
    function = _TOLERANT_FUNCTION.search(str(error).partition("JVM stacktrace")[0])
    kind = "sql" if is_before_rows else sqlstate_kind(sqlstate)
    fault = SparkFault(
        None if _ABOUT_STORAGE.fullmatch(condition) else kind,
        condition,
        sqlstate,
        _fragment(error),
        _ADVICE.sub("", line) or line,
        function[1] if function else "",
        is_before_rows,
        str(java.getClass().getName()) if java is not None else "",
    )
    if java is None or not fault.has_class_of_defects or not (expression := _computed_expression(java)):
        return fault
    name = fault.java_class.rpartition(".")[2]
    message = f"{name} in Spark's {expression}" + (f": {line}" if java.getMessage() else "")
    return replace(fault, expression=expression, message=message)


def _computed_expression(java: Any) -> str:
    """Return the expression in which an exception was raised, by Spark's name; empty if it was raised elsewhere."""
    found = ""
    for frame in java.getStackTrace()[:_MAX_FRAMES]:
        name = str(frame.getClassName())
        if name.startswith(_EXPRESSIONS):
            found = name.removeprefix(_EXPRESSIONS).partition("$")[0].rpartition(".")[2]
            if found != _GENERATED:
                return found
        elif _OUTSIDE_EXPRESSIONS.match(name):
            break
    return "generated code" if found else ""


def _fragment(error: PySparkException) -> str:
    contexts = [c for c in error.getQueryContext() if c.contextType() == QueryContextType.SQL]
    return next((fragment for context in contexts if (fragment := context.fragment())), "")
