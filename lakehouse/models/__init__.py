"""Refreshes silver and gold models. The entry point is `refresh.refresh`, which brings one model up to date.

    sql/               parses a model's SQL and rules and plans its refresh; needs no Spark
    file_order.py      finds the columns that later models look rows up by
    model.py           the model, and the pinned inputs and states of one refresh
    choose_refresh.py  none, incremental or full, with the reason
    incremental.py     the keys that changed rows affect, and their rows
    block_reader.py    runs the SELECTs of a model over its inputs as they are or were
    pushdown.py        which values of a source can matter, so that files are skipped
    expectations/      evaluates the rules on the rows of a refresh
    write.py           merges the differences, in one commit with the new state
    refresh.py         the steps in order

This module imports nothing, so that `lakehouse.models.sql` can be imported without Spark.
"""
