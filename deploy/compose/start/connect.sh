#!/usr/bin/env bash
# Runs a Kafka Connect worker; KAFKA is the host:port of a broker. Connector files may use its environment variables.
set -euo pipefail
: "${KAFKA:?host:port of a broker}"
config=${KAFKA_CONFIG:-/etc/lakehouse}
properties=$(mktemp)
{
    cat "$config/worker.properties"
    printf '\n%s\n' \
        "bootstrap.servers=$KAFKA" \
        "listeners=http://${CONNECT_LISTEN:-0.0.0.0}:${CONNECT_PORT:-8083}" \
        "rest.advertised.host.name=${CONNECT_HOST:-127.0.0.1}" \
        "plugin.path=${CONNECT_PLUGINS:-/opt/kafka/plugins}"
} > "$properties"
exec java "-Xmx${CONNECT_MEMORY:-512m}" "-Dlog4j2.configurationFile=$config/log4j2.xml" \
    -cp "${KAFKA_JARS:-/opt/kafka/worker}/*" org.apache.kafka.connect.cli.ConnectDistributed "$properties"
