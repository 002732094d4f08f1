"""Runs the stages of a pipeline as one command. Entry point: `stages.run_stages`.

1. `context.py` opens a run (pipeline, names, lake, session), locks its lake and runs work in parallel.
2. `up_to_date.py` finds out without Spark whether there is anything to do.
3. `stages.py` runs extract, ingest, bronze, silver and gold; `publishing.py` and `expiring.py` run the other two.
4. `outcome.py` defines the outcome of each table and model, and the report of all.
5. `records.py` writes the run record; `notify.py` sends it to `on_failure` if the run failed.

`schedule.py` repeats a run at an interval, and `signals.py` stops it in an orderly way.
"""
