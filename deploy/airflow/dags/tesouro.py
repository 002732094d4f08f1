"""Defines the Airflow DAG `tesouro`: Tesouro Direto from its JSON files to PostgreSQL, every ten minutes."""

from datetime import timedelta

from lakehouse_stages import pipeline_dag

dag = pipeline_dag("tesouro", "conf/tesouro", timedelta(minutes=10))
