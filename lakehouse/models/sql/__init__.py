"""Parses the SQL and the expectations of models and plans their refreshes, without Spark.

The entry points are `pipeline_plans.plan_pipeline` for all models of a pipeline and `pipeline_plans.load_plan` for one:

    blocks/            parses a model's SELECTs: their inputs, their refresh keys, and unsupported clauses
    functions.py       the uses of each Spark function in a model
    determinism.py     requires the same result for the same inputs
    calls.py           checks the functions that SQL calls and their numbers of arguments (spark_functions.txt)
    faults.py          the faults of a model, with their places
    rules.py           parses expectations into rules
    plan.py            plans one model
    resolve/           resolves names and types against the declared schemas; lineage
    float_sums.py      finds sums of DOUBLE by the declared types
    pipeline_plans.py  plans all models and checks them together
"""
