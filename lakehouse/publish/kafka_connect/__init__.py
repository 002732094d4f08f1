"""Runs the change feed from the published tables to Kafka and S3.

Entry points: `connectors.apply`, `connectors.status` and `compact.compact`.

1. `connectors.py` registers the pipeline's connectors with Kafka Connect and reports their states.
2. `rest.py` sends the requests; `database_rights.py` checks what the source connector's user may do in PostgreSQL.
3. `json_lines.py` reads the JSON lines that the sink wrote to S3 and compares them with the published table.
4. `compact.py` removes from them what later lines have replaced.
"""
