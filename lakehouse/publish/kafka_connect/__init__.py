"""Connectors of Kafka Connect, and the JSON lines that they write."""
