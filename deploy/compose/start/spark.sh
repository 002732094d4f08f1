#!/usr/bin/env bash
# spark.sh master | spark.sh worker spark://HOST:PORT: runs a Spark daemon in the foreground.
set -euo pipefail
host=${SPARK_HOST:-$(hostname)}
export SPARK_DAEMON_MEMORY=${SPARK_DAEMON_MEMORY:-512m}
case ${1:-} in
master)
    # Everybody who reaches this port could run any program here without a password.
    export SPARK_MASTER_OPTS=-Dspark.master.rest.enabled=false
    exec "${SPARK_HOME:?}/bin/spark-class" org.apache.spark.deploy.master.Master \
        --host "$host" --port "${SPARK_PORT:-7077}" --webui-port "${SPARK_WEB_PORT:-8080}"
    ;;
worker)
    exec "${SPARK_HOME:?}/bin/spark-class" org.apache.spark.deploy.worker.Worker \
        --host "$host" --webui-port "${SPARK_WEB_PORT:-8081}" --work-dir "${SPARK_WORK:-/tmp/spark-work}" \
        "${2:?the address of the master: spark://HOST:PORT}"
    ;;
*)
    echo "spark.sh master | spark.sh worker spark://HOST:PORT" >&2
    exit 2
    ;;
esac
