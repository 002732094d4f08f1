"""Resolves the names, types and functions of all models against the declared schemas, without Spark and without a JVM.

Entry point: `resolve_pipeline`, which `pipeline_plans.plan_pipeline` calls, so that every command does. It refuses only
SQL that Spark or Delta is certain to refuse, or whose rows cannot be kept equal to it; the first run decides the rest.

    relation.py    columns, types, origins and unique keys of a relation; those of bronze, as the lake has them
    scope.py       which column a name means
    types.py       types of expressions, as far as they are certain
    expressions.py the names in expressions, their types and origins
    query.py       walks a query, clause by clause
    grouping.py    columns that are neither grouped nor aggregated
    windows.py     window functions whose order leaves ties; unique keys of a result
    calls.py       functions and numbers of arguments, by the list of Spark's functions
    result.py      names and types that a table cannot have
    pipeline.py    all models in order, their keys and expectations
    lineage.py     from which columns of bronze a model's columns come
    faults.py      the faults and their message
"""

from lakehouse.models.sql.resolve.lineage import lineage
from lakehouse.models.sql.resolve.pipeline import ResolvedModel, check_condition, resolve_model, resolve_pipeline
from lakehouse.models.sql.resolve.relation import Origin, OutputColumn, Relation, base_relation, bronze_relation

__all__ = [
    "Origin",
    "OutputColumn",
    "Relation",
    "ResolvedModel",
    "base_relation",
    "bronze_relation",
    "check_condition",
    "lineage",
    "resolve_model",
    "resolve_pipeline",
]
