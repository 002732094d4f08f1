"""Lists Spark's functions with the numbers of arguments that each accepts, by asking Spark's analyzer.

    python tests/spark_functions.py > lakehouse/models/sql/spark_functions.txt

A call with NULLs is analyzed for each number of arguments. What counts is whether the analyzer complains of the number
(WRONG_NUM_ARGS); other complaints, as about types, come after that.
"""

from __future__ import annotations

import logging
import re
import sys

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import SparkSession

from lakehouse.models.sql.calls import format_counts

_COUNTS = range(13)
_MANY = (39, 40)  # a function that accepts both has no upper limit
_LISTED = r"\d+|\[[\d, ]+\]"
_HEADER = "# The functions of Spark {version} and their numbers of arguments; made by tests/spark_functions.py\n"


def list_functions(spark: SparkSession) -> str:
    """Return the file's text."""
    names = sorted({row[0].lower() for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()})
    lines = [f"{name} {_accepted(spark, name)}" for name in names if re.fullmatch(r"[a-z_]\w*", name)]
    return _HEADER.format(version=spark.version) + "".join(f"{line}\n" for line in lines)


def disagreements(spark: SparkSession, committed: str, every: int) -> list[str]:
    """Return the functions that Spark has and the file has not, or the reverse, and those with other numbers.

    The numbers are those of the version in the header, so that only each `every`-th function is asked for them.
    """
    assert committed.startswith(_HEADER.format(version=spark.version)), "made by another version of Spark"
    lines = dict(line.split() for line in committed.splitlines() if not line.startswith("#"))
    names = {row[0].lower() for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
    found = sorted({name for name in names if re.fullmatch(r"[a-z_]\w*", name)} ^ lines.keys())
    asked = {name: _accepted(spark, name) for name in sorted(lines.keys() & names)[::every]}
    return found + [f"{name} {counts}" for name, counts in asked.items() if counts != lines[name]]


def _accepted(spark: SparkSession, name: str) -> str:
    """Return the numbers that a function accepts: those that the analyzer lists, and those that it does not refuse.

    Its list alone is not enough: for ceil, mode and others it lacks some of them.
    """
    listed = _accepts(spark, name, _MANY[-1])
    is_listed = isinstance(listed, str) and re.fullmatch(_LISTED, listed)
    counts = {int(count) for count in re.findall(r"\d+", str(listed))} if is_listed else set()
    last = max(counts) + 2 if counts else _COUNTS[-1]
    counts |= {count for count in range(last + 1) if _accepts(spark, name, count) is True}
    is_unlimited = listed is True or _accepts(spark, name, _MANY[0]) is True
    # A name that is a word of the grammar or a table-valued function: any number, so that nothing is refused.
    return format_counts(sorted(counts), is_unlimited) if counts else "0+"


def _accepts(spark: SparkSession, name: str, count: int) -> bool | str:
    """Return whether the analyzer accepts a number of arguments, or the numbers that it expects instead."""
    try:
        spark.sql(f"SELECT {name}({', '.join(['NULL'] * count)})")
    except ParseException:
        return False
    except AnalysisException as error:
        condition = error.getCondition() or ""
        if condition.startswith("WRONG_NUM_ARGS"):
            return str((error.getMessageParameters() or {}).get("expectedNum", ""))
        return not condition.startswith("UNRESOLVED_ROUTINE")
    except Exception:  # an error of a value or of a type: the number is right
        return True
    return True


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    sys.stdout.write(list_functions(session))
    session.stop()
