"""Reads new messages of Kafka's topics; the entry points are `source.open_topics` and `source.signature`.

source.py      which messages are new, by the manifests of landed batches; the lines that they become
topics.py      the client: offsets and messages of a topic, and the errors of a broker
"""
