#!/usr/bin/env bash
# Runs s3proxy with its data in /data and one bucket. Its key is in a private file (mktemp), not in the process list.
set -euo pipefail
: "${AWS_ACCESS_KEY_ID:?}" "${AWS_SECRET_ACCESS_KEY:?}" "${S3_BUCKET:?}"
data=${S3_DATA:-/data}
mkdir -p "$data/$S3_BUCKET"
properties=$(mktemp)
cat > "$properties" <<PROPERTIES
s3proxy.endpoint=http://${S3_LISTEN:-0.0.0.0}:${S3_PORT:-9000}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity=$AWS_ACCESS_KEY_ID
s3proxy.credential=$AWS_SECRET_ACCESS_KEY
jclouds.provider=filesystem-nio2
jclouds.filesystem.basedir=$data
PROPERTIES
exec java "-Xmx${S3_MEMORY:-256m}" "-Dlogback.configurationFile=${S3_LOG:-/etc/lakehouse/logback.xml}" \
    -cp "${S3_JARS:-/opt/s3}/*" org.gaul.s3proxy.Main --properties "$properties"
