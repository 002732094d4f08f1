#!/usr/bin/env bash
# Runs a broker that is its own controller, with its data in /data; KAFKA_HOST is the host name that clients use.
set -euo pipefail
data=${KAFKA_DATA:-/data} config=${KAFKA_CONFIG:-/etc/lakehouse} port=${KAFKA_PORT:-9092} controller=${KAFKA_CONTROLLER_PORT:-9093}
properties=$data/server.properties
mkdir -p "$data"
{
    cat "$config/broker.properties"
    printf '\n%s\n' \
        "listeners=PLAINTEXT://:$port,CONTROLLER://127.0.0.1:$controller" \
        "advertised.listeners=PLAINTEXT://${KAFKA_HOST:-127.0.0.1}:$port" \
        "controller.quorum.voters=1@127.0.0.1:$controller" \
        "log.dirs=$data/log"
} > "$properties"
java=(java "-Xmx${KAFKA_MEMORY:-512m}" "-Dlog4j2.configurationFile=$config/log4j2.xml" -cp "${KAFKA_JARS:-/opt/kafka/worker}/*")
if [ ! -e "$data/log/meta.properties" ]; then
    id=$("${java[@]}" kafka.tools.StorageTool random-uuid | tail -n 1)
    "${java[@]}" kafka.tools.StorageTool format --cluster-id "$id" --config "$properties"
fi
exec "${java[@]}" kafka.Kafka "$properties"
