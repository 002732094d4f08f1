#!/usr/bin/env bash
# Grants the user of a Connect worker what the connectors of this folder need of a Kafka with an authorizer, and no more:
#
#     KAFKA_ACLS="kafka-acls.sh --bootstrap-server kafka:9092 --command-config admin.properties" ./kafka-acls.sh User:connect
#
# A second argument is the action: --add (the default), --remove or --list. Other names of the group, the connectors or the
# topics than those of worker.properties, postgres-source.json and s3-sink.json have to be changed here too.
# tests/live/publish/kafka_connect/test_kafka_rights.py runs the connectors with these rights, and with less.
set -euo pipefail -f # no pattern in KAFKA_ACLS is expanded: a class path may have a star
principal=${1:?a principal, such as User:connect}
action=${2:---add}
group=lakehouse-connect source=postgres-gold sink=s3-gold prefix=postgres

acl() { # OPERATIONS RESOURCE...
    local operations=() operation
    for operation in ${1//,/ }; do operations+=(--operation "$operation"); done
    shift
    # shellcheck disable=SC2086 # a command with its options
    ${KAFKA_ACLS:?the command kafka-acls.sh, with the address of the broker} "$action" \
        $([ "$action" != --remove ] || echo --force) --allow-principal "$principal" "${operations[@]}" "$@"
}

# The worker's own topics, which it creates, and its group.
acl Create,Describe,DescribeConfigs,Read,Write --topic "$group-configs" --topic "$group-offsets" --topic "$group-status"
acl Read --group "$group"
# The topics of the tables: the source creates and writes them, the sink reads them.
acl Create,Describe,Read,Write --topic "$prefix-" --resource-pattern-type prefixed
acl Create,Describe,Write --topic "__debezium-heartbeat.$prefix"
acl Read --group "connect-$sink"
# Exactly once: the transactions of the worker's leader, and those of the source's task.
acl Describe,Write --transactional-id "connect-cluster-$group" --transactional-id "$group-$source-0"
