"""Defines the Airflow DAG `loyalty`: the loyalty pipeline from its snapshots to its cubes, without publishing."""

from datetime import timedelta

from lakehouse_stages import STAGES, pipeline_dag

dag = pipeline_dag("loyalty", "conf/loyalty", timedelta(hours=6), stages=STAGES[:-1])
