# The package with its Spark in .venv, and Airflow with the DAG in .venv-airflow, both installed from lock files with hashes.
FROM python:3.11.13-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --create-home lakehouse \
    && install -d -o lakehouse /srv/lake /srv/airflow /srv/airflow/logs
WORKDIR /opt/lakehouse

COPY deploy/airflow/requirements.lock deploy/airflow/
RUN python -m venv .venv-airflow && .venv-airflow/bin/pip install -q --no-cache-dir --require-hashes -r deploy/airflow/requirements.lock

COPY setup.py pyproject.toml LICENSE ./
COPY locks locks
COPY lakehouse lakehouse
RUN python -m venv .venv \
    && .venv/bin/pip install -q --no-cache-dir --use-pep517 --require-hashes -r locks/build.lock \
    && .venv/bin/pip install -q --no-cache-dir --use-pep517 --no-build-isolation --require-hashes -r locks/s3.lock -r locks/postgres.lock \
    && .venv/bin/pip install -q --no-cache-dir --use-pep517 --no-build-isolation --no-deps .
COPY --chmod=755 deploy/compose/start/spark.sh deploy/compose/start/airflow.sh deploy/compose/start/healthy.sh /usr/local/bin/
COPY conf conf
COPY jobs jobs
COPY deploy/connect/postgres-source.json deploy/connect/s3-sink.json deploy/connect/
COPY deploy/airflow/dags/lakehouse_stages.py deploy/airflow/dags/tesouro.py deploy/airflow/dags/
# spark-submit reads its defaults from its conf folder, and runs a job with the first python3 of the PATH.
RUN spark=$(.venv/bin/python -c 'import importlib.util as u; print(u.find_spec("pyspark").submodule_search_locations[0])') \
    && mkdir -p "$spark/conf" && cp lakehouse/spark/spark-defaults.conf "$spark/conf/spark-defaults.conf" \
    && ln -s "$spark" /opt/spark
ENV PATH=/opt/lakehouse/.venv/bin:$PATH SPARK_HOME=/opt/spark PYSPARK_PYTHON=/opt/lakehouse/.venv/bin/python \
    LAKEHOUSE_HOME=/opt/lakehouse AIRFLOW_HOME=/srv/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/lakehouse/deploy/airflow/dags AIRFLOW__CORE__LOAD_EXAMPLES=false
USER lakehouse
# Download Delta's jars now, not at the first stage of each container.
RUN python -c 'from lakehouse.spark import session; from lakehouse.storage.paths import Lake; session.get_session(Lake("/tmp/lake"), "jars").stop()'
ENTRYPOINT ["tini", "--"]
